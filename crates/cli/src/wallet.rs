//! `halfkey wallet …`: a real client against a running server.

mod commands;
pub(crate) mod eject;
mod google;
mod methods;
mod passkeys;
mod show;
mod sign;

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand, ValueEnum};
use halfkey_client::{
    BackupMethod, Builder, Credentials, Halfkey, PasskeyBackup, PasskeyChange, PasskeyMode, PasswordKind, PlatformEnv,
    RecoveryMethod,
    host::{Clock, Dismissed, Prompt, Timer, Transport},
};
use halfkey_envelope::{entropy::OsEntropy, wallet::Method};
use zeroize::Zeroizing;

use self::methods::{MethodName, Methods, MethodsParser};
use crate::{
    error::{Error, Result},
    google::{Account, GoogleError, GoogleSignIn},
    output::Output,
    profile::Profile,
    secrets::Secrets,
    transport::HttpTransport,
};

/// The wallet of one client on this device.
///
/// The device's share lies in a profile folder, sealed under a device passphrase. Secrets are asked for at a prompt, or
/// read one per line from the descriptor named by --secrets-fd, in this order: the device passphrase first, then what
/// the command itself needs.
#[derive(Args)]
pub struct WalletArgs {
    /// The profile folder [default: $HALFKEY_PROFILE or ~/.halfkey]
    #[arg(long, global = true, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Read secrets from this open file descriptor, one per line, instead of asking
    #[arg(long, global = true, value_name = "N")]
    secrets_fd: Option<u32>,
    /// Print exactly one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// The user's name for this device
    #[arg(long, global = true, default_value = "command line", value_name = "TEXT")]
    device_name: String,
    #[command(flatten)]
    passkey: passkeys::PasskeyArgs,
    #[command(subcommand)]
    command: WalletCommand,
}

/// What to do with the wallet.
#[derive(Subcommand)]
enum WalletCommand {
    /// Trust a deployment descriptor and keep this client's credential (read as a secret)
    Init {
        /// Written by `halfkey admin descriptor`; obtain it from the operator, not from the server
        #[arg(long, value_name = "FILE")]
        descriptor: PathBuf,
    },
    /// Make the wallet: one key on each curve, half of it here and half at the server
    Create,
    /// Addresses, backups method by method and curve by curve, and devices
    Status,
    /// Back the wallet up; the older backup of the same method is retired once the new one is proven
    Backup {
        /// What will hold the key; several joined by + are all needed to open it, such as google-drive+password
        #[arg(long, value_parser = MethodsParser, default_value = "password", value_name = "METHOD[+METHOD]")]
        method: Methods,
        /// Write a new recovery code to this file descriptor instead of showing it and asking for it again
        #[arg(long, value_name = "N")]
        code_fd: Option<u32>,
        /// What opens a passkey backup [default: as the backup before, else `keeper`]
        #[arg(long, value_enum)]
        passkey_mode: Option<ModeName>,
        /// Make one new passkey and drop those of the backup before
        #[arg(long)]
        replace_passkeys: bool,
    },
    /// The passkeys of the backup: list, add, remove
    Passkeys {
        #[command(subcommand)]
        command: passkeys::PasskeysCommand,
    },
    /// The Google account that this profile may keep backups in: login, logout, status
    Google {
        #[command(subcommand)]
        command: google::GoogleCommand,
    },
    /// Back up under a new password; the old one opens nothing any more
    ChangePassword {
        /// A password or a PIN
        #[arg(long, value_enum, default_value = "password")]
        method: MethodName,
    },
    /// Prove that a backup still opens, without spending it
    Verify {
        /// What holds the key; several joined by + of a backup that needs them all
        #[arg(long, value_parser = MethodsParser, default_value = "password", value_name = "METHOD[+METHOD]")]
        method: Methods,
    },
    /// Recover the wallet on this device, from a backup
    Recover {
        /// What holds the key; several joined by + of a backup that needs them all
        #[arg(long, value_parser = MethodsParser, default_value = "password", value_name = "METHOD[+METHOD]")]
        method: Methods,
        /// What happens to the client's other devices; there is no default
        #[arg(long, value_enum)]
        old_devices: OldDevicesName,
        /// Go on only if the wallet has this Ethereum address
        #[arg(long, value_name = "ADDRESS")]
        expect_ethereum: Option<String>,
    },
    /// Take the private keys out: ends this wallet
    ///
    /// Possible only inside the window that the custodian has opened, and under the same policy as a recovery. Secrets are
    /// read in this order: the device passphrase, the confirmation, what opens the backup. The keys go to the terminal, or
    /// to a file or descriptor that is named; never to standard output or into --json. Until they are acknowledged, and
    /// for 30 days after, the same command on this device gives them again.
    Eject(eject::EjectArgs),
    /// Make an exit kit: the user's file, and an exit code that is shown once
    ///
    /// With the custodian's file of the same kit and its export key, `halfkey offline-recover` gives the private keys
    /// without any server. It recovers nothing online.
    ExitKit {
        /// The new file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write the exit code to this file descriptor instead of showing it and asking for it again
        #[arg(long, value_name = "N")]
        code_fd: Option<u32>,
    },
    /// Sign one Solana message with an ejected scalar (read as a secret); needs no server
    ///
    /// An ejected Ed25519 key is a scalar, not a seed, and most wallets cannot import it: transfer everything to a new
    /// address instead.
    Sweep(eject::SweepArgs),
    /// List the client's recoveries, or cancel one
    Recoveries {
        /// Cancel this one; if its method was opened already, that backup is frozen
        #[arg(long, value_name = "ID")]
        cancel: Option<String>,
    },
    /// Put a new share in the place of a banned one, once the operator has lifted the ban
    Heal,
    /// Sign a transaction or message that both sides can decode
    Sign(sign::SignArgs),
    /// The client's devices
    Devices,
    /// Revoke a device: refused at once, the server's half erased later
    Revoke {
        /// As `devices` lists it
        device: String,
    },
    /// Remove a backup method: refused at once, the custodian's half erased later
    RemoveMethod {
        /// As `status` names it
        method: String,
    },
    /// Finish or discard what an interrupted command left
    Resume,
}

