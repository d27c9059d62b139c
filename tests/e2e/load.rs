//! What is refused when it is loaded, each with the reason and the key path; and that nothing is half loaded.

use crate::harness::{Gateway, Origin, guest, patched};
use crate::powers::{chameleon, try_chameleon};
use serde_json::{Value, json};

fn toml(origin: &Origin, plugin: &str, more: &str) -> String {
    format!(
        "[policies.odd]\nplugin = \"{plugin}\"\n{more}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"odd\"]\n",
        origin.address
    )
}

fn refused(origin: &Origin, name: &str, bytes: Vec<u8>, more: &str) -> String {
    match Gateway::try_start(&toml(origin, name, more), &[(name, bytes)]) {
        Ok(_) => panic!("{name} was not refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn odd_bytes_are_refused_by_name() {
    let origin = Origin::echo();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let mut cut = guest("hello");
    cut.truncate(cut.len() / 2);
    for (bytes, reason) in [
        (b"garbage".to_vec(), "not WebAssembly"),
        (Vec::new(), "empty"),
        (core_module, "core module"),
        (b"\0asm\x0d\0\x01\0garbage".to_vec(), "does not compile"),
        (cut, "does not compile"),
        (guest("other-world"), "another world"),
        (guest("world-0-2"), "0.2.0"),
        (guest("imports-unknown"), "imports `"),
        (importing("wasi:http/outgoing-handler@0.2.0"), HTTP),
        (importing("wasi:http/types@0.2.9"), "ask through the capability `outbound`"),
        (
            importing("other:http/types@0.2.0"),
            "it imports `other:http/types@0.2.0`, which a policy cannot have; there are ",
        ),
        (guest("hostile-describe"), "could not be asked"),
        (guest("forgetful"), "differently"),
    ] {
        let error = refused(&origin, "thing", bytes, "");
        assert!(error.contains("policies.odd.plugin") && error.contains(reason), "wanted {reason:?}: {error}");
        assert!(error.contains("thing.wasm"), "{error}");
    }
}

/// What somebody reads who built a policy for WASI as it comes.
const HTTP: &str = "it imports `wasi:http/outgoing-handler@0.2.0`, which a policy cannot have; build it without, and ask through \
    the capability `outbound`";

/// A component that has nothing but an import: an instance of this name, in which is nothing.
fn importing(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("short");
    let empty_instance_type = [7, 3, 1, 0x42, 0];
    let import = [&[10, length + 5, 1, 0, length][..], name.as_bytes(), &[5, 0]].concat();
    [b"\0asm\x0d\0\x01\0".as_slice(), &empty_instance_type, &import].concat()
}

#[test]
fn capabilities_need_a_grant() {
    let origin = Origin::echo();
    for (plugin, capability) in [("keeps", "store"), ("asks", "outbound")] {
        let error = refused(&origin, plugin, guest(plugin), "");
        let wanted = format!(
            "policies.odd.grant.{capability}: the plugin `{plugin}` wants the capability `{capability}`, which is not granted"
        );
        assert!(error.contains(&wanted), "wanted {wanted:?}: {error}");
    }
}

#[test]
fn a_plugin_that_is_not_there_is_named_with_what_is() {
    let origin = Origin::echo();
    let toml = format!(
        "[policies.key-auht]\ngrant.powers = [\"deny\"]\n[upstreams.o]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"o\"\n",
        origin.address
    );
    let error = Gateway::try_start(&toml, &[]).err().expect("refused").to_string();
    assert!(error.contains("key-auht.wasm") && error.contains("did you mean `key-auth`?"), "{error}");
}

#[test]
fn hostile_plans_are_refused() {
    let origin = Origin::echo();
    for (behaviour, reason) in [
        ("loop", "the policy could not be configured: it used up its fuel"),
        ("panic", "the policy could not be configured: it trapped"),
        ("eat-memory", "the policy could not be configured: it trapped"),
        ("no-reason", "the policy refused it and gave no reason"),
        ("million-diagnostics", "the policy could not be configured: it trapped"),
        ("bad-pointer", "policies.odd.config: No."),
        ("bad-utf8", "the policy could not be configured: its answer could not be read"),
        ("many-scopes", "its plan names 65 scopes; 64 are possible"),
        ("many-limits", "its plan names 9 limits; 8 are possible"),
        ("same-limits", "its plan names the limit \"twice\" twice"),
        ("bad-limit-name", r#"the limit "Per Key\r\n" needs a name of 1 to 64 of a-z, 0-9, - and _"#),
        ("no-windows", "the limit \"limit\" has 0 windows; 1 to 4 are possible"),
        ("many-windows", "the limit \"limit\" has 5 windows; 1 to 4 are possible"),
        ("zero-quota", "the limit \"limit\" has a window with a quota of 0; at least 1"),
        ("zero-period", "the limit \"limit\" has a window of 0 s; 1 to 86,400 are possible"),
        ("long-period", "the limit \"limit\" has a window of 86401 s; 1 to 86,400 are possible"),
        ("bad-window-name", "the limit \"limit\" has a window whose name is not 1 to 32 of a-z, 0-9, - and _"),
        ("unknown-target", "wants to forward to `no-such-upstream`, and there is no [upstreams.no-such-upstream]"),
        ("many-targets", "its plan names 17 upstreams; 16 are possible"),
        ("absurd-charge", "its plan charges up to 18446744073709551615 millionths of a token for one request"),
    ] {
        // With so much fuel, only the bound on memory is left for those who take memory.
        let bounds = match behaviour {
            "eat-memory" | "million-diagnostics" => "fuel = 10000000000\n",
            _ => "",
        };
        // The targets of `many-targets` are all there: what is wrong with them is their number.
        let more = format!(
            "{bounds}grant.powers = [\"take\", \"charge\", \"forward\"]\ngrant.maximum_charge = \"1\"\n\
             config = {{ behaviour = \"{behaviour}\" }}\n[upstreams.connect]\nendpoints = [\"http://{}\"]",
            origin.address
        );
        let error = refused(&origin, "hostile-configure", guest("hostile-configure"), &more);
        let told: Vec<&str> = error.lines().filter(|line| line.contains("policies.odd.config")).collect();
        assert!(told.len() == 1 && told[0].contains(reason), "{behaviour}: wanted {reason:?} alone:\n{error}");
    }
}

/// Nobody waits for a load: what it takes does not decide whether a component can be used, as it does for a call.
#[test]
fn a_load_has_time_for_an_instance_that_begins_late() {
    let origin = Origin::echo();
    // Fresh ones would begin configured a second later, and no longer late.
    let bounds = "fuel = 10000000000\ndeadline = \"5ms\"\nquarantine = false\ninstance = \"pooled\"\n";
    let route = "[[pillars.connect.routes]]\npath = \"/{*rest}\"\nauth = \"none\"\n";
    let gateway = Gateway::start(&(toml(&origin, "late", bounds) + route));
    let answer = gateway.get("/v1/connect/x").send();
    assert_eq!((answer.status, answer.error().as_str()), (503, "policy_unavailable"));
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    assert_eq!(policies["policies"][0]["failures"], json!({ "past_deadline": 1 }));
}

#[test]
fn what_configure_says_is_bounded() {
    let origin = Origin::echo();
    let refused = |diagnostics: Value, more: &str| {
        let refused = try_chameleon(&origin, json!({}), &json!({ "diagnostics": diagnostics }), &[], more);
        refused.err().expect("refused").to_string()
    };
    let long = json!([["", "x".repeat(5000)]]);
    let error = refused(long.clone(), "copied_out = \"4KiB\"");
    assert!(error.contains("policies.lizard.config: the policy could not be configured: its answer could not be read"));
    assert!(refused(long, "copied_out = \"8KiB\"").contains(&"x".repeat(5000)));
    let many: Vec<_> = (0..65).map(|number| json!([format!("/{number}"), "No."])).collect();
    let error = refused(many.into(), "");
    let told: Vec<&str> = error.lines().filter(|line| line.ends_with(": No.")).collect();
    assert_eq!(told.len(), 64, "{error}");
    assert!(told[63].ends_with("policies.lizard.config[63]: No."), "{error}");
}

/// Odd, and no harm: a scope without a name is one that nobody holds, not even a key with all scopes.
#[test]
fn an_empty_scope_is_held_by_nobody() {
    let origin = Origin::echo();
    let more = "grant.powers = [\"take\", \"charge\", \"forward\"]\ngrant.maximum_charge = \"1\"\n\
                config = { behaviour = \"empty-scope\" }";
    let gateway = Gateway::start(&toml(&origin, "hostile-configure", more));
    assert_eq!(gateway.get("/v1/connect/x").key(&gateway.key(&["connect"])).send().status, 200);

    let descriptor = json!({ "facts": ["credential"], "response_writes": ["x-seen"] });
    let config = json!({ "plan": { "scopes": ["", "connect"] }, "request": { "echo": { "response_edit": 0 } } });
    let gateway = chameleon(&origin, descriptor, &config, &[], "");
    let key = gateway.issue(json!({ "name": "all", "mode": "live", "all_scopes": true })).1;
    let answer = gateway.get("/v1/connect/x").key(&key).send();
    let seen: Value = serde_json::from_str(answer.field("x-seen").expect("the facts")).expect("JSON");
    assert_eq!(seen["credential"], json!({ "mode": "live", "scopes": 0b10 }));
}

#[test]
fn a_mode_for_bodies_without_its_functions_is_refused() {
    let origin = Origin::echo();
    for key in ["request_body", "response_body"] {
        let descriptor = json!({ "name": "c", "version": "1.0.0", "summary": "", key: "inspect" });
        let error = refused(&origin, "c", patched("chameleon", &descriptor), "");
        assert!(error.contains(&format!("and has no on-{}", key.replace('_', "-"))), "{error}");
    }
}

#[test]
fn all_mistakes_in_a_policys_configuration_come_at_once() {
    let origin = Origin::echo();
    let toml = format!(
        "[policies.rate-limit]\ngrant.powers = [\"take\"]\n\
         [[policies.rate-limit.config.limits]]\nname = \"a\"\nsubjekt = \"key\"\nsubject = \"kee\"\n\
         windows = [{{ name = \"sec\", quota = \"many\", per = \"1s\" }}]\n\
         [policies.gas]\ngrant.powers = [\"deny\"]\n[policies.gas.config]\ndefalt = {{ gas = \"1\" }}\n\
         [upstreams.o]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"o\"\nchain = [\"rate-limit\", \"gas\"]\n",
        origin.address
    );
    let error = Gateway::try_start(&toml, &[]).err().expect("refused").to_string();
    for part in [
        "policies.rate-limit.config.limits[0].subjekt: unknown key; did you mean `subject`?",
        "policies.rate-limit.config.limits[0].subject",
        "policies.rate-limit.config.limits[0].windows[0].quota",
        "policies.gas.grant.powers: the plugin `gas` wants the power `charge`",
        "policies.gas.config.defalt: unknown key; did you mean `default`?",
    ] {
        assert!(error.contains(part), "wanted {part:?} in:\n{error}");
    }
}

#[test]
fn failing_open_is_refused_for_powers_that_guard() {
    let origin = Origin::echo();
    for power in ["deny", "identify", "take", "charge"] {
        let descriptor = json!({ "name": "c", "version": "1.0.0", "summary": "", "powers": [power] });
        let more = format!("failure = \"open\"\ngrant.powers = [\"{power}\"]");
        let error = refused(&origin, "c", patched("chameleon", &descriptor), &more);
        assert!(error.contains("policies.odd") && error.contains("open"), "{power}: {error}");
    }
}
