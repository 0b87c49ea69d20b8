//! What a passkey and its platform give (WebAuthn Level 3): read strictly, believed only after it was checked.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use minicbor::{Decoder, data::Type};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use crate::hash::sha256;

/// The longest credential id (WebAuthn Level 3, section 4), bytes.
pub const MAX_CREDENTIAL_ID: usize = 1023;
const MAX_AUTHENTICATOR_DATA: usize = 2048;
const MAX_CLIENT_DATA: usize = 4096;
const MAX_SIGNATURE: usize = 512;
const MAX_ATTESTATION: usize = 16 * 1024;
const MAX_TRANSPORTS: usize = 8;
const MAX_TRANSPORT: usize = 32;
/// Flags of the authenticator data (section 6.1).
const UP: u8 = 1;
const UV: u8 = 1 << 2;
const BE: u8 = 1 << 3;
const BS: u8 = 1 << 4;
const AT: u8 = 1 << 6;
const ED: u8 = 1 << 7;

/// What is wrong with an assertion or a registration; one for each rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The type is not that of this ceremony.
    #[error("client data of another ceremony")]
    WrongType,
    /// Another challenge was signed.
    #[error("another challenge was signed")]
    WrongChallenge,
    /// The origin is not in the list.
    #[error("an origin that is not allowed")]
    WrongOrigin,
    /// Made for another relying party.
    #[error("made for another relying party")]
    WrongRpId,
    /// Made inside a page of another origin.
    #[error("made inside a page of another origin")]
    CrossOrigin,
    /// Nobody was there.
    #[error("the user was not present")]
    UserNotPresent,
    /// The authenticator did not verify its user.
    #[error("the user was not verified")]
    UserNotVerified,
    /// The signature is wrong.
    #[error("bad signature")]
    BadSignature,
    /// Whether the passkey may be synchronised is not what it was when it was made.
    #[error("the passkey's backup eligibility is not what it was")]
    BackupEligibilityChanged,
    /// Not one of the credentials.
    #[error("not one of the credentials")]
    UnknownCredential,
    /// Not what an authenticator and a platform write.
    #[error("not a well-formed assertion or registration")]
    Malformed,
    /// A key of a kind that is not supported: ES256, RS256 (2,048 bits) and Ed25519 are.
    #[error("a credential key of an unsupported kind")]
    UnsupportedKey,
}

impl Fault {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongType => "WRONG_TYPE",
            Self::WrongChallenge => "WRONG_CHALLENGE",
            Self::WrongOrigin => "WRONG_ORIGIN",
            Self::WrongRpId => "WRONG_RP_ID",
            Self::CrossOrigin => "CROSS_ORIGIN",
            Self::UserNotPresent => "USER_NOT_PRESENT",
            Self::UserNotVerified => "USER_NOT_VERIFIED",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::BackupEligibilityChanged => "BACKUP_ELIGIBILITY_CHANGED",
            Self::UnknownCredential => "UNKNOWN_CREDENTIAL",
            Self::Malformed => "BAD_ASSERTION",
            Self::UnsupportedKey => "UNSUPPORTED_KEY",
        }
    }
}

/// The answer of `navigator.credentials.get()` or of a platform's sheet, as raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Which credential signed.
    pub credential_id: Vec<u8>,
    /// `response.authenticatorData`.
    pub authenticator_data: Vec<u8>,
    /// `response.clientDataJSON`.
    pub client_data_json: Vec<u8>,
    /// `response.signature`, over authenticator data ‖ SHA-256(client data).
    pub signature: Vec<u8>,
    /// `response.userHandle`. Stays on the device: the keeper does not need it.
    pub user_handle: Option<Vec<u8>>,
}

impl Assertion {
    /// What the signature is over.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        [&self.authenticator_data[..], &sha256(&self.client_data_json)].concat()
    }

    /// Within the bounds that let a release fit a frame.
    pub fn check_lengths(&self) -> Result<(), Fault> {
        let fits = (1..=MAX_CREDENTIAL_ID).contains(&self.credential_id.len())
            && self.authenticator_data.len() <= MAX_AUTHENTICATOR_DATA
            && self.client_data_json.len() <= MAX_CLIENT_DATA
            && self.signature.len() <= MAX_SIGNATURE;
        if fits { Ok(()) } else { Err(Fault::Malformed) }
    }
}

