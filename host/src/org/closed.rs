//! Orgs in which nothing new is made, since they are being erased or were.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use crate::id::OrgId;

/// Such orgs, as one desk knows them. Asked by a desk while nobody else makes anything there.
#[derive(Debug, Default)]
pub struct Closed(RwLock<HashSet<OrgId>>);

impl Closed {
    /// From now on this org is one.
    pub fn close(&self, org: OrgId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(org);
    }

    /// Whether this org is one.
    pub fn has(&self, org: OrgId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&org)
    }
}
