//! Errors are advice: every variant says what the caller can do next. The codes are stable and the same in every
//! language; no variant carries a secret.

use halfkey_envelope::{
    id::BackupId,
    text::{TextError, Weakness},
    wallet::{Curve, Method},
};

use crate::{
    command::BrokenBackup,
    host::{StoreError, TransportError},
    platform::Platform,
    step::HostError,
};

/// What went wrong, as advice.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the right password, PIN or code.
    #[error("wrong secret")]
    WrongSecret {
        /// Guesses left, where they are counted.
        remaining: Option<u32>,
        /// How long the next guess must wait, in milliseconds.
        retry_after: Option<u64>,
    },
    /// No guess is left: this backup is gone. Another method, or a device that still signs, gets the wallet back.
    #[error("locked out")]
    LockedOut,
    /// The password or PIN is too easy to guess, or cannot be used as one.
    #[error("the secret is too weak")]
    WeakSecret(WeakReason),
    /// What was typed is no recovery code: a typing error, found by its check symbol.
    #[error("not a recovery code")]
    NotACode,
    /// The new recovery code was not confirmed. Nothing was changed.
    #[error("not confirmed")]
    NotConfirmed,
    /// There is no completed backup by this method.
    #[error("not backed up")]
    NotBackedUp,
    /// The session has ended.
    #[error("sign in again")]
    SignInAgain,
    /// Nothing was lost; try the same call again.
    #[error("try again")]
    Retry {
        /// Not sooner than after so many milliseconds.
        after: Option<u64>,
    },
    /// Another operation on this wallet is running, here or on another device.
    #[error("another operation is running")]
    OperationInProgress,
    /// The server speaks a version that this SDK does not know.
    #[error("upgrade required")]
    UpgradeRequired,
    /// The server, custodian or keeper sent what no honest one sends. Do not go on; report it. If it concerned the
    /// signing share, that share is banned on this device, and a recovery or a healing makes a new one.
    #[error("the peer misbehaved: {what}")]
    PeerMisbehaved {
        /// Which check failed: a stable word.
        what: &'static str,
    },
    /// The signing share of this device is banned after its peer misbehaved.
    #[error("this device's share is banned")]
    Banned,
    /// No share of this device is banned: there is nothing to heal.
    #[error("no share of this device is banned")]
    NotBanned,
    /// The operator has not reviewed the ban yet.
    #[error("the operator has to review the ban first")]
    ReviewNeeded,
    /// The pair is frozen after a recovery was cancelled; only the operator can thaw it.
    #[error("the share pair is frozen")]
    Frozen,
    /// The custodian has opened no window for an eject, or it is closed.
    #[error("no window for an eject is open")]
    EjectNotEnabled,
    /// The wallet is being ejected: nothing else works. Repeat the eject on the device that began it.
    #[error("the wallet is being ejected")]
    Ejecting,
    /// The wallet was ejected: its owner has the private keys.
    #[error("the wallet was ejected")]
    Ejected,
    /// The deployment's descriptor has no export key of the custodian: an exit kit could be opened by nobody.
    #[error("this deployment has no export key")]
    NoExportKey,
    /// The parts of an exit kit do not fit together.
    #[error("the exit kit was refused: {code}")]
    ExitKit {
        /// Which part: `USER_FILE`, `CUSTODIAN_FILE`, `OTHER_BACKUP` or `EXPORT_KEY`.
        code: &'static str,
    },
    /// The server gave an older or another backup than the method witnesses.
    #[error("rollback: have {have}, want {want}")]
    Rollback {
        /// What the server gave.
        have: BackupId,
        /// What the method or this device witnesses.
        want: BackupId,
    },
    /// This device's clock is too far from the server's: nothing that is signed is accepted. Ask the user to set date
    /// and time, then try again. What the server says of the time is unproven: show it, never set a clock by it.
    #[error("this device's clock is wrong")]
    ClockSkew {
        /// The server's time, in milliseconds.
        server_time: u64,
    },
    /// A drill found that the backup does not hold. It does not count as one any more.
    #[error("the {} backup does not hold", .0.method)]
    BackupBroken(Box<BrokenBackup>),
    /// The custodian's half of the backup does not open: the backup cannot be used.
    #[error("the custodian's half of this backup does not open")]
    CustodianShareBroken {
        /// On these curves.
        curves: Vec<Curve>,
    },
    /// The recovered wallet is not the expected one: other addresses, or another deployment or client.
    #[error("another wallet than expected")]
    IdentityMismatch,
    /// The client has a wallet already.
    #[error("wallet already exists")]
    WalletAlreadyExists,
    /// This device has no share of a wallet: create or recover first.
    #[error("no wallet on this device")]
    NoWalletOnDevice,
    /// This device was revoked.
    #[error("this device was revoked")]
    DeviceRevoked,
    /// The policy of the deployment denied the recovery.
    #[error("denied by policy")]
    Denied,
    /// The recovery was cancelled or has expired: begin a new one.
    #[error("the recovery is over")]
    RecoveryOver,
    /// It would leave the wallet without protection.
    #[error("this is the last protection of the wallet")]
    LastProtection,
    /// The method cannot be used here.
    #[error("{method} is not available on {platform:?}")]
    UnsupportedPlatform {
        /// The method.
        method: Method,
        /// Where this runs.
        platform: Platform,
        /// What can be used instead.
        alternatives: Vec<Method>,
    },
    /// The user closed the sheet. Nothing was changed; the older backup still opens.
    #[error("cancelled by the user")]
    Cancelled,
    /// None of the backup's passkeys is on this device.
    #[error("no passkey of this backup is on this device")]
    NoPasskey {
        /// The other methods that can recover this wallet here.
        others: Vec<Method>,
    },
    /// This authenticator already holds a passkey of this backup.
    #[error("this authenticator already holds a passkey of this backup")]
    PasskeyExists,
    /// The passkey cannot derive secrets (WebAuthn `prf`), or gives nothing usable.
    #[error("this passkey cannot derive secrets")]
    PrfUnsupported,
    /// The passkey derived another secret than before. Nothing is sealed under a secret that changes.
    #[error("the passkey derives another secret than before")]
    PrfDiffers,
    /// What the passkey or its platform gave was refused on this device.
    #[error("the passkey's answer was refused: {code}")]
    PasskeyRefused {
        /// Which check failed: a stable word, such as `USER_NOT_VERIFIED`.
        code: &'static str,
    },
    /// The system's passkey sheet failed.
    #[error("the passkey could not be used")]
    PasskeyFailed,
    /// No such passkey in this backup.
    #[error("no such passkey in this backup")]
    UnknownPasskey,
    /// The backup would be left without a passkey.
    #[error("the last passkey of the backup")]
    LastPasskey,
    /// More passkeys than one backup can have, or longer ones.
    #[error("too many passkeys")]
    TooManyPasskeys,
    /// Another device made the backup, or it is of another relying party: this device does not know all of its
    /// passkeys, and a new backup would drop them.
    #[error("this device does not know the passkeys of the backup")]
    PasskeysUnknown,
    /// What was asked for needs the user's passkeys, and this call asks nobody.
    #[error("the user's passkeys are needed")]
    PromptNeeded,
    /// The backup's passkeys belong to another relying party than the configured one.
    #[error("passkeys of another relying party: {relying_party_id}")]
    OtherRelyingParty {
        /// As the backup names it.
        relying_party_id: String,
    },
    /// The relying party is not one that the deployment's descriptor trusts, or its origins are impossible.
    #[error("the relying party is not in the deployment's descriptor")]
    UntrustedRelyingParty,
    /// The deployment has no keeper for passkeys.
    #[error("this deployment has no keeper for passkeys")]
    NoKeeper,
    /// The keeper did not show that it is what the deployment's policy asks for. Nothing was sealed to it.
    #[error("the keeper's evidence was refused: {reason}")]
    EvidenceRefused {
        /// Which check failed: a stable word, such as `INSECURE_DEV` or `OTHER_KEY`.
        reason: &'static str,
    },
    /// The keeper did not release the key. Nothing was released to anybody.
    #[error("the keeper refused: {code}")]
    KeeperRefused {
        /// Why: a stable word.
        code: &'static str,
    },
    /// The user's consent to the use of the cloud has ended. Says nothing of whether a backup is there.
    #[error("the user has to sign in to the cloud again")]
    NeedsReauth,
    /// The backup lies in another account of the user's than the one that is signed in.
    #[error("the backup lies in another account: {hint}")]
    AccountMismatch {
        /// A masked label of the right one, as the device that made the backup stated it. Only to be shown.
        hint: String,
    },
    /// The user's cloud is full. Nothing was changed; the older backup still opens.
    #[error("the user's cloud is full")]
    QuotaExceeded,
    /// The cloud, or the keychain, does not answer. Says nothing of whether a backup is there.
    #[error("the cloud cannot be reached")]
    CloudUnreachable,
    /// The user's cloud was read to its end and has no record of this backup: deleted there, or not yet synchronised.
    #[error("the cloud has no record of this backup")]
    CloudRecordNotFound,
    /// What lies in the user's cloud under this backup's name is not what was put there.
    #[error("the record in the cloud is damaged")]
    CloudRecordDamaged,
    /// The keychain is locked.
    #[error("the keychain is locked")]
    CloudLocked,
    /// The app was built without the entitlement to use the keychain.
    #[error("the app may not use the keychain")]
    CloudNotEntitled,
    /// The cloud does not do what was asked.
    #[error("the cloud refused: {code}")]
    CloudRefused {
        /// Why: a stable word.
        code: &'static str,
    },
    /// One member of a set failed, so the whole does not open. What it came to, and what to do, is the member's own error:
    /// [`Error::cause`].
    #[error("{member}: {error}")]
    Member {
        /// The member.
        member: Method,
        /// What it came to.
        error: Box<Self>,
    },
    /// The app has registered no backup method of this name.
    #[error("no method {method} is registered")]
    MethodNotRegistered {
        /// The method.
        method: Method,
    },
    /// There is no such backup method, and cannot be.
    #[error("not a backup method: {code}")]
    InvalidMethod {
        /// Why: a stable word. `NAME`: the name of an app's own method has 1 to 32 of `A-Z`, `0-9` and `_`.
        /// `MEMBER_COUNT`, `MEMBER_TWICE`, `NOT_A_MEMBER`, `TWO_BESIDE_THE_ENVELOPE`: these methods make no set.
        code: &'static str,
    },
    /// The payload cannot be decoded, or this deployment does not sign such things.
    #[error("the payload cannot be signed")]
    InvalidPayload,
    /// The app did not give the SDK something that this call needs.
    #[error("the app does not provide {what}")]
    HostIncomplete {
        /// The name of the trait or setting.
        what: &'static str,
    },
    /// The host of a step machine broke the rules.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The device's store does not work.
    #[error("storage: {0}")]
    Storage(StorageReason),
    /// No answer from the server.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The deployment descriptor cannot be used.
    #[error("the deployment descriptor is not valid")]
    InvalidDescriptor,
    /// The server does not accept the request, or there is no such thing.
    #[error("refused: {id}")]
    Refused {
        /// The server's error id.
        id: String,
    },
    /// A fault of this library.
    #[error("internal error")]
    Internal,
}

