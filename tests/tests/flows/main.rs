//! The SDK against the server's router and a guesskeeper: every verb, and what a lost answer leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ahead;
mod all_of;
mod clouds;
mod custom;
mod devices;
mod drill;
mod drive;
mod eject;
mod exit_kit;
mod faults;
mod frozen;
mod heal;
mod hook;
mod left_over;
mod notice;
mod passkeys;
mod protection;
mod raw;
mod theft;
mod waiting;
mod webhooks;
mod world;

use halfkey_api::{
    chain::{Ed25519Key, PublicKey, ethereum, solana},
    signing::{self, Capabilities, Payload, SolanaTransfer},
};
use halfkey_client::{Addresses, BlobSlot, Error, Identity, OldDevices, Resumed, Stage};
use halfkey_envelope::wallet::{Curve, Method};
use world::{Loss, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with, with_code};

fn solana_payload(addresses: &Addresses) -> (Payload, Ed25519Key) {
    let mut key = [0u8; 32];
    assert_eq!(bs58::decode(&addresses.solana).onto(&mut key[..]).unwrap(), 32);
    let from = Ed25519Key::parse(&key).unwrap();
    let to = bs58::encode([7u8; 32]).into_string();
    let transfer = SolanaTransfer { from, to: to.clone(), lamports: 1, recent_blockhash: to };
    (transfer.payload().unwrap(), from)
}

/// Signs on both curves; the signatures are judged by the libraries themselves, against the addresses.
async fn signs(phone: &Phone, addresses: &Addresses) -> Result<(), Error> {
    let payload = Payload::EthMessage(b"hello".to_vec());
    let done = phone.halfkey.sign(payload.clone()).await?;
    let digest = keccak(b"\x19Ethereum Signed Message:\n5hello");
    let signature = k256::ecdsa::Signature::from_slice(&done.signature).unwrap();
    let recovery = k256::ecdsa::RecoveryId::from_byte(done.recovery_id.unwrap()).unwrap();
    let key = k256::ecdsa::VerifyingKey::recover_from_prehash(&digest, &signature, recovery).unwrap();
    let key = halfkey_api::chain::Secp256k1Key::parse(key.to_sec1_point(true).as_bytes()).unwrap();
    assert_eq!(ethereum::address(&key), addresses.ethereum);

    let (payload, key) = solana_payload(addresses);
    let done = phone.halfkey.sign(payload.clone()).await?;
    assert_eq!(solana::address(&key), addresses.solana);
    let message = signing::decode(&payload, &PublicKey::Ed25519(key), Capabilities::default()).unwrap();
    let verifier = ed25519_dalek::VerifyingKey::from_bytes(&key.to_bytes()).unwrap();
    let signature = ed25519_dalek::Signature::from_bytes(&done.signature);
    verifier.verify_strict(message.bytes(), &signature).unwrap();
    Ok(())
}

fn keccak(bytes: &[u8]) -> [u8; 32] {
    use sha3::{Digest, Keccak256};
    Keccak256::digest(bytes).into()
}

#[tokio::test]
async fn a_wallet_is_made_backed_up_lost_recovered_and_signs_again() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    assert!(!old.halfkey.does_wallet_exist().await.unwrap());
    let addresses = old.halfkey.create_wallet().await.unwrap();
    signs(&old, &addresses).await.unwrap();
    assert_eq!(old.halfkey.create_wallet().await, Err(Error::WalletAlreadyExists));
    assert!(!old.halfkey.is_wallet_backed_up().await.unwrap());
    let backup = old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert_eq!((backup.method, backup.share_ids.len()), (Method::Password, 2));
    assert!(old.halfkey.is_wallet_backed_up().await.unwrap());
    assert_eq!(old.halfkey.available_recovery_methods().await.unwrap(), [Method::Password]);

    let new = world.phone(&token);
    let wrong = recover(&new, with("not the password"), OldDevices::Revoke, None).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    assert!(!new.halfkey.is_wallet_on_device().await.unwrap());
    let recovered = recover(&new, with(PASSWORD), OldDevices::Revoke, Some(addresses.clone())).await.unwrap();
    assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Confirmed));
    let fresh = recovered.fresh_backup.unwrap();
    assert_ne!(fresh.backup_id, backup.backup_id);
    assert_eq!(new.halfkey.addresses().await.unwrap(), addresses);
    signs(&new, &addresses).await.unwrap();

    assert_eq!(signs(&old, &addresses).await, Err(Error::DeviceRevoked));
    assert_eq!(old.halfkey.backup_wallet(backup_with(PASSWORD)).await, Err(Error::DeviceRevoked));
    let revoked = new.halfkey.devices().await.unwrap().into_iter().filter(|device| device.revoked_at.is_some());
    assert_eq!(revoked.count(), 1);

    let verified = new.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
    assert_eq!(verified.backup_id, fresh.backup_id);
    assert!(verified.curves.iter().map(|drill| drill.curve).eq(Curve::ALL));
    let status = new.halfkey.backup_status().await.unwrap();
    assert_eq!(status.methods[0].verified_at, Some(verified.verified_at));
    let wrong = new.halfkey.verify_backup(with(OTHER_PASSWORD)).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
}

