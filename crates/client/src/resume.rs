//! `resume`: finishes or discards what a crash left. Safe to call at any time, and twice.
//!
//! Shares in the pending slot may be the only ones of pairs that the server has made Active: they are given up only when
//! the server, asked in the name of the very client that they belong to, says that they do not count.

use halfkey_api::{
    message::{BeginWallets, ClientDetail, RecoveryState, WalletsBegun},
    route,
};
use halfkey_envelope::id::{PairId, RecoveryId};

use crate::{
    backup,
    call::{self, Call},
    command::Resumed,
    device::{self, Device, KnownBackup, Underway},
    eject,
    error::{Error, Result, StorageReason},
    heal,
    host::BlobSlot,
    port::Port,
    recover, status,
};

/// The pending slot first: it may hold the newer shares.
pub(crate) async fn resume(port: &Port) -> Result<Resumed> {
    if let Some(pending) = device::load(port, BlobSlot::Pending).await? {
        return match pending.underway.clone() {
            Some(Underway::Recovery(id, _, _)) => resume_recovery(port, pending, id).await,
            Some(Underway::Eject(id, _)) => eject::resume(port, pending, id).await,
            Some(Underway::Heal(pair)) => resume_heal(port, pending, pair).await,
            _ => resume_create(port, pending).await,
        };
    }
    let Some(current) = device::load(port, BlobSlot::Current).await? else { return Ok(Resumed::Nothing) };
    match current.underway.clone() {
        Some(Underway::Backup(pending)) => resume_backup(port, &current, pending).await,
        _ => Ok(Resumed::Nothing),
    }
}

