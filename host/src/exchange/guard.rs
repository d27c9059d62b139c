//! Who a caller is taken for, and the gateway's own guard over what policies decided.

use crate::credential::Credential;
use crate::denial::Denial;
use crate::key::Mode;
use crate::plugin::{Claim, contract};
use crate::principal::Principal;
use crate::snapshot::{Pillar, Target};

/// Who calls: by the policy that said so last, or by a valid key.
pub(super) fn principal<'a>(credential: &'a Credential, claim: Option<&'a Claim>) -> Option<Principal<'a>> {
    match (claim, credential.valid()) {
        (Some(claim), _) => Some(Principal::Claimed(claim)),
        (None, Some(key)) => Some(Principal::Key(key)),
        (None, None) => None,
    }
}

/// Live or sandbox. A sandbox key stays one, whoever vouches for its bearer.
pub(super) fn mode(credential: &Credential, principal: Option<Principal<'_>>) -> Option<Mode> {
    match credential.valid() {
        Some(key) if key.mode == Mode::Sandbox => Some(Mode::Sandbox),
        _ => principal.map(|principal| principal.mode()),
    }
}

/// The gateway's own guard: what needs a principal gets none without it, whatever policies said or failed to say.
pub(super) fn check(
    pillar: &Pillar,
    target: Target,
    credential: &Credential,
    principal: Option<Principal<'_>>,
) -> Result<(), Denial> {
    let rule = &pillar.rules[usize::from(target.rule)];
    if !rule.auth {
        return Ok(());
    }
    let Some(principal) = principal else {
        return Err(match credential {
            Credential::Absent => Denial::MissingAuthorization,
            Credential::Malformed => Denial::InvalidTokenShape,
            Credential::Unknown | Credential::Valid(_) => Denial::InvalidApiKey,
            Credential::Revoked(_) => Denial::KeyRevoked,
            Credential::Expired(_) => Denial::KeyExpired,
            Credential::AddressNotAllowed(_) => Denial::AddressNotAllowed,
        });
    };
    let lacking = match rule.management {
        // The scope of the gateway's own API is held by whoever is known.
        [] if pillar.is_own || principal.holds(&pillar.scope) => return Ok(()),
        [] => pillar.scope.clone(),
        any if any.iter().any(|one| principal.manages(*one)) => return Ok(()),
        [first, ..] => first.name().to_owned(),
    };
    Err(Denial::InsufficientScope { scope: lacking })
}

/// A policy's refusal, in the gateway's words where it has some.
pub(super) fn denial(denial: contract::Denial, pillar: &Pillar) -> Denial {
    use contract::StandardDenial as Known;
    match denial {
        contract::Denial::Standard(known) => match known {
            Known::MissingAuthorization => Denial::MissingAuthorization,
            Known::InvalidTokenShape => Denial::InvalidTokenShape,
            Known::InvalidApiKey => Denial::InvalidApiKey,
            Known::KeyRevoked => Denial::KeyRevoked,
            Known::KeyExpired => Denial::KeyExpired,
            Known::InsufficientScope => Denial::InsufficientScope { scope: pillar.scope.clone() },
            Known::AddressNotAllowed => Denial::AddressNotAllowed,
            Known::NotFound => Denial::NotFound,
        },
        contract::Denial::Custom(custom) => {
            Denial::ByPolicy { status: custom.status, code: custom.code, message: custom.message }
        }
    }
}
