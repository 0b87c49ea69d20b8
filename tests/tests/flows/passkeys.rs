//! Passkey backups through the SDK, the server and a real keeper: every mode, several passkeys, and what goes wrong.

use halfkey_api::{
    bytes::Base64,
    error::ErrorId,
    message::{CipherText, DoorContext, MethodKeyStatement, PasskeyDoorRequest, RecoveryPurpose},
    route,
};
use halfkey_client::{
    Addresses, Backup, BackupMethod, Error, Identity, OldDevices, PasskeyBackup, PasskeyChange, PasskeyMode,
    Protection, ProtectionReason, Recovered, RecoveryMethod, Resumed,
};
use halfkey_envelope::wallet::Method;
use halfkey_protocol::proof::Purpose;
use halfkey_tests::{
    authenticator::{Asked, Authenticator, Both, Mood, PrfKind},
    keeper::{Keeper, policy as keeper_policy},
};

use crate::{
    raw::Thief,
    signs,
    world::{Loss, ORIGIN, PASSWORD, Phone, World, backup_with, recover, with},
};

/// A backup by passkeys in this mode.
pub fn passkey(mode: PasskeyMode) -> BackupMethod {
    changed(Some(mode), PasskeyChange::Keep)
}

fn changed(mode: Option<PasskeyMode>, change: PasskeyChange) -> BackupMethod {
    BackupMethod::Passkey(PasskeyBackup { mode, change })
}

async fn by_passkey(phone: &Phone, addresses: &Addresses) -> Result<Recovered, Error> {
    recover(phone, RecoveryMethod::Passkey, OldDevices::Keep, Some(addresses.clone())).await
}

/// A phone with a wallet, and its user's passkeys.
async fn start(world: &World, seed: u64) -> (String, Authenticator, Phone, Addresses) {
    let (token, provider) = (world.client_key().await, Authenticator::new(seed, ORIGIN));
    let phone = world.phone_of(&token, &provider);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    (token, provider, phone, addresses)
}

/// Every mode, with how its PRF answers, and what the user is asked for a first backup.
fn modes() -> Vec<(PasskeyMode, PrfKind, Vec<Asked>)> {
    let (create, get) = (Asked::Create(0), Asked::Get(1));
    vec![
        (PasskeyMode::Keeper, PrfKind::None, vec![create.clone(), get.clone()]),
        // What is computed at creation counts as the first time; otherwise the passkey is used twice.
        (PasskeyMode::Prf, PrfKind::AtCreation, vec![create.clone(), get.clone()]),
        (PasskeyMode::Prf, PrfKind::AtUse, vec![create.clone(), get.clone(), get.clone()]),
        (PasskeyMode::KeeperAndPrf, PrfKind::AtCreation, vec![create.clone(), get.clone()]),
        (PasskeyMode::KeeperAndPrf, PrfKind::AtUse, vec![create, get.clone(), get]),
    ]
}

#[tokio::test]
async fn in_every_mode_a_wallet_is_backed_up_lost_recovered_and_signs_again() {
    let world = World::start().await;
    for (seed, (mode, prf, prompts)) in modes().into_iter().enumerate() {
        let (token, provider, old, addresses) = start(&world, seed as u64).await;
        provider.prf(prf);
        let backup = old.halfkey.backup_wallet(passkey(mode)).await.unwrap();
        assert_eq!(provider.asked(), prompts, "{mode} {prf:?}");
        assert_eq!((&backup.method, backup.device_bound), (&Method::Passkey, false));
        assert!(old.halfkey.is_wallet_backed_up().await.unwrap());
        assert_eq!(old.halfkey.available_recovery_methods().await.unwrap(), [Method::Passkey]);
        let status = old.halfkey.backup_status().await.unwrap();
        assert_eq!(status.methods[0].asserted_method_key, Some(MethodKeyStatement::ReadBack));
        drop(old);

        // Twice: the fresh backup that a recovery leaves behind opens too, and asks for nothing itself.
        let mut before = backup.backup_id;
        for round in 0..2 {
            let new = world.phone_of(&token, &provider);
            let recovered = by_passkey(&new, &addresses).await.unwrap();
            assert_eq!(provider.asked(), [Asked::Get(1)], "{mode} {prf:?} {round}");
            assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Confirmed));
            let fresh = recovered.fresh_backup.unwrap();
            assert_ne!(fresh.backup_id, before);
            before = fresh.backup_id;
            signs(&new, &addresses).await.unwrap();
            assert!(new.halfkey.is_wallet_backed_up().await.unwrap());
            let list = new.halfkey.passkeys().await.unwrap();
            assert_eq!((list.backup_id, list.mode, list.passkeys.len()), (before, mode, 1), "it is this device's own");
            let status = new.halfkey.backup_status().await.unwrap();
            let read = mode == PasskeyMode::Prf;
            let stated = if read { MethodKeyStatement::ReadBack } else { MethodKeyStatement::Unread };
            assert_eq!(status.methods[0].asserted_method_key, Some(stated), "{mode}");
            let verified = new.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
            assert_eq!(verified.backup_id, before);
            assert_eq!(provider.asked(), [Asked::Get(1)]);
        }
        assert_eq!(provider.holds(), 1, "no passkey was made but the first");
    }
}

