//! Messages of the password door (METHODS.md B).
//!
//! Two layers, both strict CBOR. A client speaks end to end to a guesskeeper whose key it has pinned: a body of
//! this module, HPKE-sealed ([`Sealed`]), answered under that request's answer key ([`Answer`]). The server only
//! relays, inside its own [`Request`] and [`Reply`]; what it may know, the [`Standing`], is in the clear *and*
//! inside the sealed part, so that the client sees a server that lies about it.
//!
//! Lists of keepers have one element in this version; the format is ready for several with a threshold.

use core::fmt;

use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use zeroize::Zeroizing;

use crate::{
    cbor,
    entropy::{Entropy, random},
    hash::h,
    hpke::{self, AnswerKey, PublicKey},
    id::{BackupId, ClientId, DeploymentId},
    secret::{redact, secret32},
};

/// The version of every message in this module.
pub const VERSION: u8 = 1;
/// The only normaliser so far: OpaqueString (RFC 8265) for passwords, folded decimal digits for PINs.
pub const NORMALISER: u16 = 1;
/// The longest record that the door holds, sealed.
pub const MAX_WRAPPED: usize = 8 * 1024;

/// Which guesskeeper key a message is sealed to: the first eight bytes of a hash of that key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeeperId([u8; 8]);

/// One registration of one backup: 16 random bytes that the client draws.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ver([u8; 16]);

/// Names one counted evaluation; the tag that opens the door must come with the newest one, so that a recorded
/// unlock message never resets a later count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket([u8; 16]);

macro_rules! byte_newtypes {
    ($($name:ident, $len:literal;)+) => {$(
        impl $name {
            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                d.bytes()?.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("wrong length"))
            }
        }
    )+};
}

byte_newtypes! {
    KeeperId, 8;
    Ver, 16;
    Ticket, 16;
}

impl KeeperId {
    /// The id of a guesskeeper's public key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = h("halfkey/guesskeeper/v1/key-id", &[key.as_bytes()]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(id)
    }
}

impl Ver {
    /// A fresh one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(*random::<16>(entropy))
    }
}

impl Ticket {
    /// A fresh one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self(*random::<16>(entropy))
    }
}

/// The key of the oblivious function of one registration: a canonical ristretto255 scalar, made by
/// [`crate::oprf::generate_key`].
pub struct OprfKey(Zeroizing<[u8; 32]>);

redact!(OprfKey);

impl OprfKey {
    /// From its bytes; checked when it is used.
    #[must_use]
    pub const fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

secret32! {
    /// Proves to the keeper that the guess was right.
    UnlockTag;
    /// The keeper's part of the key that wraps the record (`z` of METHODS.md B).
    KeeperPart;
    /// Lets its holder, and no other, use a registration that is not yet active.
    ReadBackToken;
}

macro_rules! secrets_in_sealed_messages {
    ($($name:ident),+) => {$(
        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(self.expose())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes: &[u8] = d.bytes()?;
                let mut secret = Zeroizing::new([0u8; 32]);
                if bytes.len() != secret.len() {
                    return Err(minicbor::decode::Error::message("wrong length"));
                }
                secret.copy_from_slice(bytes);
                Ok(Self::from_bytes(secret))
            }
        }
    )+};
}

secrets_in_sealed_messages!(OprfKey, UnlockTag, KeeperPart, ReadBackToken);

/// How the secret was typed, and so how it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Mode {
    /// A password, passcode or any other text.
    #[n(1)]
    Password,
    /// Decimal digits.
    #[n(2)]
    Pin,
}

/// Cost of the key derivation (Argon2id, RFC 9106): chosen when writing, bounded when reading. A value that
/// exists is within the bounds (METHODS.md B, DECISIONS.md D27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The cost is below what protects a password, or above what a device should be made to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key derivation outside 19 MiB, 2 passes … 256 MiB, 10 passes, 4 lanes")]
pub struct KdfOutOfBounds;

impl KdfParams {
    /// 64 MiB, 3 passes, 1 lane: about a quarter of a second on a small machine.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The cheapest that is accepted. For tests, and for devices with little memory.
    pub const FLOOR: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

    /// Checked parameters; memory in KiB.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfOutOfBounds> {
        let memory_ok = memory_kib >= 19 * 1024 && memory_kib <= 256 * 1024;
        let passes_ok = passes >= 2 && passes <= 10;
        let lanes_ok = lanes >= 1 && lanes <= 4;
        if memory_ok && passes_ok && lanes_ok { Ok(Self { memory_kib, passes, lanes }) } else { Err(KdfOutOfBounds) }
    }

    /// Memory in KiB.
    #[must_use]
    pub const fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    #[must_use]
    pub const fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes (degree of parallelism).
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
}

