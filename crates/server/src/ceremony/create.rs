//! Key generation on every curve: two round trips, then the proof that the device has read back what it stored.

use halfkey_api::context::stored_half;
use halfkey_envelope::{
    cbor,
    entropy::{OsEntropy, random},
    id::{PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, Kept, Op, dkg,
    lifecycle::PairState,
    proof::{self, Purpose, Statement},
};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};

use super::{Reply, Turn, mismatch, nonce, sign};
use crate::{fault::Fault, signer, store::HalfUse};

/// What is kept between the steps.
#[derive(Encode, Decode)]
#[cbor(map)]
struct State {
    /// The pending pairs of this attempt.
    #[n(0)]
    pairs: Vec<PairId>,
    /// After step 1: what `protocol` keeps, one per pair.
    #[n(1)]
    kept: Vec<ByteVec>,
    /// After step 2: our nonce for the device's proofs.
    #[n(2)]
    nonce: Option<ByteArray<32>>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.kept.iter_mut().for_each(|kept| zeroize::Zeroize::zeroize(&mut **kept));
    }
}

/// One curve of this attempt.
struct Pending {
    curve: Curve,
    wallet: WalletId,
    pair: PairId,
    generation: u64,
}

/// Step 1.
pub(super) async fn generate(turn: Turn) -> Result<Reply, Fault> {
    turn.limit_heavy().await?;
    let parts = turn.parts()?;
    let pending = pending(&turn).await?;
    let ceremonies = ceremonies(&turn, &pending)?;
    let place = turn.app.heavy.admit().await?;
    let steps = place.run(move || {
        let steps = ceremonies.iter().zip(&parts);
        steps.map(|(ceremony, part)| dkg::server_1(ceremony, part, &mut OsEntropy)).collect::<Result<Vec<_>, _>>()
    });
    let (answers, kept): (Vec<_>, Vec<Kept>) = steps.await??.into_iter().unzip();
    let state = State {
        pairs: pending.iter().map(|pending| pending.pair).collect(),
        kept: kept.iter().map(|kept| kept.as_bytes().to_vec().into()).collect(),
        nonce: None,
    };
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new(Curve::ALL.into_iter().zip(answers)).then(next))
}

/// Step 2: our halves are stored before the answer leaves.
pub(super) async fn finish(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let parts = turn.parts()?;
    let place = turn.app.heavy.admit().await?;
    let mut state = take(&turn).await?;
    let pending = pending(&turn).await?;
    must_be_same(&state, &pending)?;
    let ceremonies = ceremonies(&turn, &pending)?;
    let kept = std::mem::take(&mut state.kept);
    let steps = place.run(move || {
        let kept = kept.into_iter().map(|kept| Kept::from_bytes(kept.into()));
        let steps = ceremonies.iter().zip(kept).zip(&parts);
        steps
            .map(|((ceremony, kept), part)| dkg::server_2(ceremony, kept, part, &mut OsEntropy))
            .collect::<Result<Vec<_>, _>>()
    });
    let (answers, parties): (Vec<_>, Vec<_>) = steps.await??.into_iter().unzip();
    let parties = state.pairs.iter().copied().zip(parties).collect();
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    signer::store(&turn.app, client, turn.device.id, parties, now_ms).await?;
    let nonce = *random::<32>(&mut OsEntropy);
    state.nonce = Some(nonce.into());
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::new(Curve::ALL.into_iter().zip(answers)).with_nonce(nonce).then(next))
}

/// Step 3: the device proves its halves from the copies it read back, and ours are read back once more; then both pairs
/// become Active together.
pub(super) async fn confirm(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let parts = turn.parts()?;
    let state = take(&turn).await?;
    let pending = pending(&turn).await?;
    must_be_same(&state, &pending)?;
    let verifier_nonce = *state.nonce.ok_or(mismatch())?;
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    let key = &turn.device.public_key;
    let context =
        stored_half(turn.app.deployment, client, &nonce::of_wallets(&turn.app, client, key, &state.pairs), key);
    for (pending, proof) in pending.iter().zip(&parts) {
        // Our own half, too: a wallet never comes to be with one that was damaged since it was stored.
        let (device, usage) = (turn.device.id, HalfUse::ReadBack);
        let stored = signer::open(&turn.app, now_ms, client, device, pending.pair, usage).await?;
        let statement =
            Statement { purpose: Purpose::Create, context: &context, pair: pending.pair, nonce: &verifier_nonce };
        proof::verify(&statement, &stored.party.public().client_point(), proof)?;
    }
    turn.app.store.activate_signing(client, turn.device.id, &state.pairs, now_ms).await?;
    tracing::info!(%client, device = %turn.device.id, "wallets created");
    match pending.iter().find(|pending| pending.curve == Curve::Secp256k1) {
        Some(secp256k1) => Ok(sign::ahead(&turn, secp256k1.pair, Reply::default()).await),
        None => Ok(Reply::default()),
    }
}

async fn take(turn: &Turn) -> Result<State, Fault> {
    cbor::from_slice(&turn.take().await?).map_err(|error| Fault::internal(&error))
}

fn must_be_same(state: &State, pending: &[Pending]) -> Result<(), Fault> {
    let same = pending.iter().map(|pending| pending.pair).eq(state.pairs.iter().copied());
    if same { Ok(()) } else { Err(mismatch()) }
}

/// The pending pairs of this device on every curve, from our own records.
async fn pending(turn: &Turn) -> Result<Vec<Pending>, Fault> {
    if turn.subject() != *turn.caller.client.as_bytes() {
        return Err(Fault::not_found());
    }
    let pairs = turn.app.store.signing_pairs(turn.caller.client).await?;
    let live = |curve| {
        pairs.iter().find(|pair| {
            pair.share.curve == curve
                && pair.device == turn.device.id
                && pair.pair.state == PairState::Pending
                && turn.caller.now_ms < pair.pair.deadline_ms
        })
    };
    let pending = Curve::ALL.into_iter().map(|curve| {
        let pair = live(curve).ok_or(Fault::new(
            halfkey_api::error::ErrorId::ShareState,
            "no key generation is open; begin with the wallets",
        ))?;
        let (wallet, generation) = (pair.share.wallet, pair.pair.generation);
        Ok(Pending { curve, wallet, pair: pair.share.id, generation })
    });
    pending.collect()
}

fn ceremonies(turn: &Turn, pending: &[Pending]) -> Result<Vec<Ceremony>, Fault> {
    let pairs: Vec<PairId> = pending.iter().map(|pending| pending.pair).collect();
    let server_nonce = nonce::of_wallets(&turn.app, turn.caller.client, &turn.device.public_key, &pairs);
    let ceremony = |pending: &Pending| {
        let base = turn.ceremony(Op::Create, pending.curve, pending.wallet)?;
        Ok(Ceremony { new_pair: Some(pending.pair), generation: pending.generation, server_nonce, ..base })
    };
    pending.iter().map(ceremony).collect()
}
