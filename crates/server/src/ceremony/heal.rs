//! `reshare` (C, S) → (C, S) in the place of a banned pair, on its curve (PROTOCOL.md 4.9). S deals here, with its half of
//! the banned pair and none of its oblivious-transfer state; what follows is in `renew.rs`.

use halfkey_api::error::ErrorId;
use halfkey_envelope::{cbor, entropy::OsEntropy, id::PairId};
use halfkey_protocol::{Ceremony, Op, lifecycle::PairState, reshare};

use super::{
    Reply, Turn, mismatch, nonce,
    renew::{Line, Made, Renewal, State},
};
use crate::{
    fault::Fault,
    signer,
    store::{HalfUse, SigningPair},
};

/// Step 1: the device has committed; S deals.
pub(super) async fn deal(turn: Turn) -> Result<Reply, Fault> {
    turn.limit_heavy().await?;
    let renewal = load(&turn).await?;
    let [line] = renewal.lines.as_slice() else { return Err(mismatch()) };
    let (curve, part) = (line.curve(), turn.part(line.curve())?);
    let banned = line.ceremony.old_pair.ok_or(mismatch())?;
    let (client, device, now_ms) = (turn.caller.client, turn.device.id, turn.caller.now_ms);
    let dealer = signer::open(&turn.app, now_ms, client, device, banned, HalfUse::Heal).await?;
    let (app, place, reshare) = (turn.app.clone(), turn.app.quick.admit().await?, line.reshare());
    let step = place
        .run(move || reshare::deal(&reshare, dealer.party.share(), &app.keys.server.identity, &part, &mut OsEntropy));
    let (answer, kept) = step.await??;
    let next = turn.keep(&cbor::to_secret_vec(&State::of_deals(&[kept]))).await?;
    Ok(Reply::new([(curve, answer)]).then(next))
}

/// The pending pair of this very device that heals a banned one, and its context.
pub(super) async fn load(turn: &Turn) -> Result<Renewal, Fault> {
    let (app, client, key) = (&turn.app, turn.caller.client, &turn.device.public_key);
    let new = PairId::from_bytes(turn.subject());
    let pending = app.store.signing_pair(client, new).await?;
    if pending.device != turn.device.id {
        return Err(Fault::not_found());
    }
    let live = pending.pair.state == PairState::Pending && turn.caller.now_ms < pending.pair.deadline_ms;
    if !(live && pending.pair.heals) {
        return Err(Fault::new(ErrorId::ShareState, "no healing is open; begin with the banned pair"));
    }
    let pairs = app.store.signing_pairs(client).await?;
    let banned = pairs.iter().find(|pair| is_replaced(pair, &pending)).ok_or(mismatch())?;
    let server_nonce = nonce::of_heal(app, client, key, new);
    let base = turn.ceremony(Op::Heal, pending.share.curve, pending.share.wallet)?;
    let ceremony = Ceremony {
        old_pair: Some(banned.share.id),
        new_pair: Some(new),
        generation: pending.pair.generation,
        server_nonce,
        ..base
    };
    let old = signer::record(banned.share.curve, banned.share.public.as_ref().ok_or(mismatch())?)?;
    let lines = vec![Line { ceremony, old, one_time_key: None, new }];
    Ok(Renewal { made: Made::Heal { pair: new }, nonce: server_nonce, lines })
}

/// The banned pair of the same slot.
fn is_replaced(pair: &SigningPair, by: &SigningPair) -> bool {
    pair.pair.state == PairState::Banned && pair.device == by.device && pair.share.wallet == by.share.wallet
}
