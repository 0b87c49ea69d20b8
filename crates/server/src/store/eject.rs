//! Ejects: the window that a custodian opens, the release of the custodian's halves, the acknowledgement, and the end of
//! every half 30 days after it (METHODS.md G).
//!
//! An eject is a recovery with another purpose: asked for, delayed, listed and cancelled like one. What differs is here.

use halfkey_envelope::id::{ApiKeyId, BackupId, ClientId, CustodianId, RecoveryId};
use halfkey_protocol::lifecycle::{Event, Refusal, RetireReason, WalletState};

use super::{
    Error, Purpose, Recovery, RecoveryState, Store, What,
    recovery::{backup_must_deal, load, must_be, transition},
    removal::retire_device,
    slots::{self, Work},
    sql::{Tx, sql},
    wallets::{Wallet, wallets_of},
};

/// How long after the acknowledgement both halves stay, and the same proof may repeat: 30 days.
pub const EJECTED_KEEP_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// The last millisecond of the year 9999: an eject whose halves may have left does not expire.
const NEVER_MS: u64 = 253_402_300_799_999;
/// How many ejects one sweep retires.
const PAGE: u64 = 200;

/// The window that was last opened for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectWindow {
    /// In milliseconds.
    pub opened_ms: u64,
    /// The first millisecond at which it is closed.
    pub until_ms: u64,
}

impl EjectWindow {
    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

impl Store {
    /// Opens the window in which one client may eject, in place of any before it. `asks` is the custodian with the key
    /// that it used, or `None` for an operator.
    ///
    /// # Errors
    /// [`Error::Unknown`] client, for another custodian's too; [`Error::Refused`] once the wallet is ejected.
    pub async fn open_eject_window(
        &self,
        asks: Option<(CustodianId, ApiKeyId)>,
        client: ClientId,
        window: EjectWindow,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut work = self.work().await?;
        let custodian = work.hold_client(client).await?;
        if asks.is_some_and(|(asking, _)| asking != custodian) {
            return Err(Error::Unknown(What::Client));
        }
        let key = asks.map(|(_, key)| key);
        ejectable_wallets(&mut work.tx, client).await?;
        sql("INSERT INTO eject_windows (client, key, opened_ms, until_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (client) DO UPDATE SET key = excluded.key, opened_ms = excluded.opened_ms, \
             until_ms = excluded.until_ms")
        .bind(client)
        .bind(key)
        .bind(window.opened_ms)
        .bind(window.until_ms)
        .execute(&mut work.tx)
        .await?;
        let payload = serde_json::json!({ "key": key, "until": window.until_ms });
        work.tell(client, "eject.enabled", payload, now_ms).await?;
        work.commit(now_ms).await
    }

    /// The window that was last opened for a client, open or not.
    ///
    /// # Errors
    /// The database's own trouble.
    pub async fn eject_window(&self, client: ClientId) -> Result<Option<EjectWindow>, Error> {
        let row = sql("SELECT opened_ms, until_ms FROM eject_windows WHERE client = $1").bind(client);
        let Some(row) = row.optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(EjectWindow { opened_ms: row.number("opened_ms")?, until_ms: row.number("until_ms")? }))
    }

