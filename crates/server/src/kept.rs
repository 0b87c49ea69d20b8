//! Server state between two rounds of a ceremony (PROTOCOL.md 4.7), in a SQLite file of its own that every start
//! deletes, or in an unlogged PostgreSQL table; nowhere else, and in no backup.
//!
//! A row is used once: it is deleted, and the deletion committed, before anything is computed from it. Its bytes are
//! sealed under a key that needs 32 random bytes which only the device has between two requests, so a copy of the
//! table is of no use.

use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::h,
    id::{ClientId, SessionId},
    seal::{self, Magic, SealKey},
};
use zeroize::Zeroizing;

use crate::store::{
    Error, What, migrate,
    sql::{Pool, Row, Tx, sql},
};

/// How long a step may take: 60 seconds.
pub const KEPT_LIFE_MS: u64 = 60 * 1000;
/// How long a session may wait that was opened ahead of its first step: 7 days. What it keeps is the server's part of
/// the session's id, which its device knows, and nothing that was computed from a share.
pub const AHEAD_LIFE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// The longest state that is kept: both curves of a key generation are below a tenth of it.
pub const MAX_KEPT: usize = 512 * 1024;

const MAGIC: Magic = Magic(*b"HKK1");
const KEY_TAG: &str = "halfkey/kept/v1/key";
const MIGRATIONS: &[&str] = &[include_str!("kept/0001.sql"), include_str!("kept/0002.sql")];
/// The one seat of a device for a session that was opened ahead, beyond all others.
const AHEAD_SEAT: u64 = u32::MAX as u64;

/// The server's part of the key. All nodes and starts share it; a SQLite file of kept state is deleted at every start.
pub struct KeptKey(Zeroizing<[u8; 32]>);

impl KeptKey {
    /// A fresh one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(random::<32>(entropy))
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptKey")
    }
}

/// How much may be kept at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Sessions of one device key.
    pub per_device: u64,
    /// Sessions of all devices together, without those opened ahead. Under a race of many nodes a few more.
    pub total: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { per_device: 8, total: 10_000 }
    }
}

/// What a kept state belongs to. All of it is bound into the seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSession {
    /// The session.
    pub session: SessionId,
    /// The client.
    pub client: ClientId,
    /// The device key that began it; nobody else goes on with it.
    pub device_key: [u8; 32],
    /// The ceremony, such as `backup`.
    pub operation: String,
    /// The step that was answered; the next request is for the one after.
    pub step: u8,
    /// What it is about: the id of the pair, backup, recovery or client.
    pub subject: [u8; 16],
    /// What one session at a time may work on, per operation: the slot's name, or the like. `None` for signatures, which
    /// may run beside each other.
    pub slot: Option<String>,
    /// The slot's generation.
    pub generation: u64,
    /// `H` over all messages so far.
    pub transcript: [u8; 32],
}

/// The 32 bytes that the device brings back with its next request.
pub struct Resume(Zeroizing<[u8; 32]>);

impl Resume {
    /// From a request.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For the answer.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resume")
    }
}

/// Which kept state a request claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The session that it names.
    pub session: SessionId,
    /// Who calls.
    pub client: ClientId,
    /// With which device key.
    pub device_key: &'a [u8; 32],
    /// The ceremony that it names.
    pub operation: &'a str,
    /// The step before the one that it asks for.
    pub step: u8,
    /// What it says that it is about.
    pub subject: &'a [u8; 16],
}

/// How long a session waits for its next step.
#[derive(Clone, Copy)]
enum Wait {
    /// For a device that is in the middle of it.
    Step,
    /// For a device that may come with its first step some day.
    Ahead,
}

impl Wait {
    const fn deadline_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_add(match self {
            Self::Step => KEPT_LIFE_MS,
            Self::Ahead => AHEAD_LIFE_MS,
        })
    }
}

/// Kept state, cheap to share behind an `Arc`.
pub struct Kept {
    pool: Pool,
    key: KeptKey,
    caps: Caps,
}

