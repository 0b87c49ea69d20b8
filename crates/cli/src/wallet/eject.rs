//! `halfkey wallet eject` and `halfkey wallet sweep`: the private keys, shown where nobody collects them by accident.

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use halfkey_client::{Ed25519Scalar, Ejecting, PrivateKeys};
use halfkey_envelope::entropy::OsEntropy;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Methods, MethodsParser, Session, WalletArgs, show, sign};
use crate::{
    error::{AtPath, Error, Result},
    output::{self, Output, to_stderr},
    secrets::Secrets,
};

/// What has to be typed before the keys are made.
const CONFIRM: &str = "EJECT";
/// What has to be typed once they are kept.
const KEPT: &str = "KEPT";

/// How to eject.
#[derive(Args)]
pub(super) struct EjectArgs {
    /// What holds the key
    #[arg(long, value_parser = MethodsParser, default_value = "password", value_name = "METHOD[+METHOD]")]
    method: Methods,
    /// Write the keys to this new file, readable by its owner alone, instead of the terminal
    #[arg(long, value_name = "FILE", conflicts_with = "keys_fd")]
    keys_file: Option<PathBuf>,
    /// Write the keys to this open file descriptor instead of the terminal
    #[arg(long, value_name = "N")]
    keys_fd: Option<u32>,
}

impl EjectArgs {
    pub(super) const fn method(&self) -> &Methods {
        &self.method
    }
}

/// How to sweep.
#[derive(Args)]
pub(super) struct SweepArgs {
    /// The serialised Solana message to sign, hex with or without 0x: a transfer of everything to a new address
    #[arg(long, value_name = "HEX")]
    message: String,
}

/// Where the keys go.
enum Place {
    Terminal,
    File(File, PathBuf),
    Descriptor(File),
}

impl Place {
    /// Opened before anything is changed: keys that nobody can see must not leave.
    fn open(args: &EjectArgs) -> Result<Self> {
        match (&args.keys_file, args.keys_fd) {
            (Some(path), _) => Ok(Self::File(new_private_file(path)?, path.clone())),
            (None, Some(fd)) => {
                let path = PathBuf::from(format!("/dev/fd/{fd}"));
                Ok(Self::Descriptor(OpenOptions::new().write(true).open(&path).at(&path)?))
            }
            (None, None) if std::io::stderr().is_terminal() => Ok(Self::Terminal),
            (None, None) => {
                Err(Error::Usage("there is no terminal to show keys on: give --keys-file or --keys-fd".to_owned()))
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Terminal => {
                to_stderr(text);
                Ok(())
            }
            Self::File(file, path) => file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).at(path),
            Self::Descriptor(file) => file.write_all(text.as_bytes()).at(Path::new("--keys-fd")),
        }
    }

    /// An unused file does not stay behind.
    fn discard(&self) {
        if let Self::File(_, path) = self {
            drop(std::fs::remove_file(path));
        }
    }
}

/// A new file that its owner alone can read.
pub(crate) fn new_private_file(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)
}

/// One `name value` per line, for people and for programs.
pub(crate) fn text(keys: &PrivateKeys) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let (hex, wif, scalar) =
        (keys.secp256k1.ethereum_hex(), keys.secp256k1.bitcoin_wif(keys.network), keys.ed25519.hex());
    let lines = [
        ("ethereum-address ", keys.addresses.ethereum.as_str()),
        ("ethereum-private-key ", hex.as_str()),
        ("bitcoin-address ", keys.addresses.bitcoin.as_str()),
        ("bitcoin-wif ", wif.as_str()),
        ("solana-address ", keys.addresses.solana.as_str()),
        (
            "# An Ed25519 scalar, little-endian. It is not a seed: most wallets cannot import it. See `halfkey wallet sweep`.",
            "",
        ),
        ("ed25519-scalar ", scalar.as_str()),
    ];
    for (name, value) in lines {
        text.push_str(name);
        text.push_str(value);
        text.push('\n');
    }
    text
}

