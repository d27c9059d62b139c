//! Says which limits a request takes from. Reading the configuration is in [`rule`]; counting is the gateway's.
//!
//! Belongs before `key-auth` in a chain: failed logins are only counted by who is asked before the refusal.

pub mod rule;

use portico_sdk::{About, Auth, Diagnostic, Facts, Policy, Powers, Request, Setup, Take, Verdict};

use rule::{Config, When};

/// Takes one from each limit that fits the request.
#[derive(Debug)]
pub struct RateLimit {
    /// By position of the route: whether anyone may call it.
    open: Vec<bool>,
    /// What requests with a valid key take.
    authenticated: Vec<Take>,
    /// What requests without one take on open routes.
    anonymous: Vec<Take>,
    /// What requests without one take on routes that ask for one.
    failed: Vec<Take>,
}

impl Policy for RateLimit {
    type Config = Config;
    const ABOUT: About = About::new(
        "rate-limit",
        env!("CARGO_PKG_VERSION"),
        "Holds callers to so many requests in a time, per key, address or pillar.",
    )
    .sees(Facts::CREDENTIAL)
    .may(Powers::TAKE)
    .schema(include_str!("../schema.json"));

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        let rules = rule::resolve(config, setup);
        let routes = setup.routes().iter();
        let mut policy = Self {
            open: routes.map(|route| route.auth == Auth::None).collect(),
            authenticated: Vec::new(),
            anonymous: Vec::new(),
            failed: Vec::new(),
        };
        for rule in rules {
            let take = Take::one(setup.limit(rule.limit));
            let failed = take.clone().always();
            match rule.when {
                When::Authenticated => policy.authenticated.push(take),
                When::Anonymous => policy.anonymous.push(take),
                When::FailedLogin => policy.failed.push(failed),
                When::Always => {
                    policy.anonymous.push(take.clone());
                    policy.authenticated.push(take);
                    policy.failed.push(failed);
                }
            }
        }
        Ok(policy)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let takes = match request.standing() {
            Some(_) => &self.authenticated,
            None if self.open.get(request.route as usize) == Some(&true) => &self.anonymous,
            None => &self.failed,
        };
        let mut verdict = Verdict::next();
        verdict.takes.clone_from(takes);
        verdict
    }
}

portico_sdk::export!(RateLimit);

#[cfg(test)]
mod tests {
    use portico_sdk::{Credential, Mode, Plan, Subject, testing};

    use super::*;

    fn configured(config: &str) -> (RateLimit, Plan) {
        let slot = testing::slot("connect").route("rooms.list", Auth::Required).route("lobby", Auth::None).build();
        testing::configure(&slot, config).expect("a good configuration")
    }

    /// Names of the limits taken from, and whether that stands after a refusal.
    fn taken(config: &str, route: u32, credential: Credential) -> Vec<(String, bool)> {
        let (policy, plan) = configured(config);
        let request = testing::request().route(route).credential(credential);
        let takes = policy.on_request(&request.build()).takes;
        let name = |take: &Take| plan.limits[take.limit as usize].name.clone();
        takes.iter().map(|take| (name(take), take.always)).collect()
    }

    #[test]
    fn shipped_limits_tell_three_kinds_of_requests_apart() {
        let one = |name: &str, always| vec![(name.to_owned(), always)];
        let valid = testing::valid(Mode::Live, 0);
        assert_eq!(taken("{}", 0, valid), one("per-key", false));
        assert_eq!(taken("{}", 1, valid), one("per-key", false));
        assert_eq!(taken("{}", 1, Credential::Absent), one("per-address", false));
        assert_eq!(taken("{}", 0, Credential::Unknown), one("failed-logins", true));
        assert_eq!(taken("{}", 9, Credential::Absent), one("failed-logins", true));
    }

    #[test]
    fn shipped_limits_are_those_that_the_documentation_promises() {
        let (_, plan) = configured("{}");
        let key = &plan.limits[0];
        assert_eq!((key.subject, key.across_pillars), (Subject::Key, false));
        let quotas: Vec<_> = key.windows.iter().map(|window| window.quota).collect();
        assert_eq!(quotas, [100, 3_000]);
    }

    #[test]
    fn always_means_all_three() {
        let config = r#"{"limits":[{"name":"all","subject":"everyone","when":"always",
            "windows":[{"name":"sec","quota":5,"per":"1s"}]}]}"#;
        let valid = testing::valid(Mode::Sandbox, 0);
        assert_eq!(taken(config, 0, valid), [("all".to_owned(), false)]);
        assert_eq!(taken(config, 1, Credential::Absent), [("all".to_owned(), false)]);
        assert_eq!(taken(config, 0, Credential::Absent), [("all".to_owned(), true)]);
    }
}
