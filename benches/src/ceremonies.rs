//! Every ceremony over bytes, all parties in this thread, each step of each party measured apart.
//!
//! What a party keeps between two steps goes through its stored bytes, as it does in the real server. Not in here:
//! transport (HTTP, sealing of the bodies), databases and the key service; the table has these in the server's own row.

use halfkey_envelope::{
    FileKey,
    client_share::{self, Contents, CurveHeader, Expected, Header},
    custodian::{self, DataKey, HalfContext, Purpose as HalfPurpose, ShredKey},
    entropy::{OsEntropy, random},
    hash::sha256,
    hpke::SecretKey,
    id::{BackupId, ClientId, DeploymentId, PairId, WalletId},
    wallet::{Curve, Method},
};
use halfkey_protocol::{
    Ceremony, ClientBackupShare, CustodianBackupShare, DerivationPath, DeviceKey, Error, Half, IdentityKey, Kept, Op,
    PairPublic, PartyKeys, Role, SigningParty, SigningShare, Signs, dkg,
    proof::{self, Purpose, Statement},
    rekey,
    reshare::{self, Claim, Opened, Reshare, Transcript},
    sign::{self, ClientStep, Message, ServerStep},
};

use crate::clock::Meter;

/// One client of one deployment, with the keys of all parties.
pub struct World {
    entropy: OsEntropy,
    deployment: DeploymentId,
    client: ClientId,
    wallet: WalletId,
    device: DeviceKey,
    server: IdentityKey,
    server_hpke: SecretKey,
    custodian: IdentityKey,
    custodian_hpke: SecretKey,
}

/// Both halves of a signing pair, as the two parties store them.
pub struct Pair {
    client: SigningParty,
    server: SigningParty,
}

/// What a backup leaves behind, on both curves.
pub struct Backup {
    key: FileKey,
    header: Header,
    envelope: Vec<u8>,
    curves: Vec<BackedUp>,
}

struct BackedUp {
    custodian: CustodianBackupShare,
    transcript: Transcript,
}

/// A backup's curve in the middle of its ceremony.
struct Running {
    reshare: Reshare,
    opened: Opened<ClientBackupShare>,
    custodian: CustodianBackupShare,
    witnessed: Transcript,
}

fn stored(party: &SigningParty) -> SigningParty {
    SigningParty::from_bytes(&party.to_bytes().unwrap()).unwrap()
}

fn through_bytes(kept: &Kept) -> Kept {
    Kept::from_bytes(kept.as_bytes().to_vec())
}

/// The same text as the floor signs.
pub const TEXT: &[u8] = b"what is signed: a text of sixty-four bytes, neither long or short";

fn message(curve: Curve) -> Message {
    match curve {
        Curve::Secp256k1 => Message::secp256k1(TEXT, |bytes| Ok::<_, Error>(sha256(bytes))).unwrap(),
        Curve::Ed25519 => Message::ed25519(TEXT, |bytes| Ok::<_, Error>(bytes.to_vec())).unwrap(),
    }
}

impl Default for World {
    fn default() -> Self {
        let mut entropy = OsEntropy;
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
}

impl World {
    fn nonce(&mut self) -> [u8; 32] {
        *random::<32>(&mut self.entropy)
    }

    fn ceremony(&mut self, op: Op, curve: Curve) -> Ceremony {
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
            old_pair: Some(PairId::generate(&mut self.entropy, 4)),
            new_pair: Some(PairId::generate(&mut self.entropy, 4)),
            generation: 1,
            server_nonce: self.nonce(),
            device: PartyKeys { identity: self.device.public(), hpke: None },
            server: keys(&self.server, &self.server_hpke),
            custodian: Some(keys(&self.custodian, &self.custodian_hpke)),
        }
    }

    /// Key generation; each side proves its stored half to the other.
    pub fn create(&mut self, curve: Curve, meter: &mut Meter) -> Pair {
        let ceremony = self.ceremony(Op::Create, curve);
        let e = &mut self.entropy;
        let (client, request) = meter.step("device 1", || dkg::Client::start(&ceremony, e)).unwrap();
        let (answer, kept) = meter.step("server 1", || dkg::server_1(&ceremony, &request, e)).unwrap();
        let (client, request) = meter.step("device 2", || client.next(&answer)).unwrap();
        let (answer, server) =
            meter.step("server 2", || dkg::server_2(&ceremony, through_bytes(&kept), &request, e)).unwrap();
        let client = meter.step("device 3", || client.finish(&answer)).unwrap();
        let client = meter.step("device stores", || stored(&client));
        let server = meter.step("server stores", || stored(&server));
        let pair = Pair { client, server };
        self.prove_stored(&ceremony, &pair, meter);
        pair
    }

