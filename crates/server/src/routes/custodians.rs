//! What a custodian's backend does: make clients, mint sessions, look at them.

use axum::{Json, extract::State};
use halfkey_api::{
    auth::prefix,
    message::{CreateClient, CreatedClient, CreatedSession},
    route,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{ApiKeyId, ClientId},
};

use crate::{
    app::App,
    fault::Fault,
    http::{
        auth::{AsCustodian, Unsigned, new_credential},
        body,
        path::Id,
    },
    openapi::Refused,
    store::KeyOwner,
};

const MAX_EXTERNAL_ID: usize = 128;

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
