//! What is held beside the chain: found where it is edited, and only missed where its org was not erased.

use super::*;

const OTHER: OrgId = OrgId::from_number(8);
const SALT: usize = super::super::held::SALT;

fn of(org: Option<OrgId>, number: u64) -> Note {
    let actor = Who { kind: ActorKind::Token, id: None, address: Some([192, 0, 2, 7].into()) };
    let after = json!({"name": format!("name {number}"), "scopes": ["pay"]});
    Note::new(actor, "key.issued", Millis(number)).org(org).on(format!("key_{number}")).change(json!(null), after)
}

/// The beginning; 2 to 5 of one org and of another in turns, 6 about none.
async fn two_orgs() -> Kept {
    let kept = opened();
    for number in 2..6 {
        kept.log.append(of(Some(if number % 2 == 0 { ORG } else { OTHER }), number)).await.unwrap();
    }
    kept.log.append(of(None, 6)).await.unwrap();
    kept
}

async fn erased(kept: &Kept, org: OrgId) -> u64 {
    let note = Note::new(Who::gateway(), ORG_ERASED, Millis(9)).org(Some(org)).on(org);
    let sequence = kept.log.append(note).await.unwrap();
    let mut count = 0;
    loop {
        match kept.log.erase(org, sequence).await.unwrap() {
            0 => return count,
            some => count += some,
        }
    }
}

async fn names(kept: &Kept) -> Vec<(u64, Value, bool)> {
    let page =
        kept.log.page(Filter { action: Some("key.issued".into()), ..Filter::default() }, None, 100).await.unwrap();
    page.entries.into_iter().map(|it| (it.sequence, it.note.after["name"].clone(), it.erased.is_empty())).collect()
}

