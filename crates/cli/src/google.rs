//! Google sign-in for programs of the desktop: OAuth 2.0 for native apps (RFC 8252), in the system's browser, with PKCE
//! (RFC 7636, S256) and a redirect to loopback. What it gives is an access token for the app's own hidden folder in the
//! user's Google Drive, and the account's stable id.

mod account;
mod client;
mod exchange;
mod redirect;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use halfkey_client::{
    GoogleConfig,
    host::{Clock, CloudToken, CloudTokenError, CloudTokenProvider, CloudTokenRequest, Request, Transport},
};
use oauth2::{CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use serde::Deserialize;
use zeroize::Zeroizing;

pub use account::Account;
pub use client::{Endpoints, GoogleClient};
use exchange::{AccessToken, Tokens};
use redirect::Redirect;

use crate::{Error, error::Result, passkey::lead_to, profile::GoogleFile};

/// The app's own hidden folder: a scope that Google calls non-sensitive.
pub const SCOPE_DRIVE: &str = "https://www.googleapis.com/auth/drive.appdata";
/// An id token with the account's stable id.
const SCOPE_OPENID: &str = "openid";
/// A token that ends within this time is not handed out: the call that it is for may take a minute.
const MARGIN_MS: u64 = 120_000;

/// Why there is no access to the user's Google account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoogleError {
    /// Nobody has signed in yet.
    #[error("no Google account is signed in")]
    NotSignedIn,
    /// The user refused.
    #[error("access to the Google account was refused in the browser")]
    Denied,
    /// The user signed in, and left out the access to the folder.
    #[error("signed in, but without access to the app's own folder in Google Drive")]
    FolderNotAllowed,
    /// Nobody answered in time.
    #[error("nobody signed in to Google in time")]
    Expired,
    /// Somebody answered in time, but not to this sign-in.
    #[error("the browser's answer belongs to another sign-in")]
    StateMismatch,
    /// The consent has ended, or the user has taken it back.
    #[error("the sign-in to Google has ended")]
    NeedsReauth,
    /// Google cannot be reached, or says that it cannot answer now.
    #[error("Google cannot be reached")]
    Unreachable,
    /// TLS refused the certificate.
    #[error("the connection to Google is not trusted")]
    Untrusted,
    /// No port of loopback could be had.
    #[error("no port for the browser's answer")]
    NoPort,
    /// No browser could be led to Google.
    #[error("no browser can be led to Google")]
    NoBrowser,
    /// Google refuses the app: its client id, its settings, or what it asks for. A code of RFC 6749.
    #[error("Google refuses this app: {0}")]
    Refused(String),
    /// Google answered what it does not answer. Names the place.
    #[error("an answer that is not Google's: {0}")]
    BadAnswer(&'static str),
}

impl GoogleError {
    /// A code of RFC 6749; what is none is not shown.
    fn refused(code: &str) -> Self {
        let code = code.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect();
        Self::Refused(code)
    }

    /// The stable code for `--json`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotSignedIn => "GOOGLE_NOT_SIGNED_IN",
            Self::Denied => "GOOGLE_DENIED",
            Self::FolderNotAllowed => "GOOGLE_FOLDER_NOT_ALLOWED",
            Self::Expired => "GOOGLE_EXPIRED",
            Self::StateMismatch => "GOOGLE_STATE_MISMATCH",
            Self::NeedsReauth => "GOOGLE_NEEDS_REAUTH",
            Self::Unreachable => "GOOGLE_UNREACHABLE",
            Self::Untrusted => "GOOGLE_UNTRUSTED",
            Self::NoPort => "GOOGLE_NO_PORT",
            Self::NoBrowser => "GOOGLE_NO_BROWSER",
            Self::Refused(_) => "GOOGLE_REFUSED",
            Self::BadAnswer(_) => "GOOGLE_BAD_ANSWER",
        }
    }

    /// What to do now.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NotSignedIn | Self::NeedsReauth => "run `halfkey wallet google login`",
            Self::Denied | Self::Expired | Self::StateMismatch => "nothing was changed; run it again to sign in",
            Self::FolderNotAllowed => "run it again, and tick the box that allows the app its own data in Google Drive",
            Self::Unreachable => "check the connection and run it again later",
            Self::Untrusted => "something between this machine and Google reads along: change the network",
            Self::NoPort | Self::NoBrowser => "try it with --no-browser, on this machine",
            Self::Refused(_) => "look at the OAuth client and the consent screen in Google's console",
            Self::BadAnswer(_) => "change the network, or look at the addresses in the client's file",
        }
    }
}

