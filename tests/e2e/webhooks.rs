//! Messages to webhooks, as they come to a real receiver: signed, again until they are taken, also after a restart.

use crate::harness::{Answer, DEFAULT, Gateway, Message, ONE_WORKER, Origin, Receiver, until};
use serde_json::{Value, json};

/// Receivers on the loopback, and short pauses.
const QUICK: &str = "\n[webhooks]\nprivate = [\"127.0.0.0/8\"]\nretry = \"20ms\"\nlongest_retry = \"500ms\"\nattempts = 100\ntimeout = \"1m\"\n";

fn start(more: &str) -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{ONE_WORKER}{DEFAULT}{QUICK}{more}"));
    (origin, gateway)
}

fn tell(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    gateway.admin(method, path).field("content-type", "application/json").body(body.to_string()).send()
}

/// Makes a webhook; its path and its secret.
fn webhook(gateway: &Gateway, to: &Receiver, events: &[&str]) -> (String, String) {
    let made = tell(gateway, "POST", "/v1/webhooks", &json!({ "url": to.url(), "events": events }));
    assert_eq!(made.status, 201, "{}", made.text());
    let secret = made.json()["secret"].as_str().expect("a secret").to_owned();
    (made.field("location").expect("where it is").to_owned(), secret)
}

fn deliveries(gateway: &Gateway, place: &str) -> Vec<Value> {
    let found = gateway.admin("GET", &format!("{place}/deliveries")).send().json();
    found["deliveries"].as_array().expect("a list").clone()
}

/// Waits until the latest attempt was taken, and gives all, latest first.
fn delivered(gateway: &Gateway, place: &str, attempts: usize) -> Vec<Value> {
    let is_whole = |found: &[Value]| found.len() >= attempts && found[0]["delivered"] == true;
    until("it is delivered", || is_whole(&deliveries(gateway, place)));
    deliveries(gateway, place)
}

fn test(gateway: &Gateway, place: &str) {
    assert_eq!(gateway.admin("POST", &format!("{place}/test")).send().status, 202);
}

fn kinds(messages: &[Message]) -> Vec<String> {
    messages.iter().map(Message::kind).collect()
}

#[test]
fn what_happens_to_keys_is_told_signed_and_again_until_it_is_taken() {
    let (_origin, gateway) = start("");
    let receiver = Receiver::start();
    let (place, secret) = webhook(&gateway, &receiver, &["key.created", "key.rotated", "key.scoped", "key.revoked"]);
    receiver.answer(&["500 Nope", "302 Found\r\nlocation: http://127.0.0.1:9/"]);
    let (id, key) = gateway.issue(json!({ "name": "told", "scopes": ["connect"] }));
    let messages = receiver.wait(3);
    let attempts = delivered(&gateway, &place, 3);
    let told: Vec<_> = attempts.iter().map(|it| (it["attempt"].as_u64(), it["status"].as_u64())).collect();
    assert_eq!(told, [(Some(3), Some(204)), (Some(2), Some(302)), (Some(1), Some(500))]);
    assert!(attempts[2]["next_attempt_at"].is_string() && attempts[0]["next_attempt_at"].is_null(), "{attempts:?}");
    assert_eq!((&attempts[0]["type"], &attempts[0]["error"]), (&json!("key.created"), &Value::Null));
    let counted = |sample: &str| gateway.admin("GET", "/metrics").send().text().lines().any(|line| line == sample);
    for sample in
        ["attempts_total{outcome=\"taken\"} 1", "attempts_total{outcome=\"refused\"} 2", "messages_waiting 0.0"]
    {
        until("it is told", || counted(&format!("portico_webhook_{sample}")));
    }
    assert!(counted("portico_webhooks{state=\"enabled\"} 1.0") && counted("portico_webhook_given_up_total 0"));
    for message in &messages {
        assert_eq!(message.head, "POST /hook?token=geheim HTTP/1.1");
        assert_eq!((message.field("content-type"), message.signatures_by(&secret)), ("application/json", 1));
        assert_eq!((message.field("webhook-id"), &message.body), (messages[0].field("webhook-id"), &messages[0].body));
    }
    let told = messages[0].json();
    assert_eq!(attempts[0]["event"].as_str(), Some(messages[0].field("webhook-id")));
    assert_eq!((&told["type"], &told["data"]["key"]["id"]), (&json!("key.created"), &json!(id)));
    assert_eq!((&told["data"]["key"]["name"], &told["data"]["by"]["kind"]), (&json!("told"), &json!("super_admin")));
    assert!(!messages[0].body.contains(&key[8..]) && told["data"]["key"]["pepper"].is_null());

    let path = format!("/v1/keys/{id}");
    assert_eq!(tell(&gateway, "PATCH", &format!("{path}/scope"), &json!({ "scopes": ["keys:read"] })).status, 200);
    receiver.wait(4);
    let rotated = tell(&gateway, "POST", &format!("{path}/rotate"), &json!({})).json();
    receiver.wait(5);
    gateway.revoke(&id);
    gateway.revoke(&id);
    let messages = receiver.wait(6);
    assert_eq!(kinds(&messages[3..]), ["key.scoped", "key.rotated", "key.revoked"]);
    assert!(messages.iter().all(|message| message.signatures_by(&secret) == 1));
    let (second, shown) = (rotated["secret"].as_str().expect("a secret"), &gateway.admin("GET", &place).send().text());
    assert!(!messages[4].body.contains(&second[8..]) && !shown.contains(&secret[6..]));
}

