use serde_json::json;

use super::*;
use crate::config::SecretSource;
use crate::data::DataDirectory;
use crate::seal::Vault;

mod values;

const ORG: OrgId = OrgId::from_number(7);

struct Kept {
    place: tempfile::TempDir,
    data: DataDirectory,
    log: SledAudit,
}

fn opened() -> Kept {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(&place.path().join("data")).unwrap();
    let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
    let log = SledAudit::open(data.database(), &vault, Millis(1)).unwrap();
    Kept { place, data, log }
}

fn note(number: u64) -> Note {
    let actor = Who { kind: ActorKind::Token, id: Some(format!("tok_{}", number % 2)), address: None };
    let action = if number.is_multiple_of(3) { "key.revoked" } else { "key.issued" };
    Note::new(actor, action, Millis(number * 1_000))
        .org(Some(ORG))
        .on(format!("key_{number}"))
        .change(json!(null), json!({"name": "a"}))
}

/// The beginning, and the entries 2 to 9.
async fn filled() -> Kept {
    let kept = opened();
    for number in 2..10 {
        assert_eq!(kept.log.append(note(number)).await.unwrap(), number);
    }
    kept
}

async fn broken(kept: &Kept) -> Option<(u64, Fault)> {
    match kept.log.verify().await.unwrap() {
        Verdict::Whole(_) => None,
        Verdict::Broken { sequence, fault } => Some((sequence, fault)),
    }
}

#[tokio::test]
async fn a_log_begins_with_its_beginning_and_is_whole() {
    let kept = filled().await;
    let Verdict::Whole(head) = kept.log.verify().await.unwrap() else { panic!("it is broken") };
    assert_eq!(head.sequence, 9);
    let text = serde_json::to_value(head).unwrap();
    assert_eq!((text["sequence"].as_u64(), text["hash"].as_str().unwrap().len()), (Some(9), 64));
    let page = kept.log.page(Filter::default(), None, 100).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!((page.entries[8].note.action.as_ref(), page.next), ("audit.begun", None));
    assert_eq!(page.entries[0].note, note(9));
}

#[tokio::test]
async fn entries_are_found_by_whatever_they_say() {
    let kept = filled().await;
    let found = async |filter: Filter| {
        let page = kept.log.page(filter, None, 100).await.unwrap();
        page.entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(Filter { action: text("key.revoked"), ..Filter::default() }).await, [9, 6, 3]);
    assert_eq!(found(Filter { action: text("audit"), ..Filter::default() }).await, [1]);
    assert_eq!(found(Filter { action: text("key.revo"), ..Filter::default() }).await, [0; 0]);
    assert_eq!(found(Filter { actor: text("tok_1"), ..Filter::default() }).await, [9, 7, 5, 3]);
    assert_eq!(found(Filter { actor: text("gateway"), ..Filter::default() }).await, [1]);
    assert_eq!(found(Filter { object: text("key_4"), ..Filter::default() }).await, [4]);
    let (since, until) = (Some(Millis(4_000)), Some(Millis(6_000)));
    assert_eq!(found(Filter { since, until, ..Filter::default() }).await, [5, 4]);
    assert_eq!(found(Filter { org: Some(OrgId::from_number(8)), ..Filter::default() }).await, [0; 0]);
    let first = kept.log.page(Filter::default(), None, 4).await.unwrap();
    let second = kept.log.page(Filter::default(), first.next, 4).await.unwrap();
    assert_eq!((first.next, second.entries[0].sequence, second.next), (Some(6), 5, Some(2)));
}

