//! The last check before a signature is returned (PROTOCOL.md 5, T19).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use k256::ecdsa::SigningKey;

use super::*;

fn signed() -> (Point, Message, RawEcdsa) {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let message = Message { payload: [0; 32], input: Input::Digest([9; 32]) };
    let (signature, recovery_id) = key.sign_prehash_recoverable(&[9; 32]);
    let (r, s) = signature.split_bytes();
    let point = Point::from_bytes(Curve::Secp256k1, key.verifying_key().to_sec1_point(true).as_bytes()).unwrap();
    (point, message, RawEcdsa { r: r.into(), s: s.into(), recovery_id: recovery_id.to_byte() })
}

#[test]
fn t19_a_high_s_is_refused() {
    let (key, message, mut raw) = signed();
    assert!(verified_ecdsa(&key, &message, &raw).is_ok());
    let signature = K256Signature::from_scalars(raw.r, raw.s).unwrap();
    let high = -*signature.s();
    raw.s = high.to_bytes().into();
    raw.recovery_id ^= 1;
    assert_eq!(verified_ecdsa(&key, &message, &raw), Err(Error::SignatureInvalid));
}

#[test]
fn t19_a_recovery_id_of_another_key_is_refused() {
    let (key, message, mut raw) = signed();
    raw.recovery_id ^= 1;
    assert_eq!(verified_ecdsa(&key, &message, &raw), Err(Error::SignatureInvalid));
}

/// Whatever recovery id comes with it.
#[test]
fn t19_a_signature_of_something_else_is_refused() {
    let (key, message, raw) = signed();
    let other_digest = Message { payload: [0; 32], input: Input::Digest([8; 32]) };
    let other_key = key.add(&key).unwrap();
    for recovery_id in 0..4 {
        let with = |r: [u8; 32], s: [u8; 32]| RawEcdsa { r, s, recovery_id };
        let (mut r, mut s) = (raw.r, raw.s);
        r[31] ^= 1;
        s[31] ^= 1;
        let refused = [
            verified_ecdsa(&key, &message, &with(r, raw.s)),
            verified_ecdsa(&key, &message, &with(raw.r, s)),
            verified_ecdsa(&key, &other_digest, &with(raw.r, raw.s)),
            verified_ecdsa(&other_key, &message, &with(raw.r, raw.s)),
        ];
        assert_eq!(refused, [Err(Error::SignatureInvalid); 4], "recovery id {recovery_id}");
    }
}

#[test]
fn t19_an_ed25519_signature_is_verified_strictly() {
    use ed25519_dalek::Signer;
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let point = Point::from_bytes(Curve::Ed25519, key.verifying_key().as_bytes()).unwrap();
    let message = Message { payload: [0; 32], input: Input::Bytes(b"message".to_vec()) };
    let signature = key.sign(b"message").to_bytes();
    assert!(verified_eddsa(&point, &message, signature).is_ok());
    let mut changed = signature;
    changed[63] ^= 0x10;
    assert_eq!(verified_eddsa(&point, &message, changed), Err(Error::SignatureInvalid));
}
