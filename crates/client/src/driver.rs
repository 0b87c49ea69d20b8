//! `Halfkey`: the SDK as an app uses it, a short loop around the step machine.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::lock::{Mutex as AsyncMutex, MutexGuard};
use halfkey_api::{
    chain::{Addresses, bitcoin::Network},
    message::{BackupStatus, Device, OldDevices, Recovery},
    signing::Payload,
};
use halfkey_envelope::{
    door::KdfParams,
    entropy::Entropy,
    id::{DeviceId, RecoveryId},
    text::Policy,
    wallet::{Curve, Method},
};

use crate::{
    command::{
        Backup, BackupMethod, Cancelled, Command, Ejecting, Outcome, PasskeyBackup, PasskeyChange, PasskeyList,
        Recovering, RecoveryMethod, Resumed, SignOutcome, Verified,
    },
    deployment::Deployment,
    error::{Error, Result},
    exit_kit::ExitKit,
    host::{
        BlobStore, Clock, CloudTokenError, CloudTokenProvider, CustomError, CustomMethod, Dismissed, FixedToken,
        PasskeyError, Passkeys, Prompt, SecretStore, SessionProvider, SyncedError, SyncedSecretStore, Timer, Transport,
    },
    machine::{Machine, lock},
    platform::{GoogleConfig, ICloudConfig, PasskeyConfig, PlatformEnv},
    progress::Progress,
    setting::Setting,
    step::{Answer, Ask, CustomCall, Event, Step},
};

/// Who the client is: something that gives session tokens.
pub struct Credentials(Arc<dyn SessionProvider>);

impl Credentials {
    /// One token that never changes: a client API key, or a session token in a test.
    #[must_use]
    pub fn token(token: impl Into<String>) -> Self {
        Self(Arc::new(FixedToken::new(token)))
    }

    /// The app's own provider.
    #[must_use]
    pub fn session(provider: Arc<dyn SessionProvider>) -> Self {
        Self(provider)
    }
}

/// Where a device keeps its share: the wrapping key and the sealed blobs.
#[derive(Clone)]
pub struct ShareStore {
    /// The wrapping key.
    pub secrets: Arc<dyn SecretStore>,
    /// The sealed blobs.
    pub blobs: Arc<dyn BlobStore>,
}

type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

struct Host {
    transport: Arc<dyn Transport>,
    session: Arc<dyn SessionProvider>,
    store: ShareStore,
    clock: Arc<dyn Clock>,
    prompt: Option<Arc<dyn Prompt>>,
    passkeys: Option<Arc<dyn Passkeys>>,
    cloud_tokens: Option<Arc<dyn CloudTokenProvider>>,
    synced_secrets: Option<Arc<dyn SyncedSecretStore>>,
    timer: Option<Arc<dyn Timer>>,
    /// The app's own backup methods, by name.
    custom: Mutex<HashMap<String, Arc<dyn CustomMethod>>>,
    on_progress: Option<OnProgress>,
    /// Keeps a read and the write that depends on it together.
    held: AsyncMutex<()>,
    /// One command that changes the device's state at a time.
    busy: AtomicBool,
}

/// The SDK of one client on one device. Cheap to clone; all clones are one.
///
/// Every call may be dropped at any time: that is like a crash of the app, nothing is lost, and
/// [`Halfkey::resume`] puts in order what was left.
#[derive(Clone)]
pub struct Halfkey {
    setting: Arc<Setting>,
    host: Arc<Host>,
}

/// Collects what the SDK needs of the app.
pub struct Builder {
    setting: Option<Deployment>,
    credentials: Credentials,
    store: Option<ShareStore>,
    transport: Option<Arc<dyn Transport>>,
    clock: Option<Arc<dyn Clock>>,
    prompt: Option<Arc<dyn Prompt>>,
    passkeys: Option<Arc<dyn Passkeys>>,
    cloud_tokens: Option<Arc<dyn CloudTokenProvider>>,
    synced_secrets: Option<Arc<dyn SyncedSecretStore>>,
    timer: Option<Arc<dyn Timer>>,
    #[cfg(feature = "danger-insecure-evidence")]
    insecure_evidence: bool,
    entropy: Option<Box<dyn Entropy>>,
    on_progress: Option<OnProgress>,
    platform: PlatformEnv,
    device_name: Option<String>,
    network: Network,
    kdf: KdfParams,
    policy: Option<Policy>,
}

