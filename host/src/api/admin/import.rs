//! Keys that were made elsewhere, brought in over HTTP. Their secrets are in no answer and no error.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::AdminState;
use super::keys::{NO_SUCH_ORG, ordered_org};
use super::life::not_issued;
use super::order::{Known, Order};
use crate::api::fields::Fields;
use crate::api::shapes::KeyShown;
use crate::api::{Action, Actor, Refusal, json_object};
use crate::credential::{IssueError, NewKey};
use crate::key::{Secret, StoreError};
use crate::org::Org;
use crate::problem::Fault;

/// Keys in one request.
const MOST_KEYS: usize = 500;

/// What was read of a request.
#[derive(Default)]
struct Import {
    keys: Vec<(NewKey, Secret)>,
    /// Positions of secrets that are there already, and whose they are.
    duplicates: Vec<(usize, String)>,
    faults: Vec<Fault>,
}

/// `POST /v1/keys/import`, with `{"keys": […], "skip_duplicates": false, "dry_run": false}`: all of them, or none
pub(super) async fn import(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    actor.may(Action::ImportKeys)?;
    let body = json_object(request).await?;
    let mut fields = Fields::of(&body, &["keys", "skip_duplicates", "dry_run"]);
    let (skip, dry_run) = (fields.flag("skip_duplicates"), fields.flag("dry_run"));
    let list = fields.value("keys").and_then(Value::as_array).filter(|list| (1..=MOST_KEYS).contains(&list.len()));
    if list.is_none() {
        fields.fault("/keys", format!("Give a list of 1 to {MOST_KEYS} keys."));
    }
    let mut import = Import { faults: fields.faults, ..Import::default() };
    let orgs = state.orgs(&actor).await?;
    for (at, item) in list.into_iter().flatten().enumerate() {
        match item.as_object() {
            Some(item) => read(&mut import, &state, &actor, at, item).await?,
            None => import.faults.push(Fault::at(format!("/keys/{at}"), "This must be an object.")),
        }
    }
    let Import { keys, duplicates, mut faults } = import;
    if !skip {
        let told = |(at, of): &(usize, String)| {
            Fault::at(format!("/keys/{at}/secret"), format!("This secret is there already, {of}."))
        };
        faults.extend(duplicates.iter().map(told));
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid(faults));
    }
    let skipped: Vec<usize> = duplicates.iter().map(|(at, _)| *at).collect();
    if dry_run || keys.is_empty() {
        return Ok((StatusCode::OK, Json(answer(&[], &skipped, keys.len(), &orgs, &state))));
    }
    let kept = state.desks.issuer.import(keys, actor.who()).await.map_err(|error| match error {
        // Brought in by someone else since it was looked for.
        IssueError::Store(StoreError::Taken { id }) => {
            let detail = format!("One of the secrets is there already, as {id}; nothing was imported.");
            Refusal::new(409, "secret_taken", "The secret is there already", detail)
        }
        error => not_issued(error),
    })?;
    Ok((StatusCode::CREATED, Json(answer(&kept, &skipped, 0, &orgs, &state))))
}

fn answer(kept: &[crate::key::Kept], skipped: &[usize], importable: usize, orgs: &[Org], state: &AdminState) -> Value {
    let now = state.clock.now();
    let documents: Vec<KeyShown> = kept.iter().map(|kept| KeyShown::of(kept, orgs, now)).collect();
    json!({ "keys": documents, "skipped": skipped, "importable": importable })
}

async fn read(
    import: &mut Import,
    state: &AdminState,
    actor: &Actor,
    at: usize,
    item: &Map<String, Value>,
) -> Result<(), Refusal> {
    let place = format!("/keys/{at}");
    let scopes = (state.scopes)();
    let known = Known { scopes: &scopes, now: state.clock.now(), bounds: None };
    let (order, secret) = Order::read_import(place.clone(), item, known);
    let org = ordered_org(state, actor, order.org).await?;
    if org.is_none() {
        import.faults.push(Fault::at(format!("{place}/org"), NO_SUCH_ORG));
    }
    let mut duplicate = false;
    if let Some(secret) = &secret {
        let twin = import.keys.iter().position(|(_, earlier)| earlier.reveal() == secret.reveal());
        let of = twin.map(|_| "earlier in this list".to_owned());
        let of = match of {
            Some(of) => Some(of),
            None => {
                let owner = state.desks.issuer.owner_of(secret).await.map_err(|error| Refusal::failed(&error))?;
                owner.map(|id| format!("as {id}"))
            }
        };
        duplicate = of.is_some();
        import.duplicates.extend(of.map(|of| (at, of)));
    }
    match (order.terms, org, secret) {
        (Ok((terms, scopes)), Some(org), Some(secret)) if !duplicate => {
            let maker = actor.id().map(Into::into);
            import.keys.push((NewKey { org: org.id, terms, scopes, maker, by: None }, secret));
        }
        (terms, _, _) => import.faults.extend(terms.err().unwrap_or_default()),
    }
    Ok(())
}
