//! Rate limits and single-use nonces.

use halfkey_envelope::id::ClientId;

use super::{Error, Store, What, sql::sql};

/// At most `hits` in a window of `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many are allowed in one window.
    pub hits: u64,
    /// The window's length, in milliseconds.
    pub window_ms: u64,
}

/// A single-use nonce of the server: what it is for, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// 32 fresh random bytes.
    pub nonce: [u8; 32],
    /// What it may be used for, such as `backup`.
    pub purpose: String,
    /// The device key that it is bound to.
    pub device_key: [u8; 32],
    /// What it is about: the backup, recovery, … 16 bytes.
    pub reference: [u8; 16],
    /// Until when, in milliseconds.
    pub expires_ms: u64,
}

impl Store {
    /// Counts one hit of `subject`; a refused hit is not counted.
    ///
    /// # Errors
    /// [`Error::Busy`] with the time until the window ends.
    pub async fn hit(&self, subject: &str, limit: Limit, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let ends_ms = now_ms.saturating_add(limit.window_ms);
        let counted = sql("INSERT INTO rate_limits (subject, started_ms, ends_ms, hits) VALUES ($1, $2, $3, 1) \
             ON CONFLICT (subject) DO UPDATE SET \
               hits = CASE WHEN rate_limits.ends_ms <= $2 THEN 1 ELSE rate_limits.hits + 1 END, \
               started_ms = CASE WHEN rate_limits.ends_ms <= $2 THEN $2 ELSE rate_limits.started_ms END, \
               ends_ms = CASE WHEN rate_limits.ends_ms <= $2 THEN $3 ELSE rate_limits.ends_ms END \
             WHERE rate_limits.ends_ms <= $2 OR rate_limits.hits < $4")
        .bind(subject)
        .bind(now_ms)
        .bind(ends_ms)
        .bind(limit.hits)
        .execute(&mut tx)
        .await?;
        if counted == 1 {
            return tx.commit().await;
        }
        let row = sql("SELECT ends_ms FROM rate_limits WHERE subject = $1").bind(subject).optional(&mut tx).await?;
        let ends_ms = row.map_or(Ok(ends_ms), |row| row.number("ends_ms"))?;
        Err(Error::Busy { retry_after_ms: ends_ms.saturating_sub(now_ms).max(1) })
    }

    /// Remembers a nonce that was just issued.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn put_challenge(&self, client: ClientId, challenge: &Challenge) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("INSERT INTO challenges (nonce, client, purpose, device_key, reference, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(&challenge.nonce)
        .bind(client)
        .bind(challenge.purpose.as_str())
        .bind(&challenge.device_key)
        .bind(&challenge.reference)
        .bind(challenge.expires_ms)
        .execute(&mut tx)
        .await?;
        tx.commit().await
    }

    /// Uses a nonce up: it is deleted, and the deletion is durable, before this returns. Presented for anything else
    /// than what it was issued for it is left alone and looks unknown.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Expired`].
    pub async fn take_challenge(
        &self,
        client: ClientId,
        purpose: &str,
        device_key: &[u8; 32],
        reference: &[u8; 16],
        nonce: &[u8; 32],
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let row = sql("DELETE FROM challenges WHERE nonce = $1 AND client = $2 AND purpose = $3 AND device_key = $4 \
             AND reference = $5 RETURNING expires_ms")
        .bind(nonce)
        .bind(client)
        .bind(purpose)
        .bind(device_key)
        .bind(reference)
        .optional(&mut tx)
        .await?
        .ok_or(Error::Unknown(What::Challenge))?;
        tx.commit().await?;
        if now_ms >= row.number("expires_ms")? { Err(Error::Expired(What::Challenge)) } else { Ok(()) }
    }
}
