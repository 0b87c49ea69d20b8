//! Google Drive: the contract of every cloud against the emulator that Google's own clients accept, and what is peculiar
//! to Drive: accounts, consent, quota, paging, rate limits, and a network that dies in each of its calls.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use halfkey_cli::transport::{HttpTransport, install_tls_provider};
use halfkey_client::{
    BackupMethod, Error, RecoveryMethod, Request, Transport, TransportError,
    host::{CloudToken, CloudTokenError, CloudTokenProvider, CloudTokenRequest, DRIVE_SCOPE},
};
use halfkey_envelope::wallet::Method;
use halfkey_tests::{
    drive::{Call, DriveEmulator, Fault, Grant, Refusal},
    proxy::{FaultProxy, Harm},
};
use zeroize::Zeroizing;

use crate::{
    clouds::{UsersCloud, a_backup_survives_the_loss_of_any_message, contract, recovers, shown, start},
    signs,
    world::{Clouds, PASSWORD, Phone, World, backup_with},
};

const ALICE: &str = "108204268033311374519";
const BOB: &str = "207";

/// The app's sign-in on one phone: tokens of the emulator, and what the user does.
struct SignIn {
    drive: Arc<DriveEmulator>,
    state: Mutex<State>,
    asked: AtomicUsize,
}

struct State {
    account: String,
    label: String,
    token: Option<String>,
    /// Whether a refused token is followed by another one.
    renews: bool,
    scopes: Vec<&'static str>,
    fails: VecDeque<CloudTokenError>,
}

impl SignIn {
    fn new(drive: &Arc<DriveEmulator>, account: &str, label: &str) -> Arc<Self> {
        let state = State {
            account: account.to_owned(),
            label: label.to_owned(),
            token: None,
            renews: true,
            scopes: vec![DRIVE_SCOPE],
            fails: VecDeque::new(),
        };
        Arc::new(Self { drive: Arc::clone(drive), state: Mutex::new(state), asked: AtomicUsize::new(0) })
    }

    fn fail(&self, error: CloudTokenError) {
        self.state.lock().unwrap().fails.push_back(error);
    }

    /// Google forgets the token that this phone has.
    fn revoke(&self, renews: bool) {
        let mut state = self.state.lock().unwrap();
        state.renews = renews;
        self.drive.revoke(state.token.as_ref().unwrap());
    }

    fn change_account(&self, account: &str) {
        account.clone_into(&mut self.state.lock().unwrap().account);
    }

    fn clouds(self: &Arc<Self>, url: &str) -> Clouds {
        let tokens: Arc<dyn CloudTokenProvider> = Arc::clone(self) as _;
        Clouds { google: Some((tokens, url.to_owned())), ..Clouds::default() }
    }
}

#[async_trait]
impl CloudTokenProvider for SignIn {
    async fn token(&self, wanted: &CloudTokenRequest) -> Result<CloudToken, CloudTokenError> {
        assert_eq!((wanted.scope, wanted.client_id.as_str()), (DRIVE_SCOPE, "client.apps.googleusercontent.com"));
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.fails.pop_front() {
            return Err(error);
        }
        let grant = Grant::app_data(&state.account).with_scopes(&state.scopes);
        let token = state.token.get_or_insert_with(|| self.drive.issue(grant)).clone();
        let (account, label) = (state.account.clone(), state.label.clone());
        Ok(CloudToken { access_token: Zeroizing::new(token), account, label })
    }

    fn invalidated(&self) {
        let mut state = self.state.lock().unwrap();
        if state.renews {
            state.token = None;
        }
    }
}

/// Alice's Drive.
pub struct Google(Arc<DriveEmulator>);

impl Google {
    pub async fn new() -> Self {
        Self(Arc::new(DriveEmulator::start().await.unwrap()))
    }

    fn sign_in(&self) -> Arc<SignIn> {
        SignIn::new(&self.0, ALICE, "alice@example.com")
    }

