//! Wallets, backups, recoveries, removals and bans.

use super::{
    world::{DAY, HOUR, ONE_TIME, World, half},
    *,
};
use halfkey_envelope::{
    id::{PairId, VerificationId, WebhookId},
    wallet::{Curve, Method},
};
use halfkey_protocol::lifecycle::{Force, LEASE_MS, PENDING_LIFE_MS, PairState, Refusal, RetireReason, WalletState};
use halfkey_server::store::{
    DeliveryState, EndedBy, Error, HalfUse, NewHalf, NewWebhook, OldDevices, RecoveryState, What,
};

const PASSWORD: Method = Method::Password;
const CODE: Method = Method::RecoveryCode;

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    assert!(matches!(&result, Err(Error::Refused(found)) if *found == refusal), "{result:?} is not {refusal:?}");
}

fn unknown<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::Unknown(_))), "{result:?}");
}

pub async fn a_wallet_becomes_active_only_with_all_its_evidence(ground: Ground) {
    let mut world = World::enrolled(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let (first, second) = (world.new_wallets(), world.new_wallets());
    let lost = store.begin_wallets(client, device, &first, NOW).await.unwrap();
    let begun = store.begin_wallets(client, device, &second, NOW + 1).await.unwrap();
    assert_eq!(begun[0].wallet, lost[0].wallet, "the half-made wallet is gone on with");
    assert_eq!((begun[0].curve, begun[0].generation, begun[1].generation), (Curve::Secp256k1, 2, 2));

    let pairs: Vec<PairId> = begun.iter().map(|begun| begun.pair).collect();
    refused(store.activate_signing(client, device, &pairs, NOW).await, Refusal::EvidenceMissing);
    let of_lost = [half(lost[0].pair, lost[0].curve)];
    refused(store.store_signing_halves(client, device, &of_lost, NOW).await, Refusal::Retired);
    let halves: Vec<NewHalf> = begun.iter().map(|begun| half(begun.pair, begun.curve)).collect();
    store.store_signing_halves(client, device, &halves, NOW).await.unwrap();
    refused(store.signing_half(client, device, pairs[0], HalfUse::Sign).await, Refusal::NotActive);
    let read = store.signing_half(client, device, pairs[0], HalfUse::ReadBack).await.unwrap();
    assert_eq!((read.sealed, read.public), (halves[0].sealed.clone(), halves[0].public.clone()));
    assert_eq!(store.wallets(client).await.unwrap()[0].public_key, None);

    store.activate_signing(client, device, &pairs, NOW + 2).await.unwrap();
    store.activate_signing(client, device, &pairs, NOW + 3).await.unwrap();
    let wallets = store.wallets(client).await.unwrap();
    assert_eq!(wallets.iter().map(|wallet| wallet.curve).collect::<Vec<_>>(), Curve::ALL);
    for (wallet, half) in wallets.iter().zip(&halves) {
        assert_eq!(wallet.public_key.as_ref(), Some(&half.public.public_key));
        assert_eq!(wallet.state, Some(WalletState::Open));
    }
    assert_eq!(store.signing_half(client, device, pairs[1], HalfUse::Sign).await.unwrap().sealed, halves[1].sealed);
    let again = store.begin_wallets(client, device, &first, NOW).await;
    assert!(matches!(again, Err(Error::Exists(What::Wallet))));
    let created = store.audit(client.as_bytes(), 0, 99).await.unwrap();
    assert_eq!(created.iter().filter(|entry| entry.kind == "wallet.created").count(), 1);
    store.verify_audit(client.as_bytes()).await.unwrap();
}

pub async fn a_backup_commits_on_every_curve_at_once(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let begun = world.begin_backup(&PASSWORD, NOW).await;
    let id = begun.backup;
    let commit = |digest| store.commit_backup(client, device, id, digest, "read_back", NOW + 5);
    let envelope = |bytes: &'static [u8]| store.store_envelope(client, device, id, bytes, Some(b"record"), NOW);
    refused(commit([0; 32]).await, Refusal::EvidenceMissing);
    refused(envelope(b"early").await, Refusal::EvidenceMissing);

    let halves: Vec<NewHalf> = begun.shares.iter().map(|share| half(share.pair, share.curve)).collect();
    let store_halves = |halves: Vec<NewHalf>| {
        let store = store.clone();
        async move { store.store_custodian_halves(client, device, id, &halves, NOW).await }
    };
    assert!(matches!(store_halves(halves[..1].to_vec()).await, Err(Error::Mismatch(What::Pair))), "one curve");
    let mut foreign = halves.clone();
    foreign[1].public.public_key[0] ^= 1;
    assert!(matches!(store_halves(foreign).await, Err(Error::Mismatch(What::Wallet))), "another public key");
    store_halves(halves.clone()).await.unwrap();
    refused(commit([0; 32]).await, Refusal::EvidenceMissing);

    let digest = envelope(b"envelope").await.unwrap();
    assert_eq!(envelope(b"envelope").await.unwrap(), digest, "a retry");
    refused(envelope(b"another").await, Refusal::EvidenceConflict);
    let other_record = store.store_envelope(client, device, id, b"envelope", None, NOW).await;
    refused(other_record, Refusal::EvidenceConflict);
    let stored = store.envelope(client, id).await.unwrap();
    assert_eq!((stored.envelope.as_slice(), stored.record.as_deref()), (&b"envelope"[..], Some(&b"record"[..])));
    refused(commit([0; 32]).await, Refusal::EvidenceConflict);
    refused(store.custodian_halves(client, id, HalfUse::Recover).await, Refusal::NotActive);

    let committed = commit(digest).await.unwrap();
    assert_eq!((committed.committed_ms, committed.retired), (NOW + 5, None));
    assert_eq!(committed.pairs, halves.iter().map(|half| half.pair).collect::<Vec<_>>());
    let late = store.commit_backup(client, device, id, digest, "unread", NOW + 9).await.unwrap();
    assert_eq!(late, committed, "a lost answer is given again");
    refused(store.commit_backup(client, device, id, [0; 32], "", NOW).await, Refusal::EvidenceConflict);
    let read = store.custodian_halves(client, id, HalfUse::Recover).await.unwrap();
    assert_eq!(read.iter().map(|half| half.share.curve).collect::<Vec<_>>(), Curve::ALL);

    let next = world.back_up(&PASSWORD, NOW + 10).await;
    assert_eq!(next.retired, Some(id));
    refused(store.custodian_halves(client, id, HalfUse::Recover).await, Refusal::Retired);
    let backups = store.backups(client).await.unwrap();
    let states: Vec<PairState> = backups.iter().map(|backup| backup.pair.state).collect();
    assert_eq!(states, [PairState::Retired, PairState::Active], "retired is not erased");
    assert_eq!(backups[0].statement.as_deref(), Some("read_back"));
    store.verify_audit(client.as_bytes()).await.unwrap();
}

pub async fn a_device_that_was_revoked_on_the_way_commits_nothing(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, thief) = (world.store(), world.client, world.device);
    let own = world.back_up(&PASSWORD, NOW).await;
    world.back_up(&CODE, NOW).await;
    let (begun, digest) = world.prepare_backup(&PASSWORD, NOW + 1).await;
    world.recover(&CODE, OldDevices::Revoke, NOW + 2).await;
    let late = store.commit_backup(client, thief, begun.backup, digest, "read_back", NOW + 3).await;
    assert!(matches!(late, Err(Error::Unknown(What::Device))), "{late:?}");
    let backups = store.backups(client).await.unwrap();
    let active = backups.iter().find(|backup| backup.method == PASSWORD && backup.pair.state == PairState::Active);
    assert_eq!(active.map(|backup| backup.shares[0].id), Some(own.pairs[0]), "the owner's counts");
}

