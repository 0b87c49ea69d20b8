//! Fetches one file as a phone or a browser does: without credentials, following no redirect.

use std::time::Duration;

use halfkey_api::relying_party::MAX_FILE;
use reqwest::{Client, header};

use crate::{
    error::Result,
    transport::{names_a_certificate, user_agent},
};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fetched {
    /// No connection, or no answer in time.
    Unreachable,
    /// TLS refused the certificate.
    Untrusted,
    /// More than anybody reads.
    TooLarge,
    /// An answer of any status.
    Answer {
        status: u16,
        /// Without parameters, in lower case; empty if there is none.
        content_type: String,
        /// Where a redirect leads.
        location: Option<String>,
        body: Vec<u8>,
    },
}

/// Never through a proxy, whatever the environment says.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

pub(super) struct Fetcher {
    client: Client,
    base: String,
    host: String,
}

impl Fetcher {
    /// For the files of `host` at `base`.
    pub(super) fn new(base: &str, host: &str) -> Result<Self> {
        let mut builder = Client::builder();
        if reqwest::Url::parse(base).is_ok_and(|url| url.host_str().is_some_and(is_loopback)) {
            builder = builder.no_proxy();
        }
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(20))
            .user_agent(user_agent())
            .build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), host: host.to_owned() })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) async fn fetch(&self, path: &str) -> Fetched {
        let request = self.client.get(self.url(path)).header(header::HOST, &self.host);
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if names_a_certificate(&error) => return Fetched::Untrusted,
            Err(_) => return Fetched::Unreachable,
        };
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let kind = text(header::CONTENT_TYPE).unwrap_or_default();
        let content_type = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (status, location) = (answer.status().as_u16(), text(header::LOCATION));
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_FILE => return Fetched::TooLarge,
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Fetched::Answer { status, content_type, location, body },
                Err(_) => return Fetched::Unreachable,
            }
        }
    }
}
