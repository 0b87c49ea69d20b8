//! What one member of a set holds (METHODS.md C, "AllOf"): its part of the file key, and what a record says besides.
//!
//! ```text
//! file key = HKDF-Extract(salt = set, part 1 ‖ … ‖ part n)      (RFC 5869, SHA-256), part i held by the set's i-th member
//! ```

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::{
    all_of::{self, Part},
    cbor,
    client_share::{Error, check_curves, check_point},
    entropy::Entropy,
    id::{BackupId, ClientId, DeploymentId},
    method_set::MethodSet,
    record::{MAX_RECORD, Record, RecordCurve},
    seal::{FileKey, SealKey},
    wallet::Method,
};

const VERSION: u16 = 1;

/// One member's part of the key to one envelope. Without those of all other members it says nothing about the key.
pub struct PartRecord {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
    /// All that hold a part of this key.
    pub set: MethodSet,
    /// SHA-256 of the envelope: an older or another one is refused.
    pub envelope_digest: [u8; 32],
    /// One entry per curve, ascending.
    pub curves: Vec<RecordCurve>,
    part: Part,
}

crate::secret::redact!(PartRecord);

/// Why parts do not give a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not all parts of one key")]
pub struct NotOneSet;

/// A fresh file key, and its parts in the order of the set's members.
#[must_use]
pub fn split(set: &MethodSet, entropy: &mut dyn Entropy) -> (FileKey, Vec<Part>) {
    let count = u8::try_from(set.members().len()).unwrap_or(u8::MAX);
    let (parts, key) = all_of::split(count, entropy);
    (file_key(&key), parts)
}

fn file_key(key: &SealKey) -> FileKey {
    FileKey::from_bytes(Zeroizing::new(*key.expose()))
}

impl PartRecord {
    /// What the holder of `part` keeps of the backup with this record.
    #[must_use]
    pub fn new(record: &Record, set: &MethodSet, part: Part) -> Self {
        Self {
            deployment: record.deployment,
            client: record.client,
            backup: record.backup,
            set: set.clone(),
            envelope_digest: record.envelope_digest,
            curves: record.curves.clone(),
            part,
        }
    }

    /// Whose part it is.
    #[must_use]
    pub fn member(&self) -> Option<&Method> {
        self.set.members().get(usize::from(self.part.index()).checked_sub(1)?)
    }

    /// The strict encoding, for the member's sealed storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&Wire {
            version: VERSION,
            deployment: self.deployment,
            client: self.client,
            backup: self.backup,
            method: Method::AllOf(self.set.clone()),
            envelope_digest: self.envelope_digest,
            curves: self.curves.clone(),
            part: &self.part.to_bytes(),
        })
    }

    /// Decodes strictly.
    ///
    /// # Errors
    /// As [`Record::from_bytes`].
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
        let part = Part::from_bytes(wire.part).map_err(|error| match error {
            all_of::Error::UnknownVersion(version) => Error::UnknownVersion(version),
            _ => Error::Contents(cbor::Error::Malformed),
        })?;
        let Method::AllOf(set) = wire.method else { return Err(Error::Contents(cbor::Error::Malformed)) };
        if usize::from(part.count()) != set.members().len() {
            return Err(Error::Contents(cbor::Error::Malformed));
        }
        let Wire { deployment, client, backup, envelope_digest, curves, .. } = wire;
        Ok(Self { deployment, client, backup, set, envelope_digest, curves, part })
    }

    /// Whether both may be parts of one key: of one backup, one envelope and one set.
    #[must_use]
    pub fn goes_with(&self, other: &Self) -> bool {
        (self.deployment, self.client, self.backup) == (other.deployment, other.client, other.backup)
            && (&self.set, &self.curves) == (&other.set, &other.curves)
            && self.envelope_digest == other.envelope_digest
            && self.part.is_of_the_set_of(&other.part)
    }
}

/// The record of which these are all the parts, in any order.
///
/// # Errors
/// [`NotOneSet`] if one is missing, or is of another backup, envelope or set.
pub fn join(parts: &[PartRecord]) -> Result<Record, NotOneSet> {
    let first = parts.first().ok_or(NotOneSet)?;
    if !parts.iter().all(|part| part.goes_with(first)) {
        return Err(NotOneSet);
    }
    let key = all_of::join(&parts.iter().map(|one| &one.part).collect::<Vec<_>>()).map_err(|_| NotOneSet)?;
    Ok(Record {
        deployment: first.deployment,
        client: first.client,
        backup: first.backup,
        method: Method::AllOf(first.set.clone()),
        file_key: file_key(&key),
        envelope_digest: first.envelope_digest,
        curves: first.curves.clone(),
    })
}

/// Other keys than those of a record, so that none is ever taken for the other. Borrows the part: no copy is made that is
/// not wiped.
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
    #[cbor(n(7), with = "minicbor::bytes")]
    envelope_digest: [u8; 32],
    #[n(8)]
    curves: Vec<RecordCurve>,
    #[cbor(b(9), with = "minicbor::bytes")]
    part: &'a [u8],
}
