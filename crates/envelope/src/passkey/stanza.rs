//! The stanza: what lies beside an envelope and holds its record.

use minicbor::{Decode, Encode, bytes::ByteArray, bytes::ByteVec};
use zeroize::Zeroizing;

use super::{
    Context, Credential, CredentialKey, Error, Mode, PrfOutput, check_origin, check_rp_id,
    prf::binding,
    webauthn::{MAX_CREDENTIAL_ID, is_transport, too_many_transports},
};
use crate::{
    all_of::{self, Part},
    cbor,
    entropy::Entropy,
    hash::h,
    hpke,
    keeper::KeyId,
    record::MAX_RECORD,
    seal::{self, Magic, OpenError, Sealed},
};

const VERSION: u16 = 1;
/// The longest stanza: a release with it fits one frame.
pub const MAX_STANZA: usize = 8 * 1024;
/// The most passkeys of one stanza.
pub const MAX_CREDENTIALS: usize = 16;
/// The most origins of one stanza.
pub const MAX_ORIGINS: usize = 16;
const RECORD: Magic = Magic(*b"HKS1");
const WRAP: Magic = Magic(*b"HKW1");

/// What a stanza says in the clear: enough for a device to build its `get()`. All of it is authenticated by the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What is needed to open it.
    pub mode: Mode,
    /// The relying party.
    pub rp_id: String,
    /// The passkeys, for `allowCredentials`.
    pub credentials: Vec<Listed>,
    /// The number of the keeper's key that its part is sealed to, if it has one.
    pub key_id: Option<KeyId>,
    /// The salt of [`super::prf_input`], if it has a PRF part.
    pub prf_salt: Option<[u8; 32]>,
}

/// A passkey in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Listed {
    /// The credential's id.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// Hints for the platform.
    #[n(2)]
    pub transports: Vec<String>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HeaderWire {
    #[n(1)]
    version: u16,
    #[n(2)]
    mode: Mode,
    #[n(3)]
    rp_id: String,
    #[n(4)]
    credentials: Vec<Listed>,
    #[n(5)]
    key_id: Option<KeyId>,
    #[n(6)]
    prf_salt: Option<ByteArray<32>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct StanzaWire {
    #[n(1)]
    version: u16,
    #[n(2)]
    header: ByteVec,
    #[n(3)]
    keeper: Option<ByteVec>,
    #[n(4)]
    wraps: Option<Vec<ByteVec>>,
    #[n(5)]
    record: ByteVec,
}

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(&HeaderWire {
            version: VERSION,
            mode: self.mode,
            rp_id: self.rp_id.clone(),
            credentials: self.credentials.clone(),
            key_id: self.key_id,
            prf_salt: self.prf_salt.map(ByteArray::from),
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        probe(bytes)?;
        let wire: HeaderWire = cbor::from_slice(bytes).map_err(|_| Error::Malformed)?;
        let header = Self {
            mode: wire.mode,
            rp_id: wire.rp_id,
            credentials: wire.credentials,
            key_id: wire.key_id,
            prf_salt: wire.prf_salt.map(|salt| *salt),
        };
        header.check().map_err(|_| Error::Malformed)?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        if self.key_id.is_some() != self.mode.has_keeper() || self.prf_salt.is_some() != self.mode.has_prf() {
            return Err(Error::Parameters("a mode without its parts, or parts that it does not have"));
        }
        if !check_rp_id(&self.rp_id) {
            return Err(Error::Parameters("an impossible relying party"));
        }
        check_ids(self.credentials.iter().map(|credential| &credential.id[..]))?;
        let hints = |listed: &Listed| {
            !too_many_transports(listed.transports.len()) && listed.transports.iter().all(|text| is_transport(text))
        };
        if self.credentials.iter().all(hints) { Ok(()) } else { Err(Error::Parameters("impossible transports")) }
    }
}

/// 1 to 16 of them, each of a possible length, none twice.
fn check_ids<'a>(ids: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
    let mut seen: Vec<&[u8]> = Vec::new();
    for id in ids {
        if !(1..=MAX_CREDENTIAL_ID).contains(&id.len()) || seen.contains(&id) {
            return Err(Error::Parameters("an empty, too long or repeated credential id"));
        }
        seen.push(id);
    }
    if (1..=MAX_CREDENTIALS).contains(&seen.len()) {
        Ok(())
    } else {
        Err(Error::Parameters("a stanza has 1 to 16 credentials"))
    }
}

