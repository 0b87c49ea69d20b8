//! Secrets show their type's name and nothing else, and cannot be copied or serialised by accident.

use std::{collections::BTreeSet, fs};

use halfkey_envelope::{
    Record,
    all_of::Part,
    client_share::Contents,
    cloud::{Pepper, PepperRoot},
    custodian::{DataKey, ShredKey},
    door::{KeeperPart, OprfKey, ReadBackToken, UnlockTag},
    entropy::DangerSeededEntropy,
    exit_kit::ExitCode,
    frame::{Challenge, Channel, LinkKey, Response},
    hpke::{AnswerKey, Request, SecretKey, Sender},
    keeper::SealRootKey,
    oprf::{self, Blinding},
    part_record::PartRecord,
    passkey::{KeeperContents, Mode, PendingRelease, PrfOutput, Release, ReleaseAnswer},
    password::{Stretched, Unlocking},
    recovery_code::RecoveryCode,
    seal::{FileKey, SealKey},
    text::Password,
};

use crate::{all_of, door, passkey, sample};

/// Fails to compile if a type is `Clone`, `Serialize` or `Display`: `probe` would be ambiguous.
macro_rules! never {
    ($($type:ty),+ $(,)?) => {
        $(const _: fn() = || {
            trait Ambiguous<A> { fn probe() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            #[allow(dead_code)]
            enum Cloned {}
            impl<T: ?Sized + Clone> Ambiguous<Cloned> for T {}
            #[allow(dead_code)]
            enum Serialized {}
            impl<T: ?Sized + serde::Serialize> Ambiguous<Serialized> for T {}
            #[allow(dead_code)]
            enum Displayed {}
            impl<T: ?Sized + core::fmt::Display> Ambiguous<Displayed> for T {}
            let _ = <$type as Ambiguous<_>>::probe;
        };)+
    };
}

never!(SealKey, FileKey, DataKey, ShredKey, SecretKey, AnswerKey, Contents, Record);
never!(
    SealRootKey,
    KeeperPart,
    OprfKey,
    ReadBackToken,
    UnlockTag,
    LinkKey,
    Channel,
    Blinding,
    RecoveryCode,
    ExitCode,
    Password
);
never!(Pepper, PepperRoot);
never!(PartRecord);
never!(Stretched, Unlocking, Part, PrfOutput, KeeperContents, Sender, Release, PendingRelease, ReleaseAnswer);

fn shown() -> Vec<(&'static str, String)> {
    let mut entropy = DangerSeededEntropy::new(1);
    let secret = SecretKey::generate(&mut entropy);
    let (_, answer) = Request::seal(&secret.public_key(), b"info", b"", b"", &mut entropy).unwrap();
    vec![
        ("SealKey", format!("{:?}", SealKey::generate(&mut entropy))),
        ("FileKey", format!("{:?}", sample::file_key())),
        ("DataKey", format!("{:?}", sample::data_key())),
        ("ShredKey", format!("{:?}", sample::shred_key())),
        ("SecretKey", format!("{secret:?}")),
        ("AnswerKey", format!("{answer:?}")),
        ("Contents", format!("{:?}", sample::contents())),
        ("Record", format!("{:?}", sample::record())),
        ("PartRecord", format!("{:?}", all_of::part_records().remove(0))),
        ("SealRootKey", format!("{:?}", SealRootKey::generate(&mut entropy))),
        ("KeeperPart", format!("{:?}", KeeperPart::generate(&mut entropy))),
        ("OprfKey", format!("{:?}", oprf::generate_key(&mut entropy).unwrap())),
        ("ReadBackToken", format!("{:?}", ReadBackToken::generate(&mut entropy))),
        ("UnlockTag", format!("{:?}", UnlockTag::generate(&mut entropy))),
        ("LinkKey", format!("{:?}", LinkKey::generate(&mut entropy))),
        ("Channel", format!("{:?}", channel(&mut entropy))),
        ("Blinding", format!("{:?}", Blinding::new(b"input", &mut entropy).unwrap())),
        ("ExitCode", format!("{:?}", ExitCode::generate(&mut entropy))),
        ("RecoveryCode", format!("{:?}", RecoveryCode::generate(&mut entropy))),
        ("Stretched", format!("{:?}", door::stretched(&mut entropy))),
        ("Unlocking", format!("{:?}", door::Flow::new("correct horse", &mut entropy).unlocking(&mut entropy).unwrap())),
        ("Part", format!("{:?}", passkey::keeper_part(&passkey::stanza(Mode::Keeper, 1)))),
        ("PrfOutput", format!("{:?}", passkey::output(1))),
        ("KeeperContents", format!("{:?}", passkey::contents())),
        ("Sender", format!("{:?}", Sender::setup(&secret.public_key(), b"info", &mut entropy).unwrap())),
        ("Release", format!("{:?}", passkey::release())),
        ("PendingRelease", format!("{:?}", passkey::pending().0)),
        ("ReleaseAnswer", format!("{:?}", passkey::pending().1)),
        ("PepperRoot", format!("{:?}", PepperRoot::generate(&mut entropy))),
        ("Pepper", format!("{:?}", Pepper::generate(&mut entropy))),
        ("Password", format!("{:?}", Password::text("correct horse").unwrap())),
    ]
}

fn channel(entropy: &mut DangerSeededEntropy) -> Channel {
    let key = LinkKey::generate(entropy);
    let challenge = Challenge::new(entropy);
    let response = Response::new(&challenge.message(), entropy).unwrap();
    challenge.accept(&key, &response.message(&key)).unwrap().1
}

#[test]
fn every_secret_shows_only_its_name() {
    for (name, debug) in shown() {
        assert_eq!(debug, name);
    }
}

/// Names that the sources declare through the two macros of `secret.rs`.
fn declared() -> BTreeSet<String> {
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let entries = |folder: &str| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = entries(src).chain(entries(&format!("{src}/passkey"))).filter(|path| path.is_file());
    let mut names = BTreeSet::new();
    for path in sources.filter(|path| !path.ends_with("secret.rs")) {
        let source = fs::read_to_string(path).unwrap();
        for block in source.split("redact!(").skip(1) {
            let list = block.split(')').next().unwrap();
            names.extend(list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
        }
        for block in source.split("secret32! {").skip(1) {
            let lines = block.split('}').next().unwrap().lines().map(str::trim);
            names.extend(lines.filter_map(|line| line.strip_suffix(';')).map(str::to_owned));
        }
    }
    names
}

#[test]
fn no_secret_of_the_crate_is_missing_here() {
    let listed: BTreeSet<String> = shown().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(declared(), listed, "list every secret newtype in `shown`");
}
