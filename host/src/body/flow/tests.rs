//! Checks what a filter gets and what goes on, without a connection.

use super::*;
use http_body_util::BodyExt;
use std::task::Waker;
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
        assert!(chunk.len() <= LARGEST_CHUNK && !chunk.is_empty());
        out.push_back(chunk);
        out.push_back(Bytes::from_static(b","));
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        out.push_back(Bytes::from_static(b"."));
        if self.refuses_end { Err(Refused) } else { Ok(()) }
    }
}

fn held(chunks: &[&[u8]]) -> Held {
    Held { chunks: chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect(), holder: None }
}

fn filtered(chunks: &[&[u8]], filter: Marks) -> Flow {
    let source = Source::Held(held(chunks));
    Flow::Filtered(Box::new(Filtered::new(source, Some(Box::new(filter)), Rc::default())))
}

#[tokio::test]
async fn every_byte_passes_the_filter_and_trailers_follow_the_end() {
    let large = vec![b'x'; LARGEST_CHUNK + 1];
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let data = |bytes: &[u8]| Some(Frame::data(Bytes::copy_from_slice(bytes)));
    let script = [data(b"a"), data(&large), Some(Frame::trailers(trailers))];
    let filtered = Filtered::new(Source::Script(script.into()), Some(Box::new(Marks::default())), Rc::default());
    let whole = Flow::Filtered(Box::new(filtered)).collect().await.unwrap();
    assert_eq!(whole.trailers().expect("trailers")["x-sum"], "7");
    let bytes = whole.to_bytes();
    assert_eq!(bytes.len(), LARGEST_CHUNK + 1 + 2 + 1 + 1, "a and the large one, in two parts");
    assert!(bytes.starts_with(b"ax") && bytes.ends_with(b"x,xx,."));
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
    let data = |bytes| Some(Frame::data(Bytes::from_static(bytes)));
    let script = Source::Script([data(b"a"), None, None, data(b"!"), data(b"b")].into());
    let mut flow = Flow::Filtered(Box::new(Filtered::new(script, Some(Box::new(Marks::default())), Rc::default())));
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
    let source = Source::Held(held(&[b"ab", b"c"]));
    let filtered = Filtered::new(source, Some(Box::new(Marks::default())), Rc::default());
    let held = filtered.hold(Duration::from_secs(9)).await.unwrap_or_else(|_| panic!("nobody refuses it"));
    let flow = Flow::from(held);
    assert_eq!(flow.size_hint().exact(), Some(5));
    assert_eq!(flow.collect().await.unwrap().to_bytes(), "abc,.");
}

/// Chunks as they come, with what a connection says where there is none yet.
fn script(items: &[Option<&[u8]>]) -> Intake {
    let frame = |item: &Option<&[u8]>| item.map(|bytes| Frame::data(Bytes::copy_from_slice(bytes)));
    Intake::new(Source::Script(items.iter().map(frame).collect()), Rc::default())
}

/// What comes of one poll: bytes, or nothing yet.
fn poll(intake: &mut Intake) -> Option<Bytes> {
    match intake.poll(&mut Context::from_waker(Waker::noop()), true) {
        Poll::Ready(Came::Chunk(chunk)) => Some(chunk),
        Poll::Ready(Came::End) => Some(Bytes::new()),
        Poll::Ready(Came::Broken(error)) => panic!("nothing breaks: {error}"),
        Poll::Pending => None,
    }
}

/// A connection hands over one chunk at a time, and the next one when it had its turn.
#[test]
fn small_chunks_that_are_there_at_once_go_on_as_one() {
    let mut intake = script(&[Some(b"a"), Some(b"b"), None, Some(b"c"), None, None, Some(b"d"), None, None, None]);
    assert_eq!([poll(&mut intake), poll(&mut intake)], [None, None], "there may be more");
    assert_eq!(poll(&mut intake).as_deref(), Some(&b"abc"[..]));
    assert_eq!(poll(&mut intake), None);
    assert_eq!(poll(&mut intake).as_deref(), Some(&b"d"[..]), "and nobody waits for what is not there");
    assert_eq!(poll(&mut intake), None, "nothing came since");
    assert!(poll(&mut intake).is_some_and(|end| end.is_empty()));
}

#[test]
fn chunks_are_filled_and_never_larger_than_they_may_be() {
    let piece = vec![b'x'; 40 << 10];
    let mut intake = script(&[Some(&piece), Some(&piece), Some(&piece), None, Some(&[b'y'; LARGEST_CHUNK + 2])]);
    assert_eq!(poll(&mut intake).map(|chunk| chunk.len()), Some(LARGEST_CHUNK));
    assert_eq!(poll(&mut intake), None);
    let second = poll(&mut intake).expect("what is left, and more");
    assert_eq!((second.len(), second[(56 << 10) - 1], second[56 << 10]), (LARGEST_CHUNK, b'x', b'y'));
    let rest = (56 << 10) + 2;
    assert_eq!(poll(&mut intake).map(|chunk| chunk.len()), Some(rest));
    assert!(intake.is_over(), "which is known with the last chunk");
}

#[tokio::test]
async fn who_refuses_is_not_taken_for_an_upstream_that_broke_off() {
    struct Told(Rc<std::cell::Cell<Option<crate::body::End>>>);
    impl crate::body::Ending for Told {
        fn ended(self: Box<Self>, _: u64, how: crate::body::End) {
            self.0.set(Some(how));
        }
    }
    let how = Rc::default();
    let flow = filtered(&[b"!"], Marks::default());
    let body = crate::body::Body::stream(flow, Box::new(Told(Rc::clone(&how))));
    assert!(body.collect().await.is_err());
    assert_eq!(how.get(), Some(crate::body::End::Cut));
}