impl Builder {
    /// Where the device keeps its share. Needed.
    #[must_use]
    pub fn share_store(mut self, secrets: Arc<dyn SecretStore>, blobs: Arc<dyn BlobStore>) -> Self {
        self.store = Some(ShareStore { secrets, blobs });
        self
    }

    /// The HTTP client. Needed.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// The clock. Needed.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The source of randomness: `halfkey_envelope::entropy::OsEntropy` in programs. Needed.
    #[must_use]
    pub fn entropy(mut self, entropy: Box<dyn Entropy>) -> Self {
        self.entropy = Some(entropy);
        self
    }

    /// Asks the user in the middle of a call. Needed for recovery codes.
    #[must_use]
    pub fn prompt(mut self, prompt: Arc<dyn Prompt>) -> Self {
        self.prompt = Some(prompt);
        self
    }

    /// The system's passkey sheet. Needed for passkeys, with [`Halfkey::configure_passkey_storage`].
    #[must_use]
    pub fn passkeys(mut self, passkeys: Arc<dyn Passkeys>) -> Self {
        self.passkeys = Some(passkeys);
        self
    }

    /// Gives access tokens of the user's Google account. Needed for Google Drive, with
    /// [`Halfkey::configure_google_storage`].
    #[must_use]
    pub fn cloud_tokens(mut self, provider: Arc<dyn CloudTokenProvider>) -> Self {
        self.cloud_tokens = Some(provider);
        self
    }

    /// The store of items that iCloud Keychain synchronises. Needed for iCloud, with
    /// [`Halfkey::configure_icloud_storage`].
    #[must_use]
    pub fn synced_secrets(mut self, store: Arc<dyn SyncedSecretStore>) -> Self {
        self.synced_secrets = Some(store);
        self
    }

    /// Lets time pass between tries of a call to a cloud. Without it such a call is tried once.
    #[must_use]
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Accepts a keeper that proves nothing about itself: whoever runs it reads every backup made with it. For demos.
    #[cfg(feature = "danger-insecure-evidence")]
    #[must_use]
    pub const fn danger_accept_insecure_evidence(mut self, accept: bool) -> Self {
        self.insecure_evidence = accept;
        self
    }

    /// Told how far every long call is.
    #[must_use]
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(callback));
        self
    }

    /// Where this runs; the system this was compiled for by default.
    #[must_use]
    pub fn platform(mut self, platform: PlatformEnv) -> Self {
        self.platform = platform;
        self
    }

    /// The user's name for this device.
    #[must_use]
    pub fn device_name(mut self, name: impl Into<String>) -> Self {
        self.device_name = Some(name.into());
        self
    }

    /// The Bitcoin network whose addresses are shown.
    #[must_use]
    pub const fn bitcoin_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Cost of the key derivation of new password backups.
    #[must_use]
    pub const fn key_derivation(mut self, kdf: KdfParams) -> Self {
        self.kdf = kdf;
        self
    }

    /// A stricter password policy of the app's own.
    #[must_use]
    pub const fn stricter_passwords(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The SDK.
    ///
    /// # Errors
    /// [`Error::HostIncomplete`] names what is missing.
    pub fn build(self) -> Result<Halfkey> {
        let deployment = needed(self.setting, "deployment")?;
        let mut setting = Setting::new(deployment, needed(self.entropy, "Entropy")?)
            .platform(self.platform)
            .bitcoin_network(self.network)
            .key_derivation(self.kdf);
        if let Some(name) = &self.device_name {
            setting = setting.device_name(name);
        }
        if let Some(policy) = self.policy {
            setting = setting.stricter_passwords(policy);
        }
        #[cfg(feature = "danger-insecure-evidence")]
        {
            setting = setting.danger_accept_insecure_evidence(self.insecure_evidence);
        }
        let host = Host {
            transport: needed(self.transport, "Transport")?,
            session: self.credentials.0,
            store: needed(self.store, "ShareStore")?,
            clock: needed(self.clock, "Clock")?,
            prompt: self.prompt,
            passkeys: self.passkeys,
            cloud_tokens: self.cloud_tokens,
            synced_secrets: self.synced_secrets,
            timer: self.timer,
            custom: Mutex::default(),
            on_progress: self.on_progress,
            held: AsyncMutex::new(()),
            busy: AtomicBool::new(false),
        };
        Ok(Halfkey { setting: Arc::new(setting), host: Arc::new(host) })
    }
}

