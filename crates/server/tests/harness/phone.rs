//! A device that speaks the ceremonies by hand, so that a test can leave out, repeat or spoil any step of them.

use std::sync::Mutex;

use halfkey_api::{
    bytes::{Base64, Hex},
    ceremony::{
        ANSWER, CeremonyAnswer, CeremonyRequest, INFO, MEDIA_TYPE, Op, Part, RecoverFinish, RecoverOpen, VERSION,
    },
    context::{ceremony_aad, pepper_aad, possession, stored_half},
    message::{
        BackupBegun, BackupReceipt, BackupStatus, BeginBackup, CipherText, ClientDetail, CommitBackup, CurveProof,
        DoorContext, MethodKeyStatement, OldDevices, PEPPER_ANSWER, PEPPER_INFO, PepperContents, PepperGiven,
        PepperRequest, PossessionProven, Recovery, StoreCipherText, WalletsBegun,
    },
    route::{self, path},
    signing::Payload,
};
use halfkey_envelope::{
    FileKey, cbor,
    client_share::{self, Contents, CurveHeader, Expected, Header},
    entropy::{OsEntropy, random},
    hpke::{self, PublicKey, SecretKey},
    id::{BackupId, PairId, SessionId, WalletId},
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, DerivationPath, Half, PartyKeys, Role, SigningParty, SigningShare, Signs,
    descriptor::Descriptor,
    dkg,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Claim, Dealer, Opened, Reshare},
    sign::{self, ClientStep, Message, Signature},
};
use minicbor::bytes::{ByteArray, ByteVec};

use super::{Server, User};

pub struct Share {
    pub curve: Curve,
    pub wallet: WalletId,
    pub pair: PairId,
    pub generation: u64,
    pub party: SigningParty,
}

pub struct Phone<'a> {
    pub server: &'a Server,
    pub user: User,
    pub descriptor: Descriptor,
    pub shares: Vec<Share>,
    pub last: Mutex<Option<CeremonyAnswer>>,
}

/// One ceremony; `next` is what the last answer gave for the step after it.
pub struct Session {
    pub op: Op,
    pub subject: [u8; 16],
    pub next: Option<(SessionId, [u8; 32])>,
    pub payload: Option<Vec<u8>>,
}

impl Session {
    pub fn new(op: Op, subject: [u8; 16]) -> Self {
        Self { op, subject, next: None, payload: None }
    }
}

/// A backup whose ceremony has ended.
pub struct Resharing {
    pub begun: BackupBegun,
    pub method: Method,
    pub reshared: Vec<(Reshare, Opened<ClientBackupShare>)>,
}

/// The key of a backup, as a method would hold it.
pub struct Kept {
    pub backup: BackupId,
    pub key: FileKey,
    pub header: Header,
    pub envelope: Vec<u8>,
}

impl<'a> Phone<'a> {
    /// A client with an enrolled device and no wallet.
    pub async fn new(server: &'a Server) -> Self {
        let user = server.user().await;
        let signed = halfkey_server::descriptor(&server.app, halfkey_server::Details::default()).await.unwrap();
        Self { server, user, descriptor: signed.open().unwrap(), shares: Vec::new(), last: Mutex::default() }
    }

    /// A client with wallets.
    pub async fn with_wallet(server: &'a Server) -> Self {
        let mut phone = Self::new(server).await;
        phone.create().await;
        phone
    }

    pub fn request(
        &self,
        session: &Session,
        step: u8,
        nonce: Option<[u8; 32]>,
        parts: &[(Curve, Vec<u8>)],
    ) -> CeremonyRequest {
        let (id, resume) = session.next.unzip();
        let part = |(curve, bytes): &(Curve, Vec<u8>)| Part { curve: *curve, bytes: bytes.clone().into() };
        CeremonyRequest {
            version: VERSION,
            op: session.op,
            step,
            subject: session.subject.into(),
            session: id,
            resume: resume.map(ByteArray::from),
            nonce: nonce.map(ByteArray::from),
            payload: session.payload.clone().filter(|_| step > 0).map(ByteVec::from),
            parts: parts.iter().map(part).collect(),
        }
    }

