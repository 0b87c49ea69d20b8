//! What good and bad input gets: one line per case.

use halfkey_envelope::{
    all_of,
    entropy::DangerSeededEntropy,
    hpke,
    keeper::{self, Answer, Request},
    passkey::{Algorithm, Assertion, Mode, Op, Prf, PrfOutput, Release, SealParams, base64url, seal},
};
use serde_json::json;

use crate::{
    sheet::{AT, BE, BS, ED, Passkey, Sheet, UP, UV, other_half},
    world::{APP_ORIGIN, Attempt, CURRENT, ORIGIN, RECORD, RP_ID, ask, context, keys, passkeys, public_key, stanza},
};

fn attempt(change: impl FnOnce(&mut Attempt)) -> Attempt {
    let mut attempt = Attempt::new();
    change(&mut attempt);
    attempt
}

fn sheet(change: impl Fn(&mut Sheet) + 'static) -> Attempt {
    attempt(|attempt| attempt.sheet = Box::new(change))
}

fn assertion(change: impl Fn(&mut Assertion) + 'static) -> Attempt {
    attempt(|attempt| attempt.assertion = Box::new(change))
}

/// What the host does to (number of the key, stanza, sealed request).
fn host(change: impl Fn(&mut u32, &mut Vec<u8>, &mut Vec<u8>) + 'static) -> Attempt {
    let change = move |request| {
        let Request::Release { mut key_id, mut stanza, mut sealed } = request else { panic!() };
        change(&mut key_id, &mut stanza, &mut sealed);
        Request::Release { key_id, stanza, sealed }
    };
    attempt(|attempt| attempt.request = Box::new(change))
}

fn with_passkey(algorithm: Algorithm) -> Attempt {
    attempt(|attempt| {
        let of_kind = |passkey: &Passkey| passkey.credential.key.algorithm() == algorithm;
        attempt.passkey = passkeys().into_iter().find(of_kind).unwrap();
    })
}

fn raw(text: &'static str) -> Attempt {
    sheet(move |sheet| {
        let text = text.replace("CHALLENGE", &base64url(&sheet.challenge)).replace("ORIGIN", ORIGIN);
        sheet.raw_client_data = Some(text.into_bytes());
    })
}

