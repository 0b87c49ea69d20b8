use halfkey_envelope::{
    hash::sha256,
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, configuration_hash},
};
use halfkey_evidence::{
    Policy, Refusal, Verifier,
    nitro::{self, AWS_ROOT_G1, Document, Measurement},
    synthetic::Tpm2Machine,
};
use minicbor::Encoder;
use p384::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer as _};

use super::{Fault, KEY, KEY_ID, Kind, NONCE, NOW_MS, der, judge};

const IMAGE: [[u8; 48]; 3] = [[1; 48], [2; 48], [3; 48]];
const OPERATOR: [u8; 48] = [8; 48];

/// A certificate to be made.
#[derive(Clone)]
struct Plan {
    subject: &'static str,
    issuer: &'static str,
    key: u8,
    signer: u8,
    valid: (&'static str, &'static str),
    extensions: Vec<Vec<u8>>,
    algorithm: &'static [u8],
    curve: &'static [u8],
}

/// 2025-12-31 23:00 to 2026-01-01 02:00.
const VALID: (&str, &str) = ("251231230000Z", "260101020000Z");
const VALID_MS: (u64, u64) = (NOW_MS - 3_600_000, NOW_MS + 7_200_000);
const LONG: (&str, &str) = ("191028132805Z", "491028142805Z");
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const SECP384R1: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

fn key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 48]).unwrap()
}

fn issuer(subject: &'static str, issuer: &'static str, key: u8, signer: u8, path_len: Option<u8>) -> Plan {
    let usage = der::key_usage(der::SIGNS_DOCUMENTS | der::SIGNS_CERTIFICATES);
    let extensions = vec![der::basic_constraints(true, path_len), usage];
    Plan { subject, issuer, key, signer, valid: LONG, extensions, algorithm: ECDSA_WITH_SHA384, curve: SECP384R1 }
}

/// A chain like AWS's: root, region, zone, instance, enclave.
fn plans() -> Vec<Plan> {
    let leaf = Plan {
        valid: VALID,
        extensions: vec![der::basic_constraints(false, None), der::key_usage(der::SIGNS_DOCUMENTS | 0x40)],
        ..issuer("enclave", "instance", 15, 14, None)
    };
    vec![
        issuer("root", "root", 11, 11, None),
        issuer("region", "root", 12, 11, Some(2)),
        issuer("zone", "region", 13, 12, Some(1)),
        issuer("instance", "zone", 14, 13, Some(0)),
        leaf,
    ]
}

fn certificate(plan: &Plan, serial: u8) -> Vec<u8> {
    let algorithm = der::sequence(&[der::oid(plan.algorithm)]);
    let point = key(plan.key).verifying_key().to_sec1_point(false);
    let id = der::oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
    let info = der::sequence(&[der::sequence(&[id, der::oid(plan.curve)]), der::bits(point.as_bytes())]);
    let tbs = der::sequence(&[
        der::tlv(0xa0, &der::tlv(2, &[2])),
        der::tlv(2, &[serial]),
        algorithm.clone(),
        der::name(plan.issuer),
        der::sequence(&[der::time(plan.valid.0), der::time(plan.valid.1)]),
        der::name(plan.subject),
        info,
        der::tlv(0xa3, &der::sequence(&plan.extensions)),
    ]);
    let signature: DerSignature = key(plan.signer).sign(&tbs);
    der::sequence(&[tbs, algorithm, der::bits(signature.as_bytes())])
}

fn chain(plans: &[Plan]) -> Vec<Vec<u8>> {
    plans.iter().zip(1..).map(|(plan, serial)| certificate(plan, serial)).collect()
}

/// An attestation document to be made.
#[derive(Clone)]
struct Show {
    pcrs: Vec<(u8, Vec<u8>)>,
    chain: Vec<Vec<u8>>,
    signer: u8,
    digest: &'static str,
    nonce: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    extra: Option<&'static str>,
    tagged: bool,
    algorithm: [u8; 4],
}

