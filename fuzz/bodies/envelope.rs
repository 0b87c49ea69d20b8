//! What is fuzzed of `halfkey-envelope`: one function per parser. The fuzz targets call them with the fuzzer's bytes,
//! and a property test of the crate calls the same functions in every `./check`. Each asserts more than "no panic":
//! what decodes is the one encoding of its value, and nothing but the genuine bytes opens.

use halfkey_envelope::{
    FileKey, Record, cbor,
    client_share::{self, Contents, CurveHeader, Expected, Header},
    cloud::{self, Pepper, Place},
    custodian::{self, DataKey, HalfContext, Purpose, ShredKey},
    entropy::DangerSeededEntropy,
    hpke,
    id::{BackupId, ClientId, DeploymentId, PairId, WalletId},
    keeper,
    seal::{self, Magic, SealKey},
    wallet::{Curve, Method},
};
use zeroize::Zeroizing;

fn header() -> Header {
    let curve = |curve, length: usize| CurveHeader {
        curve,
        wallet: WalletId::from_bytes([1; 16]),
        public_key: vec![2; length],
        chain_code: [3; 32],
        client_point: vec![2; length],
        custodian_point: vec![2; length],
    };
    Header::new(
        DeploymentId::from_bytes([4; 16]),
        ClientId::from_bytes([5; 16]),
        BackupId::from_bytes([6; 16]),
        1,
        Method::Password,
        vec![curve(Curve::Secp256k1, 33), curve(Curve::Ed25519, 32)],
    )
    .expect("a valid header")
}

fn file_key() -> FileKey {
    FileKey::from_bytes(Zeroizing::new([7; 32]))
}

fn half_context() -> HalfContext {
    HalfContext {
        deployment: DeploymentId::from_bytes([4; 16]),
        client: ClientId::from_bytes([5; 16]),
        wallet: WalletId::from_bytes([1; 16]),
        curve: Curve::Ed25519,
        pair: PairId::from_bytes([8; 16]),
        purpose: Purpose::Signing,
    }
}

/// Genuine input of [`cbor_header`].
pub fn genuine_header() -> Vec<u8> {
    cbor::to_vec(&header())
}

/// A header of an envelope, as strict CBOR.
pub fn cbor_header(bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let envelope = [&b"HKE1"[..], &length, bytes, &[0; 80]].concat();
    if let Ok(header) = client_share::peek_header(&envelope) {
        assert_eq!(cbor::to_vec(&header), bytes, "one header has one encoding");
    }
}

/// Genuine input of [`record`].
pub fn genuine_record() -> Vec<u8> {
    Record::new(&header(), file_key(), [9; 32]).to_bytes().to_vec()
}

/// A record.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = Record::from_bytes(bytes) {
        assert_eq!(*record.to_bytes(), bytes, "one record has one encoding");
    }
}

/// Genuine input of [`contents`].
pub fn genuine_contents() -> Vec<u8> {
    let opened = seal::open(&seal_key(), Magic(*b"HKE1"), &genuine_header(), &genuine_envelope());
    opened.expect("the genuine envelope opens").to_vec()
}

/// The contents of an envelope that does open.
pub fn contents(bytes: &[u8]) {
    let mut entropy = DangerSeededEntropy::new(1);
    let plaintext = &bytes[..bytes.len().min(client_share::MAX_ENVELOPE / 2)];
    let envelope = seal::seal(&seal_key(), Magic(*b"HKE1"), &genuine_header(), plaintext, &mut entropy);
    if let Ok((header, contents)) = client_share::open(&file_key(), &Expected::from(&header()), &envelope) {
        let again = client_share::seal(&file_key(), &header, &contents, &mut DangerSeededEntropy::new(1));
        assert_eq!(again.as_ref(), Ok(&envelope), "one content has one encoding");
    }
}

fn seal_key() -> SealKey {
    SealKey::from_bytes(Zeroizing::new([7; 32]))
}

