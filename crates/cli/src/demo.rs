//! `halfkey demo`: everything that must work, once, in front of the reader's eyes.
//!
//! Server and keepers run as processes of their own, from this very program, with a data folder of their own. The two
//! devices are two profile folders; "wiping" the first is deleting its folder.

mod report;
mod stage;

use std::time::Instant;

use clap::{Args, ValueEnum};
use halfkey_api::{
    chain::{Addresses, Ed25519Key},
    message::OldDevices,
    signing::{Eip1559Transfer, Payload, Signed, SolanaTransfer},
};
use halfkey_client::{
    BackupMethod, Error as Sdk, Halfkey, PasskeyBackup, Password, PasswordKind, Recovering, RecoveryMethod, SignOutcome,
};
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use serde_json::{Value, json};
use sha3::{Digest, Keccak256};

use self::{report::Report, stage::Stage};
use crate::{
    error::{Error, Result},
    judge,
    output::Output,
};

/// Shows the whole life of a wallet against a server and two keepers that it starts itself
///
/// Creates a wallet on both curves, backs it up with a password (or a passkey), wipes the device, recovers on a new one,
/// signs an Ethereum and a Solana transaction with the recovered shares, and has both signatures judged by a library that had
/// no part in making them. Everything lies in a temporary folder and is gone afterwards. Not for real funds.
#[derive(Args)]
pub struct DemoArgs {
    /// Print exactly one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// What holds the key to the backup
    #[arg(long, value_enum, default_value = "password")]
    method: MethodName,
    /// Revoke the old device in the recovery, and show that it can do nothing any more
    #[arg(long)]
    revoke_old_device: bool,
}

/// Backup methods of the demo.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// A password, at the guess-limited door
    Password,
    /// A passkey, released by the keeper: INSECURE here, a software passkey and a keeper without an enclave
    Passkey,
}

const PASSWORD: &str = "seven otters juggle amber lanterns";
const WRONG_PASSWORD: &str = "seven otters juggle umber lanterns";

