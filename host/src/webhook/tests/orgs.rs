//! What belongs to one webhook, one org, or whoever runs the gateway, and how much one org may have.

use super::*;

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
