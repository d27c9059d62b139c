//! The policy of the README: greets the upstream in a word that the operator chooses.

use portico_sdk::{About, Diagnostic, Policy, Request, Setup, Verdict, Write};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    word: String,
}

impl Policy for Hello {
    type Config = Self;
    const ABOUT: About = About::new("hello", "1.0.0", "Greets the upstream.").writes(&["x-hello"]);

    fn configure(config: Self, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(config)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        Verdict::next().set(X_HELLO, self.word.as_str())
    }
}

const X_HELLO: Write = Hello::ABOUT.write("x-hello");

portico_sdk::export!(Hello);
