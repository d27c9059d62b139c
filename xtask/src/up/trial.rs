//! The three requests to try: as lines for a shell, and as they are sent to see that these lines work.
//!
//! Both are made from one description, so that what is checked is what is printed.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{http, pillar};

/// Whatever answers in more bytes is none of our pillars.
const LARGEST: usize = 1 << 20;
/// As much of a wrong answer is shown.
const SHOWN: usize = 300;

/// A request to try.
pub struct Trial {
    public: SocketAddr,
    path: String,
    key: Option<String>,
    /// Its answer has no end: the first event is enough.
    streams: bool,
}

/// What to try, of a gateway that listens there and knows this key.
pub fn all(public: SocketAddr, key: &str) -> [Trial; 3] {
    let trial = |path: String, key: Option<&str>| Trial { public, path, key: key.map(str::to_owned), streams: false };
    [
        trial("/v1/connect/rooms".to_owned(), Some(key)),
        Trial { streams: true, ..trial("/v1/connect/rooms/lobby/events".to_owned(), Some(key)) },
        trial(format!("/v1/knowledge/verify/{}", pillar::TOKEN), None),
    ]
}

impl Trial {
    /// What to type.
    pub fn line(&self) -> String {
        let option = if self.streams { "-N" } else { "-i" };
        let field = self.authorization().map(|field| format!(" -H '{field}'")).unwrap_or_default();
        format!("curl {option} http://{}{}{field}", self.public, self.path)
    }

    /// What `curl` makes of that line, save that this connection is not kept.
    pub fn request(&self) -> String {
        let field = self.authorization().map(|field| format!("{field}\r\n")).unwrap_or_default();
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n{field}Connection: close\r\n\r\n",
            self.path, self.public
        )
    }

    /// Sends it; an error unless the answer is a 200, and of a stream the first event too, within the time.
    pub async fn ask(&self, within: Duration) -> Result<()> {
        let mut answer = Vec::new();
        let in_time = match timeout(within, self.read(&mut answer)).await {
            Ok(read) => read.map(|()| true).with_context(|| format!("{self} got no answer"))?,
            Err(_) => false,
        };
        self.judge(&answer, in_time)
    }

    /// Whether this is what was hoped for. When it did not all come in time, what did come may still say why.
    fn judge(&self, answer: &[u8], in_time: bool) -> Result<()> {
        match (status(answer), in_time) {
            (Some(200), true) if self.streams && !has_event(answer) => bail!("{self} got a 200, and no event after it"),
            (Some(200), true) => Ok(()),
            (Some(200), false) if self.streams => bail!("{self} got a 200, and no event after it in time"),
            (Some(200), false) => bail!("{self} got a 200, and not all of its body in time"),
            (Some(other), _) => bail!("{self} got {other} instead of 200: {}", body(answer)),
            (None, true) => bail!("{self} got an answer that is no HTTP"),
            (None, false) => bail!("{self} got no answer in time"),
        }
    }

    /// Reads to the end, or of a stream to the end of its first event.
    async fn read(&self, answer: &mut Vec<u8>) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.public).await?;
        stream.write_all(self.request().as_bytes()).await?;
        while answer.len() < LARGEST && !(self.streams && has_event(answer)) {
            if stream.read_buf(answer).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn authorization(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("authorization: Bearer {key}"))
    }
}

/// As one would speak of it; without the key.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET http://{}{}", self.public, self.path)
    }
}

fn head_and_body(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = http::find(answer, b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

/// The status, once the head is whole.
fn status(answer: &[u8]) -> Option<u16> {
    let (head, _) = head_and_body(answer)?;
    let head = str::from_utf8(head).ok()?;
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Whether there is a whole event: it ends with an empty line.
fn has_event(answer: &[u8]) -> bool {
    let (_, body) = head_and_body(answer).unwrap_or_default();
    http::find(body, b"data: ").is_some_and(|data| http::find(&body[data..], b"\n\n").is_some())
}

fn body(answer: &[u8]) -> String {
    let (_, body) = head_and_body(answer).unwrap_or_default();
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn trials() -> [Trial; 3] {
        all(SocketAddr::from(([127, 0, 0, 1], 7001)), "sk_live_a")
    }

    #[test]
    fn a_200_is_enough_and_of_a_stream_the_first_event_too() {
        let [rooms, events, _] = trials();
        rooms.judge(b"HTTP/1.1 200 OK\r\n\r\nhello", true).unwrap();
        events.judge(b"HTTP/1.1 200 OK\r\n\r\nevent: a\ndata: 1\n\nevent", true).unwrap();
    }

    #[test]
    fn all_else_is_one_sentence() {
        let [rooms, events, _] = trials();
        for (trial, answer, in_time, wrong) in [
            (&rooms, "HTTP/1.1 401 No\r\n\r\n{\"a\":\n 1}", true, "got 401 instead of 200: {\"a\": 1}"),
            (&events, "HTTP/1.1 503 No\r\n\r\ndata: 1\n\n", true, "got 503 instead of 200: data: 1"),
            (&events, "HTTP/1.1 503 No\r\n\r\nwait", false, "got 503 instead of 200: wait"),
            (&events, "HTTP/1.1 200 OK\r\n\r\nevent: a\ndata: 1\n", true, "got a 200, and no event after it"),
            (&events, "HTTP/1.1 200 OK\r\n\r\nevent: a\n\n", false, "got a 200, and no event after it in time"),
            (&rooms, "HTTP/1.1 200 OK\r\n\r\nhel", false, "got a 200, and not all of its body in time"),
            (&rooms, "HTTP/1.1 200 OK\r\n", true, "got an answer that is no HTTP"),
            (&rooms, "SSH-2.0-OpenSSH\r\n\r\n", true, "got an answer that is no HTTP"),
            (&rooms, "", false, "got no answer in time"),
        ] {
            let said = trial.judge(answer.as_bytes(), in_time).unwrap_err().to_string();
            assert_eq!(said, format!("{trial} {wrong}"), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_silent_or_gone_is_one_sentence_without_the_key() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let [rooms, ..] = all(silent.local_addr().unwrap(), "sk_live_a");
        let said = rooms.ask(Duration::from_millis(50)).await.unwrap_err().to_string();
        assert_eq!(said, format!("GET http://{}/v1/connect/rooms got no answer in time", silent.local_addr().unwrap()));
        drop(silent);
        let said = format!("{:#}", rooms.ask(Duration::from_secs(30)).await.unwrap_err());
        assert!(said.starts_with(&format!("{rooms} got no answer: ")) && !said.contains("sk_live_a"), "{said}");
    }
}