impl Default for KdfParams {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl<C> Encode<C> for KdfParams {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(3)?.u32(self.memory_kib)?.u32(self.passes)?.u32(self.lanes)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for KdfParams {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.array()? != Some(3) {
            return Err(minicbor::decode::Error::message("three parameters"));
        }
        Self::new(d.u32()?, d.u32()?, d.u32()?).map_err(|_| minicbor::decode::Error::message("out of bounds"))
    }
}

/// What one registration is for, and how its password becomes a key: `ctx` of METHODS.md B.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Context {
    /// The version of this structure.
    #[n(0)]
    pub version: u8,
    /// The installation.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The end user.
    #[n(2)]
    pub client: ClientId,
    /// The backup whose record lies behind this door.
    #[n(3)]
    pub backup: BackupId,
    /// This registration.
    #[n(4)]
    pub ver: Ver,
    /// Password or PIN.
    #[n(5)]
    pub mode: Mode,
    /// How it is normalised: [`NORMALISER`].
    #[n(6)]
    pub normaliser: u16,
    /// Cost of the key derivation.
    #[n(7)]
    pub kdf: KdfParams,
    /// The keepers' keys; one in this version.
    #[n(8)]
    pub keepers: Vec<KeeperId>,
}

impl Context {
    /// `SHA-256(ctx)`, where `ctx` is the tagged encoding of DECISIONS.md D2 over the fields in order; integers
    /// are big-endian. It is the salt of both derivations.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let keepers: Vec<u8> = self.keepers.iter().flat_map(|keeper| *keeper.as_bytes()).collect();
        let mode = match self.mode {
            Mode::Password => 1u8,
            Mode::Pin => 2,
        };
        h(
            "halfkey/password/v1/context",
            &[
                &[self.version],
                self.deployment.as_bytes(),
                self.client.as_bytes(),
                self.backup.as_bytes(),
                self.ver.as_bytes(),
                &[mode],
                &self.normaliser.to_be_bytes(),
                &self.kdf.memory_kib.to_be_bytes(),
                &self.kdf.passes.to_be_bytes(),
                &self.kdf.lanes.to_be_bytes(),
                &keepers,
            ],
        )
    }
}

/// What server and user may know of a registration: in the clear beside each answer, and again inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Standing {
    /// Guesses left. 0 after the last evaluation, also while its tag may still come.
    #[n(0)]
    pub remaining: u32,
    /// No guess is evaluated before this time (milliseconds since the epoch); 0 when none waits.
    #[n(1)]
    pub not_before_ms: u64,
    /// Destroyed: this backup never opens again.
    #[n(2)]
    pub locked: bool,
    /// Guesses since the last right one.
    #[n(3)]
    pub wrong: u32,
    /// So many wrong guesses in this registration's life that a new backup should be made.
    #[n(4)]
    pub back_up_anew: bool,
}

// ------------------------------------------------------------------------------ client ↔ guesskeeper, sealed

/// The four things a client says to the door, each under an HPKE `info` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Register`].
    Register,
    /// [`Start`].
    Start,
    /// [`Evaluate`].
    Evaluate,
    /// [`Unlock`].
    Unlock,
}

impl Operation {
    /// The HPKE `info` of the request.
    #[must_use]
    pub const fn info(self) -> &'static str {
        match self {
            Self::Register => "halfkey/guesskeeper/v1/register",
            Self::Start => "halfkey/guesskeeper/v1/start",
            Self::Evaluate => "halfkey/guesskeeper/v1/evaluate",
            Self::Unlock => "halfkey/guesskeeper/v1/unlock",
        }
    }

    /// The label of the answer.
    #[must_use]
    pub const fn answer_label(self) -> &'static str {
        match self {
            Self::Register => "halfkey/guesskeeper/v1/register/answer",
            Self::Start => "halfkey/guesskeeper/v1/start/answer",
            Self::Evaluate => "halfkey/guesskeeper/v1/evaluate/answer",
            Self::Unlock => "halfkey/guesskeeper/v1/unlock/answer",
        }
    }
}

/// The associated data of a sealed request: which key and which backup it is for.
fn request_aad(keeper: KeeperId, backup: BackupId) -> [u8; 32] {
    h("halfkey/guesskeeper/v1/request", &[keeper.as_bytes(), backup.as_bytes()])
}

