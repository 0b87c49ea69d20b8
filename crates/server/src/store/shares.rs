//! The curves of a pair: public points, and the server's or custodian's half, sealed.

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::lifecycle::{self, PairRef, PairState, Refusal, Slot, SlotKey};

use super::{
    Error, Store, What, slots,
    sql::{Row, Tx, sql},
};

/// The public side of one share pair, as the server verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharePublic {
    /// X.
    pub public_key: Vec<u8>,
    /// BIP-32 chain code; all zero for Ed25519.
    pub chain_code: [u8; 32],
    /// The device's point, A_C or B_C.
    pub client_point: Vec<u8>,
    /// The server's or custodian's point, A_S or B_K.
    pub peer_point: Vec<u8>,
}

/// A half at rest, and the wrapped data key that with a shred key opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedHalf {
    /// `halfkey_envelope::custodian`.
    pub half: Vec<u8>,
    /// Wrapped by the key service.
    pub data_key: Vec<u8>,
}

impl std::fmt::Debug for SealedHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedHalf({} bytes)", self.half.len())
    }
}

/// A half to be stored for a pending pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHalf {
    /// The share pair on one curve.
    pub pair: PairId,
    /// Its public side.
    pub public: SharePublic,
    /// The half.
    pub sealed: SealedHalf,
}

/// One share pair on one curve. Of a signing slot its id is the pair's; of a backup each curve has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The share pair.
    pub id: PairId,
    /// The pair of the slot that it belongs to.
    pub pair: PairRef,
    /// The wallet.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
    /// Its public side, once the half is stored.
    pub public: Option<SharePublic>,
}

/// What a half is read for; each use has its own rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfUse {
    /// A signature: an active signing pair.
    Sign,
    /// Dealing in a backup: an active signing pair.
    Deal,
    /// Dealing in its own healing: a banned signing pair, while the pair that heals it is pending.
    Heal,
    /// The read-back of a pending pair, for its acknowledgement, proof or test signature.
    ReadBack,
    /// Dealing in a recovery: an active backup.
    Recover,
    /// The custodian's proof in a drill: an active backup.
    Verify,
    /// Leaving for an exit kit, sealed to the offline export key: an active one.
    Export,
    /// Leaving in an eject: an active backup of wallets that are ejecting already, or ejected.
    Eject,
}

/// A half that may be opened for the asked use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHalf {
    /// The share pair.
    pub share: Share,
    /// Its public side.
    pub public: SharePublic,
    /// The slot's generation when the pair was begun.
    pub generation: u64,
    /// The half.
    pub sealed: SealedHalf,
}

/// Where a half belongs: what it is sealed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfPlace {
    /// The share pair.
    pub share: PairId,
    /// The pair of the slot.
    pub pair: PairRef,
    /// The slot.
    pub slot: SlotKey,
    /// The slot's generation when the pair was begun.
    pub generation: u64,
    /// The wallet.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
}

impl Store {
    /// Where a half of this client belongs.
    ///
    /// # Errors
    /// [`Error::Unknown`] pair, for another client's too.
    pub async fn half_place(&self, client: ClientId, share: PairId) -> Result<HalfPlace, Error> {
        let row =
            sql("SELECT s.client, s.wallet, s.device, s.method, p.id, p.generation, h.wallet AS of_wallet, h.curve \
             FROM pair_shares h JOIN pairs p ON p.id = h.pair JOIN slots s ON s.slot = p.slot \
             WHERE h.id = $1 AND h.client = $2")
            .bind(share)
            .bind(client)
            .optional(&self.pool)
            .await?
            .ok_or(Error::Unknown(What::Pair))?;
        let slot = slots::slot_key(&row)?;
        let id = row.array("id")?;
        Ok(HalfPlace {
            share,
            pair: slots::pair_ref(id, slot.is_signing()),
            slot,
            generation: row.number("generation")?,
            wallet: row.id("of_wallet")?,
            curve: row.parse("curve")?,
        })
    }

    /// The server's half of one of this device's signing pairs.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another device's or client's pair too; [`Error::Refused`] says why not.
    pub async fn signing_half(
        &self,
        client: ClientId,
        device: DeviceId,
        pair: PairId,
        usage: HalfUse,
    ) -> Result<StoredHalf, Error> {
        let mut halves = self.halves(client, Some(device), PairRef::Signing(pair), usage).await?;
        halves.pop().ok_or(Error::Unknown(What::Half))
    }

