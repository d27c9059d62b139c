use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::problem::{Asked, Report};
use super::*;

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(directory)).expect("a directory").flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    found
}

fn refusal(text: &str) -> String {
    parse(text, Path::new("x.toml")).expect_err("refused").to_string()
}

/// Each `bad_*.toml` is refused with exactly the lines of its `.err`. `PORTICO_BLESS=1` writes those anew.
#[test]
fn every_bad_case_is_refused_as_written_down() {
    let cases = files("tests/cases/config", "toml");
    assert!(cases.len() >= 10, "the cases are gone");
    let mut wrong = Vec::new();
    for case in cases {
        let name = PathBuf::from(case.file_name().expect("a name"));
        let text = fs::read_to_string(&case).expect("a case");
        let found = match parse(&text, &name) {
            Ok(_) => "accepted\n".to_owned(),
            Err(problems) => format!("{problems}\n"),
        };
        let expected = case.with_extension("err");
        if std::env::var_os("PORTICO_BLESS").is_some() {
            fs::write(&expected, &found).expect("written");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != found || found == "accepted\n" {
            wrong.push(format!("--- {}\n{found}", name.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_shipped_configuration_loads() {
    let shipped: Vec<_> = files("config", "toml").into_iter().chain(files("config/examples", "toml")).collect();
    assert!(shipped.len() >= 6, "the configurations are gone");
    for path in shipped {
        if let Err(problems) = load(&path) {
            panic!("{problems}");
        }
    }
}

#[test]
fn the_shipped_gateway_is_the_one_that_was_promised() {
    let config = load(&repository().join("config/gateway.toml")).expect("it loads");
    let pillars: Vec<_> = config.pillars.keys().map(String::as_str).collect();
    assert_eq!(pillars, ["commerce", "connect", "developer", "identity", "knowledge", "logistics", "pay"]);
    for pillar in config.pillars.values() {
        assert_eq!(pillar.prefix, format!("/v1/{}", pillar.name));
        assert_eq!(pillar.scope, pillar.name);
        assert!(pillar.chain.iter().any(|policy| policy == "key-auth"), "{}", pillar.name);
        let open: Vec<_> = pillar.rules.iter().filter(|rule| !rule.auth).map(|rule| rule.name.as_str()).collect();
        assert_eq!(open, if pillar.name == "knowledge" { vec!["verify"] } else { vec![] }, "{}", pillar.name);
    }
    let with_upstream: Vec<_> = config.pillars.values().filter_map(|pillar| pillar.upstream.as_deref()).collect();
    assert_eq!(with_upstream, ["connect", "knowledge"]);
    assert_eq!(config.policies["gas"].grant.maximum_charge, 1_000_000_000);
}

#[test]
fn nothing_at_all_is_a_whole_configuration() {
    let config = parse("", Path::new("etc/portico.toml")).expect("all defaults");
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:9099");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9100");
    assert!(config.gateway.workers >= 1);
    assert_eq!((config.keys.most, config.keys.hot), (10_000, 1_000_000));
    assert_eq!(config.keys.forget_after.as_secs(), 90 * 86_400);
    assert_eq!(config.data.directory, Path::new("etc/.portico/data"));
    assert_eq!(config.secrets.master_key, SecretSource::File("etc/.portico/master.key".into()));
}

#[test]
fn a_pillar_gets_its_defaults_from_its_name_and_the_default_chain() {
    let text = "[defaults]\nchain = [\"a\"]\n[policies.a]\n[upstreams.u]\nendpoints = [\"http://u:1\"]\n\
                [pillars.p]\nupstream = \"u\"\nroutes = [{ path = \"/x\", methods = [\"GET\", \"PUT\"] }, { path = \"/y\" }]\n\
                [pillars.q]\nchain = []\n";
    let config = parse(text, Path::new("x.toml")).expect("it makes sense");
    let pillar = &config.pillars["p"];
    assert_eq!((pillar.prefix.as_str(), pillar.scope.as_str()), ("/v1/p", "p"));
    assert_eq!(pillar.chain, ["a"]);
    assert_eq!(pillar.assertion, Assertion::On { audience: "p".into() });
    let names: Vec<_> = pillar.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["GET,PUT /x", "/y", "*"]);
    assert!(pillar.rules.iter().all(|rule| rule.auth));
    assert!(config.pillars["q"].chain.is_empty());
    assert_eq!(config.pillars["q"].assertion, Assertion::Off);
}

#[test]
fn a_pillars_configuration_is_laid_over_the_policys_own() {
    let text = "[policies.a.config]\nkeep = 1\nlist = [1, 2]\nin.keep = true\nin.change = 1\n[pillars.p]\nchain = [\"a\"]\n\
                [pillars.p.config.a]\nlist = [3]\nin.change = 2\nwhen = 2026-01-31\n[pillars.q]\nchain = [\"a\"]\n";
    let config = parse(text, Path::new("x.toml")).expect("it makes sense");
    let policy = &config.policies["a"];
    let laid = serde_json::Value::Object(config.pillars["p"].configuration(policy, None));
    let expected = serde_json::json!({
        "keep": 1, "list": [3], "in": { "keep": true, "change": 2 }, "when": "2026-01-31"
    });
    assert_eq!(laid, expected);
    assert_eq!(config.pillars["q"].configuration(policy, None), policy.config);
}

#[test]
fn what_only_a_restart_changes_is_named() {
    let with = |text: &str| parse(text, Path::new("x.toml")).expect("it makes sense");
    let before = with("");
    assert!(before.needs_restart(&with("[gateway]\nname = \"Other\"")).is_empty());
    let after = with("[gateway]\nlisten = \"127.0.0.1:1\"\nworkers = 1000\n[data]\ndirectory = \"/x\"");
    assert_eq!(before.needs_restart(&after), ["gateway.listen", "gateway.workers", "data.directory"]);
}

/// The key with names and positions taken out: `policies.*.fuel`.
fn pattern(path: &str) -> String {
    let mut parts: Vec<_> = path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
    if ["policies", "upstreams", "pillars"].contains(&parts[0]) && parts.len() > 1 {
        parts[1] = "*";
    }
    if parts.starts_with(&["telemetry", "traces", "headers"]) && parts.len() > 3 {
        parts[3] = "*";
    }
    parts.join(".")
}

/// What keeps `reference.toml` true: the reader itself reports each key that it asks for, with the default it would take.
#[test]
fn the_reference_has_every_key_with_its_default() {
    let path = repository().join("config/reference.toml");
    let text = fs::read_to_string(&path).expect("the reference");
    let report = Report::new(&text);
    assert!(resolve::checked(&report, &text, &path).is_some(), "it loads");
    let asked = report.asked.take();
    let keys: BTreeSet<_> = asked.iter().map(|key| pattern(&key.path)).collect();
    for section in [
        "policies.*.fuel",
        "upstreams.*.endpoints",
        "pillars.*.prefix",
        "pillars.*.routes.path",
        "secrets.master_key.file",
        "pillars.*.assertion.audience",
    ] {
        assert!(keys.contains(section), "the reference has no {section}");
    }
    for key in keys {
        let places: Vec<&Asked> = asked.iter().filter(|it| pattern(&it.path) == key).collect();
        let name = key.rsplit('.').next().unwrap_or_default();
        let has_default = places.iter().any(|it| it.default.is_some());
        let written = if has_default {
            // Where a default follows from the rest of the file, any place that shows it will do.
            places.iter().any(|it| it.written.is_some() && (it.written == it.default || follows(&key)))
        } else {
            places.iter().any(|it| it.written.is_some()) || text.contains(&format!("`{name} = "))
        };
        let defaults: BTreeSet<_> = places.iter().filter_map(|it| it.default.as_deref()).collect();
        assert!(written, "the reference does not show {key} with its default {defaults:?}");
    }
}

/// The bounds in its comments are those that the reader names when they are broken.
#[test]
fn the_reference_tells_every_range() {
    let path = repository().join("config/reference.toml");
    let text = fs::read_to_string(&path).expect("the reference");
    let lines: Vec<_> = text.lines().collect();
    let mut checked = 0;
    for (index, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with('#')) else { continue };
        let digits = value.trim_matches('"').trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let too_much = match value.trim_matches('"').trim_start_matches(digits) {
            _ if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => continue,
            "" if value.starts_with('"') => continue,
            "" => "18446744073709551615",
            "ms" | "s" | "m" | "h" | "d" => "\"99999999d\"",
            _ => "\"9999999GiB\"",
        };
        let mut broken = lines.clone();
        let new = format!("{key} = {too_much}");
        broken[index] = &new;
        let told = refusal(&broken.join("\n"));
        let allowed = told.split("allowed is ").nth(1).unwrap_or_else(|| panic!("{key} has no bounds: {told}"));
        let comment: Vec<_> = lines[..index].iter().rev().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.iter().any(|line| line.contains(allowed)), "the comment of {key} does not say {allowed}");
        checked += 1;
    }
    assert!(checked >= 12, "only {checked} ranges were found");
}

/// Keys whose default is the absence of a list, or follows from other keys; their comments say so.
fn follows(key: &str) -> bool {
    ["api.chain", "pillars.*.chain", "pillars.*.routes.methods", "pillars.*.routes.name"].contains(&key)
}

#[test]
fn mistakes_are_told_all_at_once_and_in_order() {
    let told = refusal("[gatway]\nlisten = 1\n[gateway]\nlisten = 1\nworkers = -1\n");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], "x.toml:1:2: gatway: unknown key; did you mean `gateway`?");
    assert!(lines[1].starts_with("x.toml:4:10: gateway.listen: must be a text in quotes"), "{told}");
    assert!(lines[2].starts_with("x.toml:5:11: gateway.workers: -1 is out of range"), "{told}");
}

