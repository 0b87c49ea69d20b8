//! What is fuzzed of the password door: one function per parser, called by the fuzz targets and by a property test
//! of `halfkey-envelope`. What decodes is the one encoding of its value; only genuine bytes open.

use halfkey_envelope::{
    cbor,
    door::{self, Answer, Context, KdfParams, KeeperId, Mode, Reply, Request, Sealed, SealedAnswer, Start, Ver},
    entropy::DangerSeededEntropy,
    exit_kit::{self, CustodianFile, ExitCode, Export, ExportedHalf, UserFile},
    frame::Decoder,
    hpke::SecretKey,
    id::{BackupId, ClientId, DeploymentId, PairId},
    recovery_code::{self, RecoveryCode},
    text::Password,
    wallet::Curve,
};

fn backup() -> BackupId {
    BackupId::from_bytes([6; 16])
}

fn keeper() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn genuine_sealed() -> Sealed {
    let body = Start { version: door::VERSION, backup: backup(), read_back: None };
    let sealed = door::seal_body(&keeper().public_key(), &body, &mut DangerSeededEntropy::new(1));
    sealed.expect("a usable key").0
}

/// Genuine input of [`door_requests`].
pub fn genuine_request() -> Vec<u8> {
    Request::Evaluate { backup: backup(), sealed: genuine_sealed() }.to_bytes()
}

/// What a server sends to a guesskeeper, and what it gets back; and both as a client relays them.
pub fn door_requests(bytes: &[u8]) {
    if let Ok(request) = Request::from_bytes(bytes) {
        assert_eq!(request.to_bytes(), bytes, "one request has one encoding");
    }
    if let Ok(reply) = Reply::from_bytes(bytes) {
        assert_eq!(reply.to_bytes(), bytes, "one reply has one encoding");
    }
    if let Ok(sealed) = Sealed::from_bytes(bytes) {
        assert_eq!(sealed.to_bytes(), bytes);
    }
    if let Ok(answer) = Answer::from_bytes(bytes) {
        assert_eq!(answer.to_bytes(), bytes);
    }
}

/// Genuine input of [`door_bodies`].
pub fn genuine_context() -> Vec<u8> {
    cbor::to_vec(&Context {
        version: door::VERSION,
        deployment: DeploymentId::from_bytes([4; 16]),
        client: ClientId::from_bytes([5; 16]),
        backup: backup(),
        ver: Ver::from_bytes([8; 16]),
        mode: Mode::Pin,
        normaliser: door::NORMALISER,
        kdf: KdfParams::DEFAULT,
        keepers: vec![KeeperId::from_bytes([9; 8])],
    })
}

/// What stands inside the sealed messages.
pub fn door_bodies(bytes: &[u8]) {
    macro_rules! one_encoding {
        ($($body:ty),+) => {$(
            if let Ok(body) = cbor::from_slice::<$body>(bytes) {
                assert_eq!(*cbor::to_secret_vec(&body), bytes, "one body has one encoding");
            }
        )+};
    }
    one_encoding!(Context, door::Register, Start, door::Evaluate, door::Unlock, SealedAnswer);
}

/// Genuine input of [`door_sealed`].
pub fn genuine_message() -> Vec<u8> {
    genuine_sealed().message.to_vec()
}

/// A sealed message, at the keeper.
pub fn door_sealed(bytes: &[u8]) {
    let genuine = genuine_sealed();
    let sealed = Sealed { keeper: genuine.keeper, message: bytes.to_vec().into() };
    if door::open_body::<Start>(&keeper(), backup(), &sealed).is_ok() {
        assert_eq!(sealed, genuine, "nothing but the genuine message opens");
    }
}

/// A stream of frames.
pub fn frames(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let mut taken = 0;
    for piece in bytes.chunks(7) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_frame() {
            taken += 4 + message.len();
        }
    }
    assert!(taken <= bytes.len());
}

/// Genuine input of [`typed`].
pub fn genuine_code() -> Vec<u8> {
    RecoveryCode::generate(&mut DangerSeededEntropy::new(2)).display().as_bytes().to_vec()
}

