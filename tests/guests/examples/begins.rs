//! Tells in `x-begun` how its instance began: which request it is the instance's, how often it was configured, and what its
//! table of so many bytes comes to. See README.md.

use std::cell::{Cell, RefCell};

use portico_sdk::bindings::policy;
use portico_sdk::{About, Descriptor, Diagnostic, Edit, Plan, Request, Slot, Verdict};
use serde::Deserialize;

/// The guest that remembers.
pub struct Begins;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static CONFIGURED: Cell<u32> = const { Cell::new(0) };
    static TURNED: Cell<bool> = const { Cell::new(false) };
    static TABLES: RefCell<Vec<(u32, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Deserialize)]
struct Config {
    /// Bytes to keep for the slot.
    table: u32,
    /// What each of them is.
    with: u8,
    /// Whether it calls itself something else from then on.
    #[serde(default)]
    turn: bool,
}

impl policy::Guest for Begins {
    fn describe() -> Descriptor {
        let version = if TURNED.get() { "2.0.0" } else { "1.0.0" };
        About::new("begins", version, "Tells how it began.").response_writes(&["x-begun"]).descriptor()
    }

    fn configure(number: u32, _slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        let config: Config =
            serde_json::from_str(&config).map_err(|error| vec![Diagnostic::new("", error.to_string())])?;
        CONFIGURED.set(CONFIGURED.get() + 1);
        TURNED.set(config.turn);
        TABLES.with_borrow_mut(|tables| tables.push((number, vec![config.with; config.table as usize])));
        Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 })
    }

    fn on_request(request: Request) -> Verdict {
        CALLS.set(CALLS.get() + 1);
        let sum: u32 = TABLES.with_borrow_mut(|tables| {
            let own = tables.iter_mut().filter(|(number, _)| *number == request.slot);
            own.map(|(_, table)| {
                let sum = table.iter().map(|byte| u32::from(*byte)).sum::<u32>();
                // Whatever comes after this one in the same memory would see it.
                table.fill(255);
                sum
            })
            .sum()
        });
        let begun = format!("request {}, configured {}, sum {sum}", CALLS.get(), CONFIGURED.get());
        Verdict { response_edits: vec![Edit::append(0, begun)], ..Verdict::next() }
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Begins with_types_in policy);
