//! The step API: what a machine asks its host, and what the host answers. One thing at a time.

use zeroize::Zeroizing;

use crate::{
    command::Outcome,
    error::Error,
    host::{
        BlobSlot, CloudToken, CloudTokenError, CloudTokenRequest, CustomError, Dismissed, PasskeyCreate,
        PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot, Request, Response, SignedOut, StoreError, SyncedError,
        TransportError,
    },
    progress::Progress,
};

/// Where a command stands.
#[derive(Debug)]
pub enum Step {
    /// The host is asked for one thing; the answer goes back with the same number.
    Ask {
        /// Names this question; an answer to another one is refused.
        number: u64,
        /// What is wanted.
        ask: Ask,
    },
    /// The command is finished.
    Done(Box<Outcome>),
    /// The command has failed; the error says what to do.
    Failed(Error),
}

/// One thing that the host is asked for.
pub enum Ask {
    /// Send this request.
    Http(Request),
    /// A session token.
    Token,
    /// The last token was refused: forget it.
    TokenInvalidated,
    /// The device's wrapping key.
    ReadSecret,
    /// Keep the device's wrapping key.
    WriteSecret(Zeroizing<[u8; 32]>),
    /// A sealed blob.
    ReadBlob(BlobSlot),
    /// Replace a sealed blob, atomically and durably.
    WriteBlob(BlobSlot, Vec<u8>),
    /// Empty a slot.
    DeleteBlob(BlobSlot),
    /// Keep other machines on the same store out until [`Ask::ReleaseStore`], or until this machine is dropped.
    /// A host that never runs two machines at once on one store simply continues.
    HoldStore,
    /// Let other machines in again.
    ReleaseStore,
    /// The time, in milliseconds since the Unix epoch.
    Now,
    /// Show a new recovery code and give back what the user typed.
    ConfirmRecoveryCode {
        /// The code, as it is displayed.
        code: Zeroizing<String>,
        /// What was typed before did not match.
        again: bool,
    },
    /// Make a passkey.
    PasskeyCreate(PasskeyCreate),
    /// Use a passkey.
    PasskeyGet(PasskeyGet),
    /// An access token of the user's cloud account.
    CloudToken(CloudTokenRequest),
    /// The cloud refused the last access token: forget it.
    CloudTokenInvalidated,
    /// Add an item to the store of synchronised ones.
    SyncedPut {
        /// The item's name.
        name: String,
        /// Its value.
        value: Vec<u8>,
    },
    /// The items of this name.
    SyncedGet(String),
    /// Delete the items of this name.
    SyncedDelete(String),
    /// The names of items that begin so.
    SyncedList(String),
    /// Something of the registered method of this name.
    Custom {
        /// The method's name, without `CUSTOM:`.
        method: String,
        /// What its store is to do.
        call: CustomCall,
    },
    /// Let so many milliseconds pass.
    Wait(u64),
    /// Tell the user how far it is.
    Progress(Progress),
}

impl Ask {
    /// The kind of answer that fits.
    #[must_use]
    pub const fn expects(&self) -> AnswerKind {
        match self {
            Self::Http(_) => AnswerKind::Http,
            Self::Token => AnswerKind::Token,
            Self::ReadSecret => AnswerKind::Secret,
            Self::ReadBlob(_) => AnswerKind::Blob,
            Self::WriteSecret(_) | Self::WriteBlob(..) | Self::DeleteBlob(_) => AnswerKind::Stored,
            Self::Now => AnswerKind::Now,
            Self::ConfirmRecoveryCode { .. } => AnswerKind::Typed,
            Self::PasskeyCreate(_) => AnswerKind::PasskeyCreated,
            Self::PasskeyGet(_) => AnswerKind::PasskeyGot,
            Self::CloudToken(_) => AnswerKind::CloudToken,
            Self::SyncedPut { .. } | Self::SyncedDelete(_) => AnswerKind::Synced,
            Self::SyncedGet(_) => AnswerKind::SyncedItems,
            Self::SyncedList(_) => AnswerKind::SyncedNames,
            Self::Custom { call, .. } => call.expects(),
            Self::Wait(_) => AnswerKind::Waited,
            Self::CloudTokenInvalidated => AnswerKind::Continue,
            Self::TokenInvalidated | Self::HoldStore | Self::ReleaseStore | Self::Progress(_) => AnswerKind::Continue,
        }
    }
}

