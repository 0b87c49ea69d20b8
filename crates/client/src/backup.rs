//! `backup_wallet`: a new backup pair per curve, its client halves sealed, the key with the method, everything opened
//! once before it counts (METHODS.md A "Order of a backup", DECISIONS.md D32).

use halfkey_api::{
    bytes::{Base64, Hex},
    ceremony::Op,
    message::{
        BackupBegun, BackupReceipt, BeginBackup, CipherText, CommitBackup, CurveProof, DoorContext, MethodKeyStatement,
        PendingBackupPair, StoreCipherText,
    },
    route::{self, path},
};
use halfkey_envelope::{
    FileKey, Record,
    all_of::Part,
    client_share::{self, Contents, CurveHeader, Header},
    door::Mode,
    entropy::random,
    hpke::SecretKey,
    part_record::{self, PartRecord},
    recovery_code::{self, RecoveryCode},
    text,
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    ClientBackupShare, Half, Role, SigningParty,
    reshare::{self, Claim, Dealer, Opened as Dealt, Reshare, Transcript},
};
use minicbor::bytes::ByteArray;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    call::Call,
    ceremony::{Renewal, Session, part, peer},
    cloud::{self, Cloud},
    command::{Backup, BackupMethod, PasswordKind},
    device::{self, Device, KnownBackup, Underway},
    door::Door,
    error::{Error, Result, WeakReason},
    opening::{self, Holder, Opened},
    passkey,
    port::Port,
    progress::Stage,
    secret::CodeText,
};

/// How often a recovery code may be typed back.
const CONFIRMATIONS: usize = 3;

/// Checks first, then the backup.
pub(crate) async fn backup_wallet(port: &Port, method: BackupMethod) -> Result<Backup> {
    let name = method.method();
    port.setting.platform.check(&name)?;
    let holder = match method {
        BackupMethod::AllOf(together) => {
            let (set, members) = together.into_parts();
            let mut holders = Vec::new();
            for member in members {
                holders.push(holder(port, member, &name).await?);
            }
            Holder::AllOf(set, holders)
        }
        single => holder(port, single, &name).await?,
    };
    port.begin(7);
    let backup = make(port, &holder, true).await?;
    port.all_done().await?;
    Ok(backup)
}

/// What will hold the record of a backup by `name`, or a part of it.
async fn holder(port: &Port, method: BackupMethod, name: &Method) -> Result<Holder> {
    Ok(match method {
        BackupMethod::Password { password, kind } => Holder::Password(choose(port, &password, kind)?),
        BackupMethod::RecoveryCode => Holder::Code(RecoveryCode::generate(&mut port.entropy())),
        BackupMethod::Passkey(wish) => Holder::Passkey(Box::new(passkey::plan(port, &wish, name).await?)),
        BackupMethod::GoogleDrive | BackupMethod::ICloud | BackupMethod::Custom(_) => {
            Holder::Cloud(Cloud::of(name, &method.method()).ok_or(Error::Internal)?)
        }
        // A set is no member of a set.
        BackupMethod::AllOf(_) => return Err(Error::Internal),
    })
}

/// The policy is asked of a new password only; never again of one that protects something.
fn choose(port: &Port, password: &crate::secret::Password, kind: PasswordKind) -> Result<text::Password> {
    let parsed = match kind {
        PasswordKind::Password => text::Password::text(password.expose()),
        PasswordKind::Pin => text::Password::pin(password.expose()),
    };
    let password = parsed.map_err(|error| Error::WeakSecret(WeakReason::Unusable(error)))?;
    let checked = password.check(&port.setting.password_policy, &[]);
    checked.map_err(|weakness| Error::WeakSecret(WeakReason::Weak(weakness)))?;
    Ok(password)
}

