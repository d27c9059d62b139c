//! A key that somebody came with, and by which of its secrets.
//!
//! Looked at when it comes to doing something, and not only when they came: a key may have been revoked or rotated since.

use std::sync::Arc;

use super::Key;
use crate::clock::Millis;

/// A key that somebody came with, and by which of its secrets.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The key.
    pub key: Arc<Key>,
    generation: u32,
}

/// Why whoever came with a key manages nothing with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lapsed {
    /// It is revoked.
    #[error("the key that asks is revoked")]
    Revoked,
    /// Its time, or that of the secret before the present one, is over.
    #[error("the key that asks has expired, or its secret has")]
    Expired,
    /// It has been rotated, and they came by the secret before.
    #[error("the key that asks was rotated, and this is its secret before")]
    Replaced,
}

impl Bearer {
    /// Whoever has the secret of this generation.
    pub(crate) fn new(key: Arc<Key>, generation: u32) -> Self {
        Self { key, generation }
    }

    /// Whether they may still call.
    ///
    /// # Errors
    /// Where the key or their secret ended.
    pub fn calls(&self, now: Millis) -> Result<(), Lapsed> {
        if self.key.revoked().is_some() {
            Err(Lapsed::Revoked)
        } else if self.key.is_expired(now) || !self.key.is_current(self.generation, now) {
            Err(Lapsed::Expired)
        } else {
            Ok(())
        }
    }

    /// Whether they may manage keys. A secret that was rotated away, perhaps because others saw it, must not: it could take the
    /// key over for as long as it works.
    ///
    /// # Errors
    /// Where they may not even call, or came by the secret before the present one.
    pub fn manages(&self, now: Millis) -> Result<(), Lapsed> {
        self.calls(now)?;
        if self.generation < self.key.generation() { Err(Lapsed::Replaced) } else { Ok(()) }
    }
}
