//! Bounds of keys and tokens, over HTTP.

use super::*;

#[tokio::test]
async fn one_key_too_many_is_a_conflict_that_says_so_however_it_is_asked_for() {
    let api = Running::start().await;
    api.issuer.allow(2);
    let manager = api.issue(json!({"name": "m", "scopes": ["pay", "keys:write"]})).await;
    let second = api.issue(json!({"name": "k", "scopes": ["pay"]})).await;
    let order = json!({"name": "n", "scopes": ["pay"]});
    let imported = json!({"keys": [{"secret": "sk_live_of_another_system_7654321", "name": "o", "scopes": ["pay"]}]});
    for answer in [
        api.admin("POST", "/v1/keys", Some(order.clone())).await,
        api.admin("POST", "/v1/keys/import", Some(imported.clone())).await,
        api.as_key(&manager, "POST", "/v1/keys", Some(order.clone())).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "too_many_keys"), "{}", answer.body);
        assert_eq!((&answer.body["most"], &answer.body["org"]), (&2.into(), &manager["org"]["id"]));
        assert!(answer.body["message"].as_str().unwrap().contains("2 keys"));
    }
    assert_eq!(api.ring.hot(), 2);
    api.admin("DELETE", &format!("/v1/keys/{}", second["id"].as_str().unwrap()), None).await;
    assert_eq!(api.admin("POST", "/v1/keys/import", Some(imported)).await.status, 201);
    assert_eq!(api.as_key(&manager, "POST", "/v1/keys", Some(order)).await.code(), "too_many_keys");
}
