//! The passkey page in a real browser, and the command line's bridge to it: what the page gives, what it refuses, and
//! that nothing else is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use halfkey_cli::passkey::{Bridge, Invitation};
use halfkey_client::host::{
    CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Passkeys,
};
use halfkey_server::{App, app, clock::SystemClock, config::Config};
use halfkey_tests::browser::{Authenticator, Browser};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// A server that hosts the relying party `localhost`, a bridge to its page, and a browser.
struct Stage {
    browser: Browser,
    bridge: Arc<Bridge>,
    invitations: mpsc::UnboundedReceiver<Invitation>,
    origin: String,
    server: JoinHandle<()>,
    _folder: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path());
        config.relying_parties = vec!["localhost".parse().unwrap()];
        let router = app(App::open(config, Arc::new(SystemClock)).await.unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let (send, invitations) = mpsc::unbounded_channel();
        let invite = move |invitation: &Invitation| send.send(invitation.clone()).is_ok();
        let page = format!("{origin}/passkey");
        let bridge = Bridge::start(&page, "the wallet of a test", Duration::from_secs(600), invite).await.unwrap();
        let browser = Browser::start().await.unwrap();
        Self { browser, bridge: Arc::new(bridge), invitations, origin, server, _folder: folder }
    }

    fn create(&self, wish: PasskeyCreate) -> JoinHandle<Result<PasskeyCreated, PasskeyError>> {
        let bridge = Arc::clone(&self.bridge);
        tokio::spawn(async move { bridge.create(wish).await })
    }

    fn get(&self, wish: PasskeyGet) -> JoinHandle<Result<PasskeyGot, PasskeyError>> {
        let bridge = Arc::clone(&self.bridge);
        tokio::spawn(async move { bridge.get(wish).await })
    }

    /// Follows the next invitation as a user would, until the page waits for a gesture.
    async fn follow(&mut self) {
        let invitation = self.invitations.recv().await.unwrap();
        self.browser.go(&invitation.url).await.unwrap();
        self.ready().await;
        assert_eq!(self.browser.text("code").await.unwrap(), invitation.code);
    }

    async fn ready(&mut self) {
        self.browser.until("document.getElementById('actions')?.hidden === false").await.unwrap();
        self.browser.until("document.activeElement?.id === 'go'").await.unwrap();
    }

    /// Presses the button that has the focus.
    async fn agree(&mut self) {
        self.browser.press_enter().await.unwrap();
    }

    async fn press(&mut self, button: &str) {
        self.browser.press_button(button).await.unwrap();
    }

    /// What the bridge says; a page that says nothing ends the test with its text.
    async fn outcome<T>(&mut self, asked: JoinHandle<Result<T, PasskeyError>>) -> Result<T, PasskeyError> {
        match tokio::time::timeout(Duration::from_secs(120), asked).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => panic!("the page never answered: {}", self.seen().await),
        }
    }

    async fn seen(&mut self) -> String {
        self.browser.value("location.href + ' ' + document.body.innerText").await.unwrap().to_string()
    }

    async fn make(&mut self, prf: Option<[u8; 32]>) -> PasskeyCreated {
        let creating = self.create(creation(prf));
        self.follow().await;
        self.agree().await;
        self.outcome(creating).await.unwrap()
    }
}

fn creation(prf: Option<[u8; 32]>) -> PasskeyCreate {
    PasskeyCreate {
        rp_id: "localhost".into(),
        rp_name: "Tests".into(),
        user_handle: [7; 32],
        user_name: "a wallet".into(),
        challenge: [1; 32],
        exclude: vec![],
        prf,
    }
}

fn assertion(id: &[u8], challenge: u8, prf: Option<[u8; 32]>) -> PasskeyGet {
    let allow = vec![CredentialRef { id: id.to_vec(), transports: vec!["internal".into()] }];
    PasskeyGet { rp_id: "localhost".into(), challenge: [challenge; 32], allow, prf }
}

