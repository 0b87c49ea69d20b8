//! ChaCha20-Poly1305 does not commit to its key: `tests/vectors/two_keys.json` has a ciphertext whose tag is good under
//! two keys (made by `tests/vectors/envelope.py`, after Len, Grubbs and Ristenpart, "Partitioning Oracle Attacks",
//! USENIX Security 2021). The commitment is what refuses it.

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead, aead::Payload};
use halfkey_envelope::seal::{self, Magic, OpenError, SealKey};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use crate::vectors::{bytes, key, vectors};

/// The AEAD alone, without the commitment: section "sealed form" of `docs/formats.md`, written out again.
fn aead_opens(key: &[u8], header: &[u8], sealed: &[u8]) -> bool {
    let header_end = 6 + header.len();
    let body = header_end + 64;
    let hh = Sha256::digest(&sealed[..header_end]);
    let mut aead_key = [0u8; 32];
    let info = [&b"halfkey/envelope/v1/key"[..], &hh].concat();
    Hkdf::<Sha256>::new(Some(&sealed[header_end..header_end + 32]), key).expand(&info, &mut aead_key).unwrap();
    let payload = Payload { msg: &sealed[body..], aad: &sealed[..body] };
    ChaCha20Poly1305::new(&aead_key.into()).decrypt(&Default::default(), payload).is_ok()
}

#[test]
fn a_ciphertext_that_is_good_under_two_keys_opens_with_the_committed_one_only() {
    let vector = vectors("two_keys.json");
    let magic = Magic(bytes(&vector["magic"]).try_into().unwrap());
    let (header, sealed) = (bytes(&vector["header"]), bytes(&vector["sealed"]));
    for name in ["key", "second_key"] {
        assert!(aead_opens(&bytes(&vector[name]), &header, &sealed), "the tag is good under {name}");
    }
    let open = |name: &str| seal::open(&SealKey::from_bytes(key(&vector[name])), magic, &header, &sealed);
    assert!(open("key").is_ok());
    assert_eq!(open("second_key").unwrap_err(), OpenError::WrongKey);
}
