//! An exit kit: what opens a wallet on the day on which no server is left (METHODS.md G). Two files, of which neither says
//! anything without a secret of its holder:
//!
//! * the user's: the envelope of a backup of its own, and its record sealed under a 128-bit exit code;
//! * the custodian's: its halves of that very backup, HPKE-sealed to its offline export key.
//!
//! A file is four bytes that name its kind, and strict CBOR with a version.

use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::Entropy,
    hash::h,
    hpke::{self, PublicKey, SecretKey},
    id::{BackupId, ClientId, DeploymentId, PairId},
    recovery_code::{self, ParseError, Place, RecoveryCode},
    seal::{Magic, OpenError, SealKey},
    secret::redact,
    wallet::Curve,
};

const RECORD: Magic = Magic(*b"HKX1");
const USER: [u8; 4] = *b"HKXU";
const CUSTODIAN: [u8; 4] = *b"HKXC";
const VERSION: u8 = 1;
/// No kit file is longer.
pub const MAX_FILE: usize = 64 * 1024;
/// HPKE info of a custodian's half in a kit.
const HALF: &[u8] = b"halfkey/exit-kit/v1/custodian-half";

/// 128 random bits that open the user's file. Written and read like a recovery code; the one opens nothing of the other.
pub struct ExitCode(RecoveryCode);

redact!(ExitCode);

impl ExitCode {
    /// A fresh one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(RecoveryCode::generate(entropy))
    }

    /// As it is shown: `XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXX`.
    #[must_use]
    pub fn display(&self) -> Zeroizing<String> {
        self.0.display()
    }

    /// Reads what a person typed.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        RecoveryCode::parse(text).map(Self)
    }

    /// Whether both are the same, in constant time.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        bool::from(subtle::ConstantTimeEq::ct_eq(&self.0, &other.0))
    }

    /// Another key than the same 128 bits would give as a recovery code, whatever the salt.
    fn key(&self, salt: &[u8; 32]) -> SealKey {
        self.0.key(&h("halfkey/exit-kit/v1/code", &[salt]))
    }
}

/// Why a file is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is no file of this kind.
    #[error("not this part of an exit kit")]
    OtherKind,
    /// A later version wrote it.
    #[error("of a newer version")]
    NewerVersion,
    /// It is damaged, or has something that no version writes.
    #[error("damaged")]
    Malformed,
}

#[derive(Decode)]
#[cbor(map)]
struct Probe {
    #[n(0)]
    version: u8,
}

/// The CBOR of a file of this kind and version.
fn inside(kind: [u8; 4], bytes: &[u8]) -> Result<&[u8], FileError> {
    if bytes.len() > MAX_FILE {
        return Err(FileError::Malformed);
    }
    let inside = bytes.strip_prefix(&kind).ok_or(FileError::OtherKind)?;
    let probe: Probe = minicbor::decode(inside).map_err(|_| FileError::Malformed)?;
    if probe.version == VERSION { Ok(inside) } else { Err(FileError::NewerVersion) }
}

/// Seals a backup's record under `code`.
#[must_use]
pub fn seal_record(code: &ExitCode, place: Place, record: &[u8], entropy: &mut dyn Entropy) -> Vec<u8> {
    recovery_code::seal_at(place, RECORD, |salt| code.key(salt), record, entropy)
}

/// Opens what [`seal_record`] made.
///
/// # Errors
/// [`OpenError::WrongKey`]: it is another code.
pub fn open_record(code: &ExitCode, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    recovery_code::open_at(None, RECORD, |salt| code.key(salt), sealed)
}

/// The user's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFile {
    /// The envelope of the backup.
    pub envelope: Vec<u8>,
    /// Its record, of [`seal_record`].
    pub record: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct UserWire {
    #[n(0)]
    version: u8,
    #[n(1)]
    envelope: ByteVec,
    #[n(2)]
    record: ByteVec,
}

impl UserFile {
    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (envelope, record) = (self.envelope.clone().into(), self.record.clone().into());
        [USER.to_vec(), cbor::to_vec(&UserWire { version: VERSION, envelope, record })].concat()
    }

    /// Parses strictly.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let wire: UserWire = cbor::from_slice(inside(USER, bytes)?).map_err(|_| FileError::Malformed)?;
        Ok(Self { envelope: wire.envelope.into(), record: wire.record.into() })
    }
}

/// Whose halves a custodian's file holds, and to which key they are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
    /// The custodian's offline export key.
    pub export_key: [u8; 32],
}