/// An access token, and whose it is.
pub struct GoogleToken {
    /// For the `Authorization` header of Google Drive.
    pub access_token: Zeroizing<String>,
    /// The app's client id.
    pub client_id: String,
    /// `sub` of the id token: the account's stable id.
    pub account: String,
    /// What the user knows the account by.
    pub label: String,
}

/// Leads the user to an address; whether that worked.
pub type Lead = dyn Fn(&str) -> bool + Send + Sync;

/// Leads the user to Google: opens the browser or, with `no_browser`, prints the address.
pub fn lead_user(no_browser: bool) -> impl Fn(&str) -> bool + Send + Sync + 'static {
    let lead = lead_to(no_browser);
    move |url| {
        lead(url, "Sign in to Google in your browser.");
        true
    }
}

/// Signs a user in: leads them to Google, waits for the answer, and reads who it was.
///
/// # Errors
/// See [`GoogleError`].
pub async fn sign_in(
    client: GoogleClient,
    http: &Arc<dyn Transport>,
    clock: &dyn Clock,
    lead: &Lead,
    patience: Duration,
) -> std::result::Result<Account, GoogleError> {
    let oauth = exchange::oauth(&client)?;
    let redirect = Redirect::listen().await?;
    let uri = RedirectUrl::new(redirect.uri()).map_err(|_| GoogleError::NoPort)?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let nonce = CsrfToken::new_random();
    let (url, state) = oauth
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new(SCOPE_OPENID.to_owned()))
        .add_scope(Scope::new(SCOPE_DRIVE.to_owned()))
        .set_pkce_challenge(challenge)
        .set_redirect_uri(std::borrow::Cow::Borrowed(&uri))
        // Google's: a refresh token, and the consent screen even if the user has seen it before.
        .add_extra_param("access_type", "offline")
        .add_extra_param("prompt", "consent")
        .add_extra_param("nonce", nonce.secret())
        .url();
    if !lead(url.as_str()) {
        return Err(GoogleError::NoBrowser);
    }
    let code = redirect.answer(state.secret(), &client.endpoints.issuer, tokio::time::sleep(patience)).await?;
    let tokens = exchange::code(&oauth, http, &code, verifier, uri).await?;
    let allowed = tokens.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope == SCOPE_DRIVE));
    if !allowed {
        return Err(GoogleError::FolderNotAllowed);
    }
    let id_token = tokens.id_token.ok_or(GoogleError::BadAnswer("ID_TOKEN"))?;
    let id = exchange::account(&client, &id_token, nonce.secret(), clock.now_ms())?;
    let refresh = tokens.refresh.ok_or(GoogleError::BadAnswer("REFRESH_TOKEN"))?;
    let label = label(&client, http, &tokens.access).await?;
    Ok(Account { client, id, label, refresh })
}

/// The account's address, which Google Drive tells with the scope that we have. That it answers shows that the app may use
/// it: a project without the Drive API is found here and not when a backup is made.
async fn label(
    client: &GoogleClient,
    http: &Arc<dyn Transport>,
    access: &AccessToken,
) -> std::result::Result<String, GoogleError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        user: User,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct User {
        #[serde(default)]
        email_address: String,
    }
    let url = format!("{}/drive/v3/about?fields=user(emailAddress)", client.endpoints.drive);
    let headers = vec![("authorization".to_owned(), format!("Bearer {}", access.0.as_str()))];
    let answer = exchange::send(http, Request { method: "GET", url, headers, body: Vec::new() }).await?;
    match answer.status {
        200 => {}
        401 => return Err(GoogleError::NeedsReauth),
        403 => return Err(GoogleError::Refused("drive_api".to_owned())),
        _ => return Err(GoogleError::BadAnswer("ABOUT")),
    }
    let about: About = serde_json::from_slice(&answer.body).map_err(|_| GoogleError::BadAnswer("ABOUT"))?;
    // It is shown on a terminal.
    Ok(about.user.email_address.chars().filter(|c| !c.is_control()).take(254).collect())
}