/// Why a password or PIN is not taken.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum WeakReason {
    /// It cannot be used as a password or PIN at all.
    Unusable(TextError),
    /// It is too easy to guess.
    Weak(Weakness),
}

/// What is wrong with the device's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageReason {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The wrapping key is gone or another one: what the device kept cannot be read. Recover the wallet.
    #[error("the wrapping key does not open the stored share")]
    WrappingKey,
    /// The stored bytes are damaged. Recover the wallet.
    #[error("the stored share is damaged")]
    Damaged,
    /// Written by a newer version of the SDK.
    #[error("the stored share is of a newer version")]
    NewerVersion,
    /// It belongs to another deployment or client.
    #[error("the stored share belongs to another deployment or client")]
    OtherOwner,
}

impl Error {
    /// Of a set's member its own error, and otherwise this one.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::Member { error, .. } => error.cause(),
            other => other,
        }
    }

    /// Of a set: the member that failed.
    #[must_use]
    pub const fn member(&self) -> Option<&Method> {
        match self {
            Self::Member { member, .. } => Some(member),
            _ => None,
        }
    }

    /// The same, as a set says it. What is no method's fault stays as it is.
    pub(crate) fn of_member(self, member: &Method) -> Self {
        match self {
            Self::Transport(_)
            | Self::SignInAgain
            | Self::OperationInProgress
            | Self::ClockSkew { .. }
            | Self::DeviceRevoked
            | Self::Refused { .. }
            | Self::Storage(_)
            | Self::Host(_)
            | Self::Internal => self,
            error => Self::Member { member: member.clone(), error: Box::new(error) },
        }
    }

    /// The stable code, the same in every language.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongSecret { .. } => "WRONG_SECRET",
            Self::LockedOut => "LOCKED_OUT",
            Self::WeakSecret(_) => "WEAK_SECRET",
            Self::NotACode => "NOT_A_CODE",
            Self::NotConfirmed => "NOT_CONFIRMED",
            Self::NotBackedUp => "NOT_BACKED_UP",
            Self::SignInAgain => "SIGN_IN_AGAIN",
            Self::Retry { .. } => "RETRY",
            Self::OperationInProgress => "OPERATION_IN_PROGRESS",
            Self::UpgradeRequired => "UPGRADE_REQUIRED",
            Self::PeerMisbehaved { .. } => "PEER_MISBEHAVED",
            Self::Banned => "BANNED",
            Self::NotBanned => "NOT_BANNED",
            Self::ReviewNeeded => "REVIEW_NEEDED",
            Self::Frozen => "FROZEN",
            Self::EjectNotEnabled => "EJECT_NOT_ENABLED",
            Self::Ejecting => "EJECTING",
            Self::Ejected => "EJECTED",
            Self::NoExportKey => "NO_EXPORT_KEY",
            Self::ExitKit { .. } => "EXIT_KIT",
            Self::Rollback { .. } => "ROLLBACK",
            Self::ClockSkew { .. } => "CLOCK_SKEW",
            Self::BackupBroken(_) => "BACKUP_BROKEN",
            Self::CustodianShareBroken { .. } => "CUSTODIAN_SHARE_BROKEN",
            Self::IdentityMismatch => "IDENTITY_MISMATCH",
            Self::WalletAlreadyExists => "WALLET_ALREADY_EXISTS",
            Self::NoWalletOnDevice => "NO_WALLET_ON_DEVICE",
            Self::DeviceRevoked => "DEVICE_REVOKED",
            Self::Denied => "DENIED",
            Self::RecoveryOver => "RECOVERY_OVER",
            Self::LastProtection => "LAST_PROTECTION",
            Self::UnsupportedPlatform { .. } => "UNSUPPORTED_PLATFORM",
            Self::Cancelled => "CANCELLED",
            Self::NoPasskey { .. } => "NO_PASSKEY",
            Self::PasskeyExists => "PASSKEY_EXISTS",
            Self::PrfUnsupported => "PRF_UNSUPPORTED",
            Self::PrfDiffers => "PRF_DIFFERS",
            Self::PasskeyRefused { .. } => "PASSKEY_REFUSED",
            Self::PasskeyFailed => "PASSKEY_FAILED",
            Self::UnknownPasskey => "UNKNOWN_PASSKEY",
            Self::LastPasskey => "LAST_PASSKEY",
            Self::TooManyPasskeys => "TOO_MANY_PASSKEYS",
            Self::PasskeysUnknown => "PASSKEYS_UNKNOWN",
            Self::PromptNeeded => "PROMPT_NEEDED",
            Self::OtherRelyingParty { .. } => "OTHER_RELYING_PARTY",
            Self::UntrustedRelyingParty => "UNTRUSTED_RELYING_PARTY",
            Self::NoKeeper => "NO_KEEPER",
            Self::EvidenceRefused { .. } => "EVIDENCE_REFUSED",
            Self::KeeperRefused { .. } => "KEEPER_REFUSED",
            Self::NeedsReauth => "NEEDS_REAUTH",
            Self::AccountMismatch { .. } => "ACCOUNT_MISMATCH",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::CloudUnreachable => "CLOUD_UNREACHABLE",
            Self::CloudRecordNotFound => "CLOUD_RECORD_NOT_FOUND",
            Self::CloudRecordDamaged => "CLOUD_RECORD_DAMAGED",
            Self::CloudLocked => "CLOUD_LOCKED",
            Self::CloudNotEntitled => "CLOUD_NOT_ENTITLED",
            Self::CloudRefused { .. } => "CLOUD_REFUSED",
            Self::Member { error, .. } => error.code(),
            Self::MethodNotRegistered { .. } => "METHOD_NOT_REGISTERED",
            Self::InvalidMethod { .. } => "INVALID_METHOD",
            Self::InvalidPayload => "INVALID_PAYLOAD",
            Self::HostIncomplete { .. } => "HOST_INCOMPLETE",
            Self::Host(_) => "HOST_ERROR",
            Self::Storage(_) => "STORAGE",
            Self::Transport(_) => "TRANSPORT",
            Self::InvalidDescriptor => "INVALID_DESCRIPTOR",
            Self::Refused { .. } => "REFUSED",
            Self::Internal => "INTERNAL",
        }
    }

    /// One sentence for the app's developer or user: what to do now.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::WrongSecret { .. } => {
                "Ask for the secret again; show how many guesses are left and when the next may be made."
            }
            Self::LockedOut => "Recover with another method, or back up again from a device that still signs.",
            Self::WeakSecret(_) => "Ask for a longer or less common password or PIN.",
            Self::NotACode => "Ask the user to compare the code with the paper, symbol by symbol.",
            Self::NotConfirmed => {
                "Nothing was changed. Start the backup again when the user is ready to write the code down."
            }
            Self::NotBackedUp => "Back the wallet up, or use a method that holds a backup.",
            Self::SignInAgain => "Sign the user in again and give a fresh session token.",
            Self::Retry { .. } => "Nothing was lost. Call again, not sooner than the time given.",
            Self::OperationInProgress => "Wait until the other operation on this wallet has ended, then call again.",
            Self::UpgradeRequired => "Update the app.",
            Self::PeerMisbehaved { .. } => {
                "Stop and tell the operator: the other side broke the protocol. The wallet can be recovered."
            }
            Self::Banned => {
                "Recover the wallet with a backup method, or ask the operator to review the ban and then heal."
            }
            Self::NotBanned => "Nothing is to be done: this device's shares are not banned.",
            Self::ReviewNeeded => "Ask the operator to review the ban, then call again.",
            Self::Frozen => "A cancelled recovery froze these shares. Ask the operator.",
            Self::EjectNotEnabled => "Ask the custodian to open a window for the eject, then call again inside it.",
            Self::Ejecting => "Repeat the eject on the device that began it, and acknowledge the keys.",
            Self::Ejected => "Use the private keys that were ejected; nothing here signs any more.",
            Self::NoExportKey => "Ask the operator for a descriptor with the custodian's export key.",
            Self::ExitKit { .. } => "Check the part that is named: both files must be of the same kit.",
            Self::Rollback { .. } => "The server offered an outdated backup. Stop and tell the operator.",
            Self::ClockSkew { .. } => "Ask the user to set date and time of this device, then call again.",
            Self::BackupBroken(_) => {
                "Back up again by this method now, from a device that signs; until then it does not count as a backup."
            }
            Self::CustodianShareBroken { .. } => {
                "Use another method and tell the operator; from a device that still signs, back up again at once."
            }
            Self::IdentityMismatch => "This is not the wallet that was expected. Check the account that is signed in.",
            Self::WalletAlreadyExists => "Recover the wallet instead of creating one.",
            Self::NoWalletOnDevice => "Create a wallet, or recover it on this device.",
            Self::DeviceRevoked => "Another device revoked this one. Recover the wallet to use it here again.",
            Self::Denied => "The operator's policy denied this recovery. Contact the operator.",
            Self::RecoveryOver => "Begin a new recovery.",
            Self::LastProtection => "Make another backup or add another device first.",
            Self::UnsupportedPlatform { .. } => "Offer one of the alternatives.",
            Self::Cancelled => "Nothing was changed. Start again when the user wants to.",
            Self::NoPasskey { .. } => {
                "Use the device or the account that holds the passkey, or one of the other methods that are named."
            }
            Self::PasskeyExists => "Use the passkey that is there, or add one on another device or account.",
            Self::PrfUnsupported => "Use the mode `keeper`, or another passkey provider.",
            Self::PrfDiffers => "Use the mode `keeper`, or another passkey; to recover, use another method.",
            Self::PasskeyRefused { .. } => {
                "Check the relying party and its origins; if they are right, the passkey provider is at fault."
            }
            Self::PasskeyFailed => "Try again; if it persists, use another method.",
            Self::UnknownPasskey => "List the passkeys of the backup.",
            Self::LastPasskey => "Add another passkey first, or remove the whole method.",
            Self::TooManyPasskeys => "Remove a passkey first.",
            Self::PasskeysUnknown => {
                "Verify the passkey backup here first, so that this device learns them; or replace them all."
            }
            Self::PromptNeeded => "Back up with the passkeys again, while the user is there.",
            Self::OtherRelyingParty { .. } => "Configure the relying party that is named.",
            Self::UntrustedRelyingParty => "Use a relying party that the deployment's descriptor names.",
            Self::NoKeeper => "Use the mode `prf`, or ask the operator to run a keeper.",
            Self::EvidenceRefused { .. } => {
                "Stop and tell the operator: the keeper is not what the deployment's descriptor promises."
            }
            Self::KeeperRefused { .. } => {
                "Try again; if it persists, use another method and tell the operator what the code says."
            }
            Self::NeedsReauth => "Ask the user to sign in to the cloud again, then call again.",
            Self::AccountMismatch { .. } => "Ask the user to sign in with the account whose masked name is given.",
            Self::QuotaExceeded => "Ask the user to free space in the cloud, or use another method.",
            Self::CloudUnreachable => "Check the connection and call again; nothing is known of the backup itself.",
            Self::CloudRecordNotFound => {
                "Check which account is signed in, and give synchronisation some time; if the record was deleted, use \
                 another method."
            }
            Self::CloudRecordDamaged => "Use another method, or back up again from a device that still signs.",
            Self::CloudLocked => "Ask the user to unlock the device, then call again.",
            Self::CloudNotEntitled => "Build the app with the keychain entitlement and its access group.",
            Self::CloudRefused { .. } => "Check the app's project at the cloud; see what the code says.",
            Self::Member { error, .. } => error.advice(),
            Self::MethodNotRegistered { .. } => "Register the app's method of that name before the call.",
            Self::InvalidMethod { .. } => "Name another method; see what the code says.",
            Self::InvalidPayload => "Check the transaction or message that was given.",
            Self::HostIncomplete { .. } => "Give the SDK builder what is named.",
            Self::Host(_) => "Answer the open question of the step machine.",
            Self::Storage(_) => "Unlock the device or free its storage; if the share is damaged, recover the wallet.",
            Self::Transport(_) => "Check the connection and call again.",
            Self::InvalidDescriptor => "Use the descriptor that the operator published for this deployment.",
            Self::Refused { .. } => "See the error id in the server's documentation.",
            Self::Internal => "Report this as a bug.",
        }
    }
}

/// Result of every call.
pub type Result<T> = core::result::Result<T, Error>;
