//! Bans, what an operator decides of them, and the healing that may follow (PROTOCOL.md 4.9).

use halfkey_envelope::id::{BackupId, ClientId, DeviceId, PairId};
use halfkey_protocol::lifecycle::{Event, Pair, PairRef, PairState, Refusal, Slot, SlotKey};

use super::{
    Error, Store, What,
    eject::must_live,
    recovery::end_by_ban,
    shares::insert_share,
    slots::{self, Work},
    sql::sql,
    wallets::{PendingSigning, activate, must_be_enrolled, wallets_of},
};

impl Store {
    /// Bans a signing pair: its peer misbehaved. Durable, in the shred store too, before this returns; call it before
    /// answering. A recovery that was making the pair ends with it, and may be asked for anew. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair; [`Error::Refused`] when it is retired anyway.
    pub async fn ban_pair(&self, client: ClientId, pair: PairId, reason: &str, now_ms: u64) -> Result<(), Error> {
        self.ban(client, None, pair, reason, now_ms).await
    }

    /// The same for a device that was cheated with its own pair, and says so.
    ///
    /// # Errors
    /// As [`Store::ban_pair`]; [`Error::Unknown`] pair for another device's too.
    pub async fn ban_own_pair(
        &self,
        client: ClientId,
        device: DeviceId,
        pair: PairId,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.ban(client, Some(device), pair, reason, now_ms).await
    }

    async fn ban(
        &self,
        client: ClientId,
        by: Option<DeviceId>,
        pair: PairId,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let (id, key) = own_slot(&mut work, client, by, pair).await?;
        work.apply(client, &key, &[Event::Ban { pair: id }], now_ms).await?;
        sql("UPDATE pairs SET ban_reason = $2 WHERE id = $1 AND ban_reason IS NULL")
            .bind(pair)
            .bind(reason)
            .execute(&mut work.tx)
            .await?;
        let ended = end_by_ban(&mut work, client, pair, now_ms).await?;
        let payload = serde_json::json!({ "pair": pair, "reason": reason, "by": by, "recovery": ended });
        work.tell(client, "pair.banned", payload, now_ms).await?;
        work.commit(now_ms).await
    }

    /// An operator has reviewed a ban: the pair may deal once (PROTOCOL.md 4.9).
    ///
    /// # Errors
    /// [`Error::Unknown`] pair; [`Error::Refused`].
    pub async fn review_ban(
        &self,
        client: ClientId,
        pair: PairId,
        beyond_limit: bool,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let (id, key) = own_slot(&mut work, client, None, pair).await?;
        work.apply(client, &key, &[Event::Review { pair: id, beyond_limit }], now_ms).await?;
        note_upheld(&mut work, pair, None).await?;
        let payload = serde_json::json!({ "pair": pair, "beyondLimit": beyond_limit });
        work.tell(client, "pair.reviewed", payload, now_ms).await?;
        work.commit(now_ms).await
    }

