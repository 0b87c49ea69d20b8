use halfkey_envelope::{hpke::PublicKey, keeper::Evidence};
use halfkey_evidence::{
    Policy, Refusal, nitro,
    synthetic::{PCRS, Tpm2Machine},
    tpm2::{self, Document, OperatorKey, PcrSelection, Quote},
};

use super::{Fault, KEY, KEY_ID, Kind, NONCE, NOW_MS, judge};

pub struct Tpm2;

/// The digest of PCRs that nothing was ever measured into.
fn zero_digest() -> [u8; 32] {
    halfkey_envelope::hash::sha256(&[0; 32 * PCRS.len()])
}

fn machine() -> Tpm2Machine {
    let mut machine = Tpm2Machine::new(1);
    machine.enrolled_ms = Tpm2.valid_ms().unwrap();
    machine
}

impl Kind for Tpm2 {
    fn name(&self) -> &'static str {
        "tpm2"
    }

    fn policy(&self) -> Policy {
        let machine = machine();
        let allowed = vec![[9; 32], machine.digest, zero_digest()];
        let selection = PcrSelection::new(&PCRS).unwrap();
        Policy::nothing().with_tpm2(tpm2::Tpm2::new(selection, allowed, machine.operator()))
    }

    fn other_policy(&self) -> Policy {
        Policy::nothing()
            .danger_accept_insecure_dev()
            .with_nitro(nitro::Nitro::new(vec![nitro::Measurement([[1; 48]; 3])], [1; 48]).unwrap())
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
        Some((NOW_MS - 1000, NOW_MS + 1000))
    }

    fn evidence(&self, fault: Fault, nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence {
        let mut machine = machine();
        match fault {
            Fault::OtherOperator => {
                machine = Tpm2Machine::new(2);
                machine.digest = self::machine().digest;
            }
            Fault::DebugMode => machine.digest = zero_digest(),
            Fault::UnknownMeasurement => machine.digest[0] ^= 1,
            Fault::Nothing | Fault::OtherRoot | Fault::BadSignature => {}
        }
        let mut evidence = machine.evidence(nonce, key_id, public_key);
        if fault == Fault::OtherRoot {
            // A machine that names the pinned operator, who never enrolled it.
            let stranger = Tpm2Machine::new(2);
            let mut document = stranger.document(&evidence.statement());
            document.enrolment.operator = *machine.operator().as_bytes();
            document.enrolment.signature = stranger.vouch(&document.enrolment);
            evidence.document = document.to_vec();
        }
        if fault == Fault::BadSignature {
            // A quote by another machine's key.
            let mut document = machine.document(&evidence.statement());
            document.signature = Tpm2Machine::new(2).danger_sign(&document.quote);
            evidence.document = document.to_vec();
        }
        evidence
    }

    fn is_signed(&self) -> bool {
        true
    }
}

/// The genuine evidence with another document.
fn with(change: impl FnOnce(&Tpm2Machine, &mut Document)) -> Evidence {
    let machine = machine();
    let mut evidence = machine.evidence(NONCE, KEY_ID, KEY);
    let mut document = machine.document(&evidence.statement());
    change(&machine, &mut document);
    evidence.document = document.to_vec();
    evidence
}

/// The machine signs another quote: one that its TPM would not have made.
fn with_quote(change: impl FnOnce(&mut Vec<u8>)) -> Evidence {
    with(|machine, document| {
        change(&mut document.quote);
        document.signature = machine.danger_sign(&document.quote);
    })
}

/// The operator vouches for another public area.
fn with_key(change: impl FnOnce(&mut Vec<u8>)) -> Evidence {
    with(|machine, document| {
        change(&mut document.enrolment.attestation_key);
        document.enrolment.signature = machine.vouch(&document.enrolment);
    })
}

const SELECTION: usize = 67;

#[test]
fn each_field_of_a_quote_counts() {
    let cases: &[(&str, fn(&mut Vec<u8>), Refusal)] = &[
        ("made outside a TPM", |quote| quote[0] = 0, Refusal::Malformed),
        ("a certification, not a quote", |quote| quote[5] = 0x17, Refusal::Malformed),
        ("no qualifying data", |quote| drop(quote.splice(8..42, [0, 0])), Refusal::NotBound),
        ("two banks", |quote| quote[SELECTION + 3] = 2, Refusal::UnknownMeasurement),
        ("the SHA-1 bank", |quote| quote[SELECTION + 5] = 4, Refusal::UnknownMeasurement),
        ("fewer PCRs", |quote| quote[SELECTION + 7] = 0, Refusal::UnknownMeasurement),
        ("a PCR that can be reset", |quote| quote[SELECTION + 9] = 1, Refusal::UnknownMeasurement),
        ("another digest", |quote| *quote.last_mut().unwrap() ^= 1, Refusal::UnknownMeasurement),
        ("a shorter digest", |quote| drop(quote.splice(SELECTION + 10.., [0, 1, 9])), Refusal::Malformed),
        ("cut short", |quote| quote.truncate(quote.len() - 1), Refusal::Truncated),
        ("bytes after the end", |quote| quote.push(0), Refusal::Malformed),
    ];
    for (case, change, refusal) in cases {
        assert_eq!(judge(&with_quote(change), &Tpm2.policy()), Err(*refusal), "{case}");
    }
}

