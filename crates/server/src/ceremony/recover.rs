//! `reshare` (C, K) → (C′, S) on every curve, fresh oblivious-transfer state for secp256k1, and a test signature from
//! the copies read back. Only then do the new pairs become Active, in one transaction (PROTOCOL.md 4.2, 4.3).
//!
//! | step | K | S |
//! |---|---|---|
//! | 1 | deals its half | |
//! | 2 | | receives; stores the Ed25519 half, pending; secp256k1: refresh 1 |
//! | 3 | | secp256k1: refresh 2; stores the half, pending |
//! | 4 | | test signatures, from the stored copies |
//! | 5 | | verifies the signature and the device's proofs; commits |

use halfkey_api::{
    ceremony::{RecoverFinish, RecoverOpen},
    context::stored_half,
    error::ErrorId,
};
use halfkey_envelope::{
    cbor,
    entropy::{OsEntropy, random},
    id::{PairId, RecoveryId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, DerivationPath, Kept, Op, Role, SigningParty, SigningShare,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Reshare},
    sign::{self, Message, ServerStep},
};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};

use super::{Reply, Turn, mismatch};
use crate::{
    custodian,
    fault::Fault,
    recovery, signer,
    store::{HalfUse, Recovery, RecoveryState},
};

/// What is kept between the steps.
#[derive(Encode, Decode)]
#[cbor(map)]
struct State {
    /// What `protocol` keeps: after step 1 one per curve, after steps 2 and 4 that of secp256k1.
    #[n(0)]
    kept: Vec<ByteVec>,
    /// From step 2 on: the session id of every curve's `reshare`.
    #[n(1)]
    sids: Vec<ByteArray<32>>,
    /// After step 4: our nonce for the device's proofs.
    #[n(2)]
    nonce: Option<ByteArray<32>>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.kept.iter_mut().for_each(|kept| zeroize::Zeroize::zeroize(&mut **kept));
    }
}

/// One curve, from our own records.
struct Line {
    ceremony: Ceremony,
    new: PairId,
}

/// Step 1: the device has committed; K deals. It has authenticated the user: the recovery is `EXECUTING`.
pub(super) async fn deal(turn: Turn) -> Result<Reply, Fault> {
    turn.limit_heavy().await?;
    let parts = turn.parts()?;
    let (recovery, lines) = lines(&turn).await?;
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    let halves = custodian::open(&turn.app, client, recovery.backup, HalfUse::Recover, now_ms).await?;
    let (app, place) = (turn.app.clone(), turn.app.quick.admit().await?);
    let steps = place.run(move || {
        let identity = &app.keys.custodian.identity;
        let steps = lines.into_iter().zip(&halves).zip(&parts);
        let deal = |((line, half), part): ((Line, &custodian::Opened), &Vec<u8>)| {
            let reshare = Reshare { ceremony: line.ceremony, old: *half.transcript.pair() };
            reshare::deal(&reshare, &half.half, identity, part, &mut OsEntropy)
        };
        steps.map(deal).collect::<Result<Vec<_>, _>>()
    });
    let (answers, kept): (Vec<_>, Vec<Kept>) = steps.await??.into_iter().unzip();
    let kept = kept.iter().map(|kept| kept.as_bytes().to_vec().into()).collect();
    let next = turn.keep(&cbor::to_secret_vec(&State { kept, sids: Vec::new(), nonce: None })).await?;
    Ok(Reply::new(Curve::ALL.into_iter().zip(answers)).then(next))
}

