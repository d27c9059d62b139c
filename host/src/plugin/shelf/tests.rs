use super::*;

const NOW: Millis = Millis(1_795_305_600_000);

fn shelf(place: &tempfile::TempDir) -> (DataDirectory, Shelf) {
    let data = DataDirectory::open(place.path()).unwrap();
    let shelf = Shelf::open(&data).unwrap();
    (data, shelf)
}

/// A component that serves, made of one letter.
fn ship(shelf: &Shelf, policy: &str, letter: &str) -> String {
    let digest = digest(letter.as_bytes());
    shelf.keep(&digest, letter.as_bytes()).unwrap();
    let version = Version {
        plugin: "p".to_owned(),
        digest: digest.clone(),
        version: format!("1.0.{}", letter.len()),
        since: NOW,
    };
    // A component that is held to comes from what was kept.
    let kept = shelf.card(policy).held.is_some_and(|held| held.digest == digest);
    shelf.shipped(policy, &version, kept).unwrap();
    shelf.sweep();
    digest
}

#[test]
fn versions_and_history_are_there_after_reopening() {
    let place = tempfile::tempdir().unwrap();
    let (data, shelf_before) = shelf(&place);
    let digests: Vec<String> = ["a", "b"].iter().map(|letter| ship(&shelf_before, "gas", letter)).collect();
    assert!(shelf_before.refused("gas", Some("dead"), "it traps", NOW).unwrap());
    shelf_before.disable("gas", Some("p"), NOW).unwrap();
    let card = shelf_before.card("gas");
    drop((shelf_before, data));
    let (_data, shelf) = shelf(&place);
    assert_eq!(shelf.card("gas"), card);
    let what: Vec<What> = card.events.iter().map(|event| event.what).collect();
    assert_eq!(what, [What::Shipped, What::Shipped, What::Refused, What::Disabled]);
    assert_eq!(shelf.last("gas", "p").unwrap().digest, digests[1]);
    assert_eq!(shelf.last("gas", "another plugin"), None);
    assert_eq!(shelf.component(&digests[0]).unwrap(), b"a");
}

#[test]
fn only_the_last_versions_stay_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let digests: Vec<String> =
        (b'a'..b'i').map(|letter| ship(&shelf, "gas", &char::from(letter).to_string())).collect();
    let there: Vec<bool> = digests.iter().map(|digest| shelf.component(digest).is_some()).collect();
    let kept = digests.len() - KEPT_VERSIONS;
    assert!(there[..kept].iter().all(|there| !there) && there[kept..].iter().all(|there| *there), "{there:?}");
    // What another policy still names stays.
    let shared = ship(&shelf, "other", "b");
    ship(&shelf, "gas", "z");
    assert!(shelf.component(&shared).is_some());
}

#[test]
fn going_back_finds_the_version_before_and_the_named_one() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let [a, b, c] = ["a", "b", "c"].map(|letter| ship(&shelf, "gas", letter));
    assert_eq!(
        shelf.hold("gas", "p", None, Some(c.clone())).unwrap(),
        Held { plugin: "p".to_owned(), digest: b.clone(), instead_of: vec![c.clone()] }
    );
    assert_eq!(shelf.hold("gas", "p", Some(&a[..8]), None).unwrap().digest, a);
    let error = shelf.hold("gas", "p", Some("00000000"), None).unwrap_err().to_string();
    assert_eq!(error, "there is no version of `gas` to go back to with the digest 00000000");
    shelf.hold("never", "p", None, None).unwrap_err();
    // Held ones that serve are a rollback in the history; anything else that serves ends the hold.
    ship(&shelf, "gas", "a");
    assert_eq!(shelf.card("gas").events.last().unwrap().what, What::RolledBack);
    assert_eq!(shelf.card("gas").held.unwrap().digest, a);
    shelf.hold("gas", "p", None, None).unwrap_err();
    ship(&shelf, "gas", "d");
    assert_eq!(shelf.card("gas").held, None);
}

#[test]
fn going_back_twice_goes_two_versions_back() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let [a, b, c] = ["a", "b", "c"].map(|letter| ship(&shelf, "gas", letter));
    assert_eq!(shelf.hold("gas", "p", None, Some(c.clone())).unwrap().digest, b);
    ship(&shelf, "gas", "b");
    assert_eq!(shelf.last("gas", "p").unwrap().digest, b);
    assert_eq!(shelf.hold("gas", "p", None, Some(c)).unwrap().digest, a);
}

