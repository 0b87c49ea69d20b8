//! Revoking devices, removing methods, and the signature that nobody can read.

use halfkey_client::{BackupMethod, Command, Error, Halfkey, OldDevices, Payload, Recovering};
use halfkey_envelope::{
    id::DeviceId,
    wallet::{Curve, Method},
};

use super::{
    signs, solana_payload,
    world::{PASSWORD, Phone, World, backup_with, recover, with, with_code},
};

/// The ids of the devices that count, the oldest first.
async fn device_ids(phone: &Phone) -> Vec<DeviceId> {
    let mut devices = phone.halfkey.devices().await.unwrap();
    devices.retain(|device| device.revoked_at.is_none());
    devices.sort_by_key(|device| device.created_at);
    devices.iter().map(|device| device.id).collect()
}

#[tokio::test]
async fn a_revoked_device_does_nothing_and_the_last_one_stays() {
    let world = World::start().await;
    let token = world.client().await;
    let first = world.phone(&token);
    let addresses = first.halfkey.create_wallet().await.unwrap();
    let own = device_ids(&first).await[0];
    assert_eq!(first.halfkey.revoke_device(own).await, Err(Error::LastProtection), "no backup at all");
    first.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert_eq!(first.halfkey.revoke_device(own).await, Err(Error::LastProtection), "nothing else that signs");

    let second = world.phone(&token);
    recover(&second, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
    signs(&second, &addresses).await.unwrap();
    let ids = device_ids(&first).await;
    assert_eq!((ids.len(), ids[0]), (2, own));
    first.halfkey.revoke_device(ids[1]).await.unwrap();
    first.halfkey.revoke_device(ids[1]).await.unwrap();
    assert_eq!(signs(&second, &addresses).await, Err(Error::DeviceRevoked));
    assert_eq!(second.halfkey.revoke_device(own).await, Err(Error::DeviceRevoked));
    assert_eq!(second.halfkey.remove_backup_method(Method::Password).await, Err(Error::DeviceRevoked));
    let elsewhere = second.halfkey.verify_backup(with(PASSWORD)).await;
    assert_eq!(elsewhere, Err(Error::DeviceRevoked));

    assert_eq!(first.halfkey.revoke_device(own).await, Err(Error::LastProtection));
    signs(&first, &addresses).await.unwrap();
    let stranger = world.phone(&world.client().await);
    stranger.halfkey.create_wallet().await.unwrap();
    let foreign = stranger.halfkey.revoke_device(own).await;
    assert_eq!(foreign, Err(Error::Refused { id: "NOT_FOUND".into() }), "another client's device");
    // What was revoked may come back by a recovery, as a new device.
    recover(&second, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
    signs(&second, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_removed_method_opens_nothing_and_the_last_proven_one_stays() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    assert!(matches!(phone.halfkey.remove_backup_method(Method::Password).await, Err(Error::Refused { .. })));
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let code = phone.paper.code.lock().unwrap().clone().unwrap();
    phone.halfkey.verify_backup(with_code(&code)).await.unwrap();

    phone.halfkey.remove_backup_method(Method::RecoveryCode).await.unwrap();
    assert_eq!(phone.halfkey.available_recovery_methods().await.unwrap(), [Method::Password]);
    assert_eq!(phone.halfkey.verify_backup(with_code(&code)).await, Err(Error::NotBackedUp));
    let new = world.phone(&token);
    let removed = recover(&new, with_code(&code), OldDevices::Keep, None).await;
    assert_eq!(removed, Err(Error::NotBackedUp));
    assert_eq!(phone.halfkey.remove_backup_method(Method::Password).await, Err(Error::LastProtection));
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());

    recover(&new, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&new, &addresses).await.unwrap();
    // Made anew, the method opens again, with its new code alone.
    phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
    let renewed = phone.paper.code.lock().unwrap().clone().unwrap();
    let wrong = phone.halfkey.verify_backup(with_code(&code)).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: None, retry_after: None }));
    phone.halfkey.verify_backup(with_code(&renewed)).await.unwrap();
    phone.halfkey.remove_backup_method(Method::Password).await.unwrap();
    assert_eq!(phone.halfkey.available_recovery_methods().await.unwrap(), [Method::RecoveryCode]);
}

