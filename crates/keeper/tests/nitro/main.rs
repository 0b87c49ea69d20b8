//! A keeper in an enclave that is made up, with a KMS that is: our side of the protocol, by value. **Nothing here has ever
//! run on Nitro hardware or against AWS.**

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity, missing_docs)]

mod certificate;
mod envelope;
mod kms;
mod world;

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use halfkey_envelope::{
    entropy::OsEntropy,
    keeper::{Answer, EvidenceKind, Request, SealRootKey, decode_answer, encode_request, long_term_key},
};
use halfkey_evidence::{
    Expected,
    nitro::Measurement,
    synthetic::nitro::{IMAGE, NOW_MS, policy},
    verify,
};
use halfkey_keeper::{
    Keeper,
    nitro::{CmsError, NO_SEALINGS_YET, NitroError, Recipient},
};
use zeroize::Zeroizing;

use self::{
    certificate::Authority,
    envelope::{AES_256_CBC, DATA, Plan, seal},
    kms::{Context, Fault, KEYS, Kms, hosts},
    world::{CREDENTIALS, World},
};

fn first_key(root: [u8; 32]) -> halfkey_envelope::hpke::PublicKey {
    long_term_key(&SealRootKey::from_bytes(Zeroizing::new(root)), 1).public_key()
}

#[test]
fn a_root_is_born_once_and_is_the_same_at_every_start_and_on_every_replica() {
    let world = World::new();
    let (root, sealings) = world.start().unwrap();
    assert_eq!(sealings, 2);
    let stored = world.parent.lock().unwrap().sealings.clone();
    for _ in 0..2 {
        assert_eq!(world.start().unwrap(), (root, 2));
    }
    assert_eq!(world.parent.lock().unwrap().sealings, stored, "nothing is stored twice");

    let state = world.kms.state.lock().unwrap();
    let called = |name: &str, key: &str| (name.to_owned(), key.to_owned());
    let decrypts = KEYS.map(|key| called("Decrypt", key));
    let expected =
        [KEYS.map(|key| called("GenerateDataKey", key)), decrypts.clone(), decrypts.clone(), decrypts].concat();
    assert_eq!(state.calls, expected);
    let context = [
        ("halfkey-purpose", "keeper-sealing-root"),
        ("halfkey-deployment", "01010101-0101-0101-0101-010101010101"),
        ("halfkey-generation", "1"),
    ];
    let context: Context = context.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(state.contexts, vec![context; 8]);
    // Neither KMS nor the parent has seen it.
    assert_eq!(state.data_keys.len(), 2);
    assert!(state.data_keys.iter().all(|key| *key != root && !stored.windows(32).any(|part| part == key)));
    assert!(!stored.windows(32).any(|part| part == root));
    drop(state);

    let other = World::new().start().unwrap();
    assert_ne!(other.0, root, "another parent's keeper has another root");
}

#[test]
fn its_evidence_is_what_apps_accept_and_the_genesis_is_archived() {
    let world = World::new();
    let root = world.root().unwrap();
    let keeper = Keeper::new(&root, Box::new(root.attester()), 3, &mut OsEntropy).unwrap();
    let Answer::Info(info) = decode_answer(&keeper.answer(&encode_request(&Request::Info))).unwrap() else { panic!() };
    assert_eq!((info.evidence, info.key_id, info.sealings), (EvidenceKind::Nitro, 3, 2));
    let nonce = [5; 32];
    let answer = keeper.answer(&encode_request(&Request::Evidence { nonce }));
    let Answer::Evidence(evidence) = decode_answer(&answer).unwrap() else { panic!() };
    let expected = Expected { nonce: &nonce, key_id: 3, public_key: &info.public_key, now_ms: NOW_MS };
    let verified = verify(&evidence, &expected, &policy()).unwrap();
    assert_eq!(verified.measurement, Measurement(IMAGE).to_string());

    let first_key = first_key(world.start().unwrap().0);
    let stored = world.parent.lock().unwrap().sealings.clone();
    let genesis = root.genesis(&stored).unwrap();
    let expected = Expected { nonce: &genesis.nonce.clone(), key_id: 1, public_key: &first_key, now_ms: NOW_MS };
    assert!(verify(&genesis, &expected, &policy()).is_ok());
}

