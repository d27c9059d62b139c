//! The gateway's own API as one more pillar: its rules come from here, its policies from `[api]`.
//!
//! It has no upstream: what passed its chain and the guard is answered inside. So no verdict can send its requests elsewhere,
//! and none can move them to another rule, which may ask for another scope.

use super::{Pillar, Target};
use crate::config::{self, Config, OWN};
use crate::key::Management;
use crate::route;
use http::Method;

/// One operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name: that of the rule, also in usage.
    pub name: &'static str,
    /// Its method; who may GET may HEAD.
    pub method: &'static str,
    /// Where it begins: no pillar can lie there.
    pub base: &'static str,
    /// Its path below that, in matchit's syntax; empty for the base itself.
    pub below: &'static str,
    /// Who may use it.
    pub needs: Needs,
}

/// Who may use an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anyone.
    Nothing,
    /// Whoever is known.
    Principal,
    /// Whoever holds one of these management scopes: what the table of the API's rights says of keys, as a test holds.
    Management(&'static [Management]),
}

impl Needs {
    /// The management scopes of which one is needed; empty where none is.
    pub fn management(self) -> &'static [Management] {
        match self {
            Self::Nothing | Self::Principal => &[],
            Self::Management(any) => any,
        }
    }
}

const READS_KEYS: Needs = Needs::Management(&[Management::KeysRead, Management::KeysWrite]);
const WRITES_KEYS: Needs = Needs::Management(&[Management::KeysWrite]);
const WRITES_WEBHOOKS: Needs = Needs::Management(&[Management::WebhooksWrite]);
const READS_USAGE: Needs = Needs::Management(&[Management::UsageRead]);

/// Where the identity pillar would answer who calls; until it has an upstream, the gateway does.
pub const IDENTITY: &str = "/v1/identity/me";

/// All of them, in the order of their documentation.
pub const ENDPOINTS: [Endpoint; 23] = [
    endpoint("me", "GET", "/v1/me", "", Needs::Principal),
    endpoint("identity.me", "GET", IDENTITY, "", Needs::Principal),
    endpoint("usage", "GET", "/v1/usage", "", READS_USAGE),
    endpoint("usage.history", "GET", "/v1/usage", "/history", READS_USAGE),
    endpoint("usage.detail", "GET", "/v1/usage", "/detail", READS_USAGE),
    endpoint("requests.show", "GET", "/v1/usage", "/requests/{id}", READS_USAGE),
    endpoint("requests", "GET", "/v1/requests", "", READS_USAGE),
    endpoint("keys.list", "GET", "/v1/keys", "", READS_KEYS),
    endpoint("keys.issue", "POST", "/v1/keys", "", WRITES_KEYS),
    endpoint("keys.show", "GET", "/v1/keys", "/{id}", READS_KEYS),
    endpoint("keys.revoke", "DELETE", "/v1/keys", "/{id}", WRITES_KEYS),
    endpoint("keys.rotate", "POST", "/v1/keys", "/{id}/rotate", WRITES_KEYS),
    endpoint("keys.scope", "PATCH", "/v1/keys", "/{id}/scope", WRITES_KEYS),
    endpoint("webhooks.list", "GET", "/v1/webhooks", "", WRITES_WEBHOOKS),
    endpoint("webhooks.create", "POST", "/v1/webhooks", "", WRITES_WEBHOOKS),
    endpoint("webhooks.show", "GET", "/v1/webhooks", "/{id}", WRITES_WEBHOOKS),
    endpoint("webhooks.change", "PATCH", "/v1/webhooks", "/{id}", WRITES_WEBHOOKS),
    endpoint("webhooks.delete", "DELETE", "/v1/webhooks", "/{id}", WRITES_WEBHOOKS),
    endpoint("webhooks.rotate", "POST", "/v1/webhooks", "/{id}/rotate", WRITES_WEBHOOKS),
    endpoint("webhooks.test", "POST", "/v1/webhooks", "/{id}/test", WRITES_WEBHOOKS),
    endpoint("webhooks.deliveries", "GET", "/v1/webhooks", "/{id}/deliveries", WRITES_WEBHOOKS),
    endpoint("openapi.json", "GET", "/openapi.json", "", Needs::Nothing),
    endpoint("openapi.yaml", "GET", "/openapi.yaml", "", Needs::Nothing),
];

const fn endpoint(
    name: &'static str,
    method: &'static str,
    base: &'static str,
    below: &'static str,
    needs: Needs,
) -> Endpoint {
    Endpoint { name, method, base, below, needs }
}

impl Endpoint {
    /// The whole path.
    pub fn path(&self) -> String {
        [self.base, self.below].concat()
    }

    /// Whether it makes something, and so is not done again for a request that comes again with its `Idempotency-Key`.
    pub fn is_done_once(&self) -> bool {
        self.method == "POST"
    }

    fn methods(&self) -> Vec<String> {
        match self.method {
            "GET" => vec!["GET".to_owned(), "HEAD".to_owned()],
            other => vec![other.to_owned()],
        }
    }
}

/// Whether an operation is there under this configuration.
pub fn is_served(endpoint: &Endpoint, config: &Config) -> bool {
    let below =
        |prefix: &str| prefix.strip_prefix(IDENTITY).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    endpoint.base != IDENTITY || {
        let identity = config.pillars.get("identity");
        identity.is_some_and(|it| it.prefix == "/v1/identity" && it.upstream.is_none() && it.sandbox.is_none())
            && !config.pillars.values().any(|pillar| below(&pillar.prefix))
    }
}

