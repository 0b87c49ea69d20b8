//! The attack program: everything that a thief can make of stolen folders, with this project's own code to help.
//!
//! It takes the server's data folder, the guesskeeper's, or both, and a list of passwords to try. What it finds is what
//! the README's threat table says, and the tests hold it to both halves of that: what it opens, and what it does not.

use std::path::Path;

use halfkey_envelope::{
    Record, cbor,
    client_share::{Contents, open_with_record},
    door::Register,
    entropy::OsEntropy,
    id::{BackupId, ClientId, PairId, WalletId},
    oprf,
    seal::{self, Magic, SealKey, Sealed},
    text::Password,
    wallet::Curve,
};
use halfkey_protocol::{CustodianBackupShare, Half, SigningParty, lifecycle::PairRef};
use halfkey_server::{
    kms::{LocalKeys, Missing, Vault},
    shred::{Copies, Shred},
    store::{SealedHalf, Share, SharePublic, Store, StoredHalf},
};
use hkdf::Hkdf;
use sha2::Sha256;
use sqlx::{Row, SqlitePool};
use zeroize::Zeroizing;

use crate::phone::Failed;

/// The server's or custodian's half of a pair.
pub struct ServerHalf {
    /// Of a backup, or of a signing pair.
    pub is_backup: bool,
    /// Its pair; of a backup that backup's id.
    pub pair: [u8; 16],
    /// Its curve.
    pub curve: Curve,
    /// The wallet's public key.
    pub public_key: Vec<u8>,
    /// The half itself.
    pub scalar: Zeroizing<[u8; 32]>,
}

/// What the server's folder gives: halves that are worth nothing alone, and envelopes.
pub struct ServerLoot {
    /// Every half that still opens.
    pub halves: Vec<ServerHalf>,
    /// Sealed client halves, by backup.
    pub envelopes: Vec<(BackupId, Vec<u8>)>,
}

/// Opens what lies in a server's data folder, key file and shred store included.
///
/// # Errors
/// When the folder is none.
pub async fn plunder_server(folder: &Path) -> Result<ServerLoot, Failed> {
    let url = |name: &str| format!("sqlite:{}", folder.join(name).display());
    let store = Store::connect(&url("halfkey.db")).await?;
    let shred = Shred::connect(&[&url("shred.db")], Copies::DangerOne).await?;
    let kms = LocalKeys::open(&folder.join("kms.key"), Missing::Refuse)?;
    let deployment = store.deployment(&mut OsEntropy, 0).await?;
    let vault = Vault::new(store, shred, std::sync::Arc::new(kms), deployment, 0);
    let database = SqlitePool::connect(&url("halfkey.db")).await?;
    let rows = sqlx::query(
        "SELECT h.*, s.device IS NOT NULL AS signing FROM pair_shares h JOIN pairs p ON p.id = h.pair \
         JOIN slots s ON s.slot = p.slot WHERE h.half IS NOT NULL",
    );
    let mut halves = Vec::new();
    for row in rows.fetch_all(&database).await? {
        let pair: [u8; 16] = array(&row, "pair")?;
        let signing = row.get::<i64, _>("signing") == 1;
        let curve: Curve = row.get::<String, _>("curve").parse().map_err(|_| "a curve")?;
        let public = SharePublic {
            public_key: row.get("public_key"),
            chain_code: array(&row, "chain_code")?,
            client_point: row.get("client_point"),
            peer_point: row.get("peer_point"),
        };
        let stored = StoredHalf {
            share: Share {
                id: PairId::from_bytes(array(&row, "id")?),
                pair: match signing {
                    true => PairRef::Signing(PairId::from_bytes(pair)),
                    false => PairRef::Backup(BackupId::from_bytes(pair)),
                },
                wallet: WalletId::from_bytes(array(&row, "wallet")?),
                curve,
                public: None,
            },
            public,
            generation: 0,
            sealed: SealedHalf { half: row.get("half"), data_key: row.get("data_key") },
        };
        let client = ClientId::from_bytes(array(&row, "client")?);
        let Ok(opened) = vault.open(client, &stored, 0).await else { continue };
        let scalar = match signing {
            true => SigningParty::from_bytes(&opened)?.share().to_bytes(),
            false => custodian_half(curve, &opened)?,
        };
        let public_key = stored.public.public_key;
        halves.push(ServerHalf { is_backup: !signing, pair, curve, public_key, scalar });
    }
    let mut envelopes = Vec::new();
    for row in sqlx::query("SELECT backup, envelope FROM envelopes").fetch_all(&database).await? {
        envelopes.push((BackupId::from_bytes(array(&row, "backup")?), row.get("envelope")));
    }
    database.close().await;
    Ok(ServerLoot { halves, envelopes })
}

