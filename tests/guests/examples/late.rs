//! Begins late: each instance first computes for some milliseconds, before it is asked anything. See README.md.
#![allow(unsafe_code, reason = "an instance begins with what is exported under a name that others know")]

use portico_sdk::bindings::policy;
use portico_sdk::{About, Descriptor, Diagnostic, Plan, Request, Slot, Verdict};

/// The guest that begins late.
pub struct Late;

/// What a component's instance runs first.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    /// More than a call with the shortest `deadline` may have on a fast machine, and less than a second on a slow one.
    const TURNS: u32 = 200_000_000;
    (0..TURNS).for_each(|turn| {
        std::hint::black_box(turn);
    });
}

impl policy::Guest for Late {
    fn describe() -> Descriptor {
        About::new("late", "1.0.0", "Begins late.").descriptor()
    }

    fn configure(_number: u32, _slot: Slot, _config: String) -> Result<Plan, Vec<Diagnostic>> {
        Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 })
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict::next()
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Late with_types_in policy);
