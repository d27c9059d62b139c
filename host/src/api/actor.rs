//! Who asks the control API, and what they may: the super-admin, a token with a role, or a key with management scopes.
//!
//! In every request as an extension, so that the same handlers serve both listeners. Another org's object is not there for
//! them; a role or a key that may not do something at all is told so before anything is looked up.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::rights::{Action, Extent, rights};
use super::{Refusal, admin};
use crate::audit::{ActorKind, Who};
use crate::clock::Millis;
use crate::credential::Leave;
use crate::id::OrgId;
use crate::key::{Bearer, Bounds, Key, Lapsed, Management, Mode, Scopes};
use crate::org::{Role, Token};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Actor {
    /// By what.
    pub by: By,
    /// The address that the request came from, where it is known.
    pub address: Option<IpAddr>,
}

/// By what someone asks.
#[derive(Debug, Clone)]
pub enum By {
    /// The super-admin's own token.
    SuperAdmin,
    /// A token of the admin API.
    Token(Arc<Token>),
    /// An API key, by one of its secrets.
    Key(Bearer),
}

impl Actor {
    /// How far they may do this.
    ///
    /// # Errors
    /// 403 `insufficient_role` or `insufficient_scope`, where they may not at all.
    pub fn may(&self, action: Action) -> Result<Extent, Refusal> {
        let rights = rights(action);
        let extent = match &self.by {
            By::SuperAdmin => Extent::All,
            By::Token(token) => match token.terms.role {
                Role::SuperAdmin => Extent::All,
                Role::OrgAdmin => rights.org_admin,
                Role::Member => rights.member,
                Role::Auditor => rights.auditor,
            },
            By::Key(Bearer { key, .. }) if rights.keys.iter().any(|scope| key.manages(*scope)) => Extent::All,
            By::Key(_) => Extent::No,
        };
        match extent {
            Extent::No => Err(self.refused(action)),
            extent => Ok(extent),
        }
    }

    /// Looks again whether their token or key is revoked; whoever waited may have been meanwhile.
    ///
    /// # Errors
    /// 401 where it is.
    pub(super) fn check_again(&self) -> Result<(), Refusal> {
        match &self.by {
            By::Token(token) if token.revoked().is_some() => Err(admin::revoked()),
            By::Key(bearer) if bearer.key.revoked().is_some() => Err(lapsed(Lapsed::Revoked)),
            By::SuperAdmin | By::Token(_) | By::Key(_) => Ok(()),
        }
    }

    /// Looks again whether their key still opens anything.
    ///
    /// # Errors
    /// 401 where it does not.
    pub(super) fn still_calls(&self, now: Millis) -> Result<(), Refusal> {
        match &self.by {
            By::Key(bearer) => bearer.calls(now).map_err(lapsed),
            By::SuperAdmin | By::Token(_) => Ok(()),
        }
    }

    /// Whether what they came with is good for managing keys and webhooks.
    ///
    /// # Errors
    /// 401, and 403 `secret_replaced` where it is the secret before the present one.
    pub(super) fn has_present_secret(&self, now: Millis) -> Result<(), Refusal> {
        match &self.by {
            By::Key(bearer) => bearer.manages(now).map_err(lapsed),
            By::SuperAdmin | By::Token(_) => Ok(()),
        }
    }

    /// On what they may change a key, once more when it comes to it.
    pub(super) fn leave(&self, within: Option<Bounds>) -> Leave {
        let by = match &self.by {
            By::Key(bearer) => Some(bearer.clone()),
            By::SuperAdmin | By::Token(_) => None,
        };
        Leave { by, within, withheld: self.withheld() }
    }

    /// The one org that they are confined to; none for those who are not.
    pub fn org(&self) -> Option<OrgId> {
        match &self.by {
            By::SuperAdmin => None,
            By::Token(token) => token.terms.org,
            By::Key(Bearer { key, .. }) => Some(key.org),
        }
    }

    /// Whether something of this org is there for them.
    pub fn sees(&self, org: OrgId) -> bool {
        self.org().is_none_or(|own| own == org)
    }

