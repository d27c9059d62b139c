//! Usage as clients and operators see it: soon, in detail, and never another sum than its parts.

use crate::harness::{DEFAULT, Gateway, Origin, until};
use crate::program::{Stand, output, told};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every number of some sums, by its place; gas in millionths.
pub fn numbers(sums: &Value) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for name in ["calls", "bytes_in", "bytes_out", "upstream_us", "units", "fuel"] {
        numbers.insert(name.to_owned(), sums[name].as_u64().unwrap_or_else(|| panic!("{name}: {sums}")));
    }
    for group in ["statuses", "denied", "fuel_by_policy"] {
        for (name, number) in sums[group].as_object().unwrap_or_else(|| panic!("{group}: {sums}")) {
            numbers.insert(format!("{group}/{name}"), number.as_u64().expect("a number"));
        }
    }
    let gas: f64 = sums["gas"].as_str().expect("an amount").parse().expect("an amount");
    numbers.insert("gas".to_owned(), (gas * 1e6).round() as u64);
    numbers
}

/// What rows come to, all together.
pub fn added_up<'a>(rows: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for row in rows {
        numbers(row).into_iter().for_each(|(name, number)| *sum.entry(name).or_default() += number);
    }
    sum
}

/// All rows, page by page.
pub fn all_rows(ask: impl Fn(&str) -> Value, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(&format!("/v1/usage/detail?{query}{cursor}"));
        all.extend(page["rows"].as_array().unwrap_or_else(|| panic!("{page}")).clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

const PILLARS: &str = "\n[pillars.pay]\nupstream = \"origin\"\n\
    [[pillars.connect.routes]]\nname = \"rooms\"\npath = \"/rooms/{id}\"\n";

/// Nothing is said about the journal but how large its segments are.
#[test]
fn a_call_shows_within_a_second() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect", "usage:read"]);
    let counted = || gateway.get("/v1/usage").key(&key).send().json()["by_pillar"]["connect"]["calls"].clone();
    let mut calls = 0;
    let mut quickest = Duration::MAX;
    // A machine that does something else at the time may need longer, but not each time.
    until("a call shows within a second", || {
        calls += 1;
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
        let ended = Instant::now();
        until("the call is counted", || counted() == calls);
        quickest = quickest.min(ended.elapsed());
        quickest <= Duration::from_secs(1)
    });
    println!("the call showed after {quickest:?}");
}

#[test]
fn the_parts_add_up_to_the_whole_and_each_is_told_apart() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}{PILLARS}"));
    let issue = |scopes: &[&str]| gateway.issue(json!({ "name": "k", "mode": "live", "scopes": scopes }));
    let ((one, first), (other, second)) = (issue(&["connect", "pay", "usage:read"]), issue(&["connect"]));
    let ask = |method: &str, path: &str, key: &str| gateway.call(method, path).key(key).body("12345").send().status;
    let expected = [
        (200, ask("POST", "/v1/connect/rooms/7", &first)),
        (200, ask("POST", "/v1/connect/rooms/8", &first)),
        (200, ask("POST", "/v1/connect/x", &second)),
        (404, ask("POST", "/v1/connect/status/404", &second)),
        (502, ask("POST", "/v1/connect/hang-up", &first)),
        (200, ask("POST", "/v1/pay/x", &first)),
        (403, ask("POST", "/v1/pay/x", &second)),
    ];
    assert!(expected.iter().all(|(wanted, got)| wanted == got), "{expected:?}");
    let org = gateway.admin("GET", "/v1/orgs").send().json()["orgs"][0]["id"].as_str().expect("an org").to_owned();
    let admin = |path: &str| {
        let answer = gateway.admin("GET", path).send();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    let usage = || admin(&format!("/v1/usage?org={org}"));
    until("all are counted", || usage()["total"]["calls"] == 7);
    let usage = usage();
    let total = numbers(&usage["total"]);
    assert_eq!(added_up(usage["by_pillar"].as_object().expect("pillars").values()), total);
    assert_eq!((total["units"], total["bytes_in"], total["gas"]), (4 * 3, 6 * 5, 4_000_000));
    assert!(total["upstream_us"] > 0);
    let by_policy = ["rate-limit", "key-auth", "gas"].map(|policy| total[&format!("fuel_by_policy/{policy}")]);
    assert!(by_policy.iter().all(|fuel| *fuel > 0), "{total:?}");
    assert_eq!(by_policy.iter().sum::<u64>(), total["fuel"]);

    let rows = |query: &str| all_rows(admin, &format!("org={org}&{query}"));
    for by in ["day", "key", "pillar", "route", "day,key", "pillar,route", "key,route", "day,key,pillar,route"] {
        for limit in [1, 2, 200] {
            let rows = rows(&format!("group_by={by}&limit={limit}"));
            assert_eq!(added_up(&rows), total, "{by}, {limit}: {rows:?}");
            assert!(
                rows.iter()
                    .all(|row| by.split(',').all(|by| row.get(if by == "key" { "key_id" } else { by }).is_some()))
            );
        }
    }
    let whole = rows("limit=3");
    assert_eq!(whole, rows(""), "pages are parts of the whole");
    assert_eq!(whole.len(), 5, "{whole:?}");
    let of = |key: &str, pillar: &str, route: &str| {
        let is = |row: &&Value| row["key_id"] == *key && row["pillar"] == *pillar && row["route"] == *route;
        let found: Vec<_> = whole.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{key} {pillar} {route}: {whole:?}");
        found[0].clone()
    };
    let rest = whole.iter().find(|row| row["pillar"] == "pay").expect("a row")["route"].as_str().expect("a name");
    let rooms = of(&one, "connect", "rooms");
    assert_eq!((&rooms["calls"], &rooms["statuses"]["2xx"], &rooms["units"]), (&json!(2), &json!(2), &json!(6)));
    assert_eq!(of(&other, "pay", rest)["denied"], json!({"insufficient_scope": 1}));
    assert_eq!(of(&one, "connect", rest)["denied"], json!({"upstream_broke": 1}));
    assert_eq!(rows("route=rooms"), [rooms]);
    assert_eq!(added_up(&rows(&format!("key={other}&group_by=route")))["calls"], 3);
    assert_eq!(rows("pillar=pay&group_by=pillar").len(), 1);
    assert!(rows("from=2001-01-01&to=2001-12-31").is_empty());

    // The same for a key of the org, whose own calls count meanwhile.
    let own = |path: &str| gateway.get(path).key(&first).send();
    let shown = all_rows(|path| own(path).json(), "limit=2");
    let calls = shown.iter().filter(|row| row["pillar"] != "portico");
    assert_eq!(calls.cloned().collect::<Vec<_>>(), whole);
    assert_eq!(gateway.get("/v1/usage/detail").key(&second).send().error(), "insufficient_scope");
    let strange = "org_01m5k3v0q8f7c2d9x4e6t1r5ya";
    let cursor = own("/v1/usage/detail?limit=1").json()["next_cursor"].as_str().expect("there are more").to_owned();
    for query in [
        "group_by=",
        "group_by=day,hour",
        "from=2026-13-01",
        "to=today",
        "from=2026-02-02&to=2026-02-01",
        "from=2001-01-01",
        "key=x",
        "limit=0",
        "limit=201",
        "cursor=x",
        "month=2026-11",
        &format!("org={strange}"),
        &format!("group_by=day&cursor={cursor}"),
    ] {
        let answer = own(&format!("/v1/usage/detail?{query}"));
        assert_eq!((answer.status, answer.error().as_str()), (422, "invalid_request"), "{query}");
    }
    let restarted = gateway.restart();
    let ask = |path: &str| restarted.admin("GET", path).send().json();
    let again = all_rows(ask, &format!("org={org}"));
    let calls = again.iter().filter(|row| row["pillar"] != "portico");
    assert_eq!(calls.cloned().collect::<Vec<_>>(), whole, "it outlives a restart");
}

