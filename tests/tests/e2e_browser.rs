//! Passkeys as users of the command line have them: `halfkey wallet …` in processes of their own, a deployment that hosts
//! the relying party and whose keeper has a TPM, and a real browser with a virtual authenticator on the page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use halfkey_tests::{
    browser::{Authenticator, Browser},
    deployment::{Backing, Deployment, HOSTED},
    user::{Hand, Ran, User},
};
use serde_json::{Value, json};

const PASSPHRASE: &str = "the laptop's own passphrase";
const OTHER_PASSPHRASE: &str = "another passphrase altogether";
const PASSWORD: &str = "seven otters juggle amber lanterns";

const BACKUP: [&str; 3] = ["backup", "--method", "passkey"];
const VERIFY: [&str; 3] = ["verify", "--method", "passkey"];
const RECOVER: [&str; 5] = ["recover", "--method", "passkey", "--old-devices", "keep"];

fn done(ran: Ran) -> Value {
    assert_eq!(ran.status, 0, "{ran:?}");
    ran.out
}

/// The exit status and the code.
fn refused(ran: &Ran) -> (i32, &str) {
    (ran.status, ran.out["error"]["code"].as_str().unwrap_or_default())
}

/// What the server tells about the backups.
fn backups(user: &User<'_>) -> Value {
    user.does(&["status"], &[])["backupStatus"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_is_backed_up_lost_and_recovered_in_the_browser_in_every_mode() {
    let deployment = Deployment::start_with_passkey_page(&Backing::Sqlite).unwrap();
    let mut browser = Browser::start().await.unwrap();
    let authenticator = browser.plug_in(Authenticator::default()).await.unwrap();
    for (round, mode) in ["keeper", "prf", "keeper+prf"].into_iter().enumerate() {
        let client = deployment.new_client().await.unwrap();
        let laptop = User::new(&deployment, &format!("laptop {round}"), PASSPHRASE, &client);
        let addresses = laptop.does(&["create"], &[])["addresses"].take();
        let by_mode = [&BACKUP[..], &["--passkey-mode", mode]].concat();
        let backup = done(laptop.at(&mut browser, Hand::Agrees, &by_mode).await);
        assert_eq!((&backup["method"], &backup["deviceBound"]), (&json!("PASSKEY"), &json!(false)), "{mode}");
        assert_eq!(backups(&laptop)["backedUp"], json!(true), "{mode}");
        assert_eq!(browser.passkeys(&authenticator).await.unwrap(), round + 1);
        fs::remove_dir_all(&laptop.profile).unwrap();

        let desktop = User::new(&deployment, &format!("desktop {round}"), OTHER_PASSPHRASE, &client);
        let recovered = done(desktop.at(&mut browser, Hand::Agrees, &RECOVER).await);
        assert_eq!(recovered["addresses"], addresses, "{mode}");
        assert_eq!(recovered["freshBackup"]["method"], json!("PASSKEY"), "{mode}");
        desktop.signs(&addresses);
        let list = desktop.does(&["passkeys", "list"], &[]);
        assert_eq!((&list["mode"], &list["relyingParty"]), (&json!(mode), &json!(HOSTED)));
        assert_eq!(list["passkeys"].as_array().unwrap().len(), 1);
        // The fresh backup that the recovery left behind opens too.
        let verified = done(desktop.at(&mut browser, Hand::Agrees, &VERIFY).await);
        let held = |curve| {
            json!({
                "curve": curve, "methodKey": "held", "clientShare": "held", "custodianShare": "held", "publicKey": "held",
            })
        };
        let curves = json!([held("SECP256K1"), held("ED25519")]);
        assert_eq!((&verified["backupId"], &verified["curves"]), (&list["backupId"], &curves));
        assert_eq!(browser.passkeys(&authenticator).await.unwrap(), round + 1, "no passkey was made but the first");
    }
}

/// At each of its two questions the user turns a backup away: nothing is changed on either side, and the older backup
/// still opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_cancels_in_the_browser_keeps_what_was_there() {
    let deployment = Deployment::start_with_passkey_page(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let mut browser = Browser::start().await.unwrap();
    browser.plug_in(Authenticator::default()).await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let ran = laptop.at(&mut browser, Hand::Cancels(0), &BACKUP).await;
    assert_eq!(refused(&ran), (1, "CANCELLED"));
    assert_eq!(backups(&laptop)["methods"], json!([]), "not even a pending one");

    let first = done(laptop.at(&mut browser, Hand::Agrees, &BACKUP).await);
    let (before, list) = (backups(&laptop), laptop.does(&["passkeys", "list"], &[]));
    let replace = [&BACKUP[..], &["--replace-passkeys"]].concat();
    for (words, agreed) in [(&BACKUP[..], 0), (&replace, 0), (&replace, 1)] {
        let ran = laptop.at(&mut browser, Hand::Cancels(agreed), words).await;
        assert_eq!(refused(&ran), (1, "CANCELLED"), "{words:?} {agreed}");
        assert!(ran.out["error"]["advice"].as_str().unwrap().starts_with("Nothing was changed."), "{}", ran.out);
        assert_eq!((backups(&laptop), laptop.does(&["passkeys", "list"], &[])), (before.clone(), list.clone()));
    }
    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let ran = desktop.at(&mut browser, Hand::Cancels(0), &RECOVER).await;
    assert_eq!(refused(&ran), (1, "CANCELLED"));
    assert_eq!(backups(&laptop), before);
    laptop.signs(&addresses);

    let verified = done(laptop.at(&mut browser, Hand::Agrees, &VERIFY).await);
    assert_eq!(verified["backupId"], first["backupId"]);
    let recovered = done(desktop.at(&mut browser, Hand::Agrees, &RECOVER).await);
    assert_eq!(recovered["addresses"], addresses);
    desktop.signs(&addresses);
}

/// A security key holds the only passkey: the backup opens, and is never called safe. Where the key is not, the other
/// ways are named, and work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_on_one_device_is_reported_and_without_it_the_other_ways_are_named() {
    let deployment = Deployment::start_with_passkey_page(&Backing::Sqlite).unwrap();
    let client = deployment.new_client().await.unwrap();
    let mut browser = Browser::start().await.unwrap();
    browser.plug_in(Authenticator { synced: false, ..Default::default() }).await.unwrap();
    let laptop = User::new(&deployment, "laptop", PASSPHRASE, &client);
    let addresses = laptop.does(&["create"], &[])["addresses"].take();
    let backup = done(laptop.at(&mut browser, Hand::Agrees, &BACKUP).await);
    assert_eq!(backup["deviceBound"], json!(true));
    let status = backups(&laptop);
    assert_eq!((&status["backedUp"], &status["methods"][0]["status"]), (&json!(false), &json!("completed")));
    assert_eq!(laptop.does(&["passkeys", "list"], &[])["deviceBound"], json!(true));
    laptop.does(&["backup"], &[PASSWORD]);
    assert_eq!(backups(&laptop)["backedUp"], json!(true), "by the password");
    drop(browser);

    let mut elsewhere = Browser::start().await.unwrap();
    elsewhere.plug_in(Authenticator::default()).await.unwrap();
    let desktop = User::new(&deployment, "desktop", OTHER_PASSPHRASE, &client);
    let ran = desktop.at(&mut elsewhere, Hand::HasNone, &RECOVER).await;
    assert_eq!(refused(&ran), (1, "NO_PASSKEY"));
    assert_eq!(ran.out["error"]["otherMethods"], json!(["PASSWORD"]), "{}", ran.out);
    assert!(ran.out["error"]["advice"].as_str().unwrap().contains("other methods"), "{}", ran.out);
    let recovered = desktop.does(&["recover", "--old-devices", "keep"], &[PASSWORD]);
    assert_eq!(recovered["addresses"], addresses);
    desktop.signs(&addresses);
}

/// What docs/passkeys.md tells a stranger to type, line by line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_of_the_document_works() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/passkeys.md");
    let document = fs::read_to_string(document).unwrap();
    let walk = document.split("\n## ").find(|chapter| chapter.starts_with("On one machine\n")).unwrap();
    let lines: Vec<&str> = walk.lines().filter_map(|line| line.strip_prefix("    halfkey ")).collect();
    assert!(lines[0].starts_with("serve --relying-party localhost"), "{lines:?}");
    let (deployment, mut browser) =
        (Deployment::start_with_passkey_page(&Backing::Sqlite).unwrap(), Browser::start().await.unwrap());
    browser.plug_in(Authenticator::default()).await.unwrap();
    let client = deployment.new_client().await.unwrap();
    let (mut users, mut walked, mut addresses) = (Vec::<(&str, User<'_>)>::new(), Vec::new(), Value::Null);
    for line in lines.iter().filter_map(|line| line.strip_prefix("wallet ")) {
        let mut words: Vec<&str> = line.split(' ').collect();
        let profile = take(&mut words, "--profile").unwrap_or("at home");
        let page = take(&mut words, "--passkey-page");
        assert_eq!(page.unwrap_or("http://localhost:8787/passkey"), "http://localhost:8787/passkey");
        walked.push(words[0]);
        if words[0] == "init" {
            assert_eq!(words[1..], ["--descriptor", "descriptor.json"]);
            users.push((profile, User::new(&deployment, profile, PASSPHRASE, &client)));
            continue;
        }
        let user = &users.iter().find(|(name, _)| *name == profile).unwrap().1;
        let out = match page {
            Some(_) => done(user.at(&mut browser, Hand::Agrees, &words).await),
            None => user.does(&words, &[]),
        };
        match words[0] {
            "create" => addresses = out["addresses"].clone(),
            "recover" => {
                assert_eq!(out["addresses"], addresses);
                user.signs(&addresses);
            }
            _ => {}
        }
    }
    assert_eq!(walked, ["init", "create", "backup", "passkeys", "verify", "init", "recover"]);
}

/// Takes a flag and its value out.
fn take<'a>(words: &mut Vec<&'a str>, flag: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == flag)?;
    words.remove(at);
    Some(words.remove(at))
}
