//! One origin: its addresses, and the connections to it that are kept while idle.
//!
//! A connection is made to an address that was checked, never to a name. What a grant without `private` may use is kept
//! apart from what one with it may.

use super::name::{Known, Names};
use super::request::Request;
use super::trust::Trust;
use super::{Error, Part, Unreached};
use crate::config::OutboundGrant;
use crate::id::OrgId;
use bytes::Bytes;
use http::Response;
use http::uri::{Scheme, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustc_hash::FxHashMap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// The most idle connections to one address of an origin.
const MOST_IDLE: usize = 32;
/// How long an origin that nobody asks is kept.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// The longest that a connection to one address is waited for.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of names and values in an answer's head.
pub(super) const LARGEST_HEAD: usize = 32 << 10;
/// The most fields of an answer.
const MOST_ANSWER_FIELDS: usize = 128;

type Connections = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Which origin, and under which rules it is reached.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    tls: bool,
    host: Arc<str>,
    port: u16,
    private: bool,
    connect: Duration,
}

/// All origins that were asked lately.
#[derive(Default)]
pub(super) struct Origins {
    lately: Mutex<FxHashMap<Place, (Arc<Origin>, Instant)>>,
}

impl Origins {
    /// The origin of a grant.
    pub(super) fn find(&self, grant: &OutboundGrant, trust: &Trust) -> Result<Arc<Origin>, Unreached> {
        let place = Place {
            tls: grant.tls,
            host: grant.host.as_str().into(),
            port: grant.port,
            private: grant.private,
            // Half of the time is for one address, so that there is some left for the next.
            connect: (grant.timeout / 2).min(CONNECT),
        };
        let now = Instant::now();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((origin, asked)) = lately.get_mut(&place) {
            *asked = now;
            return Ok(origin.clone());
        }
        // Grants come and go with configurations.
        lately.retain(|_, (_, asked)| now.duration_since(*asked) < FORGOTTEN);
        let origin = Arc::new(Origin::new(place.clone(), trust)?);
        lately.insert(place, (origin.clone(), now));
        Ok(origin)
    }
}

pub(super) struct Origin {
    place: Place,
    known: Known,
    /// One for each set of roots.
    connections: Vec<Connections>,
    /// The set by which the last certificate was believed.
    believed: AtomicUsize,
}

impl Origin {
    fn new(place: Place, trust: &Trust) -> Result<Self, Unreached> {
        let sets = trust.for_origin(place.tls);
        if sets.is_empty() {
            return Err(Unreached::NoRoots);
        }
        let name = ServerName::try_from(place.host.to_string()).map_err(|_| Unreached::Name)?;
        let connections = sets.into_iter().map(|config| connections(&place, config, &name)).collect();
        Ok(Self { place, known: Known::default(), connections, believed: AtomicUsize::new(0) })
    }

    /// Sends a request to the first address that takes it, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        names: &Names,
        whose: Option<OrgId>,
        request: &Request,
    ) -> Result<Response<Incoming>, Error> {
        let Place { host, port, private, .. } = &self.place;
        let addresses = names.addresses(&self.known, whose, (host, *port, *private)).await?;
        let mut error = Error::from(Unreached::Connect);
        for address in addresses.iter() {
            match self.send_to(*address, request).await {
                Err(Error::Unreachable(why @ (Unreached::Connect | Unreached::Certificate))) => error = why.into(),
                done => return done,
            }
        }
        Err(error)
    }

    async fn send_to(&self, address: SocketAddr, request: &Request) -> Result<Response<Incoming>, Error> {
        let sets = self.connections.len();
        let first = self.believed.load(Ordering::Relaxed);
        let mut error = Error::from(Unreached::Connect);
        for set in (0..sets).map(|step| (first + step) % sets) {
            let message = message(&self.place, address, request)?;
            match self.connections[set].request(message).await {
                Ok(response) => {
                    self.believed.store(set, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(failure) => error = why(&failure),
            }
            // Only another set of roots could believe what this one does not. Nothing was sent yet.
            if error != Unreached::Certificate.into() {
                break;
            }
        }
        Err(error)
    }
}

fn connections(place: &Place, config: Arc<ClientConfig>, name: &ServerName<'static>) -> Connections {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(place.connect));
    let names = Arc::new(FixedServerNameResolver::new(name.clone()));
    let connector = HttpsConnector::new(http, config, place.tls, names);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .http1_max_buf_size(LARGEST_HEAD)
        .http1_max_headers(MOST_ANSWER_FIELDS)
        .build(connector)
}

/// The request, to an address: the connector looks up no name in it. `Host` has the name.
fn message(place: &Place, address: SocketAddr, request: &Request) -> Result<http::Request<Full<Bytes>>, Error> {
    let scheme = if place.tls { Scheme::HTTPS } else { Scheme::HTTP };
    let target = Uri::builder().scheme(scheme).authority(address.to_string()).path_and_query(request.target.clone());
    let mut message = http::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = target.build().map_err(|_| Unreached::Connect)?;
    *message.headers_mut() = request.fields.clone();
    Ok(message)
}

fn why(failure: &legacy::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(failure);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Unreached::Certificate.into();
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return Error::TooLarge(Part::Head);
        }
        // The source of an error of `io` is the source of what it holds, which would be left out.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = held.map(|held| held as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    if failure.is_connect() { Unreached::Connect.into() } else { Unreached::Broken.into() }
}