/// Step 2: S receives on every curve, and begins the fresh state of secp256k1.
pub(super) async fn receive(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let parts = turn.parts()?;
    let opens = parts.iter().map(|part| parse::<RecoverOpen>(part)).collect::<Result<Vec<_>, _>>()?;
    let (recovery, lines) = lines(&turn).await?;
    let old = old_pairs(&turn, &recovery).await?;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let kept = std::mem::take(&mut state.kept);
    let (app, news) = (turn.app.clone(), lines.iter().map(|line| line.new).collect::<Vec<_>>());
    let steps = place.run(move || {
        let mut received = Vec::new();
        for (((line, old), kept), open) in lines.into_iter().zip(old).zip(kept).zip(&opens) {
            let reshare = Reshare { ceremony: line.ceremony, old };
            // The opening must answer the deal of this very session, not an older one of the same recovery.
            let witnessed = reshare::verify_opening(&reshare, Kept::from_bytes(kept.into()), &open.opening)?;
            let (half, transcript) = reshare::receive::<SigningShare>(&reshare, &app.keys.server.hpke, &open.opening)?;
            if witnessed != transcript {
                return Err(halfkey_protocol::Error::Internal);
            }
            let party = SigningParty::hollow(Role::Peer, half, *transcript.pair())?;
            let refresh = match (&open.refresh, party.needs_rekey()) {
                (Some(refresh), true) => Some(rekey::server_1(transcript.sid(), &party, refresh, &mut OsEntropy)?),
                (None, false) => None,
                _ => return Err(halfkey_protocol::Error::Malformed),
            };
            received.push((*transcript.sid(), party, refresh));
        }
        Ok(received)
    });
    let received = steps.await??;
    let (mut ready, mut answers) = (Vec::new(), Vec::new());
    for ((sid, party, refresh), new) in received.into_iter().zip(news) {
        state.sids.push(sid.into());
        match refresh {
            Some((answer, kept)) => {
                answers.push((party.public().curve(), answer));
                state.kept.push(kept.as_bytes().to_vec().into());
            }
            None => ready.push((new, party)),
        }
    }
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    signer::store(&turn.app, client, turn.device.id, ready, now_ms).await?;
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new(answers).then(next))
}

/// Step 3: the fresh state of secp256k1 is whole; S stores that half too.
pub(super) async fn rekey(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let part = turn.part(Curve::Secp256k1)?;
    let (_, lines) = lines(&turn).await?;
    let new = line(&lines, Curve::Secp256k1)?.new;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let (sid, kept) = (sid(&state, Curve::Secp256k1)?, state.kept.pop().ok_or(mismatch())?);
    let step = place.run(move || rekey::server_2(&sid, Kept::from_bytes(kept.into()), &part));
    let (answer, party) = step.await??;
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    signer::store(&turn.app, client, turn.device.id, vec![(new, party)], now_ms).await?;
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new([(Curve::Secp256k1, answer)]).then(next))
}

/// Step 4: the test signatures begin, from the copies read back.
pub(super) async fn test_sign(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let parts = turn.parts()?;
    let (_, lines) = lines(&turn).await?;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let mut jobs = Vec::new();
    for line in &lines {
        let message = Message::recovery_check(line.ceremony.curve, &sid(&state, line.ceremony.curve)?);
        jobs.push((line.ceremony.clone(), line.new, read_back(&turn, line).await?, message));
    }
    let steps = place.run(move || {
        let sign = |((ceremony, new, party, message), part): ((Ceremony, PairId, SigningParty, Message), &Vec<u8>)| {
            let step = sign::server_1(&ceremony, &party, &message, &DerivationPath::root(), part, &mut OsEntropy);
            (ceremony.curve, new, step)
        };
        jobs.into_iter().zip(&parts).map(sign).collect::<Vec<_>>()
    });
    let mut answers = Vec::new();
    for (curve, new, step) in steps.await? {
        match step {
            Ok(ServerStep::Continue { answer, kept }) => {
                answers.push((curve, answer));
                state.kept.push(kept.as_bytes().to_vec().into());
            }
            Ok(ServerStep::Done { answer }) => answers.push((curve, answer)),
            Err(error) => return Err(turn.stopped(new, error).await),
        }
    }
    let nonce = *random::<32>(&mut OsEntropy);
    state.nonce = Some(nonce.into());
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new(answers).with_nonce(nonce).then(next))
}

