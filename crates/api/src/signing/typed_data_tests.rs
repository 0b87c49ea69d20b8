#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The example of EIP-712.
fn mail() -> Value {
    json!({
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"}
            ],
            "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
            "Mail": [{"name": "from", "type": "Person"}, {"name": "to", "type": "Person"}, {"name": "contents", "type": "string"}]
        },
        "primaryType": "Mail",
        "domain": {"name": "Ether Mail", "version": "1", "chainId": 1, "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"},
        "message": {
            "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
            "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
            "contents": "Hello, Bob!"
        }
    })
}

/// Typed data with one struct `T { v: kind }`.
fn one(kind: &str, value: Value) -> String {
    json!({"types": {"T": [{"name": "v", "type": kind}]}, "primaryType": "T", "domain": {"name": "x"}, "message": {"v": value}}).to_string()
}

#[test]
fn the_example_of_eip_712() {
    let parsed = parse(&mail().to_string()).unwrap();
    assert_eq!(hex::encode(parsed.digest), "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2");
    let cow = Secp256k1Key::parse(
        k256::ecdsa::SigningKey::from_slice(&alloy_primitives::keccak256("cow").0)
            .unwrap()
            .verifying_key()
            .to_sec1_point(true)
            .as_bytes(),
    )
    .unwrap();
    let decoded = decode(&mail().to_string(), &cow).unwrap();
    let summary = decoded.summary();
    assert_eq!(summary.chain, "ethereum:1");
    assert_eq!(summary.from, "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826");
    assert_eq!(summary.to.as_deref(), Some("0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"));
    assert!(summary.details.iter().any(|detail| detail.label == "message" && detail.value.contains("Hello, Bob!")));
}

#[test]
fn each_field_changes_what_is_signed() {
    let good = parse(&mail().to_string()).unwrap().digest;
    for (pointer, other) in [
        ("/domain/name", json!("Ether Mai1")),
        ("/domain/version", json!("2")),
        ("/domain/chainId", json!(5)),
        ("/domain/verifyingContract", json!("0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826")),
        ("/primaryType", json!("Person")),
        ("/message/contents", json!("Hello, Bob?")),
        ("/message/to/wallet", json!("0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826")),
        ("/types/Mail/2/name", json!("content")),
    ] {
        let mut changed = mail();
        *changed.pointer_mut(pointer).unwrap() = other;
        if pointer == "/primaryType" {
            changed["message"] = changed["message"]["to"].take();
        } else if pointer == "/types/Mail/2/name" {
            changed["message"] =
                json!({"from": changed["message"]["from"], "to": changed["message"]["to"], "content": "Hello, Bob!"});
        }
        assert_ne!(parse(&changed.to_string()).unwrap().digest, good, "{pointer}");
    }
}

