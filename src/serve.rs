//! `halfkey serve`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use halfkey_cli::output::to_stderr;
use halfkey_server::{
    config::{Config, KeeperAddress, Profile},
    policy_hook::PolicyHook,
    relying_party::Hosted,
    webhook::WebhookSecret,
};

use crate::{
    keepers::{Supervised, link_key, private_text},
    logging,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Run the server, and its two keepers unless they run elsewhere
///
/// The first start makes the deployment: its id, its keys (files of mode 0600 in the data folder) and a SQLite database.
/// Then make a custodian (`halfkey admin create-custodian`) and the deployment descriptor that apps compile in
/// (`halfkey admin descriptor`).
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub place: Place,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// What the apps call, for messages; the descriptor has the binding one
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The passkey door runs elsewhere: `unix:PATH`, or `tcp:HOST:PORT` under the link key
    #[arg(long, value_name = "ADDRESS")]
    keeper: Option<String>,
    /// The password door runs elsewhere: `unix:PATH`, or `tcp:HOST:PORT` under the link key
    #[arg(long, value_name = "ADDRESS")]
    guesskeeper: Option<String>,
    /// 32 bytes, hex, the same at both ends of a tcp link; a file that only its owner can read
    #[arg(long, value_name = "FILE")]
    link_key_file: Option<PathBuf>,
    /// Apps and origins that may use the passkeys of relying parties without a custodian: JSON, as
    /// `PUT …/custodians/me/relying-party` takes it
    #[arg(long, value_name = "FILE")]
    relying_party_apps: Option<PathBuf>,
    /// Put every recovery before this address, which answers `{"decision":"allow"}`, `deny`, or `delay` with
    /// `delaySeconds`. While it does not answer, no recovery begins
    #[arg(long, value_name = "URL", requires = "policy_hook_secret_file")]
    policy_hook: Option<String>,
    /// `whsec_` and the base64 of 24 to 64 bytes, which signs what the policy hook is asked; a file that only its owner
    /// can read
    #[arg(long, value_name = "FILE", requires = "policy_hook")]
    policy_hook_secret_file: Option<PathBuf>,
    /// Let custodians have their events sent into private networks and over plain HTTP; development always does. Leave it off
    /// where you do not know every custodian
    #[arg(long)]
    private_webhooks: bool,
    /// After so many days without a verification a backup is shown as due for one
    #[arg(long, value_name = "DAYS", default_value_t = halfkey_server::config::VERIFICATION_DAYS)]
    verification_days: u64,
    /// Sign 32 bytes that nobody can read, if an app asks for it
    #[arg(long)]
    danger_allow_digest: bool,
    /// Believe the last entry of X-Forwarded-For: only behind a proxy of your own
    #[arg(long)]
    trust_forwarded_for: bool,
    /// End when standard input is closed
    #[arg(long)]
    stop_on_stdin_close: bool,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "HALFKEY_LOG")]
    log: String,
    /// Log as JSON lines
    #[arg(long)]
    log_json: bool,
}

/// Where a deployment's state lies; the same for the server and for administration.
#[derive(Args)]
pub struct Place {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "halfkey-data", env = "HALFKEY_DATA")]
    pub data: PathBuf,
    /// `sqlite:PATH` or `postgres://…` [default: a file in the data folder]. Give a URL with a password by environment
    #[arg(long, value_name = "URL", env = "HALFKEY_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// A copy of the shred store, a database of its own; give it once for each copy [default: one file in the data
    /// folder; production wants two, on different disks]
    #[arg(long, value_name = "URL", env = "HALFKEY_SHRED_STORE", hide_env_values = true, value_delimiter = ',')]
    shred_store: Vec<String>,
    /// Where single-use state between two rounds lies [default: a file of this node that every start deletes; with
    /// PostgreSQL an unlogged table]
    #[arg(long, value_name = "URL", env = "HALFKEY_KEPT", hide_env_values = true)]
    kept: Option<String>,
    /// How careful the defaults are
    #[arg(long, value_enum, default_value = "development")]
    profile: ProfileName,
    /// Allow in production: the key-encryption key in a file beside the database
    #[arg(long)]
    danger_local_kms: bool,
    /// Allow in production: one copy only of the shred store
    #[arg(long)]
    danger_single_shred_store: bool,
    /// Host this relying party: serve its `/.well-known/` files and its passkey page under its domain. Without a
    /// custodian it is shared by all of them. Give it once for each
    #[arg(long, value_name = "DOMAIN[=CUSTODIAN]", env = "HALFKEY_RELYING_PARTY", value_delimiter = ',')]
    relying_party: Vec<Hosted>,
    /// Allow in production: a relying party that is hosted here or lies under the server's own domain, so that the
    /// operator needs one tap of the user to open a passkey backup
    #[arg(long)]
    danger_operator_is_relying_party: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    /// One machine and no money: no recovery delay, keys in files
    Development,
    /// Refuses unsafe settings
    Production,
}

