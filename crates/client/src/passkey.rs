//! Passkey backups (METHODS.md C): which passkeys, which mode, what is asked of the user, and the stanza.

mod set;

use std::sync::Arc;

use halfkey_api::message::{CipherText, DoorContext};
use halfkey_envelope::{
    entropy::random,
    id::{BackupId, ClientId},
    passkey::{
        Assertion, AuthenticatorData, ClientData, Context, Error as StanzaError, Fault, Mode, NewCredential, Op, Prf,
        PrfOutput, Registration, Release, SealParams, Stanza, prf_input, seal,
    },
    wallet::Method,
};
use halfkey_protocol::DeviceKey;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) use self::set::PasskeySet;
#[cfg(test)]
pub(crate) use self::set::tests::sample as sample_set;
use self::set::{Passkey, Unusable};
use crate::{
    command::{PasskeyBackup, PasskeyChange, PasskeyInfo, PasskeyList},
    device::{self, Device},
    error::{Error, Result},
    host::{self, CredentialRef, PasskeyCreate, PasskeyCreated, PasskeyError, PasskeyGet, PasskeyGot},
    keeper,
    platform::PasskeyConfig,
    port::Port,
    status,
};

/// What a credential computed.
type Computed = (Vec<u8>, Arc<PrfOutput>);

/// What one passkey backup will be: whose passkeys open it, and what has to be asked.
pub(crate) struct Plan {
    mode: Mode,
    config: PasskeyConfig,
    kept: Vec<Passkey>,
    makes_one: bool,
    quiet: Option<Quiet>,
}

/// What a backup without a prompt needs.
enum Quiet {
    /// Nothing: it is sealed to the keeper for the same passkeys.
    Keeper,
    /// What the one passkey gave a moment ago, for this salt.
    Prf { salt: [u8; 32], id: Vec<u8>, output: Arc<PrfOutput> },
    /// Each of several passkeys would have to compute its secret anew.
    Impossible,
}

/// A sealed stanza, and what is known of it.
pub(crate) struct Made {
    pub(crate) stanza: Vec<u8>,
    pub(crate) set: PasskeySet,
    /// The passkeys that may open it for the first time, and what they gave before.
    openers: Vec<CredentialRef>,
    output: Option<Computed>,
    is_quiet: bool,
}

/// A stanza that was opened, and what a fresh backup needs of it.
pub(crate) struct OpenedStanza {
    pub(crate) record: Zeroizing<Vec<u8>>,
    pub(crate) set: PasskeySet,
    quiet: Quiet,
}

fn config(port: &Port) -> Result<PasskeyConfig> {
    port.setting.passkey_config().ok_or(Error::HostIncomplete { what: "PasskeyConfig" })
}

fn context(port: &Port, client: ClientId, backup: BackupId) -> Context {
    Context { deployment: port.setting.deployment.id(), client, backup }
}

/// The client's active backup by passkeys, or by a set with them, as the server tells.
async fn active(port: &Port, method: &Method) -> Result<Option<BackupId>> {
    let methods = status::backup_status(port).await?.methods;
    let passkey = methods.into_iter().find(|one| one.method == *method && one.status == "completed");
    Ok(passkey.and_then(|one| one.backup_id))
}

/// The passkeys of the active backup. Another device may have made it: then a passkey has to open it first.
fn known(device: &Device, active: Option<BackupId>) -> Result<&PasskeySet> {
    let active = active.ok_or(Error::NotBackedUp)?;
    device.passkeys.iter().find(|set| set.backup == active).ok_or(Error::PasskeysUnknown)
}

/// The passkeys of this client's backup.
pub(crate) async fn list(port: &Port) -> Result<PasskeyList> {
    let device = device::current(port).await?;
    let set = known(&device, active(port, &Method::Passkey).await?)?;
    let info = |passkey: &Passkey| PasskeyInfo {
        id: passkey.id.clone(),
        name: passkey.name.clone(),
        synced: passkey.synced.into(),
        created_at: passkey.created_at,
    };
    Ok(PasskeyList {
        backup_id: set.backup,
        mode: set.mode,
        relying_party_id: set.rp_id.clone(),
        device_bound: set.is_device_bound(),
        passkeys: set.passkeys.iter().map(info).collect(),
    })
}

