use halfkey_envelope::{
    id::{BackupId, ClientId, PairId, RecoveryId, VerificationId, WalletId},
    wallet::{Curve, Method},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CloudAccount;
use crate::bytes::{Base64, Hex, HexBytes};

/// `POST clients/me/backup-share-pairs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeginBackup {
    /// The method that will hold the key.
    #[schema(value_type = String, example = "PASSWORD")]
    pub method: Method,
}

/// What the reshare of every curve is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupBegun {
    /// The backup.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// The slot's generation.
    pub generation: u64,
    /// n_S: 32 fresh bytes, single use, bound to the device key.
    #[schema(value_type = String)]
    pub nonce: Hex<32>,
    /// When the pending pairs expire, in milliseconds.
    pub expires_at: u64,
    /// One per curve, in the order of the curves.
    pub pairs: Vec<PendingBackupPair>,
}

/// One curve's pending backup pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingBackupPair {
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub wallet_id: WalletId,
    /// Its curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The pending backup pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// The device's active signing pair, which deals.
    #[schema(value_type = String, format = "uuid")]
    pub from_pair_id: PairId,
}

/// `PUT …/cipher-text`: the envelope, stored pending. Write-once per backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreCipherText {
    /// The envelope; at most 16 KiB.
    #[schema(value_type = String)]
    pub cipher_text: Base64,
    /// The sealed record of methods that keep it beside the envelope (RECOVERY_CODE; of a PASSKEY its stanza, at most
    /// 8 KiB); at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sealed_record: Option<Base64>,
}

/// The envelope as stored, and a challenge for the proofs made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CipherText {
    /// The backup it belongs to.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// The envelope.
    #[schema(value_type = String)]
    pub cipher_text: Base64,
    /// SHA-256 of the envelope, as the server recorded it.
    #[schema(value_type = String)]
    pub digest: Hex<32>,
    /// The sealed record, where the method keeps it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub sealed_record: Option<Base64>,
    /// A fresh single-use nonce of the server for the proofs that follow (commit, possession, verification).
    #[schema(value_type = String)]
    pub challenge: Hex<32>,
    /// The custodian's public points, per curve, so that the context can be compared; they lie in the envelope too.
    pub pairs: Vec<BackupPairPoints>,
}

/// The public side of one curve's backup pair, as the server recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPairPoints {
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub wallet_id: WalletId,
    /// Its curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The backup pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// X.
    #[schema(value_type = String)]
    pub public_key: HexBytes,
    /// BIP-32 chain code (all zero for Ed25519).
    #[schema(value_type = String)]
    pub chain_code: Hex<32>,
    /// B_C.
    #[schema(value_type = String)]
    pub client_point: HexBytes,
    /// B_K.
    #[schema(value_type = String)]
    pub custodian_point: HexBytes,
    /// The slot's generation when the pair was made.
    pub generation: u64,
}

/// `POST …/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitBackup {
    /// SHA-256 of the envelope that the device read back and opened.
    #[schema(value_type = String)]
    pub envelope_digest: Hex<32>,
    /// The challenge that came with the read-back envelope.
    #[schema(value_type = String)]
    pub challenge: Hex<32>,
    /// One acknowledgement per curve, in the order of the curves.
    pub acks: Vec<CurveProof>,
    /// What the device asserts about the method: `read_back` or `unread`. Shown as asserted, never as proven.
    pub method_key: MethodKeyStatement,
    /// The device asserts that the method's key lies on one device only (a passkey that is not synchronised).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub device_bound: bool,
    /// Of a PASSWORD backup, and of no other: the device asserts that the secret is a PIN. Nobody else can know.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub pin: bool,
    /// Of a GDRIVE backup, and of no other: the account that holds its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_account: Option<CloudAccount>,
}

/// The device's statement about the record at the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodKeyStatement {
    /// Read back from the method and compared.
    ReadBack,
    /// Not read back, because that would have prompted the user.
    Unread,
}

/// A proof or acknowledgement of one curve, made by `protocol`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CurveProof {
    /// The curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// Opaque here.
    #[schema(value_type = String)]
    pub proof: Base64,
}

/// The server's signed word that the backup is Active and its predecessor Retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupReceipt {
    /// The client.
    #[schema(value_type = String, format = "uuid")]
    pub client_id: ClientId,
    /// The backup.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// The method.
    #[schema(value_type = String)]
    pub method: Method,
    /// SHA-256 of the envelope.
    #[schema(value_type = String)]
    pub envelope_digest: Hex<32>,
    /// The pairs that became Active, in the order of the curves.
    #[schema(value_type = Vec<String>)]
    pub share_ids: Vec<PairId>,
    /// In milliseconds.
    pub committed_at: u64,
    /// Ed25519 by the server's identity key over [`BackupReceipt::digest`].
    #[schema(value_type = String)]
    pub signature: Hex<64>,
    /// How safe the wallet is with this backup; not part of what is signed. Absent if the server cannot tell now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
}

impl BackupReceipt {
    /// What the server signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let pairs: Vec<u8> = self.share_ids.iter().flat_map(|id| *id.as_bytes()).collect();
        halfkey_envelope::hash::h(
            "halfkey/backup/v1/receipt",
            &[
                self.client_id.as_bytes(),
                self.backup_id.as_bytes(),
                self.method.name().as_bytes(),
                &self.envelope_digest.0,
                &pairs,
                &self.committed_at.to_be_bytes(),
            ],
        )
    }
}

/// `POST clients/me/password-door`: an opaque frame for the guesskeeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DoorRequest {
    /// What the message belongs to.
    pub within: DoorContext,
    /// A message of `halfkey_envelope::door`; at most 16 KiB.
    #[schema(value_type = String)]
    pub frame: Base64,
}

