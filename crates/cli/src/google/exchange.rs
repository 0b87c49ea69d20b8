//! Codes and refresh tokens become access tokens (RFC 6749, 4.1.3 and 6), and refresh tokens end (RFC 7009).
//!
//! The `oauth2` crate makes the requests and reads the answers; the command line's own transport carries them. The crate
//! does not wipe what it holds, so its values are turned into ours at once.

use std::{future::Future, pin::Pin, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use halfkey_client::host::{Request, Response, Transport, TransportError};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    StandardErrorResponse, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{GoogleClient, GoogleError, account::RefreshToken, redirect::Code};

/// For the `Authorization` header of Google Drive, for about an hour.
pub(super) struct AccessToken(pub(super) Zeroizing<String>);

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) access: AccessToken,
    pub(super) lives_ms: u64,
    /// A new one: the one before may be worth nothing from now on.
    pub(super) refresh: Option<RefreshToken>,
    pub(super) id_token: Option<Zeroizing<String>>,
    /// What the user allowed, if that is not just what was asked for.
    pub(super) scopes: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct IdToken {
    id_token: Option<String>,
}

/// The crate asks for it, and it may show nothing.
impl std::fmt::Debug for IdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdToken")
    }
}

impl ExtraTokenFields for IdToken {}

type Answer = StandardTokenResponse<IdToken, BasicTokenType>;

/// The client of the `oauth2` crate that also reads id tokens.
pub(super) type OAuth = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// # Errors
/// [`GoogleError::BadAnswer`] never, for a client that was read from its file.
pub(super) fn oauth(client: &GoogleClient) -> Result<OAuth, GoogleError> {
    let address = |_| GoogleError::BadAnswer("ADDRESS");
    let authorize = AuthUrl::new(client.endpoints.authorize.clone()).map_err(address)?;
    let token = TokenUrl::new(client.endpoints.token.clone()).map_err(address)?;
    let oauth = Client::new(ClientId::new(client.id.clone()))
        .set_auth_uri(authorize)
        .set_token_uri(token)
        .set_auth_type(AuthType::RequestBody);
    Ok(match &client.secret {
        Some(secret) => oauth.set_client_secret(oauth2::ClientSecret::new(secret.0.to_string())),
        None => oauth,
    })
}

/// A code for tokens.
///
/// # Errors
/// See [`GoogleError`].
pub(super) async fn code(
    oauth: &OAuth,
    http: &Arc<dyn Transport>,
    code: &Code,
    verifier: PkceCodeVerifier,
    redirect: RedirectUrl,
) -> Result<Tokens, GoogleError> {
    let request = oauth.exchange_code(AuthorizationCode::new(code.0.to_string()));
    let request = request.set_pkce_verifier(verifier).set_redirect_uri(std::borrow::Cow::Owned(redirect));
    tokens(request.request_async(&Carrier(Arc::clone(http))).await)
}

/// A refresh token for a new access token.
///
/// # Errors
/// [`GoogleError::NeedsReauth`] when the user took the consent back, or it has ended.
pub(super) async fn refresh(
    oauth: &OAuth,
    http: &Arc<dyn Transport>,
    refresh: &RefreshToken,
) -> Result<Tokens, GoogleError> {
    let refresh = oauth2::RefreshToken::new(refresh.0.to_string());
    tokens(oauth.exchange_refresh_token(&refresh).request_async(&Carrier(Arc::clone(http))).await)
}

