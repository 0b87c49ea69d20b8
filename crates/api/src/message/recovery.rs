use halfkey_envelope::{
    id::{BackupId, DeviceId, PairId, RecoveryId, WalletId},
    wallet::{Curve, Method},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CurveProof, EnrolDevice};
use crate::bytes::{Hex, HexBytes};

/// What happens to the client's other devices when the recovery commits. There is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OldDevices {
    /// Revoked in the same transaction.
    Revoke,
    /// Kept.
    Keep,
}

/// What a proof of possession is for. A proof for the one is none for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecoveryPurpose {
    /// A fresh signing pair on the device that asks.
    #[default]
    Recover,
    /// The private keys themselves, inside the window that the custodian has opened.
    Eject,
}

impl RecoveryPurpose {
    const fn is_recover(&self) -> bool {
        matches!(self, Self::Recover)
    }
}

/// `POST clients/me/recoveries`, signed by the new device's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeginRecovery {
    /// The method to open.
    #[schema(value_type = String)]
    pub method: Method,
    /// The device that asks; enrolled only by its proof of possession.
    pub new_device: EnrolDevice,
    /// What happens to the others. An eject takes `KEEP`: no other device can do anything afterwards.
    pub old_devices: OldDevices,
    /// What it is for.
    #[serde(default, skip_serializing_if = "RecoveryPurpose::is_recover")]
    pub purpose: RecoveryPurpose,
}

/// A recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// The recovery.
    #[schema(value_type = String, format = "uuid")]
    pub id: RecoveryId,
    /// What it is for.
    #[serde(default, skip_serializing_if = "RecoveryPurpose::is_recover")]
    pub purpose: RecoveryPurpose,
    /// Where it stands.
    pub state: RecoveryState,
    /// The method.
    #[schema(value_type = String)]
    pub method: Method,
    /// The backup that it opens.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// In `WAITING`: until when, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_until: Option<u64>,
    /// When it expires, in milliseconds.
    pub expires_at: u64,
    /// When it was asked for, in milliseconds.
    pub created_at: u64,
    /// The name of the device that asks.
    pub device_name: String,
    /// In `STEP_UP_REQUIRED`: what the user has to do; only in the answer to the device that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<StepUp>,
    /// n_S: 32 fresh bytes, bound to the new device key; only in the answer to that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub nonce: Option<Hex<32>>,
    /// One per curve, in the order of the curves; only in the answer to that device.
    #[serde(default)]
    pub pairs: Vec<PendingRecoveryPair>,
}

/// A step that the custodian's policy asks of the user, outside of this API: the recovery waits until the custodian's backend
/// has confirmed it, and expires if it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepUp {
    /// What the user is told, in the custodian's words: 1 to 200 characters, no control characters.
    pub prompt: String,
    /// Where the user goes: `https://…`, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it has to be confirmed by, in milliseconds.
    pub until: u64,
}

/// The longest [`StepUp::prompt`], in characters.
pub const MAX_STEP_UP_PROMPT: usize = 200;
/// The longest [`StepUp::url`], in bytes.
pub const MAX_STEP_UP_URL: usize = 1000;

impl StepUp {
    /// Whether text and address are such as may be shown to a user. Server and SDK both ask.
    #[must_use]
    pub fn is_sound(prompt: &str, url: Option<&str>) -> bool {
        let length = prompt.chars().count();
        let prompt = (1..=MAX_STEP_UP_PROMPT).contains(&length) && !prompt.chars().any(char::is_control);
        let is_address = |url: &str| {
            let host = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
            host && url.len() <= MAX_STEP_UP_URL && url.bytes().all(|byte| byte.is_ascii_graphic())
        };
        prompt && url.is_none_or(is_address)
    }
}

/// `POST custodians/me/recoveries/{recovery_id}/step-up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FinishStepUp {
    /// `true`: the user has done it, and the recovery goes on. `false`: it is denied.
    pub confirmed: bool,
}

/// One curve's pending signing pair of the new device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRecoveryPair {
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub wallet_id: WalletId,
    /// Its curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The new signing pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// The generation of the new device's slot.
    pub generation: u64,
    /// The backup pair that deals.
    #[schema(value_type = String, format = "uuid")]
    pub from_pair_id: PairId,
    /// X.
    #[schema(value_type = String)]
    pub public_key: HexBytes,
}

/// The states of METHODS.md G.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecoveryState {
    /// Asked for, not decided: a device has cancelled a recovery for the second time, and the operator is asked.
    Requested,
    /// The policy asks for a step outside of this API first: see [`Recovery::step_up`].
    StepUpRequired,
    /// The delay runs.
    Waiting,
    /// The method may be opened.
    Ready,
    /// Possession is proven; the reshare runs, or the custodian's halves may have left.
    Executing,
    /// The new pairs are Active, or the ejected keys are acknowledged.
    Completed,
    /// By a device, a link or the operator.
    Cancelled,
    /// Not finished in time.
    Expired,
    /// By the policy.
    Denied,
}

/// `GET clients/me/recoveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryList {
    /// Newest first, at most 100.
    pub results: Vec<Recovery>,
}

/// `POST …/possession`: proof of knowledge of b_C per curve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvePossession {
    /// The challenge that came with the envelope.
    #[schema(value_type = String)]
    pub challenge: Hex<32>,
    /// One-time HPKE key of the new device, bound into every proof.
    #[schema(value_type = String)]
    pub one_time_key: Hex<32>,
    /// One proof per curve, in the order of the curves.
    pub proofs: Vec<CurveProof>,
}

/// The new device is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PossessionProven {
    /// The new device.
    #[schema(value_type = String, format = "uuid")]
    pub device_id: DeviceId,
    /// The recovery, now `EXECUTING`.
    pub recovery: Recovery,
}

/// `POST recoveries/{id}/cancel`: what stands behind the `#` of the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelByLink {
    /// 64 hex digits.
    #[schema(value_type = String)]
    pub token: Hex<32>,
}

/// What a link came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelledByLink {
    /// False: the recovery is over. True: a recovery of this client was cancelled by a link before, so the operator
    /// decides about this one.
    pub held: bool,
}
