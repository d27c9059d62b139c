//! Imports an interface that no gateway has.
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
            package nobody:knows@1.0.0;
            interface secrets { reveal: func() -> string; }
            world imports { import secrets; }
        ",
    });
}

struct Wanting;

impl Policy for Wanting {
    type Config = NoConfig;
    const ABOUT: About = About::new("imports-unknown", "1.0.0", "Imports what few may.");

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        Verdict::next().note("answer", wanted::nobody::knows::secrets::reveal())
    }
}

portico_sdk::export!(Wanting);
