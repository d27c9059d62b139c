//! What is known of all secrets without reading them: which filter holds their digests, which came in since, which peppers they need.
//!
//! Written within the transactions that give keys secrets; read at the start, and never by a request.

mod sled;

pub(super) use self::sled::SledAll;
