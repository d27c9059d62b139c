use super::*;
use crate::config::SecretSource;
use crate::data::DataDirectory;
use crate::seal::Vault;
use zeroize::Zeroizing;

const NOW: Millis = Millis(1_795_305_600_000);

struct Kept {
    data: DataDirectory,
    clock: Clock,
    place: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        Self { data, clock: Clock::manual(NOW), place }
    }

    fn store(&self) -> SledIdempotency {
        SledIdempotency::open(self.data.database()).unwrap()
    }

    /// As after a start.
    fn repeats(&self) -> Repeats {
        Repeats::new(Arc::new(self.store()), self.clock.clone())
    }
}

fn key(text: &str) -> Key {
    let mut fields = http::HeaderMap::new();
    fields.insert(FIELD, text.parse().unwrap());
    Key::of(&fields).unwrap().unwrap()
}

fn at(org: u128, path: &str, word: &str) -> Place {
    Place::of(Some(OrgId::from_number(org)), path, &key(word))
}

fn print(body: &str) -> Fingerprint {
    Fingerprint::of("POST", "/v1/keys", body.as_bytes())
}

fn answer(body: &str) -> Answer {
    let kind = "application/json".to_owned();
    let body = Zeroizing::new(body.as_bytes().to_vec());
    Answer { status: 201, is_confidential: true, kind, location: None, body }
}

