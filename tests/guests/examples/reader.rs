//! Reads one field and lets pass: what the benchmark of one call calls.

use portico_sdk::{About, Diagnostic, NoConfig, Policy, Read, Request, Setup, Verdict};

struct Reader;

const WORD: Read = Reader::ABOUT.read("x-word");

impl Policy for Reader {
    type Config = NoConfig;
    const ABOUT: About = About::new("reader", "1.0.0", "Reads one field.").reads(&["x-word"]);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        match request.value(WORD) {
            Some(b"open sesame") => Verdict::next(),
            _ => Verdict::next().note("word", "missing"),
        }
    }
}

portico_sdk::export!(Reader);
