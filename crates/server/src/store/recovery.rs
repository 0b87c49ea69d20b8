//! Recoveries: the states of METHODS.md G, one transaction with its log entry each.

use std::str::FromStr;

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, RecoveryId, WalletId},
    wallet::{Curve, Method, UnknownName},
};
use halfkey_protocol::lifecycle::{Event, PairRef, PairState, Refusal, SlotKey, may_recover};

use super::{
    Error, Store, What,
    cloud::note_reader,
    devices::{NewDevice, devices_of, insert_device},
    eject::{ejectable_wallets, must_be_enabled, must_live},
    removal::retire_device,
    slots::{self, Work},
    sql::{On, Row, sql},
    wallets::{PendingSigning, activate, begin_signing, open_wallets, wallets_of},
};

/// Where a recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryState {
    /// The custodian has not confirmed the step that its policy asked for. Never stored as such.
    StepUp,
    /// The delay runs.
    Waiting,
    /// The method may be opened.
    Ready,
    /// Possession is proven; the reshare runs.
    Executing,
    /// A device that has cancelled one before cancels this one too: the operator decides.
    Contested,
    /// The new pairs are active.
    Completed,
    /// By a device, a link or the operator.
    Cancelled,
    /// Not finished in time.
    Expired,
    /// By the policy.
    Denied,
}

impl RecoveryState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::StepUp => "STEP_UP",
            Self::Waiting => "WAITING",
            Self::Ready => "READY",
            Self::Executing => "EXECUTING",
            Self::Contested => "CONTESTED",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Denied => "DENIED",
        }
    }

    /// Whether it can still complete.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::StepUp | Self::Waiting | Self::Ready | Self::Executing | Self::Contested)
    }
}

impl FromStr for RecoveryState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [
            Self::Waiting,
            Self::Ready,
            Self::Executing,
            Self::Completed,
            Self::Cancelled,
            Self::Expired,
            Self::Denied,
        ];
        all.into_iter().find(|state| state.as_str() == text).ok_or(UnknownName)
    }
}

/// What happens to the client's other devices when the recovery commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldDevices {
    /// Revoked in the same transaction.
    Revoke,
    /// Kept.
    Keep,
}

/// What possession is to be proven for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A fresh signing pair.
    Recover,
    /// The private keys themselves.
    Eject,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Recover => "RECOVER",
            Self::Eject => "EJECT",
        }
    }
}

/// A recovery that the policy has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecovery {
    /// Its identifier.
    pub id: RecoveryId,
    /// What it is for.
    pub purpose: Purpose,
    /// The method to open.
    pub method: Method,
    /// The device that asks; enrolled only by its proof of possession.
    pub device: NewDevice,
    /// What happens to the others.
    pub old_devices: OldDevices,
    /// n_S: 32 fresh bytes, bound to the device's key.
    pub nonce: [u8; 32],
    /// For the signing pairs that it will make, one per curve.
    pub pairs: Vec<(Curve, PairId)>,
    /// The policy's word: from when on the method may be opened (`now_ms` for at once), or `None` for never.
    pub ready_ms: Option<u64>,
    /// When it expires, in milliseconds.
    pub expires_ms: u64,
    /// What the policy asks of the user outside of this server; nothing can be opened before it is confirmed.
    pub step_up: Option<StepUp>,
}

/// A step that the custodian's policy asks of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUp {
    /// What the user is told.
    pub prompt: String,
    /// Where the user goes.
    pub url: Option<String>,
    /// Until when it has to be confirmed, in milliseconds: else the recovery has expired.
    pub until_ms: u64,
    /// When the custodian's backend confirmed it, in milliseconds.
    pub confirmed_ms: Option<u64>,
}

impl StepUp {
    const fn is_late(&self, now_ms: u64) -> bool {
        self.confirmed_ms.is_none() && now_ms >= self.until_ms
    }
}

