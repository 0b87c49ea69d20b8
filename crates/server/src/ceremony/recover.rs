//! `reshare` (C, K) → (C′, S) on every curve (PROTOCOL.md 4.2): what is particular to a recovery. K deals here; how S
//! receives, and what follows, is in `renew.rs`.

use halfkey_api::error::ErrorId;
use halfkey_envelope::{cbor, entropy::OsEntropy, id::RecoveryId, wallet::Curve};
use halfkey_protocol::{Ceremony, Kept, Op, reshare};

use super::{
    Reply, Turn, mismatch,
    renew::{Line, Made, Renewal, State},
};
use crate::{
    custodian,
    fault::Fault,
    recovery, signer,
    store::{HalfUse, Purpose, RecoveryState},
};

/// Step 1: the device has committed; K deals. It has authenticated the user: the recovery is `EXECUTING`.
pub(super) async fn deal(turn: Turn) -> Result<Reply, Fault> {
    turn.limit_heavy().await?;
    let parts = turn.parts()?;
    let renewal = load(&turn).await?;
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    let Made::Recovery { backup, .. } = renewal.made else { return Err(mismatch()) };
    let halves = custodian::open(&turn.app, client, backup, HalfUse::Recover, now_ms).await?;
    let (app, place) = (turn.app.clone(), turn.app.quick.admit().await?);
    let steps = place.run(move || {
        let identity = &app.keys.custodian.identity;
        let steps = renewal.lines.iter().zip(&halves).zip(&parts);
        let deal = |((line, half), part): ((&Line, &custodian::Opened), &Vec<u8>)| {
            reshare::deal(&line.reshare(), &half.half, identity, part, &mut OsEntropy)
        };
        steps.map(deal).collect::<Result<Vec<_>, _>>()
    });
    let (answers, kept): (Vec<_>, Vec<Kept>) = steps.await??.into_iter().unzip();
    let next = turn.keep(&cbor::to_secret_vec(&State::of_deals(&kept))).await?;
    Ok(Reply::new(Curve::ALL.into_iter().zip(answers)).then(next))
}

/// The recovery of this very device, with possession proven, and the context of every curve.
pub(super) async fn load(turn: &Turn) -> Result<Renewal, Fault> {
    let (app, client) = (&turn.app, turn.caller.client);
    let id = RecoveryId::from_bytes(turn.subject());
    let recovery = app.store.recovery(client, id, turn.caller.now_ms).await?;
    if recovery.device.public_key != turn.device.public_key || recovery.purpose != Purpose::Recover {
        return Err(Fault::not_found());
    }
    if recovery.state != RecoveryState::Executing {
        return Err(recovery::refused(&recovery, turn.caller.now_ms)
            .unwrap_or(Fault::new(ErrorId::ShareState, "possession is not proven yet")));
    }
    let backup = app.store.backup(client, recovery.backup).await?;
    let mut lines = Vec::new();
    for pair in &recovery.pairs {
        let pending = app.store.signing_pair(client, pair.pair).await?;
        let dealer = backup.shares.iter().find(|share| share.id == pair.from).ok_or(mismatch())?;
        let base = turn.ceremony(Op::Recover, pair.curve, pair.wallet)?;
        let ceremony = Ceremony {
            old_pair: Some(pair.from),
            new_pair: Some(pair.pair),
            generation: pending.pair.generation,
            server_nonce: recovery.nonce,
            custodian: Some(app.keys.custodian.public()),
            ..base
        };
        let old = signer::record(dealer.curve, dealer.public.as_ref().ok_or(mismatch())?)?;
        lines.push(Line { ceremony, old, one_time_key: recovery.one_time_key, new: pair.pair });
    }
    let every_curve = lines.iter().map(Line::curve).eq(Curve::ALL);
    let made = Made::Recovery { id, backup: recovery.backup };
    if every_curve { Ok(Renewal { made, nonce: recovery.nonce, lines }) } else { Err(mismatch()) }
}
