//! Limits over HTTP: how they stand for somebody, and filled anew by an operator.
//!
//! Looks at the very buckets that workers take from, so what is shown holds for all of them, and so does a reset.

use std::collections::HashSet;
use std::error::Error;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::Uri;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};

use super::Desks;
use crate::api::{Actor, Reads, Refusal, json_object};
use crate::audit::{self, Note};
use crate::clock::Millis;
use crate::id::{KeyId, OrgId};
use crate::limit::{Limit, Period, Subject, SubjectKind};
use crate::problem::{Fault, token};
use crate::worker::Gateway;

/// What can be asked for.
const KNOWN: [&str; 8] = ["key", "org", "address", "custom", "everyone", "policy", "limit", "pillar"];
/// Those of them that say for whom.
const WHO: &str = "Give one of key, org, address, custom, and everyone=true.";
/// The longest value of a policy's own that is looked for.
const LONGEST_CUSTOM: usize = 1024;
/// Questions that are answered at once.
const READS: usize = 8;

/// What comes of remembering a reset, in its own time.
pub type Kept<'a> = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Remembers resets of what is counted anew after a restart.
pub trait KeepReset: Send + Sync {
    /// That these limits are filled now for the key, the org or everyone with this number.
    fn keep<'a>(&'a self, limits: &'a [Arc<Limit>], subject: u128, now: Millis) -> Kept<'a>;
}

#[derive(Clone)]
struct Control {
    gateway: Arc<Gateway>,
    desks: Desks,
    kept: Arc<dyn KeepReset>,
    reads: Reads,
}

/// The routes under `/v1/limits`. A reset is in the audit log: that it begins, and how it ended.
pub fn routes(gateway: Arc<Gateway>, desks: Desks, kept: Arc<dyn KeepReset>) -> Router {
    let control = Control { gateway, desks, kept, reads: Reads::most(READS) };
    Router::new().route("/v1/limits", get(show)).route("/v1/limits/reset", post(reset)).with_state(control)
}

/// For whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Key(KeyId),
    Org(OrgId),
    Address(IpAddr),
    /// What a policy counts by, or whom it vouched for.
    Custom(String),
    Everyone,
}

/// For whom, and which limits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    whose: Whose,
    policy: Option<String>,
    limit: Option<String>,
    pillar: Option<String>,
}

impl Wanted {
    /// From texts by name; with what is wrong with each.
    fn of(given: Vec<(String, String)>) -> Result<Self, Vec<(String, &'static str)>> {
        let mut faults = Vec::new();
        let mut whose = Vec::new();
        let (mut policy, mut limit, mut pillar) = (None, None, None);
        for (name, value) in given {
            let found = match name.as_str() {
                "key" => value.parse().map(Whose::Key).map_err(|_| "This is not the id of a key; write key_…."),
                "org" => value.parse().map(Whose::Org).map_err(|_| "This is not the id of an org; write org_…."),
                "address" => {
                    value.parse().map(Whose::Address).map_err(|_| "This is not an address, such as 192.0.2.7.")
                }
                "custom" if value.len() <= LONGEST_CUSTOM => Ok(Whose::Custom(value)),
                "custom" => Err("This is longer than 1,024 bytes."),
                "everyone" if value == "true" => Ok(Whose::Everyone),
                "everyone" => Err("This can be true only."),
                other => {
                    match other {
                        "policy" => policy = Some(value),
                        "limit" => limit = Some(value),
                        "pillar" => pillar = Some(value),
                        _ => faults.push((name, "There is no such thing to ask for.")),
                    }
                    continue;
                }
            };
            match found {
                Ok(one) => whose.push(one),
                Err(detail) => faults.push((name, detail)),
            }
        }
        match (whose.pop(), faults.is_empty()) {
            (Some(one), true) if whose.is_empty() => Ok(Self { whose: one, policy, limit, pillar }),
            (_, true) => Err(vec![(String::new(), WHO)]),
            _ => Err(faults),
        }
    }

    /// Whether a limit is meant, and can count for whom this is about.
    fn means(&self, limit: &Limit) -> bool {
        let definition = limit.definition();
        let is = |wanted: &Option<String>, what: &str| wanted.as_ref().is_none_or(|wanted| wanted == what);
        let pillar = definition.pillar.as_deref().map(|bucket| bucket.split('/').next().unwrap_or(bucket));
        // One for all pillars counts for each of them.
        let in_pillar = pillar.is_none_or(|pillar| is(&self.pillar, pillar));
        let kind = limit.kind();
        let counts = match self.whose {
            Whose::Key(_) => kind == SubjectKind::Key,
            Whose::Org(_) => kind == SubjectKind::Org,
            // Without a key, limits for keys and orgs count by address; for whom a policy vouches, by what it says.
            Whose::Address(_) => matches!(kind, SubjectKind::Address | SubjectKind::Key | SubjectKind::Org),
            Whose::Custom(_) => matches!(kind, SubjectKind::Custom | SubjectKind::Key | SubjectKind::Org),
            Whose::Everyone => kind == SubjectKind::Everyone,
        };
        counts && in_pillar && is(&self.policy, &definition.policy) && is(&self.limit, &definition.limit)
    }

