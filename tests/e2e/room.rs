//! Room for guests that wait and for followed bodies: what is promised beyond it is told, and nobody takes the part of others.

use crate::bodies::{Link, open};
use crate::harness::{Gateway, ONE_WORKER, Origin, until};
use crate::program::{Stand, output, told};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;

fn pillars(origin: &Origin, names: [&str; 2]) -> String {
    let pillar = |name: &str| {
        format!(
            "[pillars.{name}]\nupstream = \"origin\"\nchain = [\"{name}\"]\n\
             [[pillars.{name}.routes]]\npath = \"/{{*rest}}\"\nauth = \"none\"\n"
        )
    };
    format!("[upstreams.origin]\nendpoints = [\"http://{}\"]\n{}{}", origin.address, pillar(names[0]), pillar(names[1]))
}

fn refused(gateway: &Gateway, policy: &str) -> u64 {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    let shown = list["policies"].as_array().expect("a list").iter().find(|shown| shown["policy"] == policy).cloned();
    shown.unwrap_or(Value::Null)["failures"]["no_instance"].as_u64().unwrap_or(0)
}

/// There are 256 places for bodies on the one worker: the modest policy is sure of its ten.
#[test]
fn a_policy_that_follows_all_bodies_leaves_room_for_another() {
    let origin = Origin::echo();
    let link = |name, more| Link::new(name, json!({ "request_body": "inspect" }), json!({})).with(more);
    let links = [link("greedy", "bodies = 4096"), link("modest", "bodies = 10")];
    let toml = format!("{ONE_WORKER}{}{}{}", links[0].toml(), links[1].toml(), pillars(&origin, ["greedy", "modest"]));
    let components: Vec<_> = links.iter().map(Link::component).collect();
    // With engines that no other test shares.
    let gateway = Gateway::start_with(&toml, &components).restart_cold_after(|| {});
    let half = |pillar: &str| {
        let head = format!("POST /v1/{pillar}/x HTTP/1.1\r\nhost: g\r\ncontent-length: 10\r\n\r\nhalf");
        open(&gateway, head)
    };
    let held: Vec<TcpStream> = (0..250).map(|_| half("greedy")).collect();
    until("what is too much is refused", || refused(&gateway, "greedy") == 4);
    let modest: Vec<TcpStream> = (0..9).map(|_| half("modest")).collect();
    assert_eq!(gateway.call("POST", "/v1/modest/x").body("whole").send().status, 200, "its tenth");
    assert_eq!((refused(&gateway, "modest"), refused(&gateway, "greedy")), (0, 4));
    drop(held);
    until("there is room again", || gateway.call("POST", "/v1/greedy/x").body("whole").send().status == 200);
    drop(modest);
}

/// There are 1,008 places for calls that wait, those for loads aside.
#[test]
fn a_policy_whose_calls_all_wait_leaves_room_for_another() {
    let origin = Origin::echo();
    let policy = |name: &str, calls: u32| {
        format!(
            "[policies.{name}]\nplugin = \"waits\"\ndeadline = \"1s\"\nwait = \"1m\"\nquarantine = false\nwaiting_calls = {calls}\n"
        )
    };
    let policies = format!("{}{}", policy("greedy", 1000), policy("modest", 100));
    let toml = format!("{ONE_WORKER}{policies}{}", pillars(&origin, ["greedy", "modest"]));
    let gateway = Gateway::start(&toml).restart_cold_after(|| {});
    let asleep = || {
        let mut client = TcpStream::connect(gateway.public).expect("the gateway listens");
        let call = b"GET /v1/greedy/x HTTP/1.1\r\nhost: g\r\nx-behaviour: sleep-an-hour\r\n\r\n";
        client.write_all(call).expect("it is read");
        client
    };
    let held: Vec<TcpStream> = (0..910).map(|_| asleep()).collect();
    until("what is too much is refused", || refused(&gateway, "greedy") == 2);
    assert_eq!(gateway.get("/v1/modest/x").field("x-behaviour", "nap").send().field("x-answer"), Some("woke"));
    assert_eq!((refused(&gateway, "modest"), refused(&gateway, "greedy")), (0, 2));
    drop(held);
}

#[test]
fn more_than_there_is_room_for_is_told() {
    let bodies = json!({ "request_body": "inspect" });
    let link = |name, more| Link::new(name, bodies.clone(), json!({})).with(more);
    let links = [link("one", "bodies = 200"), link("two", "bodies = 57")];
    let stand = Stand::with(&format!("{}{}", links[0].toml(), links[1].toml()));
    for (name, bytes) in links.iter().map(Link::component) {
        std::fs::write(stand.path().join(format!("plugins/{name}.wasm")), bytes).expect("written");
    }
    let sentence = "2 policies that follow bodies may take 257 places on each worker by their `bodies`, and there are 256: each is \
        sure of 85 instances or of all that it may have, and the rest is for whoever comes first";
    let checked = output(stand.path(), &["check", "--config", "gateway.toml"]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(told(&checked).contains(sentence), "{}", told(&checked));
    let _serving = stand.serve();
    assert_eq!(stand.log().matches(sentence).count(), 1, "{}", stand.log());
    // One less, and it fits.
    stand.edit(|text| text.replace("bodies = 57", "bodies = 56"));
    let checked = output(stand.path(), &["check", "--config", "gateway.toml"]);
    // Both have the name of the guest that they are made from, and that is told too.
    let others = told(&checked).lines().filter(|line| !line.contains("call themselves")).count();
    assert_eq!((checked.status.success(), others), (true, 0), "{}", told(&checked));
}
