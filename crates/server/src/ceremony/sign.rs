//! Signatures of decoded messages: secp256k1 in two round trips, Ed25519 in one.
//!
//! The session of a secp256k1 signature is opened by our half of its id, n_S. The last answer before carries it: of the
//! signature before, or of the ceremony that made the pair. A device that has none, or whose one was used, replaced or
//! has expired, asks for it in a step 0.
//!
//! Every step decodes the whole payload again and computes what is signed itself; the kept state is bound to it
//! (PROTOCOL.md 5, T4).

use halfkey_api::{
    chain::PublicKey,
    error::ErrorId,
    signing::{self, Capabilities, Decoded, Payload, SigningError},
};
use halfkey_envelope::{
    cbor,
    entropy::{OsEntropy, random},
    hash::sha256,
    id::PairId,
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, DerivationPath, Error, Kept, Op,
    sign::{self, Message, ServerStep},
};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};

use super::{Reply, Turn, mismatch};
use crate::{
    fault::Fault,
    signer::{self, Opened},
    store::HalfUse,
};

/// What is kept between the steps.
#[derive(Encode, Decode)]
#[cbor(map)]
struct State {
    /// n_S.
    #[n(0)]
    nonce: ByteArray<32>,
    /// After step 1: SHA-256 of the payload.
    #[n(1)]
    payload: Option<ByteArray<32>>,
    /// After step 1: what `protocol` keeps.
    #[n(2)]
    kept: Option<ByteVec>,
    /// Opened ahead: not yet counted against the limit of signatures.
    #[n(3)]
    ahead: bool,
}

impl State {
    fn open(ahead: bool) -> Self {
        Self { nonce: (*random::<32>(&mut OsEntropy)).into(), payload: None, kept: None, ahead }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(kept) = &mut self.kept {
            zeroize::Zeroize::zeroize(&mut **kept);
        }
    }
}

/// Step 0 (secp256k1): our part of the session's id, before there is anything to sign.
pub(super) async fn announce(turn: Turn) -> Result<Reply, Fault> {
    turn.limit_signatures().await?;
    let pair = PairId::from_bytes(turn.subject());
    turn.app.store.signing_half(turn.caller.client, turn.device.id, pair, HalfUse::Sign).await?;
    let state = State::open(false);
    let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
    Ok(Reply::default().with_nonce(*state.nonce).then(next))
}

/// Opens the session of the next signature by `pair` with the last answer of this ceremony. If that fails the next
/// signature has a step 0, and what was done here stands.
pub(super) async fn ahead(turn: &Turn, pair: PairId, reply: Reply) -> Reply {
    let state = State::open(true);
    match turn.keep_ahead(pair, &cbor::to_secret_vec(&state)).await {
        Ok(next) => reply.with_nonce(*state.nonce).then(next),
        Err(fault) => {
            tracing::warn!(%pair, id = fault.id.as_str(), "no session was opened ahead");
            reply
        }
    }
}

/// Step 1.
pub(super) async fn first(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let opened = open(&turn).await?;
    let curve = opened.stored.share.curve;
    let (part, message) = (turn.part(curve)?, message(&turn, &opened)?);
    let place = turn.app.quick.admit().await?;
    let nonce = match curve {
        Curve::Secp256k1 => {
            let state = take(&turn).await?;
            if state.kept.is_some() {
                return Err(mismatch());
            }
            if state.ahead {
                turn.limit_signatures().await?;
            }
            *state.nonce
        }
        Curve::Ed25519 => {
            turn.limit_signatures().await?;
            [0; 32]
        }
    };
    let ceremony = ceremony(&turn, &opened, nonce)?;
    let pair = opened.stored.share.id;
    let step = place.run(move || {
        sign::server_1(&ceremony, &opened.party, &message, &DerivationPath::root(), &part, &mut OsEntropy)
    });
    match step.await? {
        Ok(ServerStep::Continue { answer, kept }) => {
            let payload = Some(payload_digest(&turn)?.into());
            let kept = Some(kept.as_bytes().to_vec().into());
            let state = State { nonce: nonce.into(), payload, kept, ahead: false };
            let next = turn.keep(&cbor::to_secret_vec(&state)).await?;
            Ok(Reply::new([(curve, answer)]).then(next))
        }
        Ok(ServerStep::Done { answer }) => {
            signed(&turn, pair).await?;
            Ok(Reply::new([(curve, answer)]))
        }
        Err(error) => Err(turn.stopped(pair, error).await),
    }
}