#[tokio::test]
async fn any_of_several_passkeys_opens_and_a_removed_one_opens_nothing_that_counts() {
    let world = World::start().await;
    for (seed, mode) in PasskeyMode::ALL.into_iter().enumerate() {
        let (token, home, phone, addresses) = start(&world, 10 + seed as u64).await;
        phone.halfkey.backup_wallet(passkey(mode)).await.unwrap();
        home.asked();
        // The same stores, and another provider's sheet.
        let key = Authenticator::new(20 + seed as u64, ORIGIN);
        let both = Both(home.clone(), key.clone());
        let phone = phone.with_provider(&both);
        let added = phone.halfkey.add_passkey().await.unwrap();
        assert_eq!((home.holds(), key.holds()), (1, 1));
        let list = phone.halfkey.passkeys().await.unwrap();
        assert_eq!((list.backup_id, list.mode, list.passkeys.len()), (added.backup_id, mode, 2));

        for provider in [&home, &key] {
            let new = world.phone_of(&token, provider);
            new.halfkey.is_wallet_on_device().await.unwrap();
            let recovered = by_passkey(&new, &addresses).await.unwrap();
            signs(&new, &addresses).await.unwrap();
            match (mode, recovered.fresh_backup) {
                (PasskeyMode::Keeper, fresh) => assert_eq!(fresh.unwrap().method, Method::Passkey),
                // The other passkey would have to compute its secret anew.
                (_, fresh) => {
                    assert_eq!(fresh, Err(Error::PromptNeeded));
                    assert_eq!(new.halfkey.passkeys().await.unwrap().passkeys.len(), 2, "it knows them all");
                }
            }
        }

        let newest = world.phone_of(&token, &both);
        by_passkey(&newest, &addresses).await.unwrap();
        let again = newest.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await.unwrap();
        let list = newest.halfkey.passkeys().await.unwrap();
        assert_eq!((list.backup_id, list.mode, list.passkeys.len()), (again.backup_id, mode, 2), "nothing is dropped");
        let first = list.passkeys[0].id.clone();
        assert_eq!(newest.halfkey.remove_passkey(vec![1; 20]).await, Err(Error::UnknownPasskey));
        newest.halfkey.remove_passkey(first.clone()).await.unwrap();
        let left = newest.halfkey.passkeys().await.unwrap().passkeys;
        assert_eq!(left.len(), 1);
        assert_ne!(left[0].id, first);
        assert_eq!(newest.halfkey.remove_passkey(left[0].id.clone()).await, Err(Error::LastPasskey));

        let removed = world.phone_of(&token, &home);
        assert_eq!(by_passkey(&removed, &addresses).await, Err(Error::NoPasskey { others: vec![] }), "{mode}");
        let kept = world.phone_of(&token, &key);
        by_passkey(&kept, &addresses).await.unwrap().fresh_backup.unwrap();
        signs(&kept, &addresses).await.unwrap();
    }
}

