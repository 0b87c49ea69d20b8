//! What a device keeps: its key, its shares and what it witnessed, sealed under the secret store's key.
//!
//! The blob is `seal` of METHODS.md A (magic `HKD1`) under the 32-byte wrapping key, over a header that names version,
//! deployment and slot. Inside is strict CBOR with a version of its own; shares are in the form of DECISIONS.md D8.

use halfkey_envelope::{
    cbor,
    entropy::Entropy,
    id::{BackupId, ClientId, DeploymentId, DeviceId, PairId, RecoveryId, SessionId, WalletId},
    seal::{Magic, OpenError, SealKey, Sealed, seal},
    wallet::{Curve, Method},
};
use halfkey_protocol::{DeviceKey, SigningParty};
use minicbor::{Decode, Encode, bytes::ByteArray};
use zeroize::Zeroizing;

use crate::{
    cloud::CloudItem,
    error::{Error, Result, StorageReason},
    host::BlobSlot,
    keeper::Checked,
    passkey::PasskeySet,
    port::Port,
};

const MAGIC: Magic = Magic(*b"HKD1");
const VERSION: u8 = 1;
/// The version of contents with a healing under way: an SDK that knows nothing of those must not take them for damaged.
const VERSION_HEAL: u8 = 2;
/// The same for an eject: its one-time key is what the private keys come back with.
const VERSION_EJECT: u8 = 3;

/// The version of contents with records in clouds.
const VERSION_CLOUD: u8 = 4;
/// The version of contents that name a set of methods.
const VERSION_SET: u8 = 5;

/// One curve's signing share of this device.
pub(crate) struct Share {
    pub(crate) curve: Curve,
    pub(crate) wallet: WalletId,
    pub(crate) pair: PairId,
    pub(crate) generation: u64,
    /// Its peer misbehaved: never used again on this device (PROTOCOL.md 4.9).
    pub(crate) banned: bool,
    party: Zeroizing<Vec<u8>>,
}

impl Share {
    pub(crate) fn new(
        curve: Curve,
        wallet: WalletId,
        pair: PairId,
        generation: u64,
        party: &SigningParty,
    ) -> Result<Self> {
        let party = party.to_bytes().map_err(|_| Error::Internal)?;
        Ok(Self { curve, wallet, pair, generation, banned: false, party })
    }

    fn duplicate(&self) -> Self {
        Self {
            curve: self.curve,
            wallet: self.wallet,
            pair: self.pair,
            generation: self.generation,
            banned: self.banned,
            party: self.party.clone(),
        }
    }

    /// The party itself, checked against its own record.
    pub(crate) fn party(&self) -> Result<SigningParty> {
        let party = SigningParty::from_bytes(&self.party).map_err(|error| match error {
            halfkey_protocol::Error::UnknownVersion => Error::Storage(StorageReason::NewerVersion),
            _ => Error::Storage(StorageReason::Damaged),
        })?;
        if party.public().curve() == self.curve { Ok(party) } else { Err(Error::Storage(StorageReason::Damaged)) }
    }
}

/// What this device witnessed of a method's newest backup: an older one is a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct KnownBackup {
    #[n(0)]
    pub(crate) method: Method,
    #[n(1)]
    pub(crate) backup: BackupId,
    #[n(2)]
    pub(crate) generation: u64,
    #[n(3)]
    pub(crate) digest: ByteArray<32>,
}

/// The session of the next secp256k1 signature, as the server opened it ahead (`api::ceremony`). Used once: it is removed
/// from the store before it is.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Ahead {
    /// The pair that it signs with.
    #[n(0)]
    pub(crate) pair: PairId,
    #[n(1)]
    pub(crate) session: SessionId,
    /// What the server's kept state opens with.
    #[n(2)]
    pub(crate) resume: ByteArray<32>,
    /// n_S.
    #[n(3)]
    pub(crate) nonce: ByteArray<32>,
}