fn needed<T>(value: Option<T>, what: &'static str) -> Result<T> {
    value.ok_or(Error::HostIncomplete { what })
}

/// Frees the turn when the call ends, however it ends.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Host {
    fn turn(&self, command: &Command) -> Result<Option<Turn<'_>>> {
        if !command.is_exclusive() {
            return Ok(None);
        }
        let free = self.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if free { Ok(Some(Turn(&self.busy))) } else { Err(Error::OperationInProgress) }
    }

    async fn answer<'a>(&'a self, ask: Ask, held: &mut Option<MutexGuard<'a, ()>>) -> Answer {
        match ask {
            Ask::Http(request) => Answer::Http(self.transport.send(request).await),
            Ask::Token => Answer::Token(self.session.token().await),
            Ask::ReadSecret => Answer::Secret(self.store.secrets.read().await),
            Ask::WriteSecret(key) => Answer::Stored(self.store.secrets.write(&key).await),
            Ask::ReadBlob(slot) => Answer::Blob(self.store.blobs.read(slot).await),
            Ask::WriteBlob(slot, bytes) => Answer::Stored(self.store.blobs.write(slot, &bytes).await),
            Ask::DeleteBlob(slot) => Answer::Stored(self.store.blobs.delete(slot).await),
            Ask::Now => Answer::Now(self.clock.now_ms()),
            Ask::ConfirmRecoveryCode { code, again } => Answer::Typed(match &self.prompt {
                Some(prompt) => prompt.confirm_recovery_code(&code, again).await,
                None => Err(Dismissed),
            }),
            Ask::PasskeyCreate(request) => Answer::PasskeyCreated(match &self.passkeys {
                Some(passkeys) => passkeys.create(request).await,
                None => Err(PasskeyError::NotAvailable),
            }),
            Ask::PasskeyGet(request) => Answer::PasskeyGot(match &self.passkeys {
                Some(passkeys) => passkeys.get(request).await,
                None => Err(PasskeyError::NotAvailable),
            }),
            Ask::CloudToken(wanted) => Answer::CloudToken(match &self.cloud_tokens {
                Some(provider) => provider.token(&wanted).await,
                None => Err(CloudTokenError::NeedsReauth),
            }),
            Ask::CloudTokenInvalidated => {
                self.cloud_tokens.iter().for_each(|provider| provider.invalidated());
                Answer::Continue
            }
            Ask::SyncedPut { name, value } => Answer::Synced(match &self.synced_secrets {
                Some(store) => store.put(&name, &value).await,
                None => Err(SyncedError::Unavailable),
            }),
            Ask::SyncedGet(name) => Answer::SyncedItems(match &self.synced_secrets {
                Some(store) => store.get(&name).await,
                None => Err(SyncedError::Unavailable),
            }),
            Ask::SyncedDelete(name) => Answer::Synced(match &self.synced_secrets {
                Some(store) => store.delete(&name).await,
                None => Err(SyncedError::Unavailable),
            }),
            Ask::SyncedList(prefix) => Answer::SyncedNames(match &self.synced_secrets {
                Some(store) => store.list(&prefix).await,
                None => Err(SyncedError::Unavailable),
            }),
            Ask::Custom { method, call } => self.custom(&method, call).await,
            Ask::Wait(ms) => Answer::Waited(match &self.timer {
                Some(timer) => {
                    timer.wait(ms).await;
                    true
                }
                None => false,
            }),
            Ask::HoldStore => {
                *held = Some(self.held.lock().await);
                Answer::Continue
            }
            Ask::ReleaseStore => {
                *held = None;
                Answer::Continue
            }
            Ask::TokenInvalidated => {
                self.session.invalidated();
                Answer::Continue
            }
            Ask::Progress(progress) => {
                self.on_progress.iter().for_each(|tell| tell(progress));
                Answer::Continue
            }
        }
    }
}

