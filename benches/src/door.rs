//! One guess at the password door, at the keeper's side: the sealed message opened, the guess counted durably, the
//! element evaluated, the answer sealed. The store is the real one, SQLite on this disk.

use std::sync::Arc;

use halfkey_envelope::{
    door::{self, Evaluate, KdfParams, Mode, Operation, Outcome, Reply, Request, VERSION, Ver},
    entropy::{OsEntropy, random},
    hpke::PublicKey,
    id::{BackupId, ClientId, DeploymentId},
    oprf::Blinding,
    password::{self, Place, Registration},
    text::Password,
};
use halfkey_guesskeeper::{Config, Keeper, Listen, Rules, SystemClock};
use tokio::runtime::Runtime;

use crate::clock::{Meter, process_ms};

const GUESSES: u32 = 9;

/// An open keeper with its folder.
pub struct Door {
    runtime: Runtime,
    keeper: Keeper,
    key: PublicKey,
    _folder: tempfile::TempDir,
}

/// A registration that may be guessed at.
struct Target {
    backup: BackupId,
    ver: Ver,
}

impl Default for Door {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = Config::new(folder.path().join("data"), Listen::Unix(folder.path().join("socket")));
        config.anchor = Some(folder.path().join("anchor"));
        config.rules = Rules { delays_ms: [0; 7], ..Rules::default() };
        let keeper = runtime.block_on(Keeper::open(&config, Arc::new(SystemClock))).unwrap();
        let key = keeper.public_key();
        Self { runtime, keeper, key, _folder: folder }
    }
}

impl Door {
    /// As many guesses as one registration allows before the last one.
    #[must_use]
    pub fn guesses(&self) -> Vec<Meter> {
        let target = self.register();
        (0..GUESSES).map(|_| self.guess(&target)).collect()
    }

    fn ask(&self, request: Request) -> Reply {
        self.runtime.block_on(self.keeper.handle(request))
    }

    fn register(&self) -> Target {
        let entropy = &mut OsEntropy;
        let backup = BackupId::generate(entropy, 1);
        let place =
            Place { deployment: DeploymentId::from_bytes([1; 16]), client: ClientId::from_bytes([2; 16]), backup };
        let context = password::new_context(place, Mode::Password, KdfParams::FLOOR, &self.key, entropy);
        let password = Password::text("seven otters juggle amber lanterns").unwrap();
        let stretched = password::stretch(&password, &context).unwrap();
        let registration = Registration::new(&context, &stretched, &[3; 300], 10, &self.key, entropy).unwrap();
        let (ver, sealed) = (registration.ver(), registration.message().clone());
        let Reply::Answer { answer } = self.ask(Request::Register { backup, sealed }) else { panic!("not registered") };
        registration.finish(&answer).unwrap();
        assert!(matches!(self.ask(Request::Activate { backup, ver }), Reply::Status { .. }));
        Target { backup, ver }
    }

    fn guess(&self, target: &Target) -> Meter {
        let blinding = Blinding::new(random::<32>(&mut OsEntropy).as_ref(), &mut OsEntropy).unwrap();
        let Target { backup, ver } = *target;
        let body = Evaluate { version: VERSION, backup, ver, blinded: (*blinding.blinded()).into(), read_back: None };
        let (sealed, key) = door::seal_body(&self.key, &body, &mut OsEntropy).unwrap();
        let mut meter = Meter::default();
        let before = process_ms();
        let reply = self.ask(Request::Evaluate { backup, sealed });
        meter.add("guesskeeper", process_ms() - before);
        let Reply::Answer { answer } = reply else { panic!("no answer") };
        let keeper = door::KeeperId::of(&self.key);
        let (_, outcome) = door::open_answer(&key, Operation::Evaluate, keeper, backup, &answer).unwrap();
        assert!(matches!(outcome, Outcome::Evaluated { .. }), "the guess was counted and evaluated");
        meter
    }
}