    /// A phone, and its sign-in and its waits.
    fn phone_and_sign_in(&self, world: &World, token: &str) -> (Phone, Arc<SignIn>, Clouds) {
        let sign_in = self.sign_in();
        let clouds = sign_in.clouds(self.0.url());
        (world.phone_in(token, &clouds), sign_in, clouds)
    }

    /// Another, for each part of the contract.
    pub fn fresh(&self) -> Self {
        assert!(self.0.files(ALICE).is_empty() || self.0.delete_hidden_app_data(ALICE) > 0);
        Self(Arc::clone(&self.0))
    }
}

impl UsersCloud for Google {
    fn method(&self) -> Method {
        Method::GoogleDrive
    }

    fn backup(&self) -> BackupMethod {
        BackupMethod::GoogleDrive
    }

    fn recovery(&self) -> RecoveryMethod {
        RecoveryMethod::GoogleDrive
    }

    fn as_reached_anew(&self) -> Clouds {
        self.sign_in().clouds(self.0.url())
    }

    fn items(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.0.files(ALICE).into_iter().filter(|file| !file.trashed);
        files.map(|file| (file.name, file.content)).collect()
    }

    fn plant(&self, name: &str, content: &[u8]) {
        self.0.put(ALICE, name, content);
    }

    fn wipe(&self) {
        self.0.delete_hidden_app_data(ALICE);
    }

    fn damage(&self, change: &dyn Fn(&mut Vec<u8>)) {
        for mut file in self.0.files(ALICE) {
            change(&mut file.content);
            assert!(self.0.overwrite(&file.id, &file.content));
        }
    }
}

#[tokio::test]
async fn google_drive_keeps_the_contract() {
    let google = Google::new().await;
    contract(|| google.fresh()).await;
}

#[tokio::test]
async fn google_drive_keeps_the_contract_page_by_page() {
    let google = Google::new().await;
    google.0.pages_of(1);
    contract(|| google.fresh()).await;
}

#[tokio::test]
async fn a_drive_backup_survives_the_loss_of_any_message() {
    a_backup_survives_the_loss_of_any_message(&Google::new().await, 12).await;
}

/// The calls of a backup and of a recovery: five endpoints, an id that is fixed before the file is made, and nothing
/// deleted before the receipt.
#[tokio::test]
async fn the_calls_are_those_of_the_design() {
    let (world, google) = (World::start().await, Google::new().await);
    let (token, phone, addresses, _) = start(&world, &google).await;
    let made = [(Call::GenerateIds, 200), (Call::Create, 200), (Call::Content, 200)];
    assert_eq!(google.0.take_calls(), made);
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    assert_eq!(google.0.take_calls(), [&made[..], &[(Call::Delete, 204)]].concat());
    let (new, sign_in, _) = google.phone_and_sign_in(&world, &token);
    recovers(&google, &new, &addresses).await.unwrap().fresh_backup.unwrap();
    let read = [(Call::List, 200), (Call::Content, 200)];
    let cleared = [(Call::List, 200), (Call::Delete, 204)];
    assert_eq!(google.0.take_calls(), [&read[..], &made, &cleared].concat());
    assert!(sign_in.asked.load(Ordering::SeqCst) >= 1);
    assert_eq!(shown(&new, &Method::GoogleDrive).await.asserted_account.as_deref(), Some("a…@example.com"));
}

#[tokio::test]
async fn another_account_is_told_from_a_missing_backup() {
    let (world, google) = (World::start().await, Google::new().await);
    let (token, _, addresses, _) = start(&world, &google).await;
    let bob = SignIn::new(&google.0, BOB, "bob@example.com");
    let new = world.phone_in(&token, &bob.clouds(google.0.url()));
    let mismatch = Err(Error::AccountMismatch { hint: "a…@example.com".to_owned() });
    let _before = google.0.take_calls();
    assert_eq!(recovers(&google, &new, &addresses).await.map(drop), mismatch);
    assert_eq!(google.0.take_calls(), [], "the other account is not searched");
    // The same phone goes on with the right one.
    bob.change_account(ALICE);
    bob.state.lock().unwrap().token = None;
    recovers(&google, &new, &addresses).await.unwrap();
    // A new backup may lie in another account; from then on that one counts.
    let (there, sign_in, _) = google.phone_and_sign_in(&world, &token);
    recovers(&google, &there, &addresses).await.unwrap();
    sign_in.change_account(BOB);
    sign_in.state.lock().unwrap().token = None;
    there.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    let phone = world.phone_in(&token, &SignIn::new(&google.0, BOB, "bob@example.com").clouds(google.0.url()));
    recovers(&google, &phone, &addresses).await.unwrap();
}

