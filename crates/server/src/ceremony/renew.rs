//! A new signing pair out of an old one: S receives what was dealt, makes fresh oblivious-transfer state for secp256k1,
//! and signs a test from the copies read back. Only then does the new pair become Active (PROTOCOL.md 4.2, 4.3). The old
//! pair is a backup in a recovery, and the banned pair in a healing.
//!
//! | step | who deals | S |
//! |---|---|---|
//! | 1 | deals its half: K in `recover.rs`, S in `heal.rs` | |
//! | 2 | | receives; stores the Ed25519 half, pending; secp256k1: refresh 1 |
//! | 3 | | secp256k1: refresh 2; stores the half, pending |
//! | 4 | | test signatures, from the stored copies |
//! | 5 | | verifies the signature and the device's proofs; commits |

use halfkey_api::{
    ceremony::{Op, RecoverFinish, RecoverOpen},
    context::stored_half,
};
use halfkey_envelope::{
    cbor,
    entropy::{OsEntropy, random},
    id::{BackupId, PairId, RecoveryId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, DerivationPath, Kept, PairPublic, Role, SigningParty, SigningShare,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Reshare},
    sign::{self, Message, ServerStep},
};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};

use super::{Reply, Turn, heal, mismatch, recover, sign as sign_next};
use crate::{fault::Fault, signer, store::HalfUse};

/// What is kept between the steps.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct State {
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

impl State {
    /// After step 1.
    pub(super) fn of_deals(kept: &[Kept]) -> Self {
        let kept = kept.iter().map(|kept| kept.as_bytes().to_vec().into()).collect();
        Self { kept, sids: Vec::new(), nonce: None }
    }
}

/// One curve, from our own records.
pub(super) struct Line {
    pub(super) ceremony: Ceremony,
    /// The pair that is dealt.
    pub(super) old: PairPublic,
    /// The device's one-time HPKE key, where a proof of possession has named it: the dealer must use no other.
    pub(super) one_time_key: Option<[u8; 32]>,
    pub(super) new: PairId,
}

impl Line {
    pub(super) const fn curve(&self) -> Curve {
        self.ceremony.curve
    }

    pub(super) fn reshare(&self) -> Reshare {
        let mut ceremony = self.ceremony.clone();
        ceremony.device.hpke = self.one_time_key;
        Reshare { ceremony, old: self.old }
    }
}

/// What the new pairs are made for.
#[derive(Clone, Copy)]
pub(super) enum Made {
    Recovery { id: RecoveryId, backup: BackupId },
    Heal { pair: PairId },
}

/// The new pairs on their way, in the order of the curves.
pub(super) struct Renewal {
    pub(super) made: Made,
    pub(super) nonce: [u8; 32],
    pub(super) lines: Vec<Line>,
}

impl Renewal {
    async fn load(turn: &Turn) -> Result<Self, Fault> {
        match turn.request.op {
            Op::Recover => recover::load(turn).await,
            Op::Heal => heal::load(turn).await,
            _ => Err(mismatch()),
        }
    }

    /// The message of every curve that is renewed, in their order; refuses anything else.
    fn parts(&self, turn: &Turn) -> Result<Vec<Vec<u8>>, Fault> {
        let parts = &turn.request.parts;
        if !parts.iter().map(|part| part.curve).eq(self.lines.iter().map(Line::curve)) {
            return Err(Fault::invalid("one part for each curve, in their order"));
        }
        Ok(parts.iter().map(|part| part.bytes.to_vec()).collect())
    }

    fn secp256k1(&self) -> Option<&Line> {
        self.lines.iter().find(|line| line.curve() == Curve::Secp256k1)
    }

    fn sid(&self, state: &State, curve: Curve) -> Result<[u8; 32], Fault> {
        let at = self.lines.iter().position(|line| line.curve() == curve).ok_or(mismatch())?;
        state.sids.get(at).map(|sid| **sid).ok_or(mismatch())
    }
}

