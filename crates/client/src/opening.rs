//! Opening a backup: the method gives the record, the record opens the envelope, and every half is checked against its
//! public point. Used to read a new backup back, to recover and to verify.

use std::sync::Arc;

use halfkey_api::{
    bytes::HexBytes,
    message::{BackupPairPoints, CipherText, CurveProof, DoorContext, DrillLevel},
};
use halfkey_envelope::{
    Record,
    client_share::{self, Contents, Expected, Header},
    id::{BackupId, ClientId, PairId, WalletId},
    method_set::MethodSet,
    part_record::{self, PartRecord},
    recovery_code::{self, RecoveryCode},
    seal::OpenError,
    text,
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    ClientBackupShare, DeviceKey, Half, PairPublic,
    proof::{self, Purpose, Statement},
};
use minicbor::bytes::ByteArray;
use zeroize::Zeroizing;

use crate::{
    ceremony::peer,
    cloud::{self, Cloud},
    command::RecoveryMethod,
    device::{Device, KnownBackup},
    door::Door,
    error::{Error, Result},
    exit_kit,
    passkey::{self, PasskeySet},
    port::Port,
    secret::CodeText,
    together::Together,
};

/// What opened a backup, kept for the fresh one that follows.
pub(crate) enum Holder {
    Password(text::Password),
    Code(RecoveryCode),
    Passkey(Box<passkey::Plan>),
    Cloud(Cloud),
    Exit(Arc<exit_kit::Making>),
    /// One for each member, in the set's order.
    AllOf(MethodSet, Vec<Self>),
}

impl Holder {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Password(_) => Method::Password,
            Self::Code(_) => Method::RecoveryCode,
            Self::Passkey(_) => Method::Passkey,
            Self::Cloud(cloud) => cloud.own_method().clone(),
            Self::Exit(_) => Method::Exit,
            Self::AllOf(set, _) => Method::AllOf(set.clone()),
        }
    }

    /// What one of its members came to: of a set, with the member's name.
    pub(crate) fn blames(&self, member: &Self) -> impl Fn(Error) -> Error {
        let member = matches!(self, Self::AllOf(..)).then(|| member.method());
        move |error| match &member {
            Some(member) => error.of_member(member),
            None => error,
        }
    }

    /// Of a set those of its members, of a single method itself.
    pub(crate) fn members(&self) -> &[Self] {
        match self {
            Self::AllOf(_, members) => members,
            single => std::slice::from_ref(single),
        }
    }
}

/// What a method gave.
pub(crate) struct FromMethod {
    pub(crate) record: Record,
    pub(crate) holder: Holder,
    /// Of a passkey backup: whose passkeys open it.
    pub(crate) passkeys: Option<PasskeySet>,
}

/// One curve of an opened backup.
pub(crate) struct OpenedHalf {
    pub(crate) curve: Curve,
    pub(crate) wallet: WalletId,
    pub(crate) pair: PairId,
    pub(crate) public: PairPublic,
    pub(crate) half: ClientBackupShare,
}

/// An opened backup: every half fits its point, and both points the wallet's public key.
pub(crate) struct Opened {
    pub(crate) header: Header,
    pub(crate) digest: [u8; 32],
    pub(crate) halves: Vec<OpenedHalf>,
}

/// Where a method is asked for what it holds of a backup.
struct Asking<'a> {
    port: &'a Port,
    key: &'a DeviceKey,
    within: DoorContext,
    client: ClientId,
    cipher_text: &'a CipherText,
    /// The method of the backup: of a member, its set.
    method: Method,
}

/// Asks the method for the record of this backup.
pub(crate) async fn record(
    port: &Port,
    key: &DeviceKey,
    within: DoorContext,
    client: ClientId,
    cipher_text: &CipherText,
    method: &RecoveryMethod,
) -> Result<FromMethod> {
    let asking = Asking { port, key, within, client, cipher_text, method: method.method() };
    if let RecoveryMethod::AllOf(together) = method {
        return asking.all_of(together).await;
    }
    let (bytes, holder, passkeys) = asking.one(method).await?;
    let record = parse_record(port, client, cipher_text.backup_id, &holder.method(), &bytes)?;
    Ok(FromMethod { record, holder, passkeys })
}

