//! Recoveries that somebody else asked for: cancelled after the method was opened, cancelled twice, left to expire; and
//! the fresh backup when the last answer of one's own was lost.

use halfkey_api::{message::RecoveryState, route};
use halfkey_client::{BlobSlot, Cancelled, Error, Identity, OldDevices, Recovering, Resumed};
use halfkey_envelope::{id::RecoveryId, wallet::Method};
use halfkey_server::{admin, store::FrozenPlace};

use super::{
    signs,
    world::{OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with},
};

const HOUR_MS: i64 = 60 * 60 * 1000;

/// From now on every answer to a ceremony step is lost.
fn stop_at_the_ceremony(phone: &Phone) {
    phone.network.tamper(|path, body| if path == route::CEREMONIES { Vec::new() } else { body });
}

/// A recovery that has proven possession and got no further.
async fn opens_and_stops(world: &World, token: &str) -> (Phone, RecoveryId) {
    let thief = world.phone(token);
    stop_at_the_ceremony(&thief);
    let stopped = recover(&thief, with(PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(stopped, Err(Error::PeerMisbehaved { .. })), "{stopped:?}");
    thief.network.honest();
    let open = thief.halfkey.recoveries().await.unwrap().remove(0);
    assert_eq!(open.state, RecoveryState::Executing);
    (thief, open.id)
}

#[tokio::test]
async fn a_cancel_after_possession_freezes_the_backup_until_it_is_made_anew_or_thawed() {
    let world = World::start().await;
    let token = world.client().await;
    let owner = world.phone(&token);
    let addresses = owner.halfkey.create_wallet().await.unwrap();
    owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let (thief, id) = opens_and_stops(&world, &token).await;
    assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(Cancelled::Over));
    assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(Cancelled::Over), "said again");
    assert_eq!(owner.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Cancelled);

    assert!(!owner.halfkey.is_wallet_backed_up().await.unwrap(), "a frozen backup protects nothing");
    assert!(owner.halfkey.available_recovery_methods().await.unwrap().is_empty());
    assert!(!owner.halfkey.is_wallet_recoverable().await.unwrap());
    assert_eq!(thief.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));
    assert_eq!(thief.restarted().halfkey.resume().await, Ok(Resumed::RecoveryDiscarded));
    let again = world.phone(&token);
    assert_eq!(recover(&again, with(PASSWORD), OldDevices::Revoke, None).await, Err(Error::Frozen));
    assert_eq!(owner.halfkey.verify_backup(with(PASSWORD)).await.unwrap_err(), Error::Frozen);
    signs(&owner, &addresses).await.unwrap();

    // An operator thaws it: the backup is what it was.
    let client = world.the_client().await;
    let frozen = admin::waiting(&world.state).await.unwrap().frozen;
    let FrozenPlace::Backup { backup, method } = &frozen[0].place else { panic!("{frozen:?}") };
    assert_eq!((frozen.len(), method), (1, &Method::Password));
    admin::thaw_backup(&world.state, client, *backup).await.unwrap();
    assert!(owner.halfkey.is_wallet_backed_up().await.unwrap());
    owner.halfkey.verify_backup(with(PASSWORD)).await.unwrap();

    // Stolen again; this time the owner backs up anew, and needs no operator.
    let (_, id) = opens_and_stops(&world, &token).await;
    assert_eq!(
        owner.halfkey.cancel_recovery(id).await,
        Ok(Cancelled::Over),
        "after possession a cancel freezes at once"
    );
    owner.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    assert!(admin::waiting(&world.state).await.unwrap().frozen.is_empty());
    assert!(admin::thaw_backup(&world.state, client, *backup).await.is_err(), "it was replaced for good");
    let thief = world.phone(&token);
    let known = recover(&thief, with(PASSWORD), OldDevices::Revoke, None).await;
    assert_eq!(known, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    let new = world.phone(&token);
    recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_stolen_device_that_cancels_twice_does_not_block_its_owner() {
    let world = World::start().await;
    let token = world.client_key().await;
    let stolen = world.phone(&token);
    let addresses = stolen.halfkey.create_wallet().await.unwrap();
    stolen.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();

    // A wrong password leaves a recovery open, which the thief cancels.
    let owner = world.phone(&token);
    let open = async || {
        let wrong = recover(&owner, with(OTHER_PASSWORD), OldDevices::Revoke, None).await;
        assert!(matches!(wrong, Err(Error::WrongSecret { .. })), "{wrong:?}");
        owner.halfkey.recoveries().await.unwrap()[0].id
    };
    let first = open().await;
    assert_eq!(stolen.halfkey.cancel_recovery(first).await, Ok(Cancelled::Over));
    let second = open().await;
    assert_ne!(first, second);
    assert_eq!(stolen.halfkey.cancel_recovery(second).await, Ok(Cancelled::OperatorDecides));
    assert_eq!(stolen.halfkey.cancel_recovery(second).await, Ok(Cancelled::OperatorDecides));

    // Held: nothing is opened, not even with the right password, and nothing is lost.
    let undecided = Ok(Recovering::Undecided { recovery_id: second });
    assert_eq!(owner.halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await, undecided);
    let owner = owner.restarted();
    let held = Resumed::RecoveryOpen { recovery_id: second, method: Method::Password, until: None };
    assert_eq!(owner.halfkey.resume().await, Ok(held));
    assert_eq!(owner.halfkey.resume_recovery(with(PASSWORD), None).await, undecided);
    world.clock.pass_ms(48 * HOUR_MS);
    world.state.housekeep().await;
    assert_eq!(owner.halfkey.resume_recovery(with(PASSWORD), None).await, undecided, "it waits for the operator");
    let waiting = admin::waiting(&world.state).await.unwrap().contested;
    assert_eq!(waiting.iter().map(|one| one.recovery).collect::<Vec<_>>(), [second]);

    admin::continue_recovery(&world.state, world.the_client().await, second).await.unwrap();
    let refused = stolen.halfkey.cancel_recovery(second).await;
    assert_eq!(refused, Err(Error::Refused { id: "SHARE_STATE".into() }), "the operator has decided");
    let done = owner.halfkey.resume_recovery(with(PASSWORD), Some(addresses.clone())).await.unwrap();
    let Recovering::Recovered(done) = done else { panic!("{done:?}") };
    assert_eq!(done.identity, Identity::Confirmed);
    done.fresh_backup.unwrap();
    signs(&owner, &addresses).await.unwrap();
    assert_eq!(signs(&stolen, &addresses).await, Err(Error::DeviceRevoked));
}

#[tokio::test]
async fn an_operator_who_upholds_the_cancel_ends_the_recovery() {
    let world = World::start().await;
    let token = world.client().await;
    let owner = world.phone(&token);
    owner.halfkey.create_wallet().await.unwrap();
    owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let thief = world.phone(&token);
    for expected in [Cancelled::Over, Cancelled::OperatorDecides] {
        recover(&thief, with(OTHER_PASSWORD), OldDevices::Revoke, None).await.unwrap_err();
        let id = thief.halfkey.recoveries().await.unwrap()[0].id;
        assert_eq!(owner.halfkey.cancel_recovery(id).await, Ok(expected));
    }
    let (client, id) = (world.the_client().await, thief.halfkey.recoveries().await.unwrap()[0].id);
    admin::cancel_recovery(&world.state, client, id).await.unwrap();
    assert!(admin::continue_recovery(&world.state, client, id).await.is_err());
    assert_eq!(thief.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));
    assert!(owner.halfkey.is_wallet_backed_up().await.unwrap(), "nothing was opened, nothing is frozen");
}

