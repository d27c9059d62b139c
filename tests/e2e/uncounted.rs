//! A journal without room: nothing goes on, and nothing is answered in an upstream's place, that could not be counted.

use crate::harness::{patched, request, until};
use crate::powers::inline;
use crate::program::Stand;
use serde_json::json;

#[test]
fn without_room_for_a_record_there_are_refusals_and_nothing_else() {
    let config = json!({ "by_field": {
        "deny": { "deny": { "status": 418, "code": "teapot", "message": "Short and stout." } },
        "respond": { "respond": { "status": 203, "body": "mine" } },
    }});
    let stand = Stand::with(&format!(
        "[policies.lizard]\ninstance = \"pooled\"\ndeadline = \"10s\"\ngrant.powers = [\"deny\", \"respond\"]\nconfig = {}\n[defaults]\nchain = [\"lizard\"]\n",
        inline(&config)
    ));
    let descriptor = json!({
        "name": "chameleon", "version": "1.0.0", "summary": "Does as told.", "powers": ["deny", "respond"], "reads": ["x-case"],
    });
    std::fs::write(stand.path().join("plugins/lizard.wasm"), patched("chameleon", &descriptor)).unwrap();
    stand.edit(|toml| toml + "[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n");
    let ask = |public, case: &str| {
        let answer = request(public, "GET", "/v1/connect/x").field("x-case", case).send();
        let code = match answer.status {
            200 => String::new(),
            203 => answer.text(),
            _ => answer.error(),
        };
        (answer.status, code)
    };
    let serving = stand.serve();
    assert_eq!(ask(serving.public, "none"), (200, String::new()));
    assert_eq!(ask(serving.public, "respond"), (203, "mine".into()));
    assert_eq!(ask(serving.public, "deny"), (418, "teapot".into()));
    assert_eq!(serving.terminate(), Some(0));

    // No segment of a larger size can be made.
    stand.edit(|toml| toml.replace("segment_size = \"256KiB\"", "segment_size = \"64MiB\""));
    let asked = stand.origin.requests();
    let serving = stand.serve_within(1 << 20);
    assert!(stand.log().contains("no room for the journal"), "{}", stand.log());
    let refused = (503, "metering_unavailable".to_owned());
    assert_eq!(ask(serving.public, "none"), refused);
    assert_eq!(ask(serving.public, "respond"), refused);
    assert_eq!(ask(serving.public, "deny"), (418, "teapot".into()), "who is refused needs no record");
    assert_eq!(stand.origin.requests(), asked);
    until("it is not ready", || request(serving.public, "GET", "/readyz").send().status == 503);
}