/// Step 2 (secp256k1).
pub(super) async fn second(turn: Turn) -> Result<Reply, Fault> {
    let _alone = turn.alone().await;
    let opened = open(&turn).await?;
    let curve = opened.stored.share.curve;
    let (part, message) = (turn.part(curve)?, message(&turn, &opened)?);
    let place = turn.app.quick.admit().await?;
    let mut state = take(&turn).await?;
    let kept = state.kept.take().ok_or(mismatch())?;
    if state.payload.is_none_or(|digest| payload_digest(&turn).ok() != Some(*digest)) {
        return Err(mismatch());
    }
    let ceremony = ceremony(&turn, &opened, *state.nonce)?;
    let pair = opened.stored.share.id;
    let step = place.run(move || {
        let kept = Kept::from_bytes(kept.into());
        sign::server_2(&ceremony, &opened.party, &message, &DerivationPath::root(), kept, &part)
    });
    match step.await? {
        Ok((answer, _)) => {
            signed(&turn, pair).await?;
            Ok(ahead(&turn, pair, Reply::new([(curve, answer)])).await)
        }
        Err(error) => Err(turn.stopped(pair, error).await),
    }
}

async fn open(turn: &Turn) -> Result<Opened, Fault> {
    let pair = PairId::from_bytes(turn.subject());
    signer::open(&turn.app, turn.caller.now_ms, turn.caller.client, turn.device.id, pair, HalfUse::Sign).await
}

async fn take(turn: &Turn) -> Result<State, Fault> {
    cbor::from_slice(&turn.take().await?).map_err(|error| Fault::internal(&error))
}

fn ceremony(turn: &Turn, opened: &Opened, server_nonce: [u8; 32]) -> Result<Ceremony, Fault> {
    let share = &opened.stored.share;
    let base = turn.ceremony(Op::Sign, share.curve, share.wallet)?;
    Ok(Ceremony { old_pair: Some(share.id), generation: opened.stored.generation, server_nonce, ..base })
}

fn payload(turn: &Turn) -> Result<&[u8], Fault> {
    turn.request.payload.as_ref().map(|payload| payload.as_slice()).ok_or(Fault::invalid("there is nothing to sign"))
}

fn payload_digest(turn: &Turn) -> Result<[u8; 32], Fault> {
    payload(turn).map(sha256)
}

/// What is signed, computed here from the whole payload.
fn message(turn: &Turn, opened: &Opened) -> Result<Message, Fault> {
    let (payload, curve) = (payload(turn)?, opened.stored.share.curve);
    let key = PublicKey::parse(curve, &opened.stored.public.public_key).map_err(|error| Fault::internal(&error))?;
    let allowed = Capabilities { danger_sign_digest: turn.app.config.allow_digest };
    let decode = |bytes: &[u8]| -> Result<Decoded, SigningError> {
        let decoded = signing::decode(&Payload::from_cbor(bytes)?, &key, allowed)?;
        if decoded.curve() == curve { Ok(decoded) } else { Err(SigningError::WrongCurve) }
    };
    let message = match curve {
        Curve::Secp256k1 => Message::secp256k1(payload, |bytes| match decode(bytes)?.to_sign() {
            signing::ToSign::Digest(digest) => Ok(*digest),
            signing::ToSign::Message(_) => Err(SigningError::WrongCurve),
        }),
        Curve::Ed25519 => Message::ed25519(payload, |bytes| decode(bytes).map(|decoded| decoded.bytes().to_vec())),
    };
    message.map_err(|error| match error {
        SigningError::DigestNotAllowed => {
            Fault::new(ErrorId::DigestSigningDisabled, "signing a bare digest is off in this deployment")
        }
        SigningError::UnknownVersion => Fault::new(ErrorId::UnsupportedVersion, "another version of the payload"),
        _ => Fault::new(ErrorId::InvalidPayload, "the payload cannot be decoded, or this wallet is not asked"),
    })
}

/// Once our answer leaves, the message counts as signed: it is in the log before (PROTOCOL.md 4.6).
async fn signed(turn: &Turn, pair: PairId) -> Result<(), Fault> {
    let entry = serde_json::json!({
        "pair": pair, "device": turn.device.id, "payload": hex::encode(payload_digest(turn)?),
    });
    let (client, now_ms) = (turn.caller.client, turn.caller.now_ms);
    Ok(turn.app.store.note(*client.as_bytes(), "signed", entry, now_ms).await?)
}

impl Turn {
    /// What a stopped ceremony is told; a peer that cheated is banned, durably, before it is told anything
    /// (PROTOCOL.md 4.9).
    pub(super) async fn stopped(&self, pair: PairId, error: Error) -> Fault {
        if error.is_ban() {
            let (client, now_ms) = (self.caller.client, self.caller.now_ms);
            tracing::warn!(%client, %pair, code = error.code(), "the peer cheated: pair banned");
            if let Err(error) = self.app.store.ban_pair(client, pair, error.code(), now_ms).await {
                return error.into();
            }
        }
        error.into()
    }
}
