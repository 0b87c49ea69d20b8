//! What an app can ask for, and what it gets.

use std::sync::Arc;

use halfkey_api::{
    chain::Addresses,
    message::{BackupStatus, Device, DrillLevel, OldDevices, Protection, Recovery, StepUp},
    signing::{Payload, Signed},
};
use halfkey_envelope::{
    id::{BackupId, DeviceId, PairId, RecoveryId},
    passkey::Mode,
    wallet::{Curve, Method},
};

use crate::{
    cloud::{self, Cloud},
    eject::PrivateKeys,
    error::Result,
    exit_kit::ExitKit,
    port::Port,
    secret::{CodeText, Password},
    together::Together,
};

/// A password of any kind, or a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PasswordKind {
    /// A password, passcode or any other text.
    Password,
    /// Decimal digits of any script.
    Pin,
}

/// How to back up.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupMethod {
    /// Behind the guess-limited door.
    Password {
        /// As typed.
        password: Password,
        /// How it is normalised and which policy holds.
        kind: PasswordKind,
    },
    /// A code that the SDK makes and shows once, through [`crate::host::Prompt`].
    RecoveryCode,
    /// The user's passkeys, through [`crate::host::Passkeys`].
    Passkey(PasskeyBackup),
    /// A file in the user's Google Drive, through [`crate::host::CloudTokenProvider`].
    GoogleDrive,
    /// An item in the user's iCloud Keychain, through [`crate::host::SyncedSecretStore`].
    ICloud,
    /// A method of the app's own, by the name under which it was registered, through [`crate::host::CustomMethod`].
    Custom(String),
    /// Several methods together: [`BackupMethod::all_of`].
    AllOf(Together<Self>),
}

/// What a passkey backup is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PasskeyBackup {
    /// What will be needed to open it. `None`: as the backup before, or a keeper where there is none before.
    pub mode: Option<Mode>,
    /// Whose passkeys will open it.
    pub change: PasskeyChange,
}

/// Which passkeys a new passkey backup is sealed for. Whatever the change, it is a fresh backup, with new halves: a
/// passkey that is not among them opens nothing that counts any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PasskeyChange {
    /// Those of the backup before; a new one where there is none before.
    #[default]
    Keep,
    /// Those of the backup before, and a new one.
    Add,
    /// Those of the backup before, without this one (its credential id).
    Remove(Vec<u8>),
    /// A new one and no other: those of the backup before are dropped.
    Replace,
}

/// A passkey of a backup, as this device knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyInfo {
    /// The credential's id.
    pub id: Vec<u8>,
    /// The name of the device that made it.
    pub name: String,
    /// Whether its provider keeps a copy elsewhere. If not, it is lost with the device that holds it.
    pub synced: bool,
    /// When it was made, in milliseconds.
    pub created_at: u64,
}

/// The passkeys of the client's backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyList {
    /// The backup.
    pub backup_id: BackupId,
    /// What is needed to open it besides one of them.
    pub mode: Mode,
    /// The relying party that they belong to.
    pub relying_party_id: String,
    /// None of them is kept elsewhere: if their devices are lost, so is this backup.
    pub device_bound: bool,
    /// Any one of them opens it.
    pub passkeys: Vec<PasskeyInfo>,
}

impl BackupMethod {
    /// The method's name on the wire.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Password { .. } => Method::Password,
            Self::RecoveryCode => Method::RecoveryCode,
            Self::Passkey(_) => Method::Passkey,
            Self::GoogleDrive => Method::GoogleDrive,
            Self::ICloud => Method::ICloud,
            Self::Custom(name) => Method::Custom(name.clone()),
            Self::AllOf(together) => Method::AllOf(together.set().clone()),
        }
    }
}

/// How to open a backup.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoveryMethod {
    /// A password or PIN: which of both is known from the registration.
    Password(Password),
    /// A recovery code.
    RecoveryCode(CodeText),
    /// One of the backup's passkeys, through [`crate::host::Passkeys`].
    Passkey,
    /// The user's Google Drive, through [`crate::host::CloudTokenProvider`].
    GoogleDrive,
    /// The user's iCloud Keychain, through [`crate::host::SyncedSecretStore`].
    ICloud,
    /// A method of the app's own, by the name under which it was registered, through [`crate::host::CustomMethod`].
    Custom(String),
    /// Several methods together: [`RecoveryMethod::all_of`].
    AllOf(Together<Self>),
}

