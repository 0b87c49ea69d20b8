//! Ejects: the window, the policy, what works afterwards, and what a crash leaves (METHODS.md G, T21).

use std::sync::Arc;

use halfkey_api::{
    chain::bitcoin::Network as Bitcoin,
    message::{RecoveryPurpose, RecoveryState},
    route,
    signing::Signed,
};
use halfkey_client::{
    Addresses, BackupMethod, BlobSlot, Cancelled, Ejecting, Error, OldDevices, PrivateKeys, RecoveryMethod, Resumed,
};
use halfkey_envelope::{
    Record, client_share,
    entropy::DangerSeededEntropy,
    recovery_code::{self, RecoveryCode},
    wallet::Method,
};
use halfkey_protocol::proof::Purpose;
use halfkey_server::admin::{self, Scope};
use halfkey_tests::verify;

use super::{
    losses,
    raw::Thief,
    signs, solana_payload,
    world::{OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with, with_code},
};

const MINUTE_MS: i64 = 60 * 1000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

async fn eject(phone: &Phone, method: RecoveryMethod) -> Result<Arc<PrivateKeys>, Error> {
    match phone.halfkey.eject_private_keys(method, None).await? {
        Ejecting::Keys(keys) => Ok(keys),
        other => panic!("{other:?}"),
    }
}

async fn backed_up(world: &World) -> (String, Phone, Addresses) {
    let token = world.client_key().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    (token, phone, addresses)
}

async fn keys_are_of(world: &World, token: &str, keys: &PrivateKeys, addresses: &Addresses) {
    let wallets = world.client_of(token).await.wallets;
    keys_fit(keys, addresses, &wallets[0].public_key.clone().unwrap().0);
}

/// The keys are those of the addresses, by libraries that had no part in making them.
pub fn keys_fit(keys: &PrivateKeys, addresses: &Addresses, public_key: &[u8]) {
    assert_eq!(&keys.addresses, addresses);
    assert_eq!(verify::ethereum_address(public_key).unwrap(), addresses.ethereum);
    let hex = keys.secp256k1.ethereum_hex();
    let mut secret = [0u8; 32];
    hex::decode_to_slice(hex.strip_prefix("0x").unwrap(), &mut secret).unwrap();
    verify::is_private_key_of(&secret, public_key).unwrap();
    let mut other = secret;
    other[31] ^= 1;
    assert!(verify::is_private_key_of(&other, public_key).is_err());
    let wif = bs58::decode(keys.secp256k1.bitcoin_wif(Bitcoin::Mainnet).as_str()).with_check(Some(0x80)).into_vec();
    let wif = wif.unwrap();
    assert_eq!((wif.len(), &wif[1..33], wif[33]), (34, &secret[..], 1));

    // The scalar signs a transfer of this address, and an independent library believes it.
    let (payload, _) = solana_payload(addresses);
    let halfkey_client::Payload::SolanaMessage(message) = payload else { panic!("no message") };
    let signed = keys.ed25519.sweep(message.clone(), &mut DangerSeededEntropy::new(7)).unwrap();
    let Signed::SolanaTransaction { signature, transaction, complete } = signed else { panic!("{signed:?}") };
    assert!(complete && transaction.ends_with(&message));
    let key = bs58::decode(&addresses.solana).into_vec().unwrap();
    verify::solana_message(&message, &signature, &key).unwrap();
    let again = keys.ed25519.sweep(message, &mut DangerSeededEntropy::new(8)).unwrap();
    assert_ne!(again, Signed::SolanaTransaction { signature, transaction, complete }, "the prefix is random");
}

/// Everything that is no repetition of the eject.
async fn nothing_else_works(world: &World, phone: &Phone, token: &str, addresses: &Addresses, error: &Error) {
    let is = |what: &str, result: Result<(), Error>| assert_eq!(result, Err(error.clone()), "{what}");
    is("sign", signs(phone, addresses).await);
    is("back up", phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.map(drop));
    is("back up otherwise", phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.map(drop));
    is("verify", phone.halfkey.verify_backup(with(PASSWORD)).await.map(drop));
    is("renew", phone.halfkey.renew_backup(with(PASSWORD)).await.map(drop));
    is("remove", phone.halfkey.remove_backup_method(Method::Password).await);
    let own = phone.halfkey.devices().await.unwrap()[0].id;
    is("revoke", phone.halfkey.revoke_device(own).await);
    let new = world.phone(token);
    is("recover", recover(&new, with(PASSWORD), OldDevices::Keep, None).await.map(drop));
    assert_eq!(new.halfkey.create_wallet().await, Err(Error::WalletAlreadyExists));
}

