//! The client's side of the password door (METHODS.md B): pure, no sockets, no clock.
//!
//! The key derivation is a step of its own, [`stretch`], because it takes long: the caller shows progress and
//! chooses the thread.
//!
//! ```text
//! register   Context → stretch → Registration ──► keeper ──► finish → read-back token
//! recover    Starting ──► keeper ──► Offer → stretch → Guess ──► keeper ──► Unlocking ──► keeper ──► record
//! ```
//!
//! A wrong password shows itself in [`Guess::finish`]: the commitment differs, no tag exists, nothing more is
//! sent. A lost answer is asked for again with the same [`Guess`]: the keeper does not count it twice.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    cbor,
    door::{
        self, Answer, Body, Context, Evaluate, KdfParams, KeeperId, KeeperPart, MAX_WRAPPED, Mode, NORMALISER, OprfKey,
        Outcome, ReadBackToken, Refusal, Register, Sealed, Standing, Start, Unlock, UnlockTag, VERSION, Ver,
    },
    entropy::Entropy,
    hpke::{AnswerKey, PublicKey},
    id::{BackupId, ClientId, DeploymentId},
    oprf::{self, Blinding},
    seal::{self, Magic, SealKey},
    secret::redact,
    text::Password,
};

const WRAPPED: Magic = Magic(*b"HKP1");
const COMMIT: &[u8] = b"halfkey/password/v1/commit";
const UNLOCK: &[u8] = b"halfkey/password/v1/unlock";
const WRAP: &[u8] = b"halfkey/password/v1/wrap";

/// Whose door it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The installation.
    pub deployment: DeploymentId,
    /// The end user.
    pub client: ClientId,
    /// The backup.
    pub backup: BackupId,
}

/// What went wrong at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another password than the one that was registered.
    #[error("wrong password")]
    WrongSecret {
        /// Guesses left, and when the next one may be.
        standing: Standing,
    },
    /// The keeper refused; nothing was counted.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// Guesses left, and when the next one may be.
        standing: Standing,
    },
    /// Not an answer of the pinned keeper to this request, or the server changed its clear part.
    #[error("not an answer of the pinned keeper")]
    NotGenuine,
    /// The registration is for something else than was asked for, or of an unknown version.
    #[error("a registration of another backup or version")]
    OtherContext,
    /// A password where a PIN is registered, or the other way round.
    #[error("this is a {0:?} registration")]
    OtherMode(Mode),
    /// The pinned key cannot be used.
    #[error("unusable keeper key")]
    BadKey,
    /// The device has too little memory for the key derivation.
    #[error("not enough memory for the key derivation")]
    OutOfMemory,
    /// The record does not open although the password is right: it was changed at the keeper.
    #[error("the record behind the door is damaged")]
    Damaged,
    /// The record is longer than the door takes.
    #[error("the record is too large")]
    TooLarge,
}

/// The context of a new registration with one keeper: draws its `ver`.
pub fn new_context(place: Place, mode: Mode, kdf: KdfParams, keeper: &PublicKey, entropy: &mut dyn Entropy) -> Context {
    Context {
        version: VERSION,
        deployment: place.deployment,
        client: place.client,
        backup: place.backup,
        ver: Ver::generate(entropy),
        mode,
        normaliser: NORMALISER,
        kdf,
        keepers: vec![KeeperId::of(keeper)],
    }
}

/// A password after the key derivation: `ak ‖ es` of METHODS.md B, good for one context only.
pub struct Stretched {
    bytes: Zeroizing<[u8; 64]>,
    context: [u8; 32],
}

redact!(Stretched);

impl Stretched {
    /// What goes, blinded, to the keeper.
    fn oprf_input(&self) -> &[u8] {
        &self.bytes[..32]
    }

    /// What never leaves the device: with it the keeper alone cannot test guesses at the price of a hash.
    fn kept(&self) -> &[u8] {
        &self.bytes[32..]
    }
}

