//! The service behind all measured gateways: answers every request with the same 1 KiB, as cheaply as it can.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::usage;
use crate::http::find;

/// Starts it on a thread of its own; it lives as long as this process.
pub fn start(cpu: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("the origin finds no free port")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        if let Err(error) = usage::bind(cpu).and_then(|()| runtime.block_on(accept(listener))) {
            eprintln!("the origin stopped: {error:#}");
        }
    };
    std::thread::Builder::new().name("origin".into()).spawn(serve)?;
    Ok(address)
}

async fn accept(listener: TcpListener) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let answer: Arc<[u8]> = answer().into();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, Arc::clone(&answer)));
    }
}

fn answer() -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1024, b'.');
    answer
}

/// One connection: requests without a body, one answer for each, until it closes or sends nonsense.
async fn serve(mut stream: TcpStream, answer: Arc<[u8]>) {
    // Without this an answer waits for the acknowledgement of the one before; it only ever fails on a closed socket.
    stream.set_nodelay(true).ok();
    let mut seen = Vec::with_capacity(4096);
    while seen.len() < 64 * 1024 {
        while let Some(end) = find(&seen, b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut seen).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
