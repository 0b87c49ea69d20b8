//! Slots and their pairs: loaded, changed by the life cycle alone, and written back compare-and-set.

use std::sync::atomic::Ordering;

use halfkey_envelope::{
    id::{BackupId, ClientId, CustodianId, DeviceId, PairId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{
    self, Checked, Event, Lease, Pair, PairRef, PairState, RetireReason, Slot, SlotKey, Tombstone,
};

use super::{
    Error, Store, What,
    sql::{On, Row, Tx, sql},
};
use crate::shred::Mark;

/// One transaction over slots. What the shred store has to know is written after the commit, before the verb returns.
pub(super) struct Work {
    store: Store,
    pub(super) tx: Tx,
    marks: Vec<Mark>,
}

/// A slot as it was read, with the version that the write will insist on.
struct Held {
    slot: Slot,
    name: String,
    version: u64,
}

/// The stored name of a slot.
pub(crate) fn slot_name(key: &SlotKey) -> String {
    match key {
        SlotKey::Signing { wallet, device } => format!("signing/{wallet}/{device}"),
        SlotKey::Backup { client, method } => format!("backup/{client}/{method}"),
    }
}

impl Store {
    /// The slot as it is at this moment, for a mere look.
    pub(super) async fn read_slot(&self, client: ClientId, key: &SlotKey) -> Result<Slot, Error> {
        let name = slot_name(key);
        let row = sql("SELECT * FROM slots WHERE slot = $1 AND client = $2")
            .bind(name.as_str())
            .bind(client)
            .optional(&self.pool)
            .await?
            .ok_or(Error::Unknown(What::Pair))?;
        slot(&row, key.clone(), pairs_in(&self.pool, &name, key.is_signing()).await?)
    }

    /// Begins a transaction over slots.
    pub(super) async fn work(&self) -> Result<Work, Error> {
        Ok(Work { store: self.clone(), tx: self.pool.begin().await?, marks: Vec::new() })
    }
}

impl Work {
    /// Lets the life cycle apply `events` to the slot `key`, which is made if it is new, and writes what came out.
    pub(super) async fn apply(
        &mut self,
        client: ClientId,
        key: &SlotKey,
        events: &[Event],
        now_ms: u64,
    ) -> Result<Slot, Error> {
        let held = self.hold(client, key).await?;
        let next = lifecycle::apply_all(&held.slot, events, now_ms)?;
        self.write(client, &held, &next).await?;
        Ok(next)
    }

    /// The slot as it is now; nobody else changes it until this transaction ends.
    pub(super) async fn slot(&mut self, client: ClientId, key: &SlotKey) -> Result<Slot, Error> {
        Ok(self.hold(client, key).await?.slot)
    }

    /// See [`Store::tell`].
    pub(super) async fn tell(
        &mut self,
        client: ClientId,
        kind: &str,
        payload: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let row = sql("SELECT custodian FROM clients WHERE id = $1").bind(client).optional(&mut self.tx).await?;
        let custodian: CustodianId = row.ok_or(Error::Unknown(What::Client))?.id("custodian")?;
        self.store.tell(&mut self.tx, custodian, client, kind, payload, now_ms).await
    }

    /// See [`Store::hold_client`].
    pub(super) async fn hold_client(&mut self, client: ClientId) -> Result<CustodianId, Error> {
        self.store.hold_client(&mut self.tx, client).await
    }

    /// Notes for the shred store that a device's key counts no more.
    pub(super) fn mark_device(&mut self, device: DeviceId) {
        self.marks.push(Mark::Device { device });
    }

    /// Commits, then tells the shred store what a restored older database must not forget.
    pub(super) async fn commit(self, now_ms: u64) -> Result<(), Error> {
        let Self { store, tx, marks } = self;
        tx.commit().await?;
        let Some(shred) = &store.shred else { return Ok(()) };
        // After a mark that did not get through this may be the repeated call: it succeeds only with all of them.
        let untold = store.untold.swap(false, Ordering::SeqCst);
        let marked = if untold {
            store.send_marks(shred, now_ms).await
        } else if marks.is_empty() {
            Ok(())
        } else {
            shred.mark(&marks, now_ms).await
        };
        store.untold.fetch_or(marked.is_err(), Ordering::SeqCst);
        marked
    }

    /// The update takes the row: until this transaction ends, every other one that wants this slot waits.
    async fn hold(&mut self, client: ClientId, key: &SlotKey) -> Result<Held, Error> {
        let name = slot_name(key);
        let (wallet, device, method) = match key {
            SlotKey::Signing { wallet, device } => (Some(*wallet), Some(*device), None),
            SlotKey::Backup { method, .. } => (None, None, Some(method.to_string())),
        };
        sql("INSERT INTO slots (slot, client, wallet, device, method, generation, heals, revoked, version) \
             VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0) ON CONFLICT (slot) DO NOTHING")
        .bind(name.as_str())
        .bind(client)
        .bind(wallet)
        .bind(device)
        .bind(method)
        .execute(&mut self.tx)
        .await?;
        let row = sql("UPDATE slots SET version = version + 1 WHERE slot = $1 AND client = $2 \
             RETURNING generation, heals, revoked, lease_device, lease_until_ms, version")
        .bind(name.as_str())
        .bind(client)
        .optional(&mut self.tx)
        .await?
        .ok_or(Error::Unknown(What::Pair))?;
        let slot = slot(&row, key.clone(), pairs_in(&mut self.tx, &name, key.is_signing()).await?)?;
        Ok(Held { slot, name, version: row.number("version")? })
    }

    async fn write(&mut self, client: ClientId, held: &Held, next: &Slot) -> Result<(), Error> {
        if held.slot == *next {
            return Ok(());
        }
        let written = sql("UPDATE slots SET generation = $3, heals = $4, revoked = $5, lease_device = $6, \
             lease_until_ms = $7, version = version + 1 WHERE slot = $1 AND version = $2")
        .bind(held.name.as_str())
        .bind(held.version)
        .bind(next.generation)
        .bind(u64::from(next.heals))
        .bind(u64::from(next.revoked))
        .bind(next.lease.map(|lease| lease.device))
        .bind(next.lease.map(|lease| lease.until_ms))
        .execute(&mut self.tx)
        .await?;
        if written != 1 {
            return Err(Error::Conflict);
        }
        // What leaves a place first: the unique indexes look at every single statement.
        let mut changed: Vec<&Pair> = next.pairs.iter().filter(|pair| held.slot.pair(pair.id) != Some(pair)).collect();
        changed.sort_by_key(|pair| match pair.state {
            PairState::Retired | PairState::Erased => 0,
            PairState::Active | PairState::Banned | PairState::Frozen => 1,
            PairState::Pending => 2,
        });
        for pair in changed {
            let old = held.slot.pair(pair.id);
            self.write_pair(client, &held.name, old, pair).await?;
            self.note_mark(&held.name, next.generation, old, pair);
        }
        Ok(())
    }

    async fn write_pair(&mut self, client: ClientId, slot: &str, old: Option<&Pair>, pair: &Pair) -> Result<(), Error> {
        if old.is_none() {
            sql("INSERT INTO pairs (id, slot, client, generation, state, begun_by, heals, reviewed, server_half, \
                 test_signature, custodian_ack, asserted, proven, created_ms, changed_ms, deadline_ms, replica_safe) \
                 VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0, 0, 0, 0, $7, $7, $8, 0)")
            .bind(pair.id.as_bytes())
            .bind(slot)
            .bind(client)
            .bind(pair.generation)
            .bind(pair.state.as_str())
            .bind(pair.begun_by)
            .bind(pair.created_ms)
            .bind(pair.deadline_ms)
            .execute(&mut self.tx)
            .await?;
        }
        self.update_pair(slot, pair).await?;
        if pair.state == PairState::Erased {
            self.erase(pair).await?;
        }
        Ok(())
    }

    async fn update_pair(&mut self, slot: &str, pair: &Pair) -> Result<(), Error> {
        let Checked { server_half, test_signature, custodian_ack, envelope, asserted, proven } = pair.checked;
        let written = sql("UPDATE pairs SET state = $3, heals = $4, reviewed = $5, server_half = $6, \
             test_signature = $7, custodian_ack = $8, envelope_digest = $9, asserted = $10, proven = $11, \
             changed_ms = $12, deadline_ms = $13, activated_ms = $14, retired_ms = $15, retired_because = $16, \
             opened_ms = $17, replica_safe = $18 WHERE id = $1 AND slot = $2")
        .bind(pair.id.as_bytes())
        .bind(slot)
        .bind(pair.state.as_str())
        .bind(u64::from(pair.heals))
        .bind(u64::from(pair.reviewed))
        .bind(u64::from(server_half))
        .bind(u64::from(test_signature))
        .bind(u64::from(custodian_ack))
        .bind(envelope.map(|digest| digest.to_vec()))
        .bind(u64::from(asserted))
        .bind(u64::from(proven))
        .bind(pair.changed_ms)
        .bind(pair.deadline_ms)
        .bind(pair.activated_ms)
        .bind(pair.retired_ms)
        .bind(pair.retired_because.map(|reason| reason.as_str().to_owned()))
        .bind(pair.opened_ms)
        .bind(u64::from(pair.replica_safe))
        .execute(&mut self.tx)
        .await?;
        if written == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    /// The sealed half and the envelope go with the record's last step; the shred key is destroyed by the sweep.
    /// The password door is told by the next sweep that reaches it.
    async fn erase(&mut self, erased: &Pair) -> Result<(), Error> {
        let pair = erased.id;
        let row = sql("SELECT s.method, p.changed_ms FROM pairs p JOIN slots s ON s.slot = p.slot \
             WHERE p.id = $1 AND s.method IS NOT NULL")
        .bind(pair.as_bytes());
        if let Some(row) = row.optional(&mut self.tx).await? {
            let (method, since_ms): (Method, u64) = (row.parse("method")?, row.number("changed_ms")?);
            if method.needs(&Method::Password) {
                sql("INSERT INTO doors_to_close (backup, since_ms) VALUES ($1, $2) ON CONFLICT (backup) DO NOTHING")
                    .bind(pair.as_bytes())
                    .bind(since_ms)
                    .execute(&mut self.tx)
                    .await?;
            }
        }
        sql("UPDATE pair_shares SET half = NULL, data_key = NULL WHERE pair = $1")
            .bind(pair.as_bytes())
            .execute(&mut self.tx)
            .await?;
        sql("DELETE FROM envelopes WHERE backup = $1").bind(pair.as_bytes()).execute(&mut self.tx).await?;
        Ok(())
    }

    fn note_mark(&mut self, slot: &str, generation: u64, old: Option<&Pair>, pair: &Pair) {
        if old.is_some_and(|old| old.state == pair.state && old.retired_because == pair.retired_because) {
            return;
        }
        if let Some(tombstone) = tombstone(pair) {
            self.marks.push(Mark::Pair { pair: *pair.id.as_bytes(), slot: slot.to_owned(), generation, tombstone });
        } else if old.is_some_and(|old| old.state == PairState::Frozen) && pair.state == PairState::Active {
            self.marks.push(Mark::Thawed { pair: *pair.id.as_bytes() });
        }
    }
}

/// What the shred store keeps of a pair in this state, so that an older main database cannot undo it.
pub(crate) fn tombstone(pair: &Pair) -> Option<Tombstone> {
    match pair.state {
        PairState::Banned => Some(Tombstone::Banned),
        PairState::Frozen => Some(Tombstone::Removed),
        PairState::Retired if pair.retired_because.is_some_and(RetireReason::is_security) => Some(Tombstone::Removed),
        _ => None,
    }
}

async fn pairs_in(on: impl Into<On<'_>>, slot: &str, signing: bool) -> Result<Vec<Pair>, Error> {
    let rows = sql("SELECT * FROM pairs WHERE slot = $1 AND state <> 'ERASED' ORDER BY generation").bind(slot);
    rows.all(on).await?.iter().map(|row| pair(row, signing)).collect()
}

/// The key of the slot that a pair of this client is in.
pub(super) async fn key_of(on: impl Into<On<'_>>, client: ClientId, pair: PairRef) -> Result<SlotKey, Error> {
    let row = sql("SELECT s.client, s.wallet, s.device, s.method FROM pairs p JOIN slots s ON s.slot = p.slot \
         WHERE p.id = $1 AND p.client = $2")
    .bind(pair.as_bytes())
    .bind(client)
    .optional(on)
    .await?;
    let what = if matches!(pair, PairRef::Signing(_)) { What::Pair } else { What::Backup };
    let key = slot_key(&row.ok_or(Error::Unknown(what))?)?;
    if key.is_signing() == matches!(pair, PairRef::Signing(_)) { Ok(key) } else { Err(Error::Unknown(what)) }
}

/// The keys of all slots of a client, in the order in which they are taken.
pub(super) async fn keys_of(on: impl Into<On<'_>>, client: ClientId) -> Result<Vec<SlotKey>, Error> {
    let rows = sql("SELECT client, wallet, device, method FROM slots WHERE client = $1 ORDER BY slot").bind(client);
    rows.all(on).await?.iter().map(slot_key).collect()
}

/// The key in the columns `client`, `wallet`, `device` and `method`.
pub(super) fn slot_key(row: &Row) -> Result<SlotKey, Error> {
    match (row.optional_id("wallet")?, row.optional_id("device")?, row.get::<Option<String>>("method")?) {
        (Some(wallet), Some(device), None) => Ok(SlotKey::Signing { wallet, device }),
        (None, None, Some(method)) => {
            let method = method.parse().map_err(|_| Error::Corrupt("the method of a slot"))?;
            Ok(SlotKey::Backup { client: row.id("client")?, method })
        }
        _ => Err(Error::Corrupt("the key of a slot")),
    }
}

fn slot(row: &Row, key: SlotKey, pairs: Vec<Pair>) -> Result<Slot, Error> {
    let lease = match (row.optional_id("lease_device")?, row.optional_number("lease_until_ms")?) {
        (Some(device), Some(until_ms)) => Some(Lease { device, until_ms }),
        _ => None,
    };
    Ok(Slot {
        key,
        generation: row.number("generation")?,
        heals: u32::try_from(row.number("heals")?).map_err(|_| Error::Corrupt("a count of heals"))?,
        revoked: flag(row, "revoked")?,
        lease,
        pairs,
    })
}

/// The id of a pair, from its slot's kind.
pub(super) const fn pair_ref(id: [u8; 16], signing: bool) -> PairRef {
    if signing { PairRef::Signing(PairId::from_bytes(id)) } else { PairRef::Backup(BackupId::from_bytes(id)) }
}

/// A row of `pairs`.
pub(super) fn pair(row: &Row, signing: bool) -> Result<Pair, Error> {
    let reason = row.get::<Option<String>>("retired_because")?;
    let reason = reason.map(|text| RetireReason::parse(&text)).transpose();
    Ok(Pair {
        id: pair_ref(row.array("id")?, signing),
        generation: row.number("generation")?,
        state: PairState::parse(&row.get::<String>("state")?).map_err(|_| Error::Corrupt("the state of a pair"))?,
        begun_by: row.id("begun_by")?,
        heals: flag(row, "heals")?,
        reviewed: flag(row, "reviewed")?,
        checked: Checked {
            server_half: flag(row, "server_half")?,
            test_signature: flag(row, "test_signature")?,
            custodian_ack: flag(row, "custodian_ack")?,
            envelope: row.optional_array("envelope_digest")?,
            asserted: flag(row, "asserted")?,
            proven: flag(row, "proven")?,
        },
        created_ms: row.number("created_ms")?,
        changed_ms: row.number("changed_ms")?,
        deadline_ms: row.number("deadline_ms")?,
        activated_ms: row.optional_number("activated_ms")?,
        retired_ms: row.optional_number("retired_ms")?,
        retired_because: reason.map_err(|_| Error::Corrupt("why a pair was retired"))?,
        opened_ms: row.optional_number("opened_ms")?,
        replica_safe: flag(row, "replica_safe")?,
    })
}

fn flag(row: &Row, name: &str) -> Result<bool, Error> {
    match row.number(name)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::Corrupt("a flag")),
    }
}
