//! What a client has, for lists and status answers.

use halfkey_envelope::id::{ClientId, DeviceId, PairId, WalletId};
use halfkey_protocol::lifecycle::{Event, Pair, PairRef, Slot, SlotKey};

use super::{
    Error, Store, What,
    shares::{Share, share},
    slots,
    sql::{Row, sql},
};

/// A signing pair with everything the server knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningPair {
    /// The device whose half it is.
    pub device: DeviceId,
    /// Where it is in its life, and what was checked.
    pub pair: Pair,
    /// Its curve and public side.
    pub share: Share,
}

impl Store {
    /// The client's signing pairs that are not erased, by wallet and device and oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn signing_pairs(&self, client: ClientId) -> Result<Vec<SigningPair>, Error> {
        let rows =
            sql("SELECT p.*, s.device, h.wallet, h.curve, h.public_key, h.chain_code, h.client_point, h.peer_point \
             FROM pairs p JOIN slots s ON s.slot = p.slot JOIN pair_shares h ON h.pair = p.id \
             WHERE p.client = $1 AND s.device IS NOT NULL AND p.state <> 'ERASED' ORDER BY p.slot, p.generation")
            .bind(client)
            .all(&self.pool)
            .await?;
        rows.iter().map(signing_pair).collect()
    }

    /// One signing pair of this client.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's pair too.
    pub async fn signing_pair(&self, client: ClientId, id: PairId) -> Result<SigningPair, Error> {
        let row =
            sql("SELECT p.*, s.device, h.wallet, h.curve, h.public_key, h.chain_code, h.client_point, h.peer_point \
             FROM pairs p JOIN slots s ON s.slot = p.slot JOIN pair_shares h ON h.pair = p.id \
             WHERE p.id = $1 AND p.client = $2 AND s.device IS NOT NULL")
            .bind(id)
            .bind(client)
            .optional(&self.pool)
            .await?;
        signing_pair(&row.ok_or(Error::Unknown(What::Pair))?)
    }

    /// The active signing pair of a wallet on a device.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair.
    pub async fn active_signing_pair(
        &self,
        client: ClientId,
        wallet: WalletId,
        device: DeviceId,
    ) -> Result<SigningPair, Error> {
        let slot = self.read_slot(client, &SlotKey::Signing { wallet, device }).await?;
        match slot.active().map(|pair| pair.id) {
            Some(PairRef::Signing(id)) => self.signing_pair(client, id).await,
            _ => Err(Error::Unknown(What::Pair)),
        }
    }

    /// Every slot of a client as the life cycle sees it; for simulations and operators.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn slots(&self, client: ClientId) -> Result<Vec<Slot>, Error> {
        let mut slots = Vec::new();
        for key in slots::keys_of(&self.pool, client).await? {
            slots.push(self.read_slot(client, &key).await?);
        }
        Ok(slots)
    }

    /// Lets the life cycle apply events to several slots in one transaction, **without any check that the verbs of
    /// this store make first**. For simulations, which bring rules of their own; nothing that serves requests calls it.
    ///
    /// # Errors
    /// [`Error::Refused`] and the like, and the database's own trouble; then nothing is written.
    pub async fn danger_apply(
        &self,
        client: ClientId,
        changes: &[(SlotKey, Vec<Event>)],
        now_ms: u64,
    ) -> Result<Vec<Slot>, Error> {
        let mut work = self.work().await?;
        let mut slots = Vec::new();
        for (key, events) in changes {
            slots.push(work.apply(client, key, events, now_ms).await?);
        }
        work.commit(now_ms).await?;
        Ok(slots)
    }
}

fn signing_pair(row: &Row) -> Result<SigningPair, Error> {
    let pair = slots::pair(row, true)?;
    Ok(SigningPair { device: row.id("device")?, share: share(row, pair.id)?, pair })
}
