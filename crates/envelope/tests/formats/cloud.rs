//! The record in the user's cloud: known answers, the golden file, and what is refused.

use halfkey_envelope::{
    Record, cbor,
    cloud::{self, Pepper, PepperRoot, Place},
    entropy::DangerSeededEntropy,
    id::{BackupId, ClientId, DeploymentId},
    seal::{self, Magic, OpenError, SealKey},
    wallet::Method,
};
use serde_json::{Value, json};

use crate::{
    golden::golden,
    sample,
    vectors::{bytes, key, repository, vectors},
};

const ROOT: u32 = 3;
const ACCOUNT: &str = "108204268033311374519";

fn root() -> PepperRoot {
    PepperRoot::from_bytes(sample::key(0xb1))
}

fn place(method: Method) -> Place {
    let header = sample::header();
    Place {
        deployment: header.deployment,
        client: header.client,
        backup: header.backup,
        method,
        member: None,
        root: ROOT,
    }
}

fn pepper() -> Pepper {
    root().pepper(place(Method::GoogleDrive).client)
}

fn record(method: &Method) -> Record {
    Record { method: method.clone(), ..sample::record() }
}

fn sealed(method: &Method) -> Vec<u8> {
    let entropy = &mut DangerSeededEntropy::new(80);
    cloud::seal_record(&pepper(), &place(method.clone()), &record(method).to_bytes(), entropy)
}

fn vector(method: &Method) -> Value {
    let place = place(method.clone());
    json!({
        "entropy_seed": 80,
        "root": ROOT,
        "pepper_root": hex::encode(root().expose()),
        "pepper": hex::encode(pepper().expose()),
        "deployment": place.deployment.to_string(),
        "client": place.client.to_string(),
        "backup": place.backup.to_string(),
        "method": method.to_string(),
        "name": pepper().name(ROOT, place.backup),
        "account": ACCOUNT,
        "account_tag": hex::encode(pepper().account_tag(ACCOUNT)),
        "record": hex::encode(record(method).to_bytes().as_slice()),
        "sealed": hex::encode(sealed(method)),
    })
}

fn all() -> Value {
    json!({ "records": [vector(&Method::GoogleDrive), vector(&Method::ICloud)] })
}

#[test]
fn what_goes_to_a_cloud_today_is_what_the_vectors_say() {
    assert_eq!(vectors("cloud.json"), all());
}

#[test]
fn cloud_vectors_open_by_value() {
    for vector in vectors("cloud.json")["records"].as_array().unwrap() {
        let pepper = Pepper::from_bytes(key(&vector["pepper"]));
        let id = |name: &str| vector[name].as_str().unwrap();
        let place = Place {
            deployment: id("deployment").parse().unwrap(),
            client: id("client").parse().unwrap(),
            backup: id("backup").parse().unwrap(),
            method: id("method").parse().unwrap(),
            member: None,
            root: u32::try_from(vector["root"].as_u64().unwrap()).unwrap(),
        };
        let opened = cloud::open_record(&pepper, &place, &bytes(&vector["sealed"])).unwrap();
        assert_eq!(*opened, bytes(&vector["record"]));
        assert_eq!(pepper.name(place.root, place.backup), id("name"));
        assert!(id("name").starts_with(&cloud::name_prefix(place.root)));
    }
}

#[test]
fn a_cloud_record_v1_opens() {
    let opened = cloud::open_record(&pepper(), &place(Method::GoogleDrive), &golden("cloud-record-v1.bin")).unwrap();
    assert_eq!(*opened, *record(&Method::GoogleDrive).to_bytes());
}

/// Writes the vectors and the golden file; run by hand, once for each new version of the format.
#[test]
#[ignore = "writes files, checks nothing"]
fn write_cloud_files() {
    let text = serde_json::to_string_pretty(&all()).unwrap() + "\n";
    std::fs::write(repository().join("tests/vectors/cloud.json"), text).unwrap();
    let folder = std::path::PathBuf::from(std::env::var("GOLDEN_TO").unwrap());
    std::fs::write(folder.join("cloud-record-v1.bin"), sealed(&Method::GoogleDrive)).unwrap();
}

#[test]
fn every_bit_flip_truncation_and_extension_of_a_cloud_record_is_refused() {
    let (pepper, place, good) = (pepper(), place(Method::GoogleDrive), sealed(&Method::GoogleDrive));
    assert!(cloud::open_record(&pepper, &place, &good).is_ok());
    let refused = |bad: &[u8], what: &str| {
        assert!(cloud::open_record(&pepper, &place, bad).is_err(), "{what}");
        assert!(cloud::witness(&pepper, &place, bad).is_err(), "{what}");
    };
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        refused(&bad, &format!("bit {bit}"));
    }
    for end in 0..good.len() {
        refused(&good[..end], &format!("{end} bytes"));
    }
    refused(&[&good[..], b"\0"].concat(), "one more");
}

fn elsewhere() -> Vec<Place> {
    let here = place(Method::GoogleDrive);
    vec![
        Place { deployment: DeploymentId::from_bytes(sample::id(1)), ..here.clone() },
        Place { client: ClientId::from_bytes(sample::id(1)), ..here.clone() },
        Place { backup: BackupId::from_bytes(sample::id(1)), ..here.clone() },
        Place { method: Method::ICloud, ..here.clone() },
        Place { member: Some(Method::GoogleDrive), ..here.clone() },
        Place { root: ROOT + 1, ..here },
    ]
}

