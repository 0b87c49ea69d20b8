//! Where the browser comes back to: a port of loopback, for one sign-in (RFC 8252, section 7.3).
//!
//! An answer counts once, and only with the state of this sign-in and this very `Host`. What does not fit is refused and
//! changes nothing: another program of the machine, or another page, can neither sign the user in to its own account nor
//! end the wait.

use std::{
    future::Future,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};
use zeroize::Zeroizing;

use super::GoogleError;
use crate::passkey::only;

/// How long the last page may take to be written.
const LAST_PAGE: Duration = Duration::from_secs(2);

/// A one-time code: worth an account only together with the verifier of this sign-in.
pub(super) struct Code(pub(super) Zeroizing<String>);

type Answer = Result<Code, GoogleError>;

/// See the module.
pub(super) struct Redirect {
    listener: TcpListener,
    port: u16,
}

struct Shared {
    host: String,
    issuer: String,
    state: Zeroizing<String>,
    waiting: Mutex<Option<oneshot::Sender<Answer>>>,
    /// An answer came that was none to this sign-in.
    strange: AtomicBool,
}

impl Redirect {
    /// Takes a free port.
    pub(super) async fn listen() -> Result<Self, GoogleError> {
        let no_port = |_| GoogleError::NoPort;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        Ok(Self { listener, port })
    }

    /// What Google sends the browser back to.
    pub(super) fn uri(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Waits for the answer with this state, until `over`.
    pub(super) async fn answer(self, state: &str, issuer: &str, over: impl Future<Output = ()>) -> Answer {
        let (sender, answered) = oneshot::channel();
        let shared = Arc::new(Shared {
            host: format!("127.0.0.1:{}", self.port),
            issuer: issuer.to_owned(),
            state: Zeroizing::new(state.to_owned()),
            waiting: Mutex::new(Some(sender)),
            strange: AtomicBool::new(false),
        });
        let router = Router::new().route("/", any(answer)).with_state(Arc::clone(&shared));
        let (stop, mut stopped) = watch::channel(());
        let serving = tokio::spawn(async move {
            let stopped = async move {
                let _ended = stopped.changed().await;
            };
            let _served = axum::serve(self.listener, router).with_graceful_shutdown(stopped).await;
        });
        let answered = tokio::select! {
            answered = answered => answered.ok(),
            () = over => None,
        };
        // This program may end at once: the browser gets its page first.
        drop(stop);
        let _written = timeout(LAST_PAGE, serving).await;
        match answered {
            Some(answer) => answer,
            None if shared.strange.load(Ordering::Relaxed) => Err(GoogleError::StateMismatch),
            None => Err(GoogleError::Expired),
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    query: std::result::Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    if method != Method::GET || only(&headers, &header::HOST) != Some(&shared.host) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let Ok(Query(parameters)) = query else { return StatusCode::BAD_REQUEST.into_response() };
    let parameters: Vec<_> = parameters.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    let Some(waiting) = shared.take(&parameters) else {
        shared.strange.store(true, Ordering::Relaxed);
        return StatusCode::FORBIDDEN.into_response();
    };
    let answer = judge(&parameters, &shared.issuer);
    let page = thanks(answer.is_ok());
    let _gave_up = waiting.send(answer);
    page
}

impl Shared {
    /// The one who waits, if the answer has its state.
    fn take(&self, parameters: &[(String, Zeroizing<String>)]) -> Option<oneshot::Sender<Answer>> {
        let state = one(parameters, "state")?;
        verify_slices_are_equal(state.as_bytes(), self.state.as_bytes()).ok()?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// RFC 6749, section 4.1.2; the issuer by RFC 9207.
fn judge(parameters: &[(String, Zeroizing<String>)], issuer: &str) -> Answer {
    if parameters.iter().any(|(name, _)| name == "iss") && one(parameters, "iss") != Some(issuer) {
        return Err(GoogleError::StateMismatch);
    }
    match (one(parameters, "code"), one(parameters, "error")) {
        (Some(code), None) if !code.is_empty() => Ok(Code(Zeroizing::new(code.to_owned()))),
        (None, Some("access_denied")) => Err(GoogleError::Denied),
        (None, Some(error)) => Err(GoogleError::refused(error)),
        _ => Err(GoogleError::BadAnswer("REDIRECT")),
    }
}

/// A parameter that is there exactly once.
fn one<'a>(parameters: &'a [(String, Zeroizing<String>)], name: &str) -> Option<&'a str> {
    let mut values = parameters.iter().filter(|(known, _)| known == name);
    let (Some((_, value)), None) = (values.next(), values.next()) else { return None };
    Some(value)
}

fn thanks(signed_in: bool) -> Response {
    let heading = if signed_in { "The command line has Google's answer" } else { "Not signed in" };
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Halfkey</title><h1 id=\"what\">{heading}</h1>\
         <p>You can close this window.</p></html>\n"
    );
    let policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    (headers, html).into_response()
}

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod tests;
