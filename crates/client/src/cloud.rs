//! Backups whose record lies in the user's own cloud: Google Drive and iCloud Keychain (METHODS.md D and E), or in a store
//! of the app's own.
//!
//! What goes there is the record sealed under a pepper that the server gives where a backup may be opened, under a name
//! made with it. Every backup has a name of its own: nothing is overwritten, and a predecessor's record is deleted only
//! after the receipt of the new backup, as far as that succeeds.

mod drive;

use halfkey_api::{
    bytes::{Base64, Hex},
    context::pepper_aad,
    message::{
        BackupBegun, BeginVerification, CipherText, CloudAccount, DoorContext, MAX_ACCOUNT_HINT, MethodStatus,
        PEPPER_ANSWER, PEPPER_INFO, PEPPER_VERSION, PepperAccount, PepperContents, PepperGiven, PepperRequest,
        VerificationBegun,
    },
    route::{self, path},
};
use halfkey_envelope::{
    cbor,
    cloud::{self, Pepper, Place, RootId},
    hpke,
    id::{BackupId, ClientId},
    seal::OpenError,
    wallet::Method,
};
use halfkey_protocol::{DeviceKey, Signs};
use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::drive::Drive;
use crate::{
    call::Call,
    device::{self, Device},
    error::{Error, Result},
    port::Port,
    status,
};

/// How many other records are looked at where the wanted one is missing.
const MAX_WITNESSES: usize = 32;

/// A cloud of the user's, or a store of the app's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cloud {
    kind: Kind,
    /// The method whose backups' records lie there: its own, or a set that it is a member of.
    method: Method,
    /// Of a set: which of its members this is.
    member: Option<Method>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    GoogleDrive,
    ICloud,
    Custom(String),
}

impl Cloud {
    /// Its own method, even as a member of a set.
    pub(crate) fn own_method(&self) -> &Method {
        self.member.as_ref().unwrap_or(&self.method)
    }

    /// Where what `member` holds of a backup by `method` lies, if that is in a cloud.
    pub(crate) fn of(method: &Method, member: &Method) -> Option<Self> {
        let kind = match member {
            Method::GoogleDrive => Kind::GoogleDrive,
            Method::ICloud => Kind::ICloud,
            Method::Custom(name) => Kind::Custom(name.clone()),
            _ => return None,
        };
        Some(Self { kind, method: method.clone(), member: (method != member).then(|| member.clone()) })
    }

    /// Every cloud with something of a backup by this method.
    pub(crate) fn all_of(method: &Method) -> Vec<Self> {
        method.members().iter().filter_map(|member| Self::of(method, member)).collect()
    }

    /// Whether the item is of this method's, in this cloud.
    fn has(&self, item: &CloudItem) -> bool {
        (&item.method, &item.member) == (&self.method, &self.member)
    }

    fn name(&self, given: &Given, backup: BackupId) -> String {
        self.name_under(&given.pepper, given.root, backup)
    }

    fn name_under(&self, pepper: &Pepper, root: RootId, backup: BackupId) -> String {
        match &self.member {
            Some(member) => pepper.member_name(root, backup, member),
            None => pepper.name(root, backup),
        }
    }

    fn item(&self, backup: BackupId, name: String) -> CloudItem {
        CloudItem { method: self.method.clone(), backup, name, file: None, member: self.member.clone() }
    }
}

/// A record in a cloud that this device has made or is about to make: it is deleted once its backup counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct CloudItem {
    #[n(0)]
    pub(crate) method: Method,
    #[n(1)]
    pub(crate) backup: BackupId,
    #[n(2)]
    pub(crate) name: String,
    /// Google's id of the file.
    #[n(3)]
    pub(crate) file: Option<String>,
    /// Of a set: the member in whose cloud it lies.
    #[n(4)]
    pub(crate) member: Option<Method>,
}

#[cfg(test)]
impl CloudItem {
    pub(crate) fn sample() -> Self {
        let (backup, name) = (BackupId::from_bytes([0x71; 16]), "halfkey-1-71".to_owned());
        Self { method: Method::GoogleDrive, backup, name, file: Some("1a-B_9".to_owned()), member: None }
    }

