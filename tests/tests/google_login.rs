//! Signing in to Google from the command line: against a real OAuth server and the emulator of Google Drive, in a real
//! browser, with the whole exchange of codes and tokens.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

use halfkey_cli::{
    Error,
    google::{GoogleClient, GoogleError, GoogleSignIn, GoogleToken, revoke, sign_in},
    profile::Profile,
    transport::{HttpTransport, install_tls_provider},
    wallet::SystemClock,
};
use halfkey_client::host::{Clock, Transport};
use halfkey_tests::{
    browser::Browser,
    deployment::{Backing, Deployment, halfkey},
    drive::{Call, DriveEmulator},
    oauth::{OAuthServer, Wish},
    user::User,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "the laptop's own passphrase";

struct World {
    folder: tempfile::TempDir,
    drive: DriveEmulator,
    google: OAuthServer,
    client: PathBuf,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let drive = DriveEmulator::start().await.unwrap();
        let google = OAuthServer::start(&drive).unwrap();
        let client = google.client_file(folder.path(), drive.url()).unwrap();
        Self { folder, drive, google, client }
    }

    fn profile(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, profile: &str, words: &[&str], passphrase: &str) -> Child {
        let profile = self.profile(profile).display().to_string();
        let mut command = halfkey(&["wallet", "--json", "--secrets-fd", "0", "--profile", &profile, "google"]);
        command.args(words).env("HALFKEY_GOOGLE_CLIENT", &self.client);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that needs no secret may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(format!("{passphrase}\n").as_bytes());
        child
    }

    fn run(&self, profile: &str, words: &[&str]) -> (i32, Value) {
        ended(self.start(profile, words, PASSPHRASE))
    }

    /// Starts a sign-in; the address that the user is asked to open.
    fn login(&self, profile: &str) -> (Child, String) {
        let mut child = self.start(profile, &["login", "--no-browser"], PASSPHRASE);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find(|line| line.starts_with("http://")).unwrap();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        (child, address)
    }

    /// Signs in over HTTP; how the command ended.
    async fn signs_in(&self, profile: &str, account: &str, wish: Wish) -> (i32, Value) {
        let (child, address) = self.login(profile);
        let (_, status, page) = self.google.visit(&address, account, wish).await.unwrap();
        let expected = if wish == Wish::Refuse { "Not signed in" } else { "The command line has Google's answer" };
        assert!(status == 200 && page.contains(expected), "{status} {page}");
        tokio::task::spawn_blocking(move || ended(child)).await.unwrap()
    }

    /// The status of one listing of the hidden folder.
    async fn lists(&self, token: &GoogleToken) -> u16 {
        let url = format!("{}/drive/v3/files?spaces=appDataFolder", self.drive.url());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let bearer = format!("Bearer {}", token.access_token.as_str());
        http.get(url).header("authorization", bearer).send().await.unwrap().status().as_u16()
    }
}

fn ended(mut child: Child) -> (i32, Value) {
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    (child.wait().unwrap().code().unwrap(), serde_json::from_str(&out).unwrap())
}