#[test]
fn while_its_secret_is_rotated_both_sign_and_a_test_comes_on_the_same_way() {
    let (_origin, gateway) = start("");
    let receiver = Receiver::start();
    let (place, first) = webhook(&gateway, &receiver, &["key.created"]);
    let rotate = |body: Value| {
        let rotated = tell(&gateway, "POST", &format!("{place}/rotate"), &body).json();
        rotated["secret"].as_str().expect("a secret").to_owned()
    };
    let second = rotate(json!({ "overlap": 3600 }));
    test(&gateway, &place);
    let message = &receiver.wait(1)[0];
    assert_eq!(
        (message.kind().as_str(), message.signatures_by(&first), message.signatures_by(&second)),
        ("webhook.test", 1, 1)
    );
    let third = rotate(json!({ "overlap": 0, "force": true }));
    test(&gateway, &place);
    let message = &receiver.wait(2)[1];
    let signed = [&first, &second, &third].map(|secret| message.signatures_by(secret));
    assert_eq!(signed, [0, 0, 1]);
}

#[test]
fn what_nobody_took_is_told_after_a_restart() {
    let (_origin, gateway) = start("");
    let mut receiver = Receiver::deaf();
    let (place, secret) = webhook(&gateway, &receiver, &["key.created"]);
    let (id, _) = gateway.issue(json!({ "name": "later", "scopes": ["connect"] }));
    until("it was tried", || deliveries(&gateway, &place).len() > 2);
    assert_eq!(deliveries(&gateway, &place)[0]["error"], "connect");
    let before = deliveries(&gateway, &place).last().expect("the first")["event"].clone();
    let gateway = gateway.restart();
    until("it was tried again", || deliveries(&gateway, &place).len() > 4);
    receiver.listen();
    let messages = receiver.wait(1);
    assert_eq!((messages[0].signatures_by(&secret), &messages[0].json()["data"]["key"]["id"]), (1, &json!(id)));
    assert_eq!(json!(messages[0].field("webhook-id")), before);
    let attempts = delivered(&gateway, &place, 5);
    let numbers: Vec<_> = attempts.iter().filter_map(|it| it["attempt"].as_u64()).collect();
    let last = numbers[0];
    assert_eq!(numbers, (1..=last).rev().collect::<Vec<_>>(), "in order, also over the restart");
}