    /// The device's proof of its stored half, before the pair becomes active.
    fn prove_stored(&mut self, ceremony: &Ceremony, pair: &Pair, meter: &mut Meter) {
        let (context, nonce, new) = (self.nonce(), self.nonce(), ceremony.new_pair.unwrap());
        let statement = Statement { purpose: Purpose::Create, context: &context, pair: new, nonce: &nonce };
        let e = &mut self.entropy;
        let proof = meter.step("device proves", || proof::prove(&statement, pair.client.share(), e)).unwrap();
        let point = pair.server.public().client_point();
        meter.step("server verifies", || proof::verify(&statement, &point, &proof)).unwrap();
    }

    /// One signature, with both halves in memory.
    pub fn sign(&mut self, pair: &Pair, meter: &mut Meter) {
        let curve = pair.client.public().curve();
        let ceremony = self.ceremony(Op::Sign, curve);
        self.sign_message(&ceremony, pair, &message(curve), meter);
    }

    fn sign_message(&mut self, ceremony: &Ceremony, pair: &Pair, message: &Message, meter: &mut Meter) {
        let (e, root) = (&mut self.entropy, DerivationPath::root());
        let started = meter.step("device 1", || sign::Client::start(ceremony, &pair.client, message, &root, e));
        let (state, request) = started.unwrap();
        let answered = meter.step("server 1", || sign::server_1(ceremony, &pair.server, message, &root, &request, e));
        match answered.unwrap() {
            ServerStep::Done { answer } => {
                let step = meter.step("device 2", || state.next(&answer)).unwrap();
                assert!(matches!(step, ClientStep::Done(_)));
            }
            ServerStep::Continue { answer, kept } => {
                let ClientStep::Send { request, state } = meter.step("device 2", || state.next(&answer)).unwrap()
                else {
                    panic!("two round trips")
                };
                let work = || sign::server_2(ceremony, &pair.server, message, &root, through_bytes(&kept), &request);
                let (answer, _) = meter.step("server 2", work).unwrap();
                meter.step("device 3", || state.finish(&answer)).unwrap();
            }
        }
    }

    /// A stored half becomes one that signs: what every signing step of the real server does first.
    pub fn load(&self, pair: &Pair, meter: &mut Meter) {
        let bytes = pair.server.to_bytes().unwrap();
        meter.step("server loads", || SigningParty::from_bytes(&bytes)).unwrap();
    }

    /// A backup on both curves: `reshare`, the custodian's half sealed and read back, the envelope sealed and opened
    /// again, both acknowledgements, each verified by whoever must.
    pub fn backup(&mut self, pairs: &[Pair], meter: &mut Meter) -> Backup {
        let running: Vec<_> = pairs.iter().map(|pair| self.reshare(pair, meter)).collect();
        let header = self.header(&running);
        let (e, key) = (&mut self.entropy, FileKey::generate(&mut OsEntropy));
        let envelope = meter.step("device seals", || seal(&key, &header, &running, e));
        let halves = meter.step("device opens again", || open(&key, &header, &envelope));
        let digest = meter.step("device seals", || client_share::digest(&envelope));
        for (running, half) in running.iter().zip(&halves) {
            self.acknowledge(running, half, &digest, meter);
        }
        let curves = running
            .into_iter()
            .map(|Running { custodian, witnessed: transcript, .. }| BackedUp { custodian, transcript });
        Backup { key, header, envelope, curves: curves.collect() }
    }

