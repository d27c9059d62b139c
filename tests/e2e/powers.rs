//! What policies may see and cause: everything that was granted, and nothing else.

use crate::harness::{Gateway, Origin, patched};
use serde_json::{Value, json};

/// A gateway whose pillar `connect` stands behind one chameleon.
pub fn chameleon(origin: &Origin, descriptor: Value, config: &Value, powers: &[&str], more: &str) -> Gateway {
    try_chameleon(origin, descriptor, config, powers, more).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`chameleon`], for those that are refused.
pub fn try_chameleon(
    origin: &Origin,
    mut descriptor: Value,
    config: &Value,
    powers: &[&str],
    more: &str,
) -> Result<Gateway, portico::server::StartError> {
    let defaults = json!({ "name": "chameleon", "version": "1.0.0", "summary": "Does as told." });
    for (name, value) in defaults.as_object().expect("an object") {
        descriptor.as_object_mut().expect("an object").entry(name).or_insert(value.clone());
    }
    let guest = if config.get("response").is_some() { "chameleon-response" } else { "chameleon" };
    let component = patched(guest, &descriptor);
    Gateway::try_start(&toml(origin, config, powers, more), &[("lizard", component)])
}

fn toml(origin: &Origin, config: &Value, powers: &[&str], more: &str) -> String {
    // A JSON document is not TOML, but each of its values can be written as one.
    let inline = inline(config);
    format!(
        "[defaults]\nchain = [\"lizard\"]\n[policies.lizard]\ninstance = \"pooled\"\ngrant.powers = {powers:?}\n{charge}config = {inline}\n{more}\n\
         [upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n\
         [[pillars.connect.routes]]\nname = \"open\"\npath = \"/open\"\nauth = \"none\"\n",
        origin.address,
        charge = if powers.contains(&"charge") { "grant.maximum_charge = \"1\"\n" } else { "" },
    )
}

/// JSON as an inline TOML value.
pub fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name:?} = {}", inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

const POWERS: [&str; 8] = ["deny", "respond", "forward", "rewrite-path", "take", "charge", "mint-token", "identify"];

#[test]
fn every_power_needs_its_grant() {
    let origin = Origin::echo();
    for power in POWERS {
        let refused = try_chameleon(&origin, json!({ "powers": [power] }), &json!({}), &[], "");
        let error = refused.err().unwrap_or_else(|| panic!("{power} was not refused")).to_string();
        assert!(error.contains("policies.lizard.grant.powers") && error.contains(&format!("`{power}`")), "{error}");
        chameleon(&origin, json!({ "powers": [power] }), &json!({}), &[power], "");
    }
}

