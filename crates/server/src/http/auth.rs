//! Who calls: bearer credentials, then the device key's signature over the whole call. Both are verified before any
//! handler, and so before any ceremony code, runs (PROTOCOL.md 4, DECISIONS.md D4).

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequest, FromRequestParts, Request, State},
    http::{Extensions, HeaderMap, header::AUTHORIZATION, request::Parts},
    middleware::Next,
    response::Response,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use halfkey_api::{
    auth::{DEVICE_KEY_HEADER, MAX_SKEW_MS, NONCE_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, prefix, request_digest},
    error::ErrorId,
};
use halfkey_envelope::{
    entropy::{Entropy, random},
    hash::sha256,
    id::{ApiKeyId, ClientId, CustodianId},
};
use halfkey_protocol::identity::IdentityPublic;

use super::body::{self, FromBody};
use crate::{
    admin::Scope,
    app::App,
    fault::Fault,
    store::{Device, Error as StoreError, KeyOwner, What},
};

/// A fresh credential: its text, shown once, and the SHA-256 that is stored.
pub(crate) fn new_credential(prefix: &str, entropy: &mut dyn Entropy) -> (String, [u8; 32]) {
    let secret = random::<32>(entropy);
    let text = format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(secret.as_ref()));
    let digest = sha256(text.as_bytes());
    (text, digest)
}

/// A custodian's backend, by its API key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsCustodian {
    pub(crate) custodian: CustodianId,
    pub(crate) key: ApiKeyId,
    /// The key's scope is everything.
    is_whole: bool,
    /// The one "now" of this request.
    pub(crate) now_ms: u64,
}

impl AsCustodian {
    /// Only with a key whose scope is everything.
    pub(crate) fn must_open_ejects(&self) -> Result<(), Fault> {
        self.must_be_whole("this key's scope does not open windows for ejects")
    }

    /// Only with a key whose scope is everything: whoever says where events go gets the links that cancel recoveries.
    pub(crate) fn must_direct_events(&self) -> Result<(), Fault> {
        self.must_be_whole("this key's scope does not say where events are sent")
    }

    fn must_be_whole(&self, message: &'static str) -> Result<(), Fault> {
        if self.is_whole { Ok(()) } else { Err(Fault::new(ErrorId::Forbidden, message)) }
    }
}

/// An app on behalf of one client, by a session token or a client API key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsClient {
    pub(crate) client: ClientId,
    /// Where the call came from, if that is known.
    pub(crate) address: Option<IpAddr>,
    /// The one "now" of this request.
    pub(crate) now_ms: u64,
}