/// A custodian's half as the server seals it: {0: version, 1: half, 2: session}.
fn custodian_half(curve: Curve, opened: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failed> {
    let mut decoder = minicbor::Decoder::new(opened);
    for _ in 0..decoder.map()?.unwrap_or_default() {
        match decoder.u8()? {
            1 => {
                let half = Zeroizing::new(<[u8; 32]>::try_from(decoder.bytes()?)?);
                return Ok(CustodianBackupShare::from_bytes(curve, &half)?.to_bytes());
            }
            _ => decoder.skip()?,
        }
    }
    Err("no half".into())
}

/// Opens every registration in a guesskeeper's folder, with the root key that lies beside it.
///
/// # Errors
/// When the folder is none.
pub async fn plunder_guesskeeper(folder: &Path) -> Result<Vec<Register>, Failed> {
    let root = Zeroizing::new(std::fs::read(folder.join("root.key"))?);
    let storage = expand(&Hkdf::new(None, &root), b"halfkey/guesskeeper/v1/storage")?;
    let pool = |name: &str| SqlitePool::connect_lazy(&format!("sqlite:{}", folder.join(name).display()));
    let (guesses, shred) = (pool("guesses.sqlite")?, pool("shred.sqlite")?);
    let rows = sqlx::query("SELECT backup, sealed FROM registration WHERE sealed IS NOT NULL");
    let mut found = Vec::new();
    for row in rows.fetch_all(&guesses).await? {
        let (backup, sealed): (Vec<u8>, Vec<u8>) = (row.get("backup"), row.get("sealed"));
        let key = sqlx::query("SELECT shred FROM shred_key WHERE backup = $1").bind(backup);
        let Some(key) = key.fetch_optional(&shred).await? else { continue };
        let key: Vec<u8> = key.get("shred");
        let key = SealKey::derive(&key, storage.as_ref(), "halfkey/guesskeeper/v1/registration");
        let opened = Sealed::parse(Magic(*b"HKG1"), &sealed).and_then(|sealed| sealed.open(&key));
        let opened = opened.map_err(|_| "a registration does not open")?;
        found.push(cbor::from_slice(&opened).map_err(|_| "a registration")?);
    }
    guesses.close().await;
    shred.close().await;
    Ok(found)
}

/// Guesses offline against a plundered registration: no keeper counts here. The record of the right password.
///
/// # Errors
/// When a guess cannot be used as a password at all.
pub fn guess(registration: &Register, passwords: &[&str]) -> Result<Option<Record>, Failed> {
    let context = &registration.context;
    let digest = context.digest();
    let kdf = context.kdf;
    let params = argon2::Params::new(kdf.memory_kib(), kdf.passes(), kdf.lanes(), Some(64));
    let params = params.map_err(|_| "parameters")?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    for password in passwords {
        let Ok(password) = Password::parse(context.mode, password) else { continue };
        let mut stretched = Zeroizing::new([0u8; 64]);
        let done = argon2.hash_password_into(password.expose(), &digest, stretched.as_mut());
        done.map_err(|_| "not enough memory")?;
        let y = oprf::evaluate(&registration.oprf_key, &stretched[..32])?;
        let secret = Zeroizing::new([&y[..], &stretched[32..]].concat());
        let prk = Hkdf::<Sha256>::new(Some(&digest), &secret);
        if *expand(&prk, b"halfkey/password/v1/commit")? != *registration.commitment {
            continue;
        }
        let wrap = expand(&prk, b"halfkey/password/v1/wrap")?;
        let (key, _) = Hkdf::<Sha256>::extract(Some(registration.keeper_part.expose()), wrap.as_ref());
        let key = SealKey::from_bytes(Zeroizing::new(key.into()));
        let wrapped = &registration.wrapped;
        let magic = Magic(*wrapped.first_chunk::<4>().ok_or("a record")?);
        let record = seal::open(&key, magic, &cbor::to_vec(context), wrapped).map_err(|_| "the record")?;
        return Ok(Some(Record::from_bytes(&record)?));
    }
    Ok(None)
}

/// Opens the envelope of a record, if it was stolen too.
#[must_use]
pub fn open_envelope(record: &Record, envelopes: &[(BackupId, Vec<u8>)]) -> Option<Contents> {
    let (_, envelope) = envelopes.iter().find(|(backup, _)| *backup == record.backup)?;
    open_with_record(record, envelope).ok().map(|(_, contents)| contents)
}

fn expand(prk: &Hkdf<Sha256>, info: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failed> {
    let mut out = Zeroizing::new([0u8; 32]);
    prk.expand(info, out.as_mut()).map_err(|_| "too long")?;
    Ok(out)
}

fn array<const N: usize>(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<[u8; N], Failed> {
    row.get::<Vec<u8>, _>(column).try_into().map_err(|_| format!("{column} has another length").into())
}