pub async fn racing_commits_complete_a_backup_once(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let (begun, digest) = world.prepare_backup(&PASSWORD, NOW).await;
    let commits = (0..8u64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.commit_backup(client, device, begun.backup, digest, "", NOW + n).await })
    });
    let mut times = std::collections::BTreeSet::new();
    for commit in commits.collect::<Vec<_>>() {
        times.insert(commit.await.unwrap().unwrap().committed_ms);
    }
    assert_eq!(times.len(), 1, "everyone is told of the same commit");
    let log = store.audit(client.as_bytes(), 0, 99).await.unwrap();
    assert_eq!(log.iter().filter(|entry| entry.kind == "backup.completed").count(), 1);
    store.verify_audit(client.as_bytes()).await.unwrap();
}

pub async fn racing_devices_on_one_slot_get_one_backup(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let second = world.recover(&PASSWORD, OldDevices::Keep, NOW).await;
    let (store, client, first) = (world.store(), world.client, world.device);
    let (a, b) = ((world.new_backup(), world.new_pairs()), (world.new_backup(), world.new_pairs()));
    let (of_first, of_second) = tokio::join!(
        store.begin_backup(client, first, &CODE, a.0, &a.1, NOW),
        store.begin_backup(client, second, &CODE, b.0, &b.1, NOW)
    );
    assert!(of_first.is_ok() != of_second.is_ok(), "one wins");
    let (winner, loser) = if of_first.is_ok() { (first, second) } else { (second, first) };
    let lost = of_first.and(of_second).unwrap_err();
    assert!(matches!(lost, Error::OperationInProgress { until_ms } if until_ms == NOW + LEASE_MS), "{lost:?}");
    let again = (world.new_backup(), world.new_pairs());
    assert!(store.begin_backup(client, winner, &CODE, again.0, &again.1, NOW).await.is_ok(), "takes itself over");
    let later = (world.new_backup(), world.new_pairs());
    assert!(store.begin_backup(client, loser, &CODE, later.0, &later.1, NOW + LEASE_MS).await.is_ok(), "lease over");
    let pending = store.backups(client).await.unwrap();
    let pending = pending.iter().filter(|backup| backup.pair.state == PairState::Pending).count();
    assert_eq!(pending, 1);
}