/// Text as people type it: recovery codes, passwords, PINs.
pub fn typed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(code) = RecoveryCode::parse(&text) {
        let again = RecoveryCode::parse(&code.display()).expect("what is shown can be read");
        assert_eq!(*again.display(), *code.display());
    }
    for mode in [Mode::Password, Mode::Pin] {
        if let Ok(password) = Password::parse(mode, &text) {
            let normal = std::str::from_utf8(password.expose()).expect("text").to_owned();
            let again = Password::parse(mode, &normal).expect("normal text is acceptable");
            assert_eq!(again.expose(), normal.as_bytes(), "normalising twice changes nothing");
        }
    }
}

fn place() -> recovery_code::Place {
    let (deployment, client) = (DeploymentId::from_bytes([4; 16]), ClientId::from_bytes([5; 16]));
    recovery_code::Place { deployment, client, backup: backup() }
}

/// Genuine input of [`coded_record`].
pub fn genuine_coded_record() -> Vec<u8> {
    let code = RecoveryCode::generate(&mut DangerSeededEntropy::new(2));
    recovery_code::seal_record(&code, place(), b"record", &mut DangerSeededEntropy::new(3))
}

/// A record under a recovery code.
pub fn coded_record(bytes: &[u8]) {
    let code = RecoveryCode::generate(&mut DangerSeededEntropy::new(2));
    if recovery_code::open_record(&code, place(), bytes).is_ok() {
        assert_eq!(bytes, genuine_coded_record(), "nothing but the genuine record opens");
    }
}

/// Genuine input of [`exit_record`].
pub fn genuine_exit_record() -> Vec<u8> {
    let code = ExitCode::generate(&mut DangerSeededEntropy::new(2));
    exit_kit::seal_record(&code, place(), b"record", &mut DangerSeededEntropy::new(3))
}

/// A record under an exit code.
pub fn exit_record(bytes: &[u8]) {
    let code = ExitCode::generate(&mut DangerSeededEntropy::new(2));
    if exit_kit::open_record(&code, bytes).is_ok() {
        assert_eq!(bytes, genuine_exit_record(), "nothing but the genuine record opens");
    }
}

/// Genuine input of [`exit_user_file`].
pub fn genuine_exit_user_file() -> Vec<u8> {
    UserFile { envelope: vec![1; 80], record: genuine_exit_record() }.to_bytes()
}

/// The user's file of an exit kit.
pub fn exit_user_file(bytes: &[u8]) {
    if let Ok(file) = UserFile::from_bytes(bytes) {
        assert_eq!(file.to_bytes(), bytes, "one encoding");
    }
}

/// The export key of [`genuine_exit_custodian_file`].
pub fn export_key() -> SecretKey {
    SecretKey::from_seed(&[6; 32])
}

/// Genuine input of [`exit_custodian_file`].
pub fn genuine_exit_custodian_file() -> Vec<u8> {
    let recovery_code::Place { deployment, client, backup } = place();
    let export = Export { deployment, client, backup, export_key: *export_key().public_key().as_bytes() };
    let half = |curve: Curve| {
        let (pair, points) = (PairId::from_bytes([curve.code(); 16]), (vec![2; 33], vec![3; 33]));
        let entropy = &mut DangerSeededEntropy::new(u64::from(curve.code()));
        ExportedHalf::seal(&export, (curve, pair), points, &[curve.code(); 32], entropy).expect("a key")
    };
    CustodianFile { export, halves: Curve::ALL.map(half).to_vec() }.to_bytes()
}

/// The custodian's file of an exit kit.
pub fn exit_custodian_file(bytes: &[u8]) {
    let Ok(file) = CustodianFile::from_bytes(bytes) else { return };
    assert_eq!(file.to_bytes(), bytes, "one encoding");
    if Curve::ALL.iter().all(|curve| file.open(*curve, &export_key()).is_ok()) {
        assert_eq!(bytes, genuine_exit_custodian_file(), "nothing but the genuine file opens");
    }
}
