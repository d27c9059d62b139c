//! The gateway's own pages: who it is, whether it is well, and the keys by which its word is checked.
//!
//! No policy stands before these, and nothing about callers is in them.

use crate::body::Body;
use crate::clock::Millis;
use crate::denial::Denial;
use crate::plugin::Policy;
use crate::snapshot::Snapshot;
use crate::upstream::Health;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the pages tell beside the snapshot.
pub struct Own<'a> {
    /// Whether requests are still welcome.
    pub draining: bool,
    /// Whether calls are refused, since they cannot be written down.
    pub refusing: bool,
    /// JSON Web Key Set of the assertion keys (RFC 7517).
    pub jwks: &'a str,
    /// The time.
    pub now: Millis,
}

type Page = fn(&Snapshot, &Own<'_>) -> Response<Body>;

/// All pages, by path.
const PAGES: [(&str, Page); 5] = [
    ("/", |snapshot, _| landing(snapshot)),
    ("/healthz", |_, own| plain(if own.draining { Err("draining") } else { Ok("ok") })),
    // A snapshot exists only with configuration, stores and components at hand.
    ("/readyz", |_, own| {
        plain(match own {
            Own { draining: true, .. } => Err("draining"),
            Own { refusing: true, .. } => Err("metering unavailable"),
            _ => Ok("ready"),
        })
    }),
    ("/v1/health", health),
    ("/.well-known/jwks.json", |_, own| jwks(own)),
];

/// The paths of all pages.
pub fn paths() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(path, _)| *path)
}

/// The answer to one of the gateway's own paths; `None` for all other paths.
pub fn answer(
    path: &str,
    method: &Method,
    snapshot: &Snapshot,
    own: &Own<'_>,
) -> Option<Result<Response<Body>, Denial>> {
    let (_, page) = PAGES.iter().find(|(of, _)| *of == path)?;
    Some(match *method {
        Method::GET | Method::HEAD => Ok(page(snapshot, own)),
        _ => Err(Denial::MethodNotAllowed { allow: "GET, HEAD" }),
    })
}

fn page(status: StatusCode, media: &'static str, cache: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn plain(word: Result<&'static str, &'static str>) -> Response<Body> {
    let (status, word) = match word {
        Ok(word) => (StatusCode::OK, word),
        Err(word) => (StatusCode::SERVICE_UNAVAILABLE, word),
    };
    page(status, "text/plain; charset=utf-8", "no-store", format!("{word}\n"))
}

/// How the pillars do, by name.
fn pillars(snapshot: &Snapshot) -> Map<String, Value> {
    let state = |health| match health {
        None => "scaffold",
        Some(Health::Live) => "live",
        Some(Health::Degraded) => "degraded",
        Some(Health::Down) => "down",
    };
    let one = |pillar: &crate::snapshot::Pillar| {
        (pillar.name.to_string(), Value::from(state(pillar.live.as_ref().map(|upstream| upstream.health()))))
    };
    snapshot.pillars.iter().filter(|pillar| !pillar.is_own).map(one).collect()
}

/// The policies that are not asked, by name. That some caller has to wait for what it does says nothing of how the gateway
/// is: it is told, and changes no status.
fn quarantined(snapshot: &Snapshot, now: Millis) -> Map<String, Value> {
    let one = |policy: &std::sync::Arc<Policy>| {
        let state = match policy.record.quarantine.shown(now) {
            waits if waits.is_whole() => "quarantined",
            waits if waits.callers > 0 => "quarantined_for_some",
            _ => return None,
        };
        Some((policy.name.to_string(), Value::from(state)))
    };
    snapshot.policies.iter().filter_map(one).collect()
}

