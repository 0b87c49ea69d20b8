//! A real OAuth server for the length of one test, oidc-provider, set up as Google's is for apps of the desktop
//! (`drive/oidc.mjs`), and a user who signs in there over HTTP.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
};

use reqwest::{
    Url,
    header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
};
use serde_json::{Value, json};

use crate::{
    chains::node,
    drive::{Drive, Introspection, installed},
};

/// A running server; it ends with its standard input.
pub struct OAuthServer {
    child: Child,
    stdin: Option<ChildStdin>,
    issuer: String,
    client_id: String,
}

/// What the user does on the server's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Signs in and allows everything.
    Allow,
    /// Signs in and leaves out the folder in Google Drive.
    AllowNoFolder,
    /// Refuses.
    Refuse,
}

impl OAuthServer {
    /// Starts a server whose access tokens this Google Drive takes.
    ///
    /// # Errors
    /// When node or oidc-provider is not installed (the message says how), or the server does not start.
    pub fn start(drive: &Drive) -> io::Result<Self> {
        let mut command = node();
        command.arg(installed()?.join("oidc.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?);
        let mut server = Self { child, stdin, issuer: String::new(), client_id: String::new() };
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address: Value = serde_json::from_str(&line)?;
        let text = |name: &str| address[name].as_str().unwrap_or_default().to_owned();
        (server.issuer, server.client_id) = (text("issuer"), text("clientId"));
        drive.introspect(Introspection {
            url: format!("{}/token/introspection", server.issuer),
            client_id: "drive".to_owned(),
            client_secret: "drive's own".to_owned(),
        });
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || output.lines().for_each(drop));
        Ok(server)
    }

    /// The app's client id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Writes the file that Google's console would give for the app, with this server in Google's place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn client_file(&self, folder: &Path, drive: &str) -> io::Result<PathBuf> {
        let path = folder.join("client_secret.json");
        let issuer = &self.issuer;
        let installed = json!({
            "client_id": self.client_id,
            "client_secret": "of a desktop app: no secret",
            "project_id": "halfkey",
            "redirect_uris": ["http://localhost"],
            "auth_uri": format!("{issuer}/auth"),
            "token_uri": format!("{issuer}/token"),
            "revoke_uri": format!("{issuer}/token/revocation"),
            "issuer": issuer,
            "drive_uri": drive,
        });
        std::fs::write(&path, json!({ "installed": installed }).to_string())?;
        Ok(path)
    }

    /// How long access tokens live from now on, in seconds.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn tokens_live(&self, seconds: u32) -> io::Result<()> {
        let url = format!("{}/control/ttl", self.issuer);
        let request = loopback()?.post(url).body(format!("seconds={seconds}"));
        request.send().await.map(drop).map_err(io::Error::other)
    }

    /// Follows an address as a browser does, with its cookies, and does on the server's pages what the user wishes. The
    /// last address, which is the app's own, and what was answered there.
    ///
    /// # Errors
    /// When a page is none that a user could go on from.
    pub async fn visit(&self, url: &str, account: &str, wish: Wish) -> io::Result<(Url, u16, String)> {
        let http = loopback()?;
        let mut cookies = BTreeMap::new();
        let (mut url, mut form) = (Url::parse(url).map_err(io::Error::other)?, None::<String>);
        for _ in 0..16 {
            let request = match form.take() {
                Some(form) => {
                    http.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
                }
                None => http.get(url.clone()),
            };
            let jar: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let answer = request.header(COOKIE, jar.join("; ")).send().await.map_err(io::Error::other)?;
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let cookie = cookie.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
                if let Some((name, value)) = cookie.split_once('=') {
                    cookies.insert(name.to_owned(), value.to_owned());
                }
            }
            if let Some(next) = answer.headers().get(LOCATION).and_then(|next| next.to_str().ok()) {
                url = url.join(next).map_err(io::Error::other)?;
                continue;
            }
            let (status, own) = (answer.status().as_u16(), !url.as_str().starts_with(&self.issuer));
            let page = String::from_utf8_lossy(&answer.bytes().await.map_err(io::Error::other)?).into_owned();
            if own {
                return Ok((url, status, page));
            }
            let (step, filled) = match wish {
                Wish::Refuse => ("abort", String::new()),
                _ if page.contains("<title>login</title>") => ("login", format!("login={account}")),
                Wish::Allow if page.contains("<title>consent</title>") => ("consent", "drive=on".to_owned()),
                Wish::AllowNoFolder if page.contains("<title>consent</title>") => ("consent", String::new()),
                _ => return Err(io::Error::other(format!("{status} at {}: {page}", url.path()))),
            };
            url = url.join(&format!("{}/{step}", url.path())).map_err(io::Error::other)?;
            form = Some(filled);
        }
        Err(io::Error::other("one page after another, without an end"))
    }
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Loopback: never through a proxy, whatever the environment says; and every redirect is looked at.
fn loopback() -> io::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.build().map_err(io::Error::other)
}
