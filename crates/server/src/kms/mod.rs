//! The key service (METHODS.md F): wraps one data key per half. Its associated data is the half's context, and so is
//! ours, so a swapped row is refused twice.

#[cfg(test)]
pub(crate) mod conformance;
mod local;
mod vault;

use async_trait::async_trait;
use halfkey_envelope::{
    custodian::{DataKey, HalfContext},
    hash::h,
    id::DeploymentId,
};

pub use self::{
    local::{LocalKeys, Missing},
    vault::{Rewrapped, Vault, VaultError},
};

/// What a wrapped key is for, as names and values; the key service binds it as associated data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionContext(Vec<(&'static str, String)>);

impl EncryptionContext {
    /// Of a half.
    #[must_use]
    pub fn of_half(context: &HalfContext) -> Self {
        Self(context.encryption_context())
    }

    /// Of one of the server's own keys.
    #[must_use]
    pub fn of_server_key(deployment: DeploymentId, name: &str) -> Self {
        Self(vec![
            ("deployment", deployment.to_string()),
            ("purpose", "server-key".to_owned()),
            ("name", name.to_owned()),
        ])
    }

    /// The names and values, in a fixed order.
    #[must_use]
    pub fn pairs(&self) -> &[(&'static str, String)] {
        &self.0
    }

    /// One digest of all names and values.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let parts: Vec<&[u8]> = self.0.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        h("halfkey/kms/v1/context", &parts)
    }
}

/// Why the key service did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// It does not answer. Nothing was lost; the caller says "try again later".
    #[error("the key service does not answer")]
    Unavailable {
        /// When it is worth trying again.
        retry_after_ms: u64,
    },
    /// It answers, and refuses: wrong context, another key, or bytes that were changed.
    #[error("the key service refuses")]
    Refused,
    /// The wrapped bytes are of a key version that this key service does not have.
    #[error("unknown key version {0}")]
    UnknownKeyVersion(u32),
    /// The key file of the `local` service.
    #[error("the key file: {0}")]
    KeyFile(&'static str),
    /// The key file cannot be read or written.
    #[error("the key file")]
    Io(#[source] std::io::Error),
}

/// How the key service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Such as `local`.
    pub name: &'static str,
    /// The version under which new keys are wrapped.
    pub version: u32,
}

/// A key service. Every back end passes the same conformance suite.
#[async_trait]
pub trait KeyWrapper: Send + Sync {
    /// Wraps a data key under the newest key version, bound to `context`.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn wrap(&self, key: &DataKey, context: &EncryptionContext) -> Result<Vec<u8>, KmsError>;

    /// Opens what [`Self::wrap`] made, for the same context only.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn unwrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<DataKey, KmsError>;

    /// Wraps the same data key under the newest key version; `None` when it is already.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn rewrap(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<Option<Vec<u8>>, KmsError>;

    /// Whether it answers.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn health(&self) -> Result<Health, KmsError>;
}
