//! Where custodians want their events sent, and how far each event got there. Deliveries are written in the transaction of
//! their event, and tried until they are answered or given up: at least once, in the order of the events where nothing fails.

use std::str::FromStr;

use halfkey_envelope::id::{ClientId, CustodianId, WebhookId};

use super::{
    Error, Event, Store, What,
    outbox::event,
    sql::{On, Row, Tx, sql},
};

/// How many addresses one custodian may have.
pub const MAX_WEBHOOKS: u64 = 10;

/// An address for events, and how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Names it.
    pub id: WebhookId,
    /// Whose.
    pub custodian: CustodianId,
    /// Where to.
    pub url: String,
    /// Which kinds of events; all if empty.
    pub kinds: Vec<String>,
    /// In milliseconds.
    pub created_ms: u64,
    /// Of the secret that signs; counted from 1.
    pub secret_version: u64,
    /// When that version was made, in milliseconds.
    pub rotated_ms: u64,
    /// Attempts that failed one after the other.
    pub failures: u64,
    /// When the first of them was, in milliseconds.
    pub failing_since_ms: Option<u64>,
    /// When it last took an event, in milliseconds.
    pub delivered_ms: Option<u64>,
}

/// A new address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Names it.
    pub id: WebhookId,
    /// Whose.
    pub custodian: CustodianId,
    /// Where to.
    pub url: String,
    /// Which kinds of events; all if empty.
    pub kinds: Vec<String>,
}

/// How far a delivery got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is still tried.
    Pending,
    /// It was answered with 2xx.
    Delivered,
    /// It was tried for days and given up; a replay tries it again.
    Failed,
}

impl DeliveryState {
    /// As the interface names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// One event on its way to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What is told.
    pub event: [u8; 16],
    /// Its kind.
    pub kind: String,
    /// Of which client.
    pub client: Option<ClientId>,
    /// When it happened, in milliseconds.
    pub created_ms: u64,
    /// How often it was tried.
    pub attempts: u64,
    /// How far it got.
    pub state: DeliveryState,
    /// When it is tried next, in milliseconds.
    pub next_ms: Option<u64>,
    /// When it was taken, in milliseconds.
    pub delivered_ms: Option<u64>,
    /// What the last attempt got: a status, or why there was none.
    pub answer: Option<String>,
}

/// What is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Where to.
    pub webhook: Webhook,
    /// What.
    pub event: Event,
    /// The how-manieth attempt this is, counted from 1.
    pub attempt: u64,
}

impl Store {
    /// Adds an address. Only what happens from now on is sent to it.
    ///
    /// # Errors
    /// [`Error::Exists`] when the custodian has [`MAX_WEBHOOKS`]; [`Error::Unknown`] custodian; the database's own trouble.
    pub async fn create_webhook(&self, new: NewWebhook, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        // Locks the custodian, so that two calls cannot both be the last that fits.
        let held = sql("UPDATE custodians SET name = name WHERE id = $1").bind(new.custodian).execute(&mut tx).await?;
        if held == 0 {
            return Err(Error::Unknown(What::Custodian));
        }
        if webhooks((&mut tx).into(), new.custodian).await?.len() as u64 >= MAX_WEBHOOKS {
            return Err(Error::Exists(What::Webhook));
        }
        sql("INSERT INTO webhooks (id, custodian, url, kinds, created_ms, secret_version, rotated_ms, failures, paused_ms) \
             VALUES ($1, $2, $3, $4, $5, 1, $5, 0, 0)")
        .bind(new.id)
        .bind(new.custodian)
        .bind(new.url)
        .bind(joined(&new.kinds))
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        self.log_webhook(&mut tx, new.custodian, "webhook.created", new.id, now_ms).await?;
        tx.commit().await
    }