impl Place {
    pub fn config(&self) -> Config {
        let profile = match self.profile {
            ProfileName::Development => Profile::Development,
            ProfileName::Production => Profile::Production,
        };
        let mut config = Config::new(&self.data).with_profile(profile);
        config.database = self.database.clone();
        config.shred_stores = self.shred_store.clone();
        config.kept = self.kept.clone();
        config.dangers.local_kms = self.danger_local_kms;
        config.dangers.single_shred_store = self.danger_single_shred_store;
        config.dangers.operator_is_relying_party = self.danger_operator_is_relying_party;
        config.relying_parties = self.relying_party.clone();
        config
    }

    /// Where `serve` puts a keeper that it starts itself: a folder of the keeper's own beside the server's.
    pub fn keeper_folder(&self, kind: &str) -> PathBuf {
        self.data.with_added_extension(kind)
    }
}

pub async fn run(args: ServeArgs) -> Result<()> {
    logging::start(&args.log, args.log_json);
    let mut config = args.place.config();
    config.listen = args.listen;
    config.public_url = args.public_url.clone();
    config.verification_after = Duration::from_secs(args.verification_days.saturating_mul(24 * 60 * 60));
    if let (Some(url), Some(file)) = (&args.policy_hook, &args.policy_hook_secret_file) {
        let secret = WebhookSecret::parse(&private_text(file)?)?;
        config.policy_hook = Some(PolicyHook::new(url, secret));
    }
    config.private_webhooks = args.private_webhooks;
    config.allow_digest = args.danger_allow_digest;
    config.trust_forwarded_for = args.trust_forwarded_for;
    config.stop_with_stdin = args.stop_on_stdin_close;
    if let Some(file) = &args.relying_party_apps {
        config.relying_party_apps = halfkey_server::relying_party::read_apps(&std::fs::read_to_string(file)?)?;
    }
    banner(&config);
    let keeper = door(&args, "keeper", args.keeper.as_deref()).await?;
    let guesskeeper = door(&args, "guesskeeper", args.guesskeeper.as_deref()).await?;
    config.keeper = Some(keeper.0);
    config.guesskeeper = Some(guesskeeper.0);
    let result = halfkey_server::run(config).await;
    for supervised in [keeper.1, guesskeeper.1].into_iter().flatten() {
        supervised.stop().await;
    }
    Ok(result?)
}

/// The door's address: where it is configured to run, or a process started here.
async fn door(
    args: &ServeArgs,
    kind: &'static str,
    address: Option<&str>,
) -> Result<(KeeperAddress, Option<Supervised>)> {
    if let Some(address) = address {
        return Ok((parse_address(address, args)?, None));
    }
    let extra = vec!["--log".to_owned(), args.log.clone()];
    let supervised = Supervised::start(kind, &args.place.keeper_folder(kind), extra).await?;
    Ok((KeeperAddress::Unix(supervised.socket.clone()), Some(supervised)))
}

fn parse_address(text: &str, args: &ServeArgs) -> Result<KeeperAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(KeeperAddress::Unix(path.into()));
    }
    let address = text.strip_prefix("tcp:").ok_or("an address is unix:PATH or tcp:HOST:PORT")?;
    let file = args.link_key_file.as_ref().ok_or("a tcp address needs --link-key-file")?;
    Ok(KeeperAddress::Tcp { address: address.to_owned(), key: Arc::new(link_key(file)?) })
}

fn banner(config: &Config) {
    if config.profile == Profile::Development {
        to_stderr(
            "halfkey: DEVELOPMENT profile: keys in files, no recovery delay, keepers without an enclave. Not for real funds.",
        );
    }
}
