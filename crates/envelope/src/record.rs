//! The record: what a backup method holds. Whoever has it can open one envelope, so it is a secret as a whole.

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::{
    cbor,
    client_share::{Error, Header, check_curves, check_point, copy_32},
    id::{BackupId, ClientId, DeploymentId, WalletId},
    seal::FileKey,
    wallet::{Curve, Method},
};

const VERSION: u16 = 1;

/// The longest record. One with every curve has about 450 bytes.
pub const MAX_RECORD: usize = 4 * 1024;

/// The key to one envelope, and enough about the wallet to refuse any other envelope.
pub struct Record {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
    /// The method that holds this record.
    pub method: Method,
    /// The key of the envelope.
    pub file_key: FileKey,
    /// SHA-256 of the envelope: an older or another one is refused.
    pub envelope_digest: [u8; 32],
    /// One entry per curve, ascending.
    pub curves: Vec<RecordCurve>,
}

crate::secret::redact!(Record);

/// What a record says about one curve; public values.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecordCurve {
    /// The curve.
    #[n(1)]
    pub curve: Curve,
    /// The wallet on this curve.
    #[n(2)]
    pub wallet: WalletId,
    /// X, the wallet's public key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub public_key: Vec<u8>,
    /// B_C, the client half's public point.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub client_point: Vec<u8>,
    /// The chain code; all zero on a curve without derivation.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub chain_code: [u8; 32],
}

impl Record {
    /// The record for the envelope with this header and digest.
    #[must_use]
    pub fn new(header: &Header, file_key: FileKey, envelope_digest: [u8; 32]) -> Self {
        let curve = |entry: &crate::client_share::CurveHeader| RecordCurve {
            curve: entry.curve,
            wallet: entry.wallet,
            public_key: entry.public_key.clone(),
            client_point: entry.client_point.clone(),
            chain_code: entry.chain_code,
        };
        Self {
            deployment: header.deployment,
            client: header.client,
            backup: header.backup,
            method: header.method.clone(),
            file_key,
            envelope_digest,
            curves: header.curves.iter().map(curve).collect(),
        }
    }

    /// The strict encoding, for the method's sealed storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&Wire {
            version: VERSION,
            deployment: self.deployment,
            client: self.client,
            backup: self.backup,
            method: self.method.clone(),
            file_key: self.file_key.expose(),
            envelope_digest: self.envelope_digest,
            curves: self.curves.clone(),
        })
    }

    /// Decodes strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_RECORD {
            return Err(Error::TooLarge);
        }
        let version = cbor::version(bytes).map_err(Error::Contents)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let wire: Wire<'_> = cbor::from_slice(bytes).map_err(Error::Contents)?;
        check_curves(wire.curves.iter().map(|entry| entry.curve))?;
        for entry in &wire.curves {
            check_point(entry.curve, &entry.public_key)?;
            check_point(entry.curve, &entry.client_point)?;
        }
        Ok(Self {
            deployment: wire.deployment,
            client: wire.client,
            backup: wire.backup,
            method: wire.method,
            file_key: FileKey::from_bytes(copy_32(wire.file_key)?),
            envelope_digest: wire.envelope_digest,
            curves: wire.curves,
        })
    }
}

/// Borrows the file key: no copy is made that is not wiped.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(1)]
    version: u16,
    #[n(2)]
    deployment: DeploymentId,
    #[n(3)]
    client: ClientId,
    #[n(4)]
    backup: BackupId,
    #[n(5)]
    method: Method,
    #[cbor(b(6), with = "minicbor::bytes")]
    file_key: &'a [u8],
    #[cbor(n(7), with = "minicbor::bytes")]
    envelope_digest: [u8; 32],
    #[n(8)]
    curves: Vec<RecordCurve>,
}
