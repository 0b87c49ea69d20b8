//! The shred store (PROTOCOL.md 4.4): a second key per half, in a database of its own, and what an older copy of the
//! main database must not undo. Opening a half needs its shred key; destroying that key is the deletion.
//!
//! Every change is written to every copy before the call returns. Restoring means: the main database of some day
//! with the *newest* shred store. Its own backups are kept seven days at most.

use halfkey_envelope::{
    custodian::ShredKey,
    entropy::Entropy,
    id::{ClientId, DeviceId, PairId, WalletId},
};
use halfkey_protocol::lifecycle::Tombstone;
use zeroize::Zeroizing;

use crate::store::{
    Error, HalfPlace, What, migrate,
    slots::slot_name,
    sql::{Pool, Row, Statement, sql},
};

const MIGRATIONS: &[&str] = &[include_str!("shred/0001.sql")];

/// How many copies the profile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// `production`: two or more.
    AtLeastTwo,
    /// Demonstrations and tests.
    DangerOne,
}

/// Something that a restored older main database must not forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A pair was banned, frozen or removed for security.
    Pair { pair: [u8; 16], slot: String, generation: u64, tombstone: Tombstone },
    /// An operator thawed it.
    Thawed { pair: [u8; 16] },
    /// A device was revoked.
    Device { device: DeviceId },
}

/// What the store knows of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SlotRecord {
    pub(crate) slot: String,
    pub(crate) generation: u64,
    pub(crate) marks: Vec<([u8; 16], Tombstone)>,
    /// Halves whose shred key exists.
    pub(crate) halves: Vec<LivingHalf>,
}

/// A half that can still be opened, if the main database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LivingHalf {
    pub(crate) half: PairId,
    pub(crate) client: ClientId,
    pub(crate) wallet: WalletId,
}

/// The shred store, cheap to clone.
#[derive(Clone)]
pub struct Shred {
    copies: Vec<Pool>,
}

impl Shred {
    /// Opens every copy (`sqlite:PATH` or `postgres://…`) and brings them to the same state: what one of them has
    /// destroyed is destroyed in all.
    ///
    /// # Errors
    /// [`Error::OneCopy`] unless the profile is content with one; the databases' own trouble.
    pub async fn connect(urls: &[&str], wanted: Copies) -> Result<Self, Error> {
        let distinct: std::collections::BTreeSet<&&str> = urls.iter().collect();
        let enough = if wanted == Copies::AtLeastTwo { 2 } else { 1 };
        if distinct.len() < enough || distinct.len() != urls.len() {
            return Err(Error::OneCopy);
        }
        let mut copies = Vec::new();
        for url in urls {
            let pool = Pool::connect(url).await?;
            migrate(&pool, "shred", MIGRATIONS).await?;
            copies.push(pool);
        }
        let shred = Self { copies };
        shred.heal().await?;
        Ok(shred)
    }

    /// The shred key of a new half; the same half again gets the same key.
    ///
    /// # Errors
    /// [`Error::Shredded`] when it was destroyed before; the databases' own trouble.
    pub async fn create(
        &self,
        client: ClientId,
        place: &HalfPlace,
        entropy: &mut dyn Entropy,
        now_ms: u64,
    ) -> Result<ShredKey, Error> {
        let fresh = ShredKey::generate(entropy);
        let slot = slot_name(&place.slot);
        let raise = || raise_generation(&slot, place.generation);
        let mut kept = self.create_in(&self.copies[0], client, place, &slot, &fresh, now_ms).await?;
        self.each(raise).await?;
        for copy in &self.copies[1..] {
            kept = self.create_in(copy, client, place, &slot, &kept, now_ms).await?;
        }
        Ok(kept)
    }

    async fn create_in(
        &self,
        copy: &Pool,
        client: ClientId,
        place: &HalfPlace,
        slot: &str,
        key: &ShredKey,
        now_ms: u64,
    ) -> Result<ShredKey, Error> {
        let mut tx = copy.begin().await?;
        sql("INSERT INTO shred_keys (half, pair, slot, client, wallet, shred_key, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (half) DO NOTHING")
        .bind(place.share)
        .bind(place.pair.as_bytes())
        .bind(slot)
        .bind(client)
        .bind(place.wallet)
        .bind(key.expose())
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        let row = sql("SELECT shred_key FROM shred_keys WHERE half = $1").bind(place.share).optional(&mut tx).await?;
        let kept = shred_key(&row.ok_or(Error::Corrupt("a shred key"))?)?;
        tx.commit().await?;
        Ok(kept)
    }

