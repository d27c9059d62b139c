//! Sends requests as the field `x-ask` says: method, URL and milliseconds, several with `;` between them; what came of each is in
//! `x-answer` of the response.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

use portico_sdk::{About, Diagnostic, NoConfig, Policy, Read, Request, ResponseWrite, Setup, Verdict};
use wanted::portico::policy::http::{self, Call};

mod wanted {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "outbound",
    });
}

struct Asks;

const X_ASK: Read = Asks::ABOUT.read("x-ask");
const X_ANSWER: ResponseWrite = Asks::ABOUT.response_write("x-answer");

impl Policy for Asks {
    type Config = NoConfig;
    const ABOUT: About =
        About::new("asks", "1.0.0", "Asks elsewhere, as told.").reads(&["x-ask"]).response_writes(&["x-answer"]);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let asked = request.text(X_ASK).unwrap_or_default().split(';').filter(|ask| !ask.is_empty());
        let answers: Vec<String> = asked.map(|ask| answer(&ask.split(' ').collect::<Vec<_>>())).collect();
        Verdict::next().set_response(X_ANSWER, answers.join(";"))
    }
}

fn answer(words: &[&str]) -> String {
    let [method, url, timeout] = words else { return "nothing".to_owned() };
    let call = Call {
        method: (*method).to_owned(),
        url: (*url).to_owned(),
        fields: Vec::new(),
        body: if *method == "POST" { b"asked".to_vec() } else { Vec::new() },
        timeout: timeout.parse().unwrap_or(0),
    };
    match http::send(&call) {
        Ok(answer) => format!("{} {}", answer.status, answer.body.len()),
        Err(error) => format!("{error:?}"),
    }
}

portico_sdk::export!(Asks);