/// A whole backup. Nothing old is touched before the receipt; what fails before the commit is discarded. With `confirm` a
/// code is shown and typed back.
pub(crate) async fn make(port: &Port, holder: &Holder, confirm: bool) -> Result<Backup> {
    port.stage(Stage::ReadingShare, None).await?;
    let device = device::current(port).await?;
    if device.shares.iter().any(|share| share.banned) {
        return Err(Error::Banned);
    }
    let mut replaced = None;
    for member in holder.members() {
        match member {
            Holder::Passkey(plan) => plan.check(port, &device).await.map_err(holder.blames(member))?,
            Holder::Cloud(cloud) => replaced = cloud::ready(port, cloud).await.map_err(holder.blames(member))?,
            _ => {}
        }
    }
    let begin = BeginBackup { method: holder.method() };
    let call = Call::new(port, "POST", route::BACKUPS.to_owned()).signed(&device.key);
    let begun: BackupBegun = call.json(&begin)?.fetch().await?;
    port.part_done();
    let prepared = match prepare(port, &device, &begun, holder, confirm).await {
        Ok(prepared) => prepared,
        Err(error) => {
            discard(port, &device, &begun, holder).await;
            return Err(error);
        }
    };
    let Prepared { commit, cipher_text, witness, clouds } = prepared;
    let backup = self::commit(port, &device, &begun, holder.method(), commit, cipher_text, witness).await?;
    port.part_done();
    for (cloud, made) in &clouds {
        cloud::committed(port, cloud, made, backup.backup_id, replaced).await;
    }
    Ok(backup)
}

/// What a commit needs: everything was sealed, stored, read back and opened.
struct Prepared {
    commit: CommitBackup,
    cipher_text: Vec<u8>,
    witness: KnownBackup,
    clouds: Vec<(Cloud, cloud::Made)>,
}

/// One member of the method, with what it holds: the record, or of a set its part.
struct Seat<'a> {
    holder: &'a Holder,
    bytes: Zeroizing<Vec<u8>>,
    beside: Beside,
    /// What came back from the member.
    kept: Option<Zeroizing<Vec<u8>>>,
}

/// The file key of a new backup, and of a set its parts.
fn keys(port: &Port, holder: &Holder) -> (FileKey, Vec<Part>) {
    match holder {
        Holder::AllOf(set, _) => part_record::split(set, &mut port.entropy()),
        _ => (FileKey::generate(&mut port.entropy()), Vec::new()),
    }
}

/// What each member is to hold, in the set's order.
fn shared_out(holder: &Holder, record: &Record, parts: Vec<Part>) -> Vec<Zeroizing<Vec<u8>>> {
    match holder {
        Holder::AllOf(set, _) => parts.into_iter().map(|part| PartRecord::new(record, set, part).to_bytes()).collect(),
        _ => vec![record.to_bytes()],
    }
}

/// What lies beside the envelope, and opens it with the method.
enum Beside {
    /// A password's record lies at its door, that of an exit kit in its file.
    Nothing,
    Record(Vec<u8>),
    Stanza(Box<passkey::Made>),
    /// Nothing; what is known of the record in the cloud, once it is there.
    Cloud(Option<Box<cloud::Made>>),
}

impl Beside {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing | Self::Cloud(_) => None,
            Self::Record(bytes) => Some(bytes),
            Self::Stanza(made) => Some(&made.stanza),
        }
    }
}

