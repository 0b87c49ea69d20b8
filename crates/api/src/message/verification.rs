use halfkey_envelope::{
    id::{BackupId, VerificationId},
    wallet::{Curve, Method},
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

/// The four parts of a drill (METHODS.md H), in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DrillLevel {
    /// L1: the method holds the key of the stored envelope.
    MethodKey,
    /// L2: the envelope opens, and the client's half fits its public point.
    ClientShare,
    /// L3: the custodian proves that it knows its half.
    CustodianShare,
    /// L4: both public points add up to the public key of this device's wallet.
    PublicKey,
}

impl DrillLevel {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::MethodKey, Self::ClientShare, Self::CustodianShare, Self::PublicKey];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MethodKey => "METHOD_KEY",
            Self::ClientShare => "CLIENT_SHARE",
            Self::CustodianShare => "CUSTODIAN_SHARE",
            Self::PublicKey => "PUBLIC_KEY",
        }
    }
}

/// `POST …/failure`: the device found that the backup does not hold. From then on it does not count as one, until a
/// drill passes or a new backup replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailVerification {
    /// The first part that did not hold.
    pub level: DrillLevel,
    /// On which curves.
    #[schema(value_type = Vec<String>)]
    pub curves: Vec<Curve>,
}
