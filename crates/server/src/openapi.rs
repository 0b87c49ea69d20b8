//! The OpenAPI document, made from the handlers themselves: what is served is what is described.

use std::{collections::BTreeMap, sync::OnceLock};

use halfkey_api::error::ErrorBody;
use utoipa::{
    IntoParams, IntoResponses, OpenApi, PartialSchema, ToSchema,
    openapi::{
        Content, HeaderBuilder, Ref, RefOr, ResponseBuilder,
        response::Response,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Halfkey", description = "Backs up and recovers MPC wallets."),
    components(schemas(ErrorBody)),
    tags(
        (name = "custodian", description = "The custodian's backend."),
        (name = "client", description = "One end user's wallets and backups."),
        (name = "devices", description = "The client's devices."),
        (name = "ceremonies", description = "What device and server compute together: sealed CBOR."),
        (name = "backups", description = "Making, reading back and removing backups."),
        (name = "recoveries", description = "Recovering under the policy."),
        (name = "verifications", description = "Proving a backup without spending it."),
        (name = "relying party", description = "Under the domains of relying parties that this server hosts."),
        (name = "probes", description = "Health and this document."),
    )
)]
struct Described;

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Described::openapi();
    for router in [routes::custodian(), routes::client(), routes::open()] {
        document.merge(router.into_openapi());
    }
    let components = document.components.get_or_insert_default();
    let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("custodian_key", bearer());
    components.add_security_scheme("client", bearer());
    document
}

/// The document as it is served and committed.
pub fn json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| {
        let mut text = document().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    })
}

/// What every call may be refused with.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let refused = |description: &str| {
            let body = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
            let trace = HeaderBuilder::new()
                .schema(Some(String::schema()))
                .description(Some("Names the request in the server's log."))
                .build();
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", body)
                .header("X-Trace-Id", trace);
            RefOr::T(response.build())
        };
        BTreeMap::from([
            ("4XX".to_owned(), refused("Refused; nothing was changed.")),
            ("5XX".to_owned(), refused("The server cannot do it now; nothing was lost.")),
        ])
    }
}

/// The device's signature over a changing call.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes headers that the extractor reads by name")]
pub(crate) struct DeviceHeaders {
    /// The calling device's Ed25519 public key, 64 hex digits.
    #[param(rename = "X-Halfkey-Device-Key")]
    key: String,
    /// Milliseconds since the Unix epoch, decimal; at most 5 minutes off.
    #[param(rename = "X-Halfkey-Timestamp")]
    timestamp: String,
    /// 32 fresh random bytes, hex; accepted once.
    #[param(rename = "X-Halfkey-Nonce")]
    nonce: String,
    /// Ed25519 over method, path, body, time and nonce, 128 hex digits.
    #[param(rename = "X-Halfkey-Signature")]
    signature: String,
}
