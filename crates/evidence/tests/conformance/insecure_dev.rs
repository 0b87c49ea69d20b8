use halfkey_envelope::{
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, configuration_hash},
};
use halfkey_evidence::{Policy, Refusal, synthetic::Tpm2Machine};

use super::{Fault, KEY, KEY_ID, Kind, NONCE, judge};

pub struct InsecureDev;

impl Kind for InsecureDev {
    fn name(&self) -> &'static str {
        "insecure-dev"
    }

    fn policy(&self) -> Policy {
        Policy::nothing().danger_accept_insecure_dev()
    }

    fn other_policy(&self) -> Policy {
        Tpm2Machine::new(1).policy()
    }

    fn faults(&self) -> &'static [(Fault, Refusal)] {
        &[]
    }

    fn valid_ms(&self) -> Option<(u64, u64)> {
        None
    }

    fn evidence(&self, _: Fault, nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence {
        let kind = EvidenceKind::InsecureDev;
        let configuration = configuration_hash(kind, key_id, b"");
        Evidence { kind, nonce, key_id, public_key, configuration, document: Vec::new() }
    }

    fn is_signed(&self) -> bool {
        false
    }
}

#[test]
fn insecure_dev_is_refused_by_default_and_the_refusal_says_why() {
    let evidence = InsecureDev.evidence(Fault::Nothing, NONCE, KEY_ID, KEY);
    for policy in [Policy::nothing(), Policy::default(), Tpm2Machine::new(1).policy()] {
        let refusal = judge(&evidence, &policy).unwrap_err();
        assert_eq!(refusal.code(), "INSECURE_DEV");
        assert!(refusal.to_string().contains("proves nothing"), "{refusal}");
        assert!(!policy.kinds().any(|kind| kind == EvidenceKind::InsecureDev));
    }
    assert_eq!(judge(&evidence, &InsecureDev.policy()), Ok(String::new()));
}
