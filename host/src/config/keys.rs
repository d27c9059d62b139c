//! What is configured of keys and of tokens of the admin API. All of it takes effect live.

use std::time::Duration;

/// How many keys there may be, and how long one that has ended is still known as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The most keys of one org that are neither revoked nor expired.
    pub most: u64,
    /// The most secrets in memory: of keys that were used or made of late.
    pub hot: u64,
    /// How long after its end a key or a token is forgotten.
    pub forget_after: Duration,
}
