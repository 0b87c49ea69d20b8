//! Bans and their healing, recoveries that are cancelled, expire or are contested, and what an operator decides.

use super::{
    world::{DAY, HOUR, ONE_TIME, World, half},
    *,
};
use halfkey_envelope::{id::PairId, wallet::Method};
use halfkey_protocol::lifecycle::{Event, Force, PENDING_LIFE_MS, PairState, Refusal, SlotKey, Tombstone};
use halfkey_server::store::{
    EndedBy, Error, FrozenPlace, HalfUse, NewHalf, OPERATOR_MS, OldDevices, PendingSigning, Recovery, RecoveryState,
    WaitingForOperator, What,
};

const PASSWORD: Method = Method::Password;
const CODE: Method = Method::RecoveryCode;

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, refusal: Refusal) {
    assert!(matches!(&result, Err(Error::Refused(found)) if *found == refusal), "{result:?} is not {refusal:?}");
}

fn unknown<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::Unknown(_))), "{result:?}");
}

fn in_no_state_for_it<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(&result, Err(Error::State(What::Recovery))), "{result:?}");
}

impl World {
    fn new_pair(&mut self) -> PairId {
        PairId::generate(&mut self.ground.entropy, NOW)
    }

    async fn waiting(&self, now_ms: u64) -> WaitingForOperator {
        self.store().waiting_for_operator(now_ms).await.unwrap()
    }

    async fn kinds(&self) -> Vec<String> {
        let log = self.store().audit(self.client.as_bytes(), 0, 999).await.unwrap();
        self.store().verify_audit(self.client.as_bytes()).await.unwrap();
        log.into_iter().map(|entry| entry.kind).collect()
    }

    async fn state_of(&self, method: &Method) -> PairState {
        let backups = self.store().backups(self.client).await.unwrap();
        backups.iter().rfind(|backup| backup.method == *method).unwrap().pair.state
    }

    /// A recovery that may be opened, by a device of its own.
    async fn open_recovery(&mut self, method: &Method, now_ms: u64) -> Recovery {
        let new = self.new_recovery(method, OldDevices::Keep, now_ms);
        self.store().begin_recovery(self.client, &new, now_ms).await.unwrap()
    }

    async fn proven_recovery(&mut self, method: &Method, now_ms: u64) -> (Recovery, Vec<PendingSigning>) {
        let id = self.open_recovery(method, now_ms).await.id;
        self.store().prove_possession(self.client, id, &ONE_TIME, now_ms).await.unwrap()
    }
}

