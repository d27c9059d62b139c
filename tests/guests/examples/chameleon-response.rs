//! The chameleon, with the response phase. See README.md.

use portico_guests::{chameleon, descriptor};
use portico_sdk::bindings::{policy, response};
use portico_sdk::{After, Descriptor, Diagnostic, Plan, Request, Response, Slot, Verdict};

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

impl response::Guest for Chameleon {
    fn on_response(response: Response) -> After {
        chameleon::on_response(&response)
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Chameleon with_types_in policy);
#[cfg(target_family = "wasm")]
response::export_response!(Chameleon with_types_in response);
