//! Takes a guest's answer over: everything in it is held against declaration, plan and grant before any of it is done.
//!
//! Decides nothing itself, and carries nothing out. An answer is taken whole or not at all.

use super::contract::{self, AfterAction, Basis, Change, Mode, Powers};
use super::declared::{is_reserved, shortened};
use super::failure::Failure;
use super::plan::is_code;
use super::policy::Policy;
use http::{HeaderName, HeaderValue, StatusCode};

mod body;

pub use body::LastWord;

const EDITS: usize = 64;
const TAKES: usize = 16;
const CHARGES: usize = 16;
const NOTES: usize = 16;
const NOTE_BYTES: usize = 1024;
const CARRY: usize = 4096;
const CLAIMS: usize = 16;
const REPLY_FIELDS: usize = 64;
const SUBJECT_BYTES: usize = 256;
/// Claims that the gateway's assertion uses itself.
const OWN_CLAIMS: [&str; 12] = ["iss", "aud", "sub", "org", "mode", "scope", "jti", "iat", "nbf", "exp", "kid", "key"];

/// A verdict that may be carried out. What is rare stands behind a pointer: every request moves and drops some of these.
#[derive(Debug)]
pub struct Decision {
    /// What happens to the request.
    pub action: Action,
    /// The path that the upstream gets.
    pub path: Option<String>,
    /// Changes of the request.
    pub request_edits: Vec<Edit>,
    /// Changes of the response.
    pub response_edits: Vec<Edit>,
    /// Takings from limits, by position in the plan.
    pub takes: Vec<contract::Take>,
    /// Charges.
    pub charges: Vec<contract::Charge>,
    /// Who the caller is.
    pub identity: Option<Box<Claim>>,
    /// What the assertion should say.
    pub token: Option<Box<contract::TokenRequest>>,
    /// Notes for later policies.
    pub notes: Vec<(String, String)>,
    /// For the policy's own later phases.
    pub carry: Vec<u8>,
}

/// What a policy decided about a response.
#[derive(Debug)]
pub struct Afterthought {
    /// An answer in place of the response.
    pub reply: Option<Reply>,
    /// Changes of the response.
    pub edits: Vec<Edit>,
    /// Further charges.
    pub charges: Vec<contract::Charge>,
}

/// What happens to the request.
#[derive(Debug)]
pub enum Action {
    /// On to the next policy.
    Next,
    /// Refused.
    Deny(Box<contract::Denial>),
    /// Answered.
    Respond(Box<Reply>),
    /// To another upstream, by position in the plan's targets.
    Forward(usize),
}

/// An answer of the policy's own.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Fields, in order.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A change of one field.
#[derive(Debug)]
pub struct Edit {
    /// The field.
    pub name: HeaderName,
    /// What is done with it.
    pub change: FieldChange,
}

/// What is done with a field.
#[derive(Debug)]
pub enum FieldChange {
    /// All values are replaced.
    Set(HeaderValue),
    /// One more value.
    Append(HeaderValue),
    /// All values go.
    Remove,
}

/// Who the caller is, by the policy's word and within its grant.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The org.
    pub org: String,
    /// The subject.
    pub subject: String,
    /// Live or sandbox.
    pub mode: Mode,
    /// The scopes that the grant lets it give.
    pub scopes: Vec<String>,
}

impl Decision {
    /// The most that it charges, in millionths of a token.
    pub fn charged(&self) -> u64 {
        most(&self.charges)
    }
}

/// The most that these come to.
fn most(charges: &[contract::Charge]) -> u64 {
    charges.iter().map(|charge| charge.gas.saturating_mul(charge.max_units)).fold(0, u64::saturating_add)
}

type Taken<T> = Result<T, Failure>;

fn against<T>(reason: impl Into<String>) -> Taken<T> {
    Err(Failure::NotAllowed(reason.into()))
}

