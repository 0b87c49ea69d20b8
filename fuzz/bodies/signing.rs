//! What is fuzzed of `halfkey-api`: the decoders of what can be signed, one function per kind. The fuzz targets call
//! them with the fuzzer's bytes, and a property test of the crate calls the same functions in every `./check`. Each
//! asserts more than "no panic": what is signed is a function of the very bytes that were given.

use halfkey_api::{
    chain::{Ed25519Key, PublicKey},
    signing::{Capabilities, Payload, ToSign, decode},
};
use halfkey_envelope::wallet::Curve;

/// The generator of secp256k1, the key of the secret 1.
const SECP256K1: [u8; 33] = [
    0x02, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02, 0x9b,
    0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];
/// The base point of Ed25519.
const ED25519: [u8; 32] = [
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
];

fn secp256k1() -> PublicKey {
    PublicKey::parse(Curve::Secp256k1, &SECP256K1).expect("a valid key")
}

/// A payload's CBOR form: what decodes is the one encoding of its value, and its JSON form says the same.
pub fn payload(bytes: &[u8]) {
    if let Ok(payload) = Payload::from_cbor(bytes) {
        assert_eq!(payload.to_cbor(), bytes);
        let json = serde_json::to_string(&payload).expect("every payload has a JSON form");
        assert_eq!(serde_json::from_str::<Payload>(&json).expect("it reads back"), payload);
    }
}

/// An unsigned Ethereum transaction: its digest is the hash of exactly these bytes.
pub fn ethereum_transaction(bytes: &[u8]) {
    if let Ok(decoded) = decode(&Payload::EthTransaction(bytes.to_vec()), &secp256k1(), Capabilities::default()) {
        assert_eq!(decoded.to_sign(), &ToSign::Digest(alloy_primitives::keccak256(bytes).0));
        assert!(decoded.summary().chain.starts_with("ethereum:"));
    }
}

/// EIP-712 typed data: what decodes once decodes again to the same digest, from any spacing.
pub fn typed_data(bytes: &[u8]) {
    let Ok(json) = core::str::from_utf8(bytes) else { return };
    let decode = |json: String| decode(&Payload::EthTypedData(json), &secp256k1(), Capabilities::default());
    if let Ok(decoded) = decode(json.to_owned()) {
        let value: serde_json::Value = serde_json::from_str(json).expect("it was JSON");
        assert_eq!(decode(value.to_string()).expect("the same JSON").to_sign(), decoded.to_sign());
    }
}

/// A PSBT: a first byte that chooses the input, then the PSBT.
pub fn psbt(bytes: &[u8]) {
    let Some((input, psbt)) = bytes.split_first() else { return };
    let payload = Payload::BitcoinP2wpkh { psbt: psbt.to_vec(), input: u32::from(*input) };
    if let Ok(decoded) = decode(&payload, &secp256k1(), Capabilities::default()) {
        assert_eq!(decoded.curve(), Curve::Secp256k1);
        assert!(decoded.summary().fee.is_some(), "no input is signed without knowing the fee");
    }
}

/// A Solana message, signed by its first account where that is a key: it is signed byte for byte.
pub fn solana_message(bytes: &[u8]) {
    let start = if bytes.first() == Some(&0x80) { 5 } else { 4 };
    let first = bytes.get(start..start + 32).and_then(|account| Ed25519Key::parse(account).ok());
    let key =
        first.map_or_else(|| PublicKey::parse(Curve::Ed25519, &ED25519).expect("a valid key"), PublicKey::Ed25519);
    if let Ok(decoded) = decode(&Payload::SolanaMessage(bytes.to_vec()), &key, Capabilities::default()) {
        assert_eq!(decoded.to_sign(), &ToSign::Message(bytes.to_vec()));
    }
}
