//! The store of orgs in the embedded database: records by id, and ids by slug.

use std::fmt;

use serde_json::{Value, json};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Answer, DEFAULT, Ending, Erased, Org, OrgStore, StoreError};
use crate::audit::{Note, SledAudit, Who};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::OrgId;

const ADMIN: &[u8] = b"super";

/// Orgs in the embedded database.
#[derive(Clone)]
pub struct SledOrgs {
    orgs: sled::Tree,
    slugs: sled::Tree,
    audit: SledAudit,
}

impl SledOrgs {
    /// The orgs in this database, whose changes are noted in this log of the same one; the org `default` is made where it is
    /// missing.
    pub fn open(database: &Database, audit: SledAudit, now: Millis) -> Result<Self, StoreError> {
        let store = Self { orgs: database.tree("orgs")?, slugs: database.tree("org_slugs")?, audit };
        // Slugs had no tree of their own before 0.1.
        for org in store.all_now()?.iter().filter(|org| org.ending.is_none()) {
            store.slugs.insert(org.slug.as_bytes(), &org.id.number().to_be_bytes()).map_err(Failure::from)?;
        }
        if store.find_now(DEFAULT)?.is_none() {
            let note = Note::new(Who::gateway(), "org.created", now);
            store.create_now(&Org::new(DEFAULT, "Default", now)?, &note)?;
        }
        Ok(store)
    }

    fn create_now(&self, org: &Org, note: &Note) -> Result<(), StoreError> {
        let place = org.id.number().to_be_bytes();
        let note = note.clone().org(Some(org.id)).on(org.id).change(Default::default(), org.facts());
        let outcome = (&self.orgs, &self.slugs, self.audit.tree()).transaction(|(orgs, slugs, audit)| {
            if slugs.insert(org.slug.as_bytes(), &place)?.is_some() {
                return Err(aborted(StoreError::Taken { slug: org.slug.clone() }));
            }
            orgs.insert(&place, encoded(org).map_err(aborted)?)?;
            self.audit.append_in(audit, &note)?;
            Ok(())
        });
        self.settled(outcome)
    }

    fn rename_now(
        &self,
        id: OrgId,
        slug: Option<&str>,
        name: Option<&str>,
        note: &Note,
    ) -> Result<Option<Org>, StoreError> {
        let place = id.number().to_be_bytes();
        let outcome = (&self.orgs, &self.slugs, self.audit.tree()).transaction(|(orgs, slugs, audit)| {
            let Some(record) = orgs.get(place)? else { return Ok(None) };
            let before = decoded(&record).map_err(aborted)?;
            if before.ending.is_some() {
                return Err(aborted(StoreError::Erased { id }));
            }
            let after = Org {
                slug: slug.unwrap_or(&before.slug).to_owned(),
                name: name.unwrap_or(&before.name).to_owned(),
                ..before.clone()
            };
            if after == before {
                return Ok(Some(after));
            }
            if after.slug != before.slug {
                if slugs.insert(after.slug.as_bytes(), &place)?.is_some() {
                    return Err(aborted(StoreError::Taken { slug: after.slug }));
                }
                slugs.remove(before.slug.as_bytes())?;
            }
            orgs.insert(&place, encoded(&after).map_err(aborted)?)?;
            let note = note.clone().org(Some(id)).on(id).change(before.facts(), after.facts());
            self.audit.append_in(audit, &note)?;
            Ok(Some(after))
        });
        self.settled(outcome)
    }

    /// Changes the end of an org; it has another one only where the change says so. What is noted of it says how it is since.
    fn end_now(
        &self,
        id: OrgId,
        change: impl Fn(&mut Org) -> bool,
        note: Option<&Note>,
    ) -> Result<Option<Org>, StoreError> {
        let place = id.number().to_be_bytes();
        let outcome = (&self.orgs, &self.slugs, self.audit.tree()).transaction(|(orgs, slugs, audit)| {
            let Some(record) = orgs.get(place)? else { return Ok(None) };
            let before = decoded(&record).map_err(aborted)?;
            let mut after = before.clone();
            if !change(&mut after) {
                return Ok(Some(after));
            }
            if let Some(note) = note {
                let sequence = self.audit.append_in(audit, &note.clone().org(Some(id)).on(id))?;
                if let Some(ending) = after.ending.as_mut().filter(|_| after.slug != before.slug) {
                    ending.entry = Some(sequence);
                    slugs.remove(before.slug.as_bytes())?;
                }
            }
            orgs.insert(&place, encoded(&after).map_err(aborted)?)?;
            Ok(Some(after))
        });
        self.settled(outcome)
    }

