//! Two-party signatures: two round trips on secp256k1, one on Ed25519 (PROTOCOL.md 4.5, 4.6).
//!
//! There is no presignature: both libraries' first round already binds the message. There is no way in for a bare digest
//! either, except [`Message::danger_digest`] with a capability of the deployment (PROTOCOL.md 5, T4): the server makes
//! the digest itself from the whole payload that its policy has seen.

use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::{h, sha256},
    wallet::Curve,
};
use k256::{
    ProjectivePoint,
    ecdsa::{RecoveryId, Signature as K256Signature, VerifyingKey},
};
use minicbor::{Decode, Encode, bytes::ByteArray};

use crate::{
    backend::{Ecdsa, EcdsaBackend, EcdsaJob, Eddsa, EddsaBackend, RawEcdsa},
    context::{Ceremony, Op},
    descriptor::DigestCapability,
    error::{Error, Result},
    pair::Role,
    party::SigningParty,
    path::DerivationPath,
    point::{Group2, Point},
    wire::{Blob, Kept, Step, message, parse},
};

const CONTEXT: &str = "halfkey/sign/v1/context";
const SESSION: &str = "halfkey/sign/v1/session";
const ID: &str = "halfkey/sign/v1/id";
const RECOVERY_CHECK: &str = "halfkey/recover/v1/check";

/// What is signed, made from a payload that was decoded as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Binds both parties to the same payload, not only to the same digest.
    payload: [u8; 32],
    input: Input,
}

#[derive(Clone, PartialEq, Eq)]
enum Input {
    /// secp256k1 signs a digest.
    Digest([u8; 32]),
    /// Ed25519 signs the message itself (RFC 8032).
    Bytes(Vec<u8>),
}

impl Message {
    /// A secp256k1 message: `digest` decodes the whole payload and computes what is signed. Both parties call it with
    /// the same payload, each with its own decoder.
    ///
    /// # Errors
    /// Whatever the decoder refuses.
    pub fn secp256k1<E>(
        payload: &[u8],
        digest: impl FnOnce(&[u8]) -> core::result::Result<[u8; 32], E>,
    ) -> core::result::Result<Self, E> {
        Ok(Self { payload: sha256(payload), input: Input::Digest(digest(payload)?) })
    }

    /// An Ed25519 message: `decode` checks the whole payload and gives the bytes that are signed.
    ///
    /// # Errors
    /// Whatever the decoder refuses.
    pub fn ed25519<E>(
        payload: &[u8],
        decode: impl FnOnce(&[u8]) -> core::result::Result<Vec<u8>, E>,
    ) -> core::result::Result<Self, E> {
        Ok(Self { payload: sha256(payload), input: Input::Bytes(decode(payload)?) })
    }

    /// A bare digest: whoever gives it may sign anything at all. Only with the deployment's leave.
    #[must_use]
    pub fn danger_digest(digest: [u8; 32], _: &DigestCapability) -> Self {
        Self { payload: sha256(&digest), input: Input::Digest(digest) }
    }

    /// The test signature of a recovery: a text that is no transaction or message of any chain (PROTOCOL.md 4.2).
    /// Ed25519: `0xFF ‖ "halfkey recovery-check" ‖ sid`, which no Solana message parser accepts.
    #[must_use]
    pub fn recovery_check(curve: Curve, sid: &[u8; 32]) -> Self {
        let input = match curve {
            Curve::Secp256k1 => Input::Digest(h(RECOVERY_CHECK, &[sid])),
            Curve::Ed25519 => Input::Bytes([&[0xff], b"halfkey recovery-check".as_slice(), sid].concat()),
        };
        Self { payload: h(RECOVERY_CHECK, &[&[curve.code()], sid]), input }
    }

    /// The curve that signs it.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self.input {
            Input::Digest(_) => Curve::Secp256k1,
            Input::Bytes(_) => Curve::Ed25519,
        }
    }

    fn input(&self) -> &[u8] {
        match &self.input {
            Input::Digest(digest) => digest,
            Input::Bytes(bytes) => bytes,
        }
    }

    fn digest(&self) -> Result<[u8; 32]> {
        match self.input {
            Input::Digest(digest) => Ok(digest),
            Input::Bytes(_) => Err(Error::InvalidContext),
        }
    }
}