/// Nothing changed on either side, at whichever prompt the user turns away, and the older backup still opens.
#[tokio::test]
async fn a_sheet_that_is_closed_changes_nothing() {
    let world = World::start().await;
    for (seed, (mode, prf, prompts)) in modes().into_iter().enumerate() {
        let (token, provider, phone, addresses) = start(&world, 30 + seed as u64).await;
        provider.prf(prf);
        for at in 0..prompts.len() {
            provider.mood(Mood::Cancels(at));
            assert_eq!(phone.halfkey.backup_wallet(passkey(mode)).await, Err(Error::Cancelled), "{mode} {at}");
            assert_eq!(phone.halfkey.backup_status().await.unwrap().methods, [], "no backup, not even a pending one");
        }
        provider.mood(Mood::Works);
        let backup = phone.halfkey.backup_wallet(passkey(mode)).await.unwrap();
        let mut before = phone.halfkey.backup_status().await.unwrap();
        // Also where the new one would replace it: no passkey of the old one is overwritten.
        let used = if mode.has_prf() { 2 } else { 1 };
        for (change, sheets) in [(PasskeyChange::Keep, used), (PasskeyChange::Replace, prompts.len())] {
            for at in 0..sheets {
                provider.mood(Mood::Cancels(at));
                let cancelled = phone.halfkey.backup_wallet(changed(None, change.clone())).await;
                assert_eq!(cancelled, Err(Error::Cancelled), "{mode} {change:?} {at}");
                assert_eq!(phone.halfkey.backup_status().await.unwrap(), before);
                provider.mood(Mood::Works);
                let verified = phone.restarted().halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
                assert_eq!(verified.backup_id, backup.backup_id);
                before.methods[0].verified_at = Some(verified.verified_at);
            }
            assert_eq!(phone.halfkey.passkeys().await.unwrap().passkeys.len(), 1);
        }
        let before = phone.halfkey.backup_status().await.unwrap();
        let new = world.phone_of(&token, &provider);
        provider.mood(Mood::Cancels(0));
        assert_eq!(by_passkey(&new, &addresses).await, Err(Error::Cancelled));
        assert_eq!(new.halfkey.verify_backup(RecoveryMethod::Passkey).await, Err(Error::NoWalletOnDevice));
        assert_eq!(new.halfkey.backup_status().await.unwrap(), before);
        provider.mood(Mood::Works);
        by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
        signs(&new, &addresses).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_passkey_the_other_ways_are_named() {
    let world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 40).await;
    assert_eq!(phone.halfkey.passkeys().await, Err(Error::NotBackedUp));
    assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::Passkey).await, Err(Error::NotBackedUp));
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let stranger = world.phone_of(&token, &Authenticator::new(41, ORIGIN));
    let refused = by_passkey(&stranger, &addresses).await;
    assert_eq!(refused, Err(Error::NoPasskey { others: vec![Method::Password] }));
    provider.forget();
    let refused = phone.halfkey.verify_backup(RecoveryMethod::Passkey).await;
    assert_eq!(refused, Err(Error::NoPasskey { others: vec![Method::Password] }));
    recover(&stranger, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&stranger, &addresses).await.unwrap();

    // An app without the host's sheet, and one that names no relying party.
    let bare = world.phone(&token);
    let refused = recover(&bare, RecoveryMethod::Passkey, OldDevices::Keep, None).await;
    assert_eq!(refused, Err(Error::HostIncomplete { what: "Passkeys" }));
    assert_eq!(bare.halfkey.available_recovery_methods().await.unwrap(), [Method::Password]);
    let elsewhere = halfkey_client::PasskeyConfig::new("elsewhere.example", ["https://elsewhere.example"]);
    assert_eq!(bare.halfkey.configure_passkey_storage(elsewhere), Err(Error::UntrustedRelyingParty));
    for origins in [vec![], vec!["http://wallet.example"], vec![ORIGIN, "https://wallet.example/path"]] {
        let config = halfkey_client::PasskeyConfig::new(crate::world::RELYING_PARTY, origins);
        assert_eq!(bare.halfkey.configure_passkey_storage(config), Err(Error::UntrustedRelyingParty));
    }
}

/// BS=0: the backup opens, and is never called safe.
#[tokio::test]
async fn a_passkey_on_one_device_is_reported_as_device_bound() {
    let world = World::start().await;
    let (token, key, phone, addresses) = start(&world, 42).await;
    key.synced(false);
    let backup = phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    assert!(backup.device_bound);
    let at_risk = Protection::AtRisk { reasons: vec![ProtectionReason::DeviceBound] };
    assert_eq!(backup.protection, Some(at_risk));
    assert!(phone.halfkey.is_wallet_recoverable().await.unwrap(), "by whoever has that device");
    let status = phone.halfkey.backup_status().await.unwrap();
    assert!(!status.backed_up && status.methods[0].asserted_device_bound && status.methods[0].status == "completed");
    assert!(!phone.halfkey.is_wallet_backed_up().await.unwrap());
    let list = phone.halfkey.passkeys().await.unwrap();
    assert!(list.device_bound && !list.passkeys[0].synced);
    let new = world.phone_of(&token, &key);
    let fresh = by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
    assert!(fresh.device_bound && !new.halfkey.is_wallet_backed_up().await.unwrap(), "nor after a recovery");

    // One that is kept elsewhere mends it, and its removal undoes that.
    let account = Authenticator::new(43, ORIGIN);
    let new = new.with_provider(&Both(key.clone(), account.clone()));
    assert!(!new.halfkey.add_passkey().await.unwrap().device_bound);
    assert!(new.halfkey.is_wallet_backed_up().await.unwrap());
    let list = new.halfkey.passkeys().await.unwrap();
    assert_eq!(list.passkeys.iter().map(|passkey| passkey.synced).collect::<Vec<_>>(), [false, true]);
    assert!(new.halfkey.remove_passkey(list.passkeys[1].id.clone()).await.unwrap().device_bound);
    assert!(!new.halfkey.is_wallet_backed_up().await.unwrap());
}