impl Policy {
    /// Takes a verdict over.
    ///
    /// # Errors
    /// [`Failure::NotAllowed`] for anything outside of declaration, plan, grant or bounds.
    pub fn accept(&self, slot: u32, verdict: contract::Verdict) -> Result<Decision, Failure> {
        let declared = &self.component.declared;
        let plan = &self.slots[slot as usize].plan;
        let has = |power: Powers| declared.powers.contains(power);
        let action = match verdict.action {
            contract::Action::Next => Action::Next,
            contract::Action::Deny(_) if !has(Powers::DENY) => return against("it denied without the power `deny`"),
            contract::Action::Deny(denial) => Action::Deny(Box::new(check_denial(denial)?)),
            contract::Action::Respond(_) if !has(Powers::RESPOND) => {
                return against("it answered without the power `respond`");
            }
            contract::Action::Respond(reply) => Action::Respond(Box::new(take_reply(reply)?)),
            contract::Action::Forward(_) if !has(Powers::FORWARD) => {
                return against("it forwarded without the power `forward`");
            }
            contract::Action::Forward(target) if (target as usize) < plan.targets.len() => {
                Action::Forward(target as usize)
            }
            contract::Action::Forward(target) => {
                return against(format!("it forwarded to target {target}; its plan has {}", plan.targets.len()));
            }
        };
        if let Some(path) = &verdict.path {
            if !has(Powers::REWRITE_PATH) {
                return against("it rewrote the path without the power `rewrite-path`");
            }
            check_path(path)?;
        }
        if !verdict.takes.is_empty() {
            self.check_takes(&verdict.takes, plan)?;
        }
        if !verdict.charges.is_empty() {
            self.check_charges(&verdict.charges, 0, plan.maximum_charge)?;
        }
        let identity = match verdict.identity {
            Some(_) if !has(Powers::IDENTIFY) => return against("it identified a caller without the power `identify`"),
            Some(claim) => Some(Box::new(self.take_claim(claim)?)),
            None => None,
        };
        if let Some(token) = &verdict.token {
            if !has(Powers::MINT_TOKEN) {
                return against("it asked for a token without the power `mint-token`");
            }
            check_token(token)?;
        }
        check_notes(&verdict.notes)?;
        if verdict.carry.len() > CARRY {
            return against(format!("it carries {} bytes; {CARRY} are possible", verdict.carry.len()));
        }
        Ok(Decision {
            action,
            path: verdict.path,
            request_edits: take_edits(verdict.request_edits, &declared.request_writes, "request-writes")?,
            response_edits: take_edits(verdict.response_edits, &declared.response_writes, "response-writes")?,
            takes: verdict.takes,
            charges: verdict.charges,
            identity,
            token: verdict.token.map(Box::new),
            notes: verdict.notes,
            carry: verdict.carry,
        })
    }

    /// Takes an afterthought over. What it charges comes on top of what the same policy's decision did.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn accept_after(
        &self,
        slot: u32,
        after: contract::After,
        decision: &Decision,
    ) -> Result<Afterthought, Failure> {
        self.accept_later(slot, after, decision.charged())
    }

    /// As [`Self::accept_after`], for a policy that charged so much already.
    fn accept_later(&self, slot: u32, after: contract::After, charged: u64) -> Taken<Afterthought> {
        let declared = &self.component.declared;
        let reply = match after.action {
            AfterAction::Next => None,
            AfterAction::Respond(_) if !declared.powers.contains(Powers::RESPOND) => {
                return against("it answered without the power `respond`");
            }
            AfterAction::Respond(reply) => Some(take_reply(reply)?),
        };
        if !after.charges.is_empty() {
            self.check_charges(&after.charges, charged, self.slots[slot as usize].plan.maximum_charge)?;
        }
        check_notes(&after.notes)?;
        let edits = take_edits(after.edits, &declared.response_writes, "response-writes")?;
        Ok(Afterthought { reply, edits, charges: after.charges })
    }

    fn check_takes(&self, takes: &[contract::Take], plan: &super::plan::Plan) -> Taken<()> {
        if !self.component.declared.powers.contains(Powers::TAKE) {
            return against("it took from a limit without the power `take`");
        }
        if takes.len() > TAKES {
            return against(format!("it takes {} times; {TAKES} are possible", takes.len()));
        }
        for take in takes {
            let Some(limit) = plan.limits.get(take.limit as usize) else {
                return against(format!("it took from limit {}; its plan has {}", take.limit, plan.limits.len()));
            };
            let custom = limit.subject == contract::Subject::Custom;
            match &take.subject {
                Some(subject) if custom && subject.len() <= SUBJECT_BYTES => {}
                None if !custom => {}
                Some(_) if custom => return against(format!("its subject is longer than {SUBJECT_BYTES} bytes")),
                Some(_) => return against("it gave a subject for a limit whose subject is not custom"),
                None => return against("it gave no subject for a limit whose subject is custom"),
            }
        }
        Ok(())
    }

    fn check_charges(&self, charges: &[contract::Charge], charged: u64, maximum: u64) -> Taken<()> {
        if !self.component.declared.powers.contains(Powers::CHARGE) {
            return against("it charged without the power `charge`");
        }
        if charges.len() > CHARGES {
            return against(format!("it charges {} times; {CHARGES} are possible", charges.len()));
        }
        let mut sum = charged;
        for charge in charges {
            if charge.max_units == 0 || (charge.basis == Basis::Request && charge.max_units != 1) {
                return against("a charge has absurd max-units");
            }
            let most = charge.gas.checked_mul(charge.max_units).and_then(|most| sum.checked_add(most));
            match most {
                Some(most) if most <= maximum => sum = most,
                _ => return against(format!("it charged more than its plan's maximum of {maximum}")),
            }
        }
        Ok(())
    }

    fn take_claim(&self, claim: contract::Claim) -> Taken<Claim> {
        if claim.org.is_empty() || claim.org.len() > 64 || claim.subject.is_empty() || claim.subject.len() > 256 {
            return against("it identified a caller without an org or subject of sensible length");
        }
        let printable = |word: &str| word.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable(&claim.org) || !printable(&claim.subject) {
            return against("it identified a caller by unprintable names");
        }
        let granted = |scope: &String| self.grant.scopes.iter().any(|granted| granted == "*" || granted == scope);
        let scopes = claim.scopes.into_iter().take(256).filter(granted).collect();
        Ok(Claim { org: claim.org, subject: claim.subject, mode: claim.mode, scopes })
    }
}

