//! Imports the key-value store.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

use portico_sdk::{About, Diagnostic, NoConfig, Policy, Request, Setup, Verdict};

mod wanted {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "store",
    });
}

struct Wanting;

impl Policy for Wanting {
    type Config = NoConfig;
    const ABOUT: About = About::new("imports-store", "1.0.0", "Imports what few may.");

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        let answer = wanted::portico::policy::kv::get("key");
        Verdict::next().note("answer", format!("{answer:?}"))
    }
}

portico_sdk::export!(Wanting);