    /// The custodian's halves of a backup, in the order of the curves.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's backup too; [`Error::Refused`] says why not.
    pub async fn custodian_halves(
        &self,
        client: ClientId,
        backup: BackupId,
        usage: HalfUse,
    ) -> Result<Vec<StoredHalf>, Error> {
        self.halves(client, None, PairRef::Backup(backup), usage).await
    }

    async fn halves(
        &self,
        client: ClientId,
        device: Option<DeviceId>,
        pair: PairRef,
        usage: HalfUse,
    ) -> Result<Vec<StoredHalf>, Error> {
        let key = slots::key_of(&self.pool, client, pair).await?;
        if let (SlotKey::Signing { device: owner, .. }, Some(device)) = (&key, device)
            && *owner != device
        {
            return Err(Error::Unknown(What::Pair));
        }
        let slot = self.read_slot(client, &key).await?;
        let generation = must_admit(&slot, pair, usage)?;
        match usage {
            HalfUse::Eject => self.must_be_ejecting(client).await?,
            _ => self.must_live(client).await?,
        }
        let rows = sql("SELECT * FROM pair_shares WHERE pair = $1 AND client = $2 ORDER BY curve DESC")
            .bind(pair.as_bytes())
            .bind(client)
            .all(&self.pool)
            .await?;
        rows.iter().map(|row| stored_half(row, pair, generation)).collect()
    }
}

/// A half's wrapped data key, for the walk to a new key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// Its client.
    pub client: ClientId,
    /// The share pair.
    pub share: Share,
    /// Wrapped by the key service.
    pub data_key: Vec<u8>,
}

impl Store {
    /// Whether any half is stored: then the keys that open them must be there too.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn has_halves(&self) -> Result<bool, Error> {
        let row = sql("SELECT id FROM pair_shares WHERE half IS NOT NULL LIMIT 1").optional(&self.pool).await?;
        Ok(row.is_some())
    }

    /// At most `take` wrapped data keys after `after`, in the order of the share pairs.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn data_keys(&self, after: Option<PairId>, take: u64) -> Result<Vec<WrappedDataKey>, Error> {
        let rows = sql("SELECT h.*, s.device FROM pair_shares h JOIN pairs p ON p.id = h.pair \
             JOIN slots s ON s.slot = p.slot WHERE h.data_key IS NOT NULL AND h.id > $1 ORDER BY h.id LIMIT $2")
        .bind(after.unwrap_or(PairId::from_bytes([0; 16])))
        .bind(take)
        .all(&self.pool)
        .await?;
        let wrapped = |row: &Row| {
            let pair = slots::pair_ref(row.array("pair")?, row.get::<Option<Vec<u8>>>("device")?.is_some());
            Ok(WrappedDataKey { client: row.id("client")?, share: share(row, pair)?, data_key: row.get("data_key")? })
        };
        rows.iter().map(wrapped).collect()
    }

    /// Puts a rewrapped data key in the place of `old`; if the half was stored anew in between, nothing happens.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn replace_data_key(&self, share: PairId, old: &[u8], new: &[u8]) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sql("UPDATE pair_shares SET data_key = $3 WHERE id = $1 AND data_key = $2")
            .bind(share)
            .bind(old)
            .bind(new)
            .execute(&mut tx)
            .await?;
        tx.commit().await
    }
}

/// Returns the pair's generation if the use is admitted.
fn must_admit(slot: &Slot, id: PairRef, usage: HalfUse) -> Result<u64, Error> {
    let pair = slot.pair(id).ok_or(Refusal::Retired)?;
    match usage {
        HalfUse::Sign | HalfUse::Deal => lifecycle::may_sign(pair)?,
        HalfUse::Heal if pair.state != PairState::Banned => return Err(Refusal::NotBanned.into()),
        HalfUse::Heal => lifecycle::may_deal(slot, id)?,
        HalfUse::Recover | HalfUse::Verify | HalfUse::Export | HalfUse::Eject => lifecycle::may_recover(pair)?,
        HalfUse::ReadBack if pair.state == PairState::Pending => {}
        HalfUse::ReadBack => return Err(Refusal::NotPending.into()),
    }
    Ok(pair.generation)
}