    /// Whether this key is there for them: one of an org that is; and no live one for a sandbox key, since what it could do to
    /// that would not be for trying out.
    pub fn sees_key(&self, key: &Key) -> bool {
        let in_reach = match &self.by {
            By::Key(Bearer { key: own, .. }) => own.mode == Mode::Live || key.mode == Mode::Sandbox,
            By::SuperAdmin | By::Token(_) => true,
        };
        in_reach && self.sees(key.org)
    }

    /// The id of their token or key.
    pub fn id(&self) -> Option<String> {
        match &self.by {
            By::SuperAdmin => None,
            By::Token(token) => Some(token.id.to_string()),
            By::Key(Bearer { key, .. }) => Some(key.id.to_string()),
        }
    }

    /// What a key hands on at most; none for whoever is no key.
    pub fn bounds(&self) -> Option<Bounds> {
        match &self.by {
            By::Key(Bearer { key, .. }) => Some(Bounds::of(key)),
            By::SuperAdmin | By::Token(_) => None,
        }
    }

    /// Whether they may give a key these scopes: none for a management that they may do to a part only, since the key could do
    /// it to all. What a key hands on, its bounds say.
    ///
    /// # Errors
    /// 403 `insufficient_role`.
    pub(super) fn may_give(&self, scopes: &Scopes) -> Result<(), Refusal> {
        let given = self.withheld().into_iter().find(|scope| scopes.contain(scope.name()));
        given.map_or(Ok(()), |scope| Err(withheld(scope)))
    }

    /// The managements that their role has in part only.
    fn withheld(&self) -> Vec<Management> {
        let By::Token(_) = &self.by else { return Vec::new() };
        let in_part = |action: &Action| !matches!(self.may(*action), Ok(Extent::All));
        let withheld = |scope: &Management| {
            let mut opened = Action::ALL.iter().filter(|action| rights(**action).keys.contains(scope));
            opened.any(in_part)
        };
        Management::ALL.into_iter().filter(withheld).collect()
    }

    /// As the audit log names them.
    pub fn who(&self) -> Who {
        let kind = match &self.by {
            By::SuperAdmin => ActorKind::SuperAdmin,
            By::Token(_) => ActorKind::Token,
            By::Key(_) => ActorKind::Key,
        };
        Who { kind, id: self.id(), address: self.address }
    }

    fn refused(&self, action: Action) -> Refusal {
        let what = action.words();
        match &self.by {
            By::Key(_) => {
                let wanted: Vec<&str> = rights(action).keys.iter().map(|scope| scope.name()).collect();
                let detail = match wanted.is_empty() {
                    true => format!("No key may {what}; that takes a token of the admin API."),
                    false => format!("To {what} takes a key with the scope `{}`.", wanted.join("` or `")),
                };
                Refusal::new(403, "insufficient_scope", "Insufficient scope", detail)
            }
            By::SuperAdmin | By::Token(_) => {
                insufficient_role(format!("The role `{}` may not {what}.", self.role_name()))
            }
        }
    }

    fn role_name(&self) -> &'static str {
        match &self.by {
            By::Token(token) => token.terms.role.name(),
            By::SuperAdmin | By::Key(_) => Role::SuperAdmin.name(),
        }
    }
}

/// 403: a key would come to more than the role of whoever gives it.
pub(super) fn withheld(scope: Management) -> Refusal {
    insufficient_role(format!("Your role may not give a key the scope `{}`.", scope.name()))
}

/// Why whoever came with a key does nothing with it.
pub(super) fn lapsed(why: Lapsed) -> Refusal {
    match why {
        Lapsed::Revoked => Refusal::new(401, "key_revoked", "Key revoked", "This key was revoked; use another one."),
        Lapsed::Expired => Refusal::new(401, "key_expired", "Key expired", "This key has expired; use another one."),
        Lapsed::Replaced => {
            let detail = "The key was rotated, and this is the secret before. It calls pillars until its end, and manages no keys; use \
                          the present one.";
            Refusal::new(403, "secret_replaced", "Secret replaced", detail)
        }
    }
}

/// 403: the role of a token is not enough.
pub(super) fn insufficient_role(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(403, "insufficient_role", "Insufficient role", detail)
}