/// The answer of `navigator.credentials.create()` or of a platform's sheet, as raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The new credential.
    pub credential_id: Vec<u8>,
    /// `response.attestationObject`. Its attestation is not looked at: none is asked for.
    pub attestation_object: Vec<u8>,
    /// `response.clientDataJSON`.
    pub client_data_json: Vec<u8>,
    /// `response.getTransports()`: hints for later sheets.
    pub transports: Vec<String>,
}

/// A passkey of a stanza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: Vec<u8>,
    /// Its public key.
    pub key: CredentialKey,
    /// The BE flag: may be synchronised or copied to other devices. Never changes.
    pub backup_eligible: bool,
    /// How a platform reaches it; hints.
    pub transports: Vec<String>,
}

/// A passkey that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// What goes into a stanza.
    pub credential: Credential,
    /// The BS flag. Without it the passkey is on this device only: **a backup under it is not safe yet**.
    pub backed_up: bool,
}

impl NewCredential {
    /// Checks a registration on the device that asked for it: type, challenge, origin, relying party, user presence
    /// and verification, and a key that the keeper can verify with. Attestation is not asked for and not looked at.
    pub fn from_registration(
        registration: &Registration,
        challenge: &[u8],
        rp_id: &str,
        origins: &[String],
    ) -> Result<Self, Fault> {
        let data = &registration.client_data_json;
        ClientData::parse(data)?.check("webauthn.create", challenge, origins)?;
        let authenticator_data = attested_data(&registration.attestation_object)?;
        let data = AuthenticatorData::parse(authenticator_data)?;
        data.check(rp_id)?;
        let (id, key) = data.attested.ok_or(Fault::Malformed)?;
        if id != registration.credential_id {
            return Err(Fault::UnknownCredential);
        }
        let transports = registration.transports.iter().filter(|text| is_transport(text)).take(MAX_TRANSPORTS);
        Ok(Self {
            credential: Credential {
                id,
                key,
                backup_eligible: data.backup_eligible,
                transports: transports.cloned().collect(),
            },
            backed_up: data.backed_up,
        })
    }
}

pub(super) fn is_transport(text: &str) -> bool {
    (1..=MAX_TRANSPORT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) const fn too_many_transports(count: usize) -> bool {
    count > MAX_TRANSPORTS
}

/// The collected client data (section 5.8.1). Keys that are not known here are ignored, as the standard demands; the
/// known ones must not repeat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClientData {
    /// The ceremony.
    #[serde(rename = "type")]
    pub kind: String,
    /// The challenge, base64url.
    pub challenge: String,
    /// The origin, as the platform wrote it.
    pub origin: String,
    /// Whether it was made inside a page of another origin.
    #[serde(rename = "crossOrigin", default)]
    pub cross_origin: bool,
    /// Whether an outer page is named at all.
    #[serde(rename = "topOrigin", default, deserialize_with = "is_there")]
    pub has_top_origin: bool,
    /// What old platforms say of the connection; only its shape is looked at.
    #[serde(rename = "tokenBinding", default)]
    pub token_binding: Option<TokenBinding>,
}

/// The token binding of Level 1. Browsers have given it up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenBinding {
    /// `supported` or `present`.
    pub status: String,
    /// The binding's id.
    pub id: Option<String>,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl ClientData {
    /// Reads `clientDataJSON`.
    pub fn parse(json: &[u8]) -> Result<Self, Fault> {
        if json.len() > MAX_CLIENT_DATA {
            return Err(Fault::Malformed);
        }
        // The whole of it is good JSON, also what is passed over below.
        let _: serde_json::Value = serde_json::from_slice(json).map_err(|_| Fault::Malformed)?;
        serde_json::from_slice(json).map_err(|_| Fault::Malformed)
    }

    /// Exact type, challenge and origin, and no other page around it.
    pub fn check(&self, kind: &str, challenge: &[u8], origins: &[String]) -> Result<(), Fault> {
        if self.kind != kind {
            return Err(Fault::WrongType);
        }
        if self.challenge != base64url(challenge) {
            return Err(Fault::WrongChallenge);
        }
        if !origins.contains(&self.origin) {
            return Err(Fault::WrongOrigin);
        }
        if self.cross_origin || self.has_top_origin {
            return Err(Fault::CrossOrigin);
        }
        Ok(())
    }
}