    /// Sends a plaintext as a sealed ceremony body; the refusal's id if it was refused.
    pub async fn exchange(&self, plaintext: &[u8]) -> Result<CeremonyAnswer, String> {
        let aad = ceremony_aad(self.descriptor.deployment, self.user.client.id, &self.user.public());
        let to = PublicKey::from_bytes(self.descriptor.server.hpke.0);
        let (body, key) = hpke::Request::seal(&to, INFO, &aad, plaintext, &mut OsEntropy).unwrap();
        let request = self.server.signed_request(&self.user, "POST", route::CEREMONIES, MEDIA_TYPE, body);
        let answer = self.server.send(request).await;
        if !answer.status.is_success() {
            return Err(answer.refusal());
        }
        Ok(cbor::from_slice(&key.open_answer(ANSWER, &answer.bytes).unwrap()).unwrap())
    }

    pub async fn step(
        &self,
        session: &mut Session,
        step: u8,
        nonce: Option<[u8; 32]>,
        parts: Vec<(Curve, Vec<u8>)>,
    ) -> Result<CeremonyAnswer, String> {
        let request = self.request(session, step, nonce, &parts);
        let answer = self.exchange(&cbor::to_vec(&request)).await?;
        session.next = answer.resume.map(|resume| (answer.session, *resume));
        *self.last.lock().unwrap() = Some(answer.clone());
        Ok(answer)
    }

    /// The answer to the last step that was not refused.
    pub fn last(&self) -> CeremonyAnswer {
        self.last.lock().unwrap().clone().unwrap()
    }

    fn context(&self, op: halfkey_protocol::Op, curve: Curve, wallet: WalletId) -> Ceremony {
        let resharing = matches!(op, halfkey_protocol::Op::Backup | halfkey_protocol::Op::Recover);
        Ceremony {
            op,
            deployment: self.descriptor.deployment,
            client: self.user.client.id,
            wallet,
            curve,
            old_pair: None,
            new_pair: None,
            generation: 0,
            server_nonce: [0; 32],
            device: PartyKeys { identity: self.user.key.public(), hpke: None },
            server: self.descriptor.server.keys(),
            custodian: resharing.then(|| self.descriptor.custodian.keys()),
        }
    }

    pub async fn begin_wallets(&self) -> WalletsBegun {
        self.server.signed(&self.user, "POST", route::WALLETS, &serde_json::json!({})).await.json()
    }

    pub async fn create(&mut self) {
        let begun = self.begin_wallets().await;
        self.create_with(begun, async || {}).await.unwrap();
    }

    /// Key generation and proofs, with something that happens in between.
    pub async fn create_with(&mut self, begun: WalletsBegun, meanwhile: impl AsyncFnOnce()) -> Result<(), String> {
        let (parties, nonce, mut session) = self.generate(&begun).await;
        meanwhile().await;
        let client = self.user.client.id;
        let context = stored_half(self.descriptor.deployment, client, &begun.nonce.0, &self.user.public());
        let prove = |(wallet, party): (&halfkey_api::message::PendingWallet, &SigningParty)| {
            let statement =
                Statement { purpose: Purpose::Create, context: &context, pair: wallet.pair_id, nonce: &nonce };
            (wallet.curve, proof::prove(&statement, party.share(), &mut OsEntropy).unwrap())
        };
        let proofs = begun.wallets.iter().zip(&parties).map(prove).collect();
        self.step(&mut session, 3, None, proofs).await?;
        let share = |(wallet, party): (halfkey_api::message::PendingWallet, SigningParty)| Share {
            curve: wallet.curve,
            wallet: wallet.id,
            pair: wallet.pair_id,
            generation: wallet.generation,
            party,
        };
        self.shares = begun.wallets.into_iter().zip(parties).map(share).collect();
        Ok(())
    }

    /// Both rounds; the server's nonce for the proofs, and the session as it stands before step 3.
    pub async fn generate(&self, begun: &WalletsBegun) -> (Vec<SigningParty>, [u8; 32], Session) {
        let mut session = Session::new(Op::CreateWallet, *self.user.client.id.as_bytes());
        let (mut states, mut parts) = (Vec::new(), Vec::new());
        for wallet in &begun.wallets {
            let base = self.context(halfkey_protocol::Op::Create, wallet.curve, wallet.id);
            let (generation, server_nonce) = (wallet.generation, begun.nonce.0);
            let ceremony = Ceremony { new_pair: Some(wallet.pair_id), generation, server_nonce, ..base };
            let (state, part) = dkg::Client::start(&ceremony, &mut OsEntropy).unwrap();
            states.push(state);
            parts.push((wallet.curve, part));
        }
        let answer = self.step(&mut session, 1, None, parts).await.unwrap();
        let (mut seconds, mut parts) = (Vec::new(), Vec::new());
        for (wallet, state) in begun.wallets.iter().zip(states) {
            let (state, part) = state.next(answer.part(wallet.curve).unwrap()).unwrap();
            seconds.push(state);
            parts.push((wallet.curve, part));
        }
        let answer = self.step(&mut session, 2, None, parts).await.unwrap();
        let finish = |(wallet, state): (&halfkey_api::message::PendingWallet, dkg::ClientSecond)| {
            state.finish(answer.part(wallet.curve).unwrap()).unwrap()
        };
        let parties = begun.wallets.iter().zip(seconds).map(finish).collect();
        (parties, *answer.nonce.unwrap(), session)
    }