    #[allow(clippy::unwrap_used)]
    pub(crate) fn sample_of_set() -> Self {
        let method = "ALL_OF(GDRIVE,PASSWORD)".parse().unwrap();
        Self { method, member: Some(Method::GoogleDrive), ..Self::sample() }
    }
}

/// What the server gives for one backup.
struct Given {
    root: RootId,
    pepper: Pepper,
    account: Option<PepperAccount>,
}

/// A record that is in its cloud and was read back from there.
pub(crate) struct Kept {
    pub(crate) record: Zeroizing<Vec<u8>>,
    pub(crate) made: Made,
}

/// What the commit and what comes after it need of a kept record.
pub(crate) struct Made {
    pub(crate) account: Option<CloudAccount>,
    root: RootId,
    pepper: Pepper,
}

/// Refuses what this app is not set up for, before anything is asked or begun.
pub(crate) fn must_be_configured(port: &Port, cloud: &Cloud) -> Result<()> {
    let (configured, what) = match &cloud.kind {
        Kind::GoogleDrive => (port.setting.google_config().is_some(), "GoogleConfig"),
        Kind::ICloud => (port.setting.icloud_config().is_some(), "ICloudConfig"),
        Kind::Custom(name) if port.setting.is_registered(name) => return Ok(()),
        Kind::Custom(_) => return Err(Error::MethodNotRegistered { method: cloud.own_method().clone() }),
    };
    if configured { Ok(()) } else { Err(Error::HostIncomplete { what }) }
}

/// Before a backup is begun: the user is signed in, or the keychain is open. Gives the backup that will be replaced.
pub(crate) async fn ready(port: &Port, cloud: &Cloud) -> Result<Option<BackupId>> {
    must_be_configured(port, cloud)?;
    match &cloud.kind {
        Kind::GoogleDrive => drop(Drive::open(port).await?),
        Kind::ICloud => drop(port.synced_list(&cloud::name_prefix(0)).await?),
        Kind::Custom(name) => drop(port.custom_list(name, &cloud::name_prefix(0)).await?),
    }
    let methods = status::backup_status(port).await?.methods;
    let active = methods.into_iter().find(|one| one.method == cloud.method && one.completed_at.is_some());
    Ok(active.and_then(|one| one.backup_id))
}

/// Puts the record of a pending backup into the cloud, reads it back, and opens what was read.
pub(crate) async fn keep(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    cloud: &Cloud,
    record: &[u8],
) -> Result<Kept> {
    let within = DoorContext::Backup { id: begun.backup_id };
    let given = pepper(port, &device.key, within, device.client).await?;
    let place = place(port, device.client, begun.backup_id, cloud, given.root);
    let name = cloud.name(&given, begun.backup_id);
    let sealed = cloud::seal_record(&given.pepper, &place, record, &mut port.entropy());
    let mut store = Store::open(port, cloud).await?;
    let read = store.put(cloud.item(begun.backup_id, name), &sealed).await?;
    if !bool::from(read.ct_eq(&sealed)) {
        return Err(Error::CloudRecordDamaged);
    }
    let record = cloud::open_record(&given.pepper, &place, &read).map_err(|_| Error::CloudRecordDamaged)?;
    let account = store
        .account()
        .map(|(account, label)| CloudAccount { tag: Hex(given.pepper.account_tag(account)), hint: mask(label) });
    Ok(Kept { record, made: Made { account, root: given.root, pepper: given.pepper } })
}

/// The record of a backup that counts, inside a recovery or a drill.
pub(crate) async fn open(
    port: &Port,
    key: &DeviceKey,
    within: DoorContext,
    client: ClientId,
    cipher_text: &CipherText,
    cloud: &Cloud,
) -> Result<Zeroizing<Vec<u8>>> {
    must_be_configured(port, cloud)?;
    let given = pepper(port, key, within, client).await?;
    let place = place(port, client, cipher_text.backup_id, cloud, given.root);
    let mut store = Store::open(port, cloud).await?;
    if let (Some(known), Some((account, _))) = (&given.account, store.account()) {
        let same = given.pepper.account_tag(account).ct_eq(known.tag.as_slice());
        if !bool::from(same) {
            return Err(Error::AccountMismatch { hint: shown(&known.hint) });
        }
    }
    let (mut newer, mut damaged) = (false, false);
    for sealed in store.get(&cloud.name(&given, place.backup)).await? {
        match cloud::open_record(&given.pepper, &place, &sealed) {
            Ok(record) => return Ok(record),
            Err(OpenError::UnknownMagic) if sealed.starts_with(b"HKL") => newer = true,
            Err(_) => damaged = true,
        }
    }
    match (newer, damaged) {
        (true, _) => Err(Error::UpgradeRequired),
        (false, true) => Err(Error::CloudRecordDamaged),
        (false, false) => Err(missing(&given, &place, &mut store).await?),
    }
}