/// A body that a client seals to a guesskeeper.
pub trait Body: Encode<()> + for<'b> Decode<'b, ()> {
    /// Which of the four it is.
    const OPERATION: Operation;
    /// The version in it.
    fn version(&self) -> u8;
    /// The backup it names.
    fn backup(&self) -> BackupId;
}

/// Everything the keeper will ever know of one registration. The keeper evaluates nothing here.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Register {
    /// The version of this message.
    #[n(0)]
    pub version: u8,
    /// What it is for.
    #[n(1)]
    pub context: Context,
    /// The key of the oblivious function.
    #[n(2)]
    pub oprf_key: OprfKey,
    /// Tells the client that the password was right.
    #[n(3)]
    pub commitment: ByteArray<32>,
    /// Tells the keeper so.
    #[n(4)]
    pub tag: UnlockTag,
    /// The keeper's part of the wrap key.
    #[n(5)]
    pub keeper_part: KeeperPart,
    /// The sealed record.
    #[n(6)]
    pub wrapped: ByteVec,
    /// Guesses in a row before it is destroyed.
    #[n(7)]
    pub max_guesses: u32,
    /// For the time until it is active.
    #[n(8)]
    pub read_back: ReadBackToken,
}

/// Asks how to begin: no count.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Start {
    /// The version of this message.
    #[n(0)]
    pub version: u8,
    /// The backup.
    #[n(1)]
    pub backup: BackupId,
    /// For a registration that is not yet active.
    #[n(2)]
    pub read_back: Option<ReadBackToken>,
}

/// One guess: counted, then evaluated. The same element again is answered again and not counted.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Evaluate {
    /// The version of this message.
    #[n(0)]
    pub version: u8,
    /// The backup.
    #[n(1)]
    pub backup: BackupId,
    /// Its registration.
    #[n(2)]
    pub ver: Ver,
    /// The blinded element (RFC 9497).
    #[n(3)]
    pub blinded: ByteArray<32>,
    /// For a registration that is not yet active.
    #[n(4)]
    pub read_back: Option<ReadBackToken>,
}

/// Opens the door after a right guess.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Unlock {
    /// The version of this message.
    #[n(0)]
    pub version: u8,
    /// The backup.
    #[n(1)]
    pub backup: BackupId,
    /// Its registration.
    #[n(2)]
    pub ver: Ver,
    /// Of the evaluation this tag comes from.
    #[n(3)]
    pub ticket: Ticket,
    /// The proof.
    #[n(4)]
    pub tag: UnlockTag,
    /// For a registration that is not yet active.
    #[n(5)]
    pub read_back: Option<ReadBackToken>,
}

macro_rules! bodies {
    ($($name:ident: $($backup:ident).+;)+) => {$(
        impl Body for $name {
            const OPERATION: Operation = Operation::$name;

            fn version(&self) -> u8 {
                self.version
            }

            fn backup(&self) -> BackupId {
                self.$($backup).+
            }
        }
    )+};
}

bodies! {
    Register: context.backup;
    Start: backup;
    Evaluate: backup;
    Unlock: backup;
}

/// What the keeper tells the client, sealed.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct SealedAnswer {
    /// The version of this message.
    #[n(0)]
    pub version: u8,
    /// The backup.
    #[n(1)]
    pub backup: BackupId,
    /// The same as in the clear.
    #[n(2)]
    pub standing: Standing,
    /// The answer itself.
    #[n(3)]
    pub outcome: Outcome,
}

/// The answer to each [`Operation`], or why there is none.
#[derive(Debug, Encode, Decode)]
pub enum Outcome {
    /// Kept, pending.
    #[n(0)]
    #[cbor(map)]
    Registered {},
    /// How to begin.
    #[n(1)]
    #[cbor(map)]
    Offer {
        /// What was registered.
        #[n(0)]
        context: Context,
    },
    /// One counted evaluation.
    #[n(2)]
    #[cbor(map)]
    Evaluated {
        /// The evaluated element (RFC 9497).
        #[n(0)]
        evaluated: ByteArray<32>,
        /// What the right password gives.
        #[n(1)]
        commitment: ByteArray<32>,
        /// Comes back with the tag.
        #[n(2)]
        ticket: Ticket,
    },
    /// The tag was right.
    #[n(3)]
    #[cbor(map)]
    Unlocked {
        /// The keeper's part of the wrap key.
        #[n(0)]
        keeper_part: KeeperPart,
        /// The sealed record.
        #[n(1)]
        wrapped: ByteVec,
    },
    /// Refused; nothing was counted.
    #[n(4)]
    #[cbor(map)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
}

