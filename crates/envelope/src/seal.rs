//! The one sealed form that every wrap of Halfkey has (METHODS.md A): a key-committing AEAD over a header that
//! says what is inside.
//!
//! ```text
//! sealed     = magic[4] ‖ u16be length ‖ header ‖ salt[32] ‖ commitment[32] ‖ ciphertext ‖ tag[16]
//! hh         = SHA-256(magic ‖ length ‖ header)
//! prk        = HKDF-Extract(salt, key)                                 (RFC 5869, SHA-256)
//! aead key   = HKDF-Expand(prk, "halfkey/envelope/v1/key"    ‖ hh, 32)
//! commitment = HKDF-Expand(prk, "halfkey/envelope/v1/commit" ‖ hh, 32)
//! AEAD       = ChaCha20-Poly1305 (RFC 8439), zero nonce, associated data = every byte before the ciphertext
//! ```
//!
//! The nonce is zero because a fresh salt makes every AEAD key single-use. The commitment is there because
//! ChaCha20-Poly1305 does not commit to its key: without it one ciphertext could open to two contents, and an
//! attacker who hands out ciphertexts could test many candidate keys with one "wrong or right".

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead, aead::Payload};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, random};

const SALT: usize = 32;
const COMMITMENT: usize = 32;
const TAG: usize = 16;
const LENGTH: usize = 2;
const MAGIC: usize = 4;
const KEY_LABEL: &[u8] = b"halfkey/envelope/v1/key";
const COMMIT_LABEL: &[u8] = b"halfkey/envelope/v1/commit";

/// The longest header. Headers name a context; they carry no payload.
pub const MAX_HEADER: usize = 4096;
/// The longest sealed form. The largest thing sealed is a party's state in a key generation.
pub const MAX_SEALED: usize = 1 << 20;

/// Four bytes at the start of a sealed form: what it is, and the version of its outer layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Magic(pub [u8; 4]);

crate::secret::secret32! {
    /// A key for [`seal()`] and [`open()`].
    SealKey;
    /// The data key of one backup: opens the sealed client half, and is what the method holds.
    FileKey;
}

impl SealKey {
    /// The key that HKDF (RFC 5869, SHA-256) derives from a secret: `info` is a tag, `salt` may be empty.
    #[must_use]
    pub fn derive(salt: &[u8], secret: &[u8], info: &str) -> Self {
        Self::derive_bytes(salt, secret, info.as_bytes())
    }

    /// As [`Self::derive`]; `info` is a tagged hash.
    pub(crate) fn derive_bytes(salt: &[u8], secret: &[u8], info: &[u8]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), secret);
        let mut key = Zeroizing::new([0u8; 32]);
        expand(&hkdf, &[info], &mut key);
        Self::from_bytes(key)
    }
}

impl FileKey {
    /// The same bytes in the role of a sealing key, inside this crate only.
    pub(crate) fn as_seal_key(&self) -> SealKey {
        SealKey::from_bytes(Zeroizing::new(*self.expose()))
    }
}

/// Why a sealed form does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Cut off, or lengths that contradict each other.
    #[error("sealed bytes are truncated or malformed")]
    Malformed,
    /// Longer than allowed.
    #[error("sealed bytes are too large")]
    TooLarge,
    /// Another kind of sealed form, or a version this library does not know.
    #[error("another kind or an unknown version of sealed bytes")]
    UnknownMagic,
    /// The header is not the one that the caller expects here.
    #[error("sealed for another context")]
    OtherContext,
    /// The key is not the one it was sealed with.
    #[error("not the key it was sealed with")]
    WrongKey,
    /// The right key, but the bytes were changed.
    #[error("sealed bytes were changed")]
    Changed,
}

/// Seals `plaintext` under `key`; `header` says in which context, in the clear.
///
/// # Panics
/// If the header is longer than [`MAX_HEADER`] or the result longer than [`MAX_SEALED`]: both are bounded by
/// the caller's own types.
#[must_use]
#[allow(clippy::expect_used, reason = "the AEAD fails only beyond 2^38 bytes")]
pub fn seal(key: &SealKey, magic: Magic, header: &[u8], plaintext: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    assert!(header.len() <= MAX_HEADER, "a header only names a context");
    let total = MAGIC + LENGTH + header.len() + SALT + COMMITMENT + plaintext.len() + TAG;
    assert!(total <= MAX_SEALED, "what is sealed is bounded");
    let mut sealed = Vec::with_capacity(total);
    sealed.extend_from_slice(&magic.0);
    sealed.extend_from_slice(&(header.len() as u16).to_be_bytes());
    sealed.extend_from_slice(header);
    let salt = random::<SALT>(entropy);
    let derived = Derived::new(key, salt.as_slice(), &sealed);
    sealed.extend_from_slice(salt.as_ref());
    sealed.extend_from_slice(&derived.commitment);
    let ciphertext = derived
        .cipher()
        .encrypt(&Default::default(), Payload { msg: plaintext, aad: &sealed })
        .expect("a bounded plaintext encrypts");
    sealed.extend_from_slice(&ciphertext);
    sealed
}

