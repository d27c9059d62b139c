//! One request by its id, and the files in which the log is kept.

use super::{find, gateway, samples};
use crate::harness::{DEFAULT, Gateway, request, until};
use crate::program::{Stand, output, told};
use serde_json::{Value, json};

#[test]
fn one_request_is_found_by_its_id_with_what_it_cost() {
    let (_origin, gateway) = gateway("");
    let org = gateway.admin("POST", "/v1/orgs").field("content-type", "application/json");
    assert_eq!(org.body(r#"{"slug":"other"}"#).send().status, 201);
    let scopes = json!(["connect", "usage:read"]);
    let issue = |name: &str, mode: &str, org: &str| {
        gateway.issue(json!({ "name": name, "mode": mode, "scopes": scopes, "org": org })).1
    };
    let (live, sandbox, other) =
        (issue("a", "live", "default"), issue("b", "sandbox", "default"), issue("c", "live", "other"));
    let ask =
        |key: &str, path: &str| gateway.get(path).key(key).send().field("x-request-id").expect("an id").to_owned();
    let (of_live, of_sandbox) = (ask(&live, "/v1/connect/x"), ask(&sandbox, "/v1/connect/x"));
    until("both are told", || find(&gateway, &of_live).is_some() && find(&gateway, &of_sandbox).is_some());
    let show = |key: &str, id: &str| gateway.get(&format!("/v1/usage/requests/{id}")).key(key).send();
    let shown = show(&live, &of_live);
    assert_eq!((shown.status, shown.json()), (200, find(&gateway, &of_live).expect("it is in the log")));
    let shown = shown.json();
    assert_eq!(
        (&shown["id"], &shown["status"], &shown["mode"]),
        (&json!(of_live), &json!(200), &json!("live")),
        "{shown}"
    );
    assert!(shown["gas"].is_string() && shown["units"] == 3 && shown["fuel"].as_u64() > Some(0), "{shown}");
    assert!(shown["upstream_us"].as_u64() > Some(0), "{shown}");
    assert_eq!((show(&live, &of_sandbox).status, show(&sandbox, &of_sandbox).status), (200, 200));
    for (key, id) in [
        (&sandbox, &*of_live),
        (&other, &of_live),
        (&live, "req_00000000000000000000000000"),
        (&live, "x"),
        (&live, "key_1"),
    ] {
        let answer = show(key, id);
        assert_eq!((answer.status, answer.error().as_str()), (404, "not_found"), "{id}");
        assert!(answer.json()["detail"].as_str().expect("words").contains("within a second after its end"));
    }
    let admin = gateway.admin("GET", &format!("/v1/usage/requests/{of_live}")).send();
    assert_eq!((admin.status, &admin.json()["id"]), (200, &json!(of_live)));
    let plain = gateway.key(&["connect"]);
    assert_eq!(show(&plain, &of_live).error(), "insufficient_scope");
    assert_eq!(gateway.get(&format!("/v1/usage/requests/{of_live}")).send().error(), "missing_authorization");
    // After a restart it is found in a file that was not closed.
    let gateway = gateway.restart();
    assert_eq!(gateway.admin("GET", &format!("/v1/usage/requests/{of_live}")).send().json()["id"], of_live.as_str());
}

#[test]
fn the_command_lists_requests_and_shows_one() {
    let stand = Stand::with(DEFAULT);
    let serving = stand.serve();
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).expect("a token");
    let id = request(serving.public, "GET", "/v1/nowhere").send().field("x-request-id").expect("an id").to_owned();
    let admin = serving.admin.to_string();
    let run = |arguments: &[&str]| {
        std::fs::write(stand.path().join("token"), token.trim()).expect("written");
        output(
            stand.path(),
            &[arguments, &["--config", "gateway.toml", "--admin", &admin, "--token-file", "token"]].concat(),
        )
    };
    until("it is in the log", || run(&["requests", "show", &id]).status.success());
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = said(&run(&["requests", "show", &id]));
    assert!(shown.lines().any(|line| line.starts_with("id ") && line.ends_with(&id)), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("units ") && line.ends_with('0')), "{shown}");
    let json: Value = serde_json::from_slice(&run(&["requests", "show", &id, "--json"]).stdout).expect("JSON");
    assert_eq!((&json["id"], &json["status"]), (&json!(id), &json!(404)));
    assert!(said(&run(&["requests", "--status", "404"])).contains(&id));
    let none = run(&["requests", "show", "req_00000000000000000000000000"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(told(&none).contains("There is no request with this id"), "{}", told(&none));
    assert_eq!(
        run(&["requests", "--status", "404", "show", &id]).status.code(),
        Some(2),
        "a filter of one makes no sense"
    );
}

#[test]
fn a_directory_of_the_log_that_is_damaged_or_not_there_keeps_no_gateway_from_serving() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&["connect"]);
    let ask = |gateway: &Gateway| {
        let answer = gateway.get("/v1/connect/x").key(&key).send();
        assert_eq!(answer.status, 200);
        answer.field("x-request-id").expect("an id").to_owned()
    };
    let ids: Vec<String> = (0..3).map(|_| ask(&gateway)).collect();
    until("they are told", || ids.iter().all(|id| find(&gateway, id).is_some()));
    let place = gateway.directory().join("data/requests");
    for path in std::fs::read_dir(&place).expect("segments").map(|entry| entry.expect("an entry").path()) {
        // Half a row behind those that are there, and half an index.
        let mut bytes = std::fs::read(&path).expect("a segment");
        bytes.extend_from_slice(b"\0\0\0\x01\xa7\0\0\x40half\0\0prtcrlix");
        std::fs::write(&path, bytes).expect("written");
    }
    std::fs::write(place.join("note.txt"), "somebody's").expect("written");
    let gateway = gateway.restart();
    assert!(ids.iter().all(|id| find(&gateway, id).is_some()), "whole rows are there");
    std::fs::remove_dir_all(&place).expect("removed");
    std::fs::write(&place, "a file in its place").expect("written");
    let gateway = gateway.restart();
    ask(&gateway);
    until("what is dropped is counted", || {
        samples(&gateway, "portico_request_records_dropped_total")["{at=\"log\"}"] > 0.0
    });
    std::fs::remove_file(&place).expect("removed");
    let id = ask(&gateway);
    until("it goes on", || find(&gateway, &id).is_some());
}
