//! What an operator decides.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use halfkey_api::relying_party::Apps;
use halfkey_envelope::frame::LinkKey;

use crate::{policy_hook::PolicyHook, relying_party::Hosted};

/// How careful the server is by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// For one machine and no money: no recovery delay, keys in files.
    #[default]
    Development,
    /// Refuses to start with an unsafe setting that is not named in [`Dangers`].
    Production,
}

/// Where a keeper listens.
#[derive(Clone)]
pub enum KeeperAddress {
    /// A Unix socket, readable by its owner alone.
    Unix(PathBuf),
    /// TCP under a pre-shared key.
    Tcp {
        /// `host:port`.
        address: String,
        /// The same at both ends.
        key: Arc<LinkKey>,
    },
}

impl fmt::Debug for KeeperAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { address, .. } => write!(f, "tcp:{address}"),
        }
    }
}

/// Settings that `production` refuses unless they are named here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dangers {
    /// The key-encryption key lies in a file beside the database.
    pub local_kms: bool,
    /// The shred store has one copy only (PROTOCOL.md 4.4).
    pub single_shred_store: bool,
    /// A relying party lies under the operator's own domain or is hosted by this server: its operator needs one tap of
    /// the user to get the key of a passkey backup (METHODS.md C).
    pub operator_is_relying_party: bool,
}

/// How often somebody may do something: `count` within `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many.
    pub count: u32,
    /// In this time, in milliseconds.
    pub window_ms: u64,
}

impl Rate {
    /// `count` an hour.
    #[must_use]
    pub const fn per_hour(count: u32) -> Self {
        Self { count, window_ms: 60 * 60 * 1000 }
    }

    /// `count` a minute.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self { count, window_ms: 60 * 1000 }
    }
}

/// Rate limits; the counts are stored, so that a restart or another node forgets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All changing calls of one client.
    pub client: Rate,
    /// All calls from one address without valid credentials.
    pub unauthenticated: Rate,
    /// Key generations and recoveries of one client: each costs a third of a second of CPU.
    pub heavy: Rate,
    /// Key generations and recoveries of the whole deployment.
    pub heavy_deployment: Rate,
    /// Backups of one client.
    pub backups: Rate,
    /// Recoveries opened by one client.
    pub recoveries: Rate,
    /// Recoveries opened from one address.
    pub recoveries_address: Rate,
    /// Recoveries opened in the whole deployment.
    pub recoveries_deployment: Rate,
    /// Password-door messages of one client.
    pub door_client: Rate,
    /// Password-door messages from one address.
    pub door_address: Rate,
    /// Password-door messages of the whole deployment.
    pub door_deployment: Rate,
    /// Passkey-door messages of one client.
    pub passkey_client: Rate,
    /// Passkey-door messages from one address.
    pub passkey_address: Rate,
    /// Passkey-door messages of the whole deployment.
    pub passkey_deployment: Rate,
    /// Signatures of one client.
    pub signatures: Rate,
    /// Requests handled at the same time.
    pub concurrent_requests: usize,
    /// Steps of heavy arithmetic that wait for a processor before others are turned away.
    pub heavy_queue: usize,
    /// The same for signatures and reshares.
    pub quick_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client: Rate::per_minute(600),
            unauthenticated: Rate::per_minute(600),
            heavy: Rate::per_hour(60),
            heavy_deployment: Rate::per_minute(1200),
            backups: Rate::per_hour(60),
            recoveries: Rate::per_hour(20),
            recoveries_address: Rate::per_hour(200),
            recoveries_deployment: Rate::per_minute(1200),
            door_client: Rate::per_hour(240),
            door_address: Rate::per_hour(2400),
            door_deployment: Rate::per_minute(6000),
            passkey_client: Rate::per_hour(240),
            passkey_address: Rate::per_hour(2400),
            passkey_deployment: Rate::per_minute(6000),
            signatures: Rate::per_minute(300),
            concurrent_requests: 1024,
            heavy_queue: 64,
            quick_queue: 1024,
        }
    }
}

/// When a recovery has to wait (METHODS.md G, DECISIONS.md D33).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPolicy {
    /// How long it waits when another device was seen lately, in milliseconds.
    pub delay_ms: u64,
    /// How lately, in milliseconds.
    pub seen_within_ms: u64,
    /// How long a recovery may be used once it is ready, in milliseconds.
    pub open_ms: u64,
}

const HOUR_MS: u64 = 60 * 60 * 1000;

/// After so many days a backup's verification is due, by default.
pub const VERIFICATION_DAYS: u64 = 90;

impl RecoveryPolicy {
    /// The profile's default.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        let delay_ms = match profile {
            Profile::Development => 0,
            Profile::Production => 24 * HOUR_MS,
        };
        Self { delay_ms, seen_within_ms: 30 * 24 * HOUR_MS, open_ms: 24 * HOUR_MS }
    }
}

