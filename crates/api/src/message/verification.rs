use halfkey_envelope::{
    id::{BackupId, VerificationId},
    wallet::Method,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CurveProof;
use crate::bytes::Hex;

/// `POST clients/me/verifications`, signed by an enrolled device key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeginVerification {
    /// The method to prove.
    #[schema(value_type = String)]
    pub method: Method,
}

/// The drill is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationBegun {
    /// The drill.
    #[schema(value_type = String, format = "uuid")]
    pub verification_id: VerificationId,
    /// The backup that it proves.
    #[schema(value_type = String, format = "uuid")]
    pub backup_id: BackupId,
    /// When it expires, in milliseconds.
    pub expires_at: u64,
}

/// `POST …/proof`: the device's proofs (L2), and its nonce for the custodian's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProveVerification {
    /// The challenge that came with the envelope.
    #[schema(value_type = String)]
    pub challenge: Hex<32>,
    /// The device's fresh nonce for the custodian's proofs.
    #[schema(value_type = String)]
    pub nonce: Hex<32>,
    /// One proof per curve, in the order of the curves.
    pub proofs: Vec<CurveProof>,
}

/// The custodian's proofs (L3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationProven {
    /// One proof per curve, in the order of the curves.
    pub proofs: Vec<CurveProof>,
    /// In milliseconds.
    pub verified_at: u64,
}
