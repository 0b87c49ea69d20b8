#![allow(clippy::unwrap_used, clippy::panic)]

use tokio::sync::mpsc;

use super::{super::request::seal_as_page, *};

const PAGE: &str = "https://wallet.example.com/passkey";
const ORIGIN: &str = "https://wallet.example.com";
const GOT: &str = r#"{"credentialId":"AQ","authenticatorData":"Ag","clientDataJson":"Aw","signature":"BA","userHandle":null,"prf":null}"#;
const FORM: &str = "application/x-www-form-urlencoded";

fn wish() -> PasskeyGet {
    PasskeyGet { rp_id: "wallet.example.com".into(), challenge: [2; 32], allow: vec![], prf: None }
}

/// A bridge, and the invitations that it gives out.
async fn bridge(patience: Duration) -> (Arc<Bridge>, mpsc::UnboundedReceiver<Invitation>) {
    let (send, invitations) = mpsc::unbounded_channel();
    let invite = move |invitation: &Invitation| send.send(invitation.clone()).is_ok();
    (Arc::new(Bridge::start(PAGE, "my wallet", patience, invite).await.unwrap()), invitations)
}

struct Post<'a> {
    origin: &'a str,
    host: Option<&'a str>,
    kind: &'a str,
    body: String,
}

impl Post<'_> {
    async fn send(self, port: u16) -> u16 {
        let mut request = client().post(format!("http://127.0.0.1:{port}/passkey"));
        if let Some(host) = self.host {
            request = request.header("host", host);
        }
        if !self.origin.is_empty() {
            request = request.header("origin", self.origin);
        }
        request.header("content-type", self.kind).body(self.body).send().await.unwrap().status().as_u16()
    }
}

fn good(state: &str, sealed: &str) -> Post<'static> {
    Post { origin: ORIGIN, host: None, kind: FORM, body: format!("state={state}&sealed={sealed}") }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn fragment(invitation: &Invitation) -> &str {
    invitation.url.strip_prefix(PAGE).unwrap().strip_prefix('#').unwrap()
}

#[tokio::test]
async fn only_the_pages_own_answer_counts_and_only_once() {
    crate::transport::install_tls_provider();
    let (bridge, mut invitations) = bridge(Duration::from_secs(60)).await;
    let asking = tokio::spawn({
        let bridge = Arc::clone(&bridge);
        async move { bridge.get(wish()).await }
    });
    let invitation = invitations.recv().await.unwrap();
    let (state, sealed) = seal_as_page(fragment(&invitation), GOT);
    let port = bridge.port;
    let other = "A".repeat(43);
    let evil = format!("evil.example:{port}");
    let localhost = format!("localhost:{port}");
    for (name, post, status) in [
        ("another origin", Post { origin: "https://evil.example", ..good(&state, &sealed) }, 403),
        ("a longer origin", Post { origin: "https://wallet.example.com.evil.example", ..good(&state, &sealed) }, 403),
        ("another scheme", Post { origin: "http://wallet.example.com", ..good(&state, &sealed) }, 403),
        ("no origin", Post { origin: "", ..good(&state, &sealed) }, 403),
        ("a hidden origin", Post { origin: "null", ..good(&state, &sealed) }, 403),
        ("a name that leads here", Post { host: Some(&evil), ..good(&state, &sealed) }, 403),
        ("another name of this machine", Post { host: Some(&localhost), ..good(&state, &sealed) }, 403),
        ("another state", good(&other, &sealed), 403),
        ("a shorter state", good(&state[..42], &sealed), 403),
        ("no state", good("", &sealed), 403),
        ("another type", Post { kind: "text/plain", ..good(&state, &sealed) }, 400),
        ("no form", Post { body: "{}".into(), ..good(&state, &sealed) }, 400),
        ("other characters", good(&state, "%00"), 400),
        ("too much", good(&state, &"A".repeat(MAX_ANSWER)), 413),
    ] {
        assert_eq!(post.send(port).await, status, "{name}");
        assert!(!asking.is_finished(), "{name}");
    }
    assert_eq!(good(&state, &sealed).send(port).await, 200);
    assert_eq!(asking.await.unwrap().unwrap().signature, [4]);
    assert_eq!(good(&state, &sealed).send(port).await, 403, "a second time");
}