#[tokio::test]
async fn an_eject_needs_the_custodians_window_and_ends_the_wallet() {
    let world = World::start().await;
    let (token, phone, addresses) = backed_up(&world).await;
    assert_eq!(eject(&phone, with(PASSWORD)).await, Err(Error::EjectNotEnabled));

    // The window of another client opens nothing here.
    let (other, ..) = backed_up(&world).await;
    world.enable_eject(&other, "{}").await;
    assert_eq!(eject(&phone, with(PASSWORD)).await, Err(Error::EjectNotEnabled));

    // An expired one neither.
    let opened = world.enable_eject(&token, "{}").await;
    let length = opened["enabledUntil"].as_u64().unwrap() - opened["openedAt"].as_u64().unwrap();
    assert_eq!(length, 5 * MINUTE_MS as u64);
    world.clock.pass_ms(5 * MINUTE_MS);
    assert_eq!(eject(&phone, with(PASSWORD)).await, Err(Error::EjectNotEnabled));

    world.enable_eject(&token, r#"{"windowSeconds":60}"#).await;
    let wrong = eject(&phone, with(OTHER_PASSWORD)).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    assert_eq!(eject(&phone, with_code("AAAA")).await.unwrap_err(), Error::NotBackedUp, "no such method");
    signs(&phone, &addresses).await.unwrap();
    // Begun inside the window, and the proof comes outside of it: no envelope, no half.
    world.clock.pass_ms(MINUTE_MS);
    assert_eq!(eject(&phone, with(PASSWORD)).await, Err(Error::EjectNotEnabled));
    signs(&phone, &addresses).await.unwrap();

    world.enable_eject(&token, r#"{"windowSeconds":60}"#).await;
    let keys = eject(&phone, with(PASSWORD)).await.unwrap();
    keys_are_of(&world, &token, &keys, &addresses).await;
    assert!(world.client_of(&token).await.wallets.iter().all(|wallet| wallet.state == "ejecting"));
    nothing_else_works(&world, &phone, &token, &addresses, &Error::Ejecting).await;
    let id = keys.eject_id.unwrap();
    assert_eq!(phone.halfkey.cancel_recovery(id).await, Err(Error::Refused { id: "SHARE_STATE".into() }));

    // The window is long closed, the app was killed, the clock went on: the same device gets the same keys.
    world.clock.pass_ms(40 * DAY_MS);
    world.state.housekeep().await;
    let phone = phone.restarted();
    let open = Resumed::EjectOpen { eject_id: id, method: Method::Password, until: None };
    assert_eq!(phone.halfkey.resume().await, Ok(open));
    keys_are_of(&world, &token, &eject(&phone, with(PASSWORD)).await.unwrap(), &addresses).await;

    phone.halfkey.acknowledge_eject().await.unwrap();
    phone.halfkey.acknowledge_eject().await.unwrap();
    assert!(world.client_of(&token).await.wallets.iter().all(|wallet| wallet.state == "ejected"));
    nothing_else_works(&world, &phone, &token, &addresses, &Error::Ejected).await;
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing));

    // Both halves stay for 30 days, to the millisecond, and the same device may repeat.
    world.clock.pass_ms(30 * DAY_MS - MINUTE_MS);
    world.state.housekeep().await;
    admin::copied(&world.state, u64::MAX).await.unwrap();
    keys_are_of(&world, &token, &eject(&phone, with(PASSWORD)).await.unwrap(), &addresses).await;
    assert!(halves(&world).await > 0);
    // Another device does not, window or not.
    let client = world.client_of(&token).await.id;
    assert!(admin::enable_eject(&world.state, client, None).await.is_err());
    assert_eq!(eject(&world.phone(&token), with(PASSWORD)).await.unwrap_err(), Error::Ejected);

    world.clock.pass_ms(2 * MINUTE_MS);
    world.state.housekeep().await;
    assert_eq!(eject(&phone, with(PASSWORD)).await.unwrap_err(), Error::Refused { id: "SHARE_STATE".into() });
    let others = halves_of_others(&world, &token).await;
    admin::copied(&world.state, u64::MAX).await.unwrap();
    assert_eq!(halves(&world).await, others, "every half of this client is erased, and none of another");
    assert!(others > 0);
}