/// Seen from the SDK: the owner's phone is in use while a recovery that opened the backup is left to expire.
#[tokio::test]
async fn a_recovery_left_to_expire_freezes_the_backup_while_another_device_is_in_use() {
    for in_use in [true, false] {
        let world = World::start().await;
        let token = world.client_key().await;
        let owner = world.phone(&token);
        let addresses = owner.halfkey.create_wallet().await.unwrap();
        owner.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
        world.clock.pass_ms(1);
        let (thief, _) = opens_and_stops(&world, &token).await;
        world.clock.pass_ms(HOUR_MS);
        if in_use {
            signs(&owner, &addresses).await.unwrap();
        }
        world.clock.pass_ms(24 * HOUR_MS);
        world.state.housekeep().await;
        assert_eq!(thief.halfkey.resume().await, Ok(Resumed::RecoveryDiscarded));
        let new = world.phone(&token);
        let recovered = recover(&new, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await;
        if in_use {
            assert_eq!(recovered.unwrap_err(), Error::Frozen);
            owner.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
            recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
        } else {
            recovered.unwrap();
        }
        signs(&new, &addresses).await.unwrap();
    }
}

/// The answer to the last step is lost: the wallet is recovered, and the used backup gets its successor all the same.
#[tokio::test]
async fn a_recovery_whose_last_answer_was_lost_backs_up_afresh() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    let used = old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let unheard = async |world: &World| {
        let phone = world.phone(&token);
        let steps = std::sync::atomic::AtomicUsize::new(0);
        phone.network.tamper(move |path, body| {
            let last = path == route::CEREMONIES && steps.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 4;
            if last { Vec::new() } else { body }
        });
        recover(&phone, with(PASSWORD), OldDevices::Keep, None).await.unwrap_err();
        phone.network.honest();
        phone.restarted()
    };
    let phone = unheard(&world).await;
    let done = recover(&phone, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    let fresh = done.fresh_backup.unwrap();
    assert_ne!(fresh.backup_id, used.backup_id);
    signs(&phone, &addresses).await.unwrap();

    // An app that calls `resume` first is told to renew the backup, and needs nothing but its secret.
    let phone = unheard(&world).await;
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::RecoveryCompleted));
    let wrong = phone.halfkey.renew_backup(with(OTHER_PASSWORD)).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    let newer = phone.halfkey.renew_backup(with(PASSWORD)).await.unwrap();
    assert_ne!(newer.backup_id, fresh.backup_id);
    assert_eq!(phone.blobs.peek(BlobSlot::Pending), None);
    phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
}