/// Genuine input of [`envelope_open`].
pub fn genuine_envelope() -> Vec<u8> {
    let share = || Zeroizing::new([10; 32]);
    let contents = Contents::new([(Curve::Secp256k1, share()), (Curve::Ed25519, share())]).expect("valid contents");
    client_share::seal(&file_key(), &header(), &contents, &mut DangerSeededEntropy::new(1)).expect("seals")
}

/// A whole envelope: only the genuine bytes open.
pub fn envelope_open(bytes: &[u8]) {
    let opened = client_share::open(&file_key(), &Expected::from(&header()), bytes);
    assert_eq!(opened.is_ok(), bytes == genuine_envelope(), "only the genuine envelope opens");
    let _ = client_share::drill(&file_key(), &Expected::from(&header()), bytes);
}

/// Genuine input of [`hpke_request`].
pub fn genuine_request() -> Vec<u8> {
    let to = hpke::SecretKey::from_seed(&[11; 32]).public_key();
    hpke::seal_to(&to, b"info", b"aad", b"request", &mut DangerSeededEntropy::new(1)).expect("a good key")
}

/// A sealed request: only the genuine bytes open.
pub fn hpke_request(bytes: &[u8]) {
    let opened = hpke::open_request(&hpke::SecretKey::from_seed(&[11; 32]), b"info", b"aad", bytes);
    assert_eq!(opened.is_ok(), bytes == genuine_request(), "only the genuine request opens");
    let _ = hpke::encapsulation(bytes);
}

/// Genuine input of [`custodian`].
pub fn genuine_half() -> Vec<u8> {
    let (data, shred) = keys();
    custodian::seal_half(&data, &shred, &half_context(), b"half", &mut DangerSeededEntropy::new(1)).expect("seals")
}

/// A sealed half: only the genuine bytes open.
pub fn custodian(bytes: &[u8]) {
    let (data, shred) = keys();
    let opened = custodian::open_half(&data, &shred, &half_context(), bytes);
    assert_eq!(opened.is_ok(), bytes == genuine_half(), "only the genuine half opens");
}

fn keys() -> (DataKey, ShredKey) {
    (DataKey::from_bytes(Zeroizing::new([12; 32])), ShredKey::from_bytes(Zeroizing::new([13; 32])))
}

/// Genuine input of [`keeper_messages`].
pub fn genuine_keeper_request() -> Vec<u8> {
    keeper::encode_request(&keeper::Request::Evidence { nonce: [14; 32] })
}

/// What a keeper is asked, and what it answers.
pub fn keeper_messages(bytes: &[u8]) {
    if let Ok(request) = keeper::decode_request(bytes) {
        assert_eq!(keeper::encode_request(&request), bytes, "one request has one encoding");
    }
    if let Ok(answer) = keeper::decode_answer(bytes) {
        assert_eq!(keeper::encode_answer(&answer), bytes, "one answer has one encoding");
    }
}

fn pepper() -> Pepper {
    Pepper::from_bytes(Zeroizing::new([15; 32]))
}

fn place() -> Place {
    let Header { deployment, client, backup, .. } = header();
    Place { deployment, client, backup, method: Method::Password, member: None, root: 1 }
}

/// Genuine input of [`cloud_record`].
pub fn genuine_cloud_record() -> Vec<u8> {
    cloud::seal_record(&pepper(), &place(), &genuine_record(), &mut DangerSeededEntropy::new(1))
}

/// A record as a cloud gives it back: only the genuine bytes open, and only they are witnessed.
pub fn cloud_record(bytes: &[u8]) {
    let genuine = bytes == genuine_cloud_record();
    assert_eq!(cloud::open_record(&pepper(), &place(), bytes).is_ok(), genuine, "only the genuine record opens");
    let witnessed = cloud::witness(&pepper(), &place(), bytes).ok();
    assert_eq!(witnessed, genuine.then_some(place().backup), "only the genuine record is witnessed");
}
