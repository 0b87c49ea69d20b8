//! One suite for every kind of evidence, one line per case; then what each kind alone can get wrong.
#![allow(missing_docs, clippy::type_complexity, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod insecure_dev;
mod nitro;
mod tpm2;

use halfkey_envelope::{hpke::PublicKey, keeper::Evidence};
use halfkey_evidence::{Expected, Policy, Refusal, verify};

/// What is wrong with a machine, or with what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    OtherRoot,
    OtherOperator,
    DebugMode,
    UnknownMeasurement,
    BadSignature,
}

/// A kind of evidence, as the suite sees it.
pub trait Kind {
    fn name(&self) -> &'static str;
    /// The policy that accepts the genuine machine.
    fn policy(&self) -> Policy;
    /// A policy that accepts genuine machines of other kinds alone.
    fn other_policy(&self) -> Policy;
    /// The faults that this kind can have at all.
    fn faults(&self) -> &'static [(Fault, Refusal)];
    /// Milliseconds since the Unix epoch from and until which its evidence holds, if it runs out.
    fn valid_ms(&self) -> Option<(u64, u64)>;
    fn evidence(&self, fault: Fault, nonce: [u8; 32], key_id: u32, public_key: PublicKey) -> Evidence;
    /// Whether somebody signed what stands in the fields.
    fn is_signed(&self) -> bool;
}

pub const NONCE: [u8; 32] = [5; 32];
pub const KEY_ID: u32 = 3;
pub const KEY: PublicKey = PublicKey::from_bytes([7; 32]);
pub const OTHER_KEY: PublicKey = PublicKey::from_bytes([8; 32]);
/// 2026-01-01.
pub const NOW_MS: u64 = 1_767_225_600_000;

pub fn judge(evidence: &Evidence, policy: &Policy) -> Result<String, Refusal> {
    judge_at(evidence, policy, NOW_MS)
}

fn judge_at(evidence: &Evidence, policy: &Policy, now_ms: u64) -> Result<String, Refusal> {
    let expected = Expected { nonce: &NONCE, key_id: KEY_ID, public_key: &KEY, now_ms };
    verify(evidence, &expected, policy).map(|verified| {
        assert_eq!(verified.kind, evidence.kind);
        verified.measurement
    })
}

fn conforms(kind: &dyn Kind) {
    let genuine = kind.evidence(Fault::Nothing, NONCE, KEY_ID, KEY);
    judge(&genuine, &kind.policy()).unwrap_or_else(|refusal| panic!("{}: {refusal}", kind.name()));

    let show = |nonce, key_id, key| kind.evidence(Fault::Nothing, nonce, key_id, key);
    let with = |change: fn(&mut Evidence)| {
        let mut changed = genuine.clone();
        change(&mut changed);
        changed
    };
    // What an honest machine says when it is asked something else, or runs with another key.
    let mut cases = vec![
        ("another nonce", show([6; 32], KEY_ID, KEY), Refusal::OtherNonce),
        ("another key", show(NONCE, KEY_ID, OTHER_KEY), Refusal::OtherKey),
        ("another number of the key", show(NONCE, KEY_ID + 1, KEY), Refusal::OtherKey),
    ];
    if kind.is_signed() {
        // The same, after the host has put the expected fields beside it.
        let dressed = |honest: Evidence| Evidence { document: honest.document, ..genuine.clone() };
        cases.extend([
            ("an old document", dressed(show([6; 32], KEY_ID, KEY)), Refusal::NotBound),
            ("a document of another key", dressed(show(NONCE, KEY_ID, OTHER_KEY)), Refusal::NotBound),
            ("a document of another number", dressed(show(NONCE, KEY_ID + 1, KEY)), Refusal::NotBound),
            ("another configuration beside it", with(|e| e.configuration[0] ^= 1), Refusal::NotBound),
            ("no document", with(|e| e.document.clear()), Refusal::Truncated),
            ("another document's beginning", with(|e| e.document[0] = 0xff), Refusal::Malformed),
        ]);
    } else {
        cases.push(("another configuration", with(|e| e.configuration[0] ^= 1), Refusal::OtherConfiguration));
    }
    cases.push(("bytes after the end", with(|e| e.document.push(0)), Refusal::Malformed));
    for (fault, refusal) in kind.faults() {
        cases.push(("a fault", kind.evidence(*fault, NONCE, KEY_ID, KEY), *refusal));
    }
    for (case, evidence, refusal) in cases {
        assert_eq!(judge(&evidence, &kind.policy()), Err(refusal), "{}: {case}: {refusal:?}", kind.name());
    }

    let refused = judge(&genuine, &kind.other_policy());
    assert_eq!(refused, judge(&genuine, &Policy::nothing()), "{}: a kind that the policy does not name", kind.name());
    assert!(matches!(refused, Err(Refusal::OtherKind | Refusal::InsecureDev)), "{}: {refused:?}", kind.name());
    if let Some((from, until)) = kind.valid_ms() {
        let at = |now_ms| judge_at(&genuine, &kind.policy(), now_ms).map(drop);
        assert_eq!(at(from - 1), Err(Refusal::NotYetValid), "{}", kind.name());
        assert_eq!((at(from), at(until)), (Ok(()), Ok(())), "{}", kind.name());
        assert_eq!(at(until + 1000), Err(Refusal::Expired), "{}", kind.name());
    }
    every_cut_is_truncated(kind, &genuine);
    no_flipped_bit_is_accepted(kind, &genuine);
}

fn every_cut_is_truncated(kind: &dyn Kind, genuine: &Evidence) {
    for length in 0..genuine.document.len() {
        let cut = Evidence { document: genuine.document[..length].to_vec(), ..genuine.clone() };
        assert_eq!(judge(&cut, &kind.policy()), Err(Refusal::Truncated), "{}: {length} bytes", kind.name());
    }
}

/// A bit in 120 bytes that lie evenly: each costs up to five signatures.
fn no_flipped_bit_is_accepted(kind: &dyn Kind, genuine: &Evidence) {
    let step = genuine.document.len().div_ceil(120).max(1);
    for byte in (0..genuine.document.len()).step_by(step) {
        let mut flipped = genuine.clone();
        flipped.document[byte] ^= 1 << (byte % 8);
        assert!(judge(&flipped, &kind.policy()).is_err(), "{}: byte {byte}", kind.name());
    }
}

#[test]
fn insecure_dev_conforms() {
    conforms(&insecure_dev::InsecureDev);
}

#[test]
fn tpm2_conforms() {
    conforms(&tpm2::Tpm2);
}

#[test]
fn nitro_conforms() {
    conforms(&nitro::Nitro::new());
}