#[tokio::test]
async fn a_recovery_code_is_confirmed_recovers_and_stays_the_same() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.paper.typos.store(3, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(old.halfkey.backup_wallet(halfkey_client::BackupMethod::RecoveryCode).await, Err(Error::NotConfirmed));
    assert!(!old.halfkey.is_wallet_backed_up().await.unwrap());
    old.paper.typos.store(2, std::sync::atomic::Ordering::SeqCst);
    old.halfkey.backup_wallet(halfkey_client::BackupMethod::RecoveryCode).await.unwrap();
    let code = old.paper.code.lock().unwrap().clone().unwrap();
    old.halfkey.verify_backup(with_code(&code)).await.unwrap();

    let new = world.phone(&token);
    assert_eq!(recover(&new, with_code("rubbish"), OldDevices::Keep, None).await, Err(Error::NotACode));
    let other = halfkey_envelope::recovery_code::RecoveryCode::generate(
        &mut halfkey_envelope::entropy::DangerSeededEntropy::new(99),
    );
    let wrong = recover(&new, with_code(&other.display()), OldDevices::Keep, None).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: None, retry_after: None }));
    let recovered = recover(&new, with_code(&code), OldDevices::Keep, None).await.unwrap();
    assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Unconfirmed));
    recovered.fresh_backup.unwrap();
    signs(&new, &addresses).await.unwrap();
    signs(&old, &addresses).await.unwrap();

    let third = world.phone(&token);
    let recovered = recover(&third, with_code(&code), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    assert_eq!(recovered.identity, Identity::Confirmed);
    signs(&third, &addresses).await.unwrap();
}

#[tokio::test]
async fn after_a_change_of_password_the_old_one_opens_nothing() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let password = halfkey_client::Password::new(OTHER_PASSWORD);
    phone.halfkey.change_password(password, halfkey_client::PasswordKind::Password).await.unwrap();
    let new = world.phone(&token);
    let old = recover(&new, with(PASSWORD), OldDevices::Keep, None).await;
    assert_eq!(old, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, None).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn locked_out_the_wallet_still_signs_and_is_backed_up_again() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let thief = world.phone(&token);
    for guess in 0..10u32 {
        let wrong = recover(&thief, with(&format!("guess number {guess}")), OldDevices::Keep, None).await;
        let expected = match guess {
            9 => Error::LockedOut,
            _ => Error::WrongSecret { remaining: Some(9 - guess), retry_after: None },
        };
        assert_eq!(wrong, Err(expected), "guess {guess}");
    }
    assert_eq!(recover(&thief, with(PASSWORD), OldDevices::Keep, None).await, Err(Error::LockedOut));
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap(), "a door that is closed for good protects nothing");
    assert!(phone.halfkey.available_recovery_methods().await.unwrap().is_empty());
    signs(&phone, &addresses).await.unwrap();
    phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    let new = world.phone(&token);
    recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_pin_that_many_choose_is_refused_before_anything_is_changed() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    let pin = |digits: &str| halfkey_client::BackupMethod::Password {
        password: halfkey_client::Password::new(digits),
        kind: halfkey_client::PasswordKind::Pin,
    };
    for weak in ["123456", "1234", "111111", "12a456"] {
        let refused = phone.halfkey.backup_wallet(pin(weak)).await;
        assert!(matches!(refused, Err(Error::WeakSecret(_))), "{weak}: {refused:?}");
    }
    assert!(matches!(phone.halfkey.backup_wallet(backup_with("password")).await, Err(Error::WeakSecret(_))));
    assert_eq!(phone.network.sent(), before);
    phone.halfkey.backup_wallet(pin("739105")).await.unwrap();
    // The same digits in another script are the same PIN.
    phone.halfkey.verify_backup(with("\u{667}\u{663}\u{669}\u{661}\u{660}\u{665}")).await.unwrap();
}

