//! Google Drive: five calls of its version 3, over the host's transport (METHODS.md D). Files lie in the app's own hidden
//! folder. Nothing is overwritten; a file is made under an id that was fixed before, so a repeated call makes no second one.

use halfkey_envelope::entropy::random;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    host::{CloudToken, CloudTokenRequest, DRIVE_SCOPE, Request, Response, TransportError},
    platform::GoogleConfig,
    port::Port,
};

/// How often a call is tried in all. The waits between are at most 1, 2, 4 and 8 seconds.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT_MS: u64 = 1_000;
/// A longer wait than this is left to the caller.
const MAX_WAIT_MS: u64 = 30_000;
/// More pages than this no app's folder has.
const MAX_PAGES: u32 = 1_000;
const FIELDS: &str = "nextPageToken,incompleteSearch,files(id,name)";
const OCTETS: &str = "application/octet-stream";

/// The signed-in account's files of this app.
pub(super) struct Drive<'a> {
    port: &'a Port,
    config: GoogleConfig,
    token: CloudToken,
    attempts: u32,
}

/// A file as a listing names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    next_page_token: Option<String>,
    #[serde(default)]
    incomplete_search: bool,
    files: Vec<File>,
}

/// What an answer means for the call.
enum Verdict {
    Answer,
    TokenRefused,
    /// Worth trying again, after so many milliseconds if the cloud says so.
    Later(Option<u64>),
    Refused(Error),
}

impl<'a> Drive<'a> {
    /// Signs in. Asks the user where the host's provider needs to.
    pub(super) async fn open(port: &'a Port) -> Result<Self> {
        let config = port.setting.google_config().ok_or(Error::HostIncomplete { what: "GoogleConfig" })?;
        let token = token(port, &config).await?;
        Ok(Self { port, config, token, attempts: ATTEMPTS })
    }

    /// The same, for what may fail: each call is tried once.
    pub(super) const fn once(mut self) -> Self {
        self.attempts = 1;
        self
    }

