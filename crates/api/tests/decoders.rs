//! The bodies of the fuzz targets, run on random and on damaged genuine payloads in every `./check`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../fuzz/bodies/signing.rs"]
mod bodies;

use halfkey_api::{
    chain::{Ed25519Key, PublicKey},
    signing::{Capabilities, Eip1559Transfer, Payload, SolanaTransfer, decode},
};
use halfkey_envelope::wallet::Curve;
use proptest::prelude::*;

fn ethereum_transaction() -> Vec<u8> {
    let transfer = Eip1559Transfer {
        chain_id: 1,
        nonce: 300,
        to: format!("0x{}", "35".repeat(20)),
        value: 10_u128.pow(18),
        max_fee_per_gas: 30_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
    };
    let Payload::EthTransaction(bytes) = transfer.payload().unwrap() else { unreachable!() };
    bytes
}

fn solana_message() -> Vec<u8> {
    let base = [&[0x58][..], &[0x66; 31]].concat();
    let transfer = SolanaTransfer {
        from: Ed25519Key::parse(&base).unwrap(),
        to: "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn".into(),
        lamports: 5,
        recent_blockhash: "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn".into(),
    };
    let Payload::SolanaMessage(bytes) = transfer.payload().unwrap() else { unreachable!() };
    bytes
}

/// A PSBT of one input of 100,000 satoshi that pays its own key (the one of BIP-173's example) 90,000, behind the
/// index of that input.
fn psbt() -> Vec<u8> {
    let ours = "160014751e76e8199196d454941c45d1b3a323f1433bd6";
    let transaction = format!("0200000001{}0100000000ffffffff01905f010000000000{ours}00000000", "03".repeat(32));
    let utxo = format!("a086010000000000{ours}");
    let (transaction_length, utxo_length) = (transaction.len() / 2, utxo.len() / 2);
    let text = format!("0070736274ff0100{transaction_length:02x}{transaction}000101{utxo_length:02x}{utxo}0000");
    hex::decode(text).unwrap()
}

fn typed_data() -> Vec<u8> {
    include_bytes!("../src/signing/eip712_mail.json").to_vec()
}

#[test]
fn the_genuine_payloads_decode() {
    let generator = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap();
    let key = PublicKey::parse(Curve::Secp256k1, &generator).unwrap();
    let decodes = |payload: Payload| decode(&payload, &key, Capabilities::default()).unwrap();
    decodes(Payload::EthTransaction(ethereum_transaction()));
    decodes(Payload::EthTypedData(String::from_utf8(typed_data()).unwrap()));
    let spend = decodes(Payload::BitcoinP2wpkh { psbt: psbt()[1..].to_vec(), input: 0 });
    assert_eq!(spend.summary().fee.as_deref(), Some("0.0001 BTC"));
}

/// Random bytes behind a plausible start, or genuine ones with a few bytes replaced.
fn damaged(genuine: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let start = genuine[..6].to_vec();
    let random = prop::collection::vec(any::<u8>(), 0..400).prop_map(move |rest| [&start[..], &rest].concat());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let changed = changes.prop_map(move |changes| {
        let mut bytes = genuine.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![random, changed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn payload(bytes in damaged(Payload::EthMessage(vec![7; 40]).to_cbor())) {
        bodies::payload(&bytes);
    }

    #[test]
    fn ethereum_transactions(bytes in damaged(ethereum_transaction())) {
        bodies::ethereum_transaction(&bytes);
    }

    #[test]
    fn typed(bytes in damaged(typed_data())) {
        bodies::typed_data(&bytes);
    }

    #[test]
    fn psbts(bytes in damaged(psbt())) {
        bodies::psbt(&bytes);
    }

    #[test]
    fn solana_messages(bytes in damaged(solana_message())) {
        bodies::solana_message(&bytes);
    }
}

#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    let all = [
        ("payload", Payload::EthMessage(vec![7; 40]).to_cbor()),
        ("ethereum_transaction", ethereum_transaction()),
        ("typed_data", typed_data()),
        ("psbt", psbt()),
        ("solana_message", solana_message()),
    ];
    for (target, bytes) in all {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let folder = seeds.join(format!("signing_{target}"));
        if std::env::var_os("HALFKEY_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("genuine"), &bytes).unwrap();
        }
        let committed = std::fs::read(folder.join("genuine")).ok();
        assert_eq!(committed, Some(bytes), "{target}: HALFKEY_BLESS=1 writes the seeds anew");
    }
}
