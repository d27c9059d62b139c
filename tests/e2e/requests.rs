//! Each finished request is told once: in the request log, as a line, in the metrics. And nothing secret of it anywhere.

mod kept;

use crate::harness::{DEFAULT, Gateway, Origin, raw, request, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const LINES: &str = "[telemetry.access]\nto = \"file\"\n";

fn gateway(more: &str) -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{more}\n{DEFAULT}\n[pillars.pay]\n"));
    (origin, gateway)
}

/// Everything of the log that the operator sees, page by page.
fn logged(gateway: &Gateway, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway.admin("GET", &format!("/v1/requests?limit=200{query}{cursor}")).send();
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        all.extend(page["requests"].as_array().expect("requests").clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn find(gateway: &Gateway, id: &str) -> Option<Value> {
    let found: Vec<Value> = logged(gateway, "").into_iter().filter(|request| request["id"] == id).collect();
    assert!(found.len() <= 1, "{id} is told {} times", found.len());
    found.into_iter().next()
}

fn lines(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.directory().join("access.log")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Samples of a metric, by their labels.
fn samples(gateway: &Gateway, name: &str) -> BTreeMap<String, f64> {
    let text = gateway.admin("GET", "/metrics").send().text();
    let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    samples.map(|(labels, value)| (labels.to_owned(), value.parse().expect("a number"))).collect()
}

#[test]
fn each_request_is_told_once_within_a_second_however_it_ends() {
    let (_origin, gateway) = gateway(&format!("{LINES}[telemetry]\naddress = \"full\"\n"));
    let (id, key) = gateway.issue(json!({ "name": "k", "mode": "live", "scopes": ["connect"] }));
    let ask = |path: &str| gateway.get(path).key(&key).send().field("x-request-id").expect("an id").to_owned();
    let expected = [
        (ask("/v1/connect/rooms?x=1"), json!(200), Value::Null, json!("connect")),
        (ask("/v1/connect/status/500"), json!(500), Value::Null, json!("connect")),
        (ask("/v1/connect/events"), json!(200), Value::Null, json!("connect")),
        (ask("/v1/connect/empty"), json!(204), Value::Null, json!("connect")),
        (ask("/v1/connect/hang-up"), json!(502), json!("upstream_broke"), json!("connect")),
        (ask("/v1/pay/x"), json!(403), json!("insufficient_scope"), json!("pay")),
        (ask("/v1/nowhere"), json!(404), json!("not_found"), Value::Null),
        (ask("/healthz"), json!(200), Value::Null, Value::Null),
        (ask("/v1/connect/%2e%2e/x"), json!(400), json!("malformed_request"), Value::Null),
        (ask("/v1/me"), json!(200), Value::Null, json!("portico")),
    ];
    let (last, begun) = (&expected[9].0, Instant::now());
    until("the last is in the log", || find(&gateway, last).is_some());
    until("the last is in the file", || lines(&gateway).iter().any(|line| line["portico.request_id"] == **last));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for (request, status, error, pillar) in &expected {
        let row = find(&gateway, request).unwrap_or_else(|| panic!("{request} ({pillar}, {status}) is not told"));
        assert_eq!((&row["status"], &row["error"], &row["pillar"]), (status, error, pillar), "{row}");
        assert_eq!((&row["method"], &row["ended"]), (&json!("GET"), &json!("complete")), "{row}");
        assert_eq!((&row["client_address"], &row["host"]), (&json!("127.0.0.1"), &json!("gateway.test")), "{row}");
        let told: Vec<Value> = lines(&gateway).into_iter().filter(|it| it["portico.request_id"] == *request).collect();
        let [line] = told.as_slice() else { panic!("{request}: {told:?}") };
        assert_eq!((&line["http.response.status_code"], &line["portico.pillar"]), (status, pillar), "{line}");
        assert_eq!((&line["url.path"], &line["client.address"]), (&row["path"], &json!("127.0.0.1")), "{line}");
        let known = [row["key_id"].as_str(), line["portico.key_id"].as_str()];
        assert_eq!(known, [Some(id.as_str()).filter(|_| !pillar.is_null()); 2], "{row}");
    }
    let first = find(&gateway, &expected[0].0).expect("it is there");
    assert_eq!(
        (&first["path"], &first["query"], &first["gas"]),
        (&json!("/v1/connect/rooms"), &Value::Null, &json!("1"))
    );
    let spans = ["duration_us", "upstream_us", "policies_us"].map(|span| first[span].as_u64().expect(span));
    assert!(spans[0] >= spans[1] + spans[2] && spans.iter().all(|span| *span > 0), "{first}");
    assert!(first["bytes_out"].as_u64() > Some(0), "{first}");
    let line = lines(&gateway).into_iter().find(|line| line["portico.request_id"] == *expected[0].0).expect("a line");
    assert_eq!((&line["portico.route"], &line["server.address"]), (&first["route"], &json!("gateway.test")));
    let counted = samples(&gateway, "portico_requests_total");
    let count = |labels: &str| counted.get(labels).copied();
    assert_eq!(count("{pillar=\"connect\",status=\"200\",error=\"\"}"), Some(2.0), "{counted:?}");
    assert_eq!(count("{pillar=\"connect\",status=\"502\",error=\"upstream_broke\"}"), Some(1.0), "{counted:?}");
    assert_eq!(count("{pillar=\"pay\",status=\"403\",error=\"insufficient_scope\"}"), Some(1.0), "{counted:?}");
    assert_eq!(count("{pillar=\"-\",status=\"404\",error=\"not_found\"}"), Some(1.0), "{counted:?}");
    let durations = samples(&gateway, "portico_request_duration_seconds_count");
    assert_eq!(durations["{pillar=\"connect\"}"], 5.0, "{durations:?}");
    let buckets = samples(&gateway, "portico_request_duration_seconds_bucket");
    let all = |labels: &&String| labels.contains("pillar=\"connect\"") && labels.contains("le=\"+Inf\"");
    let all: Vec<_> = buckets.keys().filter(all).map(|labels| buckets[labels]).collect();
    assert_eq!(all, [5.0], "{buckets:?}");
    assert_eq!(samples(&gateway, "portico_upstream_failures_total")["{upstream=\"origin\",kind=\"broke\"}"], 1.0);
    assert_eq!(samples(&gateway, "portico_upstream_duration_seconds_count")["{upstream=\"origin\"}"], 4.0);
    assert_eq!(samples(&gateway, "portico_requests_in_flight")[""], 0.0);
}

#[test]
fn who_leaves_and_what_breaks_off_is_told_too() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&["connect"]);
    let broken = gateway.get("/v1/connect/break").key(&key).send();
    let id = broken.field("x-request-id").expect("an id").to_owned();
    until("it is told", || find(&gateway, &id).is_some());
    assert_eq!(find(&gateway, &id).expect("it is there")["ended"], "broken");
    // One that leaves in the middle, and one that leaves before anything came.
    for (path, ended, status) in [("/endless", "left", json!(200)), ("/slow/60000", "left", Value::Null)] {
        let mut stream = std::net::TcpStream::connect(gateway.public).expect("a connection");
        let head = format!("GET /v1/connect{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        until("it is under way", || samples(&gateway, "portico_requests_in_flight")[""] == 1.0);
        if status != Value::Null {
            assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
        }
        drop(stream);
        let path = format!("/v1/connect{path}");
        let told = || logged(&gateway, "").into_iter().find(|request| request["path"] == *path);
        until("it is told", || told().is_some());
        let told = told().expect("it is there");
        assert_eq!((&told["ended"], &told["status"], &told["pillar"]), (&json!(ended), &status, &json!("connect")));
        assert!(told["fuel"].as_u64() > Some(0), "what policies did before it left: {told}");
        assert!(told["upstream_us"].as_u64() > Some(0), "{told}");
        let abandoned =
            samples(&gateway, "portico_upstream_failures_total")["{upstream=\"origin\",kind=\"abandoned\"}"];
        assert_eq!(abandoned, f64::from(u8::from(status == Value::Null)), "who left before an answer");
        assert_eq!(samples(&gateway, "portico_requests_in_flight")[""], 0.0);
    }
}

#[test]
fn heads_that_are_refused_before_they_are_requests_are_counted() {
    let (_origin, gateway) = gateway("");
    let counted = || {
        let heads = samples(&gateway, "portico_heads_refused_total");
        ["parse", "too_large", "timeout"].map(|kind| heads[&format!("{{kind=\"{kind}\"}}")])
    };
    let none = [0.0; 3];
    assert_eq!(counted(), none);
    raw(gateway.public, b"\x16\x03\x01 this is no HTTP\r\n\r\n");
    until("it is counted", || counted() == [1.0, 0.0, 0.0]);
    raw(gateway.public, format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70 << 10)).as_bytes());
    until("it is counted", || counted()[..2] == [1.0, 1.0]);
    // Only from here on, so that a busy machine is not taken for a client that is slow.
    let place = gateway.directory().join("gateway.toml");
    let written = std::fs::read_to_string(&place).expect("a configuration");
    let quick = written.replacen("[gateway]\n", "[gateway]\nheader_timeout = \"100ms\"\n", 1);
    let generation = || samples(&gateway, "portico_configuration_generation")[""];
    let before = generation();
    std::fs::write(&place, quick).expect("saved");
    until("it is applied", || generation() > before);
    raw(gateway.public, b"GET / HTTP/1.1\r\nhost: a");
    until("it is counted", || counted() == [1.0; 3]);
    assert!(logged(&gateway, "").is_empty());
}

