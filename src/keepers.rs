//! `halfkey keeper` and `halfkey guesskeeper`: the two doors, each a process of its own with its own folder and keys.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use clap::{ArgGroup, Args, Subcommand};
use halfkey_cli::output::to_stdout;
use halfkey_envelope::frame::LinkKey;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use crate::{
    keeper_evidence::{self, EvidenceArgs},
    keeper_tpm2::{self, Tpm2Args},
    logging,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Run the passkey door: stateless, made for an enclave
///
/// Its root lies in a file (`insecure-dev`: development only), or is sealed by the machine's TPM (`tpm2`), which `halfkey
/// keeper tpm2` prepares.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group(ArgGroup::new("where").required(true).args(["socket", "listen"])))]
pub struct KeeperArgs {
    /// Its own folder, 0700: holds the sealing root
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Listen on this Unix socket (0600)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on this loopback TCP address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// What guards the root, and what evidence it gives
    #[arg(long, value_name = "KIND", value_enum, default_value = "insecure-dev")]
    evidence: GuardName,
    /// The TPM, with `tpm2`: a device, or `swtpm:` and a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "/dev/tpmrm0")]
    tpm: halfkey_keeper::tpm::Address,
    /// The long-term key to announce, counted from 1; what was sealed to an earlier one opens still
    ///
    /// Apps seal to the key in their descriptor: start the keeper with the next number, write a new descriptor, and give it
    /// to the apps.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    key_id: u32,
    /// End when standard input is closed
    #[arg(long)]
    stop_on_stdin_close: bool,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "HALFKEY_LOG")]
    log: String,
    #[command(subcommand)]
    command: Option<KeeperCommand>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum GuardName {
    /// A file, made at the first start; evidence that proves nothing
    InsecureDev,
    /// A TPM has sealed the root and quotes the machine's boot
    Tpm2,
}

#[derive(Subcommand)]
enum KeeperCommand {
    /// Ask a running keeper for its evidence, print it decoded, and judge it under a descriptor
    Evidence(EvidenceArgs),
    /// Prepare, upgrade and copy a root that a TPM seals
    Tpm2(Tpm2Args),
}

/// Run the password door: every guess is counted before it is evaluated
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GuesskeeperArgs {
    #[command(flatten)]
    settings: GuesskeeperSettings,
    #[command(subcommand)]
    command: Option<GuesskeeperCommand>,
}

#[derive(Subcommand)]
enum GuesskeeperCommand {
    /// Accept a restored older database, once per generation: at most 3 guesses stay for each user
    Restore(GuesskeeperSettings),
}

#[derive(Args)]
struct GuesskeeperSettings {
    /// Its own folder, 0700: holds its keys and, by default, its databases
    #[arg(long, value_name = "DIR", default_value = "halfkey-guesskeeper")]
    data: PathBuf,
    /// Listen on this Unix socket (0600)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on this TCP address, under the link key
    #[arg(long, value_name = "ADDRESS", requires = "link_key_file", conflicts_with = "socket")]
    listen: Option<String>,
    /// 32 bytes, hex, the same at both ends; a file that only its owner can read
    #[arg(long, value_name = "FILE")]
    link_key_file: Option<PathBuf>,
    /// The counters: `sqlite:PATH` or `postgres://…` [default: a file in the folder]
    #[arg(long, value_name = "URL", env = "HALFKEY_GUESSKEEPER_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// The shred store: another database [default: a file in the folder]
    #[arg(long, value_name = "URL", env = "HALFKEY_GUESSKEEPER_SHRED", hide_env_values = true)]
    shred_store: Option<String>,
    /// The generation anchor, best on another volume [default: beside the folder]
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// End when standard input is closed
    #[arg(long)]
    stop_on_stdin_close: bool,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "HALFKEY_LOG")]
    log: String,
}

pub async fn keeper(args: KeeperArgs) -> Result<()> {
    logging::start(&args.log, false);
    match args.command {
        Some(KeeperCommand::Evidence(args)) => return keeper_evidence::run(args).await,
        Some(KeeperCommand::Tpm2(args)) => return keeper_tpm2::run(args),
        None => {}
    }
    let listen = match (args.socket, args.listen) {
        (Some(path), _) => halfkey_keeper::Listen::Unix(path),
        (None, Some(address)) => halfkey_keeper::Listen::Loopback(address),
        (None, None) => return Err("give --socket or --listen".into()),
    };
    let mut config = halfkey_keeper::Config::new(listen, args.data.ok_or("give --data")?);
    config.stop_on_stdin_close = args.stop_on_stdin_close;
    config.key_id = args.key_id;
    config.guard = match args.evidence {
        GuardName::InsecureDev => halfkey_keeper::Guard::InsecureDev,
        GuardName::Tpm2 => halfkey_keeper::Guard::Tpm2(args.tpm),
    };
    Ok(halfkey_keeper::run(config).await?)
}