/// The cloud was read to its end and has no record of the backup that the server gave. If it has one of a newer backup,
/// the server gave an outdated one.
async fn missing(given: &Given, place: &Place, store: &mut Store<'_>) -> Result<Error> {
    let mut newest: Option<BackupId> = None;
    for sealed in store.others(&cloud::name_prefix(given.root)).await? {
        newest = newest.max(cloud::witness(&given.pepper, place, &sealed).ok());
    }
    // The ids are of version 7: they are in the order in which the backups were begun.
    Ok(match newest.filter(|newest| *newest > place.backup) {
        Some(want) => Error::Rollback { have: place.backup, want },
        None => Error::CloudRecordNotFound,
    })
}

fn place(port: &Port, client: ClientId, backup: BackupId, cloud: &Cloud, root: RootId) -> Place {
    let (method, member) = (cloud.method.clone(), cloud.member.clone());
    Place { deployment: port.setting.deployment.id(), client, backup, method, member, root }
}

/// After the receipt: the records of backups that count no more are deleted, as far as that succeeds. Those that this
/// device made stay noted until it does. And what the user has said of iCloud Keychain is said of the new record.
pub(crate) async fn committed(port: &Port, cloud: &Cloud, made: &Made, counts: BackupId, before: Option<BackupId>) {
    if cloud.kind == Kind::ICloud && port.setting.icloud_config().is_some_and(|config| config.user_confirmed_sync) {
        let _ = confirm_sync(port, &cloud.method).await;
    }
    let own = before.map(|backup| cloud.item(backup, cloud.name_under(&made.pepper, made.root, backup)));
    let _ = forget(port, cloud, Some(counts), own).await;
}

/// Deletes the noted records of a method, but for that of the backup that counts.
async fn forget(port: &Port, cloud: &Cloud, counts: Option<BackupId>, more: Option<CloudItem>) -> Result<()> {
    let device = device::current(port).await?;
    let more = more.filter(|more| !device.clouds.iter().any(|noted| cloud.has(noted) && noted.backup == more.backup));
    let noted = device.clouds.into_iter().chain(more);
    let over: Vec<_> = noted.filter(|item| cloud.has(item) && Some(item.backup) != counts).collect();
    if over.is_empty() {
        return Ok(());
    }
    let mut store = Store::open(port, cloud).await?.once();
    for item in over {
        store.delete(&item).await?;
        device::update(port, move |device| device.clouds.retain(|noted| *noted != item)).await?;
    }
    Ok(())
}

/// This device gives a backup up before its commit was asked for: its record goes, as far as that succeeds.
pub(crate) async fn discard(port: &Port, cloud: &Cloud, backup: BackupId) {
    let delete = async {
        let device = device::current(port).await?;
        let noted = device.clouds.into_iter().find(|item| cloud.has(item) && item.backup == backup);
        let Some(item) = noted else { return Ok(()) };
        Store::open(port, cloud).await?.once().delete(&item).await?;
        device::update(port, move |device| device.clouds.retain(|noted| *noted != item)).await
    };
    let _: Result<()> = delete.await;
}

