//! Ceremony bodies: strict CBOR, HPKE-sealed to the server's pinned key (DECISIONS.md D6).
//!
//! Every step of every ceremony is one `POST` to [`crate::route::CEREMONIES`]. What the two parties say to each
//! other is opaque here: one part per curve, made and read by `protocol`.
//!
//! | op | step | parts of the request | parts of the answer | effect |
//! |---|---|---|---|---|
//! | CreateWallet | 1, 2 | DKG | DKG | after 2 the server's halves are stored |
//! | | 3 | proof of the device's half read back | none | pairs Active |
//! | Sign | 0 (secp256k1 only) | none | none; `nonce` is n_S | |
//! | | 1 (, 2 for secp256k1) | sign | sign | a signature |
//! | Backup | 1 | commitment | the server's dealing, signed | |
//! | | 2 | opening, custodian's sealed sub-share | the custodian's acknowledgement | custodian halves stored, pending |
//! | Recover | 1 | commitment | the custodian's dealing, signed | |
//! | | 2 | opening, sealed sub-share; secp256k1: refresh 1 | secp256k1: refresh 1 | |
//! | | 3 | secp256k1: refresh 2; ed25519: none | secp256k1: refresh 2 | new server halves stored, pending |
//! | | 4 | test signature 1 | test signature 1 | |
//! | | 5 | secp256k1: test signature 2; both: proof of the new half | last message | pairs Active, recovery Completed |
//! | Heal | 1 | commitment | the server's dealing, signed | |
//! | | 2 to 5 | as in `Recover`, of the healed pair's curve alone | | the new half stored; in 5 the pair Active |
//!
//! The session of a secp256k1 signature is opened by the server's half of its id, n_S. Step 0 asks for it; but the last
//! answer of every ceremony that leaves a secp256k1 pair ready (CreateWallet 3, Sign 2, Recover 5, Heal 5) opens the session of
//! this device's **next** signature already: its `session`, `resume` and `nonce` are those that a step 0 would have
//! given, and the next signature begins with step 1. There is one such session for a device; a newer one replaces it, it
//! is used once, waits 7 days at most, and a start of the server may forget it. A device removes it from its store before
//! it uses it, and on `CEREMONY_MISMATCH` in step 1 it begins again with step 0 and fresh bytes of its own. An answer
//! without these fields opens nothing.
//!
//! A retry of a step whose answer was lost starts a new session at step 1 (PROTOCOL.md 4.7).
//!
//! What both sides put into the context of a ceremony (`protocol::context::Ceremony`), each from its own records:
//!
//! | op | old pair | new pair | generation | n_S | keys beside the device's and the server's |
//! |---|---|---|---|---|---|
//! | CreateWallet | none | [`PendingWallet::pair_id`] | of the pending wallet | of [`WalletsBegun`] | none |
//! | Sign | the signing pair | none | of that pair | secp256k1: of the answer that opened the session; ed25519: zeros | none |
//! | Backup | the signing pair | the pending backup pair | of [`BackupBegun`] | of [`BackupBegun`] | the custodian's |
//! | Recover | the backup pair | the pending signing pair | of the pending pair | of [`Recovery`] | the custodian's |
//! | Heal | the banned signing pair | the pending signing pair | of [`HealBegun`] | of [`HealBegun`] | none |
//!
//! The server's and the custodian's keys are both those of the descriptor, identity and HPKE. The device's HPKE key is
//! left empty: `reshare` makes one per curve and takes it from the device's signed message. In a recovery it is the
//! one-time key that the proof of possession named, and the server compares. The test signature of a recovery or healing
//! is made under the same context. FROST needs no jointly random id, so ed25519 signs in one round trip; the
//! oblivious transfers of secp256k1 do (PROTOCOL.md 2 trap 6), and n_S is there before there is a payload.
//!
//! Proofs of a half read back from the device's store (`CreateWallet` step 3, `Recover` and `Heal` step 5) have the purpose
//! `Create`, the context [`crate::context::stored_half`] over n_S, the new pair, and as the verifier's nonce the one in
//! the answer before.
//!
//! [`PendingWallet::pair_id`]: crate::message::PendingWallet::pair_id
//! [`WalletsBegun`]: crate::message::WalletsBegun
//! [`BackupBegun`]: crate::message::BackupBegun
//! [`HealBegun`]: crate::message::HealBegun
//! [`Recovery`]: crate::message::Recovery

