//! T7 and T18 on real processes: every secret of a full run is taken from where it belongs, and searched for everywhere
//! else: in each HTTP message, in the logs of all processes at TRACE, in every file, in the memory of the live server
//! and guesskeeper. And the attack program: what stolen folders give, and what they do not.
//!
//! Reading another process's memory takes root; without it the test fails and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use halfkey_client::{
    BackupMethod, BlobSlot, Ejecting, OldDevices, Password, PasswordKind, Recovering, RecoveryMethod, SecretStore,
};
use halfkey_envelope::{
    client_share::Contents,
    seal::{Magic, SealKey, Sealed},
    wallet::Curve,
};
use halfkey_protocol::{ClientBackupShare, CustodianBackupShare, Half, Point, SigningParty, half::danger_combine};
use halfkey_tests::{
    attack::{ServerLoot, guess, open_envelope, plunder_guesskeeper, plunder_server},
    deployment::{Backing, Client, Deployment, copy_folder},
    phone::Phone,
    search::Needles,
    spend::signs,
};
use zeroize::Zeroizing;

const PASSWORD: &str = "seven otters juggle amber lanterns";
const WRONG: &str = "seven otters juggle umber lanterns";
const PIN: &str = "739160482517";

/// The secrets found so far, by the place that each must not leave.
#[derive(Default)]
struct Secrets {
    /// Of the client: never anywhere but on its device.
    client: Vec<(String, Vec<u8>)>,
    /// Of the server and the custodian: at rest only sealed, and never on the way.
    server: Vec<(String, Vec<u8>)>,
    /// What opens the rest: each in one file or one header only.
    keys: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    fn needles(&self, kinds: &[&[(String, Vec<u8>)]]) -> Needles {
        let mut needles = Needles::default();
        for (name, secret) in kinds.iter().copied().flatten() {
            needles.add(name, secret);
        }
        needles
    }

    fn everything(&self) -> Needles {
        self.needles(&[&self.client, &self.server, &self.keys])
    }

    /// The device's own halves and keys, read with its keychain.
    async fn of_device(&mut self, name: &str, phone: &Phone) {
        let wrapping = phone.keychain.read().await.unwrap().unwrap();
        let blob = phone.disk.peek(BlobSlot::Current).unwrap();
        let opened =
            Sealed::parse(Magic(*b"HKD1"), &blob).unwrap().open(&SealKey::from_bytes(wrapping.clone())).unwrap();
        self.client.push((format!("{name}: wrapping key"), wrapping.to_vec()));
        let mut decoder = minicbor::Decoder::new(&opened);
        let before = self.client.len();
        for _ in 0..decoder.map().unwrap().unwrap() {
            match decoder.u8().unwrap() {
                3 => self.client.push((format!("{name}: device key"), decoder.bytes().unwrap().to_vec())),
                5 => {
                    for _ in 0..decoder.array().unwrap().unwrap() {
                        self.share_of(name, &mut decoder);
                    }
                }
                _ => decoder.skip().unwrap(),
            }
        }
        assert_eq!(self.client.len(), before + 3, "the device's key and one half for each curve");
    }

    fn share_of(&mut self, name: &str, decoder: &mut minicbor::Decoder<'_>) {
        for _ in 0..decoder.map().unwrap().unwrap() {
            if decoder.u8().unwrap() == 5 {
                let party = SigningParty::from_bytes(decoder.bytes().unwrap()).unwrap();
                let curve = party.public().curve();
                self.client.push((format!("{name}: a_C on {curve}"), party.share().to_bytes().to_vec()));
            } else {
                decoder.skip().unwrap();
            }
        }
    }

