//! What the members of a set hold: known answers, the golden files, and what is refused.

use halfkey_envelope::{
    FileKey, Record,
    client_share::{self, Header},
    cloud::{self, Place},
    entropy::DangerSeededEntropy,
    id::{BackupId, ClientId, DeploymentId},
    method_set::MethodSet,
    part_record::{self, NotOneSet, PartRecord},
    wallet::{Curve, Method},
};
use serde_json::{Value, json};

use crate::{
    golden::golden,
    sample,
    vectors::{bytes, repository, vectors},
};

const ROOT: u32 = 3;

fn set() -> MethodSet {
    MethodSet::new([Method::Password, Method::GoogleDrive, Method::custom("VAULT").unwrap()]).unwrap()
}

fn header() -> Header {
    let mut header = sample::header();
    header.method = Method::AllOf(set());
    header
}

/// A fresh backup by the set: its record, and what each member holds of it.
fn backup(seed: u64) -> (Record, Vec<PartRecord>, Vec<u8>) {
    let entropy = &mut DangerSeededEntropy::new(seed);
    let (key, parts) = part_record::split(&set(), entropy);
    let envelope = client_share::seal(&key, &header(), &sample::contents(), entropy).unwrap();
    let record = Record::new(&header(), key, client_share::digest(&envelope));
    let parts = parts.into_iter().map(|part| PartRecord::new(&record, &set(), part)).collect();
    (record, parts, envelope)
}

pub fn part_records() -> Vec<PartRecord> {
    backup(90).1
}

/// Where GDRIVE holds its part.
fn place() -> Place {
    let Header { deployment, client, backup, method, .. } = header();
    Place { deployment, client, backup, method, member: Some(Method::GoogleDrive), root: ROOT }
}

fn pepper() -> cloud::Pepper {
    cloud::PepperRoot::from_bytes(sample::key(0xb1)).pepper(place().client)
}

fn part_of(member: &Method) -> PartRecord {
    part_records().into_iter().find(|part| part.member() == Some(member)).unwrap()
}

fn in_the_cloud() -> Vec<u8> {
    let entropy = &mut DangerSeededEntropy::new(91);
    cloud::seal_record(&pepper(), &place(), &part_of(&Method::GoogleDrive).to_bytes(), entropy)
}

fn vector() -> Value {
    let (record, parts, envelope) = backup(90);
    json!({
        "entropy_seed": 90,
        "method": record.method.to_string(),
        "members": set().members().iter().map(Method::to_string).collect::<Vec<_>>(),
        "parts": parts.iter().map(|part| hex::encode(part.to_bytes().as_slice())).collect::<Vec<_>>(),
        "file_key": hex::encode(record.file_key.expose()),
        "envelope": hex::encode(envelope),
        "envelope_digest": hex::encode(record.envelope_digest),
        "pepper": hex::encode(pepper().expose()),
        "root": ROOT,
        "deployment": place().deployment.to_string(),
        "client": place().client.to_string(),
        "backup": place().backup.to_string(),
        "cloud_name": pepper().member_name(ROOT, place().backup, &Method::GoogleDrive),
        "cloud_sealed": hex::encode(in_the_cloud()),
    })
}

#[test]
fn what_a_set_holds_today_is_what_the_vectors_say() {
    assert_eq!(vectors("all_of.json"), vector());
}

#[test]
fn parts_of_the_vectors_give_the_key_that_opens_the_envelope() {
    let vector = vectors("all_of.json");
    let parts = vector["parts"].as_array().unwrap().iter().map(|part| PartRecord::from_bytes(&bytes(part)).unwrap());
    let record = part_record::join(&parts.rev().collect::<Vec<_>>()).unwrap();
    assert_eq!(record.file_key.expose().as_slice(), bytes(&vector["file_key"]));
    let (header, contents) = client_share::open_with_record(&record, &bytes(&vector["envelope"])).unwrap();
    assert_eq!(header.method.to_string(), vector["method"].as_str().unwrap());
    for curve in Curve::ALL {
        assert_eq!(contents.share(curve).unwrap(), sample::contents().share(curve).unwrap());
    }
}

#[test]
fn the_parts_of_a_set_v1_open() {
    let part = PartRecord::from_bytes(&golden("part-record-v1.bin")).unwrap();
    assert_eq!((part.member(), &part.set), (Some(&Method::GoogleDrive), &set()));
    assert_eq!(*part.to_bytes(), golden("part-record-v1.bin"));
    let opened = cloud::open_record(&pepper(), &place(), &golden("cloud-part-v1.bin")).unwrap();
    assert_eq!(*opened, golden("part-record-v1.bin"));
}

/// Writes the vectors and the golden files; run by hand, once for each new version of the format.
#[test]
#[ignore = "writes files, checks nothing"]
fn write_all_of_files() {
    let text = serde_json::to_string_pretty(&vector()).unwrap() + "\n";
    std::fs::write(repository().join("tests/vectors/all_of.json"), text).unwrap();
    let folder = std::path::PathBuf::from(std::env::var("GOLDEN_TO").unwrap());
    std::fs::write(folder.join("part-record-v1.bin"), part_of(&Method::GoogleDrive).to_bytes()).unwrap();
    std::fs::write(folder.join("cloud-part-v1.bin"), in_the_cloud()).unwrap();
}

/// Spoils one field of a part.
type Change<'a> = &'a dyn Fn(&mut PartRecord);