impl Host {
    /// Only a registered method is ever asked for.
    async fn custom(&self, method: &str, call: CustomCall) -> Answer {
        let store = lock(&self.custom).get(method).cloned();
        let gone = CustomError::Unreachable;
        match call {
            CustomCall::Put { name, record } => Answer::CustomDone(match store {
                Some(store) => store.put(&name, &record).await,
                None => Err(gone),
            }),
            CustomCall::Get(name) => Answer::CustomRecords(match store {
                Some(store) => store.get(&name).await,
                None => Err(gone),
            }),
            CustomCall::Delete(name) => Answer::CustomDone(match store {
                Some(store) => store.delete(&name).await,
                None => Err(gone),
            }),
            CustomCall::List(prefix) => Answer::CustomNames(match store {
                Some(store) => store.list(&prefix).await,
                None => Err(gone),
            }),
        }
    }
}

macro_rules! outcome {
    ($running:expr, $kind:ident) => {
        match $running.await? {
            Outcome::$kind(value) => Ok(value),
            _ => Err(Error::Internal),
        }
    };
}

impl Halfkey {
    /// Begins to build: the deployment that is trusted, and who the client is.
    #[must_use]
    pub fn builder(deployment: Deployment, credentials: Credentials) -> Builder {
        Builder {
            setting: Some(deployment),
            credentials,
            store: None,
            transport: None,
            clock: None,
            prompt: None,
            passkeys: None,
            cloud_tokens: None,
            synced_secrets: None,
            timer: None,
            #[cfg(feature = "danger-insecure-evidence")]
            insecure_evidence: false,
            entropy: None,
            on_progress: None,
            platform: PlatformEnv::default(),
            device_name: None,
            network: Network::Mainnet,
            kdf: KdfParams::DEFAULT,
            policy: None,
        }
    }

    /// Runs one command; the named calls below are shorter ways to it.
    ///
    /// # Errors
    /// Whatever the command says; [`Error::OperationInProgress`] while another one changes this device's state.
    pub async fn run(&self, command: Command) -> Result<Outcome> {
        if command.shows_a_code() && self.host.prompt.is_none() {
            return Err(Error::HostIncomplete { what: "Prompt" });
        }
        let method = command.method();
        method.iter().flat_map(Method::members).try_for_each(|member| self.must_be_served(member))?;
        let _turn = self.host.turn(&command)?;
        let mut held = None;
        let (mut machine, mut step) = Machine::start(&self.setting, command);
        loop {
            match step {
                Step::Done(outcome) => return Ok(*outcome),
                Step::Failed(error) => return Err(error),
                Step::Ask { number, ask } => {
                    let answer = self.host.answer(ask, &mut held).await;
                    step = machine.resume(Event { number, answer })?;
                }
            }
        }
    }

    /// The app has given what this method asks it for.
    fn must_be_served(&self, method: &Method) -> Result<()> {
        let what = match method {
            Method::Passkey if self.host.passkeys.is_none() => "Passkeys",
            // What the platform cannot do at all is said first.
            Method::GoogleDrive | Method::ICloud if !self.setting.platform.supports(method) => return Ok(()),
            Method::GoogleDrive if self.host.cloud_tokens.is_none() => "CloudTokenProvider",
            Method::ICloud if self.host.synced_secrets.is_none() => "SyncedSecretStore",
            _ => return Ok(()),
        };
        Err(Error::HostIncomplete { what })
    }

    /// Makes the app's own store a backup method of this name, `CUSTOM:` and 1 to 32 of `A-Z`, `0-9` and `_`. It has to be
    /// registered under the same name wherever such a backup is to be opened. Another one of the name takes its place.
    ///
    /// # Errors
    /// [`Error::InvalidMethod`] for another name.
    pub fn register_backup_method(&self, name: &str, method: Arc<dyn CustomMethod>) -> Result<()> {
        self.setting.register_backup_method(name)?;
        lock(&self.host.custom).insert(name.to_owned(), method);
        Ok(())
    }

