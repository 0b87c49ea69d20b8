//! Bans through the SDK: a server that cheats is banned on the device, durably, and after the operator's review the
//! wallet is healed (PROTOCOL.md 4.9).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use halfkey_api::ceremony::{CeremonyAnswer, Op};
use halfkey_client::{BlobSlot, Error, OldDevices, Payload, Resumed};
use halfkey_envelope::{
    id::PairId,
    wallet::{Curve, Method},
};
use halfkey_protocol::lifecycle::{PairState, Refusal};
use halfkey_server::{admin, store};

use super::{
    losses, signs,
    world::{Hostile, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with},
};

const CHEATED: Error = Error::PeerMisbehaved { what: "PEER_CHEATED" };

fn hello() -> Payload {
    Payload::EthMessage(b"hello".to_vec())
}

/// Flips one bit in the last part of an answer, so many tenths from its beginning.
fn flip(answer: &mut CeremonyAnswer, tenth: usize) {
    if let Some(part) = answer.parts.iter_mut().find(|part| part.curve == Curve::Secp256k1) {
        let at = part.bytes.len() * tenth / 10;
        part.bytes[at] ^= 1;
    }
}

/// A server that spoils one place after another of this step, until the device has caught it cheating.
async fn cheats_in_a_signature(world: &World, phone: &Phone) {
    for tenth in 1..10 {
        let spoil = move |op, answer: &mut CeremonyAnswer| {
            if (op, answer.step) == (Op::Sign, 1) {
                flip(answer, tenth);
            }
        };
        phone.network.hostile(Hostile::of(world, spoil).await);
        let failed = phone.halfkey.sign(hello()).await.unwrap_err();
        if failed == CHEATED {
            phone.network.honest();
            return;
        }
        assert!(matches!(failed, Error::PeerMisbehaved { .. }), "{failed:?}");
    }
    panic!("no tampering was taken for cheating");
}

/// This phone's pair on a curve, as the server has it.
async fn pair_of(world: &World, curve: Curve) -> store::SigningPair {
    let pairs = world.store().await.signing_pairs(world.the_client().await).await.unwrap();
    pairs.into_iter().rfind(|pair| pair.share.curve == curve && pair.pair.state.is_standing()).unwrap()
}

async fn ban(world: &World, curve: Curve) -> PairId {
    let pair = pair_of(world, curve).await.share.id;
    world.store().await.ban_pair(world.the_client().await, pair, "BY_A_TEST", now(world)).await.unwrap();
    pair
}

async fn lift(world: &World, pair: PairId) {
    admin::lift_ban(&world.state, world.the_client().await, pair, false).await.unwrap();
}

fn now(world: &World) -> u64 {
    halfkey_client::Clock::now_ms(&*world.clock)
}