impl RecoveryMethod {
    /// The method's name on the wire.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Password(_) => Method::Password,
            Self::RecoveryCode(_) => Method::RecoveryCode,
            Self::Passkey => Method::Passkey,
            Self::GoogleDrive => Method::GoogleDrive,
            Self::ICloud => Method::ICloud,
            Self::Custom(name) => Method::Custom(name.clone()),
            Self::AllOf(together) => Method::AllOf(together.set().clone()),
        }
    }
}

/// A committed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The method that holds its key.
    pub method: Method,
    /// The backup.
    pub backup_id: BackupId,
    /// The envelope: the sealed client halves. Worthless without the method; the app may keep a copy.
    pub cipher_text: Vec<u8>,
    /// The backup pairs, in the order of the curves.
    pub share_ids: Vec<PairId>,
    /// When the server committed it, in milliseconds.
    pub committed_at: u64,
    /// The method's key lies on one device only (a passkey that is not synchronised): if that device is lost, so is
    /// this backup. The wallet does not count as backed up by it.
    pub device_bound: bool,
    /// How safe the wallet is with this backup, by the server's word: where it is at risk still, offer a second method.
    /// Absent if the server could not tell.
    pub protection: Option<Protection>,
}

/// A backup that was proven without spending it (METHODS.md H).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The method.
    pub method: Method,
    /// The backup.
    pub backup_id: BackupId,
    /// Every curve, with the four parts of the drill, all of which held.
    pub curves: Vec<CurveDrill>,
    /// In milliseconds.
    pub verified_at: u64,
}

/// What was found of one part of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// It holds.
    Held,
    /// It does not: a stable word says why.
    Failed(&'static str),
    /// It was not reached: an earlier part failed.
    Unknown,
}

/// The four parts of a drill on one curve, L1 to L4 of METHODS.md H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurveDrill {
    /// The curve.
    pub curve: Curve,
    /// L1: the method holds the key of the stored envelope.
    pub method_key: Held,
    /// L2: the envelope opens, and the client's half fits its public point.
    pub client_share: Held,
    /// L3: the custodian proved that it knows its half.
    pub custodian_share: Held,
    /// L4: both public points add up to the public key of this device's wallet.
    pub public_key: Held,
}

impl CurveDrill {
    pub(crate) const fn new(curve: Curve) -> Self {
        let unknown = Held::Unknown;
        Self { curve, method_key: unknown, client_share: unknown, custodian_share: unknown, public_key: unknown }
    }

    /// The parts in their order.
    #[must_use]
    pub const fn parts(&self) -> [(DrillLevel, Held); 4] {
        [
            (DrillLevel::MethodKey, self.method_key),
            (DrillLevel::ClientShare, self.client_share),
            (DrillLevel::CustodianShare, self.custodian_share),
            (DrillLevel::PublicKey, self.public_key),
        ]
    }
}

/// A drill that found that a backup does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenBackup {
    /// The method.
    pub method: Method,
    /// The backup.
    pub backup_id: BackupId,
    /// Of a set: the member whose part does not hold, where it is one member's fault.
    pub member: Option<Method>,
    /// What was found, curve by curve.
    pub curves: Vec<CurveDrill>,
}

impl BrokenBackup {
    /// The first part that failed, and the curves on which it did.
    #[must_use]
    pub fn first(&self) -> Option<(DrillLevel, Vec<Curve>)> {
        let failed_at = |drill: &CurveDrill, level| {
            drill.parts().iter().any(|(part, held)| *part == level && matches!(held, Held::Failed(_)))
        };
        DrillLevel::ALL.into_iter().find_map(|level| {
            let curves: Vec<_> = self.curves.iter().filter(|one| failed_at(one, level)).map(|one| one.curve).collect();
            (!curves.is_empty()).then_some((level, curves))
        })
    }
}

/// Whether the recovered wallet is known to be the one that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Its addresses are the expected ones.
    Confirmed,
    /// The caller named no addresses, and this device knew none.
    Unconfirmed,
}