    pub fn share(&self, curve: Curve) -> &Share {
        self.shares.iter().find(|share| share.curve == curve).unwrap()
    }

    pub async fn sign(&self, payload: &Payload) -> Result<Signature, String> {
        self.sign_with(None, payload, payload, |_| {}).await
    }

    /// A secp256k1 signature in the session that this answer opened, so without a step 0.
    pub async fn sign_in(&self, opened: &CeremonyAnswer, payload: &Payload) -> Result<Signature, String> {
        self.sign_with(Some(opened), payload, payload, |_| {}).await
    }

    /// A signature that names another payload in its second step.
    pub async fn sign_swapped(&self, first: &Payload, second: &Payload) -> Result<Signature, String> {
        self.sign_with(None, first, second, |_| {}).await
    }

    /// A signature whose last message (secp256k1) is changed on the way.
    pub async fn sign_spoilt(&self, payload: &Payload, spoil: impl Fn(&mut Vec<u8>)) -> Result<Signature, String> {
        self.sign_with(None, payload, payload, spoil).await
    }

    async fn sign_with(
        &self,
        opened: Option<&CeremonyAnswer>,
        payload: &Payload,
        second: &Payload,
        spoil: impl Fn(&mut Vec<u8>),
    ) -> Result<Signature, String> {
        let share = self.share(payload.curve());
        let mut session = Session::new(Op::Sign, *share.pair.as_bytes());
        let base = self.context(halfkey_protocol::Op::Sign, share.curve, share.wallet);
        let mut ceremony = Ceremony { old_pair: Some(share.pair), generation: share.generation, ..base };
        if let Some(opened) = opened {
            session.next = opened.resume.map(|resume| (opened.session, *resume));
            ceremony.server_nonce = *opened.nonce.unwrap();
        } else if share.curve == Curve::Secp256k1 {
            let answer = self.step(&mut session, 0, None, Vec::new()).await?;
            ceremony.server_nonce = *answer.nonce.unwrap();
        }
        session.payload = Some(payload.to_cbor());
        let message = self.message(payload);
        let path = DerivationPath::root();
        let (client, part) = sign::Client::start(&ceremony, &share.party, &message, &path, &mut OsEntropy).unwrap();
        let answer = self.step(&mut session, 1, None, vec![(share.curve, part)]).await?;
        match client.next(answer.part(share.curve).unwrap()).unwrap() {
            ClientStep::Done(signature) => Ok(signature),
            ClientStep::Send { mut request, state } => {
                spoil(&mut request);
                session.payload = Some(second.to_cbor());
                let answer = self.step(&mut session, 2, None, vec![(share.curve, request)]).await?;
                Ok(state.finish(answer.part(share.curve).unwrap()).unwrap())
            }
        }
    }

    /// A secp256k1 signature up to its last message, which is not sent.
    pub async fn last_message(&self, payload: &Payload) -> (Session, Vec<u8>) {
        let share = self.share(Curve::Secp256k1);
        let mut session = Session::new(Op::Sign, *share.pair.as_bytes());
        let base = self.context(halfkey_protocol::Op::Sign, share.curve, share.wallet);
        let mut ceremony = Ceremony { old_pair: Some(share.pair), generation: share.generation, ..base };
        ceremony.server_nonce = *self.step(&mut session, 0, None, Vec::new()).await.unwrap().nonce.unwrap();
        session.payload = Some(payload.to_cbor());
        let (message, path) = (self.message(payload), DerivationPath::root());
        let (client, part) = sign::Client::start(&ceremony, &share.party, &message, &path, &mut OsEntropy).unwrap();
        let answer = self.step(&mut session, 1, None, vec![(share.curve, part)]).await.unwrap();
        match client.next(answer.part(share.curve).unwrap()).unwrap() {
            ClientStep::Done(_) => panic!("two round trips"),
            ClientStep::Send { request, .. } => (session, request),
        }
    }

