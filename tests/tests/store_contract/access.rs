//! Credentials, sessions, devices, nonces, limits and the audit log.

use super::*;
use halfkey_server::store::{Challenge, Error, Limit, SESSION_IDLE_MS, SESSION_LIFE_MS, What};
use sqlx::{ConnectOptions, Connection};

pub async fn keys_open_only_what_they_are_for(mut ground: Ground) {
    let (custodian, client) = ground.client().await;
    let (id, digest) = ground.key(KeyOwner::Custodian(custodian)).await;
    let (_, other) = ground.key(KeyOwner::Client { custodian, client }).await;

    let found = ground.store.authenticate_key(&digest).await.unwrap();
    assert_eq!((found.key, found.owner, found.scope.as_str()), (id, KeyOwner::Custodian(custodian), "all"));
    let found = ground.store.authenticate_key(&other).await.unwrap();
    assert_eq!(found.owner, KeyOwner::Client { custodian, client });
    assert!(matches!(ground.store.authenticate_key(&[9; 32]).await, Err(Error::Unknown(What::Credential))));

    ground.store.revoke_key(custodian, id, NOW + 5).await.unwrap();
    ground.store.revoke_key(custodian, id, NOW + 9).await.unwrap();
    assert!(matches!(ground.store.authenticate_key(&digest).await, Err(Error::Unknown(What::Credential))));
    assert!(ground.store.authenticate_key(&other).await.is_ok(), "the other key stays");
    let listed = ground.store.keys(custodian).await.unwrap();
    assert_eq!(listed.iter().find(|key| key.id == id).unwrap().revoked_ms, Some(NOW + 5), "the first time counts");
}

pub async fn another_custodians_ids_look_unknown(mut ground: Ground) {
    let (custodian, client) = ground.client().await;
    let (stranger, _) = ground.client().await;
    let store = &ground.store;
    let unknown = ClientId::from_bytes([7; 16]);
    for (custodian, client) in [(stranger, client), (custodian, unknown)] {
        assert!(matches!(store.client(custodian, client).await, Err(Error::Unknown(What::Client))));
        let opened = store.open_session(custodian, client, &[1; 32], NOW).await;
        assert!(matches!(opened, Err(Error::Unknown(What::Client))));
        assert!(matches!(store.close_sessions(custodian, client).await, Err(Error::Unknown(What::Client))));
        let owner = KeyOwner::Client { custodian, client };
        let made = store.create_key(ApiKeyId::from_bytes([3; 16]), &[2; 32], owner, "", NOW).await;
        assert!(matches!(made, Err(Error::Unknown(What::Client))));
    }
    let (id, digest) = ground.key(KeyOwner::Custodian(custodian)).await;
    let revoked = ground.store.revoke_key(stranger, id, NOW).await;
    assert!(matches!(revoked, Err(Error::Unknown(What::Credential))));
    assert!(ground.store.authenticate_key(&digest).await.is_ok());
}

pub async fn sessions_slide_for_a_day_and_end_after_a_week(mut ground: Ground) {
    let (custodian, client) = ground.client().await;
    let store = &ground.store;
    assert_eq!(store.open_session(custodian, client, &[1; 32], NOW).await.unwrap(), NOW + SESSION_IDLE_MS);
    store.open_session(custodian, client, &[2; 32], NOW).await.unwrap();
    assert_eq!(store.touch_session(&[1; 32], NOW).await.unwrap().id, client);

    let mut now = NOW;
    while now + SESSION_IDLE_MS - 1 < NOW + SESSION_LIFE_MS {
        now += SESSION_IDLE_MS - 1;
        assert_eq!(store.touch_session(&[1; 32], now).await.unwrap().id, client, "used every day");
    }
    let last = NOW + SESSION_LIFE_MS;
    assert!(store.touch_session(&[1; 32], last - 1).await.is_ok());
    assert!(matches!(store.touch_session(&[1; 32], last).await, Err(Error::Expired(What::Credential))));
    let idle = store.touch_session(&[2; 32], NOW + SESSION_IDLE_MS).await;
    assert!(matches!(idle, Err(Error::Expired(What::Credential))), "unused for a day");

    store.open_session(custodian, client, &[3; 32], NOW).await.unwrap();
    store.close_session(&[3; 32]).await.unwrap();
    assert!(matches!(store.touch_session(&[3; 32], NOW).await, Err(Error::Unknown(What::Credential))));
    assert_eq!(store.close_sessions(custodian, client).await.unwrap(), 2);
}

pub async fn clients_are_listed_page_by_page(mut ground: Ground) {
    let custodian = ground.custodian().await;
    ground.client().await;
    let mut made = Vec::new();
    for n in 0..5 {
        let id = ClientId::generate(ground.entropy(), NOW + n);
        ground.store.create_client(custodian, id, Some(format!("user {n}")), NOW + n).await.unwrap();
        made.push(id);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ground.store.clients(custodian, after, 2).await.unwrap();
        after = page.last().map(|client| client.id);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        seen.extend(page.into_iter().map(|client| client.id));
    }
    assert_eq!(seen, made, "each once, oldest first, nobody else's");
}