#[tokio::test]
async fn two_operations_at_once_one_wins() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    let backup = || phone.halfkey.backup_wallet(backup_with(PASSWORD));
    let (one, two) = tokio::join!(backup(), backup());
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(two, Err(Error::OperationInProgress));
    backup().await.unwrap();
}

#[tokio::test]
async fn progress_goes_one_way_and_ends_with_done() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.progress.lock().unwrap().clear();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let reports = phone.progress.lock().unwrap().clone();
    assert!(reports.windows(2).all(|pair| pair[0].done <= pair[1].done), "{reports:?}");
    let last = reports.last().unwrap();
    assert_eq!((last.stage, last.done), (Stage::Done, last.total));
    let stages: Vec<_> = reports.iter().map(|report| report.stage.text()).collect();
    for stage in
        ["Reading share", "Generating share", "Encrypting share", "Storing share", "Decrypting share", "Parsing share"]
    {
        assert!(stages.contains(&stage), "{stage} is missing: {stages:?}");
    }
}

/// Every request of a creation is lost, and every answer: the wallet is there in the end, and only one.
#[tokio::test]
async fn a_creation_survives_the_loss_of_any_message() {
    let world = World::start().await;
    let total = {
        let phone = world.phone(&world.client().await);
        phone.halfkey.create_wallet().await.unwrap();
        phone.network.sent()
    };
    assert!(total >= 6, "the number of messages has shrunk to {total}");
    for (nth, loss) in losses(total) {
        let phone = world.phone(&world.client().await);
        phone.network.lose(nth, loss);
        let failed = phone.halfkey.create_wallet().await;
        assert!(matches!(failed, Err(Error::Transport(_))), "{nth} {loss:?}: {failed:?}");
        let phone = phone.restarted();
        let resumed = phone.halfkey.resume().await.unwrap();
        if resumed != Resumed::WalletCompleted {
            phone.halfkey.create_wallet().await.unwrap_or_else(|error| panic!("{nth} {loss:?}: {error:?}"));
        }
        let addresses = phone.halfkey.addresses().await.unwrap();
        signs(&phone, &addresses).await.unwrap();
        assert_eq!(phone.blobs.peek(BlobSlot::Pending), None, "{nth} {loss:?}");
        assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing));
    }
}

/// Every request of a backup is lost, and every answer: the older backup or the newer one recovers, and the wallet
/// signs and backs up again.
#[tokio::test]
async fn a_backup_survives_the_loss_of_any_message() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let total = phone.network.sent() - before;
    assert!(total >= 10, "the number of messages has shrunk to {total}");
    for (nth, loss) in losses(total) {
        phone.network.lose(nth, loss);
        let result = phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await;
        assert!(phone.network.has_lost(), "{nth} {loss:?}: nothing was lost");
        let again = phone.restarted();
        let resumed = again.halfkey.resume().await.unwrap();
        let committed = result.is_ok() || resumed == Resumed::BackupCompleted(Method::Password);
        let opens = if committed { OTHER_PASSWORD } else { PASSWORD };
        again.halfkey.verify_backup(with(opens)).await.unwrap_or_else(|error| panic!("{nth} {loss:?}: {error:?}"));
        signs(&again, &addresses).await.unwrap();
        again.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
        assert_eq!(again.halfkey.resume().await, Ok(Resumed::Nothing), "{nth} {loss:?}");
    }
}

