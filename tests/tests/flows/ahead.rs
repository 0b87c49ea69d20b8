//! How many round trips a signature takes, and what becomes of a session that was opened ahead.

use std::sync::Arc;

use halfkey_api::signing::Payload;
use halfkey_client::{
    BlobSlot, Error, OldDevices, StoreError,
    memory::{Fault, MemoryBlobStore},
};

use super::{
    solana_payload,
    world::{Loss, PASSWORD, Phone, World, backup_with, recover, with},
};

const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

fn hello() -> Payload {
    Payload::EthMessage(b"hello".to_vec())
}

/// Signs, and says how many requests that took.
async fn trips(phone: &Phone, payload: Payload) -> usize {
    let before = phone.network.sent();
    phone.halfkey.sign(payload).await.unwrap();
    phone.network.sent() - before
}

#[tokio::test]
async fn a_signature_takes_two_round_trips_and_one_on_ed25519() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    for _ in 0..3 {
        assert_eq!(trips(&phone, hello()).await, 2);
        assert_eq!(trips(&phone, solana_payload(&addresses).0).await, 1);
    }
    assert_eq!(trips(&phone.restarted(), hello()).await, 2, "what was opened ahead is stored");
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    assert_eq!(trips(&phone, hello()).await, 2, "a backup leaves it alone");

    let new = world.phone(&token);
    recover(&new, with(PASSWORD), OldDevices::Keep, None).await.unwrap();
    assert_eq!(trips(&new, hello()).await, 2);
    assert_eq!(trips(&new, solana_payload(&addresses).0).await, 1);
    assert_eq!(trips(&phone, hello()).await, 2, "each device has its own");
}

/// A copy of the device, or a server that forgot: the half is refused, and the signature begins with a step 0.
#[tokio::test]
async fn a_session_that_was_used_or_has_expired_costs_its_step_0_again() {
    let world = World::start().await;
    let phone = world.phone(&world.client_key().await);
    phone.halfkey.create_wallet().await.unwrap();
    let older = phone.blobs.peek(BlobSlot::Current).unwrap();
    assert_eq!(trips(&phone, hello()).await, 2);
    phone.blobs.put(BlobSlot::Current, older);
    assert_eq!(trips(&phone, hello()).await, 4, "refused, and begun again");
    assert_eq!(trips(&phone, hello()).await, 2);

    world.clock.pass_ms(WEEK_MS - 60_000);
    assert_eq!(trips(&phone, hello()).await, 2, "it waits for a week");
    world.clock.pass_ms(WEEK_MS);
    assert_eq!(trips(&phone, hello()).await, 4, "and no longer");
    assert_eq!(trips(&phone, hello()).await, 2);
}

/// It is gone from the device before the server hears of it, whatever is lost then.
#[tokio::test]
async fn a_lost_message_never_uses_a_session_twice() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    for loss in [Loss::Request, Loss::Answer] {
        for nth in 0..2 {
            assert_eq!(trips(&phone, hello()).await, 2);
            let before = phone.blobs.peek(BlobSlot::Current).unwrap();
            phone.network.lose(nth, loss);
            let lost = phone.halfkey.sign(hello()).await.unwrap_err();
            assert!(matches!(lost, Error::Transport(_)), "{lost:?}");
            assert_ne!(
                phone.blobs.peek(BlobSlot::Current).unwrap(),
                before,
                "{loss:?} {nth}: removed before it is used"
            );
            assert_eq!(trips(&phone.restarted(), hello()).await, 3, "{loss:?} {nth}: a step 0, and nothing refused");
        }
    }
}

#[tokio::test]
async fn two_signatures_at_once_do_not_share_a_session() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    let (one, two) = tokio::join!(phone.halfkey.sign(hello()), phone.halfkey.sign(hello()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.signature, two.signature);
    assert_eq!(phone.network.sent() - before, 5, "one had the session that was opened ahead, the other a step 0");
    let (again, twice) = (trips(&phone, hello()).await, trips(&phone, hello()).await);
    assert!(again == 2 || again == 4, "the older of the two next ones may be stored: {again}");
    assert_eq!(twice, 2);
}

/// A store that cannot be written costs round trips and no signature.
#[tokio::test]
async fn a_signature_survives_a_store_that_fails_at_any_change() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    phone.halfkey.create_wallet().await.unwrap();
    let break_change = |blobs: &Arc<MemoryBlobStore>, nth: usize, fault: Fault| {
        blobs.script_changes((0..nth).map(|_| Fault::None).chain([fault]));
    };
    let (fails, lies) = (Fault::Fail(StoreError::Unavailable), Fault::DoneButReported(StoreError::Unavailable));
    // What cannot be removed is not used; what cannot be kept is asked for the next time.
    for (nth, fault, now, next) in [(0, fails, 3, 2), (0, lies, 3, 2), (1, fails, 2, 3), (1, lies, 2, 2)] {
        assert_eq!(trips(&phone, hello()).await, 2);
        break_change(&phone.blobs, nth, fault);
        assert_eq!(trips(&phone, hello()).await, now, "change {nth} {fault:?}");
        assert!(!phone.blobs.has_changes_scripted(), "it was broken");
        assert_eq!(trips(&phone, hello()).await, next, "after change {nth} {fault:?}");
    }
}
