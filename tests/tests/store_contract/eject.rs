//! Ejects: the window, the order of release, and when the halves end.

use super::{
    world::{DAY, HOUR, ONE_TIME, World},
    *,
};
use halfkey_envelope::{
    id::{RecoveryId, VerificationId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{Force, Refusal, WalletState};
use halfkey_server::{
    shred::{Copies, Shred},
    store::{
        EJECTED_KEEP_MS, EjectWindow, EndedBy, Error, HalfUse, NewHalf, OldDevices, Purpose, Recovery, RecoveryState,
        What,
    },
};

const PASSWORD: Method = Method::Password;

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    assert!(matches!(&result, Err(Error::Refused(found)) if *found == refusal), "{result:?} is not {refusal:?}");
}

fn closed<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::EjectClosed)), "{result:?}");
}

impl World {
    async fn open_window(&self, now_ms: u64) {
        let window = EjectWindow { opened_ms: now_ms, until_ms: now_ms + HOUR };
        self.store().open_eject_window(None, self.client, window, now_ms).await.unwrap();
    }

    async fn ask_eject(&mut self, now_ms: u64) -> Result<Recovery, Error> {
        let mut new = self.new_recovery(&PASSWORD, OldDevices::Keep, now_ms);
        new.purpose = Purpose::Eject;
        self.store().begin_recovery(self.client, &new, now_ms).await
    }

    async fn release(&self, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
        self.store().release_ejection(self.client, id, &ONE_TIME, now_ms).await
    }

    async fn wallet_states(&self) -> Vec<Option<WalletState>> {
        self.store().wallets(self.client).await.unwrap().iter().map(|wallet| wallet.state).collect()
    }
}

pub async fn t21_a_window_is_one_clients_and_ends(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    closed(world.ask_eject(NOW).await);

    // Another client's window, and another custodian.
    let (other_custodian, other) = world.ground.client().await;
    let window = EjectWindow { opened_ms: NOW, until_ms: NOW + HOUR };
    let key = world.ground.key(KeyOwner::Custodian(other_custodian)).await.0;
    let foreign = world.store().open_eject_window(Some((other_custodian, key)), world.client, window, NOW).await;
    assert!(matches!(foreign, Err(Error::Unknown(What::Client))), "{foreign:?}");
    assert!(world.store().open_eject_window(None, other, window, NOW).await.is_err(), "it has no wallet");
    closed(world.ask_eject(NOW).await);

    world.open_window(NOW).await;
    closed(world.ask_eject(NOW + HOUR).await);
    let eject = world.ask_eject(NOW + HOUR - 1).await.unwrap();
    assert_eq!((eject.purpose, eject.state), (Purpose::Eject, RecoveryState::Ready));
    closed(world.release(eject.id, NOW + HOUR).await);
    assert_eq!(world.wallet_states().await, [Some(WalletState::Open); 2]);
    world.open_window(NOW + HOUR).await;
    world.release(eject.id, NOW + HOUR).await.unwrap();
}

