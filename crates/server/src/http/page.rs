//! Pages of this server: one file each without any other. What a page may do is named by hash in its
//! Content-Security-Policy.

use axum::{
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use crate::fault::Fault;

/// A page with its style and script written into it.
pub(crate) struct Page {
    html: String,
    policy: String,
}

impl Page {
    /// `html` has `{{style}}` and `{{script}}` where they belong; `allow` are further directives of the policy.
    pub(crate) fn new(html: &str, style: &str, script: &str, allow: &str) -> Self {
        let html = html.replace("{{style}}", style).replace("{{script}}", script);
        let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; {allow}; base-uri 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'",
            hash(script),
            hash(style),
        );
        Self { html, policy }
    }

    /// The answer, with `more` headers.
    pub(crate) fn answer(&self, more: &[(&'static str, &'static str)]) -> Result<Response, Fault> {
        let headers = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", self.policy.as_str()),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
        ];
        let mut response = self.html.clone().into_response();
        for (name, value) in headers.iter().chain(more) {
            let value = HeaderValue::from_str(value).map_err(|error| Fault::internal(&error))?;
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(response)
    }
}
