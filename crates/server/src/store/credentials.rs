//! Custodians and API keys. Only the SHA-256 of a key is stored, and it is what is looked up.

use halfkey_envelope::id::{ApiKeyId, ClientId, CustodianId};

use super::{
    Error, Store, What,
    sql::{Row, sql},
};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custodian {
    /// Its identifier.
    pub id: CustodianId,
    /// For people.
    pub name: String,
    /// In milliseconds.
    pub created_ms: u64,
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// A custodian's.
    Custodian(CustodianId),
    /// A client's (tests and development).
    Client {
        /// Its custodian.
        custodian: CustodianId,
        /// The client.
        client: ClientId,
    },
}

/// A key as it is listed: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Names the key in lists and logs.
    pub id: ApiKeyId,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may do; the words are the caller's.
    pub scope: String,
    /// In milliseconds.
    pub created_ms: u64,
    /// In milliseconds, if revoked.
    pub revoked_ms: Option<u64>,
}

/// The answer to a good key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The key.
    pub key: ApiKeyId,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may do.
    pub scope: String,
}

impl Store {
    /// Makes a custodian.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the identifier is taken; the database's own trouble.
    pub async fn create_custodian(&self, id: CustodianId, name: &str, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("INSERT INTO custodians (id, name, created_ms) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(name)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        self.log(&mut tx, *id.as_bytes(), "custodian.created", serde_json::json!({ "name": name }), now_ms).await?;
        tx.commit().await
    }

    /// Every custodian, oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn custodians(&self) -> Result<Vec<Custodian>, Error> {
        let rows = sql("SELECT id, name, created_ms FROM custodians ORDER BY id").all(&self.pool).await?;
        let custodian = |row: &Row| {
            Ok(Custodian { id: row.id("id")?, name: row.get("name")?, created_ms: row.number("created_ms")? })
        };
        rows.iter().map(custodian).collect()
    }

    /// Stores the SHA-256 of a new API key.
    ///
    /// # Errors
    /// [`Error::Unknown`] owner; [`Error::Conflict`] when the identifier or key is taken.
    pub async fn create_key(
        &self,
        id: ApiKeyId,
        digest: &[u8; 32],
        owner: KeyOwner,
        scope: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let (kind, custodian, client) = match owner {
            KeyOwner::Custodian(custodian) => ("CUSTODIAN", custodian, None),
            KeyOwner::Client { custodian, client } => ("CLIENT", custodian, Some(client)),
        };
        let known = match client {
            Some(client) => sql("SELECT id FROM clients WHERE id = $1 AND custodian = $2 AND deleted_ms IS NULL")
                .bind(client)
                .bind(custodian),
            None => sql("SELECT id FROM custodians WHERE id = $1").bind(custodian),
        };
        let what = if client.is_some() { What::Client } else { What::Custodian };
        known.optional(&mut tx).await?.ok_or(Error::Unknown(what))?;
        sql("INSERT INTO api_keys (id, digest, kind, custodian, client, scope, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(id)
        .bind(digest)
        .bind(kind)
        .bind(custodian)
        .bind(client)
        .bind(scope)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        let entry = serde_json::json!({ "key": id, "kind": kind, "client": client, "scope": scope });
        self.log(&mut tx, *custodian.as_bytes(), "key.created", entry, now_ms).await?;
        tx.commit().await
    }

    /// Whose key has this SHA-256. A key that was revoked, or whose client was deleted, looks unknown.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn authenticate_key(&self, digest: &[u8; 32]) -> Result<Authenticated, Error> {
        let row = sql("SELECT k.id, k.custodian, k.client, k.scope, k.created_ms, k.revoked_ms FROM api_keys k \
             LEFT JOIN clients c ON c.id = k.client \
             WHERE k.digest = $1 AND k.revoked_ms IS NULL AND c.deleted_ms IS NULL")
        .bind(digest)
        .optional(&self.pool)
        .await?;
        let key = api_key(&row.ok_or(Error::Unknown(What::Credential))?)?;
        Ok(Authenticated { key: key.id, owner: key.owner, scope: key.scope })
    }

    /// The keys of a custodian and of its clients, oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn keys(&self, custodian: CustodianId) -> Result<Vec<ApiKey>, Error> {
        let rows = sql("SELECT id, custodian, client, scope, created_ms, revoked_ms FROM api_keys \
             WHERE custodian = $1 ORDER BY id")
        .bind(custodian)
        .all(&self.pool)
        .await?;
        rows.iter().map(api_key).collect()
    }

    /// Revokes a key, at once. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn revoke_key(&self, custodian: CustodianId, id: ApiKeyId, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let row = sql("UPDATE api_keys SET revoked_ms = COALESCE(revoked_ms, $3) \
             WHERE id = $1 AND custodian = $2 RETURNING revoked_ms")
        .bind(id)
        .bind(custodian)
        .bind(now_ms)
        .optional(&mut tx)
        .await?;
        row.ok_or(Error::Unknown(What::Credential))?;
        self.log(&mut tx, *custodian.as_bytes(), "key.revoked", serde_json::json!({ "key": id }), now_ms).await?;
        tx.commit().await
    }
}

fn api_key(row: &Row) -> Result<ApiKey, Error> {
    let custodian = row.id("custodian")?;
    let owner = match row.optional_id("client")? {
        Some(client) => KeyOwner::Client { custodian, client },
        None => KeyOwner::Custodian(custodian),
    };
    Ok(ApiKey {
        id: row.id("id")?,
        owner,
        scope: row.get("scope")?,
        created_ms: row.number("created_ms")?,
        revoked_ms: row.optional_number("revoked_ms")?,
    })
}