    /// An operator lets a ban stand: a review of it counts no more, and a pair that heals it is given up. A later
    /// review may still lift it.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair; [`Error::Refused`].
    pub async fn uphold_ban(&self, client: ClientId, pair: PairId, now_ms: u64) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let (id, key) = own_slot(&mut work, client, None, pair).await?;
        work.apply(client, &key, &[Event::Uphold { pair: id }], now_ms).await?;
        note_upheld(&mut work, pair, Some(now_ms)).await?;
        work.tell(client, "pair.upheld", serde_json::json!({ "pair": pair }), now_ms).await?;
        work.commit(now_ms).await
    }

    /// Begins the pair that takes the place of this device's banned one, which an operator's review lets deal once.
    /// While that pair is pending, the same device asking again gets it again.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair, for another device's too; [`Error::Refused`] says why not: not banned, or not reviewed.
    pub async fn begin_heal(
        &self,
        client: ClientId,
        device: DeviceId,
        banned: PairId,
        new: PairId,
        now_ms: u64,
    ) -> Result<PendingSigning, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        let (id, key) = own_slot(&mut work, client, Some(device), banned).await?;
        let SlotKey::Signing { wallet, .. } = &key else { return Err(Error::Unknown(What::Pair)) };
        let wallet = wallets_of(&mut work.tx, client).await?.into_iter().find(|known| known.id == *wallet);
        let wallet = wallet.ok_or(Error::Unknown(What::Wallet))?;
        wallet.state.ok_or(Error::Unknown(What::Wallet))?.may_operate()?;
        let slot = work.slot(client, &key).await?;
        if slot.pair(id).is_none_or(|pair| pair.state != PairState::Banned) {
            return Err(Refusal::NotBanned.into());
        }
        let slot = match healing(&slot, now_ms) {
            Some(_) => work.apply(client, &key, &[Event::Hold { by: device }], now_ms).await?,
            None => {
                let pair = PairRef::Signing(new);
                let slot = work.apply(client, &key, &[Event::HealBegin { pair, by: device }], now_ms).await?;
                insert_share(&mut work.tx, client, pair, new, wallet.id, wallet.curve).await?;
                let payload = serde_json::json!({ "pair": banned, "new": new, "device": device, "heals": slot.heals });
                work.tell(client, "pair.healing", payload, now_ms).await?;
                slot
            }
        };
        let begun = healing(&slot, now_ms).ok_or(Refusal::NotPending)?;
        let (pair, generation, deadline_ms) =
            (PairId::from_bytes(*begun.id.as_bytes()), begun.generation, begun.deadline_ms);
        work.commit(now_ms).await?;
        Ok(PendingSigning { wallet: wallet.id, curve: wallet.curve, pair, generation, deadline_ms })
    }

    /// The pair that heals becomes active, the banned one is retired. Call it only after the test signature verified.
    /// Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair or device; [`Error::Mismatch`] wallet; [`Error::Refused`].
    pub async fn commit_heal(
        &self,
        client: ClientId,
        device: DeviceId,
        pair: PairId,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        must_live(&mut work.tx, client).await?;
        own_slot(&mut work, client, Some(device), pair).await?;
        if activate(&mut work, client, device, pair, now_ms).await? {
            work.tell(client, "pair.healed", serde_json::json!({ "pair": pair, "device": device }), now_ms).await?;
        }
        work.commit(now_ms).await
    }

    /// An operator thaws a frozen backup.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup; [`Error::Refused`].
    pub async fn thaw_backup(&self, client: ClientId, backup: BackupId, now_ms: u64) -> Result<(), Error> {
        let payload = serde_json::json!({ "backup": backup });
        self.thaw(client, PairRef::Backup(backup), "backup.thawed", payload, now_ms).await
    }

    /// An operator thaws a signing pair that a restore froze.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair; [`Error::Refused`].
    pub async fn thaw_pair(&self, client: ClientId, pair: PairId, now_ms: u64) -> Result<(), Error> {
        let payload = serde_json::json!({ "pair": pair });
        self.thaw(client, PairRef::Signing(pair), "pair.thawed", payload, now_ms).await
    }

    async fn thaw(
        &self,
        client: ClientId,
        pair: PairRef,
        kind: &str,
        payload: serde_json::Value,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let key = slots::key_of(&mut work.tx, client, pair).await?;
        work.apply(client, &key, &[Event::Thaw { pair }], now_ms).await?;
        work.tell(client, kind, payload, now_ms).await?;
        work.commit(now_ms).await
    }
}

/// The slot of a signing pair; with a device, only if it is that device's.
async fn own_slot(
    work: &mut Work,
    client: ClientId,
    device: Option<DeviceId>,
    pair: PairId,
) -> Result<(PairRef, SlotKey), Error> {
    let id = PairRef::Signing(pair);
    let key = slots::key_of(&mut work.tx, client, id).await?;
    match (&key, device) {
        (SlotKey::Signing { device: owner, .. }, Some(device)) if *owner != device => Err(Error::Unknown(What::Pair)),
        _ => Ok((id, key)),
    }
}

/// The pair that heals the slot, while it may be committed.
fn healing(slot: &Slot, now_ms: u64) -> Option<&Pair> {
    slot.pending().filter(|pair| pair.heals && now_ms < pair.deadline_ms)
}

async fn note_upheld(work: &mut Work, pair: PairId, upheld_ms: Option<u64>) -> Result<(), Error> {
    let text = "UPDATE pairs SET upheld_ms = $2 WHERE id = $1";
    sql(text).bind(pair).bind(upheld_ms).execute(&mut work.tx).await.map(drop)
}
