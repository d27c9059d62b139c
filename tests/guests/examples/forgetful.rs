//! Asks for nothing the first time that it is asked what it is, and for every power from then on.

use std::cell::Cell;

use portico_sdk::bindings::policy;
use portico_sdk::{About, Descriptor, Diagnostic, Plan, Powers, Request, Slot, Verdict};

/// The forgetful guest.
pub struct Forgetful;

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

impl policy::Guest for Forgetful {
    fn describe() -> Descriptor {
        let powers = match ASKED.replace(true) {
            false => Powers::empty(),
            true => Powers::all(),
        };
        About::new("forgetful", "1.0.0", "Is never the same.").may(powers).descriptor()
    }

    fn configure(_number: u32, _slot: Slot, _config: String) -> Result<Plan, Vec<Diagnostic>> {
        Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 })
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict::next()
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Forgetful with_types_in policy);
