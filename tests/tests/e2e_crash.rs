//! T5 over real sockets: `kill -9` at every message of create → back up → recover → sign → change password → verify →
//! heal (after a ban that the operator has lifted), and of an eject inside the operator's window.
//!
//! The list of crash points is not written down anywhere: a first run of each verb records every HTTP message in both
//! directions, and each message is one point. At a request the server dies before it reads it; at an answer it dies
//! after its work is done, before the device hears of it. Then the same folder is started again on the same port, the
//! app calls `resume`, and must find: the wallet signs with the same addresses, the last completed backup recovers on a
//! fresh device, and the verb can be carried to its end.
//!
//! Every verb begins from a copy of one prepared folder, so that the costly key generation happens once.
//!
//! What is played, so that `./check` stays affordable (each point costs about three seconds of processor time, all of
//! them some four minutes on two processors):
//! - SQLite, every point: the app dies at the same moment as the server.
//! - PostgreSQL, the answer of every call that changes something (each commit, each step of a ceremony; neither reads
//!   nor the password door, whose counts are in another database): the app lives on and sees the connection break.
//! - `HALFKEY_LONG=1`: every point, on both, both ways.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{process::Command, sync::Arc};

use halfkey_client::{
    Addresses, BackupMethod, Ejecting, Error, Halfkey, OldDevices, Password, PasswordKind, Recovering, RecoveryMethod,
    Resumed,
};
use halfkey_envelope::{id::BackupId, wallet::Curve};
use halfkey_tests::{
    deployment::{Backing, Client, Deployment, Snapshot},
    phone::{Failed, Phone, Saved},
    postgres::Postgres,
    spend::signs,
    wire::{Cut, Exchange, Side},
};

const FIRST: &str = "seven otters juggle amber lanterns";
const SECOND: &str = "eleven foxes paint a violet harbour";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Create,
    BackUp,
    Recover,
    Sign,
    ChangePassword,
    Verify,
    Heal,
    Eject,
}

impl Verb {
    const ALL: [Self; 8] = [
        Self::Create,
        Self::BackUp,
        Self::Recover,
        Self::Sign,
        Self::ChangePassword,
        Self::Verify,
        Self::Heal,
        Self::Eject,
    ];

    /// Whether it is played before `later`: a ban and its healing are left out before an eject.
    fn precedes(self, later: Self) -> bool {
        self < later && self != Self::Heal
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::BackUp => "back-up",
            Self::Recover => "recover",
            Self::Sign => "sign",
            Self::ChangePassword => "change-password",
            Self::Verify => "verify",
            Self::Heal => "heal",
            Self::Eject => "eject",
        }
    }

    /// How many messages the recorded run must have.
    fn committed(self) -> usize {
        let file = include_str!("../crash_points.txt");
        let line = file.lines().find_map(|line| line.strip_prefix(self.name())?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    /// Carries the verb out; `wallet` is what the client has, if anything.
    async fn run(self, app: &Halfkey, wallet: Option<&Addresses>) -> Result<(), Failed> {
        match self {
            Self::Create => app.create_wallet().await.map(drop)?,
            Self::BackUp => app.backup_wallet(by(FIRST)).await.map(drop)?,
            Self::Recover => recovered(app.recover_wallet(open(FIRST), OldDevices::Revoke, wallet.cloned()).await?)?,
            Self::Sign => signs(app, wallet.ok_or("no wallet")?).await?,
            Self::ChangePassword => {
                app.change_password(Password::new(SECOND), PasswordKind::Password).await.map(drop)?;
            }
            Self::Verify => app.verify_backup(open(SECOND)).await.map(drop)?,
            Self::Heal => app.heal_wallet().await.map(drop)?,
            Self::Eject => {
                private_keys(app, wallet.ok_or("no wallet")?).await?;
                app.acknowledge_eject().await?;
            }
        }
        Ok(())
    }
}

fn by(password: &str) -> BackupMethod {
    BackupMethod::Password { password: Password::new(password), kind: PasswordKind::Password }
}

fn open(password: &str) -> RecoveryMethod {
    RecoveryMethod::Password(Password::new(password))
}

fn recovered(outcome: Recovering) -> Result<(), Failed> {
    match outcome {
        Recovering::Recovered(_) => Ok(()),
        Recovering::Waiting { .. } | Recovering::StepUpRequired { .. } | Recovering::Undecided { .. } => {
            Err("the recovery has to wait".into())
        }
    }
}

/// The private keys, as the device shows them.
async fn private_keys(app: &Halfkey, wallet: &Addresses) -> Result<[String; 2], Failed> {
    match app.eject_private_keys(open(SECOND), Some(wallet.clone())).await? {
        Ejecting::Keys(keys) => Ok([keys.secp256k1.ethereum_hex().to_string(), keys.ed25519.hex().to_string()]),
        other => Err(format!("the eject has to wait: {other:?}").into()),
    }
}

/// Everything as it is before a verb: the stopped deployment, and what is on both devices.
struct Scene {
    verb: Verb,
    snapshot: Snapshot,
    client: Client,
    phone: Saved,
    tablet: Saved,
    wallet: Option<Addresses>,
    backup: Option<BackupId>,
    messages: Vec<(usize, Side, String)>,
    /// Of the recorded eject.
    keys: Option<[String; 2]>,
}

/// A scene being played.
struct Stage<'a> {
    scene: &'a Scene,
    deployment: Deployment,
    phone: Phone,
    tablet: Phone,
}

