//! The rules of a chain: what policies get to know of each other, and what of all their verdicts holds in the end.

use crate::harness::{Answer, Collector, Gateway, Origin, patched};
use crate::powers::inline;
use serde_json::{Value, json};

/// A policy of a chain: a chameleon that does what it is told, case by case.
struct Link {
    policy: &'static str,
    guest: &'static str,
    descriptor: Value,
    config: Value,
    failure: &'static str,
}

impl Link {
    /// It declares this, and is granted the powers that it declares. The first field that it reads is `x-case`.
    fn new(policy: &'static str, mut descriptor: Value, config: Value) -> Self {
        // One name for all: whatever tells two of them apart is the name of the policy.
        for (name, value) in [("name", "chameleon"), ("version", "1.0.0"), ("summary", "Does as told.")] {
            descriptor[name] = value.into();
        }
        if descriptor.get("reads").is_none() {
            descriptor["reads"] = json!(["x-case"]);
        }
        Self { policy, guest: "chameleon", descriptor, config, failure: "closed" }
    }

    /// Takes part in the response phase.
    fn with_response_phase(mut self) -> Self {
        self.guest = "chameleon-response";
        self
    }

    fn failing_open(mut self) -> Self {
        self.failure = "open";
        self
    }

    fn toml(&self) -> String {
        let powers = self.descriptor.get("powers").map_or("[]".to_owned(), inline);
        format!(
            "[policies.{name}]\ninstance = \"pooled\"\ndeadline = \"10s\"\nfailure = \"{failure}\"\n\
             grant.powers = {powers}\nconfig = {config}\n",
            name = self.policy,
            failure = self.failure,
            config = inline(&self.config)
        )
    }
}

/// A gateway whose pillar `connect` stands behind these policies, in this order. `/open/…` needs no key.
fn gateway(origin: &Origin, chain: &[Link], more: &str) -> Gateway {
    let names: Vec<&str> = chain.iter().map(|link| link.policy).collect();
    let policies: String = chain.iter().map(Link::toml).collect();
    let toml = format!(
        "[defaults]\nchain = {names:?}\n{policies}{more}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\n\
         [[pillars.connect.routes]]\nname = \"open\"\npath = \"/open/{{*rest}}\"\nauth = \"none\"\n",
        origin.address
    );
    let components: Vec<_> = chain.iter().map(|link| (link.policy, patched(link.guest, &link.descriptor))).collect();
    Gateway::start_with(&toml, &components)
}

/// Asks for `/open/x` in one case.
fn ask(gateway: &Gateway, case: &str) -> Answer {
    let answer = gateway.get("/v1/connect/open/x?q=1").field("x-case", case).send();
    assert_eq!(answer.status, 200, "{case}: {}", answer.text());
    answer
}

/// The values of a field in the request that the upstream got, from what the origin answers.
fn upstream_saw(answer: &Answer, field: &str) -> Vec<String> {
    let document = answer.json();
    let fields: Vec<(String, String)> = serde_json::from_value(document["fields"].clone()).expect("pairs");
    fields.into_iter().filter(|(name, _)| name == field).map(|(_, value)| value).collect()
}

/// The facts that a chameleon told in this field of the response.
fn told(answer: &Answer, field: &str) -> Value {
    let facts = answer.field(field).unwrap_or_else(|| panic!("no {field}: {answer:?}"));
    serde_json::from_str(facts).expect("JSON")
}

fn failures(gateway: &Gateway, policy: &str) -> Value {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    let policies = list["policies"].as_array().expect("policies");
    policies.iter().find(|shown| shown["policy"] == policy).expect("the policy")["failures"].clone()
}

#[test]
fn notes_are_seen_by_later_policies_and_signed_with_the_authors_name() {
    let origin = Origin::echo();
    let link = |policy, notes: Value, seen: u32| {
        let descriptor = json!({ "facts": ["notes"], "response_writes": ["x-first", "x-second", "x-third"] });
        Link::new(policy, descriptor, json!({ "request": { "notes": notes, "echo": { "response_edit": seen } } }))
    };
    let deaf = Link::new(
        "deaf",
        json!({ "response_writes": ["x-deaf"] }),
        json!({ "request": { "echo": { "response_edit": 0 } } }),
    );
    let chain = [
        link("first", json!([["tier", "gold"]]), 0),
        link("second", json!([["tier", "silver"], ["room", "lobby"]]), 1),
        link("third", json!([]), 2),
        deaf,
    ];
    let gateway = gateway(&origin, &chain, "");
    // Twice: what was noted of one request is not known of the next.
    for _ in 0..2 {
        let answer = ask(&gateway, "all");
        assert_eq!(told(&answer, "x-first")["notes"], json!([]), "its own are not told to itself");
        assert_eq!(told(&answer, "x-second")["notes"], json!([["first", "tier", "gold"]]));
        let all = json!([["first", "tier", "gold"], ["second", "tier", "silver"], ["second", "room", "lobby"]]);
        assert_eq!(told(&answer, "x-third")["notes"], all, "in chain order; one name from two authors is two notes");
        assert_eq!(told(&answer, "x-deaf")["notes"], Value::Null, "not subscribed");
    }
}

