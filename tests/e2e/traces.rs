//! Traces: a request goes on in that of its client or begins one, and is told to a collector span by span; and nobody waits for that.

use crate::harness::{Answer, Collector, DEFAULT, Gateway, Origin, Told, secrets, until};
use portico::requests::otlp::{CLIENT, INTERNAL, SERVER};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";
const UNWANTED: &str = "00-12345678901234567890123456789012-1234567890123456-00";

fn traces(collector: &Collector, more: &str) -> String {
    format!("[telemetry.traces]\nendpoint = \"http://{}\"\n{more}\n", collector.address)
}

fn gateway(collector: &Collector, more: &str) -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{}\n{DEFAULT}", traces(collector, more)));
    (origin, gateway)
}

/// The values of a field in the request that the upstream got.
fn upstream_saw(answer: &Answer, field: &str) -> Vec<String> {
    let document = answer.json();
    let fields: Vec<(String, String)> = serde_json::from_value(document["fields"].clone()).expect("pairs");
    fields.into_iter().filter(|(name, _)| name == field).map(|(_, value)| value).collect()
}

/// Trace, parent and flags that the upstream got.
fn upstream_context(answer: &Answer) -> [String; 3] {
    let parents = upstream_saw(answer, "traceparent");
    let [parent] = parents.as_slice() else { panic!("{parents:?}") };
    let parts: Vec<_> = parent.split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = parts.as_slice() else { panic!("{parent}") };
    assert_eq!((version.as_str(), trace.len(), span.len()), ("00", 32, 16));
    [trace.clone(), span.clone(), flags.clone()]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(answer: &Answer) -> String {
    answer.field("x-request-id").expect("an id").to_owned()
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.admin("GET", "/metrics").send().text();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
    found.unwrap_or_else(|| panic!("no {name}")) as u64
}

fn within(inner: &Told, outer: &Told) -> bool {
    let span = |told: &Told| (told.span.start_time_unix_nano, told.span.end_time_unix_nano);
    let ((begun, ended), (outer_begun, outer_ended)) = (span(inner), span(outer));
    outer_begun <= begun && begun < ended && ended <= outer_ended
}

fn of_kind(spans: &[Told], kind: i32) -> Vec<&Told> {
    spans.iter().filter(|told| told.span.kind == kind).collect()
}

#[test]
fn a_request_is_told_as_a_tree_of_spans() {
    let collector = Collector::start();
    let more = "sample = 1\nservice = \"edge\"\n[telemetry]\naddress = \"full\"\nquery = true\n[telemetry.access]\nto = \"file\"";
    let (origin, gateway) = gateway(&collector, more);
    let (key_id, key) = gateway.issue(serde_json::json!({ "name": "k", "mode": "live", "scopes": ["connect"] }));
    let (before, answer) =
        (Instant::now(), gateway.get(&format!("/v1/connect/slow/30?page=2&token={key}")).key(&key).send());
    let took = u64::try_from(before.elapsed().as_nanos()).expect("not for ever");
    assert_eq!(answer.status, 200);
    let spans = collector.of_request(&id(&answer));
    let (server, policies, clients) = (of_kind(&spans, SERVER), of_kind(&spans, INTERNAL), of_kind(&spans, CLIENT));
    let ([server], [client]) = (server.as_slice(), clients.as_slice()) else { panic!("{spans:#?}") };

    // Who is below whom, and what the upstream got.
    let [trace, parent, flags] = upstream_context(&answer);
    assert_eq!((hex(&server.span.trace_id), server.span.parent_span_id.len()), (trace.clone(), 0));
    assert_eq!((hex(&client.span.span_id), flags.as_str()), (parent, "03"), "sampled, and of random id");
    let ids: BTreeSet<_> = spans.iter().map(|told| told.span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len());

    // Each policy of the chain in its order, one after the other, and the upstream behind them.
    let names: Vec<_> = policies.iter().map(|told| (told.span.name.as_str(), told.get("portico.policy"))).collect();
    let named = ["rate-limit", "key-auth", "gas"].map(|name| (format!("policy {name} request"), name));
    assert_eq!(names, named.iter().map(|(span, policy)| (span.as_str(), *policy)).collect::<Vec<_>>());
    for told in &policies {
        assert_eq!((told.get("portico.phase"), told.get("portico.verdict")), ("request", "next"));
        assert!(told.get("portico.fuel").parse::<u64>().expect("a number") > 100, "{told:?}");
    }
    let line: Vec<_> = policies.iter().chain([client]).collect();
    assert!(line.iter().all(|told| within(told, server)), "{spans:#?}");
    assert!(line.windows(2).all(|pair| pair[0].span.end_time_unix_nano <= pair[1].span.start_time_unix_nano));
    let length = |told: &Told| told.span.end_time_unix_nano - told.span.start_time_unix_nano;
    assert!(length(client) >= 30_000_000 && length(server) <= took, "{} {}", length(client), length(server));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    assert!(now - server.span.end_time_unix_nano < 60_000_000_000);

    let (host, port) = (origin.address.ip().to_string(), origin.address.port().to_string());
    for (told, key, expected) in [
        (server, "http.request.method", "GET"),
        (server, "url.path", "/v1/connect/slow/30"),
        (server, "url.query", "page=2&token=[redacted]"),
        (server, "url.scheme", "http"),
        (server, "server.address", "gateway.test"),
        (server, "client.address", "127.0.0.1"),
        (server, "network.protocol.version", "1.1"),
        (server, "http.response.status_code", "200"),
        (server, "portico.key_id", &*key_id),
        (server, "portico.mode", "live"),
        (server, "portico.pillar", "connect"),
        (server, "portico.gas", "1"),
        (server, "error.type", ""),
        (client, "portico.upstream", "origin"),
        (client, "server.address", &*host),
        (client, "server.port", &*port),
        (client, "http.response.status_code", "200"),
    ] {
        assert_eq!(told.get(key), expected, "{key}: {told:#?}");
    }
    assert_eq!((server.span.name.as_str(), &server.span.status), ("GET", &None));

    // Who tells it, and how.
    let request = collector.requests().into_iter().next().expect("it was sent");
    let resource = request.resource_spans[0].resource.as_ref().expect("a resource");
    let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version", "service.instance.id"]);
    assert!(format!("{:?}", resource.attributes[0]).contains("edge"));
    let head = collector.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");

    // The same ids where else it is told.
    let logged = || gateway.admin("GET", "/v1/requests").send().json()["requests"][0].clone();
    until("it is logged", || !logged().is_null());
    let logged = logged();
    assert_eq!((&logged["id"], &logged["trace_id"]), (&Value::from(id(&answer)), &Value::from(trace.clone())));
    let lines = || std::fs::read_to_string(gateway.directory().join("access.log")).unwrap_or_default();
    until("its line is there", || lines().contains(&id(&answer)) && lines().ends_with('\n'));
    let line: Value = lines().lines().next().expect("a line").parse().expect("JSON");
    assert_eq!((&line["trace_id"], &line["span_id"]), (&trace.into(), &hex(&server.span.span_id).into()));
    let exported = || metric(&gateway, "portico_trace_spans_exported_total");
    until("they count as taken", || exported() == spans.len() as u64);
}

#[test]
fn a_clients_trace_goes_on_with_the_gateways_span_in_between() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 0\nmost_per_second = 100000");
    let key = gateway.key(&["connect"]);
    let ask = |parent: &str| {
        let call = gateway.get("/v1/connect/x").key(&key).field("traceparent", parent);
        call.field("tracestate", "a=1").field("tracestate", " b=2").send()
    };
    let (wanted, unwanted) = (ask(PARENT), ask(UNWANTED));
    let spans = collector.of_request(&id(&wanted));
    let (server, client) = (&spans[0].span, &of_kind(&spans, CLIENT)[0].span);
    let [trace, parent, flags] = upstream_context(&wanted);
    assert_eq!((trace.as_str(), flags.as_str()), (&PARENT[3..35], "01"));
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id).as_str()), (trace, &PARENT[36..52]));
    assert_eq!((hex(&client.span_id), &client.parent_span_id), (parent, &server.span_id));
    assert_eq!(upstream_saw(&wanted, "tracestate"), ["a=1,b=2"]);
    let [trace, parent, flags] = upstream_context(&unwanted);
    assert_eq!((trace.as_str(), flags.as_str()), (&PARENT[3..35], "00"));
    assert_ne!(parent, &PARENT[36..52], "also where it is not told");
    let twice = gateway.get("/v1/connect/x").key(&key).field("traceparent", PARENT).field("traceparent", PARENT).send();
    assert_ne!(upstream_context(&twice)[0], &PARENT[3..35], "of two, none is believed");
    // Whatever comes later would be told with this one.
    let last = ask(PARENT);
    collector.of_request(&id(&last));
    let told: BTreeSet<_> = collector.spans().iter().map(|told| told.get("portico.request_id").to_owned()).collect();
    assert!(!told.contains(&id(&unwanted)) && !told.contains(&id(&twice)), "{told:?}");
}

