//! Backups over HTTP: one stream with all state of the gateway, one at a time.
//!
//! What is sent has no length beforehand: whoever gets it knows by its own end that it is whole.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use super::stream::Taken;
use crate::api::{Actor, Refusal};
use crate::audit::{AuditStore, Note};
use crate::backup::{Source, TakeError};
use crate::clock::Clock;

/// Bytes that go out at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait for whoever takes the backup.
const WAITING: usize = 8;
/// How long nobody may take a piece.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Desk {
    source: Arc<Source>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
    stopped: watch::Receiver<bool>,
    one: Arc<Semaphore>,
}

/// The route `/v1/backup`. Who took one is in the audit log, also in that of the backup itself. Ends with `stopped`.
pub fn routes(source: Source, audit: Arc<dyn AuditStore>, clock: Clock, stopped: watch::Receiver<bool>) -> Router {
    let desk = Desk { source: Arc::new(source), audit, clock, stopped, one: Arc::new(Semaphore::new(1)) };
    Router::new().route("/v1/backup", post(take)).with_state(desk)
}

async fn take(State(desk): State<Desk>, Extension(actor): Extension<Actor>) -> Result<Response, Refusal> {
    let Desk { source, audit, clock, stopped, one } = desk;
    let place = one.try_acquire_owned().map_err(|_| {
        let detail = "A backup is being taken; take another one when that is done.";
        Refusal::new(503, "busy", "Busy", detail).retry_after(5)
    })?;
    let note = Note::new(actor.who(), "backup.taken", clock.now());
    audit.append(note).await.map_err(|error| Refusal::failed(&error))?;
    let (pieces, taken) = mpsc::channel(WAITING);
    let pipe = Pipe { gathered: Vec::with_capacity(PIECE), pieces, stopped, handle: Handle::current() };
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut pipe = pipe;
        let taken = source.take(&mut pipe);
        if let Err(error) = &taken {
            // So that nobody takes it for a whole answer.
            pipe.break_off(io::Error::other(told(error)));
        }
        match taken {
            Ok(()) => tracing::info!("a backup was taken"),
            Err(error @ TakeError::Gone(_)) => tracing::warn!("{}", told(&error)),
            Err(error) => tracing::error!("{}", told(&error)),
        }
    });
    let mut response = Body::new(Taken(taken)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

fn told(error: &TakeError) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
}

/// Where a backup is written to.
struct Pipe {
    gathered: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    stopped: watch::Receiver<bool>,
    handle: Handle,
}

impl Pipe {
    fn break_off(&mut self, error: io::Error) {
        let (pieces, stopped) = (&self.pieces, &mut self.stopped);
        self.handle.block_on(async {
            tokio::select! {
                // Whoever has gone knows.
                _ = tokio::time::timeout(PATIENCE, pieces.send(Err(error))) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE)));
        let (pieces, stopped) = (&self.pieces, &mut self.stopped);
        self.handle.block_on(async {
            tokio::select! {
                sent = tokio::time::timeout(PATIENCE, pieces.send(Ok(piece))) => match sent {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                },
                _ = stopped.wait_for(|stopped| *stopped) => Err(io::Error::other("the gateway is stopping")),
            }
        })
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.send() }
    }
}
