//! Every event against every state, then each rule by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, WalletId},
    wallet::Method,
};

use super::*;

const T: u64 = 1_763_800_000_000;
const D1: DeviceId = DeviceId::from_bytes([1; 16]);
const D2: DeviceId = DeviceId::from_bytes([2; 16]);
const DIGEST: [u8; 32] = [7; 32];
const OTHER_DIGEST: [u8; 32] = [8; 32];

fn signing_key(device: DeviceId) -> SlotKey {
    SlotKey::Signing { wallet: WalletId::from_bytes([9; 16]), device }
}

fn backup_key(method: Method) -> SlotKey {
    SlotKey::Backup { client: ClientId::from_bytes([9; 16]), method }
}

fn sp(n: u8) -> PairRef {
    PairRef::Signing(PairId::from_bytes([n; 16]))
}

fn bp(n: u8) -> PairRef {
    PairRef::Backup(BackupId::from_bytes([n; 16]))
}

/// Begin and all evidence, up to the point where only the commit is missing.
fn ready(slot: &Slot, pair: PairRef, now: u64) -> Slot {
    let all = match pair {
        PairRef::Signing(_) => vec![Evidence::ServerHalf, Evidence::TestSignature],
        PairRef::Backup(_) => vec![
            Evidence::CustodianAck,
            Evidence::EnvelopeStored { digest: DIGEST },
            Evidence::KeyAsserted { digest: DIGEST },
            Evidence::Proven { digest: DIGEST },
        ],
    };
    let mut events = vec![Event::Begin { pair, by: D1 }];
    events.extend(all.into_iter().map(|what| Event::Evidence { pair, by: D1, what }));
    apply_all(slot, &events, now).unwrap()
}

fn committed(slot: &Slot, pair: PairRef, now: u64) -> Slot {
    apply(&ready(slot, pair, now), &Event::Commit { pair, by: D1 }, now).unwrap()
}

fn empty(signing: bool) -> Slot {
    Slot::new(if signing { signing_key(D1) } else { backup_key(Method::Password) })
}

fn id(signing: bool, n: u8) -> PairRef {
    if signing { sp(n) } else { bp(n) }
}

/// A slot whose first pair is in `state`; everything in it happened at `T`.
fn slot_in(signing: bool, state: PairState) -> Slot {
    let pair = id(signing, 1);
    let active = || committed(&empty(signing), pair, T);
    let step = |slot: &Slot, event: Event| apply(slot, &event, T).unwrap();
    match state {
        PairState::Pending => ready(&empty(signing), pair, T),
        PairState::Active => active(),
        PairState::Retired => committed(&active(), id(signing, 2), T),
        PairState::Erased => {
            let slot = committed(&active(), id(signing, 2), T);
            let slot = step(&slot, Event::Opened { pair: id(signing, 2) });
            let slot = step(&slot, Event::ReplicaSafe { as_of_ms: T });
            step(&slot, Event::Sweep)
        }
        PairState::Banned => step(&active(), Event::Ban { pair }),
        PairState::Frozen if signing => {
            step(&active(), Event::Restored { tombstones: vec![(pair, Tombstone::Removed)], generation: 1 })
        }
        PairState::Frozen => step(&active(), Event::Freeze { pair }),
    }
}

fn state_after(slot: &Slot, event: &Event, pair: PairRef, now: u64) -> Result<PairState, Refusal> {
    apply(slot, event, now).map(|slot| slot.pair(pair).unwrap().state)
}

