use halfkey_envelope::{cbor, cloud::RootId};
use minicbor::{Decode, Encode, bytes::ByteArray};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroize;

use super::DoorContext;
use crate::bytes::{Base64, Hex};

/// `POST clients/me/cloud-pepper`: the pepper of the client, for the record of one backup in the user's cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PepperRequest {
    /// What it is wanted for.
    pub within: DoorContext,
    /// An empty message, HPKE-sealed to the server's pinned key: the answer is sealed to its sender.
    #[schema(value_type = String)]
    pub request: Base64,
}

/// The answer to a [`PepperRequest`], sealed to its sender: [`PepperContents`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PepperGiven {
    /// For the sender of the request alone.
    #[schema(value_type = String)]
    pub sealed: Base64,
}

/// Context of the request's seal.
pub const PEPPER_INFO: &[u8] = b"halfkey/cloud/v1/pepper-request";
/// Label of the answer's seal.
pub const PEPPER_ANSWER: &str = "halfkey/cloud/v1/pepper-answer";
/// The only version of [`PepperContents`].
pub const PEPPER_VERSION: u16 = 1;

/// What [`PepperGiven`] holds, in strict CBOR.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PepperContents {
    /// [`PEPPER_VERSION`].
    #[n(1)]
    pub version: u16,
    /// The root with which this backup's record is named and sealed.
    #[n(2)]
    pub root: RootId,
    /// The client's pepper under that root.
    #[n(3)]
    pub pepper: ByteArray<32>,
    /// What was stated of the account at the commit, where it was.
    #[n(4)]
    pub account: Option<PepperAccount>,
}

/// As [`CloudAccount`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PepperAccount {
    /// See [`CloudAccount::tag`].
    #[n(1)]
    pub tag: ByteArray<32>,
    /// See [`CloudAccount::hint`].
    #[n(2)]
    pub hint: String,
}

impl Drop for PepperContents {
    fn drop(&mut self) {
        self.pepper.zeroize();
    }
}

/// Shows no pepper.
impl core::fmt::Debug for PepperContents {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PepperContents(root {})", self.root)
    }
}

impl PepperContents {
    /// The strict encoding.
    #[must_use]
    pub fn to_bytes(&self) -> zeroize::Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(self)
    }

    /// Decodes strictly; a later version is left to the caller to tell apart by [`cbor::version`].
    ///
    /// # Errors
    /// [`cbor::Error`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, cbor::Error> {
        cbor::from_slice(bytes)
    }
}

/// What the device states of the account that holds a backup's record, at the commit of a GDRIVE backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudAccount {
    /// HMAC of the account's stable id under a key of the pepper: tells another account, and no name.
    #[schema(value_type = String)]
    pub tag: Hex<32>,
    /// A masked label to show, such as `a…@example.com`: 1 to [`MAX_ACCOUNT_HINT`] characters, no control characters.
    pub hint: String,
}

/// The longest [`CloudAccount::hint`], in characters.
pub const MAX_ACCOUNT_HINT: usize = 64;
