//! How far a worker's journal is in the sums.
//!
//! Written together with the sums, in one step: so whoever replays a journal knows what of it is in them already.

/// All ends of calls that a worker wrote down up to `sequence` are in the sums, and no call that began up to `floor` is still
/// under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which worker's journal.
    pub lane: u32,
    /// The start of the gateway in which the worker wrote; later ones have larger numbers.
    pub epoch: u64,
    /// Its last record that is taken into account.
    pub sequence: u64,
    /// Its last record that nothing depends on any more; at most `sequence`.
    pub floor: u64,
}

impl Mark {
    /// Everything of this epoch, and of those before it.
    pub fn all(lane: u32, epoch: u64) -> Self {
        Self { lane, epoch, sequence: u64::MAX, floor: u64::MAX }
    }
}