    pub fn message(&self, payload: &Payload) -> Message {
        let share = self.share(payload.curve());
        let key = share.party.public().public_key().to_bytes();
        let key = halfkey_api::chain::PublicKey::parse(share.curve, &key).unwrap();
        let decode = |bytes: &[u8]| {
            let payload = Payload::from_cbor(bytes)?;
            halfkey_api::signing::decode(&payload, &key, Default::default()).map(|decoded| decoded.bytes().to_vec())
        };
        let bytes = payload.to_cbor();
        match share.curve {
            Curve::Secp256k1 => Message::secp256k1(&bytes, |bytes| decode(bytes).map(|d| d.try_into().unwrap())),
            Curve::Ed25519 => Message::ed25519(&bytes, decode),
        }
        .unwrap()
    }

    pub async fn begin_backup(&self, method: &Method) -> BackupBegun {
        let body = BeginBackup { method: method.clone() };
        self.server.signed(&self.user, "POST", route::BACKUPS, &body).await.json()
    }

    /// The ceremony of a backup, both steps.
    pub async fn reshare(&self, method: &Method) -> Resharing {
        let begun = self.begin_backup(method).await;
        let mut session = Session::new(Op::Backup, *begun.backup_id.as_bytes());
        let (mut dealers, mut parts) = (Vec::new(), Vec::new());
        for pair in &begun.pairs {
            let share = self.share(pair.curve);
            let ceremony = Ceremony {
                old_pair: Some(pair.from_pair_id),
                new_pair: Some(pair.pair_id),
                generation: begun.generation,
                server_nonce: begun.nonce.0,
                ..self.context(halfkey_protocol::Op::Backup, pair.curve, pair.wallet_id)
            };
            let reshare = Reshare { ceremony, old: *share.party.public() };
            let one_time = SecretKey::generate(&mut OsEntropy);
            let started = Dealer::start(&reshare, share.party.share(), &self.user.key, one_time, &mut OsEntropy);
            let (dealer, part) = started.unwrap();
            dealers.push((pair.curve, reshare, dealer));
            parts.push((pair.curve, part));
        }
        let answer = self.step(&mut session, 1, None, parts).await.unwrap();
        let (mut reshared, mut parts) = (Vec::new(), Vec::new());
        for (curve, reshare, dealer) in dealers {
            let deal = answer.part(curve).unwrap();
            let opened: Opened<ClientBackupShare> = dealer.open(deal, &self.user.key, &mut OsEntropy).unwrap();
            parts.push((curve, opened.message.clone()));
            reshared.push((reshare, opened));
        }
        let nonce = *random::<32>(&mut OsEntropy);
        let answer = self.step(&mut session, 2, Some(nonce), parts).await.unwrap();
        for (reshare, opened) in &reshared {
            let claim = Claim { role: Role::Peer, envelope: None, nonce: &nonce };
            let ack = answer.part(reshare.ceremony.curve).unwrap();
            reshare::verify_ack(reshare, &opened.transcript, &claim, ack).unwrap();
        }
        Resharing { begun, method: method.clone(), reshared }
    }

    pub fn seal(&self, resharing: &Resharing) -> Kept {
        let curve = |(reshare, opened): &(Reshare, Opened<ClientBackupShare>)| {
            let pair = opened.transcript.pair();
            CurveHeader {
                curve: reshare.ceremony.curve,
                wallet: reshare.ceremony.wallet,
                public_key: pair.public_key().to_bytes(),
                chain_code: *pair.chain_code(),
                client_point: pair.client_point().to_bytes(),
                custodian_point: pair.peer_point().to_bytes(),
            }
        };
        let (deployment, client, begun) = (self.descriptor.deployment, self.user.client.id, &resharing.begun);
        let curves = resharing.reshared.iter().map(curve).collect();
        let method = resharing.method.clone();
        let header = Header::new(deployment, client, begun.backup_id, begun.generation, method, curves).unwrap();
        let key = FileKey::generate(&mut OsEntropy);
        let halves =
            resharing.reshared.iter().map(|(reshare, opened)| (reshare.ceremony.curve, opened.half.to_bytes()));
        let envelope = client_share::seal(&key, &header, &Contents::new(halves).unwrap(), &mut OsEntropy).unwrap();
        Kept { backup: begun.backup_id, key, header, envelope }
    }

