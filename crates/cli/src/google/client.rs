//! The app's OAuth client, as Google's console gives it out.

use std::path::Path;

use minicbor::{Decode, Encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{AtPath, Error, Result};

/// A file of Google's console has less than this.
const MAX_FILE: u64 = 16 * 1024;

/// The app's OAuth client of the type "Desktop app", and where it goes to sign users in.
pub struct GoogleClient {
    /// The client id: public.
    pub id: String,
    pub(super) secret: Option<ClientSecret>,
    /// Google's own, unless the file says otherwise.
    pub endpoints: Endpoints,
}

/// What Google calls a client secret, and no secret in a desktop app: whoever has the app has it (RFC 8252, 8.5). Treated
/// as one all the same.
pub(super) struct ClientSecret(pub(super) Zeroizing<String>);

/// Where Google answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Endpoints {
    /// The page where the user signs in.
    #[n(1)]
    pub authorize: String,
    /// Codes and refresh tokens become access tokens here.
    #[n(2)]
    pub token: String,
    /// RFC 7009.
    #[n(3)]
    pub revoke: String,
    /// Who the id token must be from.
    #[n(4)]
    pub issuer: String,
    /// Google Drive.
    #[n(5)]
    pub drive: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            authorize: "https://accounts.google.com/o/oauth2/v2/auth".to_owned(),
            token: "https://oauth2.googleapis.com/token".to_owned(),
            revoke: "https://oauth2.googleapis.com/revoke".to_owned(),
            issuer: "https://accounts.google.com".to_owned(),
            drive: "https://www.googleapis.com".to_owned(),
        }
    }
}

/// The console's download. `revoke_uri`, `issuer` and `drive_uri` are ours, for tests and private clouds.
#[derive(Deserialize)]
struct Download {
    installed: Option<Installed>,
}

#[derive(Deserialize)]
struct Installed {
    client_id: String,
    client_secret: Option<String>,
    auth_uri: Option<String>,
    token_uri: Option<String>,
    revoke_uri: Option<String>,
    issuer: Option<String>,
    drive_uri: Option<String>,
}

impl GoogleClient {
    /// Reads the file that Google's console gives for a client of the type "Desktop app".
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Usage`] when it is another file.
    pub fn read(path: &Path) -> Result<Self> {
        if std::fs::metadata(path).at(path)?.len() > MAX_FILE {
            return Err(Error::Usage(format!("{} is too long to be an OAuth client", path.display())));
        }
        let text = Zeroizing::new(std::fs::read(path).at(path)?);
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let usage = |why: &str| Error::Usage(format!("not the file of an OAuth client of the type Desktop app: {why}"));
        let file: Download = serde_json::from_slice(text).map_err(|_| usage("it is no such JSON"))?;
        let file = file.installed.ok_or_else(|| usage("it has no `installed`"))?;
        if file.client_id.is_empty() || !file.client_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(usage("its client id is none"));
        }
        let own = Endpoints::default();
        let endpoints = Endpoints {
            authorize: file.auth_uri.unwrap_or(own.authorize),
            token: file.token_uri.unwrap_or(own.token),
            revoke: file.revoke_uri.unwrap_or(own.revoke),
            issuer: file.issuer.unwrap_or(own.issuer),
            drive: file.drive_uri.unwrap_or(own.drive),
        };
        let all = [&endpoints.authorize, &endpoints.token, &endpoints.revoke, &endpoints.issuer, &endpoints.drive];
        match all.iter().find(|address| !is_private(address)) {
            Some(address) => Err(usage(&format!("{address:?} is no https:// address"))),
            None => Ok(Self {
                id: file.client_id,
                secret: file.client_secret.map(|secret| ClientSecret(Zeroizing::new(secret))),
                endpoints,
            }),
        }
    }
}

/// Codes and tokens go over TLS, or do not leave the machine.
fn is_private(address: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(address) else { return false };
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost"));
    let bare = url.fragment().is_none() && url.query().is_none() && url.username().is_empty();
    bare && url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consoles_download_is_read() {
        let file = br#"{"installed":{"client_id":"1-a.apps.googleusercontent.com","project_id":"p",
            "auth_uri":"https://accounts.google.com/o/oauth2/auth","token_uri":"https://oauth2.googleapis.com/token",
            "client_secret":"s","redirect_uris":["http://localhost"]}}"#;
        let client = GoogleClient::parse(file).unwrap();
        assert_eq!(client.id, "1-a.apps.googleusercontent.com");
        assert_eq!(client.secret.unwrap().0.as_str(), "s");
        let own = Endpoints::default();
        let expected = Endpoints { authorize: "https://accounts.google.com/o/oauth2/auth".to_owned(), ..own };
        assert_eq!(client.endpoints, expected);
        assert!(GoogleClient::parse(br#"{"installed":{"client_id":"1"}}"#).unwrap().secret.is_none());
    }

    #[test]
    fn other_files_and_open_addresses_are_refused() {
        let with = |field: &str, address: &str| format!(r#"{{"installed":{{"client_id":"1","{field}":"{address}"}}}}"#);
        for file in
            ["", "{}", r#"{"web":{"client_id":"1"}}"#, r#"{"installed":{}}"#, r#"{"installed":{"client_id":""}}"#]
        {
            assert!(matches!(GoogleClient::parse(file.as_bytes()), Err(Error::Usage(_))), "{file}");
        }
        for field in ["auth_uri", "token_uri", "revoke_uri", "issuer", "drive_uri"] {
            for address in ["http://example.com", "ftp://127.0.0.1", "https://a@example.com", "https://e.com/#x", "x"] {
                assert!(GoogleClient::parse(with(field, address).as_bytes()).is_err(), "{field} {address}");
            }
            assert!(GoogleClient::parse(with(field, "http://127.0.0.1:1/x").as_bytes()).is_ok());
        }
    }
}