#[tokio::test]
async fn an_edited_entry_is_named() {
    let kept = filled().await;
    let genuine = kept.log.kept(5);
    for at in 0..genuine.len() {
        let mut edited = genuine.clone();
        edited[at] ^= 1;
        kept.log.put(5, &edited);
        assert_eq!(broken(&kept).await, Some((5, Fault::Edited)), "byte {at}");
    }
    kept.log.put(5, &genuine[..40]);
    assert_eq!(broken(&kept).await, Some((5, Fault::Edited)));
    kept.log.put(5, &genuine);
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn whoever_recomputes_the_chain_without_the_key_is_found_where_it_began() {
    let kept = filled().await;
    let forger = chain::Seal::new(&[9; 32]);
    let mut end = Head { sequence: 4, hash: *kept.log.kept(4).first_chunk().unwrap() };
    for sequence in 5..10 {
        let content = chain::Content::new(sequence, note(100 + sequence), None);
        let (forged, next) = forger.link(end, &content.bytes());
        kept.log.put(sequence, &forged);
        end = next;
    }
    assert_eq!(broken(&kept).await, Some((5, Fault::Edited)));
    kept.log.put_end(Some(&forger.seal(end)));
    assert_eq!(broken(&kept).await, Some((5, Fault::Edited)));
}

#[tokio::test]
async fn a_removed_a_swapped_and_a_copied_entry_are_named() {
    let kept = filled().await;
    let (fourth, sixth) = (kept.log.kept(4), kept.log.kept(6));
    kept.log.take(4);
    assert_eq!(broken(&kept).await, Some((4, Fault::Missing)));
    kept.log.put(4, &sixth);
    kept.log.put(6, &fourth);
    assert_eq!(broken(&kept).await, Some((4, Fault::Edited)));
    kept.log.put(4, &fourth);
    assert_eq!(broken(&kept).await, Some((6, Fault::Edited)));
    kept.log.put(6, &sixth);
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn a_cut_tail_and_one_that_was_added_past_the_gateway_are_named() {
    let kept = filled().await;
    let (earlier_end, ninth) = (kept.log.kept_end(), kept.log.kept(9));
    kept.log.take(9);
    assert_eq!(broken(&kept).await, Some((9, Fault::Missing)));
    kept.log.put(9, &ninth);
    kept.log.put(10, &ninth);
    assert_eq!(broken(&kept).await, Some((10, Fault::Unchained)));
    kept.log.put(12, &ninth);
    kept.log.take(10);
    assert_eq!(broken(&kept).await, Some((10, Fault::Unchained)));
    kept.log.take(12);
    // Genuine entries behind an end that was put back.
    kept.log.append(note(10)).await.unwrap();
    kept.log.put_end(Some(&earlier_end));
    assert_eq!(broken(&kept).await, Some((10, Fault::Unchained)));
}

#[tokio::test]
async fn nothing_is_appended_to_an_end_that_is_forged_or_gone() {
    let kept = filled().await;
    let genuine = kept.log.kept_end();
    let mut forged = genuine.clone();
    forged[7] ^= 1;
    for end in [Some(&forged[..]), Some(&b"short"[..]), None] {
        kept.log.put_end(end);
        assert!(matches!(kept.log.append(note(10)).await, Err(StoreError::Broken)));
        assert!(matches!(broken(&kept).await, Some((9, Fault::End))));
    }
    kept.log.put_end(Some(&genuine));
    assert_eq!(kept.log.append(note(10)).await.unwrap(), 10);
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn a_log_that_was_emptied_does_not_begin_anew() {
    let kept = filled().await;
    for sequence in 1..10 {
        kept.log.take(sequence);
    }
    kept.log.put_end(None);
    assert!(kept.log.append(note(10)).await.is_err());
    let vault = Vault::open(&SecretSource::File(kept.place.path().join("master.key")), &kept.data).unwrap();
    let log = SledAudit::open(kept.data.database(), &vault, Millis(1)).unwrap();
    assert_eq!(log.verify().await.unwrap(), Verdict::Broken { sequence: 1, fault: Fault::End });
    assert!(log.append(note(1)).await.is_err());
}

#[tokio::test]
async fn a_log_under_another_master_key_is_not_taken_for_ones_own() {
    let kept = filled().await;
    let other = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(&other.path().join("data")).unwrap();
    let vault = Vault::open(&SecretSource::File(other.path().join("master.key")), &data).unwrap();
    let log = SledAudit::open(kept.data.database(), &vault, Millis(1)).unwrap();
    assert_eq!(log.verify().await.unwrap(), Verdict::Broken { sequence: 1, fault: Fault::Edited });
    assert!(log.append(note(10)).await.is_err());
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn a_log_that_is_written_to_meanwhile_verifies() {
    let kept = opened();
    let log = kept.log.clone();
    let writer = tokio::spawn(async move {
        for number in 2..60 {
            log.append(note(number)).await.unwrap();
        }
    });
    while !writer.is_finished() {
        assert_eq!(broken(&kept).await, None);
    }
    writer.await.unwrap();
    assert!(matches!(kept.log.verify().await.unwrap(), Verdict::Whole(Head { sequence: 59, .. })));
}
