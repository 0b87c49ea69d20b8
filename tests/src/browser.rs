//! A real browser for the length of one test: headless Chromium with a virtual authenticator, driven through its
//! debugging protocol over two pipes. It has an empty profile of its own, listens on no port, and ends when the pipes
//! close: when the test ends, however it ends.

use std::{io, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Nothing here takes longer on any machine; a test that hangs ends with a message.
const PATIENCE: Duration = Duration::from_secs(120);

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--remote-debugging-pipe",
];

/// One window of a browser of its own.
pub struct Browser {
    _child: Child,
    _profile: tempfile::TempDir,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// A message that has not arrived whole: it survives a caller who stops waiting.
    partial: Vec<u8>,
    last: u64,
    session: String,
    events: Vec<Value>,
}

/// What the virtual authenticator can do.
#[derive(Debug, Clone, Copy)]
pub struct Authenticator {
    /// Whether it evaluates PRFs (hmac-secret).
    pub prf: bool,
    /// Whether the user passes its verification.
    pub verifies: bool,
    /// Whether its passkeys are kept elsewhere too (BE and BS), as those of a user's account are.
    pub synced: bool,
}

impl Default for Authenticator {
    fn default() -> Self {
        Self { prf: true, verifies: true, synced: true }
    }
}

impl Browser {
    /// Starts Chromium and opens an empty window.
    ///
    /// # Errors
    /// When `chromium` is not installed (`./check install` does that) or does not answer.
    pub async fn start() -> io::Result<Self> {
        let profile = tempfile::Builder::new().prefix("halfkey-chromium-").tempdir()?;
        // Chromium reads its orders from descriptor 3 and answers on 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "chromium"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipe = || io::Error::other("a pipe was asked for");
        let to = child.stdin.take().ok_or_else(pipe)?;
        let from = BufReader::new(child.stdout.take().ok_or_else(pipe)?);
        let (session, events) = (String::new(), Vec::new());
        let mut browser =
            Self { _child: child, _profile: profile, to, from, partial: Vec::new(), last: 0, session, events };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await?;
        browser.session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable", "WebAuthn.enable"] {
            browser.call(domain, json!({})).await?;
        }
        Ok(browser)
    }

    /// Plugs an authenticator in; its id.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn plug_in(&mut self, what: Authenticator) -> io::Result<String> {
        let options = json!({
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": true,
            "hasUserVerification": true,
            "isUserVerified": what.verifies,
            "automaticPresenceSimulation": true,
            "hasPrf": what.prf,
            "defaultBackupEligibility": what.synced,
            "defaultBackupState": what.synced,
        });
        let added = self.call("WebAuthn.addVirtualAuthenticator", json!({ "options": options })).await?;
        Ok(added["authenticatorId"].as_str().unwrap_or_default().to_owned())
    }

    /// Unplugs an authenticator. One whose verification failed is locked, as a real one is: plug another in.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn unplug(&mut self, authenticator: &str) -> io::Result<()> {
        self.call("WebAuthn.removeVirtualAuthenticator", json!({ "authenticatorId": authenticator })).await.map(drop)
    }

    /// Whether the user passes the authenticator's verification from now on.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn verifies(&mut self, authenticator: &str, verifies: bool) -> io::Result<()> {
        let wish = json!({ "authenticatorId": authenticator, "isUserVerified": verifies });
        self.call("WebAuthn.setUserVerified", wish).await.map(drop)
    }

    /// Whether the user touches the authenticator when asked.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn touches(&mut self, authenticator: &str, touches: bool) -> io::Result<()> {
        let wish = json!({ "authenticatorId": authenticator, "enabled": touches });
        self.call("WebAuthn.setAutomaticPresenceSimulation", wish).await.map(drop)
    }

    /// How many passkeys the authenticator holds.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn passkeys(&mut self, authenticator: &str) -> io::Result<usize> {
        let found = self.call("WebAuthn.getCredentials", json!({ "authenticatorId": authenticator })).await?;
        Ok(found["credentials"].as_array().map_or(0, Vec::len))
    }

    /// Goes to an address, by way of an empty page: an address that differs in its fragment alone is loaded anew.
    ///
    /// # Errors
    /// When the page cannot be loaded.
    pub async fn go(&mut self, url: &str) -> io::Result<()> {
        for url in ["about:blank", url] {
            let gone = self.call("Page.navigate", json!({ "url": url })).await?;
            if let Some(error) = gone["errorText"].as_str() {
                return Err(io::Error::other(format!("the page cannot be loaded: {error}")));
            }
        }
        self.until("document.readyState === 'complete' && location.protocol !== 'about:'").await
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn value(&mut self, expression: &str) -> io::Result<Value> {
        let wish = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", wish).await?;
        match answer.get("exceptionDetails") {
            None => Ok(answer["result"]["value"].clone()),
            Some(error) => Err(io::Error::other(format!("{expression}: {error}"))),
        }
    }

    /// Waits until an expression is true, across page loads.
    ///
    /// # Errors
    /// When it does not become true in two minutes; the page's text is in the message.
    pub async fn until(&mut self, expression: &str) -> io::Result<()> {
        let wait = async {
            // A page that is being left throws its evaluation away: ask again.
            while self.value(expression).await.unwrap_or_default() != Value::Bool(true) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_ok() {
            return Ok(());
        }
        let seen = self.value("location.href + '\\n' + document.body?.innerText").await.unwrap_or_default();
        Err(io::Error::other(format!("never true: {expression}\n{seen}")))
    }

    /// The text that the element shows; empty if there is none or it is hidden.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn text(&mut self, id: &str) -> io::Result<String> {
        let text = self.value(&format!("document.getElementById('{id}')?.innerText ?? ''")).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Presses Enter, a user's gesture, on what has the focus.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn press_enter(&mut self) -> io::Result<()> {
        self.press(json!({ "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" })).await
    }

    /// Presses Tab: the focus goes to the next control.
    ///
    /// # Errors
    /// What the browser refuses.
    pub async fn press_tab(&mut self) -> io::Result<()> {
        self.press(json!({ "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 })).await
    }

    /// Reaches a button by the keyboard and presses it.
    ///
    /// # Errors
    /// When there is no such button, or it does not answer; the page's text is in the message.
    pub async fn press_button(&mut self, id: &str) -> io::Result<()> {
        for _ in 0..6 {
            if self.value("document.activeElement?.id").await? == *id {
                return self.press_enter().await;
            }
            self.press_tab().await?;
        }
        let seen = self.value("location.href + '\\n' + document.body?.innerText").await?;
        Err(io::Error::other(format!("no {id} on this page: {seen}")))
    }

    async fn press(&mut self, key: Value) -> io::Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let mut event = key.clone();
            event["type"] = json!(kind);
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Every address that the window asked a server for, so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// What the page did against its own policy, and other complaints of the browser.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.events.iter().filter(|event| event["method"] == "Log.entryAdded");
        let errors = entries.filter(|event| event["params"]["entry"]["level"] == "error");
        errors.map(|event| event["params"]["entry"]["text"].to_string()).collect()
    }

    async fn call(&mut self, method: &str, params: Value) -> io::Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await?;
        let answer = async {
            loop {
                let message = self.read().await?;
                if message["id"] == json!(id) {
                    return Ok::<_, io::Error>(message);
                }
                if message.get("method").is_some() {
                    self.events.push(message);
                }
            }
        };
        let answer =
            timeout(PATIENCE, answer).await.map_err(|_| io::Error::other(format!("{method}: no answer")))??;
        match answer.get("error") {
            None => Ok(answer["result"].clone()),
            Some(error) => Err(io::Error::other(format!("{method}: {error}"))),
        }
    }

    async fn read(&mut self) -> io::Result<Value> {
        self.from.read_until(0, &mut self.partial).await?;
        let mut bytes = std::mem::take(&mut self.partial);
        if bytes.pop() != Some(0) {
            return Err(io::Error::other("chromium ended; is it installed? `./check install` does that"));
        }
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }
}
