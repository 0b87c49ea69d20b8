//! Known answers in `tests/vectors/envelope.json`: written once, checked ever after. `tests/vectors/envelope.py`
//! checks the same file with an implementation that shares no code with this crate.

use std::{fs, path::PathBuf};

use halfkey_envelope::{
    FileKey, Record, client_share, custodian,
    entropy::DangerSeededEntropy,
    hpke,
    seal::{self, Magic, SealKey},
    wallet::Curve,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::sample;

pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().unwrap()
}

pub fn vectors(name: &str) -> Value {
    serde_json::from_slice(&fs::read(repository().join("tests/vectors").join(name)).unwrap()).unwrap()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub fn key(value: &Value) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(bytes(value).try_into().unwrap())
}

fn seal_vector(seed: u64, header: &[u8], plaintext: &[u8]) -> Value {
    let key = SealKey::generate(&mut DangerSeededEntropy::new(seed));
    let sealed = seal::seal(&key, Magic(*b"TST1"), header, plaintext, &mut DangerSeededEntropy::new(seed + 1));
    json!({
        "entropy_seed": seed + 1,
        "magic": hex::encode(b"TST1"),
        "key": hex::encode(key.expose()),
        "header": hex::encode(header),
        "plaintext": hex::encode(plaintext),
        "sealed": hex::encode(sealed),
    })
}

fn client_share_vector() -> Value {
    let (header, envelope) = (sample::header(), sample::envelope());
    let curves = header.curves.iter().map(|entry| {
        json!({
            "curve": entry.curve.as_str(),
            "wallet": entry.wallet.to_string(),
            "public_key": hex::encode(&entry.public_key),
            "chain_code": hex::encode(entry.chain_code),
            "client_point": hex::encode(&entry.client_point),
            "custodian_point": hex::encode(&entry.custodian_point),
            "share": hex::encode(sample::contents().share(entry.curve).unwrap().as_slice()),
        })
    });
    json!({
        "entropy_seed": 1,
        "file_key": hex::encode(sample::file_key().expose()),
        "deployment": header.deployment.to_string(),
        "client": header.client.to_string(),
        "backup": header.backup.to_string(),
        "generation": header.generation,
        "method": header.method.to_string(),
        "curves": curves.collect::<Vec<_>>(),
        "commitment": hex::encode(client_share::commitment(&envelope).unwrap()),
        "digest": hex::encode(client_share::digest(&envelope)),
        "envelope": hex::encode(&envelope),
        "record": hex::encode(sample::record().to_bytes().as_slice()),
    })
}

fn custodian_vector() -> Value {
    let context = sample::half_context();
    let (data, shred) = (sample::data_key(), sample::shred_key());
    let mut entropy = DangerSeededEntropy::new(2);
    let sealed = custodian::seal_half(&data, &shred, &context, sample::HALF, &mut entropy).unwrap();
    json!({
        "entropy_seed": 2,
        "data_key": hex::encode(data.expose()),
        "shred_key": hex::encode(shred.expose()),
        "context": context.encryption_context().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "half": hex::encode(sample::HALF),
        "sealed": hex::encode(sealed),
    })
}

fn hpke_vector() -> Value {
    let secret = hpke::SecretKey::from_seed(&sample::HPKE_SEED);
    let (request, _) = hpke::Request::seal(
        &secret.public_key(),
        sample::HPKE_INFO,
        sample::HPKE_AAD,
        sample::HPKE_MESSAGE,
        &mut DangerSeededEntropy::new(3),
    )
    .unwrap();
    let (_, answer_key) = hpke::open_request(&secret, sample::HPKE_INFO, sample::HPKE_AAD, &request).unwrap();
    let answer = answer_key.seal_answer(sample::ANSWER_LABEL, sample::ANSWER, &mut DangerSeededEntropy::new(4));
    json!({
        "entropy_seeds": { "request": 3, "answer": 4 },
        "seed": hex::encode(sample::HPKE_SEED),
        "secret_key": hex::encode(secret.to_bytes().as_slice()),
        "public_key": hex::encode(secret.public_key().as_bytes()),
        "info": hex::encode(sample::HPKE_INFO),
        "aad": hex::encode(sample::HPKE_AAD),
        "plaintext": hex::encode(sample::HPKE_MESSAGE),
        "message": hex::encode(request),
        "answer_label": sample::ANSWER_LABEL,
        "answer_plaintext": hex::encode(sample::ANSWER),
        "answer": hex::encode(answer),
    })
}