/// `Argon2id(password, salt = SHA-256(ctx))` → 64 bytes. Takes a quarter of a second and 64 MiB by default.
pub fn stretch(password: &Password, context: &Context) -> Result<Stretched, Error> {
    if password.mode() != context.mode {
        return Err(Error::OtherMode(context.mode));
    }
    let digest = context.digest();
    let mut bytes = Zeroizing::new([0u8; 64]);
    argon2id(password.expose(), &digest, context.kdf, bytes.as_mut())?;
    Ok(Stretched { bytes, context: digest })
}

fn argon2id(password: &[u8], salt: &[u8; 32], kdf: KdfParams, out: &mut [u8]) -> Result<(), Error> {
    let params = Params::new(kdf.memory_kib(), kdf.passes(), kdf.lanes(), Some(out.len()));
    let params = params.map_err(|_| Error::OutOfMemory)?;
    let mut blocks: Vec<Block> = Vec::new();
    blocks.try_reserve_exact(params.block_count()).map_err(|_| Error::OutOfMemory)?;
    blocks.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let done = argon2.hash_password_into_with_memory(password, salt, out, &mut blocks);
    blocks.iter_mut().for_each(Zeroize::zeroize);
    done.map_err(|_| Error::OutOfMemory)
}

/// What the right password and the keeper's evaluation give together.
struct Keys {
    commitment: [u8; 32],
    tag: UnlockTag,
    wrap: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// `prk = HKDF-Extract(SHA-256(ctx), y ‖ es)`, then one label each.
    fn derive(stretched: &Stretched, y: &oprf::Output) -> Self {
        let mut secret = Zeroizing::new([0u8; 96]);
        secret[..64].copy_from_slice(y.as_ref());
        secret[64..].copy_from_slice(stretched.kept());
        let prk = Hkdf::<Sha256>::new(Some(&stretched.context), secret.as_ref());
        Self {
            commitment: *expand(&prk, COMMIT),
            tag: UnlockTag::from_bytes(expand(&prk, UNLOCK)),
            wrap: expand(&prk, WRAP),
        }
    }
}

#[allow(clippy::expect_used, reason = "HKDF-Expand fails only beyond 255 hash lengths")]
fn expand(prk: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0u8; 32]);
    prk.expand(info, out.as_mut()).expect("32 bytes");
    out
}

/// `HKDF-Extract(z, w)`: neither the keeper's part nor the password's opens the record alone.
fn wrap_key(keeper_part: &KeeperPart, wrap: &[u8; 32]) -> SealKey {
    let (key, _) = Hkdf::<Sha256>::extract(Some(keeper_part.expose()), wrap);
    SealKey::from_bytes(Zeroizing::new(key.into()))
}

/// A registration on its way to the keeper.
#[derive(Debug)]
pub struct Registration {
    pending: Pending,
    ver: Ver,
    read_back: ReadBackToken,
}

