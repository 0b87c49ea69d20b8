//! Backups: one method, one envelope, one share pair per curve, all pending, committed and retired together.

use halfkey_envelope::{
    hash::sha256,
    id::{BackupId, ClientId, DeviceId, PairId, WalletId},
    wallet::{Curve, Method},
};
use halfkey_protocol::lifecycle::{Event, Evidence, Pair, PairRef, PairState, Refusal, Slot, SlotKey, may_sign};

use super::{
    CloudRecord, Error, Store, What,
    eject::must_live,
    shares::{NewHalf, Share, insert_share, shares_of, store_half},
    slots,
    sql::{Row, sql},
    wallets::{must_be_enrolled, open_wallets},
};

/// A backup that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingBackup {
    /// Its identifier.
    pub backup: BackupId,
    /// The slot's generation.
    pub generation: u64,
    /// When it expires, in milliseconds.
    pub deadline_ms: u64,
    /// One per curve, in the order of the curves.
    pub shares: Vec<PendingShare>,
}

/// One curve of a pending backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingShare {
    /// The wallet.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
    /// The pending backup pair.
    pub pair: PairId,
    /// The device's active signing pair, which deals.
    pub from: PairId,
}

/// A backup with everything the server knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its identifier.
    pub id: BackupId,
    /// The method.
    pub method: Method,
    /// Where it is in its life, and what was checked.
    pub pair: Pair,
    /// One per curve, in the order of the curves.
    pub shares: Vec<Share>,
    /// When both sides last proved their halves, in milliseconds.
    pub verified_ms: Option<u64>,
    /// When a drill found, after that, that it does not hold, in milliseconds.
    pub failed_ms: Option<u64>,
    /// The device's own statement about the record at the method.
    pub statement: Option<String>,
    /// Of a record in the user's cloud.
    pub cloud: Option<CloudRecord>,
}

/// An envelope as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sealed client halves.
    pub envelope: Vec<u8>,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// The sealed record, of methods that keep it beside the envelope.
    pub record: Option<Vec<u8>>,
}

impl Envelope {
    /// Whether the bytes are those that were stored.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        sha256(&self.envelope) == self.digest
    }
}

/// A backup that is active now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBackup {
    /// The method.
    pub method: Method,
    /// The pairs that became active, in the order of the curves.
    pub pairs: Vec<PairId>,
    /// When it was committed, in milliseconds; repeated calls get the first time.
    pub committed_ms: u64,
    /// The backup of the same method that it retired, if there was one: its doors may be closed.
    pub retired: Option<BackupId>,
}