pub async fn a_reviewed_ban_is_healed_once_and_the_old_half_signs_nothing(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let pairs = store.signing_pairs(client).await.unwrap();
    let (banned, other) = (pairs[0].share.clone(), pairs[1].share.id);
    let (first, second) = (world.new_pair(), world.new_pair());
    refused(store.begin_heal(client, device, banned.id, first, NOW).await, Refusal::NotBanned);
    refused(store.review_ban(client, banned.id, false, NOW).await, Refusal::NotBanned);
    store.ban_pair(client, banned.id, "PEER_CHEATED", NOW + 1).await.unwrap();
    let waiting = world.waiting(NOW + 2).await;
    let one = &waiting.banned[0];
    assert_eq!((waiting.banned.len(), one.client, one.pair, one.device), (1, client, banned.id, device));
    assert_eq!((one.reason.as_deref(), one.since_ms, one.heals), (Some("PEER_CHEATED"), NOW + 1, 0));
    refused(store.begin_heal(client, device, banned.id, first, NOW + 2).await, Refusal::ReviewNeeded);
    refused(store.signing_half(client, device, banned.id, HalfUse::Heal).await, Refusal::Banned);

    store.review_ban(client, banned.id, false, NOW + 3).await.unwrap();
    assert_eq!(world.waiting(NOW + 3).await, WaitingForOperator::default(), "decided");
    let (_, stranger) = world.ground.client().await;
    let intruder = world.ground.new_device();
    store.enrol_first_device(stranger, &intruder, NOW).await.unwrap();
    unknown(store.begin_heal(stranger, intruder.id, banned.id, first, NOW + 3).await);
    unknown(store.begin_heal(client, intruder.id, banned.id, first, NOW + 3).await);
    refused(store.begin_heal(client, device, other, first, NOW + 3).await, Refusal::NotBanned);
    let begun = store.begin_heal(client, device, banned.id, first, NOW + 4).await.unwrap();
    assert_eq!((begun.pair, begun.generation, begun.wallet, begun.curve), (first, 2, banned.wallet, banned.curve));
    let again = store.begin_heal(client, device, banned.id, second, NOW + 5).await.unwrap();
    assert_eq!(again, begun, "asked again, the same pair");
    assert!(store.signing_half(client, device, banned.id, HalfUse::Heal).await.is_ok(), "it deals");
    refused(store.signing_half(client, device, banned.id, HalfUse::Sign).await, Refusal::Banned);
    refused(store.signing_half(client, device, banned.id, HalfUse::Deal).await, Refusal::Banned);
    refused(store.signing_half(client, device, other, HalfUse::Heal).await, Refusal::NotBanned);
    let (backup, backup_pairs) = (world.new_backup(), world.new_pairs());
    let backing_up = store.begin_backup(client, device, &CODE, backup, &backup_pairs, NOW + 5).await;
    refused(backing_up, Refusal::Banned);

    refused(store.commit_heal(client, device, first, NOW + 6).await, Refusal::EvidenceMissing);
    let mut new = half(first, banned.curve);
    new.public.public_key[0] ^= 1;
    let foreign = store.store_signing_halves(client, device, std::slice::from_ref(&new), NOW + 6).await;
    assert!(matches!(foreign, Err(Error::Mismatch(What::Wallet))), "the public key never changes");
    new.public.public_key[0] ^= 1;
    store.store_signing_halves(client, device, &[new], NOW + 6).await.unwrap();
    unknown(store.commit_heal(client, intruder.id, first, NOW + 6).await);
    let keys = store.wallets(client).await.unwrap();
    store.commit_heal(client, device, first, NOW + 7).await.unwrap();
    store.commit_heal(client, device, first, NOW + 8).await.unwrap();
    assert_eq!(store.wallets(client).await.unwrap()[0].public_key, keys[0].public_key);
    assert!(store.signing_half(client, device, first, HalfUse::Sign).await.is_ok());
    for usage in [HalfUse::Sign, HalfUse::Deal, HalfUse::ReadBack] {
        let old = store.signing_half(client, device, banned.id, usage).await;
        assert!(matches!(old, Err(Error::Refused(Refusal::Retired | Refusal::NotPending))), "{usage:?}: {old:?}");
    }
    refused(store.begin_heal(client, device, banned.id, second, NOW + 9).await, Refusal::NotBanned);
    refused(store.begin_heal(client, device, first, second, NOW + 9).await, Refusal::NotBanned);
    let kinds = world.kinds().await;
    for kind in ["pair.banned", "pair.reviewed", "pair.healing", "pair.healed"] {
        assert_eq!(kinds.iter().filter(|one| *one == kind).count(), 1, "{kind} in {kinds:?}");
    }
}

pub async fn a_ban_that_is_upheld_waits_no_more_and_heals_nothing(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let banned = store.signing_pairs(client).await.unwrap()[0].share.clone();
    let new = world.new_pair();
    refused(store.uphold_ban(client, banned.id, NOW).await, Refusal::NotBanned);
    let own = store.ban_own_pair(client, world.ground.new_device().id, banned.id, "X", NOW).await;
    unknown(own);
    store.ban_own_pair(client, device, banned.id, "DEVICE_REPORTS_PEER_CHEATED", NOW).await.unwrap();
    store.review_ban(client, banned.id, false, NOW).await.unwrap();
    store.begin_heal(client, device, banned.id, new, NOW).await.unwrap();
    store.store_signing_halves(client, device, &[half(new, banned.curve)], NOW).await.unwrap();
    store.uphold_ban(client, banned.id, NOW + 1).await.unwrap();
    assert_eq!(world.waiting(NOW + 1).await, WaitingForOperator::default());
    refused(store.commit_heal(client, device, new, NOW + 1).await, Refusal::Retired);
    let next = world.new_pair();
    refused(store.begin_heal(client, device, banned.id, next, NOW + 1).await, Refusal::ReviewNeeded);
    // An operator may think again, and what nobody finished waits anew.
    store.review_ban(client, banned.id, false, NOW + 2).await.unwrap();
    store.begin_heal(client, device, banned.id, next, NOW + 2).await.unwrap();
    assert!(world.waiting(NOW + 3).await.banned.is_empty(), "it is being healed");
    let late = NOW + 2 + PENDING_LIFE_MS;
    let waiting = world.waiting(late).await.banned;
    assert_eq!(waiting.iter().map(|one| (one.pair, one.heals)).collect::<Vec<_>>(), [(banned.id, 2)]);
    refused(store.begin_heal(client, device, banned.id, new, late).await, Refusal::ReviewNeeded);
    assert_eq!(world.kinds().await.iter().filter(|kind| *kind == "pair.upheld").count(), 1);
}