type Gave = (Zeroizing<Vec<u8>>, Holder, Option<PasskeySet>);

impl Asking<'_> {
    /// What a single method holds, or a member of a set.
    async fn one(&self, method: &RecoveryMethod) -> Result<Gave> {
        let Self { port, key, within, client, cipher_text, .. } = *self;
        Ok(match method {
            RecoveryMethod::Password(typed) => {
                let door = Door::new(port, key, within, client, cipher_text.backup_id)?;
                let (record, password) = door.open(typed).await?;
                (record, Holder::Password(password), None)
            }
            RecoveryMethod::RecoveryCode(typed) => {
                let code = parse_code(typed)?;
                (record_of_code(port, &code, client, cipher_text)?, Holder::Code(code), None)
            }
            RecoveryMethod::Passkey => {
                let opened = passkey::open(port, key, within, client, cipher_text).await?;
                let (record, set, plan) = opened.into_plan(port)?;
                (record, Holder::Passkey(Box::new(plan)), Some(set))
            }
            RecoveryMethod::GoogleDrive | RecoveryMethod::ICloud | RecoveryMethod::Custom(_) => {
                let cloud = Cloud::of(&self.method, &method.method()).ok_or(Error::Internal)?;
                let record = cloud::open(port, key, within, client, cipher_text, &cloud).await?;
                (record, Holder::Cloud(cloud), None)
            }
            // A set is no member of a set.
            RecoveryMethod::AllOf(_) => return Err(Error::Internal),
        })
    }

    /// Every member's part. What costs nothing is asked first: a missing part is known before a guess is spent.
    async fn all_of(&self, together: &Together<RecoveryMethod>) -> Result<FromMethod> {
        let mut members: Vec<&RecoveryMethod> = together.members().iter().collect();
        members.sort_by_key(|member| member.cost());
        let (mut parts, mut holders, mut passkeys) = (Vec::new(), Vec::new(), None);
        for member in members {
            let name = member.method();
            let (bytes, holder, set) = self.one(member).await.map_err(|error| error.of_member(&name))?;
            let part = self.part(&name, &bytes).map_err(|error| error.of_member(&name))?;
            if parts.iter().any(|other| !part.goes_with(other)) {
                return Err(OTHER_PARTS);
            }
            parts.push(part);
            holders.push(holder);
            passkeys = passkeys.or(set);
        }
        let record = part_record::join(&parts).map_err(|_| OTHER_PARTS)?;
        holders.sort_by_cached_key(|holder| holder.method().name());
        let holder = Holder::AllOf(together.set().clone(), holders);
        Ok(FromMethod { record, holder, passkeys })
    }

    /// A member's part must be of this deployment, client, backup and set, its own one, and of the envelope that is there.
    fn part(&self, member: &Method, bytes: &[u8]) -> Result<PartRecord> {
        let (client, backup) = (self.client, self.cipher_text.backup_id);
        let part = parse_part(self.port, client, backup, &self.method, member, bytes)?;
        if client_share::digest(&self.cipher_text.cipher_text.0) == part.envelope_digest {
            return Ok(part);
        }
        Err(match client_share::peek_header(&self.cipher_text.cipher_text.0) {
            Ok(header) => Error::Rollback { have: header.backup, want: part.backup },
            Err(_) => Error::PeerMisbehaved { what: "ENVELOPE" },
        })
    }
}

/// Every part is somebody's, and they are not of one key.
const OTHER_PARTS: Error = Error::PeerMisbehaved { what: "PARTS" };

