//! What comes of a body, cut and joined to the chunks that a filter gets.
//!
//! Never waits for more: what is there goes on. Small chunks that are there at once go on as one, so that whoever sends
//! many does not cost a call into every guest for each.

use super::{Held, LARGEST_CHUNK};
use crate::body::Progress;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Frames without a byte that are passed over in one go.
const EMPTY_IN_ONE_GO: u32 = 64;

/// Where a body comes from.
pub enum Source {
    /// A connection.
    Incoming(Incoming),
    /// It was held.
    Held(Held),
    /// What comes when, as a test says; `None` for nothing yet.
    #[cfg(test)]
    Script(std::collections::VecDeque<Option<Frame<Bytes>>>),
}

/// What comes next.
pub(super) enum Came {
    /// So many bytes.
    Chunk(Bytes),
    /// Its end.
    End,
    /// It broke off.
    Broken(hyper::Error),
}

/// A body as it comes in.
pub(super) struct Intake {
    source: Source,
    /// Several chunks as one; all of `rest` comes after it.
    joined: BytesMut,
    /// What came and is not asked for yet.
    rest: Bytes,
    /// What comes after all of it, where that is known.
    then: Option<Came>,
    trailers: Option<HeaderMap>,
    /// What has to pass before it is sure that no more is there.
    turn: Option<Arc<Turn>>,
    progress: Rc<Progress>,
}

impl Intake {
    pub(super) fn new(source: Source, progress: Rc<Progress>) -> Self {
        let (joined, rest, then, trailers, turn) = Default::default();
        Self { source, joined, rest, then, trailers, turn, progress }
    }

    /// The next chunk of at most [`LARGEST_CHUNK`] bytes; where `joins`, as much as there is at once.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, joins: bool) -> Poll<Came> {
        let most = if joins { LARGEST_CHUNK } else { 1 };
        let mut empty = 0;
        while self.then.is_none() && self.gathered() < most && !self.source.is_end_stream() {
            match self.source.poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) if chunk.is_empty() => {
                        empty += 1;
                        if empty == EMPTY_IN_ONE_GO {
                            context.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                    }
                    Ok(chunk) => self.came(chunk),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.then = Some(Came::End);
                    }
                },
                Poll::Ready(Some(Err(error))) => self.then = Some(Came::Broken(error)),
                Poll::Ready(None) => self.then = Some(Came::End),
                Poll::Pending if self.gathered() == 0 => return Poll::Pending,
                Poll::Pending if self.may_bring_more(context.waker()) => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.turn = None;
        if self.gathered() > 0 {
            let chunk = match self.joined.is_empty() {
                true => self.rest.split_to(self.rest.len().min(LARGEST_CHUNK)),
                false => std::mem::take(&mut self.joined).freeze(),
            };
            return Poll::Ready(Came::Chunk(chunk));
        }
        Poll::Ready(self.then.take().unwrap_or(Came::End))
    }

    /// Whether nothing more comes but trailers, as far as that is known.
    pub(super) fn is_over(&self) -> bool {
        self.gathered() == 0
            && match &self.then {
                None => self.source.is_end_stream(),
                Some(then) => matches!(then, Came::End),
            }
    }

    /// The trailers, at the end.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Bytes that are still to come, where all of them are here.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.source {
            Source::Held(held) => Some(held.length() + self.gathered() as u64),
            _ => None,
        }
    }

    fn gathered(&self) -> usize {
        self.joined.len() + self.rest.len()
    }

    /// Whether there may be more at once: a connection hands over one chunk at a time, and the next one when it had its turn
    /// on this worker. Nobody waits for the network here.
    fn may_bring_more(&mut self, waker: &Waker) -> bool {
        match &self.turn {
            Some(turn) if turn.has_passed() => return false,
            Some(turn) if turn.waits.will_wake(waker) => {}
            _ => self.turn = Some(Turn::begin(waker.clone())),
        }
        true
    }

    fn came(&mut self, mut chunk: Bytes) {
        self.turn = None;
        if !matches!(self.source, Source::Held(_)) {
            self.progress.came(chunk.len());
        }
        if self.gathered() == 0 {
            self.rest = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.rest));
        }
        let fits = chunk.split_to(chunk.len().min(LARGEST_CHUNK - self.joined.len()));
        self.joined.extend_from_slice(&fits);
        self.rest = chunk;
    }
}

/// One turn of all that is ready on this worker. Being asked again does not mean that it has passed: whoever sends a body
/// asks for more of it twice in one turn.
struct Turn {
    passed: AtomicBool,
    waits: Waker,
}

impl Turn {
    fn begin(waits: Waker) -> Arc<Self> {
        let turn = Arc::new(Self { passed: AtomicBool::new(false), waits });
        let waker = Waker::from(turn.clone());
        // The first time that it is asked, it has this waker woken at the end of the turn.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        turn
    }

    fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.passed.store(true, Ordering::Relaxed);
        self.waits.wake_by_ref();
    }
}

impl Source {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(context),
            Self::Held(held) => Poll::Ready(held.chunks.pop_front().map(|chunk| Ok(Frame::data(chunk)))),
            #[cfg(test)]
            Self::Script(script) => match script.pop_front() {
                Some(None) => Poll::Pending,
                next => Poll::Ready(next.flatten().map(Ok)),
            },
        }
    }

    /// Whether nothing more comes.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Held(held) => held.chunks.is_empty(),
            #[cfg(test)]
            Self::Script(script) => script.is_empty(),
        }
    }
}
