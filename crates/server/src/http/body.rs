//! Bodies: bounded, of the right type, and strictly parsed.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header::CONTENT_LENGTH, header::CONTENT_TYPE},
};
use futures_util::StreamExt;
use halfkey_api::{ceremony, error::ErrorId};
use serde::de::DeserializeOwned;

use crate::fault::Fault;

/// What a JSON body may have at most.
pub(crate) const MAX_JSON: usize = 16 * 1024;
/// An envelope and a sealed record of 16 KiB each, in base64, and the JSON around them.
pub(crate) const MAX_CIPHER_TEXT: usize = 48 * 1024;
/// A body that is too large is read on to this size and dropped, so that its sender gets to read the answer.
const MAX_DRAIN: usize = 4 * 1024 * 1024;

/// A kind of body that a handler takes.
pub(crate) trait FromBody: Sized + Send {
    /// At most so many bytes.
    const LIMIT: usize;

    /// Parses a body whose signature was verified.
    fn from_body(headers: &HeaderMap, bytes: Bytes) -> Result<Self, Fault>;
}

/// JSON of one of the messages of `halfkey_api`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromBody for Json<T> {
    const LIMIT: usize = MAX_JSON;

    fn from_body(headers: &HeaderMap, bytes: Bytes) -> Result<Self, Fault> {
        json(headers, &bytes).map(Self)
    }
}

/// JSON that carries an envelope.
pub(crate) struct LargeJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromBody for LargeJson<T> {
    const LIMIT: usize = MAX_CIPHER_TEXT;

    fn from_body(headers: &HeaderMap, bytes: Bytes) -> Result<Self, Fault> {
        json(headers, &bytes).map(Self)
    }
}

/// A sealed ceremony body.
pub(crate) struct Sealed(pub(crate) Bytes);

impl FromBody for Sealed {
    const LIMIT: usize = ceremony::MAX_BODY;

    fn from_body(headers: &HeaderMap, bytes: Bytes) -> Result<Self, Fault> {
        media_type(headers, ceremony::MEDIA_TYPE)?;
        Ok(Self(bytes))
    }
}

/// No body at all.
pub(crate) struct Empty;

impl FromBody for Empty {
    const LIMIT: usize = 0;

    fn from_body(_: &HeaderMap, _: Bytes) -> Result<Self, Fault> {
        Ok(Self)
    }
}

fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Fault> {
    media_type(headers, "application/json")?;
    // What serde says may quote the body; the caller has the body, the log must not.
    serde_json::from_slice(bytes).map_err(|_| Fault::invalid("the body is not the JSON that this path takes"))
}

fn media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Fault> {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(Fault::new(ErrorId::UnsupportedMediaType, "this path takes another content type"))
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Fault> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_DRAIN) {
        return Err(too_large());
    }
    let (mut bytes, mut length) = (Vec::new(), 0usize);
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Fault::invalid("the body broke off"))?;
        length = length.saturating_add(chunk.len());
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else if length > MAX_DRAIN {
            break;
        }
    }
    if length > limit { Err(too_large()) } else { Ok(bytes.into()) }
}

const fn too_large() -> Fault {
    Fault::new(ErrorId::BodyTooLarge, "the body is larger than this path takes")
}