    fn reshare(&mut self, pair: &Pair, meter: &mut Meter) -> Running {
        let reshare =
            Reshare { ceremony: self.ceremony(Op::Backup, pair.client.public().curve()), old: *pair.client.public() };
        let e = &mut self.entropy;
        let started = meter.step("device deals", || {
            let one_time = SecretKey::generate(e);
            reshare::Dealer::start(&reshare, pair.client.share(), &self.device, one_time, e)
        });
        let (dealer, commit) = started.unwrap();
        let dealt =
            meter.step("server deals", || reshare::deal(&reshare, pair.server.share(), &self.server, &commit, e));
        let (deal, kept) = dealt.unwrap();
        let opened = meter.step("device opens", || dealer.open::<ClientBackupShare>(&deal, &self.device, e)).unwrap();
        let witness = || reshare::verify_opening(&reshare, through_bytes(&kept), &opened.message);
        let witnessed = meter.step("server witnesses", witness).unwrap();
        let receive = || reshare::receive::<CustodianBackupShare>(&reshare, &self.custodian_hpke, &opened.message);
        let (custodian, _) = meter.step("custodian receives", receive).unwrap();
        let custodian = self.keep(&reshare.ceremony, &custodian, meter);
        Running { reshare, opened, custodian, witnessed }
    }

    /// The custodian's half at rest, and the copy that is read back.
    fn keep(&mut self, ceremony: &Ceremony, half: &CustodianBackupShare, meter: &mut Meter) -> CustodianBackupShare {
        let context = HalfContext {
            deployment: ceremony.deployment,
            client: ceremony.client,
            wallet: ceremony.wallet,
            curve: ceremony.curve,
            pair: ceremony.new_pair.unwrap(),
            purpose: HalfPurpose::Backup,
        };
        let e = &mut self.entropy;
        meter.step("custodian stores", || {
            let (data, shred) = (DataKey::generate(e), ShredKey::generate(e));
            let sealed = custodian::seal_half(&data, &shred, &context, half.to_bytes().as_ref(), e).unwrap();
            let read = custodian::open_half(&data, &shred, &context, &sealed).unwrap();
            CustodianBackupShare::from_bytes(ceremony.curve, read.as_slice().try_into().unwrap()).unwrap()
        })
    }

    fn acknowledge(&mut self, running: &Running, half: &ClientBackupShare, digest: &[u8; 32], meter: &mut Meter) {
        let Running { reshare, opened, custodian, witnessed } = running;
        let (nonce, e) = (self.nonce(), &mut self.entropy);
        let claim = Claim { role: Role::Peer, envelope: None, nonce: &nonce };
        let make = || reshare::ack(reshare, witnessed, &claim, &self.custodian, custodian, e);
        let ack = meter.step("custodian acknowledges", make).unwrap();
        let verify = || reshare::verify_ack(reshare, witnessed, &claim, &ack);
        meter.step("server verifies", verify).unwrap();
        let verify = || reshare::verify_ack(reshare, &opened.transcript, &claim, &ack);
        meter.step("device verifies", verify).unwrap();
        let claim = Claim { role: Role::Client, envelope: Some(digest), nonce: &nonce };
        let make = || reshare::ack(reshare, &opened.transcript, &claim, &self.device, half, e);
        let ack = meter.step("device acknowledges", make).unwrap();
        let verify = || reshare::verify_ack(reshare, witnessed, &claim, &ack);
        meter.step("server verifies", verify).unwrap();
    }

    fn header(&mut self, running: &[Running]) -> Header {
        let curve = |running: &Running| {
            let pair = running.opened.transcript.pair();
            CurveHeader {
                curve: pair.curve(),
                wallet: self.wallet,
                public_key: pair.public_key().to_bytes(),
                chain_code: *pair.chain_code(),
                client_point: pair.client_point().to_bytes(),
                custodian_point: pair.peer_point().to_bytes(),
            }
        };
        let curves = running.iter().map(curve).collect();
        let backup = BackupId::generate(&mut self.entropy, 5);
        Header::new(self.deployment, self.client, backup, 1, Method::Password, curves).unwrap()
    }

    /// The envelope of a backup alone: sealed once and opened once.
    pub fn envelope(&mut self, backup: &Backup, meter: &mut Meter) {
        let (_, contents) = client_share::open(&backup.key, &Expected::from(&backup.header), &backup.envelope).unwrap();
        let e = &mut self.entropy;
        let seal = || client_share::seal(&backup.key, &backup.header, &contents, e);
        let envelope = meter.step("device seals", seal).unwrap();
        let opened = meter.step("device opens", || open(&backup.key, &backup.header, &envelope));
        assert_eq!(opened.len(), Curve::ALL.len());
    }