#[tokio::test]
async fn a_bare_digest_is_not_signed_where_the_descriptor_does_not_allow_it() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    for curve in Curve::ALL {
        assert_eq!(phone.halfkey.danger_sign_digest(curve, [7; 32]).await, Err(Error::InvalidPayload));
        let digest = Payload::Digest32 { curve, digest: [7; 32] };
        assert_eq!(phone.halfkey.sign(digest).await, Err(Error::InvalidPayload));
    }
    assert_eq!(phone.network.sent(), before, "the server was not even asked");
}

#[tokio::test]
async fn a_bare_digest_is_signed_where_the_descriptor_allows_it() {
    let world = World::start_with(|config| config.allow_digest = true).await;
    let phone = world.phone(&world.client().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let digest = [0xa7; 32];
    let done = phone.halfkey.danger_sign_digest(Curve::Secp256k1, digest).await.unwrap();
    assert_eq!((done.curve, done.signed), (Curve::Secp256k1, None));
    let signature = k256::ecdsa::Signature::from_slice(&done.signature).unwrap();
    let recovery = k256::ecdsa::RecoveryId::from_byte(done.recovery_id.unwrap()).unwrap();
    let key = k256::ecdsa::VerifyingKey::recover_from_prehash(&digest, &signature, recovery).unwrap();
    let key = halfkey_api::chain::Secp256k1Key::parse(key.to_sec1_point(true).as_bytes()).unwrap();
    assert_eq!(halfkey_api::chain::ethereum::address(&key), addresses.ethereum);

    let done = phone.halfkey.danger_sign_digest(Curve::Ed25519, digest).await.unwrap();
    assert_eq!((done.curve, done.recovery_id, done.signed), (Curve::Ed25519, None, None));
    let (_, key) = solana_payload(&addresses);
    let verifier = ed25519_dalek::VerifyingKey::from_bytes(&key.to_bytes()).unwrap();
    verifier.verify_strict(&digest, &ed25519_dalek::Signature::from_bytes(&done.signature)).unwrap();
    // The plain verb refuses it all the same: the dangerous one must be named.
    let plain = phone.halfkey.sign(Payload::Digest32 { curve: Curve::Secp256k1, digest }).await;
    assert_eq!(plain, Err(Error::InvalidPayload));
}

/// Apps run calls on the threads of their runtime: every future may go from one to another. Checked by the compiler.
#[allow(dead_code, reason = "it is enough that it compiles")]
fn every_call_may_change_its_thread(halfkey: &Halfkey) {
    fn send<T>(_: impl Future<Output = T> + Send) {}
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Halfkey>();
    shared::<Recovering>();
    shared::<Error>();
    send(halfkey.run(Command::Resume));
    send(halfkey.create_wallet());
    send(halfkey.addresses());
    send(halfkey.backup_wallet(BackupMethod::RecoveryCode));
    send(halfkey.change_password(halfkey_client::Password::new(""), halfkey_client::PasswordKind::Pin));
    send(halfkey.is_wallet_backed_up());
    send(halfkey.available_recovery_methods());
    send(halfkey.backup_status());
    send(halfkey.verify_backup(with("")));
    send(halfkey.recover_wallet(with(""), OldDevices::Keep, None));
    send(halfkey.resume_recovery(with(""), None));
    send(halfkey.recoveries());
    send(halfkey.cancel_recovery(halfkey_envelope::id::RecoveryId::from_bytes([0; 16])));
    send(halfkey.sign(Payload::EthMessage(Vec::new())));
    send(halfkey.danger_sign_digest(Curve::Ed25519, [0; 32]));
    send(halfkey.devices());
    send(halfkey.revoke_device(DeviceId::from_bytes([0; 16])));
    send(halfkey.remove_backup_method(Method::Password));
    send(halfkey.does_wallet_exist());
    send(halfkey.is_wallet_on_device());
    send(halfkey.resume());
}