#[test]
fn another_image_gets_no_root() {
    let denied = World::nothing_opens("KMS refuses: AccessDeniedException");
    let unproven = World::nothing_opens("KMS refuses: ValidationException");
    let world = World::new();
    let born = world.start().unwrap();
    let cases: [(&str, fn(&mut halfkey_evidence::synthetic::nitro::Show), &str); 6] = [
        ("another image", |show| show.pcrs[0].1[0] ^= 1, &denied),
        ("another signer of the image", |show| show.pcrs[5].1[0] ^= 1, &denied),
        ("a document that another key signed", |show| show.signer = 14, &unproven),
        ("debug mode", |show| (0..3).for_each(|pcr| show.pcrs[pcr].1.fill(0)), "the enclave runs in debug mode"),
        ("one zero PCR", |show| show.pcrs[1].1.fill(0), "the enclave runs in debug mode"),
        ("an image that nobody signed", |show| show.pcrs[5].1.fill(0), "the image is not signed: PCR 8 is empty"),
    ];
    for (case, change, refusal) in cases {
        world.change(change);
        assert_eq!(world.refused(), *refusal, "{case}");
    }
    world.change(|_| {});
    assert_eq!(world.start().unwrap(), born);

    // Nor is one born in it.
    let world = World::new();
    world.change(|show| show.pcrs[0].1[0] ^= 1);
    assert_eq!(world.refused(), format!("{}: KMS refuses: AccessDeniedException", KEYS[0]));
    assert_eq!(world.parent.lock().unwrap().sealings, NO_SEALINGS_YET);
}

#[test]
fn sealings_of_another_deployment_or_generation_are_refused() {
    let none = "the parent's sealings: without the genesis evidence that was made with it";
    for (from, to) in [("0101\",\"generation", "0102\",\"generation"), ("\"generation\":1", "\"generation\":2")] {
        let world = World::new();
        world.start().unwrap();
        world.replace(from, to);
        assert_eq!(world.refused(), none);
    }
}

#[test]
fn answers_of_kms_are_judged() {
    let cases = [
        (Fault::OtherKey, "the answer is about another KMS key"),
        (Fault::Plaintext, "KMS has not sealed its answer to this enclave"),
        (Fault::NoRecipient, "KMS has not sealed its answer to this enclave"),
        (Fault::OtherRecipient, "KMS's sealed answer: not sealed to this enclave's key, or changed"),
        (Fault::OtherDataKey, "the sealed root: not the key it was sealed with"),
        (Fault::ShortDataKey, "KMS's sealed answer: not a data key of 32 bytes"),
        (Fault::Cut, "KMS's sealed answer: not EnvelopedData as KMS writes it"),
        (Fault::Longer, "KMS's sealed answer: not EnvelopedData as KMS writes it"),
        (Fault::Garbled, "KMS cannot be reached: not an answer of KMS"),
    ];
    let world = World::new();
    let born = world.start().unwrap();
    for (fault, refusal) in cases {
        world.fault(fault);
        assert_eq!(world.refused(), World::nothing_opens(refusal), "{fault:?}");
    }
    world.fault(Fault::Nothing);
    assert_eq!(world.start().unwrap(), born);
    // A root is not born on such answers either.
    let world = World::new();
    for fault in [Fault::OtherKey, Fault::Plaintext, Fault::NoRecipient] {
        world.fault(fault);
        assert!(matches!(world.start(), Err(NitroError::Kms(..))), "{fault:?}");
    }
    // All that was given out is opened once more before the keeper is ready.
    world.fault(Fault::OtherDataKey);
    world.start().expect("the same wrong key both times");
}

#[test]
fn what_the_parent_stores_is_believed_in_nothing() {
    let world = World::new();
    let born = world.start().unwrap();
    let stored = world.parent.lock().unwrap().sealings.clone();
    let serve = |bytes: Vec<u8>| world.parent.lock().unwrap().sealings = bytes;
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("nothing", vec![], "the parent's sealings: none"),
        ("something else", b"no sealings".to_vec(), "the parent's sealings: none"),
        ("half", stored[..stored.len() / 2].to_vec(), "the parent's sealings: none"),
        ("more", [&stored[..], &[0]].concat(), "the parent's sealings: not whole"),
        ("too much", vec![0; 70_000], "the parent's sealings: the parent says more than it should"),
    ];
    for (case, bytes, refusal) in cases {
        serve(bytes);
        assert_eq!(world.refused(), refusal, "{case}");
    }
    // Whatever is changed in it: the keeper has this root or none.
    for byte in (0..stored.len()).step_by(stored.len().div_ceil(20)) {
        let mut changed = stored.clone();
        changed[byte] ^= 1;
        serve(changed);
        if let Ok((root, _)) = world.start() {
            assert_eq!(root, born.0, "byte {byte}");
        }
    }
    // Sealings of another keeper under the same KMS keys: they open, to a root whose key no app has pinned.
    let other = World::new();
    let theirs = other.start().unwrap();
    serve(other.parent.lock().unwrap().sealings.clone());
    assert_eq!(world.refused(), World::nothing_opens("KMS refuses: InvalidCiphertextException"));
    assert_ne!(theirs, born);
    serve(stored);
    assert_eq!(world.start().unwrap(), born);
}