/// The text form of binary values in WebAuthn: base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The authenticator data (section 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorData {
    /// SHA-256 of the relying party's id.
    pub rp_id_hash: [u8; 32],
    /// UP.
    pub user_present: bool,
    /// UV.
    pub user_verified: bool,
    /// BE.
    pub backup_eligible: bool,
    /// BS.
    pub backed_up: bool,
    /// The signature counter. Synchronised passkeys keep it at zero; nothing is concluded from it.
    pub counter: u32,
    /// Id and key, in a registration.
    pub attested: Option<(Vec<u8>, CredentialKey)>,
}

impl AuthenticatorData {
    /// Reads every byte: nothing may follow what the flags announce.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let (rp_id_hash, rest) = bytes.split_first_chunk::<32>().ok_or(Fault::Malformed)?;
        let (flags, rest) = rest.split_first().ok_or(Fault::Malformed)?;
        let (counter, mut rest) = rest.split_first_chunk::<4>().ok_or(Fault::Malformed)?;
        let mut attested = None;
        if flags & AT != 0 {
            let (id, key, after) = attested_credential(rest)?;
            (attested, rest) = (Some((id, key)), after);
        }
        if flags & ED != 0 {
            rest = extensions(rest).ok_or(Fault::Malformed)?;
        }
        // Section 6.1.3: a passkey that may not be backed up is not backed up.
        if !rest.is_empty() || flags & (BE | BS) == BS {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            rp_id_hash: *rp_id_hash,
            user_present: flags & UP != 0,
            user_verified: flags & UV != 0,
            backup_eligible: flags & BE != 0,
            backed_up: flags & BS != 0,
            counter: u32::from_be_bytes(*counter),
            attested,
        })
    }

    /// The relying party, and a user who was there and was verified.
    pub fn check(&self, rp_id: &str) -> Result<(), Fault> {
        if self.rp_id_hash != sha256(rp_id.as_bytes()) {
            return Err(Fault::WrongRpId);
        }
        if !self.user_present {
            return Err(Fault::UserNotPresent);
        }
        if !self.user_verified {
            return Err(Fault::UserNotVerified);
        }
        Ok(())
    }
}

/// AAGUID ‖ u16be length ‖ id ‖ key (section 6.5.1), and what follows it.
fn attested_credential(bytes: &[u8]) -> Result<(Vec<u8>, CredentialKey, &[u8]), Fault> {
    let (_, rest) = bytes.split_first_chunk::<16>().ok_or(Fault::Malformed)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(Fault::Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if !(1..=MAX_CREDENTIAL_ID).contains(&length) || rest.len() < length {
        return Err(Fault::Malformed);
    }
    let (id, rest) = rest.split_at(length);
    let (key, used) = CredentialKey::read(rest)?;
    Ok((id.to_vec(), key, &rest[used..]))
}

/// The map of extensions, of text to anything: canonical CBOR as CTAP2 demands it of authenticators, without tags and
/// floating point numbers. Gives what follows it.
fn extensions(bytes: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = head(bytes).and_then(|(major, count, rest)| (major == 5).then_some((count, rest)))?;
    let mut keys = Vec::new();
    for _ in 0..count {
        if rest.first()? >> 5 != 3 {
            return None;
        }
        let value = plain_item(rest, 0)?;
        keys.push(&rest[..rest.len() - value.len()]);
        rest = plain_item(value, 0)?;
    }
    unique(&keys).then_some(rest)
}

const MAX_DEPTH: usize = 8;

/// Passes over one item and gives what follows it.
fn plain_item(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (major, count, mut rest) = head(bytes)?;
    match major {
        0 | 1 => Some(rest),
        2 => rest.get(usize::try_from(count).ok()?..),
        3 => {
            let (text, rest) = rest.split_at_checked(usize::try_from(count).ok()?)?;
            core::str::from_utf8(text).ok().map(|_| rest)
        }
        4 => {
            for _ in 0..count {
                rest = plain_item(rest, depth + 1)?;
            }
            Some(rest)
        }
        5 => {
            let mut keys = Vec::new();
            for _ in 0..count {
                let value = plain_item(rest, depth + 1)?;
                keys.push(&rest[..rest.len() - value.len()]);
                rest = plain_item(value, depth + 1)?;
            }
            unique(&keys).then_some(rest)
        }
        // false, true, null and undefined
        7 if (20..=23).contains(&count) && bytes.len() - rest.len() == 1 => Some(rest),
        _ => None,
    }
}

fn unique(keys: &[&[u8]]) -> bool {
    keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key))
}