/// The whole table for the first pair of a slot: state × event → state or refusal.
#[test]
fn every_event_in_every_state() {
    use PairState::{Active, Banned, Erased, Frozen, Pending, Retired};
    for signing in [true, false] {
        let pair = id(signing, 1);
        let new = id(signing, 3);
        let what = if signing { Evidence::ServerHalf } else { Evidence::EnvelopeStored { digest: DIGEST } };
        let remove = Event::Remove { reason: RetireReason::Removed };
        for &state in PairState::ALL {
            if state == Banned && !signing {
                continue; // A backup pair has no state that a peer could attack; Ban refuses it (below).
            }
            let slot = slot_in(signing, state);
            assert_eq!(slot.pair(pair).unwrap().state, state);
            let table: Vec<(&str, Event, Result<PairState, Refusal>)> = vec![
                (
                    "begin",
                    Event::Begin { pair: new, by: D1 },
                    match state {
                        Pending => Ok(Retired),
                        Banned => Err(Refusal::Banned),
                        Frozen if signing => Err(Refusal::Frozen),
                        other => Ok(other),
                    },
                ),
                (
                    "begin again",
                    Event::Begin { pair, by: D1 },
                    match state {
                        Banned => Err(Refusal::Banned),
                        Frozen if signing => Err(Refusal::Frozen),
                        _ => Err(Refusal::DuplicatePair),
                    },
                ),
                (
                    "heal",
                    Event::HealBegin { pair: new, by: D1 },
                    match state {
                        Banned => Err(Refusal::ReviewNeeded),
                        _ => Err(Refusal::NotBanned),
                    },
                ),
                (
                    "review",
                    Event::Review { pair, beyond_limit: false },
                    match state {
                        Banned => Ok(Banned),
                        _ => Err(Refusal::NotBanned),
                    },
                ),
                (
                    "uphold",
                    Event::Uphold { pair },
                    match state {
                        Banned => Ok(Banned),
                        _ => Err(Refusal::NotBanned),
                    },
                ),
                (
                    "evidence",
                    Event::Evidence { pair, by: D1, what },
                    match state {
                        Pending => Ok(Pending),
                        Active => Err(Refusal::NotPending),
                        Retired | Erased => Err(Refusal::Retired),
                        Banned => Err(Refusal::Banned),
                        Frozen => Err(Refusal::Frozen),
                    },
                ),
                (
                    "commit",
                    Event::Commit { pair, by: D1 },
                    match state {
                        Pending | Active => Ok(Active),
                        Retired | Erased => Err(Refusal::Retired),
                        Banned => Err(Refusal::Banned),
                        Frozen => Err(Refusal::Frozen),
                    },
                ),
                (
                    "cancel",
                    Event::Cancel { pair, by: D1 },
                    match state {
                        Pending => Ok(Retired),
                        _ => Err(Refusal::NotPending),
                    },
                ),
                ("expire early", Event::Expire, Ok(state)),
                (
                    "remove",
                    remove.clone(),
                    match state {
                        Erased => Ok(Erased),
                        _ => Ok(Retired),
                    },
                ),
                (
                    "ban",
                    Event::Ban { pair },
                    match state {
                        _ if !signing => Err(Refusal::WrongKind),
                        Pending => Ok(Retired),
                        Active | Banned | Frozen => Ok(Banned),
                        Retired | Erased => Err(Refusal::Retired),
                    },
                ),
                (
                    "freeze",
                    Event::Freeze { pair },
                    match state {
                        _ if signing => Err(Refusal::WrongKind),
                        Active | Frozen => Ok(Frozen),
                        Retired | Erased => Err(Refusal::Retired),
                        Pending | Banned => Err(Refusal::NotActive),
                    },
                ),
                (
                    "thaw",
                    Event::Thaw { pair },
                    match state {
                        Frozen => Ok(Active),
                        _ => Err(Refusal::NotFrozen),
                    },
                ),
                (
                    "opened",
                    Event::Opened { pair },
                    match state {
                        Pending | Active => Ok(state),
                        Retired | Erased => Err(Refusal::Retired),
                        Banned => Err(Refusal::Banned),
                        Frozen => Err(Refusal::Frozen),
                    },
                ),
                ("replica", Event::ReplicaSafe { as_of_ms: T }, Ok(state)),
                ("sweep", Event::Sweep, Ok(state)),
                (
                    "restore",
                    Event::Restored { tombstones: vec![], generation: 0 },
                    match state {
                        Pending => Ok(Retired),
                        other => Ok(other),
                    },
                ),
                (
                    "restore erased",
                    Event::Restored { tombstones: vec![(pair, Tombstone::Erased)], generation: 0 },
                    Ok(Erased),
                ),
            ];
            for (name, event, expected) in table {
                let got = state_after(&slot, &event, pair, T);
                assert_eq!(got, expected, "{name}, signing: {signing}, {state:?}");
            }
        }
    }
}

#[test]
fn a_commit_retires_the_predecessor_in_the_same_result() {
    for signing in [true, false] {
        let (old, new) = (id(signing, 1), id(signing, 2));
        let before = ready(&slot_in(signing, PairState::Active), new, T);
        assert_eq!(before.active().unwrap().id, old, "nothing is retired before the commit");
        let after = apply(&before, &Event::Commit { pair: new, by: D1 }, T + 5).unwrap();
        assert_eq!(after.active().unwrap().id, new);
        assert_eq!(after.active().unwrap().activated_ms, Some(T + 5));
        let old = after.pair(old).unwrap();
        assert_eq!((old.state, old.retired_ms), (PairState::Retired, Some(T + 5)));
        assert_eq!(old.retired_because, Some(RetireReason::Superseded));
    }
}