pub async fn a_recovery_makes_a_new_device_and_revokes_the_old(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let backup = world.back_up(&PASSWORD, NOW).await;
    let (store, client, old) = (world.store(), world.client, world.device);
    let old_pair = store.signing_pairs(client).await.unwrap()[0].share.id;
    let new = world.new_recovery(&PASSWORD, OldDevices::Revoke, NOW);
    let recovery = store.begin_recovery(client, &new, NOW).await.unwrap();
    assert_eq!((recovery.state, recovery.nonce), (RecoveryState::Ready, new.nonce));
    assert_eq!(recovery.pairs.iter().map(|pair| pair.from).collect::<Vec<_>>(), backup.pairs);
    assert_eq!(store.begin_recovery(client, &new, NOW).await.unwrap(), recovery, "asked again");
    unknown(store.device_by_key(client, &new.device.public_key).await);
    assert!(matches!(store.commit_recovery(client, new.id, NOW).await, Err(Error::State(What::Recovery))));

    let (executing, pending) = store.prove_possession(client, new.id, &ONE_TIME, NOW + 1).await.unwrap();
    assert_eq!((executing.state, executing.possession_ms), (RecoveryState::Executing, Some(NOW + 1)));
    assert_eq!(store.prove_possession(client, new.id, &ONE_TIME, NOW + 2).await.unwrap().1, pending, "a lost answer");
    let other = store.prove_possession(client, new.id, &[8; 32], NOW + 2).await;
    assert!(matches!(other, Err(Error::Mismatch(What::Recovery))), "another one-time key: {other:?}");
    assert_eq!(store.recovery(client, new.id, NOW).await.unwrap().one_time_key, Some(ONE_TIME));
    assert_eq!(store.device_by_key(client, &new.device.public_key).await.unwrap().recovery, Some(new.id));
    refused(store.commit_recovery(client, new.id, NOW).await, Refusal::EvidenceMissing);
    let mut halves: Vec<NewHalf> = pending.iter().map(|begun| half(begun.pair, begun.curve)).collect();
    halves[0].public.public_key[0] ^= 1;
    let foreign = store.store_signing_halves(client, new.device.id, &halves, NOW).await;
    assert!(matches!(foreign, Err(Error::Mismatch(What::Wallet))), "the public key never changes");
    halves[0].public.public_key[0] ^= 1;
    store.store_signing_halves(client, new.device.id, &halves, NOW).await.unwrap();
    assert!(store.signing_half(client, old, old_pair, HalfUse::Sign).await.is_ok(), "until the commit the old signs");

    let done = store.commit_recovery(client, new.id, NOW + 3).await.unwrap();
    assert_eq!(done.state, RecoveryState::Completed);
    assert_eq!(store.commit_recovery(client, new.id, NOW + 4).await.unwrap(), done, "a lost answer");
    assert!(store.signing_half(client, new.device.id, halves[0].pair, HalfUse::Sign).await.is_ok());
    refused(store.signing_half(client, old, old_pair, HalfUse::Sign).await, Refusal::Retired);
    let devices = store.devices(client).await.unwrap();
    let revoked = |id| devices.iter().find(|device| device.id == id).unwrap().revoked_ms;
    assert_eq!((revoked(old), revoked(new.device.id)), (Some(NOW + 3), None));
    let (next, pairs) = (world.new_backup(), world.new_pairs());
    unknown(store.begin_backup(client, old, &CODE, next, &pairs, NOW + 5).await);
    assert!(store.begin_backup(client, new.device.id, &CODE, next, &pairs, NOW + 5).await.is_ok());
    let ended = store.end_recovery(client, new.id, EndedBy::Operator, NOW + 6).await;
    assert!(matches!(ended, Err(Error::State(What::Recovery))), "too late to cancel");
    store.verify_audit(client.as_bytes()).await.unwrap();
}

