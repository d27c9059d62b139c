//! Limits as a whole; each rule alone is in `oracle`.

mod oracle;
mod promise;
mod threads;

use super::*;
use crate::clock::Millis;

/// 2026-11-22T00:00:00Z: the start of a day, a minute and a second.
const START: u64 = 1_795_305_600_000;

fn window(name: &str, quota: u64, per: Period) -> Window {
    Window { name: name.to_owned(), quota, per }
}

fn definition(windows: Vec<Window>) -> Definition {
    Definition {
        policy: "rate-limit".to_owned(),
        limit: "per-key".to_owned(),
        pillar: Some("connect".to_owned()),
        subject: SubjectKind::Key,
        windows,
    }
}

/// A limit alone in its house.
fn limit(windows: &[(&str, u64, Period)]) -> std::sync::Arc<Limit> {
    let windows = windows.iter().map(|(name, quota, per)| window(name, *quota, *per)).collect();
    Local::new(1_000).limit(definition(windows)).unwrap()
}

/// How many of `count` takings of 1 are granted at `now`.
fn granted(limit: &Limit, subject: Subject, count: u64, now: u64) -> u64 {
    (0..count).filter(|_| limit.take(subject, 1, Millis(now)).is_ok()).count() as u64
}

/// What is left in each window.
fn left(limit: &Limit, subject: Subject, now: u64) -> Vec<u64> {
    let states = match limit.take(subject, 0, Millis(now)) {
        Ok(taken) => taken.states().to_vec(),
        Err(refused) => refused.states().to_vec(),
    };
    states.iter().map(|state| state.remaining).collect()
}

const SEC: Period = Period::Seconds(1);
const MIN: Period = Period::Seconds(60);
const ALICE: Subject = Subject(7);
const BOB: Subject = Subject(8);