pub async fn an_operator_lifts_the_limit_of_heals_by_name(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let banned = store.signing_pairs(client).await.unwrap()[0].share.id;
    store.ban_pair(client, banned, "X", NOW).await.unwrap();
    for n in 0..3 {
        let at = NOW + n * PENDING_LIFE_MS;
        let new = world.new_pair();
        store.review_ban(client, banned, false, at).await.unwrap();
        store.begin_heal(client, device, banned, new, at).await.unwrap();
    }
    let at = NOW + 3 * PENDING_LIFE_MS;
    refused(store.review_ban(client, banned, false, at).await, Refusal::HealLimit);
    store.review_ban(client, banned, true, at).await.unwrap();
    let new = world.new_pair();
    store.begin_heal(client, device, banned, new, at).await.unwrap();
}

pub async fn a_ban_while_a_recovery_makes_the_pair_ends_it_and_freezes_nothing(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client) = (world.store(), world.client);
    let (recovery, pending) = world.proven_recovery(&PASSWORD, NOW).await;
    let halves: Vec<NewHalf> = pending.iter().map(|begun| half(begun.pair, begun.curve)).collect();
    store.store_signing_halves(client, recovery.device.id, &halves, NOW).await.unwrap();
    store.ban_pair(client, pending[0].pair, "PEER_CHEATED", NOW + 1).await.unwrap();
    let ended = store.recovery(client, recovery.id, NOW + 1).await.unwrap();
    assert_eq!(ended.state, RecoveryState::Cancelled);
    in_no_state_for_it(store.commit_recovery(client, recovery.id, NOW + 1).await);
    let device = store.device_by_key(client, &recovery.device.public_key).await.unwrap();
    assert_eq!(device.revoked_ms, Some(NOW + 1));
    for begun in &pending {
        let pair = store.signing_pair(client, begun.pair).await.unwrap();
        assert_eq!(pair.pair.state, PairState::Retired);
    }
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active, "the owner begins anew");
    assert_eq!(world.waiting(NOW + 1).await, WaitingForOperator::default());
    world.recover(&PASSWORD, OldDevices::Keep, NOW + 2).await;
    // An end by the ban is no cancel of anybody's.
    let next = world.open_recovery(&PASSWORD, NOW + 3).await;
    let by = EndedBy::Device(world.device);
    assert_eq!(store.end_recovery(client, next.id, by, NOW + 3).await.unwrap().state, RecoveryState::Cancelled);
}