#[tokio::test]
async fn a_secret_that_changes_or_is_missing_holds_no_backup() {
    let world = World::start().await;
    let broken = [(PrfKind::None, Error::PrfUnsupported), (PrfKind::Unstable, Error::PrfDiffers)];
    for (seed, mode) in [PasskeyMode::Prf, PasskeyMode::KeeperAndPrf].into_iter().enumerate() {
        let (token, provider, phone, addresses) = start(&world, 44 + seed as u64).await;
        for (prf, refused) in broken.clone() {
            provider.prf(prf);
            assert_eq!(phone.halfkey.backup_wallet(passkey(mode)).await, Err(refused), "{mode} {prf:?}");
            assert_eq!(phone.halfkey.backup_status().await.unwrap().methods, []);
        }
        provider.prf(PrfKind::AtUse);
        let backup = phone.halfkey.backup_wallet(passkey(mode)).await.unwrap();
        // A provider that lost its seed, or its PRF, opens nothing; and what it does not open stays.
        let new = world.phone_of(&token, &provider);
        for (prf, refused) in broken.clone() {
            provider.prf(prf);
            assert_eq!(by_passkey(&new, &addresses).await, Err(refused.clone()), "{mode} {prf:?}");
            assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::Passkey).await, Err(refused.clone()));
            assert_eq!(phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await, Err(refused));
        }
        provider.prf(PrfKind::AtUse);
        let verified = phone.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
        assert_eq!(verified.backup_id, backup.backup_id, "{mode}");
        by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
    }
}

#[tokio::test]
async fn what_a_passkey_must_not_say_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 50).await;
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    let before = phone.halfkey.backup_status().await.unwrap();
    let new = world.phone_of(&token, &provider);
    let here = |code| Error::PasskeyRefused { code };
    for (mood, refused) in [
        (Mood::Unverified, here("USER_NOT_VERIFIED")),
        (Mood::Framed, here("CROSS_ORIGIN")),
        (Mood::Origin("https://evil.example"), here("WRONG_ORIGIN")),
    ] {
        provider.mood(mood);
        // At creation, at the opening of a new backup, and at a recovery.
        let replace = changed(None, PasskeyChange::Replace);
        assert_eq!(phone.halfkey.backup_wallet(replace).await, Err(refused.clone()), "{mood:?}");
        assert_eq!(phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await, Err(refused.clone()));
        assert_eq!(by_passkey(&new, &addresses).await, Err(refused), "{mood:?}");
    }
    // Only the keeper can tell a wrong signature.
    provider.mood(Mood::BadSignature);
    let refused = Error::KeeperRefused { code: "BAD_SIGNATURE" };
    assert_eq!(phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await, Err(refused.clone()));
    assert_eq!(by_passkey(&new, &addresses).await, Err(refused));
    assert_eq!(phone.halfkey.backup_status().await.unwrap(), before);
    provider.mood(Mood::Works);
    by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
    signs(&new, &addresses).await.unwrap();
}

fn counted(phone: &Phone) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&count);
    phone.network.tamper(move |path, body| {
        counter.fetch_add(usize::from(path == route::PASSKEY_DOOR), std::sync::atomic::Ordering::SeqCst);
        body
    });
    count
}

#[tokio::test]
async fn evidence_is_asked_for_once_a_day_and_silent_backups_speak_to_no_keeper() {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 51).await;
    let asked = counted(&phone);
    let calls = || asked.swap(0, std::sync::atomic::Ordering::SeqCst);
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    assert_eq!(calls(), 2, "evidence, and one release");
    phone.restarted().halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    assert_eq!(calls(), 1, "the evidence is kept on the device");
    world.clock.pass_ms(23 * HOUR_MS);
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    assert_eq!(calls(), 1);
    world.clock.pass_ms(HOUR_MS + 1);
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    assert_eq!(calls(), 2, "a day later it is asked for again");
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Prf)).await.unwrap();
    assert_eq!(calls(), 0, "a backup without a keeper");

    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    let new = world.phone_of(&token, &provider);
    let asked = counted(&new);
    by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
    let calls = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(calls, 2, "the release, and the new device's evidence; none for the fresh backup's opening");
}

