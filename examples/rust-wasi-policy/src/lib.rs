//! Greets the upstream in words that the operator chooses, and turns away whoever says to be nobody.

use portico_sdk::{About, Diagnostic, Facts, Policy, Powers, Read, Request, Setup, Verdict, Write};

/// One slot's configuration.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    greeting: String,
}

const X_NAME: Read = Hello::ABOUT.read("x-name");
const X_GREETING: Write = Hello::ABOUT.write("x-greeting");

impl Policy for Hello {
    type Config = Self;
    const ABOUT: About = About::new("rust-hello", env!("CARGO_PKG_VERSION"), "Greets the upstream.")
        .sees(Facts::PATH.union(Facts::PRINCIPAL))
        .may(Powers::DENY)
        .reads(&["x-name"])
        .writes(&["x-greeting"])
        .schema(include_str!("../schema.json"));

    fn configure(config: Self, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        if config.greeting.trim().is_empty() {
            return Err(Diagnostic::new("/greeting", "A greeting needs words; write for example `good morning`."));
        }
        Ok(config)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let name = request.value(X_NAME).map(String::from_utf8_lossy).unwrap_or_default();
        if name == "nobody" {
            return Verdict::refuse(403, "nobody_is_not_welcome", "Say who you are in x-name.");
        }
        let org = request.principal.as_ref().map_or("stranger", |principal| &principal.org);
        let name = if name.is_empty() { org } else { &*name };
        let path = request.path.as_deref().unwrap_or_default();
        Verdict::next().set(X_GREETING, format!("{}, {name}, at {path}", self.greeting))
    }
}

portico_sdk::export!(Hello);