impl Scene {
    /// Plays all verbs before this one, and this one once to record its messages.
    async fn before(verb: Verb, backing: &Backing) -> Result<Self, Failed> {
        let mut deployment = Deployment::start(backing)?;
        let client = deployment.new_client().await?;
        let (phone, tablet) = (Phone::new(&deployment, &client)?, Phone::new(&deployment, &client)?);
        let mut wallet = None;
        for earlier in Verb::ALL.into_iter().filter(|earlier| earlier.precedes(verb)) {
            let device = if earlier < Verb::Recover { &phone } else { &tablet };
            earlier.run(&device.app, wallet.as_ref()).await?;
            wallet = Some(device.app.addresses().await?);
        }
        let device = if verb < Verb::Recover { &phone } else { &tablet };
        if verb == Verb::Heal {
            let pair = deployment.ban(&client).await?;
            deployment.operator(&["review-ban", "--client", &client.id, "--pair", &pair, "--lift"])?;
        }
        let backup = completed(&device.app).await?;
        let snapshot = deployment.snapshot()?;
        let mut scene = Self {
            verb,
            snapshot,
            client,
            phone: phone.saved().await?,
            tablet: tablet.saved().await?,
            wallet,
            backup,
            messages: Vec::new(),
            keys: None,
        };
        let stage = scene.stage().await?;
        let before = stage.device().wire.exchanges().len();
        verb.run(&stage.device().app, scene.wallet.as_ref()).await?;
        let exchanges: Vec<Exchange> = stage.device().wire.exchanges().split_off(before);
        let keys = match (verb, &scene.wallet) {
            (Verb::Eject, Some(wallet)) => Some(private_keys(&stage.device().app, wallet).await?),
            _ => None,
        };
        drop(stage);
        scene.keys = keys;
        for (number, exchange) in exchanges.into_iter().enumerate() {
            scene.messages.push((number, Side::Request, exchange.name.clone()));
            scene.messages.push((number, Side::Answer, exchange.name));
        }
        Ok(scene)
    }

    async fn stage(&self) -> Result<Stage<'_>, Failed> {
        let deployment = Deployment::from_snapshot(&self.snapshot)?;
        let phone = Phone::restored(&deployment, &self.client, &self.phone).await?;
        let tablet = Phone::restored(&deployment, &self.client, &self.tablet).await?;
        if self.verb == Verb::Eject {
            deployment.enable_eject(&self.client)?;
        }
        let stage = Stage { scene: self, deployment, phone, tablet };
        if self.verb == Verb::Sign {
            // The start may have forgotten the session that was opened ahead; every signature after this one has one.
            self.verb.run(&stage.device().app, self.wallet.as_ref()).await?;
        }
        Ok(stage)
    }

    /// Kills at one message, starts again, and looks at what is left.
    async fn crash(&self, exchange: usize, side: Side, device_dies: bool) -> Result<(), Failed> {
        let mut stage = self.stage().await?;
        let server = stage.deployment.process("serve")?.to_string();
        let strike = Box::new(move || assert!(Command::new("kill").args(["-9", &server]).status().unwrap().success()));
        stage.device().wire.cut(Cut { exchange, side, strike, device_dies });
        let device = stage.device();
        tokio::select! {
            _ = self.verb.run(&device.app, self.wallet.as_ref()) => {
                if device_dies { return Err("the recorded message did not come".into()) }
            }
            () = device.wire.was_cut() => {}
        }
        stage.deployment.kill()?;
        stage.deployment.restart()?;
        stage.reopen(device_dies)?;
        stage.check().await
    }
}

impl<'a> Stage<'a> {
    /// The device that carries the verb out.
    fn device(&self) -> &Phone {
        if self.scene.verb < Verb::Recover { &self.phone } else { &self.tablet }
    }

