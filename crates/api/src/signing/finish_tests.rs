#![allow(clippy::unwrap_used, clippy::panic)]

use ed25519_dalek::Signer as _;

use super::*;
use crate::{
    chain::ethereum::address,
    signing::{Eip1559Transfer, SolanaTransfer},
};

const NONE: Capabilities = Capabilities { danger_sign_digest: false };
const ALL: Capabilities = Capabilities { danger_sign_digest: true };

fn secp256k1(secret: &[u8; 32]) -> (k256::ecdsa::SigningKey, PublicKey) {
    let secret = k256::ecdsa::SigningKey::from_slice(secret).unwrap();
    let public = PublicKey::parse(Curve::Secp256k1, secret.verifying_key().to_sec1_point(true).as_bytes()).unwrap();
    (secret, public)
}

fn ed25519(secret: &[u8; 32]) -> (ed25519_dalek::SigningKey, PublicKey) {
    let secret = ed25519_dalek::SigningKey::from_bytes(secret);
    let public = PublicKey::parse(Curve::Ed25519, &secret.verifying_key().to_bytes()).unwrap();
    (secret, public)
}

fn sign(payload: &Payload, secret: &k256::ecdsa::SigningKey, public: &PublicKey) -> Signature {
    let decoded = decode(payload, public, ALL).unwrap();
    let (signature, recovery_id) = secret.sign_prehash_recoverable(decoded.bytes());
    let (r, s) = signature.split_bytes();
    Signature::Ecdsa { r: r.into(), s: s.into(), recovery_id: recovery_id.to_byte() }
}

#[test]
fn the_signed_transaction_of_eip_155() {
    let (secret, public) = secp256k1(&[0x46; 32]);
    let preimage = "ec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080";
    let payload = Payload::EthTransaction(hex::decode(preimage).unwrap());
    let signature = sign(&payload, &secret, &public);
    let Signed::EthTransaction { raw, hash } = finish(&payload, &public, NONE, &signature).unwrap() else { panic!() };
    assert_eq!(
        hex::encode(&raw),
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025\
         a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276\
         a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    );
    assert_eq!(hash, keccak256(&raw).0);
}

#[test]
fn an_eip_1559_transfer_goes_out_from_the_signer() {
    use alloy_consensus::TxEnvelope;
    use alloy_eips::eip2718::Decodable2718;

    let (secret, public) = secp256k1(&[0x11; 32]);
    let PublicKey::Secp256k1(key) = &public else { panic!() };
    let transfer = Eip1559Transfer {
        chain_id: 31337,
        nonce: 0,
        to: "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266".into(),
        value: 10_u128.pow(18),
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
    };
    let payload = transfer.payload().unwrap();
    let signature = sign(&payload, &secret, &public);
    let Signed::EthTransaction { raw, hash } = finish(&payload, &public, NONE, &signature).unwrap() else { panic!() };
    let TxEnvelope::Eip1559(signed) = TxEnvelope::decode_2718_exact(&raw).unwrap() else { panic!() };
    assert_eq!(signed.hash().0, hash);
    assert_eq!(Payload::EthTransaction(signed.tx().encoded_for_signing()), payload);
    let digest = decode(&payload, &public, NONE).unwrap().bytes().to_vec();
    let Signature::Ecdsa { r, s, recovery_id } = signature else { panic!() };
    let recovered = k256::ecdsa::VerifyingKey::recover_from_prehash(
        &digest,
        &k256::ecdsa::Signature::from_scalars(r, s).unwrap(),
        k256::ecdsa::RecoveryId::from_byte(recovery_id).unwrap(),
    )
    .unwrap();
    assert_eq!(address(&Secp256k1Key::parse(recovered.to_sec1_point(true).as_bytes()).unwrap()), address(key));
    for to in [
        "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x1234",
        "vitalik.eth",
    ] {
        assert!(Eip1559Transfer { to: to.into(), ..transfer.clone() }.payload().is_err(), "{to}");
    }
}

#[test]
fn the_typed_data_signature_of_eip_712() {
    let secret = keccak256("cow").0;
    let (secret, public) = secp256k1(&secret);
    let payload = Payload::EthTypedData(include_str!("eip712_mail.json").into());
    let signature = sign(&payload, &secret, &public);
    let Signed::EthSignature(bytes) = finish(&payload, &public, NONE, &signature).unwrap() else { panic!() };
    // EIP-712, "Test": r, s and v.
    assert_eq!(
        hex::encode(bytes),
        "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d\
         07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562\
         1c"
    );
}

#[test]
fn a_solana_transfer_is_complete() {
    let (secret, public) = ed25519(&[1; 32]);
    let PublicKey::Ed25519(from) = public else { panic!() };
    let transfer = SolanaTransfer {
        from,
        to: "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn".into(),
        lamports: 5,
        recent_blockhash: "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn".into(),
    };
    let payload = transfer.payload().unwrap();
    let Payload::SolanaMessage(message) = &payload else { panic!() };
    let signature = secret.sign(message).to_bytes();
    let signed = finish(&payload, &public, NONE, &Signature::Ed25519(signature)).unwrap();
    let Signed::SolanaTransaction { signature: text, transaction, complete } = signed else { panic!() };
    assert!(complete);
    assert_eq!(bs58::decode(text).into_vec().unwrap(), signature);
    assert_eq!(transaction, [&[1][..], &signature, message].concat());
}

