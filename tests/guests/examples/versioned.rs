//! Tells its version in both phases: a response that two versions had a hand in shows two numbers. See README.md.

use portico_guests::descriptor;
use portico_sdk::bindings::{policy, response};
use portico_sdk::{Action, After, AfterAction, Descriptor, Diagnostic, Edit, Plan, Request, Response, Slot, Verdict};

/// Tests replace its text in the component.
static BLOCK: [u8; descriptor::BLOCK] = descriptor::block("{}");

/// The guest with a number.
pub struct Versioned;

fn described() -> Descriptor {
    descriptor::read(std::hint::black_box(&BLOCK))
}

impl policy::Guest for Versioned {
    fn describe() -> Descriptor {
        described()
    }

    fn configure(_number: u32, _slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        // A version that asks for a word of its own does not fit a configuration that was written for another.
        let wanted = described().summary;
        match wanted.strip_prefix("wants ") {
            Some(word) if !config.contains(word) => {
                Err(vec![Diagnostic::new("", format!("this version needs `{word}` in its configuration"))])
            }
            _ => Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 }),
        }
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict { action: Action::Next, response_edits: vec![Edit::append(0, described().version)], ..Verdict::next() }
    }
}

impl response::Guest for Versioned {
    fn on_response(_response: Response) -> After {
        After {
            action: AfterAction::Next,
            edits: vec![Edit::append(0, described().version)],
            charges: Vec::new(),
            notes: Vec::new(),
        }
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Versioned with_types_in policy);
#[cfg(target_family = "wasm")]
response::export_response!(Versioned with_types_in response);
