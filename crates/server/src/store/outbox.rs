//! Events for the custodian, written in the transaction of what they tell and delivered later, at least once.

use halfkey_envelope::{
    hash::h,
    id::{ClientId, CustodianId},
};

use super::{
    Error, Store,
    sql::{Row, Tx, sql},
};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The same at every delivery: the receiver's key against duplicates.
    pub id: [u8; 16],
    /// To whom.
    pub custodian: CustodianId,
    /// Of which client.
    pub client: Option<ClientId>,
    /// What happened.
    pub kind: String,
    /// With what, as JSON.
    pub payload: String,
    /// In milliseconds.
    pub created_ms: u64,
}

impl Store {
    /// Tells the custodian of something that no other verb tells, in a transaction of its own.
    ///
    /// # Errors
    /// [`Error::Unknown`] client; the database's own trouble.
    pub async fn notify(
        &self,
        client: ClientId,
        kind: &str,
        payload: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let custodian = self.hold_client(&mut tx, client).await?;
        self.tell(&mut tx, custodian, client, kind, payload, now_ms).await?;
        tx.commit().await
    }

    /// Logs `kind` in the client's chain and tells the client's custodian of it.
    pub(super) async fn tell(
        &self,
        tx: &mut Tx,
        custodian: CustodianId,
        client: ClientId,
        kind: &str,
        payload: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let text = payload.to_string();
        self.log(tx, *client.as_bytes(), kind, payload, now_ms).await?;
        let head = sql("SELECT hash FROM audit_heads WHERE subject = $1").bind(client).optional(&mut *tx).await?;
        let hash: [u8; 32] = head.ok_or(Error::Corrupt("no head of an audit chain"))?.array("hash")?;
        // Unique because the chain's head is, and ordered by time like every identifier.
        let mut id = [0u8; 16];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&h("halfkey/event/v1/id", &[&hash])[..10]);
        sql("INSERT INTO outbox (id, custodian, client, kind, payload, created_ms, next_ms, attempts) \
             VALUES ($1, $2, $3, $4, $5, $6, $6, 0)")
        .bind(&id)
        .bind(custodian)
        .bind(client)
        .bind(kind)
        .bind(text)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        self.due_everywhere(tx, custodian, &id, kind, now_ms).await
    }

    /// The custodian's events after `after` and not younger than `until_ms`, oldest first, at most `take`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn events(
        &self,
        custodian: CustodianId,
        after: [u8; 16],
        take: u64,
        until_ms: u64,
    ) -> Result<Vec<Event>, Error> {
        let rows = sql("SELECT id, custodian, client, kind, payload, created_ms FROM outbox \
             WHERE custodian = $1 AND id > $2 AND created_ms <= $4 ORDER BY id LIMIT $3")
        .bind(custodian)
        .bind(&after)
        .bind(take)
        .bind(until_ms)
        .all(&self.pool)
        .await?;
        rows.iter().map(event).collect()
    }
}

pub(super) fn event(row: &Row) -> Result<Event, Error> {
    Ok(Event {
        id: row.array("id")?,
        custodian: row.id("custodian")?,
        client: row.optional_id("client")?,
        kind: row.get("kind")?,
        payload: row.get("payload")?,
        created_ms: row.number("created_ms")?,
    })
}