#[tokio::test]
async fn what_was_sealed_to_an_older_key_of_the_keeper_opens_after_a_rotation() {
    let mut world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 61).await;
    phone.halfkey.backup_wallet(passkey(PasskeyMode::KeeperAndPrf)).await.unwrap();
    let old_app = world.phone_of(&token, &provider);
    let folder = world.folder.path().to_owned();
    world.passkey_keeper.rotate(&folder, "keeper", 2).await.unwrap();

    // An app with the new descriptor, and one that still has the old one: the keeper has both keys.
    let pinned = world.passkey_keeper.pinned();
    assert_eq!(pinned.key_id, 2);
    let rotated = world.trusts(|_| ()).await;
    let new_app = world.phone_trusting(&token, &provider, rotated);
    let recovered = by_passkey(&new_app, &addresses).await.unwrap();
    assert_eq!((&recovered.addresses, recovered.identity), (&addresses, Identity::Confirmed));
    signs(&new_app, &addresses).await.unwrap();
    // Its fresh backup is sealed to the new key, which the old descriptor does not name.
    recovered.fresh_backup.unwrap();
    let recovered = by_passkey(&old_app, &addresses).await.unwrap();
    assert_eq!(recovered.addresses, addresses);
    // It seals nothing to a key that it does not know.
    assert_eq!(recovered.fresh_backup, Err(Error::EvidenceRefused { reason: "OTHER_KEY" }));
    signs(&old_app, &addresses).await.unwrap();
}

/// Changes the frame in a relayed answer.
fn frames(phone: &Phone, change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
    use halfkey_api::message::DoorAnswer;
    phone.network.tamper(move |path, body| match path == route::PASSKEY_DOOR {
        true => {
            let mut answer: DoorAnswer = serde_json::from_slice(&body).unwrap();
            answer.frame.0 = change(answer.frame.0);
            serde_json::to_vec(&answer).unwrap()
        }
        false => body,
    });
}

#[tokio::test]
async fn nothing_is_sealed_to_a_keeper_that_does_not_show_what_it_is() {
    use halfkey_envelope::keeper::{Answer, Refusal, decode_answer, encode_answer};
    let world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 52).await;
    let refused = |reason| Err::<Backup, _>(Error::EvidenceRefused { reason });
    let first = phone.halfkey.backup_wallet(passkey(PasskeyMode::Prf)).await.unwrap();
    provider.asked();
    let keeper = || passkey(PasskeyMode::Keeper);

    // A lying server: another nonce, another key, a changed quote, no evidence at all.
    type Change = fn(&mut halfkey_envelope::keeper::Evidence);
    let cases: [(Change, &str); 4] = [
        (|evidence| evidence.nonce[0] ^= 1, "OTHER_NONCE"),
        (|evidence| evidence.key_id += 1, "OTHER_KEY"),
        (|evidence| evidence.document.truncate(20), "TRUNCATED"),
        (|evidence| *evidence.document.last_mut().unwrap() ^= 1, "OTHER_ROOT"),
    ];
    for (change, reason) in cases {
        frames(&phone, move |frame| {
            let Ok(Answer::Evidence(mut evidence)) = decode_answer(&frame) else { return frame };
            change(&mut evidence);
            encode_answer(&Answer::Evidence(evidence))
        });
        assert_eq!(phone.halfkey.backup_wallet(keeper()).await, refused(reason));
    }
    frames(&phone, |_| encode_answer(&Answer::Refused(Refusal::UnknownKey)));
    let said = phone.halfkey.backup_wallet(keeper()).await;
    assert_eq!(said, Err(Error::KeeperRefused { code: "UNKNOWN_KEY" }));
    frames(&phone, |_| b"no answer".to_vec());
    let said = phone.halfkey.backup_wallet(keeper()).await;
    assert_eq!(said, Err(Error::PeerMisbehaved { what: "KEEPER_ANSWER" }));
    phone.network.honest();

    // A genuine keeper on another root: its key is not the pinned one.
    let other = Keeper::start(world.folder.path(), "other").await.unwrap();
    let pinned = other.pinned();
    let strict = world.trusts(|details| details.keeper = Some(pinned)).await;
    let app = world.phone_trusting(&token, &provider, strict);
    recover(&app, RecoveryMethod::Passkey, OldDevices::Keep, None).await.unwrap().fresh_backup.unwrap();
    assert_eq!(app.halfkey.backup_wallet(keeper()).await, refused("OTHER_KEY"));
    // An app that trusts another operator's machines, or none.
    let mut policy = keeper_policy();
    if let halfkey_protocol::descriptor::EvidencePolicy::Tpm2 { measurements, .. } = &mut policy {
        measurements[0].0[0] ^= 1;
    }
    let strict = world.trusts(|details| details.evidence = Some(policy)).await;
    let app = world.phone_trusting(&token, &provider, strict);
    recover(&app, RecoveryMethod::Passkey, OldDevices::Keep, None).await.unwrap().fresh_backup.unwrap();
    assert_eq!(app.halfkey.backup_wallet(keeper()).await, refused("UNKNOWN_MEASUREMENT"));
    let none = world.trusts(|details| details.evidence = None).await;
    let app = world.phone_trusting(&token, &provider, none);
    recover(&app, RecoveryMethod::Passkey, OldDevices::Keep, None).await.unwrap().fresh_backup.unwrap();
    assert_eq!(
        app.halfkey.backup_wallet(keeper()).await,
        refused("OTHER_KIND"),
        "development's policy is insecure-dev"
    );

    let asked = provider.asked();
    assert!(!asked.contains(&Asked::Create(0)), "the user was asked for no passkey: {asked:?}");
    assert_ne!(first.backup_id, app.halfkey.passkeys().await.unwrap().backup_id);
    let verified = app.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
    assert_eq!(verified.method, Method::Passkey);
    signs(&app, &addresses).await.unwrap();
}