#[tokio::test]
async fn the_account_does_not_change_in_the_middle_of_a_backup() {
    let (world, google) = (World::start().await, Google::new().await);
    let (phone, sign_in, _) = google.phone_and_sign_in(&world, &world.client_key().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    sign_in.revoke(true);
    sign_in.change_account(BOB);
    // The provider still gives Alice's name with the token that Google has forgotten, and then Bob's.
    let held = sign_in.state.lock().unwrap().token.clone();
    assert!(held.is_some());
    struct Switching(Arc<SignIn>, AtomicUsize);
    #[async_trait]
    impl CloudTokenProvider for Switching {
        async fn token(&self, wanted: &CloudTokenRequest) -> Result<CloudToken, CloudTokenError> {
            let mut token = self.0.token(wanted).await?;
            if self.1.load(Ordering::SeqCst) == 0 {
                token.account = ALICE.to_owned();
            }
            Ok(token)
        }
        fn invalidated(&self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.invalidated();
        }
    }
    let tokens: Arc<dyn CloudTokenProvider> = Arc::new(Switching(sign_in, AtomicUsize::new(0)));
    let clouds = Clouds { google: Some((tokens, google.0.url().to_owned())), ..Clouds::default() };
    let phone = phone.with_clouds(&clouds);
    let refused = phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await;
    assert_eq!(refused, Err(Error::AccountMismatch { hint: "a…@example.com".to_owned() }));
    assert!(google.0.files(BOB).is_empty());
    google_of_alice_still_opens(&world, &google, &phone).await;
}

async fn google_of_alice_still_opens(world: &World, google: &Google, phone: &Phone) {
    let (token, addresses) = (phone.token(), phone.halfkey.addresses().await.unwrap());
    let new = google.phone(world, token);
    recovers(google, &new, &addresses).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_that_fails_leaves_the_older_backup_and_begins_nothing() {
    let (world, google) = (World::start().await, Google::new().await);
    let (phone, sign_in, _) = google.phone_and_sign_in(&world, &world.client_key().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    for (fault, expected) in [
        (CloudTokenError::Cancelled, Error::Cancelled),
        (CloudTokenError::NeedsReauth, Error::NeedsReauth),
        (CloudTokenError::Unreachable, Error::CloudUnreachable),
    ] {
        let before = phone.network.sent();
        sign_in.fail(fault);
        assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(expected.clone()));
        assert_eq!(phone.network.sent(), before, "nothing was begun");
        sign_in.fail(fault);
        assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await, Err(expected));
    }
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
}

/// 401 says nothing of backups: it is never "not found".
#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_the_user_signs_in_again() {
    let (world, google) = (World::start().await, Google::new().await);
    let (phone, sign_in, clouds) = google.phone_and_sign_in(&world, &world.client_key().await);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    sign_in.revoke(true);
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
    sign_in.revoke(false);
    let refused = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await;
    assert_eq!(refused, Err(Error::NeedsReauth), "the provider gives the same token again");
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(Error::NeedsReauth));
    sign_in.state.lock().unwrap().token = None;
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
    // Whatever is refused twice needs the user; a consent without the folder, too.
    sign_in.state.lock().unwrap().renews = true;
    google.0.fail(Fault::next(Call::List, Refusal::Unauthenticated).times(2));
    assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await, Err(Error::NeedsReauth));
    sign_in.state.lock().unwrap().scopes = vec!["openid"];
    sign_in.state.lock().unwrap().token = None;
    assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await, Err(Error::NeedsReauth));
    assert_eq!(clouds.waits(), [0u64; 0], "nothing of it is waited for");
    google_of_alice_still_opens(&world, &google, &phone).await;
}

