//! What the emulator holds, and what it can be told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{Call, Refusal, SCOPE_APPDATA, SCOPE_DRIVE, SCOPE_FILE, answer::Failure};

/// The project of [`Drive::token`].
const PROJECT: &str = "100000000001";

/// All that the emulator holds, and what it can be told while it runs.
#[derive(Default)]
pub struct Drive {
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) tokens: HashMap<String, Grant>,
    pub(super) files: BTreeMap<String, File>,
    /// Generated ids and for whom they are.
    pub(super) ids: HashMap<String, (String, Space)>,
    /// What is left of a listing, by its page token.
    pub(super) pages: HashMap<String, Page>,
    pub(super) introspection: Option<Introspection>,
    pub(super) quota: HashMap<String, u64>,
    pub(super) page_limit: Option<usize>,
    faults: Vec<Fault>,
    incomplete: u32,
    corrupt: u32,
    lag: u32,
    /// Every change has its own second.
    now: u64,
    journal: Vec<Entry>,
}

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Drive,
    AppData,
}

impl Space {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Drive => "drive",
            Self::AppData => "appDataFolder",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) id: String,
    account: String,
    project: String,
    pub(super) space: Space,
    pub(super) name: String,
    pub(super) mime_type: String,
    pub(super) description: Option<String>,
    pub(super) properties: serde_json::Map<String, serde_json::Value>,
    pub(super) app_properties: serde_json::Map<String, serde_json::Value>,
    pub(super) content: Vec<u8>,
    pub(super) trashed: bool,
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) version: u64,
    /// How many listings do not see it yet.
    unseen: u32,
}

impl File {
    pub(super) fn new(id: String, account: &str, project: &str, space: Space, name: &str) -> Self {
        Self {
            id,
            account: account.to_owned(),
            project: project.to_owned(),
            space,
            name: name.to_owned(),
            mime_type: "application/octet-stream".to_owned(),
            description: None,
            properties: serde_json::Map::new(),
            app_properties: serde_json::Map::new(),
            content: Vec::new(),
            trashed: false,
            created: 0,
            modified: 0,
            version: 0,
            unseen: 0,
        }
    }

    pub(super) fn parent(&self) -> &'static str {
        match self.space {
            Space::Drive => "root",
            Space::AppData => "appDataFolder",
        }
    }

    /// Whether the token opens it: the hidden folder belongs to the user and the cloud project together.
    fn open_to(&self, grant: &Grant) -> bool {
        let own = self.project == grant.project;
        let open = match self.space {
            Space::AppData => own && grant.has(SCOPE_APPDATA),
            Space::Drive => grant.has(SCOPE_DRIVE) || own && grant.has(SCOPE_FILE),
        };
        self.account == grant.account && open
    }
}

pub(super) struct Page {
    pub(super) account: String,
    pub(super) asked: String,
    pub(super) left: Vec<String>,
}

/// What an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose it is: the `sub` of the account.
    pub account: String,
    /// The cloud project of the client id. All its client ids share one hidden folder for each user.
    pub project: String,
    /// What the user allowed.
    pub scopes: Vec<String>,
}

impl Grant {
    /// What the app of the tests usually has.
    #[must_use]
    pub fn app_data(account: &str) -> Self {
        let scopes = vec![SCOPE_APPDATA.to_owned(), "openid".to_owned()];
        Self { account: account.to_owned(), project: PROJECT.to_owned(), scopes }
    }

    /// The same for an app of another cloud project.
    #[must_use]
    pub fn of_project(mut self, project: &str) -> Self {
        project.clone_into(&mut self.project);
        self
    }

    /// The same with other scopes.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &[&str]) -> Self {
        self.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self
    }

    pub(super) fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|given| given == scope)
    }

    pub(super) fn opens(&self, space: Space) -> bool {
        match space {
            Space::AppData => self.has(SCOPE_APPDATA),
            Space::Drive => self.has(SCOPE_DRIVE) || self.has(SCOPE_FILE),
        }
    }
}

/// Where tokens that the emulator did not issue itself are looked up, at each call (RFC 7662).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Introspection {
    /// The endpoint.
    pub url: String,
    /// The emulator's own client id there.
    pub client_id: String,
    /// The secret of a test.
    pub client_secret: String,
}

