use std::{
    collections::VecDeque,
    sync::{Mutex, atomic::AtomicU64},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use halfkey_client::host::{Response, TransportError};
use serde_json::{Value, json};

use super::*;
use crate::{Error, profile::Profile};

/// Google, as far as a test says what it answers.
#[derive(Default)]
struct Google {
    answers: Mutex<VecDeque<std::result::Result<(u16, String), TransportError>>>,
    asked: Mutex<Vec<(String, String)>>,
}

impl Google {
    fn new(answers: impl IntoIterator<Item = (u16, Value)>) -> Arc<Self> {
        let google = Self::default();
        google.will(answers);
        Arc::new(google)
    }

    fn will(&self, answers: impl IntoIterator<Item = (u16, Value)>) {
        let answers = answers.into_iter().map(|(status, body)| Ok((status, body.to_string())));
        self.answers.lock().unwrap().extend(answers);
    }

    fn bodies(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }
}

#[async_trait]
impl Transport for Google {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let body = String::from_utf8(request.body).unwrap();
        self.asked.lock().unwrap().push((request.url, body));
        let (status, body) = self.answers.lock().unwrap().pop_front().expect("an answer for each request")?;
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Ok(Response { status, headers, body: body.into_bytes() })
    }
}

#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn client() -> GoogleClient {
    GoogleClient { id: "app".to_owned(), secret: None, endpoints: Endpoints::default() }
}

fn token(access: &str, lives: u64) -> Value {
    json!({ "access_token": access, "token_type": "Bearer", "expires_in": lives })
}

