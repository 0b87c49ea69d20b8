//! One function per command: call the SDK, show what it gave.

use halfkey_api::message::OldDevices;
use halfkey_client::{Cancelled, Error as Sdk, PasskeyBackup, Recovering, Resumed};
use serde_json::json;

use super::{
    MethodName, Methods, OldDevicesName, Session, WalletArgs, WalletCommand, eject, google, parse_id, parse_method,
    passkey_backup, passkeys, show, sign,
};
use crate::{
    error::{AtPath, Error, Result},
    output::{self, Output},
    profile::Profile,
    secrets::Secrets,
};

pub(super) async fn run(args: WalletArgs, output: &Output) -> Result<()> {
    if let WalletCommand::Init { descriptor } = &args.command {
        return init(&args, descriptor, output);
    }
    if let WalletCommand::Sweep(sweep) = &args.command {
        return eject::sweep(&args, sweep, output);
    }
    if let WalletCommand::Google { command } = &args.command {
        return google::run(&args, command, output).await;
    }
    let code_fd = match &args.command {
        WalletCommand::Backup { code_fd, .. } | WalletCommand::ExitKit { code_fd, .. } => *code_fd,
        _ => None,
    };
    let mut session = Session::open(&args, output, code_fd).await?;
    let session = &mut session;
    match args.command {
        WalletCommand::Init { .. } | WalletCommand::Sweep(_) | WalletCommand::Google { .. } => Ok(()),
        WalletCommand::Create => create(session, output).await,
        WalletCommand::Status => show::status(session, output).await,
        WalletCommand::Backup { method, passkey_mode, replace_passkeys, .. } => {
            if !method.include(MethodName::Passkey) && (passkey_mode.is_some() || replace_passkeys) {
                return Err(Error::Usage("only a passkey backup has a passkey mode".to_owned()));
            }
            let passkeys = passkey_backup(passkey_mode, replace_passkeys);
            let backup = session.backup_method(&method, &passkeys)?;
            show::backup(&session.halfkey.backup_wallet(backup).await?, output);
            Ok(())
        }
        WalletCommand::Passkeys { command } => passkeys::run(session, command, output).await,
        WalletCommand::ChangePassword { method } => change_password(session, method, output).await,
        WalletCommand::Verify { method } => verify(session, &method, output).await,
        WalletCommand::Recover { method, old_devices, expect_ethereum } => {
            recover(session, &method, old_devices, expect_ethereum, output).await
        }
        WalletCommand::ExitKit { out, .. } => exit_kit(session, &out, output).await,
        WalletCommand::Eject(args) => eject::run(session, args, output).await,
        WalletCommand::Recoveries { cancel } => recoveries(session, cancel, output).await,
        WalletCommand::Heal => heal(session, output).await,
        WalletCommand::Sign(payload) => sign::run(session, payload, output).await,
        WalletCommand::Devices => show::devices(session, output).await,
        WalletCommand::Revoke { device } => revoke(session, &device, output).await,
        WalletCommand::RemoveMethod { method } => remove_method(session, &method, output).await,
        WalletCommand::Resume => resume(session, output).await,
    }
}

fn init(args: &WalletArgs, descriptor: &std::path::Path, output: &Output) -> Result<()> {
    let folder = args.profile.clone().unwrap_or_else(Profile::default_folder);
    let profile = Profile::open(&folder)?;
    let text = std::fs::read_to_string(descriptor).at(descriptor)?;
    let deployment = halfkey_client::Deployment::from_json(&text)?;
    let credential = Secrets::from_fd(args.secrets_fd)?.read("client API key or session token")?;
    profile.init(text.as_bytes(), credential.trim())?;
    let id = deployment.id().to_string();
    let line = format!("This profile now trusts deployment {id}. Next: `halfkey wallet create`, or `recover`.");
    output.result(&[line], &json!({ "deployment": id, "profile": folder }));
    Ok(())
}

async fn create(session: &mut Session, output: &Output) -> Result<()> {
    let addresses = session.halfkey.create_wallet().await?;
    let mut lines = show::address_lines(&addresses);
    lines.push("No backup yet: if this device is lost, so is the wallet. Next: `halfkey wallet backup`.".to_owned());
    output.result(&lines, &json!({ "addresses": output::json(&addresses)? }));
    Ok(())
}

async fn change_password(session: &mut Session, method: MethodName, output: &Output) -> Result<()> {
    let halfkey_client::BackupMethod::Password { password, kind } =
        session.backup_by(method, &PasskeyBackup::default())?
    else {
        return Err(Error::Usage("only a password or PIN can be changed".to_owned()));
    };
    let backup = session.halfkey.change_password(password, kind).await?;
    show::backup(&backup, output);
    Ok(())
}

async fn verify(session: &mut Session, method: &Methods, output: &Output) -> Result<()> {
    let method = session.recovery_method(method)?;
    let verified = session.halfkey.verify_backup(method).await?;
    let mut lines = vec![format!("The {} backup holds, and nothing of it was spent.", verified.method)];
    lines.extend(output::drill_lines(&verified.curves));
    let value = json!({
        "method": verified.method,
        "backupId": verified.backup_id,
        "curves": output::drill_value(&verified.curves),
        "verifiedAt": verified.verified_at,
    });
    output.result(&lines, &value);
    Ok(())
}

