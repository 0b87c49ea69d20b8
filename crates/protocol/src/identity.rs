//! Ed25519 identity keys of servers and custodians, and the device keys of clients (PROTOCOL.md 4, DECISIONS.md D4).

use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::h,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The public half of an identity or device key: canonical, and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityPublic(VerifyingKey);

impl IdentityPublic {
    /// Parses and validates 32 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`] for an encoding that is not canonical or a key of small order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Error::InvalidPoint)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| Error::InvalidPoint)?;
        let canonical = key.to_edwards().compress().as_bytes() == bytes;
        if canonical && !key.is_weak() { Ok(Self(key)) } else { Err(Error::InvalidPoint) }
    }

    /// The 32 bytes (RFC 8032).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Verifies a signature over `H(tag, parts…)`, strictly: canonical, no components of small order.
    ///
    /// # Errors
    /// [`Error::InvalidIdentitySignature`].
    pub fn verify(&self, tag: &str, parts: &[&[u8]], signature: &[u8]) -> Result<()> {
        self.verify_digest(&h(tag, parts), signature)
    }

    /// Verifies a signature over a digest that the caller made with [`h`] under a tag of its own.
    ///
    /// # Errors
    /// [`Error::InvalidIdentitySignature`].
    pub fn verify_digest(&self, digest: &[u8; 32], signature: &[u8]) -> Result<()> {
        let signature = Signature::from_slice(signature).map_err(|_| Error::InvalidIdentitySignature)?;
        self.0.verify_strict(digest, &signature).map_err(|_| Error::InvalidIdentitySignature)
    }
}

impl fmt::Debug for IdentityPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityPublic({})", hex::encode(self.to_bytes()))
    }
}

impl Serialize for IdentityPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for IdentityPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = hex::decode(text.as_ref()).map_err(de::Error::custom)?;
        let key = Self::from_bytes(&bytes).map_err(de::Error::custom)?;
        if hex::encode(bytes) == text { Ok(key) } else { Err(de::Error::custom("lower-case hex expected")) }
    }
}

mod sealed {
    pub trait Key {
        fn key(&self) -> &ed25519_dalek::SigningKey;
    }
}
use sealed::Key;

/// What an [`IdentityKey`] and a [`DeviceKey`] can do.
pub trait Signs: Key {
    /// The public half.
    fn public(&self) -> IdentityPublic {
        IdentityPublic(self.key().verifying_key())
    }

    /// Signs `H(tag, parts…)` (RFC 8032, deterministic).
    fn sign(&self, tag: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.sign_digest(&h(tag, parts))
    }

    /// Signs a digest that the caller made with [`h`] under a tag of its own.
    fn sign_digest(&self, digest: &[u8; 32]) -> [u8; 64] {
        self.key().sign(digest).to_bytes()
    }
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(SigningKey);

        impl $name {
            /// A fresh key.
            pub fn generate(entropy: &mut dyn Entropy) -> Self {
                Self::from_bytes(&random::<32>(entropy))
            }

            /// From its 32-byte seed (RFC 8032).
            #[must_use]
            pub fn from_bytes(seed: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(seed))
            }

            /// The 32-byte seed, wiped on drop: for sealing only.
            #[must_use]
            pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }
        }

        impl Key for $name {
            fn key(&self) -> &SigningKey {
                &self.0
            }
        }

        impl Signs for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

keys! {
    /// The long-term identity of a deployment's server or of a custodian; pinned in the descriptor.
    IdentityKey;
    /// The key of one device: made at create or recover, signs every changing call (DECISIONS.md D4).
    DeviceKey;
}
