//! The floor: one plain signature and its verification, by one party, with the curve's usual library.

use std::hint::black_box;

use ed25519_dalek::{Signer as _, Verifier as _};
use halfkey_envelope::{hash::sha256, wallet::Curve};
use k256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};

use crate::clock::thread_ms;

/// Keys that exist as a whole.
pub struct Floor {
    ecdsa: k256::ecdsa::SigningKey,
    eddsa: ed25519_dalek::SigningKey,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            ecdsa: k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap(),
            eddsa: ed25519_dalek::SigningKey::from_bytes(&[7; 32]),
        }
    }
}

impl Floor {
    /// CPU milliseconds of one signature and one verification of `message`.
    #[must_use]
    pub fn run(&self, curve: Curve, message: &[u8]) -> f64 {
        let before = thread_ms();
        match curve {
            Curve::Secp256k1 => {
                let digest = sha256(message);
                let signature: k256::ecdsa::Signature = self.ecdsa.sign_prehash(black_box(&digest)).unwrap();
                self.ecdsa.verifying_key().verify_prehash(&digest, black_box(&signature)).unwrap();
            }
            Curve::Ed25519 => {
                let signature = self.eddsa.sign(black_box(message));
                self.eddsa.verifying_key().verify(message, black_box(&signature)).unwrap();
            }
        }
        thread_ms() - before
    }
}