/// What was going on when this was written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Underway {
    /// In the pending slot: a wallet is being made.
    #[n(0)]
    Create,
    /// In the current slot: a backup is not committed, or its receipt has not come.
    #[n(1)]
    Backup(#[n(0)] KnownBackup),
    /// In the pending slot: a recovery by this method, and whether it revokes other devices; no id before the server
    /// gave one.
    #[n(2)]
    Recovery(#[n(0)] Option<RecoveryId>, #[n(1)] Method, #[n(2)] bool),
    /// In the pending slot: this pair takes the place of the banned one of its curve. The other shares there are copies.
    #[n(3)]
    Heal(#[n(0)] PairId),
    /// In the pending slot: an eject by this method; no id before the server gave one. It stays there when it is
    /// acknowledged, for as long as it may be repeated.
    #[n(4)]
    Eject(#[n(0)] Option<RecoveryId>, #[n(1)] Method),
}

/// The state of one device.
pub(crate) struct Device {
    pub(crate) client: ClientId,
    pub(crate) key: DeviceKey,
    pub(crate) id: Option<DeviceId>,
    /// The one-time HPKE key that a recovery's proof of possession names: its ceremony may be begun again.
    pub(crate) one_time: Option<Zeroizing<[u8; 32]>>,
    /// In the order of the curves; empty until they are made.
    pub(crate) shares: Vec<Share>,
    pub(crate) backups: Vec<KnownBackup>,
    pub(crate) underway: Option<Underway>,
    /// In the current slot only.
    pub(crate) ahead: Option<Ahead>,
    /// The passkeys of the newest passkey backup, and of the one that is under way.
    pub(crate) passkeys: Vec<PasskeySet>,
    /// That the pinned keeper has shown what it is.
    pub(crate) evidence: Option<Checked>,
    /// Records in the user's clouds that this device made.
    pub(crate) clouds: Vec<CloudItem>,
}

impl Device {
    pub(crate) const fn new(client: ClientId, key: DeviceKey, underway: Underway) -> Self {
        Self {
            client,
            key,
            id: None,
            one_time: None,
            shares: Vec::new(),
            backups: Vec::new(),
            underway: Some(underway),
            ahead: None,
            passkeys: Vec::new(),
            evidence: None,
            clouds: Vec::new(),
        }
    }

    pub(crate) fn share(&self, curve: Curve) -> Result<&Share> {
        self.shares.iter().find(|share| share.curve == curve).ok_or(Error::NoWalletOnDevice)
    }

    pub(crate) fn known(&self, method: &Method) -> Option<&KnownBackup> {
        self.backups.iter().find(|known| known.method == *method)
    }

    /// Remembers a committed backup as the newest of its method.
    pub(crate) fn remember(&mut self, backup: KnownBackup) {
        self.backups.retain(|known| known.method != backup.method);
        if backup.method.needs(&Method::Passkey) {
            let others = self.backups.iter().filter(|known| known.method.needs(&Method::Passkey));
            let others: Vec<BackupId> = others.map(|known| known.backup).collect();
            self.passkeys.retain(|set| set.backup == backup.backup || others.contains(&set.backup));
        }
        self.backups.push(backup);
    }

    /// Remembers the passkeys of a backup, beside those of others.
    pub(crate) fn remember_passkeys(&mut self, set: PasskeySet) {
        self.passkeys.retain(|known| known.backup != set.backup);
        self.passkeys.push(set);
    }

    /// This share signs nothing any more (PROTOCOL.md 4.9).
    pub(crate) fn ban(&mut self, pair: PairId) {
        self.shares.iter_mut().filter(|share| share.pair == pair).for_each(|share| share.banned = true);
    }

    /// A copy with these shares in the place of those of the same curves.
    pub(crate) fn with_shares(&self, new: Vec<Share>) -> Self {
        let mut copy = Self {
            client: self.client,
            key: DeviceKey::from_bytes(&self.key.to_bytes()),
            id: self.id,
            one_time: self.one_time.clone(),
            shares: self.shares.iter().map(Share::duplicate).collect(),
            backups: self.backups.clone(),
            underway: self.underway.clone(),
            ahead: None,
            passkeys: self.passkeys.clone(),
            evidence: self.evidence.clone(),
            clouds: self.clouds.clone(),
        };
        new.into_iter().for_each(|share| copy.put(share));
        copy
    }

    /// Puts a share in its curve's place.
    fn put(&mut self, new: Share) {
        self.shares.retain(|share| share.curve != new.curve);
        self.shares.push(new);
        self.shares.sort_by_key(|share| Curve::ALL.iter().position(|curve| *curve == share.curve));
    }

    /// The shares that are new in the pending slot.
    pub(crate) fn renewed(&self) -> impl Iterator<Item = &Share> {
        let healed = if let Some(Underway::Heal(pair)) = self.underway { Some(pair) } else { None };
        self.shares.iter().filter(move |share| healed.is_none_or(|pair| share.pair == pair))
    }

    fn names_a_set(&self) -> bool {
        let underway = match &self.underway {
            Some(Underway::Backup(known)) => Some(&known.method),
            Some(Underway::Recovery(_, method, _) | Underway::Eject(_, method)) => Some(method),
            Some(Underway::Create | Underway::Heal(_)) | None => None,
        };
        let (backups, clouds) = (&self.backups, &self.clouds);
        let methods = backups.iter().map(|known| &known.method).chain(clouds.iter().map(|item| &item.method));
        methods.chain(underway).any(|method| matches!(method, Method::AllOf(_)))
    }

    fn version(&self) -> u8 {
        match self.underway {
            _ if self.names_a_set() => VERSION_SET,
            _ if !self.clouds.is_empty() => VERSION_CLOUD,
            Some(Underway::Heal(_)) => VERSION_HEAL,
            Some(Underway::Eject(..)) => VERSION_EJECT,
            _ => VERSION,
        }
    }

    fn to_bytes(&self, deployment: DeploymentId) -> Zeroizing<Vec<u8>> {
        let key = self.key.to_bytes();
        let share = |share: &'_ Share| ShareWire {
            curve: share.curve,
            wallet: share.wallet,
            pair: share.pair,
            generation: share.generation,
            banned: share.banned,
            party: share.party.clone(),
        };
        cbor::to_secret_vec(&Wire {
            version: self.version(),
            deployment,
            client: self.client,
            key: key.as_slice(),
            id: self.id,
            one_time: self.one_time.as_ref().map(|key| Zeroizing::new(key.to_vec())),
            shares: self.shares.iter().map(share).collect(),
            backups: self.backups.clone(),
            underway: self.underway.clone(),
            ahead: self.ahead.clone(),
            passkeys: (!self.passkeys.is_empty()).then(|| self.passkeys.clone()),
            evidence: self.evidence.clone(),
            clouds: (!self.clouds.is_empty()).then(|| self.clouds.clone()),
        })
    }

    fn from_bytes(bytes: &[u8], deployment: DeploymentId) -> core::result::Result<Self, StorageReason> {
        let probe: Probe = minicbor::decode(bytes).map_err(|_| StorageReason::Damaged)?;
        if !matches!(probe.version, VERSION | VERSION_HEAL | VERSION_EJECT | VERSION_CLOUD | VERSION_SET) {
            return Err(StorageReason::NewerVersion);
        }
        let wire: Wire<'_> = cbor::from_slice(bytes).map_err(|_| StorageReason::Damaged)?;
        if wire.deployment != deployment {
            return Err(StorageReason::OtherOwner);
        }
        let curves = wire.shares.iter().map(|share| share.curve);
        if !wire.shares.is_empty() && !curves.eq(Curve::ALL) {
            return Err(StorageReason::Damaged);
        }
        let seed = secret_32(wire.key)?;
        let one_time = wire.one_time.as_ref().map(|key| secret_32(key)).transpose()?;
        let share = |share: ShareWire| Share {
            curve: share.curve,
            wallet: share.wallet,
            pair: share.pair,
            generation: share.generation,
            banned: share.banned,
            party: share.party,
        };
        let device = Self {
            client: wire.client,
            key: DeviceKey::from_bytes(&seed),
            id: wire.id,
            one_time,
            shares: wire.shares.into_iter().map(share).collect(),
            backups: wire.backups,
            underway: wire.underway,
            ahead: wire.ahead,
            passkeys: wire.passkeys.unwrap_or_default(),
            evidence: wire.evidence,
            clouds: wire.clouds.unwrap_or_default(),
        };
        if wire.version == device.version() { Ok(device) } else { Err(StorageReason::Damaged) }
    }
}

fn secret_32(bytes: &[u8]) -> core::result::Result<Zeroizing<[u8; 32]>, StorageReason> {
    let mut secret = Zeroizing::new([0u8; 32]);
    if bytes.len() != secret.len() {
        return Err(StorageReason::Damaged);
    }
    secret.copy_from_slice(bytes);
    Ok(secret)
}

#[derive(Decode)]
#[cbor(map)]
struct Probe {
    #[n(0)]
    version: u8,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    version: u8,
    #[n(1)]
    deployment: DeploymentId,
    #[n(2)]
    client: ClientId,
    #[cbor(b(3), with = "minicbor::bytes")]
    key: &'a [u8],
    #[n(4)]
    id: Option<DeviceId>,
    #[n(5)]
    shares: Vec<ShareWire>,
    #[n(6)]
    backups: Vec<KnownBackup>,
    #[n(7)]
    underway: Option<Underway>,
    #[cbor(n(8), with = "optional_secret_bytes", has_nil)]
    one_time: Option<Zeroizing<Vec<u8>>>,
    #[n(9)]
    ahead: Option<Ahead>,
    #[n(10)]
    passkeys: Option<Vec<PasskeySet>>,
    #[n(11)]
    evidence: Option<Checked>,
    #[n(12)]
    clouds: Option<Vec<CloudItem>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ShareWire {
    #[n(0)]
    curve: Curve,
    #[n(1)]
    wallet: WalletId,
    #[n(2)]
    pair: PairId,
    #[n(3)]
    generation: u64,
    #[n(4)]
    banned: bool,
    #[cbor(n(5), with = "secret_bytes")]
    party: Zeroizing<Vec<u8>>,
}

/// A byte string that is wiped on drop.
mod secret_bytes {
    use zeroize::Zeroizing;

    pub(super) fn encode<C, W: minicbor::encode::Write>(
        bytes: &Zeroizing<Vec<u8>>,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(bytes)?.ok()
    }

    pub(super) fn decode<C>(
        d: &mut minicbor::Decoder<'_>,
        _: &mut C,
    ) -> Result<Zeroizing<Vec<u8>>, minicbor::decode::Error> {
        Ok(Zeroizing::new(d.bytes()?.to_vec()))
    }
}

/// As [`secret_bytes`]; an absent one is left out.
mod optional_secret_bytes {
    use zeroize::Zeroizing;

    type Secret = Option<Zeroizing<Vec<u8>>>;

    pub(super) fn encode<C, W: minicbor::encode::Write>(
        bytes: &Secret,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match bytes {
            Some(bytes) => e.bytes(bytes)?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(super) fn decode<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<Secret, minicbor::decode::Error> {
        Ok(Some(Zeroizing::new(d.bytes()?.to_vec())))
    }

    pub(super) const fn is_nil(bytes: &Secret) -> bool {
        bytes.is_none()
    }

    #[allow(clippy::unnecessary_wraps, reason = "the shape that the derive asks for")]
    pub(super) const fn nil() -> Option<Secret> {
        Some(None)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(0)]
    version: u8,
    #[n(1)]
    deployment: DeploymentId,
    #[n(2)]
    slot: u8,
}

impl Header {
    const fn new(deployment: DeploymentId, slot: BlobSlot) -> Self {
        let slot = match slot {
            BlobSlot::Current => 1,
            BlobSlot::Pending => 2,
        };
        Self { version: VERSION, deployment, slot }
    }
}

/// The sealed blob of a slot.
fn to_blob(
    device: &Device,
    key: &SealKey,
    slot: BlobSlot,
    deployment: DeploymentId,
    entropy: &mut dyn Entropy,
) -> Vec<u8> {
    let header = cbor::to_vec(&Header::new(deployment, slot));
    seal(key, MAGIC, &header, &device.to_bytes(deployment), entropy)
}

/// Opens a blob that must be of this deployment and slot.
fn from_blob(
    blob: &[u8],
    key: &SealKey,
    slot: BlobSlot,
    deployment: DeploymentId,
) -> core::result::Result<Device, StorageReason> {
    let sealed = Sealed::parse(MAGIC, blob).map_err(|error| match error {
        OpenError::UnknownMagic if blob.starts_with(b"HKD") => StorageReason::NewerVersion,
        _ => StorageReason::Damaged,
    })?;
    let probe: Probe = minicbor::decode(sealed.header()).map_err(|_| StorageReason::Damaged)?;
    if probe.version != VERSION {
        return Err(StorageReason::NewerVersion);
    }
    let header: Header = cbor::from_slice(sealed.header()).map_err(|_| StorageReason::Damaged)?;
    if header.deployment != deployment {
        return Err(StorageReason::OtherOwner);
    }
    if header.slot != Header::new(deployment, slot).slot {
        return Err(StorageReason::Damaged);
    }
    let contents = sealed.open(key).map_err(|error| match error {
        OpenError::WrongKey => StorageReason::WrappingKey,
        _ => StorageReason::Damaged,
    })?;
    Device::from_bytes(&contents, deployment)
}

/// What a slot holds.
pub(crate) async fn load(port: &Port, slot: BlobSlot) -> Result<Option<Device>> {
    let Some(blob) = port.read_blob(slot).await? else { return Ok(None) };
    let key = port.read_secret().await?.ok_or(Error::Storage(StorageReason::WrappingKey))?;
    from_blob(&blob, &SealKey::from_bytes(key), slot, port.setting.deployment.id()).map(Some).map_err(Error::Storage)
}

/// What a slot holds, where a recovery is asked for: a share whose wrapping key is gone, or that is damaged, is what it
/// is for, and must not stand in its way. The slot itself stays as it is until the recovery is committed.
pub(crate) async fn load_readable(port: &Port, slot: BlobSlot) -> Result<Option<Device>> {
    match load(port, slot).await {
        Err(Error::Storage(StorageReason::WrappingKey | StorageReason::Damaged)) => Ok(None),
        other => other,
    }
}

/// This device with its shares.
pub(crate) async fn current(port: &Port) -> Result<Device> {
    let device = load(port, BlobSlot::Current).await?.ok_or(Error::NoWalletOnDevice)?;
    if device.shares.is_empty() { Err(Error::NoWalletOnDevice) } else { Ok(device) }
}

/// Replaces a slot. The wrapping key is made at the first write and kept before anything is sealed under it.
pub(crate) async fn save(port: &Port, slot: BlobSlot, device: &Device) -> Result<()> {
    let key = match port.read_secret().await? {
        Some(key) => key,
        None => make_wrapping_key(port).await?,
    };
    let deployment = port.setting.deployment.id();
    let blob = to_blob(device, &SealKey::from_bytes(key), slot, deployment, &mut port.entropy());
    port.write_blob(slot, blob).await
}

/// Never replaces a key that could still open something.
async fn make_wrapping_key(port: &Port) -> Result<Zeroizing<[u8; 32]>> {
    if port.read_blob(BlobSlot::Current).await?.is_some() {
        return Err(Error::Storage(StorageReason::WrappingKey));
    }
    write_wrapping_key(port).await
}

/// For a recovery: a device that has lost its wrapping key gets a new one. There is nothing left to be replaced.
pub(crate) async fn replace_lost_key(port: &Port) -> Result<()> {
    match port.read_secret().await? {
        Some(_) => Ok(()),
        None => write_wrapping_key(port).await.map(|_| ()),
    }
}

async fn write_wrapping_key(port: &Port) -> Result<Zeroizing<[u8; 32]>> {
    let key = halfkey_envelope::entropy::random::<32>(&mut port.entropy());
    port.write_secret(key.clone()).await?;
    port.read_secret().await?.filter(|stored| **stored == *key).ok_or(Error::Storage(StorageReason::WrappingKey))
}

/// Changes the current slot, and nothing comes in between.
pub(crate) async fn update(port: &Port, change: impl FnOnce(&mut Device) + Send) -> Result<()> {
    port.hold_store().await?;
    let result = change_current(port, change).await;
    port.release_store().await?;
    result
}

async fn change_current(port: &Port, change: impl FnOnce(&mut Device) + Send) -> Result<()> {
    let mut device = current(port).await?;
    change(&mut device);
    save(port, BlobSlot::Current, &device).await
}

/// This device, and the session that was opened ahead for its next secp256k1 signature, if there is one. The store has
/// forgotten it when this returns; what cannot be removed there is not used.
pub(crate) async fn take_ahead(port: &Port) -> Result<(Device, Option<Ahead>)> {
    port.hold_store().await?;
    let result = take_ahead_held(port).await;
    port.release_store().await?;
    result
}

async fn take_ahead_held(port: &Port) -> Result<(Device, Option<Ahead>)> {
    let mut device = current(port).await?;
    let Some(ahead) = device.ahead.take() else { return Ok((device, None)) };
    match save(port, BlobSlot::Current, &device).await {
        Ok(()) => {}
        Err(Error::Storage(_)) => return Ok((device, None)),
        Err(other) => return Err(other),
    }
    let pair = device.share(Curve::Secp256k1)?.pair;
    Ok((device, Some(ahead).filter(|ahead| ahead.pair == pair)))
}

/// Keeps the session of the next signature, unless the share has become another one.
pub(crate) async fn keep_ahead(port: &Port, ahead: Ahead) -> Result<()> {
    update(port, |device| {
        if device.shares.iter().any(|share| share.pair == ahead.pair && !share.banned) {
            device.ahead = Some(ahead);
        }
    })
    .await
}

/// The pending slot becomes current: written first, and only then emptied there.
pub(crate) async fn promote(port: &Port, mut device: Device) -> Result<()> {
    device.underway = None;
    device.one_time = None;
    port.hold_store().await?;
    let saved = save(port, BlobSlot::Current, &device).await;
    port.release_store().await?;
    saved?;
    port.delete_blob(BlobSlot::Pending).await
}

/// The share of that pair goes from the pending slot into the current one, where everything else stays as it is now.
pub(crate) async fn adopt(port: &Port, mut pending: Device, pair: PairId) -> Result<()> {
    let at = pending.shares.iter().position(|share| share.pair == pair).ok_or(Error::Internal)?;
    let (share, ahead) = (pending.shares.swap_remove(at), pending.ahead);
    update(port, |device| {
        if share.curve == Curve::Secp256k1 {
            device.ahead = ahead;
        }
        device.put(share);
    })
    .await?;
    port.delete_blob(BlobSlot::Pending).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use halfkey_envelope::{entropy::DangerSeededEntropy, hash::sha256};
    use halfkey_protocol::{Signs, party::danger_deal};

    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([1; 16]);

    fn key() -> SealKey {
        SealKey::from_bytes(Zeroizing::new([0x4b; 32]))
    }

    /// Every field has a value of its own.
    fn sample() -> Device {
        let mut entropy = DangerSeededEntropy::new(7);
        let share = |curve: Curve, entropy: &mut DangerSeededEntropy| {
            let (client, _) = danger_deal(curve, entropy).unwrap();
            let (wallet, pair) =
                (WalletId::from_bytes([curve.code(); 16]), PairId::from_bytes([0x10 + curve.code(); 16]));
            let mut share = Share::new(curve, wallet, pair, 3, &client).unwrap();
            share.banned = curve == Curve::Ed25519;
            share
        };
        let known = |byte, method| KnownBackup {
            method,
            backup: BackupId::from_bytes([byte; 16]),
            generation: u64::from(byte),
            digest: [byte; 32].into(),
        };
        Device {
            client: ClientId::from_bytes([2; 16]),
            key: DeviceKey::from_bytes(&[3; 32]),
            id: Some(DeviceId::from_bytes([4; 16])),
            one_time: Some(Zeroizing::new([5; 32])),
            shares: Curve::ALL.into_iter().map(|curve| share(curve, &mut entropy)).collect(),
            backups: vec![known(6, Method::Password), known(7, Method::RecoveryCode)],
            underway: Some(Underway::Backup(known(8, Method::Password))),
            ahead: None,
            passkeys: Vec::new(),
            evidence: None,
            clouds: Vec::new(),
        }
    }

    fn sample_ahead() -> Ahead {
        Ahead {
            pair: PairId::from_bytes([0x11; 16]),
            session: SessionId::from_bytes([0x21; 16]),
            resume: [0x31; 32].into(),
            nonce: [0x41; 32].into(),
        }
    }

    fn blob(slot: BlobSlot) -> Vec<u8> {
        to_blob(&sample(), &key(), slot, DEPLOYMENT, &mut DangerSeededEntropy::new(8))
    }

    fn assert_is_sample(device: &Device) {
        let sample = sample();
        assert_eq!((device.client, device.id), (sample.client, sample.id));
        assert_eq!(device.key.public(), sample.key.public());
        assert_eq!(device.one_time.as_deref(), sample.one_time.as_deref());
        assert_eq!((&device.backups, &device.underway), (&sample.backups, &sample.underway));
        for curve in Curve::ALL {
            let (have, want) = (device.share(curve).unwrap(), sample.share(curve).unwrap());
            assert_eq!((have.wallet, have.pair, have.generation), (want.wallet, want.pair, want.generation));
            assert_eq!(have.banned, want.banned);
            assert_eq!(have.party().unwrap().public(), want.party().unwrap().public());
        }
    }

    fn golden(name: &str) -> Vec<u8> {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        let bytes = std::fs::read(golden.join(name)).unwrap();
        let manifest = std::fs::read_to_string(golden.join("MANIFEST.sha256")).unwrap();
        let line = format!("{}  {name}", hex::encode(sha256(&bytes)));
        assert!(manifest.lines().any(|have| have == line), "{name}: not the file that the manifest lists");
        bytes
    }

    #[test]
    fn the_blob_of_the_first_release_opens_for_ever() {
        let device = from_blob(&golden("device-v1.bin"), &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_is_sample(&device);
        assert!(device.ahead.is_none());
    }

    #[test]
    fn a_session_that_was_opened_ahead_opens_for_ever() {
        let device = from_blob(&golden("device-v1-ahead.bin"), &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_is_sample(&device);
        assert!(device.ahead == Some(sample_ahead()));
        let again = Device { ahead: Some(sample_ahead()), ..sample() }.to_bytes(DEPLOYMENT);
        assert_eq!(device.to_bytes(DEPLOYMENT), again);
    }

    /// The sample in the pending slot, while its secp256k1 share is healed.
    fn healing() -> Device {
        Device { underway: Some(Underway::Heal(PairId::from_bytes([0x11; 16]))), ..sample() }
    }

    #[test]
    fn the_blob_of_a_healing_opens_for_ever() {
        let bytes = golden("device-v2.bin");
        let mut device = from_blob(&bytes, &key(), BlobSlot::Pending, DEPLOYMENT).unwrap();
        assert_eq!(device.underway, healing().underway);
        assert_eq!(device.renewed().map(|share| share.curve).collect::<Vec<_>>(), [Curve::Secp256k1]);
        device.underway = sample().underway;
        assert_is_sample(&device);
        // A reader of the first version says that the contents are newer, not that they are damaged.
        assert_eq!(healing().to_bytes(DEPLOYMENT)[2], VERSION_HEAL);
    }

    #[test]
    fn the_passkeys_of_a_backup_and_checked_evidence_open_for_ever() {
        let device = from_blob(&golden("device-v1-passkeys.bin"), &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_is_sample(&device);
        let (passkeys, evidence) = (vec![crate::passkey::sample_set()], Some(Checked::sample()));
        assert_eq!((&device.passkeys, &device.evidence), (&passkeys, &evidence));
        let again = Device { passkeys, evidence, ..sample() }.to_bytes(DEPLOYMENT);
        assert_eq!(device.to_bytes(DEPLOYMENT), again);
    }

    #[test]
    fn records_in_clouds_open_for_ever() {
        let device = from_blob(&golden("device-v4.bin"), &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_is_sample(&device);
        assert_eq!(device.clouds, [CloudItem::sample()]);
        assert_eq!(with_cloud().to_bytes(DEPLOYMENT)[2], VERSION_CLOUD);
        assert_eq!(device.to_bytes(DEPLOYMENT), with_cloud().to_bytes(DEPLOYMENT));
    }

    /// The sample in the pending slot, while its wallet is ejected.
    fn ejecting() -> Device {
        let eject = Underway::Eject(Some(RecoveryId::from_bytes([9; 16])), Method::RecoveryCode);
        Device { underway: Some(eject), ..sample() }
    }

    #[test]
    fn the_blob_of_an_eject_opens_for_ever() {
        let mut device = from_blob(&golden("device-v3.bin"), &key(), BlobSlot::Pending, DEPLOYMENT).unwrap();
        assert_eq!(device.underway, ejecting().underway);
        assert_eq!(ejecting().to_bytes(DEPLOYMENT)[2], VERSION_EJECT);
        assert_eq!(device.to_bytes(DEPLOYMENT), ejecting().to_bytes(DEPLOYMENT));
        // With the key that the private keys come back with.
        device.underway = sample().underway;
        assert_is_sample(&device);
    }

    /// What the writer calls a version, its golden file has, and the reader takes.
    #[test]
    fn every_version_has_a_file_that_opens() {
        let files: [(u8, &[(&str, BlobSlot)]); 5] = [
            (
                VERSION,
                &[
                    ("device-v1.bin", BlobSlot::Current),
                    ("device-v1-ahead.bin", BlobSlot::Current),
                    ("device-v1-passkeys.bin", BlobSlot::Current),
                ],
            ),
            (VERSION_HEAL, &[("device-v2.bin", BlobSlot::Pending)]),
            (VERSION_EJECT, &[("device-v3.bin", BlobSlot::Pending)]),
            (VERSION_CLOUD, &[("device-v4.bin", BlobSlot::Current)]),
            (VERSION_SET, &[("device-v5.bin", BlobSlot::Current)]),
        ];
        let versions: Vec<u8> = files.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..=VERSION_SET).collect::<Vec<_>>(), "a version without a file");
        for (version, files) in files {
            for (name, slot) in files {
                let device = from_blob(&golden(name), &key(), *slot, DEPLOYMENT).unwrap();
                assert_eq!(device.version(), version, "{name}");
            }
        }
    }

    fn with_cloud() -> Device {
        Device { clouds: vec![CloudItem::sample()], ..sample() }
    }

    #[test]
    fn sets_of_methods_open_for_ever() {
        let device = from_blob(&golden("device-v5.bin"), &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_eq!((&device.backups, &device.clouds), (&with_set().backups, &with_set().clouds));
        assert_eq!(device.to_bytes(DEPLOYMENT)[2], VERSION_SET);
        assert_eq!(device.to_bytes(DEPLOYMENT), with_set().to_bytes(DEPLOYMENT));
    }

    fn with_set() -> Device {
        let mut device = sample();
        let method = CloudItem::sample_of_set().method;
        device.remember(KnownBackup {
            method,
            backup: BackupId::from_bytes([9; 16]),
            generation: 9,
            digest: [9; 32].into(),
        });
        Device { clouds: vec![CloudItem::sample(), CloudItem::sample_of_set()], ..device }
    }

    #[test]
    fn the_passkeys_of_a_set_and_those_of_the_single_method_are_kept_beside_each_other() {
        let method: Method = "ALL_OF(PASSKEY,PASSWORD)".parse().unwrap();
        let known = |byte, method: &Method| KnownBackup {
            method: method.clone(),
            backup: BackupId::from_bytes([byte; 16]),
            generation: u64::from(byte),
            digest: [byte; 32].into(),
        };
        let set = |byte| PasskeySet { backup: BackupId::from_bytes([byte; 16]), ..crate::passkey::sample_set() };
        let mut device = sample();
        for (byte, method) in [(20, &Method::Passkey), (21, &method), (22, &Method::Passkey), (23, &method)] {
            device.remember_passkeys(set(byte));
            device.remember(known(byte, method));
        }
        assert_eq!(device.passkeys, [set(22), set(23)]);
    }

    /// Run by hand, once for each new version of the format.
    #[test]
    #[ignore = "writes a golden file, checks nothing"]
    fn write_golden_device() {
        let folder = std::path::PathBuf::from(std::env::var("GOLDEN_TO").unwrap());
        let mut entropy = DangerSeededEntropy::new(8);
        let blob = to_blob(&with_set(), &key(), BlobSlot::Current, DEPLOYMENT, &mut entropy);
        std::fs::write(folder.join("device-v5.bin"), blob).unwrap();
    }

    #[test]
    fn every_kind_of_work_that_is_under_way_comes_back() {
        let recovery = RecoveryId::from_bytes([9; 16]);
        for underway in [
            None,
            Some(Underway::Create),
            Some(Underway::Recovery(None, Method::RecoveryCode, true)),
            Some(Underway::Recovery(Some(recovery), Method::Password, false)),
            Some(Underway::Heal(PairId::from_bytes([8; 16]))),
            Some(Underway::Eject(None, Method::Passkey)),
            Some(Underway::Eject(Some(recovery), Method::RecoveryCode)),
        ] {
            let mut device =
                Device::new(ClientId::from_bytes([2; 16]), DeviceKey::from_bytes(&[3; 32]), Underway::Create);
            device.underway = underway.clone();
            let blob = to_blob(&device, &key(), BlobSlot::Pending, DEPLOYMENT, &mut DangerSeededEntropy::new(9));
            let opened = from_blob(&blob, &key(), BlobSlot::Pending, DEPLOYMENT).unwrap();
            assert_eq!((opened.underway, opened.one_time.is_none(), opened.shares.len()), (underway, true, 0));
        }
    }

    #[test]
    fn the_passkeys_of_the_newest_backup_are_kept_and_older_ones_forgotten() {
        let set = crate::passkey::sample_set();
        let known = |backup, method| KnownBackup { method, backup, generation: 1, digest: [1; 32].into() };
        let mut device = sample();
        device.remember_passkeys(set.clone());
        let mut pending = set.clone();
        pending.backup = BackupId::from_bytes([10; 16]);
        device.remember_passkeys(pending.clone());
        device.remember_passkeys(pending.clone());
        device.remember(known(BackupId::from_bytes([11; 16]), Method::Password));
        let blob = to_blob(&device, &key(), BlobSlot::Current, DEPLOYMENT, &mut DangerSeededEntropy::new(9));
        let mut opened = from_blob(&blob, &key(), BlobSlot::Current, DEPLOYMENT).unwrap();
        assert_eq!(opened.passkeys, [set, pending.clone()]);
        opened.remember(known(pending.backup, Method::Passkey));
        assert_eq!(opened.passkeys, [pending]);
    }

    #[test]
    fn a_blob_opens_for_its_key_slot_and_deployment_only_and_says_what_is_wrong() {
        let refused = |bytes: &[u8], key: &SealKey, slot, deployment| from_blob(bytes, key, slot, deployment).err();
        let good = blob(BlobSlot::Current);
        let (here, slot) = (DEPLOYMENT, BlobSlot::Current);
        let other = SealKey::from_bytes(Zeroizing::new([0x4c; 32]));
        assert_eq!(refused(&good, &other, slot, here), Some(StorageReason::WrappingKey));
        assert_eq!(refused(&good, &key(), BlobSlot::Pending, here), Some(StorageReason::Damaged));
        let elsewhere = DeploymentId::from_bytes([9; 16]);
        assert_eq!(refused(&good, &key(), slot, elsewhere), Some(StorageReason::OtherOwner));
        let newer = [b"HKD2".as_slice(), &good[4..]].concat();
        assert_eq!(refused(&newer, &key(), slot, here), Some(StorageReason::NewerVersion));
        assert_eq!(refused(b"", &key(), slot, here), Some(StorageReason::Damaged));
        for end in [4, 40, good.len() - 1] {
            assert_eq!(refused(&good[..end], &key(), slot, here), Some(StorageReason::Damaged), "{end}");
        }
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(refused(&bad, &key(), slot, here).is_some(), "byte {at}");
        }
    }

    #[test]
    fn a_later_version_inside_is_refused_as_such() {
        let mut contents = sample().to_bytes(DEPLOYMENT).to_vec();
        assert_eq!(contents[2], VERSION, "the version is the first value");
        contents[2] = VERSION_HEAL;
        assert_eq!(Device::from_bytes(&contents, DEPLOYMENT).err(), Some(StorageReason::Damaged), "no healing in it");
        contents[2] = VERSION_CLOUD;
        assert_eq!(
            Device::from_bytes(&contents, DEPLOYMENT).err(),
            Some(StorageReason::Damaged),
            "no record in a cloud"
        );
        contents[2] = VERSION_SET;
        assert_eq!(Device::from_bytes(&contents, DEPLOYMENT).err(), Some(StorageReason::Damaged), "no set in it");
        contents[2] = VERSION_SET + 1;
        assert_eq!(Device::from_bytes(&contents, DEPLOYMENT).err(), Some(StorageReason::NewerVersion));
    }
}
