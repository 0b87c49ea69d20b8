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
        Assertion, Context, Credential, CredentialKey, Error, Mode, Op, Prf, PrfOutput, Release, SealParams, Stanza,
        base64url, challenge, open_request, seal,
    },
};

use crate::sample;

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
