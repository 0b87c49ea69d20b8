//! Exit kits (METHODS.md G): `make_exit_kit` on a device that signs, and `offline_recover` where there is no server, no
//! network and no deployment any more.

use std::sync::{Arc, OnceLock};

use halfkey_api::chain::{Addresses, Ed25519Key, Secp256k1Key, bitcoin::Network};
use halfkey_envelope::{
    Record, client_share,
    exit_kit::{self, CustodianFile, ExitCode, FileError, UserFile},
    hpke::SecretKey,
    id::BackupId,
    recovery_code::Place,
    seal::OpenError,
    wallet::{Curve, Method},
};
use halfkey_protocol::{ClientBackupShare, CustodianBackupShare, Half, Point, half::danger_combine};
use zeroize::Zeroizing;

use crate::{
    backup,
    eject::PrivateKeys,
    error::{Error, Result},
    opening::Holder,
    port::Port,
    secret::CodeText,
};

/// The user's part of an exit kit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitKit {
    /// The backup that it opens.
    pub backup_id: BackupId,
    /// The file for the user to keep. Its exit code was shown once; neither is of use without the other, nor both without
    /// the custodian's file and its export key.
    pub file: Vec<u8>,
    /// When the server committed it, in milliseconds.
    pub committed_at: u64,
}

/// What a kit's backup is made with.
pub(crate) struct Making {
    pub(crate) code: ExitCode,
    /// The sealed record: only the file has it.
    record: OnceLock<Vec<u8>>,
}

impl Making {
    /// Seals the record for the file.
    pub(crate) fn seal(&self, port: &Port, place: Place, record: &[u8]) {
        self.record.get_or_init(|| exit_kit::seal_record(&self.code, place, record, &mut port.entropy()));
    }

    /// The record, read back out of what goes into the file.
    pub(crate) fn open(&self) -> Result<Zeroizing<Vec<u8>>> {
        let sealed = self.record.get().ok_or(Error::Internal)?;
        exit_kit::open_record(&self.code, sealed).map_err(|_| Error::Internal)
    }
}

/// A backup of its own, whose record lies in the user's file alone. The code is shown once and typed back before it counts.
pub(crate) async fn make_exit_kit(port: &Port) -> Result<ExitKit> {
    if port.setting.deployment.descriptor().export_key.is_none() {
        return Err(Error::NoExportKey);
    }
    port.begin(7);
    let making = Arc::new(Making { code: ExitCode::generate(&mut port.entropy()), record: OnceLock::new() });
    let backup = backup::make(port, &Holder::Exit(Arc::clone(&making)), true).await?;
    let record = making.record.get().cloned().ok_or(Error::Internal)?;
    let file = UserFile { envelope: backup.cipher_text, record }.to_bytes();
    port.all_done().await?;
    Ok(ExitKit { backup_id: backup.backup_id, file, committed_at: backup.committed_at })
}

/// The private keys out of both files of a kit, the exit code, and the custodian's export key: 32 bytes, wiped by the caller.
/// Asks nobody.
///
/// # Errors
/// [`Error::NotACode`]; [`Error::WrongSecret`] for another code; [`Error::ExitKit`] says what else does not fit.
pub fn offline_recover(
    user_file: &[u8],
    code: &CodeText,
    custodian_file: &[u8],
    export_key: &[u8; 32],
    network: Network,
) -> Result<PrivateKeys> {
    let user = UserFile::from_bytes(user_file).map_err(|error| refused(error, "USER_FILE"))?;
    let custodian = CustodianFile::from_bytes(custodian_file).map_err(|error| refused(error, "CUSTODIAN_FILE"))?;
    let code = ExitCode::parse(code.expose()).map_err(|_| Error::NotACode)?;
    let record = exit_kit::open_record(&code, &user.record).map_err(|error| match error {
        OpenError::WrongKey => Error::WrongSecret { remaining: None, retry_after: None },
        _ => Error::ExitKit { code: "USER_FILE" },
    })?;
    let damaged = || Error::ExitKit { code: "USER_FILE" };
    let record = Record::from_bytes(&record).map_err(|_| damaged())?;
    let (header, contents) = client_share::open_with_record(&record, &user.envelope).map_err(|_| damaged())?;
    let export = custodian.export;
    let same = (record.deployment, record.client, record.backup) == (export.deployment, export.client, export.backup);
    if !same || record.method != Method::Exit {
        return Err(Error::ExitKit { code: "OTHER_BACKUP" });
    }
    let key = SecretKey::from_seed(export_key);
    if *key.public_key().as_bytes() != export.export_key {
        return Err(Error::ExitKit { code: "EXPORT_KEY" });
    }
    let combine = |curve: Curve| {
        let entry = header.curve(curve).ok_or_else(damaged)?;
        let share = contents.share(curve).ok_or_else(damaged)?;
        let theirs = custodian.halves.iter().find(|half| half.curve == curve);
        let theirs = theirs.ok_or(Error::ExitKit { code: "CUSTODIAN_FILE" })?;
        if theirs.public_key != entry.public_key || theirs.custodian_point != entry.custodian_point {
            return Err(Error::ExitKit { code: "OTHER_BACKUP" });
        }
        let public_key = Point::from_bytes(curve, &entry.public_key).map_err(|_| damaged())?;
        let ours = ClientBackupShare::from_bytes(curve, share).map_err(|_| damaged())?;
        let wrong = |_| Error::ExitKit { code: "CUSTODIAN_FILE" };
        let half = custodian.open(curve, &key).map_err(|_| Error::ExitKit { code: "CUSTODIAN_FILE" })?;
        let half = CustodianBackupShare::from_bytes(curve, &half).map_err(wrong)?;
        let combined = danger_combine(&ours, &half, &public_key).map_err(wrong)?;
        Ok((entry.public_key.clone(), combined))
    };
    let (secp256k1, first) = combine(Curve::Secp256k1)?;
    let (ed25519, second) = combine(Curve::Ed25519)?;
    let secp256k1 = Secp256k1Key::parse(&secp256k1).map_err(|_| damaged())?;
    let ed25519 = Ed25519Key::parse(&ed25519).map_err(|_| damaged())?;
    let addresses = Addresses::of(&secp256k1, &ed25519, network);
    Ok(PrivateKeys::new(first, second, addresses, network, None))
}

fn refused(error: FileError, code: &'static str) -> Error {
    match error {
        FileError::NewerVersion => Error::UpgradeRequired,
        _ => Error::ExitKit { code },
    }
}