/// What a wished-for backup by passkeys, or by a set with them, comes to. Nothing was asked of the user or changed yet.
pub(crate) async fn plan(port: &Port, wish: &PasskeyBackup, method: &Method) -> Result<Plan> {
    let config = config(port)?;
    let device = device::current(port).await?;
    let active = active(port, method).await?;
    let set = match (&wish.change, known(&device, active)) {
        (_, Ok(set)) => Some(set),
        (PasskeyChange::Remove(_), Err(error)) => return Err(error),
        (_, Err(Error::NotBackedUp)) | (PasskeyChange::Replace, Err(_)) => None,
        (_, Err(error)) => return Err(error),
    };
    let mode = wish.mode.or(set.map(|set| set.mode)).unwrap_or(Mode::Keeper);
    if mode.has_keeper() {
        keeper::pinned(port)?;
    }
    let (kept, makes_one) = match (&wish.change, set) {
        (PasskeyChange::Replace, _) | (_, None) => (Vec::new(), true),
        (_, Some(set)) if set.rp_id != config.relying_party_id => return Err(Error::PasskeysUnknown),
        (PasskeyChange::Keep, Some(set)) => (set.passkeys.clone(), false),
        (PasskeyChange::Add, Some(set)) => (set.passkeys.clone(), true),
        (PasskeyChange::Remove(id), Some(set)) => (without(set, id)?, false),
    };
    Ok(Plan { mode, config, kept, makes_one, quiet: None })
}

fn without(set: &PasskeySet, id: &[u8]) -> Result<Vec<Passkey>> {
    let kept: Vec<_> = set.passkeys.iter().filter(|passkey| passkey.id != id).cloned().collect();
    match (kept.len(), set.passkeys.len()) {
        (left, all) if left == all => Err(Error::UnknownPasskey),
        (0, _) => Err(Error::LastPasskey),
        _ => Ok(kept),
    }
}

impl Plan {
    /// The checks that need nobody, before anything is begun.
    pub(crate) async fn check(&self, port: &Port, device: &Device) -> Result<()> {
        if matches!(self.quiet, Some(Quiet::Impossible)) {
            return Err(Error::PromptNeeded);
        }
        if self.mode.has_keeper() { keeper::must_be_trusted(port, device).await } else { Ok(()) }
    }

    /// Asks the user for what is needed, and seals the record.
    pub(crate) async fn seal(&self, port: &Port, client: ClientId, backup: BackupId, record: &[u8]) -> Result<Made> {
        let salt = match &self.quiet {
            Some(Quiet::Prf { salt, .. }) => *salt,
            _ => *random::<32>(&mut port.entropy()),
        };
        let mut passkeys = self.kept.clone();
        let mut outputs = Vec::new();
        let mut newest = None;
        if self.makes_one {
            let (passkey, output) = self.create(port, &salt).await?;
            newest = Some(passkey.clone());
            outputs.extend(output.map(|output| (passkey.id.clone(), Arc::new(output))));
            passkeys.push(passkey);
        }
        // The passkey that will open the stanza gives its output once more then.
        let last = passkeys.last().ok_or(Error::Internal)?.clone();
        if self.mode.has_prf() {
            match &self.quiet {
                Some(Quiet::Prf { id, output, .. }) => outputs.push((id.clone(), Arc::clone(output))),
                _ => {
                    for passkey in &passkeys {
                        self.compute(port, passkey, &salt, passkey.id != last.id, &mut outputs).await?;
                    }
                }
            }
        }
        let set = PasskeySet { backup, mode: self.mode, rp_id: self.config.relying_party_id.clone(), passkeys };
        let credentials: Vec<_> = set.passkeys.iter().map(Passkey::credential).collect();
        let given: Vec<_> = outputs.iter().map(|(id, output)| (id.as_slice(), &**output)).collect();
        let params = SealParams {
            mode: self.mode,
            context: context(port, client, backup),
            rp_id: &set.rp_id,
            origins: &self.config.relying_party_origins,
            credentials: &credentials,
            keeper: if self.mode.has_keeper() { Some(keeper::pinned(port)?) } else { None },
            prf: self.mode.has_prf().then_some(Prf { salt, outputs: &given }),
        };
        let inside = set::to_inside(record, &set);
        let stanza = seal(&params, &inside, &mut port.entropy()).map_err(unsealable)?;
        let openers = match (&newest, self.mode.has_prf()) {
            (Some(newest), _) => vec![newest.reference()],
            (None, true) => vec![last.reference()],
            (None, false) => set.passkeys.iter().map(Passkey::reference).collect(),
        };
        let output = outputs.into_iter().find(|(id, _)| *id == last.id);
        Ok(Made { stanza, set, openers, output, is_quiet: self.quiet.is_some() })
    }

