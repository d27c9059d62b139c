//! Bodies as they pass through: nothing is buffered, and whoever must know learns how they end.
//!
//! Never decides anything: a body that ends badly changes no response that has begun.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
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
    inner: Incoming,
    bytes: u64,
    ending: Option<Box<dyn Ending>>,
}

/// Learns how a body ended: exactly once, also when it is dropped half-way.
pub trait Ending {
    /// `complete` is false for a broken body and for one that nobody wanted any more.
    fn ended(self: Box<Self>, bytes: u64, complete: bool);
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
    pub fn stream(inner: Incoming, ending: Box<dyn Ending>) -> Self {
        let mut stream = Stream { inner, bytes: 0, ending: Some(ending) };
        // An empty body is never polled.
        if stream.inner.is_end_stream() {
            stream.end(true);
        }
        Self::Stream(stream)
    }
}

impl Stream {
    fn end(&mut self, complete: bool) {
        if let Some(ending) = self.ending.take() {
            ending.ended(self.bytes, complete);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
                            stream.end(true);
                        }
                    }
                    Some(Err(_)) => stream.end(false),
                    None => stream.end(true),
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
    inner: Incoming,
    bytes: Rc<Cell<u64>>,
}

impl Upload {
    /// Counts the bytes of a request body.
    pub fn new(inner: Incoming) -> Self {
        Self { inner, bytes: Rc::new(Cell::new(0)) }
    }

    /// The bytes that were passed on so far.
    pub fn progress(&self) -> Rc<Cell<u64>> {
        self.bytes.clone()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.set(self.bytes.get() + data.len() as u64);
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