    /// Possession is proven in an eject: from this transaction on the wallets are ejecting and nothing else works. Only
    /// after it the custodian's halves may be opened. Call it only with proofs that verified, and with the one-time key
    /// that they named. Repeating it, until the halves are retired, changes nothing.
    ///
    /// Every other recovery of the client ends here, without freezing anything: the backup's halves are about to meet.
    ///
    /// # Errors
    /// [`Error::EjectClosed`] outside the window; [`Error::Mismatch`] recovery when an earlier proof named another
    /// one-time key; [`Error::State`] or [`Error::Expired`] recovery; [`Error::Refused`] when the backup does not count
    /// any more; [`Error::Unknown`] recovery unless it is an eject.
    pub async fn release_ejection(
        &self,
        client: ClientId,
        id: RecoveryId,
        one_time_key: &[u8; 32],
        now_ms: u64,
    ) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let eject = load_eject(&mut work, client, id, now_ms).await?;
        backup_must_deal(&mut work, client, &eject).await?;
        if matches!(eject.state, RecoveryState::Executing | RecoveryState::Completed) {
            let same = eject.one_time_key.is_some_and(|known| known == *one_time_key);
            return if same { Ok(eject) } else { Err(Error::Mismatch(What::Recovery)) };
        }
        must_be(&eject, RecoveryState::Ready)?;
        must_be_enabled(&mut work.tx, client, now_ms).await?;
        ejectable_wallets(&mut work.tx, client).await?;
        end_others(&mut work, client, id, now_ms).await?;
        sql("UPDATE wallets SET state = 'EJECTING', version = version + 1 WHERE client = $1 AND state = 'OPEN'")
            .bind(client)
            .execute(&mut work.tx)
            .await?;
        sql("UPDATE verifications SET state = 'FAILED', finished_ms = $2 WHERE client = $1 AND state = 'OPEN'")
            .bind(client)
            .bind(now_ms)
            .execute(&mut work.tx)
            .await?;
        transition(&mut work, &eject, RecoveryState::Executing, Some(now_ms)).await?;
        sql("UPDATE recoveries SET one_time_key = $2, expires_ms = $3 WHERE id = $1")
            .bind(id)
            .bind(one_time_key)
            .bind(NEVER_MS)
            .execute(&mut work.tx)
            .await?;
        let payload = serde_json::json!({ "recovery": id, "backup": eject.backup });
        work.tell(client, "wallet.ejecting", payload, now_ms).await?;
        let eject = load_eject(&mut work, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(eject)
    }

    /// The device has combined the halves, compared the keys with the addresses and shown them: the wallets are ejected.
    /// Repeating it changes nothing.
    ///
    /// # Errors
    /// [`Error::State`] recovery unless its halves were released; [`Error::Unknown`] recovery unless it is an eject.
    pub async fn acknowledge_ejection(&self, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        let eject = load_eject(&mut work, client, id, now_ms).await?;
        if eject.state == RecoveryState::Completed {
            return Ok(eject);
        }
        must_be(&eject, RecoveryState::Executing)?;
        sql("UPDATE wallets SET state = 'EJECTED', version = version + 1 WHERE client = $1 AND state = 'EJECTING'")
            .bind(client)
            .execute(&mut work.tx)
            .await?;
        transition(&mut work, &eject, RecoveryState::Completed, eject.possession_ms).await?;
        sql("UPDATE recoveries SET acknowledged_ms = $2 WHERE id = $1")
            .bind(id)
            .bind(now_ms)
            .execute(&mut work.tx)
            .await?;
        let payload = serde_json::json!({ "recovery": id, "keptUntil": now_ms.saturating_add(EJECTED_KEEP_MS) });
        work.tell(client, "wallet.ejected", payload, now_ms).await?;
        let eject = load_eject(&mut work, client, id, now_ms).await?;
        work.commit(now_ms).await?;
        Ok(eject)
    }

    /// Notes that the custodian's half of an exit kit has left.
    ///
    /// # Errors
    /// [`Error::Unknown`] client.
    pub async fn tell_exported(&self, client: ClientId, backup: BackupId, now_ms: u64) -> Result<(), Error> {
        let mut work = self.work().await?;
        work.hold_client(client).await?;
        work.tell(client, "exit-kit.exported", serde_json::json!({ "backup": backup }), now_ms).await?;
        work.commit(now_ms).await
    }

