//! Somebody at the command line: `halfkey wallet …` in processes of its own, secrets through standard input, and a
//! browser where passkeys are asked for.

use std::{io::Write, path::PathBuf, process::Stdio, time::Duration};

use halfkey_cli::judge;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::mpsc,
    time::timeout,
};

use crate::{
    browser::Browser,
    deployment::{Client, Deployment},
};

/// A profile folder on somebody's machine.
pub struct User<'a> {
    deployment: &'a Deployment,
    /// The folder.
    pub profile: PathBuf,
    passphrase: &'static str,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// The one object that it printed.
    pub out: Value,
    /// What it said beside that.
    pub err: String,
}

/// What the user does on the passkey page, each time the command asks for a passkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// Goes on.
    Agrees,
    /// Goes on this many times, and then presses "Cancel".
    Cancels(usize),
    /// Tries, and then says that there is no such passkey here.
    HasNone,
}

#[allow(clippy::unwrap_used, clippy::panic, reason = "a test's own hands: what fails ends the test")]
impl<'a> User<'a> {
    /// Trusts the deployment and keeps the client's credential.
    ///
    /// # Panics
    /// When the command refuses.
    #[must_use]
    pub fn new(deployment: &'a Deployment, name: &str, passphrase: &'static str, client: &Client) -> Self {
        let user = Self { deployment, profile: deployment.root().join(name), passphrase };
        let descriptor = deployment.root().join("descriptor.json").display().to_string();
        let ran = user.run(&["init", "--descriptor", &descriptor], &[&client.api_key]);
        let trusted: Value = serde_json::from_str(&deployment.descriptor).unwrap();
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(ran.out["profile"], json!(user.profile));
        let id = ran.out["deployment"].as_str().unwrap();
        assert!(trusted.to_string().contains(id), "{id} is not the deployment of {trusted}");
        user
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let profile = self.profile.display().to_string();
        let mut command = self.deployment.command(&["wallet", "--json", "--secrets-fd", "0", "--profile", &profile]);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command with these secrets, one per line, on standard input; exactly one object may come back.
    ///
    /// # Panics
    /// When something else comes back.
    #[must_use]
    pub fn run(&self, words: &[&str], secrets: &[&str]) -> Ran {
        let mut child = self.command(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that needs no secret may be gone before it is written.
        let _ = stdin.write_all(lines(secrets).as_bytes());
        drop(stdin);
        let done = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        ran(words, done.status, &out, err)
    }

    /// Runs a command that opens the device's share and must succeed.
    ///
    /// # Panics
    /// When it fails.
    #[allow(clippy::must_use_candidate, reason = "what it does is often all that is wanted")]
    pub fn does(&self, words: &[&str], secrets: &[&str]) -> Value {
        let ran = self.run(words, &[&[self.passphrase], secrets].concat());
        assert_eq!(ran.status, 0, "{words:?}: {} {}", ran.out, ran.err);
        ran.out
    }

    /// Runs one that must fail, and gives its exit status and error.
    #[allow(clippy::must_use_candidate, reason = "that it fails is often all that is wanted")]
    pub fn fails(&self, words: &[&str], secrets: &[&str]) -> (i32, Value) {
        let mut ran = self.run(words, &[&[self.passphrase], secrets].concat());
        (ran.status, ran.out["error"].take())
    }

    /// Runs a command that opens the device's share and asks for passkeys on the page that the deployment hosts: follows
    /// the printed address in this browser, compares the code, and does there what this hand does.
    ///
    /// # Panics
    /// When the page shows another code, or nothing happens for two minutes.
    pub async fn at(&self, browser: &mut Browser, hand: Hand, words: &[&str]) -> Ran {
        let page = format!("http://localhost:{}/passkey", self.deployment.address().port());
        let mut command = tokio::process::Command::from(self.command(words));
        let mut child = command.args(["--passkey-page", &page, "--no-browser"]).kill_on_drop(true).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines(&[self.passphrase]).as_bytes()).await.unwrap();
        drop(stdin);
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let saying = tokio::spawn(async move {
            let mut all = String::new();
            while let Ok(Some(line)) = said.next_line().await {
                all.extend([&line, "\n"]);
                let _ = tell.send(line);
            }
            all
        });
        let mut stdout = child.stdout.take().unwrap();
        let printing = tokio::spawn(async move {
            let mut out = String::new();
            stdout.read_to_string(&mut out).await.map(|_| out)
        });
        let patience = Duration::from_secs(120);
        let (mut status, mut agreed, mut opened) = (None, 0, false);
        while status.is_none() {
            let step = async {
                tokio::select! {
                    ended = child.wait() => status = Some(ended.unwrap()),
                    // The window of the request before goes on by itself.
                    () = waits_for_a_gesture(browser), if opened => act(browser, hand, &mut agreed).await,
                    Some(line) = told.recv() => if line.starts_with(&page) {
                        browser.go(&line).await.unwrap();
                        waits_for_a_gesture(browser).await;
                        let code = told.recv().await.unwrap();
                        let shown = browser.text("code").await.unwrap();
                        assert!(code.contains(&shown) && !shown.is_empty(), "{code}: the page shows {shown}");
                        opened = true;
                    },
                }
            };
            if timeout(patience, step).await.is_err() {
                panic!("{words:?}: nothing happens: {:?}", browser.value("document.body.innerText").await);
            }
        }
        let (out, err) = (printing.await.unwrap().unwrap(), saying.await.unwrap());
        ran(words, status.unwrap(), &out, err)
    }

    /// Signs a message on Ethereum and has it judged by a library that had no part in it.
    ///
    /// # Panics
    /// When that library does not find the wallet's address.
    pub fn signs(&self, addresses: &Value) {
        let signed = self.does(&["sign", "ethereum-message", "pay nobody"], &[]);
        let signature = signed["signed"]["ethereumSignature"].as_str().unwrap().strip_prefix("0x").unwrap();
        let signature = hex::decode(signature).unwrap();
        let digest = judge::keccak256(b"\x19Ethereum Signed Message:\n10pay nobody");
        let id = k256::ecdsa::RecoveryId::from_byte(signature[64] - 27).unwrap();
        let parsed = k256::ecdsa::Signature::from_slice(&signature[..64]).unwrap();
        let key = k256::ecdsa::VerifyingKey::recover_from_prehash(&digest, &parsed, id).unwrap();
        let key = key.to_sec1_point(true);
        let (r, s) = signature[..64].split_at(32);
        judge::verify_ecdsa(key.as_bytes(), &digest, r.try_into().unwrap(), s.try_into().unwrap()).unwrap();
        assert_eq!(json!(judge::ethereum_address(key.as_bytes()).unwrap()), addresses["ethereum"]);
    }
}

fn lines(secrets: &[&str]) -> String {
    secrets.iter().map(|secret| format!("{secret}\n")).collect()
}

#[allow(clippy::panic, clippy::unwrap_used, reason = "see User")]
fn ran(words: &[&str], status: std::process::ExitStatus, out: &str, err: String) -> Ran {
    let out = serde_json::from_str(out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out:?} {err}"));
    Ran { status: status.code().unwrap(), out, err }
}

#[allow(clippy::unwrap_used, reason = "see User")]
async fn waits_for_a_gesture(browser: &mut Browser) {
    let ready = "document.activeElement?.id === 'go' && !document.getElementById('go').disabled \
                 && document.getElementById('actions')?.hidden === false";
    browser.until(ready).await.unwrap();
}

#[allow(clippy::unwrap_used, reason = "see User")]
async fn act(browser: &mut Browser, hand: Hand, agreed: &mut usize) {
    let cancels = matches!(hand, Hand::Cancels(after) if *agreed >= after);
    if cancels {
        return browser.press_button("cancel").await.unwrap();
    }
    browser.press_button("go").await.unwrap();
    *agreed += 1;
    if hand == Hand::HasNone {
        browser.until("document.getElementById('none').hidden === false").await.unwrap();
        browser.press_button("none").await.unwrap();
    }
    // Pressed once: what comes next is another page.
    browser.until("document.getElementById('go')?.disabled !== false").await.unwrap();
}
