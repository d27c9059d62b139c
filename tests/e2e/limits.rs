//! Limits are exact, told to clients, and undone for what did not happen.

use crate::harness::{DEFAULT, Gateway, Origin, request};
use serde_json::json;

fn limited(quota: u32, more: &str) -> String {
    DEFAULT.replace("windows = [{ name = \"sec\", quota = 100000, per = \"1s\" }, { name = \"min\", quota = 100000, per = \"1m\" }]", &format!("windows = [{{ name = \"hour\", quota = {quota}, per = \"1h\" }}]\n{more}"))
}

#[test]
fn a_key_gets_its_quota_and_not_one_more() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &limited(50, ""));
    let (one, two) = (gateway.key(&["connect"]), gateway.key(&["connect"]));
    let public = gateway.public;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let key = one.clone();
            std::thread::spawn(move || {
                let answers = (0..10).map(|_| request(public, "GET", "/v1/connect/x").key(&key).send().status);
                answers.filter(|status| *status == 200).count()
            })
        })
        .collect();
    let passed: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!(passed, 50);
    let refused = gateway.get("/v1/connect/x").key(&one).send();
    assert_eq!((refused.status, refused.error().as_str()), (429, "rate_limited"));
    assert_eq!(refused.field("ratelimit-policy"), Some("\"hour\";q=50;w=3600"));
    assert!(refused.field("ratelimit").is_some_and(|state| state.starts_with("\"hour\";r=0;t=")));
    let wait: u32 = refused.field("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=7200).contains(&wait), "{wait} s");
    assert_eq!(gateway.get("/v1/connect/x").key(&two).send().status, 200, "another key has its own");
    assert_eq!(origin.requests(), 51);
}

#[test]
fn a_month_is_a_quota_and_survives_a_restart() {
    let origin = Origin::echo();
    let gateway = Gateway::with(
        &origin,
        &limited(50, "").replace("per = \"1h\"", "per = \"month\"").replace("quota = 50", "quota = 3"),
    );
    let key = gateway.key(&["connect"]);
    for _ in 0..3 {
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    }
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().error(), "quota_exceeded");
    let gateway = gateway.restart();
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().error(), "quota_exceeded");
}

#[test]
fn failed_logins_are_limited_by_address() {
    let origin = Origin::echo();
    let more = "[[policies.rate-limit.config.limits]]\nname = \"failed-logins\"\nsubject = \"address\"\n\
                when = \"failed-login\"\nwindows = [{ name = \"login\", quota = 5, per = \"1h\" }]";
    let gateway = Gateway::with(&origin, &limited(1000, more));
    let wrong = "sk_live_00000000000000000000000000000007";
    for _ in 0..5 {
        assert_eq!(gateway.get("/v1/connect/x").key(wrong).send().error(), "invalid_api_key");
    }
    assert_eq!(gateway.get("/v1/connect/x").key(wrong).send().error(), "rate_limited");
    let good = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/connect/x").key(&good).send().status, 200, "who logs in is not stopped");
}

#[test]
fn all_limits_are_taken_or_none() {
    let origin = Origin::echo();
    let limit = |name: &str, quota: u32| json!({ "name": name, "subject": "key", "across_pillars": false, "windows": [["hour", quota, 3600]] });
    let plan = json!({ "limits": [limit("wide", 5), limit("narrow", 1)] });
    let both = json!({ "takes": [{ "limit": 0, "cost": 1 }, { "limit": 1, "cost": 1 }] });
    let wide = json!({ "takes": [{ "limit": 0, "cost": 1 }] });
    let config = json!({ "plan": plan, "request": wide, "by_field": { "both": both } });
    let gateway =
        crate::powers::chameleon(&origin, json!({ "powers": ["take"], "reads": ["x-case"] }), &config, &["take"], "");
    let key = gateway.key(&["connect"]);
    let ask = |case: &str| gateway.get("/v1/connect/x").key(&key).field("x-case", case).send().status;
    assert_eq!(ask("both"), 200);
    for _ in 0..10 {
        assert_eq!(ask("both"), 429, "the narrow limit has no room");
    }
    // One of five was taken from the wide limit; the ten refused requests gave theirs back.
    let passed = (0..10).filter(|_| ask("wide") == 200).count();
    assert_eq!(passed, 4);
}

/// One plugin, one instance, many uses: a route's own configuration lies over its pillar's, and has buckets of its own.
#[test]
fn a_route_has_its_own_chain_and_configuration() {
    let origin = Origin::echo();
    let limit = |quota: u32| {
        format!(
            "limits = [{{ name = \"per-key\", subject = \"key\", when = \"authenticated\", windows = [{{ name = \"hour\", quota = \
             {quota}, per = \"1h\" }}] }}]"
        )
    };
    let toml = format!(
        "{DEFAULT}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n\
         [pillars.connect.config.rate-limit]\n{}\n\
         [[pillars.connect.routes]]\nname = \"strict\"\npath = \"/strict\"\n\
         [pillars.connect.routes.config.rate-limit]\n{}\n\
         [[pillars.connect.routes]]\nname = \"open\"\npath = \"/open\"\nauth = \"none\"\nchain = []\n\
         [[pillars.connect.routes]]\nname = \"free\"\npath = \"/free\"\nchain = [\"key-auth\"]\n\
         [[pillars.connect.routes]]\nname = \"plain\"\npath = \"/plain\"\n",
        origin.address,
        limit(3),
        limit(1)
    );
    let gateway = Gateway::start(&toml);
    let key = gateway.key(&["connect"]);
    let ask = |path: &str| gateway.get(&format!("/v1/connect/{path}")).key(&key).send().status;
    assert_eq!([ask("strict"), ask("strict")], [200, 429], "its own quota");
    assert_eq!([ask("plain"), ask("elsewhere"), ask("plain")], [200; 3], "and its own bucket");
    assert_eq!([ask("plain"), ask("elsewhere")], [429; 2], "the others share the pillar's");
    assert_eq!([ask("free"), ask("free")], [200; 2], "no limit in its chain");
    assert_eq!(gateway.get("/v1/connect/free").send().error(), "missing_authorization");
    assert_eq!(gateway.get("/v1/connect/open").send().status, 200, "no policy at all");
    assert!(gateway.get("/v1/connect/open").send().field("ratelimit").is_none());
    assert_eq!(gateway.get("/v1/connect/elsewhere").send().status, 401);

    let problems =
        |from: &str, to: &str| Gateway::try_start(&toml.replacen(from, to, 1), &[]).err().expect("refused").to_string();
    let error = problems("quota = 1,", "quota = \"many\",");
    assert!(error.contains("pillars.connect.routes[0].config.rate-limit.limits[0].windows[0].quota"), "{error}");
    let error = problems("chain = [\"key-auth\"]\n", "chain = [\"key-auth\"]\nconfig.gas.default.gas = \"1\"\n");
    assert!(error.contains("the policy `gas` is not in this route's chain"), "{error}");
}