/// Step 2: S receives on every curve, and begins the fresh state of secp256k1.
pub(super) async fn receive(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let renewal = Renewal::load(&turn).await?;
    let parts = renewal.parts(&turn)?;
    let opens = parts.iter().map(|part| parse::<RecoverOpen>(part)).collect::<Result<Vec<_>, _>>()?;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let kept = std::mem::take(&mut state.kept);
    let app = turn.app.clone();
    let news: Vec<PairId> = renewal.lines.iter().map(|line| line.new).collect();
    let steps = place.run(move || {
        let mut received = Vec::new();
        for ((line, kept), open) in renewal.lines.iter().zip(kept).zip(&opens) {
            let reshare = line.reshare();
            // The opening must answer the deal of this very session, not an older one of the same pair.
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

/// Step 3: the fresh state of secp256k1 is whole; S stores that half too. Without that curve there is nothing to do.
pub(super) async fn rekey(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let renewal = Renewal::load(&turn).await?;
    let Some(line) = renewal.secp256k1() else {
        if !turn.request.parts.is_empty() {
            return Err(Fault::invalid("no part: there is nothing to refresh on this curve"));
        }
        let state = take(&turn).await?;
        let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
        return Ok(Reply::default().then(next));
    };
    let (part, new) = (turn.part(Curve::Secp256k1)?, line.new);
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let (sid, kept) = (renewal.sid(&state, Curve::Secp256k1)?, state.kept.pop().ok_or(mismatch())?);
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
    let renewal = Renewal::load(&turn).await?;
    let parts = renewal.parts(&turn)?;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let mut jobs = Vec::new();
    for line in &renewal.lines {
        let message = Message::recovery_check(line.curve(), &renewal.sid(&state, line.curve())?);
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

/// Step 5: signature and proofs verified, the new pairs become Active, and a recovery Completed.
pub(super) async fn finish(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let renewal = Renewal::load(&turn).await?;
    let parts = renewal.parts(&turn)?;
    let finishes = parts.iter().map(|part| parse::<RecoverFinish>(part)).collect::<Result<Vec<_>, _>>()?;
    let place = turn.app.quick.admit().await?;
    let mut state = take(&turn).await?;
    let verifier_nonce = *state.nonce.ok_or(mismatch())?;
    let (client, now_ms, key) = (turn.caller.client, turn.caller.now_ms, &turn.device.public_key);
    let context = stored_half(turn.app.deployment, client, &renewal.nonce, key);
    for (line, finish) in renewal.lines.iter().zip(&finishes) {
        let party = read_back(&turn, line).await?;
        let statement =
            Statement { purpose: Purpose::Create, context: &context, pair: line.new, nonce: &verifier_nonce };
        proof::verify(&statement, &party.public().client_point(), &finish.proof)?;
        if finish.message.is_some() != (line.curve() == Curve::Secp256k1) {
            return Err(Fault::invalid("the last message of the test signature is missing, or there is one too many"));
        }
    }
    let last = finishes.iter().find_map(|finish| finish.message.as_ref());
    let answer = match (renewal.secp256k1(), last) {
        (Some(line), Some(part)) => {
            let (ceremony, new, part) = (line.ceremony.clone(), line.new, part.to_vec());
            let message = Message::recovery_check(Curve::Secp256k1, &renewal.sid(&state, Curve::Secp256k1)?);
            let (party, kept) = (read_back(&turn, line).await?, state.kept.pop().ok_or(mismatch())?);
            let step = place.run(move || {
                let kept = Kept::from_bytes(kept.into());
                sign::server_2(&ceremony, &party, &message, &DerivationPath::root(), kept, &part)
            });
            match step.await? {
                Ok((answer, _)) => Some((Curve::Secp256k1, answer)),
                Err(error) => return Err(turn.stopped(new, error).await),
            }
        }
        _ => None,
    };
    match renewal.made {
        Made::Recovery { id, .. } => {
            turn.app.store.commit_recovery(client, id, now_ms).await?;
            tracing::info!(%client, recovery = %id, "recovery completed");
        }
        Made::Heal { pair } => {
            turn.app.store.commit_heal(client, turn.device.id, pair, now_ms).await?;
            tracing::info!(%client, %pair, "banned pair healed");
        }
    }
    match renewal.secp256k1() {
        Some(line) => Ok(sign_next::ahead(&turn, line.new, Reply::new(answer)).await),
        None => Ok(Reply::new(answer)),
    }
}

fn parse<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) -> Result<T, Fault> {
    cbor::from_slice(bytes).map_err(|_| Fault::invalid("a part of the step does not parse"))
}

async fn take(turn: &Turn) -> Result<State, Fault> {
    cbor::from_slice(&turn.take().await?).map_err(|error| Fault::internal(&error))
}

/// S's half of the new pair as it is stored.
async fn read_back(turn: &Turn, line: &Line) -> Result<SigningParty, Fault> {
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    let opened = signer::open(&turn.app, now_ms, client, turn.device.id, line.new, HalfUse::ReadBack).await?;
    Ok(opened.party)
}
