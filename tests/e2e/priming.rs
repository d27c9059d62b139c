//! Fresh instances begin configured, once there was time to see to it; and nothing of a request outlives it.

use crate::harness::{Gateway, Origin, until};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;

/// Two pillars, so that the policy has two uses, and one that holds another policy of the same component.
fn toml(origin: &Origin, turn: bool) -> String {
    let pillar = |name: &str, policy: &str, with: u8| {
        format!(
            "[pillars.{name}]\nupstream = \"origin\"\nchain = [\"{policy}\"]\n\
             config.{policy} = {{ with = {with} }}\n[[pillars.{name}.routes]]\npath = \"/x\"\nauth = \"none\"\n"
        )
    };
    format!(
        "[policies.begins]\nfuel = 100000000\ndeadline = \"10s\"\nconfig = {{ table = 300000, with = 0, turn = {turn} }}\n\
         [upstreams.origin]\nendpoints = [\"http://{}\"]\n{}{}",
        origin.address,
        pillar("connect", "begins", 1),
        pillar("pay", "begins", 2),
    )
}

fn begun(gateway: &Gateway, pillar: &str) -> String {
    let answer = gateway.get(&format!("/v1/{pillar}/x")).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.field("x-begun").expect("the field").to_owned()
}

fn shown(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"][0].clone()
}

/// What is in the code cache, and which file each of them is: one that is written anew is another file.
fn kept_code(gateway: &Gateway) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(gateway.directory().join("data/cache")).expect("the cache").map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap()));
    let mut kept: Vec<_> = named.map(|(name, metadata)| (name, metadata.ino())).collect();
    kept.sort();
    kept
}

#[test]
fn fresh_instances_begin_configured_and_remember_nothing() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, false));
    let before = ["connect", "pay"].map(|pillar| begun(&gateway, pillar));
    assert_eq!(before, ["request 1, configured 1, sum 300000", "request 1, configured 1, sum 600000"]);
    until("it is primed", || shown(&gateway)["instances"] == "primed");
    assert_eq!(shown(&gateway)["not_primed"], Value::Null);
    // Both uses were configured before; each request has the memory that was there then, and not the one before it.
    for _ in 0..3 {
        let after = ["connect", "pay"].map(|pillar| begun(&gateway, pillar));
        assert_eq!(after, ["request 1, configured 2, sum 300000", "request 1, configured 2, sum 600000"]);
    }

    // The next start finds that code, too, and writes none.
    let kept = kept_code(&gateway);
    let gateway = gateway.restart();
    until("it is primed again", || shown(&gateway)["instances"] == "primed");
    assert_eq!(kept_code(&gateway), kept);
    assert_eq!(begun(&gateway, "pay"), "request 1, configured 2, sum 600000");

    // Another configuration is another beginning.
    gateway.save(&toml(&origin, false).replace("with = 2", "with = 3"));
    until("it is applied", || begun(&gateway, "pay").ends_with("sum 900000"));
    until("it is primed once more", || shown(&gateway)["instances"] == "primed");
    assert_eq!(begun(&gateway, "pay"), "request 1, configured 2, sum 900000");
    assert_eq!(begun(&gateway, "connect"), "request 1, configured 2, sum 300000");
}

#[test]
fn who_is_another_once_configured_is_configured_each_time_and_named() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, true));
    until("it was tried", || !shown(&gateway)["not_primed"].is_null());
    let shown = shown(&gateway);
    assert_eq!(shown["instances"], "fresh");
    assert_eq!(shown["not_primed"], "it describes itself differently once it is configured");
    assert_eq!(begun(&gateway, "pay"), "request 1, configured 1, sum 600000");
}
