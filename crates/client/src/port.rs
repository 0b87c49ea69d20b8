//! What a flow can ask its host: every method is one question of the step API.

use std::sync::{Arc, Mutex};

use halfkey_envelope::{entropy::Entropy, wallet::Curve};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result, StorageReason},
    host::{
        BlobSlot, CloudToken, CloudTokenError, CloudTokenRequest, CustomError, Dismissed, MAX_BLOB, MAX_RESPONSE,
        PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Request, Response, SyncedError,
        TransportError,
    },
    machine::{Asking, Exchange, lock},
    progress::{Progress, Stage},
    setting::Setting,
    step::{Answer, Ask, CustomCall},
};

/// A flow's way to its host, and to what does not change while it runs.
pub(crate) struct Port {
    pub(crate) setting: Arc<Setting>,
    exchange: Arc<Mutex<Exchange>>,
    progress: Mutex<(u32, u32)>,
}

/// The shared source of randomness, for the calls that want an exclusive one.
pub(crate) struct SharedEntropy(Arc<Setting>);

impl Entropy for SharedEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        lock(&self.0.entropy).fill(out);
    }
}

macro_rules! expect {
    ($asking:expr, $kind:ident) => {
        match $asking.await {
            Answer::$kind(answer) => answer,
            // The machine has compared the kinds already.
            _ => return Err(Error::Internal),
        }
    };
}

impl Port {
    pub(crate) fn new(setting: Arc<Setting>, exchange: Arc<Mutex<Exchange>>) -> Self {
        Self { setting, exchange, progress: Mutex::new((0, 1)) }
    }

    pub(crate) fn entropy(&self) -> SharedEntropy {
        SharedEntropy(self.setting.clone())
    }