/// What the store of an application's own method is to do: the verbs of [`crate::host::CustomMethod`].
#[derive(Clone, PartialEq, Eq)]
pub enum CustomCall {
    /// Keep a record.
    Put {
        /// Its name.
        name: String,
        /// The record.
        record: Vec<u8>,
    },
    /// The records of this name.
    Get(String),
    /// Delete the records of this name.
    Delete(String),
    /// The names that begin so.
    List(String),
}

impl CustomCall {
    const fn expects(&self) -> AnswerKind {
        match self {
            Self::Put { .. } | Self::Delete(_) => AnswerKind::CustomDone,
            Self::Get(_) => AnswerKind::CustomRecords,
            Self::List(_) => AnswerKind::CustomNames,
        }
    }
}

/// Shows the name and the size only.
impl core::fmt::Debug for CustomCall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Put { name, record } => write!(f, "Put({name}, {} bytes)", record.len()),
            Self::Get(name) => write!(f, "Get({name})"),
            Self::Delete(name) => write!(f, "Delete({name})"),
            Self::List(prefix) => write!(f, "List({prefix})"),
        }
    }
}

/// Shows which question it is, never its contents.
impl core::fmt::Debug for Ask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Http(request) => write!(f, "Http({request:?})"),
            Self::Token => f.write_str("Token"),
            Self::TokenInvalidated => f.write_str("TokenInvalidated"),
            Self::ReadSecret => f.write_str("ReadSecret"),
            Self::WriteSecret(_) => f.write_str("WriteSecret"),
            Self::ReadBlob(slot) => write!(f, "ReadBlob({})", slot.name()),
            Self::WriteBlob(slot, bytes) => write!(f, "WriteBlob({}, {} bytes)", slot.name(), bytes.len()),
            Self::DeleteBlob(slot) => write!(f, "DeleteBlob({})", slot.name()),
            Self::HoldStore => f.write_str("HoldStore"),
            Self::ReleaseStore => f.write_str("ReleaseStore"),
            Self::Now => f.write_str("Now"),
            Self::ConfirmRecoveryCode { again, .. } => write!(f, "ConfirmRecoveryCode(again: {again})"),
            Self::PasskeyCreate(request) => write!(f, "PasskeyCreate({})", request.rp_id),
            Self::PasskeyGet(request) => write!(f, "PasskeyGet({}, {} allowed)", request.rp_id, request.allow.len()),
            Self::CloudToken(_) => f.write_str("CloudToken"),
            Self::CloudTokenInvalidated => f.write_str("CloudTokenInvalidated"),
            Self::SyncedPut { name, value } => write!(f, "SyncedPut({name}, {} bytes)", value.len()),
            Self::SyncedGet(name) => write!(f, "SyncedGet({name})"),
            Self::SyncedDelete(name) => write!(f, "SyncedDelete({name})"),
            Self::SyncedList(prefix) => write!(f, "SyncedList({prefix})"),
            Self::Custom { method, call } => write!(f, "Custom({method}, {call:?})"),
            Self::Wait(ms) => write!(f, "Wait({ms})"),
            Self::Progress(progress) => write!(f, "{progress:?}"),
        }
    }
}

/// The host's answer to one [`Step::Ask`].
#[derive(Debug)]
pub struct Event {
    /// The number of the question.
    pub number: u64,
    /// The answer.
    pub answer: Answer,
}

