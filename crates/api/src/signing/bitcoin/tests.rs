#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{transaction::Spend, *};

/// BIP-143, "Native P2WPKH": the unsigned transaction and the key of its second input, which is worth 6 BTC.
const UNSIGNED: &str = "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b8\
    04cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f66f\
    85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000";
const KEY: &str = "025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357";
const PREVIOUS: &str = "89a3c71eab4d20e0371bbba4cc698fa295c9463afa2e397f8533ccb62f9567e5";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn signer() -> Secp256k1Key {
    Secp256k1Key::parse(&bytes(KEY)).unwrap()
}

#[test]
fn the_native_p2wpkh_example_of_bip_143() {
    assert_eq!(hex::encode(output_script(&signer())), "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1");
    let transaction = Transaction::parse(&bytes(UNSIGNED)).unwrap();
    let digest = signature_hash(&transaction, 1, &script_code(&signer()), 600_000_000);
    assert_eq!(hex::encode(digest), "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670");
    assert_eq!(hex::encode(transaction.serialise(&[])), UNSIGNED.replace(' ', ""));
}

#[test]
fn the_signed_example_of_bip_143_reads_back() {
    let signed = "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830450221008b9d1d\
        c26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4\
        cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb2060000\
        00001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa\
        815988ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f9030\
        0e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee635711000000";
    let transaction = Transaction::parse_network(&bytes(signed)).unwrap();
    assert_eq!(transaction.inputs[1], Transaction::parse(&bytes(UNSIGNED)).unwrap().inputs[1]);
    let witness = bytes(
        "0247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90300e8f3358\
         f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357",
    );
    assert_eq!(hex::encode(transaction.serialise(&[vec![0], witness])), signed);
}

fn entry(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    transaction::write_compact(out, key);
    transaction::write_compact(out, value);
}

/// A PSBT in the making: what each test changes.
struct Draft {
    transaction: Transaction,
    global: Vec<(Vec<u8>, Vec<u8>)>,
    inputs: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
    outputs: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// A transaction that pays `value` to our key in its output 1.
fn previous(value: u64) -> Transaction {
    let spend = Spend { previous: [3; 32], output: 0, script: vec![0x51], sequence: 0 };
    let other = Output { value: 7, script: vec![0x6a] };
    let ours = Output { value, script: output_script(&signer()).to_vec() };
    Transaction { version: 2, inputs: vec![spend], outputs: vec![other, ours], lock_time: 0 }
}

fn serialised(output: &Output) -> Vec<u8> {
    let mut bytes = vec![];
    output.write(&mut bytes);
    bytes
}

impl Draft {
    /// One input of ours for each value, spent to somebody and, as change, to us.
    fn new(values: &[u64], paid: u64, change: u64) -> Self {
        let spend =
            |value: &u64| Spend { previous: previous(*value).id(), output: 1, script: vec![], sequence: 0xffff_fffd };
        let script = bytes("76a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac");
        let outputs =
            vec![Output { value: paid, script }, Output { value: change, script: output_script(&signer()).to_vec() }];
        let inputs = values
            .iter()
            .map(|value| {
                let previous = previous(*value);
                vec![(vec![0], previous.serialise(&[])), (vec![1], serialised(&previous.outputs[1]))]
            })
            .collect();
        let transaction = Transaction { version: 2, inputs: values.iter().map(spend).collect(), outputs, lock_time: 0 };
        Self { transaction, global: vec![], inputs, outputs: vec![vec![], vec![]] }
    }

    fn psbt(&self) -> Vec<u8> {
        let mut psbt = b"psbt\xff".to_vec();
        entry(&mut psbt, &[0], &self.transaction.serialise(&[]));
        // The transaction stands in the global map, which the first list of entries closes.
        for map in [&self.global].into_iter().chain(&self.inputs).chain(&self.outputs) {
            for (key, value) in map {
                entry(&mut psbt, key, value);
            }
            psbt.push(0);
        }
        psbt
    }