#[test]
fn without_a_collector_a_trace_passes_or_begins() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let ask = |fields: &[(&str, &str)]| {
        let call = gateway.get("/v1/connect/x").key(&key);
        fields.iter().fold(call, |call, (name, value)| call.field(name, value)).send()
    };
    let later = "01-12345678901234567890123456789012-1234567890123456-07-and-more";
    for parent in [PARENT, later] {
        let passed = ask(&[("traceparent", parent), ("tracestate", "a=1")]);
        assert_eq!(upstream_saw(&passed, "traceparent"), [parent]);
        assert_eq!(upstream_saw(&passed, "tracestate"), ["a=1"]);
    }
    let spoilt = ask(&[("traceparent", PARENT), ("tracestate", "A=1")]);
    assert_eq!((upstream_saw(&spoilt, "traceparent").len(), upstream_saw(&spoilt, "tracestate").len()), (1, 0));
    let capitals = "00-ABCDEF90123456789012345678901234-1234567890123456-01";
    let begun = [ask(&[]), ask(&[("traceparent", capitals), ("tracestate", "a=1")])];
    let ids: Vec<_> = begun.iter().map(|answer| upstream_context(answer)[0].clone()).collect();
    assert!(ids[0] != ids[1] && !ids.contains(&capitals[3..35].to_lowercase()));
    assert!(upstream_saw(&begun[1], "tracestate").is_empty());
    let logged = |request: &str| {
        let page = gateway.admin("GET", "/v1/requests").send().json();
        let all = page["requests"].as_array().expect("requests").clone();
        all.into_iter().find(|logged| logged["id"] == *request).map(|logged| logged["trace_id"].clone())
    };
    until("it is logged", || logged(&id(&begun[1])).is_some());
    assert_eq!(logged(&id(&begun[1])), Some(ids[1].clone().into()));
    assert_eq!(logged(&id(&spoilt)), Some(PARENT[3..35].into()));
}

