//! Requests in, answers out: tokens, faults and the journal around each call.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;

use super::{
    Command, Drive, Entry, Grant, Introspection, Refusal,
    answer::{self, Failure},
    call::Asked,
    files,
};

/// What Google takes in an upload of one piece.
const MAX_UPLOAD: usize = 5 * 1024 * 1024;

pub(super) fn router(drive: Arc<Drive>) -> Router {
    Router::new().route("/emulator", post(command)).fallback(api).with_state(drive)
}

/// The control, for those who are not in this process.
async fn command(State(drive): State<Arc<Drive>>, body: axum::body::Bytes) -> Response {
    match serde_json::from_slice::<Command>(&body) {
        Ok(command) => answer::json(StatusCode::OK, &command.carry_out(&drive)),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn api(
    State(drive): State<Arc<Drive>>,
    Query(parameters): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let (verb, path) = (request.method().to_string(), request.uri().path().to_owned());
    let asked = Asked::parse(&verb, &path, parameters);
    let call = asked.as_ref().ok().map(|asked| asked.call);
    let answer = match asked {
        Ok(asked) => answered(&drive, &asked, request).await.unwrap_or_else(IntoResponse::into_response),
        Err(failure) => failure.into_response(),
    };
    drive.lock().note(Entry { verb, path, call, status: answer.status().as_u16() });
    answer
}

async fn answered(drive: &Drive, asked: &Asked, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let body = whole(body).await?;
    let grant = grant(drive, &head.headers).await?;
    let fault = drive.lock().fault(asked.call);
    match fault {
        None => files::carry_out(drive, asked, &grant, &head.headers, &body),
        Some(fault) => {
            if fault.done {
                files::carry_out(drive, asked, &grant, &head.headers, &body)?;
            }
            Ok(fault.answer())
        }
    }
}

async fn whole(body: Body) -> Result<axum::body::Bytes, Failure> {
    to_bytes(body, MAX_UPLOAD).await.map_err(|_| Failure::too_long())
}

/// What the request's token stands for.
async fn grant(drive: &Drive, headers: &HeaderMap) -> Result<Grant, Failure> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(Failure::no_token)?;
    let unauthenticated = || Failure::from(Refusal::Unauthenticated);
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated());
    }
    let (known, issuer) = {
        let state = drive.lock();
        (state.tokens.get(token).cloned(), state.introspection.clone())
    };
    match (known, issuer) {
        (Some(grant), _) => Ok(grant),
        (None, Some(issuer)) => introspect(&issuer, token).await.ok_or_else(unauthenticated),
        (None, None) => Err(unauthenticated()),
    }
}

/// Asks the token's issuer (RFC 7662).
async fn introspect(issuer: &Introspection, token: &str) -> Option<Grant> {
    // Loopback: never through a proxy, whatever the environment says.
    let http = reqwest::Client::builder().no_proxy().build().ok()?;
    let form = [("token", token), ("client_id", &issuer.client_id), ("client_secret", &issuer.client_secret)];
    let mut body = reqwest::Url::parse("http://form").ok()?;
    body.query_pairs_mut().extend_pairs(form);
    let request = http.post(&issuer.url).header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(body.query()?.to_owned()).send().await.ok()?.bytes().await.ok()?;
    let answer: Value = serde_json::from_slice(&answer).ok()?;
    if answer["active"] != Value::Bool(true) {
        return None;
    }
    // Google's client ids begin with the number of their project.
    let project = answer["client_id"].as_str()?.split('-').next()?.to_owned();
    let scopes = answer["scope"].as_str()?.split(' ').map(str::to_owned).collect();
    Some(Grant { account: answer["sub"].as_str()?.to_owned(), project, scopes })
}