    fn subject(&self, limit: &Limit) -> Subject {
        match &self.whose {
            Whose::Key(id) => Subject::id(id.number()),
            Whose::Org(id) => Subject::id(id.number()),
            Whose::Address(address) => Subject::address(*address),
            Whose::Custom(value) => limit.custom(value),
            Whose::Everyone => Subject::EVERYONE,
        }
    }

    /// The number of a key, an org or everyone; none of what usage does not know.
    fn number(&self) -> Option<u128> {
        match self.whose {
            Whose::Key(id) => Some(id.number()),
            Whose::Org(id) => Some(id.number()),
            Whose::Everyone => Some(0),
            Whose::Address(_) | Whose::Custom(_) => None,
        }
    }

    /// Whether a limit is shown also where nothing was taken from it.
    fn is_at_home(&self, limit: &Limit) -> bool {
        match self.whose {
            Whose::Address(_) => limit.kind() == SubjectKind::Address,
            Whose::Custom(_) => limit.kind() == SubjectKind::Custom,
            Whose::Key(_) | Whose::Org(_) | Whose::Everyone => true,
        }
    }

    /// As the audit log names them: a policy's own values may be anything.
    fn named(&self) -> String {
        match &self.whose {
            Whose::Key(id) => id.to_string(),
            Whose::Org(id) => id.to_string(),
            Whose::Address(address) => address.to_string(),
            Whose::Custom(_) => "custom".to_owned(),
            Whose::Everyone => "everyone".to_owned(),
        }
    }
}

/// `GET /v1/limits?key=|org=|address=|custom=|everyone=true&policy=&limit=&pillar=`
async fn show(State(control): State<Control>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap_or_default();
    let wanted = Wanted::of(given).map_err(|faults| {
        let fault = |(name, detail): (String, &str)| {
            if name.is_empty() { Fault::at("", detail) } else { Fault::of(name, detail) }
        };
        Refusal::invalid(faults.into_iter().map(fault).collect())
    })?;
    control.find(&wanted).await?;
    let asked = control.clone();
    let rows = control.reads.run(async move { asked.rows(&wanted) }).await?;
    Ok(Json(json!({ "limits": rows })))
}

/// `POST /v1/limits/reset`, with the same as members of an object
async fn reset(
    State(control): State<Control>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let body = json_object(request).await?;
    let wanted = read(&body)?;
    let org = control.find(&wanted).await?;
    let done = tokio::spawn(async move {
        let (log, clock) = (&*control.desks.audit, &control.gateway.clock);
        let note = Note::new(actor.who(), "limit.reset", clock.now()).org(org).on(wanted.named());
        let begun = audit::begin(log, note).await.map_err(|error| Refusal::failed(&error))?;
        let before = control.rows(&wanted);
        if let Some(number) = wanted.number()
            && let Err(error) = control.kept.keep(&control.limits(&wanted), number, clock.now()).await
        {
            begun.end(log, clock.now(), Err("it cannot be remembered".to_owned())).await;
            return Err(Refusal::failed(&*error));
        }
        let shared = control.refill(&wanted);
        let after = control.rows(&wanted);
        let outcome = match shared {
            0 => Ok(json!({ "before": before, "after": after })),
            _ => Err(format!("there is no room for {shared} more buckets")),
        };
        begun.end(log, clock.now(), outcome).await;
        if shared > 0 {
            let detail =
                "The memory for limits is full, and whom this is about shares a bucket with others; try again later.";
            return Err(Refusal::new(503, "limits_full", "No room for limits", detail).retry_after(60));
        }
        Ok(Json(json!({ "reset": after.len(), "limits": after })))
    });
    done.await.map_err(|error| Refusal::failed(&error))?
}

fn read(body: &Map<String, Value>) -> Result<Wanted, Refusal> {
    let (mut given, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        match value {
            _ if !KNOWN.contains(&name.as_str()) => {
                let detail = format!("There is no such field; there are {}.", KNOWN.join(", "));
                faults.push(Fault::at(token(name), detail));
            }
            Value::Bool(flag) if name == "everyone" => given.push((name.clone(), flag.to_string())),
            Value::String(text) if name != "everyone" => given.push((name.clone(), text.clone())),
            _ if name == "everyone" => faults.push(Fault::at("/everyone", "This must be true.")),
            _ => faults.push(Fault::at(token(name), "This must be a string.")),
        }
    }
    let wanted = Wanted::of(given);
    if let Err(more) = &wanted
        && (faults.is_empty() || more.iter().all(|(name, _)| !name.is_empty()))
    {
        let pointer = |name: &str| if name.is_empty() { String::new() } else { token(name) };
        faults.extend(more.iter().map(|(name, detail)| Fault::at(pointer(name), *detail)));
    }
    match wanted {
        Ok(wanted) if faults.is_empty() => Ok(wanted),
        _ => Err(Refusal::invalid(faults)),
    }
}