    fn decode(&self, index: u32) -> Result<Decoded, SigningError> {
        decode(&self.psbt(), index, &signer())
    }
}

#[test]
fn a_payment_reads_as_one() {
    let decoded = Draft::new(&[100_000, 50_000], 120_000, 29_000).decode(1).unwrap();
    let summary = decoded.summary();
    assert_eq!(summary.chain, "bitcoin");
    assert_eq!(summary.from, "bc1qr583w2swedy2acd7rung055k8t3n7udp7vyzyg");
    assert_eq!(summary.to.as_deref(), Some("16TZ8J6Q5iZKBWizWzFAYnrsaox5Z5aBRV"));
    assert_eq!(summary.value.as_deref(), Some("0.0012 BTC"));
    assert_eq!(summary.fee.as_deref(), Some("0.00001 BTC"));
    let lines: Vec<_> = summary.details.iter().map(|detail| detail.value.as_str()).collect();
    assert_eq!(lines[0], "0.0005 BTC");
    assert_eq!(lines[2], "0.00029 BTC to bc1qr583w2swedy2acd7rung055k8t3n7udp7vyzyg (back to this wallet)");
    let first = Draft::new(&[100_000, 50_000], 120_000, 29_000).decode(0).unwrap();
    assert_ne!(first.bytes(), decoded.bytes());
}

#[test]
fn one_input_needs_no_previous_transaction() {
    let mut draft = Draft::new(&[100_000], 90_000, 9_000);
    let with = draft.decode(0).unwrap();
    draft.inputs[0].remove(0);
    assert_eq!(draft.decode(0).unwrap(), with);
    draft.inputs[0].remove(0);
    assert_eq!(draft.decode(0), Err(SigningError::UnprovenAmount));
}

#[test]
fn other_inputs_prove_what_they_are_worth() {
    // The attack that BIP-174 describes: the same transaction is signed twice, each time with the other input
    // understated, and the miners get the difference.
    let mut draft = Draft::new(&[100_000, 5_000_000], 120_000, 29_000);
    draft.inputs[1] = vec![(vec![1], serialised(&Output { value: 50_000, script: output_script(&signer()).to_vec() }))];
    assert_eq!(draft.decode(0), Err(SigningError::UnprovenAmount));
    draft.inputs[1].push((vec![0], previous(50_000).serialise(&[])));
    assert_eq!(draft.decode(0), Err(SigningError::Malformed("the previous transaction of a PSBT's input")));
    draft.inputs[1][1].1 = previous(5_000_000).serialise(&[]);
    assert_eq!(draft.decode(0).unwrap().summary().fee.as_deref(), Some("0.04951 BTC"));
    assert_eq!(draft.decode(1), Err(SigningError::Malformed("the two accounts of a PSBT's input differ")));
}

#[test]
fn what_is_not_ours_to_sign_is_refused() {
    let draft = Draft::new(&[100_000], 90_000, 9_000);
    assert_eq!(draft.decode(1), Err(SigningError::NotTheSigner));
    assert_eq!(draft.decode(u32::MAX), Err(SigningError::NotTheSigner));
    let other =
        Secp256k1Key::parse(&bytes("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")).unwrap();
    assert_eq!(decode(&draft.psbt(), 0, &other), Err(SigningError::NotTheSigner));
    for key in [4, 5, 7, 8] {
        let mut draft = Draft::new(&[100_000], 90_000, 9_000);
        draft.inputs[0].push((vec![key], vec![]));
        assert_eq!(draft.decode(0), Err(SigningError::NotTheSigner), "{key}");
    }
    for (sighash_type, allowed) in [(1_u32, true), (0, false), (2, false), (3, false), (0x81, false), (0x101, false)] {
        let mut draft = Draft::new(&[100_000], 90_000, 9_000);
        draft.inputs[0].push((vec![3], sighash_type.to_le_bytes().to_vec()));
        assert_eq!(draft.decode(0).is_ok(), allowed, "{sighash_type}");
    }
    assert_eq!(Draft::new(&[100_000], 90_000, 10_001).decode(0), Err(AMOUNTS));
    assert_eq!(Draft::new(&[100_000], u64::MAX, 1).decode(0), Err(AMOUNTS));
    assert_eq!(Draft::new(&[MAX_MONEY + 1], 1, 1).decode(0), Err(AMOUNTS));
    assert_eq!(Draft::new(&[u64::MAX, u64::MAX - 1], 1, 1).decode(0), Err(AMOUNTS));
}

#[test]
fn the_maps_are_strict() {
    let malformed = SigningError::Malformed("a PSBT");
    let version_2 = SigningError::Unsupported("a PSBT of version 2");
    let refused = |change: fn(&mut Draft), expected: SigningError| {
        let mut draft = Draft::new(&[100_000], 90_000, 9_000);
        change(&mut draft);
        assert_eq!(draft.decode(0), Err(expected));
    };
    refused(|draft| draft.global.push((vec![0], vec![])), malformed);
    refused(|draft| draft.global.push((vec![0, 1], vec![])), malformed);
    refused(|draft| draft.global.push((vec![0xfb], vec![0; 3])), malformed);
    refused(|draft| draft.global.push((vec![0xfb], vec![2, 0, 0, 0])), version_2);
    refused(|draft| draft.global.push((vec![4], vec![1])), version_2);
    refused(|draft| draft.inputs[0].push((vec![0x0e], vec![0; 32])), version_2);
    refused(|draft| draft.outputs[0].push((vec![3], vec![0; 8])), version_2);
    refused(|draft| draft.inputs[0].push((vec![1], vec![])), malformed);
    refused(|draft| draft.inputs[0].push((vec![1, 0], vec![])), malformed);
    refused(|draft| draft.inputs[0][1].1.push(0), malformed);
    refused(|draft| draft.inputs[0].push((vec![2, 2], vec![])), malformed);
    refused(|draft| draft.inputs[0].push((vec![3], vec![1])), malformed);
    refused(|draft| draft.inputs[0].push((vec![0xfd, 0x03, 0], vec![1])), malformed);
    refused(|draft| draft.outputs[1].push((vec![2, 5], vec![0; 4])), malformed);
    refused(|draft| draft.outputs.push(vec![]), malformed);
    refused(|draft| drop(draft.outputs.pop()), malformed);
    refused(|draft| draft.transaction.inputs[0].script = vec![0x51], malformed);
    refused(|draft| draft.transaction.outputs.clear(), malformed);
    refused(
        |draft| {
            let twice = draft.transaction.inputs[0].clone();
            draft.transaction.inputs.push(twice);
            draft.inputs.push(vec![])
        },
        malformed,
    );
    // What BIP-174 does not know is skipped; version 0 may be said.
    let mut draft = Draft::new(&[100_000], 90_000, 9_000);
    let plain = draft.decode(0).unwrap();
    draft.global.extend([(vec![0xfb], vec![0; 4]), (vec![0xfc, 1, 2], vec![9])]);
    draft.inputs[0].extend([(vec![0xfd, 0xfd, 0], vec![1]), (vec![0x18], vec![0; 32])]);
    assert_eq!(draft.decode(0).unwrap(), plain);
    let good = draft.psbt();
    for end in 0..good.len() {
        assert!(decode(&good[..end], 0, &signer()).is_err(), "{end}");
    }
    assert!(decode(&[&good[..], &[0]].concat(), 0, &signer()).is_err());
    assert_eq!(psbt::parse(&vec![0; crate::signing::MAX_PAYLOAD_BYTES + 1]).unwrap_err(), SigningError::TooLarge);
}

#[test]
fn the_vectors_of_bip_174() {
    // The transaction of most of BIP-174's vectors, and the previous one of its first input.
    let spends_previous = "0200000001268171371edff285e937adeea4b37b78000c0566cbb3ad64641713ca42171bf60000000000feffffff02d3dff5050\
        00000001976a914d0c59903c5bac2868760e90fd521a4665aa7652088ac00e1f5050000000017a9143545e6e33b832c47050f24d3eeb93c9c03948b\
        c787b32e1300";
    let previous = format!(
        "01000000000102{PREVIOUS}0100000017160014be18d152a9b012039daf3da7de4f53349eecb985ffffffff86f8aa43a71dff1448893a53\
        0a7237ef6b4608bbb2dd2d0171e63aec6a4890b40100000017160014fe3e9ef1a745e974d902c4355943abcb34bd5353ffffffff0200c2eb0b00000\
        0001976a91485cff1097fd9e008bb34af709c62197b38978a4888ac72fef84e2c00000017a914339725ba21efd62ac753a9bcd067d6c7a6a39d0587\
        0247304402202712be22e0270f394f568311dc7ca9a68970b8025fdd3b240229f07f8a5f3a240220018b38d7dcd314e734c9276bd6fb40f673325bc\
        4baa144c800d2f2f02db2765c012103d2e15674941bad4a996372cb87e1856d3652606d98562fe39c5e9e7e413f210502483045022100d12b852d85\
        dcd961d2f5f4ab660654df6eedcc794c0c33ce5cc309ffb5fce58d022067338a8e0e1725c197fb1a88af59f51e44e4255b20167c8684031c05d1f25\
        92a01210223b72beef0965d10be0778efecd61fcac6f79a4ea169393380734464f84f2ab300000000"
    );
    // The id in the input is the hash of the previous transaction without its witnesses.
    let spend = Transaction::parse(&bytes(spends_previous)).unwrap();
    assert_eq!(Transaction::parse_network(&bytes(&previous)).unwrap().id(), spend.inputs[0].previous);
    let head = format!("70736274ff010075{spends_previous}000100fda501{previous}");
    // Valid: the same, with its two outputs.
    assert_eq!(psbt::parse(&bytes(&format!("{head}000000"))).unwrap().inputs.len(), 1);
    for (case, psbt) in [
        ("network transaction", spends_previous.to_owned()),
        ("missing outputs", format!("{head}00")),
        ("no unsigned transaction", format!("70736274ff000100fda501{previous}0000000000")),
        (
            "duplicate keys in an input",
            format!("{head}01003f0200000001{}0000000000ffffffff010000000000000000036a010000000000000000", "f".repeat(64)),
        ),
        (
            "invalid global transaction typed key",
            "70736274ff020001550200000001279a2323a5dfb51fc45f220fa58b0fc13e1e3342792a85d7e36cd6333b5cbc390000000000ffffffff01a05aea0b\
             000000001976a914ffe9c0061097cc3b636f2cb0460fa4fc427d2b4588ac000000000000"
                .into(),
        ),
        (
            "invalid input witness utxo typed key",
            "70736274ff0100550200000001279a2323a5dfb51fc45f220fa58b0fc13e1e3342792a85d7e36cd6333b5cbc390000000000ffffffff01a05aea0b00\
             0000001976a914ffe9c0061097cc3b636f2cb0460fa4fc427d2b4588ac000000000002010020955eea0b0000000017a9146345200f68d189e1adc0df\
             1c4d16ea8f14c0dbeb870000"
                .into(),
        ),
        (
            "filled scriptSig in the unsigned transaction",
            "70736274ff0100fd0a010200000002ab0949a08c5af7c49b8212f417e2f15ab3f5c33dcf153821a8139f877a5b7be4000000006a47304402204759661\
             797c01b036b25928948686218347d89864b719e1f7fcf57d1e511658702205309eabf56aa4d8891ffd111fdf1336f3a29da866d7f8486d75546ceeda\
             f93190121035cdc61fc7ba971c0b501a646a2a83b102cb43881217ca682dc86e2d73fa88292feffffffab0949a08c5af7c49b8212f417e2f15ab3f5\
             c33dcf153821a8139f877a5b7be40100000000feffffff02603bea0b000000001976a914768a40bbd740cbe81d988e71de2a4d5c71396b1d88ac8e24\
             0000000000001976a9146f4620b553fa095e721b9ee0efe9fa039cca459788ac00000000000001012000e1f5050000000017a9143545e6e33b832c47\
             050f24d3eeb93c9c03948bc787010416001485d13537f2e265405a34dbafa9e3dda01fb82308000000"
                .into(),
        ),
    ] {
        assert!(psbt::parse(&bytes(&psbt)).is_err(), "{case}");
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused_or_signs_something_else_it_shows(position in 0_usize..10_000, bit in 0_u8..8) {
        let draft = Draft::new(&[100_000], 90_000, 9_000);
        let good = draft.decode(0).unwrap();
        let mut psbt = draft.psbt();
        let at = position % psbt.len();
        psbt[at] ^= 1 << bit;
        if let Ok(other) = decode(&psbt, 0, &signer()) {
            // The same digest only with the same meaning.
            prop_assert!(other.bytes() != good.bytes() || other == good);
        }
    }

    #[test]
    fn no_bytes_panic(rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = psbt::parse(&[b"psbt\xff\x01\x00", &rest[..]].concat());
        let _ = Transaction::parse_network(&rest);
        let _ = Transaction::parse(&rest);
    }

    #[test]
    fn transactions_round_trip(
        version: u32, lock_time: u32,
        inputs in prop::collection::vec((any::<[u8; 32]>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300), any::<u32>()), 1..4),
        outputs in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..4),
    ) {
        let inputs = inputs.into_iter().map(|(previous, output, script, sequence)| Spend { previous, output, script, sequence });
        let outputs = outputs.into_iter().map(|(value, script)| Output { value, script });
        let transaction = Transaction { version, inputs: inputs.collect(), outputs: outputs.collect(), lock_time };
        prop_assert_eq!(&Transaction::parse(&transaction.serialise(&[])).unwrap(), &transaction);
        let witnesses = vec![vec![0]; transaction.inputs.len()];
        prop_assert_eq!(&Transaction::parse_network(&transaction.serialise(&witnesses)).unwrap(), &transaction);
    }
}
