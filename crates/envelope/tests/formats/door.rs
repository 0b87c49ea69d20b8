//! The password door from the client's side, against a keeper of a dozen lines, and its known answers in
//! `tests/vectors/password-door.json`.

use halfkey_envelope::{
    door::{
        self, Answer, Evaluate, KdfParams, KeeperId, Mode, Outcome, Refusal, Register, SealedAnswer, Standing, Start,
        Ticket, Unlock, VERSION,
    },
    entropy::{DangerSeededEntropy, Entropy},
    hpke::SecretKey,
    id::{BackupId, ClientId, DeploymentId},
    oprf,
    password::{self, Error, Guess, Place, Registration, Starting, Stretched, Unlocking},
    recovery_code::{self, RecoveryCode},
    text::Password,
};
use serde_json::Value;

use crate::{
    golden::golden,
    vectors::{bytes, vectors},
};

const RECORD: &[u8] = b"a record";

fn place() -> Place {
    let (deployment, client) = (DeploymentId::from_bytes([0xd0; 16]), ClientId::from_bytes([0xc0; 16]));
    Place { deployment, client, backup: BackupId::from_bytes([0xb0; 16]) }
}

/// A password after the key derivation.
pub fn stretched(entropy: &mut dyn Entropy) -> Stretched {
    let key = SecretKey::generate(entropy).public_key();
    let context = password::new_context(place(), Mode::Password, KdfParams::FLOOR, &key, entropy);
    password::stretch(&Password::text("correct horse").unwrap(), &context).unwrap()
}

/// One registration at a keeper that counts nothing.
pub struct Flow {
    secret: SecretKey,
    body: Register,
}

impl Flow {
    /// Registers `text`.
    pub fn new(text: &str, entropy: &mut dyn Entropy) -> Self {
        let secret = SecretKey::generate(entropy);
        let key = secret.public_key();
        let context = password::new_context(place(), Mode::Password, KdfParams::FLOOR, &key, entropy);
        let stretched = password::stretch(&Password::text(text).unwrap(), &context).unwrap();
        let registration = Registration::new(&context, &stretched, RECORD, 10, &key, entropy).unwrap();
        let (body, _) = door::open_body(&secret, place().backup, registration.message()).unwrap();
        Self { secret, body }
    }

    fn answer<B: door::Body>(&self, sealed: &door::Sealed, outcome: Outcome, entropy: &mut dyn Entropy) -> Answer {
        let (_, key) = door::open_body::<B>(&self.secret, place().backup, sealed).unwrap();
        let answer = SealedAnswer { version: VERSION, backup: place().backup, standing: Standing::default(), outcome };
        door::seal_answer(&key, B::OPERATION, sealed.keeper, &answer, entropy)
    }

    fn offer(&self, context: door::Context, entropy: &mut dyn Entropy) -> Result<password::Offer, Error> {
        let starting = Starting::new(place(), &self.secret.public_key(), None, entropy).unwrap();
        let answer = self.answer::<Start>(starting.message(), Outcome::Offer { context }, entropy);
        starting.finish(&answer)
    }

    /// As far as the tag, with the password `text`.
    fn guess(&self, text: &str, entropy: &mut dyn Entropy) -> Result<Unlocking, Error> {
        let offer = self.offer(self.body.context.clone(), entropy)?;
        let stretched = password::stretch(&Password::text(text).unwrap(), offer.context())?;
        let guess = Guess::new(offer, stretched, entropy)?;
        let (asked, _) = door::open_body::<Evaluate>(&self.secret, place().backup, guess.message()).unwrap();
        let evaluated = oprf::evaluate_blinded(&self.body.oprf_key, &asked.blinded).unwrap().into();
        let ticket = Ticket::from_bytes([5; 16]);
        let outcome = Outcome::Evaluated { evaluated, commitment: self.body.commitment, ticket };
        guess.finish(&self.answer::<Evaluate>(guess.message(), outcome, entropy), entropy)
    }

    /// As far as the tag, with the right password.
    pub fn unlocking(&self, entropy: &mut dyn Entropy) -> Result<Unlocking, Error> {
        self.guess("correct horse", entropy)
    }
}