    /// The custodian's addresses, oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn webhooks(&self, custodian: CustodianId) -> Result<Vec<Webhook>, Error> {
        webhooks((&self.pool).into(), custodian).await
    }

    /// One of the custodian's addresses.
    ///
    /// # Errors
    /// [`Error::Unknown`]; the database's own trouble.
    pub async fn webhook(&self, custodian: CustodianId, id: WebhookId) -> Result<Webhook, Error> {
        find((&self.pool).into(), custodian, id).await
    }

    /// Takes an address away, with what was still to be sent there.
    ///
    /// # Errors
    /// [`Error::Unknown`]; the database's own trouble.
    pub async fn delete_webhook(&self, custodian: CustodianId, id: WebhookId, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        find((&mut tx).into(), custodian, id).await?;
        sql("DELETE FROM deliveries WHERE webhook = $1").bind(id).execute(&mut tx).await?;
        sql("DELETE FROM webhooks WHERE id = $1").bind(id).execute(&mut tx).await?;
        self.log_webhook(&mut tx, custodian, "webhook.deleted", id, now_ms).await?;
        tx.commit().await
    }

    /// Begins the next version of an address's secret.
    ///
    /// # Errors
    /// [`Error::Unknown`]; the database's own trouble.
    pub async fn rotate_webhook(&self, custodian: CustodianId, id: WebhookId, now_ms: u64) -> Result<Webhook, Error> {
        let mut tx = self.pool.begin().await?;
        let changed = sql("UPDATE webhooks SET secret_version = secret_version + 1, rotated_ms = $3 \
             WHERE id = $1 AND custodian = $2")
        .bind(id)
        .bind(custodian)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        if changed == 0 {
            return Err(Error::Unknown(What::Webhook));
        }
        let webhook = find((&mut tx).into(), custodian, id).await?;
        self.log_webhook(&mut tx, custodian, "webhook.secret-rotated", id, now_ms).await?;
        tx.commit().await?;
        Ok(webhook)
    }

    /// Sends the events since `since_ms` again, or of them only what was given up; says how many. What the address asked for
    /// in kinds holds here too.
    ///
    /// # Errors
    /// [`Error::Unknown`]; the database's own trouble.
    pub async fn replay(
        &self,
        custodian: CustodianId,
        id: WebhookId,
        since_ms: u64,
        only_failed: bool,
        now_ms: u64,
    ) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        let webhook = find((&mut tx).into(), custodian, id).await?;
        let again = match only_failed {
            true => sql("UPDATE deliveries SET next_ms = $2, attempts = 0 WHERE webhook = $1 AND next_ms IS NULL \
                 AND delivered_ms IS NULL AND event IN (SELECT id FROM outbox WHERE custodian = $3 AND created_ms >= $4)"),
            false => sql("INSERT INTO deliveries (webhook, event, attempts, next_ms) \
                 SELECT $1, id, 0, $2 FROM outbox WHERE custodian = $3 AND created_ms >= $4 \
                 AND ($5 = '' OR $5 LIKE '%,' || kind || ',%') \
                 ON CONFLICT (webhook, event) DO UPDATE SET attempts = 0, next_ms = excluded.next_ms, delivered_ms = NULL"),
        };
        let again = again.bind(id).bind(now_ms).bind(custodian).bind(since_ms);
        let again = if only_failed { again } else { again.bind(joined(&webhook.kinds)) };
        let count = again.execute(&mut tx).await?;
        sql("UPDATE webhooks SET paused_ms = 0 WHERE id = $1").bind(id).execute(&mut tx).await?;
        self.log_webhook(&mut tx, custodian, "webhook.replayed", id, now_ms).await?;
        tx.commit().await?;
        Ok(count)
    }

    /// What was and is sent to an address, after the event `after`, oldest first, at most `take`.
    ///
    /// # Errors
    /// [`Error::Unknown`]; the database's own trouble.
    pub async fn deliveries(
        &self,
        custodian: CustodianId,
        id: WebhookId,
        state: Option<DeliveryState>,
        after: [u8; 16],
        take: u64,
    ) -> Result<Vec<Delivery>, Error> {
        self.webhook(custodian, id).await?;
        let rows =
            sql("SELECT d.event, o.kind, o.client, o.created_ms, d.attempts, d.next_ms, d.delivered_ms, d.answer \
             FROM deliveries d JOIN outbox o ON o.id = d.event WHERE d.webhook = $1 AND d.event > $2 \
             AND ($4 = '' OR $4 = CASE WHEN d.next_ms IS NOT NULL THEN 'pending' \
                 WHEN d.delivered_ms IS NOT NULL THEN 'delivered' ELSE 'failed' END) ORDER BY d.event LIMIT $3")
            .bind(id)
            .bind(&after)
            .bind(take)
            .bind(state.map_or("", DeliveryState::as_str))
            .all(&self.pool)
            .await?;
        rows.iter().map(delivery).collect()
    }

    /// Addresses that something is due for, the longest waiting first, at most `take`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn due_webhooks(&self, take: u64, now_ms: u64) -> Result<Vec<WebhookId>, Error> {
        let rows = sql("SELECT d.webhook FROM deliveries d JOIN webhooks w ON w.id = d.webhook \
             WHERE d.next_ms <= $1 AND w.paused_ms <= $1 GROUP BY d.webhook ORDER BY MIN(d.next_ms) LIMIT $2")
        .bind(now_ms)
        .bind(take)
        .all(&self.pool)
        .await?;
        rows.iter().map(|row| row.id("webhook")).collect()
    }

    /// Takes the oldest event that is due at an address. If the caller dies, it is due again at `retry_ms`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn take_delivery(&self, id: WebhookId, retry_ms: u64, now_ms: u64) -> Result<Option<Sending>, Error> {
        let mut tx = self.pool.begin().await?;
        let found = sql("SELECT * FROM webhooks WHERE id = $1 AND paused_ms <= $2").bind(id).bind(now_ms);
        let Some(found) = found.optional(&mut tx).await? else { return Ok(None) };
        let taken = sql("UPDATE deliveries SET attempts = attempts + 1, next_ms = $3 \
             WHERE webhook = $1 AND next_ms <= $2 AND event = (SELECT event FROM deliveries \
                 WHERE webhook = $1 AND next_ms <= $2 ORDER BY event LIMIT 1) RETURNING event, attempts")
        .bind(id)
        .bind(now_ms)
        .bind(retry_ms)
        .optional(&mut tx)
        .await?;
        let Some(taken) = taken else { return Ok(None) };
        let row = sql("SELECT id, custodian, client, kind, payload, created_ms FROM outbox WHERE id = $1")
            .bind(&taken.array::<16>("event")?)
            .optional(&mut tx)
            .await?;
        let row = row.ok_or(Error::Corrupt("a delivery of no event"))?;
        tx.commit().await?;
        Ok(Some(Sending { webhook: webhook(&found)?, event: event(&row)?, attempt: taken.number("attempts")? }))
    }

    /// An address took an event.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn delivered(&self, id: WebhookId, event: &[u8; 16], answer: &str, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("UPDATE deliveries SET next_ms = NULL, delivered_ms = $3, answer = $4 WHERE webhook = $1 AND event = $2")
            .bind(id)
            .bind(event)
            .bind(now_ms)
            .bind(answer)
            .execute(&mut tx)
            .await?;
        sql(
            "UPDATE webhooks SET failures = 0, failing_since_ms = NULL, delivered_ms = $2, paused_ms = 0 WHERE id = $1",
        )
        .bind(id)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        tx.commit().await
    }

    /// It did not; `next_ms`: when that event is tried again, if ever; `paused_ms`: until when the address is left alone.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn undelivered(
        &self,
        id: WebhookId,
        event: &[u8; 16],
        answer: &str,
        next_ms: Option<u64>,
        paused_ms: u64,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("UPDATE deliveries SET next_ms = $3, answer = $4 WHERE webhook = $1 AND event = $2 AND delivered_ms IS NULL")
            .bind(id)
            .bind(event)
            .bind(next_ms)
            .bind(answer)
            .execute(&mut tx)
            .await?;
        sql("UPDATE webhooks SET failures = failures + 1, failing_since_ms = COALESCE(failing_since_ms, $2), \
             paused_ms = $3 WHERE id = $1")
        .bind(id)
        .bind(now_ms)
        .bind(paused_ms)
        .execute(&mut tx)
        .await?;
        tx.commit().await
    }

    /// An event is due at every address of its custodian that asks for its kind.
    pub(super) async fn due_everywhere(
        &self,
        tx: &mut Tx,
        custodian: CustodianId,
        event: &[u8; 16],
        kind: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        sql("INSERT INTO deliveries (webhook, event, attempts, next_ms) SELECT id, $2, 0, $4 FROM webhooks \
             WHERE custodian = $1 AND (kinds = '' OR kinds LIKE '%,' || $3 || ',%')")
        .bind(custodian)
        .bind(event)
        .bind(kind)
        .bind(now_ms)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn log_webhook(
        &self,
        tx: &mut Tx,
        custodian: CustodianId,
        kind: &str,
        id: WebhookId,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.log(tx, *custodian.as_bytes(), kind, serde_json::json!({ "webhook": id }), now_ms).await
    }
}

