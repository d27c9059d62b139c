//! Who calls, and how much of it is used.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::{PublicState, key_needed};
use crate::api::Refusal;
use crate::api::shapes::{Mode, OrgShown};
use crate::id::KeyId;
use crate::inner::Asker;
use crate::limit::{Period, SubjectKind};
use crate::plugin::contract;
use crate::snapshot::Snapshot;
use crate::usage::Month;

/// Who calls.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    /// The key; null where a policy vouches for the caller by other means.
    #[schema(example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")]
    key_id: Option<String>,
    /// What the key is called, or who a policy says that the caller is.
    #[schema(example = "ci")]
    name: String,
    mode: Mode,
    org: OrgShown,
    /// What may be called, and what may be managed.
    scopes: Vec<String>,
    /// When the key ends by itself; null for never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Null for callers without a key, which are not counted one by one.
    quota: Option<Quota>,
    /// What may still be spent, in tokens; null, as there is no wallet yet.
    balance: Option<String>,
}

/// The calls of the org in this month (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quota {
    /// Calls that were let through, up to a second behind.
    calls_this_month: u64,
    /// The smallest limit over a month that counts over all pillars; null where there is none. Which callers it is meant for is its
    /// policy's affair.
    limit: Option<u64>,
}

/// Who you are
///
/// The key, its org, what it may do, and how many calls the org made in this month. `/v1/identity/me` answers the same for as long as
/// nothing else answers there.
#[utoipa::path(
    get,
    path = "/v1/me",
    operation_id = "me",
    tag = "identity",
    responses((status = 200, description = "Who calls.", body = Me, example = json!({
        "key_id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci", "mode": "live",
        "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
        "scopes": ["connect", "usage:read"], "expires_at": null,
        "quota": {"calls_this_month": 1207, "limit": null}, "balance": null
    }))),
)]
pub(super) async fn me(State(state): State<PublicState>, asker: Option<Extension<Asker>>) -> Result<Json<Me>, Refusal> {
    match asker {
        Some(Extension(Asker::Key(bearer))) => by_key(&state, bearer.key.id).await.map(Json),
        Some(Extension(Asker::Claimed(claim))) => Ok(Json(Me {
            key_id: None,
            name: claim.subject.clone(),
            mode: match claim.mode {
                contract::Mode::Live => Mode::Live,
                contract::Mode::Sandbox => Mode::Sandbox,
            },
            org: OrgShown { id: claim.org.clone(), slug: None },
            scopes: claim.scopes.clone(),
            expires_at: None,
            quota: None,
            balance: None,
        })),
        Some(Extension(Asker::Anyone)) | None => Err(key_needed()),
    }
}

async fn by_key(state: &PublicState, id: KeyId) -> Result<Me, Refusal> {
    let kept = state.admin.desks.issuer.find(id).await.map_err(|error| Refusal::failed(&error))?;
    // Forgotten since it called.
    let kept = kept.ok_or_else(key_needed)?;
    let key = &kept.key;
    let months = state.months.of(Some(key.org), &[Month::of(state.admin.clock.now())]).await?;
    let calls_this_month = months.iter().map(|month| month.total.let_through()).sum();
    let org = state.admin.desks.orgs.find(&key.org.to_string()).await.map_err(|error| Refusal::failed(&error))?;
    let limit = monthly_limit(&state.gateway.live.load());
    Ok(Me {
        key_id: Some(key.id.to_string()),
        name: kept.name.to_string(),
        mode: key.mode.into(),
        org: OrgShown::of(key, org.as_slice()),
        scopes: key.scopes().iter().map(str::to_owned).collect(),
        expires_at: key.expires().map(|end| end.to_string()),
        quota: Some(Quota { calls_this_month, limit }),
        balance: None,
    })
}

/// The smallest quota of a month for a key or an org over all pillars.
fn monthly_limit(snapshot: &Snapshot) -> Option<u64> {
    let steps = snapshot.pillars.iter().flat_map(|pillar| &pillar.chains).flat_map(|chain| &chain.steps);
    let limits = steps.flat_map(|step| &step.limits).map(|limit| limit.definition());
    let ours = limits.filter(|it| it.pillar.is_none() && matches!(it.subject, SubjectKind::Key | SubjectKind::Org));
    let monthly = ours.flat_map(|limit| &limit.windows).filter(|window| window.per == Period::Month);
    monthly.map(|window| window.quota).min()
}
