//! `[policies.<name>]`: which plugin, run how, within which bounds, and with which grant.
//!
//! What the plugin asks for is not known here; the grant is held against its descriptor when it is loaded.

use std::time::Duration;

use super::grant::grant;
use crate::config::form::{Fault, duration, name, shown, size};
use crate::config::read::{Entry, Table};
use crate::config::value::Value;
use crate::config::{Bounds, Failure, Instance, Policy, Waits};

/// Powers whose silent absence would let a request through that should be refused, or go uncounted.
const MUST_NOT_FAIL_OPEN: [&str; 4] = ["deny", "identify", "take", "charge"];

/// Reads one policy.
pub(super) fn policy(entry: Entry<'_>) -> Option<Policy> {
    let Entry { name: policy, mut table } = entry;
    let plugin = table.text("plugin", policy, name);
    let instance = instance(&mut table);
    let failure = table.choice("failure", "closed", &[("closed", Failure::Closed), ("open", Failure::Open)]);
    let quarantine = table.boolean("quarantine", true);
    let bounds = bounds(&mut table);
    let waits = waits(&mut table);
    let bodies = table.integer("bodies", 64, 1..=4096);
    let grant = grant(table.table("grant"), policy);
    let config = table.table("config").json();

    if let (Some(Failure::Open), Some(grant)) = (failure, &grant) {
        let vital: Vec<_> =
            MUST_NOT_FAIL_OPEN.into_iter().filter(|power| grant.powers.iter().any(|it| it == power)).collect();
        if !vital.is_empty() {
            let message = format!(
                "\"open\" cannot go with the power {}: a failing policy would let pass what it is there to refuse or to count; \
                 write \"closed\", or take the power from the grant",
                vital.join(", ")
            );
            table.report().add(&table.place_of("failure"), message, None);
        }
    }
    table.finish();
    Some(Policy {
        name: name(policy).ok()?,
        plugin: plugin?,
        instance: instance?,
        failure: failure?,
        quarantine: quarantine?,
        bounds: bounds?,
        waits: waits?,
        bodies: usize::try_from(bodies?).ok()?,
        grant: grant?,
        config: config?,
    })
}

fn instance(table: &mut Table<'_>) -> Option<Instance> {
    let pooled = table.choice("instance", "fresh", &[("fresh", false), ("pooled", true)]);
    let recycle_after = table.integer("recycle_after", 1_000_000, 1..=1_000_000_000_000);
    if pooled == Some(false) && table.has("recycle_after") {
        let message = "has no meaning for a fresh instance; write instance = \"pooled\", or remove it";
        table.report().add(&table.place_of("recycle_after"), message, None);
    }
    let recycle_after = recycle_after?;
    Some(if pooled? { Instance::Pooled { recycle_after } } else { Instance::Fresh })
}

fn bounds(table: &mut Table<'_>) -> Option<Bounds> {
    let fuel = table.integer("fuel", 2_000_000, 10_000..=10_000_000_000);
    let fuel_per_kib = table.integer("fuel_per_kib", 1_000_000, 1_000..=10_000_000_000);
    // The clock that stops a policy ticks every 5 ms; a shorter deadline could not be kept.
    let deadline = table.text("deadline", "20ms", duration(Duration::from_millis(5)..=Duration::from_secs(10)));
    let memory = table.text("memory", "16MiB", size(64 << 10..=256 << 20));
    let copied_out = table.text("copied_out", "128KiB", size(4 << 10..=16 << 20));
    let (fuel, fuel_per_kib) = (fuel?, fuel_per_kib?);
    Some(Bounds { fuel, fuel_per_kib, deadline: deadline?, memory: memory?, copied_out: copied_out? })
}

fn waits(table: &mut Table<'_>) -> Option<Waits> {
    let time = table.text("wait", "5s", duration(Duration::from_millis(10)..=Duration::from_secs(60)));
    let calls = table.integer("waiting_calls", 64, 1..=1024);
    Some(Waits { time: time?, calls: usize::try_from(calls?).ok()? })
}

/// Texts of one form, none of them twice.
pub(super) fn distinct(items: &[Value<'_>], form: impl Fn(&str) -> Result<String, Fault>) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    let mut whole = true;
    for item in items {
        match item.text(&form) {
            Some(text) if found.contains(&text) => {
                let _: Option<()> = item.wrong(format!("`{}` stands here twice; remove one", shown(&text)));
            }
            Some(text) => found.push(text),
            None => whole = false,
        }
    }
    whole.then_some(found)
}

/// A scope: lower-case words of letters, digits, `-` and `_`, joined by `:`; or `*`.
pub(super) fn scope(text: &str) -> Result<String, Fault> {
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    if text == "*" || (text.len() <= 64 && text.split(':').all(word)) {
        return Ok(text.to_owned());
    }
    Err(Fault::from(format!(
        "`{}` is not a scope; write lower-case words joined by colons, such as \"connect\" or \"usage:read\"",
        shown(text)
    )))
}