#[test]
fn to_a_head_no_bytes_are_told_of_a_body_that_nobody_got() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&["connect"]);
    for path in ["/v1/connect/x", "/v1/pay/x", "/v1/nowhere", "/v1/me"] {
        let (head, get) = (gateway.call("HEAD", path).key(&key).send(), gateway.get(path).key(&key).send());
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        let told = |answer: &crate::harness::Answer| {
            let id = answer.field("x-request-id").expect("an id").to_owned();
            until("it is told", || find(&gateway, &id).is_some());
            find(&gateway, &id).expect("it is there")["bytes_out"].clone()
        };
        assert_eq!(told(&head), 0, "{path}");
        assert!(told(&get).as_u64() > Some(0), "{path}");
    }
}

#[test]
fn what_the_gateway_cuts_off_as_it_ends_was_not_left_by_the_client() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&["connect"]);
    let mut stream = std::net::TcpStream::connect(gateway.public).expect("a connection");
    let head = format!("GET /v1/connect/endless HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    assert!(stream.read(&mut [0; 64]).expect("an answer") > 0);
    let gateway = gateway.restart();
    let told = logged(&gateway, "");
    assert_eq!((told.len(), &told[0]["ended"], &told[0]["status"]), (1, &json!("cut"), &json!(200)), "{told:?}");
}