/// A finished recovery: this device signs again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The wallet's addresses.
    pub addresses: Addresses,
    /// Whether they are the expected ones.
    pub identity: Identity,
    /// The fresh backup with the same method: the used one was opened and counts no longer as secret. If it failed,
    /// the wallet is recovered all the same, and the app backs up again.
    pub fresh_backup: Result<Backup>,
}

/// What `recover_wallet` came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovering {
    /// This device signs again.
    Recovered(Box<Recovered>),
    /// The deployment's policy lets some time pass first. The method was not opened and no secret is kept; call
    /// `resume_recovery` with the method when the time has come.
    Waiting {
        /// The recovery.
        recovery_id: RecoveryId,
        /// Until when, in milliseconds.
        until: u64,
    },
    /// The custodian asks a step of the user outside of this SDK, such as showing a document. The method was not opened. Show
    /// what is asked for; call `resume_recovery` when the user comes back. It ends by itself at `step_up.until`.
    ///
    /// The text and the address are the server's word: an app opens only addresses of its own custodian.
    StepUpRequired {
        /// The recovery.
        recovery_id: RecoveryId,
        /// What is asked for.
        step_up: StepUp,
    },
    /// A device of this client has cancelled a recovery for the second time, so the operator decides whether this one
    /// goes on. The method was not opened; call `resume_recovery` later.
    Undecided {
        /// The recovery.
        recovery_id: RecoveryId,
    },
}

/// What `eject_private_keys` came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Ejecting {
    /// The private keys, compared with the wallet's addresses. Show and keep them, then call `acknowledge_eject`; until
    /// then, and for 30 days after, the same call on this device gives them again.
    Keys(Arc<PrivateKeys>),
    /// The deployment's policy lets some time pass first. Ask the custodian for a window when the time has come, and call
    /// again.
    Waiting {
        /// The eject.
        eject_id: RecoveryId,
        /// Until when, in milliseconds.
        until: u64,
    },
    /// The custodian asks a step of the user outside of this SDK first, as in [`Recovering::StepUpRequired`].
    StepUpRequired {
        /// The eject.
        eject_id: RecoveryId,
        /// What is asked for.
        step_up: StepUp,
    },
    /// The operator decides whether it goes on.
    Undecided {
        /// The eject.
        eject_id: RecoveryId,
    },
}

/// What a cancel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// The recovery is over.
    Over,
    /// This device has cancelled one before: the recovery is held until the operator has decided.
    OperatorDecides,
}

/// What `resume` found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumed {
    /// Nothing was left over.
    Nothing,
    /// A half-made wallet that the server had completed is now this device's.
    WalletCompleted,
    /// A half-made wallet was discarded; `create_wallet` starts anew.
    WalletDiscarded,
    /// A backup that had not been committed was discarded.
    BackupDiscarded(Method),
    /// A backup whose receipt was lost had been committed.
    BackupCompleted(Method),
    /// A recovery that the server had completed is now this device's wallet. The backup that it used was opened: give
    /// its secret to `renew_backup`, or back up anew.
    RecoveryCompleted,
    /// A recovery still waits or can go on: call `resume_recovery` with the method.
    RecoveryOpen {
        /// The recovery.
        recovery_id: RecoveryId,
        /// The method that opens it.
        method: Method,
        /// Until when it waits, in milliseconds.
        until: Option<u64>,
    },
    /// A recovery was over without effect and was discarded.
    RecoveryDiscarded,
    /// An eject waits, can go on, or is not acknowledged: call `eject_private_keys` with the method again.
    EjectOpen {
        /// The eject.
        eject_id: RecoveryId,
        /// The method that opens the backup.
        method: Method,
        /// Until when it waits, in milliseconds.
        until: Option<u64>,
    },
    /// An eject was over without effect and was discarded.
    EjectDiscarded,
    /// The healing of a banned share was carried to its end: this curve signs again.
    Healed(Curve),
    /// The healing of a banned share was over without effect and was discarded; the share is banned still.
    HealDiscarded(Curve),
}

/// A finished signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOutcome {
    /// The curve.
    pub curve: Curve,
    /// `r ‖ s` (low-S) or `R ‖ S`, 64 bytes.
    pub signature: [u8; 64],
    /// secp256k1 only: bit 0 says whether y is odd, bit 1 whether x was reduced.
    pub recovery_id: Option<u8>,
    /// What the chain takes, where the payload is a transaction or message of one. Absent for a bare digest.
    pub signed: Option<Signed>,
}

