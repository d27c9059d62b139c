//! A load generator: so many connections, each with one request under way, for a bounded time.
//!
//! Raw HTTP/1.1 with `Content-Length` only, and only on this machine: everything here is time that the measured gateway
//! does not get its next request.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::usage;
use crate::http::find;

/// How long an answer may take after the time is up.
const GRACE: Duration = Duration::from_secs(5);
/// How long one request alone may take; more than anything that is measured should.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and where.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// The whole request, as it goes over the wire.
    pub request: Vec<u8>,
}

/// What came back.
#[derive(Default, Debug)]
pub struct Outcome {
    /// Microseconds from request to end of the answer, one for each success.
    pub latencies: Vec<u32>,
    /// Answers other than 2xx, and connections that broke.
    pub bad: u64,
    /// The first thing that went wrong.
    pub first: Option<String>,
}

impl Outcome {
    /// How many successes.
    pub fn good(&self) -> usize {
        self.latencies.len()
    }

    /// ` (first: …)`, or nothing where nothing went wrong.
    pub fn complaint(&self) -> String {
        self.first.as_ref().map(|first| format!(" (first: {first})")).unwrap_or_default()
    }

    fn failed(&mut self, reason: String) {
        self.bad += 1;
        self.first.get_or_insert(reason);
    }

    fn add(&mut self, other: Outcome) {
        self.latencies.extend(other.latencies);
        self.bad += other.bad;
        self.first = self.first.take().or(other.first);
    }
}

/// So many connections for so long.
pub async fn run(target: &Target, connections: u32, time: Duration) -> Result<Outcome> {
    let target = target.clone();
    apart(async move || all(target, connections, time).await).await
}

/// Runs on a thread of its own, on the CPU for load.
pub async fn apart<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> Result<T> {
    on_thread(|| Ok(()), work).await
}

/// As [`apart`], on a thread that gives way to the others there.
pub async fn apart_behind<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> Result<T> {
    // On Linux this is about the thread.
    let behind = || rustix::process::setpriority_process(None, 10).context("this thread cannot give way to others");
    on_thread(behind, work).await
}

async fn on_thread<T: Send + 'static>(
    begin: impl FnOnce() -> Result<()> + Send + 'static,
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let work = move || {
        let outcome = usage::bind(usage::LOAD_CPU).and_then(|()| begin()).and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work()))
        });
        // Nobody waits any more: interrupted.
        send.send(outcome).ok();
    };
    std::thread::Builder::new().name("load".into()).spawn(work)?;
    receive.await.context("the load generator panicked")?
}

async fn all(target: Target, connections: u32, time: Duration) -> Outcome {
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(one(target.clone(), end));
    }
    let mut sum = Outcome::default();
    let joined = timeout(time + GRACE, async {
        while let Some(outcome) = running.join_next().await {
            match outcome {
                Ok(outcome) => sum.add(outcome),
                Err(error) => sum.failed(error.to_string()),
            }
        }
    });
    if joined.await.is_err() {
        sum.failed(format!("no answer within {} s after the time was up", GRACE.as_secs()));
    }
    sum
}

/// One request on a connection of its own: its status, and how long it took from connecting to the end of the answer.
pub async fn once(target: &Target) -> Result<(u16, Duration)> {
    once_from(Ipv4Addr::UNSPECIFIED, target).await
}

/// As [`once`], from this address of the machine; every address of 127.0.0.0/8 is one, and another caller.
pub async fn once_from(caller: Ipv4Addr, target: &Target) -> Result<(u16, Duration)> {
    let begin = Instant::now();
    let asked = async {
        let socket = TcpSocket::new_v4()?;
        if !caller.is_unspecified() {
            socket.bind(SocketAddr::from((caller, 0)))?;
        }
        let mut stream = socket.connect(target.address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&target.request).await?;
        answer(&mut stream, &mut Vec::with_capacity(16 * 1024)).await
    };
    let head = timeout(PATIENCE, asked).await.context("no answer in time")??;
    Ok((head.status, begin.elapsed()))
}

/// One connection after another until the end, one request after another on each.
async fn one(target: Target, end: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    while Instant::now() < end {
        if let Err(error) = ask(&target, end, &mut outcome).await {
            outcome.failed(format!("{error:#}"));
            // A gateway that is gone refuses at once; asking it in a tight loop would measure nothing.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    outcome
}

async fn ask(target: &Target, end: Instant, outcome: &mut Outcome) -> Result<()> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(());
        }
        stream.write_all(&target.request).await?;
        let head = answer(&mut stream, &mut buffer).await?;
        match head.status {
            200..300 => outcome.latencies.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX)),
            status => outcome.failed(format!("status {status}: {}", String::from_utf8_lossy(&buffer[head.length..]))),
        }
    }
}

/// Reads one answer to its end: its status.
pub async fn status(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16> {
    Ok(answer(stream, buffer).await?.status)
}

/// Reads one answer to its end; the buffer holds nothing else then.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Head> {
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection ended before the answer");
        }
        if let Some(length) = find(buffer, b"\r\n\r\n") {
            break Head::parse(&buffer[..length + 4])?;
        }
    };
    while buffer.len() < head.answer_length {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection ended within the answer");
        }
    }
    Ok(head)
}

/// What must be known of an answer's head to find its end.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Of the head alone.
    length: usize,
    /// Of head and body.
    answer_length: usize,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(head).context("the answer's head is not text")?;
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let mut lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let body: usize = lines
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .context("the answer has no content-length")?;
        let status = status.context("the answer is not HTTP/1.1")?;
        Ok(Self { status, length: head.len(), answer_length: head.len().saturating_add(body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::origin;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let head = b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n";
        let expected = Head { status: 204, length: head.len(), answer_length: head.len() + 7 };
        assert_eq!(Head::parse(head).unwrap(), expected);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(Head::parse(b"SSH-2.0\r\ncontent-length: 1\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn the_origin_answers_every_request_of_the_load() {
        let address = origin::start(usage::LOAD_CPU).unwrap();
        let target = Target { address, request: b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec() };
        let outcome = run(&target, 4, Duration::from_millis(100)).await.unwrap();
        assert!(outcome.good() > 4, "{outcome:?}");
        assert_eq!(outcome.bad, 0, "{outcome:?}");
    }

    #[tokio::test]
    async fn refusals_and_dead_ports_are_bad() {
        let [dead] = crate::port::free().unwrap();
        let target = Target { address: dead, request: Vec::new() };
        let outcome = run(&target, 2, Duration::from_millis(30)).await.unwrap();
        assert_eq!(outcome.good(), 0);
        assert!(outcome.bad > 0 && outcome.complaint().starts_with(" (first: "), "{outcome:?}");
    }
}
