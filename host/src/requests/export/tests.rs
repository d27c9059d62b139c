use super::*;

fn said(status: u16, fields: &[(&str, &str)], body: &[u8]) -> (Option<u64>, Option<Option<u64>>) {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    match outcome(&Answer { status, fields, body: body.to_vec() }) {
        Outcome::Taken(rejected, _) => (Some(rejected), None),
        Outcome::Refused(_) => (None, None),
        Outcome::Again(_, after) => (None, Some(after.map(|after| after.as_secs()))),
    }
}

#[test]
fn answers_say_whether_to_come_again_and_when() {
    let partial = b"\x0a\x0b\x08\x03\x12\x07too old";
    for (status, fields, body, expected) in [
        (200, &[][..], &b""[..], (Some(0), None)),
        (200, &[], partial, (Some(3), None)),
        (202, &[], b"\xff", (Some(0), None)),
        (400, &[], b"", (None, None)),
        (401, &[("retry-after", "9")], b"", (None, None)),
        (404, &[], b"", (None, None)),
        (500, &[], b"", (None, None)),
        (429, &[("retry-after", "9")], b"", (None, Some(Some(9)))),
        (503, &[("retry-after", " 0 ")], b"", (None, Some(Some(0)))),
        (503, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], b"", (None, Some(None))),
        (502, &[], b"", (None, Some(None))),
        (504, &[("retry-after", "-1")], b"", (None, Some(None))),
        (301, &[("location", "http://elsewhere/")], b"", (None, None)),
    ] {
        assert_eq!(said(status, fields, body), expected, "{status} {fields:?}");
    }
}

#[test]
fn pauses_are_between_half_and_whole() {
    for _ in 0..100 {
        let pause = jittered(Duration::from_secs(4));
        assert!((Duration::from_secs(2)..=Duration::from_secs(4)).contains(&pause), "{pause:?}");
    }
}

#[test]
fn an_instance_is_a_uuid_of_version_four() {
    for (instance, uuid) in
        [(0, "00000000-0000-4000-8000-000000000000"), (u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff")]
    {
        let resource = resource("portico", instance);
        let [name, _, id] = resource.attributes.as_slice() else { panic!("{resource:?}") };
        assert_eq!((name, id), (&attribute("service.name", "portico"), &attribute("service.instance.id", uuid)));
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let text = "[telemetry.traces]\nendpoint = \"http://127.0.0.1:1\"\nqueue = 512\n";
    let settings = crate::config::parse(text, std::path::Path::new("x.toml")).unwrap().telemetry.traces;
    let (inlet, export) = Export::open(&settings, Roots::default()).unwrap().expect("there is an endpoint");
    for _ in 0..600 {
        inlet.put(Span::default());
    }
    assert!(inlet.is_full());
    let dropped = inlet.figures.dropped.load(Ordering::Relaxed);
    assert_eq!((dropped, export.spans.len(), export.waiting.load(Ordering::Relaxed)), (88, 512, 512));
    drop(export);
    let one = inlet.figures.dropped.load(Ordering::Relaxed);
    inlet.put(Span::default());
    assert_eq!(inlet.figures.dropped.load(Ordering::Relaxed), one + 1, "nor is there room where nobody takes it out");
    let none = Export::open(&Traces { endpoint: None, ..settings }, Roots::default()).unwrap();
    assert!(none.is_none(), "without an endpoint nothing is told");
}

#[tokio::test]
async fn batches_are_bounded_by_number_and_by_bytes() {
    let (send, spans) = mpsc::unbounded_channel();
    let mut outlet = Outlet { spans, next: None, waiting: Arc::default(), batch: 3 };
    let large = || Span { name: "x".repeat(MOST_BYTES / 2), ..Span::default() };
    for _ in 0..4 {
        send.send(Span::default()).unwrap();
    }
    send.send(large()).unwrap();
    send.send(large()).unwrap();
    drop(send);
    let mut sizes = Vec::new();
    while let Some(batch) = outlet.batch().await {
        sizes.push(batch.len());
    }
    assert_eq!(sizes, [3, 2, 1]);
    assert!(!outlet.pause(Duration::from_secs(3600)).await, "the end is not slept through");
}
