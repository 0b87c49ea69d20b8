//! Exit kits (METHODS.md G): the custodian's half of a backup by EXIT, sealed to an export key whose private half no
//! server ever has.

use halfkey_api::error::ErrorId;
use halfkey_envelope::{
    entropy::OsEntropy,
    exit_kit::{CustodianFile, Export, ExportedHalf},
    id::{ClientId, CustodianId},
    wallet::Method,
};
use halfkey_protocol::{Half, lifecycle::PairState};

use crate::{app::Inner, custodian, error::Error, fault::Fault, store::HalfUse};

/// The name under which the public half is stored.
const EXPORT_KEY: &str = "export-key-public";

impl Inner {
    /// The registered export key.
    pub(crate) async fn export_key(&self) -> Result<Option<[u8; 32]>, Error> {
        let stored = self.store.find_server_key(EXPORT_KEY).await?;
        Ok(stored.and_then(|bytes| bytes.try_into().ok()))
    }

    /// Registers it, once; gives the one that counts.
    pub(crate) async fn register_export_key(&self, key: &[u8; 32], now_ms: u64) -> Result<bool, Error> {
        Ok(self.store.server_key(EXPORT_KEY, key, now_ms).await? == key)
    }
}

/// A backup by EXIT is taken only where its custodian's half could be sealed to somebody.
pub(crate) async fn must_be_offered(app: &Inner, method: &Method) -> Result<(), Fault> {
    if *method != Method::Exit {
        return Ok(());
    }
    let key = app.export_key().await.map_err(|error| Fault::internal(&error))?;
    key.map(drop).ok_or_else(|| Fault::field("method", "no export key is registered"))
}

/// The custodian's file of the client's exit kit.
pub(crate) async fn export(
    app: &Inner,
    custodian: CustodianId,
    client: ClientId,
    now_ms: u64,
) -> Result<Vec<u8>, Fault> {
    app.store.client(custodian, client).await?;
    let missing = Fault::new(ErrorId::NotBackedUp, "no exit kit, or no export key is registered");
    let key = app.export_key().await.map_err(|error| Fault::internal(&error))?;
    let export_key = key.ok_or_else(|| missing.clone())?;
    let backups = app.store.backups(client).await?;
    let active =
        |backup: &&crate::store::Backup| backup.method == Method::Exit && backup.pair.state == PairState::Active;
    let backup = backups.iter().find(active).ok_or(missing)?.id;
    let export = Export { deployment: app.deployment, client, backup, export_key };
    let mut halves = Vec::new();
    for opened in custodian::open(app, client, backup, HalfUse::Export, now_ms).await? {
        let pair = opened.transcript.pair();
        let points = (pair.public_key().to_bytes(), pair.peer_point().to_bytes());
        let half = opened.half.to_bytes();
        let sealed = ExportedHalf::seal(&export, (opened.curve, opened.pair), points, &half, &mut OsEntropy);
        halves.push(sealed.map_err(|error| Fault::internal(&error))?);
    }
    app.store.tell_exported(client, backup, now_ms).await?;
    tracing::warn!(%client, %backup, "the custodian's half of an exit kit has left, sealed");
    Ok(CustodianFile { export, halves }.to_bytes())
}
