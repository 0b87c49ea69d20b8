//! What is fuzzed of the passkey door: one function per parser, called by the fuzz targets and by a property test of
//! `halfkey-envelope`. What decodes is the one encoding of its value where there is one; only genuine bytes open.

use halfkey_envelope::{
    all_of::Part,
    entropy::DangerSeededEntropy,
    hash::sha256,
    hpke::{self, SecretKey},
    id::{BackupId, ClientId, DeploymentId},
    keeper::{self, Request},
    passkey::{
        Assertion, AuthenticatorData, ClientData, Context, Credential, CredentialKey, Mode, NewCredential, Op, Prf,
        PrfOutput, Registration, Release, SealParams, Stanza, base64url, open_request, seal,
    },
};

const KEY_ID: u32 = 1;
const RECORD: &[u8] = b"record";

fn keeper() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn context() -> Context {
    Context {
        deployment: DeploymentId::from_bytes([4; 16]),
        client: ClientId::from_bytes([5; 16]),
        backup: BackupId::from_bytes([6; 16]),
    }
}

fn credential() -> Credential {
    let key = CredentialKey::Es256 { x: [1; 32], y: [2; 32] };
    Credential { id: vec![3; 16], key, backup_eligible: true, transports: vec!["internal".to_owned()] }
}

fn origins() -> Vec<String> {
    vec!["https://wallet.example".to_owned()]
}

/// Genuine input of [`stanza`].
pub fn genuine_stanza() -> Vec<u8> {
    let (credential, output) = (credential(), PrfOutput::new(&[8; 32]).expect("usable"));
    let params = SealParams {
        mode: Mode::KeeperAndPrf,
        context: context(),
        rp_id: "wallet.example",
        origins: &origins(),
        credentials: std::slice::from_ref(&credential),
        keeper: Some((KEY_ID, keeper().public_key())),
        prf: Some(Prf { salt: [9; 32], outputs: &[(&credential.id, &output)] }),
    };
    seal(&params, RECORD, &mut DangerSeededEntropy::new(1)).expect("good parameters")
}

/// A stanza: whoever has both parts opens the genuine bytes and no others.
pub fn stanza(bytes: &[u8]) {
    let Ok(stanza) = Stanza::parse(bytes) else { return };
    let Ok(inside) = stanza.open_keeper_part(&keeper()) else { return };
    let part = Part::from_bytes(&inside.part).expect("sealed by us");
    let (credential, output) = (credential(), PrfOutput::new(&[8; 32]).expect("usable"));
    if let Ok(record) = stanza.open(&context(), Some(&part), Some((&credential.id, &output))) {
        assert_eq!(*record, RECORD);
        assert_eq!(bytes, genuine_stanza(), "nothing but the genuine stanza opens");
    }
}

fn byte_string(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) => [&[0x58, length][..], bytes].concat(),
        (_, Ok(length)) => [&[0x59][..], &length.to_be_bytes(), bytes].concat(),
        _ => Vec::new(),
    }
}

/// What stands inside a keeper's part, sealed by somebody who has nothing but the public key: anybody.
pub fn keeper_part(bytes: &[u8]) {
    keeper_part_opens(bytes);
}

/// Whether they are what a keeper accepts.
pub fn keeper_part_opens(bytes: &[u8]) -> bool {
    // {1: 1, 2: 1, 3: "a.example", 4: [{1: h'07', 2: []}], 5: 1}
    let header = b"\xa5\x01\x01\x02\x01\x03\x69a.example\x04\x81\xa2\x01\x41\x07\x02\x80\x05\x01".to_vec();
    let to = keeper().public_key();
    let Ok(sealed) =
        hpke::seal_to(&to, b"halfkey/keeper/v1/stanza/1", &header, bytes, &mut DangerSeededEntropy::new(2))
    else {
        return false;
    };
    let stanza = [&[0xa4, 1, 1, 2][..], &byte_string(&header), &[3], &byte_string(&sealed), &[5, 0x41, 0]].concat();
    let Ok(stanza) = Stanza::parse(&stanza) else { return false };
    let Ok(inside) = stanza.open_keeper_part(&keeper()) else { return false };
    assert_eq!((inside.mode, &inside.rp_id[..]), (Mode::Keeper, "a.example"));
    assert!((1..=16).contains(&inside.origins.len()) && inside.credentials.len() == 1);
    assert!(inside.part.len() <= 128);
    true
}

/// Genuine input of [`keeper_part`].
pub fn genuine_keeper_part() -> Vec<u8> {
    let mut cose = vec![0x58, 77];
    cose.extend(credential().key.to_cose());
    let ids = [&b"\xa3\x01\x50"[..], &[4; 16], b"\x02\x50", &[5; 16], b"\x03\x50", &[6; 16]].concat();
    [
        &b"\xa7\x01\x01\x02\x41\x00\x03"[..],
        &ids,
        b"\x04\x01\x05\x69a.example\x06\x81\x71https://a.example\x07\x81\xa3\x01\x41\x07\x02",
        &cose,
        b"\x03\x01",
    ]
    .concat()
}