    pub async fn upload(&self, kept: &Kept) -> super::Answer {
        let record = (kept.header.method == Method::RecoveryCode).then(|| Base64(vec![7; 64]));
        self.upload_with(kept, record).await
    }

    pub async fn upload_with(&self, kept: &Kept, sealed_record: Option<Base64>) -> super::Answer {
        let body = StoreCipherText { cipher_text: Base64(kept.envelope.clone()), sealed_record };
        let path = path(route::BACKUP_CIPHER_TEXT, &[&kept.backup.to_string()]);
        self.server.signed(&self.user, "PUT", &path, &body).await
    }

    pub async fn read_back(&self, backup: BackupId) -> CipherText {
        let path = path(route::BACKUP_CIPHER_TEXT, &[&backup.to_string()]);
        self.server.signed_empty(&self.user, "GET", &path).await.json()
    }

    pub fn commitment(&self, resharing: &Resharing, stored: &CipherText) -> CommitBackup {
        let ack = |(reshare, opened): &(Reshare, Opened<ClientBackupShare>)| {
            let claim = Claim { role: Role::Client, envelope: Some(&stored.digest.0), nonce: &stored.challenge.0 };
            let key = &self.user.key;
            let ack = reshare::ack(reshare, &opened.transcript, &claim, key, &opened.half, &mut OsEntropy);
            CurveProof { curve: reshare.ceremony.curve, proof: Base64(ack.unwrap()) }
        };
        CommitBackup {
            device_bound: false,
            pin: false,
            envelope_digest: stored.digest,
            challenge: stored.challenge,
            acks: resharing.reshared.iter().map(ack).collect(),
            method_key: MethodKeyStatement::ReadBack,
            cloud_account: None,
        }
    }

