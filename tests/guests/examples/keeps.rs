//! Uses the key-value store as the field `x-ask` says; what came of it is in `x-answer` of the response. README.md lists all.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

use portico_sdk::{About, Diagnostic, NoConfig, Policy, Read, Request, ResponseWrite, Setup, Verdict};
use wanted::portico::policy::kv;

mod wanted {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "store",
    });
}

struct Keeps;

const X_ASK: Read = Keeps::ABOUT.read("x-ask");
const X_ANSWER: ResponseWrite = Keeps::ABOUT.response_write("x-answer");

impl Policy for Keeps {
    type Config = NoConfig;
    const ABOUT: About =
        About::new("keeps", "1.0.0", "Uses its store as told.").reads(&["x-ask"]).response_writes(&["x-answer"]);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        // Nothing can be reached here: what a configuration comes to must not depend on it.
        match kv::get("anything") {
            Err(kv::Error::Unavailable) => Ok(Self),
            other => Err(Diagnostic { pointer: String::new(), message: format!("a store in configure: {other:?}") }),
        }
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let words: Vec<&str> = request.text(X_ASK).unwrap_or_default().split(' ').collect();
        let answer = match words[..] {
            ["get", key] => match kv::get(key) {
                Ok(Some(value)) => {
                    format!("{} {:?}", value.len(), String::from_utf8_lossy(&value[..value.len().min(16)]))
                }
                other => format!("{other:?}"),
            },
            ["set", key, value, ttl] => format!("{:?}", kv::set(key, value.as_bytes(), ttl.parse().unwrap_or(0))),
            ["remove", key] => format!("{:?}", kv::remove(key)),
            // Until there is no more room.
            ["fill", prefix, size] => {
                let value = vec![b'x'; size.parse().unwrap_or(0)];
                let refused = (0..1_000_000_u32).map(|n| (n, kv::set(&format!("{prefix}{n}"), &value, 0)));
                let first = refused.into_iter().find(|(_, answer)| answer.is_err());
                format!("{first:?}")
            }
            ["count", key] => {
                let before = kv::get(key).ok().flatten().and_then(|value| String::from_utf8(value).ok());
                let next = before.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) + 1;
                format!("{next} {:?}", kv::set(key, next.to_string().as_bytes(), 0))
            }
            _ => "nothing".to_owned(),
        };
        Verdict::next().set_response(X_ANSWER, answer)
    }
}

portico_sdk::export!(Keeps);
