//! Drills: both sides prove their halves of an active backup, and nothing is spent (METHODS.md H).

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, VerificationId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{Event, PairRef, SlotKey, may_recover};

use super::{
    Error, Store, What,
    cloud::note_reader,
    eject::must_live,
    slots,
    sql::{Row, sql},
    wallets::must_be_enrolled,
};

/// An open drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Its identifier.
    pub id: VerificationId,
    /// The device that asked.
    pub device: DeviceId,
    /// The backup that it proves.
    pub backup: BackupId,
    /// The method.
    pub method: Method,
    /// When it expires, in milliseconds.
    pub expires_ms: u64,
}

impl Store {
    /// Opens a drill of the method's active backup.
    ///
    /// # Errors
    /// [`Error::Unknown`] device or backup; [`Error::Refused`] when the backup is frozen.
    pub async fn begin_verification(
        &self,
        client: ClientId,
        device: DeviceId,
        method: &Method,
        id: VerificationId,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<Verification, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        must_live(&mut work.tx, client).await?;
        if *method == Method::Exit {
            return Err(Error::Unknown(What::Backup));
        }
        let slot = work.slot(client, &SlotKey::Backup { client, method: method.clone() }).await?;
        let pair = slot.standing().ok_or(Error::Unknown(What::Backup))?;
        may_recover(pair)?;
        let PairRef::Backup(backup) = pair.id else { return Err(Error::Unknown(What::Backup)) };
        sql("INSERT INTO verifications (id, client, backup, device, state, created_ms, expires_ms) \
             VALUES ($1, $2, $3, $4, 'OPEN', $5, $6)")
        .bind(id)
        .bind(client)
        .bind(backup)
        .bind(device)
        .bind(now_ms)
        .bind(expires_ms)
        .execute(&mut work.tx)
        .await?;
        work.commit(now_ms).await?;
        Ok(Verification { id, device, backup, method: method.clone(), expires_ms })
    }

    /// An open drill of this device.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another device's drill and a finished one too; [`Error::Expired`].
    pub async fn verification(
        &self,
        client: ClientId,
        device: DeviceId,
        id: VerificationId,
        now_ms: u64,
    ) -> Result<Verification, Error> {
        let row = sql("SELECT v.id, v.device, v.backup, v.expires_ms, s.method FROM verifications v \
             JOIN pairs p ON p.id = v.backup JOIN slots s ON s.slot = p.slot \
             WHERE v.id = $1 AND v.client = $2 AND v.device = $3 AND v.state = 'OPEN'")
        .bind(id)
        .bind(client)
        .bind(device)
        .optional(&self.pool)
        .await?;
        let verification = verification(&row.ok_or(Error::Unknown(What::Verification))?)?;
        if now_ms >= verification.expires_ms { Err(Error::Expired(What::Verification)) } else { Ok(verification) }
    }

    /// Ends a drill. `passed` only if the proofs of both sides verified on every curve: then the backup counts as
    /// verified at `now_ms`. Otherwise it counts as failed until a drill passes.
    ///
    /// # Errors
    /// [`Error::Unknown`] and [`Error::Expired`] verification; [`Error::Refused`] when the backup was retired in between.
    pub async fn finish_verification(
        &self,
        client: ClientId,
        device: DeviceId,
        id: VerificationId,
        passed: bool,
        now_ms: u64,
    ) -> Result<(), Error> {
        let open = self.verification(client, device, id, now_ms).await?;
        let mut work = self.work().await?;
        let state = if passed { "PASSED" } else { "FAILED" };
        let ended = sql("UPDATE verifications SET state = $3, finished_ms = $4 \
             WHERE id = $1 AND client = $2 AND state = 'OPEN'")
        .bind(id)
        .bind(client)
        .bind(state)
        .bind(now_ms)
        .execute(&mut work.tx)
        .await?;
        if ended != 1 {
            return Err(Error::Unknown(What::Verification));
        }
        if passed {
            let pair = PairRef::Backup(open.backup);
            let key = slots::key_of(&mut work.tx, client, pair).await?;
            work.apply(client, &key, &[Event::Opened { pair }], now_ms).await?;
            note_reader(&mut work.tx, client, open.backup, device, now_ms).await?;
        }
        let noted = if passed {
            sql("UPDATE pairs SET verified_ms = $3, failed_ms = NULL WHERE id = $1 AND client = $2")
        } else {
            sql("UPDATE pairs SET failed_ms = $3 WHERE id = $1 AND client = $2")
        };
        noted.bind(open.backup).bind(client).bind(now_ms).execute(&mut work.tx).await?;
        let kind = if passed { "backup.verified" } else { "backup.verification-failed" };
        work.tell(client, kind, serde_json::json!({ "backup": open.backup, "verification": id }), now_ms).await?;
        work.commit(now_ms).await
    }
}

fn verification(row: &Row) -> Result<Verification, Error> {
    Ok(Verification {
        id: row.id("id")?,
        device: row.id("device")?,
        backup: row.id("backup")?,
        method: row.parse("method")?,
        expires_ms: row.number("expires_ms")?,
    })
}