/// Runs the demo; the process's exit code is 0 only if everything held.
pub async fn run(args: DemoArgs) -> u8 {
    let output = Output::new(args.json);
    match demo(&args, &output).await {
        Ok(()) => 0,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn demo(args: &DemoArgs, output: &Output) -> Result<()> {
    let mut report = Report::new(output.clone());
    report.banner(args.method);

    let stage = report.step("start server and keepers", Stage::start(args.method)).await?;
    let client = stage.new_client().await?;
    let phone = stage.device("old phone", &client, output)?;

    let before = report.step("create wallet", async { Ok(phone.halfkey.create_wallet().await?) }).await?;
    report.addresses("addresses", &before);

    let (title, backup) = match args.method {
        MethodName::Password => {
            let (password, kind) = (Password::new(PASSWORD), PasswordKind::Password);
            ("back up with a password", BackupMethod::Password { password, kind })
        }
        MethodName::Passkey => ("back up with a passkey", BackupMethod::Passkey(PasskeyBackup::default())),
    };
    let backup = report.step(title, async { Ok(phone.halfkey.backup_wallet(backup).await?) }).await?;
    ensure(phone.halfkey.is_wallet_backed_up().await?, "the server does not call the wallet backed up")?;
    report.note(&format!("backup {} proven on {} curves", backup.backup_id, backup.share_ids.len()));

    let old = if args.revoke_old_device {
        Some(phone)
    } else {
        phone.wipe()?;
        report.note("the old phone is gone, and with it its half of the key");
        None
    };
    let new = stage.device("new phone", &client, output)?;
    let old_devices = if args.revoke_old_device { OldDevices::Revoke } else { OldDevices::Keep };

    match args.method {
        MethodName::Password => {
            let wrong = report.step("try a wrong password", wrong_password(&new.halfkey, old_devices)).await?;
            report.note(&format!("refused, {wrong} guesses left"));
        }
        MethodName::Passkey => {
            let stranger = stage.strangers_device(&client, output)?;
            report.step("try without the passkey", no_passkey(&stranger.halfkey, old_devices)).await?;
            report.note("refused: no passkey, no key");
            stranger.wipe()?;
        }
    }

    let recovering = recover(&new.halfkey, args.method, old_devices, &before);
    let after = report.step("recover on a new device", recovering).await?;
    report.addresses("addresses", &after);
    ensure(before == after, "the recovered addresses differ")?;

    if let Some(old) = old {
        report.step("old device refused", old_device_is_refused(&old.halfkey)).await?;
        old.wipe()?;
    }

    let ethereum = report.step("sign an Ethereum transaction", sign_ethereum(&new.halfkey, &after)).await?;
    let solana = report.step("sign a Solana transaction", sign_solana(&new.halfkey, &after)).await?;
    report.step("stop server and keepers", stage.stop()).await?;
    report.finish(&before, &after, &ethereum, &solana);
    Ok(())
}

/// The guesses left after one wrong password.
async fn wrong_password(halfkey: &Halfkey, old_devices: OldDevices) -> Result<u32> {
    let guess = RecoveryMethod::Password(Password::new(WRONG_PASSWORD));
    match halfkey.recover_wallet(guess, old_devices, None).await {
        Err(Sdk::WrongSecret { remaining: Some(remaining), .. }) => Ok(remaining),
        Err(other) => Err(other.into()),
        Ok(_) => Err(Error::Failed("a wrong password recovered the wallet".to_owned())),
    }
}

/// Somebody with the session of the user, and without the passkey.
async fn no_passkey(halfkey: &Halfkey, old_devices: OldDevices) -> Result<()> {
    match halfkey.recover_wallet(RecoveryMethod::Passkey, old_devices, None).await {
        Err(Sdk::NoPasskey { .. }) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(Error::Failed("a wallet was recovered without its passkey".to_owned())),
    }
}

async fn recover(
    halfkey: &Halfkey,
    method: MethodName,
    old_devices: OldDevices,
    expected: &Addresses,
) -> Result<Addresses> {
    let method = match method {
        MethodName::Password => RecoveryMethod::Password(Password::new(PASSWORD)),
        MethodName::Passkey => RecoveryMethod::Passkey,
    };
    match halfkey.recover_wallet(method, old_devices, Some(expected.clone())).await? {
        Recovering::Recovered(recovered) => {
            recovered.fresh_backup?;
            Ok(recovered.addresses)
        }
        Recovering::Waiting { .. } | Recovering::StepUpRequired { .. } | Recovering::Undecided { .. } => {
            Err(Error::Failed("the demo's server has no recovery delay".to_owned()))
        }
    }
}

async fn old_device_is_refused(old: &Halfkey) -> Result<()> {
    let addresses = old.addresses().await?;
    let transfer = transfer(&addresses);
    match old.sign(payload(transfer.payload())?).await {
        Err(Sdk::DeviceRevoked) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(Error::Failed("the revoked device still signs".to_owned())),
    }
}

fn transfer(addresses: &Addresses) -> Eip1559Transfer {
    let gwei = 1_000_000_000;
    Eip1559Transfer {
        chain_id: 1,
        nonce: 0,
        to: addresses.ethereum.clone(),
        value: 1_000_000 * gwei,
        max_fee_per_gas: 30 * gwei,
        max_priority_fee_per_gas: gwei,
    }
}

async fn sign_ethereum(halfkey: &Halfkey, addresses: &Addresses) -> Result<Value> {
    let unsigned = payload(transfer(addresses).payload())?;
    let Payload::EthTransaction(preimage) = unsigned.clone() else {
        return Err(Error::Failed("no Ethereum transaction".to_owned()));
    };
    let outcome = halfkey.sign(unsigned).await?;
    let key = claimed_key(&preimage, &outcome)?;
    let Some(Signed::EthTransaction { raw, .. }) = outcome.signed else {
        return Err(Error::Failed("no signed transaction came back".to_owned()));
    };
    let judged = judge::ethereum_transaction(&raw, &key).map_err(|error| Error::Failed(error.to_string()))?;
    ensure(judged.from == addresses.ethereum, "the transaction's sender is not the recovered wallet")?;
    Ok(json!({ "raw_transaction": format!("0x{}", hex::encode(raw)) }))
}

/// The public key that the signature claims to be of. The judge decides whether it is.
fn claimed_key(preimage: &[u8], outcome: &SignOutcome) -> Result<Vec<u8>> {
    let wrong = || Error::Failed("the signature belongs to no key".to_owned());
    let signature = Signature::from_slice(&outcome.signature).map_err(|_| wrong())?;
    let id = outcome.recovery_id.and_then(RecoveryId::from_byte).ok_or_else(wrong)?;
    let digest = Keccak256::digest(preimage);
    let key = VerifyingKey::recover_from_prehash(&digest, &signature, id).map_err(|_| wrong())?;
    Ok(key.to_sec1_point(true).as_bytes().to_vec())
}

async fn sign_solana(halfkey: &Halfkey, addresses: &Addresses) -> Result<Value> {
    let account =
        bs58::decode(&addresses.solana).into_vec().map_err(|_| Error::Failed("no Solana address".to_owned()))?;
    let from = Ed25519Key::parse(&account).map_err(|_| Error::Failed("no Solana key".to_owned()))?;
    let somebody = bs58::encode([7u8; 32]).into_string();
    let recent_blockhash = bs58::encode([9u8; 32]).into_string();
    let message = payload(SolanaTransfer { from, to: somebody, lamports: 1_000_000, recent_blockhash }.payload())?;
    let Payload::SolanaMessage(bytes) = message.clone() else {
        return Err(Error::Failed("no Solana message".to_owned()));
    };
    let outcome = halfkey.sign(message).await?;
    let signature = bs58::encode(outcome.signature).into_string();
    judge::solana_message(&bytes, &signature, &account).map_err(|error| Error::Failed(error.to_string()))?;
    Ok(json!({ "message": format!("0x{}", hex::encode(bytes)), "signature": signature }))
}

fn payload(built: std::result::Result<Payload, halfkey_api::signing::SigningError>) -> Result<Payload> {
    built.map_err(|error| Error::Failed(error.to_string()))
}

fn ensure(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Failed(otherwise.to_owned())) }
}

#[allow(clippy::disallowed_methods, reason = "the demo shows how long each step took")]
fn now() -> Instant {
    Instant::now()
}
