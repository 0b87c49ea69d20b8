//! What every key service promises. A new back end calls [`every_key_service`] with two instances of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_envelope::{custodian::DataKey, entropy::OsEntropy, id::DeploymentId};

use super::{EncryptionContext, KeyWrapper, KmsError};

/// A context that differs from others in its name alone.
pub(crate) fn context(name: &str) -> EncryptionContext {
    EncryptionContext::of_server_key(DeploymentId::from_bytes([1; 16]), name)
}

/// `other` has keys of its own.
pub(crate) async fn every_key_service(service: &dyn KeyWrapper, other: &dyn KeyWrapper) {
    assert!(service.health().await.is_ok());
    let key = DataKey::generate(&mut OsEntropy);
    let wrapped = service.wrap(&key, &context("a")).await.unwrap();
    assert_eq!(service.unwrap(&wrapped, &context("a")).await.unwrap().expose(), key.expose());
    assert!(!wrapped.windows(32).any(|window| window == key.expose()), "not in the clear");
    assert_ne!(wrapped, service.wrap(&key, &context("a")).await.unwrap(), "randomised");

    assert!(matches!(service.unwrap(&wrapped, &context("b")).await, Err(KmsError::Refused)), "another context");
    assert!(matches!(service.rewrap(&wrapped, &context("b")).await, Err(KmsError::Refused)), "another context");
    assert!(other.unwrap(&wrapped, &context("a")).await.is_err(), "another service's keys");
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert!(service.unwrap(&changed, &context("a")).await.is_err(), "byte {at} changed");
    }
    for length in [0, 1, wrapped.len() - 1] {
        assert!(service.unwrap(&wrapped[..length], &context("a")).await.is_err(), "cut to {length}");
    }
}
