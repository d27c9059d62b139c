//! A server of plain HTTP that answers well and badly, and counts.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

pub(super) struct Server {
    pub(super) port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
}

type Body = BoxBody<Bytes, Infallible>;

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let counting = counts.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = counting.clone();
                counts.connections.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let counted = counts.clone();
                    let service = service_fn(move |request| {
                        counted.requests.fetch_add(1, Ordering::SeqCst);
                        answer(request)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, counts }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

/// Waits for a state.
pub(super) async fn until(state: impl Fn() -> bool) {
    let waiting = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the state comes about");
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(bytes) = path.strip_prefix("/sized/") {
        return Ok(Response::new(whole(vec![b'x'; bytes.parse().unwrap()])));
    }
    if let Some(bytes) = path.strip_prefix("/chunked/") {
        let chunks = vec![Bytes::from_static(b"x"); bytes.parse().unwrap()];
        return Ok(Response::new(streamed(stream::iter(chunks))));
    }
    let mut response = Response::new(whole("nothing"));
    if let Some(bytes) = path.strip_prefix("/head/") {
        response.headers_mut().insert("x-large", "x".repeat(bytes.parse().unwrap()).parse().unwrap());
        return Ok(response);
    }
    match path.as_str() {
        "/head-never" => std::future::pending().await,
        "/body-never" => {
            *response.body_mut() = streamed(stream::once(async { Bytes::from_static(b"x") }).chain(stream::pending()));
        }
        "/endless" => *response.body_mut() = streamed(stream::repeat(Bytes::from_static(&[b'x'; 100]))),
        "/redirect" => {
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, "/echo".parse().unwrap());
        }
        "/fields" => {
            *response.body_mut() = whole("not really gzip");
            for (name, value) in [
                ("connection", "x-private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authenticate", "Basic"),
                ("content-encoding", "gzip"),
            ] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        "/many-fields" => {
            for number in 0..200 {
                response.headers_mut().append("x-many", number.into());
            }
        }
        _ => {
            let mut text = format!("{} {}\n", parts.method, parts.uri);
            for (name, value) in &parts.headers {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            let body = body.collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
            *response.body_mut() = whole(text + "\n" + std::str::from_utf8(&body).unwrap());
        }
    }
    Ok(response)
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn streamed(chunks: impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))))
}