impl Registration {
    /// Makes all keys, evaluates by itself, and seals everything to the pinned keeper. `record` is what the door
    /// shall hold; `max_guesses` in a row destroy it.
    pub fn new(
        context: &Context,
        stretched: &Stretched,
        record: &[u8],
        max_guesses: u32,
        keeper: &PublicKey,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Error> {
        expect_context(context, stretched, KeeperId::of(keeper))?;
        let oprf_key = oprf::generate_key(entropy).map_err(|_| Error::BadKey)?;
        let body = register_body(context, stretched, record, max_guesses, oprf_key, entropy)?;
        let read_back = again(&body.read_back);
        Ok(Self { pending: Pending::new(keeper, &body, entropy)?, ver: context.ver, read_back })
    }

    /// For the keeper; may be sent again.
    #[must_use]
    pub const fn message(&self) -> &Sealed {
        &self.pending.message
    }

    /// Which registration: the server activates it by this name when it commits the backup.
    #[must_use]
    pub const fn ver(&self) -> Ver {
        self.ver
    }

    /// The token that opens the registration until it is active, once the keeper has said that it is kept.
    pub fn finish(self, answer: &Answer) -> Result<ReadBackToken, Error> {
        match self.pending.open(answer)? {
            (_, Outcome::Registered {}) => Ok(self.read_back),
            _ => Err(Error::NotGenuine),
        }
    }
}

fn register_body(
    context: &Context,
    stretched: &Stretched,
    record: &[u8],
    max_guesses: u32,
    oprf_key: OprfKey,
    entropy: &mut dyn Entropy,
) -> Result<Register, Error> {
    let y = oprf::evaluate(&oprf_key, stretched.oprf_input()).map_err(|_| Error::BadKey)?;
    let keys = Keys::derive(stretched, &y);
    let keeper_part = KeeperPart::generate(entropy);
    let header = cbor::to_vec(context);
    let wrapped = seal::seal(&wrap_key(&keeper_part, &keys.wrap), WRAPPED, &header, record, entropy);
    if wrapped.len() > MAX_WRAPPED {
        return Err(Error::TooLarge);
    }
    Ok(Register {
        version: VERSION,
        context: context.clone(),
        oprf_key,
        commitment: keys.commitment.into(),
        tag: keys.tag,
        keeper_part,
        wrapped: wrapped.into(),
        max_guesses,
        read_back: ReadBackToken::generate(entropy),
    })
}

/// Asks the door how to begin. Counts nothing.
#[derive(Debug)]
pub struct Starting {
    pending: Pending,
    place: Place,
    key: PublicKey,
    read_back: Option<ReadBackToken>,
}

impl Starting {
    /// `read_back` for a registration that is not yet active.
    pub fn new(
        place: Place,
        keeper: &PublicKey,
        read_back: Option<&ReadBackToken>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Error> {
        let body = Start { version: VERSION, backup: place.backup, read_back: read_back.map(again) };
        let pending = Pending::new(keeper, &body, entropy)?;
        Ok(Self { pending, place, key: *keeper, read_back: body.read_back })
    }

    /// For the keeper; may be sent again.
    #[must_use]
    pub const fn message(&self) -> &Sealed {
        &self.pending.message
    }

    /// What was registered, if it is for this very backup and this very keeper.
    pub fn finish(self, answer: &Answer) -> Result<Offer, Error> {
        let (standing, outcome) = self.pending.open(answer)?;
        let Outcome::Offer { context } = outcome else {
            return Err(Error::NotGenuine);
        };
        let found = Place { deployment: context.deployment, client: context.client, backup: context.backup };
        let known = context.version == VERSION
            && context.normaliser == NORMALISER
            && context.keepers == [self.pending.keeper]
            && found == self.place;
        if !known {
            return Err(Error::OtherContext);
        }
        Ok(Offer { context, standing, key: self.key, read_back: self.read_back })
    }
}

/// How to begin a guess.
#[derive(Debug)]
pub struct Offer {
    context: Context,
    standing: Standing,
    key: PublicKey,
    read_back: Option<ReadBackToken>,
}

impl Offer {
    /// For [`stretch`].
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Guesses left, and when the next one may be.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }
}

/// One guess. To be asked again after a lost answer, not made anew: that would be counted again.
#[derive(Debug)]
pub struct Guess {
    pending: Pending,
    offer: Offer,
    stretched: Stretched,
    blinding: Blinding,
}

impl Guess {
    /// Blinds a guess for the keeper.
    pub fn new(offer: Offer, stretched: Stretched, entropy: &mut dyn Entropy) -> Result<Self, Error> {
        expect_context(&offer.context, &stretched, KeeperId::of(&offer.key))?;
        let blinding = Blinding::new(stretched.oprf_input(), entropy).map_err(|_| Error::BadKey)?;
        let body = Evaluate {
            version: VERSION,
            backup: offer.context.backup,
            ver: offer.context.ver,
            blinded: (*blinding.blinded()).into(),
            read_back: offer.read_back.as_ref().map(again),
        };
        let pending = Pending::new(&offer.key, &body, entropy)?;
        Ok(Self { pending, offer, stretched, blinding })
    }

