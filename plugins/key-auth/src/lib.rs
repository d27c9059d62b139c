//! Refuses whoever is not known or may not call this pillar. The rule itself is in [`admission`].
//!
//! Never sees a key: the gateway resolves the credential, and says only what came of it.

pub mod admission;

use portico_sdk::{About, Auth, Diagnostic, Facts, NoConfig, Policy, Powers, Request, ScopeIndex, Setup, Verdict};

/// Asks for a valid key with the pillar's scope, on every route that does not say `auth = "none"`.
#[derive(Debug)]
pub struct KeyAuth {
    scope: ScopeIndex,
    /// By position of the route: whether anyone may call it.
    open: Vec<bool>,
}

impl Policy for KeyAuth {
    type Config = NoConfig;
    const ABOUT: About =
        About::new("key-auth", env!("CARGO_PKG_VERSION"), "Asks for a valid key that holds the pillar's scope.")
            .sees(Facts::CREDENTIAL)
            .may(Powers::DENY)
            .schema(include_str!("../schema.json"));

    fn configure(_config: NoConfig, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        let scope = setup.look_for(setup.scope());
        let routes = setup.routes().iter();
        let open = routes.map(|route| route.auth == Auth::None).collect();
        Ok(Self { scope, open })
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if self.open.get(request.route as usize) == Some(&true) {
            return Verdict::next();
        }
        match admission::refusal(request.credential, self.scope) {
            None => Verdict::next(),
            Some(denial) => Verdict::deny(denial),
        }
    }
}

portico_sdk::export!(KeyAuth);

#[cfg(test)]
mod tests {
    use portico_sdk::{Action, Credential, Denial, Mode, StandardDenial, testing};

    use super::*;

    fn verdict(route: u32, credential: Credential) -> Action {
        let slot = testing::slot("knowledge")
            .scope("learn")
            .route("certificates.list", Auth::Required)
            .route("verify", Auth::None)
            .build();
        let (policy, plan) = testing::configure::<KeyAuth>(&slot, "{}").expect("no configuration");
        assert_eq!(plan.scopes, ["learn"]);
        let request = testing::request().route(route).credential(credential);
        policy.on_request(&request.build()).action
    }

    #[test]
    fn an_open_route_lets_anyone_pass() {
        assert_eq!(verdict(1, Credential::Absent), Action::Next);
        assert_eq!(verdict(1, Credential::Revoked), Action::Next);
    }

    #[test]
    fn any_other_route_asks_for_a_key_with_the_scope() {
        let refused = |denial| Action::Deny(Denial::Standard(denial));
        let valid = |scopes| testing::valid(Mode::Live, scopes);
        assert_eq!(verdict(0, valid(1)), Action::Next);
        assert_eq!(verdict(0, valid(0)), refused(StandardDenial::InsufficientScope));
        assert_eq!(verdict(0, Credential::Absent), refused(StandardDenial::MissingAuthorization));
    }

    #[test]
    fn a_route_that_was_never_told_is_not_open() {
        assert_ne!(verdict(7, Credential::Absent), Action::Next);
    }

    #[test]
    fn there_is_nothing_to_configure() {
        let slot = testing::slot("connect").build();
        let problems = testing::configure::<KeyAuth>(&slot, r#"{"scope":"x"}"#).expect_err("a key");
        assert_eq!(problems[0].pointer, "/scope");
    }
}