#[test]
fn nothing_goes_to_private_addresses_unless_they_are_opened() {
    let (_origin, gateway) = start("");
    let receiver = Receiver::start();
    let (place, _) = webhook(&gateway, &receiver, &["key.created"]);
    // The operator closes it again.
    let (config, upstream) = (format!("{ONE_WORKER}{DEFAULT}"), "[pillars.connect]\n");
    let generation = gateway.generation();
    gateway
        .save(&format!("{config}\n[webhooks]\nretry = \"20ms\"\nlongest_retry = \"20ms\"\nattempts = 2\n{upstream}"));
    until("it is closed", || gateway.generation() > generation);
    gateway.issue(json!({ "name": "k", "scopes": ["connect"] }));
    until("it is given up", || {
        let found = deliveries(&gateway, &place);
        found.len() == 2 && found[0]["next_attempt_at"].is_null()
    });
    assert!(
        deliveries(&gateway, &place).iter().all(|it| it["error"] == "address_not_allowed" && it["status"].is_null())
    );
    assert_eq!(receiver.messages().len(), 0);
    for url in [receiver.url(), receiver.url().replace("http:", "https:"), "https://localhost/".to_owned()] {
        let refused = tell(&gateway, "POST", "/v1/webhooks", &json!({ "url": url, "events": ["key.created"] }));
        assert_eq!((refused.status, refused.error().as_str()), (422, "invalid_request"), "{url}");
    }
}