async fn halves(world: &World) -> i64 {
    let database = format!("sqlite:{}", world.folder.path().join("server/halfkey.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM pair_shares WHERE half IS NOT NULL").fetch_one(&pool).await.unwrap()
}

async fn halves_of_others(world: &World, token: &str) -> i64 {
    let own = world.client_of(token).await.id;
    let database = format!("sqlite:{}", world.folder.path().join("server/halfkey.db").display());
    let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM pair_shares WHERE half IS NOT NULL AND client <> $1")
        .bind(&own.as_bytes()[..])
        .fetch_one(&pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_custodian_sees_identifiers_and_windows_and_never_a_share() {
    let world = World::start().await;
    let (token, phone, _) = backed_up(&world).await;
    let client = world.client_of(&token).await.id.to_string();
    let path = |name: &str| route::path(name, &[&client]);
    let (status, listed) = world.custodian_asks("GET", &path(route::CUSTODIAN_EJECTABLE), "").await;
    assert_eq!((status, listed.get("window")), (200, None), "{listed}");
    let opened = world.enable_eject(&token, "{}").await;
    let (_, listed) = world.custodian_asks("GET", &path(route::CUSTODIAN_EJECTABLE), "").await;
    assert_eq!(listed["window"], opened);
    let backup = phone.halfkey.backup_status().await.unwrap().methods[0].backup_id.unwrap();
    let expected = serde_json::json!(["backupId", "method", "pairIds"]);
    let one = listed["results"][0].as_object().unwrap();
    assert_eq!(serde_json::json!(one.keys().collect::<Vec<_>>()), expected);
    assert_eq!((&one["backupId"], &one["method"]), (&serde_json::json!(backup), &serde_json::json!("PASSWORD")));
    assert_eq!(one["pairIds"].as_array().unwrap().len(), 2);

    let enable = path(route::CUSTODIAN_ENABLE_EJECT);
    for wrong in [r#"{"windowSeconds":0}"#, r#"{"windowSeconds":3601}"#, r#"{"windowSeconds":-1}"#, r#"{"x":1}"#] {
        let (status, answer) = world.custodian_asks("POST", &enable, wrong).await;
        assert_eq!((status, answer["error"]["id"].as_str()), (400, Some("INVALID_REQUEST")), "{wrong}");
    }
    // Another custodian cannot, nor a key whose scope is only the clients.
    let (_, foreign) = admin::create_custodian(&world.state, "another").await.unwrap();
    let (status, _) = world.custodian_asks_with(&foreign.key, "POST", &enable, "{}").await;
    assert_eq!(status, 404);
    let (status, _) = world.custodian_asks_with(&foreign.key, "GET", &path(route::CUSTODIAN_EJECTABLE), "").await;
    assert_eq!(status, 404);
    let own = admin::custodians(&world.state).await.unwrap()[0].id;
    let narrow = admin::create_key(&world.state, own, Scope::Clients).await.unwrap();
    let (status, answer) = world.custodian_asks_with(&narrow.key, "POST", &enable, "{}").await;
    assert_eq!((status, answer["error"]["id"].as_str()), (403, Some("FORBIDDEN")));
    let (status, _) = world.custodian_asks_with(&narrow.key, "GET", &path(route::CUSTODIAN_EJECTABLE), "").await;
    assert_eq!(status, 200);
}

/// Every request of an eject is lost, and every answer: the same device comes to the same keys, long after the window.
#[tokio::test]
async fn an_eject_survives_the_loss_of_any_message() {
    let world = World::start().await;
    let total = {
        let (token, phone, _) = backed_up(&world).await;
        world.enable_eject(&token, "{}").await;
        let before = phone.network.sent();
        eject(&phone, with(PASSWORD)).await.unwrap();
        phone.halfkey.acknowledge_eject().await.unwrap();
        phone.network.sent() - before
    };
    assert!(total >= 8, "the number of messages has shrunk to {total}");
    for (nth, loss) in losses(total) {
        let (token, phone, addresses) = backed_up(&world).await;
        world.enable_eject(&token, "{}").await;
        phone.network.lose(nth, loss);
        let keys = eject(&phone, with(PASSWORD)).await;
        if keys.is_ok() {
            let _ = phone.halfkey.acknowledge_eject().await;
        }
        assert!(phone.network.has_lost(), "{nth} {loss:?}: nothing was lost");
        let phone = phone.restarted();
        phone.halfkey.resume().await.unwrap();
        let ejecting = world.client_of(&token).await.wallets.iter().all(|wallet| wallet.state != "active");
        if !ejecting {
            signs(&phone, &addresses).await.unwrap_or_else(|error| panic!("{nth} {loss:?}: {error:?}"));
            world.enable_eject(&token, "{}").await;
        }
        let keys = eject(&phone, with(PASSWORD)).await.unwrap_or_else(|error| panic!("{nth} {loss:?}: {error:?}"));
        keys_are_of(&world, &token, &keys, &addresses).await;
        phone.halfkey.acknowledge_eject().await.unwrap();
        assert!(phone.blobs.peek(BlobSlot::Pending).is_some(), "it may be repeated");
    }
}

/// A device that is gone between release and acknowledgement is not the end: the custodian opens another window.
#[tokio::test]
async fn an_eject_whose_device_is_lost_is_begun_again_in_another_window() {
    let world = World::start().await;
    let (token, phone, addresses) = backed_up(&world).await;
    world.enable_eject(&token, "{}").await;
    eject(&phone, with(PASSWORD)).await.unwrap();
    world.clock.pass_ms(6 * MINUTE_MS);
    let new = world.phone(&token);
    assert_eq!(eject(&new, with(PASSWORD)).await.unwrap_err(), Error::EjectNotEnabled);
    world.enable_eject(&token, "{}").await;
    keys_are_of(&world, &token, &eject(&new, with(PASSWORD)).await.unwrap(), &addresses).await;
    new.halfkey.acknowledge_eject().await.unwrap();
    // The one that began it finds its keys too.
    keys_are_of(&world, &token, &eject(&phone, with(PASSWORD)).await.unwrap(), &addresses).await;
}

#[tokio::test]
async fn an_eject_waits_and_is_cancelled_like_a_recovery() {
    let world = World::start_with(|config| config.recovery.delay_ms = DAY_MS as u64).await;
    let (token, owner, addresses) = backed_up(&world).await;
    world.enable_eject(&token, "{}").await;
    let thief = world.phone(&token);
    let waiting = thief.halfkey.eject_private_keys(with(PASSWORD), None).await.unwrap();
    let Ejecting::Waiting { eject_id, .. } = waiting else { panic!("{waiting:?}") };
    let listed = owner.halfkey.recoveries().await.unwrap().remove(0);
    assert_eq!((listed.id, listed.state), (eject_id, RecoveryState::Waiting));
    assert_eq!(listed.purpose, RecoveryPurpose::Eject);
    assert_eq!(owner.halfkey.cancel_recovery(eject_id).await, Ok(Cancelled::Over));
    world.clock.pass_ms(DAY_MS);
    world.enable_eject(&token, "{}").await;
    let begun = thief.halfkey.eject_private_keys(with(PASSWORD), None).await;
    assert!(matches!(begun, Ok(Ejecting::Waiting { .. })), "a new one, which waits again: {begun:?}");
    signs(&owner, &addresses).await.unwrap();

    // After the delay the window is closed; only another one lets it go on.
    world.clock.pass_ms(DAY_MS);
    assert_eq!(eject(&thief, with(PASSWORD)).await.unwrap_err(), Error::EjectNotEnabled);
    signs(&owner, &addresses).await.unwrap();
}

/// What the removal of a passkey, a new password or a cancelled theft has closed stays closed for an eject.
#[tokio::test]
async fn a_replaced_or_frozen_backup_is_not_ejected() {
    let world = World::start().await;
    let (token, phone, addresses) = backed_up(&world).await;
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let old = phone.paper.code.lock().unwrap().clone().unwrap();
    world.enable_eject(&token, r#"{"windowSeconds":3600}"#).await;

    // Begun, and then the backup is replaced: the old pair is gone, with the old secret and with the new one.
    let begun = world.phone(&token);
    let wrong = eject(&begun, with(OTHER_PASSWORD)).await.unwrap_err();
    assert!(matches!(wrong, Error::WrongSecret { .. }));
    phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    for secret in [PASSWORD, OTHER_PASSWORD] {
        assert_eq!(eject(&begun, with(secret)).await.unwrap_err(), Error::Refused { id: "SHARE_STATE".into() });
    }
    let open = phone.halfkey.recoveries().await.unwrap()[0].id;
    assert_eq!(phone.halfkey.cancel_recovery(open).await, Ok(Cancelled::Over));
    let wrong = eject(&begun, with(PASSWORD)).await.unwrap_err();
    assert!(matches!(wrong, Error::WrongSecret { .. }), "the new backup has the new password only: {wrong:?}");

    // Another code, another pair.
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let other = world.phone(&token);
    let wrong = eject(&other, with_code(&old)).await.unwrap_err();
    assert_eq!(wrong, Error::WrongSecret { remaining: None, retry_after: None });
    signs(&phone, &addresses).await.unwrap();
}

/// A proof for the one purpose is none for the other, and none outside the window, whoever makes it.
#[tokio::test]
async fn a_proof_of_possession_is_for_one_purpose() {
    let world = World::start().await;
    let token = world.client_key().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let backup = phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let code = RecoveryCode::parse(&phone.paper.code.lock().unwrap().clone().unwrap()).unwrap();
    let (envelope, sealed) = world.stored(backup.backup_id).await;
    let client = world.client_of(&token).await.id;
    let place = recovery_code::Place { deployment: world.deployment.id(), client, backup: backup.backup_id };
    let record = Record::from_bytes(&recovery_code::open_record(&code, place, &sealed).unwrap()).unwrap();
    let (header, contents) = client_share::open_with_record(&record, &envelope).unwrap();

    let recovers = Thief::asks(&world, &token, Method::RecoveryCode, RecoveryPurpose::Recover).await;
    let misused = recovers.prove(&header, &contents, Purpose::Eject, route::RECOVERY_EJECT).await;
    assert_eq!(misused, Err("NOT_FOUND".to_owned()), "a recovery is no eject");
    world.enable_eject(&token, "{}").await;
    let ejects = Thief::asks(&world, &token, Method::RecoveryCode, RecoveryPurpose::Eject).await;
    let misused = ejects.prove(&header, &contents, Purpose::Possession, route::RECOVERY_POSSESSION).await;
    assert_eq!(misused, Err("NOT_FOUND".to_owned()), "an eject enrols no device");
    let other = ejects.prove(&header, &contents, Purpose::Possession, route::RECOVERY_EJECT).await;
    assert_eq!(other, Err("PROOF_INVALID".to_owned()));
    signs(&phone, &addresses).await.unwrap();

    // The proof is ready, and the window closes before it comes.
    let told = ejects.cipher_text().await;
    world.clock.pass_ms(5 * MINUTE_MS);
    let late = ejects.prove_with(&header, &contents, Purpose::Eject, route::RECOVERY_EJECT, told).await;
    assert_eq!(late, Err("EJECT_NOT_ENABLED".to_owned()));
    signs(&phone, &addresses).await.unwrap();

    world.enable_eject(&token, "{}").await;
    let recovered = recovers.cipher_text().await;
    // A recovery of somebody else that is open ends with the release.
    ejects.prove(&header, &contents, Purpose::Eject, route::RECOVERY_EJECT).await.unwrap();
    let possession = (Purpose::Possession, route::RECOVERY_POSSESSION);
    let over = recovers.prove_with(&header, &contents, possession.0, possession.1, recovered).await;
    assert_eq!(over, Err("SHARE_STATE".to_owned()));
    // The same device with another one-time key gets nothing more.
    let other = ejects.prove(&header, &contents, Purpose::Eject, route::RECOVERY_EJECT).await;
    assert_eq!(other, Err("CEREMONY_MISMATCH".to_owned()));
    assert_eq!(signs(&phone, &addresses).await, Err(Error::Ejecting));
}