/// A recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Its identifier.
    pub id: RecoveryId,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it stands at the asked moment.
    pub state: RecoveryState,
    /// The method.
    pub method: Method,
    /// The backup that it opens.
    pub backup: BackupId,
    /// The device that asks.
    pub device: NewDevice,
    /// What happens to the others.
    pub old_devices: OldDevices,
    /// n_S.
    pub nonce: [u8; 32],
    /// The signing pairs that it makes, in the order of the curves.
    pub pairs: Vec<RecoveryPair>,
    /// From when on the method may be opened, in milliseconds.
    pub ready_ms: u64,
    /// In milliseconds.
    pub expires_ms: u64,
    /// In milliseconds.
    pub created_ms: u64,
    /// When possession was proven, in milliseconds.
    pub possession_ms: Option<u64>,
    /// The one-time HPKE key that the proof of possession named.
    pub one_time_key: Option<[u8; 32]>,
    /// When an operator let it go on although a device had cancelled it, in milliseconds.
    pub decided_ms: Option<u64>,
    /// What the policy asked of the user.
    pub step_up: Option<StepUp>,
    version: u64,
}

/// One curve of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPair {
    /// The wallet.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
    /// The new signing pair.
    pub pair: PairId,
    /// The backup pair that deals.
    pub from: PairId,
}

/// How long a recovery that the operator has to decide about stays open: 7 days.
pub const OPERATOR_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Who ends a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// An enrolled device cancels.
    Device(DeviceId),
    /// Whoever got the notice cancels by its link.
    Link,
    /// An operator cancels.
    Operator,
    /// The policy denies, late.
    Policy,
}

impl EndedBy {
    const fn device(self) -> Option<DeviceId> {
        match self {
            Self::Device(device) => Some(device),
            Self::Link | Self::Operator | Self::Policy => None,
        }
    }
}