#[test]
fn a_commit_is_idempotent_and_never_revives() {
    let slot = slot_in(false, PairState::Active);
    assert_eq!(apply(&slot, &Event::Commit { pair: bp(1), by: D1 }, T + 9), Ok(slot.clone()));
    let slot = committed(&slot, bp(2), T);
    assert_eq!(apply(&slot, &Event::Commit { pair: bp(1), by: D1 }, T), Err(Refusal::Retired));
}

#[test]
fn a_commit_needs_all_evidence() {
    let begin = |signing| apply(&empty(signing), &Event::Begin { pair: id(signing, 1), by: D1 }, T).unwrap();
    let with = |slot: &Slot, pair, what| apply(slot, &Event::Evidence { pair, by: D1, what }, T);
    let missing = |slot: &Slot, pair| {
        assert_eq!(apply(slot, &Event::Commit { pair, by: D1 }, T), Err(Refusal::EvidenceMissing));
    };

    let slot = begin(true);
    missing(&slot, sp(1));
    assert_eq!(slot.pairs[0].status(), None);
    assert_eq!(with(&slot, sp(1), Evidence::TestSignature), Err(Refusal::EvidenceMissing));
    let slot = with(&slot, sp(1), Evidence::ServerHalf).unwrap();
    missing(&slot, sp(1));
    assert_eq!(slot.pairs[0].status(), Some(Status::StoredDatabase));
    let slot = with(&slot, sp(1), Evidence::TestSignature).unwrap();
    assert_eq!(slot.pairs[0].status(), Some(Status::StoredClient));
    assert!(apply(&slot, &Event::Commit { pair: sp(1), by: D1 }, T).is_ok());

    let (stored, asserted, proven) = (
        Evidence::EnvelopeStored { digest: DIGEST },
        Evidence::KeyAsserted { digest: DIGEST },
        Evidence::Proven { digest: DIGEST },
    );
    let slot = begin(false);
    missing(&slot, bp(1));
    for early in [stored, asserted, proven] {
        assert_eq!(with(&slot, bp(1), early), Err(Refusal::EvidenceMissing), "{early:?}");
    }
    let slot = with(&slot, bp(1), Evidence::CustodianAck).unwrap();
    missing(&slot, bp(1));
    assert_eq!(slot.pairs[0].status(), Some(Status::StoredCustodianBackupShare));
    for early in [asserted, proven] {
        assert_eq!(with(&slot, bp(1), early), Err(Refusal::EvidenceMissing), "{early:?}");
    }
    let slot = with(&slot, bp(1), stored).unwrap();
    missing(&slot, bp(1));
    assert_eq!(with(&slot, bp(1), proven), Err(Refusal::EvidenceMissing));
    let slot = with(&slot, bp(1), asserted).unwrap();
    missing(&slot, bp(1));
    assert_eq!(slot.pairs[0].status(), Some(Status::StoredClientBackupShareKey));
    assert!(!slot.pairs[0].is_complete());
    let slot = with(&slot, bp(1), proven).unwrap();
    assert_eq!(slot.pairs[0].status(), Some(Status::StoredClientBackupShare));
    assert!(apply(&slot, &Event::Commit { pair: bp(1), by: D1 }, T).is_ok());
}

#[test]
fn evidence_speaks_of_one_envelope() {
    let begin = [Event::Begin { pair: bp(1), by: D1 }, evidence_of(bp(1), Evidence::CustodianAck)];
    let slot = apply_all(&empty(false), &begin, T).unwrap();
    let slot = apply(&slot, &evidence_of(bp(1), Evidence::EnvelopeStored { digest: DIGEST }), T).unwrap();
    for what in [
        Evidence::EnvelopeStored { digest: OTHER_DIGEST },
        Evidence::KeyAsserted { digest: OTHER_DIGEST },
        Evidence::Proven { digest: OTHER_DIGEST },
    ] {
        assert_eq!(apply(&slot, &evidence_of(bp(1), what), T), Err(Refusal::EvidenceConflict), "{what:?}");
    }
}

