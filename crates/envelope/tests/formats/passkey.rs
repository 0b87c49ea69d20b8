//! The passkey door: stanzas of every mode, the release between a device and a keeper, and what a passkey gives. The
//! keeper's verification of assertions is tested in `halfkey-keeper`.

use halfkey_envelope::{
    all_of::Part,
    entropy::DangerSeededEntropy,
    hash::sha256,
    hpke::SecretKey,
    id::{BackupId, ClientId, DeploymentId},
    keeper::{self, Answer, Request},
    passkey::{
        Assertion, Context, Credential, CredentialKey, Error, Fault, KeeperContents, Mode, NewCredential, Op,
        PendingRelease, Prf, PrfOutput, Registration, Release, ReleaseAnswer, SealParams, Stanza, base64url, challenge,
        check_origin, check_rp_id, open_request, prf_input, seal,
    },
};
use serde_json::{Value, json};

use crate::{
    golden::golden,
    sample,
    vectors::{repository, vectors},
};

pub const RP_ID: &str = "wallet.example";
pub const KEY_ID: u32 = 3;
pub const PRF_SALT: [u8; 32] = [0x5a; 32];

pub fn keeper() -> SecretKey {
    SecretKey::from_seed(&[0xb1; 32])
}

pub fn origins() -> Vec<String> {
    vec!["https://wallet.example".to_owned(), format!("android:apk-key-hash:{}", base64url(&[0xc1; 32]))]
}

pub fn context() -> Context {
    Context {
        deployment: DeploymentId::from_bytes(sample::id(0x20)),
        client: ClientId::from_bytes(sample::id(0x30)),
        backup: BackupId::from_bytes(sample::id(0x40)),
    }
}

pub fn credentials() -> Vec<Credential> {
    let credential = |fill: u8, key| Credential {
        id: vec![fill; 16],
        key,
        backup_eligible: fill != 0xd2,
        transports: vec!["internal".to_owned(), "hybrid".to_owned()],
    };
    vec![
        credential(0xd1, CredentialKey::Es256 { x: [0xe1; 32], y: [0xe2; 32] }),
        credential(0xd2, CredentialKey::EdDsa { x: [0xe3; 32] }),
        credential(0xd3, CredentialKey::Rs256 { n: Box::new([0xe4; 256]), e: [1, 0, 1] }),
    ]
}

pub fn output(fill: u8) -> PrfOutput {
    PrfOutput::new(&[fill; 32]).unwrap()
}

pub fn stanza(mode: Mode, seed: u64) -> Vec<u8> {
    let credentials = credentials();
    let outputs = [output(1), output(2), output(3)];
    let outputs: Vec<_> =
        credentials.iter().zip(&outputs).map(|(credential, output)| (&credential.id[..], output)).collect();
    let params = SealParams {
        mode,
        context: context(),
        rp_id: RP_ID,
        origins: &origins(),
        credentials: &credentials,
        keeper: mode.has_keeper().then(|| (KEY_ID, keeper().public_key())),
        prf: mode.has_prf().then_some(Prf { salt: PRF_SALT, outputs: &outputs }),
    };
    seal(&params, &sample::record().to_bytes(), &mut DangerSeededEntropy::new(seed)).unwrap()
}

pub fn keeper_part(stanza: &[u8]) -> Part {
    let inside = Stanza::parse(stanza).unwrap().open_keeper_part(&keeper()).unwrap();
    Part::from_bytes(&inside.part).unwrap()
}

pub fn contents() -> KeeperContents {
    Stanza::parse(&stanza(Mode::Keeper, 1)).unwrap().open_keeper_part(&keeper()).unwrap()
}

pub fn release() -> Release {
    let to = keeper().public_key();
    let stanza = stanza(Mode::Keeper, 1);
    Release::begin((KEY_ID, &to), Op::Recover, &stanza, &context(), &mut DangerSeededEntropy::new(4)).unwrap()
}

pub fn pending() -> (PendingRelease, ReleaseAnswer) {
    let (request, pending) = release().request(&assertion()).unwrap();
    let Ok(Request::Release { key_id, sealed, .. }) = keeper::decode_request(&request) else { panic!() };
    (pending, open_request(&keeper(), key_id, &sealed).unwrap().1)
}