fn all() -> Value {
    json!({
        "seal": [
            seal_vector(10, b"", b""),
            seal_vector(20, b"context", b"sixteen byte str"),
            seal_vector(30, &[0xfe; 300], &[0x5a; 1000]),
        ],
        "client_share": [client_share_vector()],
        "custodian": [custodian_vector()],
        "hpke": [hpke_vector()],
    })
}

#[test]
fn what_is_sealed_today_is_what_the_vectors_say() {
    assert_eq!(vectors("envelope.json"), all());
}

#[test]
fn seal_vectors_open() {
    let vectors = vectors("envelope.json");
    for vector in vectors["seal"].as_array().unwrap() {
        let magic = Magic(bytes(&vector["magic"]).try_into().unwrap());
        let key = SealKey::from_bytes(key(&vector["key"]));
        let opened = seal::open(&key, magic, &bytes(&vector["header"]), &bytes(&vector["sealed"])).unwrap();
        assert_eq!(*opened, bytes(&vector["plaintext"]));
    }
}

#[test]
fn client_share_vectors_open_by_value() {
    let vectors = vectors("envelope.json");
    for vector in vectors["client_share"].as_array().unwrap() {
        let record = Record::from_bytes(&bytes(&vector["record"])).unwrap();
        assert_eq!(record.file_key.expose().as_slice(), bytes(&vector["file_key"]));
        let envelope = bytes(&vector["envelope"]);
        let (header, contents) = client_share::open_with_record(&record, &envelope).unwrap();
        assert_eq!(header.deployment.to_string(), vector["deployment"]);
        assert_eq!(header.client.to_string(), vector["client"]);
        assert_eq!(header.backup.to_string(), vector["backup"]);
        assert_eq!(header.generation, vector["generation"].as_u64().unwrap());
        assert_eq!(header.method.to_string(), vector["method"]);
        for (entry, want) in header.curves.iter().zip(vector["curves"].as_array().unwrap()) {
            assert_eq!(entry.curve, want["curve"].as_str().unwrap().parse::<Curve>().unwrap());
            assert_eq!(entry.wallet.to_string(), want["wallet"]);
            assert_eq!(entry.public_key, bytes(&want["public_key"]));
            assert_eq!(entry.chain_code.as_slice(), bytes(&want["chain_code"]));
            assert_eq!(entry.client_point, bytes(&want["client_point"]));
            assert_eq!(entry.custodian_point, bytes(&want["custodian_point"]));
            assert_eq!(contents.share(entry.curve).unwrap().as_slice(), bytes(&want["share"]));
        }
        let file_key = FileKey::from_bytes(key(&vector["file_key"]));
        let commitment = client_share::commitment_of(&file_key, &envelope).unwrap();
        assert_eq!(commitment.as_slice(), bytes(&vector["commitment"]));
    }
}

#[test]
fn hpke_vectors_open() {
    let vectors = vectors("envelope.json");
    for vector in vectors["hpke"].as_array().unwrap() {
        let secret = hpke::SecretKey::from_seed(&bytes(&vector["seed"]).try_into().unwrap());
        assert_eq!(secret.to_bytes().as_slice(), bytes(&vector["secret_key"]));
        assert_eq!(secret.public_key().as_bytes().as_slice(), bytes(&vector["public_key"]));
        let (info, aad) = (bytes(&vector["info"]), bytes(&vector["aad"]));
        let (opened, key) = hpke::open_request(&secret, &info, &aad, &bytes(&vector["message"])).unwrap();
        assert_eq!(*opened, bytes(&vector["plaintext"]));
        let label = vector["answer_label"].as_str().unwrap();
        assert_eq!(*key.open_answer(label, &bytes(&vector["answer"])).unwrap(), bytes(&vector["answer_plaintext"]));
    }
}

#[test]
fn rfc_9180_base_mode_vector_opens() {
    // RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode, sequence 0.
    let unhex = |text: &str| hex::decode(text).unwrap();
    let seed = unhex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df");
    let secret = hpke::SecretKey::from_seed(&seed.try_into().unwrap());
    assert_eq!(
        hex::encode(secret.public_key().as_bytes()),
        "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
    );
    let enc = unhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
    let sealed = unhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28");
    let message = [vec![1], enc, sealed].concat();
    let info = unhex("4f6465206f6e2061204772656369616e2055726e");
    let opened = hpke::open(&secret, &info, &unhex("436f756e742d30"), &message).unwrap();
    assert_eq!(opened.as_slice(), b"Beauty is truth, truth beauty");
}

/// Writes the file where there is none. What exists is never replaced: a change of format is a new version.
#[test]
#[ignore = "run by hand once per new version of a format"]
fn write_the_vectors_once() {
    let path = repository().join("tests/vectors/envelope.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::create_new(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{:#}\n", all()).as_bytes()).unwrap();
}
