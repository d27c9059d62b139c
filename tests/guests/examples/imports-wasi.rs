//! Imports a clock of WASI, as guests of other toolchains do.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

use portico_sdk::{About, Diagnostic, NoConfig, Policy, Request, Setup, Verdict};

mod wanted {
    wit_bindgen::generate!({
        inline: "
            package wasi:clocks@0.2.0;
            interface monotonic-clock { now: func() -> u64; }
            world imports { import monotonic-clock; }
        ",
    });
}

struct Wanting;

impl Policy for Wanting {
    type Config = NoConfig;
    const ABOUT: About = About::new("imports-wasi", "1.0.0", "Imports what few may.");

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        let now = wanted::wasi::clocks::monotonic_clock::now();
        Verdict::next().note("answer", now.to_string())
    }
}

portico_sdk::export!(Wanting);