/// Calls that fail.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Which calls.
    pub calls: Call,
    /// How they fail.
    pub answer: Refusal,
    /// How many of them.
    pub times: u32,
    /// How many of them come through first.
    #[serde(default)]
    pub skip: u32,
    /// What `Retry-After` says, in seconds.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// The call is carried out; only its answer is another.
    #[serde(default)]
    pub done: bool,
}

impl Fault {
    /// The next such call.
    #[must_use]
    pub const fn next(calls: Call, answer: Refusal) -> Self {
        Self { calls, answer, times: 1, skip: 0, retry_after: None, done: false }
    }

    /// So many calls.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only after so many calls have come through.
    #[must_use]
    pub const fn after(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    /// With `Retry-After`, in seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The work is done, and the answer says that it is not.
    #[must_use]
    pub const fn done_all_the_same(mut self) -> Self {
        self.done = true;
        self
    }
}

/// A file, as tests see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Its id.
    pub id: String,
    /// Its name; names need not differ.
    pub name: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Whether it lies in the bin.
    pub trashed: bool,
    /// `appDataFolder` or `drive`.
    pub space: String,
}

/// One request of the journal. It never holds a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `GET`, `POST`, …
    pub verb: String,
    /// The path, without its parameters.
    pub path: String,
    /// Which call that is; none for what is no method of the API.
    pub call: Option<Call>,
    /// What was answered.
    pub status: u16,
}

impl Drive {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new access token for the hidden folder of this account.
    #[must_use]
    pub fn token(&self, account: &str) -> String {
        self.issue(Grant::app_data(account))
    }

    /// A new access token.
    #[must_use]
    pub fn issue(&self, grant: Grant) -> String {
        let token = format!("ya29.{}", random_text());
        self.lock().tokens.insert(token.clone(), grant);
        token
    }

    /// Lets a token expire, or revokes it: both answer 401.
    pub fn revoke(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    /// Looks tokens up at their issuer from now on.
    pub fn introspect(&self, at: Introspection) {
        self.lock().introspection = Some(at);
    }

    /// Lets calls fail.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes back all that was told to fail or to lag, and lets pages be long.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        (state.incomplete, state.corrupt, state.lag, state.page_limit) = (0, 0, 0, None);
        state.files.values_mut().for_each(|file| file.unseen = 0);
    }

    /// The next so many listings say `incompleteSearch`, and hold nothing.
    pub fn incomplete_searches(&self, times: u32) {
        self.lock().incomplete = times;
    }

    /// No page is longer, whatever `pageSize` asks for.
    pub fn pages_of(&self, files: usize) {
        self.lock().page_limit = Some(files.max(1));
    }

    /// The next so many reads of a content give other bytes than were written.
    pub fn corrupt_reads(&self, times: u32) {
        self.lock().corrupt = times;
    }

    /// Files made from now on are missing from so many listings.
    pub fn lag(&self, listings: u32) {
        self.lock().lag = listings;
    }

    /// All the files of an account may hold so many bytes together.
    pub fn quota(&self, account: &str, bytes: u64) {
        self.lock().quota.insert(account.to_owned(), bytes);
    }

    /// Puts a file into the hidden folder of an account, as another device does; its id. The same name again is a
    /// second file.
    pub fn put(&self, account: &str, name: &str, content: &[u8]) -> String {
        let mut state = self.lock();
        let mut file = File::new(random_id(), account, PROJECT, Space::AppData, name);
        file.content = content.to_vec();
        state.add(file)
    }

    /// Puts a file into the bin, as nothing of today does with the hidden folder; whether it was there.
    pub fn trash(&self, id: &str) -> bool {
        self.lock().files.get_mut(id).map(|file| file.trashed = true).is_some()
    }

    /// Deletes a file, as another device does; whether it was there.
    pub fn delete(&self, id: &str) -> bool {
        self.lock().files.remove(id).is_some()
    }

    /// Deletes the whole hidden folder of an account, as the user does under "Manage apps"; how many files that were.
    pub fn delete_hidden_app_data(&self, account: &str) -> usize {
        let mut state = self.lock();
        let before = state.files.len();
        state.files.retain(|_, file| file.account != account || file.space != Space::AppData);
        before - state.files.len()
    }

    /// Replaces the content of a file; whether it was there.
    pub fn overwrite(&self, id: &str, content: &[u8]) -> bool {
        self.lock().files.get_mut(id).map(|file| file.content = content.to_vec()).is_some()
    }