#[test]
fn all_parts_of_one_backup_give_its_record_and_nothing_less_or_else_does() {
    let (record, parts, _) = backup(90);
    let again = part_record::join(&parts).unwrap();
    assert_eq!((again.file_key.expose(), again.method), (record.file_key.expose(), record.method));
    assert_eq!(again.envelope_digest, record.envelope_digest);
    let joined = |mut parts: Vec<PartRecord>, change: &dyn Fn(&mut PartRecord)| {
        change(&mut parts[1]);
        part_record::join(&parts).err()
    };
    assert_eq!(joined(part_records(), &|_| ()), None);
    assert_eq!(part_record::join(&[]).err(), Some(NotOneSet));
    for left_out in 0..3 {
        let mut parts = part_records();
        parts.remove(left_out);
        assert_eq!(part_record::join(&parts).err(), Some(NotOneSet), "without {left_out}");
    }
    let mut twice = part_records();
    twice[2] = part_records().remove(1);
    assert_eq!(part_record::join(&twice).err(), Some(NotOneSet), "one of them twice");
    let changes: [(&str, Change); 6] = [
        ("deployment", &|part| part.deployment = DeploymentId::from_bytes(sample::id(1))),
        ("client", &|part| part.client = ClientId::from_bytes(sample::id(1))),
        ("backup", &|part| part.backup = BackupId::from_bytes(sample::id(1))),
        ("envelope", &|part| part.envelope_digest[0] ^= 1),
        ("public key", &|part| part.curves[0].public_key[1] ^= 1),
        ("set", &|part| part.set = MethodSet::new([Method::ICloud, Method::Password]).unwrap()),
    ];
    for (what, change) in changes {
        assert_eq!(joined(part_records(), change), Some(NotOneSet), "another {what}");
    }
}

/// The same backup, envelope and members, and parts of two keys.
#[test]
fn parts_of_two_keys_are_never_mixed() {
    let (record, parts, _) = backup(90);
    let (_, others) = part_record::split(&set(), &mut DangerSeededEntropy::new(99));
    let others: Vec<_> = others.into_iter().map(|part| PartRecord::new(&record, &set(), part)).collect();
    assert!(parts[0].goes_with(&parts[2]) && !parts[0].goes_with(&others[2]));
    let mut mixed = parts;
    mixed.extend(others);
    for which in 1u8..7 {
        let mut chosen = Vec::new();
        for member in 0..3 {
            let from_other = which & (1 << member) != 0;
            let part = &mixed[member + if from_other { 3 } else { 0 }];
            chosen.push(PartRecord::from_bytes(&part.to_bytes()).unwrap());
        }
        assert_eq!(part_record::join(&chosen).err(), Some(NotOneSet), "{which:03b}");
    }
}

#[test]
fn a_part_is_no_record_and_a_record_no_part() {
    let (record, parts, _) = backup(90);
    assert!(Record::from_bytes(&parts[0].to_bytes()).is_err());
    assert!(PartRecord::from_bytes(&record.to_bytes()).is_err());
    let single = Record { method: Method::Password, file_key: FileKey::from_bytes(sample::key(1)), ..record };
    assert!(PartRecord::from_bytes(&single.to_bytes()).is_err());
}

#[test]
fn truncations_extensions_and_later_versions_of_a_part_are_refused() {
    let good = part_records().remove(0).to_bytes();
    for end in 0..good.len() {
        assert!(PartRecord::from_bytes(&good[..end]).is_err(), "{end} bytes");
    }
    assert!(PartRecord::from_bytes(&[&good[..], &[0]].concat()).is_err());
    assert_eq!((good[1], good[2]), (1, 1), "the version is the first value");
    let mut later = good.to_vec();
    later[2] = 2;
    assert!(matches!(PartRecord::from_bytes(&later), Err(client_share::Error::UnknownVersion(2))));
    assert!(matches!(PartRecord::from_bytes(&vec![0; 5_000]), Err(client_share::Error::TooLarge)));
}

#[test]
fn a_members_record_in_a_cloud_is_of_its_set_and_of_that_member_alone() {
    let (sealed, here) = (in_the_cloud(), place());
    assert!(cloud::open_record(&pepper(), &here, &sealed).is_ok());
    let custom = Some(Method::custom("VAULT").unwrap());
    for elsewhere in [
        Place { member: None, ..here.clone() },
        Place { member: custom.clone(), ..here.clone() },
        Place { method: Method::GoogleDrive, member: None, ..here.clone() },
        Place { method: "ALL_OF(GDRIVE,PASSWORD)".parse().unwrap(), ..here.clone() },
    ] {
        let refused = cloud::open_record(&pepper(), &elsewhere, &sealed);
        assert_eq!(refused, Err(halfkey_envelope::seal::OpenError::OtherContext), "{elsewhere:?}");
        assert!(cloud::witness(&pepper(), &elsewhere, &sealed).is_err(), "{elsewhere:?}");
    }
    let older = Place { backup: BackupId::from_bytes(sample::id(1)), ..here.clone() };
    assert_eq!(cloud::witness(&pepper(), &older, &sealed), Ok(here.backup));
    let name = |member: &Option<Method>| pepper().member_name(ROOT, here.backup, member.as_ref().unwrap());
    assert_ne!(name(&here.member), name(&custom), "two members may share one store");
    assert_ne!(name(&here.member), pepper().name(ROOT, here.backup), "and the single method beside them");
}
