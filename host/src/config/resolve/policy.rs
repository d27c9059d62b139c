//! `[policies.<name>]`: which plugin, run how, within which bounds, and with which grant.
//!
//! What the plugin asks for is not known here; the grant is held against its descriptor when it is loaded.

use std::time::Duration;

use crate::config::form::{Fault, duration, gas, name, shown, size};
use crate::config::read::{Entry, Table};
use crate::config::suggest::{listed, nearest};
use crate::config::value::Value;
use crate::config::{Bounds, Failure, Grant, Instance, Policy};

const POWERS: [&str; 8] = ["deny", "respond", "forward", "rewrite-path", "take", "charge", "mint-token", "identify"];
const READS: [&str; 5] = ["authorization", "cookie", "set-cookie", "proxy-authorization", "*"];

/// Powers whose silent absence would let a request through that should be refused, or go uncounted.
const MUST_NOT_FAIL_OPEN: [&str; 4] = ["deny", "identify", "take", "charge"];

/// Reads one policy.
pub(super) fn policy(entry: Entry<'_>) -> Option<Policy> {
    let Entry { name: policy, mut table } = entry;
    let plugin = table.text("plugin", policy, name);
    let instance = instance(&mut table);
    let failure = table.choice("failure", "closed", &[("closed", Failure::Closed), ("open", Failure::Open)]);
    let bounds = bounds(&mut table);
    let grant = grant(table.table("grant"));
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
        bounds: bounds?,
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
    // The clock that stops a policy ticks every 5 ms; a shorter deadline could not be kept.
    let deadline = table.text("deadline", "20ms", duration(Duration::from_millis(5)..=Duration::from_secs(10)));
    let memory = table.text("memory", "16MiB", size(64 << 10..=64 << 20));
    let copied_out = table.text("copied_out", "128KiB", size(4 << 10..=16 << 20));
    Some(Bounds { fuel: fuel?, deadline: deadline?, memory: memory?, copied_out: copied_out? })
}

fn grant(mut table: Table<'_>) -> Option<Grant> {
    let powers = table.list("powers", POWERS.len()).and_then(|items| words(&items, "power", &POWERS));
    let reads = table.list("reads", READS.len()).and_then(|items| words(&items, "field that needs a grant", &READS));
    let maximum_charge = table.text("maximum_charge", "0", gas);
    let scopes = table.list("scopes", 64).and_then(|items| distinct(&items, scope));

    if let (Some(powers), Some(maximum)) = (&powers, maximum_charge) {
        let charges = powers.iter().any(|power| power == "charge");
        let place = table.place_of("maximum_charge");
        if maximum > 0 && !charges {
            table.report().add(
                &place,
                "has no meaning without the power charge; add \"charge\" to powers, or remove it",
                None,
            );
        }
        if charges && maximum == 0 {
            let message =
                "must be more than 0 where the power charge is granted; write for example maximum_charge = \"100\"";
            table.report().add(&place, message, None);
        }
        if table.has("scopes") && !powers.iter().any(|power| power == "identify") {
            let message = "has no meaning without the power identify; add \"identify\" to powers, or remove it";
            table.report().add(&table.place_of("scopes"), message, None);
        }
    }
    table.finish();
    Some(Grant { powers: powers?, reads: reads?, maximum_charge: maximum_charge?, scopes: scopes? })
}

/// Distinct words out of those allowed.
fn words(items: &[Value<'_>], what: &str, allowed: &[&str]) -> Option<Vec<String>> {
    distinct(items, |text| {
        if allowed.contains(&text) {
            return Ok(text.to_owned());
        }
        let message = format!("`{}` is no {what}; allowed: {}", shown(text), listed(allowed.iter().copied()));
        Err(Fault { message, meant: nearest(text, allowed.iter().copied()).map(str::to_owned) })
    })
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