/// Where a message to a door is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum DoorContext {
    /// Registration and read-back of the caller's own pending backup.
    Backup {
        /// The backup.
        #[schema(value_type = String, format = "uuid")]
        id: BackupId,
    },
    /// A recovery that policy has let through.
    Recovery {
        /// The recovery.
        #[schema(value_type = String, format = "uuid")]
        id: RecoveryId,
    },
    /// A verification signed by an enrolled device key.
    Verification {
        /// The verification.
        #[schema(value_type = String, format = "uuid")]
        id: VerificationId,
    },
}

impl DoorContext {
    /// The id that it names.
    #[must_use]
    pub const fn subject(&self) -> [u8; 16] {
        match self {
            Self::Backup { id } => *id.as_bytes(),
            Self::Recovery { id } => *id.as_bytes(),
            Self::Verification { id } => *id.as_bytes(),
        }
    }
}

/// `POST clients/me/passkey-door`: a frame for the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasskeyDoorRequest {
    /// What the message belongs to. A request for evidence may leave it out; a release belongs to something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<DoorContext>,
    /// A request of `halfkey_envelope::keeper`, for evidence or for a release; at most 16 KiB.
    #[schema(value_type = String)]
    pub frame: Base64,
}

/// A keeper's or guesskeeper's answer, opaque to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoorAnswer {
    /// A message of `halfkey_envelope::door`, or an answer of `halfkey_envelope::keeper`.
    #[schema(value_type = String)]
    pub frame: Base64,
}

/// `GET clients/me/backup-status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// True when a completed, proven backup exists on every curve that is not bound to one device.
    pub backed_up: bool,
    /// What that is worth.
    pub protection: Protection,
    /// What is true as well and does not put the wallet at risk, because something else holds; or what became of a
    /// backup that counts no more.
    pub warnings: Vec<ProtectionReason>,
    /// One entry per method that has a pending or active backup.
    pub methods: Vec<MethodStatus>,
}

/// Whether the wallet comes back if its devices are lost, as far as the server knows (DECISIONS.md D31).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Protection {
    /// By at least one backup that counts, that nothing speaks against, and that is no weak one alone.
    Protected,
    /// Perhaps. Every reason is one that the app can do something about.
    AtRisk {
        /// Each once, in the order of [`ProtectionReason`]; at least one.
        reasons: Vec<ProtectionReason>,
    },
    /// No.
    #[default]
    Unprotected,
}

impl Protection {
    /// The reasons, where there are any.
    #[must_use]
    pub fn reasons(&self) -> &[ProtectionReason] {
        match self {
            Self::AtRisk { reasons } => reasons,
            Self::Protected | Self::Unprotected => &[],
        }
    }
}

/// Why a wallet is at risk, or what is worth a word although it is not. The ids are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ProtectionReason {
    /// Completed, but its key lies on one device only, by the device's own word: lost with it.
    DeviceBound,
    /// Completed, but only its own device has seen the record in the synchronised store, and the user has not confirmed
    /// that the store is on.
    PendingSync,
    /// A PIN, by the device's own word, is the only backup that counts: forgotten easily, and guessable by whoever runs
    /// both the server and the guesskeeper.
    PinAlone,
    /// A cloud account is the only backup that counts: lost with the account, and open to a thief of it who has the
    /// app's login too.
    CloudAlone,
    /// Neither made nor verified for longer than this deployment thinks good.
    VerificationDue,
    /// Three guesses or fewer are left before the backup is destroyed.
    FewGuessesLeft,
    /// A drill found that it does not hold: it counts no more.
    VerificationFailed,
    /// No guess is left: it is destroyed, and counts no more.
    LockedOut,
    /// There is one backup that counts, and no other.
    OneMethod,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// One method's backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MethodStatus {
    /// The method.
    #[schema(value_type = String)]
    pub method: Method,
    /// `completed` or `incomplete`, from what the server verified itself.
    pub status: String,
    /// The active backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub backup_id: Option<BackupId>,
    /// Curve by curve.
    pub curves: Vec<CurveStatus>,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<u64>,
    /// When both sides last proved their halves, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<u64>,
    /// When a drill found that it does not hold, in milliseconds; absent again once one passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_failed_at: Option<u64>,
    /// It was neither made nor verified for longer than this deployment thinks good: verify it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub verification_due: bool,
    /// Of a password or PIN: how many guesses are left, if its door answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guesses_left: Option<u32>,
    /// The device's own statement about the record at the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted_method_key: Option<MethodKeyStatement>,
    /// The device's own statement that the method's key lies on one device only: if that is lost, so is this backup.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub asserted_device_bound: bool,
    /// PASSWORD: the device's own statement that the secret is a PIN.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub asserted_pin: bool,
    /// ICLOUD: no other device has read the record yet, and nobody can tell whether the item leaves the device that made
    /// it. Until then such a backup is never called verified, and it counts only once the user has confirmed that
    /// iCloud Keychain is on.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub pending_sync: bool,
    /// When a device stated that the user has confirmed it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_confirmed_at: Option<u64>,
    /// GDRIVE: the device's own masked label of the account that holds the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted_account: Option<String>,
}

/// One curve of one method's backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurveStatus {
    /// The curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The backup pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// `STORED_CUSTODIAN_BACKUP_SHARE`, `STORED_CLIENT_BACKUP_SHARE_KEY` or `STORED_CLIENT_BACKUP_SHARE`.
    pub status: String,
    /// Whether the server verified a proof of the client half and of the custodian half.
    pub proven: bool,
}
