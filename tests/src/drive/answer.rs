//! Google's errors, word for word where clients act on them.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Errors that Google answers with, on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// 401: the access token is expired, revoked or unknown.
    Unauthenticated,
    /// 403: the token has none of the scopes of this call.
    InsufficientPermissions,
    /// 403: the user's storage is full.
    StorageQuotaExceeded,
    /// 403: too many requests of this project.
    RateLimitExceeded,
    /// 403: too many requests of this user.
    UserRateLimitExceeded,
    /// 403: the project's limit of a day is reached.
    DailyLimitExceeded,
    /// 403: the app may not use this file.
    AppNotAuthorizedToFile,
    /// 403: the Drive API is not switched on in the app's cloud project.
    AccessNotConfigured,
    /// 404: no such file for this user and app.
    NotFound,
    /// 409: a file with the given id is there already.
    FileIdInUse,
    /// 429: too many requests.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 502, from a front end: a page of HTML instead of Google's JSON.
    BadGateway,
    /// 503.
    BackendError,
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    message: String,
    domain: &'static str,
    reason: &'static str,
    /// `locationType` and `location`.
    place: Option<(&'static str, String)>,
    /// The status name of gRPC, where Google gives one.
    name: Option<&'static str>,
}

impl Failure {
    fn new(status: u16, domain: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), domain, reason, place: None, name: None }
    }

    fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    fn at(mut self, kind: &'static str, place: &str) -> Self {
        self.place = Some((kind, place.to_owned()));
        self
    }

    /// A parameter that does not fit.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::new(400, "global", "invalidParameter", message).at("parameter", name)
    }

    /// A value that does not fit: `q`, `pageToken`.
    pub(super) fn value(name: &str) -> Self {
        Self::new(400, "global", "invalid", "Invalid Value").at("parameter", name)
    }

    /// A parameter that must be there.
    pub(super) fn required(name: &str) -> Self {
        let message = format!("The '{name}' parameter is required for this method.");
        Self::new(400, "global", "required", message).at("parameter", name)
    }

    /// A body that is not what the call takes.
    pub(super) fn body(message: impl Into<String>) -> Self {
        Self::new(400, "global", "badRequest", message)
    }

    /// An id that was not generated for this user and space.
    pub(super) fn id_not_usable() -> Self {
        Self::new(400, "global", "invalid", "The provided file ID is not usable.").at("parameter", "file.id")
    }

    /// A space that no scope of the token opens.
    pub(super) fn closed_space(parameter: &str) -> Self {
        let message = "The granted scopes do not give access to all of the requested spaces.";
        Self::new(403, "global", "insufficientScopes", message).at("parameter", parameter)
    }

    /// What nobody can do to a file of the hidden folder.
    pub(super) fn hidden_folder() -> Self {
        let message = "Method not supported for files within the Application Data folder.";
        Self::new(403, "global", "notSupportedForAppDataFolderFiles", message)
    }

    /// No such file for this user and app.
    pub(super) fn no_file(id: &str) -> Self {
        Self::new(404, "global", "notFound", format!("File not found: {id}.")).at("parameter", "fileId")
    }

    /// A request without a token.
    pub(super) fn no_token() -> Self {
        let message = "Method doesn't allow unregistered callers (callers without established identity). Please use \
                       API Key or other form of API consumer identity to call this API.";
        Self::new(403, "global", "forbidden", message).named("PERMISSION_DENIED")
    }

    /// A body that is too long for an upload in one piece.
    pub(super) fn too_long() -> Self {
        Self::new(413, "global", "uploadTooLarge", "Request is too large.")
    }

    /// A range outside the content.
    pub(super) fn range() -> Self {
        Self::new(416, "global", "requestedRangeNotSatisfiable", "Request range not satisfiable")
    }

    /// What Google can do and this emulator cannot.
    pub(super) fn not_here(what: &str) -> Self {
        Self::new(501, "halfkey-drive-emulator", "notImplemented", format!("the emulator does not do this: {what}"))
    }

    /// No such method.
    pub(super) fn no_method() -> Self {
        Self::new(404, "global", "notFound", "The requested URL was not found on this server.")
    }

    pub(super) fn json(&self) -> Value {
        let mut inner = json!({ "message": self.message, "domain": self.domain, "reason": self.reason });
        if let Some((kind, place)) = &self.place {
            inner["location"] = json!(place);
            inner["locationType"] = json!(kind);
        }
        let mut error = json!({ "code": self.status, "message": self.message, "errors": [inner] });
        if let Some(name) = self.name {
            error["status"] = json!(name);
        }
        json!({ "error": error })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let usage = "usageLimits";
        match refusal {
            Refusal::Unauthenticated => Self::new(401, "global", "authError", "Invalid Credentials")
                .at("header", "Authorization")
                .named("UNAUTHENTICATED"),
            Refusal::InsufficientPermissions => {
                let message = "Insufficient Permission: Request had insufficient authentication scopes.";
                Self::new(403, "global", "insufficientPermissions", message).named("PERMISSION_DENIED")
            }
            Refusal::StorageQuotaExceeded => {
                let message = "The user's Drive storage quota has been exceeded.";
                Self::new(403, usage, "storageQuotaExceeded", message)
            }
            Refusal::RateLimitExceeded => Self::new(403, usage, "rateLimitExceeded", "Rate Limit Exceeded"),
            Refusal::UserRateLimitExceeded => {
                Self::new(403, usage, "userRateLimitExceeded", "User Rate Limit Exceeded")
            }
            Refusal::DailyLimitExceeded => Self::new(403, usage, "dailyLimitExceeded", "Daily Limit Exceeded"),
            Refusal::AppNotAuthorizedToFile => {
                let message = "The user has not granted the app access to the file.";
                Self::new(403, "global", "appNotAuthorizedToFile", message)
            }
            Refusal::AccessNotConfigured => {
                let message = "Google Drive API has not been used in this project before or it is disabled.";
                Self::new(403, usage, "accessNotConfigured", message).named("PERMISSION_DENIED")
            }
            Refusal::NotFound => Self::no_file("notFound"),
            Refusal::FileIdInUse => {
                Self::new(409, "global", "fileIdInUse", "A file already exists with the provided ID.")
            }
            Refusal::TooManyRequests => Self::new(429, usage, "rateLimitExceeded", "Rate Limit Exceeded"),
            Refusal::InternalError => Self::new(500, "global", "internalError", "Internal Error"),
            Refusal::BadGateway => Self::new(502, "", "", ""),
            Refusal::BackendError => Self::new(503, "global", "backendError", "Backend Error").named("UNAVAILABLE"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.status == 502 {
            let html = "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title>\n";
            return (status, [(header::CONTENT_TYPE, "text/html; charset=UTF-8")], html).into_response();
        }
        let mut answer = json(status, &self.json());
        if self.status == 401 {
            let challenge = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        answer
    }
}

/// A JSON answer as Google writes it.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=UTF-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, max-age=0, must-revalidate"),
    ];
    (status, headers, format!("{value:#}\n")).into_response()
}
