//! One fixed backup, and one fixed row of the custodian. No value in here guards anything.

use halfkey_envelope::{
    FileKey, Record,
    client_share::{self, Contents, CurveHeader, Header},
    custodian::{DataKey, HalfContext, Purpose, ShredKey},
    entropy::DangerSeededEntropy,
    id::{BackupId, ClientId, DeploymentId, PairId, WalletId},
    seal::SealKey,
    wallet::{Curve, Method},
};
use zeroize::Zeroizing;

pub fn id(first: u8) -> [u8; 16] {
    core::array::from_fn(|i| first + i as u8)
}

pub fn key(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

pub fn file_key() -> FileKey {
    FileKey::from_bytes(key(0x11))
}

pub fn seal_key_of(file_key: &FileKey) -> SealKey {
    SealKey::from_bytes(Zeroizing::new(*file_key.expose()))
}

fn point(curve: Curve, fill: u8) -> Vec<u8> {
    match curve {
        Curve::Secp256k1 => [vec![2], vec![fill; 32]].concat(),
        Curve::Ed25519 => vec![fill; 32],
    }
}

pub fn curve(curve: Curve, fill: u8) -> CurveHeader {
    CurveHeader {
        curve,
        wallet: WalletId::from_bytes(id(fill)),
        public_key: point(curve, fill),
        chain_code: [fill + 1; 32],
        client_point: point(curve, fill + 2),
        custodian_point: point(curve, fill + 3),
    }
}

pub fn header() -> Header {
    Header::new(
        DeploymentId::from_bytes(id(0x20)),
        ClientId::from_bytes(id(0x30)),
        BackupId::from_bytes(id(0x40)),
        7,
        Method::Password,
        vec![curve(Curve::Secp256k1, 0x50), curve(Curve::Ed25519, 0x60)],
    )
    .unwrap()
}

pub fn contents() -> Contents {
    Contents::new([(Curve::Secp256k1, key(0x71)), (Curve::Ed25519, key(0x72))]).unwrap()
}

pub fn envelope() -> Vec<u8> {
    client_share::seal(&file_key(), &header(), &contents(), &mut DangerSeededEntropy::new(1)).unwrap()
}

pub fn record() -> Record {
    Record::new(&header(), file_key(), client_share::digest(&envelope()))
}

pub fn data_key() -> DataKey {
    DataKey::from_bytes(key(0x81))
}

pub fn shred_key() -> ShredKey {
    ShredKey::from_bytes(key(0x82))
}

pub fn half_context() -> HalfContext {
    HalfContext {
        deployment: DeploymentId::from_bytes(id(0x20)),
        client: ClientId::from_bytes(id(0x30)),
        wallet: WalletId::from_bytes(id(0x50)),
        curve: Curve::Secp256k1,
        pair: PairId::from_bytes(id(0x90)),
        purpose: Purpose::Backup,
    }
}

pub const HALF: &[u8] = b"a custodian's half";
pub const HPKE_SEED: [u8; 32] = [0xa1; 32];
pub const HPKE_INFO: &[u8] = b"halfkey/test/v1/vector";
pub const HPKE_AAD: &[u8] = b"associated";
pub const HPKE_MESSAGE: &[u8] = b"a sealed message";
pub const ANSWER_LABEL: &str = "halfkey/test/v1/answer";
pub const ANSWER: &[u8] = b"an answer";