#[test]
fn the_custodians_halves_stay_once_an_envelope_is_sealed_for_them() {
    let ack = evidence_of(bp(1), Evidence::CustodianAck);
    let begin = [Event::Begin { pair: bp(1), by: D1 }, ack.clone(), ack.clone()];
    let slot = apply_all(&empty(false), &begin, T).unwrap();
    let slot = apply(&slot, &evidence_of(bp(1), Evidence::EnvelopeStored { digest: DIGEST }), T).unwrap();
    assert_eq!(apply(&slot, &ack, T), Err(Refusal::EvidenceConflict));
}

#[test]
fn evidence_and_ids_fit_their_kind_of_slot() {
    let (signing, backup) = (ready(&empty(true), sp(1), T), ready(&empty(false), bp(1), T));
    for what in [Evidence::ServerHalf, Evidence::TestSignature] {
        assert_eq!(apply(&backup, &evidence_of(bp(1), what), T), Err(Refusal::WrongKind));
    }
    for what in [
        Evidence::CustodianAck,
        Evidence::EnvelopeStored { digest: DIGEST },
        Evidence::KeyAsserted { digest: DIGEST },
        Evidence::Proven { digest: DIGEST },
    ] {
        assert_eq!(apply(&signing, &evidence_of(sp(1), what), T), Err(Refusal::WrongKind));
    }
    assert_eq!(apply(&signing, &Event::Begin { pair: bp(2), by: D1 }, T), Err(Refusal::WrongKind));
    assert_eq!(apply(&backup, &Event::Begin { pair: sp(2), by: D1 }, T), Err(Refusal::WrongKind));
}

#[test]
fn a_foreign_device_touches_nothing() {
    let slot = ready(&empty(true), sp(1), T);
    assert_eq!(apply(&slot, &Event::Begin { pair: sp(2), by: D2 }, T + LEASE_MS), Err(Refusal::NotYours));
    let slot = ready(&empty(false), bp(1), T);
    let late = T + LEASE_MS;
    assert_eq!(apply(&slot, &Event::Commit { pair: bp(1), by: D2 }, late), Err(Refusal::NotYours));
    let evidence = Event::Evidence { pair: bp(1), by: D2, what: Evidence::CustodianAck };
    assert_eq!(apply(&slot, &evidence, late), Err(Refusal::NotYours));
    let slot = slot_in(false, PairState::Active);
    assert_eq!(apply(&slot, &Event::Commit { pair: bp(1), by: D2 }, T), Err(Refusal::NotPending));
}

#[test]
fn a_lease_keeps_the_others_out_for_a_minute() {
    let slot = ready(&empty(false), bp(1), T);
    let busy = Err(Refusal::OperationInProgress { retry_at_ms: T + LEASE_MS });
    let last = T + LEASE_MS - 1;
    assert_eq!(apply(&slot, &Event::Begin { pair: bp(2), by: D2 }, last), busy);
    assert_eq!(apply(&slot, &Event::Hold { by: D2 }, last), busy);
    assert_eq!(apply(&slot, &Event::Cancel { pair: bp(1), by: D2 }, last), busy);
    assert!(apply(&slot, &Event::Begin { pair: bp(2), by: D1 }, last).is_ok(), "the same device takes over at once");

    let renewed = apply(&slot, &Event::Hold { by: D1 }, last).unwrap();
    assert!(apply(&renewed, &Event::Begin { pair: bp(2), by: D2 }, T + LEASE_MS).is_err());

    let taken = apply(&slot, &Event::Begin { pair: bp(2), by: D2 }, T + LEASE_MS).unwrap();
    assert_eq!(taken.pair(bp(1)).unwrap().retired_because, Some(RetireReason::Abandoned));
    assert_eq!(apply(&taken, &Event::Commit { pair: bp(1), by: D1 }, T + LEASE_MS), Err(Refusal::Retired));
}

#[test]
fn a_lease_is_given_back_by_its_holder_and_by_the_end_of_the_work() {
    let held = apply(&empty(false), &Event::Hold { by: D1 }, T).unwrap();
    assert!(apply(&held, &Event::Release { by: D2 }, T).unwrap().lease.is_some());
    assert!(apply(&held, &Event::Release { by: D1 }, T).unwrap().lease.is_none());
    assert!(committed(&empty(false), bp(1), T).lease.is_none());
    let slot = ready(&empty(false), bp(1), T);
    assert!(apply(&slot, &Event::Cancel { pair: bp(1), by: D1 }, T).unwrap().lease.is_none());
    assert!(apply(&held, &Event::Expire, T + LEASE_MS - 1).unwrap().lease.is_some());
    assert!(apply(&held, &Event::Expire, T + LEASE_MS).unwrap().lease.is_none());
}