pub async fn t21_the_halves_leave_only_when_the_wallets_are_ejecting(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let backup = world.back_up(&PASSWORD, NOW).await;
    let (pending, digest) = world.prepare_backup(&Method::RecoveryCode, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let id = store.backups(client).await.unwrap().iter().find(|known| known.method == PASSWORD).unwrap().id;
    assert_eq!(backup.method, PASSWORD);
    let drill = VerificationId::generate(world.ground.entropy(), NOW);
    store.begin_verification(client, device, &PASSWORD, drill, NOW + HOUR, NOW).await.unwrap();
    let recovery = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW);
    let recovery = store.begin_recovery(client, &recovery, NOW).await.unwrap();
    let thief = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW);
    let thief = store.begin_recovery(client, &thief, NOW).await.unwrap();
    let (_, signing) = store.prove_possession(client, thief.id, &ONE_TIME, NOW).await.unwrap();

    world.open_window(NOW).await;
    let eject = world.ask_eject(NOW).await.unwrap();
    let early = store.custodian_halves(client, id, HalfUse::Eject).await;
    assert!(matches!(early, Err(Error::State(What::Wallet))), "{early:?}");
    let early = store.acknowledge_ejection(client, eject.id, NOW).await;
    assert!(matches!(early, Err(Error::State(What::Recovery))), "{early:?}");
    // One purpose is not the other.
    let wrong = store.release_ejection(client, recovery.id, &ONE_TIME, NOW).await;
    assert!(matches!(wrong, Err(Error::Unknown(What::Recovery))), "{wrong:?}");
    let wrong = store.prove_possession(client, eject.id, &ONE_TIME, NOW).await;
    assert!(matches!(wrong, Err(Error::Unknown(What::Recovery))), "{wrong:?}");

    let released = world.release(eject.id, NOW).await.unwrap();
    assert_eq!((released.state, released.one_time_key), (RecoveryState::Executing, Some(ONE_TIME)));
    assert_eq!(world.wallet_states().await, [Some(WalletState::Ejecting); 2]);
    assert_eq!(store.custodian_halves(client, id, HalfUse::Eject).await.unwrap().len(), 2);
    let other_key = store.release_ejection(client, eject.id, &[8; 32], NOW).await;
    assert!(matches!(other_key, Err(Error::Mismatch(What::Recovery))), "{other_key:?}");
    let cancelled = store.end_recovery(client, eject.id, EndedBy::Operator, NOW).await;
    assert!(matches!(cancelled, Err(Error::State(What::Recovery))), "{cancelled:?}");

    // Nothing else, by value.
    let ejecting = Refusal::Ejecting;
    for usage in [HalfUse::Recover, HalfUse::Verify] {
        refused(store.custodian_halves(client, id, usage).await, ejecting);
    }
    let own = store.signing_pairs(client).await.unwrap().into_iter().find(|pair| pair.device == device).unwrap();
    refused(store.signing_half(client, device, own.share.id, HalfUse::Sign).await, ejecting);
    refused(store.signing_half(client, device, own.share.id, HalfUse::Deal).await, ejecting);
    let (again, pairs) = (world.new_backup(), world.new_pairs());
    refused(store.begin_backup(client, device, &PASSWORD, again, &pairs, NOW).await, ejecting);
    refused(store.commit_backup(client, device, pending.backup, digest, "read_back", NOW).await, ejecting);
    let envelope = store.store_envelope(client, device, pending.backup, b"x", None, NOW).await;
    refused(envelope, ejecting);
    let halves: Vec<NewHalf> = signing.iter().map(|begun| world::half(begun.pair, begun.curve)).collect();
    refused(store.store_signing_halves(client, thief.device.id, &halves, NOW).await, ejecting);
    refused(store.commit_recovery(client, thief.id, NOW).await, ejecting);
    refused(store.prove_possession(client, recovery.id, &ONE_TIME, NOW).await, ejecting);
    let fresh = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW);
    refused(store.begin_recovery(client, &fresh, NOW).await, ejecting);
    let drilled = VerificationId::generate(world.ground.entropy(), NOW);
    refused(store.begin_verification(client, device, &PASSWORD, drilled, NOW + HOUR, NOW).await, ejecting);
    let force = Force { last_device: true, last_backup: true };
    refused(store.remove_method(client, device, &PASSWORD, force, NOW).await.map(drop), ejecting);
    refused(store.revoke_device(client, Some(device), device, force, NOW).await, ejecting);
    // What was open is over: the drill, the recovery, and that of the thief, whose device is revoked.
    assert!(store.verification(client, device, drill, NOW).await.is_err());
    for id in [recovery.id, thief.id] {
        assert_eq!(store.recovery(client, id, NOW).await.unwrap().state, RecoveryState::Cancelled);
    }
    let devices = store.devices(client).await.unwrap();
    assert!(devices.iter().find(|known| known.id == thief.device.id).unwrap().revoked_ms.is_some());
    assert_eq!(store.backups(client).await.unwrap().iter().filter(|known| known.id == id).count(), 1);
}

