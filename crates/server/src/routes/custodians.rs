//! What a custodian's backend does: make clients, mint sessions, look at them.

use axum::{Json, extract::State};
use halfkey_api::{
    auth::prefix,
    message::{ClientPage, ClientSummary, CreateClient, CreatedClient, CreatedSession, EventPage},
    route,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{ApiKeyId, ClientId},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    events,
    fault::Fault,
    http::{
        auth::{AsCustodian, Unsigned, new_credential},
        body,
        path::{Id, List},
    },
    openapi::Refused,
    status,
    store::{Client, KeyOwner},
};

const MAX_EXTERNAL_ID: usize = 128;
const MAX_TAKE: u64 = 100;

/// Make a client, with a session token and a client API key that are shown once.
#[utoipa::path(
    post, path = route::CUSTODIAN_CLIENTS, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "createClient", request_body = CreateClient,
    responses((status = 201, body = CreatedClient), Refused)
)]
pub(super) async fn create_client(
    State(app): State<App>,
    caller: AsCustodian,
    Unsigned(body::Json(wanted)): Unsigned<body::Json<CreateClient>>,
) -> Result<(axum::http::StatusCode, Json<CreatedClient>), Fault> {
    if wanted.external_id.as_ref().is_some_and(|id| id.is_empty() || id.chars().count() > MAX_EXTERNAL_ID) {
        return Err(Fault::field("externalId", "1 to 128 characters"));
    }
    let (entropy, now_ms) = (&mut OsEntropy, caller.now_ms);
    let id = ClientId::generate(entropy, now_ms);
    app.store.create_client(caller.custodian, id, wanted.external_id, now_ms).await?;
    let (client_api_key, digest) = new_credential(prefix::CLIENT_KEY, entropy);
    let owner = KeyOwner::Client { custodian: caller.custodian, client: id };
    app.store.create_key(ApiKeyId::generate(entropy, now_ms), &digest, owner, "client", now_ms).await?;
    let session = open_session(&app, &caller, id).await?;
    let created = CreatedClient {
        id,
        client_api_key,
        client_session_token: session.client_session_token,
        session_expires_at: session.expires_at,
    };
    Ok((axum::http::StatusCode::CREATED, Json(created)))
}

/// Mint a session token for one client.
#[utoipa::path(
    post, path = route::CUSTODIAN_SESSIONS, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "createSession", params(("client_id" = String, Path, format = "uuid")),
    responses((status = 201, body = CreatedSession), Refused)
)]
pub(super) async fn create_session(
    State(app): State<App>,
    caller: AsCustodian,
    Id(client): Id<ClientId>,
) -> Result<(axum::http::StatusCode, Json<CreatedSession>), Fault> {
    Ok((axum::http::StatusCode::CREATED, Json(open_session(&app, &caller, client).await?)))
}

async fn open_session(app: &App, caller: &AsCustodian, client_id: ClientId) -> Result<CreatedSession, Fault> {
    let (client_session_token, digest) = new_credential(prefix::SESSION_TOKEN, &mut OsEntropy);
    let expires_at = app.store.open_session(caller.custodian, client_id, &digest, caller.now_ms).await?;
    Ok(CreatedSession { client_id, client_session_token, expires_at })
}

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// From the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<String>,
    /// At most 100, which is also the default.
    #[param(minimum = 1, maximum = 100)]
    take: Option<u64>,
}

/// How many a page holds at most.
pub(super) fn page_size(take: Option<u64>) -> Result<u64, Fault> {
    let take = take.unwrap_or(MAX_TAKE);
    if (1..=MAX_TAKE).contains(&take) { Ok(take) } else { Err(Fault::field("take", "1 to 100")) }
}

/// The event after which a page begins.
pub(super) fn after(cursor: Option<&str>) -> Result<[u8; 16], Fault> {
    let mut after = [0u8; 16];
    match cursor.map(|cursor| hex::decode_to_slice(cursor, &mut after)) {
        Some(Err(_)) => Err(Fault::field("cursor", "not a cursor of this list")),
        _ => Ok(after),
    }
}

/// The custodian's clients, oldest first.
#[utoipa::path(
    get, path = route::CUSTODIAN_CLIENTS, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "listClients", params(Page), responses((status = 200, body = ClientPage), Refused)
)]
pub(super) async fn list_clients(
    State(app): State<App>,
    caller: AsCustodian,
    List(page): List<Page>,
) -> Result<Json<ClientPage>, Fault> {
    let take = page_size(page.take)?;
    let after = page.cursor.map(|cursor| cursor.parse()).transpose();
    let after = after.map_err(|_| Fault::field("cursor", "not a cursor of this list"))?;
    let mut clients = app.store.clients(caller.custodian, after, take + 1).await?;
    let more = clients.len() as u64 > take;
    clients.truncate(usize::try_from(take).unwrap_or(usize::MAX));
    let cursor = clients.last().filter(|_| more).map(|client| client.id.to_string());
    let mut results = Vec::with_capacity(clients.len());
    for client in clients {
        results.push(summary(&app, client, caller.now_ms).await?);
    }
    Ok(Json(ClientPage { results, cursor }))
}

/// One client, with its backup status.
#[utoipa::path(
    get, path = route::CUSTODIAN_CLIENT, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "showClient", params(("client_id" = String, Path, format = "uuid")),
    responses((status = 200, body = ClientSummary), Refused)
)]
pub(super) async fn show_client(
    State(app): State<App>,
    caller: AsCustodian,
    Id(id): Id<ClientId>,
) -> Result<Json<ClientSummary>, Fault> {
    let client = app.store.client(caller.custodian, id).await?;
    summary(&app, client, caller.now_ms).await.map(Json)
}

async fn summary(app: &App, client: Client, now_ms: u64) -> Result<ClientSummary, Fault> {
    Ok(ClientSummary {
        id: client.id,
        external_id: client.external_id,
        created_at: client.created_ms,
        has_wallet: status::has_wallet(app, client.id).await?,
        backup_status: status::backups(app, client.id, now_ms).await?,
    })
}

/// Younger events are not told yet: one that is committed a moment later could have a smaller id.
const SETTLED_MS: u64 = 2_000;

/// What happened to the custodian's clients: recoveries that were asked for, wrong guesses, backups. Ask again with the
/// cursor of the answer before; tell the user of a `recovery.requested`, with its link.
#[utoipa::path(
    get, path = route::CUSTODIAN_EVENTS, tag = "custodian", security(("custodian_key" = [])),
    operation_id = "listEvents", params(Page), responses((status = 200, body = EventPage), Refused)
)]
pub(super) async fn list_events(
    State(app): State<App>,
    caller: AsCustodian,
    List(page): List<Page>,
) -> Result<Json<EventPage>, Fault> {
    let take = page_size(page.take)?;
    let after = after(page.cursor.as_deref())?;
    let until_ms = caller.now_ms.saturating_sub(SETTLED_MS);
    let events = app.store.events(caller.custodian, after, take, until_ms).await?;
    let cursor = hex::encode(events.last().map_or(after, |event| event.id));
    let results = events.into_iter().map(|event| events::shown(&app, event)).collect::<Result<_, _>>()?;
    Ok(Json(EventPage { results, cursor }))
}
