//! A drill says which part of a backup does not hold, and on which curve (METHODS.md H). What was found broken counts as
//! no backup until a drill passes; nothing else is changed.

use halfkey_api::message::MethodStatus;
use halfkey_client::{BackupMethod, CurveDrill, DrillLevel, Error, Held, Verified};
use halfkey_envelope::{
    custodian::{HalfContext, Purpose},
    entropy::OsEntropy,
    id::{BackupId, PairId},
    wallet::{Curve, Method},
};
use halfkey_server::kms::{EncryptionContext, KeyWrapper, LocalKeys, Missing};
use sqlx::SqlitePool;

use super::{
    signs,
    world::{PASSWORD, Phone, World, backup_with, with, with_code},
};

use DrillLevel::{ClientShare, CustodianShare, MethodKey, PublicKey};

const BOTH: &[Curve] = &Curve::ALL;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The server's database, with somebody else's hands in it.
async fn database(world: &World) -> SqlitePool {
    let path = format!("sqlite:{}", world.folder.path().join("server/halfkey.db").display());
    SqlitePool::connect(&path).await.unwrap()
}

async fn write(database: &SqlitePool, statement: &'static str, values: &[&[u8]]) {
    let mut query = sqlx::query(statement);
    for value in values {
        query = query.bind(value.to_vec());
    }
    assert_eq!(query.execute(database).await.unwrap().rows_affected(), 1, "{statement}");
}

async fn read(database: &SqlitePool, statement: &'static str, of: &[u8]) -> Vec<u8> {
    sqlx::query_scalar(statement).bind(of.to_vec()).fetch_one(database).await.unwrap()
}

/// A client with a wallet, backed up by a code and by a password.
struct Owner {
    phone: Phone,
    code: String,
    backup: BackupId,
    /// Of the code's backup, in the order of the curves.
    pairs: Vec<PairId>,
}

impl Owner {
    async fn of(world: &World) -> Self {
        let phone = world.phone(&world.client_key().await);
        phone.halfkey.create_wallet().await.unwrap();
        let backup = phone.halfkey.backup_wallet(BackupMethod::RecoveryCode).await.unwrap();
        let code = phone.paper.code.lock().unwrap().clone().unwrap();
        Self { phone, code, backup: backup.backup_id, pairs: backup.share_ids }
    }

    async fn verify(&self) -> Result<Verified, Error> {
        self.phone.halfkey.verify_backup(with_code(&self.code)).await
    }

    async fn status(&self) -> (bool, MethodStatus) {
        let status = self.phone.halfkey.backup_status().await.unwrap();
        let of_code = status.methods.into_iter().find(|one| one.method == Method::RecoveryCode).unwrap();
        (status.backed_up, of_code)
    }

    /// The drill finds this part broken, on these curves, by this word; parts before it hold, parts after it were not
    /// reached, and the backup counts no more.
    async fn finds(&self, level: DrillLevel, curves: &[Curve], word: &'static str, what: &str) {
        let Err(Error::BackupBroken(broken)) = self.verify().await else { panic!("{what}: not found broken") };
        assert_eq!((&broken.method, broken.backup_id), (&Method::RecoveryCode, self.backup), "{what}");
        assert_eq!(broken.first(), Some((level, curves.to_vec())), "{what}: {broken:?}");
        assert!(broken.curves.iter().map(|one| one.curve).eq(Curve::ALL), "{what}");
        for drill in &broken.curves {
            let on_this = curves.contains(&drill.curve);
            for (part, held) in drill.parts() {
                let expected = match part {
                    part if part == level && on_this => Held::Failed(word),
                    MethodKey => Held::Held,
                    // Of what is opened, all is judged; the custodian is asked only when that holds.
                    ClientShare if level != MethodKey && !(level == PublicKey && on_this) => Held::Held,
                    PublicKey if level == CustodianShare || (level != MethodKey && !on_this) => Held::Held,
                    _ => Held::Unknown,
                };
                assert_eq!(held, expected, "{what}: {part:?} on {}", drill.curve);
            }
        }
        let (backed_up, status) = self.status().await;
        assert!(!backed_up, "{what}");
        assert!(status.verification_failed_at.is_some() && status.verification_due, "{what}");
        assert_eq!(self.phone.halfkey.is_wallet_backed_up().await, Ok(false), "{what}");
    }