/// Every answer of a recovery is lost, and many a request: the same phone comes to its end.
#[tokio::test]
async fn a_recovery_survives_the_loss_of_any_message() {
    let world = World::start().await;
    let token = world.client().await;
    let first = world.phone(&token);
    let addresses = first.halfkey.create_wallet().await.unwrap();
    first.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let total = {
        let phone = world.phone(&token);
        recover(&phone, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
        phone.network.sent()
    };
    assert!(total >= 18, "the number of messages has shrunk to {total}");
    for (nth, loss) in losses(total) {
        let phone = world.phone(&token);
        phone.network.lose(nth, loss);
        let _ = recover(&phone, with(PASSWORD), OldDevices::Keep, None).await;
        assert!(phone.network.has_lost(), "{nth} {loss:?}: nothing was lost");
        let phone = phone.restarted();
        let resumed = phone.halfkey.resume().await.unwrap();
        if !phone.halfkey.is_wallet_on_device().await.unwrap() {
            let recovered = recover(&phone, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await;
            recovered.unwrap_or_else(|error| panic!("{nth} {loss:?} after {resumed:?}: {error:?}"));
        }
        assert_eq!(phone.halfkey.addresses().await.unwrap(), addresses);
        signs(&phone, &addresses).await.unwrap();
        assert_eq!(phone.blobs.peek(BlobSlot::Pending), None, "{nth} {loss:?}");
        phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    }
}

/// A lost request leaves less behind than a lost answer: every third will do.
fn losses(total: usize) -> impl Iterator<Item = (usize, Loss)> {
    let answers = (0..total).map(|nth| (nth, Loss::Answer));
    answers.chain((0..total).step_by(3).map(|nth| (nth, Loss::Request)))
}

#[tokio::test]
async fn a_guess_whose_answer_is_lost_is_counted_once() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let thief = world.phone(&token);
    let total = {
        let wrong = recover(&thief, with("not the password"), OldDevices::Keep, None).await;
        assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
        thief.network.sent()
    };
    // The last message of a wrong guess is the guess.
    let again = world.phone(&token);
    again.network.lose(total - 1, Loss::Answer);
    let wrong = recover(&again, with("not the password"), OldDevices::Keep, None).await;
    assert!(again.network.has_lost());
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(8), retry_after: None }));
}

/// Puts `field` of one JSON answer to another value.
fn change(body: &[u8], field: &str, value: &serde_json::Value) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(body).unwrap();
    json[field] = value.clone();
    serde_json::to_vec(&json).unwrap()
}

#[tokio::test]
async fn an_older_envelope_is_a_rollback_and_nothing_is_taken_from_it() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    phone.halfkey.create_wallet().await.unwrap();
    let older = phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let newer = phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let new = world.phone(&token);
    let envelope = older.cipher_text.clone();
    new.network.tamper(move |path, body| {
        if !path.ends_with("/cipher-text") {
            return body;
        }
        let digest = halfkey_envelope::client_share::digest(&envelope);
        let text = serde_json::to_value(halfkey_api::bytes::Base64(envelope.clone())).unwrap();
        change(&change(&body, "cipherText", &text), "digest", &hex::encode(digest).into())
    });
    let refused = recover(&new, with(PASSWORD), OldDevices::Keep, None).await;
    assert_eq!(refused, Err(Error::Rollback { have: older.backup_id, want: newer.backup_id }));
    assert!(!new.halfkey.is_wallet_on_device().await.unwrap());
    new.network.honest();
    recover(&new, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
}

#[tokio::test]
async fn a_receipt_that_the_pinned_server_did_not_sign_is_no_receipt() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.network.tamper(|path, body| match path.ends_with("/commit") {
        true => change(&body, "committedAt", &7.into()),
        false => body,
    });
    let refused = phone.halfkey.backup_wallet(backup_with(PASSWORD)).await;
    assert_eq!(refused, Err(Error::PeerMisbehaved { what: "RECEIPT" }));
    phone.network.honest();
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::BackupCompleted(Method::Password)));
}

/// The device calls a backup complete only after it has read the envelope back as it sealed it (PROTOCOL.md 5, T8).
#[tokio::test]
async fn t08_a_backup_that_is_not_read_back_as_it_was_sealed_is_never_complete() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.network.tamper(|path, body| match path.ends_with("/cipher-text") && !body.is_empty() {
        true => change(&body, "cipherText", &serde_json::json!("AAAA")),
        false => body,
    });
    let refused = phone.halfkey.backup_wallet(backup_with(PASSWORD)).await;
    assert_eq!(refused, Err(Error::PeerMisbehaved { what: "ENVELOPE" }));
    phone.network.honest();
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert!(phone.halfkey.is_wallet_backed_up().await.unwrap());
}

#[tokio::test]
async fn another_wallet_than_expected_is_refused_before_possession_is_proven() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let stranger = world.phone(&world.client().await);
    let elsewhere = stranger.halfkey.create_wallet().await.unwrap();
    let new = world.phone(&token);
    let refused = recover(&new, with(PASSWORD), OldDevices::Revoke, Some(elsewhere)).await;
    assert_eq!(refused, Err(Error::IdentityMismatch));
    assert_eq!(new.halfkey.devices().await.unwrap().len(), 1, "no device was enrolled");
}