pub fn assertion() -> Assertion {
    Assertion {
        credential_id: vec![0xd1; 16],
        authenticator_data: [&sha256(RP_ID.as_bytes())[..], &[0x1d, 0, 0, 0, 0]].concat(),
        client_data_json: br#"{"type":"webauthn.get"}"#.to_vec(),
        signature: vec![0x30; 70],
        user_handle: Some(vec![7; 8]),
    }
}

#[test]
fn every_mode_opens_with_exactly_its_parts() {
    let record = sample::record().to_bytes();
    for mode in Mode::ALL {
        assert_eq!(mode.to_string().parse::<Mode>(), Ok(mode));
        let bytes = stanza(mode, 1);
        let stanza = Stanza::parse(&bytes).unwrap();
        let header = stanza.header();
        assert_eq!((header.mode, &header.rp_id[..]), (mode, RP_ID));
        assert_eq!(header.key_id, mode.has_keeper().then_some(KEY_ID));
        assert_eq!(header.prf_salt, mode.has_prf().then_some(PRF_SALT));
        let part = mode.has_keeper().then(|| keeper_part(&bytes));
        for (credential, fill) in credentials().iter().zip(1..) {
            let right = output(fill);
            let prf = mode.has_prf().then_some((&credential.id[..], &right));
            assert_eq!(stanza.open(&context(), part.as_ref(), prf).unwrap(), record, "{mode}");
            if mode.has_prf() {
                let wrong = output(9);
                let refused = stanza.open(&context(), part.as_ref(), Some((&credential.id, &wrong))).unwrap_err();
                assert_eq!(refused, Error::DoesNotOpen, "{mode}");
                let refused = stanza.open(&context(), part.as_ref(), None).unwrap_err();
                assert_eq!(refused, Error::MissingPart(mode));
            }
            if mode.has_keeper() {
                assert_eq!(stanza.open(&context(), None, prf).unwrap_err(), Error::MissingPart(mode));
                let foreign = keeper_part(&self::stanza(mode, 2));
                assert_eq!(stanza.open(&context(), Some(&foreign), prf).unwrap_err(), Error::DoesNotOpen);
            }
        }
    }
}

#[test]
fn a_request_is_answered_by_the_pinned_keeper_only() {
    let stanza = stanza(Mode::Keeper, 1);
    let mut entropy = DangerSeededEntropy::new(5);
    let mut begin = || {
        let to = keeper().public_key();
        Release::begin((KEY_ID, &to), Op::Recover, &stanza, &context(), &mut entropy).unwrap()
    };
    let (release, other) = (begin(), begin());
    assert_ne!(release.challenge(), other.challenge(), "a fresh one-time key each time");
    let signed = *release.challenge();
    let (request, pending) = release.request(&assertion()).unwrap();
    let Request::Release { key_id, stanza: sent, sealed } = keeper::decode_request(&request).unwrap() else {
        panic!("another request")
    };
    assert_eq!((key_id, &sent), (KEY_ID, &stanza));
    let (body, answer) = open_request(&keeper(), key_id, &sealed).unwrap();
    assert_eq!((body.op, body.context), (Op::Recover, context()));
    assert_eq!(body.assertion, Assertion { user_handle: None, ..assertion() });
    let enc = halfkey_envelope::hpke::encapsulation(&sealed).unwrap();
    assert_eq!(challenge(body.op, &enc, &sent, &body.context), signed);

    let part = keeper_part(&stanza);
    let mut entropy = DangerSeededEntropy::new(6);
    let answer = Answer::Released(answer.seal(&part.to_bytes(), &mut entropy));
    let answer = keeper::encode_answer(&answer);
    let (_, another) = other.request(&assertion()).unwrap();
    assert_eq!(another.finish(&answer).unwrap_err(), Error::ForgedAnswer, "only for the one-time key that asked");
    let opened = pending.finish(&answer).unwrap();
    assert_eq!(opened.to_bytes(), part.to_bytes());
    let record = Stanza::parse(&stanza).unwrap().open(&context(), Some(&opened), None).unwrap();
    assert_eq!(record, sample::record().to_bytes());
}

