//! Messages sealed to a public key: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305 (DECISIONS.md D2).
//!
//! A message is `version[1] ‖ enc[32] ‖ ciphertext ‖ tag[16]`. Every use has its own `info`, a tagged context.
//! A request that gets an answer leaves both sides with an [`AnswerKey`]: whoever opened the request, and only
//! he, can write the answer, and only the sender of that very request can read it.

use core::fmt;
use std::sync::OnceLock;

use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use zeroize::Zeroizing;

use crate::{
    entropy::{Entropy, Rng10, random},
    seal::{self, Magic, SealKey},
};

/// The version of the message format, and with it the suite.
const VERSION: u8 = 1;
const ENC_LEN: usize = 32;
const TAG_LEN: usize = 16;
/// RFC 9180 bounds the length of `info`; ours are a tag and a few identifiers.
const MAX_INFO: usize = 1024;
/// The longest message that is sealed or opened: the largest ceremony body with room to spare.
pub const MAX_MESSAGE: usize = 1 << 20;
const ANSWER: Magic = Magic(*b"HKA1");
const ANSWER_EXPORT: &[u8] = b"halfkey/hpke/v1/answer";

/// Why a message could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too short to be a message.
    #[error("sealed message is too short")]
    TooShort,
    /// Longer than [`MAX_MESSAGE`], or its context is longer than allowed.
    #[error("sealed message is too large")]
    TooLarge,
    /// A version that this library does not know.
    #[error("unknown version {0} of a sealed message")]
    UnknownVersion(u8),
    /// The recipient's public key is of low order: nothing is ever sealed to it.
    #[error("unusable public key")]
    BadPublicKey,
    /// Not sealed to this key in this context, or changed on the way.
    #[error("sealed message does not open")]
    Refused,
}

/// The public half of a [`SecretKey`], as pinned in the deployment descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its 32 bytes (RFC 7748 u-coordinate). A useless one is found out when something is sealed to it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl<C> minicbor::Encode<C> for PublicKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for PublicKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        bytes.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("a public key has 32 bytes"))
    }
}

/// A key that opens sealed messages: long-term of a server or keeper, or one-time of a device.
pub struct SecretKey {
    secret: Zeroizing<[u8; 32]>,
    /// Computed once, when it is first asked for.
    public: OnceLock<PublicKey>,
}

crate::secret::redact!(SecretKey);

impl SecretKey {
    /// A fresh key.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self::from_seed(&random::<32>(entropy))
    }

    /// The key that belongs to a 32-byte seed (RFC 9180 section 7.1.3, DeriveKeyPair).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let (secret, public) = X25519HkdfSha256::derive_keypair(seed);
        let mut bytes = Zeroizing::new([0u8; 32]);
        secret.write_exact(bytes.as_mut());
        Self { secret: bytes, public: OnceLock::from(PublicKey(public.to_bytes().into())) }
    }

    /// From the 32 bytes that [`Self::to_bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { secret: bytes, public: OnceLock::new() }
    }

    /// The key itself, for the sealed storage of its owner.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.clone()
    }

    /// What others seal to.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        *self.public.get_or_init(|| PublicKey(X25519HkdfSha256::sk_to_pk(&self.private()).to_bytes().into()))
    }

    #[allow(clippy::expect_used, reason = "any 32 bytes are an X25519 private key")]
    fn private(&self) -> <X25519HkdfSha256 as hpke::Kem>::PrivateKey {
        Deserializable::from_bytes(self.secret.as_ref()).expect("32 bytes")
    }
}

/// Seals one message to `recipient`; nobody can answer it in kind (see [`Request`]).
pub fn seal_to(
    recipient: &PublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, Error> {
    Request::seal(recipient, info, aad, plaintext, entropy).map(|(message, _)| message)
}

/// Opens a message of [`seal_to`] in the same context.
pub fn open(secret: &SecretKey, info: &[u8], aad: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    open_request(secret, info, aad, message).map(|(plaintext, _)| plaintext)
}

/// The encapsulated key of a sealed message: what a passkey signs to bind a request (METHODS.md C).
pub fn encapsulation(message: &[u8]) -> Result<[u8; ENC_LEN], Error> {
    let (enc, _) = split(message)?;
    enc.try_into().map_err(|_| Error::TooShort)
}

/// A sealed message that expects an answer.
pub struct Request;

impl Request {
    /// Seals `plaintext` and keeps the key under which the answer will come.
    pub fn seal(
        recipient: &PublicKey,
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, AnswerKey), Error> {
        Sender::setup(recipient, info, entropy)?.seal(aad, plaintext)
    }
}

/// The sender of a request whose content is not known yet: the encapsulation comes first, so that it can be signed,
/// and the message that holds the signature is sealed later (METHODS.md C). Seals once; wiped when dropped.
pub struct Sender {
    enc: [u8; ENC_LEN],
    // Boxed, so that moving a sender leaves no copies of its key behind.
    context: Box<hpke::aead::AeadCtxS<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>>,
}

crate::secret::redact!(Sender);

impl Sender {
    /// A fresh one-time key for a request to `recipient`.
    pub fn setup(recipient: &PublicKey, info: &[u8], entropy: &mut dyn Entropy) -> Result<Self, Error> {
        if info.len() > MAX_INFO {
            return Err(Error::TooLarge);
        }
        let recipient = Deserializable::from_bytes(&recipient.0).map_err(|_| Error::BadPublicKey)?;
        let (enc, context) = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &recipient,
            info,
            &mut Rng10(entropy),
        )
        .map_err(|_| Error::BadPublicKey)?;
        Ok(Self { enc: enc.to_bytes().into(), context: Box::new(context) })
    }

    /// The encapsulated key: as [`encapsulation`] of the message that [`Self::seal`] will give.
    #[must_use]
    pub const fn encapsulation(&self) -> &[u8; ENC_LEN] {
        &self.enc
    }

    /// The message, and the key under which its answer will come.
    pub fn seal(mut self, aad: &[u8], plaintext: &[u8]) -> Result<(Vec<u8>, AnswerKey), Error> {
        if plaintext.len() > MAX_MESSAGE - 1 - ENC_LEN - TAG_LEN {
            return Err(Error::TooLarge);
        }
        let sealed = self.context.seal(plaintext, aad).map_err(|_| Error::TooLarge)?;
        let mut message = Vec::with_capacity(1 + ENC_LEN + sealed.len());
        message.push(VERSION);
        message.extend_from_slice(&self.enc);
        message.extend_from_slice(&sealed);
        Ok((message, AnswerKey::export(|label, out| self.context.export(label, out))))
    }
}

