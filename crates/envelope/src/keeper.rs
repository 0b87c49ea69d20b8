//! What is said to the keeper, the passkey door, and what it answers: strict CBOR in frames of [`crate::frame`].
//!
//! The keeper tells its long-term key and evidence about itself, and releases parts of keys to passkeys
//! ([`crate::passkey`], METHODS.md C).

use core::fmt;

use minicbor::{Decode, Decoder, Encode};

use crate::{
    cbor,
    hash::h,
    hpke::{PublicKey, SecretKey},
    passkey::Fault,
    seal::SealKey,
};

/// The version of these messages.
pub const VERSION: u16 = 1;

/// Which long-term key of the keeper: the `i` of sk_i = HKDF(root, i) (DECISIONS.md D13).
pub type KeyId = u32;

/// The long-term key number `key_id` of the keeper with this sealing root.
#[must_use]
pub fn long_term_key(root: &SealRootKey, key_id: KeyId) -> SecretKey {
    SecretKey::from_seed(SealKey::derive(b"", root.expose(), &format!("halfkey/keeper/v1/key/{key_id}")).expose())
}

crate::secret::secret32! {
    /// The sealing root of a keeper: all its long-term keys come from it.
    SealRootKey;
}

/// What the keeper is asked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Request {
    /// Who are you?
    #[n(1)]
    Info,
    /// Evidence about the program and its key, fresh for this nonce.
    #[n(2)]
    Evidence {
        /// 32 random bytes of the asking client.
        #[cbor(n(0), with = "minicbor::bytes")]
        nonce: [u8; 32],
    },
    /// Give the part in this stanza to the device that made this request. A server relays it, and can read neither.
    #[n(3)]
    Release {
        /// The number of the long-term key that the request is sealed to.
        #[n(0)]
        key_id: KeyId,
        /// The stanza ([`crate::passkey::Stanza`]).
        #[cbor(n(1), with = "minicbor::bytes")]
        stanza: Vec<u8>,
        /// The sealed request ([`crate::passkey::Release`]).
        #[cbor(n(2), with = "minicbor::bytes")]
        sealed: Vec<u8>,
    },
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Request::Info`].
    #[n(1)]
    Info(#[n(0)] Info),
    /// To [`Request::Evidence`].
    #[n(2)]
    Evidence(#[n(0)] Evidence),
    /// To [`Request::Release`]: sealed for the device ([`crate::passkey::PendingRelease`]).
    #[n(3)]
    Released(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// To anything that it does not do.
    #[n(15)]
    Refused(#[n(0)] Refusal),
}

/// Who the keeper says it is. Believe the descriptor, not this.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Info {
    /// The version of the messages it speaks.
    #[n(1)]
    pub version: u16,
    /// The number of its current long-term key.
    #[n(2)]
    pub key_id: KeyId,
    /// That key.
    #[n(3)]
    pub public_key: PublicKey,
    /// The kind of evidence it gives.
    #[n(4)]
    pub evidence: EvidenceKind,
    /// In how many independent places its sealing root lies.
    #[n(5)]
    pub sealings: u32,
}

/// How the keeper shows what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum EvidenceKind {
    /// Signed by nothing: anybody can write it. For development only.
    #[n(1)]
    InsecureDev,
    /// A quote of a TPM 2.0 whose attestation key the operator vouches for.
    #[n(2)]
    Tpm2,
    /// An attestation document of AWS Nitro Enclaves.
    #[n(3)]
    Nitro,
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsecureDev => "insecure-dev",
            Self::Tpm2 => "tpm2",
            Self::Nitro => "nitro",
        })
    }
}

/// What a keeper says about itself, and the document that shows it. Believe none of it before `halfkey-evidence` has
/// verified it under the pinned policy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// The kind; with [`EvidenceKind::InsecureDev`] nothing below is vouched for by anybody.
    #[n(1)]
    pub kind: EvidenceKind,
    /// The nonce of the request.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// The number of the long-term key.
    #[n(3)]
    pub key_id: KeyId,
    /// The long-term key.
    #[n(4)]
    pub public_key: PublicKey,
    /// [`configuration_hash`] of the running keeper.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub configuration: [u8; 32],
    /// The signed document of this kind, about [`Evidence::statement`]; empty with [`EvidenceKind::InsecureDev`].
    #[cbor(n(6), with = "minicbor::bytes")]
    pub document: Vec<u8>,
}

impl Evidence {
    /// What the document has to be about: one hash over all the fields beside it.
    #[must_use]
    pub fn statement(&self) -> [u8; 32] {
        let (kind, key_id) = (self.kind.to_string(), self.key_id.to_be_bytes());
        let parts = [kind.as_bytes(), &self.nonce, &key_id, self.public_key.as_bytes(), &self.configuration];
        h("halfkey/keeper/v1/evidence", &parts)
    }
}

/// What of a keeper's configuration its clients can rely on. `operator` is the identity that the keeper was enrolled
/// under, as the evidence of its kind names it; empty with [`EvidenceKind::InsecureDev`].
#[must_use]
pub fn configuration_hash(kind: EvidenceKind, key_id: KeyId, operator: &[u8]) -> [u8; 32] {
    let (kind, version, key_id) = (kind.to_string(), VERSION.to_be_bytes(), key_id.to_be_bytes());
    h("halfkey/keeper/v1/configuration", &[&version, kind.as_bytes(), &key_id, operator])
}

/// Why the keeper does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a message of this protocol.
    #[n(1)]
    #[error("malformed request")]
    Malformed,
    /// A version that this keeper does not speak.
    #[n(2)]
    #[error("unknown version")]
    UnknownVersion,
    /// A request that this keeper does not know.
    #[n(3)]
    #[error("unsupported request")]
    UnsupportedRequest,
    /// Sealed to a long-term key that this keeper does not have.
    #[n(4)]
    #[error("unknown key")]
    UnknownKey,
    /// The sealed request does not open with that key, or is not one.
    #[n(5)]
    #[error("the request does not open")]
    BadRequest,
    /// The stanza does not open with the key that it names, or is not one.
    #[n(6)]
    #[error("the stanza does not open")]
    BadStanza,
    /// The stanza is of another backup than the one that the device wants to open.
    #[n(7)]
    #[error("the stanza is of another backup")]
    OtherContext,
    /// [`Fault::Malformed`].
    #[n(8)]
    #[error("not a well-formed assertion")]
    BadAssertion,
    /// [`Fault::WrongType`].
    #[n(9)]
    #[error("client data of another ceremony")]
    WrongType,
    /// [`Fault::WrongChallenge`]: another one-time key, another stanza or another operation was signed.
    #[n(10)]
    #[error("another challenge was signed")]
    WrongChallenge,
    /// [`Fault::WrongOrigin`].
    #[n(11)]
    #[error("an origin that is not allowed")]
    WrongOrigin,
    /// [`Fault::WrongRpId`].
    #[n(12)]
    #[error("made for another relying party")]
    WrongRpId,
    /// [`Fault::CrossOrigin`].
    #[n(13)]
    #[error("made inside a page of another origin")]
    CrossOrigin,
    /// [`Fault::UserNotPresent`].
    #[n(14)]
    #[error("the user was not present")]
    UserNotPresent,
    /// [`Fault::UserNotVerified`].
    #[n(15)]
    #[error("the user was not verified")]
    UserNotVerified,
    /// [`Fault::BadSignature`].
    #[n(16)]
    #[error("bad signature")]
    BadSignature,
    /// [`Fault::BackupEligibilityChanged`].
    #[n(17)]
    #[error("the passkey's backup eligibility is not what it was")]
    BackupEligibilityChanged,
    /// [`Fault::UnknownCredential`].
    #[n(18)]
    #[error("not one of the credentials")]
    UnknownCredential,
    /// [`Fault::UnsupportedKey`].
    #[n(19)]
    #[error("a credential key of an unsupported kind")]
    UnsupportedKey,
    /// The evidence that was asked for cannot be made now: the hardware does not answer.
    #[n(20)]
    #[error("no evidence can be given now")]
    EvidenceUnavailable,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::BadAssertion,
            Fault::WrongType => Self::WrongType,
            Fault::WrongChallenge => Self::WrongChallenge,
            Fault::WrongOrigin => Self::WrongOrigin,
            Fault::WrongRpId => Self::WrongRpId,
            Fault::CrossOrigin => Self::CrossOrigin,
            Fault::UserNotPresent => Self::UserNotPresent,
            Fault::UserNotVerified => Self::UserNotVerified,
            Fault::BadSignature => Self::BadSignature,
            Fault::BackupEligibilityChanged => Self::BackupEligibilityChanged,
            Fault::UnknownCredential => Self::UnknownCredential,
            Fault::UnsupportedKey => Self::UnsupportedKey,
        }
    }
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::UnknownVersion => "UNKNOWN_VERSION",
            Self::UnsupportedRequest => "UNSUPPORTED_REQUEST",
            Self::UnknownKey => "UNKNOWN_KEY",
            Self::EvidenceUnavailable => "EVIDENCE_UNAVAILABLE",
            Self::BadRequest => "BAD_REQUEST",
            Self::BadStanza => "BAD_STANZA",
            Self::OtherContext => "OTHER_CONTEXT",
            Self::BadAssertion => Fault::Malformed.code(),
            Self::WrongType => Fault::WrongType.code(),
            Self::WrongChallenge => Fault::WrongChallenge.code(),
            Self::WrongOrigin => Fault::WrongOrigin.code(),
            Self::WrongRpId => Fault::WrongRpId.code(),
            Self::CrossOrigin => Fault::CrossOrigin.code(),
            Self::UserNotPresent => Fault::UserNotPresent.code(),
            Self::UserNotVerified => Fault::UserNotVerified.code(),
            Self::BadSignature => Fault::BadSignature.code(),
            Self::BackupEligibilityChanged => Fault::BackupEligibilityChanged.code(),
            Self::UnknownCredential => Fault::UnknownCredential.code(),
            Self::UnsupportedKey => Fault::UnsupportedKey.code(),
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Message<T> {
    #[n(1)]
    version: u16,
    #[n(2)]
    body: T,
}

/// The first element of a body: which message it is, whatever else is in it.
struct Kind(u16);

impl<'b, C> Decode<'b, C> for Kind {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let count = d.array()?.filter(|count| *count > 0);
        let count = count.ok_or_else(|| minicbor::decode::Error::message("a body has a definite, positive length"))?;
        let kind = d.u16()?;
        (1..count).try_for_each(|_| d.skip())?;
        Ok(Self(kind))
    }
}

#[derive(Decode)]
#[cbor(map)]
struct Probe {
    #[n(1)]
    version: u16,
    #[n(2)]
    body: Option<Kind>,
}

/// The bytes of a request.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    cbor::to_vec(&Message { version: VERSION, body: request.clone() })
}

/// Reads a request, on the keeper's side.
pub fn decode_request(bytes: &[u8]) -> Result<Request, Refusal> {
    decode(bytes, &[1, 2, 3])
}

/// The bytes of an answer.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    cbor::to_vec(&Message { version: VERSION, body: answer.clone() })
}

/// Reads an answer, on the caller's side.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, Refusal> {
    decode(bytes, &[1, 2, 3, 15])
}

fn decode<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8], known: &[u16]) -> Result<T, Refusal> {
    let probe: Probe = minicbor::decode(bytes).map_err(|_| Refusal::Malformed)?;
    if probe.version != VERSION {
        return Err(Refusal::UnknownVersion);
    }
    let Some(Kind(kind)) = probe.body else { return Err(Refusal::Malformed) };
    if !known.contains(&kind) {
        return Err(Refusal::UnsupportedRequest);
    }
    let message: Message<T> = cbor::from_slice(bytes).map_err(|_| Refusal::Malformed)?;
    Ok(message.body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let public_key = PublicKey::from_bytes([7; 32]);
        let configuration = configuration_hash(EvidenceKind::Tpm2, 1, b"operator");
        let document = b"document".to_vec();
        Evidence { kind: EvidenceKind::Tpm2, nonce: [9; 32], key_id: 1, public_key, configuration, document }
    }

    #[test]
    fn messages_round_trip() {
        let release = Request::Release { key_id: 1, stanza: vec![4; 5], sealed: vec![6; 7] };
        for request in [Request::Info, Request::Evidence { nonce: [3; 32] }, release] {
            assert_eq!(decode_request(&encode_request(&request)), Ok(request));
        }
        let released = Answer::Released(vec![8; 9]);
        for answer in [Answer::Evidence(evidence()), released, Answer::Refused(Refusal::UnsupportedRequest)] {
            assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
        }
    }

    #[test]
    fn messages_have_the_bytes_that_the_document_says() {
        assert_eq!(encode_request(&Request::Info), [0xa2, 1, 1, 2, 0x82, 1, 0x80]);
        let refused = encode_answer(&Answer::Refused(Refusal::UnsupportedRequest));
        assert_eq!(refused, [0xa2, 1, 1, 2, 0x82, 15, 0x81, 3]);
        let evidence = encode_request(&Request::Evidence { nonce: [3; 32] });
        assert_eq!(evidence, [&[0xa2, 1, 1, 2, 0x82, 2, 0x81, 0x58, 32][..], &[3; 32]].concat());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let later_version = cbor::to_vec(&Message { version: 2, body: Request::Info });
        assert_eq!(decode_request(&later_version), Err(Refusal::UnknownVersion));
        // As a later version of the protocol may send it: {1: 1, 2: [4, [h'00']]}.
        assert_eq!(decode_request(&[0xa2, 1, 1, 2, 0x82, 4, 0x81, 0x41, 0]), Err(Refusal::UnsupportedRequest));
        let mut trailing = encode_request(&Request::Info);
        trailing.push(0);
        for bad in [&b""[..], b"\xff", b"{}", &[0xa1, 1, 1], &[0xa2, 1, 1, 2, 0x80], &trailing] {
            assert_eq!(decode_request(bad), Err(Refusal::Malformed), "{bad:02x?}");
        }
    }

    #[test]
    fn the_statement_covers_every_field_beside_the_document() {
        let mut seen = std::collections::HashSet::from([evidence().statement()]);
        let change: [fn(&mut Evidence); 5] = [
            |evidence| evidence.kind = EvidenceKind::Nitro,
            |evidence| evidence.nonce[31] ^= 1,
            |evidence| evidence.key_id += 1,
            |evidence| evidence.public_key = PublicKey::from_bytes([8; 32]),
            |evidence| evidence.configuration = configuration_hash(EvidenceKind::Tpm2, 1, b"other"),
        ];
        for (at, change) in change.iter().enumerate() {
            let mut changed = evidence();
            change(&mut changed);
            assert!(seen.insert(changed.statement()), "field {at}");
        }
    }
}
