//! Where a custodian wants its events sent.

use axum::{Json, extract::State, http::StatusCode};
use halfkey_api::{
    message::{
        CreateWebhook, CreatedWebhook, DeliveryPage, ReplayWebhook, Webhook, WebhookDelivery, WebhookList,
        WebhookReplayed, WebhookTested,
    },
    route,
};
use halfkey_envelope::id::WebhookId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::custodians::{after, page_size};
use crate::{
    app::App,
    events,
    fault::Fault,
    http::{
        auth::{AsCustodian, Unsigned},
        body,
        path::{Id, List},
    },
    openapi::Refused,
    store::{Delivery, DeliveryState},
};

/// Send events to an address from now on. Its secret is shown once.
#[utoipa::path(
    post, path = route::WEBHOOKS, tag = "webhooks", security(("custodian_key" = [])), operation_id = "createWebhook",
    request_body = CreateWebhook, responses((status = 201, body = CreatedWebhook), Refused)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: AsCustodian,
    Unsigned(body::Json(wanted)): Unsigned<body::Json<CreateWebhook>>,
) -> Result<(StatusCode, Json<CreatedWebhook>), Fault> {
    caller.must_direct_events()?;
    let made = events::create(&app, caller.custodian, wanted.url, wanted.kinds, caller.now_ms).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The custodian's addresses, and how they do.
#[utoipa::path(
    get, path = route::WEBHOOKS, tag = "webhooks", security(("custodian_key" = [])), operation_id = "listWebhooks",
    responses((status = 200, body = WebhookList), Refused)
)]
pub(super) async fn list(State(app): State<App>, caller: AsCustodian) -> Result<Json<WebhookList>, Fault> {
    let webhooks = app.store.webhooks(caller.custodian).await?;
    Ok(Json(WebhookList { results: webhooks.into_iter().map(events::shown_webhook).collect() }))
}

/// One address.
#[utoipa::path(
    get, path = route::WEBHOOK, tag = "webhooks", security(("custodian_key" = [])), operation_id = "showWebhook",
    params(("webhook_id" = String, Path, format = "uuid")), responses((status = 200, body = Webhook), Refused)
)]
pub(super) async fn show(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
) -> Result<Json<Webhook>, Fault> {
    Ok(Json(events::shown_webhook(app.store.webhook(caller.custodian, id).await?)))
}

/// Send nothing more to an address, not even what waits.
#[utoipa::path(
    delete, path = route::WEBHOOK, tag = "webhooks", security(("custodian_key" = [])), operation_id = "deleteWebhook",
    params(("webhook_id" = String, Path, format = "uuid")), responses((status = 204), Refused)
)]
pub(super) async fn delete(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
) -> Result<StatusCode, Fault> {
    caller.must_direct_events()?;
    app.store.delete_webhook(caller.custodian, id, caller.now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an address a new secret, shown once. For a day the one before signs as well.
#[utoipa::path(
    post, path = route::WEBHOOK_SECRET, tag = "webhooks", security(("custodian_key" = [])),
    operation_id = "rotateWebhookSecret", params(("webhook_id" = String, Path, format = "uuid")),
    responses((status = 200, body = CreatedWebhook), Refused)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
) -> Result<Json<CreatedWebhook>, Fault> {
    caller.must_direct_events()?;
    let webhook = app.store.rotate_webhook(caller.custodian, id, caller.now_ms).await?;
    Ok(Json(events::with_secret(&app, webhook)))
}

/// Send a test message to an address now, and say what it answered.
#[utoipa::path(
    post, path = route::WEBHOOK_TEST, tag = "webhooks", security(("custodian_key" = [])), operation_id = "testWebhook",
    params(("webhook_id" = String, Path, format = "uuid")), responses((status = 200, body = WebhookTested), Refused)
)]
pub(super) async fn test(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookTested>, Fault> {
    caller.must_direct_events()?;
    let webhook = app.store.webhook(caller.custodian, id).await?;
    Ok(Json(events::test(&app, &webhook, caller.now_ms).await))
}

/// A page of deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Deliveries {
    /// From the page before.
    cursor: Option<String>,
    /// At most 100, which is also the default.
    #[param(minimum = 1, maximum = 100)]
    take: Option<u64>,
    /// `pending`, `delivered` or `failed` ones only.
    state: Option<String>,
}

/// What was and is sent to an address, oldest event first.
#[utoipa::path(
    get, path = route::WEBHOOK_DELIVERIES, tag = "webhooks", security(("custodian_key" = [])),
    operation_id = "listWebhookDeliveries", params(("webhook_id" = String, Path, format = "uuid"), Deliveries),
    responses((status = 200, body = DeliveryPage), Refused)
)]
pub(super) async fn deliveries(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
    List(page): List<Deliveries>,
) -> Result<Json<DeliveryPage>, Fault> {
    let (take, after) = (page_size(page.take)?, after(page.cursor.as_deref())?);
    let state = page.state.map(|state| state.parse::<DeliveryState>()).transpose();
    let state = state.map_err(|()| Fault::field("state", "pending, delivered or failed"))?;
    let mut found = app.store.deliveries(caller.custodian, id, state, after, take + 1).await?;
    let more = found.len() as u64 > take;
    found.truncate(usize::try_from(take).unwrap_or(usize::MAX));
    let cursor = found.last().filter(|_| more).map(|delivery| hex::encode(delivery.event));
    Ok(Json(DeliveryPage { results: found.into_iter().map(shown).collect(), cursor }))
}

fn shown(delivery: Delivery) -> WebhookDelivery {
    WebhookDelivery {
        event_id: hex::encode(delivery.event),
        kind: delivery.kind,
        client_id: delivery.client,
        created_at: delivery.created_ms,
        state: delivery.state.as_str().to_owned(),
        attempts: delivery.attempts,
        next_at: delivery.next_ms,
        delivered_at: delivery.delivered_ms,
        answer: delivery.answer,
    }
}

/// Send events again: all since a time, or of them those that were given up.
#[utoipa::path(
    post, path = route::WEBHOOK_REPLAY, tag = "webhooks", security(("custodian_key" = [])),
    operation_id = "replayWebhook", params(("webhook_id" = String, Path, format = "uuid")),
    request_body = ReplayWebhook, responses((status = 200, body = WebhookReplayed), Refused)
)]
pub(super) async fn replay(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<WebhookId>,
    Unsigned(body::Json(wanted)): Unsigned<body::Json<ReplayWebhook>>,
) -> Result<Json<WebhookReplayed>, Fault> {
    caller.must_direct_events()?;
    let count = app.store.replay(caller.custodian, id, wanted.since, wanted.only_failed, caller.now_ms).await?;
    Ok(Json(WebhookReplayed { count }))
}
