//! Policies that follow bodies: what they implement, and what they answer.
//!
//! A body has a value of its own from its first chunk to its end. It is made anew for each body, so nothing of one body can
//! get into another.

use crate::{After, Denial, Policy, RequestEnd, RequestPiece, Response, ResponseEnd, ResponsePiece, Upload, Verdict};

/// A policy that follows request bodies, for `export!(…, request_body)`; `ABOUT` names the mode.
pub trait RequestBody: Policy {
    /// What it keeps of one body.
    type Body: 'static;

    /// Before the first chunk. `None`: the body passes by.
    fn begin_request(&self, upload: &Upload) -> Option<Self::Body>;

    /// One chunk, of 1 to 65,536 bytes as they are on the wire. Where they are cut means nothing.
    fn request_chunk(&self, _body: &mut Self::Body, _chunk: Vec<u8>) -> RequestPiece {
        RequestPiece::Keep
    }

    /// The body is over; also called for a body without a chunk.
    fn end_request(&self, _body: Self::Body) -> RequestEnd {
        RequestEnd::next()
    }
}

/// A policy that follows the bodies of upstreams' responses, for `export!(…, response_body)`; `ABOUT` names the mode.
pub trait ResponseBody: Policy {
    /// What it keeps of one body.
    type Body: 'static;

    /// Before the first chunk, with the head as the client will get it. `None`: the body passes by.
    fn begin_response(&self, head: &Response) -> Option<Self::Body>;

    /// One chunk, as in [`RequestBody::request_chunk`].
    fn response_chunk(&self, _body: &mut Self::Body, _chunk: Vec<u8>) -> ResponsePiece {
        ResponsePiece::Keep
    }

    /// The body is over; also called for a body without a chunk.
    fn end_response(&self, _body: Self::Body) -> ResponseEnd {
        ResponseEnd::next()
    }
}

impl RequestPiece {
    /// The request is refused. Power `deny`.
    pub fn deny(denial: impl Into<Denial>) -> Self {
        Self::Refuse(denial.into())
    }
}

impl RequestEnd {
    /// Nothing more, and on.
    pub const fn next() -> Self {
        Self::of(Verdict::next())
    }

    /// This verdict, and no more bytes.
    pub const fn of(verdict: Verdict) -> Self {
        Self { more: Vec::new(), verdict }
    }

    /// Bytes that go on after the last chunk.
    pub fn more(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.more = bytes.into();
        self
    }
}

impl ResponseEnd {
    /// Nothing more, and on.
    pub const fn next() -> Self {
        Self::of(After::next())
    }

    /// This word on the head, and no more bytes.
    pub const fn of(after: After) -> Self {
        Self { more: Vec::new(), after }
    }

    /// Bytes that go on after the last chunk.
    pub fn more(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.more = bytes.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StandardDenial;

    #[test]
    fn a_last_word_has_bytes_and_a_verdict() {
        let end = RequestEnd::of(Verdict::deny(StandardDenial::NotFound)).more("tail");
        assert_eq!((end.more.as_slice(), end.verdict), (&b"tail"[..], Verdict::deny(StandardDenial::NotFound)));
        assert_eq!(ResponseEnd::next().more("x").more, b"x");
        assert_eq!(RequestPiece::deny(StandardDenial::NotFound), RequestPiece::Refuse(StandardDenial::NotFound.into()));
    }
}