fn assertion_of_the_vector() -> Assertion {
    let data = br#"{"type":"webauthn.get","challenge":"AA","origin":"https://wallet.example"}"#;
    Assertion { client_data_json: data.to_vec(), ..assertion() }
}

fn context_json() -> Value {
    let Context { deployment, client, backup } = context();
    json!({"deployment": deployment.to_string(), "client": client.to_string(), "backup": backup.to_string()})
}

fn credential_json(credential: &Credential, output: u8) -> Value {
    json!({
        "id": hex::encode(&credential.id),
        "transports": credential.transports,
        "cose_key": hex::encode(credential.key.to_cose()),
        "backup_eligible": credential.backup_eligible,
        "prf_output": hex::encode([output; 32]),
    })
}

fn stanza_vector(mode: Mode, seed: u64) -> Value {
    json!({
        "entropy_seed": seed,
        "mode": mode.as_str(),
        "rp_id": RP_ID,
        "origins": origins(),
        "key_id": KEY_ID,
        "context": context_json(),
        "credentials": credentials().iter().zip(1..).map(|(one, fill)| credential_json(one, fill)).collect::<Vec<_>>(),
        "prf_salt": hex::encode(PRF_SALT),
        "prf_input": hex::encode(prf_input(&PRF_SALT)),
        "record": hex::encode(sample::record().to_bytes().as_slice()),
        "stanza": hex::encode(stanza(mode, seed)),
    })
}

/// Request and answer of a release, and what was signed.
fn exchange(seed: u64) -> ([u8; 32], Vec<u8>, Vec<u8>) {
    let stanza = stanza(Mode::Keeper, 1);
    let mut entropy = DangerSeededEntropy::new(seed);
    let to = keeper().public_key();
    let release = Release::begin((KEY_ID, &to), Op::Recover, &stanza, &context(), &mut entropy).unwrap();
    let challenge = *release.challenge();
    let (request, _) = release.request(&assertion_of_the_vector()).unwrap();
    let Ok(Request::Release { key_id, sealed, .. }) = keeper::decode_request(&request) else { panic!() };
    let (_, answer) = open_request(&keeper(), key_id, &sealed).unwrap();
    let answer = answer.seal(&keeper_part(&stanza).to_bytes(), &mut DangerSeededEntropy::new(seed + 1));
    (challenge, request, keeper::encode_answer(&Answer::Released(answer)))
}

fn release_vector(seed: u64) -> Value {
    let (challenge, request, answer) = exchange(seed);
    let assertion = assertion_of_the_vector();
    json!({
        "entropy_seeds": { "stanza": 1, "request": seed, "answer": seed + 1 },
        "key_id": KEY_ID,
        "op": 2,
        "context": context_json(),
        "credential_id": hex::encode(assertion.credential_id),
        "authenticator_data": hex::encode(assertion.authenticator_data),
        "client_data_json": hex::encode(assertion.client_data_json),
        "signature": hex::encode(assertion.signature),
        "challenge": hex::encode(challenge),
        "request": hex::encode(request),
        "answer": hex::encode(answer),
    })
}

fn all() -> Value {
    json!({
        "keeper": {
            "seed": hex::encode([0xb1; 32]),
            "secret_key": hex::encode(keeper().to_bytes().as_slice()),
            "public_key": hex::encode(keeper().public_key().as_bytes()),
        },
        "stanzas": Mode::ALL.into_iter().zip(1..).map(|(mode, seed)| stanza_vector(mode, seed)).collect::<Vec<_>>(),
        "releases": [release_vector(10)],
    })
}

#[test]
fn what_is_sealed_today_is_what_the_vectors_say() {
    assert_eq!(vectors("passkey.json"), all());
}

