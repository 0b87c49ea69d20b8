#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::signing::{Payload, SolanaTransfer};

const BLOCKHASH: &str = "4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZAMdL4VZHirAn";

fn key(seed: u8) -> Ed25519Key {
    Ed25519Key::parse(&ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes()).unwrap()
}

fn transfer() -> Vec<u8> {
    let to = solana::address(&key(2));
    let transfer = SolanaTransfer { from: key(1), to, lamports: 1_500_000_000, recent_blockhash: BLOCKHASH.into() };
    let Payload::SolanaMessage(message) = transfer.payload().unwrap() else { unreachable!() };
    message
}

/// A message of two signers, one reader and a program, with its instructions and (version 0) tables given.
fn message(version_0: bool, header: [u8; 3], instructions: &[u8], lookups: &[u8]) -> Vec<u8> {
    let mut bytes = if version_0 { vec![0x80] } else { vec![] };
    bytes.extend_from_slice(&header);
    bytes.push(4);
    for account in [key(1).to_bytes(), key(2).to_bytes(), [9; 32], SYSTEM_PROGRAM] {
        bytes.extend_from_slice(&account);
    }
    bytes.extend_from_slice(&[7; 32]);
    bytes.extend_from_slice(instructions);
    bytes.extend_from_slice(lookups);
    bytes
}

const HEADER: [u8; 3] = [2, 1, 1];
const NOTHING: &[u8] = &[0];

#[test]
fn a_message_of_the_solana_sdk() {
    // `test_message_compile` style bytes from the Solana SDK's own frozen test, `test_sdk_serialize`
    // (solana-transaction): one signer, one writable account, one program, data 1 2 3.
    let transaction = [
        1, 120, 138, 162, 185, 59, 209, 241, 157, 71, 157, 74, 131, 4, 87, 54, 28, 38, 180, 222, 82, 64, 62, 61, 62,
        22, 46, 17, 203, 187, 136, 62, 43, 11, 38, 235, 17, 239, 82, 240, 139, 130, 217, 227, 214, 9, 242, 141, 223,
        94, 29, 184, 110, 62, 32, 87, 137, 63, 139, 100, 221, 20, 137, 4, 5, 1, 0, 1, 3, 36, 100, 158, 252, 33, 161,
        97, 185, 62, 89, 99, 195, 250, 249, 187, 189, 171, 118, 241, 90, 248, 14, 68, 219, 231, 62, 157, 5, 142, 27,
        210, 117, 1, 1, 1, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 8, 7, 6, 5, 4, 1, 1, 1, 2, 2,
        2, 4, 5, 6, 7, 8, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 8, 7, 6, 5, 4, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 1, 3, 1, 2, 3,
    ];
    let message = &transaction[65..];
    let parsed = parse(message).unwrap();
    assert_eq!((parsed.required_signatures, parsed.accounts.len(), parsed.looked_up), (1, 3, 0));
    assert_eq!(parsed.instructions, [Instruction { program: 2, accounts: vec![0, 1], data: vec![1, 2, 3] }]);
    // The published signature is over exactly these bytes.
    let signer = ed25519_dalek::VerifyingKey::from_bytes(&parsed.accounts[0]).unwrap();
    let signature = ed25519_dalek::Signature::from_bytes(transaction[1..65].try_into().unwrap());
    signer.verify_strict(message, &signature).unwrap();
}

#[test]
fn a_transfer_reads_as_one() {
    let decoded = decode(&transfer(), &key(1)).unwrap();
    assert_eq!(decoded.to_sign(), &ToSign::Message(transfer()));
    let summary = decoded.summary();
    assert_eq!((summary.chain.as_str(), summary.action.as_str()), ("solana", "transfer"));
    assert_eq!(summary.from, solana::address(&key(1)));
    assert_eq!(summary.to, Some(solana::address(&key(2))));
    assert_eq!(summary.value.as_deref(), Some("1.5 SOL"));
    assert_eq!(summary.fee.as_deref(), Some("0.000005 SOL"));
    assert_eq!(decode(&transfer(), &key(2)), Err(SigningError::NotTheSigner));
    assert_eq!(decode(&transfer(), &key(3)), Err(SigningError::NotTheSigner));
}

#[test]
fn a_transfer_among_other_calls_is_not_the_whole() {
    let pay = [&[3, 2, 0, 1, 12, 2, 0, 0, 0][..], &5_u64.to_le_bytes()].concat();
    let instructions = [&[2][..], &pay, &[3, 1, 2, 2, 0xab, 0xcd]].concat();
    let decoded = decode(&message(false, HEADER, &instructions, &[]), &key(2)).unwrap();
    let summary = decoded.summary();
    assert_eq!(summary.action, "call programs");
    assert_eq!((&summary.to, &summary.value), (&None, &None));
    assert_eq!(summary.fee.as_deref(), Some("0.00001 SOL"));
    assert!(
        summary.details.iter().any(|detail| detail.label == "transfer" && detail.value.starts_with("0.000000005 SOL"))
    );
    assert!(summary.details.iter().any(|detail| detail.label == "call" && detail.value.contains("0xabcd")));
}

