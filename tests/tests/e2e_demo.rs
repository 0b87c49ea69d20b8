//! `halfkey demo --json`: one object, and everything in it is judged again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use halfkey_cli::judge;
use halfkey_tests::deployment::halfkey;
use serde_json::Value;

/// Runs the demo and gives its one object.
fn demo(arguments: &[&str]) -> Value {
    demo_with_stderr(arguments).0
}

/// And what it said beside that.
fn demo_with_stderr(arguments: &[&str]) -> (Value, String) {
    let done = halfkey(&[&["demo", "--json"], arguments].concat()).output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{out} {}", String::from_utf8_lossy(&done.stderr));
    // Trailing text, or a second object, would be refused here.
    (serde_json::from_str(&out).unwrap(), String::from_utf8(done.stderr).unwrap())
}

/// The object's fields are those that the README promises, and both signatures are good.
fn judge_again(shown: &Value, steps: &[&str]) {
    let fields = |value: &Value| value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(fields(shown), "ok steps addresses ethereum solana");
    assert_eq!(shown["ok"], Value::Bool(true));
    let names: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(steps.iter().all(|step| names.contains(step)), "{steps:?} in {names:?}");
    for step in shown["steps"].as_array().unwrap() {
        assert_eq!(fields(step), "name ms");
        assert!(step["ms"].is_u64());
    }
    assert_eq!(fields(&shown["addresses"]), "before after");
    let wallet = &shown["addresses"]["after"];
    assert_eq!(fields(wallet), "ethereum bitcoin solana");
    assert_eq!(&shown["addresses"]["before"], wallet);

    assert_eq!(fields(&shown["solana"]), "message signature");
    let message = unhex(&shown["solana"]["message"]);
    let account = bs58::decode(wallet["solana"].as_str().unwrap()).into_vec().unwrap();
    judge::solana_message(&message, shown["solana"]["signature"].as_str().unwrap(), &account).unwrap();

    assert_eq!(fields(&shown["ethereum"]), "raw_transaction");
    let raw = unhex(&shown["ethereum"]["raw_transaction"]);
    // A node recovers the sender from the signature; both candidates are judged, and exactly one is the wallet.
    let senders: Vec<_> = candidates(&raw).into_iter().filter(|sender| wallet["ethereum"] == **sender).collect();
    assert_eq!(senders.len(), 1, "{senders:?} is not {wallet}");
}

/// The addresses under whose keys the transaction verifies.
fn candidates(raw: &[u8]) -> Vec<String> {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
    let (_, fields) = item(&raw[1..]);
    let mut items = items(fields);
    let [s, r] = [items.pop().unwrap(), items.pop().unwrap()].map(|item| {
        let mut scalar = [0; 32];
        scalar[32 - item.1.len()..].copy_from_slice(item.1);
        scalar
    });
    let signature = Signature::from_scalars(r, s).unwrap();
    // What was signed is the list without its last three items.
    items.pop().unwrap();
    let unsigned: Vec<u8> = items.iter().flat_map(|(whole, _)| whole.to_vec()).collect();
    let header = match u8::try_from(unsigned.len()).unwrap() {
        short @ ..=55 => vec![0xc0 + short],
        long => vec![0xf8, long],
    };
    let digest = judge::keccak256(&[&[2], &header[..], &unsigned].concat());
    let keys = (0..2).filter_map(|parity| {
        VerifyingKey::recover_from_prehash(&digest, &signature, RecoveryId::from_byte(parity).unwrap()).ok()
    });
    keys.filter_map(|key| judge::ethereum_transaction(raw, key.to_sec1_point(true).as_bytes()).ok())
        .map(|judged| judged.from)
        .collect()
}

/// The first item of RLP: all of it, and its content.
fn item(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match bytes[0] {
        ..=0x7f => (0, 1),
        short @ 0x80..=0xb7 => (1, usize::from(short - 0x80)),
        0xb8 | 0xf8 => (2, usize::from(bytes[1])),
        short @ 0xc0..=0xf7 => (1, usize::from(short - 0xc0)),
        other => panic!("{other:#x}: too long for this transaction"),
    };
    (&bytes[..header + length], &bytes[header..header + length])
}

fn items(mut bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut items = vec![];
    while !bytes.is_empty() {
        items.push(item(bytes));
        bytes = &bytes[items.last().unwrap().0.len()..];
    }
    items
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

#[test]
fn the_demo_holds_and_says_so_in_one_object() {
    let shown = demo(&[]);
    judge_again(
        &shown,
        &["create wallet", "back up with a password", "try a wrong password", "recover on a new device"],
    );
}

#[test]
fn the_demo_shows_that_a_revoked_device_is_refused() {
    let shown = demo(&["--revoke-old-device"]);
    judge_again(&shown, &["recover on a new device", "old device refused"]);
}

#[test]
fn the_demo_by_passkey_reads_well_too() {
    let done = halfkey(&["demo", "--method", "passkey"]).output().unwrap();
    let [out, said] = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(done.status.code(), Some(0), "{out} {said}");
    let expected = [
        "· create wallet",
        "· back up with a passkey",
        "· try without the passkey",
        "refused: no passkey, no key",
        "· recover on a new device",
        "Everything held",
        "same addresses before and after the loss of the device",
        "Ethereum and Solana signatures judged by an independent library",
    ];
    let mut rest = out.as_str();
    for line in expected {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?}, or not in its place: {out}")).1;
    }
    assert!(said.contains("INSECURE") && said.contains("insecure-dev"), "{said}");
}

#[test]
fn the_demo_by_passkey_holds_and_says_what_is_insecure_in_it() {
    let (shown, said) = demo_with_stderr(&["--method", "passkey"]);
    let steps = ["create wallet", "back up with a passkey", "try without the passkey", "recover on a new device"];
    judge_again(&shown, &steps);
    for word in ["INSECURE", "insecure-dev"] {
        assert!(said.contains(word), "{said}");
    }
}