/// Major type and argument of an item in the shortest form, and what follows them.
fn head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (major, short) = (first >> 5, first & 31);
    let long = match short {
        0..=23 => return Some((major, u64::from(short), rest)),
        24..=27 => 1usize << (short - 24),
        _ => return None,
    };
    let (argument, rest) = rest.split_at_checked(long)?;
    let argument = argument.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let least = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(short - 24)];
    (argument >= least).then_some((major, argument, rest))
}

/// `authData` of an attestation object (section 6.5.4): a map with `fmt`, `attStmt` and `authData`.
fn attested_data(object: &[u8]) -> Result<&[u8], Fault> {
    if object.len() > MAX_ATTESTATION {
        return Err(Fault::Malformed);
    }
    let mut decoder = Decoder::new(object);
    let mut found = None;
    let mut read = || -> Result<(), minicbor::decode::Error> {
        let bad = || minicbor::decode::Error::message("not an attestation object");
        for _ in 0..decoder.map()?.ok_or_else(bad)? {
            match decoder.str()? {
                "authData" if found.is_none() => found = Some(decoder.bytes()?),
                "authData" => return Err(bad()),
                _ => decoder.skip()?,
            }
        }
        if decoder.position() == object.len() { Ok(()) } else { Err(bad()) }
    };
    read().map_err(|_| Fault::Malformed)?;
    found.ok_or(Fault::Malformed)
}

/// The kind of a credential's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, COSE -7.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, COSE -257.
    Rs256,
    /// EdDSA on Ed25519, COSE -8.
    EdDsa,
}

impl Algorithm {
    /// What a registration asks for, in order of preference.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The COSE identifier (IANA), for `pubKeyCredParams`.
    #[must_use]
    pub const fn cose(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }
}

/// A credential's public key (RFC 9053), of one of the supported kinds. Whether a point is on its curve is found out by
/// the verifier, at the latest when a new backup is opened before it counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialKey {
    /// A point of P-256, big-endian coordinates.
    Es256 {
        /// x.
        x: [u8; 32],
        /// y.
        y: [u8; 32],
    },
    /// RSA with a modulus of 2,048 bits, big-endian.
    Rs256 {
        /// n.
        n: Box<[u8; 256]>,
        /// e.
        e: [u8; 3],
    },
    /// A point of Ed25519 (RFC 8032).
    EdDsa {
        /// The encoding.
        x: [u8; 32],
    },
}

/// The labels of a COSE key that are read.
#[derive(Default)]
struct Labels<'a> {
    kind: Option<i64>,
    algorithm: Option<i64>,
    curve: Option<i64>,
    first: Option<&'a [u8]>,
    second: Option<&'a [u8]>,
    third: Option<&'a [u8]>,
}