/// The box of the hidden folder was left unticked, and another scope of Drive was given: Google names that differently
/// from no scope of Drive at all, and the advice is the same.
#[tokio::test]
async fn a_consent_to_another_part_of_drive_is_none_to_the_folder() {
    let (world, google) = (World::start().await, Google::new().await);
    let (phone, sign_in, clouds) = google.phone_and_sign_in(&world, &world.client_key().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    let kept = google.names();
    let consents_to = |scope| {
        let mut state = sign_in.state.lock().unwrap();
        (state.scopes, state.token) = (vec![scope], None);
    };
    consents_to("https://www.googleapis.com/auth/drive.file");
    assert_eq!(phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await, Err(Error::NeedsReauth));
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(Error::NeedsReauth));
    let new = world.phone_in(phone.token(), &clouds);
    assert_eq!(recovers(&google, &new, &addresses).await.map(drop), Err(Error::NeedsReauth));
    assert_eq!(google.names(), kept);
    assert_eq!(clouds.waits(), [0u64; 0], "nothing of it is waited for");
    consents_to(DRIVE_SCOPE);
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
    recovers(&google, &new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_full_drive_leaves_the_older_backup() {
    let (world, google) = (World::start().await, Google::new().await);
    let (_, phone, _, _) = start(&world, &google).await;
    let kept = google.names();
    google.0.quota(ALICE, 700);
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(Error::QuotaExceeded));
    assert_eq!(google.names(), kept);
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
    google.0.quota(ALICE, 1 << 20);
    google_of_alice_still_opens(&world, &google, &phone).await;
}

/// Each kind of trouble in each call of a backup: what passes is waited for, with an end to it, and the older backup
/// opens whatever comes of the new one.
#[tokio::test]
async fn trouble_that_passes_is_waited_for_and_trouble_that_stays_is_said() {
    let (world, google) = (World::start().await, Google::new().await);
    let token = world.client_key().await;
    let (phone, _, clouds) = google.phone_and_sign_in(&world, &token);
    phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    for call in [Call::GenerateIds, Call::Create, Call::Content] {
        for (answer, in_the_end) in [
            (Refusal::RateLimitExceeded, Error::Retry { after: None }),
            (Refusal::UserRateLimitExceeded, Error::Retry { after: None }),
            (Refusal::TooManyRequests, Error::Retry { after: None }),
            (Refusal::InternalError, Error::CloudUnreachable),
            (Refusal::BadGateway, Error::CloudUnreachable),
            (Refusal::BackendError, Error::CloudUnreachable),
        ] {
            google.0.fail(Fault::next(call, answer).times(2));
            phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
            let waits = clouds.waits();
            assert!(matches!(waits[..], [500..1_000, 1_000..2_000]), "{call:?} {answer:?}: {waits:?}");
            let kept = google.names();
            google.0.fail(Fault::next(call, answer).times(5));
            assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(in_the_end));
            assert_eq!(clouds.waits().len(), 4, "five times, and no more");
            assert_eq!(google.names(), kept, "{call:?} {answer:?}");
            phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
        }
    }
    google.0.fail(Fault::next(Call::List, Refusal::TooManyRequests).retry_after(7));
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
    assert_eq!(clouds.waits(), [7_000], "as long as Google says");
    google.0.fail(Fault::next(Call::List, Refusal::TooManyRequests).retry_after(600));
    let later = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await;
    assert_eq!(later, Err(Error::Retry { after: Some(600_000) }), "too long to be waited for here");
    google.0.fail(Fault::next(Call::List, Refusal::DailyLimitExceeded));
    let later = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await;
    assert_eq!(later, Err(Error::Retry { after: None }));
    assert_eq!(clouds.waits(), [0u64; 0]);
}

