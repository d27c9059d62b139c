//! Notices that somebody has used up what a limit gives for a month, and has webhooks told: once for each key or org, limit and month.
//!
//! Looks where usage goes to the store, so no request waits for it; the limits themselves only answer how they stand.

use super::sentence;
use crate::clock::Millis;
use crate::credential::Issuer;
use crate::id::{KeyId, OrgId};
use crate::key::Mode;
use crate::limit::{Limit, Period, Subject, SubjectKind};
use crate::outbox::{Event, Kind, SledOutbox};
use crate::snapshot::Snapshot;
use crate::usage::{Caller, Month};
use crate::worker::Gateway;
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

/// What marks of what was told begin with.
const MARKS: &str = "quota/";

/// The most months in a mark.
const MONTHS: usize = 3;

/// What was told, and where to look.
pub(super) struct Quotas {
    /// Weak: usage is booked until the gateway is gone.
    gateway: Weak<Gateway>,
    issuer: Arc<Issuer>,
    outbox: SledOutbox,
    told: HashSet<String>,
    month: Option<Month>,
}

impl Quotas {
    pub(super) fn new(gateway: &Arc<Gateway>, issuer: Arc<Issuer>, outbox: SledOutbox) -> Self {
        Self { gateway: Arc::downgrade(gateway), issuer, outbox, told: HashSet::new(), month: None }
    }

    /// Looks at the limits of those who called.
    pub(super) async fn look(&mut self, callers: impl Iterator<Item = Caller>) {
        let Some((snapshot, now)) = self.gateway.upgrade().map(|it| (it.live.load_full(), it.clock.now())) else {
            return;
        };
        let limits: Vec<&Arc<Limit>> = monthly(&snapshot).collect();
        if limits.is_empty() {
            return;
        }
        let month = Month::of(now);
        let before = self.month.replace(month);
        if before != Some(month) {
            self.told.clear();
        }
        // What was told in the month before stays known: this one may be none but that of a clock that will be set back.
        if let Some(before) = before.filter(|before| *before != month) {
            let (outbox, months) = (self.outbox.clone(), [before, month].map(|month| month.to_string()));
            let kept = move |mark: &[u8]| months.iter().any(|month| tells(mark, month));
            let forgotten = tokio::task::spawn_blocking(move || outbox.forget_marks(MARKS, kept));
            if let Ok(Err(error)) = forgotten.await {
                tracing::warn!("marks of earlier months could not be removed: {}", sentence(&error));
            }
        }
        let callers: HashSet<Caller> = callers.collect();
        for caller in callers {
            for limit in &limits {
                if let Some(reached) = Reached::by(caller, limit, now)
                    && self.told.insert(reached.mark.clone())
                    && let Err(error) = self.tell(&reached, month, now).await
                {
                    self.told.remove(&reached.mark);
                    tracing::error!("webhooks are not told of a quota: {}", sentence(&*error));
                }
            }
        }
    }

    async fn tell(
        &self,
        reached: &Reached,
        month: Month,
        now: Millis,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let value = month.to_string();
        let key = match reached.key {
            Some(id) => self.issuer.find(id).await?,
            None => None,
        };
        let sandbox = key.as_ref().is_some_and(|kept| kept.key.mode == Mode::Sandbox);
        let definition = reached.limit.definition();
        let data = json!({
            "key": key.map(|kept| json!({ "id": kept.key.id, "name": kept.name, "mode": kept.key.mode })),
            "org": reached.org, "policy": definition.policy, "limit": definition.limit, "pillar": definition.pillar,
            "window": reached.window, "quota": reached.quota, "period": value,
        });
        let event = Event::new(Kind::QuotaReached, now, data).of(reached.org, sandbox);
        let (outbox, mark) = (self.outbox.clone(), reached.mark.clone());
        let tell = move || {
            let told = outbox.mark(&mark)?.unwrap_or_default();
            match tells(&told, &value) {
                true => Ok(()),
                false => outbox.append_marked(&mark, with(&told, &value).as_bytes(), &[event]),
            }
        };
        Ok(tokio::task::spawn_blocking(tell).await??)
    }
}

/// A limit that somebody has used up.
struct Reached {
    limit: Arc<Limit>,
    window: String,
    quota: u64,
    org: OrgId,
    key: Option<KeyId>,
    mark: String,
}

impl Reached {
    fn by(caller: Caller, limit: &Arc<Limit>, now: Millis) -> Option<Self> {
        let org = OrgId::from_number(caller.org?);
        let (subject, key) = match limit.kind() {
            SubjectKind::Key => (caller.key?, caller.key.map(KeyId::from_number)),
            SubjectKind::Org => (caller.org?, None),
            SubjectKind::Address | SubjectKind::Custom | SubjectKind::Everyone => return None,
        };
        let position = limit.windows().iter().position(|window| window.per == Period::Month)?;
        // A cost of 0 only looks.
        let looked = limit.take(Subject::id(subject), 0, now);
        let states = looked.as_ref().map_or_else(|refused| refused.states(), |taken| taken.states());
        states.get(position).filter(|state| state.remaining == 0)?;
        let (window, definition) = (&limit.windows()[position], limit.definition());
        let pillar = definition.pillar.as_deref().unwrap_or("*");
        let mark = format!("{MARKS}{}/{}/{pillar}/{}/{subject:032x}", definition.policy, definition.limit, window.name);
        Some(Self { limit: limit.clone(), window: window.name.clone(), quota: window.quota, org, key, mark })
    }
}

/// Whether a mark says that this month was told. A mark has the last few, with commas: a clock that goes ahead and comes back makes
/// none of them new.
fn tells(mark: &[u8], month: &str) -> bool {
    mark.split(|byte| *byte == b',').any(|told| told == month.as_bytes())
}

/// A mark with one more month, and without the oldest of too many.
fn with(mark: &[u8], month: &str) -> String {
    let mark = String::from_utf8_lossy(mark);
    let mut months: Vec<&str> = mark.split(',').filter(|told| !told.is_empty()).collect();
    months.push(month);
    months.drain(..months.len().saturating_sub(MONTHS));
    months.join(",")
}

/// Limits that count over a month for keys or orgs; each once.
fn monthly(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Limit>> {
    let steps = snapshot.pillars.iter().flat_map(|pillar| &pillar.chains).flat_map(|chain| &chain.steps);
    let limits = steps.flat_map(|step| &step.limits);
    let mut seen = HashSet::new();
    limits
        .filter(|limit| limit.windows().iter().any(|window| window.per == Period::Month))
        .filter(move |limit| seen.insert(limit.definition().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_knows_the_last_months_that_were_told() {
        let mut mark = String::new();
        for (month, expected) in [
            ("2026-11", "2026-11"),
            ("2035-01", "2026-11,2035-01"),
            ("2026-12", "2026-11,2035-01,2026-12"),
            ("2027-01", "2035-01,2026-12,2027-01"),
        ] {
            assert!(!tells(mark.as_bytes(), month));
            mark = with(mark.as_bytes(), month);
            assert_eq!(mark, expected);
            assert!(tells(mark.as_bytes(), month));
        }
        assert!(tells(b"2026-11", "2026-11"), "as an earlier version wrote it");
    }
}