impl Kept {
    /// Opens `sqlite:PATH`, after deleting what is there, or `postgres://…`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn connect(url: &str, key: KeptKey, caps: Caps) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                match std::fs::remove_file(format!("{path}{suffix}")) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::File(error)),
                    _ => {}
                }
            }
        }
        let pool = Pool::connect(url).await?;
        migrate(&pool, "kept", MIGRATIONS).await?;
        Ok(Self { pool, key, caps })
    }

    /// Keeps `state` until the next request of the same device, at most [`KEPT_LIFE_MS`]. An older session of the same
    /// device on the same slot is taken over: a lost answer must not block.
    ///
    /// # Errors
    /// [`Error::OperationInProgress`] while another device works on the slot; [`Error::Busy`] beyond the caps.
    pub async fn put(
        &self,
        row: &KeptSession,
        state: &[u8],
        entropy: &mut dyn Entropy,
        now_ms: u64,
    ) -> Result<Resume, Error> {
        self.keep(row, state, Wait::Step, entropy, now_ms).await
    }

    /// Keeps the `state` of a session that was opened ahead, at most [`AHEAD_LIFE_MS`]. Each device has one, and a newer
    /// one replaces it; it takes no room from the sessions that are going on.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn put_ahead(
        &self,
        row: &KeptSession,
        state: &[u8],
        entropy: &mut dyn Entropy,
        now_ms: u64,
    ) -> Result<Resume, Error> {
        self.keep(row, state, Wait::Ahead, entropy, now_ms).await
    }

    async fn keep(
        &self,
        row: &KeptSession,
        state: &[u8],
        wait: Wait,
        entropy: &mut dyn Entropy,
        now_ms: u64,
    ) -> Result<Resume, Error> {
        if state.len() > MAX_KEPT {
            return Err(Error::Corrupt("a kept state that is too long"));
        }
        let deadline_ms = wait.deadline_ms(now_ms);
        let resume = Resume(random::<32>(entropy));
        let sealed = seal::seal(&self.seal_key(&resume), MAGIC, &header(row, deadline_ms), state, entropy);
        let mut tries = 0;
        loop {
            match self.insert(row, &sealed, wait, now_ms).await {
                // Another request of the same device took the same seat.
                Err(Error::Conflict) if tries < 3 => tries += 1,
                Err(Error::Conflict) => return Err(Error::Busy { retry_after_ms: 1_000 }),
                other => return other.map(|()| resume),
            }
        }
    }

    async fn insert(&self, row: &KeptSession, sealed: &[u8], wait: Wait, now_ms: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM kept WHERE deadline_ms <= $1").bind(now_ms).execute(&mut tx).await?;
        if let Some(slot) = &row.slot {
            make_room(&mut tx, slot, row).await?;
        }
        let seat = match wait {
            Wait::Step => self.seat(&mut tx, row, now_ms).await?,
            Wait::Ahead => ahead_seat(&mut tx, row).await?,
        };
        sql("INSERT INTO kept (session, client, device_key, seat, operation, step, subject, slot, generation, transcript, \
             deadline_ms, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(row.session)
        .bind(row.client)
        .bind(&row.device_key)
        .bind(seat)
        .bind(row.operation.as_str())
        .bind(u64::from(row.step))
        .bind(&row.subject)
        .bind(row.slot.clone())
        .bind(row.generation)
        .bind(&row.transcript)
        .bind(wait.deadline_ms(now_ms))
        .bind(sealed)
        .execute(&mut tx)
        .await?;
        tx.commit().await
    }

    /// The lowest free seat of the device. The unique index gives each seat to one session, so the cap holds under any
    /// race.
    async fn seat(&self, tx: &mut Tx, row: &KeptSession, now_ms: u64) -> Result<u64, Error> {
        let all = sql("SELECT COUNT(*) AS sessions FROM kept WHERE seat < $1").bind(AHEAD_SEAT);
        let all = all.optional(&mut *tx).await?;
        let all = all.map_or(Ok(0), |row| row.number("sessions"))?;
        let taken = sql("SELECT seat, deadline_ms FROM kept WHERE device_key = $1 AND seat < $2 ORDER BY deadline_ms")
            .bind(&row.device_key)
            .bind(AHEAD_SEAT)
            .all(tx)
            .await?;
        let soonest = taken.first().map_or(Ok(now_ms + 1_000), |row| row.number("deadline_ms"))?;
        let taken = taken.iter().map(|row| row.number("seat")).collect::<Result<Vec<_>, _>>()?;
        let free = (0..self.caps.per_device).find(|seat| !taken.contains(seat));
        match free {
            Some(seat) if all < self.caps.total => Ok(seat),
            Some(_) => Err(Error::Busy { retry_after_ms: 1_000 }),
            None => Err(Error::Busy { retry_after_ms: soonest.saturating_sub(now_ms).max(1) }),
        }
    }

    /// Takes a kept state: it is gone for good, durably, before this returns. Racing takers: exactly one gets it. A claim
    /// of another client, device, operation, step or subject leaves it alone.
    ///
    /// # Errors
    /// [`Error::Unknown`] session, also when `resume` is not what the device was given; [`Error::Expired`] session.
    pub async fn take(
        &self,
        claim: &Claim<'_>,
        resume: &Resume,
        now_ms: u64,
    ) -> Result<(KeptSession, Zeroizing<Vec<u8>>), Error> {
        let mut tx = self.pool.begin().await?;
        let row = sql("DELETE FROM kept WHERE session = $1 AND client = $2 AND device_key = $3 AND operation = $4 \
             AND step = $5 AND subject = $6 RETURNING *")
        .bind(claim.session)
        .bind(claim.client)
        .bind(claim.device_key)
        .bind(claim.operation)
        .bind(u64::from(claim.step))
        .bind(claim.subject)
        .optional(&mut tx)
        .await?
        .ok_or(Error::Unknown(What::Session))?;
        tx.commit().await?;
        let (session, deadline_ms) = (session(&row)?, row.number("deadline_ms")?);
        if now_ms >= deadline_ms {
            return Err(Error::Expired(What::Session));
        }
        let sealed: Vec<u8> = row.get("sealed")?;
        let opened = seal::open(&self.seal_key(resume), MAGIC, &header(&session, deadline_ms), &sealed);
        Ok((session, opened.map_err(|_| Error::Unknown(What::Session))?))
    }

    /// Drops a session that its device gives up, or that went wrong.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn drop_session(&self, session: SessionId, device_key: &[u8; 32]) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM kept WHERE session = $1 AND device_key = $2")
            .bind(session)
            .bind(device_key)
            .execute(&mut tx)
            .await?;
        tx.commit().await
    }

    /// Deletes what has expired; says how much is left.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn sweep(&self, now_ms: u64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM kept WHERE deadline_ms <= $1").bind(now_ms).execute(&mut tx).await?;
        let row = sql("SELECT COUNT(*) AS sessions FROM kept").optional(&mut tx).await?;
        tx.commit().await?;
        row.map_or(Ok(0), |row| row.number("sessions"))
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn seal_key(&self, resume: &Resume) -> SealKey {
        let mut both = Zeroizing::new([0u8; 64]);
        both[..32].copy_from_slice(self.key.0.as_slice());
        both[32..].copy_from_slice(resume.0.as_slice());
        SealKey::derive(b"", both.as_slice(), KEY_TAG)
    }
}