use halfkey_envelope::{id::SessionId, wallet::Curve};
use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};

/// The version of these messages.
pub const VERSION: u8 = 1;
/// The media type of sealed ceremony bodies, both ways.
pub const MEDIA_TYPE: &str = "application/cbor";
/// The largest sealed ceremony body, in bytes.
pub const MAX_BODY: usize = 512 * 1024;
/// HPKE `info` of a sealed request.
pub const INFO: &[u8] = b"halfkey/server/v1/ceremony";
/// Label under which the answer key is exported.
pub const ANSWER: &str = "halfkey/server/v1/answer";

/// Which ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Op {
    /// DKG on every curve; the subject is the client id.
    #[n(1)]
    CreateWallet,
    /// One signature; the subject is the signing pair's id.
    #[n(2)]
    Sign,
    /// Reshare (C, S) → (C, K) on every curve; the subject is the backup id.
    #[n(3)]
    Backup,
    /// Reshare (C, K) → (C′, S) on every curve; the subject is the recovery id.
    #[n(4)]
    Recover,
    /// Reshare (C, S) → (C, S) after a ban, on one curve; the subject is the new signing pair's id.
    #[n(5)]
    Heal,
}

/// One curve's message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// The curve.
    #[n(0)]
    pub curve: Curve,
    /// The message of `protocol`.
    #[n(1)]
    pub bytes: ByteVec,
}

/// One step, from the device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CeremonyRequest {
    /// [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// Which ceremony.
    #[n(1)]
    pub op: Op,
    /// 1, 2, …
    #[n(2)]
    pub step: u8,
    /// What it is about: see [`Op`].
    #[n(3)]
    pub subject: ByteArray<16>,
    /// The session, from step 2 on.
    #[n(4)]
    pub session: Option<SessionId>,
    /// The secret from the previous answer that opens the server's kept state, from step 2 on.
    #[n(5)]
    pub resume: Option<ByteArray<32>>,
    /// The device's fresh nonce for proofs that the answer carries.
    #[n(6)]
    pub nonce: Option<ByteArray<32>>,
    /// What is to be signed: strict CBOR of `signing::Payload`, in every step of `Sign` from 1 on.
    #[n(7)]
    pub payload: Option<ByteVec>,
    /// One message per curve, in the order of [`Curve::ALL`].
    #[n(8)]
    pub parts: Vec<Part>,
}

/// A part of step 2 of `Recover` and `Heal`: strict CBOR in [`Part::bytes`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecoverOpen {
    /// The opening with the server's sealed sub-shares.
    #[n(0)]
    pub opening: ByteVec,
    /// secp256k1: the first request for fresh oblivious-transfer state, under the session id of the opening.
    #[n(1)]
    pub refresh: Option<ByteVec>,
}

/// A part of step 5 of `Recover` and `Heal`: strict CBOR in [`Part::bytes`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecoverFinish {
    /// secp256k1: the second message of the test signature.
    #[n(0)]
    pub message: Option<ByteVec>,
    /// The proof of the new half, made from the copy read back, with [`crate::context::stored_half`] over the
    /// recovery's or healing's n_S, under the nonce of the answer to step 4.
    #[n(1)]
    pub proof: ByteVec,
}

/// One step, from the server.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CeremonyAnswer {
    /// [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// The session to name in the next step.
    #[n(1)]
    pub session: SessionId,
    /// The step that was answered.
    #[n(2)]
    pub step: u8,
    /// To be returned in the next step; absent when the ceremony is over and opens no session for the next signature.
    #[n(3)]
    pub resume: Option<ByteArray<32>>,
    /// A fresh nonce of the server for the device's next proofs, where the table above names one.
    #[n(4)]
    pub nonce: Option<ByteArray<32>>,
    /// One message per curve, in the order of [`Curve::ALL`]; a curve may be absent.
    #[n(5)]
    pub parts: Vec<Part>,
}

impl CeremonyRequest {
    /// The part of one curve.
    #[must_use]
    pub fn part(&self, curve: Curve) -> Option<&[u8]> {
        find(&self.parts, curve)
    }
}

impl CeremonyAnswer {
    /// The part of one curve.
    #[must_use]
    pub fn part(&self, curve: Curve) -> Option<&[u8]> {
        find(&self.parts, curve)
    }
}

fn find(parts: &[Part], curve: Curve) -> Option<&[u8]> {
    parts.iter().find(|part| part.curve == curve).map(|part| part.bytes.as_slice())
}