#[test]
fn no_secret_is_repeated() {
    let key = "0123456789abcdef".repeat(4);
    for text in [
        format!("[secrets]\nmaster_key = \"{key}\""),
        format!("[secrets]\nmaster_key = {{ env = \"{key}\" }}"),
        format!("[secrets]\nmaster_key = {{ env = \"hunter2 {key}\" }}"),
        format!("[telemetry.traces]\nheaders.authorization = \"{key}\""),
        format!("[telemetry.traces]\nheaders.authorization = {{ env = \"{key}\" }}"),
        format!("[telemetry.traces]\nendpoint = \"https://user:{key}@host\""),
        format!("[upstreams.u]\nendpoints = [\"http://user:{key}@host:80\"]"),
        format!("[upstreams.u]\nendpoints = [\"http://user:{key}@host:80\", \"http://user:{key}@host:80\"]"),
    ] {
        let told = refusal(&text);
        assert!(!told.contains("0123456789abcdef"), "{told}");
    }
}

#[test]
fn what_cannot_be_read_is_one_line() {
    let told = load(&repository().join("config")).expect_err("a directory");
    assert_eq!((told.count(), told.list()[0].line), (1, 0));
    assert!(
        told.to_string().ends_with("config: this is a directory, not a file; give the path of a TOML file"),
        "{told}"
    );
}