#[test]
fn a_signature_of_anything_else_is_refused() {
    let (secret, public) = secp256k1(&[0x46; 32]);
    let payload = Payload::EthMessage(b"hello".to_vec());
    let Signature::Ecdsa { r, s, recovery_id } = sign(&payload, &secret, &public) else { panic!() };
    let check = |payload: &Payload, public: &PublicKey, r, s, recovery_id| {
        finish(payload, public, NONE, &Signature::Ecdsa { r, s, recovery_id })
    };
    assert!(matches!(check(&payload, &public, r, s, recovery_id), Ok(Signed::EthSignature(_))));
    let invalid = Err(SigningError::InvalidSignature);
    assert_eq!(check(&Payload::EthMessage(b"hellp".to_vec()), &public, r, s, recovery_id), invalid);
    assert_eq!(check(&payload, &secp256k1(&[0x47; 32]).1, r, s, recovery_id), invalid);
    assert_eq!(check(&payload, &public, r, s, 1 - recovery_id), invalid);
    assert_eq!(check(&payload, &public, r, s, recovery_id + 2), invalid);
    assert_eq!(check(&payload, &public, [0; 32], s, recovery_id), invalid);
    assert_eq!(check(&payload, &public, r, [0xff; 32], recovery_id), invalid);
    // High s: the other signature that the same equation accepts.
    let signature = k256::ecdsa::Signature::from_scalars(r, s).unwrap();
    let high: [u8; 32] = (-*signature.split_scalars().1).to_bytes().into();
    assert_eq!(check(&payload, &public, r, high, 1 - recovery_id), invalid);
    for bit in 0..512 {
        let (mut r, mut s) = (r, s);
        if bit < 256 {
            r[bit / 8] ^= 1 << (bit % 8)
        } else {
            s[bit / 8 - 32] ^= 1 << (bit % 8)
        }
        assert_eq!(check(&payload, &public, r, s, recovery_id), invalid, "{bit}");
    }
    assert_eq!(finish(&payload, &public, NONE, &Signature::Ed25519([0; 64])), Err(SigningError::WrongCurve));
}

#[test]
fn a_flipped_bit_of_an_ed25519_signature_is_refused() {
    let (secret, public) = ed25519(&[1; 32]);
    let payload = Payload::Digest32 { curve: Curve::Ed25519, digest: [5; 32] };
    let good = secret.sign(&[5; 32]).to_bytes();
    assert_eq!(finish(&payload, &public, ALL, &Signature::Ed25519(good)), Ok(Signed::Digest(good.to_vec())));
    for bit in 0..512 {
        let mut signature = good;
        signature[bit / 8] ^= 1 << (bit % 8);
        let refused = finish(&payload, &public, ALL, &Signature::Ed25519(signature));
        assert_eq!(refused, Err(SigningError::InvalidSignature), "{bit}");
    }
}

#[test]
fn t04_a_bare_digest_needs_the_capability() {
    let (secret, public) = secp256k1(&[0x46; 32]);
    let (_, ed) = ed25519(&[1; 32]);
    let digest = [0xab; 32];
    let payload = Payload::Digest32 { curve: Curve::Secp256k1, digest };
    assert_eq!(decode(&payload, &public, NONE), Err(SigningError::DigestNotAllowed));
    assert_eq!(decode(&payload, &public, Capabilities::default()), Err(SigningError::DigestNotAllowed));
    let on_ed25519 = Payload::Digest32 { curve: Curve::Ed25519, digest };
    assert_eq!(decode(&on_ed25519, &ed, NONE), Err(SigningError::DigestNotAllowed));
    let signature = sign(&payload, &secret, &public);
    assert_eq!(finish(&payload, &public, NONE, &signature), Err(SigningError::DigestNotAllowed));
    assert!(matches!(finish(&payload, &public, ALL, &signature), Ok(Signed::Digest(bytes)) if bytes.len() == 65));
    // No other payload lets its caller choose the 32 bytes that are signed: each is hashed, or is no digest at all.
    for payload in [
        Payload::EthTransaction(digest.to_vec()),
        Payload::EthTypedData(hex::encode(digest)),
        Payload::BitcoinP2wpkh { psbt: digest.to_vec(), input: 0 },
    ] {
        assert!(decode(&payload, &public, NONE).is_err(), "{payload:?}");
    }
    assert!(decode(&Payload::SolanaMessage(digest.to_vec()), &ed, NONE).is_err());
    let message = decode(&Payload::EthMessage(digest.to_vec()), &public, NONE).unwrap();
    assert_ne!(message.to_sign(), &ToSign::Digest(digest));
}

#[test]
fn each_payload_needs_a_key_of_its_curve() {
    let (_, secp) = secp256k1(&[0x46; 32]);
    let (_, ed) = ed25519(&[1; 32]);
    for (payload, wrong) in [
        (Payload::EthTransaction(vec![]), &ed),
        (Payload::EthMessage(vec![]), &ed),
        (Payload::EthTypedData(String::new()), &ed),
        (Payload::BitcoinP2wpkh { psbt: vec![], input: 0 }, &ed),
        (Payload::SolanaMessage(vec![]), &secp),
        (Payload::Digest32 { curve: Curve::Secp256k1, digest: [0; 32] }, &ed),
        (Payload::Digest32 { curve: Curve::Ed25519, digest: [0; 32] }, &secp),
    ] {
        assert_eq!(decode(&payload, wrong, ALL), Err(SigningError::WrongCurve), "{payload:?}");
    }
}