/// Genuine input of [`release_body`].
pub fn genuine_body() -> Vec<u8> {
    let to = keeper().public_key();
    let release =
        Release::begin((KEY_ID, &to), Op::Recover, &genuine_stanza(), &context(), &mut DangerSeededEntropy::new(3));
    let assertion = Assertion {
        credential_id: vec![3; 16],
        authenticator_data: vec![1; 37],
        client_data_json: b"{}".to_vec(),
        signature: vec![2; 70],
        user_handle: None,
    };
    let (request, _) = release.expect("a good stanza").request(&assertion).expect("fits");
    let Ok(Request::Release { sealed, .. }) = keeper::decode_request(&request) else { panic!("a release") };
    let aad = KEY_ID.to_be_bytes();
    hpke::open(&keeper(), b"halfkey/keeper/v1/release", &aad, &sealed).expect("opens").to_vec()
}

/// What stands inside a sealed request, made by anybody.
pub fn release_body(bytes: &[u8]) {
    body_opens(bytes);
}

/// Whether they are what a keeper accepts.
pub fn body_opens(bytes: &[u8]) -> bool {
    let (to, aad) = (keeper().public_key(), KEY_ID.to_be_bytes());
    let sealed = hpke::seal_to(&to, b"halfkey/keeper/v1/release", &aad, bytes, &mut DangerSeededEntropy::new(4));
    let Ok(sealed) = sealed else { return false };
    let Ok((body, _)) = open_request(&keeper(), KEY_ID, &sealed) else { return false };
    assert!(body.assertion.check_lengths().is_ok());
    true
}

/// Genuine input of [`part`].
pub fn genuine_part() -> Vec<u8> {
    let (parts, _) = halfkey_envelope::all_of::split(2, &mut DangerSeededEntropy::new(5));
    parts[1].to_bytes().to_vec()
}

/// A part of a key.
pub fn part(bytes: &[u8]) {
    if let Ok(part) = Part::from_bytes(bytes) {
        assert_eq!(*part.to_bytes(), bytes, "one part has one encoding");
        assert!((1..=part.count()).contains(&part.index()));
    }
}

/// Genuine input of [`client_data`].
pub fn genuine_client_data() -> Vec<u8> {
    let challenge = base64url(&[5; 32]);
    let data = format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"https://wallet.example"}}"#);
    data.into_bytes()
}

/// What a platform signs.
pub fn client_data(bytes: &[u8]) {
    if let Ok(data) = ClientData::parse(bytes) {
        assert!(std::str::from_utf8(bytes).is_ok());
        if data.check("webauthn.get", &[5; 32], &origins()).is_ok() {
            assert!(!data.cross_origin && !data.has_top_origin && data.origin == "https://wallet.example");
        }
    }
}

/// Genuine input of [`authenticator_data`].
pub fn genuine_authenticator_data() -> Vec<u8> {
    [&sha256(b"wallet.example")[..], &[0x9d, 0, 0, 0, 1], b"\xa2\x63abc\x42\x01\x02\x64uvms\x81\x83\x02\x04\x02"]
        .concat()
}

/// What an authenticator signs.
pub fn authenticator_data(bytes: &[u8]) {
    if let Ok(data) = AuthenticatorData::parse(bytes) {
        assert_eq!(data.rp_id_hash, bytes[..32]);
        assert!(bytes.len() == 37 || bytes[32] & 0xc0 != 0, "nothing stands behind that is not announced");
        assert!(data.backup_eligible || !data.backed_up);
        if data.check("wallet.example").is_ok() {
            assert_eq!(bytes[32] & 5, 5);
        }
    }
}

/// Genuine input of [`registration`].
pub fn genuine_attestation_object() -> Vec<u8> {
    let credential = credential();
    let key = credential.key.to_cose();
    let data = [&sha256(b"wallet.example")[..], &[0x5d, 0, 0, 0, 0], &[0; 16], &[0, 16], &credential.id, &key].concat();
    [&b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"[..], &[data.len() as u8], &data].concat()
}

/// What an authenticator gives for a new passkey.
pub fn registration(bytes: &[u8]) {
    registers(bytes);
}

/// Whether they are what a device accepts.
pub fn registers(bytes: &[u8]) -> bool {
    let challenge = base64url(&[5; 32]);
    let data = format!(r#"{{"type":"webauthn.create","challenge":"{challenge}","origin":"https://wallet.example"}}"#);
    let registration = Registration {
        credential_id: credential().id,
        attestation_object: bytes.to_vec(),
        client_data_json: data.into_bytes(),
        transports: vec![],
    };
    let new = NewCredential::from_registration(&registration, &[5; 32], "wallet.example", &origins());
    let Ok(new) = new else { return false };
    assert_eq!(new.credential.id, credential().id);
    cose_key(&new.credential.key.to_cose());
    true
}

/// Genuine input of [`cose_key`].
pub fn genuine_cose_key() -> Vec<u8> {
    credential().key.to_cose()
}

/// A credential's public key.
pub fn cose_key(bytes: &[u8]) {
    if let Ok(key) = CredentialKey::from_cose(bytes) {
        let canonical = key.to_cose();
        assert_eq!(CredentialKey::from_cose(&canonical).expect("what is written can be read"), key);
    }
}
