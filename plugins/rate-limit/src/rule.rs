//! Reads the configured limits, and finds all that is wrong with them.

use std::collections::BTreeSet;

use portico_sdk::{Limit, Period, Setup, Subject, Window};
use serde::Deserialize;

/// One slot's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The limits; the shipped ones where this is left out.
    #[serde(default = "shipped")]
    limits: Vec<LimitConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitConfig {
    name: String,
    subject: For,
    #[serde(default)]
    across_pillars: bool,
    #[serde(default)]
    when: When,
    windows: Vec<WindowConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowConfig {
    name: String,
    quota: u64,
    per: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum For {
    Key,
    Org,
    Address,
    Everyone,
}

/// Which requests take from a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Those with a valid key.
    #[default]
    Authenticated,
    /// Those without one, on open routes.
    Anonymous,
    /// Those without one, on routes that ask for one. Stands though the request is refused.
    FailedLogin,
    /// All of them.
    Always,
}

/// A limit, and which requests take from it.
#[derive(Debug)]
pub struct Rule {
    /// The limit as the gateway gets it.
    pub limit: Limit,
    /// Which requests take from it.
    pub when: When,
}

/// The configured rules. What is wrong is reported to `setup`, all at once.
pub fn resolve(config: Config, setup: &mut Setup<'_>) -> Vec<Rule> {
    let mut names = BTreeSet::new();
    if config.limits.is_empty() {
        setup.problem("/limits", "Give at least one limit, or leave `limits` out for the shipped ones.");
    }
    let limits = config.limits.into_iter().enumerate();
    limits
        .map(|(at, limit)| {
            let place = format!("/limits/{at}");
            if !names.insert(limit.name.clone()) {
                let message = format!("There is a limit `{}` already; choose another name.", limit.name);
                setup.problem(format!("{place}/name"), message);
            }
            if matches!(limit.subject, For::Key | For::Org) && limit.when != When::Authenticated {
                setup.problem(
                    format!("{place}/subject"),
                    "Requests without a valid key have no key and no org; write `address` or `everyone`, or `when = \"authenticated\"`.",
                );
            }
            let when = limit.when;
            let limit = Limit {
                windows: windows(&limit.windows, &place, setup),
                name: limit.name,
                subject: limit.subject.into(),
                across_pillars: limit.across_pillars,
            };
            Rule { limit, when }
        })
        .collect()
}

fn windows(windows: &[WindowConfig], place: &str, setup: &mut Setup<'_>) -> Vec<Window> {
    if !(1..=4).contains(&windows.len()) {
        setup.problem(format!("{place}/windows"), "Give 1 to 4 windows.");
    }
    let mut names = BTreeSet::new();
    let mut resolved = Vec::with_capacity(windows.len());
    for (at, window) in windows.iter().enumerate() {
        let place = format!("{place}/windows/{at}");
        if !names.insert(window.name.as_str()) {
            let message = format!("There is a window `{}` already; choose another name.", window.name);
            setup.problem(format!("{place}/name"), message);
        }
        if window.quota == 0 {
            setup.problem(format!("{place}/quota"), "A quota is at least 1.");
        }
        match period(&window.per) {
            Some(per) => resolved.push(Window {
                name: window.name.clone(),
                quota: window.quota,
                per,
            }),
            None => setup.problem(
                format!("{place}/per"),
                format!(
                    "`{}` is no period; write a whole number with `s`, `m`, `h` or `d`, at most one day (`1s`, `60s`, `1h`), or `month`.",
                    window.per
                ),
            ),
        }
    }
    resolved
}

/// `1s`, `60s`, `1m`, `1h`, `1d`, at most one day, or `month`.
fn period(text: &str) -> Option<Period> {
    const DAY: u32 = 86_400;
    if text == "month" {
        return Some(Period::Month);
    }
    let unit = text.chars().next_back()?;
    let number = text.strip_suffix(unit)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => DAY,
        _ => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u32>().ok()?.checked_mul(seconds)?;
    (1..=DAY).contains(&seconds).then_some(Period::Seconds(seconds))
}

impl From<For> for Subject {
    fn from(subject: For) -> Self {
        match subject {
            For::Key => Self::Key,
            For::Org => Self::Org,
            For::Address => Self::Address,
            For::Everyone => Self::Everyone,
        }
    }
}

/// A key gets 100 a second and 3,000 a minute in each pillar. Without a key an address gets 20 and 600, and may fail to
/// log in 60 times a minute, counted over all pillars so that guessing does not pay by going around.
fn shipped() -> Vec<LimitConfig> {
    let window = |name: &str, quota, per: &str| WindowConfig { name: name.to_owned(), quota, per: per.to_owned() };
    let limit = |name: &str, subject, when, windows| LimitConfig {
        name: name.to_owned(),
        subject,
        across_pillars: when == When::FailedLogin,
        when,
        windows,
    };
    vec![
        limit("per-key", For::Key, When::Authenticated, vec![window("sec", 100, "1s"), window("min", 3_000, "60s")]),
        limit("per-address", For::Address, When::Anonymous, vec![window("sec", 20, "1s"), window("min", 600, "60s")]),
        limit("failed-logins", For::Address, When::FailedLogin, vec![window("min", 60, "60s")]),
    ]
}

#[cfg(test)]
mod tests;
