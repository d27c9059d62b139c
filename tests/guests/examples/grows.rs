//! Keeps 64 KiB more with each call, as the heap of an interpreter may, and tells in `x-calls` how many calls its instance has
//! had. See README.md.

use std::cell::RefCell;

use portico_sdk::{About, Diagnostic, Edit, NoConfig, Policy, Request, Setup, Verdict};

struct Grows;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Policy for Grows {
    type Config = NoConfig;
    const ABOUT: About = About::new("grows", "1.0.0", "Keeps more with each call.").response_writes(&["x-calls"]);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        let calls = KEPT.with_borrow_mut(|kept| {
            kept.push(std::hint::black_box(vec![1; 64 << 10]));
            kept.len()
        });
        let mut verdict = Verdict::next();
        verdict.response_edits = vec![Edit::set(0, calls.to_string())];
        verdict
    }
}

portico_sdk::export!(Grows);