pub async fn only_the_first_device_is_enrolled_on_trust(mut ground: Ground) {
    let (_, client) = ground.client().await;
    let (first, second) = (ground.new_device(), ground.new_device());
    let store = ground.store.clone();
    let (a, b) =
        tokio::join!(store.enrol_first_device(client, &first, NOW), store.enrol_first_device(client, &second, NOW));
    let (won, lost, winner, loser) = if a.is_ok() { (a, b, &first, &second) } else { (b, a, &second, &first) };
    assert_eq!(won.unwrap().public_key, winner.public_key);
    assert!(matches!(lost, Err(Error::Exists(What::Device))), "two racing first devices: one");
    let again = NewDevice { id: DeviceId::from_bytes([5; 16]), ..winner.clone() };
    assert_eq!(store.enrol_first_device(client, &again, NOW + 1).await.unwrap().id, winner.id, "the same key again");
    assert!(matches!(store.device_by_key(client, &loser.public_key).await, Err(Error::Unknown(What::Device))));
    assert_eq!(store.devices(client).await.unwrap().len(), 1);
    let (_, stranger) = ground.client().await;
    let foreign = ground.store.device_by_key(stranger, &winner.public_key).await;
    assert!(matches!(foreign, Err(Error::Unknown(What::Device))));
}

pub async fn a_request_nonce_is_accepted_once(mut ground: Ground) {
    let (_, client) = ground.client().await;
    let device = ground.new_device();
    ground.store.enrol_first_device(client, &device, NOW).await.unwrap();
    let (store, key) = (&ground.store, device.public_key);
    store.accept_nonce(&key, &[1; 32], NOW + 7).await.unwrap();
    assert!(matches!(store.accept_nonce(&key, &[1; 32], NOW + 8).await, Err(Error::Exists(What::Challenge))));
    store.accept_nonce(&key, &[2; 32], NOW + 9).await.unwrap();
    store.accept_nonce(&[8; 32], &[1; 32], NOW).await.unwrap();
    assert_eq!(store.device_by_key(client, &key).await.unwrap().seen_ms, NOW + 9);
}

fn challenge(nonce: [u8; 32]) -> Challenge {
    Challenge { nonce, purpose: "backup".into(), device_key: [1; 32], reference: [2; 16], expires_ms: NOW + 1000 }
}

pub async fn a_challenge_is_taken_once_and_only_for_its_purpose(mut ground: Ground) {
    let (_, client) = ground.client().await;
    let (_, stranger) = ground.client().await;
    let store = &ground.store;
    store.put_challenge(client, &challenge([3; 32])).await.unwrap();
    store.put_challenge(client, &challenge([4; 32])).await.unwrap();
    let wrong = [
        store.take_challenge(stranger, "backup", &[1; 32], &[2; 16], &[3; 32], NOW).await,
        store.take_challenge(client, "recover", &[1; 32], &[2; 16], &[3; 32], NOW).await,
        store.take_challenge(client, "backup", &[9; 32], &[2; 16], &[3; 32], NOW).await,
        store.take_challenge(client, "backup", &[1; 32], &[9; 16], &[3; 32], NOW).await,
        store.take_challenge(client, "backup", &[1; 32], &[2; 16], &[9; 32], NOW).await,
    ];
    for taken in wrong {
        assert!(matches!(taken, Err(Error::Unknown(What::Challenge))));
    }
    store.take_challenge(client, "backup", &[1; 32], &[2; 16], &[3; 32], NOW).await.unwrap();
    let again = store.take_challenge(client, "backup", &[1; 32], &[2; 16], &[3; 32], NOW).await;
    assert!(matches!(again, Err(Error::Unknown(What::Challenge))), "single use");
    let late = store.take_challenge(client, "backup", &[1; 32], &[2; 16], &[4; 32], NOW + 1000).await;
    assert!(matches!(late, Err(Error::Expired(What::Challenge))));
}

pub async fn racing_takers_of_one_challenge_get_it_once(mut ground: Ground) {
    let (_, client) = ground.client().await;
    ground.store.put_challenge(client, &challenge([3; 32])).await.unwrap();
    let takers = (0..16).map(|_| {
        let store = ground.store.clone();
        tokio::spawn(
            async move { store.take_challenge(client, "backup", &[1; 32], &[2; 16], &[3; 32], NOW).await.is_ok() },
        )
    });
    let mut won = 0;
    for taker in takers.collect::<Vec<_>>() {
        won += u32::from(taker.await.unwrap());
    }
    assert_eq!(won, 1);
}