    /// What was broken is whole again: a drill passes, and the backup counts.
    async fn holds(&self, what: &str) {
        let verified = self.verify().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let held = |drill: &CurveDrill| drill.parts().iter().all(|(_, held)| *held == Held::Held);
        assert!(verified.curves.iter().all(held), "{what}: {verified:?}");
        assert!(verified.curves.iter().map(|one| one.curve).eq(Curve::ALL), "{what}");
        let (backed_up, status) = self.status().await;
        assert!(backed_up, "{what}");
        assert_eq!((status.verification_failed_at, status.verification_due), (None, false), "{what}");
        assert_eq!(status.verified_at, Some(verified.verified_at), "{what}");
    }
}

/// Where salt, commitment and ciphertext of an envelope begin: magic, two bytes of length, header, salt, commitment.
fn places(envelope: &[u8]) -> [(&'static str, usize, DrillLevel, &'static str); 4] {
    assert_eq!(&envelope[..4], b"HKE1");
    let salt = 4 + 2 + usize::from(u16::from_be_bytes([envelope[4], envelope[5]]));
    [
        ("salt", salt, MethodKey, "ENVELOPE"),
        ("commitment", salt + 32, MethodKey, "ENVELOPE"),
        ("ciphertext", salt + 64, ClientShare, "ENVELOPE_DIGEST"),
        ("tag", envelope.len() - 1, ClientShare, "ENVELOPE_DIGEST"),
    ]
}

#[tokio::test]
async fn a_drill_names_the_part_that_is_broken_and_the_curve() {
    let world = World::start().await;
    let owner = Owner::of(&world).await;
    let addresses = owner.phone.halfkey.addresses().await.unwrap();
    owner.holds("untouched").await;
    let database = database(&world).await;
    let backup = owner.backup.as_bytes();

    let envelope = read(&database, "SELECT envelope FROM envelopes WHERE backup = $1", backup).await;
    let put_envelope = "UPDATE envelopes SET envelope = $2 WHERE backup = $1";
    for (what, at, level, word) in places(&envelope) {
        let mut flipped = envelope.clone();
        flipped[at] ^= 1;
        write(&database, put_envelope, &[backup, &flipped]).await;
        owner.finds(level, BOTH, word, what).await;
    }
    write(&database, put_envelope, &[backup, &envelope]).await;
    owner.holds("the envelope is back").await;

    let record = read(&database, "SELECT record FROM envelopes WHERE backup = $1", backup).await;
    let put_record = "UPDATE envelopes SET record = $2 WHERE backup = $1";
    write(&database, "UPDATE envelopes SET record = NULL WHERE backup = $1", &[backup]).await;
    owner.finds(MethodKey, BOTH, "SEALED_RECORD", "the method's record is gone").await;
    write(&database, put_record, &[backup, &record]).await;
    owner.holds("the record is back").await;

    for (at, curve) in Curve::ALL.into_iter().enumerate() {
        let pair = owner.pairs[at].as_bytes();
        let half = read(&database, "SELECT half FROM pair_shares WHERE id = $1", pair).await;
        let put_half = "UPDATE pair_shares SET half = $2 WHERE id = $1";
        let mut flipped = half.clone();
        *flipped.last_mut().unwrap() ^= 1;
        write(&database, put_half, &[pair, &flipped]).await;
        owner.finds(CustodianShare, &[curve], "CUSTODIAN_SHARE_BROKEN", "a bit of the custodian's half").await;
        write(&database, put_half, &[pair, &half]).await;

        let point = read(&database, "SELECT peer_point FROM pair_shares WHERE id = $1", pair).await;
        let put_point = "UPDATE pair_shares SET peer_point = $2 WHERE id = $1";
        let client_point = read(&database, "SELECT client_point FROM pair_shares WHERE id = $1", pair).await;
        write(&database, put_point, &[pair, &client_point]).await;
        owner.finds(PublicKey, &[curve], "PAIRS", "the server's record of the pair").await;
        write(&database, put_point, &[pair, &point]).await;
        owner.holds("the row is back").await;
    }
    signs(&owner.phone, &addresses).await.unwrap();
}

