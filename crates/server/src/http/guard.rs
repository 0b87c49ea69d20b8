//! Around every request: a trace id, a bound on how many run, a time limit, and a task of its own that goes on when
//! the caller hangs up, so that a commit is never cut in two.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use halfkey_api::auth::TRACE_HEADER;
use halfkey_envelope::entropy::{OsEntropy, random};
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;

use crate::fault::Fault;

const RETRY_AFTER_MS: u64 = 1_000;

/// Who may still come in.
#[derive(Clone)]
pub(crate) struct Guard {
    places: Arc<Semaphore>,
    total: u32,
    limit: Duration,
}

impl Guard {
    /// For `places` requests at once, each of at most `limit`.
    pub(crate) fn new(places: usize, limit: Duration) -> Self {
        let total = u32::try_from(places.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { places: Arc::new(Semaphore::new(total as usize)), total, limit }
    }

    /// Waits until the requests that run now have ended, those of callers who hung up included.
    pub(crate) async fn drained(&self) {
        // Closed is as good as drained: nobody closes it.
        let _ = self.places.acquire_many(self.total).await;
    }
}

/// Runs the request in a task of its own. A caller who hangs up, or a time limit, ends the wait and not the work.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Ok(place) = Arc::clone(&guard.places).try_acquire_owned() else {
        return Fault::unavailable("the server is busy", RETRY_AFTER_MS).into_response();
    };
    let work = async move {
        let response = next.run(request).await;
        drop(place);
        response
    };
    match timeout(guard.limit, tokio::spawn(work.in_current_span())).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => Fault::internal(&error).into_response(),
        Err(_) => {
            Fault::unavailable("the request takes too long; ask again how it ended", RETRY_AFTER_MS).into_response()
        }
    }
}

/// Names the request in the log and in the answer, and logs how it ended: ids and figures only.
pub(crate) async fn trace(request: Request, next: Next) -> Response {
    let id = hex::encode(random::<8>(&mut OsEntropy).as_ref());
    let path = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str).to_owned();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let span = tracing::info_span!("request", trace = %id, method = %request.method(), path);
    let started = tokio::time::Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let ms = started.elapsed().as_millis();
    span.in_scope(|| tracing::info!(status = response.status().as_u16(), ms, peer = ?peer, "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static(TRACE_HEADER), value);
    }
    response
}