async fn prepare(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    holder: &Holder,
    confirm: bool,
) -> Result<Prepared> {
    let reshared = reshare_all(port, device, begun).await?;
    port.part_done();

    port.stage(Stage::EncryptingShare, None).await?;
    let header = header(port, device, begun, holder.method(), &reshared)?;
    let (file_key, parts) = keys(port, holder);
    let envelope = seal(port, &file_key, &header, &reshared)?;
    let record = Record::new(&header, file_key, client_share::digest(&envelope));
    let witness = KnownBackup {
        method: holder.method(),
        backup: begun.backup_id,
        generation: begun.generation,
        digest: ByteArray::from(record.envelope_digest),
    };
    let underway = Underway::Backup(witness.clone());
    device::update(port, move |device| device.underway = Some(underway)).await?;
    port.part_done();

    port.stage(Stage::StoringShare, None).await?;
    let mut seats = Vec::new();
    for (member, bytes) in holder.members().iter().zip(shared_out(holder, &record, parts)) {
        let beside = beside(port, device, begun, member, &bytes).await.map_err(holder.blames(member))?;
        seats.push(Seat { holder: member, bytes, beside, kept: None });
    }
    let sealed = seats.iter().find_map(|seat| seat.beside.bytes()).map(<[u8]>::to_vec);
    upload(port, device, begun, &envelope, sealed.as_deref()).await?;
    for seat in &mut seats {
        seat.kept = keep(port, device, begun, seat).await.map_err(holder.blames(seat.holder))?;
    }
    port.part_done();
    for seat in &seats {
        match (seat.holder, confirm) {
            (Holder::Code(code), true) => confirm_code(port, &code.display()).await?,
            (Holder::Exit(making), true) => confirm_code(port, &making.code.display()).await?,
            _ => {}
        }
    }

    port.stage(Stage::DecryptingShare, None).await?;
    let stored = read_back(port, device, begun, &envelope, sealed.as_deref()).await?;
    let mut method_key = MethodKeyStatement::ReadBack;
    let mut kept = Vec::new();
    for seat in &mut seats {
        kept.push(seat.read(port, device, &stored, &mut method_key)?);
    }
    let record = whole_record(port, device, begun, holder, &kept)?;
    let opened = opening::open(&record, &stored)?;
    port.part_done();

    port.stage(Stage::ParsingShare, None).await?;
    let acks = acknowledge(port, device, &reshared, &opened, &stored)?;
    let device_bound =
        seats.iter().any(|seat| matches!(&seat.beside, Beside::Stanza(made) if made.set.is_device_bound()));
    let clouds: Vec<_> = seats.into_iter().filter_map(Seat::into_cloud).collect();
    let commit = CommitBackup {
        envelope_digest: Hex(opened.digest),
        challenge: stored.challenge,
        acks,
        method_key,
        device_bound,
        pin: holder.members().iter().any(is_a_pin),
        cloud_account: clouds.iter().find_map(|(_, made)| made.account.clone()),
    };
    Ok(Prepared { commit, cipher_text: envelope, witness, clouds })
}

fn is_a_pin(holder: &Holder) -> bool {
    matches!(holder, Holder::Password(password) if password.mode() == Mode::Pin)
}

impl Seat<'_> {
    /// What the member holds now, which must be what it was given.
    fn read(
        &mut self,
        port: &Port,
        device: &Device,
        stored: &CipherText,
        method_key: &mut MethodKeyStatement,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let kept = match (self.kept.take(), self.holder) {
            (Some(kept), _) => kept,
            (None, Holder::Code(code)) => opening::record_of_code(port, code, device.client, stored)?,
            (None, Holder::Exit(making)) => making.open()?,
            (None, Holder::Passkey(_)) => {
                *method_key = MethodKeyStatement::Unread;
                self.bytes.clone()
            }
            (None, Holder::Password(_) | Holder::Cloud(_) | Holder::AllOf(..)) => return Err(Error::Internal),
        };
        let same = bool::from(kept.ct_eq(&self.bytes));
        if same { Ok(kept) } else { Err(Error::PeerMisbehaved { what: "RECORD" }) }
    }

    fn into_cloud(self) -> Option<(Cloud, cloud::Made)> {
        match (self.holder, self.beside) {
            (Holder::Cloud(cloud), Beside::Cloud(Some(made))) => Some((cloud.clone(), *made)),
            _ => None,
        }
    }
}

/// The record out of what the members hold: of a set, its parts put together.
fn whole_record(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    holder: &Holder,
    kept: &[Zeroizing<Vec<u8>>],
) -> Result<Record> {
    let (name, client, backup) = (holder.method(), device.client, begun.backup_id);
    let Holder::AllOf(set, _) = holder else {
        let bytes = kept.first().ok_or(Error::Internal)?;
        return opening::parse_record(port, client, backup, &name, bytes);
    };
    let parts = set.members().iter().zip(kept);
    let parse = |(member, bytes): (&Method, &Zeroizing<Vec<u8>>)| {
        opening::parse_part(port, client, backup, &name, member, bytes)
    };
    let parts = parts.map(parse).collect::<Result<Vec<_>>>()?;
    part_record::join(&parts).map_err(|_| Error::PeerMisbehaved { what: "PARTS" })
}