    fn reopen(&mut self, device_died: bool) -> Result<(), Failed> {
        if device_died {
            let slot = if self.scene.verb < Verb::Recover { &mut self.phone } else { &mut self.tablet };
            let fresh = Phone::new(&self.deployment, &self.scene.client)?;
            *slot = std::mem::replace(slot, fresh).restarted(&self.deployment)?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), Failed> {
        let resumed = self.device().app.resume().await?;
        if resumed != Resumed::Nothing && self.device().app.resume().await? == resumed {
            // Only what waits for the user's password may be there twice.
            let open = matches!(resumed, Resumed::RecoveryOpen { .. } | Resumed::EjectOpen { .. });
            if !open {
                return Err(format!("resume does not end: {resumed:?}").into());
            }
        }
        match self.scene.verb {
            Verb::Create => self.created(&resumed).await,
            Verb::BackUp | Verb::ChangePassword => self.backed_up(&resumed).await,
            Verb::Recover => self.recovered(&resumed).await,
            Verb::Sign | Verb::Verify => self.unchanged().await,
            Verb::Heal => self.healed(&resumed).await,
            Verb::Eject => self.ejected().await,
        }
    }

    async fn created(&self, resumed: &Resumed) -> Result<(), Failed> {
        let app = &self.phone.app;
        let wallet = match app.is_wallet_on_device().await? {
            true => app.addresses().await?,
            false if *resumed == Resumed::WalletCompleted => return Err("completed, but not here".into()),
            false => app.create_wallet().await?,
        };
        signs(app, &wallet).await?;
        app.backup_wallet(by(FIRST)).await?;
        self.recovers_elsewhere(FIRST, &wallet).await
    }

    async fn backed_up(&self, resumed: &Resumed) -> Result<(), Failed> {
        let (app, wallet) = (&self.device().app, self.wallet()?);
        signs(app, wallet).await?;
        let (old, new) = match self.scene.verb {
            Verb::BackUp => (None, FIRST),
            _ => (Some(FIRST), SECOND),
        };
        let last = completed(app).await?;
        let done = last != self.scene.backup;
        if done != matches!(resumed, Resumed::BackupCompleted(_)) {
            return Err(format!("the newest backup is {last:?}, and resume said {resumed:?}").into());
        }
        // Before anything is tried again, the backup that counts now must recover.
        if let Some(password) = if done { Some(new) } else { old } {
            self.recovers_elsewhere(password, wallet).await?;
        }
        self.scene.verb.run(app, Some(wallet)).await?;
        signs(app, wallet).await?;
        if done || old.is_some() {
            return Ok(());
        }
        self.recovers_elsewhere(new, wallet).await
    }

    async fn recovered(&self, resumed: &Resumed) -> Result<(), Failed> {
        let (app, wallet) = (&self.tablet.app, self.wallet()?);
        let done = app.is_wallet_on_device().await?;
        if !done {
            // Nothing has taken the old device's place yet.
            signs(&self.phone.app, wallet).await?;
            let outcome = match resumed {
                Resumed::RecoveryOpen { .. } => app.resume_recovery(open(FIRST), Some(wallet.clone())).await?,
                Resumed::RecoveryCompleted => return Err("completed, but not here".into()),
                _ => app.recover_wallet(open(FIRST), OldDevices::Revoke, Some(wallet.clone())).await?,
            };
            recovered(outcome)?;
        }
        signs(app, wallet).await?;
        if signs(&self.phone.app, wallet).await.is_ok() {
            return Err("the old device was to be revoked, and signs".into());
        }
        // Recovered only now, the last completed backup has just been shown to recover.
        if done { self.recovers_elsewhere(FIRST, wallet).await } else { Ok(()) }
    }

    /// One review is enough, however often it is interrupted.
    async fn healed(&self, resumed: &Resumed) -> Result<(), Failed> {
        let (app, wallet) = (&self.tablet.app, self.wallet()?);
        match resumed {
            Resumed::Healed(Curve::Secp256k1) => {}
            Resumed::Nothing => match app.heal_wallet().await {
                // The server, or the device alone, had done it all.
                Ok(_) | Err(Error::NotBanned) => {}
                Err(error) => return Err(error.into()),
            },
            other => return Err(format!("resume said {other:?}").into()),
        }
        signs(app, wallet).await?;
        if app.heal_wallet().await != Err(Error::NotBanned) {
            return Err("healed twice".into());
        }
        if completed(app).await? != self.scene.backup {
            return Err("another backup".into());
        }
        self.recovers_elsewhere(SECOND, wallet).await
    }

    /// Before the custodian's halves have left nothing has changed; from then on nothing but the eject works. The same call
    /// gives the same keys, before the acknowledgement and after it.
    async fn ejected(&self) -> Result<(), Failed> {
        let (app, wallet) = (&self.tablet.app, self.wallet()?);
        let still_open = app.is_wallet_recoverable().await?;
        if signs(app, wallet).await.is_ok() != still_open {
            return Err(format!("recoverable: {still_open}, and signing says something else").into());
        }
        for acknowledged in [false, true, true] {
            let keys = private_keys(app, wallet).await?;
            if Some(&keys) != self.scene.keys.as_ref() {
                return Err(format!("other keys came out, acknowledged: {acknowledged}").into());
            }
            app.acknowledge_eject().await?;
        }
        if signs(app, wallet).await.is_ok() {
            return Err("an ejected wallet signs".into());
        }
        let fresh = Phone::new(&self.deployment, &self.scene.client)?;
        match fresh.app.recover_wallet(open(SECOND), OldDevices::Keep, Some(wallet.clone())).await {
            Err(Error::Ejected) => Ok(()),
            other => Err(format!("an ejected wallet is recovered: {other:?}").into()),
        }
    }

    async fn unchanged(&self) -> Result<(), Failed> {
        let (app, wallet) = (&self.tablet.app, self.wallet()?);
        signs(app, wallet).await?;
        if completed(app).await? != self.scene.backup {
            return Err("another backup".into());
        }
        self.scene.verb.run(app, Some(wallet)).await?;
        self.recovers_elsewhere(if self.scene.verb == Verb::Verify { SECOND } else { FIRST }, wallet).await
    }

    /// A device that never was there recovers the wallet and signs; the others go on signing.
    async fn recovers_elsewhere(&self, password: &str, wallet: &Addresses) -> Result<(), Failed> {
        let fresh = Phone::new(&self.deployment, &self.scene.client)?;
        let outcome = fresh.app.recover_wallet(open(password), OldDevices::Keep, Some(wallet.clone())).await?;
        recovered(outcome)?;
        signs(&fresh.app, wallet).await
    }

    fn wallet(&self) -> Result<&'a Addresses, Failed> {
        self.scene.wallet.as_ref().ok_or_else(|| "no wallet".into())
    }
}