/// Why the door did nothing. Nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Refusal {
    /// Unreadable, of an unknown version, for another key, or with contents that are out of bounds.
    #[n(0)]
    #[error("not an acceptable message")]
    Malformed,
    /// No such registration, or it is not active and the read-back token is missing or wrong.
    #[n(1)]
    #[error("no such registration")]
    NotFound,
    /// Another registration has this backup id; a new backup has a new id.
    #[n(2)]
    #[error("this backup id is taken")]
    Exists,
    /// Destroyed, by too many wrong guesses or on demand.
    #[n(3)]
    #[error("destroyed")]
    LockedOut,
    /// Too early after a wrong guess: see [`Standing::not_before_ms`].
    #[n(4)]
    #[error("too early after a wrong guess")]
    TooEarly,
    /// No guess is left; only the tag of the last one is still awaited.
    #[n(5)]
    #[error("no guess is left")]
    Exhausted,
    /// Too many wrong guesses in the whole deployment; try later.
    #[n(6)]
    #[error("too many wrong guesses in the whole deployment")]
    Overloaded,
    /// Another guess was counted after the one this tag belongs to.
    #[n(7)]
    #[error("another guess was counted since")]
    StaleTicket,
    /// Not the tag of this registration.
    #[n(8)]
    #[error("not the tag of this registration")]
    WrongTag,
    /// The keeper cannot answer now: its store or anchor fails, or it waits for an operator's `restore`.
    #[n(9)]
    #[error("the keeper cannot answer now")]
    Unavailable,
}

/// A client's message on its way to the guesskeeper `keeper`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sealed {
    /// Whose key it is sealed to.
    #[n(0)]
    pub keeper: KeeperId,
    /// HPKE.
    #[n(1)]
    pub message: ByteVec,
}

/// A guesskeeper's answer on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Answer {
    /// Who answers.
    #[n(0)]
    pub keeper: KeeperId,
    /// What the server may know. The client believes it only if the sealed part says the same.
    #[n(1)]
    pub standing: Standing,
    /// A [`SealedAnswer`] under the request's answer key.
    #[n(2)]
    pub sealed: ByteVec,
}

/// A message of the door did not open, or says something it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not sealed by or to the pinned key, changed on the way, or not of this version.
    #[error("not a message of the pinned keeper")]
    NotGenuine,
    /// The pinned key cannot be used.
    #[error("unusable keeper key")]
    BadKey,
}

/// Seals a client's message to the pinned `key`; the answer opens with [`open_answer`].
pub fn seal_body<B: Body>(key: &PublicKey, body: &B, entropy: &mut dyn Entropy) -> Result<(Sealed, AnswerKey), Error> {
    let keeper = KeeperId::of(key);
    let (message, answer_key) = hpke::Request::seal(
        key,
        B::OPERATION.info().as_bytes(),
        &request_aad(keeper, body.backup()),
        &cbor::to_secret_vec(body),
        entropy,
    )
    .map_err(|_| Error::BadKey)?;
    Ok((Sealed { keeper, message: message.into() }, answer_key))
}

/// Opens a client's message, at the keeper; `backup` is the one the server named.
pub fn open_body<B: Body>(
    secret: &hpke::SecretKey,
    backup: BackupId,
    sealed: &Sealed,
) -> Result<(B, AnswerKey), Error> {
    let (plaintext, answer_key) = hpke::open_request(
        secret,
        B::OPERATION.info().as_bytes(),
        &request_aad(sealed.keeper, backup),
        &sealed.message,
    )
    .map_err(|_| Error::NotGenuine)?;
    let body: B = cbor::from_slice(&plaintext).map_err(|_| Error::NotGenuine)?;
    if body.version() != VERSION || body.backup() != backup {
        return Err(Error::NotGenuine);
    }
    Ok((body, answer_key))
}

/// Seals an answer, at the keeper.
#[must_use]
pub fn seal_answer(
    key: &AnswerKey,
    operation: Operation,
    keeper: KeeperId,
    answer: &SealedAnswer,
    entropy: &mut dyn Entropy,
) -> Answer {
    let sealed = key.seal_answer(operation.answer_label(), &cbor::to_secret_vec(answer), entropy);
    Answer { keeper, standing: answer.standing, sealed: sealed.into() }
}

