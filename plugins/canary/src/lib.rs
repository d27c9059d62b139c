//! Sends a weighted share of callers to another upstream. Who goes where is in [`choice`], new paths are in [`rewrite`].
//!
//! Written as the example of a pillar plugin by a third party: it uses no more than the published contract.

pub mod choice;
pub mod rewrite;

use portico_sdk::{About, Diagnostic, Facts, Policy, Powers, Request, Setup, TargetIndex, Verdict, Write};
use serde::Deserialize;

use choice::Shares;
use rewrite::Rewrites;

/// Chooses the upstream by key, and by chance where nobody is known.
#[derive(Debug)]
pub struct Canary {
    shares: Shares,
    upstreams: Vec<Upstream>,
    rewrites: Rewrites,
}

#[derive(Debug)]
struct Upstream {
    target: TargetIndex,
    name: String,
}

/// One slot's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    upstreams: Vec<Share>,
    #[serde(default)]
    rewrite: Vec<rewrite::Prefix>,
    salt: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    name: String,
    weight: u32,
}

impl Policy for Canary {
    type Config = Config;
    const ABOUT: About = About::new(
        "canary",
        env!("CARGO_PKG_VERSION"),
        "Sends a weighted share of callers to another upstream, each caller always to the same.",
    )
    .sees(Facts::PRINCIPAL.union(Facts::PATH).union(Facts::SEED))
    .may(Powers::FORWARD.union(Powers::REWRITE_PATH))
    .writes(&["x-canary"])
    .schema(include_str!("../schema.json"));

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        let salt = config.salt.as_deref().unwrap_or(setup.pillar());
        let shares = Shares::new(salt, config.upstreams.iter().map(|share| share.weight));
        if shares.total() == 0 {
            setup.problem("/upstreams", "Nobody could be sent anywhere; give at least one upstream a weight above 0.");
        }
        for (at, share) in config.upstreams.iter().enumerate() {
            let earlier = &config.upstreams[..at];
            if earlier.iter().any(|other| other.name == share.name) {
                let message = format!("`{}` stands here already; add up its weights.", share.name);
                setup.problem(format!("/upstreams/{at}/name"), message);
            }
        }
        let rewrites = Rewrites::new(config.rewrite, setup);
        let upstreams =
            config.upstreams.into_iter().map(|share| Upstream { target: setup.target(&share.name), name: share.name });
        Ok(Self { shares, upstreams: upstreams.collect(), rewrites })
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let key = request.principal.as_ref().map(|principal| &*principal.key);
        let chosen = self.shares.choose(key, request.seed.unwrap_or_default());
        let Some(upstream) = self.upstreams.get(chosen) else {
            return Verdict::next();
        };
        let verdict = Verdict::forward(upstream.target).set(X_CANARY, upstream.name.as_str());
        let path = request.path.as_deref();
        match path.and_then(|path| self.rewrites.rewrite(path)) {
            Some(path) => verdict.rewrite_path(path),
            None => verdict,
        }
    }
}

const X_CANARY: Write = Canary::ABOUT.write("x-canary");

portico_sdk::export!(Canary);

#[cfg(test)]
mod tests {
    use portico_sdk::{Action, Change, testing};

    use super::*;

    const CONFIG: &str = r#"{"upstreams":[{"name":"stable","weight":9},{"name":"next","weight":1}],
        "rewrite":[{"from":"/v1/connect","to":"/"}]}"#;

    #[test]
    fn the_verdict_names_upstream_path_and_field_alike() {
        let slot = testing::slot("connect").build();
        let (policy, plan) = testing::configure::<Canary>(&slot, CONFIG).expect("a configuration");
        assert_eq!(plan.targets, ["stable", "next"]);
        for key in 0..50 {
            let request = testing::request().principal("org_1", &format!("key_{key}")).path("/v1/connect/rooms");
            let verdict = policy.on_request(&request.build());
            let Action::Forward(target) = verdict.action else { panic!("canary always forwards") };
            let name = plan.targets[target as usize].clone().into_bytes();
            assert_eq!(verdict.request_edits[0].change, Change::Set(name));
            assert_eq!(verdict.path.as_deref(), Some("/rooms"));
        }
    }

    #[test]
    fn mistakes_are_found_at_once() {
        let slot = testing::slot("connect").build();
        let config = r#"{"upstreams":[{"name":"a","weight":0},{"name":"a","weight":0}],
            "rewrite":[{"from":"x","to":"/"},{"from":"/a/","to":"y"},{"from":"/a","to":"/"}]}"#;
        let problems = testing::configure::<Canary>(&slot, config).expect_err("mistakes");
        let pointers: Vec<_> = problems.iter().map(|problem| &*problem.pointer).collect();
        assert_eq!(
            pointers,
            ["/upstreams", "/upstreams/1/name", "/rewrite/0/from", "/rewrite/1/to", "/rewrite/2/from"]
        );
    }
}