/// The work was done and the answer lost: 409 at the second try, and one file.
#[tokio::test]
async fn a_file_is_made_once() {
    let (world, google) = (World::start().await, Google::new().await);
    let (_, phone, _, _) = start(&world, &google).await;
    let _before = google.0.take_calls();
    google.0.fail(Fault::next(Call::Create, Refusal::BackendError).done_all_the_same());
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    let creates: Vec<_> = google.0.take_calls().into_iter().filter(|(call, _)| *call == Call::Create).collect();
    assert_eq!(creates, [(Call::Create, 503), (Call::Create, 409)]);
    assert_eq!(google.names().len(), 1);
    google_of_alice_still_opens(&world, &google, &phone).await;
}

#[tokio::test]
async fn what_drive_gives_back_is_compared_before_it_counts() {
    let (world, google) = (World::start().await, Google::new().await);
    let (_, phone, _, _) = start(&world, &google).await;
    let kept = google.names();
    google.0.corrupt_reads(1);
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(Error::CloudRecordDamaged));
    google.0.fail(Fault::next(Call::Content, Refusal::NotFound));
    assert_eq!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await, Err(Error::CloudRecordNotFound));
    assert_eq!(google.names(), kept);
    phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
}

/// Only a complete listing may say that there is nothing.
#[tokio::test]
async fn an_incomplete_listing_is_no_answer_and_what_is_in_the_bin_is_gone() {
    let (world, google) = (World::start().await, Google::new().await);
    let (token, phone, addresses, _) = start(&world, &google).await;
    google.0.incomplete_searches(1);
    let unknown = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await;
    assert_eq!(unknown, Err(Error::Retry { after: None }));
    let id = google.0.files(ALICE).into_iter().find(|file| file.name.starts_with("halfkey-")).unwrap().id;
    assert!(google.0.trash(&id));
    // Not on a later page of the listing either.
    for number in 0..3 {
        google.plant(&format!("note {number}"), b"x");
    }
    google.0.pages_of(1);
    google.0.fail(Fault::next(Call::List, Refusal::BackendError).after(2).times(5));
    let unknown = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await;
    assert_eq!(unknown, Err(Error::CloudUnreachable));
    google.0.heal();
    let gone = recovers(&google, &google.phone(&world, &token), &addresses).await;
    assert_eq!(gone.map(drop), Err(Error::CloudRecordNotFound));
}

/// A user-space proxy between phone and Drive: each harm to each call of a backup and of a drill.
#[tokio::test]
async fn a_network_that_dies_in_any_call_to_drive_leaves_a_backup_that_opens() {
    let (world, google) = (World::start().await, Google::new().await);
    let address = google.0.url().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = FaultProxy::start(address).await.unwrap();
    let (token, sign_in) = (world.client_key().await, google.sign_in());
    let phone = world.phone_in(&token, &sign_in.clouds(&proxy.url()));
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    let calls = proxy.calls().len();
    assert_eq!(calls, 3 + 4, "as they were counted when this was written");
    for nth in 0..4 {
        for harm in [Harm::ResetBefore, Harm::ResetAfter, Harm::Truncate(20), Harm::Truncate(300), Harm::Duplicate] {
            proxy.harm(proxy.calls().len() + nth, harm);
            let made = phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await;
            assert!(made.is_ok(), "{nth} {harm:?}: {made:?}");
            proxy.heal();
            phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
        }
    }
    // Without a timer nothing is tried again: the backup fails, and the one before opens.
    let bare = phone.without_timer();
    for nth in 0..3 {
        for harm in [Harm::ResetBefore, Harm::ResetAfter, Harm::Truncate(20)] {
            proxy.harm(proxy.calls().len() + nth, harm);
            let failed = bare.halfkey.backup_wallet(BackupMethod::GoogleDrive).await;
            assert_eq!(failed.map(drop), Err(Error::CloudUnreachable), "{nth} {harm:?}");
            proxy.heal();
            bare.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
        }
    }
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    assert_eq!(google.names().len(), 1, "and nothing is left lying about");
    recovers(&google, &google.phone(&world, &token), &addresses).await.unwrap();
}