#[test]
fn the_program_shows_usage_as_a_table_and_as_json() {
    let stand = Stand::new();
    let serving = stand.serve();
    let run = |arguments: &[&str]| output(stand.path(), &[arguments, &["--config", "gateway.toml"]].concat());
    let admin = serving.admin.to_string();
    let with = |arguments: &[&str]| run(&[arguments, &["--admin", &admin]].concat());
    let issued = with(&["key", "issue", "--name", "k", "--scope", "connect", "--json"]);
    let issued: Value = serde_json::from_slice(&issued.stdout).unwrap_or_else(|_| panic!("{}", told(&issued)));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (key, org) = (text(&issued["secret"]), text(&issued["org"]["id"]));
    let call = crate::harness::request(serving.public, "GET", "/v1/connect/x").key(&key);
    assert_eq!(call.send().status, 200);
    let shown = |arguments: &[&str]| {
        let shown = with(&[&["usage", "--org", &org], arguments].concat());
        assert!(shown.status.success(), "{}", told(&shown));
        String::from_utf8(shown.stdout).expect("text")
    };
    until("it is counted", || shown(&[]).contains("connect"));
    let table = shown(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("PILLAR ") && lines[1].starts_with("connect ") && lines[2].starts_with("all "),
        "{table}"
    );
    assert!(lines.iter().any(|line| line.starts_with("key-auth ")), "{table}");
    let table = shown(&["--by", "pillar,key"]);
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..6], ["*", &text(&issued["id"]), "connect", "*", "1", "1"], "{table}");
    let rows: Value = shown(&["--by", "day", "--by", "route", "--json"]).parse().expect("JSON");
    assert_eq!((&rows["rows"][0]["calls"], rows["rows"][0].get("pillar")), (&json!(1), None), "{rows}");
    let month: Value = shown(&["--json"]).parse().expect("JSON");
    assert_eq!(numbers(&month["total"]), added_up(rows["rows"].as_array().expect("rows")));
    let wrong = with(&["usage", "--from", "2026-11-01"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", told(&wrong));
    let refused = with(&["usage", "--org", &org, "--by", "day", "--from", "tomorrow"]);
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    assert!(told(&refused).contains("from: This is no day"), "{}", told(&refused));
}

#[test]
fn shells_learn_the_commands() {
    let place = tempfile::tempdir().expect("a directory");
    let script = |shell: &str| {
        let made = output(place.path(), &["completions", shell]);
        assert!(made.status.success(), "{}", told(&made));
        String::from_utf8(made.stdout).expect("text")
    };
    assert!(script("zsh").starts_with("#compdef portico"));
    assert!(script("fish").contains("complete -c portico"));
    assert_eq!(output(place.path(), &["completions", "cmd"]).status.code(), Some(2));
    // Asked as bash asks when somebody presses the key.
    std::fs::write(place.path().join("script"), script("bash")).expect("written");
    let ask = "source ./script; COMP_WORDS=(portico usage --b); COMP_CWORD=2; _portico portico --b usage; echo \"${COMPREPLY[@]}\"";
    let answer = std::process::Command::new("bash").args(["-c", ask]).current_dir(place.path()).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "--by", "{}", told(&answer));
}
