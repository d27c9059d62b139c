//! One GET over HTTP/1.1, for asking a server on this machine how it is.
//!
//! Deliberately no client library: xtask is the first thing that a newcomer compiles.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers larger than this are not ours.
const LARGEST: u64 = 1 << 20;

/// Asks once; the status and the body. An error when there is no answer within the time.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> Result<(u16, Vec<u8>)> {
    timeout(within, ask(address, path)).await.with_context(|| format!("{address} did not answer in time"))?
}

async fn ask(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the body ends where the connection ends, never in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    let Some(end) = find(&answer, b"\r\n\r\n") else { bail!("{address} does not speak HTTP") };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("{address} does not speak HTTP"))?, answer.split_off(end + 4)))
}

/// Sends a whole request and reads until the answer holds `mark`, or to its end; a stream is left when it said enough.
#[cfg(test)]
pub async fn ask_until(address: SocketAddr, request: &str, mark: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(request.as_bytes()).await.expect("a connection");
    let mut answer = Vec::new();
    while find(&answer, mark.as_bytes()).is_none() {
        let read = timeout(Duration::from_secs(30), stream.read_buf(&mut answer)).await;
        if read.expect("an answer in time").expect("a connection") == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Where `needle` first stands in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_get_yields_status_and_body() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = [0; 1024];
            let read = stream.read(&mut seen).await.unwrap();
            assert!(seen[..read].starts_with(b"GET /readyz HTTP/1.0\r\n"));
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nnot yet").await.unwrap();
        });
        let (status, body) = get(address, "/readyz", Duration::from_secs(5)).await.unwrap();
        assert_eq!((status, body.as_slice()), (503, b"not yet".as_slice()));
    }
}
