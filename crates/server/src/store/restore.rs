//! The main database meets the newest shred store, at every start (PROTOCOL.md 4.4).
//!
//! In ordinary life the main database is never behind: what the shred store knows was written there first. If it is
//! behind, an older copy was restored. Then nothing that was erased, banned or removed comes back, what was pending is
//! given up, and the wallets that lost their newest pair are named so that their devices back up again.

use std::collections::BTreeSet;

use halfkey_envelope::id::{ClientId, PairId, WalletId};
use halfkey_protocol::lifecycle::{Event, PairRef, PairState, Slot, Tombstone};

use super::{Error, Store, slots, sql::sql};
use crate::shred::{Mark, Shred, SlotRecord};

const PAGE: u64 = 200;

/// What the comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// The main database is an older copy.
    pub restored: bool,
    /// Slots that were corrected: erased, banned or removed pairs that the copy still showed alive.
    pub corrected: u64,
    /// Wallets whose newest half was lost with the newer database: their devices should back up again.
    pub back_up_again: Vec<(ClientId, WalletId)>,
    /// Halves in the main database that have no shred key at all: the *shred store* is an older copy or the wrong one.
    pub without_shred_key: u64,
}

impl Store {
    /// Compares with the newest shred store, corrects what an older copy would undo, and from now on keeps both in step.
    ///
    /// # Errors
    /// The databases' own trouble.
    pub async fn attach(mut self, shred: Shred, now_ms: u64) -> Result<(Self, Comparison), Error> {
        let mut found = Comparison::default();
        let mut lost = BTreeSet::new();
        let mut after = String::new();
        loop {
            let records = shred.slots(&after, PAGE).await?;
            let Some(last) = records.last() else { break };
            after.clone_from(&last.slot);
            for record in &records {
                self.compare(record, &mut found, &mut lost, now_ms).await?;
            }
        }
        if found.restored {
            self.give_up_pending(now_ms).await?;
            for device in shred.revoked_devices().await? {
                let mut tx = self.pool.begin().await?;
                sql("UPDATE devices SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
                    .bind(device)
                    .bind(now_ms)
                    .execute(&mut tx)
                    .await?;
                tx.commit().await?;
            }
        }
        self.send_marks(&shred, now_ms).await?;
        found.without_shred_key = self.count_without_key(&shred).await?;
        found.back_up_again =
            lost.into_iter().map(|(c, w)| (ClientId::from_bytes(c), WalletId::from_bytes(w))).collect();
        self.shred = Some(shred);
        Ok((self, found))
    }

    async fn compare(
        &self,
        record: &SlotRecord,
        found: &mut Comparison,
        lost: &mut BTreeSet<([u8; 16], [u8; 16])>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let row = sql("SELECT client, wallet, device, method FROM slots WHERE slot = $1").bind(record.slot.as_str());
        let slot = match row.optional(&self.pool).await? {
            Some(row) => Some(self.read_slot(row.id("client")?, &slots::slot_key(&row)?).await?),
            None => None,
        };
        let behind = slot.as_ref().is_none_or(|slot| slot.generation < record.generation);
        let wrong = slot.as_ref().is_some_and(|slot| contradicts(slot, record));
        if !behind && !wrong {
            return Ok(());
        }
        found.restored = true;
        for half in &record.halves {
            let known = sql("SELECT id FROM pair_shares WHERE id = $1 AND half IS NOT NULL").bind(half.half);
            if known.optional(&self.pool).await?.is_none() {
                lost.insert((*half.client.as_bytes(), *half.wallet.as_bytes()));
            }
        }
        let Some(slot) = slot else { return Ok(()) };
        let signing = slot.key.is_signing();
        let tombstones = record.marks.iter().map(|(pair, stone)| (slots::pair_ref(*pair, signing), *stone)).collect();
        let restored = Event::Restored { tombstones, generation: record.generation };
        let client = self.client_of(&record.slot).await?;
        let mut work = self.work().await?;
        work.apply(client, &slot.key, &[restored], now_ms).await?;
        work.commit(now_ms).await?;
        found.corrected += u64::from(wrong);
        Ok(())
    }

    async fn client_of(&self, slot: &str) -> Result<ClientId, Error> {
        let row = sql("SELECT client FROM slots WHERE slot = $1").bind(slot).optional(&self.pool).await?;
        row.ok_or(Error::Corrupt("a slot"))?.id("client")
    }

    /// A pending pair, session, nonce or recovery of the copy may long be over in truth. Not an eject whose halves may
    /// have left: only repeating it leads on.
    async fn give_up_pending(&self, now_ms: u64) -> Result<(), Error> {
        let rows =
            sql("SELECT s.slot, s.client, s.wallet, s.device, s.method FROM slots s WHERE s.lease_device IS NOT NULL \
             OR EXISTS (SELECT 1 FROM pairs p WHERE p.slot = s.slot AND p.state = 'PENDING')")
            .all(&self.pool)
            .await?;
        for row in rows {
            let mut work = self.work().await?;
            let restored = Event::Restored { tombstones: Vec::new(), generation: 0 };
            work.apply(row.id("client")?, &slots::slot_key(&row)?, &[restored], now_ms).await?;
            work.commit(now_ms).await?;
        }
        let mut tx = self.pool.begin().await?;
        sql("DELETE FROM sessions").execute(&mut tx).await?;
        sql("DELETE FROM challenges").execute(&mut tx).await?;
        sql("UPDATE verifications SET state = 'FAILED' WHERE state = 'OPEN'").execute(&mut tx).await?;
        sql("UPDATE recoveries SET state = 'CANCELLED', version = version + 1 \
             WHERE state IN ('REQUESTED', 'WAITING', 'READY', 'EXECUTING') \
             AND NOT (purpose = 'EJECT' AND state = 'EXECUTING')")
        .execute(&mut tx)
        .await?;
        self.log(&mut tx, [0; 16], "store.restored", serde_json::json!({}), now_ms).await?;
        tx.commit().await
    }

    /// What a crash between the main commit and the shred store's kept from being told.
    pub(super) async fn send_marks(&self, shred: &Shred, now_ms: u64) -> Result<(), Error> {
        let rows = sql("SELECT p.*, s.wallet, s.generation AS slot_generation FROM pairs p \
             JOIN slots s ON s.slot = p.slot WHERE p.state IN ('BANNED', 'FROZEN', 'RETIRED')")
        .all(&self.pool)
        .await?;
        let mut marks = Vec::new();
        for row in &rows {
            let signing = row.get::<Option<Vec<u8>>>("wallet")?.is_some();
            if let Some(tombstone) = slots::tombstone(&slots::pair(row, signing)?) {
                let (pair, slot) = (row.array("id")?, row.get("slot")?);
                marks.push(Mark::Pair { pair, slot, generation: row.number("slot_generation")?, tombstone });
            }
        }
        let devices = sql("SELECT id FROM devices WHERE revoked_ms IS NOT NULL").all(&self.pool).await?;
        for row in &devices {
            marks.push(Mark::Device { device: row.id("id")? });
        }
        shred.mark(&marks, now_ms).await
    }

    async fn count_without_key(&self, shred: &Shred) -> Result<u64, Error> {
        let rows = sql("SELECT id FROM pair_shares WHERE half IS NOT NULL").all(&self.pool).await?;
        let mut missing = 0;
        for row in &rows {
            let known = shred.key(row.id::<PairId>("id")?).await;
            missing += u64::from(matches!(known, Err(Error::Unknown(_))));
        }
        Ok(missing)
    }
}

/// Whether the slot shows something alive that the shred store knows to be over.
fn contradicts(slot: &Slot, record: &SlotRecord) -> bool {
    let stone = |pair: PairRef| record.marks.iter().find(|(id, _)| id == pair.as_bytes()).map(|(_, stone)| *stone);
    slot.pairs.iter().any(|pair| match stone(pair.id) {
        Some(Tombstone::Erased) => pair.state != PairState::Erased,
        Some(Tombstone::Banned) => matches!(pair.state, PairState::Active | PairState::Pending),
        Some(Tombstone::Removed) => matches!(pair.state, PairState::Active | PairState::Pending),
        None => false,
    })
}