/// A part must be of this deployment, client, backup and set, and be this member's.
pub(crate) fn parse_part(
    port: &Port,
    client: ClientId,
    backup: BackupId,
    set: &Method,
    member: &Method,
    bytes: &[u8],
) -> Result<PartRecord> {
    let part = PartRecord::from_bytes(bytes).map_err(unreadable)?;
    if part.deployment != port.setting.deployment.id() || part.client != client {
        return Err(Error::IdentityMismatch);
    }
    if part.backup != backup {
        return Err(Error::Rollback { have: backup, want: part.backup });
    }
    let same = Method::AllOf(part.set.clone()) == *set && part.member() == Some(member);
    if same { Ok(part) } else { Err(Error::PeerMisbehaved { what: "RECORD" }) }
}

const fn unreadable(error: client_share::Error) -> Error {
    match error {
        client_share::Error::UnknownVersion(_) => Error::UpgradeRequired,
        _ => Error::PeerMisbehaved { what: "RECORD" },
    }
}

pub(crate) fn parse_code(typed: &CodeText) -> Result<RecoveryCode> {
    RecoveryCode::parse(typed.expose()).map_err(|_| Error::NotACode)
}

/// The record that lies beside the envelope, sealed under a recovery code.
pub(crate) fn record_of_code(
    port: &Port,
    code: &RecoveryCode,
    client: ClientId,
    cipher_text: &CipherText,
) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = cipher_text.sealed_record.as_ref().ok_or(Error::PeerMisbehaved { what: "SEALED_RECORD" })?;
    let place = code_place(port, client, cipher_text.backup_id);
    recovery_code::open_record(code, place, &sealed.0).map_err(|error| match error {
        OpenError::WrongKey => Error::WrongSecret { remaining: None, retry_after: None },
        _ => Error::PeerMisbehaved { what: "SEALED_RECORD" },
    })
}

pub(crate) fn code_place(port: &Port, client: ClientId, backup: BackupId) -> recovery_code::Place {
    recovery_code::Place { deployment: port.setting.deployment.id(), client, backup }
}

/// A record must be of this deployment, client, backup and method.
pub(crate) fn parse_record(
    port: &Port,
    client: ClientId,
    backup: BackupId,
    method: &Method,
    bytes: &[u8],
) -> Result<Record> {
    let record = Record::from_bytes(bytes).map_err(unreadable)?;
    if record.deployment != port.setting.deployment.id() || record.client != client {
        return Err(Error::IdentityMismatch);
    }
    if record.backup != backup {
        return Err(Error::Rollback { have: backup, want: record.backup });
    }
    if record.method == *method { Ok(record) } else { Err(Error::PeerMisbehaved { what: "RECORD" }) }
}

/// Opens the envelope that the record was made for, and no other.
pub(crate) fn open(record: &Record, cipher_text: &CipherText) -> Result<Opened> {
    let Unsealed { header, digest, contents } = unseal(record, cipher_text)?;
    let halves = Curve::ALL.into_iter().map(|curve| half(curve, &header, &contents, &cipher_text.pairs));
    let halves = halves.collect::<core::result::Result<_, _>>().map_err(|fault| fault.error)?;
    Ok(Opened { header, digest, halves })
}

/// An envelope's contents, before any half was compared with its point.
pub(crate) struct Unsealed {
    pub(crate) header: Header,
    pub(crate) digest: [u8; 32],
    pub(crate) contents: Contents,
}

/// A half that does not fit, and the part of a drill that this belongs to.
pub(crate) struct HalfFault {
    pub(crate) level: DrillLevel,
    pub(crate) error: Error,
}

pub(crate) fn unseal(record: &Record, cipher_text: &CipherText) -> Result<Unsealed> {
    let envelope = &cipher_text.cipher_text.0;
    let digest = client_share::digest(envelope);
    if digest != cipher_text.digest.0 {
        return Err(Error::PeerMisbehaved { what: "ENVELOPE_DIGEST" });
    }
    let (header, contents) = client_share::open_with_record(record, envelope).map_err(|error| match error {
        client_share::Error::OtherEnvelope => {
            let have = client_share::peek_header(envelope).map_or(cipher_text.backup_id, |header| header.backup);
            Error::Rollback { have, want: record.backup }
        }
        client_share::Error::UnknownVersion(_) | client_share::Error::UnknownSuite(_) => Error::UpgradeRequired,
        _ => Error::PeerMisbehaved { what: "ENVELOPE" },
    })?;
    Ok(Unsealed { header, digest, contents })
}

