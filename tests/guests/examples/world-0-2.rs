//! A policy of a later version of the contract, which this gateway does not know.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

wit_bindgen::generate!({
    inline: "
        package portico:policy@0.2.0;
        interface types {
            record descriptor { name: string, version: string, asks-for: list<string> }
            record plan { scopes: list<string> }
            record request { slot: u32, path: string, headers: list<tuple<string, list<u8>>> }
            variant verdict { next, deny(u16) }
        }
        world policy {
            use types.{descriptor, plan, request, verdict};
            export describe: func() -> descriptor;
            export configure: func(number: u32, config: string) -> result<plan, string>;
            export on-request: func(request: request) -> verdict;
        }
    ",
});

/// The policy from the future.
pub struct Later;

impl Guest for Later {
    fn describe() -> Descriptor {
        Descriptor { name: "world-0-2".to_owned(), version: "1.0.0".to_owned(), asks_for: Vec::new() }
    }

    fn configure(_number: u32, _config: String) -> Result<Plan, String> {
        Ok(Plan { scopes: Vec::new() })
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict::Next
    }
}

#[cfg(target_family = "wasm")]
export!(Later);