#[tokio::test]
async fn an_answer_that_does_not_open_ends_the_request() {
    crate::transport::install_tls_provider();
    let (bridge, mut invitations) = bridge(Duration::from_secs(60)).await;
    let asking = tokio::spawn({
        let bridge = Arc::clone(&bridge);
        async move { bridge.get(wish()).await }
    });
    let (state, sealed) = seal_as_page(fragment(&invitations.recv().await.unwrap()), GOT);
    assert_eq!(good(&state, &"A".repeat(200)).send(bridge.port).await, 200);
    assert_eq!(asking.await.unwrap().err(), Some(PasskeyError::Failed));
    assert_eq!(good(&state, &sealed).send(bridge.port).await, 403, "the state is spent");
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_cancelled_and_spent() {
    crate::transport::install_tls_provider();
    let (bridge, mut invitations) = bridge(Duration::ZERO).await;
    assert_eq!(bridge.get(wish()).await.err(), Some(PasskeyError::Cancelled));
    let (state, sealed) = seal_as_page(fragment(&invitations.recv().await.unwrap()), GOT);
    assert_eq!(good(&state, &sealed).send(bridge.port).await, 403);
}

#[tokio::test]
async fn without_a_browser_passkeys_are_not_available() {
    let bridge = Bridge::start(PAGE, "w", Duration::from_secs(60), |_| false).await.unwrap();
    assert_eq!(bridge.get(wish()).await.err(), Some(PasskeyError::NotAvailable));
}

#[tokio::test]
async fn an_open_window_goes_on_to_the_next_request() {
    crate::transport::install_tls_provider();
    let (bridge, mut invitations) = bridge(Duration::from_secs(60)).await;
    let ask = || {
        let bridge = Arc::clone(&bridge);
        tokio::spawn(async move { bridge.get(wish()).await })
    };
    let first = ask();
    let (state, sealed) = seal_as_page(fragment(&invitations.recv().await.unwrap()), GOT);
    assert_eq!(good(&state, &sealed).send(bridge.port).await, 200);
    first.await.unwrap().unwrap();
    let token = locked(&bridge.shared.follow).token.clone().unwrap();
    let port = bridge.port;
    let next = |token: String| async move {
        let url = format!("http://127.0.0.1:{port}/next/{token}");
        let answer = client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(next(token.clone()).await, (204, String::new()));
    assert_eq!(next("A".repeat(43)).await.0, 403);
    // The window is open, whatever this machine's clock does to the three seconds.
    locked(&bridge.shared.follow).asked = Some(Instant::now() + Duration::from_secs(600));
    let second = ask();
    let url = loop {
        let (status, url) = next(token.clone()).await;
        if status == 200 {
            break url;
        }
        locked(&bridge.shared.follow).asked = Some(Instant::now() + Duration::from_secs(600));
        tokio::task::yield_now().await;
    };
    assert!(invitations.try_recv().is_err(), "no second window");
    let (state, sealed) = seal_as_page(url.strip_prefix(PAGE).unwrap().strip_prefix('#').unwrap(), GOT);
    assert_eq!(good(&state, &sealed).send(bridge.port).await, 200);
    second.await.unwrap().unwrap();
}

#[test]
fn a_page_is_of_the_web_or_of_this_machine() {
    assert_eq!(origin_of(PAGE).unwrap(), ORIGIN);
    assert_eq!(origin_of("http://localhost:8787/passkey").unwrap(), "http://localhost:8787");
    for bad in [
        "http://wallet.example.com/passkey",
        "https://wallet.example.com/passkey#x",
        "https://wallet.example.com/passkey?x",
        "https://user@wallet.example.com/passkey",
        "file:///passkey",
        "wallet.example.com",
        "",
    ] {
        assert!(matches!(origin_of(bad), Err(Error::Usage(_))), "{bad}");
    }
}
