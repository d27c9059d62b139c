//! Chooses among weighted shares: stable for a key, whatever else changes about the request.
//!
//! A share that grows keeps whom it had, as long as the order of the shares stays and those before it do not change.

/// Shares of the callers, by weight.
#[derive(Debug)]
pub struct Shares {
    salt: u64,
    /// Sums of the weights up to and with each share.
    ends: Vec<u64>,
}

impl Shares {
    /// Shares with these weights; another salt chooses others.
    pub fn new(salt: &str, weights: impl Iterator<Item = u32>) -> Self {
        let sum = |total: &mut u64, weight| {
            *total += u64::from(weight);
            Some(*total)
        };
        Self { salt: hash(FNV_START, salt.as_bytes()), ends: weights.scan(0, sum).collect() }
    }

    /// The sum of all weights.
    pub fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The position of the share for this key; by `seed` where there is no key. Beyond the last where all weigh nothing.
    pub fn choose(&self, key: Option<&str>, seed: u64) -> usize {
        let point = match key {
            Some(key) => mix(hash(self.salt, key.as_bytes())),
            None => mix(self.salt ^ seed),
        };
        // The high half of the product spreads the point evenly over the total, without a division's bias.
        let at = ((u128::from(point) * u128::from(self.total())) >> 64) as u64;
        self.ends.partition_point(|&end| end <= at)
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a: the same in every build and on every machine, which the hashes of the standard library do not promise.
fn hash(start: u64, bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    bytes.iter().fold(start, step)
}

/// Spreads close numbers over all 64 bits (the finaliser of MurmurHash3): FNV alone leaves the high bits of short keys alike.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(shares: &Shares, position: usize) -> usize {
        (0..10_000).filter(|number| shares.choose(Some(&format!("key_{number:026}")), 0) == position).count()
    }

    #[test]
    fn shares_get_what_they_weigh() {
        let shares = Shares::new("connect", [90, 0, 10].into_iter());
        let (stable, nobody, canary) = (count(&shares, 0), count(&shares, 1), count(&shares, 2));
        assert_eq!(nobody, 0);
        assert_eq!(stable + canary, 10_000);
        assert!((850..1_150).contains(&canary), "{canary}");
    }

    #[test]
    fn a_key_stays_where_it_is() {
        let shares = Shares::new("connect", [1, 1].into_iter());
        let first = shares.choose(Some("key_7"), 1);
        assert!((0..100).all(|seed| shares.choose(Some("key_7"), seed) == first));
    }

    /// Another hash would move every caller of every deployment. The figures were computed apart from this code.
    #[test]
    fn the_hash_is_pinned() {
        let shares = Shares::new("connect", [1; 8].into_iter());
        let keys = ["key_1", "key_2", "key_3", "key_4", "key_5", "key_6"];
        let chosen = keys.map(|key| shares.choose(Some(key), 0));
        assert_eq!(chosen, [4, 0, 6, 6, 7, 6]);
    }

    #[test]
    fn a_growing_share_keeps_whom_it_had() {
        let small = Shares::new("s", [10, 90].into_iter());
        let large = Shares::new("s", [50, 50].into_iter());
        for number in 0..1_000 {
            let key = format!("key_{number}");
            if small.choose(Some(&key), 0) == 0 {
                assert_eq!(large.choose(Some(&key), 0), 0);
            }
        }
    }

    #[test]
    fn without_a_key_chance_decides() {
        let shares = Shares::new("connect", [1, 1].into_iter());
        let second = (0..1_000).filter(|&seed| shares.choose(None, seed) == 1);
        assert!((400..600).contains(&second.count()));
    }

    #[test]
    fn salts_choose_independently() {
        let (one, two) = (Shares::new("connect", [1, 1].into_iter()), Shares::new("pay", [1, 1].into_iter()));
        let same = (0..1_000)
            .map(|number| format!("key_{number}"))
            .filter(|key| one.choose(Some(key), 0) == two.choose(Some(key), 0));
        assert!((400..600).contains(&same.count()));
    }

    #[test]
    fn no_weight_chooses_nobody() {
        let shares = Shares::new("connect", [0, 0].into_iter());
        assert_eq!(shares.choose(Some("key_1"), 0), 2);
    }
}
