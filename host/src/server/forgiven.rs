//! What operators have taken off months: a reset of a limit over a month holds after a restart, too.
//!
//! Buckets are in memory, and months begin with what usage counts; so it is remembered how much of that a reset took away. Calls
//! of the last moments before a reset may be counted afterwards, and are then not taken off.

use super::background::{Counted, counted};
use crate::api::{KeepReset, Kept};
use crate::clock::Millis;
use crate::data::Failure;
use crate::limit::{Definition, Limit, Period, SubjectKind};
use crate::outbox::SledOutbox;
use crate::usage::{Month, UsageStore};
use std::collections::HashMap;
use std::sync::Arc;

/// What marks of it begin with.
const MARKS: &str = "reset/";

/// Where it is remembered.
pub(super) struct Forgiven {
    outbox: SledOutbox,
    usage: Arc<dyn UsageStore>,
}

impl Forgiven {
    pub(super) fn new(outbox: SledOutbox, usage: Arc<dyn UsageStore>) -> Self {
        Self { outbox, usage }
    }
}

impl KeepReset for Forgiven {
    fn keep<'a>(&'a self, limits: &'a [Arc<Limit>], subject: u128, now: Millis) -> Kept<'a> {
        Box::pin(async move {
            let is_monthly = |limit: &&Arc<Limit>| limit.windows().iter().any(|window| window.per == Period::Month);
            let monthly: Vec<&Arc<Limit>> = limits.iter().filter(is_monthly).collect();
            if monthly.is_empty() {
                return Ok(());
            }
            let month = Month::of(now);
            let counts = self.usage.monthly_counts(month).await?;
            let mut names = Vec::new();
            for limit in monthly {
                let Counted(sums) = counted(limit, &counts);
                if let Some(calls) = sums.get(&subject).filter(|calls| **calls > 0) {
                    names.push(format!("{}{calls}", mark(limit.definition(), subject)));
                }
            }
            let (outbox, value) = (self.outbox.clone(), month.to_string());
            let keep = move || -> Result<(), Failure> {
                outbox.forget_marks(MARKS, |kept| kept == value.as_bytes())?;
                names.iter().try_for_each(|name| outbox.append_marked(name, value.as_bytes(), &[]))
            };
            Ok(tokio::task::spawn_blocking(keep).await??)
        })
    }
}

/// How much was taken off, by what [`mark`] says.
pub(super) struct TakenOff(HashMap<String, u64>);

impl TakenOff {
    /// Of this month; blocks.
    pub(super) fn read(outbox: &SledOutbox, now: Millis) -> Result<Self, Failure> {
        let month = Month::of(now).to_string();
        let mut taken_off: HashMap<String, u64> = HashMap::new();
        for (name, value) in outbox.marks(MARKS)? {
            let Some((whose, calls)) = name.rsplit_once('/') else { continue };
            // The last reset took off the most.
            if let (Ok(calls), true) = (calls.parse::<u64>(), value == month.as_bytes()) {
                let most = taken_off.entry(format!("{whose}/")).or_default();
                *most = calls.max(*most);
            }
        }
        Ok(Self(taken_off))
    }

    /// What is left of so many calls.
    pub(super) fn left(&self, definition: &Definition, subject: u128, calls: u64) -> u64 {
        // For most gateways there is nothing to look for.
        let taken_off = if self.0.is_empty() { None } else { self.0.get(&mark(definition, subject)) };
        calls.saturating_sub(taken_off.copied().unwrap_or_default())
    }
}

/// A limit and for whom, without what is taken off.
fn mark(definition: &Definition, subject: u128) -> String {
    let kind = match definition.subject {
        SubjectKind::Key => "key",
        SubjectKind::Org => "org",
        SubjectKind::Address => "address",
        SubjectKind::Custom => "custom",
        SubjectKind::Everyone => "everyone",
    };
    // A bucket may have a slash in its name; what follows it is always as long.
    let bucket = definition.pillar.as_deref().unwrap_or("*");
    format!("{MARKS}{}/{}/{bucket}/{kind}/{subject:032x}/", definition.policy, definition.limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use crate::data::DataDirectory;
    use crate::seal::Vault;

    #[test]
    fn the_last_reset_of_a_month_is_what_is_taken_off() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        let definition = |pillar: Option<&str>| Definition {
            policy: "rate-limit".into(),
            limit: "per-key".into(),
            pillar: pillar.map(str::to_owned),
            subject: SubjectKind::Key,
            windows: Vec::new(),
        };
        let now: Millis = "2026-11-22T00:00:00Z".parse().unwrap();
        let (own, rule) = (definition(None), definition(Some("connect/rooms.create")));
        for (whose, calls, month) in
            [(&own, 9, "2026-11"), (&own, 12, "2026-11"), (&own, 80, "2026-10"), (&rule, 3, "2026-11")]
        {
            outbox.append_marked(&format!("{}{calls}", mark(whose, 7)), month.as_bytes(), &[]).unwrap();
        }
        let taken_off = TakenOff::read(&outbox, now).unwrap();
        assert_eq!(
            [(&own, 20), (&own, 5), (&rule, 5)].map(|(whose, calls)| taken_off.left(whose, 7, calls)),
            [8, 0, 2]
        );
        assert_eq!(taken_off.left(&own, 8, 20), 20, "somebody else");
        let next: Millis = "2026-12-01T00:00:00Z".parse().unwrap();
        assert_eq!(TakenOff::read(&outbox, next).unwrap().left(&own, 7, 20), 20);
    }
}