/// Writes the files where there are none. What exists is never replaced: a change of format is a new version.
#[test]
#[ignore = "run by hand once per new version of a format"]
fn write_the_vectors_once() {
    let write = |name: String, bytes: &[u8]| {
        let mut file = std::fs::File::create_new(repository().join(name)).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    write("tests/vectors/passkey.json".to_owned(), format!("{:#}\n", all()).as_bytes());
    for mode in Mode::ALL {
        write(format!("tests/golden/{}", golden_name(mode)), &stanza(mode, 100));
    }
    let (_, request, answer) = exchange(200);
    write("tests/golden/release-request-v1.bin".to_owned(), &request);
    write("tests/golden/release-answer-v1.bin".to_owned(), &answer);
}

fn golden_name(mode: Mode) -> String {
    format!("stanza-{}-v1.bin", mode.as_str().replace('+', "-and-"))
}

#[test]
fn stanzas_v1_open_for_ever() {
    let record = sample::record().to_bytes();
    for mode in Mode::ALL {
        let bytes = golden(&golden_name(mode));
        let stanza = Stanza::parse(&bytes).unwrap();
        let part = mode.has_keeper().then(|| keeper_part(&bytes));
        for (credential, fill) in credentials().iter().zip(1..) {
            let output = output(fill);
            let prf = mode.has_prf().then_some((&credential.id[..], &output));
            assert_eq!(stanza.open(&context(), part.as_ref(), prf).unwrap(), record, "{mode}");
        }
        if mode.has_keeper() {
            let inside = stanza.open_keeper_part(&keeper()).unwrap();
            assert_eq!((inside.context, inside.mode, &inside.rp_id[..]), (context(), mode, RP_ID));
            assert_eq!(inside.origins, origins());
            for (inside, credential) in inside.credentials.iter().zip(credentials()) {
                assert_eq!((&inside.id, &inside.key), (&credential.id, &credential.key));
                assert_eq!(bool::from(inside.backup_eligible), credential.backup_eligible);
            }
        }
    }
}

#[test]
fn release_v1_opens_for_ever() {
    let request = keeper::decode_request(&golden("release-request-v1.bin")).unwrap();
    let Request::Release { key_id, stanza, sealed } = request else { panic!() };
    let (body, key) = open_request(&keeper(), key_id, &sealed).unwrap();
    assert_eq!((body.op, body.context), (Op::Recover, context()));
    assert_eq!(body.assertion, Assertion { user_handle: None, ..assertion_of_the_vector() });
    let Ok(Answer::Released(answer)) = keeper::decode_answer(&golden("release-answer-v1.bin")) else { panic!() };
    let part = Part::from_bytes(&key.open(&answer).unwrap()).unwrap();
    let record = Stanza::parse(&stanza).unwrap().open(&context(), Some(&part), None).unwrap();
    assert_eq!(record, sample::record().to_bytes());
}

fn parameters<'a>(mode: Mode, origins: &'a [String], credentials: &'a [Credential]) -> SealParams<'a> {
    let keeper = mode.has_keeper().then(|| (KEY_ID, keeper().public_key()));
    SealParams { mode, context: context(), rp_id: RP_ID, origins, credentials, keeper, prf: None }
}

#[test]
fn contradictory_parameters_are_refused_before_anything_is_sealed() {
    let (origins, credentials) = (origins(), credentials());
    let refused = |change: &dyn Fn(&mut SealParams<'_>)| {
        let mut params = parameters(Mode::Keeper, &origins, &credentials);
        change(&mut params);
        seal(&params, b"record", &mut DangerSeededEntropy::new(1)).map_err(Error::code).err()
    };
    assert_eq!(refused(&|_| {}), None);
    let many: Vec<_> = (0..17).map(|fill| Credential { id: vec![fill; 4], ..credentials[0].clone() }).collect();
    let twice = [credentials[0].clone(), credentials[0].clone()];
    let nameless = [Credential { id: vec![], ..credentials[0].clone() }];
    let long_id = [Credential { id: vec![1; 1024], ..credentials[0].clone() }];
    let odd_transport = [Credential { transports: vec!["a b".to_owned()], ..credentials[0].clone() }];
    let huge: Vec<_> = (0..8).map(|fill| Credential { id: vec![fill; 600], ..credentials[0].clone() }).collect();
    assert_eq!(refused(&|params| params.keeper = None), Some("BAD_PARAMETERS"));
    assert_eq!(refused(&|params| params.mode = Mode::Prf), Some("BAD_PARAMETERS"));
    assert_eq!(refused(&|params| params.mode = Mode::KeeperAndPrf), Some("BAD_PARAMETERS"));
    assert_eq!(refused(&|params| params.rp_id = "Wallet.example"), Some("BAD_PARAMETERS"));
    assert_eq!(refused(&|params| params.origins = &[]), Some("BAD_PARAMETERS"));
    assert_eq!(refused(&|params| params.credentials = &[]), Some("BAD_PARAMETERS"));
    for (name, credentials) in
        [("many", &many[..]), ("twice", &twice), ("no id", &nameless), ("long id", &long_id), ("hint", &odd_transport)]
    {
        let mut params = parameters(Mode::Keeper, &origins, credentials);
        params.credentials = credentials;
        let refused = seal(&params, b"record", &mut DangerSeededEntropy::new(1)).map_err(Error::code);
        assert_eq!(refused.err(), Some("BAD_PARAMETERS"), "{name}");
    }
    let refused = seal(&parameters(Mode::Keeper, &origins, &huge), b"record", &mut DangerSeededEntropy::new(1));
    assert_eq!(refused.err(), Some(Error::TooLarge));
    let refused = seal(&parameters(Mode::Keeper, &origins, &credentials), &[0; 5000], &mut DangerSeededEntropy::new(1));
    assert_eq!(refused.err(), Some(Error::TooLarge));
}

#[test]
fn a_prf_stanza_needs_an_output_for_every_passkey_and_each_must_be_usable() {
    for unusable in [&[0u8; 32][..], &[1; 31], &[1; 33], &[]] {
        assert_eq!(PrfOutput::new(unusable).unwrap_err(), Error::UnusablePrf);
    }
    let (origins, credentials, one) = (origins(), credentials(), output(1));
    let ids: Vec<&[u8]> = credentials.iter().map(|credential| &credential.id[..]).collect();
    for outputs in [&[][..], &[(ids[0], &one)], &[(ids[0], &one), (ids[1], &one), (ids[1], &one)]] {
        let mut params = parameters(Mode::Prf, &origins, &credentials);
        params.prf = Some(Prf { salt: PRF_SALT, outputs });
        let refused = seal(&params, b"record", &mut DangerSeededEntropy::new(1)).map_err(Error::code);
        assert_eq!(refused.err(), Some("BAD_PARAMETERS"), "{} outputs", outputs.len());
    }
    // Equal outputs are compared without a hint of where they differ.
    use subtle::ConstantTimeEq;
    assert!(bool::from(output(1).ct_eq(&output(1))) && !bool::from(output(1).ct_eq(&output(2))));
}

#[test]
fn a_part_of_another_backup_or_passkey_is_told_apart() {
    let mut other = context();
    other.backup = BackupId::from_bytes([0x77; 16]);
    let (keeper, prf) = (stanza(Mode::Keeper, 1), stanza(Mode::Prf, 2));
    let part = keeper_part(&keeper);
    assert_eq!(Stanza::parse(&keeper).unwrap().open(&other, Some(&part), None).unwrap_err(), Error::OtherContext);
    let (credentials, output) = (credentials(), output(1));
    let stanza = Stanza::parse(&prf).unwrap();
    let with = |context: &Context, id: &[u8]| stanza.open(context, None, Some((id, &output))).map(|_| ()).unwrap_err();
    assert_eq!(with(&other, &credentials[0].id), Error::OtherContext);
    assert_eq!(with(&context(), &credentials[1].id), Error::DoesNotOpen);
    assert_eq!(with(&context(), b"nobody"), Error::UnknownCredential);
    assert_eq!(stanza.open(&context(), Some(&part), None).unwrap_err(), Error::NoSuchPart(Mode::Prf));
    let to = self::keeper().public_key();
    let begun = Release::begin((KEY_ID, &to), Op::Verify, &prf, &context(), &mut DangerSeededEntropy::new(3));
    assert_eq!(begun.err(), Some(Error::NoSuchPart(Mode::Prf)));
}

/// The bits of the keeper's part and of all PRF parts but the first.
fn unread_bits(stanza: &[u8]) -> usize {
    let mut decoder = minicbor::Decoder::new(stanza);
    let mut bytes = 0;
    for _ in 0..decoder.map().unwrap().unwrap() {
        match decoder.u8().unwrap() {
            3 => bytes += decoder.bytes().unwrap().len(),
            4 => {
                let parts = decoder.array_iter::<&minicbor::bytes::ByteSlice>().unwrap();
                bytes += parts.skip(1).map(|part| part.unwrap().len()).sum::<usize>();
            }
            _ => decoder.skip().unwrap(),
        }
    }
    bytes * 8
}

/// The wraps and the record are not the keeper's to check: the device notices.
#[test]
fn no_changed_bit_of_a_stanza_opens_on_the_device() {
    let record = sample::record().to_bytes();
    let (credentials, output) = (credentials(), output(1));
    for mode in Mode::ALL {
        let genuine = stanza(mode, 9);
        let part = mode.has_keeper().then(|| keeper_part(&genuine));
        let prf = mode.has_prf().then_some((&credentials[0].id[..], &output));
        let mut untouched = 0;
        for bit in 0..genuine.len() * 8 {
            let mut changed = genuine.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = Stanza::parse(&changed).and_then(|stanza| stanza.open(&context(), part.as_ref(), prf));
            if let Ok(opened) = opened {
                // Only what this device does not read: the keeper's part, and the wraps of other passkeys.
                assert_eq!(opened, record);
                untouched += 1;
            }
        }
        assert_eq!(untouched, unread_bits(&genuine), "{mode}");
    }
}

fn created(flags: u8, id: &[u8], key: &[u8], tail: &[u8]) -> Vec<u8> {
    let hash = sha256(RP_ID.as_bytes());
    let length = (id.len() as u16).to_be_bytes();
    let data = [&hash[..], &[flags, 0, 0, 0, 0], &[0; 16], &length, id, key, tail].concat();
    let mut object = minicbor::Encoder::new(Vec::new());
    object.map(3).unwrap().str("fmt").unwrap().str("none").unwrap().str("attStmt").unwrap().map(0).unwrap();
    object.str("authData").unwrap().bytes(&data).unwrap();
    object.into_writer()
}

fn registration() -> Registration {
    let [es256, ..] = &credentials()[..] else { panic!() };
    Registration {
        credential_id: es256.id.clone(),
        attestation_object: created(0x5d, &es256.id, &es256.key.to_cose(), &[]),
        client_data_json: format!(
            r#"{{"type":"webauthn.create","challenge":"{}","origin":"https://wallet.example","crossOrigin":false}}"#,
            base64url(&[5; 32])
        )
        .into_bytes(),
        transports: vec!["internal".to_owned(), "made up by a page".to_owned()],
    }
}

#[test]
fn a_registration_is_checked_on_the_device_each_rule_with_its_own_code() {
    let check = |change: &dyn Fn(&mut Registration)| {
        let mut registration = registration();
        change(&mut registration);
        NewCredential::from_registration(&registration, &[5; 32], RP_ID, &origins())
    };
    let new = check(&|_| {}).unwrap();
    let [es256, ed25519, rs256] = &credentials()[..] else { panic!() };
    assert_eq!((&new.credential.id, &new.credential.key), (&es256.id, &es256.key));
    assert_eq!(new.credential.transports, ["internal"]);
    assert!(new.credential.backup_eligible && new.backed_up);
    for (flags, backup_eligible, backed_up) in [(0x45, false, false), (0x4d, true, false)] {
        let object = created(flags, &es256.id, &es256.key.to_cose(), &[]);
        let new = check(&|registration| registration.attestation_object = object.clone()).unwrap();
        assert_eq!((new.credential.backup_eligible, new.backed_up), (backup_eligible, backed_up));
    }
    for other in [ed25519, rs256] {
        let object = created(0xdd, &es256.id, &other.key.to_cose(), b"\xa1\x6bcredProtect\x02");
        let new = check(&|registration| registration.attestation_object = object.clone()).unwrap();
        assert_eq!(new.credential.key, other.key);
    }
    let replace = |from: &'static str, to: &'static str| {
        check(&move |registration| {
            let text = String::from_utf8(registration.client_data_json.clone()).unwrap().replace(from, to);
            registration.client_data_json = text.into_bytes();
        })
        .unwrap_err()
    };
    assert_eq!(replace("webauthn.create", "webauthn.get"), Fault::WrongType);
    assert_eq!(replace("BQUF", "BQUG"), Fault::WrongChallenge);
    assert_eq!(replace("wallet.example", "evil.example"), Fault::WrongOrigin);
    assert_eq!(replace("false", "true"), Fault::CrossOrigin);
    assert_eq!(replace(r#","crossOrigin":false"#, r#","topOrigin":"x""#), Fault::CrossOrigin);
    assert_eq!(replace("{", "["), Fault::Malformed);
    let key = es256.key.to_cose();
    let object = |flags, id: &[u8], key: &[u8], tail: &[u8]| {
        let object = created(flags, id, key, tail);
        check(&move |registration| registration.attestation_object = object.clone()).unwrap_err()
    };
    assert_eq!(object(0x5c, &es256.id, &key, &[]), Fault::UserNotPresent);
    assert_eq!(object(0x59, &es256.id, &key, &[]), Fault::UserNotVerified);
    assert_eq!(object(0x55, &es256.id, &key, &[]), Fault::Malformed, "BS without BE");
    assert_eq!(object(0x1d, &es256.id, &key, &[]), Fault::Malformed, "no attested credential");
    assert_eq!(object(0x5d, &es256.id, &key, &[0]), Fault::Malformed, "bytes behind");
    assert_eq!(object(0x5d, b"another", &key, &[]), Fault::UnknownCredential);
    assert_eq!(object(0x5d, &es256.id, &key[..70], &[]), Fault::Malformed);
    let mut es384 = key.clone();
    es384[4] = 0x27;
    assert_eq!(object(0x5d, &es256.id, &es384, &[]), Fault::UnsupportedKey);
    let elsewhere = NewCredential::from_registration(&registration(), &[5; 32], "other.example", &origins());
    assert_eq!(elsewhere.unwrap_err(), Fault::WrongRpId);
    let mut object = registration().attestation_object;
    object.push(0);
    assert_eq!(check(&|registration| registration.attestation_object = object.clone()).unwrap_err(), Fault::Malformed);
}

#[test]
fn a_key_is_read_in_any_order_and_stored_in_one() {
    let key = CredentialKey::EdDsa { x: [0xe3; 32] };
    let cose = key.to_cose();
    assert_eq!(hex::encode(&cose), format!("a4010103272006215820{}", "e3".repeat(32)));
    // -2, -1, 3, 1 instead of 1, 3, -1, -2.
    let turned = hex::decode(format!("a4215820{}200603270101", "e3".repeat(32))).unwrap();
    assert_eq!(CredentialKey::from_cose(&turned), Ok(key));
    let twice = hex::decode(format!("a501010327200620062158 20{}", "e3".repeat(32)).replace(' ', "")).unwrap();
    assert_eq!(CredentialKey::from_cose(&twice), Err(Fault::Malformed));
    for credential in credentials() {
        let cose = credential.key.to_cose();
        assert_eq!(CredentialKey::from_cose(&cose).unwrap(), credential.key);
        assert_eq!(CredentialKey::from_cose(&[&cose[..], &[0]].concat()), Err(Fault::Malformed));
    }
}

#[test]
fn origins_and_relying_parties_are_written_one_way() {
    for good in ["wallet.example", "localhost", "a-b.c1.example", "xn--bcher-kva.example"] {
        assert!(check_rp_id(good), "{good}");
    }
    for bad in
        ["", "Wallet.example", "wallet..example", ".example", "-a.example", "a b", "wallet.example:443", "é.example"]
    {
        assert!(!check_rp_id(bad), "{bad}");
    }
    let app = format!("android:apk-key-hash:{}", base64url(&[7; 32]));
    for good in
        ["https://wallet.example", "https://wallet.example:8443", "http://localhost:8787", "http://localhost", &app]
    {
        assert!(check_origin(good), "{good}");
    }
    let bad = [
        "",
        "wallet.example",
        "http://wallet.example",
        "https://",
        "https://wallet.example/",
        "https://wallet.example:443",
    ];
    let worse = [
        "https://wallet.example:0",
        "https://wallet.example:08",
        "https://a@b.example",
        "http://localhost:80",
        "ftp://x",
    ];
    for bad in bad.into_iter().chain(worse).chain(["android:apk-key-hash:AA", &app[..60], "https://WALLET.example"]) {
        assert!(!check_origin(bad), "{bad}");
    }
}
