//! Requests for the gateway's own API: past the same chain, guard and limits as all others, then answered inside.
//!
//! The answer takes the way of an upstream's: past the response phases and the policies that follow bodies; save that one with
//! a secret in it is seen by no policy that follows bodies. No store is
//! asked here, and nothing costs gas.

use super::{Answer, Exchange, Routed, bodies, guard, target};
use crate::body::{Body, Error, Held, Source as From, Upload};
use crate::chain::Passed;
use crate::credential;
use crate::denial::Denial;
use crate::effect::{self, Told};
use crate::head;
use crate::id::RequestId;
use crate::idempotency::{self, Proof};
use crate::inner::{self, Asker, Confidential, LARGEST_BODY, Unanswered};
use crate::key::Bearer;
use crate::meter::Meter;
use crate::plugin::contract::Source;
use crate::principal::Principal;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// How long a request's body may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks, owned: the control runtime may still be at it when the exchange has ended.
pub(super) fn asker(principal: Option<Principal<'_>>, bearer: Option<&Bearer>) -> Asker {
    match (principal, bearer) {
        (Some(Principal::Claimed(claim)), _) => Asker::Claimed(Arc::new(claim.clone())),
        (Some(Principal::Key(_)), Some(bearer)) => Asker::Key(bearer.clone()),
        (Some(Principal::Key(_)) | None, _) => Asker::Anyone,
    }
}

impl Exchange<'_> {
    /// Asks the control runtime, and carries its answer back.
    pub(super) async fn own(
        &self,
        routed: Routed<'_>,
        passed: &mut Passed,
        asker: Asker,
        upload: Incoming,
        (told, meter): (Option<Told>, &mut Meter),
    ) -> Result<Answer, Denial> {
        let announced = upload.size_hint().lower();
        if announced > LARGEST_BODY as u64 {
            return Err(too_large());
        }
        let uploaded = match self.upload(&routed, passed, upload, PATIENCE, meter).await {
            Ok(uploaded) => uploaded,
            Err(ended) => return ended.answer(told),
        };
        let body = match whole(uploaded.body).await {
            Ok(body) => body,
            Err(denial) => match self.ended_by_policy(passed, routed.pillar) {
                Some(ended) => return ended.answer(told),
                None => return Err(denial),
            },
        };
        if matches!(asker, Asker::Key(_)) {
            self.still_may(&routed).await?;
        }
        let to_head = routed.parts.method == Method::HEAD;
        let request = self.inward(routed, passed, asker, body)?;
        let response = self.worker.gateway.inner.ask(request).await.map_err(|unanswered| match unanswered {
            Unanswered::Busy => Denial::GatewayBusy,
            Unanswered::TimedOut => Denial::GatewayTimedOut,
        })?;
        let (parts, body) = response.into_parts();
        meter.own(parts.status);
        if parts.extensions.get::<Confidential>().is_some() {
            // Past the policies that follow bodies: a secret is in its holder's hands, and in nobody's beside.
            return Ok(Answer::whole(Response::from_parts(parts, Body::Whole(Some(body))), Source::Upstream, told));
        }
        let mut held = Held::default();
        held.chunks.extend(Some(body).filter(|body| !body.is_empty()));
        let incoming = Some(bodies::Origin { source: From::Held(held), to_head, patience: PATIENCE });
        Ok(Answer { response: Response::from_parts(parts, Body::empty()), incoming, source: Source::Upstream, told })
    }

    /// A body may take its time to come: a key that was revoked, rotated away or narrowed meanwhile does nothing any more.
    async fn still_may(&self, routed: &Routed<'_>) -> Result<(), Denial> {
        let gateway = &self.worker.gateway;
        let authorization = routed.parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let credential = gateway.keyring.resolve(authorization, self.client.address, gateway.clock.now());
        let credential = credential.await.map_err(|_| Denial::CredentialUnavailable)?;
        guard::check(routed.pillar, routed.target, &credential, guard::principal(&credential, None))
    }

    /// The request as the control runtime gets it: without a credential, but for what opens answers to it where it may come again; and with the path that its rule was found by.
    fn inward(&self, routed: Routed<'_>, passed: &Passed, asker: Asker, body: Bytes) -> Result<Request<Bytes>, Denial> {
        let Routed { mut parts, path, .. } = routed;
        let presented = parts.headers.get(header::AUTHORIZATION).cloned();
        head::clean_request(&mut parts.headers);
        effect::edit_request(&mut parts.headers, &passed.decisions);
        for name in [header::AUTHORIZATION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let mut request = Request::new(body);
        *request.uri_mut() = target(path, parts.uri.query())?;
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        if let Ok(id) = self.id.parse::<RequestId>() {
            request.extensions_mut().insert(id);
        }
        request.extensions_mut().insert(asker);
        request.extensions_mut().insert(inner::From(self.client.address));
        if request.headers().contains_key(idempotency::FIELD)
            && let Some(credential) = presented.as_ref().and_then(|field| credential::bearer(field.as_bytes()))
        {
            // In the place of the credential, which nobody behind this sees.
            request.extensions_mut().insert(Proof::of(credential));
        }
        Ok(request)
    }
}

fn too_large() -> Denial {
    Denial::RequestBodyTooLarge { limit: LARGEST_BODY as u32 }
}

async fn whole(body: Upload) -> Result<Bytes, Denial> {
    let read = Limited::new(body, LARGEST_BODY).collect();
    match tokio::time::timeout(PATIENCE, read).await {
        Err(_) => Err(Denial::RequestBodyStalled),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        // A policy that refused it has said why, and is heard before this.
        Ok(Err(error)) => {
            debug_assert!(error.is::<Error>(), "bodies fail in one way");
            Err(Denial::MalformedRequest("its body is malformed or ended early".into()))
        }
    }
}
