//! Tells its version in both phases, as `versioned` does, and nothing else: small enough to be exchanged a thousand times.

use portico_sdk::bindings::{policy, response};
use portico_sdk::{About, After, AfterAction, Descriptor, Diagnostic, Edit, Plan, Request, Response, Slot, Verdict};

/// Whoever wants another version replaces these characters in the component.
static VERSION: [u8; 10] = *b"0.0.100000";

/// The guest with a number.
pub struct Numbered;

fn version() -> &'static str {
    // The compiler must not read it: what it is now is only known when the component runs.
    std::str::from_utf8(std::hint::black_box(&VERSION)).unwrap_or_default()
}

impl policy::Guest for Numbered {
    fn describe() -> Descriptor {
        let about = About::new("numbered", "0.0.0", "Tells its version.").response_writes(&["x-version"]);
        Descriptor { version: version().to_owned(), ..about.descriptor() }
    }

    fn configure(_number: u32, _slot: Slot, _config: String) -> Result<Plan, Vec<Diagnostic>> {
        Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 })
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict { response_edits: vec![Edit::append(0, version())], ..Verdict::next() }
    }
}

impl response::Guest for Numbered {
    fn on_response(_response: Response) -> After {
        let edits = vec![Edit::append(0, version())];
        After { action: AfterAction::Next, edits, charges: Vec::new(), notes: Vec::new() }
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Numbered with_types_in policy);
#[cfg(target_family = "wasm")]
response::export_response!(Numbered with_types_in response);
