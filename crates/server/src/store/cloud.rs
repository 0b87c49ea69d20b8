//! Records in users' clouds: what the server knows of them. Their contents it never sees.

use halfkey_envelope::{
    cloud::RootId,
    id::{BackupId, ClientId, DeviceId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{PairRef, SlotKey};

use super::{
    Error, Store, What,
    sql::{Row, Tx, sql},
    wallets::must_be_enrolled,
};

/// What the server knows of a record in a user's cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudRecord {
    /// The pepper root that it is named and sealed with.
    pub root: RootId,
    /// What stands for the account that holds it.
    pub account: Option<[u8; 32]>,
    /// Its masked label.
    pub hint: Option<String>,
    /// When a device other than the one that made it had read it for the first time, in milliseconds.
    pub read_ms: Option<u64>,
    /// When the user confirmed that other devices can, in milliseconds.
    pub confirmed_ms: Option<u64>,
}

const PEPPER_ROOT: &str = "pepper-root-";

/// The name of a pepper root among the server's keys.
pub(crate) fn pepper_root_name(root: RootId) -> String {
    format!("{PEPPER_ROOT}{root}")
}

impl Store {
    /// The newest pepper root, if there is any.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn newest_pepper_root(&self) -> Result<Option<RootId>, Error> {
        let rows = sql("SELECT name FROM server_keys WHERE name LIKE 'pepper-root-%'").all(&self.pool).await?;
        let mut newest = None;
        for row in &rows {
            let name: String = row.get("name")?;
            let number = name.strip_prefix(PEPPER_ROOT).and_then(|number| number.parse().ok());
            newest = newest.max(Some(number.ok_or(Error::Corrupt("the name of a pepper root"))?));
        }
        Ok(newest)
    }

    /// Notes that the record of this backup, which is pending, will be sealed under `root`; the first root that was
    /// noted stays. Gives what counts.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup, another client's too.
    pub async fn begin_cloud_record(
        &self,
        client: ClientId,
        backup: BackupId,
        root: RootId,
        now_ms: u64,
    ) -> Result<CloudRecord, Error> {
        let mut tx = self.pool.begin().await?;
        let known = sql("SELECT id FROM pairs WHERE id = $1 AND client = $2").bind(backup).bind(client);
        known.optional(&mut tx).await?.ok_or(Error::Unknown(What::Backup))?;
        sql("INSERT INTO cloud_records (backup, client, root, made_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
            .bind(backup)
            .bind(client)
            .bind(u64::from(root))
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        let row = sql("SELECT * FROM cloud_records WHERE backup = $1 AND client = $2").bind(backup).bind(client);
        let row = row.optional(&mut tx).await?.ok_or(Error::Unknown(What::Backup))?;
        tx.commit().await?;
        cloud_record(&row)
    }

    /// What is known of a backup's record in the cloud.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup: none was ever begun.
    pub async fn cloud_record(&self, client: ClientId, backup: BackupId) -> Result<CloudRecord, Error> {
        let row = sql("SELECT * FROM cloud_records WHERE backup = $1 AND client = $2").bind(backup).bind(client);
        cloud_record(&row.optional(&self.pool).await?.ok_or(Error::Unknown(What::Backup))?)
    }

    /// Notes which account holds the record of a pending backup.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup: its record was never begun, or it is not pending.
    pub async fn state_cloud_account(
        &self,
        client: ClientId,
        backup: BackupId,
        account: &[u8; 32],
        hint: &str,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let stated = sql("UPDATE cloud_records SET account = $3, hint = $4 WHERE backup = $1 AND client = $2 \
             AND EXISTS (SELECT 1 FROM pairs WHERE id = $1 AND client = $2 AND state = 'PENDING')")
        .bind(backup)
        .bind(client)
        .bind(account)
        .bind(hint)
        .execute(&mut tx)
        .await?;
        if stated == 1 { tx.commit().await } else { Err(Error::Unknown(What::Backup)) }
    }

    /// Notes the user's word that the cloud of `method` keeps its records on other devices too. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`] device or backup: the method has no active one, or its record lies in no cloud.
    pub async fn confirm_sync(
        &self,
        client: ClientId,
        device: DeviceId,
        method: &Method,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        let slot = work.slot(client, &SlotKey::Backup { client, method: method.clone() }).await?;
        let active = slot.active().ok_or(Error::Unknown(What::Backup))?;
        let PairRef::Backup(backup) = active.id else { return Err(Error::Unknown(What::Backup)) };
        let row = sql("SELECT * FROM cloud_records WHERE backup = $1 AND client = $2").bind(backup).bind(client);
        let known = cloud_record(&row.optional(&mut work.tx).await?.ok_or(Error::Unknown(What::Backup))?)?;
        if known.confirmed_ms.is_some() {
            return Ok(());
        }
        sql("UPDATE cloud_records SET confirmed_ms = $3 WHERE backup = $1 AND client = $2")
            .bind(backup)
            .bind(client)
            .bind(now_ms)
            .execute(&mut work.tx)
            .await?;
        let payload = serde_json::json!({ "backup": backup, "method": method, "device": device });
        work.tell(client, "backup.sync-confirmed", payload, now_ms).await?;
        work.commit(now_ms).await
    }
}

/// `device` has proven that it opened this backup: if it is not the one that made it, the record has reached it.
pub(super) async fn note_reader(
    tx: &mut Tx,
    client: ClientId,
    backup: BackupId,
    device: DeviceId,
    now_ms: u64,
) -> Result<(), Error> {
    sql("UPDATE cloud_records SET read_by = $3, read_ms = $4 WHERE backup = $1 AND client = $2 AND read_ms IS NULL \
         AND EXISTS (SELECT 1 FROM pairs WHERE id = $1 AND begun_by <> $3)")
    .bind(backup)
    .bind(client)
    .bind(device)
    .bind(now_ms)
    .execute(tx)
    .await
    .map(drop)
}

fn cloud_record(row: &Row) -> Result<CloudRecord, Error> {
    Ok(CloudRecord {
        root: RootId::try_from(row.number("root")?).map_err(|_| Error::Corrupt("a pepper root"))?,
        account: row.optional_array("account")?,
        hint: row.get("hint")?,
        read_ms: row.optional_number("read_ms")?,
        confirmed_ms: row.optional_number("confirmed_ms")?,
    })
}