fn failed((status, out): (i32, Value)) -> (i32, String) {
    (status, out["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn account(label: &str) -> Value {
    json!({ "google": { "account": label } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_in_in_the_browser_and_ends_it_everywhere() {
    let world = World::new().await;
    assert_eq!(failed(world.run("laptop", &["status"])), (2, "GOOGLE_NOT_SIGNED_IN".to_owned()));
    let (child, address) = world.login("laptop");
    let mut browser = Browser::start().await.unwrap();
    browser.go(&address).await.unwrap();
    browser.until("document.title === 'login'").await.unwrap();
    browser.value("document.getElementById('login').value = 'alice'").await.unwrap();
    browser.press_button("go").await.unwrap();
    browser.until("document.title === 'consent'").await.unwrap();
    browser.value("document.getElementById('drive').checked = true").await.unwrap();
    browser.press_button("go").await.unwrap();
    browser.until("document.title === 'Halfkey'").await.unwrap();
    assert_eq!(browser.text("what").await.unwrap(), "The command line has Google's answer");
    let done = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
    assert_eq!(done, (0, account("alice@example.com")));

    let known = json!({ "account": "alice@example.com", "clientId": world.google.client_id(), "state": "OK" });
    assert_eq!(world.run("laptop", &["status"]), (0, json!({ "google": known })));
    assert_eq!(failed(ended(world.start("laptop", &["status"], "other"))), (3, "WRONG_PASSPHRASE".to_owned()));
    nothing_readable(&world.profile("laptop"));

    // Another device with the same sign-in, and one that never had any.
    copy(&world.profile("laptop"), &world.profile("tablet"));
    let (status, out) = world.run("laptop", &["logout", "--revoke"]);
    assert_eq!((status, &out["revoked"], &out["google"]), (0, &json!(true), &Value::Null));
    assert_eq!(failed(world.run("laptop", &["status"])), (2, "GOOGLE_NOT_SIGNED_IN".to_owned()));
    assert_eq!(world.run("tablet", &["status"]).1["google"]["state"], "GOOGLE_NEEDS_REAUTH");
    // Ending what is over already is no error, and the tablet can sign in again.
    assert_eq!(world.run("tablet", &["logout", "--revoke"]).0, 0);
    assert_eq!(world.signs_in("tablet", "alice", Wish::Allow).await, (0, account("alice@example.com")));
    assert_eq!(world.run("tablet", &["status"]).1["google"]["state"], "OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_does_instead_is_told_apart_and_changes_nothing() {
    let world = World::new().await;
    assert_eq!(failed(world.signs_in("laptop", "alice", Wish::Refuse).await), (1, "GOOGLE_DENIED".to_owned()));
    let no_folder = world.signs_in("laptop", "alice", Wish::AllowNoFolder).await;
    assert_eq!(failed(no_folder), (1, "GOOGLE_FOLDER_NOT_ALLOWED".to_owned()));
    assert_eq!(failed(world.run("laptop", &["status"])), (2, "GOOGLE_NOT_SIGNED_IN".to_owned()));

    assert_eq!(world.signs_in("laptop", "alice", Wish::Allow).await, (0, account("alice@example.com")));
    assert_eq!(failed(world.signs_in("laptop", "bob", Wish::Refuse).await), (1, "GOOGLE_DENIED".to_owned()));
    assert_eq!(world.run("laptop", &["status"]).1["google"]["account"], "alice@example.com");
    assert_eq!(world.signs_in("laptop", "bob", Wish::Allow).await, (0, account("bob@example.com")));
    assert_eq!(world.run("laptop", &["status"]).1["google"]["account"], "bob@example.com");

    // Forgotten here, it is still whole at Google: a copy of the profile goes on.
    copy(&world.profile("laptop"), &world.profile("tablet"));
    assert_eq!(world.run("laptop", &["logout"]).1["revoked"], json!(false));
    assert_eq!(world.run("tablet", &["status"]).1["google"]["state"], "OK");
    std::fs::write(&world.client, r#"{"web":{"client_id":"1"}}"#).unwrap();
    assert_eq!(failed(world.run("laptop", &["login"])), (2, "USAGE".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_is_backed_up_to_google_drive_lost_and_recovered() {
    let world = World::new().await;
    let deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let backup = ["backup", "--method", "google-drive"];
    let (status, error) = laptop.fails(&backup, &[]);
    assert_eq!((status, &error["code"]), (2, &json!("GOOGLE_NOT_SIGNED_IN")));
    let at = |user: &User<'_>| user.profile.display().to_string();
    assert_eq!(world.signs_in(&at(&laptop), "alice", Wish::Allow).await, (0, account("alice@example.com")));
    assert_eq!(laptop.does(&backup, &[])["method"], "GDRIVE");
    assert_eq!(world.drive.files("alice").len(), 1);
    laptop.does(&["verify", "--method", "google-drive"], &[]);
    std::fs::remove_dir_all(&laptop.profile).unwrap();

    let desktop = User::new(&deployment, "desktop", PASSPHRASE, &client);
    let recover = ["recover", "--method", "google-drive", "--old-devices", "revoke"];
    assert_eq!(world.signs_in(&at(&desktop), "bob", Wish::Allow).await, (0, account("bob@example.com")));
    let (_, error) = desktop.fails(&recover, &[]);
    assert_eq!(error["code"], "ACCOUNT_MISMATCH", "{error}");
    assert_eq!(world.signs_in(&at(&desktop), "alice", Wish::Allow).await, (0, account("alice@example.com")));
    assert_eq!(desktop.does(&recover, &[])["addresses"], addresses);
    desktop.signs(&addresses);

    // Ended at Google, the backup is neither there nor gone: the user has to sign in again.
    copy(&desktop.profile, &world.profile("tablet"));
    assert_eq!(world.run("tablet", &["logout", "--revoke"]).0, 0);
    let (_, error) = desktop.fails(&["verify", "--method", "google-drive"], &[]);
    assert_eq!(error["code"], "NEEDS_REAUTH", "{error}");
}

/// A program that uses the library itself.
struct App {
    profile: Profile,
    http: Arc<dyn Transport>,
}

impl App {
    fn new(world: &World) -> Self {
        install_tls_provider();
        Self { profile: Profile::open(&world.profile("app")).unwrap(), http: Arc::new(HttpTransport::new().unwrap()) }
    }

    fn file(&self) -> halfkey_cli::profile::GoogleFile {
        self.profile.google(Zeroizing::new(PASSPHRASE.to_owned()))
    }

    async fn signs_in(&self, world: &Arc<World>) {
        let (of_lead, runtime) = (Arc::clone(world), tokio::runtime::Handle::current());
        let lead = move |url: &str| {
            let (world, url) = (Arc::clone(&of_lead), url.to_owned());
            runtime.spawn(async move { world.google.visit(&url, "alice", Wish::Allow).await.unwrap() });
            true
        };
        let client = GoogleClient::read(&world.client).unwrap();
        let account = sign_in(client, &self.http, &SystemClock, &lead, Duration::from_secs(120)).await.unwrap();
        self.file().write(&account).unwrap();
    }

    fn provider(&self) -> GoogleSignIn {
        GoogleSignIn::new(self.file(), Arc::clone(&self.http), Arc::new(SystemClock) as Arc<dyn Clock>)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_refreshed_while_the_consent_stands_and_not_after() {
    let world = Arc::new(World::new().await);
    let app = App::new(&world);
    app.signs_in(&world).await;
    assert_eq!(world.drive.take_calls(), [(Call::About, 200)]);
    let provider = app.provider();
    let first = provider.token().await.unwrap();
    assert_eq!((first.account.as_str(), first.label.as_str()), ("alice", "alice@example.com"));
    assert_eq!(world.lists(&first).await, 200);
    assert_eq!(provider.token().await.unwrap().access_token, first.access_token);

    // One that is about to end is not handed out again, and neither is one that Google refused.
    world.google.tokens_live(60).await.unwrap();
    provider.invalidated();
    let second = provider.token().await.unwrap();
    let third = provider.token().await.unwrap();
    let all = [&first, &second, &third].map(|token| token.access_token.as_str());
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    assert_eq!(world.lists(&third).await, 200);

    // A program that starts afresh goes on with what the file holds.
    let fresh = app.provider();
    assert_eq!(world.lists(&fresh.token().await.unwrap()).await, 200);

    // The user takes the consent back: Google Drive refuses the token at once, and there is no other.
    let account = app.file().read().unwrap().unwrap();
    revoke(&account, &app.http).await.unwrap();
    assert_eq!(world.lists(&third).await, 401);
    fresh.invalidated();
    assert!(matches!(fresh.token().await, Err(Error::Google(GoogleError::NeedsReauth))));
    app.signs_in(&world).await;
    assert_eq!(world.lists(&app.provider().token().await.unwrap()).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_this_is_tested_with_is_strict() {
    let world = World::new().await;
    let (child, address) = world.login("laptop");
    let url = reqwest::Url::parse(&address).unwrap();
    let without = |name: &str| {
        let mut other = url.clone();
        other.query_pairs_mut().clear().extend_pairs(url.query_pairs().filter(|(known, _)| known != name));
        other
    };
    let (back, status, _) = world.google.visit(without("code_challenge").as_str(), "alice", Wish::Allow).await.unwrap();
    assert!(back.query().unwrap().contains("error=invalid_request"), "{back}");
    // It has the state of this sign-in, so it is its answer.
    assert_eq!((status, failed(ended(child))), (200, (1, "GOOGLE_REFUSED".to_owned())));
}

fn copy(from: &Path, to: &Path) {
    Profile::open(to).unwrap();
    let name = "google";
    std::fs::copy(from.join(name), to.join(name)).unwrap();
}

/// No file of the profile shows the account or a token.
fn nothing_readable(profile: &Path) {
    for entry in std::fs::read_dir(profile).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("alice") && !text.contains("halfkey.apps"), "{text}");
    }
}
