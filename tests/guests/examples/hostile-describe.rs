//! Never says what it is: loops in `describe`.

use portico_sdk::bindings::policy;
use portico_sdk::{Descriptor, Diagnostic, Plan, Request, Slot, Verdict};

/// The silent guest.
pub struct Silent;

impl policy::Guest for Silent {
    fn describe() -> Descriptor {
        loop {
            std::hint::black_box(());
        }
    }

    fn configure(_number: u32, _slot: Slot, _config: String) -> Result<Plan, Vec<Diagnostic>> {
        Err(Vec::new())
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict::next()
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Silent with_types_in policy);
