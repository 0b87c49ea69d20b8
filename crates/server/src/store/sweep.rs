//! Housekeeping, to be called every minute or so by one or many nodes: each step is idempotent.

use halfkey_envelope::id::{BackupId, ClientId, PairId};
use halfkey_protocol::lifecycle::Event;

use super::{Error, SESSION_IDLE_MS, Store, slots, sql::sql};

/// Events are kept this long, to be read and replayed: 90 days.
const KEEP_EVENTS_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// How many rows one step looks at.
const PAGE: u64 = 200;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Slots looked at because a pair had expired or was retired.
    pub slots: u64,
    /// Ejects whose halves were retired, 30 days after their acknowledgement.
    pub ejected: u64,
    /// Recoveries that expired.
    pub recoveries: u64,
    /// Halves whose shred key was destroyed.
    pub shredded: u64,
}

impl Store {
    /// Expires what is late, erases what PROTOCOL.md 4.4 lets go, and destroys the shred keys of what is erased.
    ///
    /// `replica_as_of_ms`: everything committed up to then is on a synchronous standby or in a completed off-machine
    /// copy, and no restore goes back before it. Without it nothing that ever was active is erased.
    ///
    /// # Errors
    /// The database's own trouble. What was done before it stays done.
    pub async fn sweep(&self, replica_as_of_ms: Option<u64>, now_ms: u64) -> Result<Swept, Error> {
        let mut swept = Swept { ejected: self.retire_ejected(now_ms).await?, ..Swept::default() };
        let mut after = String::new();
        loop {
            let rows = sql("SELECT DISTINCT p.slot, s.client, s.wallet, s.device, s.method FROM pairs p \
                 JOIN slots s ON s.slot = p.slot WHERE p.slot > $1 \
                 AND (p.state = 'RETIRED' OR (p.state = 'PENDING' AND p.deadline_ms <= $2)) ORDER BY p.slot LIMIT $3")
            .bind(after.as_str())
            .bind(now_ms)
            .bind(PAGE)
            .all(&self.pool)
            .await?;
            let Some(last) = rows.last() else { break };
            after = last.get("slot")?;
            for row in &rows {
                let client: ClientId = row.id("client")?;
                let mut work = self.work().await?;
                let mut events = vec![Event::Expire];
                events.extend(replica_as_of_ms.map(|as_of_ms| Event::ReplicaSafe { as_of_ms }));
                events.push(Event::Sweep);
                work.apply(client, &slots::slot_key(row)?, &events, now_ms).await?;
                work.commit(now_ms).await?;
                swept.slots += 1;
            }
        }
        swept.recoveries = self.expire_recoveries(now_ms).await?;
        swept.shredded = self.shred_erased(now_ms).await?;
        self.forget(now_ms).await?;
        Ok(swept)
    }

    /// Erased backups whose registration at the password door may still be there, the oldest first, at most `take`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn doors_to_close(&self, take: u64) -> Result<Vec<BackupId>, Error> {
        let rows = sql("SELECT backup FROM doors_to_close ORDER BY since_ms, backup LIMIT $1").bind(take);
        rows.all(&self.pool).await?.iter().map(|row| row.id("backup")).collect()
    }

    /// The door has destroyed that registration, or never had it.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn door_closed(&self, backup: BackupId) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM doors_to_close WHERE backup = $1").bind(backup).execute(&mut tx).await?;
        tx.commit().await
    }

    async fn expire_recoveries(&self, now_ms: u64) -> Result<u64, Error> {
        let rows = sql("SELECT id, client FROM recoveries WHERE expires_ms <= $1 \
             AND state IN ('REQUESTED', 'WAITING', 'READY', 'EXECUTING') ORDER BY id LIMIT $2")
        .bind(now_ms)
        .bind(PAGE)
        .all(&self.pool)
        .await?;
        for row in &rows {
            self.expire_recovery(row.id("client")?, row.id("id")?, now_ms).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Destroys first and notes it after: a crash in between repeats the destruction, which changes nothing.
    async fn shred_erased(&self, now_ms: u64) -> Result<u64, Error> {
        let Some(shred) = &self.shred else { return Ok(0) };
        let mut shredded = 0;
        loop {
            let rows = sql("SELECT h.id, h.pair, p.slot FROM pair_shares h JOIN pairs p ON p.id = h.pair \
                 WHERE p.state = 'ERASED' AND h.shredded_ms IS NULL LIMIT $1")
            .bind(PAGE)
            .all(&self.pool)
            .await?;
            if rows.is_empty() {
                return Ok(shredded);
            }
            for row in &rows {
                let half: PairId = row.id("id")?;
                shred.destroy(half, &row.array("pair")?, &row.get::<String>("slot")?, now_ms).await?;
                let mut tx = self.pool.begin().await?;
                sql("UPDATE pair_shares SET shredded_ms = $2 WHERE id = $1")
                    .bind(half)
                    .bind(now_ms)
                    .execute(&mut tx)
                    .await?;
                tx.commit().await?;
                shredded += 1;
            }
        }
    }

    /// Rows that only had to last for a while.
    async fn forget(&self, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM request_nonces WHERE expires_ms <= $1").bind(now_ms).execute(&mut tx).await?;
        sql("DELETE FROM challenges WHERE expires_ms <= $1").bind(now_ms).execute(&mut tx).await?;
        sql("DELETE FROM rate_limits WHERE ends_ms <= $1").bind(now_ms).execute(&mut tx).await?;
        sql("DELETE FROM sessions WHERE ends_ms <= $1 OR used_ms <= $2")
            .bind(now_ms)
            .bind(now_ms.saturating_sub(2 * SESSION_IDLE_MS))
            .execute(&mut tx)
            .await?;
        let old_ms = now_ms.saturating_sub(KEEP_EVENTS_MS);
        sql("DELETE FROM deliveries WHERE event IN (SELECT id FROM outbox WHERE created_ms <= $1)")
            .bind(old_ms)
            .execute(&mut tx)
            .await?;
        sql("DELETE FROM outbox WHERE created_ms <= $1").bind(old_ms).execute(&mut tx).await?;
        tx.commit().await
    }
}