    pub async fn commit(&self, backup: BackupId, commit: &CommitBackup) -> Result<BackupReceipt, String> {
        let path = path(route::BACKUP_COMMIT, &[&backup.to_string()]);
        let answer = self.server.signed(&self.user, "POST", &path, commit).await;
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    /// A whole backup.
    pub async fn back_up(&self, method: &Method) -> Kept {
        let resharing = self.reshare(method).await;
        let kept = self.seal(&resharing);
        assert_eq!(self.upload(&kept).await.status, 204);
        if method.is_in_a_cloud() {
            self.pepper(DoorContext::Backup { id: kept.backup }).await.unwrap();
        }
        let stored = self.read_back(kept.backup).await;
        let receipt = self.commit(kept.backup, &self.commitment(&resharing, &stored)).await.unwrap();
        self.descriptor.server.identity.verify_digest(&receipt.digest(), &receipt.signature.0).unwrap();
        kept
    }

    /// What names and seals a record in a cloud.
    pub async fn pepper(&self, within: DoorContext) -> Result<PepperContents, String> {
        let aad = pepper_aad(self.descriptor.deployment, self.user.client.id, &self.user.public(), within.subject());
        let to = PublicKey::from_bytes(self.descriptor.server.hpke.0);
        let (request, key) = hpke::Request::seal(&to, PEPPER_INFO, &aad, b"", &mut OsEntropy).unwrap();
        let given = self.pepper_for(within, request).await?;
        Ok(PepperContents::from_bytes(&key.open_answer(PEPPER_ANSWER, &given.sealed.0).unwrap()).unwrap())
    }

    pub async fn pepper_for(&self, within: DoorContext, request: Vec<u8>) -> Result<PepperGiven, String> {
        let body = PepperRequest { within, request: Base64(request) };
        let answer = self.server.signed(&self.user, "POST", route::CLOUD_PEPPER, &body).await;
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    pub async fn status(&self) -> BackupStatus {
        self.server.call("GET", route::BACKUP_STATUS, self.user.token(), b"").await.json()
    }

    pub async fn me(&self) -> ClientDetail {
        self.server.call("GET", route::CLIENT, self.user.token(), b"").await.json()
    }

    /// Another device of the same client, with nothing on it.
    pub fn new_device(&self, seed: u64) -> Self {
        let descriptor = self.descriptor.clone();
        Self {
            server: self.server,
            user: self.user.on_other_device(seed),
            descriptor,
            shares: Vec::new(),
            last: Mutex::default(),
        }
    }

    pub async fn begin_recovery(&self, method: &Method, old_devices: OldDevices) -> Result<Recovery, String> {
        let body = serde_json::json!({
            "method": method.name(),
            "newDevice": { "publicKey": self.user.public_hex(), "platform": "linux", "name": "new" },
            "oldDevices": old_devices,
        });
        let answer = self.server.signed(&self.user, "POST", route::RECOVERIES, &body).await;
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    pub async fn recovery_cipher_text(&self, recovery: &Recovery) -> Result<CipherText, String> {
        let path = path(route::RECOVERY_CIPHER_TEXT, &[&recovery.id.to_string()]);
        let answer = self.server.signed_empty(&self.user, "GET", &path).await;
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    /// The client halves of a backup, opened with the method's key.
    pub fn open(&self, kept: &Kept, stored: &CipherText) -> Vec<ClientBackupShare> {
        let expected = Expected::from(&kept.header);
        let (_, contents) = client_share::open(&kept.key, &expected, &stored.cipher_text.0).unwrap();
        let half = |curve| ClientBackupShare::from_bytes(curve, contents.share(curve).unwrap()).unwrap();
        Curve::ALL.into_iter().map(half).collect()
    }

    pub async fn prove_possession(
        &self,
        recovery: &Recovery,
        stored: &CipherText,
        halves: &[ClientBackupShare],
        one_time: &SecretKey,
    ) -> Result<PossessionProven, String> {
        let (deployment, client) = (self.descriptor.deployment, self.user.client.id);
        let (nonce, one_time_key) = (recovery.nonce.unwrap().0, *one_time.public_key().as_bytes());
        let context = possession(deployment, client, recovery.id, &nonce, &self.user.public(), &one_time_key);
        let prove = |(pair, half): (&halfkey_api::message::BackupPairPoints, &ClientBackupShare)| {
            let nonce = &stored.challenge.0;
            let statement = Statement { purpose: Purpose::Possession, context: &context, pair: pair.pair_id, nonce };
            let proof = proof::prove(&statement, half, &mut OsEntropy).unwrap();
            CurveProof { curve: pair.curve, proof: Base64(proof) }
        };
        let body = halfkey_api::message::ProvePossession {
            challenge: stored.challenge,
            one_time_key: Hex(one_time_key),
            proofs: stored.pairs.iter().zip(halves).map(prove).collect(),
        };
        let path = path(route::RECOVERY_POSSESSION, &[&recovery.id.to_string()]);
        let answer = self.server.signed(&self.user, "POST", &path, &body).await;
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    /// A whole recovery: afterwards this device signs.
    pub async fn recover(&mut self, kept: &Kept, old_devices: OldDevices) {
        let recovery = self.begin_recovery(&kept.header.method, old_devices).await.unwrap();
        let stored = self.recovery_cipher_text(&recovery).await.unwrap();
        let halves = self.open(kept, &stored);
        let one_time = SecretKey::generate(&mut OsEntropy);
        let proven = self.prove_possession(&recovery, &stored, &halves, &one_time).await.unwrap();
        self.shares = self.take_over(&proven.recovery, kept, &halves, one_time).await;
    }

    /// The five steps of the ceremony.
    pub async fn take_over(
        &self,
        recovery: &Recovery,
        kept: &Kept,
        halves: &[ClientBackupShare],
        one_time: SecretKey,
    ) -> Vec<Share> {
        self.take_over_spoilt(recovery, kept, halves, one_time, |_| {}).await.unwrap()
    }

    /// The five steps, with the last message of the test signature changed on the way.
    pub async fn take_over_spoilt(
        &self,
        recovery: &Recovery,
        kept: &Kept,
        halves: &[ClientBackupShare],
        one_time: SecretKey,
        spoil: impl Fn(&mut Vec<u8>),
    ) -> Result<Vec<Share>, String> {
        let mut session = Session::new(Op::Recover, *recovery.id.as_bytes());
        let nonce = recovery.nonce.unwrap().0;
        let (mut dealers, mut parts) = (Vec::new(), Vec::new());
        for (pair, half) in recovery.pairs.iter().zip(halves) {
            let entry = kept.header.curve(pair.curve).unwrap();
            let old = halfkey_protocol::PairPublic::from_bytes(
                pair.curve,
                &entry.public_key,
                entry.chain_code,
                &entry.client_point,
                &entry.custodian_point,
            );
            let ceremony = Ceremony {
                old_pair: Some(pair.from_pair_id),
                new_pair: Some(pair.pair_id),
                generation: pair.generation,
                server_nonce: nonce,
                ..self.context(halfkey_protocol::Op::Recover, pair.curve, pair.wallet_id)
            };
            let reshare = Reshare { ceremony, old: old.unwrap() };
            let key = SecretKey::from_bytes(one_time.to_bytes());
            let (dealer, part) = Dealer::start(&reshare, half, &self.user.key, key, &mut OsEntropy).unwrap();
            dealers.push((reshare, dealer));
            parts.push((pair.curve, part));
        }
        let answer = self.step(&mut session, 1, None, parts).await?;
        let (mut parties, mut parts, mut refresh) = (Vec::new(), Vec::new(), None);
        for (reshare, dealer) in dealers {
            let curve = reshare.ceremony.curve;
            let deal = answer.part(curve).unwrap();
            let opened: Opened<SigningShare> = dealer.open(deal, &self.user.key, &mut OsEntropy).unwrap();
            let sid = *opened.transcript.sid();
            let party = SigningParty::hollow(Role::Client, opened.half, *opened.transcript.pair()).unwrap();
            let mut first = None;
            if party.needs_rekey() {
                let (state, request) = rekey::Client::start(&sid, &party, &mut OsEntropy).unwrap();
                refresh = Some(state);
                first = Some(request.into());
            }
            let open = RecoverOpen { opening: opened.message.into(), refresh: first };
            parts.push((curve, cbor::to_vec(&open)));
            parties.push((reshare.ceremony, sid, party));
        }
        let answer = self.step(&mut session, 2, None, parts).await?;
        let (state, part) = refresh.unwrap().next(answer.part(Curve::Secp256k1).unwrap()).unwrap();
        let answer = self.step(&mut session, 3, None, vec![(Curve::Secp256k1, part)]).await?;
        parties[0].2 = state.finish(answer.part(Curve::Secp256k1).unwrap()).unwrap();
        self.test_sign(session, recovery, parties, spoil).await
    }

    async fn test_sign(
        &self,
        mut session: Session,
        recovery: &Recovery,
        parties: Vec<(Ceremony, [u8; 32], SigningParty)>,
        spoil: impl Fn(&mut Vec<u8>),
    ) -> Result<Vec<Share>, String> {
        let (mut clients, mut parts) = (Vec::new(), Vec::new());
        for (ceremony, sid, party) in &parties {
            let message = Message::recovery_check(ceremony.curve, sid);
            let path = DerivationPath::root();
            let (client, part) = sign::Client::start(ceremony, party, &message, &path, &mut OsEntropy).unwrap();
            clients.push(client);
            parts.push((ceremony.curve, part));
        }
        let answer = self.step(&mut session, 4, None, parts).await?;
        let (deployment, client_id, verifier) =
            (self.descriptor.deployment, self.user.client.id, *answer.nonce.unwrap());
        let context = stored_half(deployment, client_id, &recovery.nonce.unwrap().0, &self.user.public());
        let (mut parts, mut last) = (Vec::new(), None);
        for ((ceremony, _, party), client) in parties.iter().zip(clients) {
            let message = match client.next(answer.part(ceremony.curve).unwrap()).unwrap() {
                ClientStep::Done(_) => None,
                ClientStep::Send { mut request, state } => {
                    spoil(&mut request);
                    last = Some(state);
                    Some(request.into())
                }
            };
            let pair = ceremony.new_pair.unwrap();
            let statement = Statement { purpose: Purpose::Create, context: &context, pair, nonce: &verifier };
            let proof = proof::prove(&statement, party.share(), &mut OsEntropy).unwrap().into();
            parts.push((ceremony.curve, cbor::to_vec(&RecoverFinish { message, proof })));
        }
        let answer = self.step(&mut session, 5, None, parts).await?;
        last.unwrap().finish(answer.part(Curve::Secp256k1).unwrap()).unwrap();
        let share = |(ceremony, _, party): (Ceremony, [u8; 32], SigningParty)| Share {
            curve: ceremony.curve,
            wallet: ceremony.wallet,
            pair: ceremony.new_pair.unwrap(),
            generation: ceremony.generation,
            party,
        };
        Ok(parties.into_iter().map(share).collect())
    }
}