#[test]
fn a_recovery_that_holds_the_slot_keeps_a_commit_out() {
    let slot = ready(&empty(false), bp(1), T);
    let held = apply(&slot, &Event::Hold { by: D2 }, T + LEASE_MS).unwrap();
    let busy = Err(Refusal::OperationInProgress { retry_at_ms: T + 2 * LEASE_MS });
    assert_eq!(apply(&held, &Event::Commit { pair: bp(1), by: D1 }, T + LEASE_MS), busy);
    assert!(apply(&held, &Event::Commit { pair: bp(1), by: D1 }, T + 2 * LEASE_MS).is_ok());
}

#[test]
fn a_pending_pair_lives_for_a_day() {
    let slot = ready(&slot_in(false, PairState::Active), bp(2), T);
    let commit = Event::Commit { pair: bp(2), by: D1 };
    assert!(apply(&slot, &commit, T + PENDING_LIFE_MS - 1).is_ok());
    assert_eq!(apply(&slot, &commit, T + PENDING_LIFE_MS), Err(Refusal::DeadlinePassed));
    assert_eq!(state_after(&slot, &Event::Expire, bp(2), T + PENDING_LIFE_MS - 1), Ok(PairState::Pending));
    let expired = apply(&slot, &Event::Expire, T + PENDING_LIFE_MS).unwrap();
    assert_eq!(expired.pair(bp(2)).unwrap().retired_because, Some(RetireReason::Expired));
    assert_eq!(expired.active().unwrap().id, bp(1), "the old pair stays");
}

#[test]
fn superseded_halves_wait_for_a_replica_and_a_proven_successor() {
    let slot = committed(&slot_in(false, PairState::Active), bp(2), T + 10);
    let swept = |slot: &Slot, now| apply(slot, &Event::Sweep, now).unwrap().pair(bp(1)).unwrap().state;
    let week = T + 10 + KEEP_UNOPENED_MS;
    let safe = apply(&slot, &Event::ReplicaSafe { as_of_ms: T + 10 }, T + 11).unwrap();
    let stale = apply(&slot, &Event::ReplicaSafe { as_of_ms: T + 9 }, T + 11).unwrap();
    let opened = |slot: &Slot| apply(slot, &Event::Opened { pair: bp(2) }, T + 12).unwrap();

    assert_eq!(swept(&slot, week), PairState::Retired, "no replica");
    assert_eq!(swept(&opened(&slot), week), PairState::Retired, "no replica, though opened");
    assert_eq!(swept(&opened(&stale), week), PairState::Retired, "the copy is older than the commit");
    assert_eq!(swept(&safe, week - 1), PairState::Retired, "never opened, not yet a week");
    assert_eq!(swept(&safe, week), PairState::Erased);
    assert_eq!(swept(&opened(&safe), T + 13), PairState::Erased);
}

#[test]
fn only_a_later_committed_pair_counts_as_a_proven_successor() {
    let first = apply(&slot_in(false, PairState::Active), &Event::Opened { pair: bp(1) }, T).unwrap();
    let slot = committed(&first, bp(2), T);
    let pending = ready(&slot, bp(3), T);
    let pending = apply(&pending, &Event::Opened { pair: bp(3) }, T).unwrap();
    let safe = apply(&pending, &Event::ReplicaSafe { as_of_ms: T }, T).unwrap();
    let swept = apply(&safe, &Event::Sweep, T).unwrap();
    assert_eq!(swept.pair(bp(1)).unwrap().state, PairState::Retired, "its own opening and a pending one do not count");
}

#[test]
fn a_security_removal_waits_for_the_replica_only() {
    for (signing, reason) in [(true, RetireReason::Revoked), (false, RetireReason::Removed)] {
        let slot = apply(&slot_in(signing, PairState::Active), &Event::Remove { reason }, T + 10).unwrap();
        let pair = id(signing, 1);
        assert_eq!(slot.pair(pair).unwrap().retired_because, Some(reason));
        assert_eq!(state_after(&slot, &Event::Sweep, pair, T + KEEP_UNOPENED_MS * 2), Ok(PairState::Retired));
        let stale = apply(&slot, &Event::ReplicaSafe { as_of_ms: T + 9 }, T + 11).unwrap();
        assert_eq!(state_after(&stale, &Event::Sweep, pair, T + 11), Ok(PairState::Retired));
        let safe = apply(&slot, &Event::ReplicaSafe { as_of_ms: T + 10 }, T + 11).unwrap();
        assert_eq!(state_after(&safe, &Event::Sweep, pair, T + 11), Ok(PairState::Erased));
    }
}

