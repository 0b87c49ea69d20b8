//! A deployment with its keys, one client, and every ceremony run end to end over bytes.

use halfkey_envelope::{
    entropy::{DangerSeededEntropy, random},
    hpke::SecretKey,
    id::{ClientId, DeploymentId, PairId, WalletId},
    wallet::Curve,
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, CustodianBackupShare, DerivationPath, DeviceKey, Error, IdentityKey, Kept, Op,
    PairPublic, PartyKeys, Result, Role, SigningParty, SigningShare, Signs, dkg,
    party::danger_deal,
    rekey,
    reshare::{self, Claim, Reshare, Transcript},
    sign::{self, Message, Signature},
};

pub struct World {
    pub entropy: DangerSeededEntropy,
    pub deployment: DeploymentId,
    pub client: ClientId,
    pub wallet: WalletId,
    pub device: DeviceKey,
    pub server: IdentityKey,
    pub server_hpke: SecretKey,
    pub custodian: IdentityKey,
    pub custodian_hpke: SecretKey,
}

pub struct Backup {
    pub client: ClientBackupShare,
    pub custodian: CustodianBackupShare,
    pub transcript: Transcript,
    pub reshare: Reshare,
}

/// Sends kept state through bytes, as a database would.
pub fn through_bytes(kept: Kept) -> Kept {
    Kept::from_bytes(kept.as_bytes().to_vec())
}

/// Sends a party through its stored form.
pub fn through_store(party: &SigningParty) -> SigningParty {
    SigningParty::from_bytes(&party.to_bytes().unwrap()).unwrap()
}