/// Everything that [`crate::run`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one, which the ready line names.
    pub listen: SocketAddr,
    /// The data folder: database, key file, shred store.
    pub data: PathBuf,
    /// `sqlite:PATH` or `postgres://…`; by default a file in the data folder.
    pub database: Option<String>,
    /// Where the copies of the shred store lie; by default one file in the data folder. `production` wants two.
    pub shred_stores: Vec<String>,
    /// Where kept state lies; by default a file of this node, which every start deletes. With several nodes the
    /// address of the PostgreSQL server.
    pub kept: Option<String>,
    /// What the apps call; in the descriptor. By default `http://` and the listening address.
    pub public_url: Option<String>,
    /// How careful.
    pub profile: Profile,
    /// What is allowed all the same.
    pub dangers: Dangers,
    /// The passkey door, if there is one.
    pub keeper: Option<KeeperAddress>,
    /// The password door, if there is one.
    pub guesskeeper: Option<KeeperAddress>,
    /// Rate limits.
    pub limits: Limits,
    /// When a recovery waits.
    pub recovery: RecoveryPolicy,
    /// How long after a backup was made or last verified its verification is due.
    pub verification_after: Duration,
    /// Whom a recovery is put before; nobody by default.
    pub policy_hook: Option<PolicyHook>,
    /// Custodians may have events sent into the operator's own network, over plain HTTP too; `development` always allows it.
    pub private_webhooks: bool,
    /// Whether a bare digest may be signed.
    pub allow_digest: bool,
    /// How long an unwrapped key of a signing half may stay in memory; zero asks the key service each time.
    pub signing_key_cache: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The relying parties whose files and page this server serves, by the `Host` that is asked for.
    pub relying_parties: Vec<Hosted>,
    /// Apps and origins that may use the passkeys of the shared ones among them, beside those that custodians register.
    pub relying_party_apps: Apps,
    /// Stop when standard input closes: for servers that a parent process started.
    pub stop_with_stdin: bool,
    /// Believe `X-Forwarded-For` (its last entry): only behind a proxy of one's own.
    pub trust_forwarded_for: bool,
}

impl Config {
    /// A server on a free loopback port with everything in `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: data.into(),
            database: None,
            shred_stores: Vec::new(),
            kept: None,
            public_url: None,
            profile: Profile::default(),
            dangers: Dangers::default(),
            keeper: None,
            guesskeeper: None,
            limits: Limits::default(),
            recovery: RecoveryPolicy::of(Profile::default()),
            verification_after: Duration::from_secs(VERIFICATION_DAYS * 24 * 60 * 60),
            policy_hook: None,
            private_webhooks: false,
            allow_digest: false,
            signing_key_cache: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
            relying_parties: Vec::new(),
            relying_party_apps: Apps::default(),
            stop_with_stdin: false,
            trust_forwarded_for: false,
        }
    }

    /// The same with another profile and its recovery policy.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self.recovery = RecoveryPolicy::of(profile);
        self
    }

    /// The address of the main database.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.database.clone().unwrap_or_else(|| self.file("halfkey.db"))
    }

    /// The addresses of the shred store's copies.
    #[must_use]
    pub fn shred_urls(&self) -> Vec<String> {
        if self.shred_stores.is_empty() { vec![self.file("shred.db")] } else { self.shred_stores.clone() }
    }

    /// The address of kept state: with PostgreSQL an unlogged table there, so that any node takes any step.
    #[must_use]
    pub fn kept_url(&self) -> String {
        let shared = self.database.clone().filter(|url| url.starts_with("postgres"));
        self.kept.clone().or(shared).unwrap_or_else(|| self.file("kept.db"))
    }

    fn file(&self, name: &str) -> String {
        format!("sqlite:{}", self.data.join(name).display())
    }

    /// The settings that this profile refuses, by name.
    #[must_use]
    pub fn refused(&self) -> Vec<&'static str> {
        if self.profile == Profile::Development {
            return Vec::new();
        }
        let single = self.shred_stores.len() < 2 && !self.dangers.single_shred_store;
        let hosts = !self.relying_parties.is_empty() && !self.may_be_relying_party();
        [
            (!self.dangers.local_kms, "local_kms"),
            (single, "single_shred_store"),
            (self.allow_digest, "allow_digest"),
            (hosts, "operator_is_relying_party"),
        ]
        .into_iter()
        .filter_map(|(refused, name)| refused.then_some(name))
        .collect()
    }

    /// Whether a custodian's address for events may lie in a private network.
    pub(crate) fn webhooks_into_private_networks(&self) -> bool {
        self.profile == Profile::Development || self.private_webhooks
    }

    /// Whether the operator may control a relying party.
    pub(crate) fn may_be_relying_party(&self) -> bool {
        self.profile == Profile::Development || self.dangers.operator_is_relying_party
    }
}

/// Not `development` or `production`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a profile is `development` or `production`")]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err(UnknownProfile),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn production_names_what_it_refuses() {
        let config = Config::new("/nowhere").with_profile(Profile::Production);
        assert_eq!(config.refused(), ["local_kms", "single_shred_store"]);
        assert_eq!(config.recovery.delay_ms, 24 * HOUR_MS);
        let dangers = Dangers { local_kms: true, single_shred_store: true, ..Dangers::default() };
        let relying_parties = vec!["wallet.example.com".parse().unwrap()];
        let mut told = Config { dangers, allow_digest: true, relying_parties, ..config };
        assert_eq!(told.refused(), ["allow_digest", "operator_is_relying_party"]);
        told.dangers.operator_is_relying_party = true;
        assert_eq!(told.refused(), ["allow_digest"]);
        assert!(Config::new("/nowhere").refused().is_empty());
    }
}