/// A signature that was verified under the wallet's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// secp256k1, low-S (BIP-62).
    Ecdsa {
        /// Big-endian.
        r: [u8; 32],
        /// Big-endian, at most n/2.
        s: [u8; 32],
        /// Bit 0: y is odd; bit 1: x was reduced. Recovers the signing key.
        recovery_id: u8,
    },
    /// Ed25519 (RFC 8032): `R ‖ S`.
    Eddsa([u8; 64]),
}

impl Signature {
    /// `r ‖ s` or `R ‖ S`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        match self {
            Self::Ecdsa { r, s, .. } => {
                let mut bytes = [0; 64];
                bytes[..32].copy_from_slice(r);
                bytes[32..].copy_from_slice(s);
                bytes
            }
            Self::Eddsa(bytes) => *bytes,
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Round {
    /// 32 fresh bytes of the sender.
    #[n(0)]
    nonce: ByteArray<32>,
    #[n(1)]
    blob: Blob,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Last {
    #[n(0)]
    blob: Blob,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeptSign {
    #[n(0)]
    session: ByteArray<32>,
    #[n(1)]
    id: ByteArray<32>,
    #[n(2)]
    state: Blob,
}

/// The device before the first answer.
pub struct Client {
    context: [u8; 32],
    nonce: [u8; 32],
    key: Point,
    message: Message,
    state: ClientState,
}

enum ClientState {
    Ecdsa(Box<<Ecdsa as EcdsaBackend>::ClientSign1>),
    Eddsa(Box<<Eddsa as EddsaBackend>::ClientSign>),
}

/// The device before the second answer (secp256k1).
pub struct ClientSecond {
    session: [u8; 32],
    key: Point,
    message: Message,
    state: <Ecdsa as EcdsaBackend>::ClientSign2,
}

/// What the device does after the first answer.
pub enum ClientStep {
    /// secp256k1: one more round trip.
    Send {
        /// The second request.
        request: Vec<u8>,
        /// Takes its answer.
        state: Box<ClientSecond>,
    },
    /// Ed25519: done.
    Done(Signature),
}

impl Client {
    /// Starts; gives the first request.
    ///
    /// # Errors
    /// [`Error::NeedsRekey`], [`Error::UnsupportedPath`], [`Error::InvalidContext`].
    pub fn start(
        ceremony: &Ceremony,
        party: &SigningParty,
        message: &Message,
        path: &DerivationPath,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>)> {
        let context = context(ceremony, party, Role::Client, message, path)?;
        let nonce = *random::<32>(entropy);
        let key = key(party, path)?;
        let (state, blob) = match ceremony.curve {
            Curve::Secp256k1 => {
                let job = job(id(&context, &nonce, ceremony), message, path)?;
                let (state, blob) = Ecdsa::sign_client_1(&party.ecdsa()?, &job)?;
                (ClientState::Ecdsa(Box::new(state)), blob)
            }
            Curve::Ed25519 => {
                let (state, blob) = Eddsa::sign_client_1(&party.eddsa(), message.input(), entropy)?;
                (ClientState::Eddsa(Box::new(state)), blob)
            }
        };
        let request = wire_round(Step::SignRequest1, &context, nonce, blob)?;
        Ok((Self { context, nonce, key, message: message.clone(), state }, request))
    }

    /// Takes the first answer.
    ///
    /// # Errors
    /// Any of [`Error`]; [`Error::PeerCheated`] is a ban that the device must remember.
    pub fn next(self, answer: &[u8]) -> Result<ClientStep> {
        let answer: Round = parse(Step::SignAnswer1, &self.context, answer)?;
        match self.state {
            ClientState::Ecdsa(state) => {
                let session = session(&self.context, &self.nonce, &answer.nonce);
                let (state, blob) = Ecdsa::sign_client_2(*state, &answer.blob)?;
                let request = message(Step::SignRequest2, &session, &Last { blob })?;
                let state = ClientSecond { session, key: self.key, message: self.message, state };
                Ok(ClientStep::Send { request, state: Box::new(state) })
            }
            ClientState::Eddsa(state) => {
                let verified = |signature| verified_eddsa(&self.key, &self.message, signature);
                Eddsa::sign_client_2(*state, &answer.blob, verified).map(ClientStep::Done)
            }
        }
    }
}

impl ClientSecond {
    /// Takes the second answer; the signature is verified.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub fn finish(self, answer: &[u8]) -> Result<Signature> {
        let answer: Last = parse(Step::SignAnswer2, &self.session, answer)?;
        Ecdsa::sign_client_3(self.state, &answer.blob, |raw| verified_ecdsa(&self.key, &self.message, raw))
    }
}

/// What the server does after its first step.
#[derive(Debug)]
pub enum ServerStep {
    /// secp256k1: send the answer, keep the state, wait for the second request.
    Continue {
        /// The first answer.
        answer: Vec<u8>,
        /// Secret, single use.
        kept: Kept,
    },
    /// Ed25519: once this answer has left, the message counts as **signed** (policy, limits, audit).
    Done {
        /// The only answer.
        answer: Vec<u8>,
    },
}

/// The server's first step; its policy has already agreed to `message`.
///
/// # Errors
/// Any of [`Error`]. On [`Error::PeerCheated`] ban the pair durably *before* answering.
pub fn server_1(
    ceremony: &Ceremony,
    party: &SigningParty,
    message: &Message,
    path: &DerivationPath,
    request: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<ServerStep> {
    let context = context(ceremony, party, Role::Peer, message, path)?;
    let request: Round = parse(Step::SignRequest1, &context, request)?;
    let nonce = *random::<32>(entropy);
    match ceremony.curve {
        Curve::Secp256k1 => {
            let id = id(&context, &request.nonce, ceremony);
            let (state, blob) = Ecdsa::sign_server_1(&party.ecdsa()?, &job(id, message, path)?, &request.blob)?;
            let session = session(&context, &request.nonce, &nonce);
            let state = Blob::new(Ecdsa::LIBRARY, &state)?;
            let kept = KeptSign { session: session.into(), id: id.into(), state };
            let answer = wire_round(Step::SignAnswer1, &context, nonce, blob)?;
            Ok(ServerStep::Continue { answer, kept: Kept::new(Step::KeptSign, &context, &kept)? })
        }
        Curve::Ed25519 => {
            let blob = Eddsa::sign_server(&party.eddsa(), message.input(), &request.blob, entropy)?;
            Ok(ServerStep::Done { answer: wire_round(Step::SignAnswer1, &context, nonce, blob)? })
        }
    }
}

/// The server's second step (secp256k1): the answer and the signature, verified.
///
/// # Errors
/// Any of [`Error`]. On [`Error::PeerCheated`] ban the pair durably *before* answering.
pub fn server_2(
    ceremony: &Ceremony,
    party: &SigningParty,
    payload: &Message,
    path: &DerivationPath,
    kept: Kept,
    request: &[u8],
) -> Result<(Vec<u8>, Signature)> {
    let context = context(ceremony, party, Role::Peer, payload, path)?;
    let kept: KeptSign = kept.open(Step::KeptSign, &context)?;
    let request: Last = parse(Step::SignRequest2, &kept.session, request)?;
    let state = kept.state.open(Ecdsa::LIBRARY).map_err(|_| Error::InvalidState)?;
    let job = job(*kept.id, payload, path)?;
    let key = key(party, path)?;
    let verified = |raw: &RawEcdsa| verified_ecdsa(&key, payload, raw);
    let (signature, blob) = Ecdsa::sign_server_2(&party.ecdsa()?, &job, state, &request.blob, verified)?;
    Ok((message(Step::SignAnswer2, &kept.session, &Last { blob })?, signature))
}

/// The public key that signs at `path`: what the address of a derived account is made from.
///
/// # Errors
/// [`Error::UnsupportedPath`] on Ed25519 for anything but the root.
pub fn key(party: &SigningParty, path: &DerivationPath) -> Result<Point> {
    derived_key(party.public(), path)
}

/// As [`key`], from the public record alone.
///
/// # Errors
/// [`Error::UnsupportedPath`] on Ed25519 for anything but the root.
pub fn derived_key(public: &crate::pair::PairPublic, path: &DerivationPath) -> Result<Point> {
    match public.curve() {
        _ if path.indices().is_empty() => Ok(public.public_key()),
        Curve::Secp256k1 => Ecdsa::derive(public, path.indices()),
        Curve::Ed25519 => Err(Error::UnsupportedPath),
    }
}

fn context(
    ceremony: &Ceremony,
    party: &SigningParty,
    role: Role,
    message: &Message,
    path: &DerivationPath,
) -> Result<[u8; 32]> {
    let signs = matches!(ceremony.op, Op::Sign | Op::Recover | Op::Heal);
    let one_curve = ceremony.curve == party.public().curve() && ceremony.curve == message.curve();
    if !signs || !one_curve || party.role() != role {
        return Err(Error::InvalidContext);
    }
    if party.needs_rekey() {
        return Err(Error::NeedsRekey);
    }
    let public = party.public();
    Ok(ceremony.hash(
        CONTEXT,
        &[
            &public.public_key().to_bytes(),
            public.chain_code(),
            &public.client_point().to_bytes(),
            &public.peer_point().to_bytes(),
            &message.payload,
            message.input(),
            &path.to_bytes(),
        ],
    ))
}

/// Jointly random: the client's 32 bytes, and the server's in the ceremony (PROTOCOL.md 2 trap 6).
fn id(context: &[u8; 32], client: &[u8; 32], ceremony: &Ceremony) -> [u8; 32] {
    h(ID, &[context, client, &ceremony.server_nonce])
}

fn session(context: &[u8; 32], client: &[u8; 32], server: &[u8; 32]) -> [u8; 32] {
    h(SESSION, &[context, client, server])
}

fn job<'a>(id: [u8; 32], message: &Message, path: &'a DerivationPath) -> Result<EcdsaJob<'a>> {
    Ok(EcdsaJob { id, digest: message.digest()?, path: path.indices() })
}

fn wire_round(step: Step, context: &[u8; 32], nonce: [u8; 32], blob: Blob) -> Result<Vec<u8>> {
    message(step, context, &Round { nonce: nonce.into(), blob })
}

/// Low-S, and k256 recovers the signing key from it (PROTOCOL.md 5, T19).
///
/// That is the verification: k256 recovers `Q = r⁻¹(s·R − z·G)` for the point R of r and recovery id. If Q is the signing
/// key, then `s⁻¹(z·G + r·Q) = R`, whose x is r: the equation of ECDSA, and the recovery id is right as well.
fn verified_ecdsa(key: &Point, message: &Message, raw: &RawEcdsa) -> Result<Signature> {
    check_ecdsa(key, &message.digest()?, raw).ok_or(Error::SignatureInvalid)?;
    Ok(Signature::Ecdsa { r: raw.r, s: raw.s, recovery_id: raw.recovery_id })
}

pub(crate) fn check_ecdsa(key: &Point, digest: &[u8; 32], raw: &RawEcdsa) -> Option<()> {
    let Group2::Secp256k1(key) = key.group() else { return None };
    let signature = K256Signature::from_scalars(raw.r, raw.s).ok()?;
    if signature.normalize_s() != signature {
        return None;
    }
    let recovery_id = RecoveryId::from_byte(raw.recovery_id)?;
    let recovered = VerifyingKey::recover_from_prehash(digest, &signature, recovery_id).ok()?;
    (ProjectivePoint::from(*recovered.as_affine()) == *key).then_some(())
}

/// Verifies with ed25519-dalek, strictly (PROTOCOL.md 5, T19).
fn verified_eddsa(key: &Point, message: &Message, signature: [u8; 64]) -> Result<Signature> {
    let bytes: [u8; 32] = key.to_bytes().try_into().map_err(|_| Error::Internal)?;
    ed25519_dalek::VerifyingKey::from_bytes(&bytes)
        .and_then(|key| key.verify_strict(message.input(), &ed25519_dalek::Signature::from_bytes(&signature)))
        .map_err(|_| Error::SignatureInvalid)?;
    Ok(Signature::Eddsa(signature))
}

#[cfg(test)]
mod tests;
