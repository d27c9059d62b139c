//! The store of tokens in the embedded database: records by id, and when each was last used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Answer, Digest, NewToken, Role, StoreError, Token, TokenStore};
use crate::audit::{Note, SledAudit};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{OrgId, TokenId};

/// Tokens in the embedded database.
#[derive(Clone)]
pub struct SledTokens {
    records: sled::Tree,
    used: sled::Tree,
    audit: SledAudit,
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    role: Role,
    org: Option<OrgId>,
    expires: Option<Millis>,
    maker: Option<String>,
    created: Millis,
    revoked: Option<Millis>,
    last_four: String,
    digest: Digest,
}

impl SledTokens {
    /// The tokens in this database, whose changes are noted in this log of the same one.
    pub fn open(database: &Database, audit: SledAudit) -> Result<Self, Failure> {
        Ok(Self { records: database.tree("tokens")?, used: database.tree("token_used")?, audit })
    }

    fn insert_now(&self, token: &Token, digest: Digest, note: &Note) -> Result<(), StoreError> {
        let terms = token.terms.clone();
        let record = Record {
            name: terms.name,
            role: terms.role,
            org: terms.org,
            expires: terms.expires,
            maker: terms.maker,
            created: token.created,
            revoked: None,
            last_four: token.last_four.clone(),
            digest,
        };
        let record = encoded(&record)?;
        let outcome = (&self.records, self.audit.tree()).transaction(|(records, audit)| {
            records.insert(&token.id.number().to_be_bytes(), &record[..])?;
            self.audit.append_in(audit, note)?;
            Ok(())
        });
        self.settled(outcome)
    }

    fn revoke_now(&self, id: TokenId, now: Millis, note: &Note) -> Result<(), StoreError> {
        let place = id.number().to_be_bytes();
        let outcome = (&self.records, self.audit.tree()).transaction(|(records, audit)| {
            let Some(record) = records.get(place)? else { return Ok(()) };
            let mut record = decoded(&record).map_err(aborted)?;
            if record.revoked.is_none() {
                record.revoked = Some(now);
                records.insert(&place, encoded(&record).map_err(aborted)?)?;
                self.audit.append_in(audit, note)?;
            }
            Ok(())
        });
        self.settled(outcome)
    }

    fn forget_now(&self, tokens: &[Arc<Token>], note: &Note) -> Result<(), StoreError> {
        let mut notes = BTreeMap::<Option<OrgId>, Note>::new();
        for token in tokens {
            let about = notes.entry(token.terms.org).or_insert_with(|| note.clone().org(token.terms.org));
            about.on.push(token.id.to_string());
        }
        let outcome = (&self.records, self.audit.tree()).transaction(|(records, audit)| {
            for token in tokens {
                records.remove(&token.id.number().to_be_bytes())?;
            }
            for note in notes.values() {
                let count = json!({ "tokens": note.on.len() });
                self.audit.append_in(audit, &note.clone().change(count, Value::Null))?;
            }
            Ok(())
        });
        self.settled(outcome)?;
        for token in tokens {
            self.used.remove(token.id.number().to_be_bytes()).map_err(Failure::from)?;
        }
        Ok(())
    }

    fn all_now(&self) -> Result<Vec<(Arc<Token>, Digest)>, StoreError> {
        let restored = |found: sled::Result<(sled::IVec, sled::IVec)>| {
            let (place, bytes) = found.map_err(Failure::from)?;
            let id = u128::from_be_bytes((*place).try_into().map_err(|_| StoreError::Damaged)?);
            let used = self.used.get(&place).map_err(Failure::from)?;
            let used = used.and_then(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)));
            let record = decoded(&bytes)?;
            let terms = NewToken {
                name: record.name,
                role: record.role,
                org: record.org,
                expires: record.expires,
                maker: record.maker,
            };
            // Half a record could be a token of all orgs.
            if (terms.role == Role::SuperAdmin) != terms.org.is_none() {
                return Err(StoreError::Damaged);
            }
            let token = Token {
                id: TokenId::from_number(id),
                terms,
                created: record.created,
                last_four: record.last_four,
                last_used: AtomicU64::new(used.unwrap_or_default()),
                revoked: AtomicU64::new(record.revoked.unwrap_or_default().0),
            };
            Ok((Arc::new(token), record.digest))
        };
        self.records.iter().map(restored).collect()
    }

    fn note_used_now(&self, used: &[(TokenId, Millis)]) -> Result<(), StoreError> {
        for (id, at) in used {
            let place = id.number().to_be_bytes();
            // It may have been forgotten meanwhile.
            if self.records.contains_key(place).map_err(Failure::from)? {
                self.used.insert(place, &at.0.to_be_bytes()).map_err(Failure::from)?;
            }
        }
        self.used.flush().map_err(Failure::from)?;
        Ok(())
    }

    fn settled(&self, outcome: Result<(), TransactionError<StoreError>>) -> Result<(), StoreError> {
        outcome.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => Failure::from(error).into(),
        })?;
        self.audit.flush()?;
        Ok(())
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

impl TokenStore for SledTokens {
    fn insert(&self, token: Arc<Token>, digest: Digest, note: Note) -> Answer<'_, ()> {
        self.work(move |store| store.insert_now(&token, digest, &note))
    }

    fn revoke(&self, id: TokenId, now: Millis, note: Note) -> Answer<'_, ()> {
        self.work(move |store| store.revoke_now(id, now, &note))
    }

    fn forget(&self, tokens: Vec<Arc<Token>>, note: Note) -> Answer<'_, ()> {
        self.work(move |store| store.forget_now(&tokens, &note))
    }

    fn all(&self) -> Answer<'_, Vec<(Arc<Token>, Digest)>> {
        self.work(Self::all_now)
    }

    fn note_used(&self, used: Vec<(TokenId, Millis)>) -> Answer<'_, ()> {
        self.work(move |store| store.note_used_now(&used))
    }
}

impl fmt::Debug for SledTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledTokens")
    }
}

fn aborted(error: StoreError) -> ConflictableTransactionError<StoreError> {
    ConflictableTransactionError::Abort(error)
}

fn encoded(record: &Record) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|_| StoreError::Damaged)
}

fn decoded(record: &[u8]) -> Result<Record, StoreError> {
    serde_json::from_slice(record).map_err(|_| StoreError::Damaged)
}