/// Nothing comes back any more, or nothing after the first bytes of an answer: as a phone's network does behind a wall.
#[tokio::test]
async fn a_network_that_stalls_in_any_call_to_drive_leaves_a_backup_that_opens() {
    let (world, google) = (World::start().await, Google::new().await);
    let address = google.0.url().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = FaultProxy::start(address).await.unwrap();
    let (token, sign_in) = (world.client_key().await, google.sign_in());
    let phone = world.phone_in(&token, &sign_in.clouds(&proxy.url()));
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    let mut stalled = 0;
    let mut backup_stalled_in = async |phone: &Phone, nth: usize, harm: Harm| {
        proxy.harm(proxy.calls().len() + nth, harm);
        stalled += 1;
        let gives_up = async {
            proxy.until_stalled(stalled).await;
            phone.network.give_up();
        };
        tokio::join!(phone.halfkey.backup_wallet(BackupMethod::GoogleDrive), gives_up).0
    };
    let bare = phone.without_timer();
    for harm in [Harm::Stall, Harm::StallAt(20), Harm::StallAt(300)] {
        // Without a timer nothing is tried again: a typed error with what to do next, and the older backup opens. The
        // fourth call clears the older record away, after the receipt.
        for nth in 0..3 {
            let before = shown(&bare, &Method::GoogleDrive).await.backup_id;
            let failed = backup_stalled_in(&bare, nth, harm).await.unwrap_err();
            assert_eq!(failed, Error::CloudUnreachable, "{nth} {harm:?}");
            assert_eq!(failed.code(), "CLOUD_UNREACHABLE");
            assert!(failed.advice().starts_with("Check the connection and call again"), "{}", failed.advice());
            let verified = bare.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
            assert_eq!(Some(verified.backup_id), before, "{nth} {harm:?}");
        }
        // With one the call is made again.
        for (nth, phone) in [(0, &phone), (1, &phone), (2, &phone), (3, &phone), (3, &bare)] {
            let made = backup_stalled_in(phone, nth, harm).await.unwrap();
            let verified = phone.halfkey.verify_backup(RecoveryMethod::GoogleDrive).await.unwrap();
            assert_eq!(verified.backup_id, made.backup_id, "{nth} {harm:?}");
        }
    }
    phone.halfkey.backup_wallet(BackupMethod::GoogleDrive).await.unwrap();
    assert_eq!(google.names().len(), 1, "and nothing is left lying about");
    let new = world.phone_in(&token, &google.sign_in().clouds(google.0.url()));
    recovers(&google, &new, &addresses).await.unwrap();
    signs(&new, &addresses).await.unwrap();
}

/// What the transport makes of a stall by itself.
#[tokio::test]
async fn the_transport_gives_up_on_a_stalled_call() {
    let google = Google::new().await;
    let proxy = FaultProxy::start(google.0.url().strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    install_tls_provider();
    let impatient = HttpTransport::with_patience(Duration::from_millis(200)).unwrap();
    for (nth, harm) in [(1, Harm::Stall), (2, Harm::StallAt(20)), (3, Harm::StallAt(300))] {
        proxy.harm_next(harm);
        let url = format!("{}/drive/v3/files", proxy.url());
        let request = Request { method: "GET", url, headers: Vec::new(), body: Vec::new() };
        let (answer, ()) = tokio::join!(impatient.send(request), proxy.until_stalled(nth));
        assert_eq!(answer.map(|answer| answer.status), Err(TransportError::Timeout), "{harm:?}");
    }
}

#[tokio::test]
async fn drive_and_a_password_live_side_by_side() {
    let (world, google) = (World::start().await, Google::new().await);
    let (token, phone, addresses, _) = start(&world, &google).await;
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let methods = phone.halfkey.available_recovery_methods().await.unwrap();
    assert_eq!(methods, [Method::GoogleDrive, Method::Password]);
    recovers(&google, &google.phone(&world, &token), &addresses).await.unwrap();
    phone.halfkey.verify_backup(crate::world::with(PASSWORD)).await.unwrap();
}