#[test]
fn a_key_sees_requests_of_its_org_and_filters_hold() {
    let (_origin, gateway) = gateway("");
    let org = gateway.admin("POST", "/v1/orgs").field("content-type", "application/json");
    assert_eq!(org.body(r#"{"slug":"other"}"#).send().status, 201);
    let key = |body: Value| gateway.issue(body);
    let scopes = json!(["connect", "usage:read"]);
    let (id, live) = key(json!({ "name": "a", "mode": "live", "scopes": scopes }));
    let (_, sandbox) = key(json!({ "name": "b", "mode": "sandbox", "scopes": scopes }));
    let (foreign, other) = key(json!({ "name": "c", "mode": "live", "scopes": scopes, "org": "other" }));
    for _ in 0..5 {
        for key in [&live, &sandbox, &other] {
            gateway.get("/v1/connect/x").key(key).send();
        }
        gateway.get("/v1/pay/x").key(&live).send();
        gateway.get("/v1/connect/x").send();
    }
    until("all are told", || logged(&gateway, "").len() == 25);
    let seen = |key: &str, query: &str| {
        let page = gateway.get(&format!("/v1/requests?pillar=connect{query}")).key(key).send();
        assert_eq!(page.status, 200, "{}", page.text());
        page.json()["requests"].as_array().expect("requests").clone()
    };
    assert_eq!(seen(&live, "").len(), 10, "of its org, sandbox too");
    assert!(seen(&sandbox, "").iter().all(|request| request["mode"] == "sandbox"));
    assert_eq!((seen(&sandbox, "").len(), seen(&other, "").len()), (5, 5));
    assert!(seen(&other, "").iter().all(|request| request["key_id"] == foreign));
    assert_eq!(seen(&live, &format!("&key={foreign}")).len(), 0, "another org's rows, never");
    assert_eq!(seen(&live, &format!("&key={id}")).len(), 5);
    assert_eq!((seen(&live, "&status=2xx").len(), seen(&live, "&status=503").len()), (5, 5));
    assert_eq!(seen(&live, "&since=2099-01-01T00:00:00Z").len(), 0);
    assert_eq!(seen(&live, "&until=2099-01-01T00:00:00Z").len(), 10);
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway.get(&format!("/v1/requests?limit=3&pillar=connect{cursor}")).key(&live).send().json();
        ids.extend(page["requests"].as_array().expect("requests").iter().map(|it| it["id"].to_string()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((ids.len(), ids.is_sorted_by(|newer, older| newer > older)), (10, true));
    let orgs = gateway.admin("GET", "/v1/orgs").send().json();
    let orgs: Vec<_> = orgs["orgs"].as_array().expect("orgs").iter().filter_map(|org| org["id"].as_str()).collect();
    let other_org = orgs
        .iter()
        .find(|org| logged(&gateway, &format!("&pillar=connect&org={org}")).len() == 5)
        .expect("the other org");
    for query in [
        "limit=0",
        "limit=201",
        "cursor=x",
        "since=yesterday",
        "until=0",
        "key=x",
        "status=6xx",
        "status=0",
        "org=x",
        "who=me",
        &format!("org={other_org}"),
    ] {
        let answer = gateway.get(&format!("/v1/requests?{query}")).key(&live).send();
        assert_eq!((answer.status, answer.error().as_str()), (422, "invalid_request"), "{query}");
    }
    let plain = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/requests").key(&plain).send().error(), "insufficient_scope");
    assert_eq!(gateway.get("/v1/requests").send().error(), "missing_authorization");
    assert_eq!(request(gateway.admin, "GET", "/v1/requests").send().error(), "missing_authorization");
    let token = json!({ "name": "m", "role": "member", "org": "other" }).to_string();
    let token = gateway.admin("POST", "/v1/tokens").field("content-type", "application/json").body(token).send();
    let token = token.json()["secret"].as_str().or(token.json()["token"].as_str()).expect("a token").to_owned();
    let listed = request(gateway.admin, "GET", "/v1/requests?pillar=connect").key(&token).send().json();
    assert_eq!(listed["requests"].as_array().map(Vec::len), Some(5), "{listed}");
}

#[test]
fn no_secret_is_in_the_log_the_line_or_the_store() {
    let more = format!("{LINES}[telemetry]\nquery = true\nheaders = [\"user-agent\", \"x-mine\", \"referer\"]\n");
    let (_origin, gateway) = gateway(&more);
    let (_, key) = gateway.issue(json!({ "name": "k", "mode": "live", "scopes": ["connect"] }));
    let body = key.rsplit('_').next().expect("a body").to_owned();
    let hidden = "hunter2hunter2";
    let escaped = key.replace('_', "%5F");
    let referrer = format!("https://app.test/?access_token={hidden}");
    for target in [
        format!("/v1/connect/{key}/x?page=7&api_key={hidden}&q={key}"),
        format!("/v1/connect/{escaped}?password={hidden}&{escaped}"),
        format!("/{key}"),
    ] {
        let call = gateway.get(&target).key(&key).field("user-agent", "test").field("x-mine", &key);
        call.field("referer", &referrer).field("cookie", format!("a={hidden}")).field("x-other", hidden).send();
    }
    raw(gateway.public, format!("GET /x?{key} HTTP/1.1\r\nhost: {key}\r\nconnection: close\r\n\r\n").as_bytes());
    until("all are told", || logged(&gateway, "").len() == 4 && lines(&gateway).len() == 4);
    let told = logged(&gateway, "");
    let first = told.iter().find(|request| request["path"] == "/v1/connect/[redacted]/x").expect("the first");
    assert_eq!(first["query"], "page=7&api_key=[redacted]&q=[redacted]");
    assert_eq!(
        first["headers"],
        json!({"user-agent": "test", "x-mine": "[redacted]", "referer": "https://app.test/?access_token=[redacted]"})
    );
    let directory = gateway.directory().to_owned();
    let gateway = gateway.restart();
    assert_eq!(logged(&gateway, "").len(), 4, "they outlive a restart");
    let mut places =
        vec![directory.join("data"), gateway.directory().join("data"), gateway.directory().join("access.log")];
    let mut files = 0;
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(std::fs::read_dir(&place).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if let Ok(bytes) = std::fs::read(&place) {
            files += 1;
            for secret in [body.as_bytes(), hidden.as_bytes()] {
                let found = bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!found, "a secret is in {}", place.display());
            }
        }
    }
    assert!(files > 2);
}

#[test]
fn nothing_waits_for_a_full_disk_or_a_reader_that_does_not_read() {
    for (to, path) in [("/dev/full", None), ("pipe", Some("pipe"))] {
        let directory = tempfile::tempdir().expect("a directory");
        let place = path.map_or_else(|| to.into(), |name| directory.path().join(name));
        if path.is_some() {
            let made = std::process::Command::new("mkfifo").arg(&place).status().expect("mkfifo");
            assert!(made.success());
        }
        let (_origin, gateway) = gateway(&format!("{LINES}file = \"{}\"\n", place.display()));
        let key = gateway.key(&["connect"]);
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        until("all are in the log", || logged(&gateway, "").len() == 50);
        if path.is_none() {
            let dropped = || samples(&gateway, "portico_request_records_dropped_total")["{at=\"access\"}"];
            until("the lines are counted", || dropped() == 50.0);
        }
        let begun = Instant::now();
        drop(gateway);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

#[test]
fn where_none_are_kept_it_says_so() {
    let (_origin, gateway) = gateway("[telemetry.requests]\nkeep = false\n");
    let key = gateway.key(&["connect", "usage:read"]);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    let answer = gateway.get("/v1/requests").key(&key).send();
    assert_eq!((answer.status, answer.error().as_str()), (404, "no_request_log"));
    assert_eq!(gateway.admin("GET", "/v1/requests").send().error(), "no_request_log");
    let counted = samples(&gateway, "portico_requests_total");
    assert_eq!(counted["{pillar=\"connect\",status=\"200\",error=\"\"}"], 1.0);
}

#[test]
fn what_was_kept_goes_where_none_are_kept_any_more() {
    let (_origin, gateway) = gateway("[telemetry.requests]\nkeep = true\n");
    let asked = gateway.get("/v1/nowhere").send();
    let id = asked.field("x-request-id").expect("an id").to_owned();
    until("it is in the log", || find(&gateway, &id).is_some());
    assert!(samples(&gateway, "portico_request_log_bytes")[""] > 0.0);
    let place = gateway.directory().join("gateway.toml");
    let written = std::fs::read_to_string(&place).expect("a configuration");
    let keep = |gateway: &Gateway, keep: bool| {
        let toml = written.replace("keep = true", &format!("keep = {keep}"));
        std::fs::write(gateway.directory().join("gateway.toml"), toml).expect("saved");
    };
    keep(&gateway, false);
    let gateway = gateway.restart();
    until("nothing is left", || samples(&gateway, "portico_request_log_bytes")[""] == 0.0);
    keep(&gateway, true);
    let gateway = gateway.restart();
    assert!(logged(&gateway, "").is_empty());
}