pub fn text(curve: Curve, text: &str) -> Message {
    match curve {
        Curve::Secp256k1 => {
            Message::secp256k1(text.as_bytes(), |bytes| Ok::<_, Error>(halfkey_envelope::hash::sha256(bytes))).unwrap()
        }
        Curve::Ed25519 => Message::ed25519(text.as_bytes(), |bytes| Ok::<_, Error>(bytes.to_vec())).unwrap(),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut entropy = DangerSeededEntropy::new(seed);
        let e = &mut entropy;
        Self {
            deployment: DeploymentId::generate(e, 1),
            client: ClientId::generate(e, 2),
            wallet: WalletId::generate(e, 3),
            device: DeviceKey::generate(e),
            server: IdentityKey::generate(e),
            server_hpke: SecretKey::generate(e),
            custodian: IdentityKey::generate(e),
            custodian_hpke: SecretKey::generate(e),
            entropy,
        }
    }

    pub fn pair(&mut self) -> PairId {
        PairId::generate(&mut self.entropy, 4)
    }

    pub fn nonce(&mut self) -> [u8; 32] {
        *random::<32>(&mut self.entropy)
    }

    pub fn ceremony(&mut self, op: Op, curve: Curve) -> Ceremony {
        let keys = |identity: &IdentityKey, hpke: &SecretKey| PartyKeys {
            identity: identity.public(),
            hpke: Some(*hpke.public_key().as_bytes()),
        };
        Ceremony {
            op,
            deployment: self.deployment,
            client: self.client,
            wallet: self.wallet,
            curve,
            old_pair: Some(self.pair()),
            new_pair: Some(self.pair()),
            generation: 1,
            server_nonce: self.nonce(),
            device: PartyKeys { identity: self.device.public(), hpke: None },
            server: keys(&self.server, &self.server_hpke),
            custodian: Some(keys(&self.custodian, &self.custodian_hpke)),
        }
    }

    /// A real key generation.
    pub fn create(&mut self, curve: Curve) -> (SigningParty, SigningParty) {
        let ceremony = self.ceremony(Op::Create, curve);
        let (client, request) = dkg::Client::start(&ceremony, &mut self.entropy).unwrap();
        let (answer, kept) = dkg::server_1(&ceremony, &request, &mut self.entropy).unwrap();
        let (client, request) = client.next(&answer).unwrap();
        let (answer, server) = dkg::server_2(&ceremony, through_bytes(kept), &request, &mut self.entropy).unwrap();
        (through_store(&client.finish(&answer).unwrap()), through_store(&server))
    }

    /// A signing pair without key generation; on secp256k1 with OT state from a real rekey.
    pub fn dealt(&mut self, curve: Curve) -> (SigningParty, SigningParty) {
        let (client, server) = danger_deal(curve, &mut self.entropy).unwrap();
        match curve {
            Curve::Secp256k1 => {
                let base = self.nonce();
                self.rekey(&base, &client, &server)
            }
            Curve::Ed25519 => (client, server),
        }
    }

    pub fn rekey(
        &mut self,
        base: &[u8; 32],
        client: &SigningParty,
        server: &SigningParty,
    ) -> (SigningParty, SigningParty) {
        let (state, request) = rekey::Client::start(base, client, &mut self.entropy).unwrap();
        let (answer, kept) = rekey::server_1(base, server, &request, &mut self.entropy).unwrap();
        let (state, request) = state.next(&answer).unwrap();
        let (answer, server) = rekey::server_2(base, through_bytes(kept), &request).unwrap();
        (through_store(&state.finish(&answer).unwrap()), through_store(&server))
    }

    pub fn reshare(&mut self, op: Op, old: &PairPublic) -> Reshare {
        Reshare { ceremony: self.ceremony(op, old.curve()), old: *old }
    }

    /// Backup: C, S → C, K, with all acks.
    pub fn backup(&mut self, client: &SigningParty, server: &SigningParty) -> Backup {
        let reshare = self.reshare(Op::Backup, client.public());
        let e = &mut self.entropy;
        let hpke = SecretKey::generate(e);
        let (dealer, commit) = reshare::Dealer::start(&reshare, client.share(), &self.device, hpke, e).unwrap();
        let (deal, kept) = reshare::deal(&reshare, server.share(), &self.server, &commit, e).unwrap();
        let opened = dealer.open::<ClientBackupShare>(&deal, &self.device, e).unwrap();
        let (custodian, theirs) =
            reshare::receive::<CustodianBackupShare>(&reshare, &self.custodian_hpke, &opened.message).unwrap();
        let ours = reshare::verify_opening(&reshare, through_bytes(kept), &opened.message).unwrap();
        assert_eq!((ours, theirs), (opened.transcript, opened.transcript));
        let backup = Backup { client: opened.half, custodian, transcript: ours, reshare };
        self.check_acks(&backup);
        backup
    }

    fn check_acks(&mut self, backup: &Backup) {
        let (nonce, digest, e) = (self.nonce(), [7; 32], &mut self.entropy);
        let Backup { client, custodian, transcript, reshare } = backup;
        let claim = Claim { role: Role::Client, envelope: Some(&digest), nonce: &nonce };
        let ack = reshare::ack(reshare, transcript, &claim, &self.device, client, e).unwrap();
        reshare::verify_ack(reshare, transcript, &claim, &ack).unwrap();
        let claim = Claim { role: Role::Peer, envelope: None, nonce: &nonce };
        let ack = reshare::ack(reshare, transcript, &claim, &self.custodian, custodian, e).unwrap();
        reshare::verify_ack(reshare, transcript, &claim, &ack).unwrap();
    }

    /// Recovery: C, K → C′, S with a new device key, fresh OT state and the test signature.
    pub fn recover(&mut self, backup: &Backup) -> (SigningParty, SigningParty) {
        self.device = DeviceKey::generate(&mut self.entropy);
        let reshare = self.reshare(Op::Recover, backup.transcript.pair());
        let e = &mut self.entropy;
        let hpke = SecretKey::generate(e);
        let (dealer, commit) = reshare::Dealer::start(&reshare, &backup.client, &self.device, hpke, e).unwrap();
        let (deal, _) = reshare::deal(&reshare, &backup.custodian, &self.custodian, &commit, e).unwrap();
        let opened = dealer.open::<SigningShare>(&deal, &self.device, e).unwrap();
        let (half, transcript) =
            reshare::receive::<SigningShare>(&reshare, &self.server_hpke, &opened.message).unwrap();
        assert_eq!(transcript, opened.transcript);
        let client = SigningParty::hollow(Role::Client, opened.half, *transcript.pair()).unwrap();
        let server = SigningParty::hollow(Role::Peer, half, *transcript.pair()).unwrap();
        let (client, server) = match transcript.pair().curve() {
            Curve::Secp256k1 => self.rekey(transcript.sid(), &client, &server),
            Curve::Ed25519 => (client, server),
        };
        let check = Message::recovery_check(transcript.pair().curve(), transcript.sid());
        self.sign_with(&reshare.ceremony, &client, &server, &check, &DerivationPath::root()).unwrap();
        transcript.rekeyed(*client.public()).unwrap();
        (client, server)
    }

    pub fn sign(&mut self, client: &SigningParty, server: &SigningParty, message: &Message) -> Result<Signature> {
        let ceremony = self.ceremony(Op::Sign, client.public().curve());
        self.sign_with(&ceremony, client, server, message, &DerivationPath::root())
    }

    pub fn sign_with(
        &mut self,
        ceremony: &Ceremony,
        client: &SigningParty,
        server: &SigningParty,
        message: &Message,
        path: &DerivationPath,
    ) -> Result<Signature> {
        let e = &mut self.entropy;
        let (state, request) = sign::Client::start(ceremony, client, message, path, e)?;
        match sign::server_1(ceremony, server, message, path, &request, e)? {
            sign::ServerStep::Done { answer } => match state.next(&answer)? {
                sign::ClientStep::Done(signature) => Ok(signature),
                sign::ClientStep::Send { .. } => panic!("one round trip"),
            },
            sign::ServerStep::Continue { answer, kept } => {
                let sign::ClientStep::Send { request, state } = state.next(&answer)? else { panic!("two round trips") };
                let (answer, theirs) = sign::server_2(ceremony, server, message, path, through_bytes(kept), &request)?;
                let ours = state.finish(&answer)?;
                assert_eq!(ours, theirs);
                Ok(ours)
            }
        }
    }
}