pub async fn a_recovery_waits_and_expires(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client) = (world.store(), world.client);
    let new = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW + HOUR);
    assert_eq!(store.begin_recovery(client, &new, NOW).await.unwrap().state, RecoveryState::Waiting);
    let early = store.prove_possession(client, new.id, &ONE_TIME, NOW + HOUR - 1).await;
    assert!(matches!(early, Err(Error::State(What::Recovery))));
    assert_eq!(store.recovery(client, new.id, NOW + HOUR).await.unwrap().state, RecoveryState::Ready);
    store.prove_possession(client, new.id, &ONE_TIME, NOW + HOUR).await.unwrap();
    let late = NOW + HOUR + DAY;
    assert!(matches!(store.commit_recovery(client, new.id, late).await, Err(Error::Expired(What::Recovery))));
    assert_eq!(store.sweep(None, late).await.unwrap().recoveries, 1);
    let device = store.device_by_key(client, &new.device.public_key).await.unwrap();
    assert_eq!(device.revoked_ms, Some(late), "an unfinished device does not stay enrolled");
    assert_eq!(store.recoveries(client, 10, NOW).await.unwrap()[0].state, RecoveryState::Expired, "written down");

    let mut denied = world.new_recovery(&PASSWORD, OldDevices::Keep, late);
    denied.ready_ms = None;
    assert_eq!(store.begin_recovery(client, &denied, late).await.unwrap().state, RecoveryState::Denied);
    let refused = store.prove_possession(client, denied.id, &ONE_TIME, late).await;
    assert!(matches!(refused, Err(Error::State(What::Recovery))));
}

pub async fn a_theft_that_is_cancelled_freezes_the_backup(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let backup = world.back_up(&PASSWORD, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let harmless = world.new_recovery(&PASSWORD, OldDevices::Revoke, NOW);
    store.begin_recovery(client, &harmless, NOW).await.unwrap();
    let ended = store.end_recovery(client, harmless.id, EndedBy::Device(device), NOW).await.unwrap();
    assert_eq!(ended.state, RecoveryState::Cancelled);
    assert_eq!(store.backups(client).await.unwrap()[0].pair.state, PairState::Active, "nothing was opened");

    let theft = world.new_recovery(&PASSWORD, OldDevices::Revoke, NOW);
    store.begin_recovery(client, &theft, NOW).await.unwrap();
    let (_, pending) = store.prove_possession(client, theft.id, &ONE_TIME, NOW).await.unwrap();
    store.end_recovery(client, theft.id, EndedBy::Device(device), NOW + 1).await.unwrap();
    store.end_recovery(client, theft.id, EndedBy::Device(device), NOW + 2).await.unwrap();
    let frozen = store.backups(client).await.unwrap().remove(0);
    assert_eq!(frozen.pair.state, PairState::Frozen);
    refused(store.custodian_halves(client, frozen.id, HalfUse::Recover).await, Refusal::Frozen);
    let halves: Vec<NewHalf> = pending.iter().map(|begun| half(begun.pair, begun.curve)).collect();
    refused(store.store_signing_halves(client, theft.device.id, &halves, NOW).await, Refusal::Retired);
    assert!(matches!(store.commit_recovery(client, theft.id, NOW).await, Err(Error::State(What::Recovery))));
    assert!(store.device_by_key(client, &theft.device.public_key).await.unwrap().revoked_ms.is_some());
    let next = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW);
    refused(store.begin_recovery(client, &next, NOW).await, Refusal::Frozen);

    store.thaw_backup(client, frozen.id, NOW).await.unwrap();
    assert!(store.begin_recovery(client, &next, NOW).await.is_ok());
    assert_eq!(store.custodian_halves(client, frozen.id, HalfUse::Recover).await.unwrap().len(), backup.pairs.len());
}

