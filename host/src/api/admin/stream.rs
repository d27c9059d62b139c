//! An answer that is written while it goes out: ends where its writer ends, and is broken off where that has failed.

use std::pin::Pin;
use std::task::{Context, Poll};

use std::io;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// What comes out of a channel.
pub(super) struct Taken(pub(super) mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