#[test]
fn a_security_removal_takes_along_what_was_superseded() {
    let slot = committed(&slot_in(false, PairState::Active), bp(2), T);
    let safe = apply(&slot, &Event::ReplicaSafe { as_of_ms: T }, T).unwrap();
    let removed = apply(&safe, &Event::Remove { reason: RetireReason::Removed }, T + 1).unwrap();
    let old = removed.pair(bp(1)).unwrap();
    assert_eq!((old.retired_because, old.replica_safe), (Some(RetireReason::Removed), false));
    assert_eq!(state_after(&removed, &Event::Sweep, bp(1), T + 1), Ok(PairState::Retired));
    let safe = apply(&removed, &Event::ReplicaSafe { as_of_ms: T + 1 }, T + 2).unwrap();
    assert_eq!(state_after(&safe, &Event::Sweep, bp(1), T + 2), Ok(PairState::Erased));
}

#[test]
fn only_security_reasons_remove() {
    let slot = slot_in(true, PairState::Active);
    for &reason in RetireReason::ALL {
        let got = apply(&slot, &Event::Remove { reason }, T);
        assert_eq!(got.is_ok(), reason.is_security(), "{reason:?}");
    }
}

#[test]
fn a_revoked_device_never_begins_again_but_a_removed_method_may() {
    let slot = apply(&slot_in(true, PairState::Active), &Event::Remove { reason: RetireReason::Revoked }, T).unwrap();
    assert_eq!(apply(&slot, &Event::Begin { pair: sp(2), by: D1 }, T), Err(Refusal::Revoked));
    assert_eq!(apply(&slot, &Event::Hold { by: D1 }, T), Err(Refusal::Revoked));
    let slot = apply(&slot_in(false, PairState::Active), &Event::Remove { reason: RetireReason::Removed }, T).unwrap();
    assert!(apply(&slot, &Event::Begin { pair: bp(2), by: D1 }, T).is_ok());
}

#[test]
fn a_removal_ignores_the_lease_and_ends_what_is_pending() {
    let slot = ready(&slot_in(false, PairState::Active), bp(2), T);
    let removed = apply(&slot, &Event::Remove { reason: RetireReason::Removed }, T).unwrap();
    assert!(removed.pairs.iter().all(|pair| pair.state == PairState::Retired));
    assert_eq!(apply(&removed, &Event::Commit { pair: bp(2), by: D1 }, T), Err(Refusal::Retired));
}

#[test]
fn what_never_became_active_is_erased_at_once() {
    let slot = ready(&empty(false), bp(1), T);
    let slot = apply(&slot, &Event::Cancel { pair: bp(1), by: D1 }, T).unwrap();
    assert_eq!(state_after(&slot, &Event::Sweep, bp(1), T), Ok(PairState::Erased));
    assert!(apply(&slot, &Event::Cancel { pair: bp(1), by: D1 }, T).is_ok(), "cancelling is idempotent");
}

#[test]
fn a_sweep_leaves_every_living_pair() {
    for state in [PairState::Pending, PairState::Active, PairState::Banned, PairState::Frozen] {
        let slot = apply(&slot_in(true, state), &Event::ReplicaSafe { as_of_ms: u64::MAX }, T).unwrap();
        assert_eq!(state_after(&slot, &Event::Sweep, sp(1), u64::MAX), Ok(state));
    }
}

#[test]
fn a_banned_pair_deals_once_for_each_review() {
    let banned = slot_in(true, PairState::Banned);
    let heal = |n| Event::HealBegin { pair: sp(n), by: D1 };
    assert_eq!(may_deal(&banned, sp(1)), Err(Refusal::Banned));
    let reviewed = apply(&banned, &Event::Review { pair: sp(1), beyond_limit: false }, T).unwrap();
    let healing = apply(&reviewed, &heal(2), T).unwrap();
    assert_eq!(may_deal(&healing, sp(1)), Ok(()));
    assert_eq!(may_sign(healing.pair(sp(1)).unwrap()), Err(Refusal::Banned), "it deals, it never signs");
    assert_eq!(healing.heals, 1);
    assert_eq!(apply(&healing, &heal(3), T), Err(Refusal::ReviewNeeded));

    let with = |slot: &Slot, what| apply(slot, &evidence_of(sp(2), what), T).unwrap();
    let proven = with(&with(&healing, Evidence::ServerHalf), Evidence::TestSignature);
    let healed = apply(&proven, &Event::Commit { pair: sp(2), by: D1 }, T).unwrap();
    assert_eq!(healed.active().unwrap().id, sp(2));
    assert_eq!(healed.pair(sp(1)).unwrap().state, PairState::Retired);
}