    /// Makes a passkey. What its authenticator computes at creation counts only if a `get()` gives the same.
    async fn create(&self, port: &Port, salt: &[u8; 32]) -> Result<(Passkey, Option<PrfOutput>)> {
        let challenge = *random::<32>(&mut port.entropy());
        let (rp_id, origins) = (&self.config.relying_party_id, &self.config.relying_party_origins);
        let request = PasskeyCreate {
            rp_id: rp_id.clone(),
            rp_name: rp_id.clone(),
            // A handle of its own: an authenticator replaces a passkey of the same handle, and nothing may be replaced
            // before the new backup is proven.
            user_handle: *random::<32>(&mut port.entropy()),
            user_name: self.config.user_name.clone(),
            challenge,
            exclude: self.kept.iter().map(Passkey::reference).collect(),
            prf: self.mode.has_prf().then(|| prf_input(salt)),
        };
        let created: PasskeyCreated = sheet(port, port.passkey_create(request).await?).await?;
        let registration = Registration {
            credential_id: created.credential_id,
            attestation_object: created.attestation_object,
            client_data_json: created.client_data_json,
            transports: created.transports,
        };
        let new = NewCredential::from_registration(&registration, &challenge, rp_id, origins).map_err(refused)?;
        let output = match (self.mode.has_prf(), created.prf) {
            (true, None) if !created.prf_enabled => return Err(Error::PrfUnsupported),
            (true, Some(output)) => Some(usable(&output)?),
            _ => None,
        };
        let passkey = Passkey {
            id: new.credential.id,
            key: new.credential.key,
            backup_eligible: new.credential.backup_eligible.into(),
            synced: new.backed_up.into(),
            transports: new.credential.transports,
            name: port.setting.device_name.clone(),
            created_at: port.now().await?,
        };
        Ok((passkey, output))
    }

    /// What this passkey computes for the salt: twice the same, unless the opening of the stanza will be the second
    /// time.
    async fn compute(
        &self,
        port: &Port,
        passkey: &Passkey,
        salt: &[u8; 32],
        twice: bool,
        outputs: &mut Vec<Computed>,
    ) -> Result<()> {
        let mut have = outputs.iter().filter(|(id, _)| *id == passkey.id).count();
        while have < 1 + usize::from(twice) {
            let challenge = *random::<32>(&mut port.entropy());
            let allow = vec![passkey.reference()];
            let got = get(port, &self.config, challenge, allow, Some(prf_input(salt))).await?;
            let output = usable(got.prf.as_ref().ok_or(Error::PrfUnsupported)?)?;
            match outputs.iter().find(|(id, _)| *id == passkey.id) {
                Some((_, before)) => must_be_same(before, &output)?,
                None => outputs.push((passkey.id.clone(), Arc::new(output))),
            }
            have += 1;
        }
        Ok(())
    }
}

impl Made {
    /// Opens the new stanza once, by the whole way of a recovery (DECISIONS.md D32). `None` where the backup is a quiet
    /// one: that would prompt.
    pub(crate) async fn open_once(
        &mut self,
        port: &Port,
        key: &DeviceKey,
        client: ClientId,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let backup = self.set.backup;
        if self.is_quiet {
            // Without a keeper in it, the stanza opens here and now.
            let Some((id, output)) = self.output.as_ref().filter(|_| self.set.mode == Mode::Prf) else {
                return Ok(None);
            };
            let stanza = Stanza::parse(&self.stanza).map_err(damaged)?;
            let given = Some((id.as_slice(), &**output));
            let inside = stanza.open(&context(port, client, backup), None, given).map_err(damaged)?;
            return self.record_in(&inside).map(Some);
        }
        let door = Door { port, key, within: DoorContext::Backup { id: backup }, op: Op::Backup };
        let opening = door.open(context(port, client, backup), &self.stanza, Some(&self.openers)).await?;
        if let (Some((_, before)), Some((_, again))) = (&self.output, &opening.prf) {
            must_be_same(before, again)?;
        }
        let record = self.record_in(&opening.inside)?;
        self.set.saw(&opening.used, opening.synced);
        Ok(Some(record))
    }

    /// What came out must be what went in.
    fn record_in(&self, inside: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match set::from_inside(inside) {
            Ok((record, set)) if set == self.set => Ok(record),
            _ => Err(Error::PeerMisbehaved { what: "RECORD" }),
        }
    }
}