    /// Retires every half of the clients whose acknowledgement is 30 days old. What is retired is erased as after any
    /// removal.
    pub(super) async fn retire_ejected(&self, now_ms: u64) -> Result<u64, Error> {
        let Some(since_ms) = now_ms.checked_sub(EJECTED_KEEP_MS) else { return Ok(0) };
        let rows = sql("SELECT id, client FROM recoveries WHERE purpose = 'EJECT' AND acknowledged_ms <= $1 \
             AND retired_ms IS NULL ORDER BY id LIMIT $2")
        .bind(since_ms)
        .bind(PAGE)
        .all(&self.pool)
        .await?;
        for row in &rows {
            let (id, client): (RecoveryId, ClientId) = (row.id("id")?, row.id("client")?);
            let mut work = self.work().await?;
            work.hold_client(client).await?;
            for key in slots::keys_of(&mut work.tx, client).await? {
                work.apply(client, &key, &[Event::Remove { reason: RetireReason::Ejected }], now_ms).await?;
            }
            sql("UPDATE recoveries SET retired_ms = $2 WHERE id = $1")
                .bind(id)
                .bind(now_ms)
                .execute(&mut work.tx)
                .await?;
            work.tell(client, "wallet.ejected-halves-retired", serde_json::json!({ "recovery": id }), now_ms).await?;
            work.commit(now_ms).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Whether a wallet of this client is being ejected or was.
    ///
    /// # Errors
    /// [`Error::Refused`] says which.
    pub async fn must_live(&self, client: ClientId) -> Result<(), Error> {
        must_all_live(&wallets_of(&self.pool, client).await?)
    }

    /// The custodian's halves leave only when everybody already knows that they may have left.
    pub(super) async fn must_be_ejecting(&self, client: ClientId) -> Result<(), Error> {
        let wallets = wallets_of(&self.pool, client).await?;
        let left = |wallet: &Wallet| matches!(wallet.state, Some(WalletState::Ejecting | WalletState::Ejected));
        if !wallets.is_empty() && wallets.iter().all(left) { Ok(()) } else { Err(Error::State(What::Wallet)) }
    }
}

/// Inside a transaction that holds the client: refuses while a wallet is being ejected, and after.
pub(super) async fn must_live(tx: &mut Tx, client: ClientId) -> Result<(), Error> {
    must_all_live(&wallets_of(tx, client).await?)
}

fn must_all_live(wallets: &[Wallet]) -> Result<(), Error> {
    Ok(wallets.iter().filter_map(|wallet| wallet.state).try_for_each(WalletState::may_operate)?)
}

/// Every wallet is there, and none was ejected for good. An eject whose device was lost may be begun again.
pub(super) async fn ejectable_wallets(tx: &mut Tx, client: ClientId) -> Result<Vec<Wallet>, Error> {
    let wallets = wallets_of(tx, client).await?;
    for curve in halfkey_envelope::wallet::Curve::ALL {
        let wallet = wallets.iter().find(|wallet| wallet.curve == curve);
        if wallet.and_then(|wallet| wallet.state).ok_or(Error::Unknown(What::Wallet))? == WalletState::Ejected {
            return Err(Refusal::Ejected.into());
        }
    }
    Ok(wallets)
}

/// Refuses outside the window that the custodian has opened for this client.
pub(super) async fn must_be_enabled(tx: &mut Tx, client: ClientId, now_ms: u64) -> Result<(), Error> {
    let row = sql("SELECT client FROM eject_windows WHERE client = $1 AND until_ms > $2")
        .bind(client)
        .bind(now_ms)
        .optional(tx)
        .await?;
    row.map(drop).ok_or(Error::EjectClosed)
}

async fn load_eject(work: &mut Work, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<Recovery, Error> {
    let eject = load(&mut work.tx, client, id, now_ms).await?;
    if eject.purpose == Purpose::Eject { Ok(eject) } else { Err(Error::Unknown(What::Recovery)) }
}

/// Ends what else is open for this client, except ejects whose halves were released.
async fn end_others(work: &mut Work, client: ClientId, id: RecoveryId, now_ms: u64) -> Result<(), Error> {
    let rows = sql("SELECT id FROM recoveries WHERE client = $1 AND id <> $2 \
         AND state IN ('REQUESTED', 'WAITING', 'READY', 'EXECUTING') \
         AND NOT (purpose = 'EJECT' AND state = 'EXECUTING') ORDER BY id")
    .bind(client)
    .bind(id)
    .all(&mut work.tx)
    .await?;
    for row in &rows {
        let other = load(&mut work.tx, client, row.id("id")?, now_ms).await?;
        if other.possession_ms.is_some() {
            retire_device(work, client, other.device.id, now_ms).await?;
        }
        transition(work, &other, RecoveryState::Cancelled, other.possession_ms).await?;
        let payload = serde_json::json!({ "recovery": other.id, "state": "CANCELLED", "eject": id, "frozen": false });
        work.tell(client, "recovery.ended", payload, now_ms).await?;
    }
    Ok(())
}