pub async fn a_second_cancel_by_the_same_device_goes_to_the_operator(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    let backup = world.back_up(&PASSWORD, NOW).await;
    let other = world.recover(&PASSWORD, OldDevices::Keep, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let cancel = |recovery: Recovery, by, now_ms| {
        let store = store.clone();
        async move { store.end_recovery(client, recovery.id, by, now_ms).await }
    };
    // Giving up one's own is no cancel that counts.
    let own = world.open_recovery(&PASSWORD, NOW).await;
    let by_itself = EndedBy::Device(own.device.id);
    assert_eq!(cancel(own, by_itself, NOW).await.unwrap().state, RecoveryState::Cancelled);
    let first = world.open_recovery(&PASSWORD, NOW).await;
    let by = EndedBy::Device(device);
    assert_eq!(cancel(first.clone(), by, NOW).await.unwrap().state, RecoveryState::Cancelled);
    assert_eq!(cancel(first, by, NOW).await.unwrap().state, RecoveryState::Cancelled, "the same one again");
    assert_eq!(world.waiting(NOW).await, WaitingForOperator::default());

    let second = world.open_recovery(&PASSWORD, NOW + 1).await;
    let held = cancel(second.clone(), by, NOW + HOUR).await.unwrap();
    assert_eq!((held.state, held.expires_ms), (RecoveryState::Contested, NOW + HOUR + OPERATOR_MS));
    assert_eq!(cancel(second.clone(), by, NOW + 2 * HOUR).await.unwrap(), held, "said again, nothing changes");
    in_no_state_for_it(store.prove_possession(client, second.id, &ONE_TIME, NOW + 2 * HOUR).await);
    let waiting = world.waiting(NOW + 2 * HOUR).await;
    let one = &waiting.contested[0];
    assert_eq!((waiting.contested.len(), one.recovery, one.contested_by), (1, second.id, device));
    assert_eq!((one.since_ms, one.expires_ms), (NOW + HOUR, held.expires_ms));
    // It outlives the day after which it would have expired, but not the operator's week.
    assert_eq!(store.sweep(None, NOW + 3 * DAY).await.unwrap().recoveries, 0);
    assert!(world.waiting(held.expires_ms).await.contested.is_empty());
    // Another device's first cancel counts for itself: nothing is left to be decided.
    let by_other = cancel(second.clone(), EndedBy::Device(other), NOW + 2 * HOUR).await.unwrap();
    assert_eq!(by_other.state, RecoveryState::Contested, "already with the operator");

    let open_ms = DAY;
    let goes_on = store.continue_recovery(client, second.id, open_ms, NOW + 4 * HOUR).await.unwrap();
    assert_eq!((goes_on.state, goes_on.expires_ms), (RecoveryState::Ready, NOW + 4 * HOUR + open_ms));
    assert!(world.waiting(NOW + 4 * HOUR).await.contested.is_empty());
    in_no_state_for_it(store.continue_recovery(client, second.id, open_ms, NOW + 4 * HOUR).await);
    for device in [device, other] {
        in_no_state_for_it(cancel(second.clone(), EndedBy::Device(device), NOW + 5 * HOUR).await);
    }
    store.prove_possession(client, second.id, &ONE_TIME, NOW + 5 * HOUR).await.unwrap();
    in_no_state_for_it(cancel(second.clone(), by, NOW + 5 * HOUR).await);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active);
    let by_operator = cancel(second, EndedBy::Operator, NOW + 5 * HOUR).await.unwrap();
    assert_eq!(by_operator.state, RecoveryState::Cancelled);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Frozen, "an operator's cancel protects too");
    let id = store.backups(client).await.unwrap()[0].id;
    let frozen = world.waiting(NOW + 5 * HOUR).await.frozen;
    assert_eq!(frozen.len(), 1);
    assert_eq!(frozen[0].place, FrozenPlace::Backup { backup: id, method: PASSWORD });
    store.thaw_backup(client, id, NOW + 6 * HOUR).await.unwrap();
    refused(store.thaw_backup(client, id, NOW + 6 * HOUR).await, Refusal::NotFrozen);
    assert_eq!(store.custodian_halves(client, id, HalfUse::Recover).await.unwrap().len(), backup.pairs.len());

    // The third is contested too, and the operator may cancel it.
    let third = world.open_recovery(&PASSWORD, NOW + 7 * HOUR).await;
    assert_eq!(cancel(third.clone(), by, NOW + 7 * HOUR).await.unwrap().state, RecoveryState::Contested);
    assert_eq!(cancel(third, EndedBy::Operator, NOW + 7 * HOUR).await.unwrap().state, RecoveryState::Cancelled);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active, "nothing was opened");
    // After a proof of possession a device's cancel freezes at once, whichever it is: that is the operator's anyway.
    let (fourth, _) = world.proven_recovery(&PASSWORD, NOW + 8 * HOUR).await;
    assert_eq!(cancel(fourth, by, NOW + 8 * HOUR).await.unwrap().state, RecoveryState::Cancelled);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Frozen);
    let kinds = world.kinds().await;
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("recovery.contested"), count("recovery.continued")), (2, 1), "{kinds:?}");
}