/// Step 5: signature and proofs verified, the new pairs become Active and the recovery Completed.
pub(super) async fn finish(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let parts = turn.parts()?;
    let finishes = parts.iter().map(|part| parse::<RecoverFinish>(part)).collect::<Result<Vec<_>, _>>()?;
    let (recovery, lines) = lines(&turn).await?;
    let place = turn.app.quick.admit().await?;
    let mut state = take(&turn).await?;
    let verifier_nonce = *state.nonce.ok_or(mismatch())?;
    let (client, now_ms, key) = (turn.caller.client, turn.caller.now_ms, &turn.device.public_key);
    let context = stored_half(turn.app.deployment, client, &recovery.nonce, key);
    for (line, finish) in lines.iter().zip(&finishes) {
        let party = read_back(&turn, line).await?;
        let statement =
            Statement { purpose: Purpose::Create, context: &context, pair: line.new, nonce: &verifier_nonce };
        proof::verify(&statement, &party.public().client_point(), &finish.proof)?;
    }
    let secp256k1 = line(&lines, Curve::Secp256k1)?;
    let [Some(part), None] = [&finishes[0].message, &finishes[1].message] else {
        return Err(Fault::invalid("the last message of the test signature is missing, or there is one too many"));
    };
    let (ceremony, new, part) = (secp256k1.ceremony.clone(), secp256k1.new, part.to_vec());
    let message = Message::recovery_check(Curve::Secp256k1, &sid(&state, Curve::Secp256k1)?);
    let (party, kept) = (read_back(&turn, secp256k1).await?, state.kept.pop().ok_or(mismatch())?);
    let step = place.run(move || {
        let kept = Kept::from_bytes(kept.into());
        sign::server_2(&ceremony, &party, &message, &DerivationPath::root(), kept, &part)
    });
    let (answer, _) = match step.await? {
        Ok(signed) => signed,
        Err(error) => return Err(turn.stopped(new, error).await),
    };
    turn.app.store.commit_recovery(client, recovery.id, now_ms).await?;
    tracing::info!(%client, recovery = %recovery.id, "recovery completed");
    Ok(super::sign::ahead(&turn, new, Reply::new([(Curve::Secp256k1, answer)])).await)
}

fn parse<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) -> Result<T, Fault> {
    cbor::from_slice(bytes).map_err(|_| Fault::invalid("a part of the step does not parse"))
}

async fn take(turn: &Turn) -> Result<State, Fault> {
    cbor::from_slice(&turn.take().await?).map_err(|error| Fault::internal(&error))
}

fn sid(state: &State, curve: Curve) -> Result<[u8; 32], Fault> {
    let at = Curve::ALL.iter().position(|one| *one == curve).ok_or(mismatch())?;
    state.sids.get(at).map(|sid| **sid).ok_or(mismatch())
}

fn line(lines: &[Line], curve: Curve) -> Result<&Line, Fault> {
    lines.iter().find(|line| line.ceremony.curve == curve).ok_or(mismatch())
}

/// S's half of the new pair as it is stored.
async fn read_back(turn: &Turn, line: &Line) -> Result<SigningParty, Fault> {
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    let opened = signer::open(&turn.app, now_ms, client, turn.device.id, line.new, HalfUse::ReadBack).await?;
    Ok(opened.party)
}

/// The backup pairs that deal, from our own records.
async fn old_pairs(turn: &Turn, recovery: &Recovery) -> Result<Vec<halfkey_protocol::PairPublic>, Fault> {
    let backup = turn.app.store.backup(turn.caller.client, recovery.backup).await?;
    let public = |share: &crate::store::Share| signer::record(share.curve, share.public.as_ref().ok_or(mismatch())?);
    backup.shares.iter().map(public).collect()
}

/// The recovery of this very device, with possession proven, and the context of every curve.
async fn lines(turn: &Turn) -> Result<(Recovery, Vec<Line>), Fault> {
    let (app, client) = (&turn.app, turn.caller.client);
    let id = RecoveryId::from_bytes(turn.subject());
    let recovery = app.store.recovery(client, id, turn.caller.now_ms).await?;
    if recovery.device.public_key != turn.device.public_key {
        return Err(Fault::not_found());
    }
    if recovery.state != RecoveryState::Executing {
        return Err(recovery::refused(&recovery, turn.caller.now_ms)
            .unwrap_or(Fault::new(ErrorId::ShareState, "possession is not proven yet")));
    }
    let mut lines = Vec::new();
    for pair in &recovery.pairs {
        let pending = app.store.signing_pair(client, pair.pair).await?;
        let base = turn.ceremony(Op::Recover, pair.curve, pair.wallet)?;
        let ceremony = Ceremony {
            old_pair: Some(pair.from),
            new_pair: Some(pair.pair),
            generation: pending.pair.generation,
            server_nonce: recovery.nonce,
            custodian: Some(app.keys.custodian.public()),
            ..base
        };
        lines.push(Line { ceremony, new: pair.pair });
    }
    let every_curve = lines.iter().map(|line| line.ceremony.curve).eq(Curve::ALL);
    if every_curve { Ok((recovery, lines)) } else { Err(mismatch()) }
}