    pub(super) const fn port(&self) -> &'a Port {
        self.port
    }

    pub(super) const fn token(&self) -> &CloudToken {
        &self.token
    }

    /// A fresh id for a file that does not exist yet.
    pub(super) async fn generate_id(&mut self) -> Result<String> {
        let answer = self.get("/drive/v3/files/generateIds?count=1&space=appDataFolder").await?;
        let Ids { ids } = parse(&answer)?;
        match <[String; 1]>::try_from(ids) {
            Ok([id]) if is_id(&id) => Ok(id),
            _ => Err(odd("GENERATED_IDS")),
        }
    }

    /// Makes the file of this id. One that is there already is success: an earlier try's answer was lost.
    pub(super) async fn create(&mut self, id: &str, name: &str, content: &[u8]) -> Result<()> {
        let boundary = hex::encode(random::<16>(&mut self.port.entropy()).as_ref());
        let metadata = serde_json::json!({ "id": id, "name": name, "parents": ["appDataFolder"], "mimeType": OCTETS });
        let body = [
            format!("--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n").as_bytes(),
            format!("--{boundary}\r\ncontent-type: {OCTETS}\r\n\r\n").as_bytes(),
            content,
            format!("\r\n--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        let media_type = format!("multipart/related; boundary={boundary}");
        let path = "/upload/drive/v3/files?uploadType=multipart&fields=id";
        let answer = self.call("POST", path, Some((media_type, body))).await?;
        match answer.status {
            200..=299 | 409 => Ok(()),
            _ => Err(odd("CREATE")),
        }
    }

    /// The content of a file; `None` if there is none of this id.
    pub(super) async fn read(&mut self, id: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.call("GET", &format!("/drive/v3/files/{}?alt=media", encode(id)), None).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            _ => Err(odd("READ")),
        }
    }

    /// Every file of the app's folder, or those of one name. Only a complete listing is one.
    pub(super) async fn list(&mut self, name: Option<&str>) -> Result<Vec<File>> {
        let query = match name {
            Some(name) => format!("name = '{name}' and trashed = false"),
            None => "trashed = false".to_owned(),
        };
        let first = format!(
            "/drive/v3/files?spaces=appDataFolder&pageSize=1000&q={}&fields={}",
            encode(&query),
            encode(FIELDS)
        );
        let (mut path, mut files) = (first.clone(), Vec::new());
        for _ in 0..MAX_PAGES {
            let page: Page = parse(&self.get(&path).await?)?;
            if page.incomplete_search {
                return Err(Error::Retry { after: None });
            }
            files.extend(page.files.into_iter().filter(|file| name.is_none_or(|name| file.name == name)));
            match page.next_page_token {
                Some(token) => path = format!("{first}&pageToken={}", encode(&token)),
                None => return Ok(files),
            }
        }
        Err(odd("PAGES"))
    }

    /// Deletes a file. One that is gone already is success.
    pub(super) async fn delete(&mut self, id: &str) -> Result<()> {
        let answer = self.call("DELETE", &format!("/drive/v3/files/{}", encode(id)), None).await?;
        match answer.status {
            200..=299 | 404 => Ok(()),
            _ => Err(odd("DELETE")),
        }
    }

    async fn get(&mut self, path: &str) -> Result<Response> {
        let answer = self.call("GET", path, None).await?;
        if answer.status == 200 { Ok(answer) } else { Err(odd("STATUS")) }
    }

    /// One call, tried again where that helps. Every call may be repeated.
    async fn call(&mut self, method: &'static str, path: &str, body: Option<(String, Vec<u8>)>) -> Result<Response> {
        let (mut attempt, mut renewed) = (1, false);
        loop {
            let (failed, after) = match self.attempt(method, path, body.as_ref()).await {
                Ok(answer) => match judge(&answer) {
                    Verdict::Answer => return Ok(answer),
                    Verdict::Refused(error) => return Err(error),
                    Verdict::TokenRefused if renewed => return Err(Error::NeedsReauth),
                    Verdict::TokenRefused => {
                        renewed = true;
                        self.renew_token().await?;
                        continue;
                    }
                    Verdict::Later(after) if answer.status >= 500 => (Error::CloudUnreachable, after),
                    Verdict::Later(after) => (Error::Retry { after }, after),
                },
                Err(Error::Transport(error)) if error != TransportError::Untrusted => (Error::CloudUnreachable, None),
                Err(error) => return Err(error),
            };
            if attempt == self.attempts || !self.pause(attempt, after).await? {
                return Err(failed);
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, method: &'static str, path: &str, body: Option<&(String, Vec<u8>)>) -> Result<Response> {
        let bearer = format!("Bearer {}", self.token.access_token.as_str());
        let mut headers = vec![("authorization".to_owned(), bearer)];
        if let Some((media_type, _)) = body {
            headers.push(("content-type".to_owned(), media_type.clone()));
        }
        let body = body.map(|(_, body)| body.clone()).unwrap_or_default();
        let url = format!("{}{path}", self.config.api_base());
        self.port.http(Request { method, url, headers, body }).await
    }

    /// A second token, of the same account: half of a backup must not go to another one.
    async fn renew_token(&mut self) -> Result<()> {
        self.port.cloud_token_invalidated().await?;
        let token = token(self.port, &self.config).await?;
        if token.account != self.token.account {
            return Err(Error::AccountMismatch { hint: super::mask(&self.token.label) });
        }
        if token.access_token == self.token.access_token {
            return Err(Error::NeedsReauth);
        }
        self.token = token;
        Ok(())
    }

    /// Doubled each time, with jitter: half of it is by chance. Says whether time has passed.
    async fn pause(&self, attempt: u32, after: Option<u64>) -> Result<bool> {
        let full = FIRST_WAIT_MS << (attempt - 1);
        let chance = u64::from_be_bytes(*random::<8>(&mut self.port.entropy())) % (full / 2);
        let wait = (full / 2 + chance).max(after.unwrap_or(0));
        if wait > MAX_WAIT_MS { Ok(false) } else { self.port.wait(wait).await }
    }
}

async fn token(port: &Port, config: &GoogleConfig) -> Result<CloudToken> {
    let wanted = CloudTokenRequest {
        client_id: config.client_id.clone(),
        application_name: config.application_name.clone(),
        scope: DRIVE_SCOPE,
    };
    let token = port.cloud_token(wanted).await?;
    // Without an account nothing could tell another one; and nothing of a header may come out of a token.
    let usable = !token.account.is_empty() && token.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if usable && !token.access_token.is_empty() { Ok(token) } else { Err(Error::NeedsReauth) }
}

/// Errors of the Drive API: <https://developers.google.com/workspace/drive/api/guides/handle-errors>.
fn judge(answer: &Response) -> Verdict {
    let reason = || reason(&answer.body);
    match answer.status {
        200..=299 | 404 | 409 => Verdict::Answer,
        401 => Verdict::TokenRefused,
        403 => match reason().as_deref() {
            Some("storageQuotaExceeded") => Verdict::Refused(Error::QuotaExceeded),
            Some("rateLimitExceeded" | "userRateLimitExceeded") => Verdict::Later(retry_after(answer)),
            Some("dailyLimitExceeded" | "quotaExceeded") => Verdict::Refused(Error::Retry { after: None }),
            // The user signed in and left the box of the hidden folder unticked, beside another scope of Drive or not.
            Some("insufficientPermissions" | "insufficientScopes" | "authError") => {
                Verdict::Refused(Error::NeedsReauth)
            }
            Some("accessNotConfigured") => Verdict::Refused(Error::CloudRefused { code: "ACCESS_NOT_CONFIGURED" }),
            _ => Verdict::Refused(Error::CloudRefused { code: "FORBIDDEN" }),
        },
        408 | 429 | 500..=599 => Verdict::Later(retry_after(answer)),
        _ => Verdict::Refused(Error::CloudRefused { code: "BAD_REQUEST" }),
    }
}

/// In seconds, as Google gives it; a date is not read.
fn retry_after(answer: &Response) -> Option<u64> {
    let header = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    header.and_then(|(_, value)| value.trim().parse::<u64>().ok()).map(|seconds| seconds.saturating_mul(1_000))
}

fn reason(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        reason: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    body.error.errors.into_iter().next().map(|one| one.reason)
}

fn parse<'b, T: Deserialize<'b>>(answer: &'b Response) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|_| odd("ANSWER"))
}

/// What no Google Drive answers: a portal of some network, perhaps.
const fn odd(code: &'static str) -> Error {
    Error::CloudRefused { code }
}

fn is_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response { status, headers: vec![("retry-after".to_owned(), "7".to_owned())], body: body.as_bytes().to_vec() }
    }

    fn verdict(status: u16, reason: &str) -> (Option<Error>, Option<u64>) {
        let body = format!(r#"{{"error":{{"code":{status},"errors":[{{"reason":"{reason}"}}]}}}}"#);
        match judge(&answer(status, &body)) {
            Verdict::Refused(error) => (Some(error), None),
            Verdict::Later(after) => (None, after),
            Verdict::Answer => (None, None),
            Verdict::TokenRefused => (Some(Error::SignInAgain), None),
        }
    }

    #[test]
    fn googles_errors_become_advice() {
        let later = (None, Some(7_000));
        for (status, reason, expected) in [
            (200, "", (None, None)),
            (404, "notFound", (None, None)),
            (409, "fileIdInUse", (None, None)),
            (401, "authError", (Some(Error::SignInAgain), None)),
            (403, "storageQuotaExceeded", (Some(Error::QuotaExceeded), None)),
            (403, "userRateLimitExceeded", later.clone()),
            (403, "rateLimitExceeded", later.clone()),
            (403, "dailyLimitExceeded", (Some(Error::Retry { after: None }), None)),
            (403, "insufficientPermissions", (Some(Error::NeedsReauth), None)),
            (403, "insufficientScopes", (Some(Error::NeedsReauth), None)),
            (403, "accessNotConfigured", (Some(Error::CloudRefused { code: "ACCESS_NOT_CONFIGURED" }), None)),
            (403, "somethingNew", (Some(Error::CloudRefused { code: "FORBIDDEN" }), None)),
            (400, "badRequest", (Some(Error::CloudRefused { code: "BAD_REQUEST" }), None)),
            (302, "", (Some(Error::CloudRefused { code: "BAD_REQUEST" }), None)),
            (429, "rateLimitExceeded", later.clone()),
            (500, "backendError", later.clone()),
            (503, "backendError", later),
        ] {
            assert_eq!(verdict(status, reason), expected, "{status} {reason}");
        }
        assert!(matches!(judge(&answer(403, "<html>")), Verdict::Refused(Error::CloudRefused { code: "FORBIDDEN" })));
    }

    #[test]
    fn what_goes_into_a_url_is_encoded() {
        assert_eq!(encode("name = 'a-1_~.' and x"), "name%20%3D%20%27a-1_~.%27%20and%20x");
        assert_eq!(encode("~!!~AI9&?#/é"), "~%21%21~AI9%26%3F%23%2F%C3%A9");
        assert!(is_id("1a-B_9") && !is_id("") && !is_id("a/b") && !is_id(&"a".repeat(257)));
    }
}