#[tokio::test]
async fn insecure_evidence_is_refused_unless_this_program_was_told_otherwise_twice() {
    let world = World::start_with_insecure_keeper().await;
    let (_, provider, phone, _) = start(&world, 53).await;
    let refused = phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await;
    assert_eq!(refused, Err(Error::EvidenceRefused { reason: "INSECURE_DEV" }));
    assert_eq!(provider.asked(), [], "before anything was asked of the user");
    assert_eq!(phone.halfkey.backup_status().await.unwrap().methods, []);
}

#[tokio::test]
async fn an_answer_that_no_keeper_wrote_opens_nothing() {
    use halfkey_envelope::keeper::{Answer, decode_answer, encode_answer};
    let world = World::start().await;
    for (seed, mode) in [PasskeyMode::Keeper, PasskeyMode::KeeperAndPrf].into_iter().enumerate() {
        let (token, provider, phone, addresses) = start(&world, 60 + seed as u64).await;
        let backup = phone.halfkey.backup_wallet(passkey(mode)).await.unwrap();
        let new = world.phone_of(&token, &provider);
        let mut earlier = None;
        for round in 0..3 {
            let replay = earlier.clone();
            let (keep, kept) = std::sync::mpsc::channel();
            let keep = std::sync::Mutex::new(keep);
            let change = move |frame: Vec<u8>| match decode_answer(&frame) {
                Ok(Answer::Released(mut sealed)) => {
                    let _ = keep.lock().unwrap().send(frame.clone());
                    match (&replay, round) {
                        // The true answer to another request.
                        (Some(replay), 1) => Vec::clone(replay),
                        (_, 2) => encode_answer(&Answer::Released(vec![0; sealed.len()])),
                        _ => {
                            *sealed.last_mut().unwrap() ^= 1;
                            encode_answer(&Answer::Released(sealed))
                        }
                    }
                }
                _ => frame,
            };
            frames(&phone, change);
            let forged = Error::PeerMisbehaved { what: "KEEPER_ANSWER" };
            assert_eq!(phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await, Err(forged.clone()));
            assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::Passkey).await, Err(forged), "{mode} {round}");
            earlier = kept.try_iter().next();
            assert!(earlier.is_some(), "the keeper did answer");
        }
        phone.network.honest();
        let verified = phone.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
        assert_eq!(verified.backup_id, backup.backup_id, "nothing was changed");
        by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
    }
}

/// A stanza that was swapped for another, cut or changed by the server opens nothing, and no passkey is shown to it that
/// is not of this backup.
#[tokio::test]
async fn a_server_that_swaps_or_changes_the_stanza_gets_nothing() {
    let world = World::start().await;
    let (token, provider, phone, addresses) = start(&world, 62).await;
    phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    let older = stored_stanza(&world, phone.halfkey.passkeys().await.unwrap().backup_id).await;
    phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await.unwrap();
    let current = stored_stanza(&world, phone.halfkey.passkeys().await.unwrap().backup_id).await;
    let new = world.phone_of(&token, &provider);
    let swap = |stanza: Option<Vec<u8>>| {
        new.network.tamper(move |path, body| match path.ends_with("/cipher-text") {
            true => {
                let mut told: CipherText = serde_json::from_slice(&body).unwrap();
                told.sealed_record = stanza.clone().map(Base64);
                serde_json::to_vec(&told).unwrap()
            }
            false => body,
        });
    };
    swap(None);
    let refused = Err(Error::PeerMisbehaved { what: "SEALED_RECORD" });
    assert_eq!(by_passkey(&new, &addresses).await, refused);
    swap(Some(current[..current.len() - 1].to_vec()));
    assert_eq!(by_passkey(&new, &addresses).await, refused);
    // What is not stored beside this backup is relayed to no keeper.
    let not_relayed = Err(Error::Refused { id: ErrorId::NotFound.as_str().to_owned() });
    swap(Some(older));
    assert_eq!(by_passkey(&new, &addresses).await, not_relayed);
    let mut changed = current.clone();
    *changed.last_mut().unwrap() ^= 1;
    swap(Some(changed));
    assert_eq!(by_passkey(&new, &addresses).await, not_relayed);
    new.network.honest();
    by_passkey(&new, &addresses).await.unwrap().fresh_backup.unwrap();
}