/// One curve's half in a custodian's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedHalf {
    /// The curve.
    pub curve: Curve,
    /// The backup pair.
    pub pair: PairId,
    /// X.
    pub public_key: Vec<u8>,
    /// B_K.
    pub custodian_point: Vec<u8>,
    sealed: Vec<u8>,
}

impl ExportedHalf {
    /// Seals one half (32 bytes) to the export key.
    ///
    /// # Errors
    /// [`hpke::Error`] for a key that is none.
    pub fn seal(
        export: &Export,
        (curve, pair): (Curve, PairId),
        (public_key, custodian_point): (Vec<u8>, Vec<u8>),
        half: &[u8; 32],
        entropy: &mut dyn Entropy,
    ) -> Result<Self, hpke::Error> {
        let mut exported = Self { curve, pair, public_key, custodian_point, sealed: Vec::new() };
        let recipient = PublicKey::from_bytes(export.export_key);
        exported.sealed = hpke::seal_to(&recipient, HALF, &exported.aad(export), half, entropy)?;
        Ok(exported)
    }

    fn aad(&self, export: &Export) -> [u8; 32] {
        h(
            "halfkey/exit-kit/v1/half",
            &[
                export.deployment.as_bytes(),
                export.client.as_bytes(),
                export.backup.as_bytes(),
                &export.export_key,
                &[self.curve.code()],
                self.pair.as_bytes(),
                &self.public_key,
                &self.custodian_point,
            ],
        )
    }
}