    /// The shred key of a half, unless it was destroyed. Whether the pair may be *used* is the life cycle's to say.
    ///
    /// # Errors
    /// [`Error::Unknown`]: never made here; [`Error::Shredded`].
    pub async fn key(&self, half: PairId) -> Result<ShredKey, Error> {
        let row = sql("SELECT k.shred_key, m.severity FROM shred_keys k LEFT JOIN shred_marks m ON m.pair = k.pair \
             WHERE k.half = $1")
        .bind(half)
        .optional(&self.copies[0])
        .await?
        .ok_or(Error::Unknown(What::Half))?;
        if row.optional_number("severity")? == Some(severity(Tombstone::Erased)) {
            return Err(Error::Shredded(What::Half));
        }
        shred_key(&row)
    }

    /// Destroys the shred key of a half in every copy, for ever. Repeating it changes nothing.
    ///
    /// # Errors
    /// The databases' own trouble.
    pub async fn destroy(&self, half: PairId, pair: &[u8; 16], slot: &str, now_ms: u64) -> Result<(), Error> {
        self.each(|| {
            sql("UPDATE shred_keys SET shred_key = NULL, destroyed_ms = COALESCE(destroyed_ms, $2) WHERE half = $1")
                .bind(half)
                .bind(now_ms)
        })
        .await?;
        self.each(|| put_mark(pair, slot, Tombstone::Erased, now_ms)).await?;
        for copy in &self.copies {
            copy.forget_freed().await?;
        }
        Ok(())
    }