    /// Says where this app's passkeys live. Needed, with a [`Passkeys`], before any call that uses them.
    ///
    /// # Errors
    /// [`Error::UntrustedRelyingParty`] if the deployment's descriptor does not name that relying party, or its origins
    /// are impossible.
    pub fn configure_passkey_storage(&self, config: PasskeyConfig) -> Result<()> {
        self.setting.configure_passkey_storage(config)
    }

    /// Says who this app is at Google. Needed, with a [`CloudTokenProvider`], before any call that uses Google Drive.
    ///
    /// # Errors
    /// [`Error::HostIncomplete`] if a field is empty.
    pub fn configure_google_storage(&self, config: GoogleConfig) -> Result<()> {
        self.setting.configure_google_storage(config)
    }

    /// Says what holds for iCloud Keychain. Needed, with a [`SyncedSecretStore`], before any call that uses it.
    pub fn configure_icloud_storage(&self, config: ICloudConfig) {
        self.setting.configure_icloud_storage(config);
    }

    /// Records the user's word that iCloud Keychain is on: the active iCloud backup counts from now on, although no other
    /// device has read it yet.
    ///
    /// # Errors
    /// [`Error::NotBackedUp`] if there is no backup by iCloud.
    pub async fn confirm_icloud_sync(&self) -> Result<()> {
        self.run(Command::ConfirmICloudSync).await.map(|_| ())
    }

    /// The passkeys of the client's passkey backup, as this device knows them.
    ///
    /// # Errors
    /// [`Error::NotBackedUp`]; [`Error::PasskeysUnknown`] where another device made that backup.
    pub async fn passkeys(&self) -> Result<PasskeyList> {
        outcome!(self.run(Command::Passkeys), Passkeys)
    }

    /// Makes a new passkey and backs up afresh for it and for those of the backup before.
    ///
    /// # Errors
    /// As [`Halfkey::backup_wallet`]; [`Error::PasskeyExists`], [`Error::PasskeysUnknown`].
    pub async fn add_passkey(&self) -> Result<Backup> {
        let change = PasskeyBackup { mode: None, change: PasskeyChange::Add };
        self.backup_wallet(BackupMethod::Passkey(change)).await
    }

    /// Backs up afresh without this passkey: it opens nothing that counts any more.
    ///
    /// # Errors
    /// As [`Halfkey::backup_wallet`]; [`Error::UnknownPasskey`], [`Error::LastPasskey`], [`Error::PasskeysUnknown`].
    pub async fn remove_passkey(&self, id: Vec<u8>) -> Result<Backup> {
        let change = PasskeyBackup { mode: None, change: PasskeyChange::Remove(id) };
        self.backup_wallet(BackupMethod::Passkey(change)).await
    }

    /// Makes the client's wallets, one per curve, with the device half here and the server half there.
    ///
    /// # Errors
    /// [`Error::WalletAlreadyExists`] if the client has one: recover it instead.
    pub async fn create_wallet(&self) -> Result<Addresses> {
        outcome!(self.run(Command::CreateWallet), Addresses)
    }

    /// The addresses of this device's wallet.
    ///
    /// # Errors
    /// [`Error::NoWalletOnDevice`].
    pub async fn addresses(&self) -> Result<Addresses> {
        outcome!(self.run(Command::Addresses), Addresses)
    }

    /// Makes a backup pair, seals its client half and gives the key to the method. The method's older backup counts
    /// until this one is committed.
    ///
    /// # Errors
    /// [`Error::WeakSecret`], [`Error::NotConfirmed`], [`Error::OperationInProgress`] and others; nothing was changed
    /// then.
    pub async fn backup_wallet(&self, method: BackupMethod) -> Result<Backup> {
        outcome!(self.run(Command::Backup(method)), Backup)
    }

    /// Backs up with a new password; the old one opens nothing that counts any more.
    ///
    /// # Errors
    /// As [`Halfkey::backup_wallet`].
    pub async fn change_password(
        &self,
        password: crate::secret::Password,
        kind: crate::command::PasswordKind,
    ) -> Result<Backup> {
        self.backup_wallet(BackupMethod::Password { password, kind }).await
    }

