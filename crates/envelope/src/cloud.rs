//! A backup's record in the user's own cloud (METHODS.md D and E): a file in Google Drive or an item in iCloud Keychain,
//! sealed under a *pepper* that only the server gives, so that a thief of the cloud account alone sees noise.
//!
//! ```text
//! pepper  = HKDF(root, info = H("halfkey/cloud/v1/pepper", client))                 (RFC 5869, SHA-256, no salt)
//! name    = "halfkey-" ‖ root's number ‖ "-" ‖ hex(HMAC-SHA256(name key, backup [‖ member]))
//! account = HMAC-SHA256(account key, the account's stable id)
//! record  = seal(record key, header {version, root's number, H("halfkey/cloud/v1/record", root's number, deployment,
//!           client, backup, method [, member])}, the record)
//! name key, account key, record key = HKDF(pepper, info = "halfkey/cloud/v1/name", "…/account", "…/key")
//! ```
//!
//! *member*: of a set (AllOf), whose part it is.
//!
//! Neither the name nor the header tells an identifier to somebody who does not know it already. A root is never changed
//! in place: its number is in every name, and each backup keeps the one that it was made with.

use hmac::{Hmac, KeyInit, Mac};
use minicbor::{Decode, Encode, bytes::ByteArray};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::Entropy,
    hash::h,
    id::{BackupId, ClientId, DeploymentId},
    part_record::PartRecord,
    record::{MAX_RECORD, Record},
    seal::{self, Magic, OpenError, SealKey, Sealed},
    secret::secret32,
    wallet::Method,
};

const MAGIC: Magic = Magic(*b"HKL1");
const VERSION: u16 = 1;
const PREFIX: &str = "halfkey-";

/// The longest sealed record. One with every curve has about 650 bytes.
pub const MAX_SEALED_RECORD: usize = MAX_RECORD + 256;

/// The number of a pepper root, from 1.
pub type RootId = u32;

secret32! {
    /// What every pepper of a deployment is derived from; lies with the server, under its key service.
    PepperRoot;
    /// One client's pepper under one root.
    Pepper;
}

impl PepperRoot {
    /// The pepper of this client.
    #[must_use]
    pub fn pepper(&self, client: ClientId) -> Pepper {
        let info = h("halfkey/cloud/v1/pepper", &[client.as_bytes()]);
        let derived = SealKey::derive_bytes(&[], self.expose(), &info);
        Pepper::from_bytes(Zeroizing::new(*derived.expose()))
    }
}

impl Pepper {
    fn key(&self, info: &str) -> SealKey {
        SealKey::derive(&[], self.expose(), info)
    }

    /// The name of the file or item that holds this backup's record: `halfkey-1-` and 64 hex digits.
    #[must_use]
    pub fn name(&self, root: RootId, backup: BackupId) -> String {
        self.tagged(root, backup.as_bytes())
    }

    /// The name of what a member of a set holds of this backup: several members may share one store.
    #[must_use]
    pub fn member_name(&self, root: RootId, backup: BackupId, member: &Method) -> String {
        self.tagged(root, &[backup.as_bytes(), member.name().as_bytes()].concat())
    }

    fn tagged(&self, root: RootId, message: &[u8]) -> String {
        let tag = mac(&self.key("halfkey/cloud/v1/name"), message);
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{root}-{hex}")
    }

    /// What stands for a cloud account where it must be recognised and not be read.
    #[must_use]
    pub fn account_tag(&self, account: &str) -> [u8; 32] {
        mac(&self.key("halfkey/cloud/v1/account"), account.as_bytes())
    }
}

#[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(key: &SealKey, message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// What every name of a root's records begins with.
#[must_use]
pub fn name_prefix(root: RootId) -> String {
    format!("{PREFIX}{root}-")
}

/// What a sealed record belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
    /// The method: which cloud, or a set.
    pub method: Method,
    /// Of a set: which of its members holds it.
    pub member: Option<Method>,
    /// The root under which the pepper was derived.
    pub root: RootId,
}

#[derive(PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(1)]
    version: u16,
    #[n(2)]
    root: RootId,
    #[n(3)]
    place: ByteArray<32>,
}

impl Header {
    fn of(place: &Place) -> Self {
        let Place { deployment, client, backup, method, member, root } = place;
        let (root_bytes, method, member) = (root.to_be_bytes(), method.name(), member.as_ref().map(Method::name));
        let mut parts: Vec<&[u8]> =
            vec![&root_bytes, deployment.as_bytes(), client.as_bytes(), backup.as_bytes(), method.as_bytes()];
        parts.extend(member.as_ref().map(String::as_bytes));
        Self { version: VERSION, root: *root, place: h("halfkey/cloud/v1/record", &parts).into() }
    }

    /// Decodes strictly, of any place.
    fn parse(sealed: &Sealed<'_>) -> Result<Self, OpenError> {
        let version = cbor::version(sealed.header()).map_err(|_| OpenError::Malformed)?;
        if version != VERSION {
            return Err(OpenError::UnknownMagic);
        }
        cbor::from_slice(sealed.header()).map_err(|_| OpenError::Malformed)
    }
}

/// Seals a backup's record for the cloud.
#[must_use]
pub fn seal_record(pepper: &Pepper, place: &Place, record: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    seal::seal(&pepper.key("halfkey/cloud/v1/key"), MAGIC, &cbor::to_vec(&Header::of(place)), record, entropy)
}

/// Opens what [`seal_record`] made for the same place.
///
/// # Errors
/// [`OpenError::OtherContext`] for another place, before any key is tried; [`OpenError::WrongKey`] for another pepper;
/// [`OpenError::UnknownMagic`] for a later version.
pub fn open_record(pepper: &Pepper, place: &Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let parsed = parse(sealed)?;
    if Header::parse(&parsed)? != Header::of(place) {
        return Err(OpenError::OtherContext);
    }
    parsed.open(&pepper.key("halfkey/cloud/v1/key"))
}

/// Which backup a record of the same deployment, client, method and root is of: what a cloud witnesses where the wanted
/// record is missing. The backup that `place` names is not looked at.
///
/// # Errors
/// As [`open_record`]; [`OpenError::OtherContext`] for the record of another place.
pub fn witness(pepper: &Pepper, place: &Place, sealed: &[u8]) -> Result<BackupId, OpenError> {
    let parsed = parse(sealed)?;
    let header = Header::parse(&parsed)?;
    let opened = parsed.open(&pepper.key("halfkey/cloud/v1/key"))?;
    let there = place_in(&opened, place.root)?;
    if header == Header::of(&there) && there == (Place { backup: there.backup, ..place.clone() }) {
        Ok(there.backup)
    } else {
        Err(OpenError::OtherContext)
    }
}

/// The place that an opened record names itself: that of a single method, or a member's part.
fn place_in(opened: &[u8], root: RootId) -> Result<Place, OpenError> {
    if let Ok(Record { deployment, client, backup, method, .. }) = Record::from_bytes(opened) {
        return Ok(Place { deployment, client, backup, method, member: None, root });
    }
    let part = PartRecord::from_bytes(opened).map_err(|_| OpenError::Malformed)?;
    let (method, member) = (Method::AllOf(part.set.clone()), part.member().cloned());
    Ok(Place { deployment: part.deployment, client: part.client, backup: part.backup, method, member, root })
}

fn parse(sealed: &[u8]) -> Result<Sealed<'_>, OpenError> {
    if sealed.len() > MAX_SEALED_RECORD {
        return Err(OpenError::TooLarge);
    }
    Sealed::parse(MAGIC, sealed)
}
