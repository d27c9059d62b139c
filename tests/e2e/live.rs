//! A saved file is applied live, and nobody notices but those whom it is about. What a bad one does: `program.rs`.

use crate::harness::{DEFAULT, Gateway, Origin, guest, request, until};
use crate::program::Stand;

fn toml(origin: &Origin, more: &str) -> String {
    format!(
        "{DEFAULT}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n{more}",
        origin.address
    )
}

#[test]
fn a_saved_file_is_applied() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, ""));
    let key = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/new/x").key(&key).send().error(), "not_found");
    gateway.save(&toml(&origin, "[pillars.new]\nscope = \"connect\"\nupstream = \"origin\"\n"));
    until("the new pillar answers", || gateway.get("/v1/new/x").key(&key).send().status == 200);
    gateway.save(&toml(&origin, ""));
    until("the pillar is gone", || gateway.get("/v1/new/x").key(&key).send().status == 404);
}

/// Tried again with each component that comes, and what was said of it once is not said again.
#[test]
fn a_file_that_waits_for_a_component_is_applied_when_it_comes() {
    let stand = Stand::with("");
    let serving = stand.serve();
    let status = || request(serving.public, "GET", "/v1/open/x").send().status;
    let told = |sentence: &str| stand.log().matches(sentence).count();
    let place = stand.path().join("plugins/coming.wasm");
    let save = |bytes: &[u8]| {
        std::fs::write(place.with_extension("new"), bytes).unwrap();
        std::fs::rename(place.with_extension("new"), &place).unwrap();
    };
    let coming = "[policies.coming]\n[pillars.open]\nupstream = \"origin\"\nchain = [\"coming\"]\n[[pillars.open.routes]]\npath = \"/x\"\nauth = \"none\"\n";
    stand.edit(|text| text.replace("workers = 1", "workers = 2") + coming);
    until("the file is refused", || told("there is no `coming.wasm`") == 1);
    save(b"no component");
    until("it is refused for another reason", || told("it is not WebAssembly") == 1);
    assert_eq!((status(), told("`gateway.workers` has changed")), (404, 1), "{}", stand.log());
    save(&guest("numbered"));
    until("the file is applied", || status() == 200);
    assert_eq!(told("`gateway.workers` has changed"), 1, "{}", stand.log());
    stand.edit(|text| text.replace("workers = 2", "workers = 3"));
    until("what is new is said", || told("`gateway.workers` has changed") == 2);
}

#[test]
fn limits_outlive_a_change_of_configuration() {
    let origin = Origin::echo();
    let tight = toml(&origin, "").replace("quota = 100000, per = \"1s\"", "quota = 3, per = \"1h\"");
    let gateway = Gateway::start(&tight);
    let key = gateway.key(&["connect"]);
    for _ in 0..3 {
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    }
    let before = gateway.generation();
    gateway.save(&format!("{tight}\n[pillars.more]\n"));
    until("the change is applied", || gateway.generation() > before);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 429);
}

#[test]
fn requests_go_on_while_configurations_change() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, ""));
    let key = gateway.key(&["connect"]);
    let public = gateway.public;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let caller = std::thread::spawn(move || {
        let mut answers = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let answer = request(public, "GET", "/v1/connect/x").key(&key).send();
            assert_eq!(answer.status, 200, "{}", answer.text());
            answers += 1;
        }
        answers
    });
    for round in 0..5 {
        let before = gateway.generation();
        gateway.save(&toml(&origin, &format!("[pillars.p{round}]\n")));
        until("the change is applied", || gateway.generation() > before);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(caller.join().expect("no failed request") > 5);
}