#[test]
fn a_refusal_is_told_with_who_refused() {
    let collector = Collector::start();
    let (origin, gateway) = gateway(&collector, "sample = 1");
    let denied = gateway.get("/v1/connect/x").send();
    assert_eq!(denied.error(), "missing_authorization");
    let spans = collector.of_request(&id(&denied));
    assert!(of_kind(&spans, CLIENT).is_empty() && origin.requests() == 0);
    let server = &spans[0];
    let said =
        ["http.response.status_code", "error.type", "portico.denied", "portico.org_id"].map(|key| server.get(key));
    assert_eq!(said, ["401", "missing_authorization", "missing_authorization", ""]);
    assert_eq!(server.span.status, None, "what a client did wrong is no error of a server");
    let last = of_kind(&spans, INTERNAL).into_iter().next_back().expect("policies were asked");
    assert_eq!((last.get("portico.policy"), last.get("portico.verdict")), ("key-auth", "deny"));
    let nowhere = gateway.get("/nowhere").send();
    let spans = collector.of_request(&id(&nowhere));
    assert_eq!((spans.len(), spans[0].get("error.type"), spans[0].get("portico.pillar")), (1, "not_found", ""));
}

#[test]
fn what_nobody_samples_is_told_only_where_it_failed() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 0\nparent = \"ignore\"");
    let key = gateway.key(&["connect"]);
    let ask = |path: &str| gateway.get(path).key(&key).field("traceparent", PARENT).send();
    let fine = ask("/v1/connect/x");
    assert_eq!(upstream_context(&fine)[2], "00", "the client's wish is ignored");
    let broke = ask("/v1/connect/hang-up");
    assert_eq!(broke.error(), "upstream_broke");
    let spans = collector.of_request(&id(&broke));
    let client = of_kind(&spans, CLIENT)[0];
    assert_eq!((client.get("error.type"), client.get("portico.upstream")), ("broke", "origin"));
    assert_eq!([&spans[0], client].map(|told| told.span.status.as_ref().map(|status| status.code)), [Some(2); 2]);
    let answered = ask("/v1/connect/status/500");
    assert_eq!(collector.of_request(&id(&answered))[0].get("error.type"), "500");
    assert!(collector.spans().iter().all(|told| told.get("portico.request_id") != id(&fine)));
}

#[test]
fn where_failures_are_no_reason_nothing_is_told() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 0\nfailures = false\nmost_per_second = 0");
    let key = gateway.key(&["connect"]);
    for path in ["/v1/connect/x", "/v1/connect/hang-up"] {
        gateway.get(path).key(&key).field("traceparent", PARENT).send();
    }
    drop(gateway);
    assert_eq!(collector.asked(), 0, "at the end all would have been sent");
}

#[test]
fn a_client_can_have_no_more_told_than_the_bound() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 0\nmost_per_second = 2");
    let key = gateway.key(&["connect"]);
    let begun = Instant::now();
    let sampled = (0..60)
        // Ids as a client would choose them that wants each to be told.
        .map(|number| format!("00-{:032x}-1234567890123456-01", number + 1))
        .map(|parent| gateway.get("/v1/connect/x").key(&key).field("traceparent", parent).send())
        .filter(|answer| upstream_context(answer)[2] == "01")
        .count();
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("not for ever") + 2;
    assert!((1..=2 * seconds).contains(&sampled), "{sampled} in {seconds} s");
    drop(gateway);
    let told = collector.spans();
    assert_eq!(of_kind(&told, SERVER).len(), sampled, "those that the upstream was told of, and no others");
}