#[test]
fn a_ban_that_is_upheld_takes_the_review_back_and_gives_the_healing_pair_up() {
    let banned = slot_in(true, PairState::Banned);
    let heal = Event::HealBegin { pair: sp(2), by: D1 };
    let uphold = Event::Uphold { pair: sp(1) };
    let reviewed = apply(&banned, &Event::Review { pair: sp(1), beyond_limit: false }, T).unwrap();
    let upheld = apply(&reviewed, &uphold, T).unwrap();
    assert_eq!(apply(&upheld, &heal, T), Err(Refusal::ReviewNeeded));

    let healing = apply(&apply(&reviewed, &heal, T).unwrap(), &evidence_of(sp(2), Evidence::ServerHalf), T).unwrap();
    let upheld = apply(&healing, &uphold, T).unwrap();
    assert_eq!(upheld.pair(sp(2)).unwrap().retired_because, Some(RetireReason::Cancelled));
    assert_eq!(may_deal(&upheld, sp(1)), Err(Refusal::Banned));
    assert_eq!(apply(&upheld, &evidence_of(sp(2), Evidence::TestSignature), T), Err(Refusal::Retired));
    assert_eq!(upheld.pair(sp(1)).unwrap().state, PairState::Banned, "an operator may think again");
}

#[test]
fn after_three_heals_an_operator_lifts_the_limit_by_name() {
    let mut slot = slot_in(true, PairState::Banned);
    let review = |beyond_limit| Event::Review { pair: sp(1), beyond_limit };
    for n in 0..3 {
        slot = apply(&slot, &review(false), T).unwrap();
        slot = apply(&slot, &Event::HealBegin { pair: sp(10 + n), by: D1 }, T).unwrap();
    }
    assert_eq!(slot.heals, 3);
    assert_eq!(apply(&slot, &review(false), T), Err(Refusal::HealLimit));
    assert!(apply(&slot, &review(true), T).is_ok());
}

#[test]
fn a_ban_while_a_pair_is_made_leaves_the_old_one() {
    let slot = ready(&slot_in(true, PairState::Active), sp(2), T);
    let slot = apply(&slot, &Event::Ban { pair: sp(2) }, T).unwrap();
    assert_eq!(slot.active().unwrap().id, sp(1));
    assert_eq!(slot.pair(sp(2)).unwrap().retired_because, Some(RetireReason::Banned));
}

#[test]
fn a_fresh_backup_replaces_a_frozen_one_as_a_security_removal() {
    let slot = committed(&slot_in(false, PairState::Frozen), bp(2), T);
    assert_eq!(slot.pair(bp(1)).unwrap().retired_because, Some(RetireReason::Frozen));
    assert!(RetireReason::Frozen.is_security());
}

#[test]
fn a_restore_revives_nothing_that_was_erased_removed_or_banned() {
    let restored = |slot: &Slot, stones: &[Tombstone]| {
        let tombstones = stones.iter().map(|stone| (slot.pairs[0].id, *stone)).collect();
        apply(slot, &Event::Restored { tombstones, generation: 9 }, T + 1).unwrap()
    };
    let active = slot_in(true, PairState::Active);
    let state = |stones| restored(&active, stones).pairs[0].state;
    assert_eq!(state(&[]), PairState::Active);
    assert_eq!(state(&[Tombstone::Erased]), PairState::Erased);
    assert_eq!(state(&[Tombstone::Removed]), PairState::Frozen);
    assert_eq!(state(&[Tombstone::Banned]), PairState::Banned);
    assert_eq!(state(&[Tombstone::Banned, Tombstone::Removed]), PairState::Banned, "a thaw must not lift a ban");
    assert_eq!(state(&[Tombstone::Removed, Tombstone::Erased]), PairState::Erased);
    assert_eq!(restored(&active, &[]).generation, 9);

    let pending = ready(&active, sp(2), T);
    let pending = apply(&pending, &Event::Restored { tombstones: vec![], generation: 0 }, T).unwrap();
    assert_eq!(pending.pair(sp(2)).unwrap().retired_because, Some(RetireReason::Restored));
    assert_eq!((pending.generation, pending.lease), (2, None));
}