#[test]
fn a_power_that_was_not_declared_is_not_there() {
    let origin = Origin::echo();
    let cases = [
        ("deny", json!({ "deny": "not-found" })),
        ("respond", json!({ "respond": { "status": 200, "body": "mine" } })),
        ("rewrite-path", json!({ "path": "/other" })),
        ("identify", json!({ "identity": { "org": "o", "subject": "s", "mode": "live", "scopes": ["connect"] } })),
        ("mint-token", json!({ "token": { "claims": [["a", "b"]] } })),
        ("forward", json!({ "forward": 0 })),
        ("take", json!({ "takes": [{ "limit": 0, "cost": 1 }] })),
        ("charge", json!({ "charges": [{ "basis": "request", "gas": 1, "max_units": 1 }] })),
    ];
    for (power, verdict) in cases {
        let gateway = chameleon(&origin, json!({}), &json!({ "request": verdict }), &[], "");
        let answer = gateway.get("/v1/connect/open").send();
        assert_eq!((answer.status, answer.error().as_str()), (503, "policy_unavailable"), "{power}");
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_plan_needs_the_powers_that_it_is_for() {
    let origin = Origin::echo();
    let limit = json!({ "name": "a", "subject": "everyone", "windows": [["sec", 1, 1]] });
    for (power, plan, wrong) in [
        ("take", json!({ "limits": [limit] }), "its plan has limits, and it did not declare the power `take`"),
        (
            "forward",
            json!({ "targets": ["origin"] }),
            "its plan has upstreams, and it did not declare the power `forward`",
        ),
        ("charge", json!({ "maximum_charge": 1 }), "its plan charges, and it did not declare the power `charge`"),
    ] {
        // All is granted: what is missing is the declaration.
        let start =
            |powers: Value| try_chameleon(&origin, json!({ "powers": powers }), &json!({ "plan": plan }), &POWERS, "");
        let refused = start(json!([])).err().unwrap_or_else(|| panic!("{power} was not refused")).to_string();
        assert!(refused.contains(&format!("policies.lizard.config: {wrong}")), "{power}: {refused}");
        assert!(start(json!([power])).is_ok(), "{power}");
    }
}

#[test]
fn fields_are_read_and_written_only_as_declared() {
    let origin = Origin::echo();
    for field in ["authorization", "cookie", "set-cookie", "proxy-authorization", "*"] {
        let refused = try_chameleon(&origin, json!({ "reads": [field] }), &json!({}), &[], "");
        let error = refused.err().unwrap_or_else(|| panic!("{field} was not refused")).to_string();
        assert!(error.contains("policies.lizard.grant.reads") && error.contains(&format!("`{field}`")), "{error}");
    }
    for (list, field) in [
        ("request_writes", "X-Upper"),
        ("request_writes", "not a field"),
        ("request_writes", "*"),
        ("reads", "Accept"),
        ("reads", ""),
    ] {
        let refused = try_chameleon(&origin, json!({ list: [field] }), &json!({}), &[], "");
        let error = refused.err().unwrap_or_else(|| panic!("{field} was not refused")).to_string();
        assert!(error.contains("policies.lizard.plugin"), "{list} {field:?}: {error}");
    }
    let seen = json!({ "request": { "echo": { "edit": 0 } } });
    let descriptor = json!({ "reads": ["x-one", "x-two"], "request_writes": ["x-seen"] });
    let gateway = chameleon(&origin, descriptor, &seen, &[], "");
    let answer = gateway
        .get("/v1/connect/open?q=1")
        .field("x-two", "b")
        .field("x-one", "a")
        .field("x-one", [0xff, b'z'])
        .field("x-three", "c")
        .field("cookie", "secret=1")
        .send();
    let echoed = answer.json()["fields"].as_array().unwrap().iter().find(|f| f[0] == "x-seen").expect("it")[1].clone();
    let facts: Value = serde_json::from_str(echoed.as_str().unwrap()).expect("JSON");
    assert_eq!(facts["fields"], json!([[0, "a"], [0, [255, 122]], [1, "b"]]), "bytes, several, by position");
    for fact in ["path", "query", "credential", "principal", "client_address", "request_id", "seed", "other_fields"] {
        assert_eq!(facts[fact], Value::Null, "{fact} was not subscribed");
    }
}

#[test]
fn fields_of_the_gateway_itself_are_never_written() {
    let origin = Origin::echo();
    let fields = [
        "connection",
        "content-length",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-portico-assertion",
        "x-portico-gas",
        "x-real-ip",
        "x-request-id",
    ];
    let descriptor = json!({ "request_writes": fields, "response_writes": fields });
    let refused = try_chameleon(&origin, descriptor, &json!({}), &[], "").err().expect("refused").to_string();
    for list in ["request-writes", "response-writes"] {
        for field in fields {
            let wrong = format!("its {list} name `{field}`, which only the gateway writes");
            assert!(refused.contains(&wrong), "wanted {wrong:?}: {refused}");
        }
    }
}

#[test]
fn cookies_of_a_response_are_read_only_under_a_grant() {
    let origin = Origin::echo();
    let descriptor = json!({ "response_reads": ["set-cookie"], "response_writes": ["x-seen"] });
    let config = json!({ "response": { "echo": { "response_edit": 0 } } });
    let refused = try_chameleon(&origin, descriptor.clone(), &config, &[], "").err().expect("refused").to_string();
    assert!(refused.contains("policies.lizard.grant.reads: "), "{refused}");
    assert!(refused.contains("wants to read `set-cookie` (response-reads), which is not granted"), "{refused}");
    let gateway = chameleon(&origin, descriptor, &config, &[], "grant.reads = [\"set-cookie\"]");
    let answer = gateway.get("/v1/connect/open").send();
    let seen: Value = serde_json::from_str(answer.field("x-seen").expect("the facts")).expect("JSON");
    assert_eq!(seen["fields"], json!([[0, "a=1"], [0, "b=2"]]));
}

#[test]
fn star_never_covers_credentials() {
    let origin = Origin::echo();
    let config = json!({ "request": { "echo": { "edit": 0 } } });
    let descriptor = json!({ "reads": ["*"], "request_writes": ["x-seen"] });
    let gateway = chameleon(&origin, descriptor, &config, &[], "grant.reads = [\"*\"]");
    let answer =
        gateway.get("/v1/connect/open").field("x-a", "1").field("cookie", "s=1").field("authorization", "odd").send();
    let text = answer.text();
    assert!(text.contains("x-a"), "{text}");
    let echoed = answer.json()["fields"].as_array().unwrap().iter().find(|f| f[0] == "x-seen").expect("it")[1].clone();
    assert!(!echoed.as_str().unwrap().contains("s=1") && !echoed.as_str().unwrap().contains("odd"), "{echoed}");
}

#[test]
fn powers_do_what_they_say() {
    let origin = Origin::echo();
    let other = Origin::echo();
    let more = format!("[upstreams.other]\nendpoints = [\"http://{}\"]\n", other.address);
    let config = json!({
        "plan": { "targets": ["other"] },
        "by_field": {
            "deny": { "deny": { "status": 418, "code": "teapot", "message": "Short and stout." } },
            "respond": { "respond": { "status": 203, "fields": [["x-a", "1"], ["x-a", "2"]], "body": "mine" } },
            "forward": { "forward": 0, "path": "/else/where" },
            "edit": { "edits": [{ "set": [0, "new"] }, { "append": [0, "more"] }], "response_edits": [{ "set": [0, "seen"] }] },
            "identify": { "identity": { "org": "org_x", "subject": "user-7", "mode": "live", "scopes": ["connect", "pay"] },
                          "token": { "audience": "special", "claims": [["plan", "gold"]] } },
        },
    });
    let descriptor = json!({
        "powers": ["deny", "respond", "forward", "rewrite-path", "identify", "mint-token"], "reads": ["x-case"],
        "request_writes": ["x-word"], "response_writes": ["x-mark"],
    });
    let powers = ["deny", "respond", "forward", "rewrite-path", "identify", "mint-token"];
    let grant = format!("grant.scopes = [\"connect\"]\n{more}");
    let gateway = chameleon(&origin, descriptor, &config, &powers, &grant);
    let ask = |path: &str, case: &str| gateway.get(path).field("x-case", case).field("x-word", "old").send();

    let denied = ask("/v1/connect/open", "deny");
    assert_eq!((denied.status, denied.error().as_str()), (418, "teapot"));
    let answered = ask("/v1/connect/open", "respond");
    assert_eq!((answered.status, answered.text().as_str()), (203, "mine"));
    assert_eq!(answered.values("x-a"), ["1", "2"]);
    assert_eq!((origin.requests(), other.requests()), (0, 0));
    assert_eq!(ask("/v1/connect/open", "forward").json()["target"], "/else/where");
    assert_eq!((origin.requests(), other.requests()), (0, 1));
    let edited = ask("/v1/connect/open", "edit");
    assert_eq!(edited.field("x-mark"), Some("seen"));
    let text = edited.text();
    assert!(text.contains(r#"["x-word","new"],["x-word","more"]"#), "{text}");
    let identified = ask("/v1/connect/closed", "identify");
    assert_eq!(identified.status, 200, "{}", identified.text());
    let fields = identified.json();
    let token = fields["fields"].as_array().unwrap().iter().find(|f| f[0] == "x-portico-assertion").expect("one");
    let jwks = gateway.get("/.well-known/jwks.json").send().json();
    let claims = crate::data_path::verified(token[1].as_str().unwrap(), &jwks);
    assert_eq!((claims["aud"].as_str(), claims["plan"].as_str()), (Some("special"), Some("gold")));
    assert_eq!(
        (claims["sub"].as_str(), claims["scope"].as_str()),
        (Some("user-7"), Some("connect")),
        "within the grant"
    );
    assert_eq!(ask("/v1/connect/closed", "none").status, 401);
    let sandbox = gateway.issue(json!({ "name": "s", "mode": "sandbox", "scopes": ["connect"] })).1;
    let vouched = gateway.get("/v1/connect/closed").key(&sandbox).field("x-case", "identify").send();
    assert_eq!(vouched.error(), "sandbox_not_available", "a sandbox key stays one, whoever vouches for its bearer");
}

#[test]
fn an_early_end_keeps_only_the_takes_marked_always() {
    let origin = Origin::echo();
    let limit = |name: &str| json!({ "name": name, "subject": "address", "across_pillars": false, "windows": [["hour", 2, 3600]] });
    let config = json!({
        "plan": { "limits": [limit("usual"), limit("always")] },
        "by_field": {
            "usual": { "deny": "not-found", "takes": [{ "limit": 0, "cost": 1 }] },
            "always": { "deny": "not-found", "takes": [{ "limit": 1, "cost": 1, "always": true }] },
        },
    });
    let descriptor = json!({ "powers": ["deny", "take"], "reads": ["x-case"] });
    let gateway = chameleon(&origin, descriptor, &config, &["deny", "take"], "");
    let ask = |case: &str| gateway.get("/v1/connect/open").field("x-case", case).send().status;
    assert!((0..10).all(|_| ask("usual") == 404), "a denied call costs nothing");
    assert_eq!([ask("always"), ask("always"), ask("always")], [404, 404, 429]);
}

#[test]
fn response_policies_run_in_reverse_and_on_refusals_too() {
    let origin = Origin::echo();
    let append = |word: &str| json!({ "response": { "edits": [{ "append": [0, word] }] } });
    let component = patched(
        "chameleon-response",
        &json!({ "name": "c", "version": "1.0.0", "summary": "", "response_writes": ["x-order"] }),
    );
    let toml = format!(
        "[defaults]\nchain = [\"first\", \"second\", \"key-auth\"]\n\
         [policies.first]\nplugin = \"c\"\ninstance = \"pooled\"\nconfig = {}\n\
         [policies.second]\nplugin = \"c\"\ninstance = \"pooled\"\nconfig = {}\n\
         [policies.key-auth]\ninstance = \"pooled\"\ngrant.powers = [\"deny\"]\n",
        inline(&append("first")),
        inline(&append("second")),
    );
    let toml = format!(
        "{toml}[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n",
        origin.address
    );
    let gateway = Gateway::start_with(&toml, &[("c", component)]);
    let key = gateway.key(&["connect"]);
    let passed = gateway.get("/v1/connect/x").key(&key).send();
    assert_eq!(passed.values("x-order"), ["second", "first"]);
    let refused = gateway.get("/v1/connect/x").send();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.values("x-order"), ["second", "first"]);
}

#[test]
fn the_pillar_plugin_sends_a_share_of_the_keys_elsewhere() {
    let (stable, canary) = (Origin::echo(), Origin::echo());
    let toml = format!(
        "[policies.canary]\ngrant.powers = [\"forward\", \"rewrite-path\"]\n\
         config = {{ upstreams = [{{ name = \"stable\", weight = 0 }}, {{ name = \"next\", weight = 1 }}] }}\n\
         [upstreams.stable]\nendpoints = [\"http://{}\"]\n[upstreams.next]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"stable\"\nchain = [\"canary\"]\n",
        stable.address, canary.address
    );
    let gateway = Gateway::start(&toml);
    let key = gateway.key(&["connect"]);
    let answer = gateway.get("/v1/connect/x").key(&key).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("x-canary"), "{}", answer.text());
    assert_eq!((stable.requests(), canary.requests()), (0, 1));
}

#[test]
fn the_policy_of_the_readme_works() {
    let origin = Origin::echo();
    let toml = "[defaults]\nchain = [\"hello\"]\n[policies.hello]\nconfig = { word = \"good morning\" }\n";
    let gateway = Gateway::with(&origin, toml);
    let key = gateway.key(&["connect"]);
    let answer = gateway.get("/v1/connect/x").key(&key).send();
    assert!(answer.text().contains(r#"["x-hello","good morning"]"#), "{}", answer.text());
}