/// What the host answers.
pub enum Answer {
    /// To [`Ask::Http`].
    Http(Result<Response, TransportError>),
    /// To [`Ask::Token`].
    Token(Result<Zeroizing<String>, SignedOut>),
    /// To [`Ask::ReadSecret`].
    Secret(Result<Option<Zeroizing<[u8; 32]>>, StoreError>),
    /// To [`Ask::ReadBlob`].
    Blob(Result<Option<Vec<u8>>, StoreError>),
    /// To everything that writes or deletes.
    Stored(Result<(), StoreError>),
    /// To [`Ask::Now`].
    Now(u64),
    /// To [`Ask::ConfirmRecoveryCode`].
    Typed(Result<Zeroizing<String>, Dismissed>),
    /// To [`Ask::PasskeyCreate`].
    PasskeyCreated(Result<PasskeyCreated, PasskeyError>),
    /// To [`Ask::PasskeyGet`].
    PasskeyGot(Result<PasskeyGot, PasskeyError>),
    /// To [`Ask::CloudToken`].
    CloudToken(Result<CloudToken, CloudTokenError>),
    /// To [`Ask::SyncedPut`] and [`Ask::SyncedDelete`].
    Synced(Result<(), SyncedError>),
    /// To [`Ask::SyncedGet`].
    SyncedItems(Result<Vec<Vec<u8>>, SyncedError>),
    /// To [`Ask::SyncedList`].
    SyncedNames(Result<Vec<String>, SyncedError>),
    /// To [`CustomCall::Put`] and [`CustomCall::Delete`].
    CustomDone(Result<(), CustomError>),
    /// To [`CustomCall::Get`].
    CustomRecords(Result<Vec<Vec<u8>>, CustomError>),
    /// To [`CustomCall::List`].
    CustomNames(Result<Vec<String>, CustomError>),
    /// To [`Ask::Wait`]: whether the time has passed. A host that cannot wait says no at once.
    Waited(bool),
    /// To everything else.
    Continue,
}

impl Answer {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> AnswerKind {
        match self {
            Self::Http(_) => AnswerKind::Http,
            Self::Token(_) => AnswerKind::Token,
            Self::Secret(_) => AnswerKind::Secret,
            Self::Blob(_) => AnswerKind::Blob,
            Self::Stored(_) => AnswerKind::Stored,
            Self::Now(_) => AnswerKind::Now,
            Self::Typed(_) => AnswerKind::Typed,
            Self::PasskeyCreated(_) => AnswerKind::PasskeyCreated,
            Self::PasskeyGot(_) => AnswerKind::PasskeyGot,
            Self::CloudToken(_) => AnswerKind::CloudToken,
            Self::Synced(_) => AnswerKind::Synced,
            Self::SyncedItems(_) => AnswerKind::SyncedItems,
            Self::SyncedNames(_) => AnswerKind::SyncedNames,
            Self::CustomDone(_) => AnswerKind::CustomDone,
            Self::CustomRecords(_) => AnswerKind::CustomRecords,
            Self::CustomNames(_) => AnswerKind::CustomNames,
            Self::Waited(_) => AnswerKind::Waited,
            Self::Continue => AnswerKind::Continue,
        }
    }
}

/// Shows the kind only.
impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.kind())
    }
}

/// The kinds of [`Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// An HTTP answer, or why there is none.
    Http,
    /// A session token.
    Token,
    /// The device's wrapping key.
    Secret,
    /// A blob.
    Blob,
    /// Written or deleted.
    Stored,
    /// The time.
    Now,
    /// What the user typed.
    Typed,
    /// A new passkey, or why there is none.
    PasskeyCreated,
    /// What a passkey gave, or why it gave nothing.
    PasskeyGot,
    /// A cloud's access token, or why there is none.
    CloudToken,
    /// A synchronised item was added or deleted.
    Synced,
    /// Synchronised items.
    SyncedItems,
    /// Names of synchronised items.
    SyncedNames,
    /// A method of the application's own has kept or deleted something.
    CustomDone,
    /// Records of such a method.
    CustomRecords,
    /// Names of such records.
    CustomNames,
    /// Whether time has passed.
    Waited,
    /// Nothing but: go on.
    Continue,
}

/// The host broke the rules of the conversation. The machine is unchanged and still waits for the right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The answer is to another question: sent twice, or late.
    #[error("question {waiting} waits for its answer, not {answered}")]
    OtherQuestion {
        /// The open question.
        waiting: u64,
        /// The one that was answered.
        answered: u64,
    },
    /// An answer of another kind than was asked for.
    #[error("expected {expected:?}, got {got:?}")]
    WrongKind {
        /// What fits.
        expected: AnswerKind,
        /// What came.
        got: AnswerKind,
    },
    /// The command has ended.
    #[error("the command has ended")]
    AfterEnd,
}