#[tokio::test]
async fn a_device_that_was_cheated_signs_nothing_until_it_is_healed() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::NotBanned));
    signs(&phone, &addresses).await.unwrap();

    cheats_in_a_signature(&world, &phone).await;
    // Durable before anybody heard of it; nothing is asked of the server, and nothing is dealt from it either.
    let phone = phone.restarted();
    let before = phone.network.sent();
    assert_eq!(phone.halfkey.sign(hello()).await, Err(Error::Banned));
    assert_eq!(phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await, Err(Error::Banned));
    assert_eq!(phone.network.sent(), before, "refused on the device");
    let (payload, _) = super::solana_payload(&addresses);
    phone.halfkey.sign(payload).await.unwrap();

    // The operator was told, and decides.
    let banned = pair_of(&world, Curve::Secp256k1).await;
    assert_eq!(banned.pair.state, PairState::Banned);
    let waiting = admin::waiting(&world.state).await.unwrap().banned;
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].pair, waiting[0].curve), (banned.share.id, Curve::Secp256k1));
    assert_eq!(waiting[0].reason.as_deref(), Some("DEVICE_REPORTS_PEER_CHEATED"));
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::ReviewNeeded));
    admin::uphold_ban(&world.state, world.the_client().await, banned.share.id).await.unwrap();
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::ReviewNeeded));
    lift(&world, banned.share.id).await;
    let old = phone.blobs.peek(BlobSlot::Current).unwrap();
    assert_eq!(phone.halfkey.heal_wallet().await, Ok(vec![Curve::Secp256k1]));

    assert_eq!(phone.halfkey.addresses().await.unwrap(), addresses);
    signs(&phone, &addresses).await.unwrap();
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::NotBanned), "once");
    assert_eq!(phone.blobs.peek(BlobSlot::Pending), None);
    let healed = pair_of(&world, Curve::Secp256k1).await;
    assert_ne!(healed.share.id, banned.share.id);
    assert_eq!(healed.share.public.as_ref().unwrap().public_key, banned.share.public.as_ref().unwrap().public_key);
    assert_ne!(healed.share.public.unwrap().client_point, banned.share.public.unwrap().client_point);

    // The old backup recovers, a new one is made from the healed share and recovers too.
    let second = world.phone(&token);
    recover(&second, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    let third = world.phone(&token);
    recover(&third, with(OTHER_PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    for phone in [&phone, &second, &third] {
        signs(phone, &addresses).await.unwrap();
    }
    // The share of before the healing, put back, is refused by the server: its half signs nothing any more.
    phone.blobs.put(BlobSlot::Current, old);
    assert_eq!(phone.halfkey.sign(hello()).await, Err(Error::Banned), "the device still knows");
    let refused = world.store().await;
    let (client, device) = (world.the_client().await, banned.device);
    let half = refused.signing_half(client, device, banned.share.id, store::HalfUse::Sign).await;
    assert!(matches!(half, Err(store::Error::Refused(Refusal::Retired))), "{half:?}");
}

/// A server that could not be told of the ban, or has forgotten it, is told before the healing.
#[tokio::test]
async fn a_ban_that_the_server_did_not_hear_of_is_reported_before_the_healing() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.network.block("/ban");
    cheats_in_a_signature(&world, &phone).await;
    assert_eq!(phone.halfkey.sign(hello()).await, Err(Error::Banned));
    assert_eq!(pair_of(&world, Curve::Secp256k1).await.pair.state, PairState::Active, "nobody was told");
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::ReviewNeeded));
    let banned = pair_of(&world, Curve::Secp256k1).await;
    assert_eq!(banned.pair.state, PairState::Banned);
    lift(&world, banned.share.id).await;
    assert_eq!(phone.halfkey.heal_wallet().await, Ok(vec![Curve::Secp256k1]));
    signs(&phone, &addresses).await.unwrap();
}

/// Both curves, one after the other; Ed25519 needs no fresh state.
#[tokio::test]
async fn both_curves_heal_and_the_wallet_signs_backs_up_and_recovers() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let banned = [ban(&world, Curve::Secp256k1).await, ban(&world, Curve::Ed25519).await];
    assert_eq!(signs(&phone, &addresses).await, Err(Error::Banned));
    lift(&world, banned[1]).await;
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::ReviewNeeded), "the other curve's is not lifted");
    lift(&world, banned[0]).await;
    assert_eq!(phone.halfkey.heal_wallet().await, Ok(Curve::ALL.to_vec()));
    assert_eq!(phone.halfkey.addresses().await.unwrap(), addresses);
    signs(&phone, &addresses).await.unwrap();
    phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap();
    let new = world.phone(&token);
    recover(&new, with(OTHER_PASSWORD), OldDevices::Revoke, Some(addresses.clone())).await.unwrap();
    signs(&new, &addresses).await.unwrap();
    // The banned phone's place is taken; the new one has nothing to heal.
    assert_eq!(new.halfkey.heal_wallet().await, Err(Error::NotBanned));
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::NotBanned), "retired with its device");
}