/// One thing to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Make the client's wallets: one per curve.
    CreateWallet,
    /// The addresses of this device's wallet.
    Addresses,
    /// Back up.
    Backup(BackupMethod),
    /// Back up anew by a method whose backup was opened.
    RenewBackup(RecoveryMethod),
    /// Put a new share in the place of every banned one.
    Heal,
    /// Whether a completed, proven backup exists on every curve.
    IsBackedUp,
    /// Whether a recovery could be begun here and now.
    IsRecoverable,
    /// The methods that can recover here and now.
    RecoveryMethods,
    /// Method by method, curve by curve.
    BackupStatus,
    /// The passkeys of the client's passkey backup.
    Passkeys,
    /// Prove a backup without spending it.
    Verify(RecoveryMethod),
    /// Recover.
    Recover {
        /// How to open the backup.
        method: RecoveryMethod,
        /// What happens to the other devices.
        old_devices: OldDevices,
        /// The addresses that the wallet must have.
        expected: Option<Addresses>,
    },
    /// Go on with a recovery that waited or was interrupted.
    ResumeRecovery {
        /// How to open the backup.
        method: RecoveryMethod,
        /// The addresses that the wallet must have.
        expected: Option<Addresses>,
    },
    /// The private keys themselves, inside the custodian's window; also to repeat that.
    Eject {
        /// How to open the backup.
        method: RecoveryMethod,
        /// The addresses that the wallet must have.
        expected: Option<Addresses>,
    },
    /// The ejected keys were shown and kept.
    AcknowledgeEject,
    /// Make an exit kit.
    MakeExitKit,
    /// The client's recoveries, newest first.
    Recoveries,
    /// Cancel a recovery that somebody asked for.
    CancelRecovery(RecoveryId),
    /// Sign a payload that can be decoded.
    Sign(Payload),
    /// Sign 32 bytes that nobody can read. Only where the deployment allows it.
    DangerSignDigest {
        /// The curve.
        curve: Curve,
        /// The bytes.
        digest: [u8; 32],
    },
    /// The client's devices.
    Devices,
    /// Revoke a device: its share is erased at the server.
    RevokeDevice(DeviceId),
    /// Remove a method's backup.
    RemoveBackupMethod(Method),
    /// The user has confirmed that iCloud Keychain is on.
    ConfirmICloudSync,
    /// Whether the client has a wallet, anywhere.
    DoesWalletExist,
    /// Whether this device has a share of it.
    IsWalletOnDevice,
    /// Finish or discard what a crash left.
    Resume,
}

impl Command {
    /// The method whose backup is made or opened, where the command names one.
    pub(crate) fn method(&self) -> Option<Method> {
        match self {
            Self::Backup(method) => Some(method.method()),
            Self::RenewBackup(method)
            | Self::Verify(method)
            | Self::Recover { method, .. }
            | Self::ResumeRecovery { method, .. }
            | Self::Eject { method, .. } => Some(method.method()),
            _ => None,
        }
    }

    /// Whether a new code is shown to the user and typed back.
    pub(crate) fn shows_a_code(&self) -> bool {
        match self {
            Self::Backup(method) => method.method().needs(&Method::RecoveryCode),
            Self::MakeExitKit => true,
            _ => false,
        }
    }

    /// Whether it changes the device's state: only one such runs at a time.
    #[must_use]
    pub const fn is_exclusive(&self) -> bool {
        matches!(
            self,
            Self::CreateWallet
                | Self::Backup(_)
                | Self::RenewBackup(_)
                | Self::Heal
                | Self::Verify(_)
                | Self::Recover { .. }
                | Self::ResumeRecovery { .. }
                | Self::Eject { .. }
                | Self::AcknowledgeEject
                | Self::MakeExitKit
                | Self::RemoveBackupMethod(_)
                | Self::Resume
        )
    }
}