/// The pillar, as a configuration would write it.
pub(super) fn written(config: &Config) -> config::Pillar {
    let rule = |name: &str, path: Option<String>, methods, auth| config::Rule {
        name: name.to_owned(),
        path,
        methods,
        auth,
        chain: None,
        config: config::Overlays::new(),
    };
    let known = |endpoint: &Endpoint| endpoint.needs != Needs::Nothing;
    let mut rules: Vec<_> =
        ENDPOINTS.iter().map(|it| rule(it.name, Some(it.path()), it.methods(), known(it))).collect();
    // Another method, or a path below one of the bases: of those that need a key, and of those that do not.
    rules.push(rule("*", None, Vec::new(), true));
    rules.push(rule("open", None, Vec::new(), false));
    config::Pillar {
        name: OWN.to_owned(),
        prefix: String::new(),
        scope: OWN.to_owned(),
        chain: config.api.chain.clone(),
        config: config.api.config.clone(),
        upstream: None,
        sandbox: None,
        strip_prefix: false,
        assertion: config::Assertion::Off,
        openapi: None,
        rules,
    }
}

/// Says of each rule what it asks for.
pub(super) fn finish(pillar: &mut Pillar) {
    pillar.is_own = true;
    for rule in &mut pillar.rules {
        let endpoint = ENDPOINTS.iter().find(|endpoint| *endpoint.name == *rule.name);
        rule.management = endpoint.map_or(&[], |endpoint| endpoint.needs.management());
    }
}

/// Adds its paths.
pub(super) fn add_routes(
    routes: &mut route::Table<Target>,
    config: &Config,
    pillar: u16,
) -> Result<(), route::RouteError> {
    let target = |rule: usize| Target { pillar, rule: u16::try_from(rule).unwrap_or(u16::MAX) };
    let (rest, open) = (target(ENDPOINTS.len()), target(ENDPOINTS.len() + 1));
    let mut bases: Vec<_> = ENDPOINTS.iter().filter(|endpoint| is_served(endpoint, config)).map(|it| it.base).collect();
    bases.dedup();
    for base in bases {
        let of_base = ENDPOINTS.iter().enumerate().filter(|(_, endpoint)| endpoint.base == base);
        let rules = of_base.map(|(position, endpoint)| route::Rule {
            path: if endpoint.below.is_empty() { "/" } else { endpoint.below }.to_owned(),
            methods: endpoint.methods().iter().filter_map(|it| Method::from_bytes(it.as_bytes()).ok()).collect(),
            payload: target(position),
        });
        let is_open = ENDPOINTS.iter().filter(|it| it.base == base).all(|it| it.needs == Needs::Nothing);
        routes.add(base, rules.collect(), if is_open { open } else { rest })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("gateway.toml")).expect("a configuration")
    }

    fn found(text: &str, method: Method, path: &str) -> Option<&'static str> {
        let mut routes = route::Table::default();
        add_routes(&mut routes, &config(text), 0).expect("routes");
        let rule = usize::from(routes.find(path, &method)?.payload.rule);
        Some(ENDPOINTS.get(rule).map_or("*", |endpoint| endpoint.name))
    }

    #[test]
    fn each_operation_has_its_rule_and_the_rest_of_each_base_another() {
        let none = "[pillars.connect]\n";
        for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.base != IDENTITY) {
            let path = endpoint.path().replace("{id}", "key_7");
            let method = Method::from_bytes(endpoint.method.as_bytes()).expect("a method");
            assert_eq!(found(none, method, &path), Some(endpoint.name));
            assert_eq!(found(none, Method::PUT, &path), Some("*"));
        }
        assert_eq!(found(none, Method::HEAD, "/v1/me"), Some("me"));
        assert_eq!(found(none, Method::GET, "/v1/keys/a/b"), Some("*"));
        for path in ["/v1", "/v1/meow", "/v1/connect", IDENTITY] {
            assert_eq!(found(none, Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn identity_answers_who_calls_once_it_has_an_upstream() {
        let scaffold = "[pillars.identity]\n";
        assert_eq!(found(scaffold, Method::GET, IDENTITY), Some("identity.me"));
        let moved = "[pillars.identity]\nprefix = \"/id\"\n";
        let taken = "[pillars.identity]\n[pillars.other]\nprefix = \"/v1/identity/me\"\n";
        let upstream = "[upstreams.a]\nendpoints = [\"http://127.0.0.1:1\"]\n[pillars.identity]\n";
        for text in [moved.to_owned(), taken.to_owned(), format!("{upstream}upstream = \"a\"\n")] {
            assert_eq!(found(&text, Method::GET, IDENTITY), None, "{text}");
        }
    }

    #[test]
    fn no_pillar_can_lie_at_a_base() {
        for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.base != IDENTITY) {
            for prefix in [endpoint.base.to_owned(), format!("{}/x", endpoint.base)] {
                let text = format!("[pillars.other]\nprefix = \"{prefix}\"\n");
                let refused = config::parse(&text, Path::new("gateway.toml")).expect_err("the gateway's own");
                assert!(refused.to_string().contains("answers itself"), "{refused}");
            }
        }
    }

    #[test]
    fn neither_its_name_nor_its_scope_can_be_taken() {
        for (text, why) in
            [("[pillars.portico]\n", "own API"), ("[pillars.a]\nscope = \"portico\"\n", "held by every key")]
        {
            let refused = config::parse(text, Path::new("gateway.toml")).expect_err("reserved");
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }
}