/// What a passkey backup needs besides the passkey's signature.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    /// The keeper, which verifies the passkey
    Keeper,
    /// A secret that the passkey itself computes; no keeper
    Prf,
    /// Both
    #[value(name = "keeper+prf")]
    KeeperAndPrf,
}

impl From<ModeName> for PasskeyMode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Keeper => Self::Keeper,
            ModeName::Prf => Self::Prf,
            ModeName::KeeperAndPrf => Self::KeeperAndPrf,
        }
    }
}

impl WalletCommand {
    /// Whether the user's passkeys are asked for.
    fn uses_passkeys(&self) -> bool {
        let changes = matches!(self, Self::Passkeys { command } if !matches!(command, passkeys::PasskeysCommand::List));
        changes || self.uses(MethodName::Passkey)
    }

    /// Whether a backup with this method is made or opened.
    fn uses(&self, name: MethodName) -> bool {
        match self {
            Self::Backup { method, .. } | Self::Verify { method } | Self::Recover { method, .. } => {
                method.include(name)
            }
            Self::Eject(args) => args.method().include(name),
            _ => false,
        }
    }
}

/// What happens to other devices.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OldDevicesName {
    /// They can do nothing any more
    Revoke,
    /// They go on signing
    Keep,
}

/// Runs one wallet command; the process's exit code.
pub async fn run(args: WalletArgs) -> u8 {
    let output = Output::new(args.json);
    match commands::run(args, &output).await {
        Ok(()) => 0,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

/// The system's clock, in milliseconds since the Unix epoch.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the command line reads the clock")]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Lets time pass.
struct SystemTimer;

#[async_trait::async_trait]
impl Timer for SystemTimer {
    async fn wait(&self, ms: u64) {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }
}

/// What one command works with.
struct Session {
    halfkey: Halfkey,
    secrets: Secrets,
    /// Held until the command ends: one process per profile.
    _profile: Profile,
}

impl Session {
    async fn open(args: &WalletArgs, output: &Output, code_fd: Option<u32>) -> Result<Self> {
        let folder = args.profile.clone().unwrap_or_else(Profile::default_folder);
        let profile = Profile::open(&folder)?;
        let (descriptor, credential) = profile.trusted()?;
        let mut secrets = Secrets::from_fd(args.secrets_fd)?;
        let passphrase = match profile.has_passphrase()? {
            true => secrets.read("device passphrase")?,
            false => secrets.read_new("new device passphrase")?,
        };
        let (keys, blobs) = profile.stores(passphrase.clone())?;
        let google = profile.google(passphrase);
        let account = google.read()?;
        if args.command.uses(MethodName::GoogleDrive) && account.is_none() {
            return Err(GoogleError::NotSignedIn.into());
        }
        let deployment = halfkey_client::Deployment::from_json(&descriptor)?;
        let sheet = match args.command.uses_passkeys() {
            true => Some(args.passkey.sheet(&deployment).await?),
            false => None,
        };
        let http: Arc<dyn Transport> = Arc::new(HttpTransport::new()?);
        let mut builder = Halfkey::builder(deployment, Credentials::token(credential.as_str()))
            .share_store(Arc::new(keys), Arc::new(blobs))
            .transport(Arc::clone(&http))
            .clock(Arc::new(SystemClock))
            .timer(Arc::new(SystemTimer))
            .entropy(Box::new(OsEntropy))
            .prompt(Arc::new(CodePrompt { output: output.clone(), code_fd }))
            .on_progress(output.progress())
            .device_name(args.device_name.as_str())
            .platform(platform_with_passkeys());
        if let Some(sheet) = &sheet {
            builder = builder.passkeys(Arc::clone(&sheet.passkeys));
        }
        let storage = account.as_ref().map(Account::storage);
        if storage.is_some() {
            builder = builder.cloud_tokens(Arc::new(GoogleSignIn::new(google, http, Arc::new(SystemClock))));
        }
        let halfkey = accepting(builder, args.passkey.danger_insecure_evidence)?.build()?;
        if let Some(sheet) = sheet {
            halfkey.configure_passkey_storage(sheet.config)?;
        }
        if let Some(storage) = storage {
            halfkey.configure_google_storage(storage)?;
        }
        Ok(Self { halfkey, secrets, _profile: profile })
    }

    /// What is to be made; secrets are read in the order of the names.
    fn backup_method(&mut self, names: &Methods, passkeys: &PasskeyBackup) -> Result<BackupMethod> {
        let mut methods = Vec::new();
        for name in names.names() {
            methods.push(self.backup_by(*name, passkeys)?);
        }
        match <[BackupMethod; 1]>::try_from(methods) {
            Ok([single]) => Ok(single),
            Err(several) => Ok(BackupMethod::all_of(several)?),
        }
    }

    fn backup_by(&mut self, name: MethodName, passkeys: &PasskeyBackup) -> Result<BackupMethod> {
        let kind = match name {
            MethodName::Password => PasswordKind::Password,
            MethodName::Pin => PasswordKind::Pin,
            MethodName::RecoveryCode => return Ok(BackupMethod::RecoveryCode),
            MethodName::Passkey => return Ok(BackupMethod::Passkey(passkeys.clone())),
            MethodName::GoogleDrive => return Ok(BackupMethod::GoogleDrive),
        };
        let password = self.secrets.read_new(name.new_secret())?.into();
        Ok(BackupMethod::Password { password, kind })
    }

    /// What is to be opened; secrets are read in the order of the names.
    fn recovery_method(&mut self, names: &Methods) -> Result<RecoveryMethod> {
        let mut methods = Vec::new();
        for name in names.names() {
            methods.push(self.recovery_by(*name)?);
        }
        match <[RecoveryMethod; 1]>::try_from(methods) {
            Ok([single]) => Ok(single),
            Err(several) => Ok(RecoveryMethod::all_of(several)?),
        }
    }

    fn recovery_by(&mut self, name: MethodName) -> Result<RecoveryMethod> {
        Ok(match name {
            MethodName::Passkey => RecoveryMethod::Passkey,
            MethodName::GoogleDrive => RecoveryMethod::GoogleDrive,
            MethodName::Password | MethodName::Pin => {
                RecoveryMethod::Password(self.secrets.read(name.secret())?.into())
            }
            MethodName::RecoveryCode => RecoveryMethod::RecoveryCode(self.secrets.read(name.secret())?.into()),
        })
    }
}

/// The passkeys that a backup is wished for.
fn passkey_backup(mode: Option<ModeName>, replace: bool) -> PasskeyBackup {
    let change = if replace { PasskeyChange::Replace } else { PasskeyChange::Keep };
    PasskeyBackup { mode: mode.map(Into::into), change }
}

/// This platform, with passkeys: the browser makes and uses them.
pub(crate) fn platform_with_passkeys() -> PlatformEnv {
    let mut platform = PlatformEnv::default();
    platform.overrides.push((Method::Passkey, true));
    platform
}

/// The same builder, accepting a keeper that proves nothing if that was asked for and this program can.
pub(crate) fn accepting(builder: Builder, insecure_evidence: bool) -> Result<Builder> {
    #[cfg(feature = "danger-insecure-evidence")]
    return Ok(builder.danger_accept_insecure_evidence(insecure_evidence));
    #[cfg(not(feature = "danger-insecure-evidence"))]
    match insecure_evidence {
        true => Err(Error::Usage("this program accepts no keeper that proves nothing".to_owned())),
        false => Ok(builder),
    }
}

/// Shows a new recovery code once, on the terminal or on a descriptor of the caller's.
struct CodePrompt {
    output: Output,
    code_fd: Option<u32>,
}

#[async_trait::async_trait]
impl Prompt for CodePrompt {
    async fn confirm_recovery_code(
        &self,
        code: &str,
        again: bool,
    ) -> std::result::Result<Zeroizing<String>, Dismissed> {
        if let Some(fd) = self.code_fd {
            // Whoever reads the descriptor has the code now; a write that failed leaves the backup unconfirmed.
            let path = format!("/dev/fd/{fd}");
            let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(|_| Dismissed)?;
            std::io::Write::write_all(&mut file, format!("{code}\n").as_bytes()).map_err(|_| Dismissed)?;
            return Ok(Zeroizing::new(code.to_owned()));
        }
        self.output.settle();
        let hint = if again { "That was not the code. It is" } else { "Write this code down; it is shown only once:" };
        crate::output::to_stderr(&format!("\n{hint}\n\n    {code}\n"));
        Secrets::Prompt.read("recovery code, as you wrote it down").map_err(|_| Dismissed)
    }
}

fn parse_id<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Usage(format!("{text:?} is not {what}")))
}

fn parse_method(text: &str) -> Result<Method> {
    parse_id(text, "a backup method: see `halfkey wallet status`")
}