#[test]
fn whoever_is_slow_holds_up_nobody_and_whoever_is_gone_is_told_no_more() {
    let (_origin, gateway) = start("");
    let (slow, quick, gone) = (Receiver::start(), Receiver::start(), Receiver::start());
    let all = [&slow, &quick, &gone].map(|receiver| webhook(&gateway, receiver, &["key.created"]).0);
    slow.keep_silent(true);
    gone.answer(&["410 Gone"]);
    for number in 0..12 {
        gateway.issue(json!({ "name": format!("k{number}"), "scopes": ["connect"] }));
        if number == 0 {
            until("it is gone", || gateway.admin("GET", &all[2]).send().json()["status"] == "gone");
        }
    }
    assert_eq!(quick.wait(12).len(), 12);
    assert_eq!(slow.messages().len(), 4, "so many at once and no more");
    assert_eq!(gone.messages().len(), 1);
    slow.keep_silent(false);
    let mut ids: Vec<_> = slow.wait(12).iter().map(|message| message.field("webhook-id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12);
    let noted = gateway.admin("GET", "/v1/audit?action=webhook.disabled").send().json();
    assert_eq!(noted["entries"][0]["actor"]["kind"], "gateway", "{noted}");
    // Whoever wants it again says so.
    assert_eq!(tell(&gateway, "PATCH", &all[2], &json!({ "enabled": true })).json()["status"], "enabled");
    gateway.issue(json!({ "name": "again", "scopes": ["connect"] }));
    assert_eq!(kinds(&gone.wait(2)), ["key.created", "key.created"]);
}

#[test]
fn a_quota_that_is_used_up_is_told_once() {
    let origin = Origin::echo();
    let month = "windows = [{ name = \"month\", quota = 2, per = \"month\" }]";
    let (before, after) = DEFAULT.split_once("windows = ").expect("windows");
    let rest = after.split_once('\n').expect("a line").1;
    let gateway = Gateway::with(&origin, &format!("{ONE_WORKER}{before}{month}\n{rest}{QUICK}"));
    let receiver = Receiver::start();
    webhook(&gateway, &receiver, &["quota.reached"]);
    let (id, key) = gateway.issue(json!({ "name": "busy", "scopes": ["connect"] }));
    let (_, other) = gateway.issue(json!({ "name": "idle", "scopes": ["connect"] }));
    let call = |key: &str| gateway.get("/v1/connect/x").key(key).send().status;
    assert_eq!([call(&key), call(&other), call(&key), call(&key)], [200, 200, 200, 429]);
    let told = receiver.wait(1)[0].json();
    assert_eq!((&told["type"], &told["data"]["key"]["id"]), (&json!("quota.reached"), &json!(id)));
    assert_eq!((&told["data"]["quota"], &told["data"]["window"]), (&json!(2), &json!("month")));
    let gateway = gateway.restart();
    let place = format!("/v1/usage?org={}", told["data"]["org"].as_str().expect("an org"));
    let usage = |gateway: &Gateway| gateway.admin("GET", &place).send().json()["total"]["calls"].as_u64();
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 429);
    until("that is booked", || usage(&gateway) == Some(5));
    // Behind it, so that it would have come before.
    assert_eq!(gateway.get("/v1/connect/x").key(&other).send().status, 200);
    let messages = receiver.wait(2);
    assert_eq!(messages[1].json()["data"]["key"]["name"], "idle");
    assert_eq!(messages.len(), 2);
}

#[test]
fn a_key_whose_time_is_over_while_nothing_runs_is_told_at_the_start() {
    let (_origin, gateway) = start("");
    let receiver = Receiver::start();
    let (place, _) = webhook(&gateway, &receiver, &["key.expired"]);
    let soon = portico::clock::Clock::system().now().plus(std::time::Duration::from_millis(1500)).to_string();
    let (id, key) = gateway.issue(json!({ "name": "short", "scopes": ["connect"], "expires_at": soon }));
    until("it is over", || gateway.get("/v1/connect/x").key(&key).send().status == 401);
    let gateway = gateway.restart();
    let told = receiver.wait(1)[0].json();
    assert_eq!((&told["type"], &told["data"]["key"]["id"]), (&json!("key.expired"), &json!(id)));
    assert_eq!(told["timestamp"], told["data"]["key"]["expires_at"]);
    let gateway = gateway.restart();
    test(&gateway, &place);
    assert_eq!(kinds(&receiver.wait(2)), ["key.expired", "webhook.test"], "once");
}

#[test]
fn a_clock_that_was_years_ahead_once_silences_no_end_of_a_key() {
    let (_origin, gateway) = start("");
    let receiver = Receiver::start();
    webhook(&gateway, &receiver, &["key.expired"]);
    let place = gateway.directory().join("data");
    let ahead = || {
        let data = portico::data::DataDirectory::open(&place).expect("the data");
        let outbox = portico::outbox::SledOutbox::open(data.database()).expect("an outbox");
        assert!(outbox.mark("keys.expired").expect("it can be read").is_some(), "there is a mark");
        outbox.append_marked("keys.expired", &2_051_222_400_000_u64.to_be_bytes(), &[]).expect("it is written");
    };
    let gateway = gateway.restart_after(ahead);
    let soon = portico::clock::Clock::system().now().plus(std::time::Duration::from_millis(1500)).to_string();
    let (id, key) = gateway.issue(json!({ "name": "short", "scopes": ["connect"], "expires_at": soon }));
    until("it is over", || gateway.get("/v1/connect/x").key(&key).send().status == 401);
    let _gateway = gateway.restart();
    assert_eq!(receiver.wait(1)[0].json()["data"]["key"]["id"], json!(id));
}

#[test]
fn operators_are_told_of_components_and_everybody_of_another_document() {
    let (_origin, gateway) = start("");
    let (operator, member) = (Receiver::start(), Receiver::start());
    let (own, _) = webhook(&gateway, &operator, &["plugin.swapped", "plugin.refused", "openapi.changed"]);
    let key = gateway.key(&["webhooks:write"]);
    let order = |events: &[&str]| {
        let body = json!({ "url": member.url(), "events": events }).to_string();
        gateway.call("POST", "/v1/webhooks").key(&key).field("content-type", "application/json").body(body).send()
    };
    assert_eq!(order(&["plugin.swapped"]).error(), "invalid_request");
    assert_eq!(order(&["openapi.changed"]).status, 201);

    let place = gateway.directory().join("plugins/gas.wasm");
    let good = std::fs::read(&place).expect("a component");
    let save = |bytes: &[u8]| {
        std::fs::write(place.with_extension("new"), bytes).expect("written");
        std::fs::rename(place.with_extension("new"), &place).expect("renamed");
    };
    save(b"no component");
    let refused = operator.wait(1)[0].json();
    assert_eq!((&refused["type"], &refused["data"]["policy"]), (&json!("plugin.refused"), &json!("gas")));
    assert!(refused["data"]["reasons"][0].is_string(), "{refused}");
    // The same with another digest: a custom section without a name.
    save(&[&good[..], &[0, 2, 1, b'a']].concat());
    let swapped = operator.wait(2)[1].json();
    assert_eq!((&swapped["type"], &swapped["data"]["policy"]), (&json!("plugin.swapped"), &json!("gas")));
    assert_eq!((&swapped["data"]["before"], member.messages().len()), (&refused["data"]["serving"], 0));

    let file = gateway.directory().join("gateway.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let rename =
        |name: &str| std::fs::write(&file, text.replacen("[gateway]", &format!("[gateway]\nname = \"{name}\""), 1));
    rename("Other").expect("written");
    assert_eq!(kinds(&member.wait(1)), ["openapi.changed"]);
    let changed = operator.wait(3)[2].json();
    assert_eq!(changed, member.messages()[0].json());
    assert_ne!(changed["data"]["digest"], changed["data"]["before"]);
    // What changed while nothing ran is seen at the start, and what did not is not.
    let gateway = gateway.restart_after(|| rename("Third").expect("written"));
    let again = member.wait(2)[1].json();
    assert_eq!(again["data"]["before"], changed["data"]["digest"]);
    assert_eq!(operator.wait(4)[3].json(), again);
    let gateway = gateway.restart();
    test(&gateway, &own);
    assert_eq!(kinds(&operator.wait(5)[3..]), ["openapi.changed", "webhook.test"]);
    assert_eq!(member.messages().len(), 2);
}

#[test]
fn the_program_tells_neither_its_log_nor_its_store_a_secret() {
    let stand = crate::program::Stand::with(&format!("{DEFAULT}{QUICK}"));
    let receiver = Receiver::start();
    receiver.answer(&["500 Nope"]);
    let serving = stand.serve();
    let admin = serving.admin.to_string();
    let run = |words: &[&str]| {
        let target = ["--json", "--config", "gateway.toml", "--admin", &admin];
        let output = crate::program::output(stand.path(), &[words, &target].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let made = run(&["webhook", "create", "--url", &receiver.url(), "--event", "key.created"]);
    let (id, secret) = (made["id"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    run(&["webhook", "test", id]);
    let messages = receiver.wait(2);
    assert!(messages.iter().all(|message| message.signatures_by(secret) == 1));
    until("it is noted", || run(&["webhook", "deliveries", id])["deliveries"][0]["delivered"] == true);
    let listed = run(&["webhook", "list"]).to_string();
    drop(serving);
    let log = stand.log();
    assert!(log.contains("a message was not taken") && log.contains(id), "{log}");
    for text in [&log, &listed] {
        assert!(!text.contains(&secret[6..]));
    }
    assert!(!log.contains("geheim"), "nor what the address of a receiver says beyond its path: {log}");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &secret[6..]).expect("base64");
    let files = std::fs::read_dir(stand.path().join("data/store")).expect("a store").flatten();
    let files: Vec<_> = files
        .filter(|entry| entry.path().is_file())
        .map(|entry| std::fs::read(entry.path()).expect("a file"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(!file.windows(16).any(|part| part == &bytes[..16] || part == &secret.as_bytes()[6..22]));
    }
}
