//! HTTP for the SDK, by `reqwest` with the TLS provider that the server uses as well.

use std::time::Duration;

use async_trait::async_trait;
use halfkey_client::host::{MAX_RESPONSE, Request, Response, Transport, TransportError};

/// Sends the SDK's requests. Follows no redirects and retries nothing.
pub struct HttpTransport {
    client: reqwest::Client,
}

impl HttpTransport {
    /// A transport with a pool of its own. Call [`install_tls_provider`] first.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::with_patience(Duration::from_secs(60))
    }

    /// The same, which gives up after another time than a minute.
    ///
    /// # Errors
    /// As [`HttpTransport::new`].
    pub fn with_patience(patience: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(patience)
            .build()?;
        Ok(Self { client })
    }
}

/// One provider for the whole process (two would make TLS panic at its first handshake). A second call does nothing.
pub fn install_tls_provider() {
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// How the command line names itself to servers that are none of ours.
pub(crate) const fn user_agent() -> &'static str {
    concat!("halfkey/", env!("CARGO_PKG_VERSION"))
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).map_err(|_| TransportError::Unreachable)?;
        let mut outgoing = self.client.request(method, &request.url).body(request.body);
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name, value);
        }
        let answer = outgoing.send().await.map_err(|error| transport_error(&error))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect();
        Ok(Response { status, headers, body: whole_body(answer).await? })
    }
}

async fn whole_body(mut answer: reqwest::Response) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| transport_error(&error))? {
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Err(TransportError::BadAnswer);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport_error(error: &reqwest::Error) -> TransportError {
    if error.is_timeout() {
        TransportError::Timeout
    } else if error.is_body() || error.is_decode() {
        TransportError::BadAnswer
    } else if names_a_certificate(error) {
        TransportError::Untrusted
    } else {
        TransportError::Unreachable
    }
}

pub(crate) fn names_a_certificate(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<rustls::Error>().is_some() {
            return true;
        }
        source = inner.source();
    }
    false
}