fn health(snapshot: &Snapshot, own: &Own<'_>) -> Response<Body> {
    let pillars = pillars(snapshot);
    let policies = quarantined(snapshot, own.now);
    let unwell = pillars.values().any(|state| state == "down" || state == "degraded");
    let status = match unwell || policies.values().any(|state| state == "quarantined") {
        _ if own.draining => "draining",
        true => "degraded",
        false => "ok",
    };
    let document = json!({
        "status": status,
        "version": VERSION,
        "gateway": snapshot.config.gateway.name,
        "upstream_status": pillars,
        "policy_status": policies,
    });
    page(StatusCode::OK, "application/json", "no-store", document.to_string())
}

fn jwks(own: &Own<'_>) -> Response<Body> {
    page(StatusCode::OK, "application/jwk-set+json", "public, max-age=300", own.jwks.to_owned())
}

fn landing(snapshot: &Snapshot) -> Response<Body> {
    let gateway = &snapshot.config.gateway;
    let name = escaped(&gateway.name);
    let docs = escaped(&gateway.developer_docs);
    let rows: String = snapshot
        .config
        .pillars
        .values()
        .zip(pillars(snapshot).values())
        .map(|(pillar, state)| {
            let state = state.as_str().unwrap_or_default();
            format!(
                "<tr><td>{}</td><td><code>{}</code></td><td>{state}</td></tr>",
                escaped(&pillar.name),
                escaped(&pillar.prefix)
            )
        })
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:16px/1.5 system-ui,sans-serif;\
         max-width:40rem;margin:3rem auto;padding:0 1rem}}td{{padding:.2rem 1.5rem .2rem 0}}</style></head><body>\
         <h1>{name}</h1><p>The gateway to {count} APIs behind one key, version {VERSION}.</p>\
         <table><thead><tr><th align=left>API</th><th align=left>path</th><th align=left>status</th></tr></thead>\
         <tbody>{rows}</tbody></table>\
         <p><a href=\"/v1/health\">Status as JSON</a> · <a href=\"/openapi.json\">Its own API</a> · \
         <a href=\"/.well-known/jwks.json\">Keys of its assertions</a> · \
         <a href=\"{docs}\">Documentation</a></p></body></html>\n",
        count = snapshot.config.pillars.len(),
    );
    page(StatusCode::OK, "text/html; charset=utf-8", "no-cache", html)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::route;

    fn snapshot() -> Snapshot {
        let config = config::parse("[pillars.connect]\n[pillars.pay]\n", std::path::Path::new("gateway.toml"));
        Snapshot {
            config: config.expect("a configuration"),
            generation: 1,
            routes: route::Table::default(),
            pillars: Vec::new(),
            upstreams: Vec::new(),
            policies: Vec::new(),
            disabled: Vec::new(),
            documents: Default::default(),
            roots: crate::outbound::Roots::default(),
            rooms: crate::plugin::Rooms::default(),
        }
    }

    fn asked(path: &str, draining: bool) -> (StatusCode, Bytes) {
        let answer =
            answer(path, &Method::GET, &snapshot(), &Own { draining, refusing: false, jwks: "{}", now: Millis(1) });
        let response = answer.expect("a page of the gateway's own").expect("no refusal");
        let status = response.status();
        let Body::Whole(Some(body)) = response.into_body() else { panic!("{path} has no whole body") };
        (status, body)
    }

    #[test]
    fn probes_are_told_that_it_drains() {
        for (path, well) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            assert_eq!(asked(path, false), (StatusCode::OK, Bytes::from_static(well.as_bytes())), "{path}");
            assert_eq!(asked(path, true), (StatusCode::SERVICE_UNAVAILABLE, Bytes::from("draining\n")), "{path}");
        }
    }

    /// Still 200: whoever reads the document gets to know more than a status could say.
    #[test]
    fn the_health_document_says_that_it_drains() {
        for (draining, status) in [(false, "ok"), (true, "draining")] {
            let (code, body) = asked("/v1/health", draining);
            let document: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((code, document["status"].as_str()), (StatusCode::OK, Some(status)));
        }
    }
}