pub async fn guesskeeper(args: GuesskeeperArgs) -> Result<()> {
    match args.command {
        Some(GuesskeeperCommand::Restore(settings)) => {
            logging::start(&settings.log, false);
            let report = halfkey_guesskeeper::restore(&settings.config()?).await?;
            to_stdout(&format!("{report:?}"));
            Ok(())
        }
        None => {
            logging::start(&args.settings.log, false);
            Ok(halfkey_guesskeeper::run(args.settings.config()?).await?)
        }
    }
}

impl GuesskeeperSettings {
    fn config(self) -> Result<halfkey_guesskeeper::Config> {
        let listen = match (self.socket, self.listen, self.link_key_file) {
            (Some(path), _, _) => halfkey_guesskeeper::Listen::Unix(path),
            (None, Some(address), Some(key)) => halfkey_guesskeeper::Listen::Tcp(address, link_key(&key)?),
            _ => halfkey_guesskeeper::Listen::Unix(self.data.join("socket")),
        };
        let mut config = halfkey_guesskeeper::Config::new(self.data, listen);
        config.database = self.database;
        config.shred = self.shred_store;
        config.anchor = self.anchor;
        config.stop_with_stdin = self.stop_on_stdin_close;
        Ok(config)
    }
}

/// What a file holds that only its owner can read.
pub fn private_text(path: &Path) -> Result<Zeroizing<String>> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(format!("{} can be read by others: chmod 0600", path.display()).into());
    }
    Ok(Zeroizing::new(std::fs::read_to_string(path)?))
}

/// A link key from a file that only its owner can read.
pub fn link_key(path: &Path) -> Result<LinkKey> {
    let (text, shown) = (private_text(path)?, path.display());
    let mut key = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(text.trim(), key.as_mut()).map_err(|_| format!("{shown} does not hold 64 hex digits"))?;
    Ok(LinkKey::from_bytes(key))
}

/// A keeper that `halfkey serve` started, and starts again if it ends.
pub struct Supervised {
    pub socket: PathBuf,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(20);

impl Supervised {
    /// Starts `halfkey KIND` with a folder and a socket of its own and waits until it is ready.
    pub async fn start(kind: &'static str, folder: &Path, extra: Vec<String>) -> Result<Self> {
        let socket = folder.with_added_extension("sock");
        let (data, at) = (folder.display().to_string(), socket.display().to_string());
        let mut arguments = vec![kind.to_owned(), "--data".to_owned(), data, "--socket".to_owned(), at];
        arguments.push("--stop-on-stdin-close".to_owned());
        arguments.extend(extra);
        predecessor_ended(&socket).await;
        let child = spawn(&arguments).await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(supervise(kind, arguments, child, stopped));
        Ok(Self { socket, stop, task })
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        let _gone = self.stop.send(true);
        if self.task.await.is_err() {
            tracing::warn!("a keeper's supervisor did not end well");
        }
    }
}

/// A server that was killed leaves a keeper behind that ends as soon as it notices. Until then its socket is taken.
async fn predecessor_ended(socket: &Path) {
    let listens = || std::os::unix::net::UnixStream::connect(socket).is_ok();
    let wait = async {
        while listens() {
            sleep(MOMENT).await;
        }
    };
    if timeout(STOP, wait).await.is_err() {
        tracing::warn!(socket = %socket.display(), "another keeper listens there and does not end");
    }
}

async fn supervise(kind: &'static str, arguments: Vec<String>, mut child: Child, mut stopped: watch::Receiver<bool>) {
    loop {
        // Waiting would close the child's standard input, and that is what tells it to stop.
        let stdin = child.stdin.take();
        tokio::select! {
            status = child.wait() => tracing::error!(kind, ?status, "keeper ended; starting it again"),
            _ = stopped.changed() => {
                drop(stdin);
                return end(kind, child).await;
            }
        }
        loop {
            sleep(PAUSE).await;
            if *stopped.borrow() {
                return;
            }
            match spawn(&arguments).await {
                Ok(again) => break child = again,
                Err(error) => tracing::error!(kind, %error, "keeper does not start"),
            }
        }
    }
}

async fn end(kind: &str, mut child: Child) {
    if timeout(STOP, child.wait()).await.is_err() {
        tracing::warn!(kind, "keeper did not stop by itself");
        if let Err(error) = child.kill().await {
            tracing::warn!(kind, %error, "keeper could not be stopped");
        }
    }
}

async fn spawn(arguments: &[String]) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let mut line = String::new();
    let read = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
    let ready = matches!(read, Ok(Ok(_))) && line.contains("\"ready\":true");
    if ready { Ok(child) } else { Err(format!("halfkey {} did not get ready", arguments[0]).into()) }
}