pub async fn another_clients_pairs_look_unknown(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (begun, digest) = world.prepare_backup(&PASSWORD, NOW).await;
    let (_, stranger) = world.ground.client().await;
    let intruder = world.ground.new_device();
    let store = world.store();
    store.enrol_first_device(stranger, &intruder, NOW).await.unwrap();
    let (id, device) = (begun.backup, intruder.id);
    let pair = store.signing_pairs(world.client).await.unwrap()[0].share.id;
    let wallet = store.wallets(world.client).await.unwrap()[0].id;
    let halves: Vec<NewHalf> = begun.shares.iter().map(|share| half(share.pair, share.curve)).collect();

    unknown(store.wallet(stranger, wallet).await);
    unknown(store.signing_pair(stranger, pair).await);
    unknown(store.half_place(stranger, pair).await);
    unknown(store.signing_half(stranger, device, pair, HalfUse::Sign).await);
    unknown(store.signing_half(world.client, device, pair, HalfUse::Sign).await);
    unknown(store.store_signing_halves(stranger, device, &[half(pair, Curve::Secp256k1)], NOW).await);
    unknown(store.activate_signing(stranger, device, &[pair], NOW).await);
    unknown(store.ban_pair(stranger, pair, "", NOW).await);
    unknown(store.store_custodian_halves(stranger, device, id, &halves, NOW).await);
    unknown(store.store_envelope(stranger, device, id, b"", None, NOW).await);
    unknown(store.envelope(stranger, id).await);
    unknown(store.backup(stranger, id).await);
    unknown(store.commit_backup(stranger, device, id, digest, "", NOW).await);
    unknown(store.cancel_backup(stranger, device, id, NOW).await);
    unknown(store.custodian_halves(stranger, id, HalfUse::ReadBack).await);
    unknown(store.revoke_device(stranger, None, world.device, Force::default(), NOW).await);
    unknown(store.remove_method(stranger, device, &PASSWORD, Force::default(), NOW).await);
    // The right client with another's device: nobody goes on with what this device began.
    refused(store.commit_backup(world.client, device, id, digest, "", NOW).await, Refusal::NotYours);
    store.commit_backup(world.client, world.device, id, digest, "", NOW).await.unwrap();
    let new = world.new_recovery(&PASSWORD, OldDevices::Keep, NOW);
    store.begin_recovery(world.client, &new, NOW).await.unwrap();
    unknown(store.recovery(stranger, new.id, NOW).await);
    unknown(store.prove_possession(stranger, new.id, &ONE_TIME, NOW).await);
    unknown(store.end_recovery(stranger, new.id, EndedBy::Operator, NOW).await);
    assert!(store.backups(stranger).await.unwrap().is_empty());
    assert!(store.signing_pairs(stranger).await.unwrap().is_empty());
}