impl CredentialKey {
    /// What its signatures are.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256 { .. } => Algorithm::Es256,
            Self::Rs256 { .. } => Algorithm::Rs256,
            Self::EdDsa { .. } => Algorithm::EdDsa,
        }
    }

    /// Reads a whole `COSE_Key` with the keys in any order, as authenticators write it.
    pub fn from_cose(bytes: &[u8]) -> Result<Self, Fault> {
        let (key, used) = Self::read(bytes)?;
        if used == bytes.len() { Ok(key) } else { Err(Fault::Malformed) }
    }

    /// The one encoding of the key: `COSE_Key` in CTAP2's canonical form.
    #[must_use]
    #[allow(clippy::expect_used, reason = "encoding to memory cannot fail")]
    pub fn to_cose(&self) -> Vec<u8> {
        let mut encoder = minicbor::Encoder::new(Vec::new());
        let mut write = || -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
            let algorithm = self.algorithm().cose();
            match self {
                Self::Es256 { x, y } => {
                    encoder.map(5)?.i64(1)?.i64(2)?.i64(3)?.i64(algorithm)?.i64(-1)?.i64(1)?;
                    encoder.i64(-2)?.bytes(x)?.i64(-3)?.bytes(y)?;
                }
                Self::Rs256 { n, e } => {
                    encoder.map(4)?.i64(1)?.i64(3)?.i64(3)?.i64(algorithm)?;
                    encoder.i64(-1)?.bytes(&n[..])?.i64(-2)?.bytes(e)?;
                }
                Self::EdDsa { x } => {
                    encoder.map(4)?.i64(1)?.i64(1)?.i64(3)?.i64(algorithm)?.i64(-1)?.i64(6)?.i64(-2)?.bytes(x)?;
                }
            }
            Ok(())
        };
        write().expect("infallible writer");
        encoder.into_writer()
    }

    /// Reads a key at the start of `bytes` and says how many of them it has.
    fn read(bytes: &[u8]) -> Result<(Self, usize), Fault> {
        let mut decoder = Decoder::new(bytes);
        let labels = Labels::read(&mut decoder).map_err(|_| Fault::Malformed)?;
        Ok((Self::from_labels(&labels)?, decoder.position()))
    }

    fn from_labels(labels: &Labels<'_>) -> Result<Self, Fault> {
        fn sized<const N: usize>(bytes: Option<&[u8]>) -> Result<[u8; N], Fault> {
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Fault::UnsupportedKey)
        }
        match (labels.kind, labels.algorithm, labels.curve) {
            (Some(2), Some(-7), Some(1)) => Ok(Self::Es256 { x: sized(labels.second)?, y: sized(labels.third)? }),
            (Some(3), Some(-257), None) => {
                Ok(Self::Rs256 { n: Box::new(sized(labels.first)?), e: sized(labels.second)? })
            }
            (Some(1), Some(-8), Some(6)) => Ok(Self::EdDsa { x: sized(labels.second)? }),
            _ => Err(Fault::UnsupportedKey),
        }
    }
}

impl<'a> Labels<'a> {
    /// A map with small integer keys; a key that repeats is refused, one that is not used is passed over.
    fn read(decoder: &mut Decoder<'a>) -> Result<Self, minicbor::decode::Error> {
        fn once<T>(place: &mut Option<T>, value: T) -> Result<(), minicbor::decode::Error> {
            if place.replace(value).is_some() {
                return Err(minicbor::decode::Error::message("a repeated label"));
            }
            Ok(())
        }
        let count = decoder.map()?.ok_or_else(|| minicbor::decode::Error::message("a definite map"))?;
        let mut labels = Self::default();
        for _ in 0..count {
            match decoder.i64()? {
                1 => once(&mut labels.kind, decoder.i64()?)?,
                3 => once(&mut labels.algorithm, decoder.i64()?)?,
                -1 if matches!(decoder.datatype()?, Type::Bytes) => once(&mut labels.first, decoder.bytes()?)?,
                -1 => once(&mut labels.curve, decoder.i64()?)?,
                -2 => once(&mut labels.second, decoder.bytes()?)?,
                -3 => once(&mut labels.third, decoder.bytes()?)?,
                _ => decoder.skip()?,
            }
        }
        Ok(labels)
    }
}

impl<C> minicbor::Encode<C> for CredentialKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_cose())?.ok()
    }
}

/// Strict, unlike what comes from an authenticator: only [`CredentialKey::to_cose`] gives these bytes
/// ([`crate::cbor::from_slice`] compares).
impl<'b, C> minicbor::Decode<'b, C> for CredentialKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_cose(d.bytes()?).map_err(|_| minicbor::decode::Error::message("not a supported COSE key"))
    }
}

/// A relying party's id: a lower-case host name, as WebAuthn hashes it.
#[must_use]
pub fn check_rp_id(rp_id: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    rp_id.len() <= 253 && rp_id.split('.').all(label)
}

/// An origin as platforms write it: `https://host[:port]`, `http://localhost[:port]`, or
/// `android:apk-key-hash:<base64url SHA-256>`.
#[must_use]
pub fn check_origin(origin: &str) -> bool {
    if let Some(hash) = origin.strip_prefix("android:apk-key-hash:") {
        return URL_SAFE_NO_PAD.decode(hash).is_ok_and(|hash| hash.len() == 32);
    }
    let web = |rest: &str, default_port: &str| {
        let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
        let good_port = |port: &str| {
            port != default_port && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
        };
        (check_rp_id(host) && port.is_none_or(good_port)).then(|| host.to_owned())
    };
    match (origin.strip_prefix("https://"), origin.strip_prefix("http://")) {
        (Some(rest), _) => web(rest, "443").is_some(),
        (_, Some(rest)) => web(rest, "80").is_some_and(|host| host == "localhost"),
        _ => false,
    }
}