/// Ends a refresh token and all that came of it.
///
/// # Errors
/// See [`GoogleError`]. A token that is over already is no error.
pub(super) async fn revoke(
    client: &GoogleClient,
    http: &Arc<dyn Transport>,
    token: &RefreshToken,
) -> Result<(), GoogleError> {
    let mut form = reqwest::Url::parse("http://form").map_err(|_| GoogleError::BadAnswer("FORM"))?;
    form.query_pairs_mut().append_pair("token", &token.0).append_pair("client_id", &client.id);
    if let Some(secret) = &client.secret {
        form.query_pairs_mut().append_pair("client_secret", &secret.0);
    }
    let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    let body = form.query().unwrap_or_default().as_bytes().to_vec();
    let answer = send(http, Request { method: "POST", url: client.endpoints.revoke.clone(), headers, body }).await?;
    let over = answer.status == 400 && error_of(&answer.body).as_deref() == Some("invalid_token");
    match answer.status {
        200 => Ok(()),
        _ if over => Ok(()),
        _ => Err(GoogleError::refused(&error_of(&answer.body).unwrap_or_default())),
    }
}

fn error_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    serde_json::from_slice(body).ok().map(|Body { error }| error)
}

/// One request; what passes by itself is told from an answer.
pub(super) async fn send(http: &Arc<dyn Transport>, request: Request) -> Result<Response, GoogleError> {
    match http.send(request).await {
        Ok(answer) if answer.status >= 500 || answer.status == 429 => Err(GoogleError::Unreachable),
        Ok(answer) => Ok(answer),
        Err(TransportError::Untrusted) => Err(GoogleError::Untrusted),
        Err(_) => Err(GoogleError::Unreachable),
    }
}

/// The command line's transport, as the `oauth2` crate wants it.
struct Carrier(Arc<dyn Transport>);

impl<'c> AsyncHttpClient<'c> for Carrier {
    type Error = GoogleError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, GoogleError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut headers = Vec::new();
            for (name, value) in &head.headers {
                let value = value.to_str().map_err(|_| GoogleError::BadAnswer("REQUEST"))?;
                headers.push((name.to_string(), value.to_owned()));
            }
            let answer = send(&self.0, Request { method: "POST", url: head.uri.to_string(), headers, body }).await?;
            let mut response = HttpResponse::new(answer.body);
            let status = oauth2::http::StatusCode::from_u16(answer.status);
            *response.status_mut() = status.map_err(|_| GoogleError::BadAnswer("STATUS"))?;
            for (name, value) in answer.headers {
                let name = oauth2::http::HeaderName::try_from(name).map_err(|_| GoogleError::BadAnswer("HEADER"))?;
                if let Ok(value) = oauth2::http::HeaderValue::try_from(value) {
                    response.headers_mut().append(name, value);
                }
            }
            Ok(response)
        })
    }
}

type Refused = RequestTokenError<GoogleError, StandardErrorResponse<BasicErrorResponseType>>;

