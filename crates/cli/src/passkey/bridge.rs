//! The bridge to the system's browser: [`Passkeys`] for programs without a passkey sheet of their own.
//!
//! A page of the relying party makes or uses the passkey and answers over loopback. An answer counts once, and only if
//! it comes from the page's own origin, to this very port, with the state of the request that waits, sealed to that
//! request's key. What does not fit is refused and changes nothing: the request goes on waiting until it is answered or
//! its time is over.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use halfkey_client::host::{PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Passkeys};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

use super::request::{Answer, Pending, Wish, random_text};
use crate::error::{Error, Result};

/// Sealed answers are about 2 KiB; an attestation with certificates is longer.
const MAX_ANSWER: usize = 64 * 1024;
/// A page that asked for the next request within this time is still open.
const STILL_OPEN: Duration = Duration::from_secs(3);

/// What the user is to open, and the digits that the page will show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The page with the request behind `#`. Whoever has it can answer in the user's name: show it to nobody else.
    pub url: String,
    /// Six digits. The user compares them.
    pub code: String,
}

/// Leads the user to the page. Says whether that worked; if not, the request is [`PasskeyError::NotAvailable`].
pub type Invite = dyn Fn(&Invitation) -> bool + Send + Sync;

/// See the module.
pub struct Bridge {
    shared: Arc<Shared>,
    /// One request at a time.
    turn: tokio::sync::Mutex<()>,
    invite: Box<Invite>,
    page: String,
    wallet: String,
    patience: Duration,
    port: u16,
    stop: watch::Sender<bool>,
}

struct Shared {
    /// What `Host` must say.
    host: String,
    /// What `Origin` must say.
    origin: String,
    waiting: Mutex<Option<Waiting>>,
    follow: Mutex<Follow>,
}

struct Waiting {
    pending: Pending,
    answer: oneshot::Sender<std::result::Result<Answer, PasskeyError>>,
}

/// The browser's window after an answer: it asks for the next request, so that one window serves a whole command.
#[derive(Default)]
struct Follow {
    token: Option<String>,
    asked: Option<Instant>,
    next: Option<String>,
}

impl Bridge {
    /// Listens on a free port of loopback. `page` is the passkey page, `https://…` or `http://localhost…`; `wallet`
    /// names for the user what the passkey is for; `patience` is how long a request waits.
    ///
    /// # Errors
    /// [`Error::Usage`] when `page` is no such address; [`Error::Failed`] when no port can be had.
    pub async fn start(
        page: &str,
        wallet: &str,
        patience: Duration,
        invite: impl Fn(&Invitation) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let origin = origin_of(page)?;
        let no_port = |error: std::io::Error| Error::Failed(format!("no port for the browser's answer: {error}"));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        let shared = Arc::new(Shared {
            host: format!("127.0.0.1:{port}"),
            origin,
            waiting: Mutex::default(),
            follow: Mutex::default(),
        });
        let (stop, mut stopped) = watch::channel(false);
        let router = router(Arc::clone(&shared));
        tokio::spawn(async move {
            tokio::select! {
                _served = axum::serve(listener, router) => {}
                _stopped = stopped.changed() => {}
            }
        });
        let (page, wallet, invite) = (page.to_owned(), wallet.to_owned(), Box::new(invite));
        Ok(Self { shared, turn: tokio::sync::Mutex::default(), invite, page, wallet, patience, port, stop })
    }

    async fn ask(&self, wish: &Wish) -> std::result::Result<Answer, PasskeyError> {
        let _turn = self.turn.lock().await;
        let pending = Pending::new(wish, &self.wallet, self.port)?;
        let invitation = Invitation { url: format!("{}#{}", self.page, pending.fragment), code: pending.code() };
        let (answer, answered) = oneshot::channel();
        *locked(&self.shared.waiting) = Some(Waiting { pending, answer });
        // Whatever ends the wait, this request is over.
        let _over = Over(&self.shared);
        if !self.shared.lead_on(&invitation.url) && !(self.invite)(&invitation) {
            return Err(PasskeyError::NotAvailable);
        }
        match timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PasskeyError::Failed),
            Err(_) => Err(PasskeyError::Cancelled),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _nobody_listens = self.stop.send(true);
    }
}

struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        *locked(&self.0.waiting) = None;
        locked(&self.0.follow).next = None;
    }
}