/// Ends the sign-in at Google, on every device.
///
/// # Errors
/// See [`GoogleError`]. One that is over already is no error.
pub async fn revoke(account: &Account, http: &Arc<dyn Transport>) -> std::result::Result<(), GoogleError> {
    exchange::revoke(&account.client, http, &account.refresh).await
}

/// Gives access tokens of the account that is signed in on a profile, and gets new ones as they end.
pub struct GoogleSignIn {
    http: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    file: GoogleFile,
    held: tokio::sync::Mutex<Option<Held>>,
    refused: AtomicBool,
}

struct Held {
    account: Account,
    access: Option<(AccessToken, u64)>,
}

impl GoogleSignIn {
    /// The account in the profile's file; nothing is sent yet.
    #[must_use]
    pub fn new(file: GoogleFile, http: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock, file, held: tokio::sync::Mutex::default(), refused: AtomicBool::new(false) }
    }

    /// A token that is good for two minutes at least; from Google if there is none.
    ///
    /// # Errors
    /// [`crate::Error::Google`], and what is wrong with the profile's file.
    pub async fn token(&self) -> Result<GoogleToken> {
        let mut held = self.held.lock().await;
        if held.is_none() {
            let account = self.file.read()?.ok_or(GoogleError::NotSignedIn)?;
            *held = Some(Held { account, access: None });
        }
        let Some(held) = held.as_mut() else { return Err(GoogleError::NotSignedIn.into()) };
        if self.refused.swap(false, Ordering::AcqRel) {
            held.access = None;
        }
        let now = self.clock.now_ms();
        if held.access.as_ref().is_none_or(|(_, until)| *until < now.saturating_add(MARGIN_MS)) {
            held.access = None;
            let oauth = exchange::oauth(&held.account.client)?;
            let tokens = exchange::refresh(&oauth, &self.http, &held.account.refresh).await?;
            let Tokens { access, lives_ms, refresh, .. } = tokens;
            if let Some(refresh) = refresh {
                // Kept before anything is done with it: the one before may be over.
                held.account.refresh = refresh;
                self.file.write(&held.account)?;
            }
            held.access = Some((access, now.saturating_add(lives_ms)));
        }
        let Some((access, _)) = &held.access else { return Err(GoogleError::NeedsReauth.into()) };
        let Account { client, id, label, .. } = &held.account;
        let (client_id, account, label) = (client.id.clone(), id.clone(), label.clone());
        Ok(GoogleToken { access_token: access.0.clone(), client_id, account, label })
    }

    /// Google refused the last token: the next one is a new one.
    pub fn invalidated(&self) {
        self.refused.store(true, Ordering::Release);
    }
}

#[async_trait]
impl CloudTokenProvider for GoogleSignIn {
    /// Asks nobody: who is not signed in has to sign in first (`halfkey wallet google login`).
    async fn token(&self, wanted: &CloudTokenRequest) -> std::result::Result<CloudToken, CloudTokenError> {
        match Self::token(self).await {
            // A token of another app would open another folder.
            Ok(token) if wanted.scope != SCOPE_DRIVE || token.client_id != wanted.client_id => {
                Err(CloudTokenError::NeedsReauth)
            }
            Ok(GoogleToken { access_token, account, label, .. }) => Ok(CloudToken { access_token, account, label }),
            Err(Error::Google(GoogleError::Unreachable | GoogleError::Untrusted | GoogleError::BadAnswer(_))) => {
                Err(CloudTokenError::Unreachable)
            }
            Err(_) => Err(CloudTokenError::NeedsReauth),
        }
    }

    fn invalidated(&self) {
        Self::invalidated(self);
    }
}

impl Account {
    /// What the SDK must know of the app at Google.
    #[must_use]
    pub fn storage(&self) -> GoogleConfig {
        GoogleConfig::new(&self.client.id, "Halfkey").danger_api_base(&self.client.endpoints.drive)
    }
}

#[cfg(test)]
#[path = "google/google_tests.rs"]
mod tests;