/// Opens a request and gives the key to seal its answer with.
pub fn open_request(
    secret: &SecretKey,
    info: &[u8],
    aad: &[u8],
    message: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, AnswerKey), Error> {
    if info.len() > MAX_INFO {
        return Err(Error::TooLarge);
    }
    let (enc, sealed) = split(message)?;
    let enc = Deserializable::from_bytes(enc).map_err(|_| Error::Refused)?;
    let mut context = hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret.private(),
        &enc,
        info,
    )
    .map_err(|_| Error::Refused)?;
    let plaintext = Zeroizing::new(context.open(sealed, aad).map_err(|_| Error::Refused)?);
    Ok((plaintext, AnswerKey::export(|label, out| context.export(label, out))))
}

/// The key of the answer to one request, known to its two ends only.
pub struct AnswerKey(SealKey);

crate::secret::redact!(AnswerKey);

impl AnswerKey {
    #[allow(clippy::expect_used, reason = "the only failure of an export is a length of 2^16 or more")]
    fn export(export: impl FnOnce(&[u8], &mut [u8]) -> Result<(), hpke::HpkeError>) -> Self {
        let mut key = Zeroizing::new([0u8; 32]);
        export(ANSWER_EXPORT, key.as_mut()).expect("32 bytes can be exported");
        Self(SealKey::from_bytes(key))
    }

    /// Seals an answer. `label` says which answer it is; the reader must expect the same.
    ///
    /// # Panics
    /// If the answer is longer than [`seal::MAX_SEALED`] allows; see [`seal::seal`].
    #[must_use]
    pub fn seal_answer(&self, label: &str, answer: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
        seal::seal(&self.0, ANSWER, label.as_bytes(), answer, entropy)
    }

    /// Opens the answer of [`Self::seal_answer`] with the same label.
    pub fn open_answer(&self, label: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        seal::open(&self.0, ANSWER, label.as_bytes(), sealed).map_err(|_| Error::Refused)
    }
}

fn split(message: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    if message.len() > MAX_MESSAGE {
        return Err(Error::TooLarge);
    }
    let (version, rest) = message.split_first().ok_or(Error::TooShort)?;
    if *version != VERSION {
        return Err(Error::UnknownVersion(*version));
    }
    if rest.len() < ENC_LEN + TAG_LEN {
        return Err(Error::TooShort);
    }
    Ok(rest.split_at(ENC_LEN))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    #[test]
    fn a_request_opens_for_its_recipient_and_context_only() {
        let mut entropy = DangerSeededEntropy::new(1);
        let (secret, other) = (SecretKey::generate(&mut entropy), SecretKey::generate(&mut entropy));
        let message = seal_to(&secret.public_key(), b"info", b"aad", b"hello", &mut entropy).unwrap();
        assert_eq!(*open(&secret, b"info", b"aad", &message).unwrap(), b"hello");
        assert_eq!(open(&other, b"info", b"aad", &message).unwrap_err(), Error::Refused);
        assert_eq!(open(&secret, b"inf0", b"aad", &message).unwrap_err(), Error::Refused);
        assert_eq!(open(&secret, b"info", b"axd", &message).unwrap_err(), Error::Refused);
        for bit in 0..message.len() * 8 {
            let mut bad = message.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&secret, b"info", b"aad", &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_the_opener_answers_and_only_the_sender_reads() {
        let mut entropy = DangerSeededEntropy::new(2);
        let secret = SecretKey::generate(&mut entropy);
        let to = secret.public_key();
        let (request, mine) = Request::seal(&to, b"info", b"", b"q", &mut entropy).unwrap();
        let (_, foreign) = Request::seal(&to, b"info", b"", b"q", &mut entropy).unwrap();
        let (_, theirs) = open_request(&secret, b"info", b"", &request).unwrap();
        let answer = theirs.seal_answer("halfkey/test/v1/answer", b"a", &mut entropy);
        assert_eq!(*mine.open_answer("halfkey/test/v1/answer", &answer).unwrap(), b"a");
        assert_eq!(mine.open_answer("halfkey/test/v1/other", &answer).unwrap_err(), Error::Refused);
        assert_eq!(foreign.open_answer("halfkey/test/v1/answer", &answer).unwrap_err(), Error::Refused);
    }

    #[test]
    fn nothing_is_sealed_to_a_key_of_low_order() {
        let mut entropy = DangerSeededEntropy::new(3);
        for byte in [0u8, 1] {
            let mut bytes = [0u8; 32];
            bytes[0] = byte;
            let sealed = seal_to(&PublicKey::from_bytes(bytes), b"info", b"", b"x", &mut entropy);
            assert_eq!(sealed.unwrap_err(), Error::BadPublicKey);
        }
    }
}
