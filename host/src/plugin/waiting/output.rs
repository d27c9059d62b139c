//! What guests write to standard output and error, as lines of the log; bounded as those of `log` are.
//!
//! Always ready and never in error: a guest cannot be stopped, or stop itself, by writing.

use crate::plugin::bindings_0_1::portico::policy::log::Level;
use crate::plugin::guest::{LINE_BYTES, LINES_A_CALL, write_line};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Most bytes that are taken at once.
const AT_ONCE: usize = 64 << 10;

/// Where the words of one instance go.
#[derive(Clone)]
pub(super) struct Output {
    policy: Arc<str>,
    level: Level,
    /// What has no end of line yet.
    begun: Arc<Mutex<Vec<u8>>>,
    /// Lines of this call.
    lines: Arc<AtomicU32>,
}

impl Output {
    pub(super) fn new(policy: Arc<str>, level: Level) -> Self {
        Self { policy, level, begun: Arc::default(), lines: Arc::default() }
    }

    /// What has no end of line is one all the same; another call may write again.
    pub(super) fn call_ended(&self) {
        let rest = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            self.line(&rest);
        }
        self.lines.store(0, Ordering::Relaxed);
    }

    fn take(&self, bytes: &[u8]) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE_BYTES.saturating_sub(begun.len());
            begun.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.line(&begun);
                begun.clear();
            }
        }
    }

    fn line(&self, line: &[u8]) {
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_A_CALL {
            write_line(&self.policy, self.level, &String::from_utf8_lossy(line));
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(AT_ONCE)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