#[async_trait]
impl Passkeys for Bridge {
    async fn create(&self, request: PasskeyCreate) -> std::result::Result<PasskeyCreated, PasskeyError> {
        match self.ask(&Wish::Create(request)).await? {
            Answer::Created(created) => Ok(created),
            Answer::Got(_) => Err(PasskeyError::Failed),
        }
    }

    async fn get(&self, request: PasskeyGet) -> std::result::Result<PasskeyGot, PasskeyError> {
        match self.ask(&Wish::Get(request)).await? {
            Answer::Got(got) => Ok(got),
            Answer::Created(_) => Err(PasskeyError::Failed),
        }
    }
}

/// The origin of the page, as browsers write it.
fn origin_of(page: &str) -> Result<String> {
    let usage = || Error::Usage(format!("{page:?} is not the address of a passkey page: https://…/passkey"));
    let url = reqwest::Url::parse(page).map_err(|_| usage())?;
    let local = url.scheme() == "http" && url.host_str() == Some("localhost");
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if (url.scheme() == "https" || local) && bare && url.as_str() == page {
        return Ok(url.origin().ascii_serialization());
    }
    Err(usage())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether the window of the request before is open and goes on to `url` by itself.
    fn lead_on(&self, url: &str) -> bool {
        let mut follow = locked(&self.follow);
        let open = follow.asked.is_some_and(|asked| asked.elapsed() < STILL_OPEN);
        if open {
            follow.next = Some(url.to_owned());
        }
        open
    }

    /// Takes the request that waits, if `state` is its state.
    fn take(&self, state: &str) -> Option<Waiting> {
        let mut waiting = locked(&self.waiting);
        let fits =
            |waiting: &mut Waiting| verify_slices_are_equal(waiting.pending.state.as_bytes(), state.as_bytes()).is_ok();
        waiting.take_if(fits)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/passkey", post(answer))
        .route("/next/{token}", get(next))
        .layer(DefaultBodyLimit::max(MAX_ANSWER))
        .with_state(shared)
}

/// The page's answer: a form that the browser itself sends, so neither CORS nor a local-network permission is needed.
async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let refused = |status: StatusCode, why: &'static str| (status, why).into_response();
    if only(&headers, &header::HOST) != Some(&shared.host) {
        return refused(StatusCode::FORBIDDEN, "another host");
    }
    if only(&headers, &header::ORIGIN) != Some(&shared.origin) {
        return refused(StatusCode::FORBIDDEN, "another origin");
    }
    let Some((state, sealed)) = fields(&headers, &body) else {
        return refused(StatusCode::BAD_REQUEST, "not an answer of the passkey page");
    };
    let Some(waiting) = shared.take(state) else {
        return refused(StatusCode::FORBIDDEN, "no request waits for this answer");
    };
    let token = random_text().ok();
    if let Some(token) = &token {
        *locked(&shared.follow) = Follow { token: Some(token.clone()), asked: Some(Instant::now()), next: None };
    }
    let _gone = waiting.answer.send(waiting.pending.open(sealed));
    thanks(&token.unwrap_or_default())
}

/// The window asks for the next request: 204 while there is none.
async fn next(State(shared): State<Arc<Shared>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    if only(&headers, &header::HOST) != Some(&shared.host) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut follow = locked(&shared.follow);
    let known = follow.token.as_ref();
    if known.is_none_or(|known| verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_err()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    follow.asked = Some(Instant::now());
    match follow.next.take() {
        Some(url) => {
            *follow = Follow::default();
            url.into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// A header that is there exactly once.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

/// `state=…&sealed=…`, both base64url, which a form leaves as it is.
fn fields<'a>(headers: &HeaderMap, body: &'a str) -> Option<(&'a str, &'a str)> {
    let kind = only(headers, &header::CONTENT_TYPE)?;
    let (state, sealed) = body.strip_prefix("state=")?.split_once("&sealed=")?;
    let text = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (kind == "application/x-www-form-urlencoded" && text(state) && text(sealed)).then_some((state, sealed))
}

const FOLLOW: &str = include_str!("follow.js");

/// Tells the user that the answer arrived, and goes on by itself if the command has another request.
fn thanks(token: &str) -> Response {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, FOLLOW.as_bytes());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        BASE64_STANDARD.encode(hash)
    );
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Halfkey</title>\
         <h1>The command line has the answer</h1><p id=\"what\" role=\"status\" data-token=\"{token}\">\
         Keep this window open until the command has ended.</p><script>{FOLLOW}</script></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(""))),
    ];
    (headers, html).into_response()
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