/// Opens the stanza of a backup that counts, inside a recovery or a drill.
pub(crate) async fn open(
    port: &Port,
    key: &DeviceKey,
    within: DoorContext,
    client: ClientId,
    cipher_text: &CipherText,
) -> Result<OpenedStanza> {
    let stanza = &cipher_text.sealed_record.as_ref().ok_or(Error::PeerMisbehaved { what: "SEALED_RECORD" })?.0;
    let op = if matches!(within, DoorContext::Recovery { .. }) { Op::Recover } else { Op::Verify };
    let door = Door { port, key, within, op };
    let opening = door.open(context(port, client, cipher_text.backup_id), stanza, None).await?;
    let (record, mut set) = set::from_inside(&opening.inside).map_err(|unusable| match unusable {
        Unusable::NewerVersion => Error::UpgradeRequired,
        Unusable::Malformed => Error::PeerMisbehaved { what: "RECORD" },
    })?;
    let listed = set.passkeys.iter().map(|passkey| &passkey.id).eq(opening.listed.iter());
    if set.backup != cipher_text.backup_id || !listed {
        return Err(Error::PeerMisbehaved { what: "RECORD" });
    }
    set.saw(&opening.used, opening.synced);
    let quiet = match (opening.salt, opening.prf) {
        (Some(salt), Some((id, output))) if set.passkeys.len() == 1 => Quiet::Prf { salt, id, output },
        (Some(_), _) => Quiet::Impossible,
        (None, _) => Quiet::Keeper,
    };
    Ok(OpenedStanza { record, set, quiet })
}

impl OpenedStanza {
    /// The plan of a fresh backup for the same passkeys without a prompt, and the record that was inside.
    pub(crate) fn into_plan(self, port: &Port) -> Result<(Zeroizing<Vec<u8>>, PasskeySet, Plan)> {
        let Self { record, set, quiet } = self;
        let plan = Plan {
            mode: set.mode,
            config: config(port)?,
            kept: set.passkeys.clone(),
            makes_one: false,
            quiet: Some(quiet),
        };
        Ok((record, set, plan))
    }
}

/// The way to one stanza's record.
struct Door<'a> {
    port: &'a Port,
    key: &'a DeviceKey,
    within: DoorContext,
    op: Op,
}

/// What the way to a record gave.
struct Opening {
    inside: Zeroizing<Vec<u8>>,
    listed: Vec<Vec<u8>>,
    used: Vec<u8>,
    synced: bool,
    salt: Option<[u8; 32]>,
    prf: Option<Computed>,
}

impl Door<'_> {
    /// One prompt: the same `get()` is shown to the keeper and gives the PRF output.
    async fn open(&self, context: Context, bytes: &[u8], allow: Option<&[CredentialRef]>) -> Result<Opening> {
        let (port, config) = (self.port, config(self.port)?);
        let stanza = Stanza::parse(bytes).map_err(damaged)?;
        let header = stanza.header();
        if header.rp_id != config.relying_party_id {
            return Err(Error::OtherRelyingParty { relying_party_id: header.rp_id.clone() });
        }
        // The request is sealed to the pinned key, whatever the stanza names: the keeper that has that key has the ones
        // before it too, so what was sealed before a rotation opens after it.
        let release = match header.mode.has_keeper() {
            true => {
                let (key_id, public_key) = keeper::pinned(port)?;
                let keeper = (key_id, &public_key);
                Some(Release::begin(keeper, self.op, bytes, &context, &mut port.entropy()).map_err(damaged)?)
            }
            false => None,
        };
        let challenge = match &release {
            Some(release) => *release.challenge(),
            None => *random::<32>(&mut port.entropy()),
        };
        let listed = header.credentials.iter();
        let all = listed.map(|one| CredentialRef { id: one.id.clone(), transports: one.transports.clone() });
        let allow = allow.map_or_else(|| all.collect(), <[_]>::to_vec);
        let got = get(port, &config, challenge, allow, header.prf_salt.as_ref().map(prf_input)).await?;
        let synced = AuthenticatorData::parse(&got.authenticator_data).map_err(refused)?.backed_up;
        let prf = match (header.prf_salt, &got.prf) {
            (Some(_), Some(output)) => Some((got.credential_id.clone(), Arc::new(usable(output)?))),
            (Some(_), None) => return Err(Error::PrfUnsupported),
            (None, _) => None,
        };
        let used = got.credential_id.clone();
        let part = match release {
            Some(release) => Some(self.release(release, got).await?),
            None => None,
        };
        let given = prf.as_ref().map(|(id, output)| (id.as_slice(), &**output));
        let inside = stanza.open(&context, part.as_ref(), given).map_err(|error| match error {
            // The keeper's part is authentic: what does not open is the passkey's.
            StanzaError::DoesNotOpen if prf.is_some() => Error::PrfDiffers,
            error => damaged(error),
        })?;
        let listed = header.credentials.iter().map(|one| one.id.clone()).collect();
        Ok(Opening { inside, listed, used, synced, salt: header.prf_salt, prf })
    }

    /// Shows the assertion to the keeper. The one-time key is wiped with the answer, or with the failure to get one.
    async fn release(&self, release: Release, got: PasskeyGot) -> Result<halfkey_envelope::all_of::Part> {
        let assertion = Assertion {
            credential_id: got.credential_id,
            authenticator_data: got.authenticator_data,
            client_data_json: got.client_data_json,
            signature: got.signature,
            user_handle: got.user_handle,
        };
        let (frame, pending) = release.request(&assertion).map_err(damaged)?;
        let answer = keeper::relay(self.port, self.key, Some(self.within), frame).await?;
        pending.finish(&answer).map_err(|error| match error {
            StanzaError::Refused(refusal) => Error::KeeperRefused { code: refusal.code() },
            _ => Error::PeerMisbehaved { what: "KEEPER_ANSWER" },
        })
    }
}