#[test]
fn edits_of_the_request_are_invisible_to_later_policies() {
    let origin = Origin::echo();
    let editor = Link::new(
        "editor",
        json!({ "powers": ["rewrite-path"], "request_writes": ["x-set", "x-gone", "x-more"] }),
        json!({ "request": {
            "path": "/else/where",
            "edits": [{ "set": [0, "edited"] }, { "remove": 1 }, { "append": [2, "edited"] }],
        } }),
    );
    let reader = Link::new(
        "reader",
        json!({ "facts": ["path", "query"], "reads": ["x-set", "x-gone", "x-more"], "response_writes": ["x-seen"] }),
        json!({ "request": { "echo": { "response_edit": 0 } } }),
    );
    let gateway = gateway(&origin, &[editor, reader], "");
    let call = gateway.get("/v1/connect/open/x?q=1").field("x-set", "sent").field("x-gone", "sent");
    let answer = call.send();
    assert_eq!(answer.json()["target"], "/else/where?q=1");
    let upstream = ["x-set", "x-gone", "x-more"].map(|field| upstream_saw(&answer, field));
    assert_eq!(upstream, [vec!["edited"], vec![], vec!["edited"]], "the edits were made");
    let facts = told(&answer, "x-seen");
    assert_eq!(facts["fields"], json!([[0, "sent"], [1, "sent"]]), "as the client sent them");
    assert_eq!((&facts["path"], &facts["query"]), (&json!("/v1/connect/open/x"), &json!("q=1")));
}

#[test]
fn policies_see_the_trace_that_the_client_sent() {
    let (origin, collector) = (Origin::echo(), Collector::start());
    let reader = Link::new(
        "reader",
        json!({ "reads": ["traceparent", "tracestate"], "response_writes": ["x-seen"] }),
        json!({ "request": { "echo": { "response_edit": 0 } } }),
    );
    let traces = format!("[telemetry.traces]\nendpoint = \"http://{}\"\n", collector.address);
    let gateway = gateway(&origin, &[reader], &traces);
    let parent = "00-12345678901234567890123456789012-1234567890123456-01";
    let call = gateway.get("/v1/connect/open/x").field("traceparent", parent).field("traceparent", parent);
    let answer = call.field("tracestate", "A=1").send();
    let facts = told(&answer, "x-seen");
    assert_eq!(facts["fields"], json!([[0, parent], [0, parent], [1, "A=1"]]), "also what is not believed");
    let upstream = ["traceparent", "tracestate"].map(|field| upstream_saw(&answer, field));
    assert_eq!((upstream[0].len(), upstream[0] == [parent], upstream[1].len()), (1, false, 0));
}

#[test]
fn edits_of_the_response_are_invisible_to_the_policies_asked_after() {
    let origin = Origin::echo();
    // In the response phase the last of the chain is asked first.
    let reader = Link::new(
        "reader",
        json!({ "response_reads": ["content-type", "x-more"], "response_writes": ["x-seen"] }),
        json!({ "response": { "echo": { "response_edit": 0 } } }),
    );
    let editor = Link::new(
        "editor",
        json!({ "response_writes": ["content-type", "x-more"] }),
        json!({
            "request": { "response_edits": [{ "append": [1, "decided"] }] },
            "response": { "edits": [{ "set": [0, "text/plain"] }, { "append": [1, "thought"] }] },
        }),
    );
    let gateway = gateway(&origin, &[reader.with_response_phase(), editor.with_response_phase()], "");
    let answer = ask(&gateway, "edit");
    assert_eq!(
        (answer.values("content-type"), answer.values("x-more")),
        (vec!["text/plain"], vec!["decided", "thought"])
    );
    assert_eq!(told(&answer, "x-seen")["fields"], json!([[0, "application/json"]]), "as the upstream sent them");
}

