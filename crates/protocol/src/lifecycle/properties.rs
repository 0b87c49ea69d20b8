//! Random histories, in and out of order; the named invariants hold after every event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, WalletId},
    wallet::Method,
};
use proptest::prelude::*;

use super::*;

const DEVICES: [DeviceId; 2] = [DeviceId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16])];

fn slot(signing: bool) -> Slot {
    Slot::new(if signing {
        SlotKey::Signing { wallet: WalletId::from_bytes([9; 16]), device: DEVICES[0] }
    } else {
        SlotKey::Backup { client: ClientId::from_bytes([9; 16]), method: Method::Passkey }
    })
}

fn event(signing: bool) -> impl Strategy<Value = Event> {
    let pair = (0u8..6).prop_map(move |n| {
        if signing {
            PairRef::Signing(PairId::from_bytes([n; 16]))
        } else {
            PairRef::Backup(BackupId::from_bytes([n; 16]))
        }
    });
    let by = prop_oneof![4 => Just(DEVICES[0]), 1 => Just(DEVICES[1])];
    let digest = prop_oneof![9 => Just([7; 32]), 1 => Just([8; 32])];
    let what = (0..6, digest).prop_map(|(n, digest)| match n {
        0 => Evidence::ServerHalf,
        1 => Evidence::TestSignature,
        2 => Evidence::CustodianAck,
        3 => Evidence::EnvelopeStored { digest },
        4 => Evidence::KeyAsserted { digest },
        _ => Evidence::Proven { digest },
    });
    let reason = proptest::sample::select(RetireReason::ALL);
    let stones = proptest::collection::vec(
        (pair.clone(), prop_oneof![Just(Tombstone::Removed), Just(Tombstone::Banned), Just(Tombstone::Erased)]),
        0..3,
    );
    prop_oneof![
        6 => (pair.clone(), by.clone()).prop_map(|(pair, by)| Event::Begin { pair, by }),
        24 => (pair.clone(), by.clone(), what).prop_map(|(pair, by, what)| Event::Evidence { pair, by, what }),
        8 => (pair.clone(), by.clone()).prop_map(|(pair, by)| Event::Commit { pair, by }),
        1 => (pair.clone(), by.clone()).prop_map(|(pair, by)| Event::Cancel { pair, by }),
        2 => (pair.clone(), by.clone()).prop_map(|(pair, by)| Event::HealBegin { pair, by }),
        1 => by.clone().prop_map(|by| Event::Hold { by }),
        1 => by.prop_map(|by| Event::Release { by }),
        1 => Just(Event::Expire),
        1 => reason.prop_map(|reason| Event::Remove { reason }),
        2 => pair.clone().prop_map(|pair| Event::Ban { pair }),
        2 => (pair.clone(), any::<bool>()).prop_map(|(pair, beyond_limit)| Event::Review { pair, beyond_limit }),
        1 => pair.clone().prop_map(|pair| Event::Uphold { pair }),
        1 => pair.clone().prop_map(|pair| Event::Freeze { pair }),
        1 => pair.clone().prop_map(|pair| Event::Thaw { pair }),
        2 => pair.prop_map(|pair| Event::Opened { pair }),
        3 => (0u64..400_000).prop_map(|as_of_ms| Event::ReplicaSafe { as_of_ms }),
        3 => Just(Event::Sweep),
        1 => (stones, 0u64..4).prop_map(|(tombstones, generation)| Event::Restored { tombstones, generation }),
    ]
}

/// Two events in three go on with the pair at hand as an honest device would, so that histories get far.
fn likely(slot: &Slot, signing: bool, drawn: &Event, choice: u8) -> Event {
    let Some(pending) = slot.pending() else { return drawn.clone() };
    let (pair, by) = (pending.id, pending.begun_by);
    let done = pending.checked;
    let what = match (signing, done.server_half, done.custodian_ack, done.envelope, done.asserted) {
        (true, false, ..) => Evidence::ServerHalf,
        (true, true, ..) => Evidence::TestSignature,
        (false, _, false, ..) => Evidence::CustodianAck,
        (false, _, true, None, _) => Evidence::EnvelopeStored { digest: [7; 32] },
        (false, _, true, Some(digest), false) => Evidence::KeyAsserted { digest },
        (false, _, true, Some(digest), true) => Evidence::Proven { digest },
    };
    match choice % 3 {
        0 => drawn.clone(),
        _ if pending.is_complete() => Event::Commit { pair, by },
        _ => Event::Evidence { pair, by, what },
    }
}