fn client_data(bytes: &[u8]) -> Value {
    let mut said: Value = serde_json::from_slice(bytes).unwrap();
    // Chromium puts this in now and then, so that nobody compares the whole with a template.
    said.as_object_mut().unwrap().remove("other_keys_can_be_added_here");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_made_and_used_and_its_prf_is_the_same_each_time() {
    let mut stage = Stage::set().await;
    let authenticator = stage.browser.plug_in(Authenticator::default()).await.unwrap();
    let salt = [9; 32];
    let created = stage.make(Some(salt)).await;
    assert_eq!(stage.browser.passkeys(&authenticator).await.unwrap(), 1);
    assert!(created.prf_enabled);
    assert_eq!(created.transports, ["internal"]);
    let said = client_data(&created.client_data_json);
    let challenge = |byte| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, [byte; 32]);
    let expected = json!({
        "type": "webauthn.create", "challenge": challenge(1), "origin": stage.origin, "crossOrigin": false,
    });
    assert_eq!(said, expected);

    // The window of the first answer goes on by itself: no second invitation. Twice, for the PRF counts only then.
    let mut outputs = Vec::new();
    for round in [2, 3] {
        let getting = stage.get(assertion(&created.credential_id, round, Some(salt)));
        tokio::select! {
            invitation = stage.invitations.recv() => {
                // A slow machine: the window was not seen for three seconds, and the user is asked to open one.
                stage.browser.go(&invitation.unwrap().url).await.unwrap();
                stage.ready().await;
            }
            () = ready(&mut stage.browser) => {}
        }
        stage.agree().await;
        let got = stage.outcome(getting).await.unwrap();
        assert_eq!(got.credential_id, created.credential_id);
        assert_eq!(got.user_handle.as_deref(), Some(&[7; 32][..]));
        let said = client_data(&got.client_data_json);
        assert_eq!((&said["type"], &said["challenge"]), (&json!("webauthn.get"), &json!(challenge(round))));
        // User present and verified.
        assert_eq!(got.authenticator_data[32] & 0b101, 0b101);
        outputs.push(got.prf.unwrap());
    }
    assert_eq!(outputs[0].expose().len(), 32);
    assert_eq!(outputs[0], outputs[1]);
    // Chromium's authenticator gives it at creation as well: the same, if at all.
    assert!(created.prf.is_none_or(|first| first == outputs[0]));

    // The browser asked the page's server and the bridge, and nobody else; and nothing broke the page's policy.
    let foreign = |url: &String| {
        let own = [format!("{}/passkey", stage.origin), "http://127.0.0.1:".to_owned()];
        !own.iter().any(|prefix| url.starts_with(prefix)) && !url.starts_with("about:")
    };
    let asked: Vec<String> = stage.browser.requests().into_iter().filter(foreign).collect();
    assert_eq!(asked, Vec::<String>::new(), "asked for elsewhere");
    let broken: Vec<String> =
        stage.browser.complaints().into_iter().filter(|text| text.contains("Content Security Policy")).collect();
    assert_eq!(broken, Vec::<String>::new());
}