/// The record of a method that is about to be removed; nobody gets its name from the server afterwards.
pub(crate) async fn before_removal(port: &Port, cloud: &Cloud) -> Option<CloudItem> {
    let name = async {
        must_be_configured(port, cloud)?;
        let device = device::current(port).await?;
        let call = Call::new(port, "POST", route::VERIFICATIONS.to_owned()).signed(&device.key);
        let begun: VerificationBegun = call.json(&BeginVerification { method: cloud.method.clone() })?.fetch().await?;
        let within = DoorContext::Verification { id: begun.verification_id };
        let given = pepper(port, &device.key, within, device.client).await?;
        let name = cloud.name(&given, begun.backup_id);
        Ok(cloud.item(begun.backup_id, name))
    };
    let named: Result<_> = name.await;
    named.ok()
}

/// After a removal: every record of the method goes, as far as that succeeds.
pub(crate) async fn after_removal(port: &Port, cloud: &Cloud, item: Option<CloudItem>) {
    let _ = forget(port, cloud, None, item).await;
}

/// Says that the user has confirmed that iCloud Keychain is on, of every backup with something in it.
pub(crate) async fn confirm_icloud(port: &Port) -> Result<()> {
    let methods = status::backup_status(port).await?.methods;
    let with_it = |one: &MethodStatus| one.method.needs(&Method::ICloud) && one.completed_at.is_some();
    let methods: Vec<Method> = methods.into_iter().filter(with_it).map(|one| one.method).collect();
    if methods.is_empty() {
        return Err(Error::NotBackedUp);
    }
    for method in &methods {
        confirm_sync(port, method).await?;
    }
    Ok(())
}

async fn confirm_sync(port: &Port, method: &Method) -> Result<()> {
    let device = device::current(port).await?;
    let path = path(route::SYNC_CONFIRMATION, &[&method.name()]);
    Call::new(port, "POST", path).signed(&device.key).send().await.map(|_| ())
}

/// The pepper, sealed to this very request by the pinned server.
async fn pepper(port: &Port, key: &DeviceKey, within: DoorContext, client: ClientId) -> Result<Given> {
    let deployment = &port.setting.deployment;
    let aad = pepper_aad(deployment.id(), client, &key.public().to_bytes(), within.subject());
    let sealed = hpke::Request::seal(&deployment.server_hpke(), PEPPER_INFO, &aad, b"", &mut port.entropy());
    let (request, answer_key) = sealed.map_err(|_| Error::InvalidDescriptor)?;
    let body = PepperRequest { within, request: Base64(request) };
    let call = Call::new(port, "POST", route::CLOUD_PEPPER.to_owned()).signed(key);
    let given: PepperGiven = call.json(&body)?.fetch().await?;
    let wrong = || Error::PeerMisbehaved { what: "PEPPER" };
    let contents = answer_key.open_answer(PEPPER_ANSWER, &given.sealed.0).map_err(|_| wrong())?;
    if cbor::version(&contents).map_err(|_| wrong())? != PEPPER_VERSION {
        return Err(Error::UpgradeRequired);
    }
    let contents = PepperContents::from_bytes(&contents).map_err(|_| wrong())?;
    let pepper = Pepper::from_bytes(Zeroizing::new(*contents.pepper));
    Ok(Given { root: contents.root, pepper, account: contents.account.clone() })
}