#[test]
fn deep_and_large_texts_are_refused_and_survived() {
    let deep = format!("[policies.a.config]\n{}b = {}1{}", "a.".repeat(60), "{a=".repeat(70), "}".repeat(70));
    assert!(refusal(&deep).contains("deeper"), "{}", refusal(&deep));
    for text in [
        "a.".repeat(100_000) + "a=1",
        "a=".to_owned() + &"[".repeat(100_000),
        "[[a]]\n".repeat(10_000),
        "=\n".repeat(10_000),
    ] {
        assert!(parse(&text, Path::new("x.toml")).is_err());
    }
    let many: String = (0..3_000).map(|index| format!("k{index} = 1\n")).collect();
    assert_eq!(parse(&many, Path::new("x.toml")).expect_err("refused").count(), 3_000);
}

/// Words and signs that make texts of which many are TOML, and some nearly a configuration.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "[gateway]\n",
        "[policies.a]\n",
        "[policies.a.grant]\n",
        "[upstreams.u]\n",
        "[pillars.p]\n",
        "[[pillars.p.routes]]\n",
        "[pillars.p.config.a]\n",
        "listen = ",
        "plugin = ",
        "powers = ",
        "path = ",
        "methods = ",
        "endpoints = ",
        "chain = ",
        "master_key = ",
        "fuel = ",
        "deadline = ",
        "assertion = ",
        "routes = ",
        "prefix = ",
        "\"\"\n",
        "\"/{id}\"\n",
        "\"/{*a}\"\n",
        "\"/a{b}c{d}\"\n",
        "[\"GET\"]\n",
        "[\"a\", \"a\"]\n",
        "[\"http://[::1\"]\n",
        "{ file = \"x\" }\n",
        "-1\n",
        "1e400\n",
        "nan\n",
        "0x7fffffffffffffffffff\n",
        "\"5s\"\n",
        "\"\\u0000\"\n",
        "true\n",
        "1979-05-27\n",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ".",
        "é",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

fn is_sound(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = parse(text, Path::new("x.toml")) {
        prop_assert!(problems.count() > 0);
        let lines = text.split('\n').count();
        for problem in problems.list() {
            prop_assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
            prop_assert!(!problem.message.is_empty() && !problem.to_string().contains('\n'), "{problem:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        is_sound(&text)?;
    }

    #[test]
    fn nothing_that_looks_like_a_configuration_panics(text in fragments()) {
        is_sound(&text)?;
    }

    #[test]
    fn no_route_panics(paths in prop::collection::vec("(/[a-c{}*.%_-]{0,6}){1,3}", 1..8)) {
        let routes: Vec<_> = paths.iter().map(|path| format!("{{ path = {path:?} }}")).collect();
        is_sound(&format!("[pillars.p]\nroutes = [{}]", routes.join(", ")))?;
    }
}
