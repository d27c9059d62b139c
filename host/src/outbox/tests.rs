use super::*;
use crate::data::DataDirectory;

const AT: Millis = Millis(1_795_305_600_000);

#[test]
fn an_event_says_what_happened_and_is_named_by_it() {
    let event = Event::new(Kind::KeyRevoked, AT, json!({ "key": { "name": "ci" } })).of(OrgId::from_number(7), true);
    let body: Value = serde_json::from_str(&event.body).unwrap();
    assert_eq!(
        body,
        json!({ "type": "key.revoked", "timestamp": "2026-11-22T00:00:00.000Z", "data": { "key": { "name": "ci" } } })
    );
    assert!(event.id.to_string().starts_with("evt_"));
    let again = Event::new(Kind::KeyRevoked, AT, json!({ "key": { "name": "ci" } }));
    let other = Event::new(Kind::KeyRevoked, AT, json!({ "key": { "name": "cd" } }));
    assert!(again.id == event.id && other.id != event.id);
    assert!(Event::new(Kind::Test, Millis(AT.0 + 1), json!({})).id > event.id.max(other.id));
    let kept: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
    assert_eq!(kept, event);
}

#[test]
fn every_kind_has_one_spelling() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
    assert_eq!("webhook.test".parse::<Kind>(), Err(NoSuchEvent));
    assert_eq!(serde_json::to_value(Kind::Test).unwrap(), Kind::Test.name());
}

#[test]
fn what_was_appended_is_there_in_the_order_of_time_and_marks_with_it() {
    let place = tempfile::tempdir().unwrap();
    let events: Vec<Event> =
        [3, 1, 2].map(|at| Event::new(Kind::OpenapiChanged, Millis(at), json!({}))).into_iter().collect();
    {
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        outbox.append(&events[..2]).unwrap();
        outbox.append_marked("quota/a", b"2026-11", &events[2..]).unwrap();
        outbox.append_marked("quota/b", b"2026-10", &[]).unwrap();
        outbox.forget_marks("quota/", |value| value == b"2026-11").unwrap();
    }
    let data = DataDirectory::open(&place.path().join("data")).unwrap();
    let outbox = SledOutbox::open(data.database()).unwrap();
    let times: Vec<u64> = outbox.oldest(10).unwrap().iter().map(|event| event.at.0).collect();
    assert_eq!(times, [1, 2, 3]);
    assert_eq!(outbox.oldest(2).unwrap().len(), 2);
    assert_eq!(
        (outbox.mark("quota/a").unwrap().as_deref(), outbox.mark("quota/b").unwrap()),
        (Some(&b"2026-11"[..]), None)
    );
}