pub async fn t21_both_halves_stay_for_thirty_days_after_the_acknowledgement(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client) = (world.store(), world.client);
    let id = store.backups(client).await.unwrap()[0].id;
    world.open_window(NOW).await;
    let eject = world.ask_eject(NOW).await.unwrap();
    world.release(eject.id, NOW).await.unwrap();

    // Without an acknowledgement nothing ends, however long it takes.
    let late = NOW + 365 * DAY;
    assert_eq!(store.sweep(Some(late), late).await.unwrap().ejected, 0);
    world.release(eject.id, late).await.unwrap();
    store.acknowledge_ejection(client, eject.id, late).await.unwrap();
    let again = store.acknowledge_ejection(client, eject.id, late + DAY).await.unwrap();
    assert_eq!(again.state, RecoveryState::Completed);
    assert_eq!(world.wallet_states().await, [Some(WalletState::Ejected); 2]);
    refused(world.ask_eject(late).await, Refusal::Ejected);
    let window = EjectWindow { opened_ms: late, until_ms: late + HOUR };
    refused(store.open_eject_window(None, client, window, late).await, Refusal::Ejected);

    let end = late + EJECTED_KEEP_MS;
    let swept = store.sweep(Some(end - 1), end - 1).await.unwrap();
    assert_eq!(swept.ejected, 0);
    world.release(eject.id, end - 1).await.unwrap();
    assert_eq!(store.custodian_halves(client, id, HalfUse::Eject).await.unwrap().len(), 2);
    assert_eq!(store.sweep(None, end).await.unwrap().ejected, 1);
    assert_eq!(store.sweep(None, end).await.unwrap().ejected, 0, "once");
    refused(world.release(eject.id, end).await, Refusal::Retired);
    refused(store.custodian_halves(client, id, HalfUse::Eject).await, Refusal::Retired);
    assert!(store.has_halves().await.unwrap(), "retired is not erased: no replica knows of it yet");
    store.sweep(Some(end + 1), end + 1).await.unwrap();
    assert!(!store.has_halves().await.unwrap(), "the signing halves and the backup's are erased");
    assert!(store.envelope(client, id).await.is_err());
    store.verify_audit(client.as_bytes()).await.unwrap();
    let kinds: Vec<_> = store.audit(client.as_bytes(), 0, 99).await.unwrap().into_iter().map(|e| e.kind).collect();
    for kind in ["eject.enabled", "wallet.ejecting", "wallet.ejected", "wallet.ejected-halves-retired"] {
        assert_eq!(kinds.iter().filter(|known| *known == kind).count(), 1, "{kind}");
    }
}

/// An older copy meets a shred store that knows more: other recoveries are given up, an eject that has begun is not.
pub async fn t21_an_eject_that_has_begun_survives_a_restore(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    world.back_up(&Method::RecoveryCode, NOW).await;
    world.open_window(NOW).await;
    let eject = world.ask_eject(NOW).await.unwrap();
    world.release(eject.id, NOW).await.unwrap();
    let copy = world.ground.snapshot("copy").await;

    // What the copy does not know: a banned share.
    let url = world.ground.beside("shred");
    let shred = async || Shred::connect(&[&url], Copies::DangerOne).await.unwrap();
    let (newest, _) = world.store().attach(shred().await, NOW).await.unwrap();
    let own = newest.signing_pairs(world.client).await.unwrap()[0].share.id;
    newest.ban_pair(world.client, own, "CHEAT", NOW).await.unwrap();
    let (restored, found) = Store::connect(&copy).await.unwrap().attach(shred().await, NOW + DAY).await.unwrap();
    assert!(found.restored);
    let known = restored.recovery(world.client, eject.id, NOW + DAY).await.unwrap();
    assert_eq!(known.state, RecoveryState::Executing);
    restored.release_ejection(world.client, eject.id, &ONE_TIME, NOW + DAY).await.unwrap();
}