pub async fn the_last_protection_is_not_removed(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let none = Force::default();
    let both = Force { last_backup: true, last_device: true };
    refused(store.remove_method(client, device, &PASSWORD, none, NOW).await, Refusal::LastBackup);
    refused(store.revoke_device(client, None, device, none, NOW).await, Refusal::LastDevice);
    unknown(store.remove_method(client, device, &CODE, both, NOW).await);

    // Two removals at once, each of which leaves the other: one of them must lose.
    let (a, b) = tokio::join!(
        store.remove_method(client, device, &PASSWORD, both, NOW),
        store.revoke_device(client, None, device, both, NOW)
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    refused(a.map(drop).and(b), Refusal::LastPair);
    let alive = store.slots(client).await.unwrap().iter().filter(|slot| slot.active().is_some()).count();
    assert_ne!(alive, 0);
}

pub async fn a_ban_is_durable_and_leaves_recovery_open(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let pair = store.signing_pairs(client).await.unwrap()[0].share.id;
    store.ban_pair(client, pair, "consistency check", NOW).await.unwrap();
    // Another connection, as after a kill: nothing is asked of the process that banned.
    let after = Store::connect(&world.ground.url).await.unwrap();
    refused(after.signing_half(client, device, pair, HalfUse::Sign).await, Refusal::Banned);
    refused(after.signing_half(client, device, pair, HalfUse::Deal).await, Refusal::Banned);
    let (next, pairs) = (world.new_backup(), world.new_pairs());
    refused(after.begin_backup(client, device, &CODE, next, &pairs, NOW).await, Refusal::Banned);
    after.ban_pair(client, pair, "again", NOW).await.unwrap();
    let banned = after.signing_pair(client, pair).await.unwrap();
    assert_eq!(banned.pair.state, PairState::Banned);
    world.recover(&PASSWORD, OldDevices::Revoke, NOW).await;
    let active = store.signing_pairs(client).await.unwrap();
    assert_eq!(active.iter().filter(|pair| pair.pair.state == PairState::Active).count(), 2);
}

pub async fn a_pair_that_stays_pending_expires(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (begun, digest) = world.prepare_backup(&PASSWORD, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    store.sweep(None, NOW + PENDING_LIFE_MS - 1).await.unwrap();
    assert_eq!(store.backup(client, begun.backup).await.unwrap().pair.state, PairState::Pending);
    let late = NOW + PENDING_LIFE_MS;
    let commit = store.commit_backup(client, device, begun.backup, digest, "", late).await;
    refused(commit, Refusal::DeadlinePassed);
    store.sweep(None, late).await.unwrap();
    let gone = store.backup(client, begun.backup).await.unwrap();
    assert_eq!((gone.pair.state, gone.pair.retired_because), (PairState::Erased, Some(RetireReason::Expired)));
    unknown(store.envelope(client, begun.backup).await);
    let cancelled = world.begin_backup(&PASSWORD, late).await;
    assert_eq!(cancelled.generation, 2);
    store.cancel_backup(client, device, cancelled.backup, late).await.unwrap();
    store.cancel_backup(client, device, cancelled.backup, late).await.unwrap();
    world.back_up(&PASSWORD, late).await;
    let active = store.backups(client).await.unwrap();
    let id = active.iter().find(|backup| backup.pair.state == PairState::Active).unwrap().id;
    refused(store.cancel_backup(client, device, id, late).await, Refusal::NotPending);
}

pub async fn events_are_delivered_at_least_once_and_then_no_more(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let custodian = world.custodian;
    let mut new = |url: &str, kinds: &[&str]| NewWebhook {
        id: WebhookId::generate(&mut world.ground.entropy, NOW),
        custodian,
        url: url.to_owned(),
        kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
    };
    let (all, other) = (new("https://one.example/", &[]), new("https://two.example/", &["wallet.created", "backup"]));
    let (webhook, few) = (all.id, other.id);
    for wanted in [all, other] {
        world.store().create_webhook(wanted, NOW).await.unwrap();
    }
    world.back_up(&PASSWORD, NOW).await;
    let store = world.store();
    store.notify(world.client, "wallet.created", serde_json::json!({}), NOW + 1).await.unwrap();
    assert_eq!(store.due_webhooks(10, NOW).await.unwrap(), [webhook], "the second event is not due yet");
    assert!(store.due_webhooks(0, NOW + 1).await.unwrap().is_empty());
    let take = async |id, retry_ms, now_ms| {
        let taken = store.take_delivery(id, retry_ms, now_ms).await.unwrap();
        taken.map(|taken| (taken.event.kind, taken.event.id, taken.attempt))
    };
    let (kind, first, attempt) = take(webhook, NOW + 60_000, NOW).await.unwrap();
    assert_eq!((kind.as_str(), attempt), ("backup.completed", 1));
    assert_eq!(take(webhook, NOW + 60_000, NOW).await, None, "somebody is at it");
    let again = take(webhook, NOW + 90_000, NOW + 60_000).await.unwrap();
    assert_eq!((again.1, again.2), (first, 2), "and died");
    store.undelivered(webhook, &first, "no answer", Some(NOW + 95_000), NOW + 93_000, NOW + 61_000).await.unwrap();
    assert_eq!(take(webhook, NOW + 99_000, NOW + 92_999).await, None, "left alone");
    let (second, id, _) = take(webhook, NOW + 99_000, NOW + 93_000).await.unwrap();
    assert_eq!(second, "wallet.created", "the first one waits longer");
    store.delivered(webhook, &id, "204", NOW + 93_000).await.unwrap();
    assert_eq!(take(webhook, NOW + 99_000, NOW + 95_000).await.unwrap().1, first);
    store.undelivered(webhook, &first, "status 500", None, NOW, NOW + 95_000).await.unwrap();
    assert_eq!(take(webhook, NOW + 99_000, NOW + 999_000).await, None, "given up");
    let states: Vec<_> = store.deliveries(custodian, webhook, None, [0; 16], 10).await.unwrap();
    let states: Vec<_> = states.iter().map(|one| (one.state, one.attempts, one.answer.as_deref())).collect();
    let expected = [(DeliveryState::Failed, 3, Some("status 500")), (DeliveryState::Delivered, 1, Some("204"))];
    assert_eq!(states, expected);
    for (state, count) in [(DeliveryState::Pending, 0), (DeliveryState::Failed, 1), (DeliveryState::Delivered, 1)] {
        assert_eq!(store.deliveries(custodian, webhook, Some(state), [0; 16], 10).await.unwrap().len(), count);
    }
    assert_eq!(take(few, NOW + 99_000, NOW + 1).await.unwrap().0, "wallet.created", "the kind that it asked for");
    assert_eq!(take(few, NOW + 99_000, NOW + 2).await, None);
    assert_eq!(store.replay(custodian, webhook, NOW + 1, true, NOW).await.unwrap(), 0, "given up, but older");
    assert_eq!(store.replay(custodian, webhook, NOW, true, NOW + 999_000).await.unwrap(), 1);
    assert_eq!(take(webhook, NOW + 999_999, NOW + 999_000).await.map(|taken| (taken.1, taken.2)), Some((first, 1)));
    assert_eq!(store.replay(custodian, few, 0, false, NOW).await.unwrap(), 2, "with the one from before it was there");
    // What is old is forgotten with its deliveries; a webhook goes with its own.
    store.sweep(None, NOW + 91 * 24 * HOUR).await.unwrap();
    assert!(store.deliveries(custodian, few, None, [0; 16], 10).await.unwrap().is_empty());
    assert!(store.events(custodian, [0; 16], 10, u64::MAX >> 1).await.unwrap().is_empty());
    store.delete_webhook(custodian, few, NOW).await.unwrap();
    assert!(matches!(store.webhook(custodian, few).await, Err(Error::Unknown(What::Webhook))));
    assert_eq!(store.webhooks(custodian).await.unwrap().len(), 1);
}

pub async fn a_drill_counts_only_when_it_passed(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let mut new = || VerificationId::generate(&mut world.ground.entropy, NOW);
    let (none, failed, passed, late) = (new(), new(), new(), new());
    unknown(store.begin_verification(client, device, &PASSWORD, none, NOW + HOUR, NOW).await);
    world.back_up(&PASSWORD, NOW).await;
    let verified = || async { store.backups(client).await.unwrap()[0].verified_ms };
    for id in [failed, passed, late] {
        store.begin_verification(client, device, &PASSWORD, id, NOW + HOUR, NOW).await.unwrap();
    }
    store.finish_verification(client, device, failed, false, NOW + 5).await.unwrap();
    assert_eq!(verified().await, Some(NOW), "since the commit");
    unknown(store.finish_verification(client, device, failed, true, NOW + 6).await);
    store.finish_verification(client, device, passed, true, NOW + 7).await.unwrap();
    assert_eq!(verified().await, Some(NOW + 7));
    let expired = store.finish_verification(client, device, late, true, NOW + HOUR).await;
    assert!(matches!(expired, Err(Error::Expired(What::Verification))));
    unknown(store.verification(client, DeviceId::from_bytes([1; 16]), late, NOW).await);
}
