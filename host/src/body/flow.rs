//! What stands between the two ends of a body: nothing, or a filter that every byte passes.
//!
//! Holds at most one chunk on its way in and what the filter made of it: whoever reads slowly is waited for. Never ends a
//! body that its filter refused: it breaks off.

mod intake;

pub use intake::Source;

use super::Progress;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use intake::{Came, Intake};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes a second at which a body that is held must come, after the first patience.
const LEAST_RATE: u64 = 16 << 10;

/// The largest chunk that a filter gets, and so a policy that follows bodies.
pub const LARGEST_CHUNK: usize = 64 << 10;

/// Chunks that are filtered in one go before others have their turn.
const IN_ONE_GO: u32 = 8;

/// Why a body did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection that it came from broke off, or did not speak HTTP.
    #[error("it did not come to its end")]
    Transport(#[source] hyper::Error),
    /// Its filter refused it.
    #[error("a policy refused it")]
    Refused,
}

/// A filter refused a body; it has said why to whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// What every byte of a body passes.
pub trait Filter {
    /// Passes one chunk of at most [`LARGEST_CHUNK`] bytes; what goes on in its place is added to `out`.
    ///
    /// # Errors
    /// When the body must not go on.
    fn pass(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), Refused>;

    /// The body is over; what goes on after its last chunk is added to `out`.
    ///
    /// # Errors
    /// When the body must not come to its end.
    fn end(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Refused>;
}

/// A body that is whole already. Its trailers are gone: it goes on with a length, and then there is no place for them.
#[derive(Default)]
pub struct Held {
    /// Its chunks, none of them empty.
    pub chunks: VecDeque<Bytes>,
    /// Whoever had it held: bounds count it for as long as it takes memory.
    holder: Option<Box<dyn Filter>>,
}

impl Held {
    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// A body on its way.
pub enum Flow {
    /// As it comes.
    Plain(Incoming),
    /// Held, or through a filter.
    Filtered(Box<Filtered>),
}

/// A body that was held, or that passes a filter.
pub struct Filtered {
    intake: Intake,
    /// `None` once it had its last word.
    filter: Option<Box<dyn Filter>>,
    spent: Option<Box<dyn Filter>>,
    /// What was filtered and did not go on yet.
    out: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    state: State,
    progress: Rc<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is more to come from the source.
    Open,
    /// All came, and the filter let it.
    Over,
    /// It must not come to its end.
    Refused,
}

impl Flow {
    /// Whether a filter has refused it already.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Filtered(filtered) if filtered.state == State::Refused)
    }
}

impl From<Held> for Flow {
    fn from(held: Held) -> Self {
        Self::Filtered(Box::new(Filtered::new(Source::Held(held), None, Rc::default())))
    }
}

impl Filtered {
    /// A body through a filter. What comes from a connection is counted as it comes. One that is empty is over at once,
    /// since nobody asks for the chunks of an empty body.
    pub fn new(source: Source, filter: Option<Box<dyn Filter>>, progress: Rc<Progress>) -> Self {
        let mut filtered = Self {
            intake: Intake::new(source, progress.clone()),
            filter,
            spent: None,
            out: VecDeque::new(),
            trailers: None,
            state: State::Open,
            progress,
        };
        if filtered.intake.is_over() {
            filtered.end();
        }
        filtered
    }

    /// All of it, once the filter had its last word. Waits for more as long as something came within `patience`, and as it
    /// comes at [`LEAST_RATE`] at least: whoever sends a byte now and then holds an instance from others.
    ///
    /// # Errors
    /// `None` when it came too slowly.
    pub async fn hold(mut self, patience: std::time::Duration) -> Result<Held, Option<Error>> {
        let mut held = Held::default();
        let (begun, mut came) = (std::time::Instant::now(), self.progress.bytes());
        loop {
            let next = std::future::poll_fn(|context| self.poll(context));
            match tokio::time::timeout(patience, next).await {
                Ok(None) => {
                    held.holder = self.spent.take();
                    return Ok(held);
                }
                Ok(Some(Err(error))) => return Err(Some(error)),
                Ok(Some(Ok(frame))) => held.chunks.extend(frame.into_data()),
                Err(_) if self.progress.bytes() > came => {
                    came = self.progress.bytes();
                    if begun.elapsed() > patience + std::time::Duration::from_secs(came / LEAST_RATE) {
                        return Err(None);
                    }
                }
                Err(_) => return Err(None),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        for _ in 0..IN_ONE_GO {
            if self.state == State::Refused {
                self.out.clear();
                return Poll::Ready(Some(Err(Error::Refused)));
            }
            if let Some(chunk) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if self.state == State::Over {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(self.intake.poll(context, self.filter.is_some())) {
                Came::Chunk(chunk) => self.pass(chunk),
                Came::End => self.end(),
                Came::Broken(error) => {
                    // What follows the body learns that it is cut off by being dropped.
                    self.refuse();
                    return Poll::Ready(Some(Err(Error::Transport(error))));
                }
            }
        }
        // Others on this worker have their turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Filters one chunk of what came. Together with the last one the end is known, before that chunk goes on: where the
    /// length was announced, nobody asks for anything after it.
    fn pass(&mut self, chunk: Bytes) {
        match &mut self.filter {
            Some(filter) => {
                if filter.pass(chunk, &mut self.out).is_err() {
                    self.refuse();
                }
            }
            None => self.out.push_back(chunk),
        }
        if self.state == State::Open && self.intake.is_over() {
            self.end();
        }
    }

    fn end(&mut self) {
        if self.state != State::Open {
            return;
        }
        self.trailers = self.intake.take_trailers();
        self.state = State::Over;
        if let Some(mut filter) = self.filter.take() {
            match filter.end(&mut self.out) {
                Ok(()) => self.spent = Some(filter),
                Err(Refused) => self.refuse(),
            }
        }
    }

    fn refuse(&mut self) {
        self.state = State::Refused;
        self.filter = None;
        self.out.clear();
    }

    fn is_over(&self) -> bool {
        self.state == State::Over && self.out.is_empty() && self.trailers.is_none()
    }
}

impl HttpBody for Flow {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Plain(incoming) => {
                Pin::new(incoming).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Error::Transport)))
            }
            Self::Filtered(filtered) => filtered.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(incoming) => incoming.is_end_stream(),
            Self::Filtered(filtered) => filtered.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(incoming) => incoming.size_hint(),
            Self::Filtered(filtered) => match (filtered.intake.left(), &filtered.filter) {
                // Also what is over already: it is all in `out`.
                (Some(left), None) => {
                    let out: u64 = filtered.out.iter().map(|chunk| chunk.len() as u64).sum();
                    SizeHint::with_exact(out + left)
                }
                _ => SizeHint::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
