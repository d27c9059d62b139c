//! The promise: whatever is lost, each call counts at most once, and each whose end was durable counts whole.

mod bounds;
mod damage;
mod hand;
mod machine;
mod prefixes;
mod real;
mod recording;

pub(crate) use hand::{ByHand, by_hand};

/// Chance that a failure can be repeated with (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
