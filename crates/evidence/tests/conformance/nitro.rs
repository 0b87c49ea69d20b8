use halfkey_envelope::{
    hash::sha256,
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, configuration_hash},
};
use halfkey_evidence::{
    Policy, Refusal, Verifier,
    nitro::{self, AWS_ROOT_G1, Document, Measurement},
    synthetic::{
        Tpm2Machine, der,
        nitro::{ECDSA_WITH_SHA256, IMAGE, OPERATOR, Plan, SECP256R1, Show, VALID_MS, chain, plans, policy},
    },
};

use super::{Fault, KEY, KEY_ID, Kind, NONCE, NOW_MS, judge};

fn fields(nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence {
    let kind = EvidenceKind::Nitro;
    let configuration = configuration_hash(kind, key_id, &OPERATOR);
    Evidence { kind, nonce, key_id, public_key, configuration, document: vec![] }
}

fn shows(evidence: &Evidence) -> Show {
    Show::new(Some(&evidence.statement()), Some(&evidence.nonce), Some(evidence.public_key.as_bytes()))
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
        policy()
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
        let mut show = shows(&evidence);
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
    let mut show = shows(&evidence);
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
