//! The keeper's long-term keys: sk_i = HKDF(root, i) for every i up to the current one (DECISIONS.md D13).

use halfkey_envelope::{
    hpke::{PublicKey, SecretKey},
    keeper::{self, KeyId, Refusal, SealRootKey},
};

/// All long-term keys of a keeper. An old one stays usable for ever: a stanza that was sealed to it must open.
pub struct Keys {
    root: SealRootKey,
    current: KeyId,
    key: SecretKey,
}

impl Keys {
    /// The keys 1 to `current` of this root.
    #[must_use]
    pub fn new(root: SealRootKey, current: KeyId) -> Self {
        let key = keeper::long_term_key(&root, current);
        Self { root, current, key }
    }

    /// The number of the key that the keeper announces.
    #[must_use]
    pub const fn current(&self) -> KeyId {
        self.current
    }

    /// That key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Does something with the key of this number.
    pub(crate) fn with<T>(&self, key_id: KeyId, then: impl FnOnce(&SecretKey) -> T) -> Result<T, Refusal> {
        if key_id == self.current {
            return Ok(then(&self.key));
        }
        if !(1..self.current).contains(&key_id) {
            return Err(Refusal::UnknownKey);
        }
        Ok(then(&keeper::long_term_key(&self.root, key_id)))
    }
}
