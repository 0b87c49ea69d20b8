//! `halfkey export-key` and `halfkey offline-recover`: no server, no network, no profile.

use std::{io::Write, path::PathBuf};

use clap::{Args, ValueEnum};
use halfkey_api::chain::bitcoin::Network;
use halfkey_client::offline_recover;
use halfkey_envelope::{
    entropy::{OsEntropy, random},
    exit_kit::MAX_FILE,
    hpke::SecretKey,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    error::{AtPath, Error, Result},
    output::{self, Output},
    passphrase,
    secrets::Secrets,
    wallet::eject::{new_private_file, text},
};

/// What a sealed export key is bound to.
const EXPORT_KEY: &[u8] = b"halfkey/cli/v1/export-key";

/// Make the custodian's offline export key
///
/// On a machine that is no server: the private half goes to a file under a passphrase (read as a secret) and stays offline.
/// The public half is printed, for `halfkey admin export-key --register`. Whoever has the private half and the
/// custodian's files of exit kits has one half of those wallets; the users have the other.
#[derive(Args)]
pub struct ExportKeyArgs {
    /// The new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Read secrets from this open file descriptor, one per line, instead of asking
    #[arg(long, value_name = "N")]
    secrets_fd: Option<u32>,
    /// Print exactly one JSON object
    #[arg(long)]
    json: bool,
}

/// Get the private keys out of an exit kit, without any server
///
/// Needs both files of the kit, the exit code, and the custodian's export key. Secrets are read in this order: the exit
/// code, the passphrase of the export key.
#[derive(Args)]
pub struct OfflineArgs {
    /// The user's file
    #[arg(long, value_name = "FILE")]
    user_file: PathBuf,
    /// The custodian's file
    #[arg(long, value_name = "FILE")]
    custodian_file: PathBuf,
    /// The file of the export key
    #[arg(long, value_name = "FILE")]
    export_key: PathBuf,
    /// Write the keys to this new file, readable by its owner alone
    #[arg(long, value_name = "FILE")]
    keys_file: PathBuf,
    /// The Bitcoin network of the keys
    #[arg(long, value_enum, default_value = "mainnet")]
    bitcoin: NetworkName,
    /// Read secrets from this open file descriptor, one per line, instead of asking
    #[arg(long, value_name = "N")]
    secrets_fd: Option<u32>,
    /// Print exactly one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum NetworkName {
    /// The one with the money
    Mainnet,
    /// Testnet and signet
    Testnet,
}

/// Runs `halfkey export-key`; the process's exit code.
#[must_use]
pub fn export_key(args: ExportKeyArgs) -> u8 {
    let output = Output::new(args.json);
    told(make(&args, &output), &output)
}

/// Runs `halfkey offline-recover`; the process's exit code.
#[must_use]
pub fn recover(args: OfflineArgs) -> u8 {
    let output = Output::new(args.json);
    told(recover_files(&args, &output), &output)
}

fn told(result: Result<()>, output: &Output) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

fn make(args: &ExportKeyArgs, output: &Output) -> Result<()> {
    let passphrase = Secrets::from_fd(args.secrets_fd)?.read_new("new passphrase of the export key")?;
    let key = random::<32>(&mut OsEntropy);
    let public = hex::encode(SecretKey::from_seed(&key).public_key().as_bytes());
    let sealed = passphrase::seal(EXPORT_KEY, key.as_ref(), &passphrase, &mut OsEntropy)?;
    let mut file = new_private_file(&args.out)?;
    file.write_all(&sealed).and_then(|()| file.sync_all()).at(&args.out)?;
    let opened = std::fs::read(&args.out).at(&args.out)?;
    if *open_key(&opened, &passphrase)? != *key {
        return Err(Error::Failed("the file does not hold what was written".to_owned()));
    }
    let lines = [
        format!("export key {public}"),
        format!(
            "{}: its private half. Keep it and its passphrase offline, in more than one place.",
            args.out.display()
        ),
    ];
    output.result(&lines, &json!({ "exportKey": public, "file": args.out }));
    Ok(())
}

fn recover_files(args: &OfflineArgs, output: &Output) -> Result<()> {
    let (user, custodian) = (read(&args.user_file)?, read(&args.custodian_file)?);
    let sealed = read(&args.export_key)?;
    let mut secrets = Secrets::from_fd(args.secrets_fd)?;
    let code = secrets.read("exit code")?.into();
    let key = open_key(&sealed, &secrets.read("passphrase of the export key")?)?;
    let network = match args.bitcoin {
        NetworkName::Mainnet => Network::Mainnet,
        NetworkName::Testnet => Network::Testnet,
    };
    let keys = offline_recover(&user, &code, &custodian, &key, network)?;
    let mut file = new_private_file(&args.keys_file)?;
    file.write_all(text(&keys).as_bytes()).and_then(|()| file.sync_all()).at(&args.keys_file)?;
    let line = format!("{}: the private keys of {}.", args.keys_file.display(), keys.addresses.ethereum);
    output.result(&[line], &json!({ "addresses": output::json(&keys.addresses)?, "keysFile": args.keys_file }));
    Ok(())
}

fn open_key(file: &[u8], passphrase: &str) -> Result<Zeroizing<[u8; 32]>> {
    let key = passphrase::open(EXPORT_KEY, file, passphrase)?;
    let damaged = |_| Error::Failed("the file does not hold an export key".to_owned());
    key.as_slice().try_into().map(Zeroizing::new).map_err(damaged)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).at(path)?;
    if bytes.len() > MAX_FILE {
        return Err(Error::Usage(format!("{}: too long for a part of an exit kit", path.display())));
    }
    Ok(bytes)
}
