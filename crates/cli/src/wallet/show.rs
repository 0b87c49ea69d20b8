//! How results read.

use halfkey_api::{
    chain::Addresses,
    message::{Device, MethodStatus, Protection, ProtectionReason, Recovery, StepUp},
};
use halfkey_client::{Backup, Recovered, Resumed};
use serde_json::json;

use super::Session;
use crate::{
    error::Result,
    output::{self, Output, time},
};

pub(super) async fn status(session: &mut Session, output: &Output) -> Result<()> {
    let on_device = session.halfkey.is_wallet_on_device().await?;
    let exists = session.halfkey.does_wallet_exist().await?;
    let status = session.halfkey.backup_status().await?;
    let mut lines = Vec::new();
    let mut value =
        json!({ "walletExists": exists, "onThisDevice": on_device, "backupStatus": output::json(&status)? });
    if on_device {
        let addresses = session.halfkey.addresses().await?;
        lines.extend(address_lines(&addresses));
        value["addresses"] = output::json(&addresses)?;
    } else if exists {
        lines.push("The wallet is not on this device. Next: `halfkey wallet recover`.".to_owned());
    } else {
        lines.push("There is no wallet yet. Next: `halfkey wallet create`.".to_owned());
    }
    lines.push(format!("backed up: {}", if status.backed_up { "yes, proven on every curve" } else { "NO" }));
    if exists {
        lines.extend(protection_lines(&status.protection));
        let recoverable = session.halfkey.is_wallet_recoverable().await?;
        lines.push(format!("recoverable here and now: {}", if recoverable { "yes" } else { "NO" }));
        value["recoverable"] = recoverable.into();
    }
    lines.extend(status.warnings.iter().map(|warning| format!("  note: {}", said(*warning))));
    lines.extend(status.methods.iter().flat_map(method_lines));
    output.result(&lines, &value);
    Ok(())
}

pub(super) async fn devices(session: &mut Session, output: &Output) -> Result<()> {
    let devices = session.halfkey.devices().await?;
    let lines: Vec<_> = devices.iter().map(device_line).collect();
    output.result(&lines, &json!({ "devices": output::json(&devices)? }));
    Ok(())
}

pub(super) fn address_lines(addresses: &Addresses) -> Vec<String> {
    vec![
        format!("ethereum  {}", addresses.ethereum),
        format!("bitcoin   {}", addresses.bitcoin),
        format!("solana    {}", addresses.solana),
    ]
}

fn protection_lines(protection: &Protection) -> Vec<String> {
    let state = match protection {
        Protection::Protected => "protected",
        Protection::AtRisk { .. } => "AT RISK",
        Protection::Unprotected => "UNPROTECTED: no backup would bring this wallet back",
    };
    let reasons = protection.reasons().iter().map(|reason| format!("  {}", said(*reason)));
    std::iter::once(format!("protection: {state}")).chain(reasons).collect()
}

/// What a reason means, and what to do.
const fn said(reason: ProtectionReason) -> &'static str {
    match reason {
        ProtectionReason::DeviceBound => "a passkey is on one device only; add one that is not, or another method",
        ProtectionReason::PendingSync => "iCloud: no other device has it yet, and nobody has confirmed that it is on",
        ProtectionReason::PinAlone => "a PIN is the only backup; add another method",
        ProtectionReason::CloudAlone => "a cloud account is the only backup; add another method",
        ProtectionReason::VerificationDue => "a backup was not verified for long: `halfkey wallet verify`",
        ProtectionReason::FewGuessesLeft => "few guesses are left for the password; verify it, or back up anew",
        ProtectionReason::VerificationFailed => "a backup failed its verification and does not count; back up anew",
        ProtectionReason::LockedOut => "the password's guesses are spent, and its backup is destroyed; back up anew",
        ProtectionReason::OneMethod => "one method only: if it is forgotten or lost, there is no other",
        _ => "a reason that this version does not know; look for an update",
    }
}

fn method_lines(method: &MethodStatus) -> Vec<String> {
    let verified = method.verified_at.map_or_else(|| "never".to_owned(), time);
    let mut lines = vec![format!("  {:<14} {}, last verified {verified}", method.method.to_string(), method.status)];
    let curve_line = |curve: &halfkey_api::message::CurveStatus| {
        format!("    {:<10} {}{}", curve.curve.as_str(), curve.status, if curve.proven { ", proven" } else { "" })
    };
    if method.asserted_device_bound {
        lines.push("    DEVICE-BOUND: its key is on one device only, and this does not count as backed up".to_owned());
    }
    if let Some(left) = method.guesses_left {
        lines.push(format!("    guesses left: {left}"));
    }
    if let Some(at) = method.verification_failed_at {
        let at = time(at);
        lines.push(format!("    FAILED its verification {at}: it does not count as a backup; back up again by it"));
    } else if method.verification_due {
        lines.push("    verification is due: `halfkey wallet verify`".to_owned());
    }
    lines.extend(method.curves.iter().map(curve_line));
    lines
}