/// The wallet is this device's if the server has made its very pairs Active.
async fn resume_create(port: &Port, mut pending: Device) -> Result<Resumed> {
    if is_current(port, &pending).await? {
        port.delete_blob(BlobSlot::Pending).await?;
        return Ok(Resumed::WalletCompleted);
    }
    let client = status::client(port).await?;
    must_be_of(&client, &pending)?;
    if has_active(&client, &pending)? {
        device::promote(port, pending).await?;
        return Ok(Resumed::WalletCompleted);
    }
    if pending.shares.is_empty() {
        return Ok(Resumed::Nothing);
    }
    // The last message of that attempt may still be on its way. From the server's new pairs on, it completes nothing.
    match begin_anew(port, &pending).await {
        Err(Error::WalletAlreadyExists) => {
            if has_active(&status::client(port).await?, &pending)? {
                device::promote(port, pending).await?;
                return Ok(Resumed::WalletCompleted);
            }
        }
        Err(Error::DeviceRevoked) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    // The device key stays: it is enrolled, and the next attempt goes on with it.
    pending.shares.clear();
    device::save(port, BlobSlot::Pending, &pending).await?;
    Ok(Resumed::WalletDiscarded)
}

async fn begin_anew(port: &Port, pending: &Device) -> Result<WalletsBegun> {
    let call = Call::new(port, "POST", route::WALLETS.to_owned()).signed(&pending.key);
    call.json(&BeginWallets {})?.fetch().await
}

/// Of another client's shares this one's server records say nothing.
pub(crate) fn must_be_of(client: &ClientDetail, pending: &Device) -> Result<()> {
    if client.id == pending.client { Ok(()) } else { Err(Error::Storage(StorageReason::OtherOwner)) }
}

/// Before other work takes the pending slot: shares in it that count become this device's. Those of another client
/// stay where they are.
pub(crate) async fn settle(port: &Port, client: &ClientDetail) -> Result<()> {
    let Some(pending) = device::load_readable(port, BlobSlot::Pending).await? else { return Ok(()) };
    if pending.shares.is_empty() {
        return Ok(());
    }
    if is_current(port, &pending).await? {
        return port.delete_blob(BlobSlot::Pending).await;
    }
    must_be_of(client, &pending)?;
    if has_active(client, &pending)? { take_over(port, pending).await } else { Ok(()) }
}

/// The new shares of the pending slot become this device's.
async fn take_over(port: &Port, pending: Device) -> Result<()> {
    match pending.underway {
        Some(Underway::Heal(pair)) => device::adopt(port, pending, pair).await,
        _ => device::promote(port, pending).await,
    }
}

/// The crash was between writing the current slot and emptying the pending one.
async fn is_current(port: &Port, pending: &Device) -> Result<bool> {
    let Some(current) = device::load_readable(port, BlobSlot::Current).await? else { return Ok(false) };
    let here = |pair| current.shares.iter().any(|share| share.pair == pair);
    Ok(!pending.shares.is_empty() && pending.renewed().all(|share| here(share.pair)))
}

fn has_active(client: &ClientDetail, pending: &Device) -> Result<bool> {
    if pending.shares.is_empty() {
        return Ok(false);
    }
    for share in pending.renewed() {
        let public_key = share.party()?.public().public_key().to_bytes();
        let wallet = client.wallets.iter().find(|wallet| wallet.id == share.wallet);
        let active = wallet.is_some_and(|wallet| {
            wallet.public_key.as_ref().is_some_and(|key| key.0 == public_key)
                && wallet.signing_share_pairs.iter().any(|pair| pair.id == share.pair && pair.state == "active")
        });
        if !active {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn resume_recovery(port: &Port, pending: Device, id: Option<RecoveryId>) -> Result<Resumed> {
    if is_current(port, &pending).await? {
        port.delete_blob(BlobSlot::Pending).await?;
        return Ok(Resumed::RecoveryCompleted);
    }
    // Without an id the next `recover_wallet` asks again with the same key.
    let Some(id) = id else { return Ok(Resumed::Nothing) };
    let client = status::client(port).await?;
    must_be_of(&client, &pending)?;
    if has_active(&client, &pending)? {
        device::promote(port, pending).await?;
        return Ok(Resumed::RecoveryCompleted);
    }
    let read = recover::read(port, &pending, id).await;
    let recovery = match read {
        Ok(recovery) => recovery,
        Err(error) if is_gone(&error) => return discard_recovery(port).await,
        Err(error) => return Err(error),
    };
    match recovery.state {
        RecoveryState::Completed if !pending.shares.is_empty() => {
            device::promote(port, pending).await?;
            Ok(Resumed::RecoveryCompleted)
        }
        RecoveryState::Completed | RecoveryState::Cancelled | RecoveryState::Expired | RecoveryState::Denied => {
            discard_recovery(port).await
        }
        RecoveryState::Requested
        | RecoveryState::StepUpRequired
        | RecoveryState::Waiting
        | RecoveryState::Ready
        | RecoveryState::Executing => Ok(Resumed::RecoveryOpen {
            recovery_id: recovery.id,
            method: recovery.method,
            until: recovery.waiting_until.filter(|_| recovery.state == RecoveryState::Waiting),
        }),
    }
}

/// A healing needs nobody's secret: it is carried to its end, unless the server says that it is over.
async fn resume_heal(port: &Port, pending: Device, pair: PairId) -> Result<Resumed> {
    let curve = pending.renewed().next().map(|share| share.curve).ok_or(Error::Storage(StorageReason::Damaged))?;
    if is_current(port, &pending).await? {
        port.delete_blob(BlobSlot::Pending).await?;
        return Ok(Resumed::Healed(curve));
    }
    let client = status::client(port).await?;
    must_be_of(&client, &pending)?;
    if !has_active(&client, &pending)? {
        let current = device::current(port).await?;
        match heal::heal_one(port, &current, current.share(curve)?).await {
            Ok(()) => return Ok(Resumed::Healed(curve)),
            // The last message of the earlier attempt may have arrived in between.
            Err(Error::NotBanned | Error::ReviewNeeded) => {}
            Err(error) => return Err(error),
        }
        if !has_active(&status::client(port).await?, &pending)? {
            port.delete_blob(BlobSlot::Pending).await?;
            return Ok(Resumed::HealDiscarded(curve));
        }
    }
    device::adopt(port, pending, pair).await?;
    Ok(Resumed::Healed(curve))
}

/// Unknown, or over: a device that was enrolled by a recovery which then expired or was cancelled is revoked with it.
pub(crate) fn is_gone(error: &Error) -> bool {
    *error == Error::DeviceRevoked || call::is_refused(error, halfkey_api::error::ErrorId::NotFound)
}

async fn discard_recovery(port: &Port) -> Result<Resumed> {
    port.delete_blob(BlobSlot::Pending).await?;
    Ok(Resumed::RecoveryDiscarded)
}

/// Committed if the server says so of this very backup; cancelled if not.
async fn resume_backup(port: &Port, current: &Device, pending: KnownBackup) -> Result<Resumed> {
    let status = status::backup_status(port).await?;
    let committed =
        status.methods.iter().any(|method| method.backup_id == Some(pending.backup) && method.status == "completed");
    let method = pending.method.clone();
    if committed {
        device::update(port, |device| {
            device.remember(pending);
            device.underway = None;
        })
        .await?;
        return Ok(Resumed::BackupCompleted(method));
    }
    match backup::cancel(port, current, pending.backup).await {
        Ok(()) | Err(Error::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    device::update(port, |device| device.underway = None).await?;
    Ok(Resumed::BackupDiscarded(method))
}