#[test]
fn the_last_forward_wins() {
    let (origin, one, two) = (Origin::echo(), Origin::echo(), Origin::echo());
    let more = format!(
        "[upstreams.one]\nendpoints = [\"http://{}\"]\n[upstreams.two]\nendpoints = [\"http://{}\"]\n",
        one.address, two.address
    );
    let link = |policy, target: &str, cases: [&str; 2]| {
        let [one, other] = cases;
        let forward = json!({ "forward": 0 });
        let config = json!({ "plan": { "targets": [target] }, "by_field": { one: forward, other: forward } });
        Link::new(policy, json!({ "powers": ["forward"] }), config)
    };
    let chain = [link("first", "one", ["first", "both"]), link("second", "two", ["second", "both"])];
    let gateway = gateway(&origin, &chain, &more);
    for (case, expected) in [
        ("none", [1, 0, 0]),
        // The `next` of the second takes nothing back.
        ("first", [0, 1, 0]),
        ("second", [0, 0, 1]),
        ("both", [0, 0, 1]),
    ] {
        let counts = || [&origin, &one, &two].map(Origin::requests);
        let before = counts();
        ask(&gateway, case);
        let after = counts();
        assert_eq!([0, 1, 2].map(|which| after[which] - before[which]), expected, "{case}");
    }
}

#[test]
fn the_last_rewritten_path_wins() {
    let origin = Origin::echo();
    let link = |policy: &'static str| {
        let path = json!({ "path": format!("/from/{policy}") });
        let config = json!({ "by_field": { policy: path, "both": path } });
        Link::new(policy, json!({ "powers": ["rewrite-path"] }), config)
    };
    let gateway = gateway(&origin, &[link("first"), link("second")], "");
    for (case, expected) in [
        ("none", "/open/x?q=1"),
        ("first", "/from/first?q=1"),
        ("second", "/from/second?q=1"),
        ("both", "/from/second?q=1"),
    ] {
        assert_eq!(ask(&gateway, case).json()["target"], expected, "{case}");
    }
}

/// Each of the four fields ends differently in any other order.
#[test]
fn edits_of_the_request_apply_in_chain_order() {
    let origin = Origin::echo();
    let writes = json!({ "request_writes": ["x-both", "x-more", "x-gone", "x-back"] });
    let link = |policy, edits: Value| Link::new(policy, writes.clone(), json!({ "request": { "edits": edits } }));
    let chain = [
        link(
            "first",
            json!([{ "set": [0, "first"] }, { "append": [1, "first"] }, { "set": [2, "first"] }, { "remove": 3 }]),
        ),
        link(
            "second",
            json!([{ "set": [0, "second"] }, { "append": [1, "second"] }, { "remove": 2 }, { "append": [3, "second"] }]),
        ),
    ];
    let gateway = gateway(&origin, &chain, "");
    let mut call = gateway.get("/v1/connect/open/x");
    for field in ["x-both", "x-more", "x-gone", "x-back"] {
        call = call.field(field, "client");
    }
    let answer = call.send();
    assert_eq!(upstream_saw(&answer, "x-both"), ["second"]);
    assert_eq!(upstream_saw(&answer, "x-more"), ["client", "first", "second"]);
    assert_eq!(upstream_saw(&answer, "x-gone"), [""; 0]);
    assert_eq!(upstream_saw(&answer, "x-back"), ["second"]);
}

/// With and without policies that take part in the response phase, and on a refusal too.
#[test]
fn edits_of_the_response_that_decisions_asked_for_apply_in_reverse_order() {
    let origin = Origin::echo();
    let descriptor = json!({
        "powers": ["deny"], "reads": ["x-case"], "response_writes": ["x-both", "x-more", "x-gone", "set-cookie"],
    });
    let first = json!([
        { "set": [0, "first"] }, { "append": [1, "first"] }, { "remove": 2 }, { "append": [3, "first=1"] },
    ]);
    let second = json!([
        { "set": [0, "second"] }, { "append": [1, "second"] }, { "set": [2, "second"] }, { "remove": 3 },
    ]);
    for response_phase in [false, true] {
        let link = |policy, edits: &Value| {
            let edits = json!({ "response_edits": edits });
            let mut refusal = edits.clone();
            if policy == "second" {
                refusal["deny"] = "not-found".into();
            }
            let config = json!({ "request": edits, "by_field": { "deny": refusal } });
            let link = Link::new(policy, descriptor.clone(), config);
            if response_phase { link.with_response_phase() } else { link }
        };
        let gateway = gateway(&origin, &[link("first", &first), link("second", &second)], "");
        for (case, status) in [("pass", 200), ("deny", 404)] {
            let answer = gateway.get("/v1/connect/open/x").field("x-case", case).send();
            let shown = format!("{case}, response phase: {response_phase}");
            assert_eq!(answer.status, status, "{shown}");
            assert_eq!(answer.values("x-both"), ["first"], "{shown}");
            assert_eq!(answer.values("x-more"), ["second", "first"], "{shown}");
            assert_eq!(answer.values("x-gone"), [""; 0], "{shown}");
            assert_eq!(answer.values("set-cookie"), ["first=1"], "{shown}");
        }
    }
}

