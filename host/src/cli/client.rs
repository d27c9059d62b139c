//! One call to the admin API at a time, over HTTP/1.1.
//!
//! Speaks in the clear, so it is meant for the loopback or a tunnel. Every call ends: with an answer, or in 30 seconds; in ten minutes
//! where components may be compiled for it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::encoded;

const PATIENCE: Duration = Duration::from_secs(30);
/// For what may have components compiled.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// How many members of a list are asked for at once.
const PAGE: usize = 200;
const LARGEST_ANSWER: usize = 16 << 20;

/// A client of one gateway's admin API.
pub(super) struct Client {
    address: SocketAddr,
    token: Zeroizing<String>,
}

/// What is sent.
struct Body<'a> {
    kind: &'static str,
    bytes: Bytes,
    /// The digest of what it was made from.
    based_on: Option<&'a str>,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing listens there.
    #[error("no gateway answers at {address}; start one with `portico serve`, or check `admin.listen`")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// Why it was not found.
        source: std::io::Error,
    },
    /// It said nothing in time.
    #[error("the gateway at {address} did not answer within {seconds} seconds")]
    TimedOut {
        /// Where it is.
        address: SocketAddr,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The call could not be made.
    #[error("this machine cannot make calls now")]
    Runtime(#[source] std::io::Error),
    /// It broke off.
    #[error("the gateway at {address} broke off its answer")]
    Broken {
        /// Where it is.
        address: SocketAddr,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whatever listens there is no gateway.
    #[error("what listens at {address} does not answer as a gateway does; check `admin.listen`")]
    NotAGateway {
        /// Where it is.
        address: SocketAddr,
    },
    /// The gateway said no.
    #[error(transparent)]
    Refused(Refused),
}

/// The gateway's refusal.
#[derive(Debug)]
pub struct Refused {
    /// The problem document.
    pub document: Value,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    /// What happened, then one line for each thing that is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |member: &str| self.document[member].as_str().unwrap_or_default();
        write!(f, "{} ({}, {})", text("message"), text("error"), text("instance"))?;
        for fault in self.document["errors"].as_array().into_iter().flatten() {
            let place = fault["pointer"].as_str().or(fault["parameter"].as_str()).unwrap_or_default();
            let detail = fault["detail"].as_str().unwrap_or_default();
            match place {
                // About the whole: where it is alone, it is the message already.
                "" if detail == text("message") => {}
                "" => write!(f, "\n  {detail}")?,
                place => write!(f, "\n  {place}: {detail}")?,
            }
        }
        Ok(())
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr, token: Zeroizing<String>) -> Self {
        Self { address, token }
    }

    /// Makes a call and waits for its answer. `path` is sent as it is.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let body = body.map(|body| Body { kind: "application/json", bytes: body.to_string().into(), based_on: None });
        self.send(method, path, body, PATIENCE)
    }

    /// Sends a configuration as it is written, and the digest of what it is based on. Components may have to be compiled for
    /// the answer.
    pub(super) fn send_toml(&self, path: &str, text: String, based_on: Option<&str>) -> Result<Value, CallError> {
        let body = Body { kind: "application/toml", bytes: text.into(), based_on };
        self.send(Method::POST, path, Some(body), LONG_PATIENCE)
    }

    fn send(&self, method: Method, path: &str, body: Option<Body<'_>>, patience: Duration) -> Result<Value, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CallError::Runtime)?;
        runtime
            .block_on(async { tokio::time::timeout(patience, self.exchange(method, path, body)).await })
            .map_err(|_| CallError::TimedOut { address: self.address, seconds: patience.as_secs() })?
    }

    /// The members of a list, page by page, `limit` at most. `path` is without `cursor` and `limit`.
    pub(super) fn all(&self, path: &str, member: &str, limit: Option<usize>) -> Result<Vec<Value>, CallError> {
        let limit = limit.unwrap_or(usize::MAX);
        let separator = if path.contains('?') { '&' } else { '?' };
        let (mut all, mut cursor) = (Vec::new(), String::new());
        while all.len() < limit {
            let page = (limit - all.len()).min(PAGE);
            let mut answer = self.call(Method::GET, &format!("{path}{separator}limit={page}{cursor}"), None)?;
            if let Value::Array(found) = answer[member].take() {
                all.extend(found);
            }
            match answer["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => break,
            }
        }
        Ok(all)
    }

    /// Makes a call whose answer has no bound, and gives it on as it comes; no pause in it is longer than 30 seconds. What the
    /// sink answers ends it.
    pub(super) fn stream<E>(
        &self,
        method: Method,
        path: &str,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, CallError> {
        let address = self.address;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CallError::Runtime)?;
        let timed_out = |_| CallError::TimedOut { address, seconds: PATIENCE.as_secs() };
        runtime.block_on(async {
            let response = tokio::time::timeout(PATIENCE, self.ask(method, path, None)).await.map_err(timed_out)??;
            if !response.status().is_success() {
                let refused = tokio::time::timeout(PATIENCE, self.document(response)).await.map_err(timed_out)?;
                return Err(refused.err().unwrap_or(CallError::NotAGateway { address }));
            }
            let mut body = response.into_body();
            while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(timed_out)? {
                let frame = frame.map_err(|error| CallError::Broken { address, source: error.into() })?;
                if let Err(error) = frame.data_ref().map_or(Ok(()), |data| sink(data)) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Body<'_>>) -> Result<Value, CallError> {
        let response = self.ask(method, path, body).await?;
        self.document(response).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Body<'_>>,
    ) -> Result<http::Response<hyper::body::Incoming>, CallError> {
        let address = self.address;
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| CallError::Broken { address, source };
        let stream = TcpStream::connect(address).await.map_err(|source| CallError::Unreachable { address, source })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
        // Its end is the answer's, which tells of failures too.
        tokio::spawn(connection);

        let mut bearer =
            HeaderValue::try_from(format!("Bearer {}", *self.token)).map_err(|error| broken(error.into()))?;
        bearer.set_sensitive(true);
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, address.to_string()).header(AUTHORIZATION, bearer);
        if let Some(body) = &body {
            request = request.header(CONTENT_TYPE, body.kind);
        }
        if let Some(digest) = body.as_ref().and_then(|body| body.based_on) {
            request = request.header(IF_MATCH, format!("\"{digest}\""));
        }
        let bytes = body.map(|body| body.bytes).unwrap_or_default();
        let request = request.body(Full::new(bytes)).map_err(|error| broken(error.into()))?;
        sender.send_request(request).await.map_err(|error| broken(error.into()))
    }

    /// The document that was answered, or the refusal.
    async fn document(&self, response: http::Response<hyper::body::Incoming>) -> Result<Value, CallError> {
        let address = self.address;
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| CallError::Broken { address, source };
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await.map_err(broken)?;
        let document: Value =
            serde_json::from_slice(&body.to_bytes()).map_err(|_| CallError::NotAGateway { address })?;
        if status.is_success() {
            Ok(document)
        } else if document["error"].is_string() {
            Err(CallError::Refused(Refused { document }))
        } else {
            Err(CallError::NotAGateway { address })
        }
    }
}
