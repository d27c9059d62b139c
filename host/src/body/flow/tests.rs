//! Checks what a filter gets and what goes on, without a connection.

use super::*;
use http_body_util::BodyExt;
use std::time::Duration;

/// Marks each chunk and the end; refuses at a chunk that begins with `!`.
#[derive(Default)]
struct Marks {
    largest: usize,
    refuses_end: bool,
}

impl Filter for Marks {
    fn pass(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        if chunk.starts_with(b"!") {
            return Err(Refused);
        }
        self.largest = self.largest.max(chunk.len());
        assert!(chunk.len() <= CHUNK && !chunk.is_empty());
        out.push_back(chunk);
        out.push_back(Bytes::from_static(b","));
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        out.push_back(Bytes::from_static(b"."));
        if self.refuses_end { Err(Refused) } else { Ok(()) }
    }
}

fn held(chunks: &[&[u8]], trailers: bool) -> Held {
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", "7".parse().unwrap());
    let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect();
    Held { chunks, trailers: trailers.then_some(fields), holder: None }
}

fn filtered(chunks: &[&[u8]], filter: Marks) -> Flow {
    let source = Source::Held(held(chunks, true));
    Flow::Filtered(Box::new(Filtered::new(source, Some(Box::new(filter)), Rc::default())))
}

#[tokio::test]
async fn every_byte_passes_the_filter_and_trailers_follow_the_end() {
    let large = vec![b'x'; CHUNK + 1];
    let whole = filtered(&[b"a", &large], Marks::default()).collect().await.unwrap();
    assert_eq!(whole.trailers().expect("trailers")["x-sum"], "7");
    let bytes = whole.to_bytes();
    assert_eq!(bytes.len(), 2 + CHUNK + 1 + 1 + 1 + 1, "a, and the large one in two parts");
    assert!(bytes.starts_with(b"a,x") && bytes.ends_with(b"x,x,."));
}

#[tokio::test]
async fn an_empty_body_is_over_before_anybody_asks() {
    let empty = filtered(&[], Marks::default());
    assert!(!empty.is_end_stream(), "there is what the filter added");
    assert_eq!(empty.collect().await.unwrap().to_bytes(), ".");
    let refused = filtered(&[], Marks { refuses_end: true, ..Marks::default() });
    assert!(refused.is_refused() && !refused.is_end_stream(), "so that it is never taken for an empty one");
}

#[tokio::test]
async fn what_is_refused_breaks_off() {
    let mut flow = filtered(&[b"a", b"!", b"b"], Marks::default());
    let mut seen = Vec::new();
    let error = loop {
        match flow.frame().await {
            Some(Ok(frame)) => seen.extend_from_slice(&frame.into_data().expect("data")),
            Some(Err(error)) => break error,
            None => panic!("it ended as if it were whole"),
        }
    };
    assert!(matches!(error, Error::Refused));
    assert_eq!(seen, b"a,");
    assert!(matches!(flow.frame().await, Some(Err(Error::Refused))), "also when asked again");
}

#[tokio::test]
async fn the_last_chunk_waits_for_the_last_word() {
    let mut flow = filtered(&[b"a"], Marks { refuses_end: true, ..Marks::default() });
    assert!(matches!(flow.frame().await, Some(Err(Error::Refused))), "and does not go on without it");
}

#[tokio::test]
async fn what_was_held_has_a_length() {
    let source = Source::Held(held(&[b"ab", b"c"], true));
    let filtered = Filtered::new(source, Some(Box::new(Marks::default())), Rc::default());
    let held = filtered.hold(Duration::from_secs(9)).await.unwrap_or_else(|_| panic!("nobody refuses it"));
    let flow = Flow::from(held);
    assert_eq!(flow.size_hint().exact(), Some(6));
    let whole = flow.collect().await.unwrap();
    assert!(whole.trailers().is_some());
    assert_eq!(whole.to_bytes(), "ab,c,.");
}