fn check_origins(origins: &[String]) -> Result<(), Error> {
    let good = (1..=MAX_ORIGINS).contains(&origins.len()) && origins.iter().all(|origin| check_origin(origin));
    if good { Ok(()) } else { Err(Error::Parameters("no origin, too many, or an impossible one")) }
}

/// What only the keeper reads.
pub struct KeeperContents {
    /// What it gives to the user of one of the passkeys.
    pub part: Zeroizing<Vec<u8>>,
    /// Whose backup it is.
    pub context: Context,
    /// What is needed to open the stanza.
    pub mode: Mode,
    /// The relying party.
    pub rp_id: String,
    /// The origins that an assertion may come from.
    pub origins: Vec<String>,
    /// The passkeys.
    pub credentials: Vec<Verifiable>,
}

crate::secret::redact!(KeeperContents);

/// A passkey, as the keeper verifies it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Verifiable {
    /// The credential's id.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// Its public key.
    #[n(2)]
    pub key: CredentialKey,
    /// Its BE flag.
    #[n(3)]
    pub backup_eligible: Flag,
}

/// A yes or no; the format knows unsigned integers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Flag {
    /// No.
    #[n(0)]
    No,
    /// Yes.
    #[n(1)]
    Yes,
}

impl From<bool> for Flag {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl From<Flag> for bool {
    fn from(flag: Flag) -> Self {
        flag == Flag::Yes
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KeeperContentsWire<'a> {
    #[n(1)]
    version: u16,
    #[cbor(b(2), with = "minicbor::bytes")]
    part: &'a [u8],
    #[n(3)]
    context: Context,
    #[n(4)]
    mode: Mode,
    #[n(5)]
    rp_id: String,
    #[n(6)]
    origins: Vec<String>,
    #[n(7)]
    credentials: Vec<Verifiable>,
}

impl KeeperContents {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&KeeperContentsWire {
            version: VERSION,
            part: &self.part,
            context: self.context,
            mode: self.mode,
            rp_id: self.rp_id.clone(),
            origins: self.origins.clone(),
            credentials: self.credentials.clone(),
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        probe(bytes)?;
        let wire: KeeperContentsWire<'_> = cbor::from_slice(bytes).map_err(|_| Error::Malformed)?;
        let bounded = wire.part.len() <= all_of::MAX_PART && wire.mode.has_keeper() && check_rp_id(&wire.rp_id);
        let lists = check_ids(wire.credentials.iter().map(|credential| &credential.id[..]))
            .and_then(|()| check_origins(&wire.origins));
        if !bounded || lists.is_err() {
            return Err(Error::Malformed);
        }
        Ok(Self {
            part: Zeroizing::new(wire.part.to_vec()),
            context: wire.context,
            mode: wire.mode,
            rp_id: wire.rp_id,
            origins: wire.origins,
            credentials: wire.credentials,
        })
    }
}

/// The context in which a part is sealed to the keeper's key of this number.
fn info(key_id: KeyId) -> String {
    format!("halfkey/keeper/v1/stanza/{key_id}")
}

/// What a stanza is made from.
pub struct SealParams<'a> {
    /// What will be needed to open it.
    pub mode: Mode,
    /// Whose backup it is.
    pub context: Context,
    /// The relying party.
    pub rp_id: &'a str,
    /// The origins that an assertion may come from; see [`check_origin`].
    pub origins: &'a [String],
    /// The passkeys. Any one of them opens.
    pub credentials: &'a [Credential],
    /// The pinned keeper's key and its number; `None` in mode `prf`.
    pub keeper: Option<(KeyId, hpke::PublicKey)>,
    /// `None` in mode `keeper`.
    pub prf: Option<Prf<'a>>,
}

/// What the passkeys computed: one output for **every** credential, from a `get()` that a second one confirmed.
pub struct Prf<'a> {
    /// The salt that the outputs belong to.
    pub salt: [u8; 32],
    /// Credential id and output.
    pub outputs: &'a [(&'a [u8], &'a PrfOutput)],
}

