//! The user hears of a recovery through the custodian, and cancels it by the notice's link.

use halfkey_api::{message::RecoveryState, route};
use halfkey_client::{Cancelled, Error, OldDevices, Recovering};
use halfkey_envelope::{id::RecoveryId, wallet::Method};
use halfkey_server::{
    admin,
    config::{Profile, Rate, RecoveryPolicy},
};
use serde_json::{Value, json};

use super::{
    signs,
    world::{PASSWORD, Phone, World, backup_with, recover, with},
};

/// Events are told once they are settled.
const SETTLED_MS: i64 = 2_000;

async fn careful() -> World {
    World::start_with(|config| {
        config.recovery = RecoveryPolicy::of(Profile::Production);
        config.public_url = Some("https://backup.example/".to_owned());
    })
    .await
}

/// All that happened, page by page.
pub async fn events(world: &World, take: u32) -> Vec<Value> {
    world.clock.pass_ms(SETTLED_MS);
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = match cursor.as_str() {
            "" => format!("{}?take={take}", route::CUSTODIAN_EVENTS),
            cursor => format!("{}?take={take}&cursor={cursor}", route::CUSTODIAN_EVENTS),
        };
        let (status, page) = world.call(true, "GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        let results = page["results"].as_array().unwrap().clone();
        assert!(results.len() <= take as usize);
        if results.is_empty() {
            assert_eq!(page["cursor"], if cursor.is_empty() { "0".repeat(32) } else { cursor }, "nothing new");
            return all;
        }
        cursor = page["cursor"].as_str().unwrap().to_owned();
        all.extend(results);
    }
}

/// The recovery that was asked for last, with the path and the token of its link.
async fn notice(world: &World) -> (RecoveryId, String, String) {
    let all = events(world, 100).await;
    let asked = all.iter().rfind(|event| event["kind"] == "recovery.requested").unwrap();
    let id = asked["payload"]["recovery"].as_str().unwrap().parse().unwrap();
    let link = asked["cancelLink"].as_str().unwrap();
    let (path, token) = link.strip_prefix("https://backup.example").unwrap().split_once('#').unwrap();
    assert_eq!(path, route::path(route::RECOVERY_LINK, &[asked["payload"]["recovery"].as_str().unwrap()]));
    (id, path.to_owned(), token.to_owned())
}

async fn press(world: &World, path: &str, token: &str) -> (u16, Value) {
    world.call(false, "POST", path, Some(json!({ "token": token }))).await
}

async fn with_backup(world: &World) -> (String, Phone) {
    let key = world.client_key().await;
    let phone = world.phone(&key);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    (key, phone)
}

async fn asks(world: &World, key: &str) -> Phone {
    let thief = world.phone(key);
    let asked = thief.halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(asked, Ok(Recovering::Waiting { .. })), "{asked:?}");
    thief
}

#[tokio::test]
async fn a_thief_with_the_password_waits_and_the_owner_cancels_by_the_link() {
    let world = careful().await;
    let (key, owner) = with_backup(&world).await;
    let addresses = owner.halfkey.addresses().await.unwrap();
    let thief = asks(&world, &key).await;
    let (id, path, token) = notice(&world).await;

    // Whoever fetches the link changes nothing, and its secret stays behind the `#`.
    let (status, page) = world.call(false, "GET", &path, None).await;
    assert_eq!(status, 200);
    assert!(page.as_str().unwrap().contains("Cancel this recovery") && !page.as_str().unwrap().contains(&token));
    assert_eq!(owner.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Waiting);

    // A wrong token, the token of another recovery and an unknown recovery look the same.
    let mut wrong = token.clone().into_bytes();
    wrong[0] = if wrong[0] == b'0' { b'1' } else { b'0' };
    let wrong = String::from_utf8(wrong).unwrap();
    let unknown = route::path(route::RECOVERY_LINK, &["01890000-0000-7000-8000-000000000000"]);
    let (status, refused) = press(&world, &path, &wrong).await;
    assert_eq!((status, &refused["error"]["id"]), (404, &json!("NOT_FOUND")));
    assert_eq!(press(&world, &unknown, &token).await, (status, refused));
    assert_eq!(press(&world, &path, &token[2..]).await.0, 400, "not a token at all");
    assert_eq!(owner.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Waiting);

    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": false })));
    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": false })), "pressed again");
    let seen = &owner.halfkey.recoveries().await.unwrap()[0];
    assert_eq!((seen.id, seen.state), (id, RecoveryState::Cancelled));
    assert_eq!(thief.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));
    assert!(owner.halfkey.is_wallet_backed_up().await.unwrap(), "nobody had opened it: nothing is frozen");
    signs(&owner, &addresses).await.unwrap();
    let ended = events(&world, 100).await.into_iter().rfind(|event| event["kind"] == "recovery.ended").unwrap();
    assert_eq!(ended["payload"]["byLink"], true);
    assert_eq!(ended.get("cancelLink"), None, "a link goes with the notice only");
}

