//! Two verifiers that share no code say the same of every assertion: by enumeration of what can be changed, and on many
//! seeded ones.

use halfkey_envelope::passkey::{Algorithm, Assertion, Fault, Verifiable, base64url};
use halfkey_keeper::{Expected, Own, Verifier as _, WebauthnRs};
use serde_json::json;

use crate::{
    sheet::{AT, BE, BS, ED, Passkey, Sheet, UP, UV, other_half},
    world::{APP_ORIGIN, ORIGIN, RP_ID},
};

const CHALLENGE: [u8; 32] = [0x5c; 32];

struct World {
    passkey: Passkey,
    credential: Verifiable,
    origins: [String; 2],
}

impl World {
    fn new(backup_eligible: bool) -> Self {
        let mut passkey = Passkey::new(Algorithm::Es256, 1);
        passkey.credential.backup_eligible = backup_eligible;
        let credential = Verifiable {
            id: passkey.credential.id.clone(),
            key: passkey.credential.key.clone(),
            backup_eligible: backup_eligible.into(),
        };
        Self { passkey, credential, origins: [ORIGIN.to_owned(), APP_ORIGIN.to_owned()] }
    }

    /// What both say. They must not differ about acceptance.
    fn verdict(&self, assertion: &Assertion, what: &dyn std::fmt::Debug) -> (Result<(), Fault>, Result<(), Fault>) {
        let credential = &self.credential;
        let expected = Expected { challenge: &CHALLENGE, rp_id: RP_ID, origins: &self.origins, credential };
        let (own, other) = (Own.verify(&expected, assertion), WebauthnRs.verify(&expected, assertion));
        assert_eq!(own.is_ok(), other.is_ok(), "{what:?}: {own:?}, {other:?}: {assertion:02x?}");
        (own, other)
    }
}

