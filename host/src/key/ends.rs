//! Which keys count against the bound of their org, and which have ended: by themselves, or because they were revoked.
//!
//! Written within the transactions that change keys; never asked by a request.

mod sled;

pub(super) use self::sled::SledEnds;