    fn ask(&self, ask: Ask) -> Asking<'_> {
        Asking::new(&self.exchange, ask)
    }

    pub(crate) async fn now(&self) -> Result<u64> {
        Ok(expect!(self.ask(Ask::Now), Now))
    }

    pub(crate) async fn http(&self, request: Request) -> Result<Response> {
        let response = expect!(self.ask(Ask::Http(request)), Http)?;
        if response.body.len() > MAX_RESPONSE { Err(TransportError::BadAnswer.into()) } else { Ok(response) }
    }

    pub(crate) async fn token(&self) -> Result<Zeroizing<String>> {
        expect!(self.ask(Ask::Token), Token).map_err(|_| Error::SignInAgain)
    }

    pub(crate) async fn token_invalidated(&self) -> Result<()> {
        self.go_on(Ask::TokenInvalidated).await
    }

    pub(crate) async fn read_secret(&self) -> Result<Option<Zeroizing<[u8; 32]>>> {
        expect!(self.ask(Ask::ReadSecret), Secret).map_err(storage)
    }

    pub(crate) async fn write_secret(&self, key: Zeroizing<[u8; 32]>) -> Result<()> {
        expect!(self.ask(Ask::WriteSecret(key)), Stored).map_err(storage)
    }

    pub(crate) async fn read_blob(&self, slot: BlobSlot) -> Result<Option<Vec<u8>>> {
        let blob = expect!(self.ask(Ask::ReadBlob(slot)), Blob).map_err(storage)?;
        let fits = blob.as_ref().is_none_or(|bytes| bytes.len() <= MAX_BLOB);
        if fits { Ok(blob) } else { Err(Error::Storage(StorageReason::Damaged)) }
    }

    pub(crate) async fn write_blob(&self, slot: BlobSlot, bytes: Vec<u8>) -> Result<()> {
        expect!(self.ask(Ask::WriteBlob(slot, bytes)), Stored).map_err(storage)
    }

    pub(crate) async fn delete_blob(&self, slot: BlobSlot) -> Result<()> {
        expect!(self.ask(Ask::DeleteBlob(slot)), Stored).map_err(storage)
    }

    pub(crate) async fn hold_store(&self) -> Result<()> {
        self.go_on(Ask::HoldStore).await
    }

    pub(crate) async fn release_store(&self) -> Result<()> {
        self.go_on(Ask::ReleaseStore).await
    }

    pub(crate) async fn confirm_recovery_code(
        &self,
        code: Zeroizing<String>,
        again: bool,
    ) -> Result<Zeroizing<String>> {
        let typed = expect!(self.ask(Ask::ConfirmRecoveryCode { code, again }), Typed);
        typed.map_err(|Dismissed| Error::NotConfirmed)
    }

    pub(crate) async fn passkey_create(
        &self,
        request: PasskeyCreate,
    ) -> Result<std::result::Result<PasskeyCreated, PasskeyError>> {
        Ok(expect!(self.ask(Ask::PasskeyCreate(request)), PasskeyCreated))
    }

    pub(crate) async fn passkey_get(
        &self,
        request: PasskeyGet,
    ) -> Result<std::result::Result<PasskeyGot, PasskeyError>> {
        Ok(expect!(self.ask(Ask::PasskeyGet(request)), PasskeyGot))
    }

    pub(crate) async fn cloud_token(&self, wanted: CloudTokenRequest) -> Result<CloudToken> {
        expect!(self.ask(Ask::CloudToken(wanted)), CloudToken).map_err(|error| match error {
            CloudTokenError::NeedsReauth => Error::NeedsReauth,
            CloudTokenError::Cancelled => Error::Cancelled,
            CloudTokenError::Unreachable => Error::CloudUnreachable,
        })
    }

    pub(crate) async fn cloud_token_invalidated(&self) -> Result<()> {
        self.go_on(Ask::CloudTokenInvalidated).await
    }

    pub(crate) async fn synced_put(&self, name: &str, value: Vec<u8>) -> Result<()> {
        expect!(self.ask(Ask::SyncedPut { name: name.to_owned(), value }), Synced).map_err(synced)
    }

    pub(crate) async fn synced_get(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        expect!(self.ask(Ask::SyncedGet(name.to_owned())), SyncedItems).map_err(synced)
    }

    pub(crate) async fn synced_delete(&self, name: &str) -> Result<()> {
        expect!(self.ask(Ask::SyncedDelete(name.to_owned())), Synced).map_err(synced)
    }

    pub(crate) async fn synced_list(&self, prefix: &str) -> Result<Vec<String>> {
        expect!(self.ask(Ask::SyncedList(prefix.to_owned())), SyncedNames).map_err(synced)
    }

    pub(crate) async fn custom_put(&self, method: &str, name: &str, record: Vec<u8>) -> Result<()> {
        let call = CustomCall::Put { name: name.to_owned(), record };
        expect!(self.ask(Ask::Custom { method: method.to_owned(), call }), CustomDone).map_err(custom)
    }

    pub(crate) async fn custom_get(&self, method: &str, name: &str) -> Result<Vec<Vec<u8>>> {
        let call = CustomCall::Get(name.to_owned());
        expect!(self.ask(Ask::Custom { method: method.to_owned(), call }), CustomRecords).map_err(custom)
    }

    pub(crate) async fn custom_delete(&self, method: &str, name: &str) -> Result<()> {
        let call = CustomCall::Delete(name.to_owned());
        expect!(self.ask(Ask::Custom { method: method.to_owned(), call }), CustomDone).map_err(custom)
    }

    pub(crate) async fn custom_list(&self, method: &str, prefix: &str) -> Result<Vec<String>> {
        let call = CustomCall::List(prefix.to_owned());
        expect!(self.ask(Ask::Custom { method: method.to_owned(), call }), CustomNames).map_err(custom)
    }

    /// Whether the time has passed; a host may be unable to wait.
    pub(crate) async fn wait(&self, ms: u64) -> Result<bool> {
        Ok(expect!(self.ask(Ask::Wait(ms)), Waited))
    }

    /// Says that a call of `total` parts begins.
    pub(crate) fn begin(&self, total: u32) {
        *lock(&self.progress) = (0, total);
    }

    /// Says that a part is worked on.
    pub(crate) async fn stage(&self, stage: Stage, curve: Option<Curve>) -> Result<()> {
        let (done, total) = *lock(&self.progress);
        self.go_on(Ask::Progress(Progress { stage, curve, done, total })).await
    }

    /// Says that a part is finished.
    pub(crate) fn part_done(&self) {
        let mut progress = lock(&self.progress);
        progress.0 = (progress.0 + 1).min(progress.1);
    }

    /// Says that everything is finished.
    pub(crate) async fn all_done(&self) -> Result<()> {
        let total = lock(&self.progress).1;
        *lock(&self.progress) = (total, total);
        self.stage(Stage::Done, None).await
    }

    async fn go_on(&self, ask: Ask) -> Result<()> {
        let Answer::Continue = self.ask(ask).await else { return Err(Error::Internal) };
        Ok(())
    }
}

const fn synced(error: SyncedError) -> Error {
    match error {
        SyncedError::Locked => Error::CloudLocked,
        SyncedError::MissingEntitlement => Error::CloudNotEntitled,
        SyncedError::Unavailable => Error::CloudUnreachable,
    }
}

const fn custom(error: CustomError) -> Error {
    match error {
        CustomError::Unreachable => Error::CloudUnreachable,
        CustomError::Locked => Error::CloudLocked,
        CustomError::Cancelled => Error::Cancelled,
        CustomError::Full => Error::QuotaExceeded,
    }
}

fn storage(error: crate::host::StoreError) -> Error {
    Error::Storage(error.into())
}
