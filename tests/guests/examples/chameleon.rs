//! Is whatever the patched block says, and does whatever its configuration says. See README.md.

use portico_guests::{chameleon, descriptor};
use portico_sdk::bindings::policy;
use portico_sdk::{Descriptor, Diagnostic, Plan, Request, Slot, Verdict};

/// Tests replace its text in the component.
static BLOCK: [u8; descriptor::BLOCK] = descriptor::block("{}");

/// The scripted guest.
pub struct Chameleon;

impl policy::Guest for Chameleon {
    fn describe() -> Descriptor {
        // The compiler must not read the block: what it holds is only known when the component runs.
        descriptor::read(std::hint::black_box(&BLOCK))
    }

    fn configure(number: u32, slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        chameleon::configure(number, slot, &config)
    }

    fn on_request(request: Request) -> Verdict {
        chameleon::on_request(&request)
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Chameleon with_types_in policy);