impl Control {
    /// The org that somebody belongs to; 404 for keys and orgs that there are not.
    async fn find(&self, wanted: &Wanted) -> Result<Option<OrgId>, Refusal> {
        let unknown = |what: &str| Refusal::new(404, "not_found", "Not found", format!("There is no such {what}."));
        match wanted.whose {
            Whose::Key(id) => {
                let found = self.desks.issuer.find(id).await.map_err(|error| Refusal::failed(&error))?;
                found.map(|kept| Some(kept.key.org)).ok_or_else(|| unknown("key"))
            }
            Whose::Org(id) => {
                let found = self.desks.orgs.find(&id.to_string()).await.map_err(|error| Refusal::failed(&error))?;
                found.map(|org| Some(org.id)).ok_or_else(|| unknown("org"))
            }
            Whose::Address(_) | Whose::Custom(_) | Whose::Everyone => Ok(None),
        }
    }

    /// The limits that are meant, each once.
    fn limits(&self, wanted: &Wanted) -> Vec<Arc<Limit>> {
        let snapshot = self.gateway.live.load_full();
        let chains = snapshot.pillars.iter().flat_map(|pillar| &pillar.chains);
        let limits = chains.flat_map(|chain| &chain.steps).flat_map(|step| &step.limits);
        let mut seen = HashSet::new();
        let meant = limits.filter(|limit| wanted.means(limit) && seen.insert(limit.definition().clone()));
        meant.cloned().collect()
    }

    fn rows(&self, wanted: &Wanted) -> Vec<Value> {
        let now = self.gateway.clock.now();
        self.limits(wanted).iter().filter_map(|limit| row(limit, wanted, now)).collect()
    }

    /// Fills them; for how many that could not be done.
    fn refill(&self, wanted: &Wanted) -> usize {
        let now = self.gateway.clock.now();
        self.limits(wanted).iter().filter(|limit| !limit.reset(wanted.subject(limit), now)).count()
    }
}

/// A limit as it stands; none where it is not for such as these, and nothing was taken.
fn row(limit: &Limit, wanted: &Wanted, now: Millis) -> Option<Value> {
    let states = limit.states(wanted.subject(limit), now);
    let windows = limit.windows().iter().zip(&states);
    let used = |quota: u64, remaining: u64| quota.saturating_sub(remaining);
    if !wanted.is_at_home(limit) && windows.clone().all(|(window, state)| used(window.quota, state.remaining) == 0) {
        return None;
    }
    let window = |(window, state): (&crate::limit::Window, &crate::limit::State)| {
        let period = match window.per {
            Period::Seconds(seconds) => json!(format!("{seconds}s")),
            Period::Month => json!("month"),
        };
        json!({
            "window": window.name, "quota": window.quota, "period": period, "used": used(window.quota, state.remaining),
            "remaining": state.remaining, "reset_seconds": state.reset,
        })
    };
    let definition = limit.definition();
    let bucket = definition.pillar.as_deref().map(|bucket| bucket.split_once('/').unwrap_or((bucket, "")));
    Some(json!({
        "policy": definition.policy, "limit": definition.limit,
        "pillar": bucket.map(|(pillar, _)| pillar),
        "route": bucket.map(|(_, rule)| rule).filter(|rule| !rule.is_empty()),
        "for": kind(limit.kind()),
        "windows": windows.map(window).collect::<Vec<_>>(),
    }))
}

fn kind(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Key => "key",
        SubjectKind::Org => "org",
        SubjectKind::Address => "address",
        SubjectKind::Custom => "custom",
        SubjectKind::Everyone => "everyone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(&str, &str)]) -> Result<Wanted, Vec<(String, &'static str)>> {
        Wanted::of(given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn it_must_be_about_one() {
        assert_eq!(of(&[]), Err(vec![(String::new(), WHO)]));
        assert_eq!(of(&[("address", "192.0.2.7"), ("everyone", "true")]), Err(vec![(String::new(), WHO)]));
        let one = of(&[("address", "192.0.2.7"), ("limit", "per-key")]).expect("one");
        assert_eq!((one.named(), one.limit.as_deref()), ("192.0.2.7".to_owned(), Some("per-key")));
        for wrong in [("key", "org_1"), ("org", "x"), ("address", "1.2.3"), ("everyone", "false"), ("other", "x")] {
            let faults = of(&[wrong]).expect_err("wrong");
            assert_eq!(faults[0].0, wrong.0, "{faults:?}");
        }
        assert!(of(&[("custom", &"x".repeat(1025))]).is_err());
    }

    #[test]
    fn all_that_is_wrong_with_a_body_is_told() {
        let body = json!({ "key": 7, "adress": "x", "everyone": "yes" });
        let refusal = read(body.as_object().expect("an object")).expect_err("refused");
        assert_eq!(refusal.problem().faults.len(), 3, "{:?}", refusal.problem().faults);
    }
}