/// A new stanza must lie at the server as it was made: what was opened is what will be opened.
#[tokio::test]
async fn a_stanza_that_is_not_stored_as_it_was_made_is_noticed() {
    let world = World::start().await;
    let (_, _, phone, addresses) = start(&world, 66).await;
    phone.network.tamper(|path, body| match path.ends_with("/cipher-text") && !body.is_empty() {
        true => {
            let mut told: CipherText = serde_json::from_slice(&body).unwrap();
            told.sealed_record.as_mut().unwrap().0[0] ^= 1;
            serde_json::to_vec(&told).unwrap()
        }
        false => body,
    });
    let refused = phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await;
    assert_eq!(refused, Err(Error::PeerMisbehaved { what: "ENVELOPE" }));
    assert_eq!(phone.halfkey.backup_status().await.unwrap().methods, []);
    signs(&phone, &addresses).await.unwrap();
}

async fn stored_stanza(world: &World, backup: halfkey_envelope::id::BackupId) -> Vec<u8> {
    world.stored(backup).await.1
}

/// The keeper has no state: what it opened once it opens for ever. What makes a removal mean something is that the
/// custodian's half is gone (METHODS.md C).
#[tokio::test]
async fn after_a_removal_the_old_stanza_and_envelope_open_and_fit_nothing() {
    use halfkey_client::host::{PasskeyGet, Passkeys};
    use halfkey_envelope::{
        Record, client_share,
        entropy::OsEntropy,
        keeper::{Request, decode_request, encode_answer},
        passkey::{Assertion, Context, Op, Release, Stanza},
    };
    let world = World::start().await;
    let (token, removed, phone, addresses) = start(&world, 63).await;
    let backup = phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    let (envelope, stanza) = world.stored(backup.backup_id).await;
    let kept = Authenticator::new(64, ORIGIN);
    let phone = phone.with_provider(&Both(removed.clone(), kept.clone()));
    phone.halfkey.add_passkey().await.unwrap();
    let first = phone.halfkey.passkeys().await.unwrap().passkeys[0].id.clone();
    phone.halfkey.remove_passkey(first.clone()).await.unwrap();

    // Whoever kept a copy of both shows the removed passkey to the keeper directly.
    let client = world.client_of(&token).await.id;
    let context = Context { deployment: world.deployment.id(), client, backup: backup.backup_id };
    let (key_id, key) = world.passkey_keeper.key;
    let release = Release::begin((key_id, &key), Op::Recover, &stanza, &context, &mut OsEntropy).unwrap();
    let allow = vec![halfkey_client::host::CredentialRef { id: first, transports: Vec::new() }];
    let rp_id = crate::world::RELYING_PARTY.to_owned();
    let request = PasskeyGet { rp_id, challenge: *release.challenge(), allow, prf: None };
    let got = removed.get(request).await.unwrap();
    let assertion = Assertion {
        credential_id: got.credential_id,
        authenticator_data: got.authenticator_data,
        client_data_json: got.client_data_json,
        signature: got.signature,
        user_handle: None,
    };
    let (frame, pending) = release.request(&assertion).unwrap();
    let request: Request = decode_request(&frame).unwrap();
    let answer = world.passkey_keeper.ask(&request).await.unwrap();
    let part = pending.finish(&encode_answer(&answer)).unwrap();
    let inside = Stanza::parse(&stanza).unwrap().open(&context, Some(&part), None).unwrap();
    let record = Record::from_bytes(&record_inside(&inside)).unwrap();
    let (header, contents) = client_share::open_with_record(&record, &envelope).unwrap();
    assert_eq!(header.backup, backup.backup_id, "both open, for ever");

    // With them in hand a recovery proves nothing: the pair that counts is another one.
    let thief = Thief::recovers(&world, &token).await;
    let served = thief.cipher_text().await;
    assert!(served.backup_id != backup.backup_id && served.sealed_record.unwrap().0 != stanza);
    assert_eq!(thief.prove_possession(&header, &contents).await, Err("PROOF_INVALID".to_owned()));
    // Nor does an eject: what the custodian would put to it is another pair's.
    world.enable_eject(&token, "{}").await;
    let ejects = Thief::asks(&world, &token, Method::Passkey, RecoveryPurpose::Eject).await;
    let refused = ejects.prove(&header, &contents, Purpose::Eject, route::RECOVERY_EJECT).await;
    assert_eq!(refused, Err("PROOF_INVALID".to_owned()));
    // Nor does a server relay the old stanza any more.
    let within = Some(DoorContext::Recovery { id: thief.recovery.as_ref().unwrap().id });
    let body = PasskeyDoorRequest { within, frame: Base64(frame) };
    let relayed = thief.send("POST", route::PASSKEY_DOOR, serde_json::to_vec(&body).unwrap()).await;
    assert_eq!(relayed, Err("NOT_FOUND".to_owned()));
    assert_eq!(
        by_passkey(&world.phone_of(&token, &removed), &addresses).await,
        Err(Error::NoPasskey { others: vec![] }),
        "the removed passkey is not among those that are asked for"
    );
    by_passkey(&world.phone_of(&token, &kept), &addresses).await.unwrap().fresh_backup.unwrap();
}

