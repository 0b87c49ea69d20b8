//! Files written by the first release of each format. They must open for ever; `tests/golden/MANIFEST.sha256` lists
//! them, and a test of the workspace's `tests` package keeps that list append-only.

use std::fs;

use halfkey_envelope::{Record, client_share, custodian, hash::sha256, hpke, wallet::Curve};

use crate::{sample, vectors::repository};

pub fn golden(name: &str) -> Vec<u8> {
    let directory = repository().join("tests/golden");
    let bytes = fs::read(directory.join(name)).unwrap();
    let manifest = fs::read_to_string(directory.join("MANIFEST.sha256")).unwrap();
    let line = format!("{}  {name}", hex::encode(sha256(&bytes)));
    assert!(manifest.lines().any(|have| have == line), "{name} is not the file that the manifest lists");
    bytes
}

#[test]
fn envelope_v1_opens_with_record_v1() {
    let record = Record::from_bytes(&golden("record-v1.bin")).unwrap();
    let (header, contents) = client_share::open_with_record(&record, &golden("envelope-v1.bin")).unwrap();
    assert_eq!(header, sample::header());
    assert_eq!(contents.share(Curve::Secp256k1).unwrap().as_slice(), [0x71; 32]);
    assert_eq!(contents.share(Curve::Ed25519).unwrap().as_slice(), [0x72; 32]);
}

#[test]
fn custodian_half_v1_opens() {
    let sealed = golden("custodian-v1.bin");
    let context = sample::half_context();
    assert_eq!(custodian::peek_context(&sealed).unwrap(), context);
    let half = custodian::open_half(&sample::data_key(), &sample::shred_key(), &context, &sealed).unwrap();
    assert_eq!(half.as_slice(), sample::HALF);
}

#[test]
fn hpke_v1_opens_and_its_answer_too() {
    let secret = hpke::SecretKey::from_seed(&sample::HPKE_SEED);
    let message = golden("hpke-v1.bin");
    let (opened, key) = hpke::open_request(&secret, sample::HPKE_INFO, sample::HPKE_AAD, &message).unwrap();
    assert_eq!(opened.as_slice(), sample::HPKE_MESSAGE);
    let answer = key.open_answer(sample::ANSWER_LABEL, &golden("hpke-answer-v1.bin")).unwrap();
    assert_eq!(answer.as_slice(), sample::ANSWER);
}