async fn ready(browser: &mut Browser) {
    browser.until("document.activeElement?.id === 'go' && !document.getElementById('go').disabled").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_not_verified_gets_nothing_and_may_try_again_or_cancel() {
    let mut stage = Stage::set().await;
    let authenticator = stage.browser.plug_in(Authenticator { verifies: false, ..Default::default() }).await.unwrap();
    let creating = stage.create(creation(None));
    stage.follow().await;
    stage.agree().await;
    stage.browser.until("document.getElementById('error').textContent !== ''").await.unwrap();
    let error = stage.browser.text("error").await.unwrap();
    assert!(error.contains("Nothing was changed"), "{error}");
    assert!(!creating.is_finished());
    assert_eq!(stage.browser.passkeys(&authenticator).await.unwrap(), 0);

    stage.browser.unplug(&authenticator).await.unwrap();
    let authenticator = stage.browser.plug_in(Authenticator::default()).await.unwrap();
    stage.ready().await;
    assert_eq!(stage.browser.text("go").await.unwrap(), "Try again");
    stage.agree().await;
    let created = stage.outcome(creating).await.unwrap();

    stage.browser.verifies(&authenticator, false).await.unwrap();
    let getting = stage.get(assertion(&created.credential_id, 2, None));
    stage_to_page(&mut stage).await;
    stage.agree().await;
    stage.browser.until("document.getElementById('error').textContent !== ''").await.unwrap();
    stage.press("cancel").await;
    assert_eq!(stage.outcome(getting).await.err(), Some(PasskeyError::Cancelled));
}

/// By the open window, or by a new invitation.
async fn stage_to_page(stage: &mut Stage) {
    tokio::select! {
        invitation = stage.invitations.recv() => {
            stage.browser.go(&invitation.unwrap().url).await.unwrap();
            stage.ready().await;
        }
        () = ready(&mut stage.browser) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_before_and_while_the_sheet_is_open_is_cancelled() {
    let mut stage = Stage::set().await;
    let authenticator = stage.browser.plug_in(Authenticator::default()).await.unwrap();
    let creating = stage.create(creation(None));
    stage.follow().await;
    stage.press("cancel").await;
    assert_eq!(stage.outcome(creating).await.err(), Some(PasskeyError::Cancelled));

    stage.browser.touches(&authenticator, false).await.unwrap();
    let creating = stage.create(creation(None));
    stage_to_page(&mut stage).await;
    stage.agree().await;
    stage.browser.until("document.getElementById('status').textContent.startsWith('Waiting')").await.unwrap();
    stage.press("cancel").await;
    assert_eq!(stage.outcome(creating).await.err(), Some(PasskeyError::Cancelled));
    assert_eq!(stage.browser.passkeys(&authenticator).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_the_passkey_and_one_that_has_it_already_say_so() {
    let mut stage = Stage::set().await;
    stage.browser.plug_in(Authenticator::default()).await.unwrap();
    let getting = stage.get(assertion(&[3; 16], 2, None));
    stage.follow().await;
    assert!(stage.browser.value("document.getElementById('none').hidden").await.unwrap() == true);
    stage.agree().await;
    stage.browser.until("document.getElementById('none').hidden === false").await.unwrap();
    stage.press("none").await;
    assert_eq!(stage.outcome(getting).await.err(), Some(PasskeyError::NoPasskey));

    let creating = stage.create(creation(None));
    stage_to_page(&mut stage).await;
    stage.agree().await;
    let created = stage.outcome(creating).await.unwrap();
    let known = CredentialRef { id: created.credential_id, transports: created.transports };
    let creating = stage.create(PasskeyCreate { exclude: vec![known], ..creation(None) });
    stage_to_page(&mut stage).await;
    stage.agree().await;
    assert_eq!(stage.outcome(creating).await.err(), Some(PasskeyError::AlreadyRegistered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authenticator_without_prf_is_told_apart() {
    let mut stage = Stage::set().await;
    stage.browser.plug_in(Authenticator { prf: false, ..Default::default() }).await.unwrap();
    let created = stage.make(Some([9; 32])).await;
    assert!(!created.prf_enabled && created.prf.is_none());
    let getting = stage.get(assertion(&created.credential_id, 2, Some([9; 32])));
    stage_to_page(&mut stage).await;
    stage.agree().await;
    assert_eq!(stage.outcome(getting).await.err(), Some(PasskeyError::PrfUnsupported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_whole_request_the_page_does_nothing() {
    let mut stage = Stage::set().await;
    let page = format!("{}/passkey", stage.origin);
    stage.browser.go(&page).await.unwrap();
    assert!(stage.browser.text("what").await.unwrap().contains("nothing to do here"));
    let foreign_port = base64::Engine::encode(
        &base64::prelude::BASE64_URL_SAFE_NO_PAD,
        json!({ "v": 1, "op": "get", "port": "80@evil.example/" }).to_string(),
    );
    for fragment in ["x", "AAAA", &foreign_port] {
        stage.browser.go(&format!("{page}#{fragment}")).await.unwrap();
        stage.browser.until("document.getElementById('error').textContent.includes('damaged')").await.unwrap();
        assert_eq!(stage.browser.value("document.getElementById('actions').hidden").await.unwrap(), true);
    }
    // Inside another page it does not even load.
    let framed = stage.browser.value("document.location.hash").await.unwrap();
    assert_eq!(framed, "", "what was in the fragment is in no history");
}