#[test]
fn a_cloud_record_of_another_place_is_refused_before_any_key_is_tried() {
    let (good, other) = (sealed(&Method::GoogleDrive), Pepper::from_bytes(sample::key(1)));
    for place in elsewhere() {
        for pepper in [&pepper(), &other] {
            assert_eq!(cloud::open_record(pepper, &place, &good), Err(OpenError::OtherContext), "{place:?}");
        }
    }
    let here = place(Method::GoogleDrive);
    assert_eq!(cloud::open_record(&other, &here, &good), Err(OpenError::WrongKey));
    assert_eq!(
        cloud::open_record(&root().pepper(ClientId::from_bytes([9; 16])), &here, &good),
        Err(OpenError::WrongKey)
    );
}

#[test]
fn a_header_rewritten_to_another_place_does_not_open() {
    let good = sealed(&Method::GoogleDrive);
    let length = usize::from(u16::from_be_bytes([good[4], good[5]]));
    for place in elsewhere() {
        let entropy = &mut DangerSeededEntropy::new(81);
        let forged = cloud::seal_record(&pepper(), &place, b"x", entropy);
        let forged = [&forged[..6 + length], &good[6 + length..]].concat();
        assert_eq!(cloud::open_record(&pepper(), &place, &forged), Err(OpenError::WrongKey), "{place:?}");
        assert!(cloud::witness(&pepper(), &place, &forged).is_err(), "{place:?}");
    }
}

#[test]
fn other_versions_shapes_and_sizes_of_a_cloud_record_are_refused() {
    let (good, here) = (sealed(&Method::GoogleDrive), place(Method::GoogleDrive));
    let with_header = |header: &[u8]| {
        let key = SealKey::from_bytes(sample::key(1));
        seal::seal(&key, Magic(*b"HKL1"), header, b"", &mut DangerSeededEntropy::new(82))
    };
    let header =
        |version: u8, tail: &[u8]| [&[0xa3, 0x01, version, 0x02, 0x03, 0x03, 0x58, 0x20][..], &[7; 32], tail].concat();
    let open = |sealed: &[u8]| cloud::open_record(&pepper(), &here, sealed).unwrap_err();
    assert_eq!(open(&with_header(&header(1, b""))), OpenError::OtherContext, "a header as it should be");
    assert_eq!(open(&with_header(&header(2, b""))), OpenError::UnknownMagic);
    assert_eq!(open(&with_header(&header(1, b"\0"))), OpenError::Malformed);
    assert_eq!(open(&with_header(&cbor::to_vec(&7u8))), OpenError::Malformed);
    let later = [b"HKL2", &good[4..]].concat();
    assert_eq!(open(&later), OpenError::UnknownMagic);
    assert_eq!(open(&vec![0; cloud::MAX_SEALED_RECORD + 1]), OpenError::TooLarge);
}

#[test]
fn another_backup_of_the_same_client_is_witnessed_and_nothing_else() {
    let good = sealed(&Method::GoogleDrive);
    let older = Place { backup: BackupId::from_bytes(sample::id(1)), ..place(Method::GoogleDrive) };
    assert_eq!(cloud::witness(&pepper(), &older, &good), Ok(place(Method::GoogleDrive).backup));
    for place in elsewhere().into_iter().filter(|place| place.backup == older.backup || *place != older) {
        let same_backup = place.backup != older.backup;
        assert_eq!(cloud::witness(&pepper(), &place, &good).is_err(), same_backup, "{place:?}");
    }
    assert_eq!(cloud::witness(&Pepper::from_bytes(sample::key(1)), &older, &good), Err(OpenError::WrongKey));
    // A record that says another client than the place it was sealed for.
    let entropy = &mut DangerSeededEntropy::new(83);
    let mut other = record(&Method::GoogleDrive);
    other.client = ClientId::from_bytes(sample::id(1));
    let lying = cloud::seal_record(&pepper(), &place(Method::GoogleDrive), &other.to_bytes(), entropy);
    assert_eq!(cloud::witness(&pepper(), &older, &lying), Err(OpenError::OtherContext));
}

#[test]
fn names_and_tags_differ_by_client_backup_root_and_account_and_show_no_identifier() {
    let (one, two) = (place(Method::GoogleDrive).backup, BackupId::from_bytes(sample::id(1)));
    let other = root().pepper(ClientId::from_bytes(sample::id(1)));
    let other_root = PepperRoot::from_bytes(sample::key(0xb2)).pepper(place(Method::GoogleDrive).client);
    let names = [
        pepper().name(1, one),
        pepper().name(2, one),
        pepper().name(1, two),
        other.name(1, one),
        other_root.name(1, one),
    ];
    for (index, name) in names.iter().enumerate() {
        assert_eq!(name.len(), "halfkey-1-".len() + 64);
        assert!(!name.contains(&hex::encode(one.as_bytes())) && !name.contains(&one.to_string()));
        assert!(!names[..index].contains(name));
    }
    assert_ne!(pepper().account_tag("a"), pepper().account_tag("b"));
    assert_ne!(pepper().account_tag("a"), other.account_tag("a"));
}