#[test]
fn what_is_not_active_never_signs_and_never_recovers() {
    for &state in PairState::ALL {
        let expected = match state {
            PairState::Active => Ok(()),
            PairState::Pending => Err(Refusal::NotActive),
            PairState::Retired | PairState::Erased => Err(Refusal::Retired),
            PairState::Banned => Err(Refusal::Banned),
            PairState::Frozen => Err(Refusal::Frozen),
        };
        let signing = slot_in(true, state);
        let pair = signing.pair(sp(1)).unwrap();
        assert_eq!(may_sign(pair), expected, "{state:?}");
        assert_eq!(may_recover(pair), Err(Refusal::WrongKind));
        if state != PairState::Banned {
            let backup = slot_in(false, state);
            let pair = backup.pair(bp(1)).unwrap();
            assert_eq!(may_recover(pair), expected, "{state:?}");
            assert_eq!(may_sign(pair), Err(Refusal::WrongKind));
        }
    }
}

#[test]
fn no_call_leaves_a_wallet_with_nothing() {
    let device = |d: DeviceId, state| Slot { key: signing_key(d), ..slot_in(true, state) };
    let method = |m: Method, state| Slot { key: backup_key(m), ..slot_in(false, state) };
    let (d1, d2) = (signing_key(D1), signing_key(D2));
    let (password, drive) = (backup_key(Method::Password), backup_key(Method::GoogleDrive));
    let none = Force::default();
    let force = Force { last_device: true, last_backup: true };
    let check = |signing: &[Slot], backups: &[Slot], removing: &[&SlotKey], force| {
        may_remove(&WalletView { state: WalletState::Open, signing, backups }, removing, force)
    };

    use PairState::{Active, Banned, Frozen, Pending};
    let one = [device(D1, Active)];
    let backup = [method(Method::Password, Active)];
    assert_eq!(check(&one, &[], &[&d1], force), Err(Refusal::LastPair));
    assert_eq!(check(&[], &backup, &[&password], force), Err(Refusal::LastPair));
    assert_eq!(check(&one, &backup, &[&d1, &password], force), Err(Refusal::LastPair));
    for nothing in [Pending, Frozen] {
        assert_eq!(check(&one, &[method(Method::Password, nothing)], &[&d1], force), Err(Refusal::LastPair));
    }
    assert_eq!(check(&[device(D1, Active), device(D2, Banned)], &[], &[&d1], force), Err(Refusal::LastPair));

    assert_eq!(check(&one, &backup, &[&d1], none), Err(Refusal::LastDevice));
    assert_eq!(check(&one, &backup, &[&d1], Force { last_device: true, ..none }), Ok(()));
    assert_eq!(check(&one, &backup, &[&password], none), Err(Refusal::LastBackup));
    assert_eq!(check(&one, &backup, &[&password], Force { last_backup: true, ..none }), Ok(()));

    let two = [device(D1, Active), device(D2, Active)];
    assert_eq!(check(&two, &backup, &[&d2], none), Ok(()));
    let both = [method(Method::Password, Active), method(Method::GoogleDrive, Active)];
    assert_eq!(check(&one, &both, &[&drive], none), Ok(()));
    assert_eq!(check(&[device(D1, Pending)], &backup, &[&d1], none), Ok(()), "nothing active is lost");
    assert_eq!(check(&[device(D1, Frozen)], &[], &[&d1], force), Err(Refusal::LastPair), "it may be all there is");

    for (state, refusal) in [(WalletState::Ejecting, Refusal::Ejecting), (WalletState::Ejected, Refusal::Ejected)] {
        let view = WalletView { state, signing: &two, backups: &both };
        assert_eq!(may_remove(&view, &[&d2], force), Err(refusal));
        assert_eq!(state.may_operate(), Err(refusal));
    }
}

#[test]
fn names_round_trip_and_unknown_names_are_refused() {
    for &state in PairState::ALL {
        assert_eq!(PairState::parse(state.as_str()), Ok(state));
    }
    for &reason in RetireReason::ALL {
        assert_eq!(RetireReason::parse(reason.as_str()), Ok(reason));
    }
    for &status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Ok(status));
    }
    for &state in WalletState::ALL {
        assert_eq!(WalletState::parse(state.as_str()), Ok(state));
    }
    assert!(PairState::parse("active").is_err() && Status::parse("").is_err());
}

fn evidence_of(pair: PairRef, what: Evidence) -> Event {
    Event::Evidence { pair, by: D1, what }
}