fn tokens(answer: Result<Answer, Refused>) -> Result<Tokens, GoogleError> {
    let answer = answer.map_err(|error| match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(refusal) => match refusal.error() {
            BasicErrorResponseType::InvalidGrant => GoogleError::NeedsReauth,
            other => GoogleError::refused(other.as_ref()),
        },
        // Neither may be shown: they hold what was answered.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => GoogleError::BadAnswer("TOKEN"),
    })?;
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let lives_ms = answer.expires_in().map_or(0, |lives| u64::try_from(lives.as_millis()).unwrap_or(0));
    Ok(Tokens {
        access: AccessToken(secret(answer.access_token().secret())),
        lives_ms,
        refresh: answer.refresh_token().map(|token| RefreshToken(secret(token.secret()))),
        id_token: answer.extra_fields().id_token.as_deref().map(secret),
        scopes: answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
    })
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: u64,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The account that an id token names. It came from the token endpoint itself, over TLS, which stands for its signature
/// (OpenID Connect Core 1.0, section 3.1.3.7, step 6); the other steps are here.
///
/// # Errors
/// [`GoogleError::BadAnswer`] for one that is malformed, or meant for another client, sign-in or time.
pub(super) fn account(client: &GoogleClient, id_token: &str, nonce: &str, now_ms: u64) -> Result<String, GoogleError> {
    let odd = GoogleError::BadAnswer;
    let mut parts = id_token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(odd("ID_TOKEN"));
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| odd("ID_TOKEN"))?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| odd("ID_TOKEN"))?;
    let issuer = client.endpoints.issuer.as_str();
    // Google writes itself without the scheme as well (its OpenID Connect guide).
    if claims.iss != issuer && issuer.strip_prefix("https://") != Some(&claims.iss) {
        return Err(odd("ID_TOKEN_ISSUER"));
    }
    let ours = match &claims.aud {
        Audience::One(audience) => *audience == client.id,
        Audience::Several(all) => {
            all.contains(&client.id) && (all.len() == 1 || claims.azp.as_ref() == Some(&client.id))
        }
    };
    if !ours || claims.azp.is_some_and(|party| party != client.id) {
        return Err(odd("ID_TOKEN_AUDIENCE"));
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return Err(odd("ID_TOKEN_NONCE"));
    }
    if claims.exp.saturating_mul(1000) <= now_ms {
        return Err(odd("ID_TOKEN_EXPIRED"));
    }
    // Core 2: at most 255 ASCII characters.
    let usable = (1..=255).contains(&claims.sub.len()) && claims.sub.bytes().all(|byte| byte.is_ascii_graphic());
    if usable { Ok(claims.sub) } else { Err(odd("ID_TOKEN_SUBJECT")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::google::Endpoints;

    fn seen(change: impl Fn(&mut Value)) -> Result<String, GoogleError> {
        let mut claims = json!({
            "iss": "https://accounts.google.com", "sub": "42", "aud": "app", "azp": "app", "exp": 100, "nonce": "n",
        });
        change(&mut claims);
        let token = format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let client = GoogleClient { id: "app".to_owned(), secret: None, endpoints: Endpoints::default() };
        account(&client, &token, "n", 99_999)
    }

    #[test]
    fn an_id_token_of_this_sign_in_names_the_account() {
        assert_eq!(seen(|_| {}), Ok("42".to_owned()));
        assert_eq!(seen(|claims| claims["iss"] = json!("accounts.google.com")), Ok("42".to_owned()));
        assert_eq!(seen(|claims| claims["aud"] = json!(["other", "app"])), Ok("42".to_owned()));
    }

    #[test]
    fn any_other_id_token_is_refused() {
        let cases: [(&str, Value, &str); 12] = [
            ("iss", json!("https://example.com"), "ID_TOKEN_ISSUER"),
            ("iss", json!("http://accounts.google.com"), "ID_TOKEN_ISSUER"),
            ("aud", json!("other"), "ID_TOKEN_AUDIENCE"),
            ("aud", json!(["other"]), "ID_TOKEN_AUDIENCE"),
            ("azp", json!("other"), "ID_TOKEN_AUDIENCE"),
            ("nonce", json!("other"), "ID_TOKEN_NONCE"),
            ("nonce", Value::Null, "ID_TOKEN_NONCE"),
            ("exp", json!(99), "ID_TOKEN_EXPIRED"),
            ("exp", json!("100"), "ID_TOKEN"),
            ("sub", json!(""), "ID_TOKEN_SUBJECT"),
            ("sub", json!("a\nb"), "ID_TOKEN_SUBJECT"),
            ("sub", json!("4".repeat(256)), "ID_TOKEN_SUBJECT"),
        ];
        for (name, value, expected) in cases {
            let seen = seen(|claims| claims[name] = value.clone());
            assert_eq!(seen, Err(GoogleError::BadAnswer(expected)), "{name} {value}");
        }
        let client = GoogleClient { id: "app".to_owned(), secret: None, endpoints: Endpoints::default() };
        for token in ["", "a.b", "e30.!.x", "e30.e30.x", "e30.e30.x.y"] {
            assert_eq!(account(&client, token, "n", 0), Err(GoogleError::BadAnswer("ID_TOKEN")), "{token}");
        }
    }
}