#[tokio::test]
async fn what_belongs_to_another_epoch_or_wallet_is_told_apart() {
    let world = World::start().await;
    let (owner, other) = (Owner::of(&world).await, Owner::of(&world).await);
    let database = database(&world).await;

    // The custodian's half of another wallet, with its own data key.
    for (at, curve) in Curve::ALL.into_iter().enumerate() {
        let (own, foreign) = (owner.pairs[at].as_bytes(), other.pairs[at].as_bytes());
        let mut kept = Vec::new();
        for (column, put) in [
            ("SELECT half FROM pair_shares WHERE id = $1", "UPDATE pair_shares SET half = $2 WHERE id = $1"),
            ("SELECT data_key FROM pair_shares WHERE id = $1", "UPDATE pair_shares SET data_key = $2 WHERE id = $1"),
        ] {
            kept.push((put, read(&database, column, own).await));
            let theirs = read(&database, column, foreign).await;
            write(&database, put, &[own, &theirs]).await;
        }
        owner.finds(CustodianShare, &[curve], "CUSTODIAN_SHARE_BROKEN", "the half of another wallet").await;
        for (put, value) in kept {
            write(&database, put, &[own, &value]).await;
        }
    }
    owner.holds("the halves are back").await;

    // The envelope of another wallet, whole.
    let backup = owner.backup.as_bytes();
    let select = "SELECT envelope FROM envelopes WHERE backup = $1";
    let put = "UPDATE envelopes SET envelope = $2 WHERE backup = $1";
    let (own, foreign) =
        (read(&database, select, backup).await, read(&database, select, other.backup.as_bytes()).await);
    write(&database, put, &[backup, &foreign]).await;
    owner.finds(MethodKey, BOTH, "OTHER_ENVELOPE", "the envelope of another wallet").await;
    // One of an epoch before, of the same wallet and method, with the record of that time: its code opens nothing now.
    write(&database, put, &[backup, &own]).await;
    owner.holds("the envelope is back").await;
    let renewed = owner.phone.halfkey.renew_backup(with_code(&owner.code)).await.unwrap();
    let now = Owner { backup: renewed.backup_id, pairs: renewed.share_ids, ..owner };
    now.holds("renewed").await;
    write(&database, put, &[now.backup.as_bytes(), &own]).await;
    now.finds(MethodKey, BOTH, "OTHER_ENVELOPE", "an envelope of an earlier epoch").await;
}

/// A custodian that cannot prove its half, or a server that makes proofs up.
#[tokio::test]
async fn a_proof_of_the_custodian_that_does_not_verify_is_no_proof() {
    let world = World::start().await;
    let owner = Owner::of(&world).await;
    for (at, curve) in Curve::ALL.into_iter().enumerate() {
        owner.phone.network.tamper(move |path, body| {
            if !path.ends_with("/proof") {
                return body;
            }
            let mut answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            // Another curve's proof does for a wrong one.
            answer["proofs"][at]["proof"] = answer["proofs"][1 - at]["proof"].clone();
            serde_json::to_vec(&answer).unwrap()
        });
        let Err(Error::BackupBroken(broken)) = owner.verify().await else { panic!("{curve}") };
        assert_eq!(broken.first(), Some((CustodianShare, vec![curve])));
        let parts = |drill: &CurveDrill| drill.parts().map(|(_, held)| held);
        let found: Vec<_> = broken.curves.iter().map(parts).collect();
        let mut expected = [[Held::Held, Held::Held, Held::Unknown, Held::Held]; 2];
        expected[at][2] = Held::Failed("CUSTODIAN_PROOF");
        assert_eq!(found, expected, "{curve}");
    }
    owner.phone.network.honest();
    owner.holds("an honest server").await;
}

/// Trouble on the way says nothing about the backup, and a wrong secret nothing either.
#[tokio::test]
async fn what_is_only_away_is_not_called_broken() {
    let world = World::start().await;
    let owner = Owner::of(&world).await;
    owner.phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    owner.phone.network.block("/proof");
    assert!(matches!(owner.verify().await, Err(Error::Transport(_))));
    owner.phone.network.honest();
    let wrong = owner.phone.halfkey.verify_backup(with("not the password at all")).await;
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })), "{wrong:?}");
    let (backed_up, status) = owner.status().await;
    assert!(backed_up);
    assert_eq!(status.verification_failed_at, None);
    owner.holds("all along").await;
}