#[test]
fn what_is_released() {
    let cases: Vec<(&str, Attempt)> = vec![
        ("ES256", Attempt::new()),
        ("RS256", with_passkey(Algorithm::Rs256)),
        ("EdDSA", with_passkey(Algorithm::EdDsa)),
        ("the other half of an ECDSA signature", assertion(|a| a.signature = other_half(&a.signature))),
        ("an app's origin", sheet(|s| s.origin = APP_ORIGIN.to_owned())),
        ("no word of crossOrigin", sheet(|s| s.members.clear())),
        ("members that nobody knows", sheet(|s| s.members.push(("other_keys_can_be_added_here", json!([1, "x"]))))),
        ("an old platform's member", sheet(|s| s.members.push(("tokenBinding", json!({"status": "supported"}))))),
        ("another order of members", raw(r#" {"origin":"ORIGIN","challenge":"CHALLENGE","type":"webauthn.get"} "#)),
        ("escapes in a text", raw(r#"{"type":"webauthn.g\u0065t","challenge":"CHALLENGE","origin":"ORIGIN"}"#)),
        ("a passkey not synchronised at the moment", sheet(|s| s.flags &= !BS)),
        ("a passkey that counts", sheet(|s| s.counter = 4711)),
        ("flags for future use", sheet(|s| s.flags |= 0b0010_0010)),
        (
            "an extension of the authenticator",
            sheet(|s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x63abc\x41\x07".to_vec())),
        ),
        ("a stanza of an older key", attempt(|a| a.stanza = stanza(1, 1, &passkeys()))),
        ("a request to an older key", attempt(|a| a.pinned = (2, public_key(1, 2)))),
    ];
    for (name, attempt) in cases {
        assert_eq!(attempt.code().as_deref(), Ok(RECORD), "{name}");
    }
}

#[test]
fn what_is_refused_each_with_its_own_code() {
    let cases: Vec<(&str, Attempt, &str)> = vec![
        ("wrong type", sheet(|s| s.kind = "webauthn.create".to_owned()), "WRONG_TYPE"),
        ("a payment", sheet(|s| s.kind = "payment.get".to_owned()), "WRONG_TYPE"),
        ("wrong challenge", sheet(|s| s.challenge[31] ^= 1), "WRONG_CHALLENGE"),
        ("a shorter challenge", sheet(|s| s.challenge.truncate(31)), "WRONG_CHALLENGE"),
        (
            "a padded challenge",
            raw(r#"{"type":"webauthn.get","challenge":"CHALLENGE=","origin":"ORIGIN"}"#),
            "WRONG_CHALLENGE",
        ),
        ("wrong origin", sheet(|s| s.origin = "https://wallet.example.evil".to_owned()), "WRONG_ORIGIN"),
        ("another host of the domain", sheet(|s| s.origin = "https://a.wallet.example".to_owned()), "WRONG_ORIGIN"),
        ("another port", sheet(|s| s.origin = "https://wallet.example:8443".to_owned()), "WRONG_ORIGIN"),
        ("another scheme", sheet(|s| s.origin = "http://wallet.example".to_owned()), "WRONG_ORIGIN"),
        ("the same origin as a URL", sheet(|s| s.origin = "https://wallet.example/".to_owned()), "WRONG_ORIGIN"),
        ("the same origin in capitals", sheet(|s| s.origin = "https://WALLET.example".to_owned()), "WRONG_ORIGIN"),
        ("another app", sheet(|s| s.origin = format!("android:apk-key-hash:{}", base64url(&[9; 32]))), "WRONG_ORIGIN"),
        ("RP id hash", sheet(|s| s.rp_id = "evil.example".to_owned()), "WRONG_RP_ID"),
        ("crossOrigin", sheet(|s| s.members = vec![("crossOrigin", json!(true))]), "CROSS_ORIGIN"),
        ("topOrigin", sheet(|s| s.members.push(("topOrigin", json!(ORIGIN)))), "CROSS_ORIGIN"),
        ("topOrigin without a value", sheet(|s| s.members.push(("topOrigin", json!(null)))), "CROSS_ORIGIN"),
        ("UP=0", sheet(|s| s.flags &= !UP), "USER_NOT_PRESENT"),
        ("UV=0", sheet(|s| s.flags &= !UV), "USER_NOT_VERIFIED"),
        ("bad signature", assertion(|a| *a.signature.last_mut().unwrap() ^= 1), "BAD_SIGNATURE"),
        ("no signature", assertion(|a| a.signature.clear()), "BAD_SIGNATURE"),
        ("raw r and s", assertion(|a| a.signature = vec![1; 64]), "BAD_SIGNATURE"),
        ("data changed after signing", assertion(|a| a.authenticator_data[36] ^= 1), "BAD_SIGNATURE"),
        ("client data changed after signing", assertion(|a| a.client_data_json.insert(1, b' ')), "BAD_SIGNATURE"),
        ("BE flipped", sheet(|s| s.flags &= !(BE | BS)), "BACKUP_ELIGIBILITY_CHANGED"),
        ("BS without BE", sheet(|s| s.flags &= !BE), "BAD_ASSERTION"),
        ("another credential", attempt(|a| a.passkey = Passkey::new(Algorithm::Es256, 9)), "UNKNOWN_CREDENTIAL"),
        (
            "another key under the credential's id",
            attempt(|a| {
                a.passkey = Passkey::new(Algorithm::Es256, 9);
                a.passkey.credential.id = passkeys()[0].credential.id.clone();
            }),
            "BAD_SIGNATURE",
        ),
        (
            "one credential under the id of another",
            assertion(|a| a.credential_id = passkeys()[2].credential.id.clone()),
            "BAD_SIGNATURE",
        ),
        ("no credential", assertion(|a| a.credential_id.clear()), "TOO_LARGE"),
        ("a registration's data", sheet(|s| s.flags |= AT), "BAD_ASSERTION"),
        ("bytes behind the data", sheet(|s| s.tail = vec![0]), "BAD_ASSERTION"),
        ("extensions without their flag", sheet(|s| s.tail = b"\xa1\x63abc\x41\x07".to_vec()), "BAD_ASSERTION"),
        ("a flag without extensions", sheet(|s| s.flags |= ED), "BAD_ASSERTION"),
        ("short data", assertion(|a| a.authenticator_data.truncate(36)), "BAD_ASSERTION"),
        ("no JSON", raw("webauthn.get"), "BAD_ASSERTION"),
        ("no challenge", raw(r#"{"type":"webauthn.get","origin":"ORIGIN"}"#), "BAD_ASSERTION"),
        (
            "two challenges",
            raw(r#"{"type":"webauthn.get","challenge":"AA","challenge":"CHALLENGE","origin":"ORIGIN"}"#),
            "BAD_ASSERTION",
        ),
        (
            "two types",
            raw(r#"{"type":"webauthn.get","type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN"}"#),
            "BAD_ASSERTION",
        ),
        (
            "words behind the JSON",
            raw(r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN"}{}"#),
            "BAD_ASSERTION",
        ),
        (
            "a crossOrigin that is no boolean",
            sheet(|s| s.members = vec![("crossOrigin", json!("false"))]),
            "BAD_ASSERTION",
        ),
        (
            "another wallet's stanza, put in by the host",
            host(|_, stanza, _| *stanza = self::stanza(2, CURRENT, &passkeys())),
            "OTHER_CONTEXT",
        ),
        (
            "another wallet's stanza, asked for by its thief",
            attempt(|a| {
                a.stanza = stanza(2, CURRENT, &passkeys());
            }),
            "OTHER_CONTEXT",
        ),
        (
            "an older stanza of the same backup, put in by the host",
            host(|_, stanza, _| *stanza = self::stanza(1, 1, &passkeys())),
            "WRONG_CHALLENGE",
        ),
        ("a stanza without a keeper's part", host(|_, stanza, _| *stanza = prf_stanza()), "BAD_STANZA"),
        (
            "a stanza sealed to a key that is not there yet",
            attempt(|a| a.stanza = stanza(1, CURRENT + 1, &passkeys())),
            "UNKNOWN_KEY",
        ),
        ("a stanza sealed to another keeper", host(|_, stanza, _| *stanza = foreign_stanza()), "BAD_STANZA"),
        ("no stanza", host(|_, stanza, _| stanza.clear()), "BAD_STANZA"),
        ("a request to key 0", host(|key_id, _, _| *key_id = 0), "UNKNOWN_KEY"),
        ("a request to a key that is not there yet", host(|key_id, _, _| *key_id = CURRENT + 1), "UNKNOWN_KEY"),
        ("a request under the number of another key", host(|key_id, _, _| *key_id = 1), "BAD_REQUEST"),
        ("a cut request", host(|_, _, sealed| sealed.truncate(60)), "BAD_REQUEST"),
        ("no request", host(|_, _, sealed| sealed.clear()), "BAD_REQUEST"),
        ("a request of another version", host(|_, _, sealed| sealed[0] = 2), "BAD_REQUEST"),
        ("a genuine keeper on another root", attempt(|a| a.keys = keys(2)), "BAD_REQUEST"),
        (
            "an answer forged without the keeper's key",
            attempt(|a| a.answer = Box::new(|_| forged_answer())),
            "FORGED_ANSWER",
        ),
        (
            "an answer to another one-time key",
            attempt(|a| a.answer = Box::new(|_| answer_to_another())),
            "FORGED_ANSWER",
        ),
        (
            "another kind of answer",
            attempt(|a| {
                a.answer = Box::new(|_| keeper::encode_answer(&Answer::Refused(keeper::Refusal::UnsupportedRequest)))
            }),
            "UNSUPPORTED_REQUEST",
        ),
        ("no answer", attempt(|a| a.answer = Box::new(|_| vec![])), "MALFORMED"),
    ];
    for (name, attempt, code) in cases {
        assert_eq!(attempt.code().err(), Some(code), "{name}");
    }
}

/// Opens with a passkey's own secret; no keeper has a part in it.
fn prf_stanza() -> Vec<u8> {
    let passkey = Passkey::new(Algorithm::Es256, 1);
    let output = PrfOutput::new(&[5; 32]).unwrap();
    let params = SealParams {
        mode: Mode::Prf,
        context: context(1),
        rp_id: RP_ID,
        origins: &[ORIGIN.to_owned()],
        credentials: std::slice::from_ref(&passkey.credential),
        keeper: None,
        prf: Some(Prf { salt: [6; 32], outputs: &[(&passkey.credential.id, &output)] }),
    };
    seal(&params, RECORD, &mut DangerSeededEntropy::new(1)).unwrap()
}

fn foreign_stanza() -> Vec<u8> {
    let params = SealParams {
        mode: Mode::Keeper,
        context: context(1),
        rp_id: RP_ID,
        origins: &[ORIGIN.to_owned()],
        credentials: &[Passkey::new(Algorithm::Es256, 1).credential],
        keeper: Some((CURRENT, public_key(2, CURRENT))),
        prf: None,
    };
    seal(&params, RECORD, &mut DangerSeededEntropy::new(1)).unwrap()
}

/// A server without the keeper's key knows the form of an answer, and a part that it would like the device to believe.
fn forged_answer() -> Vec<u8> {
    let mut entropy = DangerSeededEntropy::new(8);
    let (parts, _) = all_of::split(1, &mut entropy);
    let own = hpke::SecretKey::generate(&mut entropy);
    let (message, _) =
        hpke::Request::seal(&own.public_key(), b"halfkey/keeper/v1/release", b"", b"", &mut entropy).unwrap();
    let (_, key) = hpke::open_request(&own, b"halfkey/keeper/v1/release", b"", &message).unwrap();
    let sealed = key.seal_answer("halfkey/keeper/v1/answer", &parts[0].to_bytes(), &mut entropy);
    keeper::encode_answer(&Answer::Released(sealed))
}

/// The genuine keeper's answer to a request of somebody else with the same passkey, stanza and context.
fn answer_to_another() -> Vec<u8> {
    let world = Attempt::new();
    let mut entropy = DangerSeededEntropy::new(1234);
    let to = (world.pinned.0, &world.pinned.1);
    let release = Release::begin(to, Op::Recover, &world.stanza, &world.context, &mut entropy).unwrap();
    let sheet = Sheet::new(release.challenge(), RP_ID, ORIGIN);
    let (request, pending) = release.request(&sheet.sign(&world.passkey)).unwrap();
    let answer = ask(&world.keys, &request);
    assert!(pending.finish(&answer).is_ok());
    answer
}

/// Even with no attestation at all: what the passkey signed names the one-time key, and the host has no other one that
/// it would be good for.
#[test]
fn a_lying_host_cannot_redirect_an_assertion() {
    let world = Attempt::new();
    let to = (world.pinned.0, &world.pinned.1);
    let mut entropy = DangerSeededEntropy::new(20);
    let mut begin = |op| Release::begin(to, op, &world.stanza, &world.context, &mut entropy).unwrap();
    let (victim, host, other_op) = (begin(Op::Recover), begin(Op::Recover), begin(Op::Verify));
    let stolen = Sheet::new(victim.challenge(), RP_ID, ORIGIN).sign(&world.passkey);
    for thief in [host, other_op] {
        let (request, pending) = thief.request(&stolen).unwrap();
        assert_eq!(pending.finish(&ask(&world.keys, &request)).unwrap_err().code(), "WRONG_CHALLENGE");
    }
    // A replay of the victim's own request gives what only the victim can read, as often as anybody asks.
    let (request, pending) = victim.request(&stolen).unwrap();
    let (first, again) = (ask(&world.keys, &request), ask(&world.keys, &request));
    assert!(matches!(keeper::decode_answer(&again), Ok(Answer::Released(_))));
    let part = pending.finish(&first).unwrap();
    assert!(!first.windows(32).any(|window| part.to_bytes().windows(32).any(|secret| secret == window)));
}

/// What was signed for one operation is not good for another.
#[test]
fn an_operation_is_signed_along() {
    let world = Attempt::new();
    let mut challenges = vec![];
    for op in [Op::Backup, Op::Recover, Op::Verify] {
        let mut entropy = DangerSeededEntropy::new(30);
        let to = (world.pinned.0, &world.pinned.1);
        let release = Release::begin(to, op, &world.stanza, &world.context, &mut entropy).unwrap();
        challenges.push(*release.challenge());
    }
    assert!(challenges[0] != challenges[1] && challenges[1] != challenges[2] && challenges[0] != challenges[2]);
}

#[test]
fn no_bit_of_a_stanza_can_be_changed_on_the_way() {
    let world = Attempt::new();
    let to = (world.pinned.0, &world.pinned.1);
    let release = Release::begin(to, Op::Recover, &world.stanza, &world.context, &mut DangerSeededEntropy::new(40));
    let release = release.unwrap();
    let sheet = Sheet::new(release.challenge(), RP_ID, ORIGIN);
    let (request, _) = release.request(&sheet.sign(&world.passkey)).unwrap();
    let Request::Release { key_id, stanza, sealed } = keeper::decode_request(&request).unwrap() else { panic!() };
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for bit in 0..stanza.len() * 8 {
        let mut changed = stanza.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused =
            halfkey_keeper::release(&world.keys, key_id, &changed, &sealed, &mut DangerSeededEntropy::new(41));
        let code = refused.map(|_| ()).expect_err(&format!("bit {bit}")).code();
        assert!(["BAD_STANZA", "UNKNOWN_KEY", "WRONG_CHALLENGE"].contains(&code), "bit {bit}: {code}");
        *seen.entry(code).or_default() += 1;
    }
    // The sealed record is not the keeper's to open: the signature over the whole stanza protects it.
    assert!(seen["WRONG_CHALLENGE"] >= RECORD.len() * 8, "{seen:?}");
    assert!(seen["BAD_STANZA"] > seen["WRONG_CHALLENGE"], "{seen:?}");
}

#[test]
fn no_bit_of_a_request_can_be_changed_on_the_way() {
    let world = Attempt::new();
    let to = (world.pinned.0, &world.pinned.1);
    let release = Release::begin(to, Op::Recover, &world.stanza, &world.context, &mut DangerSeededEntropy::new(42));
    let release = release.unwrap();
    let sheet = Sheet::new(release.challenge(), RP_ID, ORIGIN);
    let (request, _) = release.request(&sheet.sign(&world.passkey)).unwrap();
    let Request::Release { key_id, stanza, sealed } = keeper::decode_request(&request).unwrap() else { panic!() };
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused =
            halfkey_keeper::release(&world.keys, key_id, &stanza, &changed, &mut DangerSeededEntropy::new(43));
        assert_eq!(refused, Err(keeper::Refusal::BadRequest), "bit {bit}");
    }
}