    /// All files of an account, oldest first.
    #[must_use]
    pub fn files(&self, account: &str) -> Vec<Stored> {
        let state = self.lock();
        let mut files: Vec<_> = state.files.values().filter(|file| file.account == account).collect();
        files.sort_by_key(|file| file.created);
        let stored = |file: &File| Stored {
            id: file.id.clone(),
            name: file.name.clone(),
            content: file.content.clone(),
            trashed: file.trashed,
            space: file.space.as_str().to_owned(),
        };
        files.into_iter().map(stored).collect()
    }

    /// Every request so far.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.lock().journal.clone()
    }

    /// The calls and their answers so far, and an empty journal from now on.
    #[must_use]
    pub fn take_calls(&self) -> Vec<(Call, u16)> {
        let taken = std::mem::take(&mut self.lock().journal);
        taken.into_iter().filter_map(|entry| Some((entry.call?, entry.status))).collect()
    }
}

impl State {
    /// The time of the next change, in milliseconds since the Unix epoch: 2026-01-01 and one second for each.
    pub(super) fn tick(&mut self) -> u64 {
        self.now += 1;
        1_767_225_600_000 + self.now * 1000
    }

    pub(super) fn add(&mut self, mut file: File) -> String {
        let now = self.tick();
        (file.created, file.modified, file.version, file.unseen) = (now, now, 1, self.lag);
        let id = file.id.clone();
        self.files.insert(id.clone(), file);
        id
    }

    pub(super) fn file(&self, id: &str, grant: &Grant) -> Result<&File, Failure> {
        self.files.get(id).filter(|file| file.open_to(grant)).ok_or_else(|| Failure::no_file(id))
    }

    pub(super) fn file_mut(&mut self, id: &str, grant: &Grant) -> Result<&mut File, Failure> {
        self.files.get_mut(id).filter(|file| file.open_to(grant)).ok_or_else(|| Failure::no_file(id))
    }

    /// What a new listing sees, newest first, and whether it is complete.
    pub(super) fn visible(&mut self, grant: &Grant, space: Space) -> (Vec<&File>, bool) {
        let incomplete = self.incomplete > 0;
        self.incomplete = self.incomplete.saturating_sub(1);
        let mut seen = Vec::new();
        for file in self.files.values_mut().filter(|file| file.space == space && file.open_to(grant)) {
            if file.unseen == 0 && !incomplete {
                seen.push(&*file);
            } else {
                file.unseen = file.unseen.saturating_sub(1);
            }
        }
        seen.sort_by_key(|file| std::cmp::Reverse(file.created));
        (seen, incomplete)
    }

    /// Whether this read gives other bytes than were written.
    pub(super) fn corrupts(&mut self) -> bool {
        let corrupt = self.corrupt > 0;
        self.corrupt = self.corrupt.saturating_sub(1);
        corrupt
    }

    /// The bytes of all files of an account.
    pub(super) fn used(&self, account: &str) -> u64 {
        self.files.values().filter(|file| file.account == account).map(|file| file.content.len() as u64).sum()
    }

    /// # Errors
    /// 403 when an account would hold more than it may.
    pub(super) fn room_for(&self, account: &str, more: usize, less: usize) -> Result<(), Failure> {
        let used = self.used(account) + more as u64 - less as u64;
        match self.quota.get(account) {
            Some(quota) if more > less && used > *quota => Err(Refusal::StorageQuotaExceeded.into()),
            _ => Ok(()),
        }
    }

    /// The fault that this call meets, if any.
    pub(super) fn fault(&mut self, call: Call) -> Option<Fault> {
        let at = self.faults.iter().position(|fault| fault.calls == call && fault.times > 0)?;
        let fault = &mut self.faults[at];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        let met = fault.clone();
        if fault.times == 0 {
            self.faults.remove(at);
        }
        Some(met)
    }

    pub(super) fn note(&mut self, entry: Entry) {
        self.journal.push(entry);
    }
}

/// An id as Google generates them: letters, digits, `-` and `_`.
pub(super) fn random_id() -> String {
    format!("1{}", random_text())
}

fn random_text() -> String {
    let mut bytes = [0; 32];
    #[allow(clippy::expect_used, reason = "a test without randomness cannot go on")]
    getrandom::fill(&mut bytes).expect("the system's randomness");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Fault {
    pub(super) fn answer(&self) -> axum::response::Response {
        use axum::response::IntoResponse;
        let mut answer = Failure::from(self.answer).into_response();
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
