//! Recoveries that wait, and clocks that are wrong.

use std::sync::{Arc, Mutex};

use halfkey_api::message::RecoveryState;
use halfkey_client::{BlobSlot, Error, Identity, OldDevices, Recovering, Resumed};
use halfkey_envelope::wallet::Method;
use halfkey_server::config::{Profile, RecoveryPolicy};

use super::{
    signs,
    world::{Loss, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with},
};

const HOUR_MS: i64 = 60 * 60 * 1000;

async fn careful() -> World {
    World::start_with(|config| config.recovery = RecoveryPolicy::of(Profile::Production)).await
}

fn waits(recovering: Result<Recovering, Error>) -> (halfkey_envelope::id::RecoveryId, u64) {
    match recovering {
        Ok(Recovering::Waiting { recovery_id, until }) => (recovery_id, until),
        other => panic!("{other:?}"),
    }
}

fn recovered(recovering: Recovering) -> halfkey_client::Recovered {
    match recovering {
        Recovering::Recovered(recovered) => *recovered,
        waiting => panic!("{waiting:?}"),
    }
}

async fn ask(phone: &Phone) -> Result<Recovering, Error> {
    phone.halfkey.recover_wallet(with(PASSWORD), OldDevices::Revoke, None).await
}

/// A phone that began a recovery is not bound to a backup that was replaced in the meantime: asked again, it begins anew.
#[tokio::test]
async fn a_recovery_whose_backup_was_replaced_before_it_was_opened_begins_anew() {
    let world = World::start().await;
    let key = world.client_key().await;
    let old = world.phone(&key);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let new = world.phone(&key);
    let wrong = recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, None).await;
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })), "{wrong:?}");
    let begun = new.halfkey.recoveries().await.unwrap()[0].id;

    let replaced = old.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    let recovered = recover(&new, with(OTHER_PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    assert_eq!(recovered.addresses, addresses);
    signs(&new, &addresses).await.unwrap();
    let seen = new.halfkey.recoveries().await.unwrap();
    let states: Vec<_> = seen.iter().map(|one| (one.id == begun, one.state)).collect();
    assert_eq!(states, [(false, RecoveryState::Completed), (true, RecoveryState::Expired)]);
    assert_eq!(seen[0].backup_id, replaced.backup_id);
}

#[tokio::test]
async fn a_recovery_waits_while_another_device_is_in_use_and_opens_nothing_before() {
    let world = careful().await;
    let key = world.client_key().await;
    let old = world.phone(&key);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();

    let new = world.phone(&key);
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let paths = asked.clone();
    new.network.tamper(move |path, body| {
        paths.lock().unwrap().push(path.to_owned());
        body
    });
    let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
    let (id, until) = waits(ask(&new).await);
    let day_ms = 24 * HOUR_MS as u64;
    assert!((now_ms + day_ms..now_ms + day_ms + 60_000).contains(&until), "{until} at {now_ms}");
    assert_eq!(waits(ask(&new).await), (id, until), "asked again it is the same recovery");
    // A wrong password is not even looked at.
    assert_eq!(waits(new.halfkey.resume_recovery(with(OTHER_PASSWORD), None).await), (id, until));
    let open = Resumed::RecoveryOpen { recovery_id: id, method: Method::Password, until: Some(until) };
    let new = new.restarted();
    assert_eq!(new.halfkey.resume().await, Ok(open));
    assert!(!new.halfkey.is_wallet_on_device().await.unwrap());
    let opening = |path: &String| path.contains("password-door") || path.contains("cipher-text");
    let opened = || asked.lock().unwrap().iter().filter(|path| opening(path)).count();
    assert_eq!(opened(), 0, "{:?}", asked.lock().unwrap());
    let seen = old.halfkey.recoveries().await.unwrap();
    assert_eq!((seen.len(), seen[0].id, seen[0].state), (1, id, RecoveryState::Waiting));

    world.clock.pass_ms(24 * HOUR_MS - 60_000);
    assert_eq!(waits(new.halfkey.resume_recovery(with(PASSWORD), None).await), (id, until));
    world.clock.pass_ms(120_000);
    let open = Resumed::RecoveryOpen { recovery_id: id, method: Method::Password, until: None };
    assert_eq!(new.halfkey.resume().await, Ok(open));
    // The first guess of all: none was counted while the recovery waited.
    let wrong = new.halfkey.resume_recovery(with(OTHER_PASSWORD), None).await;
    assert_eq!(wrong, Err(Error::WrongSecret { remaining: Some(9), retry_after: None }));
    assert!(opened() >= 2, "{:?}", asked.lock().unwrap());
    let done = new.halfkey.resume_recovery(with(PASSWORD), Some(addresses.clone())).await.unwrap();
    let done = recovered(done);
    assert_eq!((&done.addresses, done.identity), (&addresses, Identity::Confirmed));
    done.fresh_backup.unwrap();
    assert_eq!(new.blobs.peek(BlobSlot::Pending), None);
    signs(&new, &addresses).await.unwrap();
    assert_eq!(signs(&old, &addresses).await, Err(Error::DeviceRevoked));
    let over = new.halfkey.resume_recovery(with(PASSWORD), None).await;
    assert_eq!(over, Err(Error::RecoveryOver));
}

#[tokio::test]
async fn a_cancelled_recovery_is_over_and_the_backup_still_recovers_later() {
    let world = careful().await;
    let key = world.client_key().await;
    let old = world.phone(&key);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();

    let thief = world.phone(&key);
    let (id, _) = waits(ask(&thief).await);
    old.halfkey.cancel_recovery(id).await.unwrap();
    old.halfkey.cancel_recovery(id).await.unwrap();
    assert_eq!(old.halfkey.recoveries().await.unwrap()[0].state, RecoveryState::Cancelled);
    world.clock.pass_ms(25 * HOUR_MS);
    let over = thief.halfkey.resume_recovery(with(PASSWORD), None).await;
    assert_eq!(over, Err(Error::RecoveryOver));
    assert_eq!(thief.halfkey.resume().await, Ok(Resumed::RecoveryDiscarded));
    assert_eq!(thief.halfkey.resume().await, Ok(Resumed::Nothing));
    signs(&old, &addresses).await.unwrap();

    let new = world.phone(&key);
    let (again, _) = waits(ask(&new).await);
    assert_ne!(again, id);
    world.clock.pass_ms(24 * HOUR_MS);
    let done = new.halfkey.resume_recovery(with(PASSWORD), Some(addresses.clone())).await.unwrap();
    recovered(done).fresh_backup.unwrap();
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_recovery_that_nobody_finished_expires_and_the_next_one_works() {
    let world = careful().await;
    let key = world.client_key().await;
    let old = world.phone(&key);
    old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let new = world.phone(&key);
    let (id, _) = waits(ask(&new).await);
    world.clock.pass_ms(49 * HOUR_MS);
    assert_eq!(new.halfkey.resume_recovery(with(PASSWORD), None).await, Err(Error::RecoveryOver));
    // The old device was not seen for as long as counts: nobody can object, and nobody waits.
    world.clock.pass_ms(30 * 24 * HOUR_MS);
    recover(&new, with(PASSWORD), OldDevices::Revoke, None).await.unwrap();
    let states = new.halfkey.recoveries().await.unwrap();
    let states: Vec<_> = states.iter().map(|recovery| (recovery.id == id, recovery.state)).collect();
    assert_eq!(states, [(false, RecoveryState::Completed), (true, RecoveryState::Expired)]);
}

#[tokio::test]
async fn a_phone_whose_clock_is_wrong_is_told_so_and_loses_nothing() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    let skewed = |result: Result<(), Error>| match result {
        Err(Error::ClockSkew { server_time }) => {
            let now_ms = halfkey_client::Clock::now_ms(&*world.clock);
            assert!((now_ms - 60_000..=now_ms).contains(&server_time), "{server_time} at {now_ms}");
        }
        other => panic!("{other:?}"),
    };
    phone.clock.pass_ms(-10 * 60_000);
    skewed(phone.halfkey.create_wallet().await.map(|_| ()));
    phone.clock.pass_ms(10 * 60_000);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.clock.pass_ms(10 * 60_000);
    skewed(signs(&phone, &addresses).await);
    skewed(phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.map(|_| ()));
    phone.clock.pass_ms(-7 * 60_000);
    signs(&phone, &addresses).await.unwrap();
    let before = phone.network.sent();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    // A commit that never arrived is put in order when the clock is right again, not forgotten while it is wrong.
    phone.network.lose(phone.network.sent() - before - 1, Loss::Request);
    let lost = phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await;
    assert!(matches!(lost, Err(Error::Transport(_))), "{lost:?}");
    phone.clock.pass_ms(10 * 60_000);
    skewed(phone.halfkey.resume().await.map(|_| ()));
    phone.clock.pass_ms(-10 * 60_000);
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::BackupDiscarded(Method::Password)));
    phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
}
