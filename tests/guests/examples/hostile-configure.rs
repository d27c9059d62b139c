//! Misbehaves in `configure`, in the way that `behaviour` of the configuration names. README.md lists all.
#![allow(unsafe_code, reason = "text that is no UTF-8 can only be made with raw memory")]

use std::hint::black_box;

use portico_sdk::bindings::policy;
use portico_sdk::{
    About, Descriptor, Diagnostic, Limit, Period, Plan, Powers, Request, Slot, Subject, Verdict, Window,
};

/// The guest that cannot be configured.
pub struct Unconfigurable;

#[derive(serde::Deserialize)]
struct Config {
    behaviour: String,
}

impl policy::Guest for Unconfigurable {
    fn describe() -> Descriptor {
        About::new("hostile-configure", "1.0.0", "Cannot be configured.")
            .may(Powers::FORWARD.union(Powers::TAKE).union(Powers::CHARGE))
            .descriptor()
    }

    fn configure(_number: u32, _slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        let config: Config = serde_json::from_str(&config).expect("the test says a behaviour");
        let mut plan = Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 };
        match config.behaviour.as_str() {
            "loop" => loop {
                black_box(());
            },
            "panic" => panic!("as told"),
            "eat-memory" => loop {
                std::mem::forget(black_box(vec![1_u8; 1 << 20]));
            },
            "no-reason" => return Err(Vec::new()),
            "million-diagnostics" => return Err(vec![Diagnostic::new("/", "No."); 1_000_000]),
            "bad-pointer" => return Err(vec![Diagnostic::new("behaviour", "No.")]),
            "bad-utf8" => {
                // SAFETY: none, and that is the test: the gateway must notice that this is no UTF-8.
                let text = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) };
                return Err(vec![Diagnostic::new("", text)]);
            }
            "many-scopes" => plan.scopes = (0..65).map(|n| format!("scope-{n}")).collect(),
            "empty-scope" => plan.scopes = vec![String::new()],
            "many-limits" => plan.limits = (0..9).map(|n| limit(&format!("l{n}"))).collect(),
            "same-limits" => plan.limits = vec![limit("twice"), limit("twice")],
            "bad-limit-name" => plan.limits = vec![limit("Per Key\r\n")],
            "no-windows" => plan.limits = vec![windows(Vec::new())],
            "many-windows" => plan.limits = vec![windows(vec![window("sec", 1, 1); 5])],
            "zero-quota" => plan.limits = vec![windows(vec![window("sec", 0, 1)])],
            "zero-period" => plan.limits = vec![windows(vec![window("sec", 1, 0)])],
            "long-period" => plan.limits = vec![windows(vec![window("sec", 1, 86_401)])],
            "bad-window-name" => plan.limits = vec![windows(vec![window("a\"b\r\n", 1, 1)])],
            "unknown-target" => plan.targets = vec!["no-such-upstream".to_owned()],
            "many-targets" => plan.targets = vec!["connect".to_owned(); 17],
            "absurd-charge" => plan.maximum_charge = u64::MAX,
            _ => {}
        }
        Ok(plan)
    }

    fn on_request(_request: Request) -> Verdict {
        Verdict::next()
    }
}

fn limit(name: &str) -> Limit {
    Limit { name: name.to_owned(), ..windows(vec![window("sec", 1, 1)]) }
}

fn windows(windows: Vec<Window>) -> Limit {
    Limit { name: "limit".to_owned(), subject: Subject::Everyone, across_pillars: false, windows }
}

fn window(name: &str, quota: u64, seconds: u32) -> Window {
    Window { name: name.to_owned(), quota, per: Period::Seconds(seconds) }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Unconfigurable with_types_in policy);