fn check_denial(denial: contract::Denial) -> Taken<contract::Denial> {
    if let contract::Denial::Custom(custom) = &denial {
        if !(matches!(custom.status, 400..=499 | 503)) {
            return against(format!("it denied with status {}; 400 to 499 and 503 are possible", custom.status));
        }
        if !is_code(&custom.code) {
            return against(format!("its denial has the code {:?}, which is not snake_case", shortened(&custom.code)));
        }
        if custom.message.len() > 1024 {
            return against("its denial has a message of more than 1,024 bytes");
        }
    }
    Ok(denial)
}

fn take_reply(reply: contract::Reply) -> Taken<Reply> {
    let status = match StatusCode::from_u16(reply.status) {
        Ok(status) if (200..600).contains(&reply.status) => status,
        _ => return against(format!("it answered with status {}; 200 to 599 are possible", reply.status)),
    };
    if reply.fields.len() > REPLY_FIELDS {
        return against(format!("its answer has {} fields; {REPLY_FIELDS} are possible", reply.fields.len()));
    }
    let mut fields = Vec::with_capacity(reply.fields.len());
    for field in reply.fields {
        let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else {
            return against(format!("its answer has a field {:?}, which is no field name", shortened(&field.name)));
        };
        if is_reserved(&name) {
            return against(format!("its answer has the field `{name}`, which only the gateway writes"));
        }
        fields.push((name, take_value(&field.value)?));
    }
    // 204 and 304 have no body (RFC 9110, 15.3.5 and 15.4.5).
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) && !reply.body.is_empty() {
        return against(format!("its answer with status {status} has a body"));
    }
    Ok(Reply { status, fields, body: reply.body })
}

fn take_edits(edits: Vec<contract::Edit>, writes: &[HeaderName], list: &str) -> Taken<Vec<Edit>> {
    if edits.is_empty() {
        return Ok(Vec::new());
    }
    if edits.len() > EDITS {
        return against(format!("it edits {} times; {EDITS} are possible", edits.len()));
    }
    let one = |edit: contract::Edit| {
        let Some(name) = writes.get(edit.field as usize) else {
            return against(format!("it edits field {} and declares {} in {list}", edit.field, writes.len()));
        };
        let change = match edit.change {
            Change::Set(value) => FieldChange::Set(take_value(&value)?),
            Change::Append(value) => FieldChange::Append(take_value(&value)?),
            Change::Remove => FieldChange::Remove,
        };
        Ok(Edit { name: name.clone(), change })
    };
    edits.into_iter().map(one).collect()
}

/// Field values: no CR, LF, NUL or other control characters (RFC 9110, 5.5).
fn take_value(value: &[u8]) -> Taken<HeaderValue> {
    match HeaderValue::from_bytes(value) {
        Ok(value) => Ok(value),
        Err(_) => against("a field value has bytes that no field can have"),
    }
}

/// The path must be one that the gateway would have taken from a client.
fn check_path(path: &str) -> Taken<()> {
    match crate::path::normalised(path) {
        Ok(std::borrow::Cow::Borrowed(_)) => Ok(()),
        Ok(_) => against("it rewrote the path to one that is not normalised"),
        Err(error) => against(format!("it rewrote the path to one that no request could have: {error}")),
    }
}

fn check_token(token: &contract::TokenRequest) -> Taken<()> {
    if token.audience.as_ref().is_some_and(|audience| audience.is_empty() || audience.len() > 256) {
        return against("it asked for a token with an audience of absurd length");
    }
    if token.claims.len() > CLAIMS {
        return against(format!("it asked for {} claims; {CLAIMS} are possible", token.claims.len()));
    }
    for (position, (name, value)) in token.claims.iter().enumerate() {
        if name.is_empty() || name.len() > 64 || value.len() > NOTE_BYTES {
            return against("it asked for a claim of absurd length");
        }
        if OWN_CLAIMS.contains(&name.as_str()) || token.claims[..position].iter().any(|(earlier, _)| earlier == name) {
            return against(format!("it asked for the claim {name:?}, which is the gateway's own or stands twice"));
        }
    }
    Ok(())
}

fn check_notes(notes: &[(String, String)]) -> Taken<()> {
    if notes.len() > NOTES {
        return against(format!("it notes {} times; {NOTES} are possible", notes.len()));
    }
    if notes.iter().any(|(name, value)| name.len() > 64 || value.len() > NOTE_BYTES) {
        return against(format!("it notes something longer than {NOTE_BYTES} bytes"));
    }
    Ok(())
}