/// Lets custodians through, and nobody else.
pub(crate) async fn custodians(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Fault> {
    let (now_ms, address) = (app.now_ms(), address(&app, request.headers(), request.extensions()));
    let caller = match bearer(request.headers()) {
        Some((Kind::Custodian, digest)) => app.store.authenticate_key(&digest).await,
        _ => Err(StoreError::Unknown(What::Credential)),
    };
    let caller = match caller.map(|key| (key.owner, key.key, key.scope)) {
        Ok((KeyOwner::Custodian(custodian), key, scope)) => {
            AsCustodian { custodian, key, is_whole: scope == Scope::All.as_str(), now_ms }
        }
        Ok(_) => return refuse(&app, StoreError::Unknown(What::Credential), address, now_ms).await,
        Err(error) => return refuse(&app, error, address, now_ms).await,
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Lets clients through, and nobody else.
pub(crate) async fn clients(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Fault> {
    let (now_ms, address) = (app.now_ms(), address(&app, request.headers(), request.extensions()));
    let client = match bearer(request.headers()) {
        Some((Kind::Session, digest)) => app.store.touch_session(&digest, now_ms).await.map(|client| client.id),
        Some((Kind::Client, digest)) => match app.store.authenticate_key(&digest).await {
            Ok(key) => match key.owner {
                KeyOwner::Client { client, .. } => Ok(client),
                KeyOwner::Custodian(_) => Err(StoreError::Unknown(What::Credential)),
            },
            Err(error) => Err(error),
        },
        _ => Err(StoreError::Unknown(What::Credential)),
    };
    match client {
        Ok(client) => {
            request.extensions_mut().insert(AsClient { client, address, now_ms });
            Ok(next.run(request).await)
        }
        Err(error) => refuse(&app, error, address, now_ms).await,
    }
}

async fn refuse(app: &App, error: StoreError, address: Option<IpAddr>, now_ms: u64) -> Result<Response, Fault> {
    if let (StoreError::Unknown(_), Some(address)) = (&error, address) {
        app.limit(&format!("unauthenticated:{address}"), app.config.limits.unauthenticated, now_ms).await?;
    }
    Err(error.into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Custodian,
    Client,
    Session,
}

/// The kind and the SHA-256 of a well-formed bearer credential. It is looked up by that digest alone, so comparing
/// takes the same time whatever the secret is (DECISIONS.md D36).
fn bearer(headers: &HeaderMap) -> Option<(Kind, [u8; 32])> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let kinds = [
        (prefix::CUSTODIAN_KEY, Kind::Custodian),
        (prefix::CLIENT_KEY, Kind::Client),
        (prefix::SESSION_TOKEN, Kind::Session),
    ];
    let (kind, secret) = kinds.into_iter().find_map(|(prefix, kind)| Some((kind, text.strip_prefix(prefix)?)))?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(secret).ok()?;
    (decoded.len() == 32).then(|| (kind, sha256(text.as_bytes())))
}

/// Where a call came from: the connection's other end, or what one's own proxy says.
fn address(app: &App, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    let forwarded = || headers.get("x-forwarded-for")?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok();
    let connected = || extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if app.config.trust_forwarded_for { forwarded().or_else(connected) } else { connected() }
}

macro_rules! from_extension {
    ($($name:ident)*) => {$(
        impl FromRequestParts<App> for $name {
            type Rejection = Fault;

            async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Fault> {
                // Without the layer that authenticates there is no caller, and so no answer.
                let caller = parts.extensions.get::<Self>().copied();
                caller.ok_or(Fault::new(ErrorId::Unauthenticated, "no or unknown credentials"))
            }
        }
    )*};
}

from_extension!(AsCustodian AsClient);

/// Somebody without any credential.
pub(crate) struct Stranger {
    /// Where the call came from.
    pub(crate) address: Option<IpAddr>,
    /// When it arrived, in milliseconds.
    pub(crate) now_ms: u64,
}

impl FromRequestParts<App> for Stranger {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        Ok(Self { address: address(app, &parts.headers, &parts.extensions), now_ms: app.now_ms() })
    }
}

/// A JSON body of a custodian's call, which no device signs.
pub(crate) struct Unsigned<P>(pub(crate) P);

impl<P: FromBody> FromRequest<App> for Unsigned<P> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &App) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        let bytes = body::read(&parts.headers, body, P::LIMIT).await?;
        P::from_body(&parts.headers, bytes).map(Self)
    }
}

/// A call that some device key signed: enrolled, or the new one of a recovery. Never a revoked one.
pub(crate) struct SignedByAnyKey<P> {
    pub(crate) caller: AsClient,
    /// Ed25519, in whose name the call is made.
    pub(crate) key: [u8; 32],
    /// The enrolled device of that key, if there is one.
    pub(crate) device: Option<Device>,
    pub(crate) body: P,
}

/// A call that an enrolled, unrevoked device of the client signed.
pub(crate) struct Signed<P> {
    pub(crate) caller: AsClient,
    pub(crate) device: Device,
    pub(crate) body: P,
}