impl Store {
    /// Whose recovery it is.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn client_of_recovery(&self, id: RecoveryId) -> Result<ClientId, Error> {
        let row = sql("SELECT client FROM recoveries WHERE id = $1").bind(id).optional(&self.pool).await?;
        row.ok_or(Error::Unknown(What::Recovery))?.id("client")
    }

    /// Opens a recovery from the method's active backup. The same device key asking again gets the recovery that it
    /// has open already.
    ///
    /// # Errors
    /// [`Error::Unknown`] backup: the method has no active one; [`Error::Refused`] when it is frozen, or a wallet is
    /// ejecting; [`Error::EjectClosed`] for an eject outside its window; [`Error::Exists`] device: the key is enrolled already, or [`Error::Exists`] recovery: that device has
    /// one open by another method.
    pub async fn begin_recovery(&self, client: ClientId, new: &NewRecovery, now_ms: u64) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        if let Some(open) = open_recovery_of(&mut work, client, &new.device.public_key, now_ms).await? {
            let same = open.method == new.method && open.purpose == new.purpose;
            return if same { Ok(open) } else { Err(Error::Exists(What::Recovery)) };
        }
        if devices_of(&mut work.tx, client).await?.iter().any(|device| device.public_key == new.device.public_key) {
            return Err(Error::Exists(What::Device));
        }
        let wallets = match new.purpose {
            Purpose::Recover => open_wallets(&mut work.tx, client).await?,
            Purpose::Eject => {
                let wallets = ejectable_wallets(&mut work.tx, client).await?;
                must_be_enabled(&mut work.tx, client, now_ms).await?;
                wallets
            }
        };
        // An exit kit opens offline, with the custodian's export key, and nothing here.
        if new.method == Method::Exit {
            return Err(Error::Unknown(What::Backup));
        }
        let slot = work.slot(client, &SlotKey::Backup { client, method: new.method.clone() }).await?;
        let pair = slot.standing().ok_or(Error::Unknown(What::Backup))?;
        may_recover(pair)?;
        let PairRef::Backup(backup) = pair.id else { return Err(Error::Unknown(What::Backup)) };
        let state = match new.ready_ms {
            None => RecoveryState::Denied,
            Some(ready_ms) if ready_ms > now_ms || new.step_up.is_some() => RecoveryState::Waiting,
            Some(_) => RecoveryState::Ready,
        };
        insert_recovery(&mut work, client, new, backup, state, now_ms).await?;
        for wallet in &wallets {
            let of_curve = new.pairs.iter().find(|(curve, _)| *curve == wallet.curve);
            let (_, pair) = of_curve.ok_or(Error::Mismatch(What::Pair))?;
            sql("INSERT INTO recovery_pairs (pair, recovery, wallet, curve) VALUES ($1, $2, $3, $4)")
                .bind(*pair)
                .bind(new.id)
                .bind(wallet.id)
                .bind(wallet.curve.as_str())
                .execute(&mut work.tx)
                .await?;
        }
        let payload = serde_json::json!({
            "recovery": new.id, "purpose": new.purpose.as_str(), "method": new.method, "backup": backup,
            "device": new.device.id, "state": state.as_str(), "stepUp": new.step_up.is_some(),
        });
        work.tell(client, "recovery.requested", payload, now_ms).await?;
        let begun = load(&mut work.tx, client, new.id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(begun)
    }

    /// The recovery that this device key has open.
    ///
    /// # Errors
    /// [`Error::Expired`] recovery: it was opened and not finished in time.
    pub async fn open_recovery(
        &self,
        client: ClientId,
        device_key: &[u8; 32],
        now_ms: u64,
    ) -> Result<Option<Recovery>, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let open = open_recovery_of(&mut work, client, device_key, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(open)
    }

    /// One recovery of this client, as it stands at `now_ms`.
    ///
    /// # Errors
    /// [`Error::Unknown`], for another client's recovery too.
    pub async fn recovery(&self, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        load(&mut work.tx, client, id, now_ms).await
    }

    /// The client's newest recoveries, at most `take`.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn recoveries(&self, client: ClientId, take: u64, now_ms: u64) -> Result<Vec<Recovery>, Error> {
        let rows = sql("SELECT id FROM recoveries WHERE client = $1 ORDER BY id DESC LIMIT $2")
            .bind(client)
            .bind(take)
            .all(&self.pool)
            .await?;
        let mut recoveries = Vec::new();
        for row in rows {
            recoveries.push(self.recovery(client, row.id("id")?, now_ms).await?);
        }
        Ok(recoveries)
    }

    /// Possession of the client halves is proven: enrols the new device and begins its signing pairs. Call it only with
    /// proofs that verified, and with the one-time key that they named. Repeating it gives the same pairs.
    ///
    /// # Errors
    /// [`Error::State`] or [`Error::Expired`] recovery; [`Error::Mismatch`] recovery when an earlier proof named another
    /// one-time key; [`Error::Refused`] when the backup is not active any more.
    pub async fn prove_possession(
        &self,
        client: ClientId,
        id: RecoveryId,
        one_time_key: &[u8; 32],
        now_ms: u64,
    ) -> Result<(Recovery, Vec<PendingSigning>), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        must_be_for(&recovery, Purpose::Recover)?;
        if recovery.state == RecoveryState::Executing {
            if recovery.one_time_key.is_some_and(|known| known != *one_time_key) {
                return Err(Error::Mismatch(What::Recovery));
            }
            let pending = pending_of(&mut work, client, &recovery).await?;
            return Ok((recovery, pending));
        }
        must_be(&recovery, RecoveryState::Ready)?;
        backup_must_deal(&mut work, client, &recovery).await?;
        insert_device(&mut work.tx, client, &recovery.device, Some(id), now_ms).await?;
        let mut pending = Vec::new();
        for RecoveryPair { wallet, curve, pair, .. } in &recovery.pairs {
            let device = recovery.device.id;
            pending.push(begin_signing(&mut work, client, device, *wallet, *curve, *pair, now_ms).await?);
        }
        transition(&mut work, &recovery, RecoveryState::Executing, Some(now_ms)).await?;
        note_reader(&mut work.tx, client, recovery.backup, recovery.device.id, now_ms).await?;
        sql("UPDATE recoveries SET one_time_key = $2 WHERE id = $1")
            .bind(id)
            .bind(one_time_key)
            .execute(&mut work.tx)
            .await?;
        let payload = serde_json::json!({ "recovery": id, "device": recovery.device.id });
        work.tell(client, "recovery.possession-proven", payload, now_ms).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok((recovery, pending))
    }

    /// Completes a recovery: every new signing pair becomes active, and the other devices are revoked if that was
    /// asked, in one transaction. Call it only after the test signatures verified. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::State`] or [`Error::Expired`] recovery; [`Error::Mismatch`] wallet; [`Error::Refused`].
    pub async fn commit_recovery(&self, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        must_live(&mut work.tx, client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        must_be_for(&recovery, Purpose::Recover)?;
        if recovery.state == RecoveryState::Completed {
            return Ok(recovery);
        }
        must_be(&recovery, RecoveryState::Executing)?;
        backup_must_deal(&mut work, client, &recovery).await?;
        for pair in &recovery.pairs {
            activate(&mut work, client, recovery.device.id, pair.pair, now_ms).await?;
        }
        let opened = PairRef::Backup(recovery.backup);
        let key = slots::key_of(&mut work.tx, client, opened).await?;
        work.apply(client, &key, &[Event::Opened { pair: opened }], now_ms).await?;
        let revoked = revoke_others(&mut work, client, &recovery, now_ms).await?;
        transition(&mut work, &recovery, RecoveryState::Completed, recovery.possession_ms).await?;
        let payload = serde_json::json!({ "recovery": id, "device": recovery.device.id, "revoked": revoked });
        work.tell(client, "recovery.completed", payload, now_ms).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(recovery)
    }

    /// Ends an open recovery. After a proof of possession somebody holds the client halves: the backup is frozen and
    /// the new device revoked in the same transaction. Repeating it changes nothing.
    ///
    /// Before that proof, a device's second cancel does not end the recovery but holds it, [`RecoveryState::Contested`],
    /// until an operator decides: a stolen device must not block its owner for ever (ADR 0013).
    ///
    /// # Errors
    /// [`Error::State`] recovery once it is completed, for a device once an operator has let it go on, or for an eject
    /// whose halves were released: a cancel would bring nothing back; [`Error::Unknown`].
    pub async fn end_recovery(
        &self,
        client: ClientId,
        id: RecoveryId,
        by: EndedBy,
        now_ms: u64,
    ) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        if !recovery.state.is_open() {
            let over = matches!(recovery.state, RecoveryState::Completed);
            return if over { Err(Error::State(What::Recovery)) } else { Ok(recovery) };
        }
        if recovery.purpose == Purpose::Eject && recovery.state == RecoveryState::Executing {
            return Err(Error::State(What::Recovery));
        }
        let objects = match by {
            EndedBy::Device(device) => device != recovery.device.id,
            EndedBy::Link => true,
            EndedBy::Operator | EndedBy::Policy => false,
        };
        if objects && recovery.decided_ms.is_some() {
            return Err(Error::State(What::Recovery));
        }
        if objects && recovery.state == RecoveryState::Contested {
            return Ok(recovery);
        }
        if objects && recovery.possession_ms.is_none() && has_cancelled(&mut work, client, by).await? {
            contest(&mut work, client, &recovery, by, now_ms).await?;
        } else {
            end(&mut work, client, &recovery, by, now_ms).await?;
        }
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(recovery)
    }

    /// An operator lets a contested recovery go on, for `open_ms` from now or from the end of its delay. No device can
    /// cancel it any more.
    ///
    /// # Errors
    /// [`Error::State`] recovery unless it is contested; [`Error::Unknown`].
    pub async fn continue_recovery(
        &self,
        client: ClientId,
        id: RecoveryId,
        open_ms: u64,
        now_ms: u64,
    ) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        must_be(&recovery, RecoveryState::Contested)?;
        let moved = sql("UPDATE recoveries SET decided_ms = $3, expires_ms = $4, version = version + 1 \
             WHERE id = $1 AND version = $2")
        .bind(id)
        .bind(recovery.version)
        .bind(now_ms)
        .bind(recovery.ready_ms.max(now_ms).saturating_add(open_ms))
        .execute(&mut work.tx)
        .await?;
        if moved != 1 {
            return Err(Error::Conflict);
        }
        work.tell(client, "recovery.continued", serde_json::json!({ "recovery": id }), now_ms).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(recovery)
    }

    /// The custodian's backend says that the user has done what its policy asked for: the recovery goes on, for `open_ms` from
    /// now or from the end of its delay. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::State`] recovery if nothing was asked for, or it is over; [`Error::Expired`] recovery; [`Error::Unknown`].
    pub async fn confirm_step_up(
        &self,
        client: ClientId,
        id: RecoveryId,
        open_ms: u64,
        now_ms: u64,
    ) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        let Some(step_up) = &recovery.step_up else { return Err(Error::State(What::Recovery)) };
        if step_up.confirmed_ms.is_some() {
            return Ok(recovery);
        }
        // A contested one waits for the operator as well.
        if recovery.state != RecoveryState::Contested {
            must_be(&recovery, RecoveryState::StepUp)?;
        }
        let moved = sql("UPDATE recoveries SET step_up_confirmed_ms = $3, expires_ms = $4, version = version + 1 \
             WHERE id = $1 AND version = $2")
        .bind(id)
        .bind(recovery.version)
        .bind(now_ms)
        .bind(recovery.expires_ms.max(recovery.ready_ms.max(now_ms).saturating_add(open_ms)))
        .execute(&mut work.tx)
        .await?;
        if moved != 1 {
            return Err(Error::Conflict);
        }
        work.tell(client, "recovery.step-up-confirmed", serde_json::json!({ "recovery": id }), now_ms).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(recovery)
    }

    /// The custodian's backend says that the user has not done what its policy asked for: the recovery is denied. Repeating
    /// it changes nothing.
    ///
    /// # Errors
    /// [`Error::State`] recovery if nothing was asked for, it was confirmed before, or it is completed;
    /// [`Error::Unknown`].
    pub async fn fail_step_up(&self, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
        let recovery = self.recovery(client, id, now_ms).await?;
        match &recovery.step_up {
            Some(step_up) if step_up.confirmed_ms.is_none() => {
                self.end_recovery(client, id, EndedBy::Policy, now_ms).await
            }
            _ => Err(Error::State(What::Recovery)),
        }
    }

    /// Writes down that a recovery was not finished in time; its device, if enrolled, is revoked. If another device was
    /// in use since possession was proven, the backup that somebody opened is frozen: that device can make another one
    /// at once. If none was, the backup may be all that is left of the wallet, and stays (ADR 0013).
    pub(super) async fn expire_recovery(&self, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let recovery = load(&mut work.tx, client, id, now_ms).await?;
        if recovery.state != RecoveryState::Expired {
            return Ok(());
        }
        let mut frozen = false;
        if let Some(possession_ms) = recovery.possession_ms {
            frozen = another_device_lives(&mut work, client, recovery.device.id, possession_ms).await?;
            if frozen {
                freeze(&mut work, client, recovery.backup, now_ms).await?;
            }
            retire_device(&mut work, client, recovery.device.id, now_ms).await?;
        }
        transition(&mut work, &recovery, RecoveryState::Expired, recovery.possession_ms).await?;
        let payload = serde_json::json!({ "recovery": id, "frozen": frozen });
        work.tell(client, "recovery.expired", payload, now_ms).await?;
        work.commit(now_ms).await
    }
}

