//! `halfkey admin …`: what an operator does on the server's machine.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{ArgGroup, Args, Subcommand};
use halfkey_cli::{
    doctor::ask_keeper,
    output::{time, to_stdout},
};
use halfkey_envelope::{
    id::{ApiKeyId, BackupId, ClientId, CustodianId, PairId, RecoveryId},
    keeper::{Answer, Request},
};
use halfkey_protocol::descriptor::{EvidencePolicy, Hex, HpkePublic, Keeper};
use halfkey_server::{
    App, Details,
    admin::{self, Scope},
    clock::{Clock, SystemClock},
    config::{KeeperAddress, Profile},
    store::{BannedPair, ContestedRecovery, FrozenPair, FrozenPlace, WaitingForOperator},
};
use serde_json::json;

use crate::{logging, serve::Place};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Administration, on the server's machine
#[derive(Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Make a custodian (a tenant) and print its API key, once
    CreateCustodian {
        #[command(flatten)]
        place: Place,
        /// For lists and logs
        #[arg(long)]
        name: String,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the custodians
    Custodians {
        #[command(flatten)]
        place: Place,
    },
    /// Print a further API key of a custodian, once
    CreateKey {
        #[command(flatten)]
        place: Place,
        /// As `custodians` lists it
        #[arg(long, value_name = "ID")]
        custodian: CustodianId,
        /// What the key may do
        #[arg(long, value_enum, default_value = "all")]
        scope: ScopeName,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key at once
    RevokeKey {
        #[command(flatten)]
        place: Place,
        /// Whose key it is
        #[arg(long, value_name = "ID")]
        custodian: CustodianId,
        /// As it was printed when it was made
        #[arg(long, value_name = "ID")]
        key: ApiKeyId,
    },
    /// Say that an off-machine copy of the databases is complete, and erase the retired halves that this lets go
    ///
    /// A retired half is refused at once but erased only when its successor is in a copy off this machine (and was
    /// opened or verified once, or is 7 days old): otherwise restoring yesterday's database could leave a wallet with
    /// no backup at all. Run this after each completed copy. It promises that no older copy will ever be restored.
    Copied {
        #[command(flatten)]
        place: Place,
        /// How many minutes ago the copy was begun
        #[arg(long, value_name = "N")]
        minutes_ago: u64,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List what waits for the operator: banned pairs, frozen pairs, and recoveries that a device cancelled a second time
    Waiting {
        #[command(flatten)]
        place: Place,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Decide about a banned signing pair, after looking into why it was banned
    ///
    /// A pair is banned when one side cheats in a signature, or a fault of a machine looks like it. Lifted, the device may
    /// make a new pair in its place, once (`halfkey wallet heal`); the banned one never signs again. Upheld, it stays
    /// banned, and the wallet can still be recovered from a backup.
    #[command(group(ArgGroup::new("decision").required(true).args(["lift", "uphold"])))]
    ReviewBan {
        #[command(flatten)]
        place: Place,
        /// As `waiting` lists it
        #[arg(long, value_name = "ID")]
        client: ClientId,
        /// As `waiting` lists it
        #[arg(long, value_name = "ID")]
        pair: PairId,
        /// Let the device heal it
        #[arg(long)]
        lift: bool,
        /// Let the ban stand
        #[arg(long)]
        uphold: bool,
        /// Lift it although this device was healed three times already
        #[arg(long, requires = "lift")]
        beyond_limit: bool,
    },
    /// Thaw what a cancelled or expired recovery, or a restore, has frozen: it works again
    ///
    /// Somebody has opened a frozen backup. Thaw it only when it was its owner; otherwise let the owner back up again,
    /// which replaces it.
    #[command(group(ArgGroup::new("what").required(true).args(["backup", "pair"])))]
    Thaw {
        #[command(flatten)]
        place: Place,
        /// As `waiting` lists it
        #[arg(long, value_name = "ID")]
        client: ClientId,
        /// A frozen backup
        #[arg(long, value_name = "ID")]
        backup: Option<BackupId>,
        /// A frozen signing pair
        #[arg(long, value_name = "ID")]
        pair: Option<PairId>,
    },
    /// Cancel a recovery; if its method was opened already, that backup is frozen
    CancelRecovery(RecoveryArgs),
    /// Let a recovery go on that a device has cancelled; no device can cancel it any more
    ContinueRecovery(RecoveryArgs),
    /// Register the public half of the custodian's offline export key, once; or show it
    ///
    /// Make the key with `halfkey export-key` on a machine that is not this server. Descriptors written from then on name
    /// it, and devices make exit kits for it.
    ExportKey {
        #[command(flatten)]
        place: Place,
        /// As `halfkey export-key` printed it: 64 hex digits
        #[arg(long, value_name = "HEX")]
        register: Option<String>,
    },
    /// Make a new pepper root: records in users' clouds are named and sealed with it from now on
    ///
    /// For after an older copy of the server's database or key service may have leaked. A backup keeps the root that it was
    /// made with, and no root is ever removed: an older backup comes under the new one when it is made anew. Needs no
    /// restart.
    AddPepperRoot {
        #[command(flatten)]
        place: Place,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Open the window in which one client may eject: its device then gets the private keys, and the wallet ends here
    ///
    /// The custodian's backend does the same with its API key. Ask for it in person: whoever has the client's session and
    /// opens its backup inside the window has the keys.
    EnableEject {
        #[command(flatten)]
        place: Place,
        /// The client
        #[arg(long, value_name = "ID")]
        client: ClientId,
        /// How long the window is
        #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
    /// Write the deployment descriptor: the keys and policies that apps compile in and trust
    Descriptor {
        #[command(flatten)]
        place: Place,
        /// Where the apps reach the server
        #[arg(long)]
        url: String,
        /// A relying party whose passkeys may hold a backup; give it once for each
        #[arg(long = "for-relying-party", value_name = "DOMAIN")]
        relying_parties: Vec<String>,
        /// The file to write
        #[arg(long, value_name = "FILE", default_value = "descriptor.json")]
        out: PathBuf,
        /// The passkey keeper's Unix socket [default: that of the keeper that `halfkey serve` starts]
        #[arg(long, value_name = "PATH")]
        keeper_socket: Option<PathBuf>,
        #[command(flatten)]
        evidence: EvidenceArgs,
        /// Print exactly one JSON object
        #[arg(long)]
        json: bool,
    },
}

// Which recovery; the help is each command's own.
#[derive(Args)]
struct RecoveryArgs {
    #[command(flatten)]
    place: Place,
    /// As `waiting` lists it
    #[arg(long, value_name = "ID")]
    client: ClientId,
    /// As `waiting` lists it
    #[arg(long, value_name = "ID")]
    recovery: RecoveryId,
}

/// What a custodian's API key may do
#[derive(Clone, Copy, clap::ValueEnum)]
enum ScopeName {
    /// Everything
    All,
    /// Everything but opening windows for ejects
    Clients,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::All => Self::All,
            ScopeName::Clients => Self::Clients,
        }
    }
}

/// What evidence apps ask of the passkey keeper
#[derive(Args)]
struct EvidenceArgs {
    /// What evidence the passkey keeper must show [default: `insecure-dev` in development, else `nothing`]
    #[arg(long, value_name = "KIND", value_enum)]
    evidence: Option<Evidence>,
    /// An allowed measurement, hex, once for each: the PCR digest (`tpm2`), or PCR0:PCR1:PCR2 (`nitro`)
    #[arg(long = "measurement", value_name = "HEX")]
    measurements: Vec<String>,
    /// Whose keepers are accepted, hex: the operator's P-256 key, compressed (`tpm2`), or PCR 8 (`nitro`)
    #[arg(long, value_name = "HEX")]
    operator: Option<String>,
    /// Which PCRs of the SHA-256 bank the measurements are over (`tpm2`), from 0 to 15
    #[arg(long, value_name = "N,N…", value_delimiter = ',')]
    pcrs: Vec<u8>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Evidence {
    /// No evidence is good enough
    Nothing,
    /// None; apps refuse it unless they were built for development
    InsecureDev,
    /// A TPM's quote
    Tpm2,
    /// An attestation document of AWS Nitro Enclaves
    Nitro,
}

impl EvidenceArgs {
    fn policy(self) -> Result<Option<EvidencePolicy>> {
        let Some(kind) = self.evidence else { return Ok(None) };
        let Self { measurements, operator, pcrs, .. } = self;
        let operator = || operator.ok_or("--operator is missing");
        let policy = match kind {
            Evidence::Nothing => EvidencePolicy::Nothing,
            Evidence::InsecureDev => EvidencePolicy::InsecureDev,
            Evidence::Tpm2 => {
                let measurements = measurements.into_iter().map(hex_bytes).collect::<Result<_>>()?;
                EvidencePolicy::Tpm2 { pcrs, measurements, operator: hex_bytes(operator()?)? }
            }
            Evidence::Nitro => {
                let measurements = measurements.iter().map(|image| nitro_image(image)).collect::<Result<_>>()?;
                EvidencePolicy::Nitro { measurements, operator: hex_bytes(operator()?)? }
            }
        };
        policy.policy()?;
        Ok(Some(policy))
    }
}

fn hex_bytes<const N: usize>(text: String) -> Result<Hex<N>> {
    Hex::try_from(text.clone()).map_err(|_| format!("{text}: not {N} bytes in lower-case hex").into())
}

fn nitro_image(text: &str) -> Result<[Hex<48>; 3]> {
    let pcrs = text.split(':').map(|pcr| hex_bytes(pcr.to_owned())).collect::<Result<Vec<_>>>()?;
    pcrs.try_into().map_err(|_| format!("{text}: not PCR0:PCR1:PCR2").into())
}

pub async fn run(args: AdminArgs) -> Result<()> {
    logging::start("warn", false);
    match args.command {
        AdminCommand::CreateCustodian { place, name, json } => create_custodian(&place, &name, json).await,
        AdminCommand::Custodians { place } => custodians(&place).await,
        AdminCommand::CreateKey { place, custodian, scope, json } => create_key(&place, custodian, scope, json).await,
        AdminCommand::RevokeKey { place, custodian, key } => revoke_key(&place, custodian, key).await,
        AdminCommand::Copied { place, minutes_ago, json } => copied(&place, minutes_ago, json).await,
        AdminCommand::Waiting { place, json } => waiting(&place, json).await,
        AdminCommand::ReviewBan { place, client, pair, lift, uphold: _, beyond_limit } => {
            review_ban(&place, client, pair, lift, beyond_limit).await
        }
        AdminCommand::Thaw { place, client, backup, pair } => thaw(&place, client, backup, pair).await,
        AdminCommand::CancelRecovery(RecoveryArgs { place, client, recovery }) => {
            admin::cancel_recovery(&open(&place).await?, client, recovery).await?;
            to_stdout(&format!("recovery {recovery} is cancelled"));
            Ok(())
        }
        AdminCommand::ContinueRecovery(RecoveryArgs { place, client, recovery }) => {
            admin::continue_recovery(&open(&place).await?, client, recovery).await?;
            to_stdout(&format!("recovery {recovery} goes on"));
            Ok(())
        }
        AdminCommand::ExportKey { place, register } => export_key(&place, register).await,
        AdminCommand::AddPepperRoot { place, json } => add_pepper_root(&place, json).await,
        AdminCommand::EnableEject { place, client, seconds } => {
            let until_ms = admin::enable_eject(&open(&place).await?, client, Some(seconds)).await?;
            to_stdout(&format!("client {client} may eject until {}", time(until_ms)));
            Ok(())
        }
        AdminCommand::Descriptor { place, url, relying_parties, out, keeper_socket, evidence, json } => {
            let wanted =
                Details { server_url: Some(url), relying_parties, evidence: evidence.policy()?, ..Details::default() };
            descriptor(&place, wanted, &out, keeper_socket, json).await
        }
    }
}

async fn export_key(place: &Place, register: Option<String>) -> Result<()> {
    let app = open(place).await?;
    if let Some(text) = register {
        let key: Hex<32> = hex_bytes(text)?;
        if !admin::register_export_key(&app, &key.0).await? {
            return Err("another export key is registered: kits have been made for it".into());
        }
    }
    match admin::export_key(&app).await? {
        Some(key) => to_stdout(&format!("export key {}", String::from(Hex(key)))),
        None => to_stdout("No export key is registered: no exit kit can be made."),
    }
    Ok(())
}

async fn add_pepper_root(place: &Place, as_json: bool) -> Result<()> {
    let root = admin::add_pepper_root(&open(place).await?).await?;
    if as_json {
        to_stdout(&json!({ "pepperRoot": root }).to_string());
    } else {
        to_stdout(&format!("pepper root {root} is the newest; backups made before keep theirs"));
    }
    Ok(())
}

async fn open(place: &Place) -> Result<App> {
    let mut config = place.config();
    config.guesskeeper = Some(KeeperAddress::Unix(socket(place, "guesskeeper")));
    Ok(App::open_for_admin(config, Arc::new(SystemClock)).await?)
}

fn socket(place: &Place, kind: &str) -> PathBuf {
    place.keeper_folder(kind).with_added_extension("sock")
}

async fn create_custodian(place: &Place, name: &str, as_json: bool) -> Result<()> {
    let app = open(place).await?;
    let (custodian, key) = admin::create_custodian(&app, name).await?;
    print_key(custodian, key.id, &key.key, as_json);
    Ok(())
}

async fn create_key(place: &Place, custodian: CustodianId, scope: ScopeName, as_json: bool) -> Result<()> {
    let app = open(place).await?;
    let key = admin::create_key(&app, custodian, scope.into()).await?;
    print_key(custodian, key.id, &key.key, as_json);
    Ok(())
}

fn print_key(custodian: CustodianId, id: ApiKeyId, key: &str, as_json: bool) {
    if as_json {
        to_stdout(&json!({ "custodianId": custodian, "keyId": id, "key": key }).to_string());
        return;
    }
    to_stdout(&format!("custodian {custodian}"));
    to_stdout(&format!("key id    {id}"));
    to_stdout(&format!("API key   {key}"));
    to_stdout("The key is shown this once; only its hash is kept.");
}

async fn custodians(place: &Place) -> Result<()> {
    let app = open(place).await?;
    for custodian in admin::custodians(&app).await? {
        to_stdout(&format!("{}  {}", custodian.id, custodian.name));
    }
    Ok(())
}

async fn revoke_key(place: &Place, custodian: CustodianId, key: ApiKeyId) -> Result<()> {
    admin::revoke_key(&open(place).await?, custodian, key).await?;
    to_stdout(&format!("key {key} is revoked"));
    Ok(())
}

async fn copied(place: &Place, minutes_ago: u64, as_json: bool) -> Result<()> {
    let app = open(place).await?;
    let as_of_ms = SystemClock.now_ms().saturating_sub(minutes_ago.saturating_mul(60_000));
    let swept = admin::copied(&app, as_of_ms).await?;
    if as_json {
        to_stdout(&json!({ "asOf": as_of_ms, "erasedHalves": swept.shredded }).to_string());
    } else {
        to_stdout(&format!("{} halves erased", swept.shredded));
    }
    Ok(())
}

async fn waiting(place: &Place, as_json: bool) -> Result<()> {
    let waiting = admin::waiting(&open(place).await?).await?;
    if as_json {
        to_stdout(&waiting_value(&waiting).to_string());
        return Ok(());
    }
    for banned in &waiting.banned {
        let BannedPair { client, pair, device, reason, since_ms, heals, .. } = banned;
        let (curve, since, reason) =
            (banned.curve.as_str(), time(*since_ms), reason.as_deref().unwrap_or("of old, without a reason"));
        to_stdout(&format!("banned     client {client}  pair {pair}  {curve} on device {device}"));
        to_stdout(&format!("           since {since}: {reason}; healed {heals} times before"));
    }
    for frozen in &waiting.frozen {
        let (client, since) = (frozen.client, time(frozen.since_ms));
        to_stdout(&match &frozen.place {
            FrozenPlace::Backup { backup, method } => {
                format!("frozen     client {client}  backup {backup}  {method}, since {since}")
            }
            FrozenPlace::Signing { pair, device } => {
                format!("frozen     client {client}  pair {pair}  on device {device}, since {since}")
            }
        });
    }
    for ContestedRecovery { client, recovery, method, device_name, contested_by, created_ms, expires_ms, .. } in
        &waiting.contested
    {
        let (asked, expires) = (time(*created_ms), time(*expires_ms));
        to_stdout(&format!(
            "contested  client {client}  recovery {recovery}  {method}, asked by {device_name:?} {asked}"
        ));
        to_stdout(&format!("           cancelled by device {contested_by}, not for the first time; expires {expires}"));
    }
    if waiting == WaitingForOperator::default() {
        to_stdout("Nothing waits for the operator.");
    }
    Ok(())
}

fn waiting_value(waiting: &WaitingForOperator) -> serde_json::Value {
    let banned = |one: &BannedPair| {
        json!({
            "clientId": one.client, "pairId": one.pair, "walletId": one.wallet, "curve": one.curve,
            "deviceId": one.device, "reason": one.reason, "since": one.since_ms, "heals": one.heals,
        })
    };
    let frozen = |one: &FrozenPair| match &one.place {
        FrozenPlace::Backup { backup, method } => {
            json!({ "clientId": one.client, "backupId": backup, "method": method, "since": one.since_ms })
        }
        FrozenPlace::Signing { pair, device } => {
            json!({ "clientId": one.client, "pairId": pair, "deviceId": device, "since": one.since_ms })
        }
    };
    let contested = |one: &ContestedRecovery| {
        json!({
            "clientId": one.client, "recoveryId": one.recovery, "method": one.method, "deviceName": one.device_name,
            "createdAt": one.created_ms, "cancelledBy": one.contested_by, "since": one.since_ms,
            "expiresAt": one.expires_ms,
        })
    };
    json!({
        "banned": waiting.banned.iter().map(banned).collect::<Vec<_>>(),
        "frozen": waiting.frozen.iter().map(frozen).collect::<Vec<_>>(),
        "contested": waiting.contested.iter().map(contested).collect::<Vec<_>>(),
    })
}

async fn review_ban(place: &Place, client: ClientId, pair: PairId, lift: bool, beyond_limit: bool) -> Result<()> {
    let app = open(place).await?;
    if lift {
        admin::lift_ban(&app, client, pair, beyond_limit).await?;
        to_stdout(&format!("pair {pair}: its device may heal it once, with `halfkey wallet heal`"));
    } else {
        admin::uphold_ban(&app, client, pair).await?;
        to_stdout(&format!("pair {pair} stays banned"));
    }
    Ok(())
}

async fn thaw(place: &Place, client: ClientId, backup: Option<BackupId>, pair: Option<PairId>) -> Result<()> {
    let app = open(place).await?;
    if let Some(backup) = backup {
        admin::thaw_backup(&app, client, backup).await?;
        to_stdout(&format!("backup {backup} is thawed"));
    }
    if let Some(pair) = pair {
        admin::thaw_pair(&app, client, pair).await?;
        to_stdout(&format!("pair {pair} is thawed"));
    }
    Ok(())
}

async fn descriptor(
    place: &Place,
    wanted: Details,
    out: &Path,
    keeper_socket: Option<PathBuf>,
    as_json: bool,
) -> Result<()> {
    let app = open(place).await?;
    let production = place.config().profile == Profile::Production;
    if production && matches!(wanted.evidence, Some(EvidencePolicy::InsecureDev)) {
        return Err("production does not accept a keeper that proves nothing".into());
    }
    let keeper = keeper_of(&keeper_socket.unwrap_or_else(|| socket(place, "keeper")), production).await?;
    let details = Details { keeper: Some(keeper), ..wanted };
    let signed = halfkey_server::descriptor(&app, details).await?;
    std::fs::write(out, signed.to_json()?)?;
    let deployment = app.deployment();
    if as_json {
        to_stdout(&json!({ "deployment": deployment, "file": out }).to_string());
        return Ok(());
    }
    to_stdout(&format!("{}: the descriptor of deployment {deployment}.", out.display()));
    to_stdout("Compile it into the app; an app never fetches it from the server.");
    Ok(())
}

/// The passkey door's long-term key, from its own socket. What production does not allow is refused here.
async fn keeper_of(socket: &Path, production: bool) -> Result<Keeper> {
    let Answer::Info(info) = ask_keeper(socket, &Request::Info).await? else {
        return Err(format!("the keeper on {} does not say who it is", socket.display()).into());
    };
    if production && info.sealings < 2 {
        return Err(format!(
            "the keeper's root lies on {} machine only: were it lost, so were all passkey backups. Let a second one join \
             (halfkey keeper tpm2 join), or name a second KMS key",
            info.sealings
        )
        .into());
    }
    Ok(Keeper { key_id: info.key_id, hpke: HpkePublic(*info.public_key.as_bytes()) })
}