/// A profile with somebody signed in.
struct World {
    _folder: tempfile::TempDir,
    profile: Profile,
    google: Arc<Google>,
    clock: Arc<Hands>,
    sign_in: GoogleSignIn,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile::open(&folder.path().join("p")).unwrap();
        let refresh = account::RefreshToken(Zeroizing::new("first".to_owned()));
        let account = Account { client: client(), id: "42".to_owned(), label: "a@example.com".to_owned(), refresh };
        Self::file(&profile).write(&account).unwrap();
        let (google, clock) = (Arc::<Google>::default(), Arc::<Hands>::default());
        let sign_in = GoogleSignIn::new(Self::file(&profile), Arc::clone(&google) as _, Arc::clone(&clock) as _);
        Self { _folder: folder, profile, google, clock, sign_in }
    }

    fn file(profile: &Profile) -> GoogleFile {
        profile.google(Zeroizing::new("passphrase".to_owned()))
    }

    async fn token(&self) -> std::result::Result<String, GoogleError> {
        match self.sign_in.token().await {
            Ok(token) => {
                assert_eq!((token.account.as_str(), token.label.as_str()), ("42", "a@example.com"));
                Ok(token.access_token.to_string())
            }
            Err(Error::Google(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_token_is_used_until_it_ends_or_is_refused() {
    let world = World::new();
    world.google.will([(200, token("one", 3600)), (200, token("two", 3600)), (200, token("three", 3600))]);
    assert_eq!(world.token().await, Ok("one".to_owned()));
    world.clock.0.store(3_480_000, Ordering::Relaxed);
    assert_eq!(world.token().await, Ok("one".to_owned()));
    world.clock.0.store(3_480_001, Ordering::Relaxed);
    assert_eq!(world.token().await, Ok("two".to_owned()));
    world.sign_in.invalidated();
    assert_eq!(world.token().await, Ok("three".to_owned()));
    assert_eq!(world.token().await, Ok("three".to_owned()));
    let expected = "grant_type=refresh_token&refresh_token=first&client_id=app";
    assert_eq!(world.google.bodies(), [expected; 3]);
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_before_the_old_one_is_over() {
    let world = World::new();
    let mut answer = token("one", 3600);
    answer["refresh_token"] = json!("second");
    world.google.will([(200, answer), (200, token("two", 3600))]);
    assert_eq!(world.token().await, Ok("one".to_owned()));
    let again = GoogleSignIn::new(
        World::file(&world.profile),
        Arc::clone(&world.google) as _,
        Arc::clone(&world.clock) as Arc<dyn Clock>,
    );
    assert_eq!(again.token().await.unwrap().access_token.as_str(), "two");
    assert!(world.google.bodies()[1].contains("refresh_token=second"));
}

#[tokio::test]
async fn why_there_is_no_token_is_told_apart_and_nothing_is_forgotten() {
    let world = World::new();
    let cases = [
        (400, json!({ "error": "invalid_grant" }), GoogleError::NeedsReauth),
        (401, json!({ "error": "invalid_client" }), GoogleError::Refused("invalid_client".to_owned())),
        (403, json!({ "error": "rate_limit_exceeded" }), GoogleError::Refused("rate_limit_exceeded".to_owned())),
        (429, json!({ "error": "slow_down" }), GoogleError::Unreachable),
        (500, json!("<html>"), GoogleError::Unreachable),
        (200, json!("<html>"), GoogleError::BadAnswer("TOKEN")),
        (200, json!({ "access_token": "x" }), GoogleError::BadAnswer("TOKEN")),
        (404, json!("<html>"), GoogleError::BadAnswer("TOKEN")),
    ];
    for (status, body, expected) in cases {
        world.google.will([(status, body)]);
        assert_eq!(world.token().await, Err(expected));
    }
    for (failure, expected) in [
        (TransportError::Unreachable, GoogleError::Unreachable),
        (TransportError::Timeout, GoogleError::Unreachable),
        (TransportError::BadAnswer, GoogleError::Unreachable),
        (TransportError::Untrusted, GoogleError::Untrusted),
    ] {
        world.google.answers.lock().unwrap().push_back(Err(failure));
        assert_eq!(world.token().await, Err(expected));
    }
    world.google.will([(200, token("after all", 3600))]);
    assert_eq!(world.token().await, Ok("after all".to_owned()));
    World::file(&world.profile).remove().unwrap();
    let nobody =
        GoogleSignIn::new(World::file(&world.profile), Arc::clone(&world.google) as _, Arc::clone(&world.clock) as _);
    assert!(matches!(nobody.token().await, Err(Error::Google(GoogleError::NotSignedIn))));
}

#[tokio::test]
async fn the_sdk_gets_tokens_of_its_own_app_and_learns_what_to_do() {
    let world = World::new();
    let provider: &dyn CloudTokenProvider = &world.sign_in;
    let wanted = |client: &str| CloudTokenRequest {
        client_id: client.to_owned(),
        application_name: "Halfkey".to_owned(),
        scope: halfkey_client::host::DRIVE_SCOPE,
    };
    for (status, error, expected) in [
        (400, "invalid_grant", CloudTokenError::NeedsReauth),
        (401, "invalid_client", CloudTokenError::NeedsReauth),
        (503, "", CloudTokenError::Unreachable),
    ] {
        world.google.will([(status, json!({ "error": error }))]);
        assert_eq!(provider.token(&wanted("app")).await.map(|_| ()), Err(expected));
    }
    world.google.will([(200, token("one", 3600)), (200, token("two", 3600))]);
    let given = provider.token(&wanted("app")).await.unwrap();
    assert_eq!((given.access_token.as_str(), given.account.as_str()), ("one", "42"));
    assert_eq!(provider.token(&wanted("other")).await.map(|_| ()), Err(CloudTokenError::NeedsReauth));
    provider.invalidated();
    assert_eq!(provider.token(&wanted("app")).await.unwrap().access_token.as_str(), "two");
}

#[tokio::test]
async fn only_the_passphrase_opens_the_account() {
    let world = World::new();
    let other = Zeroizing::new("other".to_owned());
    assert!(matches!(world.profile.google(other.clone()).read(), Err(Error::WrongPassphrase)));
    assert!(world.profile.has_passphrase().unwrap());
    assert!(matches!(world.profile.check(&other), Err(Error::WrongPassphrase)));
    world.profile.check(&Zeroizing::new("passphrase".to_owned())).unwrap();
}

/// Signs in, with what the token endpoint and Google Drive answer. The id token is of this sign-in unless it is changed.
async fn signed_in(
    change: impl Fn(&mut Value) + Send + Sync + 'static,
    about: (u16, Value),
) -> (std::result::Result<Account, GoogleError>, Arc<Google>, String) {
    let google = Google::new([]);
    let address = Arc::new(Mutex::new(String::new()));
    let (of_lead, led) = (Arc::clone(&google), Arc::clone(&address));
    let lead = move |url: &str| {
        *led.lock().unwrap() = url.to_owned();
        let url = reqwest::Url::parse(url).unwrap();
        let get = |name: &str| url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned();
        let claims = json!({
            "iss": "https://accounts.google.com", "sub": "42", "aud": "app", "exp": 1, "nonce": get("nonce"),
        });
        let mut answer = token("access", 3600);
        answer["refresh_token"] = json!("refresh");
        answer["scope"] = json!(format!("openid {SCOPE_DRIVE}"));
        answer["id_token"] = json!(format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())));
        change(&mut answer);
        of_lead.will([(200, answer), about.clone()]);
        let back = format!("{}?code=the-code&state={}", get("redirect_uri"), get("state"));
        tokio::spawn(reqwest::Client::builder().no_proxy().build().unwrap().get(back).send());
        true
    };
    let http: Arc<dyn Transport> = Arc::clone(&google) as _;
    let account = sign_in(client(), &http, &Hands::default(), &lead, Duration::from_secs(60)).await;
    let address = address.lock().unwrap().clone();
    (account, google, address)
}

fn about() -> (u16, Value) {
    (200, json!({ "user": { "emailAddress": "a@example.com\u{1b}" } }))
}

#[tokio::test]
async fn a_sign_in_proves_its_code_and_asks_for_no_more_than_it_needs() {
    let (account, google, address) = signed_in(|_| {}, about()).await;
    let account = account.unwrap();
    assert_eq!((account.id.as_str(), account.label(), account.refresh.0.as_str()), ("42", "a@example.com", "refresh"));
    let url = reqwest::Url::parse(&address).unwrap();
    let asked: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert!(address.starts_with("https://accounts.google.com/o/oauth2/v2/auth?"));
    for (name, value) in [
        ("scope", "openid https://www.googleapis.com/auth/drive.appdata"),
        ("response_type", "code"),
        ("code_challenge_method", "S256"),
        ("access_type", "offline"),
        ("client_id", "app"),
    ] {
        assert_eq!(asked[name], value);
    }
    let asked_google = google.asked.lock().unwrap().clone();
    assert_eq!(asked_google[0].0, "https://oauth2.googleapis.com/token");
    let form = reqwest::Url::parse(&format!("http://form?{}", asked_google[0].1)).unwrap();
    let form: std::collections::BTreeMap<_, _> = form.query_pairs().into_owned().collect();
    assert_eq!((form["code"].as_str(), &form["redirect_uri"]), ("the-code", &asked["redirect_uri"]));
    let verifier = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(asked["code_challenge"], BASE64_URL_SAFE_NO_PAD.encode(verifier));
    assert_eq!(asked_google[1].0, "https://www.googleapis.com/drive/v3/about?fields=user(emailAddress)");
}

#[tokio::test]
async fn a_sign_in_that_is_not_whole_is_none() {
    type Change = fn(&mut Value);
    let cases: [(Change, GoogleError); 5] = [
        (|answer| answer["scope"] = json!("openid"), GoogleError::FolderNotAllowed),
        (
            |answer| drop(answer.as_object_mut().unwrap().remove("refresh_token")),
            GoogleError::BadAnswer("REFRESH_TOKEN"),
        ),
        (|answer| drop(answer.as_object_mut().unwrap().remove("id_token")), GoogleError::BadAnswer("ID_TOKEN")),
        (|answer| answer["id_token"] = json!("e30.e30.x"), GoogleError::BadAnswer("ID_TOKEN")),
        (|answer| answer["access_token"] = json!(7), GoogleError::BadAnswer("TOKEN")),
    ];
    for (change, expected) in cases {
        assert_eq!(signed_in(change, about()).await.0.map(|_| ()), Err(expected));
    }
    for (status, expected) in [
        (401, GoogleError::NeedsReauth),
        (403, GoogleError::Refused("drive_api".to_owned())),
        (404, GoogleError::BadAnswer("ABOUT")),
        (503, GoogleError::Unreachable),
    ] {
        assert_eq!(signed_in(|_| {}, (status, json!({}))).await.0.map(|_| ()), Err(expected));
    }
    let (ok, ..) = signed_in(|answer| drop(answer.as_object_mut().unwrap().remove("scope")), about()).await;
    assert_eq!(ok.map(|_| ()), Ok(()), "no scope in the answer means all that was asked for (RFC 6749, 5.1)");
    let http: Arc<dyn Transport> = Google::new([]);
    let nobody = sign_in(client(), &http, &Hands::default(), &|_: &str| false, Duration::from_secs(60)).await;
    assert_eq!(nobody.map(|_| ()), Err(GoogleError::NoBrowser));
}

#[tokio::test]
async fn a_sign_in_is_ended_at_google() {
    let account = signed_in(|_| {}, about()).await.0.unwrap();
    for (status, body, expected) in [
        (200, json!({}), Ok(())),
        (400, json!({ "error": "invalid_token" }), Ok(())),
        (400, json!({ "error": "invalid_request" }), Err(GoogleError::Refused("invalid_request".to_owned()))),
        (503, json!({}), Err(GoogleError::Unreachable)),
    ] {
        let google = Google::new([(status, body)]);
        let http: Arc<dyn Transport> = Arc::clone(&google) as _;
        assert_eq!(revoke(&account, &http).await, expected);
        let asked = google.asked.lock().unwrap()[0].clone();
        assert_eq!(
            asked,
            ("https://oauth2.googleapis.com/revoke".to_owned(), "token=refresh&client_id=app".to_owned())
        );
    }
}