fn ticket(turn: Turn) -> Ticket {
    match turn {
        Turn::Run(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_done_is_answered_again_to_whoever_asked_and_to_nobody_else() {
    let kept = Kept::new();
    let (mine, others) = (Proof::of(b"sk_live_mine"), Proof::of(b"sk_live_others"));
    let (place, asked) = (at(1, "/v1/keys", "a"), print("{}"));
    let repeats = kept.repeats();
    ticket(repeats.turn(place, asked, &mine).await.unwrap()).keep(&answer("the secret")).await.unwrap();
    // Also after a restart.
    for repeats in [repeats, kept.repeats()] {
        let again = repeats.turn(place, asked, &mine).await.unwrap();
        assert!(matches!(&again, Turn::Again(again, NOW) if *again == answer("the secret")), "{again:?}");
        assert!(matches!(repeats.turn(place, asked, &others).await.unwrap(), Turn::Sealed));
        assert!(matches!(repeats.turn(place, print("{ }"), &mine).await.unwrap(), Turn::Reused));
    }
    // Another org, another path, another word: another request.
    let repeats = kept.repeats();
    for place in [at(2, "/v1/keys", "a"), at(1, "/v1/webhooks", "a"), at(1, "/v1/keys", "b")] {
        ticket(repeats.turn(place, asked, &mine).await.unwrap()).free().await.unwrap();
    }
    let none = Place::of(None, "/v1/keys", &key("a"));
    ticket(repeats.turn(none, asked, &mine).await.unwrap()).free().await.unwrap();
}

#[tokio::test]
async fn what_is_under_way_is_in_use_and_what_was_freed_is_done() {
    let kept = Kept::new();
    let (repeats, mine) = (kept.repeats(), Proof::of(b"mine"));
    let (place, asked) = (at(1, "/v1/keys", "a"), print("{}"));
    let first = ticket(repeats.turn(place, asked, &mine).await.unwrap());
    assert!(matches!(repeats.turn(place, asked, &mine).await.unwrap(), Turn::InUse));
    assert!(matches!(repeats.turn(place, print("x"), &mine).await.unwrap(), Turn::Reused));
    first.free().await.unwrap();
    ticket(repeats.turn(place, asked, &mine).await.unwrap()).keep(&answer("2")).await.unwrap();
    assert!(matches!(repeats.turn(place, asked, &mine).await.unwrap(), Turn::Again(..)));
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    let kept = Kept::new();
    let repeats = kept.repeats();
    let turns = (0..16).map(|_| {
        let repeats = repeats.clone();
        tokio::spawn(async move {
            let proof = Proof::of(b"mine");
            repeats.turn(at(1, "/v1/keys", "a"), print("{}"), &proof).await.unwrap()
        })
    });
    let mut ran = Vec::new();
    for turn in turns.collect::<Vec<_>>() {
        match turn.await.unwrap() {
            Turn::Run(ticket) => ran.push(ticket),
            Turn::InUse => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ran.len(), 1);
}

#[tokio::test]
async fn what_was_begun_and_has_no_answer_is_never_done_again() {
    let kept = Kept::new();
    let mine = Proof::of(b"mine");
    let (place, asked) = (at(1, "/v1/keys", "a"), print("{}"));
    let repeats = kept.repeats();
    // Broken off without a word, as by a panic.
    drop(ticket(repeats.turn(place, asked, &mine).await.unwrap()));
    // And as another process finds it.
    for repeats in [repeats, kept.repeats()] {
        assert!(matches!(repeats.turn(place, asked, &mine).await.unwrap(), Turn::OutcomeUnknown));
        assert!(matches!(repeats.turn(place, print("x"), &mine).await.unwrap(), Turn::Reused));
    }
    // Neither is what was too large to be kept.
    let place = at(1, "/v1/keys", "b");
    let large = answer(&"x".repeat(LARGEST + 1));
    ticket(kept.repeats().turn(place, asked, &mine).await.unwrap()).keep(&large).await.unwrap();
    assert!(matches!(kept.repeats().turn(place, asked, &mine).await.unwrap(), Turn::OutcomeUnknown));
}

#[tokio::test]
async fn after_a_day_a_key_is_new_and_what_is_over_goes() {
    let kept = Kept::new();
    let (repeats, mine) = (kept.repeats(), Proof::of(b"mine"));
    for (word, body) in [("a", "1"), ("b", "2")] {
        let turn = repeats.turn(at(1, "/v1/keys", word), print(body), &mine).await.unwrap();
        ticket(turn).keep(&answer(body)).await.unwrap();
    }
    kept.clock.advance(KEPT - Duration::from_millis(1));
    assert_eq!(repeats.sweep().await.unwrap(), 0);
    assert!(matches!(repeats.turn(at(1, "/v1/keys", "a"), print("1"), &mine).await.unwrap(), Turn::Again(..)));
    kept.clock.advance(Duration::from_millis(1));
    ticket(repeats.turn(at(1, "/v1/keys", "a"), print("3"), &mine).await.unwrap()).keep(&answer("3")).await.unwrap();
    assert_eq!(repeats.sweep().await.unwrap(), 1, "the one that nobody began anew");
    assert!(matches!(repeats.turn(at(1, "/v1/keys", "a"), print("3"), &mine).await.unwrap(), Turn::Again(..)));
}

#[tokio::test]
async fn an_org_has_so_many_and_others_are_not_held_up() {
    let kept = Kept::new();
    let (store, asked) = (kept.store(), print("{}"));
    let row = |number: u64| at(1, "/v1/keys", &number.to_string());
    for number in 0..MOST {
        // As the store writes them, without a flush for each.
        store.put_unflushed(row(number), &Record { since: NOW, fingerprint: asked, answer: None });
    }
    let (repeats, mine) = (kept.repeats(), Proof::of(b"mine"));
    assert!(matches!(repeats.turn(row(MOST), asked, &mine).await.unwrap(), Turn::Full));
    assert!(matches!(repeats.turn(row(7), asked, &mine).await.unwrap(), Turn::OutcomeUnknown), "known ones are found");
    ticket(repeats.turn(at(2, "/v1/keys", "a"), asked, &mine).await.unwrap()).free().await.unwrap();
    // What is over makes room at once.
    kept.clock.advance(KEPT);
    ticket(repeats.turn(row(MOST), asked, &mine).await.unwrap()).keep(&answer("1")).await.unwrap();
    // All of an org goes, and nothing of another.
    ticket(repeats.turn(at(2, "/v1/keys", "b"), asked, &mine).await.unwrap()).keep(&answer("2")).await.unwrap();
    assert_eq!(repeats.forget(OrgId::from_number(1)).await.unwrap(), 1);
    assert_eq!(repeats.forget(OrgId::from_number(1)).await.unwrap(), 0);
    assert!(matches!(repeats.turn(at(2, "/v1/keys", "b"), asked, &mine).await.unwrap(), Turn::Again(..)));
}

/// Neither the store nor the master key opens an answer; and none is in the store in the clear.
#[tokio::test]
async fn an_answer_is_nowhere_in_the_clear() {
    let kept = Kept::new();
    let source = SecretSource::File(kept.place.path().join("master.key"));
    let vault = Vault::open(&source, &kept.data).unwrap();
    let secret = "sk_live_0123456789012345678901234567890123456789abcdef";
    let (place, asked, mine) = (at(1, "/v1/keys", "the-word"), print("{}"), Proof::of(b"the credential"));
    ticket(kept.repeats().turn(place, asked, &mine).await.unwrap()).keep(&answer(secret)).await.unwrap();
    let record = kept.store().find(place, NOW).await.unwrap().unwrap();
    let sealed = record.answer.unwrap();
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(!has(&sealed, &secret[..16]));
    assert!(vault.open_sealed(&name(place, asked), &sealed).is_err(), "the master key does not open it");
    kept.data.database().flush().unwrap();
    let mut open = vec![kept.data.path().to_owned()];
    let mut files = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                for text in [&secret[8..24], "the credential", "the-word"] {
                    assert!(!has(&bytes, text), "{text} is in {}", path.display());
                }
                files += 1;
            }
        }
    }
    assert!(files > 0);
    // An answer cannot be moved to another word.
    let other = at(1, "/v1/keys", "other");
    assert!(matches!(kept.repeats().turn(other, asked, &mine).await.unwrap(), Turn::Run(_)));
    kept.store().keep(other, Record { since: NOW, fingerprint: asked, answer: Some(sealed) }).await.unwrap();
    assert!(matches!(kept.repeats().turn(other, asked, &mine).await.unwrap(), Turn::Sealed));
}

#[tokio::test]
async fn a_damaged_record_is_no_licence_to_do_it_again() {
    let kept = Kept::new();
    let (repeats, mine) = (kept.repeats(), Proof::of(b"mine"));
    let (place, asked) = (at(1, "/v1/keys", "a"), print("{}"));
    kept.store().put_raw(place, b"\x07nonsense");
    let refused = repeats.turn(place, asked, &mine).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged), "{refused}");
    assert_eq!(repeats.sweep().await.unwrap(), 1, "it goes with the next sweep");
}