pub(super) async fn run(session: &mut Session, args: EjectArgs, output: &Output) -> Result<()> {
    let mut place = Place::open(&args)?;
    let result = eject(session, &args, &mut place, output).await;
    if let Ok(false) | Err(_) = result {
        // Only a file with keys in it stays.
        if !matches!(&place, Place::File(file, _) if file.metadata().is_ok_and(|data| data.len() > 0)) {
            place.discard();
        }
    }
    result.map(drop)
}

/// Whether the keys were written.
async fn eject(session: &mut Session, args: &EjectArgs, place: &mut Place, output: &Output) -> Result<bool> {
    output.say("An eject ends this wallet: its private keys leave the two parties, and nothing here signs any more.");
    let typed = session.secrets.read("confirmation, the word EJECT")?;
    if typed.as_str() != CONFIRM {
        return Err(Error::Usage("not confirmed; nothing was changed".to_owned()));
    }
    let method = session.recovery_method(&args.method)?;
    let keys = match session.halfkey.eject_private_keys(method, None).await? {
        Ejecting::Keys(keys) => keys,
        Ejecting::Waiting { eject_id, until } => {
            let line = format!(
                "The operator lets some time pass: after {}, ask for a new window and run the same command again.",
                output::time(until)
            );
            output.result(&[line], &json!({ "waiting": { "ejectId": eject_id, "until": until } }));
            return Ok(false);
        }
        Ejecting::StepUpRequired { eject_id, step_up } => {
            let value = json!({ "stepUp": { "ejectId": eject_id, "asked": output::json(&step_up)? } });
            output.result(&show::step_up_lines(&step_up), &value);
            return Ok(false);
        }
        Ejecting::Undecided { eject_id } => {
            let line = "A device has cancelled recoveries twice, so the operator decides about this eject: run the same command later.";
            output.result(&[line.to_owned()], &json!({ "undecided": { "ejectId": eject_id } }));
            return Ok(false);
        }
    };
    output.settle();
    place.write(&text(&keys))?;
    if matches!(place, Place::Terminal) {
        let typed = session.secrets.read("word KEPT, once the keys are written down")?;
        if typed.as_str() != KEPT {
            let line = "Not acknowledged: run the same command again to see the keys again.";
            output.result(&[line.to_owned()], &json!({ "ejectId": keys.eject_id, "acknowledged": false }));
            return Ok(true);
        }
    }
    session.halfkey.acknowledge_eject().await?;
    let line = "The wallet is ejected. For 30 days the same command on this device gives the keys again; then both halves are erased.";
    let value = json!({
        "ejectId": keys.eject_id, "acknowledged": true, "addresses": output::json(&keys.addresses)?,
        "keysFile": args.keys_file,
    });
    output.result(&[line.to_owned()], &value);
    Ok(true)
}

/// Needs no server, no profile and no network.
pub(super) fn sweep(args: &WalletArgs, sweep: &SweepArgs, output: &Output) -> Result<()> {
    let message = hex::decode(sweep.message.trim_start_matches("0x"))
        .map_err(|_| Error::Usage("the message is not hex".to_owned()))?;
    let typed = Secrets::from_fd(args.secrets_fd)?.read("ed25519 scalar")?;
    let scalar = Ed25519Scalar::from_hex(typed.trim())
        .map_err(|_| Error::Usage("that is no Ed25519 scalar: 64 hex digits, as `eject` writes them".to_owned()))?;
    let signed = scalar
        .sweep(message, &mut OsEntropy)
        .map_err(|_| Error::Usage("not a Solana message that this key signs".to_owned()))?;
    let value = sign::chain_value(&signed);
    let line = |(name, value): (&String, &serde_json::Value)| {
        format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let lines: Vec<_> = value.as_object().into_iter().flatten().map(line).collect();
    output.result(&lines, &value);
    Ok(())
}