#[test]
fn a_wrong_password_never_gets_as_far_as_a_tag() {
    let entropy = &mut DangerSeededEntropy::new(40);
    let flow = Flow::new("correct horse", entropy);
    // Without an `Unlocking` there is nothing that could be sent.
    let wrong = flow.guess("correct house", entropy).err();
    assert_eq!(wrong, Some(Error::WrongSecret { standing: Standing::default() }));
    let unlocking = flow.unlocking(entropy).unwrap();
    let (asked, _) = door::open_body::<Unlock>(&flow.secret, place().backup, unlocking.message()).unwrap();
    assert_eq!(asked.tag.expose(), flow.body.tag.expose());
    assert_eq!(asked.ticket, Ticket::from_bytes([5; 16]));
    let (keeper_part, wrapped) =
        (door::KeeperPart::from_bytes((*flow.body.keeper_part.expose()).into()), flow.body.wrapped.clone());
    let outcome = Outcome::Unlocked { keeper_part, wrapped };
    let answer = flow.answer::<Unlock>(unlocking.message(), outcome, entropy);
    assert_eq!(unlocking.finish(&answer).unwrap().as_slice(), RECORD);
    let (keeper_part, mut wrapped) =
        (door::KeeperPart::from_bytes((*flow.body.keeper_part.expose()).into()), flow.body.wrapped.clone());
    let last = wrapped.len() - 1;
    wrapped[last] ^= 1;
    let answer = flow.answer::<Unlock>(unlocking.message(), Outcome::Unlocked { keeper_part, wrapped }, entropy);
    assert_eq!(unlocking.finish(&answer).err(), Some(Error::Damaged));
}

#[test]
fn an_offer_for_anything_else_is_refused() {
    let entropy = &mut DangerSeededEntropy::new(41);
    let flow = Flow::new("correct horse", entropy);
    let good = || flow.body.context.clone();
    assert!(flow.offer(good(), entropy).is_ok());
    let other_keeper = KeeperId::from_bytes([9; 8]);
    for (what, context) in [
        ("backup", door::Context { backup: BackupId::from_bytes([1; 16]), ..good() }),
        ("client", door::Context { client: ClientId::from_bytes([1; 16]), ..good() }),
        ("deployment", door::Context { deployment: DeploymentId::from_bytes([1; 16]), ..good() }),
        ("version", door::Context { version: 2, ..good() }),
        ("normaliser", door::Context { normaliser: 2, ..good() }),
        ("keeper", door::Context { keepers: vec![other_keeper], ..good() }),
        ("two keepers", door::Context { keepers: vec![good().keepers[0], other_keeper], ..good() }),
    ] {
        assert_eq!(flow.offer(context, entropy).err(), Some(Error::OtherContext), "{what}");
    }
    let starting = Starting::new(place(), &flow.secret.public_key(), None, entropy).unwrap();
    let refusal = Outcome::Refused { reason: Refusal::NotFound };
    let answer = flow.answer::<Start>(starting.message(), refusal, entropy);
    assert!(matches!(starting.finish(&answer), Err(Error::Refused { reason: Refusal::NotFound, .. })));
}

#[test]
fn key_derivation_is_bounded_both_ways() {
    for (memory, passes, lanes, good) in [
        (19 * 1024, 2, 1, true),
        (256 * 1024, 10, 4, true),
        (19 * 1024 - 1, 2, 1, false),
        (19 * 1024, 1, 1, false),
        (256 * 1024 + 1, 2, 1, false),
        (64 * 1024, 11, 1, false),
        (64 * 1024, 3, 5, false),
        (64 * 1024, 3, 0, false),
    ] {
        assert_eq!(KdfParams::new(memory, passes, lanes).is_ok(), good, "{memory} {passes} {lanes}");
        let encoded = [minicbor_array(&[memory, passes, lanes])].concat();
        let decoded: Result<KdfParams, _> = halfkey_envelope::cbor::from_slice(&encoded);
        assert_eq!(decoded.is_ok(), good, "decoded {memory} {passes} {lanes}");
    }
}

fn minicbor_array(numbers: &[u32]) -> Vec<u8> {
    halfkey_envelope::cbor::to_vec(numbers)
}

#[test]
fn recovery_code_vectors() {
    for vector in vectors("password-door.json")["recovery_codes"].as_array().unwrap() {
        let shown = vector["shown"].as_str().unwrap();
        let code = RecoveryCode::parse(shown).unwrap();
        assert_eq!(code.display().as_str(), shown);
        let place = recovery_code::Place {
            deployment: DeploymentId::from_bytes(array(&vector["deployment"])),
            client: ClientId::from_bytes(array(&vector["client"])),
            backup: BackupId::from_bytes(array(&vector["backup"])),
        };
        let sealed = bytes(&vector["sealed"]);
        assert_eq!(*recovery_code::open_record(&code, place, &sealed).unwrap(), bytes(&vector["record"]));
    }
}