    /// Everything that both folders and the right password give together. The server runs, but nothing is going on.
    async fn of_folders(&mut self, name: &str, deployment: &Deployment, secret: &str) {
        let stolen = tempfile::tempdir().unwrap();
        copy_folder(deployment.root(), stolen.path()).unwrap();
        let server = plunder_server(&stolen.path().join("server")).await.unwrap();
        for half in &server.halves {
            let kind = if half.is_backup { "b_K" } else { "a_S" };
            self.server.push((format!("{name}: {kind} on {}", half.curve), half.scalar.to_vec()));
        }
        let registrations = plunder_guesskeeper(&stolen.path().join("server.guesskeeper")).await.unwrap();
        let mut opened = 0;
        for registration in &registrations {
            self.keys.push((format!("{name}: OPRF key"), registration.oprf_key.expose().to_vec()));
            self.keys.push((format!("{name}: keeper's part"), registration.keeper_part.expose().to_vec()));
            self.keys.push((format!("{name}: unlock tag"), registration.tag.expose().to_vec()));
            self.keys.push((format!("{name}: read-back token"), registration.read_back.expose().to_vec()));
            let Some(record) = guess(registration, &[secret]).unwrap() else { continue };
            let contents = open_envelope(&record, &server.envelopes).unwrap();
            self.client.push((format!("{name}: file key"), record.file_key.expose().to_vec()));
            for curve in Curve::ALL {
                self.client.push((format!("{name}: b_C on {curve}"), contents.share(curve).unwrap().to_vec()));
            }
            opened += 1;
        }
        assert!(opened > 0, "the right password opened nothing");
    }
}

fn by(secret: &str, kind: PasswordKind) -> BackupMethod {
    BackupMethod::Password { password: Password::new(secret), kind }
}