    /// For the keeper; may, and after a lost answer must, be sent again.
    #[must_use]
    pub const fn message(&self) -> &Sealed {
        &self.pending.message
    }

    /// Checks the commitment. [`Error::WrongSecret`] ends it: no tag exists, nothing more may be sent.
    pub fn finish(&self, answer: &Answer, entropy: &mut dyn Entropy) -> Result<Unlocking, Error> {
        let (standing, outcome) = self.pending.open(answer)?;
        let Outcome::Evaluated { evaluated, commitment, ticket } = outcome else {
            return Err(Error::NotGenuine);
        };
        let y = self.blinding.finalize(self.stretched.oprf_input(), &evaluated).map_err(|_| Error::NotGenuine)?;
        let keys = Keys::derive(&self.stretched, &y);
        if !bool::from(keys.commitment.as_slice().ct_eq(commitment.as_slice())) {
            return Err(Error::WrongSecret { standing });
        }
        let Offer { context, key, read_back, .. } = &self.offer;
        let (backup, ver) = (context.backup, context.ver);
        let read_back = read_back.as_ref().map(again);
        let body = Unlock { version: VERSION, backup, ver, ticket, tag: keys.tag, read_back };
        let pending = Pending::new(key, &body, entropy)?;
        Ok(Unlocking { pending, wrap: keys.wrap, header: cbor::to_vec(context) })
    }
}

/// The right password, on its way to the record.
pub struct Unlocking {
    pending: Pending,
    wrap: Zeroizing<[u8; 32]>,
    header: Vec<u8>,
}

redact!(Unlocking);

impl Unlocking {
    /// For the keeper, with the tag inside; may be sent again.
    #[must_use]
    pub const fn message(&self) -> &Sealed {
        &self.pending.message
    }

    /// Opens the record that was registered.
    pub fn finish(&self, answer: &Answer) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (_, outcome) = self.pending.open(answer)?;
        let Outcome::Unlocked { keeper_part, wrapped } = outcome else {
            return Err(Error::NotGenuine);
        };
        let key = wrap_key(&keeper_part, &self.wrap);
        seal::open(&key, WRAPPED, &self.header, &wrapped).map_err(|_| Error::Damaged)
    }
}

/// A sealed message that waits for its answer.
#[derive(Debug)]
struct Pending {
    message: Sealed,
    answer_key: AnswerKey,
    operation: door::Operation,
    keeper: KeeperId,
    backup: BackupId,
}

impl Pending {
    fn new<B: Body>(keeper: &PublicKey, body: &B, entropy: &mut dyn Entropy) -> Result<Self, Error> {
        let (message, answer_key) = door::seal_body(keeper, body, entropy).map_err(|_| Error::BadKey)?;
        let (keeper, backup) = (message.keeper, body.backup());
        Ok(Self { message, answer_key, operation: B::OPERATION, keeper, backup })
    }

    fn open(&self, answer: &Answer) -> Result<(Standing, Outcome), Error> {
        let opened = door::open_answer(&self.answer_key, self.operation, self.keeper, self.backup, answer);
        match opened.map_err(|_| Error::NotGenuine)? {
            (standing, Outcome::Refused { reason }) => Err(Error::Refused { reason, standing }),
            opened => Ok(opened),
        }
    }
}

fn expect_context(context: &Context, stretched: &Stretched, keeper: KeeperId) -> Result<(), Error> {
    let same = context.digest() == stretched.context && context.keepers == [keeper];
    if same { Ok(()) } else { Err(Error::OtherContext) }
}

/// The same token once more: it is asked for in every message until the registration is active.
fn again(token: &ReadBackToken) -> ReadBackToken {
    ReadBackToken::from_bytes(Zeroizing::new(*token.expose()))
}