impl Show {
    fn new(evidence: &Evidence) -> Self {
        let mut pcrs: Vec<_> = IMAGE.iter().zip(0..).map(|(pcr, index)| (index, pcr.to_vec())).collect();
        pcrs.extend([(3, vec![0; 48]), (4, vec![4; 48]), (8, OPERATOR.to_vec())]);
        Self {
            pcrs,
            chain: chain(&plans()),
            signer: 15,
            digest: "SHA384",
            nonce: Some(evidence.nonce.to_vec()),
            public_key: Some(evidence.public_key.as_bytes().to_vec()),
            user_data: Some(evidence.statement().to_vec()),
            extra: None,
            tagged: false,
            algorithm: [0xa1, 1, 0x38, 0x22],
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut e = Encoder::new(vec![]);
        e.map(9 + u64::from(self.extra.is_some())).unwrap();
        e.str("module_id").unwrap().str("i-0123456789abcdef0-enc0123456789abcdef").unwrap();
        e.str("digest").unwrap().str(self.digest).unwrap();
        e.str("timestamp").unwrap().u64(NOW_MS).unwrap();
        e.str("pcrs").unwrap().map(self.pcrs.len() as u64).unwrap();
        for (index, value) in &self.pcrs {
            e.u8(*index).unwrap().bytes(value).unwrap();
        }
        let (leaf, bundle) = self.chain.split_last().unwrap();
        e.str("certificate").unwrap().bytes(leaf).unwrap();
        e.str("cabundle").unwrap().array(bundle.len() as u64).unwrap();
        for certificate in bundle {
            e.bytes(certificate).unwrap();
        }
        for (field, value) in [("public_key", &self.public_key), ("user_data", &self.user_data), ("nonce", &self.nonce)]
        {
            e.str(field).unwrap();
            match value {
                Some(value) => e.bytes(value).unwrap(),
                None => e.null().unwrap(),
            };
        }
        if let Some(field) = self.extra {
            e.str(field).unwrap().null().unwrap();
        }
        e.into_writer()
    }

    fn document(&self) -> Vec<u8> {
        let payload = self.payload();
        let mut signed = Encoder::new(vec![]);
        signed.array(4).unwrap().str("Signature1").unwrap().bytes(&self.algorithm).unwrap();
        signed.bytes(b"").unwrap().bytes(&payload).unwrap();
        let signature: Signature = key(self.signer).sign(&signed.into_writer());
        let mut e = Encoder::new(vec![]);
        if self.tagged {
            e.tag(minicbor::data::Tag::new(18)).unwrap();
        }
        e.array(4).unwrap().bytes(&self.algorithm).unwrap().map(0).unwrap();
        e.bytes(&payload).unwrap().bytes(&signature.to_bytes()).unwrap();
        e.into_writer()
    }
}

fn fields(nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence {
    let kind = EvidenceKind::Nitro;
    let configuration = configuration_hash(kind, key_id, &OPERATOR);
    Evidence { kind, nonce, key_id, public_key, configuration, document: vec![] }
}

pub struct Nitro;

impl Nitro {
    pub const fn new() -> Self {
        Self
    }
}

impl Kind for Nitro {
    fn name(&self) -> &'static str {
        "nitro"
    }

    fn policy(&self) -> Policy {
        let verifier = nitro::Nitro::new(vec![Measurement([[9; 48]; 3]), Measurement(IMAGE)], OPERATOR).unwrap();
        Policy::nothing().with_nitro(verifier.danger_with_root(sha256(&chain(&plans())[0])))
    }

    fn other_policy(&self) -> Policy {
        Tpm2Machine::new(1).policy().danger_accept_insecure_dev()
    }

    fn faults(&self) -> &'static [(Fault, Refusal)] {
        &[
            (Fault::OtherRoot, Refusal::OtherRoot),
            (Fault::OtherOperator, Refusal::OtherOperator),
            (Fault::DebugMode, Refusal::DebugMode),
            (Fault::UnknownMeasurement, Refusal::UnknownMeasurement),
            (Fault::BadSignature, Refusal::BadSignature),
        ]
    }

    fn valid_ms(&self) -> Option<(u64, u64)> {
        Some(VALID_MS)
    }