/// Opens what [`seal()`] made, if its header is byte for byte the `expected` one.
pub fn open(
    key: &SealKey,
    magic: Magic,
    expected_header: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let parsed = Sealed::parse(magic, sealed)?;
    if parsed.header() != expected_header {
        return Err(OpenError::OtherContext);
    }
    parsed.open(key)
}

/// A sealed form taken apart, not yet opened: for callers that compare the header field by field first.
pub struct Sealed<'a> {
    bytes: &'a [u8],
    header_end: usize,
}

impl<'a> Sealed<'a> {
    /// Takes `bytes` apart. Nothing is believed yet.
    pub fn parse(magic: Magic, bytes: &'a [u8]) -> Result<Self, OpenError> {
        if bytes.len() > MAX_SEALED {
            return Err(OpenError::TooLarge);
        }
        let (found, rest) = bytes.split_first_chunk::<MAGIC>().ok_or(OpenError::Malformed)?;
        if *found != magic.0 {
            return Err(OpenError::UnknownMagic);
        }
        let (length, _) = rest.split_first_chunk::<LENGTH>().ok_or(OpenError::Malformed)?;
        let header = usize::from(u16::from_be_bytes(*length));
        if header > MAX_HEADER {
            return Err(OpenError::TooLarge);
        }
        let header_end = MAGIC + LENGTH + header;
        if bytes.len() < header_end + SALT + COMMITMENT + TAG {
            return Err(OpenError::Malformed);
        }
        Ok(Self { bytes, header_end })
    }

    /// The header, in the clear.
    #[must_use]
    pub fn header(&self) -> &'a [u8] {
        &self.bytes[MAGIC + LENGTH..self.header_end]
    }

    /// The commitment to the key.
    #[must_use]
    pub fn commitment(&self) -> &'a [u8] {
        &self.bytes[self.header_end + SALT..self.body()]
    }

    /// The commitment that `key` would give for this salt and header: equal to [`Self::commitment`] exactly for
    /// the key it was sealed with. Lets the holder of a key prove it without opening anything.
    #[must_use]
    pub fn commitment_of(&self, key: &SealKey) -> [u8; 32] {
        self.derive(key).commitment
    }

    /// Checks the commitment in constant time, then opens.
    pub fn open(&self, key: &SealKey) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let derived = self.derive(key);
        if !bool::from(derived.commitment.as_slice().ct_eq(self.commitment())) {
            return Err(OpenError::WrongKey);
        }
        let (aad, msg) = self.bytes.split_at(self.body());
        let opened = derived.cipher().decrypt(&Default::default(), Payload { msg, aad });
        opened.map(Zeroizing::new).map_err(|_| OpenError::Changed)
    }

    fn derive(&self, key: &SealKey) -> Derived {
        Derived::new(key, &self.bytes[self.header_end..self.header_end + SALT], &self.bytes[..self.header_end])
    }

    const fn body(&self) -> usize {
        self.header_end + SALT + COMMITMENT
    }
}

/// What a key, a salt and a header give.
struct Derived {
    key: Zeroizing<[u8; 32]>,
    commitment: [u8; 32],
}

impl Derived {
    fn new(key: &SealKey, salt: &[u8], header_part: &[u8]) -> Self {
        let hh = Sha256::digest(header_part);
        let hkdf = Hkdf::<Sha256>::new(Some(salt), key.expose());
        let mut derived = Self { key: Zeroizing::new([0; 32]), commitment: [0; 32] };
        expand(&hkdf, &[KEY_LABEL, &hh], &mut derived.key);
        expand(&hkdf, &[COMMIT_LABEL, &hh], &mut derived.commitment);
        derived
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.key).into())
    }
}

#[allow(clippy::expect_used, reason = "HKDF-Expand fails only beyond 255 hash lengths")]
fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8; 32]) {
    hkdf.expand_multi_info(info, out).expect("32 bytes");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    const TEST: Magic = Magic(*b"TST1");

    #[test]
    fn opens_only_with_its_key_kind_and_header() {
        let mut entropy = DangerSeededEntropy::new(1);
        let (key, other) = (SealKey::generate(&mut entropy), SealKey::generate(&mut entropy));
        let sealed = seal(&key, TEST, b"context", b"secret", &mut entropy);
        assert_eq!(*open(&key, TEST, b"context", &sealed).unwrap(), b"secret");
        assert_eq!(open(&other, TEST, b"context", &sealed).unwrap_err(), OpenError::WrongKey);
        assert_eq!(open(&key, TEST, b"contexT", &sealed).unwrap_err(), OpenError::OtherContext);
        assert_eq!(open(&key, Magic(*b"TST2"), b"context", &sealed).unwrap_err(), OpenError::UnknownMagic);
        assert_ne!(sealed, seal(&key, TEST, b"context", b"secret", &mut entropy), "a fresh salt each time");
    }
}