#[test]
fn a_hold_goes_over_to_the_kept_version_that_had_to_serve_instead() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let [a, b, c] = ["a", "b", "c"].map(|letter| ship(&shelf, "gas", letter));
    let held = shelf.hold("gas", "p", None, Some(c.clone())).unwrap();
    assert_eq!(held.digest, b);
    let version = shelf.card("gas").versions.into_iter().find(|version| version.digest == a).unwrap();
    shelf.shipped("gas", &version, true).unwrap();
    assert_eq!(shelf.card("gas").held, Some(Held { digest: a, ..held }));
    // From the directory it is what the operator wants next.
    ship(&shelf, "gas", "d");
    assert_eq!(shelf.card("gas").held, None);
}

#[test]
fn the_version_itself_in_the_directory_ends_a_hold() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let [a, b] = ["a", "b"].map(|letter| ship(&shelf, "gas", letter));
    let half = digest(b"half of b");
    let held = shelf.hold("gas", "p", None, Some(half.clone())).unwrap();
    assert_eq!(held.instead_of, [b.clone(), half.clone()], "what served, and what was just being copied");
    for passed_over in [Some(&*b), Some(&*half), Some("broken"), None] {
        shelf.saw("gas", passed_over).unwrap();
        assert!(shelf.card("gas").held.is_some(), "{passed_over:?}");
    }
    shelf.saw("gas", Some(&a)).unwrap();
    assert_eq!(shelf.card("gas").held, None);
    // A version of another plugin is none to go back to.
    shelf.hold("gas", "q", None, None).unwrap_err();
}

#[test]
fn a_damaged_card_is_kept_aside_and_costs_no_component() {
    let place = tempfile::tempdir().unwrap();
    let (data, before) = shelf(&place);
    let digest = ship(&before, "gas", "a");
    drop(before);
    data.database().tree("plugins").unwrap().insert("gas", "no card").unwrap();
    let shelf = Shelf::open(&data).unwrap();
    assert_eq!(shelf.card("gas"), Card::default());
    ship(&shelf, "other", "b");
    assert!(shelf.component(&digest).is_some());
    assert_eq!(data.database().tree("plugins-damaged").unwrap().get("gas").unwrap().unwrap(), "no card");
}

#[test]
fn a_kept_component_that_changed_on_disk_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let digest = ship(&shelf, "gas", "a");
    std::fs::write(shelf.place(&digest), "b").unwrap();
    assert_eq!(shelf.component(&digest), None);
    shelf.hold("gas", "p", Some(&digest[..8]), None).unwrap_err();
}

#[test]
fn the_same_refusal_again_is_no_news_and_events_are_bounded() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    assert!(!shelf.has_refused("gas", Some("x"), "no"));
    assert!(shelf.refused("gas", Some("x"), "no", NOW).unwrap());
    assert!(shelf.has_refused("gas", Some("x"), "no") && !shelf.has_refused("gas", None, "no"));
    assert!(!shelf.refused("gas", Some("x"), "no", NOW).unwrap());
    for number in 0..2 * KEPT_EVENTS {
        assert!(shelf.refused("gas", Some(&number.to_string()), "no", NOW).unwrap());
    }
    assert_eq!(shelf.card("gas").events.len(), KEPT_EVENTS);
    assert!(shelf.refused("gas", None, &format!("a{}", "é".repeat(LONGEST_REASON)), NOW).unwrap());
    assert!(shelf.has_refused("gas", None, &format!("a{}", "é".repeat(LONGEST_REASON))));
    let told = shelf.card("gas").events.last().unwrap().reason.clone().unwrap();
    assert_eq!(told.len(), LONGEST_REASON - 1, "whole characters, in bytes");
}

#[test]
fn a_wish_can_be_taken_back() {
    let place = tempfile::tempdir().unwrap();
    let (_data, shelf) = shelf(&place);
    let [_, b] = ["a", "b"].map(|letter| ship(&shelf, "gas", letter));
    let before = shelf.card("gas");
    shelf.hold("gas", "p", None, Some(b)).unwrap();
    shelf.disable("gas", Some("p"), NOW).unwrap();
    shelf.restore("gas", &before).unwrap();
    assert_eq!(shelf.card("gas"), before);
}