async fn recover(
    session: &mut Session,
    method: &Methods,
    old_devices: OldDevicesName,
    expect_ethereum: Option<String>,
    output: &Output,
) -> Result<()> {
    let old_devices = match old_devices {
        OldDevicesName::Revoke => OldDevices::Revoke,
        OldDevicesName::Keep => OldDevices::Keep,
    };
    let secret = session.recovery_method(method)?;
    let outcome = match session.halfkey.resume().await? {
        // One by another method is left to itself: the user may have found out that it cannot go on.
        Resumed::RecoveryOpen { method, .. } if method == secret.method() => {
            session.halfkey.resume_recovery(secret, None).await?
        }
        Resumed::RecoveryCompleted => {
            let fresh = session.halfkey.renew_backup(secret).await;
            return show::completed(&session.halfkey.addresses().await?, &fresh, output);
        }
        _ => session.halfkey.recover_wallet(secret, old_devices, None).await?,
    };
    match outcome {
        Recovering::Waiting { recovery_id, until } => {
            let line =
                format!("The operator lets some time pass: run the same command again after {}.", output::time(until));
            output.result(&[line], &json!({ "waiting": { "recoveryId": recovery_id, "until": until } }));
        }
        Recovering::StepUpRequired { recovery_id, step_up } => {
            let value = json!({ "stepUp": { "recoveryId": recovery_id, "asked": output::json(&step_up)? } });
            output.result(&show::step_up_lines(&step_up), &value);
        }
        Recovering::Undecided { recovery_id } => {
            let line = "A device has cancelled recoveries twice, so the operator decides about this one: run the same command later.";
            output.result(&[line.to_owned()], &json!({ "undecided": { "recoveryId": recovery_id } }));
        }
        Recovering::Recovered(recovered) => {
            if expect_ethereum.is_some_and(|expected| !recovered.addresses.ethereum.eq_ignore_ascii_case(&expected)) {
                return Err(Sdk::IdentityMismatch.into());
            }
            show::recovered(&recovered, output)?;
        }
    }
    Ok(())
}

async fn heal(session: &mut Session, output: &Output) -> Result<()> {
    let healed = session.halfkey.heal_wallet().await?;
    let curves: Vec<_> = healed.iter().map(|curve| curve.as_str()).collect();
    let line = format!("This device signs again on {}; keys and addresses are the same.", curves.join(" and "));
    output.result(&[line], &json!({ "healed": curves }));
    Ok(())
}

async fn exit_kit(session: &mut Session, out: &std::path::Path, output: &Output) -> Result<()> {
    let mut file = eject::new_private_file(out)?;
    let kit = session.halfkey.make_exit_kit().await;
    if kit.is_err() {
        drop(std::fs::remove_file(out));
    }
    let kit = kit?;
    std::io::Write::write_all(&mut file, &kit.file).and_then(|()| file.sync_all()).at(out)?;
    let lines = [
        format!("{}: the user's file of the exit kit. Keep it apart from its code.", out.display()),
        "The custodian fetches and keeps the other file; see docs/exit-kit.md.".to_owned(),
    ];
    output.result(&lines, &json!({ "backupId": kit.backup_id, "file": out, "committedAt": kit.committed_at }));
    Ok(())
}

async fn recoveries(session: &mut Session, cancel: Option<String>, output: &Output) -> Result<()> {
    if let Some(id) = cancel {
        match session.halfkey.cancel_recovery(parse_id(&id, "a recovery id")?).await? {
            Cancelled::Over => output.result(&[format!("Recovery {id} is cancelled.")], &json!({ "cancelled": id })),
            Cancelled::OperatorDecides => {
                let line =
                    format!("Recovery {id} is held. This device has cancelled one before: the operator decides.");
                output.result(&[line], &json!({ "held": id }));
            }
        }
        return Ok(());
    }
    let recoveries = session.halfkey.recoveries().await?;
    let lines: Vec<_> = recoveries.iter().map(show::recovery_line).collect();
    output.result(&lines, &json!({ "recoveries": output::json(&recoveries)? }));
    Ok(())
}

async fn revoke(session: &mut Session, device: &str, output: &Output) -> Result<()> {
    session.halfkey.revoke_device(parse_id(device, "a device id")?).await?;
    output.result(&[format!("Device {device} is revoked.")], &json!({ "revoked": device }));
    Ok(())
}

async fn remove_method(session: &mut Session, method: &str, output: &Output) -> Result<()> {
    session.halfkey.remove_backup_method(parse_method(method)?).await?;
    output.result(&[format!("{method} is removed.")], &json!({ "removed": method }));
    Ok(())
}

async fn resume(session: &mut Session, output: &Output) -> Result<()> {
    let resumed = session.halfkey.resume().await?;
    let line = show::resumed(&resumed);
    output.result(std::slice::from_ref(&line), &json!({ "resumed": line }));
    Ok(())
}
