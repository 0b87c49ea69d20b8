//! Passkeys on real processes: server, keeper and guesskeeper, each of its own, and `kill -9` in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use halfkey_client::{
    Addresses, BackupMethod, Error, OldDevices, PasskeyBackup, PasskeyChange, PasskeyMode, Recovering, RecoveryMethod,
    Resumed,
};
use halfkey_envelope::id::BackupId;
use halfkey_tests::{
    authenticator::Authenticator,
    deployment::{Backing, Client, Deployment, ORIGIN, Snapshot},
    phone::{Failed, Phone, Saved},
    spend::signs,
    wire::{Cut, Side},
};

fn by(mode: Option<PasskeyMode>) -> BackupMethod {
    BackupMethod::Passkey(PasskeyBackup { mode, change: PasskeyChange::Keep })
}

async fn recovers(phone: &Phone, wallet: &Addresses) -> Result<(), Error> {
    match phone.app.recover_wallet(RecoveryMethod::Passkey, OldDevices::Keep, Some(wallet.clone())).await? {
        Recovering::Recovered(recovered) => recovered.fresh_backup.map(drop),
        waiting => panic!("{waiting:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_lives_on_by_passkey_in_every_mode_across_restarts_of_everything() {
    let mut deployment = Deployment::start_with_passkeys(&Backing::Sqlite).unwrap();
    for (seed, mode) in PasskeyMode::ALL.into_iter().enumerate() {
        let client = deployment.new_client().await.unwrap();
        let provider = Authenticator::new(seed as u64, ORIGIN);
        let phone = Phone::with_passkeys(&deployment, &client, &provider).unwrap();
        let wallet = phone.app.create_wallet().await.unwrap();
        phone.app.backup_wallet(by(Some(mode))).await.unwrap();
        assert!(phone.app.is_wallet_backed_up().await.unwrap(), "{mode}");
        drop(phone);

        // The keeper has no state but its root: killed and started again, it opens what it never saw.
        deployment.kill_keeper("keeper").unwrap();
        deployment.kill().unwrap();
        deployment.restart().unwrap();
        let new = Phone::with_passkeys(&deployment, &client, &provider).unwrap();
        recovers(&new, &wallet).await.unwrap();
        signs(&new.app, &wallet).await.unwrap();
        assert_eq!(new.app.verify_backup(RecoveryMethod::Passkey).await.unwrap().curves.len(), 2, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_keeper_is_away_nothing_is_lost_and_other_things_go_on() {
    let mut deployment = Deployment::start_with_passkeys(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let provider = Authenticator::new(9, ORIGIN);
    let phone = Phone::with_passkeys(&deployment, &client, &provider).unwrap();
    let wallet = phone.app.create_wallet().await.unwrap();
    phone.app.backup_wallet(by(Some(PasskeyMode::Keeper))).await.unwrap();
    let before = phone.app.backup_status().await.unwrap();

    deployment.kill_keeper("keeper").unwrap();
    let new = Phone::with_passkeys(&deployment, &client, &provider).unwrap();
    for refused in [
        phone.app.backup_wallet(by(None)).await.err(),
        phone.app.verify_backup(RecoveryMethod::Passkey).await.err(),
        recovers(&new, &wallet).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::Retry { .. })), "{refused:?}");
    }
    assert_eq!(phone.app.backup_status().await.unwrap(), before, "the older backup counts");
    signs(&phone.app, &wallet).await.unwrap();

    deployment.start_keeper().unwrap();
    recovers(&new, &wallet).await.unwrap();
    signs(&new.app, &wallet).await.unwrap();
}

/// Which verb is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// A second passkey backup, over a first one.
    BackUp,
    Recover,
}

/// A deployment with a wallet and a passkey backup, stopped.
struct Scene {
    snapshot: Snapshot,
    client: Client,
    provider: Authenticator,
    phone: Saved,
    wallet: Addresses,
    backup: Option<BackupId>,
}

impl Scene {
    async fn new() -> Result<Self, Failed> {
        let mut deployment = Deployment::start_with_passkeys(&Backing::Sqlite)?;
        let (client, provider) = (deployment.new_client().await?, Authenticator::new(20, ORIGIN));
        let phone = Phone::with_passkeys(&deployment, &client, &provider)?;
        let wallet = phone.app.create_wallet().await?;
        let backup = phone.app.backup_wallet(by(Some(PasskeyMode::Keeper))).await?;
        let snapshot = deployment.snapshot()?;
        let phone = phone.saved().await?;
        Ok(Self { snapshot, client, provider, phone, wallet, backup: Some(backup.backup_id) })
    }

    /// The old phone with all that was on it, or a new one.
    async fn stage(&self, verb: Verb) -> Result<(Deployment, Phone), Failed> {
        let deployment = Deployment::from_snapshot(&self.snapshot)?;
        let phone = Phone::with_passkeys(&deployment, &self.client, &self.provider)?;
        if verb == Verb::BackUp {
            phone.restore(&self.phone).await?;
        }
        Ok((deployment, phone))
    }

    async fn run(&self, verb: Verb, phone: &Phone) -> Result<(), Failed> {
        match verb {
            Verb::BackUp => phone.app.backup_wallet(by(None)).await.map(drop)?,
            Verb::Recover => recovers(phone, &self.wallet).await?,
        }
        Ok(())
    }

    /// Kills the server or the keeper at one message, with the app; starts again, and looks at what is left.
    async fn crash(&self, verb: Verb, exchange: usize, side: Side, kind: &str) -> Result<(), Failed> {
        let (mut deployment, phone) = self.stage(verb).await?;
        let victim = deployment.process(kind)?.to_string();
        let strike = Box::new(move || assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success()));
        phone.wire.cut(Cut { exchange, side, strike, device_dies: true });
        tokio::select! {
            _ = self.run(verb, &phone) => return Err("the recorded message did not come".into()),
            () = phone.wire.was_cut() => {}
        }
        deployment.kill()?;
        deployment.restart()?;
        let phone = phone.restarted(&deployment)?;
        let resumed = phone.app.resume().await?;
        match verb {
            Verb::BackUp => {
                signs(&phone.app, &self.wallet).await?;
                let last = phone.app.passkeys().await?.backup_id;
                let done = Some(last) != self.backup;
                if done != matches!(resumed, Resumed::BackupCompleted(_)) {
                    return Err(format!("the newest backup is {last}, and resume said {resumed:?}").into());
                }
            }
            Verb::Recover if phone.app.is_wallet_on_device().await? => signs(&phone.app, &self.wallet).await?,
            Verb::Recover => {
                let wallet = Some(self.wallet.clone());
                match resumed {
                    Resumed::RecoveryOpen { .. } => {
                        phone.app.resume_recovery(RecoveryMethod::Passkey, wallet).await.map(drop)?;
                    }
                    _ => recovers(&phone, &self.wallet).await?,
                }
                signs(&phone.app, &self.wallet).await?;
            }
        }
        // Whatever counts now recovers on a device that never was there. Its own fresh backup may have to wait: a device
        // that dies while it makes one holds the method for a minute (DECISIONS.md D23).
        let fresh = Phone::with_passkeys(&deployment, &self.client, &self.provider)?;
        match recovers(&fresh, &self.wallet).await {
            Ok(()) | Err(Error::OperationInProgress) => signs(&fresh.app, &self.wallet).await,
            Err(error) => Err(error.into()),
        }
    }
}

/// Kills the server at every message that changes something, and the keeper at every message to it; at all messages,
/// both, with `HALFKEY_LONG=1`.
async fn every_message(verb: Verb) {
    let scene = Scene::new().await.unwrap();
    let (deployment, phone) = scene.stage(verb).await.unwrap();
    scene.run(verb, &phone).await.unwrap();
    let names: Vec<String> = phone.wire.exchanges().into_iter().map(|exchange| exchange.name).collect();
    drop((phone, deployment));
    let doors = names.iter().filter(|name| name.ends_with("passkey-door")).count();
    let expected = match verb {
        Verb::BackUp => 1,
        // The release, and the evidence that the new device wants before it seals anew.
        Verb::Recover => 2,
    };
    assert_eq!(doors, expected, "{names:?}");
    let long = std::env::var_os("HALFKEY_LONG").is_some();
    let (mut played, mut failures) = (0, Vec::new());
    for (exchange, name) in names.iter().enumerate() {
        for side in [Side::Request, Side::Answer] {
            for kind in ["serve", "keeper"] {
                let door = name.ends_with("passkey-door");
                let chosen = match kind {
                    "keeper" => door,
                    _ => side == Side::Answer && !name.starts_with("GET"),
                };
                if !chosen && !long {
                    continue;
                }
                played += 1;
                if let Err(error) = scene.crash(verb, exchange, side, kind).await {
                    failures.push(format!("{verb:?} {exchange}: {side:?} of {name}, {kind} dies: {error}"));
                }
            }
        }
    }
    assert!(played >= 8, "{played} of {names:?}");
    assert!(failures.is_empty(), "{} of {played} crash points:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_backup_killed_at_any_message_leaves_one_that_opens() {
    every_message(Verb::BackUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_by_passkey_killed_at_any_message_is_carried_on() {
    every_message(Verb::Recover).await;
}
