//! Which refusal, if any, a resolved credential comes to. Pure; every outcome is named, so that a new one cannot slip through.

use portico_sdk::{Credential, ScopeIndex, StandardDenial};

/// Why a request with this credential is refused; `None` if it may pass.
pub fn refusal(credential: Option<Credential>, scope: ScopeIndex) -> Option<StandardDenial> {
    use StandardDenial as Why;
    match credential {
        Some(Credential::Valid(standing)) if standing.holds(scope) => None,
        Some(Credential::Valid(_)) => Some(Why::InsufficientScope),
        Some(Credential::Malformed) => Some(Why::InvalidTokenShape),
        Some(Credential::Unknown) => Some(Why::InvalidApiKey),
        Some(Credential::Revoked) => Some(Why::KeyRevoked),
        Some(Credential::Expired) => Some(Why::KeyExpired),
        Some(Credential::AddressNotAllowed) => Some(Why::AddressNotAllowed),
        // `None`: the gateway did not pass the fact on. Nobody is known then.
        Some(Credential::Absent) | None => Some(Why::MissingAuthorization),
    }
}

#[cfg(test)]
mod tests {
    use portico_sdk::{Mode, Setup, testing};

    use super::*;

    #[test]
    fn each_outcome_has_its_refusal() {
        let slot = testing::slot("connect").build();
        let scope = Setup::new(&slot).look_for("connect");
        let table = [
            (Some(testing::valid(Mode::Live, 1)), None),
            (Some(testing::valid(Mode::Sandbox, 1)), None),
            (Some(testing::valid(Mode::Live, 0b10)), Some(StandardDenial::InsufficientScope)),
            (Some(Credential::Absent), Some(StandardDenial::MissingAuthorization)),
            (Some(Credential::Malformed), Some(StandardDenial::InvalidTokenShape)),
            (Some(Credential::Unknown), Some(StandardDenial::InvalidApiKey)),
            (Some(Credential::Revoked), Some(StandardDenial::KeyRevoked)),
            (Some(Credential::Expired), Some(StandardDenial::KeyExpired)),
            (Some(Credential::AddressNotAllowed), Some(StandardDenial::AddressNotAllowed)),
            (None, Some(StandardDenial::MissingAuthorization)),
        ];
        for (credential, expected) in table {
            assert_eq!(refusal(credential, scope), expected, "{credential:?}");
        }
    }
}
