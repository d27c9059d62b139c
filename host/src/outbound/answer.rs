//! An answer: its head, and its body as far as was granted and somebody wants it.
//!
//! Follows nothing, unpacks nothing: a redirect and a compressed body are answers like any other.

use super::origin::LARGEST_HEAD;
use super::{Answer, Error, Part, Unreached};
use crate::head;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that are kept in memory, out of those that all requests together may keep.
pub(super) struct Kept {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Kept {
    pub(super) fn none(all: Arc<Semaphore>) -> Self {
        Self { all, held: None }
    }

    /// Takes more of them, until this is dropped.
    pub(super) fn more(&mut self, bytes: usize) -> Result<(), Unreached> {
        let bytes = u32::try_from(bytes).map_err(|_| Unreached::Busy)?;
        let more = self.all.clone().try_acquire_many_owned(bytes).map_err(|_| Unreached::Busy)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// Reads the head of an answer, and gives it with the body that is still to come.
pub(super) fn head(response: Response<Incoming>) -> Result<(Answer, Incoming), Error> {
    let (mut parts, body) = response.into_parts();
    // Nobody asked for another protocol.
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unreached::Broken.into());
    }
    // The connection's own bound is not exact: it is looked at between two reads.
    let head: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head > LARGEST_HEAD {
        return Err(Error::TooLarge(Part::Head));
    }
    head::clean_response(&mut parts.headers);
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    Ok((Answer { status: parts.status.as_u16(), fields: fields.collect(), body: Vec::new() }, body))
}

/// Reads a body that may have so many bytes.
pub(super) async fn whole(mut body: Incoming, most: usize, kept: &mut Kept) -> Result<Vec<u8>, Error> {
    // The announced length of this body, not the field: an answer to HEAD has the field and no body.
    if body.size_hint().lower() > most as u64 {
        return Err(Error::TooLarge(Part::Body));
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers are nothing that the contract knows.
        let Ok(data) = frame.map_err(|_| Unreached::Broken)?.into_data() else { continue };
        if data.len() > most - whole.len() {
            return Err(Error::TooLarge(Part::Body));
        }
        kept.more(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// Reads so many bytes of a body and keeps none: a connection whose answer came to its end serves again.
pub(super) async fn pass_over(mut body: Incoming, most: usize) {
    let mut left = most;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