/// One curve's finished reshare.
struct Reshared {
    reshare: Reshare,
    dealt: Dealt<ClientBackupShare>,
    pair: PendingBackupPair,
}

/// (C, S) → (C, K) on every curve; the custodian's acknowledgements are checked against the pinned key.
async fn reshare_all(port: &Port, device: &Device, begun: &BackupBegun) -> Result<Vec<Reshared>> {
    if !begun.pairs.iter().map(|pair| pair.curve).eq(Curve::ALL) {
        return Err(Error::PeerMisbehaved { what: "PAIRS" });
    }
    let mut session = Session::new(port, device.client, &device.key, Op::Backup, *begun.backup_id.as_bytes());
    let (mut dealers, mut commitments) = (Vec::new(), Vec::new());
    for pair in &begun.pairs {
        port.stage(Stage::GeneratingShare, Some(pair.curve)).await?;
        let party = dealing_party(device, pair)?;
        let reshare = context(port, device, begun, pair, &party);
        let one_time = SecretKey::generate(&mut port.entropy());
        let started = Dealer::start(&reshare, party.share(), &device.key, one_time, &mut port.entropy());
        let (dealer, commitment) = started.map_err(peer)?;
        dealers.push((pair.clone(), reshare, dealer));
        commitments.push((pair.curve, commitment));
    }
    let answer = session.step(1, None, commitments).await?;
    let (mut reshared, mut openings) = (Vec::new(), Vec::new());
    for (pair, reshare, dealer) in dealers {
        let deal = part(&answer, pair.curve)?;
        let dealt: Dealt<ClientBackupShare> = dealer.open(deal, &device.key, &mut port.entropy()).map_err(peer)?;
        openings.push((pair.curve, dealt.message.clone()));
        reshared.push(Reshared { reshare, dealt, pair });
    }
    let nonce = *random::<32>(&mut port.entropy());
    let answer = session.step(2, Some(nonce), openings).await?;
    for Reshared { reshare, dealt, pair } in &reshared {
        let ack = part(&answer, pair.curve)?;
        let claim = Claim { role: Role::Peer, envelope: None, nonce: &nonce };
        reshare::verify_ack(reshare, &dealt.transcript, &claim, ack).map_err(peer)?;
    }
    Ok(reshared)
}

/// The server must mean this device's own signing pair.
fn dealing_party(device: &Device, pair: &PendingBackupPair) -> Result<SigningParty> {
    let share = device.share(pair.curve)?;
    if share.pair != pair.from_pair_id || share.wallet != pair.wallet_id {
        return Err(Error::PeerMisbehaved { what: "PAIRS" });
    }
    share.party()
}

fn context(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    pair: &PendingBackupPair,
    party: &SigningParty,
) -> Reshare {
    let op = halfkey_protocol::Op::Backup;
    let renewal = Renewal {
        from: pair.from_pair_id,
        to: pair.pair_id,
        generation: begun.generation,
        server_nonce: begun.nonce.0,
    };
    Reshare { ceremony: renewal.context(port, op, device, pair.curve, pair.wallet_id), old: *party.public() }
}

fn header(port: &Port, device: &Device, begun: &BackupBegun, method: Method, reshared: &[Reshared]) -> Result<Header> {
    let curve = |reshared: &Reshared| {
        let pair = reshared.dealt.transcript.pair();
        CurveHeader {
            curve: reshared.pair.curve,
            wallet: reshared.pair.wallet_id,
            public_key: pair.public_key().to_bytes(),
            chain_code: *pair.chain_code(),
            client_point: pair.client_point().to_bytes(),
            custodian_point: pair.peer_point().to_bytes(),
        }
    };
    let deployment = port.setting.deployment.id();
    let curves = reshared.iter().map(curve).collect();
    Header::new(deployment, device.client, begun.backup_id, begun.generation, method, curves)
        .map_err(|_| Error::Internal)
}