/// Changes before signing, so that the signature is good.
type Signed = (&'static str, fn(&mut Sheet));

const SIGNED: &[Signed] = &[
    ("type: create", |s| s.kind = "webauthn.create".to_owned()),
    ("type: empty", |s| s.kind.clear()),
    ("type: longer", |s| s.kind.push('x')),
    ("type: case", |s| s.kind = "Webauthn.get".to_owned()),
    ("challenge: a bit", |s| s.challenge.iter_mut().take(1).for_each(|byte| *byte ^= 0x80)),
    ("challenge: short", |s| s.challenge.truncate(31)),
    ("challenge: long", |s| s.challenge.push(0)),
    ("challenge: empty", |s| s.challenge.clear()),
    ("origin: app", |s| s.origin = APP_ORIGIN.to_owned()),
    ("origin: other app", |s| s.origin = format!("android:apk-key-hash:{}", base64url(&[1; 32]))),
    ("origin: app with padding", |s| s.origin = format!("{APP_ORIGIN}=")),
    ("origin: evil", |s| s.origin = "https://evil.example".to_owned()),
    ("origin: below", |s| s.origin = "https://a.wallet.example".to_owned()),
    ("origin: above", |s| s.origin = "https://example".to_owned()),
    ("origin: http", |s| s.origin = "http://wallet.example".to_owned()),
    ("origin: port", |s| s.origin = "https://wallet.example:444".to_owned()),
    ("origin: default port", |s| s.origin = "https://wallet.example:443".to_owned()),
    ("origin: slash", |s| s.origin.push('/')),
    ("origin: path", |s| s.origin.push_str("/a")),
    ("origin: query", |s| s.origin.push_str("?a")),
    ("origin: case", |s| s.origin = "https://Wallet.example".to_owned()),
    ("origin: user", |s| s.origin = "https://a@wallet.example".to_owned()),
    ("origin: space", |s| s.origin.insert(0, ' ')),
    ("origin: tab", |s| s.origin = "https://wa\tllet.example".to_owned()),
    ("origin: dot", |s| s.origin.push('.')),
    ("origin: empty", |s| s.origin.clear()),
    ("origin: no url", |s| s.origin = "wallet.example".to_owned()),
    ("origin: wide letters", |s| s.origin = "https://ｗallet.example".to_owned()),
    ("crossOrigin: true", |s| s.members = vec![("crossOrigin", json!(true))]),
    ("crossOrigin: absent", |s| s.members.clear()),
    ("crossOrigin: null", |s| s.members = vec![("crossOrigin", json!(null))]),
    ("crossOrigin: 0", |s| s.members = vec![("crossOrigin", json!(0))]),
    ("crossOrigin: text", |s| s.members = vec![("crossOrigin", json!("false"))]),
    ("topOrigin", |s| s.members.push(("topOrigin", json!(ORIGIN)))),
    ("topOrigin: null", |s| s.members.push(("topOrigin", json!(null)))),
    ("topOrigin: false", |s| s.members.push(("topOrigin", json!(false)))),
    ("tokenBinding: supported", |s| s.members.push(("tokenBinding", json!({"status": "supported"})))),
    ("tokenBinding: present", |s| s.members.push(("tokenBinding", json!({"status": "present", "id": "AA"})))),
    ("tokenBinding: null", |s| s.members.push(("tokenBinding", json!(null)))),
    ("tokenBinding: text", |s| s.members.push(("tokenBinding", json!("supported")))),
    ("tokenBinding: no status", |s| s.members.push(("tokenBinding", json!({"id": "AA"})))),
    ("unknown: text", |s| s.members.push(("androidPackageName", json!("com.example")))),
    ("unknown: deep", |s| s.members.push(("x", json!([{"a": [1.5, null, true]}])))),
    ("unknown: number", |s| s.members.push(("x", json!(18_446_744_073_709_551_615_u64)))),
    ("rp: other", |s| s.rp_id = "evil.example".to_owned()),
    ("rp: above", |s| s.rp_id = "example".to_owned()),
    ("rp: empty", |s| s.rp_id.clear()),
    ("UP=0", |s| s.flags &= !UP),
    ("UV=0", |s| s.flags &= !UV),
    ("UP=0 UV=0", |s| s.flags &= !(UP | UV)),
    ("BE flipped", |s| s.flags ^= BE),
    ("BS flipped", |s| s.flags ^= BS),
    ("BE and BS flipped", |s| s.flags ^= BE | BS),
    ("reserved flags", |s| s.flags |= 0b0010_0010),
    ("AT", |s| s.flags |= AT),
    ("AT with a credential", |s| (s.flags, s.tail) = (s.flags | AT, attested())),
    ("ED", |s| s.flags |= ED),
    ("ED empty map", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa0".to_vec())),
    ("ED hmac-secret", |s| {
        (s.flags, s.tail) = (s.flags | ED, b"\xa1\x6bhmac-secret\x58\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec())
    }),
    ("ED several", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa3\x61a\xf5\x61b\x81\x20\x61c\xa1\x01\x02".to_vec())),
    ("ED null and undefined", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x61a\xf6".to_vec())),
    ("ED behind", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa0\x00".to_vec())),
    ("ED cut", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x61a".to_vec())),
    ("ED array", |s| (s.flags, s.tail) = (s.flags | ED, b"\x80".to_vec())),
    ("ED number keys", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x01\x02".to_vec())),
    ("ED repeated keys", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa2\x61a\x01\x61a\x02".to_vec())),
    ("ED indefinite", |s| (s.flags, s.tail) = (s.flags | ED, b"\xbf\x61a\x01\xff".to_vec())),
    ("ED long head", |s| (s.flags, s.tail) = (s.flags | ED, b"\xb8\x01\x61a\x01".to_vec())),
    ("ED tag", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x61a\xc1\x01".to_vec())),
    ("ED float", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x61a\xf9\x3c\x00".to_vec())),
    ("ED bad text", |s| (s.flags, s.tail) = (s.flags | ED, b"\xa1\x61a\x61\xff".to_vec())),
    ("behind", |s| s.tail = vec![0]),
    ("an unannounced map", |s| s.tail = b"\xa0".to_vec()),
    ("counter", |s| s.counter = u32::MAX),
];

fn attested() -> Vec<u8> {
    let key = Passkey::new(Algorithm::Es256, 1).credential.key.to_cose();
    [&[0; 16][..], &[0, 2, 7, 7], &key].concat()
}

/// JSON that another writer would write, or nobody.
const RAW: &[(&str, &str)] = &[
    ("order", r#"{"origin":"ORIGIN","type":"webauthn.get","challenge":"CHALLENGE"}"#),
    ("space", " {\n\"type\" : \"webauthn.get\",\t\"challenge\":\"CHALLENGE\",\"origin\":\"ORIGIN\"}\r\n"),
    ("escapes", r#"{"\u0074ype":"webauthn\u002eget","challenge":"CHALLENGE","origin":"https:\/\/wallet.example"}"#),
    ("padding", r#"{"type":"webauthn.get","challenge":"CHALLENGE=","origin":"ORIGIN"}"#),
    ("newline in the challenge", r#"{"type":"webauthn.get","challenge":"CHALLENGE\n","origin":"ORIGIN"}"#),
    ("no type", r#"{"challenge":"CHALLENGE","origin":"ORIGIN"}"#),
    ("no challenge", r#"{"type":"webauthn.get","origin":"ORIGIN"}"#),
    ("no origin", r#"{"type":"webauthn.get","challenge":"CHALLENGE"}"#),
    ("type is a number", r#"{"type":1,"challenge":"CHALLENGE","origin":"ORIGIN"}"#),
    ("challenge is a list", r#"{"type":"webauthn.get","challenge":["CHALLENGE"],"origin":"ORIGIN"}"#),
    ("origin is null", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":null}"#),
    ("two types", r#"{"type":"webauthn.get","type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN"}"#),
    ("two challenges", r#"{"type":"webauthn.get","challenge":"CHALLENGE","challenge":"CHALLENGE","origin":"ORIGIN"}"#),
    ("two origins", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","origin":"ORIGIN"}"#),
    (
        "two crossOrigins",
        r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","crossOrigin":false,"crossOrigin":false}"#,
    ),
    (
        "two topOrigins",
        r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","topOrigin":"a","topOrigin":"b"}"#,
    ),
    ("two unknown", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","x":1,"x":2}"#),
    ("a number out of range", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","x":1e999}"#),
    ("half a surrogate", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN","x":"\ud800"}"#),
    (
        "a control character",
        "{\"type\":\"webauthn.get\",\"challenge\":\"CHALLENGE\",\"origin\":\"ORIGIN\",\"x\":\"\u{1}\"}",
    ),
    ("a trailing comma", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN",}"#),
    ("a comment", r#"{"type":"webauthn.get",/**/"challenge":"CHALLENGE","origin":"ORIGIN"}"#),
    ("two values", r#"{"type":"webauthn.get","challenge":"CHALLENGE","origin":"ORIGIN"}{}"#),
    ("a byte order mark", "\u{feff}{\"type\":\"webauthn.get\",\"challenge\":\"CHALLENGE\",\"origin\":\"ORIGIN\"}"),
    ("a list", r#"["webauthn.get","CHALLENGE","ORIGIN",false,"x",null]"#),
    ("nothing", ""),
    ("null", "null"),
];

fn raw(text: &str) -> Vec<u8> {
    text.replace("CHALLENGE", &base64url(&CHALLENGE)).replace("ORIGIN", ORIGIN).into_bytes()
}

/// Changes after signing.
type Unsigned = (&'static str, fn(&mut Assertion));

const UNSIGNED: &[Unsigned] = &[
    ("id: another", |a| a.credential_id[0] ^= 1),
    ("id: longer", |a| a.credential_id.push(0)),
    ("id: none", |a| a.credential_id.clear()),
    ("data: a bit of the hash", |a| a.authenticator_data[0] ^= 1),
    ("data: a flag", |a| a.authenticator_data[32] ^= BS),
    ("data: counter", |a| *a.authenticator_data.last_mut().unwrap() ^= 1),
    ("data: cut", |a| a.authenticator_data.truncate(36)),
    ("data: none", |a| a.authenticator_data.clear()),
    ("json: a space", |a| a.client_data_json.push(b' ')),
    ("json: bad text", |a| a.client_data_json.push(0xff)),
    ("json: none", |a| a.client_data_json.clear()),
    ("signature: a bit", |a| *a.signature.last_mut().unwrap() ^= 1),
    ("signature: cut", |a| a.signature.truncate(a.signature.len() - 1)),
    ("signature: behind", |a| a.signature.push(0)),
    ("signature: none", |a| a.signature.clear()),
    ("signature: raw", |a| a.signature = vec![1; 64]),
    ("signature: r = 0", |a| a.signature = vec![0x30, 6, 2, 1, 0, 2, 1, 1]),
    ("signature: s = 0", |a| a.signature = vec![0x30, 6, 2, 1, 1, 2, 1, 0]),
    ("signature: long form", |a| a.signature.insert(1, 0x81)),
    ("signature: the other half", |a| a.signature = other_half(&a.signature)),
];

#[test]
fn both_say_the_same_of_every_change() {
    let (mut accepted, mut refused) = (0, 0);
    for backup_eligible in [true, false] {
        let world = World::new(backup_eligible);
        let mut sheets: Vec<(String, Sheet)> = vec![];
        let genuine = || {
            let mut sheet = Sheet::new(&CHALLENGE, RP_ID, ORIGIN);
            if !backup_eligible {
                sheet.flags = UP | UV;
            }
            sheet
        };
        sheets.push(("genuine".to_owned(), genuine()));
        for (name, change) in SIGNED {
            let mut sheet = genuine();
            change(&mut sheet);
            sheets.push(((*name).to_owned(), sheet));
        }
        for (name, text) in RAW {
            sheets.push(((*name).to_owned(), Sheet { raw_client_data: Some(raw(text)), ..genuine() }));
        }
        for flags in 0..=255 {
            sheets.push((format!("flags {flags:08b}"), Sheet { flags, ..genuine() }));
        }
        for (name, sheet) in &sheets {
            let assertion = sheet.sign(&world.passkey);
            let (own, other) = world.verdict(&assertion, name);
            *if own.is_ok() { &mut accepted } else { &mut refused } += 1;
            // Where one rule is broken, both name the same one.
            let single = SIGNED.iter().any(|(known, _)| known == name) && !name.contains("UP=0 UV=0");
            let both_read_it = own != Err(Fault::Malformed) && other != Err(Fault::Malformed);
            assert!(!single || !both_read_it || own == other, "{name}: {own:?}, {other:?}");
            for (unsigned, change) in UNSIGNED {
                let mut changed = assertion.clone();
                change(&mut changed);
                let (own, _) = world.verdict(&changed, &(name, unsigned));
                *if own.is_ok() { &mut accepted } else { &mut refused } += 1;
            }
        }
    }
    // Neither verifier is a stone, and most changes matter.
    assert!(accepted > 40 && refused > 10_000, "{accepted}, {refused}");
}

/// A generator of its own: a seed is replayed by its number alone (SplitMix64, Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    /// A few bytes replaced, removed, inserted or doubled.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const LIKELY: &[u8] = b"{}[]\":,\\ 0e.-tfnu\x00\x01\x40\x60\x80\xa0\xa1\xbf\xc0\xf5\xf6\xf7\xf9\xff";
        for _ in 0..=self.roll(2) {
            let (at, likely) = (self.roll(bytes.len().max(1)), LIKELY[self.roll(LIKELY.len())]);
            match self.roll(5) {
                _ if bytes.is_empty() => bytes.push(likely),
                0 => bytes[at] ^= 1 << self.roll(8),
                1 => bytes[at] = likely,
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, likely),
                _ => bytes.insert(at, bytes[at]),
            }
        }
    }
}

/// One assertion of this seed: none to three known changes, bytes damaged before signing, a change after signing.
fn seeded(world: &World, seed: u64) -> Assertion {
    let mut dice = Dice(seed);
    let mut sheet = Sheet::new(&CHALLENGE, RP_ID, ORIGIN);
    for _ in 0..dice.roll(3) {
        SIGNED[dice.roll(SIGNED.len())].1(&mut sheet);
    }
    if dice.roll(8) == 0 {
        sheet.raw_client_data = Some(raw(RAW[dice.roll(RAW.len())].1));
    }
    let mut assertion = sheet.sign(&world.passkey);
    match dice.roll(4) {
        0 => dice.damage(&mut assertion.client_data_json),
        1 => dice.damage(&mut assertion.authenticator_data),
        _ => {}
    }
    assertion.signature = world.passkey.sign(&assertion.signed_bytes());
    match dice.roll(8) {
        0 => UNSIGNED[dice.roll(UNSIGNED.len())].1(&mut assertion),
        1 => dice.damage(&mut assertion.signature),
        _ => {}
    }
    assertion
}

#[test]
fn both_say_the_same_of_seeded_assertions() {
    let count = if std::env::var_os("HALFKEY_LONG").is_some() { 1_000_000 } else { 20_000 };
    let world = World::new(true);
    let mut accepted = 0;
    // The last one told them apart once: an extension that is named by bytes.
    for seed in (0..count).chain([765_966]) {
        let assertion = seeded(&world, seed);
        accepted += u64::from(world.verdict(&assertion, &seed).0.is_ok());
    }
    assert!(accepted > count / 20 && accepted < count / 2, "{accepted} of {count}");
}