#[test]
fn a_priority_fee_is_part_of_the_fee() {
    let price = Price { limit: Some(300_000), per_unit: 10 };
    let message = parse(&transfer()).unwrap();
    assert_eq!(price.fee(&message), Some(5000 + 3));
    assert_eq!(Price { limit: None, per_unit: 1_000_000 }.fee(&message), Some(5000 + 200_000));
    assert_eq!(Price { limit: Some(u32::MAX), per_unit: u64::MAX }.fee(&message), None);
}

#[test]
fn version_0_reads_its_tables() {
    let table = [&[1][..], &[5; 32], &[2, 0, 1, 1, 7]].concat();
    let instructions = [1, 3, 1, 6, 0];
    let parsed = parse(&message(true, HEADER, &instructions, &table)).unwrap();
    assert_eq!(parsed.looked_up, 3);
    let decoded = decode(&message(true, HEADER, &instructions, &table), &key(1)).unwrap();
    assert!(decoded.summary().details.iter().any(|detail| detail.label == "address tables"));
    // One account further than the tables reach.
    assert!(parse(&message(true, HEADER, &[1, 3, 1, 7, 0], &table)).is_err());
    let empty_table = [&[1][..], &[5; 32], &[0, 0]].concat();
    assert!(parse(&message(true, HEADER, NOTHING, &empty_table)).is_err());
    assert!(parse(&message(true, HEADER, NOTHING, &[])).is_err());
    // A legacy message has no tables.
    assert!(parse(&message(false, HEADER, NOTHING, &[0])).is_err());
}

#[test]
fn what_a_validator_refuses_is_refused() {
    assert!(parse(&message(false, HEADER, NOTHING, &[])).is_ok());
    for header in [[0, 0, 0], [1, 1, 0], [2, 2, 0], [5, 0, 0], [4, 0, 1], [2, 0, 3], [2, 3, 0]] {
        assert!(parse(&message(false, header, NOTHING, &[])).is_err(), "{header:?}");
    }
    for instructions in [
        &[1, 0, 0, 0][..],
        &[1, 4, 0, 0],
        &[1, 3, 1, 4, 0],
        &[1, 3, 0],
        &[2, 3, 0, 0],
        &[1, 3, 0, 5, 1],
        &[0, 0],
        &[0x80, 0],
    ] {
        assert!(parse(&message(false, HEADER, instructions, &[])).is_err(), "{instructions:?}");
    }
    let mut repeated = message(false, HEADER, NOTHING, &[]);
    repeated.copy_within(4..36, 36);
    assert_eq!(parse(&repeated), Err(SigningError::Malformed(WHAT)));
    for version in [0x81, 0xff] {
        let mut later = message(true, HEADER, NOTHING, &[0]);
        later[0] = version;
        assert_eq!(parse(&later), Err(SigningError::Unsupported("this version of a Solana message")));
    }
    let data = [&[1, 3, 0, 0xa0, 0x08][..], &[0; 1056]].concat();
    assert_eq!(parse(&message(false, HEADER, &data, &[])), Err(SigningError::TooLarge));
    for end in 0..transfer().len() {
        assert!(parse(&transfer()[..end]).is_err(), "{end}");
    }
    assert!(parse(&[&transfer()[..], &[0]].concat()).is_err());
}

#[test]
fn a_transfer_is_built_from_sound_parts_only() {
    let good =
        SolanaTransfer { from: key(1), to: solana::address(&key(2)), lamports: 1, recent_blockhash: BLOCKHASH.into() };
    assert!(good.payload().is_ok());
    for to in ["", "x", "0x35", &solana::address(&key(1)), "11111111111111111111111111111111"] {
        assert!(SolanaTransfer { to: to.into(), ..good.clone() }.payload().is_err(), "{to}");
    }
    assert!(SolanaTransfer { recent_blockhash: "abc".into(), ..good }.payload().is_err());
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused_or_another_message(position in 0_usize..1000, bit in 0_u8..8) {
        let mut bytes = transfer();
        let at = position % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(decoded) = decode(&bytes, &key(1)) {
            prop_assert_eq!(decoded.to_sign(), &ToSign::Message(bytes));
        }
    }

    #[test]
    fn no_bytes_panic(start in prop::sample::select(vec![vec![], vec![0x80], vec![1, 0, 0, 1], vec![0x80, 1, 0, 0, 1]]), rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&[start, rest].concat());
    }

    #[test]
    fn random_tails_of_a_message_do_not_panic(tail in prop::collection::vec(0_u8..8, 0..60), version_0: bool) {
        if let Ok(parsed) = parse(&message(version_0, HEADER, &tail, &[])) {
            prop_assert!(parsed.instructions.iter().all(|instruction| (1..4).contains(&instruction.program)));
        }
    }
}