fn seal(port: &Port, key: &FileKey, header: &Header, reshared: &[Reshared]) -> Result<Vec<u8>> {
    let halves = reshared.iter().map(|reshared| (reshared.pair.curve, reshared.dealt.half.to_bytes()));
    let contents = Contents::new(halves).map_err(|_| Error::Internal)?;
    client_share::seal(key, header, &contents, &mut port.entropy()).map_err(|_| Error::Internal)
}

/// Seals the record for a method that keeps it beside the envelope; asks the user for what that needs.
async fn beside(port: &Port, device: &Device, begun: &BackupBegun, holder: &Holder, record: &[u8]) -> Result<Beside> {
    match holder {
        Holder::Password(_) | Holder::AllOf(..) => Ok(Beside::Nothing),
        Holder::Cloud(_) => Ok(Beside::Cloud(None)),
        Holder::Code(code) => {
            let place = opening::code_place(port, device.client, begun.backup_id);
            Ok(Beside::Record(recovery_code::seal_record(code, place, record, &mut port.entropy())))
        }
        Holder::Exit(making) => {
            making.seal(port, opening::code_place(port, device.client, begun.backup_id), record);
            Ok(Beside::Nothing)
        }
        Holder::Passkey(plan) => {
            let made = plan.seal(port, device.client, begun.backup_id, record).await?;
            remember(port, &made).await?;
            Ok(Beside::Stanza(Box::new(made)))
        }
    }
}

/// If this backup counts in the end, this device knows whose passkeys open it, whatever happens in between.
async fn remember(port: &Port, made: &passkey::Made) -> Result<()> {
    let set = made.set.clone();
    device::update(port, move |device| device.remember_passkeys(set)).await
}

async fn upload(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    envelope: &[u8],
    sealed_record: Option<&[u8]>,
) -> Result<()> {
    let sealed_record = sealed_record.map(|bytes| Base64(bytes.to_vec()));
    let body = StoreCipherText { cipher_text: Base64(envelope.to_vec()), sealed_record };
    let path = path(route::BACKUP_CIPHER_TEXT, &[&begun.backup_id.to_string()]);
    Call::new(port, "PUT", path).signed(&device.key).json(&body)?.send().await.map(|_| ())
}

/// Gives the record to a method that keeps it elsewhere, and gets it back by the whole way of a recovery. `None` where
/// the record is opened later, or cannot be without a prompt.
async fn keep(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    seat: &mut Seat<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match (seat.holder, &mut seat.beside) {
        (Holder::Password(password), _) => {
            let within = DoorContext::Backup { id: begun.backup_id };
            let door = Door::new(port, &device.key, within, device.client, begun.backup_id)?;
            let token = door.register(password, &seat.bytes).await?;
            door.open_known(password, &token).await.map(Some)
        }
        (Holder::Cloud(at), Beside::Cloud(known)) => {
            let cloud::Kept { record, made } = cloud::keep(port, device, begun, at, &seat.bytes).await?;
            *known = Some(Box::new(made));
            Ok(Some(record))
        }
        (_, Beside::Stanza(made)) => {
            let kept = made.open_once(port, &device.key, device.client).await?;
            remember(port, made).await?;
            Ok(kept)
        }
        _ => Ok(None),
    }
}

/// Shows a code once, and has it typed back.
async fn confirm_code(port: &Port, code: &Zeroizing<String>) -> Result<()> {
    for attempt in 0..CONFIRMATIONS {
        let typed = CodeText::from(port.confirm_recovery_code(code.clone(), attempt > 0).await?);
        let same = opening::parse_code(&typed).is_ok_and(|typed| *typed.display() == **code);
        if same {
            return Ok(());
        }
    }
    Err(Error::NotConfirmed)
}