    /// Backs up anew with the secret of a method whose backup was opened, such as after [`Resumed::RecoveryCompleted`].
    /// The secret is proven first; for a password this is one counted guess.
    ///
    /// # Errors
    /// As [`Halfkey::verify_backup`] and [`Halfkey::backup_wallet`].
    pub async fn renew_backup(&self, method: RecoveryMethod) -> Result<Backup> {
        outcome!(self.run(Command::RenewBackup(method)), Backup)
    }

    /// Puts a new share in the place of every banned one of this device, once the operator has reviewed the ban. Keys,
    /// addresses and backups stay. Returns the curves that were healed.
    ///
    /// # Errors
    /// [`Error::NotBanned`], [`Error::ReviewNeeded`], [`Error::OperationInProgress`] while a recovery of this device
    /// is open.
    pub async fn heal_wallet(&self) -> Result<Vec<Curve>> {
        outcome!(self.run(Command::Heal), Healed)
    }

    /// Whether a completed, proven backup exists on **every** curve, by the server's own checks.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn is_wallet_backed_up(&self) -> Result<bool> {
        outcome!(self.run(Command::IsBackedUp), Flag)
    }

    /// Whether a recovery could be begun **now, here**: the wallet is there on every curve and neither ejecting nor
    /// ejected, and at least one backup is completed, not frozen, not found broken by a drill, not locked out, and of a
    /// method that works on this platform and is configured.
    ///
    /// It promises no more than that. The policy may make a recovery wait or deny it; and unlike
    /// [`Halfkey::is_wallet_backed_up`], what may lie on one device only counts here: a passkey that is not synchronised,
    /// an iCloud record that no other device has read.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn is_wallet_recoverable(&self) -> Result<bool> {
        outcome!(self.run(Command::IsRecoverable), Flag)
    }

    /// The methods with a completed backup that work on this platform.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn available_recovery_methods(&self) -> Result<Vec<Method>> {
        outcome!(self.run(Command::RecoveryMethods), Methods)
    }

    /// The backups, method by method and curve by curve, and what they are worth together: [`crate::Protection`].
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn backup_status(&self) -> Result<BackupStatus> {
        outcome!(self.run(Command::BackupStatus), BackupStatus)
    }

    /// Proves a backup without spending it (METHODS.md H). For a password this is one counted guess.
    ///
    /// # Errors
    /// [`Error::BackupBroken`] if any part of it does not hold, with what was found on each curve; [`Error::WrongSecret`],
    /// [`Error::NotBackedUp`] and others, which say nothing about the backup.
    pub async fn verify_backup(&self, method: RecoveryMethod) -> Result<Verified> {
        outcome!(self.run(Command::Verify(method)), Verified)
    }

    /// Recovers the wallet on this device. What happens to the others has no default. Without `expected` addresses the
    /// result's identity is unconfirmed on a device that knew none.
    ///
    /// # Errors
    /// [`Error::WrongSecret`], [`Error::LockedOut`], [`Error::NotBackedUp`], [`Error::Denied`],
    /// [`Error::IdentityMismatch`], [`Error::Rollback`] and others.
    pub async fn recover_wallet(
        &self,
        method: RecoveryMethod,
        old_devices: OldDevices,
        expected: Option<Addresses>,
    ) -> Result<Recovering> {
        outcome!(self.run(Command::Recover { method, old_devices, expected }), Recovering)
    }

    /// Goes on with this device's recovery that waited or was interrupted.
    ///
    /// # Errors
    /// As [`Halfkey::recover_wallet`]; [`Error::RecoveryOver`] if there is none any more.
    pub async fn resume_recovery(&self, method: RecoveryMethod, expected: Option<Addresses>) -> Result<Recovering> {
        outcome!(self.run(Command::ResumeRecovery { method, expected }), Recovering)
    }

    /// Ejects the wallet: the private keys themselves, put together on this device from a backup's two halves. Possible
    /// only inside the window that the custodian has opened, under the same policy as a recovery. From the moment that the
    /// custodian's halves leave nothing else works with this wallet.
    ///
    /// The same call on the same device gives the keys again, until [`Halfkey::acknowledge_eject`] and 30 days after it.
    ///
    /// # Errors
    /// [`Error::EjectNotEnabled`] outside the window; [`Error::Ejecting`] if another device or method began it;
    /// [`Error::Ejected`]; and as [`Halfkey::recover_wallet`].
    pub async fn eject_private_keys(&self, method: RecoveryMethod, expected: Option<Addresses>) -> Result<Ejecting> {
        outcome!(self.run(Command::Eject { method, expected }), Ejecting)
    }

    /// Says that the ejected keys were shown and are kept. 30 days later both halves are erased.
    ///
    /// # Errors
    /// [`Error::RecoveryOver`] if this device has ejected nothing.
    pub async fn acknowledge_eject(&self) -> Result<()> {
        self.run(Command::AcknowledgeEject).await.map(|_| ())
    }

    /// Makes an exit kit: a backup of its own, whose client half lies in a file under an exit code that is shown once, and
    /// whose custodian's half the custodian keeps, sealed to its offline export key. Both together give the private keys
    /// without any server ([`crate::offline_recover`]); neither alone says anything. It recovers nothing online, and does not
    /// count as a backup.
    ///
    /// # Errors
    /// [`Error::NoExportKey`], [`Error::NotConfirmed`], and as [`Halfkey::backup_wallet`].
    pub async fn make_exit_kit(&self) -> Result<ExitKit> {
        outcome!(self.run(Command::MakeExitKit), ExitKit)
    }

    /// The client's recoveries, newest first.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn recoveries(&self) -> Result<Vec<Recovery>> {
        outcome!(self.run(Command::Recoveries), Recoveries)
    }

    /// Cancels a recovery. After its proof of possession this freezes the backup pair. Before it, this device's second
    /// cancel holds the recovery until the operator has decided.
    ///
    /// # Errors
    /// [`Error::DeviceRevoked`] and others.
    pub async fn cancel_recovery(&self, recovery: RecoveryId) -> Result<Cancelled> {
        outcome!(self.run(Command::CancelRecovery(recovery)), Cancelled)
    }

    /// Signs a payload that can be decoded. Device and server each decode it and sign what they computed themselves.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`], [`Error::NoWalletOnDevice`], [`Error::DeviceRevoked`], [`Error::Banned`].
    pub async fn sign(&self, payload: Payload) -> Result<SignOutcome> {
        outcome!(self.run(Command::Sign(payload)), Signed).map(|signed| *signed)
    }

    /// Signs 32 bytes that nobody can read: whoever chooses them can have anything signed. Only where the deployment
    /// allows it.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] where it does not.
    pub async fn danger_sign_digest(&self, curve: Curve, digest: [u8; 32]) -> Result<SignOutcome> {
        outcome!(self.run(Command::DangerSignDigest { curve, digest }), Signed).map(|signed| *signed)
    }

    /// The client's devices, revoked ones included.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn devices(&self) -> Result<Vec<Device>> {
        outcome!(self.run(Command::Devices), Devices)
    }

    /// Revokes a device: it can do nothing any more. The server's half of its share is erased once a copy is safe.
    ///
    /// # Errors
    /// [`Error::LastProtection`] for the wallet's last device.
    pub async fn revoke_device(&self, device: DeviceId) -> Result<()> {
        self.run(Command::RevokeDevice(device)).await.map(|_| ())
    }

    /// Removes a method's backup: refused at once. The custodian's half is erased once a copy is safe.
    ///
    /// # Errors
    /// [`Error::LastProtection`] for the last proven backup.
    pub async fn remove_backup_method(&self, method: Method) -> Result<()> {
        self.run(Command::RemoveBackupMethod(method)).await.map(|_| ())
    }

    /// Whether the client has a wallet, on whatever device.
    ///
    /// # Errors
    /// Transport and session errors.
    pub async fn does_wallet_exist(&self) -> Result<bool> {
        outcome!(self.run(Command::DoesWalletExist), Flag)
    }

    /// Whether this device has a share of the wallet. Asks no server.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn is_wallet_on_device(&self) -> Result<bool> {
        outcome!(self.run(Command::IsWalletOnDevice), Flag)
    }

    /// Finishes or discards what a crash left. Call it at every start of the app.
    ///
    /// # Errors
    /// Transport, session and storage errors; it may be called again.
    pub async fn resume(&self) -> Result<Resumed> {
        outcome!(self.run(Command::Resume), Resumed)
    }
}