/// The completed password backup, as the server proved it.
async fn completed(app: &Halfkey) -> Result<Option<BackupId>, Error> {
    let status = app.backup_status().await?;
    Ok(status.methods.iter().find(|method| method.status == "completed").and_then(|method| method.backup_id))
}

fn long() -> bool {
    std::env::var_os("HALFKEY_LONG").is_some()
}

/// Plays one verb: all its crash points of this share of the whole.
async fn every_message(verb: Verb, backing: &Backing, share: (usize, usize)) {
    let scene = Scene::before(verb, backing).await.unwrap();
    let found = scene.messages.len();
    // Fewer: a message is not recorded any more. More: commit the new number, so that none of them gets lost again.
    assert_eq!(found, verb.committed(), "messages of {}; tests/crash_points.txt has another number", verb.name());
    let sqlite = matches!(backing, Backing::Sqlite);
    let mut played = 0;
    let mut failures = Vec::new();
    for (number, (exchange, side, name)) in scene.messages.iter().enumerate() {
        let changes = !name.starts_with("GET") && !name.ends_with("password-door");
        let chosen = |device_dies: bool| match (sqlite, device_dies) {
            _ if long() => true,
            (true, dies) => dies,
            (false, dies) => !dies && changes && *side == Side::Answer,
        };
        for device_dies in [true, false] {
            if !chosen(device_dies) || number % share.1 != share.0 {
                continue;
            }
            played += 1;
            if let Err(error) = scene.crash(*exchange, *side, device_dies).await {
                let app = if device_dies { "the app dies too" } else { "the app lives on" };
                failures.push(format!("{} {number}: {side:?} of {name}, {app}: {error}", verb.name()));
            }
        }
    }
    assert!(played > 0);
    assert!(failures.is_empty(), "{} of {played} crash points:\n{}", failures.len(), failures.join("\n"));
}

macro_rules! sqlite {
    ($($name:ident: $verb:ident, $share:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            every_message(Verb::$verb, &Backing::Sqlite, $share).await;
        }
    )*};
}

sqlite! {
    t05_sqlite_create: Create, (0, 1);
    t05_sqlite_back_up: BackUp, (0, 1);
    t05_sqlite_recover_requests: Recover, (0, 2);
    t05_sqlite_recover_answers: Recover, (1, 2);
    t05_sqlite_sign: Sign, (0, 1);
    t05_sqlite_change_password: ChangePassword, (0, 1);
    t05_sqlite_verify: Verify, (0, 1);
    t05_sqlite_heal: Heal, (0, 1);
    t05_sqlite_eject: Eject, (0, 1);
}

macro_rules! postgres {
    ($($name:ident: $verb:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            every_message(Verb::$verb, &Backing::Postgres(Arc::new(Postgres::start().unwrap())), (0, 1)).await;
        }
    )*};
}

postgres! {
    t05_postgres_create: Create;
    t05_postgres_back_up: BackUp;
    t05_postgres_recover: Recover;
    t05_postgres_sign: Sign;
    t05_postgres_change_password: ChangePassword;
    t05_postgres_verify: Verify;
    t05_postgres_heal: Heal;
}
