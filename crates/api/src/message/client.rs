use halfkey_envelope::{
    id::{ClientId, DeploymentId, DeviceId, PairId, WalletId},
    wallet::Curve,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BackupStatus;
use crate::bytes::{Hex, HexBytes};

/// `GET clients/me`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientDetail {
    /// The caller.
    #[schema(value_type = String, format = "uuid")]
    pub id: ClientId,
    /// The deployment that answers; compare with the descriptor.
    #[schema(value_type = String, format = "uuid")]
    pub deployment: DeploymentId,
    /// The wallets, in the order of the curves; empty before `create_wallet`.
    pub wallets: Vec<Wallet>,
    /// The devices, revoked ones included.
    pub devices: Vec<Device>,
    /// The backups.
    pub backup_status: BackupStatus,
}

/// A wallet: one key pair on one curve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wallet {
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub id: WalletId,
    /// Its curve.
    #[schema(value_type = String, example = "SECP256K1")]
    pub curve: Curve,
    /// Absent until the key generation has completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub public_key: Option<HexBytes>,
    /// `creating`, `active`, `ejecting` or `ejected`.
    pub state: String,
    /// The signing pairs, one per device.
    pub signing_share_pairs: Vec<SigningSharePair>,
}

/// A signing share pair, as the server's own checks show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningSharePair {
    /// The pair.
    #[schema(value_type = String, format = "uuid")]
    pub id: PairId,
    /// The device whose half it is.
    #[schema(value_type = String, format = "uuid")]
    pub device_id: DeviceId,
    /// `STORED_DATABASE` or `STORED_CLIENT`.
    pub status: String,
    /// `pending`, `active`, `retired`, `erased`, `banned` or `frozen`.
    pub state: String,
    /// Of a banned pair: whether the operator's review lets it be healed now.
    #[serde(default)]
    pub reviewed: bool,
    /// The slot's generation.
    pub generation: u64,
    /// When it was begun, in milliseconds.
    pub created_at: u64,
}

/// `POST clients/me/signing-share-pairs/{pair_id}/heal`: what the healing of one pair is bound to. Repeated while the new
/// pair is pending, the answer is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealBegun {
    /// n_S: 32 fresh bytes, bound to the device key and the new pair.
    #[schema(value_type = String)]
    pub nonce: Hex<32>,
    /// When the pending pair expires, in milliseconds.
    pub expires_at: u64,
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub wallet_id: WalletId,
    /// Its curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The pending signing pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// The slot's generation.
    pub generation: u64,
    /// The banned pair, which deals.
    #[schema(value_type = String, format = "uuid")]
    pub from_pair_id: PairId,
}

/// `POST clients/me/signing-share-pairs/{pair_id}/ban`: the device was cheated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportBan {
    /// Which check failed: a stable word, at most 64 characters `A`–`Z`, `0`–`9` and `_`.
    pub reason: String,
}

/// `POST clients/me/devices`, signed by the very key it enrols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolDevice {
    /// Ed25519.
    #[schema(value_type = String)]
    pub public_key: Hex<32>,
    /// Such as `linux`, `ios`, `android`, `web`; at most 32 characters.
    pub platform: String,
    /// The user's name for it; at most 64 characters.
    pub name: String,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// The device.
    #[schema(value_type = String, format = "uuid")]
    pub id: DeviceId,
    /// Ed25519.
    #[schema(value_type = String)]
    pub public_key: Hex<32>,
    /// As enrolled.
    pub platform: String,
    /// As enrolled.
    pub name: String,
    /// In milliseconds.
    pub created_at: u64,
    /// In milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<u64>,
    /// In milliseconds, if revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
}

/// `POST clients/me/wallets`: an empty object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeginWallets {}

/// What the key generation of every curve is bound to. A repeated call of a half-made wallet gives new pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletsBegun {
    /// n_S: 32 fresh bytes, single use, bound to the device key.
    #[schema(value_type = String)]
    pub nonce: Hex<32>,
    /// When the pending pairs expire, in milliseconds.
    pub expires_at: u64,
    /// One per curve, in the order of the curves.
    pub wallets: Vec<PendingWallet>,
}

/// One wallet about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingWallet {
    /// The wallet.
    #[schema(value_type = String, format = "uuid")]
    pub id: WalletId,
    /// Its curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The pending signing pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// The slot's generation.
    pub generation: u64,
}