pub async fn limits_hold_under_a_race(ground: Ground) {
    let limit = Limit { hits: 5, window_ms: 60_000 };
    let callers = (0..20).map(|_| {
        let store = ground.store.clone();
        tokio::spawn(async move { store.hit("client/1", limit, NOW).await })
    });
    let mut allowed = 0;
    for caller in callers.collect::<Vec<_>>() {
        match caller.await.unwrap() {
            Ok(()) => allowed += 1,
            Err(Error::Busy { retry_after_ms }) => assert_eq!(retry_after_ms, 60_000),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(allowed, 5);
    assert!(ground.store.hit("client/2", limit, NOW).await.is_ok(), "another subject");
    assert!(matches!(ground.store.hit("client/1", limit, NOW + 59_999).await, Err(Error::Busy { retry_after_ms: 1 })));
    assert!(ground.store.hit("client/1", limit, NOW + 60_000).await.is_ok(), "the next window");
}

pub async fn the_audit_chain_has_no_gap_under_a_race(mut ground: Ground) {
    let (custodian, _) = ground.client().await;
    let makers = (0..12u8).map(|n| {
        let store = ground.store.clone();
        tokio::spawn(async move {
            let owner = KeyOwner::Custodian(custodian);
            store.create_key(ApiKeyId::from_bytes([n; 16]), &[n; 32], owner, "", NOW).await
        })
    });
    for maker in makers.collect::<Vec<_>>() {
        maker.await.unwrap().unwrap();
    }
    let subject = custodian.as_bytes();
    assert_eq!(ground.store.verify_audit(subject).await.unwrap().sequence, 13);

    // Whoever edits an entry, or cuts the end off, is seen.
    let tampering = ["UPDATE audit SET entry = '{}' WHERE sequence = 3", "DELETE FROM audit WHERE sequence = 13"];
    for text in tampering {
        edit(&ground.url, text).await;
        assert!(matches!(ground.store.verify_audit(subject).await, Err(Error::Corrupt(_))), "{text}");
    }
}

pub async fn the_deployment_is_made_once(mut ground: Ground) {
    let store = ground.store.clone();
    let id = store.deployment(ground.entropy(), NOW).await.unwrap();
    assert_eq!(store.deployment(ground.entropy(), NOW + 1).await.unwrap(), id);
    assert_eq!(store.server_key("identity", b"first", NOW).await.unwrap(), b"first");
    assert_eq!(store.server_key("identity", b"second", NOW).await.unwrap(), b"first", "the first one counts");
    assert_eq!(store.find_server_key("identity").await.unwrap().unwrap(), b"first");
    assert_eq!(store.find_server_key("other").await.unwrap(), None);
    #[allow(clippy::disallowed_methods, reason = "the database's clock is compared with the machine's")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    store.check_clock(now).await.unwrap();
    if ground.url.starts_with("postgres") {
        assert!(matches!(store.check_clock(now + 60_000).await, Err(Error::ClockSkew { .. })));
    }
}

pub async fn a_newer_schema_is_refused(ground: Ground) {
    ground.store.close().await;
    assert!(Store::connect(&ground.url).await.is_ok(), "the same version opens again");
    edit(&ground.url, "UPDATE halfkey_schema SET version = 99 WHERE name = 'main'").await;
    assert!(matches!(Store::connect(&ground.url).await, Err(Error::NewerSchema { found: 99, .. })));
    assert!(matches!(Store::connect("mysql://x").await, Err(Error::UnsupportedUrl)));
}

/// Changes a row behind the store's back.
async fn edit(url: &str, text: &'static str) {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        assert_ne!(sqlx::query(text).execute(&mut connection).await.unwrap().rows_affected(), 0);
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        assert_ne!(sqlx::query(text).execute(&mut connection).await.unwrap().rows_affected(), 0);
    }
}

pub async fn relying_parties_fit_together_or_not_at_all(mut ground: Ground) {
    ground.store.deployment(&mut DangerSeededEntropy::new(5), NOW).await.unwrap();
    let (one, two) = (ground.custodian().await, ground.custodian().await);
    let store = &ground.store;
    assert_eq!(store.relying_party(one).await.unwrap(), None);
    assert!(store.put_relying_party(one, "first", |all| all.len() == 1, NOW).await.unwrap());
    assert!(store.put_relying_party(one, "second", |all| all == [(one, "second".to_owned())], NOW).await.unwrap());
    assert!(!store.put_relying_party(one, "third", |_| false, NOW).await.unwrap());
    assert_eq!(store.relying_party(one).await.unwrap().as_deref(), Some("second"), "what does not fit changes nothing");
    let unknown = store.put_relying_party(CustodianId::from_bytes([7; 16]), "x", |_| true, NOW).await;
    assert!(matches!(unknown, Err(Error::Unknown(What::Custodian))));

    // There is room for one more: of calls at the same time exactly one finds it.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(ground.custodian().await);
    }
    let calls = others.into_iter().map(|custodian| {
        let store = ground.store.clone();
        tokio::spawn(async move { store.put_relying_party(custodian, "x", |all| all.len() <= 2, NOW).await.unwrap() })
    });
    let mut fitted = 0;
    for call in calls.collect::<Vec<_>>() {
        fitted += u32::from(call.await.unwrap());
    }
    assert_eq!(fitted, 1);
    assert_eq!(ground.store.relying_parties().await.unwrap().len(), 2);
    assert_eq!(ground.store.relying_party(two).await.unwrap(), None);
}