    /// A recovery on both curves: the envelope, proof of possession, `reshare` with the custodian, fresh OT state on
    /// secp256k1, test signatures from the stored halves, proof of the stored half.
    pub fn recover(&mut self, backup: &Backup, meter: &mut Meter) -> Vec<Pair> {
        self.device = DeviceKey::generate(&mut self.entropy);
        let halves = meter.step("device opens envelope", || open(&backup.key, &backup.header, &backup.envelope));
        backup.curves.iter().zip(&halves).map(|(curve, half)| self.recover_one(curve, half, meter)).collect()
    }

    fn recover_one(&mut self, backup: &BackedUp, half: &ClientBackupShare, meter: &mut Meter) -> Pair {
        let old: PairPublic = *backup.transcript.pair();
        let reshare = Reshare { ceremony: self.ceremony(Op::Recover, old.curve()), old };
        self.possess(&reshare.ceremony, half, &old, meter);
        let e = &mut self.entropy;
        let started = meter.step("device reshare", || {
            let one_time = SecretKey::generate(e);
            reshare::Dealer::start(&reshare, half, &self.device, one_time, e)
        });
        let (dealer, commit) = started.unwrap();
        let deal = || reshare::deal(&reshare, &backup.custodian, &self.custodian, &commit, e);
        let (deal, _) = meter.step("custodian reshare", deal).unwrap();
        let opened = meter.step("device reshare", || dealer.open::<SigningShare>(&deal, &self.device, e)).unwrap();
        let receive = || reshare::receive::<SigningShare>(&reshare, &self.server_hpke, &opened.message);
        let (half, transcript) = meter.step("server reshare", receive).unwrap();
        let hollow = |role, half| SigningParty::hollow(role, half, *transcript.pair()).unwrap();
        let pair = Pair { client: hollow(Role::Client, opened.half), server: hollow(Role::Peer, half) };
        let pair = if pair.client.needs_rekey() { self.rekey(transcript.sid(), &pair, meter) } else { pair };
        let check = Message::recovery_check(old.curve(), transcript.sid());
        let mut signing = Meter::default();
        self.sign_message(&reshare.ceremony, &pair, &check, &mut signing);
        meter.add("device test signature", signing.of("device"));
        meter.add("server test signature", signing.of("server"));
        self.prove_stored(&reshare.ceremony, &pair, meter);
        pair
    }

    fn possess(&mut self, ceremony: &Ceremony, half: &ClientBackupShare, old: &PairPublic, meter: &mut Meter) {
        let (context, nonce, pair) = (self.nonce(), self.nonce(), ceremony.old_pair.unwrap());
        let statement = Statement { purpose: Purpose::Possession, context: &context, pair, nonce: &nonce };
        let e = &mut self.entropy;
        let proof = meter.step("device proves", || proof::prove(&statement, half, e)).unwrap();
        meter.step("server verifies", || proof::verify(&statement, &old.client_point(), &proof)).unwrap();
    }

    fn rekey(&mut self, base: &[u8; 32], pair: &Pair, meter: &mut Meter) -> Pair {
        let e = &mut self.entropy;
        let (state, request) = meter.step("device rekey", || rekey::Client::start(base, &pair.client, e)).unwrap();
        let first = meter.step("server rekey", || rekey::server_1(base, &pair.server, &request, e));
        let (answer, kept) = first.unwrap();
        let (state, request) = meter.step("device rekey", || state.next(&answer)).unwrap();
        let second = meter.step("server rekey", || rekey::server_2(base, through_bytes(&kept), &request));
        let (answer, server) = second.unwrap();
        let client = meter.step("device rekey", || state.finish(&answer)).unwrap();
        let client = meter.step("device stores", || stored(&client));
        let server = meter.step("server stores", || stored(&server));
        Pair { client, server }
    }
}

fn seal(key: &FileKey, header: &Header, running: &[Running], entropy: &mut OsEntropy) -> Vec<u8> {
    let halves = running.iter().map(|running| (running.reshare.ceremony.curve, running.opened.half.to_bytes()));
    client_share::seal(key, header, &Contents::new(halves).unwrap(), entropy).unwrap()
}

fn open(key: &FileKey, header: &Header, envelope: &[u8]) -> Vec<ClientBackupShare> {
    let (_, contents) = client_share::open(key, &Expected::from(header), envelope).unwrap();
    let half = |curve| ClientBackupShare::from_bytes(curve, contents.share(curve).unwrap()).unwrap();
    Curve::ALL.into_iter().map(half).collect()
}