fn device_line(device: &Device) -> String {
    let state = match (device.revoked_at, device.last_seen_at) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) => format!("last seen {}", time(at)),
        (None, None) => "never seen".to_owned(),
    };
    format!("{}  {:<8} {:<24} {state}", device.id, device.platform, device.name)
}

pub(super) fn recovery_line(recovery: &Recovery) -> String {
    let until = recovery.waiting_until.map(|at| format!(" until {}", time(at))).unwrap_or_default();
    format!(
        "{}  {:?}{until}  {}  asked by {:?} {}",
        recovery.id,
        recovery.state,
        recovery.method,
        recovery.device_name,
        time(recovery.created_at)
    )
}

/// What the custodian asks of the user, in its own words.
pub(super) fn step_up_lines(asked: &StepUp) -> Vec<String> {
    let mut lines = vec![format!("The operator asks for this first: {}", asked.prompt)];
    lines.extend(asked.url.iter().map(|url| format!("  {url}")));
    lines.push(format!("Then run the same command again, before {}.", time(asked.until)));
    lines
}

/// What a passkey without a copy elsewhere means.
pub(super) const DEVICE_BOUND: &str =
    "This passkey is on one device only: if that device is lost, so is this backup. Add another passkey or method.";

pub(super) fn backup(backup: &Backup, output: &Output) {
    let mut lines = vec![format!("Backed up with {}: proven on every curve ({}).", backup.method, backup.backup_id)];
    if backup.device_bound {
        lines.push(DEVICE_BOUND.to_owned());
    }
    lines.extend(backup.protection.iter().flat_map(protection_lines));
    output.result(&lines, &backup_value(backup));
}

fn backup_value(backup: &Backup) -> serde_json::Value {
    json!({
        "method": backup.method, "backupId": backup.backup_id, "shareIds": backup.share_ids,
        "cipherText": hex::encode(&backup.cipher_text), "committedAt": backup.committed_at,
        "deviceBound": backup.device_bound, "protection": backup.protection,
    })
}

pub(super) fn recovered(recovered: &Recovered, output: &Output) -> Result<()> {
    completed(&recovered.addresses, &recovered.fresh_backup, output)
}

/// A recovery that is complete, with what came of the fresh backup.
pub(super) fn completed(addresses: &Addresses, fresh: &halfkey_client::Result<Backup>, output: &Output) -> Result<()> {
    let mut lines = address_lines(addresses);
    let fresh = match fresh {
        Ok(backup) => {
            lines.push(format!("Recovered, and backed up afresh with {}.", backup.method));
            backup_value(backup)
        }
        Err(error) => {
            lines.push(format!(
                "Recovered. The fresh backup did not succeed ({error}): run `halfkey wallet backup` now."
            ));
            json!({ "error": error.code() })
        }
    };
    output.result(&lines, &json!({ "addresses": output::json(addresses)?, "freshBackup": fresh }));
    Ok(())
}

pub(super) fn resumed(resumed: &Resumed) -> String {
    match resumed {
        Resumed::Nothing => "Nothing was left over.".to_owned(),
        Resumed::WalletCompleted => "The wallet had been made; it is on this device.".to_owned(),
        Resumed::WalletDiscarded => "A half-made wallet was discarded.".to_owned(),
        Resumed::BackupDiscarded(method) => {
            format!("An unfinished {method} backup was discarded; the older one stands.")
        }
        Resumed::BackupCompleted(method) => format!("The {method} backup had been completed."),
        Resumed::RecoveryCompleted => "The recovery had been completed; the wallet is on this device. Its backup was opened: run `halfkey wallet backup` now.".to_owned(),
        Resumed::RecoveryOpen { method, .. } => {
            format!("A recovery is open: run `halfkey wallet recover` with {method}.")
        }
        Resumed::Healed(curve) => format!("The {} share had been healed; it signs again.", curve.as_str()),
        Resumed::HealDiscarded(curve) => format!("The healing of the {} share is over; it is banned still.", curve.as_str()),
        Resumed::EjectOpen { method, .. } => {
            format!("An eject is open: run `halfkey wallet eject` with {method}.")
        }
        Resumed::EjectDiscarded => "An eject that was over was discarded.".to_owned(),
        Resumed::RecoveryDiscarded => "A recovery that was over was discarded.".to_owned(),
        _ => "Put in order.".to_owned(),
    }
}