/// The kinds of places for sealed records: the same verbs, and the same contract.
enum Store<'a> {
    Drive(Drive<'a>),
    Synced(&'a Port),
    /// The app's own method of this name.
    Custom(&'a Port, &'a str),
}

impl<'a> Store<'a> {
    async fn open(port: &'a Port, cloud: &'a Cloud) -> Result<Self> {
        Ok(match &cloud.kind {
            Kind::GoogleDrive => Self::Drive(Drive::open(port).await?),
            Kind::ICloud => Self::Synced(port),
            Kind::Custom(name) => Self::Custom(port, name),
        })
    }

    fn once(self) -> Self {
        match self {
            Self::Drive(drive) => Self::Drive(drive.once()),
            other => other,
        }
    }

    /// The account's stable id and its label, where the cloud tells them.
    fn account(&self) -> Option<(&str, &str)> {
        match self {
            Self::Drive(drive) => Some((&drive.token().account, &drive.token().label)),
            Self::Synced(_) | Self::Custom(..) => None,
        }
    }

    /// Stores a new record, noted on this device before it is made, and reads it back.
    async fn put(&mut self, mut item: CloudItem, sealed: &[u8]) -> Result<Vec<u8>> {
        let name = item.name.clone();
        let records = match self {
            Self::Drive(drive) => {
                let id = drive.generate_id().await?;
                item.file = Some(id.clone());
                note(drive.port(), item).await?;
                drive.create(&id, &name, sealed).await?;
                drive.read(&id).await?.into_iter().collect()
            }
            Self::Synced(port) => {
                note(port, item).await?;
                port.synced_put(&name, sealed.to_vec()).await?;
                port.synced_get(&name).await?
            }
            Self::Custom(port, method) => {
                note(port, item).await?;
                port.custom_put(method, &name, sealed.to_vec()).await?;
                port.custom_get(method, &name).await?
            }
        };
        let found = records.iter().find(|record| record.as_slice() == sealed).or(records.first());
        found.cloned().ok_or(Error::CloudRecordNotFound)
    }

    /// Every record of that name, after a complete listing.
    async fn get(&mut self, name: &str) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Drive(drive) => {
                let mut records = Vec::new();
                for file in drive.list(Some(name)).await? {
                    records.extend(drive.read(&file.id).await?);
                }
                Ok(records)
            }
            Self::Synced(port) => port.synced_get(name).await,
            Self::Custom(port, method) => port.custom_get(method, name).await,
        }
    }

    /// Records whose names begin so, at most [`MAX_WITNESSES`].
    async fn others(&mut self, prefix: &str) -> Result<Vec<Vec<u8>>> {
        let mut records = Vec::new();
        match self {
            Self::Drive(drive) => {
                let files = drive.list(None).await?.into_iter().filter(|file| file.name.starts_with(prefix));
                for file in files.take(MAX_WITNESSES) {
                    records.extend(drive.read(&file.id).await?);
                }
            }
            Self::Synced(port) => {
                let names = port.synced_list(prefix).await?;
                for name in names.iter().filter(|name| name.starts_with(prefix)).take(MAX_WITNESSES) {
                    records.extend(port.synced_get(name).await?);
                }
            }
            Self::Custom(port, method) => {
                let names = port.custom_list(method, prefix).await?;
                for name in names.iter().filter(|name| name.starts_with(prefix)).take(MAX_WITNESSES) {
                    records.extend(port.custom_get(method, name).await?);
                }
            }
        }
        Ok(records)
    }

    async fn delete(&mut self, item: &CloudItem) -> Result<()> {
        match self {
            Self::Drive(drive) => {
                if let Some(file) = &item.file {
                    return drive.delete(file).await;
                }
                for file in drive.list(Some(&item.name)).await? {
                    drive.delete(&file.id).await?;
                }
                Ok(())
            }
            Self::Synced(port) => port.synced_delete(&item.name).await,
            Self::Custom(port, method) => port.custom_delete(method, &item.name).await,
        }
    }
}

async fn note(port: &Port, item: CloudItem) -> Result<()> {
    device::update(port, move |device| device.clouds.push(item)).await
}

/// A label that its owner recognises and nobody else reads: `a…@example.com`.
fn mask(label: &str) -> String {
    let label: String = label.trim().chars().filter(|c| !c.is_control()).collect();
    let first = label.chars().next().map_or_else(|| "?".to_owned(), |first| first.to_string());
    let masked = match label.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() => format!("{first}…@{domain}"),
        _ => format!("{first}…"),
    };
    masked.chars().take(MAX_ACCOUNT_HINT).collect()
}

/// What another device stated, as it may be shown.
fn shown(hint: &str) -> String {
    hint.chars().filter(|c| !c.is_control()).take(MAX_ACCOUNT_HINT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_masked() {
        for (label, masked) in [
            ("alice@example.com", "a…@example.com"),
            ("  Bob Smith\n", "B…"),
            ("@example.com", "@…"),
            ("", "?…"),
            ("a@b@c.example", "a…@c.example"),
            ("\u{7}x", "x…"),
        ] {
            assert_eq!(mask(label), masked, "{label:?}");
        }
        assert_eq!(mask(&format!("a@{}", "b".repeat(100))).chars().count(), MAX_ACCOUNT_HINT);
        assert_eq!(shown("a\u{1b}[31m\nb").as_str(), "a[31mb");
    }
}