#[test]
fn a_root_that_the_parent_does_not_store_is_forgotten() {
    let world = World::new();
    world.parent.lock().unwrap().stores = false;
    assert_eq!(world.refused(), "the parent has not stored the new sealings");
    world.parent.lock().unwrap().stores = true;
    assert_eq!(world.start().unwrap().1, 2);
}

#[test]
fn one_kms_key_is_enough_to_start_and_not_to_count_two() {
    let world = World::new();
    let born = world.start().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |key: usize, address| format!(r#"{}","via":"tcp:{address}"#, KEYS[key]);
    world.replace(&at(0, world.kms.address), &at(0, closed));
    assert_eq!(world.start().unwrap(), (born.0, 1));
    world.replace(&at(1, world.kms.address), &at(1, closed));
    assert_eq!(world.refused(), World::nothing_opens("KMS cannot be reached: Connection refused (os error 111)"));
    // None is born with one key missing: it would have one sealing less than the image says.
    world.replace(&at(0, closed), &at(0, world.kms.address));
    world.parent.lock().unwrap().sealings = NO_SEALINGS_YET.to_vec();
    assert_eq!(world.refused(), format!("{}: KMS cannot be reached: Connection refused (os error 111)", KEYS[1]));
}

/// A KMS key that the measured settings do not name opens nothing, and one that stands there anew has no sealing.
#[test]
fn only_the_measured_kms_keys_count() {
    let world = World::new();
    let born = world.start().unwrap();
    world.replace(KEYS[1], &KEYS[1].replace("5678abcd", "9999abcd"));
    assert_eq!(world.start().unwrap(), (born.0, 1));
    world.replace(KEYS[0], &KEYS[0].replace("1234abcd", "8888abcd"));
    assert!(world.refused().ends_with("9999abcd-12ab-34cd-56ef-1234567890ab: no sealing under this KMS key"));
}

#[test]
fn credentials_are_lent_and_checked_for_shape() {
    let world = World::new();
    let born = world.start().unwrap();
    let expired = World::nothing_opens("KMS refuses: ExpiredTokenException");
    let foreign = World::nothing_opens("KMS refuses: IncompleteSignatureException");
    let bad = "the parent's credentials are not as AWS writes them";
    let cases = [
        ("run out", CREDENTIALS.replace(r#""token""#, r#""expired""#), expired.as_str()),
        ("somebody else's", CREDENTIALS.replace("ASIAEXAMPLE", "ASIAOTHER"), foreign.as_str()),
        ("a line break in the token", CREDENTIALS.replace(r#""token""#, r#""a\r\nb: c""#), bad),
        ("a line break in the name", CREDENTIALS.replace("ASIAEXAMPLE", r"A\r\n"), bad),
        ("no JSON", "none".to_owned(), bad),
        ("a message", r#"{"Code":"Failed"}"#.to_owned(), bad),
    ];
    for (case, said, refusal) in cases {
        world.parent.lock().unwrap().credentials = said;
        assert_eq!(world.refused(), *refusal, "{case}");
    }
    world.parent.lock().unwrap().credentials = CREDENTIALS.to_owned();
    assert_eq!(world.start().unwrap(), born);
}

/// The parent relays the bytes, to whom it likes.
#[test]
fn only_kms_itself_is_spoken_to() {
    let world = World::new();
    let born = world.start().unwrap();
    let cases = [
        ("under another root", Authority::new(2), hosts(), "BadSignature"),
        (
            "of another region",
            Authority::new(1),
            hosts()[1..].to_vec(),
            "certificate not valid for name \"kms.eu-central-1.amazonaws.com\"",
        ),
    ];
    for (case, authority, hosts, why) in cases {
        let impostor = Kms::start(&authority, &hosts);
        let at = |address| format!(r#"{}","via":"tcp:{address}"#, KEYS[0]);
        world.replace(&at(world.kms.address), &at(impostor.address));
        assert_eq!(world.start().unwrap(), (born.0, 1), "{case}");
        assert_eq!(impostor.state.lock().unwrap().calls, [], "{case}");
        let at_birth = World::new();
        at_birth.replace(&at(at_birth.kms.address), &at(impostor.address));
        let refused = at_birth.refused();
        assert!(
            refused.contains("KMS cannot be reached: invalid peer certificate") && refused.contains(why),
            "{refused}"
        );
        world.replace(&at(impostor.address), &at(world.kms.address));
    }
}

#[test]
fn only_what_kms_writes_for_us_opens() {
    let (us, data_key) = (Recipient::generate().unwrap(), [7; 32]);
    let genuine = seal(&Plan::default(), us.public_key(), &data_key);
    assert_eq!(*us.open(&genuine).unwrap(), data_key);
    for length in 0..genuine.len() {
        assert_eq!(us.open(&genuine[..length]), Err(CmsError::Malformed), "{length} bytes");
    }
    for byte in 0..genuine.len() {
        let mut changed = genuine.clone();
        changed[byte] ^= 0x10;
        // The recipient's name and the parameters of the algorithm that was asked for are not looked at, and CBC
        // authenticates nothing: what may come out is another key, which then does not open the root.
        if let Ok(opened) = us.open(&changed) {
            assert_eq!(opened.len(), 32, "byte {byte}");
        }
    }
    let with = |change: fn(&mut Plan)| {
        let mut plan = Plan::default();
        change(&mut plan);
        us.open(&seal(&plan, us.public_key(), &data_key))
    };
    let bad: [(&str, fn(&mut Plan)); 7] = [
        ("another content", |plan| plan.kind = DATA),
        ("content inside content", |plan| plan.inner = AES_256_CBC),
        ("another transport", |plan| plan.transport = DATA),
        ("another cipher", |plan| plan.cipher = DATA),
        ("nobody's", |plan| plan.recipients = 0),
        ("two recipients", |plan| plan.recipients = 2),
        ("a short IV", |plan| plan.iv = 12),
    ];
    for (case, change) in bad {
        assert_eq!(with(change), Err(CmsError::Malformed), "{case}");
    }
    let them = Recipient::generate().unwrap();
    assert_eq!(us.open(&seal(&Plan::default(), them.public_key(), &data_key)), Err(CmsError::WrongKey));
    for length in [16, 31, 33, 64] {
        let other = seal(&Plan::default(), us.public_key(), &vec![7; length]);
        assert_eq!(us.open(&other), Err(CmsError::OtherLength), "{length} bytes");
    }
}

/// A second opinion on CMS: OpenSSL writes it, streaming (BER, indefinite lengths) and not (DER).
#[test]
fn what_openssl_seals_to_us_opens() {
    let (us, folder) = (Recipient::generate().unwrap(), tempfile::tempdir().unwrap());
    let certificate = Authority::new(1).certificate("enclave", us.public_key(), vec![]);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate));
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("recipient"), pem).unwrap();
    std::fs::write(path("data-key"), [7; 32]).unwrap();
    for (mode, first) in [(&["-stream"][..], [0x30, 0x80]), (&[], [0x30, 0x82])] {
        let mut command = Command::new("openssl");
        command.args(["cms", "-encrypt", "-binary", "-aes-256-cbc", "-outform", "DER"]).args(mode);
        command.arg("-in").arg(path("data-key")).arg("-out").arg(path("sealed"));
        command.arg("-recip").arg(path("recipient"));
        command.args(["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]);
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let sealed = std::fs::read(path("sealed")).unwrap();
        assert_eq!(sealed[..2], first);
        assert_eq!(*us.open(&sealed).unwrap(), [7; 32]);
    }
}

#[test]
fn the_program_says_that_this_is_no_enclave() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("settings.json");
    let keys = KEYS.map(|arn| format!(r#"{{"arn":"{arn}","via":"vsock:3:8443"}}"#)).join(",");
    let text = format!(
        r#"{{"deployment":"{}","generation":1,"credentials":"vsock:3:8001","sealings":"vsock:3:8002","newSealings":"vsock:3:8003","kms":[{keys}]}}"#,
        world.settings().deployment
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfkey-keeper"));
    let output = command.arg("--nitro").arg(&path).args(["--vsock", "5000"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.contains("/dev/nsm does not open: this is not a Nitro enclave")),
        (Some(1), true),
        "{said}"
    );
}