/// Seals a record. The result is stored beside the envelope.
pub fn seal(params: &SealParams<'_>, record: &[u8], entropy: &mut dyn Entropy) -> Result<Vec<u8>, Error> {
    let mode = params.mode;
    if params.keeper.is_some() != mode.has_keeper() || params.prf.is_some() != mode.has_prf() {
        return Err(Error::Parameters("a mode without its parts, or parts that it does not have"));
    }
    check_origins(params.origins)?;
    if record.len() > MAX_RECORD {
        return Err(Error::TooLarge);
    }
    let header = header_of(params);
    header.check()?;
    let header = header.to_bytes();
    let (parts, key) = all_of::split(mode.parts(), entropy);
    let (keeper_part, prf_part) = (parts.first(), parts.last());
    let keeper = match (params.keeper, keeper_part) {
        (Some(keeper), Some(part)) => Some(seal_to_keeper(params, keeper, part, &header, entropy)?),
        _ => None,
    };
    let wraps = match (&params.prf, prf_part) {
        (Some(prf), Some(part)) => Some(wrap_all(params, prf, part, &header, entropy)?),
        _ => None,
    };
    let record = seal::seal(&key, RECORD, &record_binding(&header, &params.context), record, entropy);
    let (header, record) = (header.into(), record.into());
    let stanza = cbor::to_vec(&StanzaWire { version: VERSION, header, keeper, wraps, record });
    if stanza.len() > MAX_STANZA { Err(Error::TooLarge) } else { Ok(stanza) }
}

fn header_of(params: &SealParams<'_>) -> Header {
    let listed =
        |credential: &Credential| Listed { id: credential.id.clone(), transports: credential.transports.clone() };
    Header {
        mode: params.mode,
        rp_id: params.rp_id.to_owned(),
        credentials: params.credentials.iter().map(listed).collect(),
        key_id: params.keeper.map(|(key_id, _)| key_id),
        prf_salt: params.prf.as_ref().map(|prf| prf.salt),
    }
}