fn at_most_one_standing_and_one_pending(slot: &Slot) {
    assert!(slot.pairs.iter().filter(|pair| pair.state.is_standing()).count() <= 1);
    assert!(slot.pairs.iter().filter(|pair| pair.state == PairState::Pending).count() <= 1);
}

fn what_is_active_was_proven(slot: &Slot) {
    for pair in slot.pairs.iter().filter(|pair| pair.activated_ms.is_some()) {
        assert!(pair.is_complete(), "{pair:?}");
    }
}

fn only_commit_or_thaw_activates(before: &Slot, event: &Event, after: &Slot) {
    let was = |pair: &Pair| before.pair(pair.id).is_some_and(|old| old.state == PairState::Active);
    if after.active().is_some_and(|pair| !was(pair)) {
        assert!(matches!(event, Event::Commit { .. } | Event::Thaw { .. }), "{event:?}");
    }
}

fn nothing_returns_from_retired_or_erased(before: &Slot, after: &Slot) {
    for old in &before.pairs {
        let new = after.pair(old.id).expect("no pair is forgotten").state;
        match old.state {
            PairState::Erased => assert_eq!(new, PairState::Erased),
            PairState::Retired => assert!(matches!(new, PairState::Retired | PairState::Erased)),
            PairState::Banned => assert!(!matches!(new, PairState::Active | PairState::Frozen | PairState::Pending)),
            _ => {}
        }
    }
}

fn a_standing_pair_falls_only_to_a_successor_or_a_removal(before: &Slot, event: &Event, after: &Slot) {
    if before.standing().is_some() && after.standing().is_none() {
        assert!(matches!(event, Event::Remove { .. } | Event::Restored { .. }), "{event:?}");
    }
}

fn an_erasure_was_known_to_a_replica(before: &Slot, event: &Event, after: &Slot) {
    let gone = |pair: &&Pair| {
        pair.state == PairState::Erased && before.pair(pair.id).is_some_and(|old| old.state != PairState::Erased)
    };
    for pair in after.pairs.iter().filter(gone) {
        match event {
            Event::Restored { .. } => {}
            Event::Sweep if pair.activated_ms.is_none() => {}
            Event::Sweep => assert!(before.pair(pair.id).unwrap().replica_safe),
            other => panic!("{other:?} erased"),
        }
    }
}

fn generations_only_rise(before: &Slot, after: &Slot) {
    assert!(after.generation >= before.generation);
    assert!(after.pairs.windows(2).all(|two| two[0].generation < two[1].generation));
}

fn a_commit_repeats_without_effect(event: &Event, after: &Slot, now: u64) {
    if matches!(event, Event::Commit { .. }) {
        assert_eq!(apply(after, event, now + 1).as_ref(), Ok(after));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_every_history(
        (signing, events) in any::<bool>().prop_flat_map(|signing| {
            let step = (event(signing), 0u64..90_000, any::<u8>());
            (Just(signing), proptest::collection::vec(step, 1..80))
        })
    ) {
        let (mut slot, mut now) = (slot(signing), 0);
        for (drawn, pause, choice) in events {
            now += pause;
            let event = likely(&slot, signing, &drawn, choice);
            let Ok(after) = apply(&slot, &event, now) else { continue };
            at_most_one_standing_and_one_pending(&after);
            what_is_active_was_proven(&after);
            only_commit_or_thaw_activates(&slot, &event, &after);
            nothing_returns_from_retired_or_erased(&slot, &after);
            a_standing_pair_falls_only_to_a_successor_or_a_removal(&slot, &event, &after);
            an_erasure_was_known_to_a_replica(&slot, &event, &after);
            generations_only_rise(&slot, &after);
            a_commit_repeats_without_effect(&event, &after, now);
            slot = after;
        }
    }
}
