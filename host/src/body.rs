//! Bodies as they pass through: nothing is buffered here, and whoever must know learns how they end.
//!
//! Never decides anything: a body that ends badly changes no response that has begun. What policies make of a body is a
//! filter to it.

mod flow;

pub use flow::{Error, Filter, Filtered, Flow, Held, LARGEST_CHUNK, Refused, Source};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The body of a response.
pub enum Body {
    /// All of it, at once.
    Whole(Option<Bytes>),
    /// As it comes from an upstream.
    Stream(Stream),
}

/// A body from an upstream, and who wants to know how it ends.
pub struct Stream {
    inner: Flow,
    bytes: u64,
    ending: Option<Box<dyn Ending>>,
}

/// Learns how a body ended: exactly once, also when it is dropped half-way.
pub trait Ending {
    /// After so many bytes, in this way.
    fn ended(self: Box<Self>, bytes: u64, how: End);
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was carried to its end.
    Complete,
    /// The upstream broke off.
    Broken,
    /// The client did not want the rest.
    Left,
    /// The gateway cut it off: a policy refused the rest, or there was no time left to drain.
    Cut,
}

impl Body {
    /// A body that is there already.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// No body.
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// The body of an upstream's response.
    pub fn stream(inner: Flow, ending: Box<dyn Ending>) -> Self {
        let mut stream = Stream { inner, bytes: 0, ending: Some(ending) };
        // An empty body is never polled.
        if stream.inner.is_end_stream() {
            stream.end(End::Complete);
        }
        Self::Stream(stream)
    }
}

impl Stream {
    fn end(&mut self, how: End) {
        if let Some(ending) = self.ending.take() {
            ending.ended(self.bytes, how);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end(End::Left);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                let frame = ready!(Pin::new(&mut stream.inner).poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            stream.bytes += data.len() as u64;
                        }
                        // hyper does not ask again once it has the announced length: the end is known here, before
                        // the last frame is handed over.
                        if stream.inner.is_end_stream() {
                            stream.end(End::Complete);
                        }
                    }
                    Some(Err(Error::Refused)) => stream.end(End::Cut),
                    Some(Err(Error::Transport(_))) => stream.end(End::Broken),
                    None => stream.end(End::Complete),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.inner.size_hint(),
        }
    }
}

/// The body of a request on its way to the upstream, counted.
pub struct Upload {
    inner: Flow,
    progress: Rc<Progress>,
}

/// How far a request body has come.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: Cell<u64>,
    passed_on: Cell<u64>,
    whole: Cell<bool>,
}

impl Progress {
    /// Bytes that came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Bytes that were passed on so far: others than those that came, where policies change them.
    pub fn passed_on(&self) -> u64 {
        self.passed_on.get()
    }

    /// So many bytes came.
    fn came(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Whether all of it was passed on.
    pub fn is_whole(&self) -> bool {
        self.whole.get()
    }
}

impl Upload {
    /// Counts the bytes of a request body. Where it is not plain, they are counted into `progress` as they come.
    pub fn new(inner: Flow, progress: Rc<Progress>) -> Self {
        progress.whole.set(inner.is_end_stream());
        Self { inner, progress }
    }

    /// How far it has come; goes on to tell while it is sent.
    pub fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let progress = &self.progress;
        match &frame {
            Some(Ok(frame)) => {
                let more = frame.data_ref().map_or(0, |data| data.len());
                progress.passed_on.set(progress.passed_on.get() + more as u64);
                if matches!(self.inner, Flow::Plain(_)) {
                    progress.came(more);
                }
                // A body of known length is not asked again after its last byte.
                progress.whole.set(self.inner.is_end_stream());
            }
            Some(Err(_)) => {}
            None => progress.whole.set(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
