//! A real HTTP server to stand behind the gateway: it answers with what it saw, and remembers how often it was asked.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// An origin on port 0; ends when it is dropped.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _stop: oneshot::Sender<()>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    connections: AtomicUsize,
    ids: Mutex<Vec<String>>,
}

impl Origin {
    /// Answers every path with JSON on the request; some paths behave specially, see `answer`.
    pub fn echo() -> Self {
        let seen = Arc::<Seen>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, address) = std::sync::mpsc::channel();
        let counted = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                told.send(listener.local_addr().expect("an address")).expect("somebody waits");
                let accept = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let _ = stream.set_nodelay(true);
                        counted.connections.fetch_add(1, Ordering::SeqCst);
                        let seen = counted.clone();
                        tokio::spawn(async move {
                            let service = service_fn(move |request| answer(seen.clone(), request));
                            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                        });
                    }
                };
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address: address.recv().expect("the origin starts"), seen, _stop: stop }
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// The ids of the requests that came since this was asked last.
    pub fn take_ids(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.ids.lock().expect("nobody panicked"))
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

fn whole(bytes: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Answer, std::io::Error> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    seen.ids.lock().expect("nobody panicked").extend(id);
    if let Some(millis) = path.strip_prefix("/slow/") {
        tokio::time::sleep(Duration::from_millis(millis.parse().unwrap_or(0))).await;
    }
    match path.as_str() {
        "/events" => return Ok(events(5)),
        "/endless" => return Ok(events(usize::MAX)),
        "/mirror" => return Ok(Response::new(body.map_err(std::io::Error::other).boxed())),
        "/break" => return Ok(broken()),
        "/hang-up" => return Err(std::io::Error::other("as asked")),
        "/big" => return Ok(Response::new(whole(vec![b'x'; 4 << 20]))),
        "/empty" => {
            let mut empty = Response::new(whole(""));
            *empty.status_mut() = http::StatusCode::NO_CONTENT;
            return Ok(empty);
        }
        _ => {}
    }
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let fields: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let document = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "fields": fields,
        "body": String::from_utf8_lossy(&body),
        "bytes": body.len(),
    });
    let mut response = Response::new(whole(document.to_string()));
    let headers = response.headers_mut();
    headers.insert("content-type", "application/json".parse().expect("a value"));
    headers.append("set-cookie", "a=1".parse().expect("a value"));
    headers.append("set-cookie", "b=2".parse().expect("a value"));
    headers.insert("x-portico-units", "3".parse().expect("a value"));
    headers.insert("connection", "x-private".parse().expect("a value"));
    headers.insert("x-private", "1".parse().expect("a value"));
    if let Some(status) = path.strip_prefix("/status/") {
        *response.status_mut() = status.parse().expect("a status");
    }
    Ok(response)
}

/// Server-sent events, one every few milliseconds.
fn events(count: usize) -> Answer {
    let stream = futures_util::stream::unfold(0, move |number| async move {
        if number == count {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Frame::data(Bytes::from(format!("data: {number}\n\n")))), number + 1))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response.headers_mut().insert("content-type", "text/event-stream".parse().expect("a value"));
    response
}

/// A body that ends before its announced length.
fn broken() -> Answer {
    let stream = futures_util::stream::unfold(0, |step| async move {
        if step == 0 {
            return Some((Ok(Frame::data(Bytes::from_static(b"half of it"))), 1));
        }
        // Head and half of the body are on their way by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Err(std::io::Error::other("as asked")), 2))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response.headers_mut().insert("content-length", "1000".parse().expect("a value"));
    response
}
