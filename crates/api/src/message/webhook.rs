use halfkey_envelope::id::{ClientId, WebhookId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST custodians/me/alerts/webhooks`: where events are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateWebhook {
    /// `https://…`, at most 2048 characters, without a name or password in it.
    pub url: String,
    /// Which kinds of events, such as `recovery.requested`; at most 50. All of them if empty.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// The new address, with the secret that signs what is sent to it, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedWebhook {
    /// The address.
    pub webhook: Webhook,
    /// `whsec_…` (Standard Webhooks); shown once.
    pub secret: String,
}

/// An address for events, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Names it.
    #[schema(value_type = String, format = "uuid")]
    pub id: WebhookId,
    /// Where to.
    pub url: String,
    /// Which kinds of events; all of them if empty.
    pub kinds: Vec<String>,
    /// In milliseconds.
    pub created_at: u64,
    /// When its secret was made, in milliseconds. For a day after a change the secret before it signs as well.
    pub secret_made_at: u64,
    /// When it last took an event, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<u64>,
    /// Since when every attempt has failed, in milliseconds; absent while it takes what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// How many attempts failed since then.
    pub failures: u64,
}

/// All addresses of a custodian, oldest first; at most ten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookList {
    /// Every one.
    pub results: Vec<Webhook>,
}

/// What a test message got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTested {
    /// It was answered with 2xx.
    pub ok: bool,
    /// The status, or why there was none.
    pub answer: String,
}

/// `POST …/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayWebhook {
    /// Events since then, in milliseconds. They are kept for 90 days.
    pub since: u64,
    /// Only those that were given up.
    #[serde(default)]
    pub only_failed: bool,
}

/// What a replay will send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookReplayed {
    /// So many events.
    pub count: u64,
}

/// One page of deliveries, oldest event first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPage {
    /// At most `take`.
    pub results: Vec<WebhookDelivery>,
    /// Give it as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One event on its way to one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery {
    /// The event's id: the receiver's key against duplicates (`webhook-id`).
    pub event_id: String,
    /// Its kind.
    pub kind: String,
    /// Of which client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub client_id: Option<ClientId>,
    /// When it happened, in milliseconds.
    pub created_at: u64,
    /// `pending`, `delivered`, or `failed`: given up after days of attempts.
    pub state: String,
    /// How often it was tried.
    pub attempts: u64,
    /// When it is tried next, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<u64>,
    /// When it was taken, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<u64>,
    /// What the last attempt got: a status, or why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