/// The envelope as the server stored it must be the one that was uploaded, byte for byte, and so what lies beside it.
async fn read_back(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    envelope: &[u8],
    beside: Option<&[u8]>,
) -> Result<CipherText> {
    let path = path(route::BACKUP_CIPHER_TEXT, &[&begun.backup_id.to_string()]);
    let stored: CipherText = Call::get(port, &path).signed(&device.key).fetch().await?;
    let sealed_record = stored.sealed_record.as_ref().map(|bytes| bytes.0.as_slice());
    let same = stored.backup_id == begun.backup_id && stored.cipher_text.0 == envelope && sealed_record == beside;
    if same { Ok(stored) } else { Err(Error::PeerMisbehaved { what: "ENVELOPE" }) }
}

/// One acknowledgement per curve, **from the half that was read back**, over the envelope's digest.
fn acknowledge(
    port: &Port,
    device: &Device,
    reshared: &[Reshared],
    opened: &Opened,
    stored: &CipherText,
) -> Result<Vec<CurveProof>> {
    let ack = |(reshared, opened_half): (&Reshared, &opening::OpenedHalf)| {
        let transcript: &Transcript = &reshared.dealt.transcript;
        if opened_half.pair != reshared.pair.pair_id || opened_half.public != *transcript.pair() {
            return Err(Error::PeerMisbehaved { what: "PAIRS" });
        }
        let claim = Claim { role: Role::Client, envelope: Some(&opened.digest), nonce: &stored.challenge.0 };
        let (reshare, half) = (&reshared.reshare, &opened_half.half);
        let ack = reshare::ack(reshare, transcript, &claim, &device.key, half, &mut port.entropy());
        Ok(CurveProof { curve: opened_half.curve, proof: Base64(ack.map_err(peer)?) })
    };
    reshared.iter().zip(&opened.halves).map(ack).collect()
}

/// After this call the new backup counts, or the old one still does; `resume` finds out which if the answer is lost.
async fn commit(
    port: &Port,
    device: &Device,
    begun: &BackupBegun,
    method: Method,
    commit: CommitBackup,
    cipher_text: Vec<u8>,
    witness: KnownBackup,
) -> Result<Backup> {
    let path = path(route::BACKUP_COMMIT, &[&begun.backup_id.to_string()]);
    let receipt: BackupReceipt = Call::new(port, "POST", path).signed(&device.key).json(&commit)?.fetch().await?;
    let same = receipt.client_id == device.client
        && receipt.backup_id == begun.backup_id
        && receipt.method == method
        && receipt.envelope_digest == commit.envelope_digest
        && receipt.share_ids.iter().eq(begun.pairs.iter().map(|pair| &pair.pair_id));
    let identity = port.setting.deployment.server_identity();
    let signed = identity.verify_digest(&receipt.digest(), &receipt.signature.0);
    if !same || signed.is_err() {
        return Err(Error::PeerMisbehaved { what: "RECEIPT" });
    }
    device::update(port, |device| {
        device.remember(witness);
        device.underway = None;
    })
    .await?;
    Ok(Backup {
        method,
        backup_id: receipt.backup_id,
        cipher_text,
        share_ids: receipt.share_ids,
        committed_at: receipt.committed_at,
        device_bound: commit.device_bound,
        protection: receipt.protection,
    })
}

/// Best effort: what the server does not hear of now expires there by itself.
async fn discard(port: &Port, device: &Device, begun: &BackupBegun, holder: &Holder) {
    let _ = cancel(port, device, begun.backup_id).await;
    let _ = device::update(port, |device| device.underway = None).await;
    for member in holder.members() {
        if let Holder::Cloud(at) = member {
            cloud::discard(port, at, begun.backup_id).await;
        }
    }
}

/// Cancels a pending backup.
pub(crate) async fn cancel(port: &Port, device: &Device, backup: halfkey_envelope::id::BackupId) -> Result<()> {
    let path = path(route::BACKUP, &[&backup.to_string()]);
    Call::new(port, "DELETE", path).signed(&device.key).send().await.map(|_| ())
}
