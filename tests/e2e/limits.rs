//! Limits are exact, told to clients, and undone for what did not happen.

use crate::harness::{DEFAULT, Gateway, Origin, request, until};
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

#[test]
fn an_operator_sees_how_a_limit_stands_and_fills_it_for_all_workers() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &limited(4, ""));
    let (id, key) = gateway.issue(json!({ "name": "k", "mode": "live", "scopes": ["connect"] }));
    let (_, other) = gateway.issue(json!({ "name": "o", "mode": "live", "scopes": ["connect"] }));
    let statuses =
        |key: &str, count| (0..count).map(|_| gateway.get("/v1/connect/x").key(key).send().status).collect::<Vec<_>>();
    // More connections than workers, each dealt to the one with the fewest.
    assert_eq!(statuses(&key, 6), [200, 200, 200, 200, 429, 429]);
    assert_eq!(statuses(&other, 1), [200]);
    let shown = |query: &str| gateway.admin("GET", &format!("/v1/limits?{query}")).send();
    let hour = |limits: &serde_json::Value| {
        let window = &limits["limits"][0]["windows"][0];
        (
            window["used"].as_u64(),
            window["remaining"].as_u64(),
            window["reset_seconds"].as_u64().is_some_and(|it| it > 0),
        )
    };
    let stands = shown(&format!("key={id}&pillar=connect")).json();
    assert_eq!(stands["limits"].as_array().map(Vec::len), Some(1), "{stands}");
    assert_eq!(hour(&stands), (Some(4), Some(0), true), "{stands}");
    let limit = &stands["limits"][0];
    assert_eq!(
        (&limit["policy"], &limit["limit"], &limit["for"]),
        (&json!("rate-limit"), &json!("per-key"), &json!("key"))
    );
    assert_eq!((&limit["windows"][0]["period"], &limit["windows"][0]["quota"]), (&json!("3600s"), &json!(4)));

    let reset = |body: serde_json::Value| {
        let call = gateway.admin("POST", "/v1/limits/reset").field("content-type", "application/json");
        call.body(body.to_string()).send()
    };
    let answer = reset(json!({ "key": id, "pillar": "connect", "limit": "per-key" }));
    assert_eq!((answer.status, &answer.json()["reset"]), (200, &json!(1)), "{}", answer.text());
    assert_eq!(hour(&answer.json()), (Some(0), Some(4), false));
    assert_eq!(statuses(&key, 6), [200, 200, 200, 200, 429, 429], "on every worker");
    assert_eq!(statuses(&other, 4), [200, 200, 200, 429], "nobody else gained by it");

    let noted = gateway.admin("GET", "/v1/audit?action=limit.reset").send().json();
    let entries = noted["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 2, "{noted}");
    assert_eq!((&entries[0]["on"][0], &entries[0]["actor"]["kind"]), (&json!(id), &json!("super_admin")));
    let is = &entries[0]["after"]["is"];
    assert_eq!((&is["before"][0]["windows"][0]["used"], &is["after"][0]["windows"][0]["used"]), (&json!(4), &json!(0)));
    assert!(entries[0]["org"].as_str().is_some_and(|org| org.starts_with("org_")), "{noted}");

    // Whoever is nobody, and what makes no sense.
    let nobody = "key_01m5k3v0q8f7c2d9x4e6t1r5yb";
    assert_eq!(shown(&format!("key={nobody}")).error(), "not_found");
    assert_eq!(reset(json!({ "org": "org_01m5k3v0q8f7c2d9x4e6t1r5yb" })).error(), "not_found");
    for query in ["", "key=x", "everyone=false", "address=1.2.3.4&everyone=true", "everyone=true&colour=red"] {
        assert_eq!(shown(query).error(), "invalid_request", "{query}");
    }
    for body in [json!({}), json!({ "key": 7 }), json!({ "everyone": "true" }), json!({ "everyone": true, "x": 1 })] {
        assert_eq!(reset(body.clone()).error(), "invalid_request", "{body}");
    }
    // Callers without a key take from a limit for keys by their address; whoever took nothing is not shown there.
    assert_eq!(shown("address=192.0.2.9").json()["limits"], json!([]));
}

#[test]
fn limits_by_address_and_for_everyone_are_seen_and_filled() {
    let origin = Origin::echo();
    let more = "[[policies.rate-limit.config.limits]]\nname = \"failed-logins\"\nsubject = \"address\"\nacross_pillars = true\n\
                when = \"failed-login\"\nwindows = [{ name = \"login\", quota = 2, per = \"1h\" }]";
    let gateway = Gateway::with(&origin, &limited(1000, more));
    let wrong = "sk_live_00000000000000000000000000000007";
    let attempt = || gateway.get("/v1/connect/x").key(wrong).send().error();
    assert_eq!([attempt(), attempt(), attempt()], ["invalid_api_key", "invalid_api_key", "rate_limited"]);
    let shown = gateway.admin("GET", "/v1/limits?address=127.0.0.1&limit=failed-logins").send().json();
    assert_eq!(shown["limits"].as_array().map(Vec::len), Some(1), "one for all pillars: {shown}");
    assert_eq!(
        (&shown["limits"][0]["pillar"], &shown["limits"][0]["windows"][0]["remaining"]),
        (&json!(null), &json!(0))
    );
    let call = gateway.admin("POST", "/v1/limits/reset").field("content-type", "application/json");
    assert_eq!(call.body(json!({ "address": "127.0.0.1" }).to_string()).send().status, 200);
    assert_eq!(attempt(), "invalid_api_key");
}

#[test]
fn a_month_that_was_filled_anew_stays_so_after_a_restart() {
    let origin = Origin::echo();
    let monthly = limited(50, "").replace("per = \"1h\"", "per = \"month\"").replace("quota = 50", "quota = 3");
    let gateway = Gateway::with(&origin, &monthly);
    let (id, key) = gateway.issue(json!({ "name": "k", "mode": "live", "scopes": ["connect"] }));
    let ask = |gateway: &Gateway| gateway.get("/v1/connect/x").key(&key).send().status;
    assert_eq!([ask(&gateway), ask(&gateway), ask(&gateway), ask(&gateway)], [200, 200, 200, 429]);
    let org = gateway.admin("GET", "/v1/orgs/default").send().json()["id"].as_str().expect("an id").to_owned();
    let calls = || gateway.admin("GET", &format!("/v1/usage?org={org}")).send().json()["total"]["calls"].as_u64();
    until("all of it is counted", || calls() == Some(4));
    let call = gateway.admin("POST", "/v1/limits/reset").field("content-type", "application/json");
    assert_eq!(call.body(json!({ "key": id }).to_string()).send().status, 200);
    assert_eq!(ask(&gateway), 200);
    let gateway = gateway.restart();
    assert_eq!([ask(&gateway), ask(&gateway), ask(&gateway)], [200, 200, 429], "one was taken before the restart");
}
