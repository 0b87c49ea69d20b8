//! Clients and their session tokens: 24 hours sliding, 7 days at most. Only a token's SHA-256 is stored.

use halfkey_envelope::id::{ClientId, CustodianId};

use super::{
    Error, Store, What,
    sql::{Row, Tx, sql},
};

/// A session ends when it was not used for this long.
pub const SESSION_IDLE_MS: u64 = 24 * 60 * 60 * 1000;
/// A session ends this long after it was opened, however often it is used.
pub const SESSION_LIFE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// A use is written down at most this often: reading must not cost a durable write each time.
const TOUCH_EVERY_MS: u64 = 60 * 1000;

/// One end user of a custodian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its identifier.
    pub id: ClientId,
    /// Its custodian.
    pub custodian: CustodianId,
    /// The custodian's own name for the user.
    pub external_id: Option<String>,
    /// In milliseconds.
    pub created_ms: u64,
}

impl Store {
    /// Makes a client.
    ///
    /// # Errors
    /// [`Error::Unknown`] custodian; [`Error::Conflict`] when the identifier is taken.
    pub async fn create_client(
        &self,
        custodian: CustodianId,
        id: ClientId,
        external_id: Option<String>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let known = sql("SELECT id FROM custodians WHERE id = $1").bind(custodian).optional(&mut tx).await?;
        known.ok_or(Error::Unknown(What::Custodian))?;
        sql("INSERT INTO clients (id, custodian, external_id, created_ms, version) VALUES ($1, $2, $3, $4, 0)")
            .bind(id)
            .bind(custodian)
            .bind(external_id)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        self.log(&mut tx, *id.as_bytes(), "client.created", serde_json::json!({ "custodian": custodian }), now_ms)
            .await?;
        tx.commit().await
    }

    /// One client of this custodian.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another custodian's client too.
    pub async fn client(&self, custodian: CustodianId, id: ClientId) -> Result<Client, Error> {
        let row = sql("SELECT id, custodian, external_id, created_ms FROM clients \
             WHERE id = $1 AND custodian = $2 AND deleted_ms IS NULL")
        .bind(id)
        .bind(custodian)
        .optional(&self.pool)
        .await?;
        client(&row.ok_or(Error::Unknown(What::Client))?)
    }

    /// At most `take` clients of this custodian after `after`, oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn clients(
        &self,
        custodian: CustodianId,
        after: Option<ClientId>,
        take: u64,
    ) -> Result<Vec<Client>, Error> {
        let after = after.unwrap_or(ClientId::from_bytes([0; 16]));
        let rows = sql("SELECT id, custodian, external_id, created_ms FROM clients \
             WHERE custodian = $1 AND id > $2 AND deleted_ms IS NULL ORDER BY id LIMIT $3")
        .bind(custodian)
        .bind(after)
        .bind(take)
        .all(&self.pool)
        .await?;
        rows.iter().map(client).collect()
    }

    /// Opens a session: stores the SHA-256 of a fresh token. Returns when it ends unless it is used.
    ///
    /// # Errors
    /// [`Error::Unknown`] client.
    pub async fn open_session(
        &self,
        custodian: CustodianId,
        client: ClientId,
        digest: &[u8; 32],
        now_ms: u64,
    ) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        let known = sql("SELECT id FROM clients WHERE id = $1 AND custodian = $2 AND deleted_ms IS NULL")
            .bind(client)
            .bind(custodian)
            .optional(&mut tx)
            .await?;
        known.ok_or(Error::Unknown(What::Client))?;
        sql("INSERT INTO sessions (digest, client, created_ms, used_ms, ends_ms) VALUES ($1, $2, $3, $3, $4)")
            .bind(digest)
            .bind(client)
            .bind(now_ms)
            .bind(now_ms.saturating_add(SESSION_LIFE_MS))
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(now_ms.saturating_add(SESSION_IDLE_MS))
    }

    /// Whose session has this SHA-256; using it keeps it open.
    ///
    /// # Errors
    /// [`Error::Unknown`]: never opened, or closed; [`Error::Expired`].
    pub async fn touch_session(&self, digest: &[u8; 32], now_ms: u64) -> Result<Client, Error> {
        let row = sql("SELECT c.id, c.custodian, c.external_id, c.created_ms, s.used_ms, s.ends_ms \
             FROM sessions s JOIN clients c ON c.id = s.client WHERE s.digest = $1 AND c.deleted_ms IS NULL")
        .bind(digest)
        .optional(&self.pool)
        .await?
        .ok_or(Error::Unknown(What::Credential))?;
        let used_ms = row.number("used_ms")?;
        if now_ms >= row.number("ends_ms")? || now_ms >= used_ms.saturating_add(SESSION_IDLE_MS) {
            return Err(Error::Expired(What::Credential));
        }
        if now_ms >= used_ms.saturating_add(TOUCH_EVERY_MS) {
            let mut tx = self.pool.begin().await?;
            sql("UPDATE sessions SET used_ms = $2 WHERE digest = $1 AND used_ms < $2")
                .bind(digest)
                .bind(now_ms)
                .execute(&mut tx)
                .await?;
            tx.commit().await?;
        }
        client(&row)
    }

    /// Closes one session. Repeating it changes nothing.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn close_session(&self, digest: &[u8; 32]) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM sessions WHERE digest = $1").bind(digest).execute(&mut tx).await?;
        tx.commit().await
    }

    /// Closes every session of a client; says how many there were.
    ///
    /// # Errors
    /// [`Error::Unknown`] client.
    pub async fn close_sessions(&self, custodian: CustodianId, client: ClientId) -> Result<u64, Error> {
        self.client(custodian, client).await?;
        let mut tx = self.pool.begin().await?;
        let closed = sql("DELETE FROM sessions WHERE client = $1").bind(client).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(closed)
    }

    /// Takes the client's row: until this transaction ends, every other one that takes it waits. For rules that look
    /// at all slots of a client at once.
    pub(super) async fn hold_client(&self, tx: &mut Tx, client: ClientId) -> Result<CustodianId, Error> {
        let row = sql("UPDATE clients SET version = version + 1 \
             WHERE id = $1 AND deleted_ms IS NULL RETURNING custodian")
        .bind(client)
        .optional(tx)
        .await?;
        row.ok_or(Error::Unknown(What::Client))?.id("custodian")
    }
}

fn client(row: &Row) -> Result<Client, Error> {
    Ok(Client {
        id: row.id("id")?,
        custodian: row.id("custodian")?,
        external_id: row.get("external_id")?,
        created_ms: row.number("created_ms")?,
    })
}
