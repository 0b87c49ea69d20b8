use halfkey_envelope::id::{ApiKeyId, ClientId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BackupStatus;

/// `POST custodians/me/clients`: make a client. An empty object will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateClient {
    /// The custodian's own name for the user, at most 128 characters; never interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// The new client, with the credentials that are shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedClient {
    /// The client.
    #[schema(value_type = String, format = "uuid")]
    pub id: ClientId,
    /// For tests and development; shown once.
    pub client_api_key: String,
    /// A session token for the app; shown once.
    pub client_session_token: String,
    /// When the session token ends unless it is used, in milliseconds.
    pub session_expires_at: u64,
}

/// `POST custodians/me/clients/{id}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedSession {
    /// The client.
    #[schema(value_type = String, format = "uuid")]
    pub client_id: ClientId,
    /// Shown once.
    pub client_session_token: String,
    /// When it ends unless it is used, in milliseconds.
    pub expires_at: u64,
}

/// One page of clients, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientPage {
    /// At most `take`.
    pub results: Vec<ClientSummary>,
    /// Give it as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A client as its custodian sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSummary {
    /// The client.
    #[schema(value_type = String, format = "uuid")]
    pub id: ClientId,
    /// The custodian's own name for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// When it was made, in milliseconds.
    pub created_at: u64,
    /// Whether it has wallets on every curve.
    pub has_wallet: bool,
    /// Its backups.
    pub backup_status: BackupStatus,
}

/// One page of what happened to the custodian's clients, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    /// At most `take`.
    pub results: Vec<ClientEvent>,
    /// Give it as `cursor` for what comes after. Always present: asked again later, it gives what happened since.
    pub cursor: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientEvent {
    /// The same whenever it is told.
    pub id: String,
    /// Such as `recovery.requested`.
    pub kind: String,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub client_id: Option<ClientId>,
    /// In milliseconds.
    pub created_at: u64,
    /// What it is about: ids and figures, never a secret.
    #[schema(value_type = Object)]
    pub payload: serde_json::Value,
    /// Of a `recovery.requested`: what to send to the user. Whoever opens it can cancel that recovery, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_link: Option<String>,
}

/// A custodian API key, as `halfkey admin create-custodian` prints it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedKey {
    /// Names the key in lists and logs.
    #[schema(value_type = String, format = "uuid")]
    pub id: ApiKeyId,
    /// Shown once.
    pub key: String,
}

/// The apps and origins that may use the passkeys of the custodian's relying party: `custodians/me/relying-party`.
///
/// A `PUT` replaces the whole. What it says is served from `/.well-known/…` of the relying parties that the operator
/// assigned to this custodian, and of those that all custodians share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RelyingPartyApps {
    /// `TEAMID.bundle.id` each; at most 20.
    pub apple_app_ids: Vec<String>,
    /// At most 20.
    pub android_apps: Vec<AndroidApp>,
    /// `https://host[:port]` each; at most 20, of at most 5 different names before their public suffix.
    pub related_origins: Vec<String>,
}

/// An Android app and who signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AndroidApp {
    /// The application id.
    pub package_name: String,
    /// SHA-256 of each signing certificate, `AB:CD:…`; 1 to 10.
    pub certificate_fingerprints: Vec<String>,
}