/// Writes the still empty share rows of a new pair.
pub(super) async fn insert_share(
    tx: &mut Tx,
    client: ClientId,
    pair: PairRef,
    id: PairId,
    wallet: WalletId,
    curve: Curve,
) -> Result<(), Error> {
    sql("INSERT INTO pair_shares (id, pair, client, wallet, curve) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(pair.as_bytes())
        .bind(client)
        .bind(wallet)
        .bind(curve.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// Stores a half and its public side. The wallet's public key, once known, never changes.
pub(super) async fn store_half(tx: &mut Tx, client: ClientId, pair: PairRef, new: &NewHalf) -> Result<(), Error> {
    let wallet = sql("SELECT w.public_key, w.chain_code FROM pair_shares s JOIN wallets w ON w.id = s.wallet \
         WHERE s.id = $1 AND s.pair = $2 AND s.client = $3")
    .bind(new.pair)
    .bind(pair.as_bytes())
    .bind(client)
    .optional(&mut *tx)
    .await?
    .ok_or(Error::Unknown(What::Pair))?;
    let known = wallet.get::<Option<Vec<u8>>>("public_key")?;
    let chain_code = wallet.optional_array::<32>("chain_code")?;
    if known.is_some_and(|known| known != new.public.public_key)
        || chain_code.is_some_and(|code| code != new.public.chain_code)
    {
        return Err(Error::Mismatch(What::Wallet));
    }
    let stored = sql("UPDATE pair_shares SET public_key = $4, chain_code = $5, client_point = $6, peer_point = $7, \
         half = $8, data_key = $9 WHERE id = $1 AND pair = $2 AND client = $3")
    .bind(new.pair)
    .bind(pair.as_bytes())
    .bind(client)
    .bind(new.public.public_key.as_slice())
    .bind(&new.public.chain_code)
    .bind(new.public.client_point.as_slice())
    .bind(new.public.peer_point.as_slice())
    .bind(new.sealed.half.as_slice())
    .bind(new.sealed.data_key.as_slice())
    .execute(tx)
    .await?;
    if stored == 1 { Ok(()) } else { Err(Error::Conflict) }
}

/// The shares of a pair, in the order of [`Curve::ALL`] (by name, descending).
pub(super) async fn shares_of(tx: &mut Tx, client: ClientId, pair: PairRef) -> Result<Vec<Share>, Error> {
    let rows = sql("SELECT * FROM pair_shares WHERE pair = $1 AND client = $2 ORDER BY curve DESC")
        .bind(pair.as_bytes())
        .bind(client)
        .all(tx)
        .await?;
    rows.iter().map(|row| share(row, pair)).collect()
}

/// A row of `pair_shares`.
pub(super) fn share(row: &Row, pair: PairRef) -> Result<Share, Error> {
    Ok(Share { id: row.id("id")?, pair, wallet: row.id("wallet")?, curve: row.parse("curve")?, public: public(row)? })
}

fn public(row: &Row) -> Result<Option<SharePublic>, Error> {
    let columns = (
        row.get::<Option<Vec<u8>>>("public_key")?,
        row.optional_array("chain_code")?,
        row.get::<Option<Vec<u8>>>("client_point")?,
        row.get::<Option<Vec<u8>>>("peer_point")?,
    );
    Ok(match columns {
        (Some(public_key), Some(chain_code), Some(client_point), Some(peer_point)) => {
            Some(SharePublic { public_key, chain_code, client_point, peer_point })
        }
        _ => None,
    })
}

fn stored_half(row: &Row, pair: PairRef, generation: u64) -> Result<StoredHalf, Error> {
    let share = share(row, pair)?;
    let public = share.public.clone().ok_or(Error::Unknown(What::Half))?;
    let half = row.get::<Option<Vec<u8>>>("half")?.ok_or(Error::Unknown(What::Half))?;
    let data_key = row.get::<Option<Vec<u8>>>("data_key")?.ok_or(Error::Unknown(What::Half))?;
    Ok(StoredHalf { share, public, generation, sealed: SealedHalf { half, data_key } })
}