/// Frees the device's seat for a session opened ahead: there is never a second one.
async fn ahead_seat(tx: &mut Tx, row: &KeptSession) -> Result<u64, Error> {
    sql("DELETE FROM kept WHERE device_key = $1 AND seat = $2")
        .bind(&row.device_key)
        .bind(AHEAD_SEAT)
        .execute(tx)
        .await?;
    Ok(AHEAD_SEAT)
}

/// The same device takes its own older session over; another device's live one stays.
async fn make_room(tx: &mut Tx, slot: &str, row: &KeptSession) -> Result<(), Error> {
    sql("DELETE FROM kept WHERE slot = $1 AND operation = $2 AND device_key = $3")
        .bind(slot)
        .bind(row.operation.as_str())
        .bind(&row.device_key)
        .execute(&mut *tx)
        .await?;
    let other = sql("SELECT deadline_ms FROM kept WHERE slot = $1 AND operation = $2")
        .bind(slot)
        .bind(row.operation.as_str())
        .optional(tx)
        .await?;
    match other {
        Some(other) => Err(Error::OperationInProgress { until_ms: other.number("deadline_ms")? }),
        None => Ok(()),
    }
}

/// Everything that the row says, in one digest: a row that was edited or swapped does not open.
fn header(row: &KeptSession, deadline_ms: u64) -> [u8; 32] {
    let slot = row.slot.as_deref().unwrap_or_default();
    let parts: [&[u8]; 11] = [
        row.session.as_bytes(),
        row.client.as_bytes(),
        &row.device_key,
        row.operation.as_bytes(),
        &[row.step],
        &row.subject,
        &[u8::from(row.slot.is_some())],
        slot.as_bytes(),
        &row.generation.to_be_bytes(),
        &row.transcript,
        &deadline_ms.to_be_bytes(),
    ];
    h("halfkey/kept/v1/row", &parts)
}

fn session(row: &Row) -> Result<KeptSession, Error> {
    Ok(KeptSession {
        session: row.id("session")?,
        client: row.id("client")?,
        device_key: row.array("device_key")?,
        operation: row.get("operation")?,
        step: u8::try_from(row.number("step")?).map_err(|_| Error::Corrupt("a step"))?,
        subject: row.array("subject")?,
        slot: row.get("slot")?,
        generation: row.number("generation")?,
        transcript: row.array("transcript")?,
    })
}