fn seal_to_keeper(
    params: &SealParams<'_>,
    (key_id, public_key): (KeyId, hpke::PublicKey),
    part: &Part,
    header: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<ByteVec, Error> {
    let verifiable = |credential: &Credential| Verifiable {
        id: credential.id.clone(),
        key: credential.key.clone(),
        backup_eligible: credential.backup_eligible.into(),
    };
    let inside = KeeperContents {
        part: part.to_bytes(),
        context: params.context,
        mode: params.mode,
        rp_id: params.rp_id.to_owned(),
        origins: params.origins.to_vec(),
        credentials: params.credentials.iter().map(verifiable).collect(),
    };
    let sealed = hpke::seal_to(&public_key, info(key_id).as_bytes(), header, &inside.to_bytes(), entropy)?;
    Ok(sealed.into())
}

/// One wrap for each credential, in the header's order.
fn wrap_all(
    params: &SealParams<'_>,
    prf: &Prf<'_>,
    part: &Part,
    header: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<ByteVec>, Error> {
    let wrap = |credential: &Credential| {
        let mut outputs = prf.outputs.iter().filter(|(id, _)| *id == credential.id);
        let (Some((_, output)), None) = (outputs.next(), outputs.next()) else {
            return Err(Error::Parameters("one PRF output for every credential"));
        };
        let binding = binding(header, &params.context, &credential.id);
        let key = output.wrap_key(&prf.salt, &binding);
        Ok(seal::seal(&key, WRAP, &binding, &part.to_bytes(), &mut *entropy).into())
    };
    if prf.outputs.len() != params.credentials.len() {
        return Err(Error::Parameters("one PRF output for every credential"));
    }
    params.credentials.iter().map(wrap).collect()
}

/// What the sealed record belongs to.
fn record_binding(header: &[u8], context: &Context) -> [u8; 32] {
    let Context { deployment, client, backup } = context;
    h("halfkey/passkey/v1/record", &[header, deployment.as_bytes(), client.as_bytes(), backup.as_bytes()])
}

fn probe(bytes: &[u8]) -> Result<(), Error> {
    let version = cbor::version(bytes).map_err(|_| Error::Malformed)?;
    if version == VERSION { Ok(()) } else { Err(Error::UnknownVersion(version)) }
}

/// A stanza taken apart, not opened. Its [`Header`] is not authenticated yet: it says how to open, and nothing more.
pub struct Stanza {
    header: Header,
    wire: StanzaWire,
}

impl Stanza {
    /// Takes `bytes` apart, strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_STANZA {
            return Err(Error::TooLarge);
        }
        probe(bytes)?;
        let wire: StanzaWire = cbor::from_slice(bytes).map_err(|_| Error::Malformed)?;
        let header = Header::from_bytes(&wire.header)?;
        let wraps = header.mode.has_prf().then_some(header.credentials.len());
        if wire.keeper.is_some() != header.mode.has_keeper() || wire.wraps.as_ref().map(Vec::len) != wraps {
            return Err(Error::Malformed);
        }
        Ok(Self { header, wire })
    }

    /// What it says in the clear.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Opens the keeper's part, on the keeper's side. The header is authentic then.
    pub fn open_keeper_part(&self, secret: &hpke::SecretKey) -> Result<KeeperContents, Error> {
        let (Some(key_id), Some(sealed)) = (self.header.key_id, &self.wire.keeper) else {
            return Err(Error::NoSuchPart(self.header.mode));
        };
        let opened = hpke::open(secret, info(key_id).as_bytes(), &self.wire.header, sealed)?;
        let inside = KeeperContents::from_bytes(&opened)?;
        let ids = inside.credentials.iter().map(|credential| &credential.id);
        let same = inside.mode == self.header.mode
            && inside.rp_id == self.header.rp_id
            && ids.eq(self.header.credentials.iter().map(|listed| &listed.id));
        if same { Ok(inside) } else { Err(Error::Malformed) }
    }

    /// Opens the record, on the device: `keeper` is what a release gave, `prf` what this credential computed. Exactly
    /// the parts that the mode needs.
    pub fn open(
        &self,
        context: &Context,
        keeper: Option<&Part>,
        prf: Option<(&[u8], &PrfOutput)>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mode = self.header.mode;
        if keeper.is_some() && !mode.has_keeper() || prf.is_some() && !mode.has_prf() {
            return Err(Error::NoSuchPart(mode));
        }
        if keeper.is_some() != mode.has_keeper() || prf.is_some() != mode.has_prf() {
            return Err(Error::MissingPart(mode));
        }
        let unwrapped = prf.map(|(id, output)| self.unwrap(context, id, output)).transpose()?;
        let parts: Vec<&Part> = keeper.into_iter().chain(&unwrapped).collect();
        let key = all_of::join(&parts)?;
        let binding = record_binding(&self.wire.header, context);
        seal::open(&key, RECORD, &binding, &self.wire.record).map_err(open_error)
    }

    fn unwrap(&self, context: &Context, id: &[u8], output: &PrfOutput) -> Result<Part, Error> {
        let at = self.header.credentials.iter().position(|listed| listed.id == id).ok_or(Error::UnknownCredential)?;
        let wrap = self.wire.wraps.as_ref().and_then(|wraps| wraps.get(at)).ok_or(Error::Malformed)?;
        let salt = self.header.prf_salt.as_ref().ok_or(Error::Malformed)?;
        let binding = binding(&self.wire.header, context, id);
        let sealed = Sealed::parse(WRAP, wrap).map_err(open_error)?;
        if sealed.header() != binding {
            return Err(Error::OtherContext);
        }
        let opened = sealed.open(&output.wrap_key(salt, &binding)).map_err(open_error)?;
        Ok(Part::from_bytes(&opened)?)
    }
}

const fn open_error(error: OpenError) -> Error {
    match error {
        OpenError::OtherContext => Error::OtherContext,
        OpenError::Malformed | OpenError::TooLarge | OpenError::UnknownMagic => Error::Malformed,
        OpenError::WrongKey | OpenError::Changed => Error::DoesNotOpen,
    }
}
