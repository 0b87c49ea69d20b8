//! Removing a method, revoking a device.

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{Event, Force, PairRef, RetireReason, Slot, SlotKey, WalletView, may_remove};

use super::{
    Error, Store, What,
    recovery::end_recoveries_of,
    slots::{self, Work},
    sql::sql,
    wallets::wallets_of,
};

impl Store {
    /// Removes a method: its pairs are retired at once, and erased without waiting for a successor. Returns what was
    /// active there, so that its doors may be closed.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup: nothing is there; [`Error::Refused`]: it is the last, see
    /// [`may_remove`].
    pub async fn remove_method(
        &self,
        client: ClientId,
        device: DeviceId,
        method: &Method,
        force: Force,
        now_ms: u64,
    ) -> Result<Option<BackupId>, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let key = SlotKey::Backup { client, method: method.clone() };
        let slots = all_slots(&mut work, client).await?;
        let slot = slots.iter().find(|slot| slot.key == key).ok_or(Error::Unknown(What::Backup))?;
        if slot.standing().is_none() && slot.pending().is_none() {
            return Err(Error::Unknown(What::Backup));
        }
        must_be_removable(&mut work, client, &slots, &[&key], force).await?;
        let active = slot.standing().and_then(|pair| match pair.id {
            PairRef::Backup(id) => Some(id),
            PairRef::Signing(_) => None,
        });
        work.apply(client, &key, &[Event::Remove { reason: RetireReason::Removed }], now_ms).await?;
        let payload = serde_json::json!({ "method": method, "backup": active, "device": device });
        work.tell(client, "backup.removed", payload, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(active)
    }

    /// Revokes a device: its signing pairs are retired at once on every curve, and its key counts no more. `by` is the
    /// device that asks (it may be the same one), or `None` for an operator. A recovery of that device which has proven
    /// possession ends with it, as by a cancel: the backup that it opened is frozen. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`] device; [`Error::Refused`]: it is the last, see
    /// [`may_remove`].
    pub async fn revoke_device(
        &self,
        client: ClientId,
        by: Option<DeviceId>,
        device: DeviceId,
        force: Force,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let row = sql("SELECT revoked_ms FROM devices WHERE id = $1 AND client = $2").bind(device).bind(client);
        let row = row.optional(&mut work.tx).await?.ok_or(Error::Unknown(What::Device))?;
        if row.optional_number("revoked_ms")?.is_some() {
            return work.commit(now_ms).await;
        }
        let slots = all_slots(&mut work, client).await?;
        let removing: Vec<&SlotKey> =
            slots.iter().map(|slot| &slot.key).filter(|key| is_of_device(key, device)).collect();
        must_be_removable(&mut work, client, &slots, &removing, force).await?;
        let frozen = end_recoveries_of(&mut work, client, device, by, now_ms).await?;
        retire_device(&mut work, client, device, now_ms).await?;
        let payload = serde_json::json!({ "device": device, "by": by, "frozen": frozen });
        work.tell(client, "device.revoked", payload, now_ms).await?;
        work.commit(now_ms).await
    }
}

/// Retires all signing pairs of a device and revokes its key.
pub(super) async fn retire_device(
    work: &mut Work,
    client: ClientId,
    device: DeviceId,
    now_ms: u64,
) -> Result<(), Error> {
    for key in slots::keys_of(&mut work.tx, client).await?.iter().filter(|key| is_of_device(key, device)) {
        work.apply(client, key, &[Event::Remove { reason: RetireReason::Revoked }], now_ms).await?;
    }
    sql("UPDATE devices SET revoked_ms = $3 WHERE id = $1 AND client = $2 AND revoked_ms IS NULL")
        .bind(device)
        .bind(client)
        .bind(now_ms)
        .execute(&mut work.tx)
        .await?;
    work.mark_device(device);
    Ok(())
}

/// Every slot of a client, held until the transaction ends.
async fn all_slots(work: &mut Work, client: ClientId) -> Result<Vec<Slot>, Error> {
    let mut slots = Vec::new();
    for key in slots::keys_of(&mut work.tx, client).await? {
        slots.push(work.slot(client, &key).await?);
    }
    Ok(slots)
}

/// Asks the rule for every wallet of the client.
async fn must_be_removable(
    work: &mut Work,
    client: ClientId,
    slots: &[Slot],
    removing: &[&SlotKey],
    force: Force,
) -> Result<(), Error> {
    let (signing, backups): (Vec<Slot>, Vec<Slot>) = slots.iter().cloned().partition(|slot| slot.key.is_signing());
    // An exit kit recovers nothing: it is no protection that could be left.
    let recovers = |slot: &Slot| !matches!(&slot.key, SlotKey::Backup { method: Method::Exit, .. });
    let backups: Vec<Slot> = backups.into_iter().filter(recovers).collect();
    for wallet in wallets_of(&mut work.tx, client).await? {
        let Some(state) = wallet.state else { continue };
        let own = |slot: &&Slot| matches!(slot.key, SlotKey::Signing { wallet: id, .. } if id == wallet.id);
        let signing: Vec<Slot> = signing.iter().filter(own).cloned().collect();
        may_remove(&WalletView { state, signing: &signing, backups: &backups }, removing, force)?;
    }
    Ok(())
}

fn is_of_device(key: &SlotKey, device: DeviceId) -> bool {
    matches!(key, SlotKey::Signing { device: owner, .. } if *owner == device)
}