/// L1 of a drill: does the method still hold the right key? Nothing is opened.
pub(crate) fn drill(record: &Record, cipher_text: &CipherText) -> Result<()> {
    client_share::drill(&record.file_key, &Expected::from(record), &cipher_text.cipher_text.0).map_err(|error| {
        match error {
            client_share::Error::UnknownVersion(_) | client_share::Error::UnknownSuite(_) => Error::UpgradeRequired,
            client_share::Error::OtherContext(_) => Error::PeerMisbehaved { what: "OTHER_ENVELOPE" },
            _ => Error::PeerMisbehaved { what: "ENVELOPE" },
        }
    })
}

/// b_C·G = B_C, B_C + B_K = X, and the server's record of the pair is the same.
pub(crate) fn half(
    curve: Curve,
    header: &Header,
    contents: &Contents,
    pairs: &[BackupPairPoints],
) -> core::result::Result<OpenedHalf, HalfFault> {
    let of_share = |error| HalfFault { level: DrillLevel::ClientShare, error };
    let of_key = |error| HalfFault { level: DrillLevel::PublicKey, error };
    let wrong = || of_share(Error::PeerMisbehaved { what: "ENVELOPE" });
    let other_pairs = || of_key(Error::PeerMisbehaved { what: "PAIRS" });
    let entry = header.curve(curve).ok_or_else(wrong)?;
    let share = contents.share(curve).ok_or_else(wrong)?;
    let public =
        PairPublic::from_bytes(curve, &entry.public_key, entry.chain_code, &entry.client_point, &entry.custodian_point)
            .map_err(|error| of_key(peer(error)))?;
    let half = ClientBackupShare::from_bytes(curve, share).map_err(|error| of_share(peer(error)))?;
    if half.point() != public.client_point() {
        return Err(wrong());
    }
    let told = pairs.iter().find(|pair| pair.curve == curve).ok_or_else(other_pairs)?;
    let same = told.wallet_id == entry.wallet
        && told.public_key == HexBytes(entry.public_key.clone())
        && told.chain_code.0 == entry.chain_code
        && told.client_point == HexBytes(entry.client_point.clone())
        && told.custodian_point == HexBytes(entry.custodian_point.clone())
        && told.generation == header.generation;
    if !same {
        return Err(other_pairs());
    }
    Ok(OpenedHalf { curve, wallet: entry.wallet, pair: told.pair_id, public, half })
}

impl Opened {
    /// Refuses a backup that is older than the newest one that this device witnessed.
    pub(crate) fn refuse_rollback(&self, device: &Device) -> Result<()> {
        let Some(known) = device.known(&self.header.method) else { return Ok(()) };
        let same = known.backup == self.header.backup && *known.digest == self.digest;
        if same || self.header.generation > known.generation {
            return Ok(());
        }
        Err(Error::Rollback { have: self.header.backup, want: known.backup })
    }

    /// What this device witnesses from now on.
    pub(crate) fn witness(&self) -> KnownBackup {
        KnownBackup {
            method: self.header.method.clone(),
            backup: self.header.backup,
            generation: self.header.generation,
            digest: ByteArray::from(self.digest),
        }
    }

    /// One proof per curve that this device knows b_C.
    pub(crate) fn prove(
        &self,
        port: &Port,
        purpose: Purpose,
        context: &[u8; 32],
        nonce: &[u8; 32],
    ) -> Result<Vec<CurveProof>> {
        let prove = |opened: &OpenedHalf| {
            let statement = Statement { purpose, context, pair: opened.pair, nonce };
            let proof = proof::prove(&statement, &opened.half, &mut port.entropy()).map_err(peer)?;
            Ok(CurveProof { curve: opened.curve, proof: halfkey_api::bytes::Base64(proof) })
        };
        self.halves.iter().map(prove).collect()
    }
}