pub async fn an_expiry_after_possession_freezes_where_another_device_lives(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let key = store.devices(client).await.unwrap().iter().find(|one| one.id == device).unwrap().public_key;
    // Nobody else was seen since: the old phone may be lost, and this backup all that is left.
    let (lost, _) = world.proven_recovery(&PASSWORD, NOW + HOUR).await;
    let late = lost.expires_ms;
    assert_eq!(store.sweep(None, late).await.unwrap().recoveries, 1);
    assert_eq!(store.recovery(client, lost.id, late).await.unwrap().state, RecoveryState::Expired);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active);
    // The device was in use at that very moment and not later: no proof that it lives.
    store.accept_nonce(&key, &[1; 32], late + HOUR).await.unwrap();
    let (same_time, _) = world.proven_recovery(&PASSWORD, late + HOUR).await;
    store.sweep(None, same_time.expires_ms).await.unwrap();
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active);
    // In use since, but it cannot sign on every curve, and so cannot back up anew.
    let begun = same_time.expires_ms + HOUR;
    let (banned, _) = world.proven_recovery(&PASSWORD, begun).await;
    store.accept_nonce(&key, &[2; 32], begun + 1).await.unwrap();
    let pairs = store.signing_pairs(client).await.unwrap();
    let own = pairs.iter().find(|pair| pair.device == device).unwrap().share.id;
    store.ban_pair(client, own, "X", begun + 1).await.unwrap();
    store.sweep(None, banned.expires_ms).await.unwrap();
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active);
    // A living device: somebody else opened the backup, and the owner can make another one at once.
    let third = world.recover(&PASSWORD, OldDevices::Keep, banned.expires_ms).await;
    let third_key = store.devices(client).await.unwrap().iter().find(|one| one.id == third).unwrap().public_key;
    let begun = banned.expires_ms + HOUR;
    let (theft, _) = world.proven_recovery(&PASSWORD, begun).await;
    store.accept_nonce(&third_key, &[3; 32], begun + 1).await.unwrap();
    store.sweep(None, theft.expires_ms - 1).await.unwrap();
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active, "not before");
    store.sweep(None, theft.expires_ms).await.unwrap();
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Frozen);
    let thief = store.device_by_key(client, &theft.device.public_key).await.unwrap();
    assert_eq!(thief.revoked_ms, Some(theft.expires_ms));
    world.device = third;
    world.back_up(&PASSWORD, theft.expires_ms + 1).await;
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active, "the owner needs no operator");
    // Without possession nothing was opened, and nothing is frozen.
    let open = world.open_recovery(&PASSWORD, theft.expires_ms + 2).await;
    store.accept_nonce(&third_key, &[4; 32], theft.expires_ms + 3).await.unwrap();
    store.sweep(None, open.expires_ms).await.unwrap();
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active);
}

pub async fn a_device_revoked_in_the_middle_of_its_recovery_freezes_the_backup(ground: Ground) {
    let mut world = World::with_wallets(ground).await;
    world.back_up(&PASSWORD, NOW).await;
    world.back_up(&CODE, NOW).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let (theft, _) = world.proven_recovery(&PASSWORD, NOW).await;
    store.revoke_device(client, Some(device), theft.device.id, Force::default(), NOW + 1).await.unwrap();
    assert_eq!(store.recovery(client, theft.id, NOW + 1).await.unwrap().state, RecoveryState::Cancelled);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Frozen);
    assert_eq!(world.state_of(&CODE).await, PairState::Active);
    // And when another recovery revokes every other device.
    let (theft, _) = world.proven_recovery(&CODE, NOW + 2).await;
    let id = store.backups(client).await.unwrap()[0].id;
    store.thaw_backup(client, id, NOW + 2).await.unwrap();
    world.recover(&PASSWORD, OldDevices::Revoke, NOW + 3).await;
    assert_eq!(store.recovery(client, theft.id, NOW + 3).await.unwrap().state, RecoveryState::Cancelled);
    assert_eq!(world.state_of(&CODE).await, PairState::Frozen);
    assert_eq!(world.state_of(&PASSWORD).await, PairState::Active, "the owner's own");
}

/// A restore may leave a signing pair frozen.
pub async fn a_frozen_signing_pair_is_thawed_by_name(ground: Ground) {
    let world = World::with_wallets(ground).await;
    let (store, client, device) = (world.store(), world.client, world.device);
    let pair = store.signing_pairs(client).await.unwrap()[0].clone();
    let key = SlotKey::Signing { wallet: pair.share.wallet, device };
    let restored = Event::Restored { tombstones: vec![(pair.share.pair, Tombstone::Removed)], generation: 1 };
    store.danger_apply(client, &[(key, vec![restored])], NOW).await.unwrap();
    refused(store.signing_half(client, device, pair.share.id, HalfUse::Sign).await, Refusal::Frozen);
    let frozen = world.waiting(NOW).await.frozen;
    assert_eq!(frozen[0].place, FrozenPlace::Signing { pair: pair.share.id, device });
    unknown(
        store.thaw_backup(client, halfkey_envelope::id::BackupId::from_bytes(*pair.share.id.as_bytes()), NOW).await,
    );
    store.thaw_pair(client, pair.share.id, NOW).await.unwrap();
    refused(store.thaw_pair(client, pair.share.id, NOW).await, Refusal::NotFrozen);
    refused(store.signing_half(client, device, pair.share.id, HalfUse::Heal).await, Refusal::NotBanned);
    assert_eq!(world.waiting(NOW).await, WaitingForOperator::default());
}