fn open(secret: &str) -> RecoveryMethod {
    RecoveryMethod::Password(Password::new(secret))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// What went over a device's wire: everything but the header that holds its token.
fn messages(phone: &Phone) -> Vec<u8> {
    let mut all = Vec::new();
    for exchange in phone.wire.exchanges() {
        all.extend_from_slice(exchange.request.url.as_bytes());
        for (name, value) in exchange.request.headers.iter().filter(|(name, _)| name != "authorization") {
            all.extend_from_slice(format!("\n{name}: {value}\n").as_bytes());
        }
        all.extend_from_slice(&exchange.request.body);
        let response = exchange.response.unwrap();
        all.extend(response.headers.iter().flat_map(|(name, value)| format!("\n{name}: {value}\n").into_bytes()));
        all.extend_from_slice(&response.body);
    }
    all
}

fn nothing(found: BTreeSet<String>, place: &str) {
    assert!(found.is_empty(), "{place} has {found:?}");
}

/// A full run: create, back up, verify, recover elsewhere, sign, change to a PIN.
async fn full_run(deployment: &Deployment, client: &Client, secrets: &mut Secrets) -> (Phone, Phone) {
    let (phone, tablet) = (Phone::new(deployment, client).unwrap(), Phone::new(deployment, client).unwrap());
    let wallet = phone.app.create_wallet().await.unwrap();
    secrets.of_device("phone", &phone).await;
    phone.app.backup_wallet(by(PASSWORD, PasswordKind::Password)).await.unwrap();
    secrets.of_folders("first backup", deployment, PASSWORD).await;
    phone.app.verify_backup(open(WRONG)).await.unwrap_err();
    phone.app.verify_backup(open(PASSWORD)).await.unwrap();
    signs(&phone.app, &wallet).await.unwrap();
    let outcome = tablet.app.recover_wallet(open(PASSWORD), OldDevices::Keep, Some(wallet.clone())).await.unwrap();
    let Recovering::Recovered(recovered) = outcome else { panic!("{outcome:?}") };
    recovered.fresh_backup.unwrap();
    secrets.of_device("tablet", &tablet).await;
    secrets.of_folders("fresh backup", deployment, PASSWORD).await;
    signs(&tablet.app, &wallet).await.unwrap();
    tablet.app.backup_wallet(by(PIN, PasswordKind::Pin)).await.unwrap();
    secrets.of_folders("PIN backup", deployment, PIN).await;
    eject(deployment, client, &tablet, secrets).await;
    (phone, tablet)
}

/// T21's part of T18: the private keys are on the device that ejects them, and nowhere else.
async fn eject(deployment: &Deployment, client: &Client, tablet: &Phone, secrets: &mut Secrets) {
    deployment.enable_eject(client).unwrap();
    let outcome = tablet.app.eject_private_keys(open(PIN), None).await.unwrap();
    let Ejecting::Keys(keys) = outcome else { panic!("{outcome:?}") };
    tablet.app.acknowledge_eject().await.unwrap();
    let (secp256k1, ed25519) = (keys.secp256k1.ethereum_hex(), keys.ed25519.hex());
    let wif = keys.secp256k1.bitcoin_wif(keys.network);
    secrets.client.push(("ejected: secp256k1".to_owned(), hex::decode(&secp256k1[2..]).unwrap()));
    secrets.client.push(("ejected: WIF".to_owned(), wif.as_bytes().to_vec()));
    secrets.client.push(("ejected: ed25519".to_owned(), hex::decode(ed25519.as_str()).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t07_t18_no_secret_is_found_outside_its_place() {
    let mut deployment = Deployment::start_logging(&Backing::Sqlite, "trace").unwrap();
    let client = deployment.new_client().await.unwrap();
    let mut secrets = Secrets::default();
    let (phone, tablet) = full_run(&deployment, &client, &mut secrets).await;
    for (name, secret) in [("password", PASSWORD), ("wrong password", WRONG), ("PIN", PIN)] {
        secrets.client.push((name.to_owned(), secret.as_bytes().to_vec()));
    }
    let halves = secrets.client.iter().filter(|(name, _)| name.contains("a_C") || name.contains("b_C"));
    let halves: BTreeSet<_> = halves.map(|(_, half)| half).collect();
    assert_eq!(halves.len(), 2 * 2 + 3 * 2, "two devices and three backups on both curves");

    // The live processes: the server has served a backup and a recovery, and holds nothing of the client's.
    let kms = own_key(&deployment.data().join("kms.key"));
    let (mut of_client, mut own) = (secrets.needles(&[&secrets.client]), Needles::default());
    own.add("the server's own key", &kms);
    of_client.add("the server's own key", &kms);
    for (kind, knows) in [("serve", true), ("guesskeeper", false)] {
        let read = of_client.find_in_memory(deployment.process(kind).unwrap());
        let (mut found, searched) = read.unwrap_or_else(|error| {
            panic!("the memory of halfkey {kind} cannot be read ({error}): run this test as root, as ./check does")
        });
        assert!(searched > 1 << 20, "{kind}: only {searched} bytes were searched");
        // The control: what does lie in the server's memory is found there.
        let known: Vec<_> = found.iter().filter(|name| name.starts_with("the server's own key")).cloned().collect();
        assert_eq!(!known.is_empty(), knows, "{kind}: {known:?}");
        known.iter().for_each(|name| assert!(found.remove(name)));
        nothing(found, &format!("the memory of halfkey {kind}"));
    }

    for (name, token) in [("API key", &client.api_key), ("session token", &client.session_token)] {
        secrets.keys.push((name.to_owned(), token.as_bytes().to_vec()));
    }
    secrets.keys.push(("custodian key".to_owned(), deployment.custodian_key().as_bytes().to_vec()));
    let root = fs::read(deployment.keeper_data("guesskeeper").join("root.key")).unwrap();
    secrets.keys.push(("key file of the server".to_owned(), kms));
    secrets.keys.push(("key file of the guesskeeper".to_owned(), root));
    let all = secrets.everything();
    nothing(all.find(&messages(&phone)), "a message of the phone");
    nothing(all.find(&messages(&tablet)), "a message of the tablet");
    let header = phone.wire.exchanges()[0].request.headers.iter().map(|(_, value)| value.clone()).collect::<String>();
    assert!(!all.find(header.as_bytes()).is_empty(), "the control: the API key is in its header");

    deployment.stop().unwrap();
    let log = deployment.log_bytes();
    let text = String::from_utf8_lossy(&log);
    // The guesskeeper writes its statements with sqlx; no other process has such a table.
    for line in ["halfkey_server", "registration SET"] {
        assert!(text.contains(line), "nothing of {line} in the log");
    }
    // The level is TRACE; statements, at DEBUG, are the finest that anything writes today.
    assert!(text.contains("DEBUG sqlx::query"), "the log is not at its finest");
    nothing(all.find(&log), "the log");
    for file in files(deployment.root()) {
        let mut found = all.find(&fs::read(&file).unwrap());
        let own = match file.file_name().unwrap().to_str().unwrap() {
            "kms.key" => Some("key file of the server"),
            "root.key" => Some("key file of the guesskeeper"),
            _ => None,
        };
        if let Some(own) = own {
            let there = found.len();
            found.retain(|name| !name.starts_with(own));
            assert!(found.len() < there, "the control: {own} is in {}", file.display());
        }
        nothing(found, &file.display().to_string());
    }
}

/// The 32 bytes in the server's key file: hex in its second line.
fn own_key(file: &Path) -> Vec<u8> {
    let text = fs::read_to_string(file).unwrap();
    let key = hex::decode(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    key
}

/// The private keys that a thief has made, each checked against the wallet's public key.
fn combine(server: &ServerLoot, contents: &Contents) -> Vec<Zeroizing<[u8; 32]>> {
    let mut keys = Vec::new();
    for half in &server.halves {
        let ours = ClientBackupShare::from_bytes(half.curve, contents.share(half.curve).unwrap()).unwrap();
        let theirs = CustodianBackupShare::from_bytes(half.curve, &half.scalar).unwrap();
        let public_key = Point::from_bytes(half.curve, &half.public_key).unwrap();
        keys.extend(danger_combine(&ours, &theirs, &public_key));
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stolen_folder_opens_nothing_and_both_with_a_weak_password_open_the_wallet() {
    const GUESSES: [&str; 3] = ["correct horse battery staple", WRONG, PASSWORD];
    let mut deployment = Deployment::start(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let phone = Phone::new(&deployment, &client).unwrap();
    phone.app.create_wallet().await.unwrap();
    phone.app.backup_wallet(by(PASSWORD, PasswordKind::Password)).await.unwrap();
    let mut device = Secrets::default();
    device.of_device("phone", &phone).await;
    deployment.stop().unwrap();
    let (server, keeper) = (deployment.data(), deployment.keeper_data("guesskeeper"));

    // The server's folder alone, key file and shred store included: its own halves open, as the threat table says, and
    // the client's envelope is there. But there is nothing to test a guess against, and no half that fits another.
    let stolen = plunder_server(&server).await.unwrap();
    let kinds: Vec<_> = stolen.halves.iter().map(|half| half.is_backup).collect();
    assert_eq!(kinds.iter().filter(|is_backup| **is_backup).count(), 2, "b_K on both curves");
    assert_eq!(kinds.iter().filter(|is_backup| !**is_backup).count(), 2, "a_S on both curves");
    assert_eq!(stolen.envelopes.len(), 1);
    assert!(plunder_guesskeeper(&server).await.is_err(), "the server's folder is no guesskeeper's");
    for first in &stolen.halves {
        for second in stolen.halves.iter().filter(|second| second.curve == first.curve) {
            let public_key = Point::from_bytes(first.curve, &first.public_key).unwrap();
            let one = CustodianBackupShare::from_bytes(first.curve, &first.scalar).unwrap();
            let other = CustodianBackupShare::from_bytes(second.curve, &second.scalar).unwrap();
            assert!(danger_combine(&one, &other, &public_key).is_err(), "two of the server's halves are a wallet");
        }
    }

    // What would let one test a guess is the guesskeeper's: nothing of it is in the server's folder.
    let registrations = plunder_guesskeeper(&keeper).await.unwrap();
    let [registration] = &registrations[..] else { panic!("{} registrations", registrations.len()) };
    let mut door = Needles::default();
    door.add("OPRF key", registration.oprf_key.expose());
    door.add("commitment", registration.commitment.as_slice());
    door.add("unlock tag", registration.tag.expose());
    door.add("keeper's part", registration.keeper_part.expose());
    door.add("wrapped record", &registration.wrapped[registration.wrapped.len() - 64..]);
    for file in files(&server) {
        nothing(door.find(&fs::read(&file).unwrap()), &file.display().to_string());
    }

    // The guesskeeper's folder alone: whoever has it may try passwords without being counted, and a weak one falls. It
    // opens no half: the envelope is not there, nor any half of the server's.
    assert!(plunder_server(&keeper).await.is_err(), "the guesskeeper's folder is no server's");
    assert!(guess(registration, &GUESSES[..2]).unwrap().is_none());
    let record = guess(registration, &GUESSES).unwrap().expect("the documented offline attack");
    assert!(open_envelope(&record, &[]).is_none());
    let mut envelope = Needles::default();
    let sealed = &stolen.envelopes[0].1;
    envelope.add("envelope", &sealed[sealed.len() - 64..]);
    let own = device.needles(&[&device.client]);
    for file in files(&keeper) {
        let bytes = fs::read(&file).unwrap();
        nothing(envelope.find(&bytes), &file.display().to_string());
        nothing(own.find(&bytes), &file.display().to_string());
    }

    // The control, and the honest line of the threat table: both folders and a password that can be guessed are the
    // wallet, on both curves. A strong password would still hold.
    let contents = open_envelope(&record, &stolen.envelopes).expect("the envelope of that record");
    assert_eq!(combine(&stolen, &contents).len(), 2, "the private key of each curve");
}