/// The record in what a stanza holds: {1: version, 2: record, 3: the passkeys}.
fn record_inside(inside: &[u8]) -> Vec<u8> {
    let mut decoder = minicbor::Decoder::new(inside);
    assert_eq!((decoder.map().unwrap(), decoder.u8().unwrap(), decoder.u8().unwrap()), (Some(3), 1, 1));
    assert_eq!(decoder.u8().unwrap(), 2);
    decoder.bytes().unwrap().to_vec()
}

/// Another device's backup is not dropped unawares.
#[tokio::test]
async fn a_device_that_does_not_know_the_passkeys_learns_them_before_it_changes_them() {
    let world = World::start().await;
    let (token, provider, old, addresses) = start(&world, 65).await;
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let new = world.phone_of(&token, &provider);
    recover(&new, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    old.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap();
    let before = new.halfkey.backup_status().await.unwrap();
    provider.asked();
    for change in [PasskeyChange::Keep, PasskeyChange::Add, PasskeyChange::Remove(vec![1])] {
        assert_eq!(new.halfkey.backup_wallet(changed(None, change)).await, Err(Error::PasskeysUnknown));
    }
    assert_eq!(new.halfkey.passkeys().await, Err(Error::PasskeysUnknown));
    assert_eq!((provider.asked(), new.halfkey.backup_status().await.unwrap()), (vec![], before));
    new.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
    assert_eq!(new.halfkey.passkeys().await.unwrap().passkeys.len(), 1);
    assert_eq!(new.halfkey.add_passkey().await, Err(Error::PasskeyExists), "this provider holds one already");
    let newer = new.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await.unwrap();
    assert_eq!(old.halfkey.passkeys().await, Err(Error::PasskeysUnknown), "now the other device is behind");
    let replaced = old.halfkey.backup_wallet(changed(None, PasskeyChange::Replace)).await.unwrap();
    assert_ne!(replaced.backup_id, newer.backup_id);
    assert_eq!((old.halfkey.passkeys().await.unwrap().passkeys.len(), provider.holds()), (1, 2));
}

/// An answer or a request that is lost, at every request of a passkey backup: the wallet signs, the device knows whose
/// passkeys count, and what counts opens.
#[tokio::test]
async fn whatever_is_lost_on_the_way_a_passkey_backup_opens() {
    let world = World::start().await;
    for (seed, loss) in [Loss::Request, Loss::Answer].into_iter().enumerate() {
        let (token, provider, mut phone, addresses) = start(&world, 70 + seed as u64).await;
        let mut last = phone.halfkey.backup_wallet(passkey(PasskeyMode::Keeper)).await.unwrap().backup_id;
        let mut nth = 0;
        loop {
            phone.network.lose(nth, loss);
            let done = phone.halfkey.backup_wallet(changed(None, PasskeyChange::Keep)).await;
            if !phone.network.has_lost() {
                done.unwrap();
                // Nothing is lost any more.
                phone.network.lose(usize::MAX / 2, loss);
                assert!(nth > 6, "{loss:?}: a backup has more than {nth} requests");
                break;
            }
            phone = phone.restarted();
            let resumed = phone.halfkey.resume().await.unwrap();
            let list = phone.halfkey.passkeys().await.unwrap();
            let is_new = list.backup_id != last;
            match (&done, &resumed) {
                (Ok(_), Resumed::Nothing) => assert!(is_new, "{nth}"),
                (Err(_), Resumed::BackupCompleted(_)) => assert!(is_new, "{nth}"),
                (Err(_), Resumed::Nothing | Resumed::BackupDiscarded(_)) => assert!(!is_new, "{nth}"),
                other => panic!("{loss:?} {nth}: {other:?}"),
            }
            let verified = phone.halfkey.verify_backup(RecoveryMethod::Passkey).await.unwrap();
            assert_eq!((verified.backup_id, list.passkeys.len()), (list.backup_id, 1), "{loss:?} {nth}");
            last = list.backup_id;
            nth += 1;
        }
        signs(&phone, &addresses).await.unwrap();
        by_passkey(&world.phone_of(&token, &provider), &addresses).await.unwrap().fresh_backup.unwrap();
    }
}