    fn evidence(&self, fault: Fault, nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence {
        let mut evidence = fields(nonce, key_id, public_key);
        let mut show = Show::new(&evidence);
        match fault {
            Fault::Nothing => {}
            Fault::OtherRoot => {
                let mut plans = plans();
                (plans[0].key, plans[0].signer, plans[1].signer) = (21, 21, 21);
                show.chain = chain(&plans);
            }
            Fault::OtherOperator => show.pcrs[5].1[0] ^= 1,
            Fault::DebugMode => (0..3).for_each(|pcr| show.pcrs[pcr].1.fill(0)),
            Fault::UnknownMeasurement => show.pcrs[1].1[0] ^= 1,
            Fault::BadSignature => show.signer = 14,
        }
        evidence.document = show.document();
        evidence
    }

    fn is_signed(&self) -> bool {
        true
    }
}

fn with(change: impl FnOnce(&mut Show)) -> Evidence {
    let mut evidence = fields(NONCE, KEY_ID, KEY);
    let mut show = Show::new(&evidence);
    change(&mut show);
    evidence.document = show.document();
    evidence
}

fn with_chain(change: impl FnOnce(&mut Vec<Plan>)) -> Evidence {
    let mut plans = plans();
    change(&mut plans);
    with(|show| show.chain = chain(&plans))
}

#[test]
fn each_field_of_a_document_counts() {
    let cases: &[(&str, fn(&mut Show), Refusal)] = &[
        ("no nonce", |show| show.nonce = None, Refusal::NotBound),
        ("another nonce", |show| show.nonce = Some(vec![6; 32]), Refusal::NotBound),
        ("no key", |show| show.public_key = None, Refusal::NotBound),
        ("another key", |show| show.public_key = Some(vec![8; 32]), Refusal::NotBound),
        ("no user data", |show| show.user_data = None, Refusal::NotBound),
        ("other user data", |show| show.user_data = Some(vec![8; 32]), Refusal::NotBound),
        ("an empty field", |show| show.nonce = Some(vec![]), Refusal::Malformed),
        ("one zero PCR of the image", |show| show.pcrs[1].1.fill(0), Refusal::DebugMode),
        ("a PCR of the image missing", |show| drop(show.pcrs.remove(2)), Refusal::Malformed),
        ("no PCR 8", |show| drop(show.pcrs.pop()), Refusal::OtherOperator),
        ("a PCR 8 of zeros: an image that nobody signed", |show| show.pcrs[5].1.fill(0), Refusal::OtherOperator),
        ("a PCR twice", |show| show.pcrs[4].0 = 3, Refusal::Malformed),
        ("a PCR of SHA-256", |show| drop(show.pcrs[4].1.split_off(32)), Refusal::Malformed),
        ("PCR 32", |show| show.pcrs[4].0 = 32, Refusal::Malformed),
        ("no PCRs", |show| show.pcrs.clear(), Refusal::Malformed),
        ("another digest's name", |show| show.digest = "SHA256", Refusal::Malformed),
        ("a field twice", |show| show.extra = Some("nonce"), Refusal::Malformed),
        ("another algorithm", |show| show.algorithm[3] = 0x23, Refusal::Malformed),
        ("the root missing", |show| drop(show.chain.remove(0)), Refusal::OtherRoot),
        ("an issuer missing", |show| drop(show.chain.remove(2)), Refusal::BadChain),
        ("nine certificates above", |show| show.chain = vec![show.chain[0].clone(); 10], Refusal::Malformed),
        ("the root alone", |show| drop(show.chain.splice(1..5, [vec![0x30, 0]])), Refusal::Malformed),
    ];
    for (case, change, refusal) in cases {
        assert_eq!(judge(&with(change), &Nitro.policy()), Err(*refusal), "{case}");
    }
    let good: &[(&str, fn(&mut Show))] =
        &[("tagged", |show| show.tagged = true), ("a field of a later version", |show| show.extra = Some("later"))];
    for (case, change) in good {
        assert_eq!(judge(&with(change), &Nitro.policy()), Ok(Measurement(IMAGE).to_string()), "{case}");
    }
}

#[test]
fn each_certificate_may_do_only_what_it_is_for() {
    let usage = |usage| der::key_usage(usage);
    let cases: &[(&str, &dyn Fn(&mut Vec<Plan>), Refusal)] = &[
        ("an issuer that is none", &|c| c[2].extensions[0] = der::basic_constraints(false, None), Refusal::BadChain),
        ("an issuer without constraints", &|c| drop(c[2].extensions.remove(0)), Refusal::BadChain),
        ("an issuer without usage", &|c| drop(c[2].extensions.remove(1)), Refusal::BadChain),
        ("an issuer for documents", &|c| c[2].extensions[1] = usage(der::SIGNS_DOCUMENTS), Refusal::BadChain),
        ("too long a path", &|c| c[1].extensions[0] = der::basic_constraints(true, Some(1)), Refusal::BadChain),
        ("an issuer at the end", &|c| c[4].extensions[0] = der::basic_constraints(true, None), Refusal::BadChain),
        ("a signer of certificates", &|c| c[4].extensions[1] = usage(0x84), Refusal::BadChain),
        ("a signer without usage", &|c| drop(c[4].extensions.remove(1)), Refusal::BadChain),
        ("a critical stranger", &|c| c[3].extensions.push(der::extension(36, true, &[5, 0])), Refusal::BadChain),
        ("usage twice", &|c| c[3].extensions.push(usage(der::SIGNS_CERTIFICATES)), Refusal::BadChain),
        ("another issuer's name", &|c| c[3].issuer = "region", Refusal::BadChain),
        ("another issuer's key", &|c| c[3].signer = 12, Refusal::BadSignature),
        ("a weaker hash", &|c| c[3].algorithm = ECDSA_WITH_SHA256, Refusal::BadChain),
        ("another curve's name", &|c| c[4].curve = SECP256R1, Refusal::BadChain),
        ("a zone that has run out", &|c| c[2].valid.1 = "251231235959Z", Refusal::Expired),
        ("a zone that has not begun", &|c| c[2].valid.0 = "260101000001Z", Refusal::NotYetValid),
    ];
    for (case, change, refusal) in cases {
        assert_eq!(judge(&with_chain(change), &Nitro.policy()), Err(*refusal), "{case}");
    }
    let harmless = with_chain(|c| c[3].extensions.push(der::extension(36, false, &[5, 0])));
    assert_eq!(judge(&harmless, &Nitro.policy()), Ok(Measurement(IMAGE).to_string()), "a stranger, not critical");
}

#[test]
fn a_root_that_has_run_out_is_no_root() {
    let mut plans = plans();
    plans[0].valid.1 = "251231235959Z";
    let chain = chain(&plans);
    let verifier = nitro::Nitro::new(vec![Measurement(IMAGE)], OPERATOR).unwrap().danger_with_root(sha256(&chain[0]));
    let evidence = with(|show| show.chain = chain);
    assert_eq!(judge(&evidence, &Policy::nothing().with_nitro(verifier)), Err(Refusal::Expired));
}

#[test]
fn a_policy_of_zeros_cannot_be_made() {
    assert!(nitro::Nitro::new(vec![Measurement(IMAGE)], [0; 48]).is_err());
    assert!(nitro::Nitro::new(vec![Measurement([[1; 48], [0; 48], [1; 48]])], OPERATOR).is_err());
}

/// A document of a real Nitro machine in AWS's region eu-central-1, published with crate `nitro_attest` 0.2.0
/// (Copyright (c) 2025 Joern Barthel, MIT licence).
const RECORDED: &[u8] = include_bytes!("../fixtures/nitro-recorded.cose");
const RECORDED_MS: u64 = 1_736_179_625_000;

/// AWS signed it, for somebody else: its chain, signature and measurements hold, and it is not about our keeper.
#[test]
fn a_recorded_document_of_aws_holds_and_is_not_about_us() {
    let parsed = Document::from_slice(RECORDED).unwrap();
    assert_eq!(parsed.module_id, "i-0bee92034f3d60691-enc01943c5eaab3ad6a");
    assert!(parsed.timestamp_ms.abs_diff(RECORDED_MS) < 1000);
    assert_eq!((parsed.chain.len(), parsed.pcrs.len()), (5, 16));
    assert_eq!(sha256(&parsed.chain[0]), AWS_ROOT_G1);
    let image = Measurement([0, 1, 2].map(|index| parsed.pcr(index).unwrap()));
    assert!(image.to_string().starts_with("8bb159f202bb95d6"));
    let examine = |document: &[u8], root, now_ms| {
        let verifier = nitro::Nitro::new(vec![image], OPERATOR).unwrap().danger_with_root(root);
        verifier.examine(&Evidence { document: document.to_vec(), ..fields(NONCE, KEY_ID, KEY) }, now_ms)
    };
    // The refusal comes after the chain, the signature and the debug mode, whose own tests are above.
    assert_eq!(examine(RECORDED, AWS_ROOT_G1, RECORDED_MS), Err(Refusal::NotBound));
    assert_eq!(examine(RECORDED, AWS_ROOT_G1, NOW_MS), Err(Refusal::Expired));
    assert_eq!(examine(RECORDED, AWS_ROOT_G1, RECORDED_MS - 86_400_000), Err(Refusal::NotYetValid));
    assert_eq!(examine(RECORDED, [0; 32], RECORDED_MS), Err(Refusal::OtherRoot));
    let mut flipped = RECORDED.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(examine(&flipped, AWS_ROOT_G1, RECORDED_MS), Err(Refusal::BadSignature));
    let mut other_image = RECORDED.to_vec();
    other_image[0x70] ^= 1;
    assert_eq!(examine(&other_image, AWS_ROOT_G1, RECORDED_MS), Err(Refusal::BadSignature));
}