async fn insert_recovery(
    work: &mut Work,
    client: ClientId,
    new: &NewRecovery,
    backup: BackupId,
    state: RecoveryState,
    now_ms: u64,
) -> Result<(), Error> {
    sql("INSERT INTO recoveries (id, client, purpose, method, backup, state, device_key, platform, device_name, device, \
         old_devices, nonce, ready_ms, expires_ms, created_ms, step_up_prompt, step_up_url, step_up_until_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 0)")
    .bind(new.id)
    .bind(client)
    .bind(new.purpose.as_str())
    .bind(new.method.to_string())
    .bind(backup)
    .bind(state.as_str())
    .bind(&new.device.public_key)
    .bind(new.device.platform.as_str())
    .bind(new.device.name.as_str())
    .bind(new.device.id)
    .bind(if new.old_devices == OldDevices::Revoke { "REVOKE" } else { "KEEP" })
    .bind(&new.nonce)
    .bind(new.ready_ms.unwrap_or(now_ms))
    .bind(new.expires_ms)
    .bind(now_ms)
    .bind(new.step_up.as_ref().map(|step_up| step_up.prompt.clone()))
    .bind(new.step_up.as_ref().and_then(|step_up| step_up.url.clone()))
    .bind(new.step_up.as_ref().map(|step_up| step_up.until_ms))
    .execute(&mut work.tx)
    .await?;
    Ok(())
}