impl<P: FromBody> FromRequest<App> for SignedByAnyKey<P> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let caller = AsClient::from_request_parts(&mut parts, app).await?;
        app.limit(&format!("client:{}", caller.client), app.config.limits.client, caller.now_ms).await?;
        let bytes = body::read(&parts.headers, body, P::LIMIT).await?;
        let key = verify(app, &parts, &bytes, caller.now_ms)?;
        let device = match app.store.device_by_key(caller.client, &key.bytes).await {
            Ok(device) if device.revoked_ms.is_some() => {
                return Err(Fault::new(ErrorId::DeviceRevoked, "this device was revoked"));
            }
            Ok(device) => Some(device),
            Err(StoreError::Unknown(_)) => None,
            Err(error) => return Err(error.into()),
        };
        app.store.accept_nonce(&key.bytes, &key.nonce, caller.now_ms).await.map_err(|error| match error {
            StoreError::Exists(_) => invalid("the nonce was used before"),
            error => error.into(),
        })?;
        Ok(Self { caller, key: key.bytes, device, body: P::from_body(&parts.headers, bytes)? })
    }
}

impl<P: FromBody> FromRequest<App> for Signed<P> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        SignedByAnyKey::from_request(request, app).await?.enrolled()
    }
}

/// The key that signed a call which need not be signed; a signature that is there must be good.
pub(crate) struct MaybeSigned(pub(crate) Option<[u8; 32]>);

impl FromRequest<App> for MaybeSigned {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        if !request.headers().contains_key(SIGNATURE_HEADER) {
            return Ok(Self(None));
        }
        let signed = SignedByAnyKey::<body::Empty>::from_request(request, app).await?;
        Ok(Self(Some(signed.key)))
    }
}

impl<P> SignedByAnyKey<P> {
    /// Only if the key is an enrolled device's.
    pub(crate) fn enrolled(self) -> Result<Signed<P>, Fault> {
        let device = self.device.ok_or(invalid("no enrolled device of this client has this key"))?;
        Ok(Signed { caller: self.caller, device, body: self.body })
    }
}

struct VerifiedKey {
    bytes: [u8; 32],
    nonce: [u8; 32],
}

/// Verifies the device headers over method, path with query, body, time and nonce.
fn verify(app: &App, parts: &Parts, body: &[u8], now_ms: u64) -> Result<VerifiedKey, Fault> {
    let key: [u8; 32] = hex_header(&parts.headers, DEVICE_KEY_HEADER)?;
    let nonce: [u8; 32] = hex_header(&parts.headers, NONCE_HEADER)?;
    let signature: [u8; 64] = hex_header(&parts.headers, SIGNATURE_HEADER)?;
    let timestamp = text_header(&parts.headers, TIMESTAMP_HEADER)?;
    let timestamp_ms: u64 = timestamp.parse().map_err(|_| invalid("the timestamp does not parse"))?;
    if timestamp_ms.to_string() != timestamp {
        return Err(invalid("the timestamp does not parse"));
    }
    if timestamp_ms.abs_diff(now_ms) > MAX_SKEW_MS {
        return Err(invalid("the timestamp is too far from the server's clock").server_time(now_ms));
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let digest = request_digest(app.deployment.as_bytes(), parts.method.as_str(), path, body, timestamp_ms, &nonce);
    let public = IdentityPublic::from_bytes(&key).map_err(|_| invalid("not a device key"))?;
    public.verify_digest(&digest, &signature).map_err(|_| invalid("the device signature does not verify"))?;
    Ok(VerifiedKey { bytes: key, nonce })
}

fn hex_header<const N: usize>(headers: &HeaderMap, name: &str) -> Result<[u8; N], Fault> {
    let text = text_header(headers, name)?;
    let mut bytes = [0u8; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let parsed = lower && hex::decode_to_slice(text, &mut bytes).is_ok();
    if parsed { Ok(bytes) } else { Err(invalid("a device header does not parse")) }
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Fault> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(invalid("a device header is missing or there twice"));
    };
    value.to_str().map_err(|_| invalid("a device header does not parse"))
}

const fn invalid(message: &'static str) -> Fault {
    Fault::new(ErrorId::DeviceSignatureInvalid, message)
}
