//! What must not notice that a component is exchanged: busy connections and event streams; and what their answers tell.
//!
//! Strict: whatever is no whole answer of one version ends its connection and is a failure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};

use super::PATIENCE;
use super::sightings::Sightings;
use crate::http::find;

/// Everything that must not notice.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    events: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
    sightings: Arc<Sightings>,
}

impl Load {
    /// Event streams that stay open all the while.
    pub(super) const STREAMS: usize = 8;

    /// Starts it, with places for so many versions from [`FIRST`] on.
    pub(super) fn start(address: SocketAddr, connections: u32, versions: u32) -> Self {
        let sightings = Arc::new(Sightings::of(versions));
        let (stop, requests, events) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let call = |_| {
            let (stop, requests, sightings) = (stop.clone(), requests.clone(), sightings.clone());
            std::thread::spawn(move || {
                let mut caller = Caller::new(address);
                while !stop.load(Ordering::Relaxed) {
                    sightings.note(&caller.ask()?);
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let listen = |_| {
            let (stop, events) = (stop.clone(), events.clone());
            std::thread::spawn(move || listen(address, &stop, &events))
        };
        let threads = (0..connections).map(call).chain((0..Self::STREAMS).map(listen)).collect();
        Self { stop, requests, events, threads, sightings }
    }

    /// When which version answered.
    pub(super) fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Requests, failures, events.
    pub(super) fn end(self) -> (u64, Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        let failures = ended.filter_map(|ended| match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("a caller panicked".to_owned()),
        });
        let failures = failures.collect();
        (self.requests.load(Ordering::Relaxed), failures, self.events.load(Ordering::Relaxed))
    }
}

/// One connection that is kept open; a failure ends it, and is the caller's.
struct Caller {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// The one version that had a hand in the response.
    fn ask(&mut self) -> Result<String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(self.address)?),
        };
        write!(stream, "GET /v1/connect/rooms HTTP/1.1\r\nhost: {}\r\n\r\n", self.address)?;
        let (head, mut body) = read_head(stream)?;
        let length = fields(&head, "content-length").next().and_then(|length| length.parse().ok());
        let length: usize = length.context("an answer without a length")?;
        let start = body.len();
        ensure!(start <= length, "an answer longer than it says");
        body.resize(length, 0);
        stream.read_exact(&mut body[start..])?;
        one_version(&head)
    }
}

fn listen(address: SocketAddr, stop: &AtomicBool, events: &AtomicU64) -> Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET /v1/connect/rooms/lobby/events HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    let (head, _) = read_head(&mut stream)?;
    one_version(&head)?;
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let read = stream.read(&mut buffer).context("an event stream broke")?;
        ensure!(read > 0, "an event stream ended");
        events.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The head of an answer that is a 200, and what came of its body already.
pub(super) fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).context("no answer")?;
        ensure!(read > 0, "the connection ended before the answer");
        seen.extend_from_slice(&buffer[..read]);
        if let Some(end) = find(&seen, b"\r\n\r\n") {
            let body = seen.split_off(end + 4);
            let head = String::from_utf8(seen)?;
            ensure!(head.starts_with("HTTP/1.1 200 "), "{}", head.lines().next().unwrap_or_default());
            return Ok((head, body));
        }
    }
}

fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn one_version(head: &str) -> Result<String> {
    let versions: Vec<&str> = fields(head, "x-version").collect();
    match versions.as_slice() {
        [before, after] if before == after => Ok((*before).to_owned()),
        others => bail!("a response of {others:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_of_two_versions_is_told() {
        assert_eq!(one_version("HTTP/1.1 200 OK\r\nX-Version: 1\r\nx-version: 1\r\n").unwrap(), "1");
        for odd in ["x-version: 1\r\nx-version: 2\r\n", "x-version: 1\r\n", ""] {
            assert!(one_version(&format!("HTTP/1.1 200 OK\r\n{odd}")).is_err(), "{odd:?}");
        }
    }
}