    /// Writes marks to every copy.
    pub(crate) async fn mark(&self, marks: &[Mark], now_ms: u64) -> Result<(), Error> {
        for mark in marks {
            match mark {
                Mark::Pair { pair, slot, generation, tombstone } => {
                    self.each(|| put_mark(pair, slot, *tombstone, now_ms)).await?;
                    self.each(|| raise_generation(slot, *generation)).await?;
                }
                Mark::Thawed { pair } => {
                    self.each(|| sql("DELETE FROM shred_marks WHERE pair = $1 AND severity = 1").bind(pair)).await?;
                }
                Mark::Device { device } => {
                    self.each(|| {
                        sql("INSERT INTO shred_devices (device, at_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                            .bind(*device)
                            .bind(now_ms)
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Every slot after `after`, at most `take`, in order.
    pub(crate) async fn slots(&self, after: &str, take: u64) -> Result<Vec<SlotRecord>, Error> {
        let copy = &self.copies[0];
        let rows = sql("SELECT slot, generation FROM shred_slots WHERE slot > $1 ORDER BY slot LIMIT $2")
            .bind(after)
            .bind(take)
            .all(copy)
            .await?;
        let mut records = Vec::new();
        for row in &rows {
            let slot: String = row.get("slot")?;
            let marks = sql("SELECT pair, severity FROM shred_marks WHERE slot = $1").bind(slot.as_str());
            let halves = sql("SELECT half, client, wallet FROM shred_keys \
                 WHERE slot = $1 AND shred_key IS NOT NULL ORDER BY half");
            records.push(SlotRecord {
                generation: row.number("generation")?,
                marks: marks.all(copy).await?.iter().map(mark).collect::<Result<_, _>>()?,
                halves: halves.bind(slot.as_str()).all(copy).await?.iter().map(living).collect::<Result<_, _>>()?,
                slot,
            });
        }
        Ok(records)
    }

    /// Every revoked device.
    pub(crate) async fn revoked_devices(&self) -> Result<Vec<DeviceId>, Error> {
        let rows = sql("SELECT device FROM shred_devices ORDER BY device").all(&self.copies[0]).await?;
        rows.iter().map(|row| row.id("device")).collect()
    }

    /// How many copies there are.
    #[must_use]
    pub const fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Closes every connection.
    pub async fn close(&self) {
        for copy in &self.copies {
            copy.close().await;
        }
    }

    /// Runs one statement in every copy, each durable before the next.
    async fn each(&self, statement: impl Fn() -> Statement) -> Result<(), Error> {
        for copy in &self.copies {
            let mut tx = copy.begin().await?;
            statement().execute(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Brings copies to the same state after a crash between two of them, or the loss of one.
    async fn heal(&self) -> Result<(), Error> {
        for from in 0..self.copies.len() {
            for to in (0..self.copies.len()).filter(|to| *to != from) {
                self.copy_rows(&self.copies[from], &self.copies[to]).await?;
            }
        }
        Ok(())
    }

    async fn copy_rows(&self, from: &Pool, to: &Pool) -> Result<(), Error> {
        let mut tx = to.begin().await?;
        for row in sql("SELECT * FROM shred_keys").all(from).await? {
            let key = Zeroizing::new(row.get::<Option<Vec<u8>>>("shred_key")?.unwrap_or_default());
            let alive = !key.is_empty();
            sql("INSERT INTO shred_keys (half, pair, slot, client, wallet, shred_key, created_ms, destroyed_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (half) DO UPDATE SET \
                 shred_key = CASE WHEN excluded.shred_key IS NULL THEN NULL ELSE shred_keys.shred_key END, \
                 destroyed_ms = COALESCE(shred_keys.destroyed_ms, excluded.destroyed_ms)")
            .bind(row.id::<PairId>("half")?)
            .bind(&row.array::<16>("pair")?)
            .bind(row.get::<String>("slot")?)
            .bind(row.id::<ClientId>("client")?)
            .bind(row.id::<WalletId>("wallet")?)
            .bind(alive.then(|| key.to_vec()))
            .bind(row.number("created_ms")?)
            .bind(row.optional_number("destroyed_ms")?)
            .execute(&mut tx)
            .await?;
        }
        for row in sql("SELECT pair, slot, severity, at_ms FROM shred_marks").all(from).await? {
            let (pair, tombstone) = mark(&row)?;
            put_mark(&pair, &row.get::<String>("slot")?, tombstone, row.number("at_ms")?).execute(&mut tx).await?;
        }
        for row in sql("SELECT device, at_ms FROM shred_devices").all(from).await? {
            sql("INSERT INTO shred_devices (device, at_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(row.id::<DeviceId>("device")?)
                .bind(row.number("at_ms")?)
                .execute(&mut tx)
                .await?;
        }
        for row in sql("SELECT slot, generation FROM shred_slots").all(from).await? {
            raise_generation(&row.get::<String>("slot")?, row.number("generation")?).execute(&mut tx).await?;
        }
        tx.commit().await
    }
}

const fn severity(tombstone: Tombstone) -> u64 {
    match tombstone {
        Tombstone::Removed => 1,
        Tombstone::Banned => 2,
        Tombstone::Erased => 3,
    }
}

/// A mark only ever gets more severe.
fn put_mark(pair: &[u8; 16], slot: &str, tombstone: Tombstone, now_ms: u64) -> Statement {
    sql("INSERT INTO shred_marks (pair, slot, severity, at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (pair) DO UPDATE SET severity = excluded.severity, at_ms = excluded.at_ms \
         WHERE shred_marks.severity < excluded.severity")
    .bind(pair)
    .bind(slot)
    .bind(severity(tombstone))
    .bind(now_ms)
}

fn raise_generation(slot: &str, generation: u64) -> Statement {
    sql("INSERT INTO shred_slots (slot, generation) VALUES ($1, $2) \
         ON CONFLICT (slot) DO UPDATE SET generation = excluded.generation \
         WHERE shred_slots.generation < excluded.generation")
    .bind(slot)
    .bind(generation)
}

fn shred_key(row: &Row) -> Result<ShredKey, Error> {
    let bytes = Zeroizing::new(row.get::<Option<Vec<u8>>>("shred_key")?.ok_or(Error::Shredded(What::Half))?);
    let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| Error::Corrupt("a shred key"))?;
    Ok(ShredKey::from_bytes(Zeroizing::new(key)))
}

fn mark(row: &Row) -> Result<([u8; 16], Tombstone), Error> {
    let tombstone = match row.number("severity")? {
        1 => Tombstone::Removed,
        2 => Tombstone::Banned,
        3 => Tombstone::Erased,
        _ => return Err(Error::Corrupt("the severity of a mark")),
    };
    Ok((row.array("pair")?, tombstone))
}

fn living(row: &Row) -> Result<LivingHalf, Error> {
    Ok(LivingHalf { half: row.id("half")?, client: row.id("client")?, wallet: row.id("wallet")? })
}