#[test]
fn no_request_waits_for_a_collector_that_is_away() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let origin = Origin::echo();
    let traces = format!("[telemetry.traces]\nendpoint = \"http://{away}\"\nsample = 1\nqueue = 512\n");
    let gateway = Gateway::with(&origin, &format!("{traces}\n{DEFAULT}"));
    let key = gateway.key(&["connect"]);
    for _ in 0..200 {
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    }
    let dropped = || metric(&gateway, "portico_trace_spans_dropped_total{at=\"export\"}");
    until("what does not fit is dropped", || dropped() >= 200 * 5 - 512);
    assert_eq!(metric(&gateway, "portico_trace_spans_exported_total"), 0);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    let begun = Instant::now();
    drop(gateway);
    assert!(begun.elapsed() < Duration::from_secs(10), "the end does not wait either: {:?}", begun.elapsed());
}

#[test]
fn a_slow_collector_holds_up_nobody_and_gets_its_spans_in_the_end() {
    let collector = Collector::start();
    collector.keep_silent(true);
    let (_origin, gateway) = gateway(&collector, "sample = 1\ntimeout = \"1m\"");
    let key = gateway.key(&["connect"]);
    let first = gateway.get("/v1/connect/x").key(&key).send();
    until("it was sent", || collector.asked() == 1);
    let later = gateway.get("/v1/connect/x").key(&key).send();
    assert_eq!((first.status, later.status), (200, 200));
    collector.keep_silent(false);
    assert_eq!([&first, &later].map(|answer| collector.of_request(&id(answer)).len()), [5, 5]);
    collector.keep_silent(true);
    gateway.get("/v1/connect/x").key(&key).send();
    let begun = Instant::now();
    drop(gateway);
    assert!(begun.elapsed() < Duration::from_secs(10), "the end waits two seconds for it: {:?}", begun.elapsed());
}

#[test]
fn what_was_told_last_is_sent_at_the_end() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 1");
    let key = gateway.key(&["connect"]);
    let answer = gateway.get("/v1/connect/x").key(&key).send();
    drop(gateway);
    assert_eq!(collector.of_request(&id(&answer)).len(), 5);
}

#[test]
fn a_busy_collector_is_asked_again_and_one_that_refuses_is_not() {
    let collector = Collector::start();
    let (_origin, gateway) = gateway(&collector, "sample = 1");
    let key = gateway.key(&["connect"]);
    let ask = || gateway.get("/v1/connect/x").key(&key).send();
    let figures = || ["exported", "failed"].map(|what| metric(&gateway, &format!("portico_trace_spans_{what}_total")));
    for busy in ["503 Busy\r\nretry-after: 0", "429 Slowly\r\nretry-after: 0", "502 Nope\r\nretry-after: 0"] {
        collector.answer(busy, b"");
    }
    let first = ask();
    assert_eq!(collector.of_request(&id(&first)).len(), 5, "once, at the fourth attempt");
    until("it is counted", || figures() == [5, 0]);
    assert_eq!(collector.asked(), 4);
    collector.answer("400 No", b"");
    ask();
    until("it is given up", || figures() == [5, 5]);
    assert_eq!(collector.asked(), 5);
    // Two of five are rejected: `ExportTracePartialSuccess { rejected_spans: 2, error_message: "old" }`.
    collector.answer("200 OK", b"\x0a\x07\x08\x02\x12\x03old");
    ask();
    until("the rest counts as taken", || figures() == [8, 7]);
}

#[test]
fn credentials_for_the_collector_come_from_files_and_are_told_nobody() {
    let collector = Collector::start();
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("token");
    let secret = "hunter2-qwertzuiopasdfghjklyxcvbnm";
    secrets::note(secret);
    std::fs::write(&path, format!("Bearer {secret}\n")).expect("a file");
    let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    let more = format!("sample = 1\nheaders.authorization = {{ file = \"{}\" }}", path.display());
    let toml = format!("{}\n[pillars.connect]\n", traces(&collector, &more));
    allow(0o640);
    let refused = Gateway::try_start(&toml, &[]).err().expect("others can read it").to_string();
    assert!(refused.contains("telemetry.traces.headers.authorization") && refused.contains("chmod 600"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    allow(0o600);
    let gateway = Gateway::start(&toml);
    // Refused at first, so that something is logged.
    collector.answer("401 No", b"");
    gateway.get("/v1/connect/x").send();
    until("it was sent", || collector.asked() >= 1);
    assert!(collector.heads()[0].contains(&format!("authorization: Bearer {secret}\r\n")));
    let shown = gateway.admin("GET", "/v1/config?under=telemetry.traces").send();
    assert!(!shown.text().contains("hunter2"), "{}", shown.text());
}
