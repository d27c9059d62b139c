//! Imports requests to the outside.
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
        world: "outbound",
    });
}

struct Wanting;

impl Policy for Wanting {
    type Config = NoConfig;
    const ABOUT: About = About::new("imports-outbound", "1.0.0", "Imports what few may.");

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        let answer = wanted::portico::policy::http::send(&wanted::portico::policy::http::Call {
            method: "GET".to_owned(),
            url: "https://example.com/".to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
            timeout: 1_000,
        });
        Verdict::next().note("answer", format!("{answer:?}"))
    }
}

portico_sdk::export!(Wanting);