/// Every request of a healing is lost, and every answer: the same phone comes to its end with one review.
#[tokio::test]
async fn a_healing_survives_the_loss_of_any_message() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let client = world.the_client().await;
    let heals = Arc::new(AtomicUsize::new(0));
    let banned = async || {
        let pair = ban(&world, Curve::Secp256k1).await;
        let beyond_limit = heals.fetch_add(1, Ordering::SeqCst) >= 3;
        admin::lift_ban(&world.state, client, pair, beyond_limit).await.unwrap();
    };
    banned().await;
    let before = phone.network.sent();
    phone.halfkey.heal_wallet().await.unwrap();
    let total = phone.network.sent() - before;
    assert!(total >= 7, "the number of messages has shrunk to {total}");
    let mut phone = phone;
    for (nth, loss) in losses(total) {
        banned().await;
        phone.network.lose(nth, loss);
        let result = phone.halfkey.heal_wallet().await;
        assert!(phone.network.has_lost(), "{nth} {loss:?}: nothing was lost");
        assert!(result.is_err(), "{nth} {loss:?}");
        phone = phone.restarted();
        match phone.halfkey.resume().await.unwrap() {
            Resumed::Healed(curve) => assert_eq!(curve, Curve::Secp256k1),
            Resumed::Nothing => {
                let healed = phone.halfkey.heal_wallet().await;
                assert_eq!(healed, Ok(vec![Curve::Secp256k1]), "{nth} {loss:?}");
            }
            other => panic!("{nth} {loss:?}: {other:?}"),
        }
        assert_eq!(phone.halfkey.addresses().await.unwrap(), addresses);
        signs(&phone, &addresses).await.unwrap();
        assert_eq!(phone.blobs.peek(BlobSlot::Pending), None, "{nth} {loss:?}");
        assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing), "{nth} {loss:?}");
    }
    assert_eq!(phone.halfkey.available_recovery_methods().await.unwrap(), [Method::Password]);
    let new = world.phone(&token);
    recover(&new, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

/// A healing whose time is over, or that the operator took back, is discarded; the share stays banned.
#[tokio::test]
async fn a_healing_that_the_operator_takes_back_is_discarded() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let pair = ban(&world, Curve::Secp256k1).await;
    lift(&world, pair).await;
    let spoil = |op, answer: &mut CeremonyAnswer| {
        if (op, answer.step) == (Op::Heal, 4) {
            answer.parts.clear();
        }
    };
    phone.network.hostile(Hostile::of(&world, spoil).await);
    assert_eq!(phone.halfkey.heal_wallet().await, Err(Error::PeerMisbehaved { what: "parts" }));
    phone.network.honest();
    assert!(phone.blobs.peek(BlobSlot::Pending).is_some());
    admin::uphold_ban(&world.state, world.the_client().await, pair).await.unwrap();
    let phone = phone.restarted();
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::HealDiscarded(Curve::Secp256k1)));
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing));
    assert_eq!(phone.halfkey.sign(hello()).await, Err(Error::Banned));
    // Another account on the same phone gives nothing of it up.
    lift(&world, pair).await;
    phone.halfkey.heal_wallet().await.unwrap();
    phone.halfkey.sign(hello()).await.unwrap();
}

/// A cheat in the test signature: what was made with it is not used, and the recovery goes on with everything new.
#[tokio::test]
async fn a_recovery_that_was_cheated_in_its_test_signature_goes_on_with_everything_new() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let mut caught = None;
    for tenth in 1..10 {
        let spoil = move |op, answer: &mut CeremonyAnswer| {
            if (op, answer.step) == (Op::Recover, 4) {
                flip(answer, tenth);
            }
        };
        let phone = world.phone(&token);
        phone.network.hostile(Hostile::of(&world, spoil).await);
        let failed = recover(&phone, with(PASSWORD), OldDevices::Keep, None).await.unwrap_err();
        phone.network.honest();
        if failed == CHEATED {
            caught = Some(phone);
            break;
        }
    }
    // The server has not committed: the recovery goes on, with a share and state that are new altogether.
    let phone = caught.expect("no tampering was taken for cheating").restarted();
    assert!(matches!(phone.halfkey.resume().await, Ok(Resumed::RecoveryOpen { .. })));
    recover(&phone, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await.unwrap();
    signs(&phone, &addresses).await.unwrap();

    // In the very last answer: the server has committed, no state is spent, and the share is this device's.
    let phone = world.phone(&token);
    let spoil = |op, answer: &mut CeremonyAnswer| {
        if (op, answer.step) == (Op::Recover, 5) {
            flip(answer, 5);
        }
    };
    phone.network.hostile(Hostile::of(&world, spoil).await);
    let failed = recover(&phone, with(PASSWORD), OldDevices::Keep, None).await.unwrap_err();
    assert!(matches!(failed, Error::PeerMisbehaved { .. }), "{failed:?}");
    phone.network.honest();
    let phone = phone.restarted();
    assert_eq!(phone.halfkey.resume().await, Ok(Resumed::RecoveryCompleted));
    signs(&phone, &addresses).await.unwrap();
}