/// One use of a passkey, checked as far as the device can: what was asked was signed, by one of those asked for, for
/// this relying party, with the user there and verified.
async fn get(
    port: &Port,
    config: &PasskeyConfig,
    challenge: [u8; 32],
    allow: Vec<CredentialRef>,
    prf: Option<[u8; 32]>,
) -> Result<PasskeyGot> {
    let rp_id = config.relying_party_id.clone();
    let request = PasskeyGet { rp_id, challenge, allow: allow.clone(), prf };
    let got: PasskeyGot = sheet(port, port.passkey_get(request).await?).await?;
    if !allow.iter().any(|allowed| allowed.id == got.credential_id) {
        return Err(refused(Fault::UnknownCredential));
    }
    let client_data = ClientData::parse(&got.client_data_json).map_err(refused)?;
    client_data.check("webauthn.get", &challenge, &config.relying_party_origins).map_err(refused)?;
    let data = AuthenticatorData::parse(&got.authenticator_data).map_err(refused)?;
    data.check(&config.relying_party_id).map_err(refused)?;
    Ok(got)
}

/// What the sheet came to, as advice.
async fn sheet<T>(port: &Port, answer: std::result::Result<T, PasskeyError>) -> Result<T> {
    let error = match answer {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    Err(match error {
        PasskeyError::Cancelled => Error::Cancelled,
        PasskeyError::NoPasskey => Error::NoPasskey { others: others(port).await },
        PasskeyError::NotAvailable => Error::UnsupportedPlatform {
            method: Method::Passkey,
            platform: port.setting.platform.platform,
            alternatives: others(port).await,
        },
        PasskeyError::AlreadyRegistered => Error::PasskeyExists,
        PasskeyError::PrfUnsupported => Error::PrfUnsupported,
        PasskeyError::Failed => Error::PasskeyFailed,
    })
}

/// The other ways into the wallet; what cannot be learnt now is left out.
async fn others(port: &Port) -> Vec<Method> {
    let methods = status::recovery_methods(port).await.unwrap_or_default();
    methods.into_iter().filter(|method| !method.needs(&Method::Passkey)).collect()
}

fn usable(output: &host::PrfOutput) -> Result<PrfOutput> {
    PrfOutput::new(output.expose()).map_err(|_| Error::PrfUnsupported)
}

fn must_be_same(before: &PrfOutput, again: &PrfOutput) -> Result<()> {
    if bool::from(before.ct_eq(again)) { Ok(()) } else { Err(Error::PrfDiffers) }
}

const fn refused(fault: Fault) -> Error {
    Error::PasskeyRefused { code: fault.code() }
}

fn unsealable(error: StanzaError) -> Error {
    match error {
        StanzaError::TooLarge => Error::TooManyPasskeys,
        StanzaError::BadKeeperKey => Error::InvalidDescriptor,
        StanzaError::Parameters(_) => Error::TooManyPasskeys,
        _ => Error::Internal,
    }
}

fn damaged(error: StanzaError) -> Error {
    match error {
        StanzaError::UnknownVersion(_) => Error::UpgradeRequired,
        StanzaError::BadKeeperKey => Error::InvalidDescriptor,
        StanzaError::UnknownCredential => refused(Fault::UnknownCredential),
        _ => Error::PeerMisbehaved { what: "SEALED_RECORD" },
    }
}
