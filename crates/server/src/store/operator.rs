//! What waits for an operator: bans to review, frozen pairs to thaw, recoveries that a device cancelled a second time.

use halfkey_envelope::{
    id::{BackupId, ClientId, DeviceId, PairId, RecoveryId, WalletId},
    wallet::{Curve, Method},
};

use super::{
    Error, Store, slots,
    sql::{Row, sql},
};

/// A banned signing pair that no operator has decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BannedPair {
    /// Whose.
    pub client: ClientId,
    /// The pair.
    pub pair: PairId,
    /// Its wallet.
    pub wallet: WalletId,
    /// Its curve.
    pub curve: Curve,
    /// The device that holds the other half.
    pub device: DeviceId,
    /// Which check failed.
    pub reason: Option<String>,
    /// In milliseconds.
    pub since_ms: u64,
    /// How often this slot was healed already.
    pub heals: u64,
}

/// A frozen pair: a backup, or after a restore perhaps a signing pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenPair {
    /// Whose.
    pub client: ClientId,
    /// The backup or the signing pair.
    pub place: FrozenPlace,
    /// In milliseconds.
    pub since_ms: u64,
}

/// Which pair is frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrozenPlace {
    /// A backup.
    Backup {
        /// The backup.
        backup: BackupId,
        /// Its method.
        method: Method,
    },
    /// A signing pair.
    Signing {
        /// The pair.
        pair: PairId,
        /// Its device.
        device: DeviceId,
    },
}

/// A recovery that is held until an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContestedRecovery {
    /// Whose.
    pub client: ClientId,
    /// The recovery.
    pub recovery: RecoveryId,
    /// The method that it would open.
    pub method: Method,
    /// What the device that asks calls itself.
    pub device_name: String,
    /// When it was asked for, in milliseconds.
    pub created_ms: u64,
    /// The device that cancels for the second time or oftener.
    pub contested_by: DeviceId,
    /// In milliseconds.
    pub since_ms: u64,
    /// When it expires undecided, in milliseconds.
    pub expires_ms: u64,
}

/// Everything that waits for an operator, each list oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitingForOperator {
    /// Bans that were neither reviewed nor upheld.
    pub banned: Vec<BannedPair>,
    /// Pairs that only an operator thaws.
    pub frozen: Vec<FrozenPair>,
    /// Recoveries that only an operator lets go on.
    pub contested: Vec<ContestedRecovery>,
}

impl Store {
    /// What waits for an operator.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn waiting_for_operator(&self, now_ms: u64) -> Result<WaitingForOperator, Error> {
        let banned = sql("SELECT p.id, p.client, p.changed_ms, p.ban_reason, s.device, s.heals, h.wallet, h.curve \
             FROM pairs p JOIN slots s ON s.slot = p.slot JOIN pair_shares h ON h.pair = p.id \
             WHERE p.state = 'BANNED' AND p.reviewed = 0 AND p.upheld_ms IS NULL \
             AND NOT EXISTS (SELECT 1 FROM pairs n WHERE n.slot = p.slot AND n.state = 'PENDING' AND n.heals = 1 \
             AND n.deadline_ms > $1) ORDER BY p.changed_ms, p.id")
        .bind(now_ms)
        .all(&self.pool)
        .await?;
        let frozen = sql("SELECT p.id, p.client, p.changed_ms, s.wallet, s.device, s.method \
             FROM pairs p JOIN slots s ON s.slot = p.slot WHERE p.state = 'FROZEN' ORDER BY p.changed_ms, p.id")
        .all(&self.pool)
        .await?;
        let contested =
            sql("SELECT id, client, method, device_name, created_ms, contested_by, contested_ms, expires_ms \
             FROM recoveries WHERE contested_ms IS NOT NULL AND decided_ms IS NULL AND expires_ms > $1 \
             AND state IN ('WAITING', 'READY', 'EXECUTING') ORDER BY contested_ms, id")
            .bind(now_ms)
            .all(&self.pool)
            .await?;
        Ok(WaitingForOperator {
            banned: banned.iter().map(banned_pair).collect::<Result<_, _>>()?,
            frozen: frozen.iter().map(frozen_pair).collect::<Result<_, _>>()?,
            contested: contested.iter().map(contested_recovery).collect::<Result<_, _>>()?,
        })
    }
}

fn banned_pair(row: &Row) -> Result<BannedPair, Error> {
    Ok(BannedPair {
        client: row.id("client")?,
        pair: row.id("id")?,
        wallet: row.id("wallet")?,
        curve: row.parse("curve")?,
        device: row.id("device")?,
        reason: row.get("ban_reason")?,
        since_ms: row.number("changed_ms")?,
        heals: row.number("heals")?,
    })
}

fn frozen_pair(row: &Row) -> Result<FrozenPair, Error> {
    let place = match slots::slot_key(row)? {
        halfkey_protocol::lifecycle::SlotKey::Backup { method, .. } => {
            FrozenPlace::Backup { backup: row.id("id")?, method }
        }
        halfkey_protocol::lifecycle::SlotKey::Signing { device, .. } => {
            FrozenPlace::Signing { pair: row.id("id")?, device }
        }
    };
    Ok(FrozenPair { client: row.id("client")?, place, since_ms: row.number("changed_ms")? })
}

fn contested_recovery(row: &Row) -> Result<ContestedRecovery, Error> {
    Ok(ContestedRecovery {
        client: row.id("client")?,
        recovery: row.id("id")?,
        method: row.parse("method")?,
        device_name: row.get("device_name")?,
        created_ms: row.number("created_ms")?,
        contested_by: row.id("contested_by")?,
        since_ms: row.number("contested_ms")?,
        expires_ms: row.number("expires_ms")?,
    })
}