/// A half whose data key is wrapped by a key version that this server does not have (yet): an operator can give it back,
/// so nothing is said of the backup.
#[tokio::test]
async fn a_key_version_that_is_missing_is_not_called_broken() {
    let world = World::start().await;
    let owner = Owner::of(&world).await;
    let database = database(&world).await;
    let client = world.the_client().await;
    let wallets = world.store().await.wallets(client).await.unwrap();
    let wallet = wallets.iter().find(|wallet| wallet.curve == Curve::Ed25519).unwrap().id;
    let at = Curve::ALL.iter().position(|curve| *curve == Curve::Ed25519).unwrap();
    let pair = owner.pairs[at];
    let context = HalfContext {
        deployment: world.deployment.id(),
        client,
        wallet,
        curve: Curve::Ed25519,
        pair,
        purpose: Purpose::Backup,
    };
    let copy = world.folder.path().join("later.key");
    std::fs::copy(world.folder.path().join("server/kms.key"), &copy).unwrap();
    let later = LocalKeys::open(&copy, Missing::Refuse).unwrap();
    later.rotate(&mut OsEntropy).unwrap();
    let wrapped = read(&database, "SELECT data_key FROM pair_shares WHERE id = $1", pair.as_bytes()).await;
    let newer = later.rewrap(&wrapped, &EncryptionContext::of_half(&context)).await.unwrap().unwrap();
    let put = "UPDATE pair_shares SET data_key = $2 WHERE id = $1";
    write(&database, put, &[pair.as_bytes(), &newer]).await;
    assert!(matches!(owner.verify().await, Err(Error::Retry { .. })));
    let (backed_up, status) = owner.status().await;
    assert_eq!((backed_up, status.verification_failed_at), (true, None));
    write(&database, put, &[pair.as_bytes(), &wrapped]).await;
    owner.holds("the key version is there").await;
}

/// A drill that found a backup broken leaves the other methods alone, and removing one of those then needs another that
/// holds.
#[tokio::test]
async fn a_broken_backup_is_not_the_one_that_lets_another_go() {
    let world = World::start().await;
    let owner = Owner::of(&world).await;
    owner.phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let database = database(&world).await;
    write(&database, "UPDATE envelopes SET record = NULL WHERE backup = $1", &[owner.backup.as_bytes()]).await;
    assert!(matches!(owner.verify().await, Err(Error::BackupBroken(_))));
    let status = owner.phone.halfkey.backup_status().await.unwrap();
    assert!(status.backed_up, "the password's backup holds");
    let last = owner.phone.halfkey.remove_backup_method(Method::Password).await;
    assert_eq!(last, Err(Error::LastProtection));
    owner.phone.halfkey.remove_backup_method(Method::RecoveryCode).await.unwrap();
    owner.phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_verification_is_due_after_its_time_and_a_password_tells_its_guesses() {
    let world =
        World::start_with(|config| config.verification_after = std::time::Duration::from_secs(10 * 86_400)).await;
    let owner = Owner::of(&world).await;
    owner.phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let due = async || {
        let status = owner.phone.halfkey.backup_status().await.unwrap();
        status.methods.into_iter().map(|one| (one.method, one.verification_due, one.guesses_left)).collect::<Vec<_>>()
    };
    let expected = |code_due, password_due, guesses| {
        let mut of_both =
            [(Method::RecoveryCode, code_due, None), (Method::Password, password_due, Some(guesses))].to_vec();
        of_both.sort_by_key(|(method, ..)| method.to_string());
        of_both
    };
    let sorted = |mut of_both: Vec<(Method, bool, Option<u32>)>| {
        of_both.sort_by_key(|(method, ..)| method.to_string());
        of_both
    };
    assert_eq!(sorted(due().await), expected(false, false, 10));
    world.clock.pass_ms(10 * DAY_MS - 60_000);
    assert_eq!(sorted(due().await), expected(false, false, 10));
    world.clock.pass_ms(60_000);
    assert_eq!(sorted(due().await), expected(true, true, 10));
    owner.verify().await.unwrap();
    assert_eq!(sorted(due().await), expected(false, true, 10));
    let wrong = owner.phone.halfkey.verify_backup(with("not the password at all")).await;
    assert!(matches!(wrong, Err(Error::WrongSecret { remaining: Some(9), .. })), "{wrong:?}");
    assert_eq!(sorted(due().await), expected(false, true, 9));
    owner.phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
    assert_eq!(sorted(due().await), expected(false, false, 10));
}
