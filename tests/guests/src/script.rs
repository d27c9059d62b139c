//! What a chameleon does, as JSON: a plan for the gateway, and an answer for each request and response.

mod convert;

use std::collections::BTreeMap;

use portico_sdk::{Action, After, AfterAction, Diagnostic, Plan, TokenRequest, Verdict};
use serde::Deserialize;

/// One slot's configuration; README.md shows each key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    plan: PlanScript,
    diagnostics: Vec<(String, String)>,
    request: Answer,
    by_route: BTreeMap<String, Answer>,
    by_field: BTreeMap<String, Answer>,
    /// What it answers to a response.
    pub response: Answer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlanScript {
    scopes: Vec<String>,
    limits: Vec<LimitScript>,
    targets: Vec<String>,
    maximum_charge: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitScript {
    name: String,
    subject: String,
    #[serde(default)]
    across_pillars: bool,
    /// Name, quota, and seconds (0 for a month).
    windows: Vec<(String, u64, u32)>,
}

/// What it answers. In a response phase only `respond`, `edits`, `charges`, `notes`, `log`, `count` and `echo` mean something.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    deny: Option<DenyScript>,
    respond: Option<ReplyScript>,
    forward: Option<u32>,
    path: Option<String>,
    edits: Vec<EditScript>,
    response_edits: Vec<EditScript>,
    takes: Vec<TakeScript>,
    charges: Vec<ChargeScript>,
    identity: Option<ClaimScript>,
    token: Option<TokenScript>,
    notes: Vec<(String, String)>,
    carry: Bytes,
    /// Lines for the log.
    pub log: Vec<String>,
    /// Counters and what is added to them.
    pub count: Vec<(u32, u64)>,
    /// Where it tells which facts it saw.
    pub echo: Option<EchoTo>,
}

/// Where a chameleon tells which facts it saw, as JSON.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EchoTo {
    /// In the body of an answer of its own.
    Respond,
    /// In the log.
    Log,
    /// In the field at this position: of the request, or in a response phase of the response.
    Edit(u32),
    /// In the field of the coming response at this position.
    ResponseEdit(u32),
}

/// Text, or bytes as numbers where they are no text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Raw(Vec<u8>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum DenyScript {
    Standard(String),
    Custom { status: u16, code: String, message: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyScript {
    status: u16,
    #[serde(default)]
    fields: Vec<(String, Bytes)>,
    #[serde(default)]
    body: Bytes,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EditScript {
    Set(u32, Bytes),
    Append(u32, Bytes),
    Remove(u32),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeScript {
    limit: u32,
    #[serde(default = "one")]
    cost: u32,
    subject: Option<String>,
    #[serde(default)]
    always: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChargeScript {
    basis: String,
    gas: u64,
    max_units: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimScript {
    org: String,
    subject: String,
    mode: String,
    scopes: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenScript {
    audience: Option<String>,
    #[serde(default)]
    claims: Vec<(String, String)>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The one thing that does not let it be read.
    pub fn read(json: &str) -> Result<Self, Vec<Diagnostic>> {
        serde_json::from_str(json).map_err(|error| vec![Diagnostic::new("", error.to_string())])
    }

    /// What `configure` answers.
    ///
    /// # Errors
    /// The diagnostics that the script asks for.
    pub fn plan(&self) -> Result<Plan, Vec<Diagnostic>> {
        if !self.diagnostics.is_empty() {
            let written = self.diagnostics.iter();
            return Err(written.map(|(at, what)| Diagnostic::new(at, what)).collect());
        }
        Ok(Plan {
            scopes: self.plan.scopes.clone(),
            limits: self.plan.limits.iter().map(LimitScript::limit).collect(),
            targets: self.plan.targets.clone(),
            maximum_charge: self.plan.maximum_charge,
        })
    }

    /// What is answered to a request: by the first value of the first declared field, else by route, else as always.
    pub fn answer(&self, field: Option<&[u8]>, route: &str) -> &Answer {
        let field = field.and_then(|value| str::from_utf8(value).ok());
        field.and_then(|value| self.by_field.get(value)).or_else(|| self.by_route.get(route)).unwrap_or(&self.request)
    }
}

impl Answer {
    /// The same as a verdict.
    pub fn verdict(&self) -> Verdict {
        let action = match (&self.deny, &self.respond, self.forward) {
            (Some(denial), ..) => Action::Deny(denial.denial()),
            (_, Some(reply), _) => Action::Respond(reply.reply()),
            (.., Some(target)) => Action::Forward(target),
            _ => Action::Next,
        };
        Verdict {
            action,
            path: self.path.clone(),
            request_edits: self.edits.iter().map(EditScript::edit).collect(),
            response_edits: self.response_edits.iter().map(EditScript::edit).collect(),
            takes: self.takes.iter().map(TakeScript::take).collect(),
            charges: self.charges.iter().map(ChargeScript::charge).collect(),
            identity: self.identity.as_ref().map(ClaimScript::claim),
            token: self
                .token
                .as_ref()
                .map(|token| TokenRequest { audience: token.audience.clone(), claims: token.claims.clone() }),
            notes: self.notes.clone(),
            carry: self.carry.bytes(),
        }
    }

    /// The same as a decision about a response.
    pub fn after(&self) -> After {
        After {
            action: match &self.respond {
                Some(reply) => AfterAction::Respond(reply.reply()),
                None => AfterAction::Next,
            },
            edits: self.edits.iter().map(EditScript::edit).collect(),
            charges: self.charges.iter().map(ChargeScript::charge).collect(),
            notes: self.notes.clone(),
        }
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests;
