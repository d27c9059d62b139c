//! A collector of traces: takes OTLP over HTTP, decodes what comes, and answers as the test says.
//!
//! When it is dropped, what came is searched for secrets.

use super::{secrets, until};
use portico::requests::otlp;
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A collector on a port of its own; ends when it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Bodies that were taken.
    bodies: Mutex<Vec<Vec<u8>>>,
    heads: Mutex<Vec<String>>,
    asked: AtomicUsize,
    answers: Mutex<VecDeque<Vec<u8>>>,
    silent: Mutex<bool>,
    loud: Condvar,
    ended: AtomicBool,
}

/// One span, with its attributes by name.
#[derive(Debug, Clone)]
pub struct Told {
    pub span: otlp::Span,
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Takes spans.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::<Inner>::default();
        let serving = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let inner = serving.clone();
                std::thread::spawn(move || while_some(BufReader::new(stream), &inner));
            }
        });
        Self { address, inner }
    }

    /// Answers the next requests so: a status line's end, further fields after `\r\n`, and a body. All others with 200.
    pub fn answer(&self, head: &str, body: &[u8]) {
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
        self.inner.answers.lock().expect("nobody panicked").push_back([answer.as_bytes(), body].concat());
    }

    /// Answers nothing while this is set.
    pub fn keep_silent(&self, silent: bool) {
        *self.inner.silent.lock().expect("nobody panicked") = silent;
        self.inner.loud.notify_all();
    }

    /// How often it was sent something.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// The heads of all that it was sent.
    pub fn heads(&self) -> Vec<String> {
        self.inner.heads.lock().expect("nobody panicked").clone()
    }

    /// What it took, whole.
    pub fn requests(&self) -> Vec<otlp::Request> {
        let bodies = self.inner.bodies.lock().expect("nobody panicked").clone();
        bodies.iter().map(|body| otlp::Request::decode(&**body).expect("a request of OTLP")).collect()
    }

    /// All spans that it took.
    pub fn spans(&self) -> Vec<Told> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        spans.map(Told::of).collect()
    }

    /// Waits for the spans of one request; its own comes first.
    pub fn of_request(&self, id: &str) -> Vec<Told> {
        let found = || {
            let spans = self.spans();
            let own = spans.iter().find(|told| told.get("portico.request_id") == id)?.span.clone();
            let below = |told: &Told| told.span.parent_span_id == own.span_id && told.span.trace_id == own.trace_id;
            let below: Vec<_> = spans.into_iter().filter(below).collect();
            Some(std::iter::once(Told::of(own)).chain(below).collect::<Vec<_>>())
        };
        until(&format!("{id} is told"), || found().is_some());
        found().expect("it was there")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        self.keep_silent(false);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(self.address);
        if std::thread::panicking() {
            return;
        }
        for body in &*self.inner.bodies.lock().expect("nobody panicked") {
            assert_eq!(secrets::found_in(body), None, "spans hold a secret");
        }
    }
}

impl Told {
    fn of(span: otlp::Span) -> Self {
        let text = |attribute: &otlp::KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
            otlp::Value::Text(text) => Some(text.clone()),
            otlp::Value::Int(number) => Some(number.to_string()),
            otlp::Value::Bool(is) => Some(is.to_string()),
        };
        let named = span.attributes.iter().filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?)));
        let attributes: BTreeMap<_, _> = named.collect();
        assert_eq!(attributes.len(), span.attributes.len(), "each name once: {span:?}");
        Self { span, attributes }
    }

    /// An attribute; empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// Answers on one connection for as long as requests come.
fn while_some(mut reader: BufReader<TcpStream>, inner: &Inner) {
    while let Some((head, body)) = read(&mut reader) {
        inner.asked.fetch_add(1, Ordering::SeqCst);
        inner.heads.lock().expect("nobody panicked").push(head);
        let mut silent = inner.silent.lock().expect("nobody panicked");
        while *silent {
            silent = inner.loud.wait(silent).expect("nobody panicked");
        }
        drop(silent);
        let answer = inner.answers.lock().expect("nobody panicked").pop_front();
        let answer = answer.unwrap_or_else(|| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
        if answer.starts_with(b"HTTP/1.1 200") {
            inner.bodies.lock().expect("nobody panicked").push(body);
        }
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head[start..].trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(("content-length", value)) = line.split_once(':') {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