/// Whoever reads the user's mail must not block the owner for ever.
#[tokio::test]
async fn the_second_cancel_by_a_link_is_the_operators_to_decide() {
    let world = careful().await;
    let (key, _owner) = with_backup(&world).await;
    let first = asks(&world, &key).await;
    let (_, path, token) = notice(&world).await;
    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": false })));
    assert_eq!(first.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));

    let second = asks(&world, &key).await;
    let earlier = token;
    let (id, path, token) = notice(&world).await;
    assert_eq!(press(&world, &path, &earlier).await.0, 404, "a link is for one recovery");
    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": true })));
    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": true })), "pressed again");
    let held = second.halfkey.resume_recovery(with(PASSWORD), None).await;
    assert_eq!(held, Ok(Recovering::Undecided { recovery_id: id }));
    let client = world.the_client().await;
    admin::continue_recovery(&world.state, client, id).await.unwrap();
    assert_eq!(press(&world, &path, &token).await.0, 409, "the operator has decided");
    world.clock.pass_ms(24 * 60 * 60 * 1000);
    let done = second.halfkey.resume_recovery(with(PASSWORD), None).await.unwrap();
    assert!(matches!(done, Recovering::Recovered(_)), "{done:?}");
    assert_eq!(press(&world, &path, &token).await.0, 409, "it is completed");
}

/// After a proof of possession the link freezes the backup at once, as every cancel does.
#[tokio::test]
async fn a_link_that_comes_after_possession_freezes_the_backup() {
    let world = World::start_with(|config| config.public_url = Some("https://backup.example".to_owned())).await;
    let (key, owner) = with_backup(&world).await;
    let thief = world.phone(&key);
    thief.network.tamper(|path, body| if path == route::CEREMONIES { Vec::new() } else { body });
    let stopped = recover(&thief, with(PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(stopped, Err(Error::PeerMisbehaved { .. })), "{stopped:?}");
    let (id, path, token) = notice(&world).await;
    assert_eq!(press(&world, &path, &token).await, (200, json!({ "held": false })));
    assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(Cancelled::Over));
    assert!(!owner.halfkey.is_wallet_backed_up().await.unwrap());
    assert_eq!(owner.halfkey.verify_backup(with(PASSWORD)).await.unwrap_err(), Error::Frozen);
    owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert!(owner.halfkey.is_wallet_backed_up().await.unwrap());
}

#[tokio::test]
async fn events_come_once_each_in_order_page_by_page_and_to_their_custodian_only() {
    let world = careful().await;
    let (_, owner) = with_backup(&world).await;
    let wrong = owner.halfkey.verify_backup(with("not the password at all")).await;
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })));
    let whole = events(&world, 100).await;
    let kinds: Vec<_> = whole.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["wallet.created", "backup.completed"], "one wrong guess is not told yet");
    assert_eq!(events(&world, 1).await, whole, "one by one");
    let mut ids: Vec<_> = whole.iter().map(|event| event["id"].as_str().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), whole.len());
    assert!(whole.is_sorted_by_key(|event| event["createdAt"].as_u64().unwrap()));
    assert!(whole.iter().all(|event| event.get("cancelLink").is_none()), "nobody asked for a recovery");

    let (_, other) = admin::create_custodian(&world.state, "other").await.unwrap();
    let (status, page) = world.call_as(&other.key, "GET", route::CUSTODIAN_EVENTS).await;
    assert_eq!((status, page["results"].as_array().unwrap().len()), (200, 0));
    for (query, status) in [("?take=0", 400), ("?take=101", 400), ("?cursor=zz", 400), ("?cursor=00", 400)] {
        let path = format!("{}{query}", route::CUSTODIAN_EVENTS);
        assert_eq!(world.call(true, "GET", &path, None).await.0, status, "{query}");
    }
    assert_eq!(world.call(false, "GET", route::CUSTODIAN_EVENTS, None).await.0, 401);
}

/// Many recoveries of one deployment, whoever asks for them, come to an end.
#[tokio::test]
async fn recoveries_are_limited_for_the_whole_deployment_too() {
    let world = World::start_with(|config| {
        config.recovery = RecoveryPolicy::of(Profile::Production);
        config.limits.recoveries_deployment = Rate::per_hour(2);
    })
    .await;
    let (key, owner) = with_backup(&world).await;
    asks(&world, &key).await;
    asks(&world, &key).await;
    let third = world.phone(&key).halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(third, Err(Error::Retry { after: Some(_) })), "{third:?}");
    assert_eq!(owner.halfkey.recoveries().await.unwrap().len(), 2);
    assert_eq!(owner.halfkey.available_recovery_methods().await, Ok(vec![Method::Password]));
}