/// The result of a [`Command`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    Unit,
    /// Yes or no.
    Flag(bool),
    /// Addresses.
    Addresses(Addresses),
    /// Methods.
    Methods(Vec<Method>),
    /// Backup status.
    BackupStatus(BackupStatus),
    /// Passkeys.
    Passkeys(PasskeyList),
    /// A committed backup.
    Backup(Backup),
    /// A proven backup.
    Verified(Verified),
    /// A recovery.
    Recovering(Recovering),
    /// An eject.
    Ejecting(Ejecting),
    /// The user's part of an exit kit.
    ExitKit(ExitKit),
    /// What a cancel came to.
    Cancelled(Cancelled),
    /// Recoveries.
    Recoveries(Vec<Recovery>),
    /// A signature.
    Signed(Box<SignOutcome>),
    /// Devices.
    Devices(Vec<Device>),
    /// The curves whose share was healed.
    Healed(Vec<Curve>),
    /// What was left over.
    Resumed(Resumed),
}

/// Runs one command to its end.
pub(crate) async fn run(port: Port, command: Command) -> Result<Outcome> {
    let port = &port;
    if let Some(method) = command.method() {
        for cloud in Cloud::all_of(&method) {
            port.setting.platform.check(&method)?;
            cloud::must_be_configured(port, &cloud)?;
        }
    }
    Ok(match command {
        Command::CreateWallet => Outcome::Addresses(crate::create::create_wallet(port).await?),
        Command::Addresses => Outcome::Addresses(crate::status::addresses(port).await?),
        Command::Backup(method) => Outcome::Backup(crate::backup::backup_wallet(port, method).await?),
        Command::RenewBackup(method) => {
            port.setting.platform.check(&method.method())?;
            port.begin(11);
            let backup = crate::recover::renew_backup(port, &method).await?;
            port.all_done().await?;
            Outcome::Backup(backup)
        }
        Command::Heal => Outcome::Healed(crate::heal::heal_wallet(port).await?),
        Command::IsBackedUp => Outcome::Flag(crate::status::backup_status(port).await?.backed_up),
        Command::IsRecoverable => Outcome::Flag(crate::status::is_recoverable(port).await?),
        Command::RecoveryMethods => Outcome::Methods(crate::status::recovery_methods(port).await?),
        Command::BackupStatus => Outcome::BackupStatus(crate::status::backup_status(port).await?),
        Command::Passkeys => Outcome::Passkeys(crate::passkey::list(port).await?),
        Command::Verify(method) => Outcome::Verified(crate::verify::verify_backup(port, method).await?),
        Command::Recover { method, old_devices, expected } => {
            Outcome::Recovering(crate::recover::recover_wallet(port, method, old_devices, expected).await?)
        }
        Command::ResumeRecovery { method, expected } => {
            Outcome::Recovering(crate::recover::resume_recovery(port, method, expected).await?)
        }
        Command::Eject { method, expected } => {
            Outcome::Ejecting(crate::eject::eject_private_keys(port, method, expected).await?)
        }
        Command::AcknowledgeEject => {
            crate::eject::acknowledge(port).await?;
            Outcome::Unit
        }
        Command::MakeExitKit => Outcome::ExitKit(crate::exit_kit::make_exit_kit(port).await?),
        Command::Recoveries => Outcome::Recoveries(crate::status::recoveries(port).await?),
        Command::CancelRecovery(id) => Outcome::Cancelled(crate::recover::cancel_recovery(port, id).await?),
        Command::Sign(payload) => Outcome::Signed(Box::new(crate::sign::sign(port, payload).await?)),
        Command::DangerSignDigest { curve, digest } => {
            Outcome::Signed(Box::new(crate::sign::danger_sign_digest(port, curve, digest).await?))
        }
        Command::Devices => Outcome::Devices(crate::devices::list(port).await?),
        Command::RevokeDevice(id) => {
            crate::devices::revoke(port, id).await?;
            Outcome::Unit
        }
        Command::RemoveBackupMethod(method) => {
            crate::devices::remove_backup_method(port, method).await?;
            Outcome::Unit
        }
        Command::ConfirmICloudSync => {
            crate::cloud::confirm_icloud(port).await?;
            Outcome::Unit
        }
        Command::DoesWalletExist => Outcome::Flag(crate::status::does_wallet_exist(port).await?),
        Command::IsWalletOnDevice => Outcome::Flag(crate::status::is_wallet_on_device(port).await?),
        Command::Resume => Outcome::Resumed(crate::resume::resume(port).await?),
    })
}
