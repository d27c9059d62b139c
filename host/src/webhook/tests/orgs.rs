//! What belongs to one webhook, one org, or whoever runs the gateway, and how much one org may have.

use super::*;
use crate::webhook::room::Room;

#[tokio::test]
async fn a_secret_opens_for_its_own_webhook_only_and_an_org_has_so_many() {
    let stand = Stand::new().await;
    let (one, other) = (stand.webhook(&[Kind::KeyRevoked]).await, stand.webhook(&[Kind::KeyRevoked]).await);
    let mixed = Webhook { id: other.webhook.id, ..(*one.webhook).clone() };
    assert!(matches!(stand.desk.signatures(&mixed, "a", START, "{}"), Err(DeskError::Seal(_))));
    for _ in 2..MOST_OF_ORG {
        stand.webhook(&[Kind::KeyRevoked]).await;
    }
    let new = NewWebhook {
        org: ORG,
        url: "https://a.example/".into(),
        events: vec![Kind::KeyRevoked],
        enabled: false,
        sandbox: false,
        maker: None,
    };
    assert!(matches!(stand.desk.create(new, Who::gateway()).await, Err(DeskError::TooMany)));
}

#[tokio::test]
async fn what_only_operators_see_is_noted_for_them_alone_and_takes_no_room_of_the_org() {
    let stand = Stand::new().await;
    let hidden = stand.webhook_at("https://a.example/1", &[Kind::PluginRefused]).await.webhook.id;
    let (open, shut) = (vec![Kind::KeyRevoked], vec![Kind::KeyRevoked, Kind::PluginSwapped]);
    for events in [open.clone(), open, shut] {
        let edit = Edit { events: Some(events), url: Some("https://a.example:8443/2".into()), enabled: Some(false) };
        stand.desk.change(hidden, edit, Who::gateway()).await.unwrap().unwrap();
    }
    stand.desk.remove(hidden, Who::gateway()).await.unwrap().unwrap();
    let noted = stand.audit.page(Filter::default(), None, 10).await.unwrap().entries;
    let noted: Vec<_> = noted.iter().filter(|entry| entry.note.action.starts_with("webhook.")).collect();
    assert!(noted.len() == 4 && noted.iter().all(|entry| entry.note.org.is_none()), "{noted:?}");
    let (before, after) = (&noted[2].note.before, &noted[2].note.after);
    assert_eq!((&before["url"], &before["url_changes"]), (&json!("https://a.example"), &json!(0)));
    assert_eq!((&after["url"], &after["url_changes"]), (&json!("https://a.example:8443"), &json!(1)));

    stand.webhook_at("https://a.example/3", &[Kind::PluginRefused]).await;
    for number in 0..MOST_OF_ORG {
        stand.webhook_at(&format!("https://b.example/{number}"), &[Kind::KeyRevoked]).await;
    }
    stand.webhook_at("https://a.example/4", &[Kind::PluginRefused]).await;
}

#[tokio::test]
async fn an_org_has_one_webhook_for_an_address() {
    let stand = Stand::new().await;
    let (url, events) = ("https://a.example/1", vec![Kind::KeyRevoked]);
    let new = |org, sandbox, events: &[Kind]| NewWebhook {
        org: OrgId::from_number(org),
        url: url.to_owned(),
        events: events.to_vec(),
        enabled: true,
        sandbox,
        maker: None,
    };
    let create = |new| stand.desk.create(new, Who::gateway());
    // What one of them sees tells nothing of what another has.
    for (org, sandbox, events) in
        [(7, false, &events[..]), (8, false, &events), (7, true, &events), (7, false, &[Kind::PluginRefused])]
    {
        create(new(org, sandbox, events)).await.unwrap();
        assert!(matches!(create(new(org, sandbox, events)).await, Err(DeskError::SameUrl)));
    }
    let other = stand.webhook_at("https://a.example/2", &events).await.webhook.id;
    for (to, refused) in [("https://a.example/2", false), (url, true), ("https://a.example/3", false)] {
        let edit = Edit { url: Some(to.into()), ..Edit::default() };
        let changed = stand.desk.change(other, edit, Who::gateway()).await;
        assert_eq!(matches!(changed, Err(DeskError::SameUrl)), refused, "{to}");
    }
    assert_eq!(stand.desk.find(other).unwrap().url, "https://a.example/3");
}

#[tokio::test]
async fn so_many_letters_wait_for_one_webhook_and_for_an_org() {
    let stand = Stand::new().await;
    let mut all = Vec::new();
    for number in 0..3 {
        all.push(stand.webhook_at(&format!("https://a.example/{number}"), &[Kind::KeyRevoked]).await.webhook);
    }
    let other = Webhook { id: WebhookId::from_number(9), org: OrgId::from_number(8), ..(*all[0]).clone() };
    let mut lines = Lines::default();
    let letter = |webhook: &Webhook, number| Waiting { due: START, webhook: webhook.id, event: event(number).id };
    (0..LONGEST as u64 - 1).for_each(|number| lines.add(letter(&all[0], number)));
    let mut room = Room::left(&lines, &all);
    assert_eq!([0, 1].map(|_| room.take(&all[0])), [true, false], "one is left to it");
    assert!(room.take(&all[1]) && room.take(&other));
    (0..LONGEST as u64).for_each(|number| lines.add(letter(&all[1], number)));
    let mut room = Room::left(&lines, &all);
    assert_eq!([0, 1].map(|_| room.take(&all[2])), [true, false], "one is left to the org");
    assert!(!room.take(&all[0]) && room.take(&other));
}
