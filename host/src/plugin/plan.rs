//! A plan, checked: what one slot's verdicts may refer to.

use super::contract::Powers;
use super::contract::{self, Period, Subject};
use super::declared::{Declared, is_snake, shortened};
use super::failure::Failure;
use crate::config::{Grant, Problem};

const SCOPES: usize = 64;
const LIMITS: usize = 8;
const WINDOWS: usize = 4;
const TARGETS: usize = 16;

/// What one slot's verdicts may refer to, by position.
pub type Plan = contract::Plan;

/// All that is wrong with a plan; `key` is the path of the slot's configuration.
pub(super) fn check(plan: &Plan, declared: &Declared, grant: &Grant, key: &str) -> Vec<Problem> {
    let mut wrong = Vec::new();
    if plan.scopes.len() > SCOPES {
        wrong.push(format!("its plan names {} scopes; {SCOPES} are possible", plan.scopes.len()));
    }
    if plan.limits.len() > LIMITS {
        wrong.push(format!("its plan names {} limits; {LIMITS} are possible", plan.limits.len()));
    }
    if plan.targets.len() > TARGETS {
        wrong.push(format!("its plan names {} upstreams; {TARGETS} are possible", plan.targets.len()));
    }
    if !plan.limits.is_empty() && !declared.powers.contains(Powers::TAKE) {
        wrong.push("its plan has limits, and it did not declare the power `take`".into());
    }
    if !plan.targets.is_empty() && !declared.powers.contains(Powers::FORWARD) {
        wrong.push("its plan has upstreams, and it did not declare the power `forward`".into());
    }
    if plan.maximum_charge > 0 && !declared.powers.contains(Powers::CHARGE) {
        wrong.push("its plan charges, and it did not declare the power `charge`".into());
    }
    if plan.maximum_charge > grant.maximum_charge {
        wrong.push(format!(
            "its plan charges up to {} millionths of a token for one request, and the grant's `maximum_charge` is {}",
            plan.maximum_charge, grant.maximum_charge
        ));
    }
    for (position, limit) in plan.limits.iter().enumerate().take(LIMITS) {
        if plan.limits[..position].iter().any(|earlier| earlier.name == limit.name) {
            wrong.push(format!("its plan names the limit {:?} twice", shortened(&limit.name)));
        }
        check_limit(limit, &mut wrong);
    }
    wrong.into_iter().map(|message| Problem::at(key.to_owned(), message)).collect()
}

fn check_limit(limit: &contract::Limit, wrong: &mut Vec<String>) {
    let name = shortened(&limit.name);
    let of_words = |word: &str, longest: usize| {
        (1..=longest).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if !of_words(&limit.name, 64) {
        wrong.push(format!("the limit {name:?} needs a name of 1 to 64 of a-z, 0-9, - and _"));
    }
    if !(1..=WINDOWS).contains(&limit.windows.len()) {
        wrong.push(format!("the limit {name:?} has {} windows; 1 to {WINDOWS} are possible", limit.windows.len()));
    }
    for window in limit.windows.iter().take(WINDOWS) {
        if !of_words(&window.name, 32) {
            wrong.push(format!("the limit {name:?} has a window whose name is not 1 to 32 of a-z, 0-9, - and _"));
        }
        if window.quota == 0 {
            wrong.push(format!("the limit {name:?} has a window with a quota of 0; at least 1"));
        }
        if let Period::Seconds(seconds) = window.per
            && !(1..=86_400).contains(&seconds)
        {
            wrong.push(format!("the limit {name:?} has a window of {seconds} s; 1 to 86,400 are possible"));
        }
    }
    // Named here so that a new subject cannot be forgotten where limits are kept.
    match limit.subject {
        Subject::Key | Subject::Org | Subject::Address | Subject::Custom | Subject::Everyone => {}
    }
}

/// Whether what another instance answered is the plan that was checked.
pub(super) fn holds(answer: Result<Plan, Vec<contract::Diagnostic>>, checked: &Plan) -> Result<(), Failure> {
    match answer {
        Ok(plan) if same(&plan, checked) => Ok(()),
        Ok(_) => Err(Failure::NotAllowed("its plan is not the one that was checked".into())),
        Err(_) => Err(Failure::NotAllowed("it refused a configuration that it had taken".into())),
    }
}

/// Whether two answers of `configure` are the same.
fn same(one: &Plan, other: &Plan) -> bool {
    one.scopes == other.scopes
        && one.targets == other.targets
        && one.maximum_charge == other.maximum_charge
        && one.limits.len() == other.limits.len()
        && one.limits.iter().zip(&other.limits).all(|(a, b)| same_limit(a, b))
}

fn same_limit(one: &contract::Limit, other: &contract::Limit) -> bool {
    let period = |period: &Period| match period {
        Period::Seconds(seconds) => Some(*seconds),
        Period::Month => None,
    };
    one.name == other.name
        && one.subject == other.subject
        && one.across_pillars == other.across_pillars
        && one.windows.len() == other.windows.len()
        && one
            .windows
            .iter()
            .zip(&other.windows)
            .all(|(a, b)| a.name == b.name && a.quota == b.quota && period(&a.per) == period(&b.per))
}

/// Codes of a policy's own denials follow the same rule as counters.
pub(super) fn is_code(code: &str) -> bool {
    is_snake(code)
}