async fn backup_is_superseded(work: &mut Work, client: ClientId, recovery: &Recovery) -> Result<bool, Error> {
    match backup_must_deal(work, client, recovery).await {
        Ok(()) => Ok(false),
        Err(Error::Refused(Refusal::Retired)) => Ok(true),
        Err(Error::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The one open recovery of this device key; one that has expired, or whose backup was replaced before it was opened,
/// makes room for the next.
async fn open_recovery_of(
    work: &mut Work,
    client: ClientId,
    device_key: &[u8; 32],
    now_ms: u64,
) -> Result<Option<Recovery>, Error> {
    let row = sql("SELECT id FROM recoveries WHERE client = $1 AND device_key = $2 \
         AND state IN ('REQUESTED', 'WAITING', 'READY', 'EXECUTING')")
    .bind(client)
    .bind(device_key)
    .optional(&mut work.tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let recovery = load(&mut work.tx, client, row.id("id")?, now_ms).await?;
    // Nobody has opened it, and nobody can any more: a newer backup has taken the place of the one that it was for.
    let superseded = matches!(recovery.state, RecoveryState::StepUp | RecoveryState::Waiting | RecoveryState::Ready)
        && backup_is_superseded(work, client, &recovery).await?;
    if recovery.state != RecoveryState::Expired && !superseded {
        return Ok(Some(recovery));
    }
    if recovery.possession_ms.is_some() {
        return Err(Error::Expired(What::Recovery));
    }
    transition(work, &recovery, RecoveryState::Expired, None).await?;
    Ok(None)
}

/// What is stored, seen at `now_ms`: a delay that is over is ready, and what is too late has expired.
pub(super) async fn load(
    on: impl Into<On<'_>>,
    client: ClientId,
    id: RecoveryId,
    now_ms: u64,
) -> Result<Recovery, Error> {
    let rows = sql("SELECT r.*, p.pair, p.wallet, p.curve, s.id AS dealer FROM recoveries r \
         JOIN recovery_pairs p ON p.recovery = r.id \
         JOIN pair_shares s ON s.pair = r.backup AND s.curve = p.curve \
         WHERE r.id = $1 AND r.client = $2 ORDER BY p.curve DESC")
    .bind(id)
    .bind(client)
    .all(on)
    .await?;
    let row = rows.first().ok_or(Error::Unknown(What::Recovery))?;
    let pairs = rows.iter().map(recovery_pair).collect::<Result<_, _>>()?;
    let (ready_ms, expires_ms) = (row.number("ready_ms")?, row.number("expires_ms")?);
    let decided_ms = row.optional_number("decided_ms")?;
    let contested = row.optional_number("contested_ms")?.is_some() && decided_ms.is_none();
    let step_up = step_up(row)?;
    let late = now_ms >= expires_ms || step_up.as_ref().is_some_and(|step_up| step_up.is_late(now_ms));
    let asked = step_up.as_ref().is_some_and(|step_up| step_up.confirmed_ms.is_none());
    let state = match row.parse("state")? {
        state if RecoveryState::is_open(state) && late => RecoveryState::Expired,
        state if RecoveryState::is_open(state) && contested => RecoveryState::Contested,
        RecoveryState::Waiting | RecoveryState::Ready if asked => RecoveryState::StepUp,
        RecoveryState::Waiting if now_ms >= ready_ms => RecoveryState::Ready,
        state => state,
    };
    Ok(Recovery {
        id: row.id("id")?,
        purpose: match row.get::<String>("purpose")?.as_str() {
            "RECOVER" => Purpose::Recover,
            "EJECT" => Purpose::Eject,
            _ => return Err(Error::Corrupt("what a recovery is for")),
        },
        state,
        method: row.parse("method")?,
        backup: row.id("backup")?,
        device: NewDevice {
            id: row.id("device")?,
            public_key: row.array("device_key")?,
            platform: row.get("platform")?,
            name: row.get("device_name")?,
        },
        old_devices: match row.get::<String>("old_devices")?.as_str() {
            "REVOKE" => OldDevices::Revoke,
            "KEEP" => OldDevices::Keep,
            _ => return Err(Error::Corrupt("what a recovery does to old devices")),
        },
        nonce: row.array("nonce")?,
        pairs,
        ready_ms,
        expires_ms,
        created_ms: row.number("created_ms")?,
        possession_ms: row.optional_number("possession_ms")?,
        one_time_key: row.optional_array("one_time_key")?,
        decided_ms,
        step_up,
        version: row.number("version")?,
    })
}

fn step_up(row: &Row) -> Result<Option<StepUp>, Error> {
    let Some(until_ms) = row.optional_number("step_up_until_ms")? else { return Ok(None) };
    Ok(Some(StepUp {
        prompt: row.get("step_up_prompt")?,
        url: row.get("step_up_url")?,
        until_ms,
        confirmed_ms: row.optional_number("step_up_confirmed_ms")?,
    }))
}

fn recovery_pair(row: &Row) -> Result<RecoveryPair, Error> {
    Ok(RecoveryPair {
        wallet: row.id("wallet")?,
        curve: row.parse("curve")?,
        pair: row.id("pair")?,
        from: row.id("dealer")?,
    })
}

/// A proof for the one purpose is none for the other.
fn must_be_for(recovery: &Recovery, purpose: Purpose) -> Result<(), Error> {
    if recovery.purpose == purpose { Ok(()) } else { Err(Error::Unknown(What::Recovery)) }
}

pub(super) const fn must_be(recovery: &Recovery, state: RecoveryState) -> Result<(), Error> {
    match recovery.state {
        RecoveryState::Expired => Err(Error::Expired(What::Recovery)),
        other if other as u8 == state as u8 => Ok(()),
        _ => Err(Error::State(What::Recovery)),
    }
}

pub(super) async fn transition(
    work: &mut Work,
    recovery: &Recovery,
    state: RecoveryState,
    possession_ms: Option<u64>,
) -> Result<(), Error> {
    let moved = sql("UPDATE recoveries SET state = $3, possession_ms = $4, version = version + 1 \
         WHERE id = $1 AND version = $2")
    .bind(recovery.id)
    .bind(recovery.version)
    .bind(state.as_str())
    .bind(possession_ms)
    .execute(&mut work.tx)
    .await?;
    if moved == 1 { Ok(()) } else { Err(Error::Conflict) }
}

pub(super) async fn backup_must_deal(work: &mut Work, client: ClientId, recovery: &Recovery) -> Result<(), Error> {
    let pair = PairRef::Backup(recovery.backup);
    let key = slots::key_of(&mut work.tx, client, pair).await?;
    let slot = work.slot(client, &key).await?;
    Ok(may_recover(slot.pair(pair).ok_or(Refusal::Retired)?)?)
}

/// The pairs that an earlier proof began.
async fn pending_of(work: &mut Work, client: ClientId, recovery: &Recovery) -> Result<Vec<PendingSigning>, Error> {
    let mut pending = Vec::new();
    for RecoveryPair { wallet, curve, pair, .. } in &recovery.pairs {
        let key = SlotKey::Signing { wallet: *wallet, device: recovery.device.id };
        let slot = work.slot(client, &key).await?;
        let begun = slot.pair(PairRef::Signing(*pair)).ok_or(Refusal::Retired)?;
        if begun.state != PairState::Pending {
            return Err(Refusal::NotPending.into());
        }
        pending.push(PendingSigning {
            wallet: *wallet,
            curve: *curve,
            pair: *pair,
            generation: begun.generation,
            deadline_ms: begun.deadline_ms,
        });
    }
    Ok(pending)
}

async fn revoke_others(
    work: &mut Work,
    client: ClientId,
    recovery: &Recovery,
    now_ms: u64,
) -> Result<Vec<DeviceId>, Error> {
    if recovery.old_devices == OldDevices::Keep {
        return Ok(Vec::new());
    }
    let mut revoked = Vec::new();
    for device in devices_of(&mut work.tx, client).await? {
        if device.revoked_ms.is_none() && device.id != recovery.device.id {
            end_recoveries_of(work, client, device.id, Some(recovery.device.id), now_ms).await?;
            retire_device(work, client, device.id, now_ms).await?;
            revoked.push(device.id);
        }
    }
    Ok(revoked)
}

/// What ending an open recovery does, and the word of it.
async fn end(work: &mut Work, client: ClientId, recovery: &Recovery, by: EndedBy, now_ms: u64) -> Result<(), Error> {
    let frozen = recovery.possession_ms.is_some();
    if frozen {
        freeze(work, client, recovery.backup, now_ms).await?;
        retire_device(work, client, recovery.device.id, now_ms).await?;
    }
    let state = if by == EndedBy::Policy { RecoveryState::Denied } else { RecoveryState::Cancelled };
    transition(work, recovery, state, recovery.possession_ms).await?;
    let by_link = u64::from(by == EndedBy::Link);
    sql("UPDATE recoveries SET ended_by = $2, ended_by_link = $3 WHERE id = $1")
        .bind(recovery.id)
        .bind(by.device())
        .bind(by_link)
        .execute(&mut work.tx)
        .await?;
    let payload = serde_json::json!({
        "recovery": recovery.id, "state": state.as_str(), "by": by.device(), "byLink": by == EndedBy::Link, "frozen": frozen,
    });
    work.tell(client, "recovery.ended", payload, now_ms).await
}

/// Holds a recovery for the operator, who has [`OPERATOR_MS`].
async fn contest(
    work: &mut Work,
    client: ClientId,
    recovery: &Recovery,
    by: EndedBy,
    now_ms: u64,
) -> Result<(), Error> {
    let moved =
        sql("UPDATE recoveries SET contested_by = $3, contested_ms = $4, expires_ms = $5, version = version + 1 \
         WHERE id = $1 AND version = $2")
        .bind(recovery.id)
        .bind(recovery.version)
        .bind(by.device())
        .bind(now_ms)
        .bind(recovery.expires_ms.max(now_ms.saturating_add(OPERATOR_MS)))
        .execute(&mut work.tx)
        .await?;
    if moved != 1 {
        return Err(Error::Conflict);
    }
    let payload = serde_json::json!({ "recovery": recovery.id, "by": by.device(), "byLink": by == EndedBy::Link });
    work.tell(client, "recovery.contested", payload, now_ms).await
}

/// Whether this device, or a link, has cancelled a recovery of this client before. Whoever reads the user's mail must not
/// block the owner for ever either.
async fn has_cancelled(work: &mut Work, client: ClientId, by: EndedBy) -> Result<bool, Error> {
    let cancelled = match by.device() {
        Some(device) => sql("SELECT id FROM recoveries WHERE client = $1 AND ended_by = $2 AND device <> $2 LIMIT 1")
            .bind(client)
            .bind(device),
        None => sql("SELECT id FROM recoveries WHERE client = $1 AND ended_by_link = 1 LIMIT 1").bind(client),
    };
    Ok(cancelled.optional(&mut work.tx).await?.is_some())
}

/// A device is revoked: with it ends the recovery that enrolled it, if that has not completed. Says whether a backup was
/// frozen.
pub(super) async fn end_recoveries_of(
    work: &mut Work,
    client: ClientId,
    device: DeviceId,
    by: Option<DeviceId>,
    now_ms: u64,
) -> Result<bool, Error> {
    let row = sql("SELECT id FROM recoveries WHERE client = $1 AND device = $2 AND state = 'EXECUTING'")
        .bind(client)
        .bind(device)
        .optional(&mut work.tx)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let recovery = load(&mut work.tx, client, row.id("id")?, now_ms).await?;
    end(work, client, &recovery, by.map_or(EndedBy::Operator, EndedBy::Device), now_ms).await?;
    Ok(true)
}

/// A pair was banned while a recovery made it: the recovery cannot complete any more, and ends. Its device is revoked;
/// the backup is not frozen, since a new recovery makes everything anew and needs the same proof (ADR 0013).
pub(super) async fn end_by_ban(
    work: &mut Work,
    client: ClientId,
    pair: PairId,
    now_ms: u64,
) -> Result<Option<RecoveryId>, Error> {
    let row = sql("SELECT r.id FROM recoveries r JOIN recovery_pairs p ON p.recovery = r.id \
         WHERE p.pair = $1 AND r.client = $2 AND r.state = 'EXECUTING'")
    .bind(pair)
    .bind(client)
    .optional(&mut work.tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let recovery = load(&mut work.tx, client, row.id("id")?, now_ms).await?;
    retire_device(work, client, recovery.device.id, now_ms).await?;
    transition(work, &recovery, RecoveryState::Cancelled, recovery.possession_ms).await?;
    let payload = serde_json::json!({
        "recovery": recovery.id, "state": RecoveryState::Cancelled.as_str(), "banned": pair, "frozen": false,
    });
    work.tell(client, "recovery.ended", payload, now_ms).await?;
    Ok(Some(recovery.id))
}

/// Whether another device of the client was in use since then and can still sign on every curve, and so back up anew.
async fn another_device_lives(
    work: &mut Work,
    client: ClientId,
    device: DeviceId,
    since_ms: u64,
) -> Result<bool, Error> {
    let wallets = wallets_of(&mut work.tx, client).await?;
    for other in devices_of(&mut work.tx, client).await? {
        if other.id == device || other.revoked_ms.is_some() || other.seen_ms <= since_ms {
            continue;
        }
        let mut signs = true;
        for wallet in &wallets {
            let slot = work.slot(client, &SlotKey::Signing { wallet: wallet.id, device: other.id }).await?;
            signs &= slot.active().is_some();
        }
        if signs {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The backup that somebody opened. One that was retired in between needs no freezing.
async fn freeze(work: &mut Work, client: ClientId, backup: BackupId, now_ms: u64) -> Result<(), Error> {
    let pair = PairRef::Backup(backup);
    let key = slots::key_of(&mut work.tx, client, pair).await?;
    let slot = work.slot(client, &key).await?;
    let active = slot.pair(pair).is_some_and(|pair| pair.state == PairState::Active);
    if active {
        work.apply(client, &key, &[Event::Freeze { pair }], now_ms).await?;
    }
    Ok(())
}