impl Store {
    /// Begins a backup: takes the slot's lease, and makes a pending pair on every curve. An attempt that the same
    /// device left unfinished is abandoned; the active backup stays as it is.
    ///
    /// # Errors
    /// [`Error::OperationInProgress`] while another device is at it; [`Error::Unknown`] wallet, device, or pair: the
    /// device has no signing pair to deal from; [`Error::Refused`], a ban of that pair among others.
    pub async fn begin_backup(
        &self,
        client: ClientId,
        device: DeviceId,
        method: &Method,
        backup: BackupId,
        pairs: &[(Curve, PairId)],
        now_ms: u64,
    ) -> Result<PendingBackup, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_be_enrolled(&mut work.tx, client, device).await?;
        let wallets = open_wallets(&mut work.tx, client).await?;
        let key = SlotKey::Backup { client, method: method.clone() };
        let pair = PairRef::Backup(backup);
        let slot = work.apply(client, &key, &[Event::Begin { pair, by: device }], now_ms).await?;
        let mut shares = Vec::new();
        for wallet in wallets {
            let new = pairs.iter().find(|(curve, _)| *curve == wallet.curve).ok_or(Error::Mismatch(What::Pair))?;
            let dealer = work.slot(client, &SlotKey::Signing { wallet: wallet.id, device }).await?;
            let standing = dealer.standing().ok_or(Error::Unknown(What::Pair))?;
            may_sign(standing)?;
            let PairRef::Signing(from) = standing.id else { return Err(Error::Unknown(What::Pair)) };
            insert_share(&mut work.tx, client, pair, new.1, wallet.id, wallet.curve).await?;
            shares.push(PendingShare { wallet: wallet.id, curve: wallet.curve, pair: new.1, from });
        }
        let begun = slot.pending().ok_or(Error::Refused(Refusal::NotPending))?;
        let begun = PendingBackup { backup, generation: begun.generation, deadline_ms: begun.deadline_ms, shares };
        work.commit(now_ms).await?;
        Ok(begun)
    }

    /// Stores the custodian's halves of every curve, all or none. Call it only with acknowledgements that verified.
    ///
    /// # Errors
    /// [`Error::Mismatch`] pair unless there is exactly one half per curve; [`Error::Mismatch`] wallet when a public
    /// key is not the wallet's; [`Error::Unknown`] backup; [`Error::Refused`].
    pub async fn store_custodian_halves(
        &self,
        client: ClientId,
        device: DeviceId,
        backup: BackupId,
        halves: &[NewHalf],
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let pair = PairRef::Backup(backup);
        let key = slots::key_of(&mut work.tx, client, pair).await?;
        let shares = shares_of(&mut work.tx, client, pair).await?;
        if shares.len() != halves.len() || !shares.iter().all(|share| halves.iter().any(|half| half.pair == share.id)) {
            return Err(Error::Mismatch(What::Pair));
        }
        let evidence = Event::Evidence { pair, by: device, what: Evidence::CustodianAck };
        work.apply(client, &key, &[evidence], now_ms).await?;
        for half in halves {
            store_half(&mut work.tx, client, pair, half).await?;
        }
        work.commit(now_ms).await
    }

    /// Stores the envelope of a pending backup, once; the same envelope again changes nothing. Returns its SHA-256.
    ///
    /// # Errors
    /// [`Error::Refused`] when another envelope is stored, or the custodian's halves are not; [`Error::Unknown`].
    pub async fn store_envelope(
        &self,
        client: ClientId,
        device: DeviceId,
        backup: BackupId,
        envelope: &[u8],
        record: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<[u8; 32], Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let pair = PairRef::Backup(backup);
        let key = slots::key_of(&mut work.tx, client, pair).await?;
        let digest = sha256(envelope);
        let evidence = Event::Evidence { pair, by: device, what: Evidence::EnvelopeStored { digest } };
        work.apply(client, &key, &[evidence], now_ms).await?;
        let stored = sql("INSERT INTO envelopes (backup, client, envelope, digest, record, stored_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (backup) DO NOTHING")
        .bind(backup)
        .bind(client)
        .bind(envelope)
        .bind(&digest)
        .bind(record.map(<[u8]>::to_vec))
        .bind(now_ms)
        .execute(&mut work.tx)
        .await?;
        if stored == 0 {
            let row = sql("SELECT record FROM envelopes WHERE backup = $1 AND digest = $2").bind(backup).bind(&digest);
            let row = row.optional(&mut work.tx).await?.ok_or(Refusal::EvidenceConflict)?;
            if row.get::<Option<Vec<u8>>>("record")?.as_deref() != record {
                return Err(Refusal::EvidenceConflict.into());
            }
        }
        work.commit(now_ms).await?;
        Ok(digest)
    }

    /// The envelope of a backup that is not erased, as it was stored.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's backup too; [`Error::Corrupt`].
    pub async fn envelope(&self, client: ClientId, backup: BackupId) -> Result<Envelope, Error> {
        let stored = self.envelope_as_stored(client, backup).await?;
        if stored.is_intact() { Ok(stored) } else { Err(Error::Corrupt("an envelope")) }
    }

    /// The same, damaged or not: who can compare it with its key tells what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's backup too.
    pub async fn envelope_as_stored(&self, client: ClientId, backup: BackupId) -> Result<Envelope, Error> {
        let row = sql("SELECT envelope, digest, record FROM envelopes WHERE backup = $1 AND client = $2")
            .bind(backup)
            .bind(client)
            .optional(&self.pool)
            .await?
            .ok_or(Error::Unknown(What::Envelope))?;
        Ok(Envelope { envelope: row.get("envelope")?, digest: row.array("digest")?, record: row.get("record")? })
    }

    /// Makes a backup active on every curve and retires the slot's predecessor, in one transaction with its log
    /// entry. Call it only after the proofs for both halves, bound to `digest`, verified. Repeating it changes nothing.
    ///
    /// `statement` is what the device says about the record at the method; it is shown as asserted, never as proven.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Unknown`] backup, or device: it was revoked.
    pub async fn commit_backup(
        &self,
        client: ClientId,
        device: DeviceId,
        backup: BackupId,
        digest: [u8; 32],
        statement: &str,
        now_ms: u64,
    ) -> Result<CommittedBackup, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let pair = PairRef::Backup(backup);
        let key = slots::key_of(&mut work.tx, client, pair).await?;
        let SlotKey::Backup { method, .. } = &key else { return Err(Error::Unknown(What::Backup)) };
        let before = work.slot(client, &key).await?;
        let known = before.pair(pair).ok_or(Refusal::Retired)?;
        let shares = shares_of(&mut work.tx, client, pair).await?;
        let pairs = shares.iter().map(|share| share.id).collect();
        let commit = Event::Commit { pair, by: device };
        if known.state == PairState::Active {
            if known.checked.envelope != Some(digest) {
                return Err(Refusal::EvidenceConflict.into());
            }
            work.apply(client, &key, &[commit], now_ms).await?;
            let committed_ms = known.activated_ms.unwrap_or(now_ms);
            let retired = predecessor(&before, known);
            return Ok(CommittedBackup { method: method.clone(), pairs, committed_ms, retired });
        }
        let evidence = |what| Event::Evidence { pair, by: device, what };
        let events = [evidence(Evidence::KeyAsserted { digest }), evidence(Evidence::Proven { digest }), commit];
        let after = work.apply(client, &key, &events, now_ms).await?;
        // A device that was revoked while its request was on its way replaces no backup any more.
        must_be_enrolled(&mut work.tx, client, device).await?;
        let retired = predecessor(&after, known);
        sql("UPDATE pairs SET verified_ms = $3 WHERE id = $1 AND client = $2")
            .bind(backup)
            .bind(client)
            .bind(now_ms)
            .execute(&mut work.tx)
            .await?;
        sql("UPDATE envelopes SET statement = $3 WHERE backup = $1 AND client = $2")
            .bind(backup)
            .bind(client)
            .bind(statement)
            .execute(&mut work.tx)
            .await?;
        let payload = serde_json::json!({
            "backup": backup, "method": method, "device": device, "retired": retired, "digest": hex::encode(digest),
        });
        work.tell(client, "backup.completed", payload, now_ms).await?;
        let committed = CommittedBackup { method: method.clone(), pairs, committed_ms: now_ms, retired };
        work.commit(now_ms).await?;
        Ok(committed)
    }

    /// Gives a pending backup up. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is active already; [`Error::Unknown`] backup.
    pub async fn cancel_backup(
        &self,
        client: ClientId,
        device: DeviceId,
        backup: BackupId,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        let pair = PairRef::Backup(backup);
        let key = slots::key_of(&mut work.tx, client, pair).await?;
        work.apply(client, &key, &[Event::Cancel { pair, by: device }], now_ms).await?;
        work.commit(now_ms).await
    }

    /// One backup of this client.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's backup too.
    pub async fn backup(&self, client: ClientId, id: BackupId) -> Result<Backup, Error> {
        let row = sql("SELECT p.*, s.method, e.statement FROM pairs p JOIN slots s ON s.slot = p.slot \
             LEFT JOIN envelopes e ON e.backup = p.id WHERE p.id = $1 AND p.client = $2 AND s.method IS NOT NULL")
        .bind(id)
        .bind(client)
        .optional(&self.pool)
        .await?;
        self.backup_of(client, &row.ok_or(Error::Unknown(What::Backup))?).await
    }

    /// The client's backups that are not erased, retired ones included, by slot and oldest first.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn backups(&self, client: ClientId) -> Result<Vec<Backup>, Error> {
        let rows = sql("SELECT p.*, s.method, e.statement FROM pairs p JOIN slots s ON s.slot = p.slot \
             LEFT JOIN envelopes e ON e.backup = p.id \
             WHERE p.client = $1 AND s.method IS NOT NULL AND p.state <> 'ERASED' ORDER BY p.slot, p.generation")
        .bind(client)
        .all(&self.pool)
        .await?;
        let mut backups = Vec::new();
        for row in &rows {
            backups.push(self.backup_of(client, row).await?);
        }
        Ok(backups)
    }

    async fn backup_of(&self, client: ClientId, row: &Row) -> Result<Backup, Error> {
        let id: BackupId = row.id("id")?;
        let shares = sql("SELECT * FROM pair_shares WHERE pair = $1 AND client = $2 ORDER BY curve DESC")
            .bind(id)
            .bind(client)
            .all(&self.pool)
            .await?;
        Ok(Backup {
            id,
            method: row.parse("method")?,
            pair: slots::pair(row, false)?,
            shares: shares
                .iter()
                .map(|row| super::shares::share(row, PairRef::Backup(id)))
                .collect::<Result<_, _>>()?,
            verified_ms: row.optional_number("verified_ms")?,
            failed_ms: row.optional_number("failed_ms")?,
            statement: row.get("statement")?,
            cloud: match self.cloud_record(client, id).await {
                Err(Error::Unknown(_)) => None,
                found => Some(found?),
            },
        })
    }
}

/// The backup that `pair` took the place of.
fn predecessor(slot: &Slot, pair: &Pair) -> Option<BackupId> {
    let older = |other: &&Pair| other.generation < pair.generation && other.activated_ms.is_some();
    match slot.pairs.iter().filter(older).max_by_key(|other| other.generation)?.id {
        PairRef::Backup(id) => Some(id),
        PairRef::Signing(_) => None,
    }
}