#[test]
fn a_policy_that_fails_open_contributes_nothing_and_the_others_stand() {
    let (origin, elsewhere) = (Origin::echo(), Origin::echo());
    let more = format!("[upstreams.elsewhere]\nendpoints = [\"http://{}\"]\n", elsewhere.address);
    let marked = |more: Value| {
        let mut answer = json!({
            "edits": [{ "append": [0, "MARK"] }], "response_edits": [{ "append": [0, "MARK"] }],
            "notes": [["mark", "MARK"]],
        });
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        answer
    };
    let link = |policy: &'static str, powers: Value, config: Value| {
        let descriptor = json!({
            "facts": ["notes"], "powers": powers, "reads": ["x-case"],
            "request_writes": ["x-mark", "x-seen"], "response_writes": ["x-mark"],
        });
        let config = config.to_string().replace("MARK", policy);
        Link::new(policy, descriptor, serde_json::from_str(&config).expect("JSON"))
    };
    let sound = json!({ "forward": 0, "path": "/middle" });
    // One edit of a field that was never declared, after all that is in order.
    let mut broken = marked(sound.clone());
    broken["edits"].as_array_mut().expect("a list").push(json!({ "set": [9, "x"] }));
    let middle = link(
        "middle",
        json!(["forward", "rewrite-path"]),
        json!({
            "plan": { "targets": ["elsewhere"] },
            "by_field": { "sound": marked(sound), "broken": broken },
            "response": { "edits": [{ "append": [0, "MARK-after"] }] },
        }),
    );
    let chain = [
        link("first", json!([]), json!({ "request": marked(json!({})) })),
        middle.with_response_phase().failing_open(),
        link("last", json!([]), json!({ "request": marked(json!({ "echo": { "edit": 1 } })) })),
    ];
    let gateway = gateway(&origin, &chain, &more);
    let authors = |answer: &Answer| {
        let seen: Value = serde_json::from_str(&upstream_saw(answer, "x-seen").concat()).expect("JSON");
        let notes = seen["notes"].as_array().expect("notes").iter();
        notes.map(|note| note[0].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };

    let whole = ask(&gateway, "sound");
    assert_eq!((origin.requests(), elsewhere.requests()), (0, 1));
    assert_eq!(whole.json()["target"], "/middle?q=1");
    assert_eq!(upstream_saw(&whole, "x-mark"), ["first", "middle", "last"]);
    assert_eq!(whole.values("x-mark"), ["last", "middle", "middle-after", "first"]);
    assert_eq!(authors(&whole), ["first", "middle"]);
    assert_eq!(failures(&gateway, "middle"), json!({}));

    let without = ask(&gateway, "broken");
    assert_eq!((origin.requests(), elsewhere.requests()), (1, 1));
    assert_eq!(without.json()["target"], "/open/x?q=1");
    assert_eq!(upstream_saw(&without, "x-mark"), ["first", "last"]);
    assert_eq!(without.values("x-mark"), ["last", "first"], "who failed is not asked about the response either");
    assert_eq!(authors(&without), ["first"]);
    assert_eq!(failures(&gateway, "middle"), json!({ "not_allowed": 1 }));
}

#[test]
fn a_policy_that_fails_open_about_the_response_leaves_the_others_afterthoughts() {
    let origin = Origin::echo();
    let link = |policy, edits: Value| {
        let config = json!({ "response": { "edits": edits } });
        Link::new(policy, json!({ "response_writes": ["x-mark"] }), config).with_response_phase()
    };
    let append = |word: &str| json!({ "append": [0, word] });
    let chain = [
        link("first", json!([append("first")])),
        link("middle", json!([append("middle"), { "set": [9, "x"] }])).failing_open(),
        link("last", json!([append("last")])),
    ];
    let gateway = gateway(&origin, &chain, "");
    assert_eq!(ask(&gateway, "any").values("x-mark"), ["last", "first"]);
    assert_eq!(failures(&gateway, "middle"), json!({ "not_allowed": 1 }));
}
