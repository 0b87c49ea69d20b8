//! The harness of the real chains, proven with plain keys that no ceremony made: what is spent arrives, and one flipped
//! bit is refused.

#![allow(clippy::unwrap_used)]

use ed25519_dalek::Signer;
use halfkey_api::{
    chain::{PublicKey, Secp256k1Key, ethereum, solana},
    signing::{Capabilities, Eip1559Transfer, Payload, Signature, Signed, SolanaTransfer, decode, finish},
};
use halfkey_envelope::wallet::Curve;
use halfkey_tests::{
    anvil::Anvil,
    litesvm::LiteSvm,
    verify::{ethereum_transaction, solana_message},
};

const ETHER: u128 = 1_000_000_000_000_000_000;

fn ethereum_key() -> (k256::ecdsa::SigningKey, PublicKey) {
    let secret = k256::ecdsa::SigningKey::from_slice(&[0x17; 32]).unwrap();
    let key = PublicKey::parse(Curve::Secp256k1, secret.verifying_key().to_sec1_point(true).as_bytes()).unwrap();
    (secret, key)
}

fn address_of(key: &PublicKey) -> String {
    match key {
        PublicKey::Secp256k1(key) => ethereum::address(key),
        PublicKey::Ed25519(key) => solana::address(key),
    }
}

fn signed_transfer(nonce: u64, to: &str, value: u128) -> Vec<u8> {
    let (secret, key) = ethereum_key();
    let transfer = Eip1559Transfer {
        chain_id: Anvil::CHAIN_ID,
        nonce,
        to: to.to_owned(),
        value,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
    };
    let payload = transfer.payload().unwrap();
    let decoded = decode(&payload, &key, Capabilities::default()).unwrap();
    let (signature, recovery_id) = secret.sign_prehash_recoverable(decoded.bytes());
    let (r, s) = signature.split_bytes();
    let signature = Signature::Ecdsa { r: r.into(), s: s.into(), recovery_id: recovery_id.to_byte() };
    match finish(&payload, &key, Capabilities::default(), &signature).unwrap() {
        Signed::EthTransaction { raw, .. } => raw,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn ether_is_funded_and_spent() {
    let anvil = Anvil::start().unwrap();
    let (_, key) = ethereum_key();
    let from = address_of(&key);
    let to = ethereum::address(
        &Secp256k1Key::parse(
            &hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap(),
        )
        .unwrap(),
    );
    assert_eq!(anvil.balance(&from).await.unwrap(), 0);
    anvil.set_balance(&from, 2 * ETHER).await.unwrap();
    assert_eq!(anvil.balance(&from).await.unwrap(), 2 * ETHER);

    let raw = signed_transfer(0, &to, ETHER + 1);
    let judged = ethereum_transaction(&raw, &key.to_bytes()).unwrap();
    assert_eq!(
        (judged.from.as_str(), judged.to.as_deref(), judged.value),
        (from.as_str(), Some(to.as_str()), ETHER + 1)
    );
    let receipt = anvil.send_raw(&raw).await.unwrap();
    assert!(receipt.success);
    assert_eq!((receipt.from, receipt.to), (from.to_lowercase(), Some(to.to_lowercase())));
    assert_eq!(anvil.balance(&to).await.unwrap(), ETHER + 1);
    assert_eq!(anvil.balance(&from).await.unwrap(), ETHER - 1 - receipt.fee);
    assert_eq!(anvil.nonce(&from).await.unwrap(), 1);

    // Twice is refused, and so is more than there is.
    assert!(anvil.send_raw(&raw).await.is_err());
    assert!(anvil.send_raw(&signed_transfer(1, &to, ETHER)).await.is_err());
    assert_eq!(anvil.balance(&to).await.unwrap(), ETHER + 1);
}

#[tokio::test]
async fn no_flipped_bit_of_a_transaction_spends_ether() {
    let anvil = Anvil::start().unwrap();
    let from = address_of(&ethereum_key().1);
    let to = format!("0x{}", "35".repeat(20));
    anvil.set_balance(&from, ETHER).await.unwrap();
    let good = signed_transfer(0, &to, 1000);
    // A sample of the bits, the first and the last among them. Each is refused by the node, or makes the signature
    // that of some other sender, who has nothing.
    for bit in (0..good.len() * 8).step_by(29).chain([good.len() * 8 - 1]) {
        let mut raw = good.clone();
        raw[bit / 8] ^= 1 << (bit % 8);
        assert!(anvil.send_raw(&raw).await.is_err(), "{bit}");
    }
    assert_eq!(anvil.balance(&from).await.unwrap(), ETHER);
    assert!(anvil.send_raw(&good).await.unwrap().success);
    assert_eq!(anvil.balance(&to).await.unwrap(), 1000);
}

#[test]
fn sol_is_funded_and_spent_and_no_flipped_bit_spends_it() {
    let mut machine = LiteSvm::start().unwrap();
    let secret = ed25519_dalek::SigningKey::from_bytes(&[0x17; 32]);
    let key = PublicKey::parse(Curve::Ed25519, &secret.verifying_key().to_bytes()).unwrap();
    let PublicKey::Ed25519(from) = key else { unreachable!() };
    let payer = address_of(&key);
    let to = solana::text(&ed25519_dalek::SigningKey::from_bytes(&[0x18; 32]).verifying_key().to_bytes());
    assert_eq!(machine.balance(&payer).unwrap(), 0);
    machine.airdrop(&payer, 3_000_000_000).unwrap();
    assert_eq!(machine.balance(&payer).unwrap(), 3_000_000_000);

    let transfer = SolanaTransfer {
        from,
        to: to.clone(),
        lamports: 1_000_000_000,
        recent_blockhash: machine.blockhash().unwrap(),
    };
    let payload = transfer.payload().unwrap();
    let decoded = decode(&payload, &key, Capabilities::default()).unwrap();
    let message = decoded.bytes().to_vec();
    let signature = secret.sign(&message).to_bytes();
    let signed = finish(&payload, &key, Capabilities::default(), &Signature::Ed25519(signature)).unwrap();
    let Signed::SolanaTransaction { signature: text, transaction, complete } = signed else { unreachable!() };
    assert!(complete);
    assert_eq!(solana_message(&message, &text, &key.to_bytes()), Ok(()));

    // Every byte of the signature, of the accounts and the block hash, and of the amount. (Bytes that only give the
    // message its shape end this machine instead: `signing` refuses those, see its own tests.)
    let end = transaction.len();
    for byte in (1..65).chain(65 + 4..65 + 132).chain(end - 8..end) {
        let bit = byte * 8 + byte % 8;
        let mut flipped = transaction.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = machine.send_transaction(&flipped).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{bit}: {refused}");
    }
    assert_eq!(machine.balance(&payer).unwrap(), 3_000_000_000);

    assert_eq!(machine.send(&message, &text).unwrap(), text);
    assert_eq!(machine.balance(&to).unwrap(), 1_000_000_000);
    assert_eq!(machine.balance(&payer).unwrap(), 3_000_000_000 - 1_000_000_000 - 5000);
    // The same transaction is not taken twice.
    assert!(machine.send(&message, &text).is_err());
    assert_eq!(machine.balance(&to).unwrap(), 1_000_000_000);
    assert!(matches!(payload, Payload::SolanaMessage(bytes) if bytes == message));
}