#[test]
fn normalisation_vectors() {
    for vector in vectors("password-door.json")["normalisation"].as_array().unwrap() {
        let mode = if vector["mode"] == "pin" { Mode::Pin } else { Mode::Password };
        let input = String::from_utf8(bytes(&vector["input"])).unwrap();
        let normalised = Password::parse(mode, &input).ok().map(|password| hex::encode(password.expose()));
        assert_eq!(normalised.as_deref(), vector["normalised"].as_str(), "{input:?}");
    }
}

#[test]
fn derivation_vectors() {
    for vector in vectors("password-door.json")["derivations"].as_array().unwrap() {
        let keeper = SecretKey::from_seed(&array(&vector["keeper_seed"]));
        let kdf = &vector["kdf"];
        let number = |index: usize| u32::try_from(kdf[index].as_u64().unwrap()).unwrap();
        let context = door::Context {
            version: VERSION,
            deployment: DeploymentId::from_bytes(array(&vector["deployment"])),
            client: ClientId::from_bytes(array(&vector["client"])),
            backup: BackupId::from_bytes(array(&vector["backup"])),
            ver: door::Ver::from_bytes(array(&vector["ver"])),
            mode: if vector["mode"] == "pin" { Mode::Pin } else { Mode::Password },
            normaliser: door::NORMALISER,
            kdf: KdfParams::new(number(0), number(1), number(2)).unwrap(),
            keepers: vec![KeeperId::of(&keeper.public_key())],
        };
        assert_eq!(context.keepers[0].to_string(), vector["keeper_id"].as_str().unwrap());
        assert_eq!(hex::encode(context.digest()), vector["context_digest"].as_str().unwrap());
        let text = String::from_utf8(bytes(&vector["password"])).unwrap();
        let stretched = password::stretch(&Password::parse(context.mode, &text).unwrap(), &context).unwrap();
        let entropy = &mut DangerSeededEntropy::new(vector["entropy_seed"].as_u64().unwrap());
        let record = bytes(&vector["record"]);
        let registration = Registration::new(&context, &stretched, &record, 10, &keeper.public_key(), entropy).unwrap();
        let (body, _) = door::open_body::<Register>(&keeper, context.backup, registration.message()).unwrap();
        for (name, found) in [
            ("oprf_key", body.oprf_key.expose().as_slice()),
            ("commitment", body.commitment.as_slice()),
            ("tag", body.tag.expose().as_slice()),
            ("keeper_part", body.keeper_part.expose().as_slice()),
            ("wrapped", body.wrapped.as_slice()),
        ] {
            assert_eq!(hex::encode(found), vector[name].as_str().unwrap(), "{name}");
        }
    }
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Prints new vectors; run by hand, once for each new version of the format.
#[test]
#[ignore = "writes vectors, checks nothing"]
fn print_password_door_vectors() {
    let keeper_seed = [0x5e; 32];
    let keeper = SecretKey::from_seed(&keeper_seed);
    let mut derivations = Vec::new();
    let cases = [("correct horse", Mode::Password, [19 * 1024, 2, 1]), ("٣٨٥١٩٧", Mode::Pin, [64 * 1024, 3, 1])];
    for (seed, (text, mode, kdf)) in (60u64..).zip(cases) {
        let kdf_params = KdfParams::new(kdf[0], kdf[1], kdf[2]).unwrap();
        let entropy = &mut DangerSeededEntropy::new(seed);
        let context = password::new_context(place(), mode, kdf_params, &keeper.public_key(), entropy);
        let stretched = password::stretch(&Password::parse(mode, text).unwrap(), &context).unwrap();
        let entropy = &mut DangerSeededEntropy::new(seed);
        let registration = Registration::new(&context, &stretched, RECORD, 10, &keeper.public_key(), entropy).unwrap();
        let (body, _) = door::open_body::<Register>(&keeper, context.backup, registration.message()).unwrap();
        derivations.push(serde_json::json!({
            "entropy_seed": seed, "keeper_seed": hex::encode(keeper_seed),
            "keeper_id": context.keepers[0].to_string(), "deployment": hex::encode(context.deployment.as_bytes()),
            "client": hex::encode(context.client.as_bytes()), "backup": hex::encode(context.backup.as_bytes()),
            "ver": context.ver.to_string(), "mode": if mode == Mode::Pin { "pin" } else { "password" }, "kdf": kdf,
            "password": hex::encode(text), "record": hex::encode(RECORD),
            "context_digest": hex::encode(context.digest()), "oprf_key": hex::encode(body.oprf_key.expose()),
            "commitment": hex::encode(body.commitment.as_slice()), "tag": hex::encode(body.tag.expose()),
            "keeper_part": hex::encode(body.keeper_part.expose()), "wrapped": hex::encode(body.wrapped.as_slice()),
        }));
    }
    let codes = (70u64..73).map(|seed| {
        let entropy = &mut DangerSeededEntropy::new(seed);
        let code = RecoveryCode::generate(entropy);
        let Place { deployment, client, backup } = place();
        let place = recovery_code::Place { deployment, client, backup };
        let sealed = recovery_code::seal_record(&code, place, RECORD, entropy);
        serde_json::json!({
            "shown": code.display().as_str(), "deployment": hex::encode(deployment.as_bytes()),
            "client": hex::encode(client.as_bytes()), "backup": hex::encode(backup.as_bytes()),
            "record": hex::encode(RECORD), "sealed": hex::encode(sealed),
        })
    });
    let texts = [
        ("password", "re\u{301}sume\u{301}"),
        ("password", "two\u{3000}words"),
        ("password", " Kept  Spaces "),
        ("password", "\u{1f511} key"),
        ("password", "\u{ff50}ass"),
        ("password", "\u{212b}ngstr\u{f6}m"),
        ("password", "a\u{7}b"),
        ("password", ""),
        ("pin", "٣٨٥١٩٧"),
        ("pin", "३८५१९७"),
        ("pin", "\u{ff13}85197"),
        ("pin", "\u{1d7d1}85197"),
        ("pin", "12345²"),
        ("pin", "12 345"),
        ("pin", ""),
    ];
    let normalisation = texts.map(|(mode, text)| {
        let parsed = Password::parse(if mode == "pin" { Mode::Pin } else { Mode::Password }, text);
        let normalised = parsed.ok().map(|password| hex::encode(password.expose()));
        serde_json::json!({ "mode": mode, "input": hex::encode(text), "normalised": normalised })
    });
    let all = serde_json::json!({
        "derivations": derivations, "recovery_codes": codes.collect::<Vec<_>>(), "normalisation": normalisation,
    });
    std::fs::write(std::env::var("VECTORS_TO").unwrap(), serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
}

/// Files of the first release, which must be read for ever.
#[test]
fn golden_messages_and_a_golden_coded_record_are_read() {
    let request = golden("door-request-v1.bin");
    let parsed = door::Request::from_bytes(&request).unwrap();
    let door::Request::Evaluate { backup, .. } = &parsed else { panic!("an evaluation") };
    assert_eq!(*backup, place().backup);
    assert_eq!(parsed.to_bytes(), request);
    let reply = golden("door-reply-v1.bin");
    let parsed = door::Reply::from_bytes(&reply).unwrap();
    let door::Reply::Status { status } = &parsed else { panic!("a status") };
    assert_eq!((status.state, status.standing.remaining), (door::State::Active, 7));
    assert_eq!(parsed.to_bytes(), reply);
    let code =
        RecoveryCode::parse(vectors("password-door.json")["recovery_codes"][0]["shown"].as_str().unwrap()).unwrap();
    let Place { deployment, client, backup } = place();
    let place = recovery_code::Place { deployment, client, backup };
    let opened = recovery_code::open_record(&code, place, &golden("recovery-code-v1.bin")).unwrap();
    assert_eq!(opened.as_slice(), RECORD);
}

/// Writes the golden files; run by hand, once for each new version of the format.
#[test]
#[ignore = "writes golden files, checks nothing"]
fn write_golden_door_files() {
    let folder = std::path::PathBuf::from(std::env::var("GOLDEN_TO").unwrap());
    let sealed = door::Sealed { keeper: KeeperId::from_bytes([1; 8]), message: vec![2; 100].into() };
    let request = door::Request::Evaluate { backup: place().backup, sealed };
    let standing =
        Standing { remaining: 7, not_before_ms: 1_763_800_060_000, locked: false, wrong: 3, back_up_anew: false };
    let ver = Some(door::Ver::from_bytes([3; 16]));
    let status = door::Status { state: door::State::Active, ver, proven: true, standing };
    let coded = bytes(&vectors("password-door.json")["recovery_codes"][0]["sealed"]);
    std::fs::write(folder.join("door-request-v1.bin"), request.to_bytes()).unwrap();
    std::fs::write(folder.join("door-reply-v1.bin"), door::Reply::Status { status }.to_bytes()).unwrap();
    std::fs::write(folder.join("recovery-code-v1.bin"), coded).unwrap();
}