#[test]
fn pcrs_of_all_ones_are_no_measurement_either() {
    let ones = halfkey_envelope::hash::sha256(&[0xff; 32 * PCRS.len()]);
    let mut machine = machine();
    machine.digest = ones;
    let selection = PcrSelection::new(&PCRS).unwrap();
    let policy = Policy::nothing().with_tpm2(tpm2::Tpm2::new(selection, vec![ones], machine.operator()));
    assert_eq!(judge(&machine.evidence(NONCE, KEY_ID, KEY), &policy), Err(Refusal::DebugMode));
}

#[test]
fn only_a_restricted_signing_key_of_a_tpm_attests() {
    let attributes = |clear: u32, set: u32| {
        move |area: &mut Vec<u8>| {
            let found = u32::from_be_bytes(area[4..8].try_into().unwrap());
            area[4..8].copy_from_slice(&(found & !clear | set).to_be_bytes());
        }
    };
    let judged = |change: &dyn Fn(&mut Vec<u8>)| judge(&with_key(change), &Tpm2.policy());
    for (case, bit) in [("fixedTPM", 1), ("fixedParent", 4), ("born inside", 5), ("restricted", 16), ("sign", 18)] {
        assert_eq!(judged(&attributes(1 << bit, 0)), Err(Refusal::BadAttestationKey), "not {case}");
    }
    assert_eq!(judged(&attributes(0, 1 << 17)), Err(Refusal::BadAttestationKey), "it can decrypt");
    for (case, at, value) in
        [("RSA", 1, 1), ("SHA-1 name", 3, 4), ("ECDAA", 13, 0x1a), ("SHA-1", 15, 4), ("P-384", 17, 4)]
    {
        let change = |area: &mut Vec<u8>| area[at] = value;
        assert_eq!(judged(&change), Err(Refusal::BadAttestationKey), "{case}");
    }
    assert_eq!(judged(&|area| area[30] ^= 1), Err(Refusal::BadAttestationKey), "not on the curve");
    assert_eq!(judged(&|area| area.push(0)), Err(Refusal::Malformed), "bytes after the end");
    assert_eq!(judged(&|area| area.truncate(area.len() - 1)), Err(Refusal::Truncated), "cut short");
}

#[test]
fn each_field_of_an_enrolment_is_signed() {
    let cases: &[(&str, fn(&mut Document))] = &[
        ("the key", |document| {
            document.enrolment.attestation_key = Tpm2Machine::new(2).enrolment().attestation_key;
        }),
        ("the endorsement", |document| document.enrolment.endorsement[0] ^= 1),
        ("its beginning", |document| document.enrolment.not_before_ms = 0),
        ("its end", |document| document.enrolment.not_after_ms = u64::MAX),
    ];
    for (case, change) in cases {
        let evidence = with(|_, document| change(document));
        assert_eq!(judge(&evidence, &Tpm2.policy()), Err(Refusal::OtherRoot), "{case}");
    }
}

#[test]
fn a_policy_that_could_be_satisfied_by_anybody_cannot_be_made() {
    for pcrs in [&[][..], &[0, 0], &[16], &[0, 23], &[17], &[255]] {
        assert!(PcrSelection::new(pcrs).is_err(), "{pcrs:?}");
    }
    assert_eq!(PcrSelection::new(&[15, 0]).unwrap().bitmap(), [1, 0x80, 0]);
    let mut not_a_point = [2; 33];
    not_a_point[1..].fill(0xff);
    assert!(OperatorKey::from_bytes(&not_a_point).is_err());
}

#[test]
fn a_quote_is_read_as_it_was_written() {
    let machine = machine();
    let quote = Quote::from_slice(&machine.quote(&[4; 32])).unwrap();
    assert_eq!((quote.extra, quote.selection, quote.digest), (vec![4; 32], [1, 0x80, 0], machine.digest));
    let at = machine.quote(&[4; 32]);
    assert_eq!(at[SELECTION..SELECTION + 10], [0, 0, 0, 1, 0, 0x0b, 3, 1, 0x80, 0], "the cases above change these");
}
