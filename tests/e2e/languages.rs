//! The examples in Python, JavaScript and Rust on WASI: configured as their READMEs say, they do the same thing.

use crate::harness::{Gateway, ONE_WORKER, Origin, cold_catalog, guest};
use serde_json::json;

const LANGUAGES: [&str; 3] = ["rust", "python", "javascript"];

/// The configuration that an example's README shows.
fn shown(language: &str) -> String {
    let directory = if language == "rust" { "rust-wasi" } else { language };
    let path = format!("{}/../examples/{directory}-policy/README.md", env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let section = readme.split("## Use it").nth(1).expect("a section on its use");
    let block = section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a configuration");
    match language {
        // It imports nothing of WASI, and so is timed by the wall: a busy machine must not be taken for a policy that hangs.
        "javascript" => block.replace("grant.powers", "deadline = \"2s\"\ngrant.powers"),
        _ => block.to_owned(),
    }
}

fn toml(origin: &Origin) -> String {
    let policies: String = LANGUAGES.iter().map(|language| shown(language) + "\n").collect();
    let pillar = |language: &&str| {
        format!(
            "[pillars.{language}]\nupstream = \"origin\"\nchain = [\"{language}-hello\"]\n\
             [[pillars.{language}.routes]]\npath = \"/hello\"\nauth = \"none\"\n"
        )
    };
    let pillars: String = LANGUAGES.iter().map(pillar).collect();
    format!("{ONE_WORKER}{policies}[upstreams.origin]\nendpoints = [\"http://{}\"]\n{pillars}", origin.address)
}

#[test]
fn the_examples_do_what_their_readmes_say() {
    let origin = Origin::echo();
    let components = LANGUAGES.map(|language| (format!("{language}-hello"), guest(&format!("{language}-hello"))));
    let components: Vec<(&str, Vec<u8>)> = components.iter().map(|(name, bytes)| (&**name, bytes.clone())).collect();
    let catalog = cold_catalog();
    let start = |toml: &str| Gateway::try_start_on(catalog.clone(), toml, &components);
    let gateway = start(&toml(&origin)).unwrap_or_else(|error| panic!("{error}"));
    let greeted = |gateway: &Gateway, language: &str, name: &str| {
        let answer = gateway.get(&format!("/v1/{language}/hello")).field("x-name", name).send();
        assert_eq!(answer.status, 200, "{language}: {answer:?}");
        let fields = answer.json()["fields"].as_array().expect("fields").clone();
        let greeting = fields.iter().find(|field| field[0] == "x-greeting").expect("a greeting");
        greeting[1].as_str().expect("a text").to_owned()
    };
    for language in LANGUAGES {
        let path = format!("/v1/{language}/hello");
        for _ in 0..3 {
            assert_eq!(greeted(&gateway, language, "ann"), format!("good morning, ann, at {path}"));
        }
        assert_eq!(greeted(&gateway, language, ""), format!("good morning, stranger, at {path}"));
        let answer = gateway.get(&path).field("x-name", "nobody").send();
        assert_eq!((answer.status, answer.error().as_str()), (403, "nobody_is_not_welcome"), "{language}");
    }
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    for policy in policies["policies"].as_array().expect("a list") {
        assert_eq!((&policy["failures"], &policy["calls"]), (&json!({}), &json!(5)), "{policy}");
    }

    // What they cannot be configured with is said by themselves, each at its place.
    let blank = toml(&origin).replace("config.greeting = \"good morning\"", "config.greeting = \" \"");
    let error = start(&blank).err().expect("refused").to_string();
    for language in LANGUAGES {
        let told = format!("policies.{language}-hello.config.greeting: A greeting needs words");
        assert!(error.contains(&told), "wanted {told:?}: {error}");
    }

    // Compiled once, and then kept.
    let gateway = gateway.restart_cold_after(|| {});
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    for policy in policies["policies"].as_array().expect("a list") {
        assert_eq!(policy["code"], "cached", "{policy}");
    }
}