#[test]
fn what_would_not_be_signed_is_refused() {
    for (pointer, value) in [
        ("/message", json!({"contents": "Hello"})),
        ("/message/from", json!({"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826", "alias": "x"})),
        ("/domain", json!({"name": "Ether Mail", "version": "1", "chainId": 1})),
        (
            "/domain",
            json!({"name": "Ether Mail", "version": "1", "chainId": 1, "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC", "url": "x"}),
        ),
        ("/types/EIP712Domain", json!([])),
        ("/types/EIP712Domain/2/type", json!("uint8")),
        ("/types/Mail/0/type", json!("Human")),
        ("/types/Mail/0/type", json!("Mail")),
        ("/types/Mail/0/name", json!("to")),
        ("/types/Mail/0/name", json!("from,to")),
        ("/types/Mail/0", json!({"name": "from", "type": "Person", "note": 1})),
        ("/primaryType", json!("EIP712Domain")),
        ("/primaryType", json!("string")),
        ("/primaryType", json!("Mail[]")),
        ("/primaryType", json!("Male")),
        ("/message", json!(null)),
        ("", json!([])),
    ] {
        let mut changed = mail();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert!(matches!(parse(&changed.to_string()), Err(SigningError::Malformed(_))), "{pointer} {changed}");
    }
    for (good, repeated) in [
        (r#""contents":"Hello, Bob!""#, r#""contents":"Hello, Eve!","contents":"Hello, Bob!""#),
        (r#""chainId":1"#, r#""chainId":5,"chainId":1"#),
        (r#""primaryType":"Mail""#, r#""primaryType":"Person","primaryType":"Mail""#),
        (r#""primaryType":"Mail""#, r#""primaryType":"Mail","note":1"#),
    ] {
        let json = mail().to_string();
        let changed = json.replace(good, repeated);
        assert_ne!(changed, json);
        assert!(parse(&changed).is_err(), "{changed}");
    }
    assert!(parse(&format!("{} ", mail())).is_ok());
    assert!(parse(&format!("{}x", mail())).is_err());
    assert_eq!(parse(&" ".repeat(MAX_PAYLOAD_BYTES + 1)).unwrap_err(), SigningError::TooLarge);
}

#[test]
fn every_value_has_one_form() {
    for (kind, value) in [
        ("bool", json!(true)),
        ("uint8", json!(255)),
        ("uint256", json!("115792089237316195423570985008687907853269984665640564039457584007913129639935")),
        ("uint256", json!("0xff")),
        ("int8", json!(-128)),
        ("int8", json!(127)),
        ("int256", json!("-1")),
        ("bytes", json!("0x")),
        ("bytes4", json!("0x01020304")),
        ("uint8[]", json!([])),
        ("uint8[2][]", json!([[1, 2], [3, 4]])),
    ] {
        assert!(parse(&one(kind, value.clone())).is_ok(), "{kind} {value}");
    }
    for (kind, value) in [
        ("bool", json!("true")),
        ("bool", json!(1)),
        ("uint8", json!(256)),
        ("uint8", json!(-1)),
        ("uint8", json!(1.5)),
        ("uint8", json!(1e2)),
        ("uint8", json!("")),
        ("uint8", json!("1_0")),
        ("uint8", json!("0b1")),
        ("uint256", json!("115792089237316195423570985008687907853269984665640564039457584007913129639936")),
        ("int8", json!(128)),
        ("int8", json!(-129)),
        ("int8", json!("0xff")),
        ("bytes", json!([1, 2])),
        ("bytes", json!("0x0")),
        ("bytes", json!("00")),
        ("bytes4", json!("0x010203")),
        ("bytes4", json!("0x0102030405")),
        ("bytes33", json!(format!("0x{}", "00".repeat(33)))),
        ("address", json!("0x00")),
        ("address", json!("CD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826")),
        ("string", json!(null)),
        ("string", json!(5)),
        ("uint8[2]", json!([1])),
        ("uint8[02]", json!([1, 2])),
        ("uint8[]", json!({})),
        ("uint", json!(1)),
        ("uint7", json!(1)),
        ("(uint8)", json!([1])),
        ("function", json!(format!("0x{}", "00".repeat(24)))),
    ] {
        assert!(matches!(parse(&one(kind, value.clone())), Err(SigningError::Malformed(_))), "{kind} {value}");
    }
}

#[test]
fn types_cannot_expand_without_end() {
    // Each of 40 structs holds two of the next: 2^40 nodes from 3 KB of types.
    let mut types = Map::new();
    for i in 0..40 {
        let next = format!("S{}[]", i + 1);
        types.insert(format!("S{i}"), json!([{"name": "a", "type": next}, {"name": "b", "type": next}]));
    }
    types.insert("S40".into(), json!([{"name": "a", "type": "uint8"}]));
    for depth in [12, 40] {
        let first = format!("S{}", 40 - depth);
        let bomb = json!({"types": types, "primaryType": first, "domain": {}, "message": {"a": [], "b": []}});
        assert!(matches!(parse(&bomb.to_string()), Err(SigningError::Malformed(_))), "{depth}");
    }
    // Brackets, and JSON, nested without end.
    assert!(parse(&one(&format!("uint8{}", "[]".repeat(20_000)), json!([]))).is_err());
    assert!(
        parse(&one("uint8[]", json!([])).replace("[]}", &format!("{}{}}}", "[".repeat(50_000), "]".repeat(50_000))))
            .is_err()
    );
    // A struct that holds itself, and two that hold each other.
    let own =
        json!({"types": {"T": [{"name": "t", "type": "T[]"}]}, "primaryType": "T", "domain": {}, "message": {"t": []}});
    assert!(parse(&own.to_string()).is_err());
    let pair = json!({"types": {"A": [{"name": "b", "type": "B[]"}], "B": [{"name": "a", "type": "A[]"}]}, "primaryType": "A", "domain": {}, "message": {"b": []}});
    assert!(parse(&pair.to_string()).is_err());
}

proptest! {
    #[test]
    fn no_changed_character_panics(position in 0_usize..10_000, c: char) {
        let json = mail().to_string();
        let at = position % json.len();
        let changed = format!("{}{c}{}", &json[..at], &json[at + 1..]);
        let _ = parse(&changed);
    }

    #[test]
    fn no_text_panics(text in r#"[\[\]{}:,"a-zA-Z0-9 ]{0,120}"#) {
        let _ = parse(&text);
        let _ = parse(&one(&text, json!(1)));
    }
}