/// The custodian's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodianFile {
    /// Whose, and for whom.
    pub export: Export,
    /// One per curve, in their order.
    pub halves: Vec<ExportedHalf>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HalfWire {
    #[n(0)]
    curve: Curve,
    #[n(1)]
    pair: PairId,
    #[n(2)]
    public_key: ByteVec,
    #[n(3)]
    custodian_point: ByteVec,
    #[n(4)]
    sealed: ByteVec,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct CustodianWire {
    #[n(0)]
    version: u8,
    #[n(1)]
    deployment: DeploymentId,
    #[n(2)]
    client: ClientId,
    #[n(3)]
    backup: BackupId,
    #[n(4)]
    export_key: ByteArray<32>,
    #[n(5)]
    halves: Vec<HalfWire>,
}

impl CustodianFile {
    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let half = |half: &ExportedHalf| HalfWire {
            curve: half.curve,
            pair: half.pair,
            public_key: half.public_key.clone().into(),
            custodian_point: half.custodian_point.clone().into(),
            sealed: half.sealed.clone().into(),
        };
        let Export { deployment, client, backup, export_key } = self.export;
        let halves = self.halves.iter().map(half).collect();
        let export_key = export_key.into();
        let wire = CustodianWire { version: VERSION, deployment, client, backup, export_key, halves };
        [CUSTODIAN.to_vec(), cbor::to_vec(&wire)].concat()
    }

    /// Parses strictly: every curve once, in their order.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let wire: CustodianWire = cbor::from_slice(inside(CUSTODIAN, bytes)?).map_err(|_| FileError::Malformed)?;
        if !wire.halves.iter().map(|half| half.curve).eq(Curve::ALL) {
            return Err(FileError::Malformed);
        }
        let half = |half: HalfWire| ExportedHalf {
            curve: half.curve,
            pair: half.pair,
            public_key: half.public_key.into(),
            custodian_point: half.custodian_point.into(),
            sealed: half.sealed.into(),
        };
        let CustodianWire { deployment, client, backup, export_key, halves, .. } = wire;
        let export = Export { deployment, client, backup, export_key: *export_key };
        Ok(Self { export, halves: halves.into_iter().map(half).collect() })
    }

    /// Opens the half of one curve. Whether it is the one that its point names, the caller checks.
    ///
    /// # Errors
    /// [`hpke::Error`]: another key, or a changed file.
    pub fn open(&self, curve: Curve, key: &SecretKey) -> Result<Zeroizing<[u8; 32]>, hpke::Error> {
        let half = self.halves.iter().find(|half| half.curve == curve).ok_or(hpke::Error::TooShort)?;
        let opened = hpke::open(key, HALF, &half.aad(&self.export), &half.sealed)?;
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| hpke::Error::TooShort)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    fn place() -> Place {
        Place {
            deployment: DeploymentId::from_bytes([1; 16]),
            client: ClientId::from_bytes([2; 16]),
            backup: BackupId::from_bytes([3; 16]),
        }
    }

    fn custodian_file(key: &SecretKey) -> CustodianFile {
        let entropy = &mut DangerSeededEntropy::new(5);
        let Place { deployment, client, backup } = place();
        let export = Export { deployment, client, backup, export_key: *key.public_key().as_bytes() };
        let half = |curve: Curve| {
            let pair = PairId::from_bytes([curve.code(); 16]);
            ExportedHalf::seal(&export, (curve, pair), (vec![4; 33], vec![5; 33]), &[curve.code(); 32], entropy)
        };
        let halves = Curve::ALL.map(half).into_iter().collect::<Result<_, _>>().unwrap();
        CustodianFile { export, halves }
    }

    #[test]
    fn a_record_opens_with_its_exit_code_alone() {
        let entropy = &mut DangerSeededEntropy::new(4);
        let (code, other) = (ExitCode::generate(entropy), ExitCode::generate(entropy));
        let sealed = seal_record(&code, place(), b"record", entropy);
        assert_eq!(open_record(&code, &sealed).unwrap().as_slice(), b"record");
        assert_eq!(open_record(&other, &sealed).err(), Some(OpenError::WrongKey));
        // The same 128 bits as a recovery code open nothing, even with the magic bytes of its kind.
        let mut disguised = sealed.clone();
        disguised[..4].copy_from_slice(b"HKR1");
        let as_recovery = RecoveryCode::parse(&code.display()).unwrap();
        assert!(crate::recovery_code::open_record(&as_recovery, place(), &disguised).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_record(&code, &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn files_are_read_strictly() {
        let file = UserFile { envelope: vec![1; 300], record: vec![2; 100] };
        let bytes = file.to_bytes();
        assert_eq!(UserFile::from_bytes(&bytes), Ok(file));
        assert_eq!(CustodianFile::from_bytes(&bytes), Err(FileError::OtherKind));
        let key = SecretKey::generate(&mut DangerSeededEntropy::new(6));
        let custodian = custodian_file(&key);
        let theirs = custodian.to_bytes();
        assert_eq!(CustodianFile::from_bytes(&theirs), Ok(custodian.clone()));
        assert_eq!(UserFile::from_bytes(&theirs), Err(FileError::OtherKind));
        for bytes in [&bytes, &theirs] {
            let parse =
                |bytes: &[u8]| UserFile::from_bytes(bytes).map(drop).or(CustodianFile::from_bytes(bytes).map(drop));
            assert!(parse(&[bytes, &[0][..]].concat()).is_err(), "trailing byte");
            for end in 0..bytes.len() {
                assert!(parse(&bytes[..end]).is_err(), "cut at {end}");
            }
            let mut newer = bytes.clone();
            assert_eq!(newer[6], VERSION, "the version is the first value");
            newer[6] = VERSION + 1;
            assert!(parse(&newer).is_err());
        }
        let mut newer = bytes;
        newer[6] = VERSION + 1;
        assert_eq!(UserFile::from_bytes(&newer), Err(FileError::NewerVersion));
        let mut one_curve = custodian.clone();
        one_curve.halves.pop();
        assert_eq!(CustodianFile::from_bytes(&one_curve.to_bytes()), Err(FileError::Malformed));
        let mut twice = custodian;
        twice.halves.swap(0, 1);
        assert_eq!(CustodianFile::from_bytes(&twice.to_bytes()), Err(FileError::Malformed));
    }

    #[test]
    fn the_custodians_halves_open_with_the_export_key_in_their_own_file() {
        let key = SecretKey::generate(&mut DangerSeededEntropy::new(6));
        let file = custodian_file(&key);
        for curve in Curve::ALL {
            assert_eq!(*file.open(curve, &key).unwrap(), [curve.code(); 32]);
            assert!(file.open(curve, &SecretKey::generate(&mut DangerSeededEntropy::new(7))).is_err());
        }
        let mut swapped = file.clone();
        let (first, second) = (swapped.halves[0].sealed.clone(), swapped.halves[1].sealed.clone());
        (swapped.halves[0].sealed, swapped.halves[1].sealed) = (second, first);
        assert!(Curve::ALL.iter().all(|curve| swapped.open(*curve, &key).is_err()));
        let mut other = file.clone();
        other.export.client = ClientId::from_bytes([9; 16]);
        assert!(other.open(Curve::Ed25519, &key).is_err());
        let mut point = file;
        point.halves[0].custodian_point[0] ^= 1;
        assert!(point.open(Curve::Secp256k1, &key).is_err());
    }
}