async fn webhooks(on: On<'_>, custodian: CustodianId) -> Result<Vec<Webhook>, Error> {
    let rows = sql("SELECT * FROM webhooks WHERE custodian = $1 ORDER BY id").bind(custodian).all(on).await?;
    rows.iter().map(webhook).collect()
}

async fn find(on: On<'_>, custodian: CustodianId, id: WebhookId) -> Result<Webhook, Error> {
    let row = sql("SELECT * FROM webhooks WHERE id = $1 AND custodian = $2").bind(id).bind(custodian);
    webhook(&row.optional(on).await?.ok_or(Error::Unknown(What::Webhook))?)
}

/// `,a,b,`, so that a whole kind can be looked for in it.
fn joined(kinds: &[String]) -> String {
    if kinds.is_empty() { String::new() } else { format!(",{},", kinds.join(",")) }
}

fn webhook(row: &Row) -> Result<Webhook, Error> {
    let kinds: String = row.get("kinds")?;
    Ok(Webhook {
        id: row.id("id")?,
        custodian: row.id("custodian")?,
        url: row.get("url")?,
        kinds: kinds.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        created_ms: row.number("created_ms")?,
        secret_version: row.number("secret_version")?,
        rotated_ms: row.number("rotated_ms")?,
        failures: row.number("failures")?,
        failing_since_ms: row.optional_number("failing_since_ms")?,
        delivered_ms: row.optional_number("delivered_ms")?,
    })
}

fn delivery(row: &Row) -> Result<Delivery, Error> {
    let (next_ms, delivered_ms) = (row.optional_number("next_ms")?, row.optional_number("delivered_ms")?);
    let state = match (next_ms, delivered_ms) {
        (Some(_), _) => DeliveryState::Pending,
        (None, Some(_)) => DeliveryState::Delivered,
        (None, None) => DeliveryState::Failed,
    };
    Ok(Delivery {
        event: row.array("event")?,
        kind: row.get("kind")?,
        client: row.optional_id("client")?,
        created_ms: row.number("created_ms")?,
        attempts: row.number("attempts")?,
        state,
        next_ms,
        delivered_ms,
        answer: row.get("answer")?,
    })
}
