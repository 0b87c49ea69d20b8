use halfkey_envelope::{
    id::{BackupId, PairId, RecoveryId},
    wallet::{Curve, Method},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bytes::Base64;

/// `POST custodians/me/clients/{client_id}/enable-eject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnableEject {
    /// How long the window is, in seconds: 300 where none is given, at most 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u32>,
}

/// The window that a custodian has opened for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EjectWindow {
    /// When it was opened, in milliseconds.
    pub opened_at: u64,
    /// When it closes, in milliseconds.
    pub enabled_until: u64,
}

/// `GET custodians/me/clients/{client_id}/ejectable-backup-shares`: identifiers and windows, never a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EjectableBackupShares {
    /// The open window, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<EjectWindow>,
    /// The backups that an eject could use while it is open.
    pub results: Vec<EjectableBackup>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EjectableBackup {
    /// The backup.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// Its method.
    #[schema(value_type = String)]
    pub method: Method,
    /// Its share pairs, in the order of the curves.
    #[schema(value_type = Vec<String>)]
    pub pair_ids: Vec<PairId>,
}

/// The answer to the proof of possession of an eject. The wallets are `ejecting` since before it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EjectReleased {
    /// The eject.
    #[schema(value_type = String, format = "uuid")]
    pub id: RecoveryId,
    /// The custodian's halves, in the order of the curves.
    pub shares: Vec<EjectedShare>,
}

/// The custodian's half on one curve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EjectedShare {
    /// The curve.
    #[schema(value_type = String)]
    pub curve: Curve,
    /// The backup pair.
    #[schema(value_type = String, format = "uuid")]
    pub pair_id: PairId,
    /// The half, HPKE-sealed to the proof's one-time key.
    #[schema(value_type = String)]
    pub sealed: Base64,
}