/// Opens an answer, at the client: only the keeper that opened this very request can have written it, and its
/// clear part must say the same.
pub fn open_answer(
    key: &AnswerKey,
    operation: Operation,
    keeper: KeeperId,
    backup: BackupId,
    answer: &Answer,
) -> Result<(Standing, Outcome), Error> {
    let plaintext = key.open_answer(operation.answer_label(), &answer.sealed).map_err(|_| Error::NotGenuine)?;
    let opened: SealedAnswer = cbor::from_slice(&plaintext).map_err(|_| Error::NotGenuine)?;
    let same = opened.version == VERSION
        && opened.backup == backup
        && opened.standing == answer.standing
        && answer.keeper == keeper;
    if same { Ok((opened.standing, opened.outcome)) } else { Err(Error::NotGenuine) }
}

// ------------------------------------------------------------------------------ server ↔ guesskeeper, in frames

/// What a server asks a guesskeeper.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Who are you?
    #[n(0)]
    #[cbor(map)]
    Info {},
    /// Relays a [`Register`].
    #[n(1)]
    #[cbor(map)]
    Register {
        /// The backup.
        #[n(0)]
        backup: BackupId,
        /// From the client.
        #[n(1)]
        sealed: Sealed,
    },
    /// Relays a [`Start`].
    #[n(2)]
    #[cbor(map)]
    Start {
        /// The backup.
        #[n(0)]
        backup: BackupId,
        /// From the client.
        #[n(1)]
        sealed: Sealed,
    },
    /// Relays an [`Evaluate`].
    #[n(3)]
    #[cbor(map)]
    Evaluate {
        /// The backup.
        #[n(0)]
        backup: BackupId,
        /// From the client.
        #[n(1)]
        sealed: Sealed,
    },
    /// Relays an [`Unlock`].
    #[n(4)]
    #[cbor(map)]
    Unlock {
        /// The backup.
        #[n(0)]
        backup: BackupId,
        /// From the client.
        #[n(1)]
        sealed: Sealed,
    },
    /// The backup is committed: from now on the read-back token is not needed. May be repeated.
    #[n(5)]
    #[cbor(map)]
    Activate {
        /// The backup.
        #[n(0)]
        backup: BackupId,
        /// Its registration.
        #[n(1)]
        ver: Ver,
    },
    /// Destroys the registration and leaves a tombstone: the id is never registered again. May be repeated.
    #[n(6)]
    #[cbor(map)]
    Erase {
        /// The backup.
        #[n(0)]
        backup: BackupId,
    },
    /// How does it stand?
    #[n(7)]
    #[cbor(map)]
    Status {
        /// The backup.
        #[n(0)]
        backup: BackupId,
    },
}

/// What a guesskeeper replies.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// To [`Request::Info`].
    #[n(0)]
    #[cbor(map)]
    Info {
        /// Every key it can open, the newest first.
        #[n(0)]
        keys: Vec<PublicKey>,
    },
    /// To be relayed to the client, also when it says no.
    #[n(1)]
    #[cbor(map)]
    Answer {
        /// Sealed for the client.
        #[n(0)]
        answer: Answer,
    },
    /// To activation, erasure and status.
    #[n(2)]
    #[cbor(map)]
    Status {
        /// How it stands.
        #[n(0)]
        status: Status,
    },
    /// Refused before a client's message was opened, or a request of the server's own.
    #[n(3)]
    #[cbor(map)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
}

/// A registration as its server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// Where it is in its life.
    #[n(0)]
    pub state: State,
    /// Which registration; none if only a tombstone is left.
    #[n(1)]
    pub ver: Option<Ver>,
    /// Whether its tag was ever shown: the door was opened once.
    #[n(2)]
    pub proven: bool,
    /// Guesses.
    #[n(3)]
    pub standing: Standing,
}

/// Where a registration is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum State {
    /// Answers only with the read-back token.
    #[n(0)]
    Pending,
    /// In use.
    #[n(1)]
    Active,
    /// Destroyed by too many wrong guesses.
    #[n(2)]
    LockedOut,
    /// Destroyed on demand.
    #[n(3)]
    Erased,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Versioned<T> {
    #[n(0)]
    version: u8,
    #[n(1)]
    body: T,
}

macro_rules! framed {
    ($($name:ident),+) => {$(
        impl $name {
            /// The bytes of one frame.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                cbor::to_vec(&Versioned { version: VERSION, body: self })
            }

            /// From the bytes of one frame; unknown versions are refused.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
                let message: Versioned<Self> = cbor::from_slice(bytes).map_err(|_| Refusal::Malformed)?;
                if message.version == VERSION { Ok(message.body) } else { Err(Refusal::Malformed) }
            }
        }
    )+};
}

framed!(Request, Reply, Sealed, Answer);