#[tokio::test]
async fn values_are_shown_and_are_not_in_the_chain() {
    let kept = two_orgs().await;
    let page = kept.log.page(Filter::default(), None, 3).await.unwrap();
    assert_eq!((page.entries[0].note.clone(), page.entries[1].note.clone()), (of(None, 6), of(Some(OTHER), 5)));
    let chained = String::from_utf8_lossy(&kept.log.kept(5)[64..]).into_owned();
    assert!(!chained.contains("name 5") && !chained.contains("192.0.2.7") && chained.contains("pay"), "{chained}");
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn each_edit_of_a_value_or_its_salt_is_named() {
    let kept = two_orgs().await;
    let genuine = kept.log.kept_values(Some(OTHER), 3).unwrap();
    for at in 0..genuine.len() {
        let mut edited = genuine.clone();
        edited[at] ^= 1;
        kept.log.put_values(Some(OTHER), 3, Some(&edited));
        assert_eq!(broken(&kept).await, Some((3, Fault::Values)), "byte {at}");
    }
    assert!(matches!(kept.log.page(Filter::default(), None, 100).await, Err(StoreError::Damaged { sequence: 3 })));
    // Those of another entry, whole; and with its own salt, or its own values under that one's.
    let other = kept.log.kept_values(Some(OTHER), 5).unwrap();
    for forged in [
        other.clone(),
        [&genuine[..SALT], &other[SALT..]].concat(),
        [&other[..SALT], &genuine[SALT..]].concat(),
        Vec::new(),
    ] {
        kept.log.put_values(Some(OTHER), 3, Some(&forged));
        assert_eq!(broken(&kept).await, Some((3, Fault::Values)));
    }
    kept.log.put_values(Some(OTHER), 3, Some(&genuine));
    kept.log.put_values(Some(OTHER), 5, Some(&other));
    assert_eq!(broken(&kept).await, None);
}

#[tokio::test]
async fn values_that_were_removed_past_the_gateway_are_missed() {
    let kept = two_orgs().await;
    for (org, sequence) in [(Some(ORG), 2), (Some(OTHER), 5), (None, 6)] {
        let genuine = kept.log.kept_values(org, sequence).unwrap();
        kept.log.put_values(org, sequence, None);
        assert_eq!(broken(&kept).await, Some((sequence, Fault::ValuesMissing)));
        kept.log.put_values(org, sequence, Some(&genuine));
    }
    // Shown as gone all the same: that is what it is.
    kept.log.put_values(Some(ORG), 4, None);
    assert_eq!(names(&kept).await[2], (4, json!("erased"), false));
    assert_eq!(broken(&kept).await, Some((4, Fault::ValuesMissing)));
}

#[tokio::test]
async fn an_erasure_takes_the_values_of_one_org_and_the_log_stays_whole() {
    let kept = two_orgs().await;
    assert_eq!(erased(&kept, ORG).await, 2);
    assert_eq!(broken(&kept).await, None);
    let (name, gone) = (|number: u64| json!(format!("name {number}")), json!("erased"));
    let expected =
        [(6, name(6), true), (5, name(5), true), (4, gone.clone(), false), (3, name(3), true), (2, gone, false)];
    assert_eq!(names(&kept).await, expected);
    assert_eq!((kept.log.kept_values(Some(ORG), 2), kept.log.kept_values(Some(ORG), 4)), (None, None));
    // It lets nothing be gone of another org, of none, or of what came after it.
    for (org, sequence) in [(Some(OTHER), 3), (None, 6)] {
        let genuine = kept.log.kept_values(org, sequence).unwrap();
        kept.log.put_values(org, sequence, None);
        assert_eq!(broken(&kept).await, Some((sequence, Fault::ValuesMissing)));
        kept.log.put_values(org, sequence, Some(&genuine));
    }
    assert_eq!(kept.log.append(of(Some(ORG), 8)).await.unwrap(), 8);
    assert_eq!((kept.log.erase(ORG, 7).await.unwrap(), broken(&kept).await), (0, None));
    kept.log.put_values(Some(ORG), 8, None);
    assert_eq!(broken(&kept).await, Some((8, Fault::ValuesMissing)));
}

#[tokio::test]
async fn an_erasure_that_was_not_appended_by_the_gateway_excuses_nothing() {
    let kept = two_orgs().await;
    let forger = chain::Seal::new(&[9; 32]);
    let end = Head { sequence: 6, hash: *kept.log.kept(6).first_chunk().unwrap() };
    let note = Note::new(Who::gateway(), ORG_ERASED, Millis(9)).org(Some(ORG)).on(ORG);
    let (forged, _) = forger.link(end, &chain::Content::new(7, note, None).bytes());
    kept.log.put(7, &forged);
    kept.log.put_values(Some(ORG), 2, None);
    assert!(broken(&kept).await.is_some());
    kept.log.take(7);
    assert_eq!(broken(&kept).await, Some((2, Fault::ValuesMissing)));
}

#[tokio::test]
async fn values_that_no_entry_holds_are_named() {
    let kept = two_orgs().await;
    let row = kept.log.kept_values(Some(ORG), 2).unwrap();
    for (org, sequence) in [(Some(OTHER), 2), (None, 2), (Some(ORG), 1), (Some(ORG), 40)] {
        kept.log.put_values(org, sequence, Some(&row));
        assert_eq!(broken(&kept).await, Some((sequence, Fault::Unchained)));
        kept.log.put_values(org, sequence, None);
    }
    kept.log.put(u64::MAX, &row);
    assert_eq!(broken(&kept).await, Some((7, Fault::Unchained)));
}

#[tokio::test]
async fn entries_of_the_former_form_are_read_verified_and_counted() {
    let kept = two_orgs().await;
    kept.log.append_former(&of(Some(ORG), 7));
    kept.log.append_former(&Note::new(Who::gateway(), "key.forgotten", Millis(8)).org(Some(ORG)).on("key_1"));
    assert_eq!(kept.log.append(of(Some(ORG), 9)).await.unwrap(), 9);
    assert_eq!(broken(&kept).await, None);
    assert_eq!(names(&kept).await[1], (7, json!("name 7"), true));
    assert_eq!(kept.log.count(ORG).await.unwrap(), Count { entries: 5, in_chain: 1 });
    assert_eq!(kept.log.count(OTHER).await.unwrap(), Count { entries: 2, in_chain: 0 });
    let mut edited = kept.log.kept(7);
    *edited.last_mut().unwrap() ^= 1;
    kept.log.put(7, &edited);
    assert_eq!(broken(&kept).await, Some((7, Fault::Edited)));
}

#[tokio::test]
async fn an_address_that_something_is_on_is_found_and_erased_with_its_org() {
    let kept = opened();
    let note = Note::new(Who::gateway(), "limit.reset", Millis(2)).org(Some(ORG)).on("192.0.2.9");
    kept.log.append(note).await.unwrap();
    let filter = || Filter { object: Some("192.0.2.9".into()), ..Filter::default() };
    assert_eq!(kept.log.page(filter(), None, 9).await.unwrap().entries[0].note.on, ["192.0.2.9"]);
    erased(&kept, ORG).await;
    assert!(kept.log.page(filter(), None, 9).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_log_verifies_while_an_org_is_being_erased() {
    let kept = opened();
    for number in 2..400 {
        kept.log.append(of(Some(ORG), number)).await.unwrap();
    }
    let note = Note::new(Who::gateway(), ORG_ERASED, Millis(9)).org(Some(ORG));
    let log = kept.log.clone();
    let eraser = tokio::spawn(async move {
        let sequence = log.append(note).await.unwrap();
        for before in 2..=sequence {
            log.erase(ORG, before).await.unwrap();
        }
    });
    while !eraser.is_finished() {
        assert_eq!(broken(&kept).await, None);
    }
    eraser.await.unwrap();
    assert_eq!(broken(&kept).await, None);
}