    fn settled<T>(&self, outcome: Result<T, TransactionError<StoreError>>) -> Result<T, StoreError> {
        let done = outcome.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => Failure::from(error).into(),
        })?;
        self.audit.flush()?;
        Ok(done)
    }

    fn find_now(&self, slug_or_id: &str) -> Result<Option<Org>, StoreError> {
        let place = match slug_or_id.parse::<OrgId>() {
            Ok(id) => Some(sled::IVec::from(&id.number().to_be_bytes())),
            Err(_) => self.slugs.get(slug_or_id).map_err(Failure::from)?,
        };
        let Some(place) = place else { return Ok(None) };
        let record = self.orgs.get(place).map_err(Failure::from)?;
        record.map(|bytes| decoded(&bytes)).transpose()
    }

    fn all_now(&self) -> Result<Vec<Org>, StoreError> {
        self.orgs.iter().values().map(|record| decoded(&record.map_err(Failure::from)?)).collect()
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'static, T> {
        let store = self.clone();
        Box::pin(
            async move { tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Closing)? },
        )
    }
}

impl OrgStore for SledOrgs {
    fn create(&self, org: Org, note: Note) -> Answer<'_, ()> {
        self.work(move |store| store.create_now(&org, &note))
    }

    fn rename(&self, id: OrgId, slug: Option<String>, name: Option<String>, note: Note) -> Answer<'_, Option<Org>> {
        self.work(move |store| store.rename_now(id, slug.as_deref(), name.as_deref(), &note))
    }

    fn begin_erasing(&self, id: OrgId, by: Who, note: Note) -> Answer<'_, Option<Org>> {
        let note = note.change(Value::Null, json!({ "state": "erasing" }));
        let since = note.at;
        let begin = move |org: &mut Org| {
            let is_new = org.ending.is_none();
            let (by, erased) = (Some(by.clone()), Erased::default());
            org.ending.get_or_insert(Ending { since, by, entry: None, done: None, erased });
            is_new
        };
        self.work(move |store| store.end_now(id, begin, Some(&note)))
    }

    fn add_erased(&self, id: OrgId, more: Erased) -> Answer<'_, Option<Org>> {
        let add = move |org: &mut Org| org.ending.as_mut().map(|ending| ending.erased += more).is_some();
        self.work(move |store| store.end_now(id, add, None))
    }

    fn erase_names(&self, id: OrgId, note: Note) -> Answer<'_, Option<Org>> {
        // The id is no slug that anybody could choose.
        let erase = |org: &mut Org| {
            let is_new = org.ending.as_ref().is_some_and(|ending| ending.entry.is_none());
            if is_new {
                (org.slug, org.name) = (org.id.to_string(), String::new());
            }
            is_new
        };
        let note = note.change(Value::Null, json!({ "state": "erased" }));
        self.work(move |store| store.end_now(id, erase, Some(&note)))
    }

    fn end_erasing(&self, id: OrgId, at: Millis) -> Answer<'_, Option<Org>> {
        let end = move |org: &mut Org| {
            let Some(ending) = org.ending.as_mut().filter(|ending| ending.done.is_none()) else { return false };
            (ending.done, ending.by) = (Some(at), None);
            true
        };
        self.work(move |store| store.end_now(id, end, None))
    }

    fn find(&self, slug_or_id: &str) -> Answer<'_, Option<Org>> {
        let wanted = slug_or_id.to_owned();
        self.work(move |store| store.find_now(&wanted))
    }

    fn all(&self) -> Answer<'_, Vec<Org>> {
        self.work(Self::all_now)
    }
}

impl fmt::Debug for SledOrgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledOrgs")
    }
}

fn aborted(error: StoreError) -> ConflictableTransactionError<StoreError> {
    ConflictableTransactionError::Abort(error)
}

fn encoded(org: &Org) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(org).map_err(|_| StoreError::Damaged)
}

fn decoded(record: &[u8]) -> Result<Org, StoreError> {
    serde_json::from_slice(record).map_err(|_| StoreError::Damaged)
}

/// The digest of the super-admin's token, where one was made.
pub(super) fn admin_digest(database: &Database) -> Result<Option<Vec<u8>>, Failure> {
    Ok(database.tree("admins")?.get(ADMIN)?.map(|bytes| bytes.to_vec()))
}

/// Keeps the digest of the super-admin's token; durable when it returns.
pub(super) fn keep_admin_digest(database: &Database, digest: &[u8]) -> Result<(), Failure> {
    let tree = database.tree("admins")?;
    tree.insert(ADMIN, digest)?;
    tree.flush()?;
    Ok(())
}
