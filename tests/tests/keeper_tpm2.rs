//! A keeper behind a TPM: `swtpm` on real sockets, with Debian's `tpm2-tools` as the second opinion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, path::Path};

use halfkey_envelope::{
    entropy::OsEntropy,
    hash::sha256,
    hpke::PublicKey,
    keeper::{Answer, Evidence, Refusal as KeeperRefusal, Request, decode_answer, encode_request},
};
use halfkey_evidence::{
    Expected, Policy, Refusal,
    tpm2::{Document, Enrolment, OperatorKey, PcrSelection, Tpm2},
    verify,
};
use halfkey_keeper::{
    Keeper, RootError, SealRoot,
    tpm::{Address, Authorisation, Tpm, TpmError, authorised_policy, pcr_policy},
    tpm2::{Approval, JoinAnswer, JoinRequest, Joining, Terms, Tpm2Error, Tpm2Root, admit, vouch},
};
use halfkey_tests::swtpm::{PCRS, Swtpm};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use zeroize::Zeroizing;

/// 2026-01-01.
const NOW_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 86_400_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).unwrap()
}

fn compressed(key: &SigningKey) -> [u8; 33] {
    key.verifying_key().to_sec1_point(true).as_bytes().try_into().unwrap()
}

fn operator() -> SigningKey {
    key(1)
}

const SIGNERS: [u8; 3] = [11, 12, 13];

fn selection() -> PcrSelection {
    PcrSelection::new(&PCRS).unwrap()
}

fn terms() -> Terms {
    let signers = SIGNERS.iter().map(|number| compressed(&key(*number))).collect();
    Terms { selection: selection(), signers, quorum: 2 }
}

/// A machine with a keeper's data folder.
struct Machine {
    tpm: Swtpm,
    data: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { tpm: Swtpm::start().unwrap(), data: tempfile::tempdir().unwrap() }
    }

    fn address(&self) -> Address {
        self.tpm.address().parse().unwrap()
    }

    fn root(&self) -> Tpm2Root {
        Tpm2Root::new(self.data.path().join("keeper"), self.address())
    }

    fn digest(&self) -> [u8; 32] {
        Tpm2Root::measure(&self.address(), &selection()).unwrap()
    }

    fn enrolment(&self) -> Enrolment {
        let request = Tpm2Root::enrolment_request(&self.address()).unwrap();
        assert!(request.endorsement_certificate.is_some(), "swtpm_setup made one");
        vouch(&request, NOW_MS - DAY_MS, NOW_MS + DAY_MS, &operator()).unwrap()
    }

    /// What these signers say about the machine as it is now.
    fn approvals(&self, signers: &[u8]) -> Vec<Approval> {
        signers.iter().map(|signer| Approval::sign(&selection(), self.digest(), &key(*signer)).unwrap()).collect()
    }

    fn sealed() -> (Self, PublicKey) {
        let machine = Self::new();
        let approvals = machine.approvals(&SIGNERS[..2]);
        let (enrolment, entropy) = (machine.enrolment(), &mut OsEntropy);
        let key = machine.root().seal_new(&terms(), &enrolment, &approvals, NOW_MS, entropy).unwrap();
        (machine, key)
    }

    /// The keeper as it would start now.
    fn keeper(&self) -> Result<Keeper, RootError> {
        let root = self.root();
        let attester = root.attester().map_err(|error| RootError::Tpm2(Box::new(error)))?;
        Keeper::new(&root, Box::new(attester), 1, &mut OsEntropy)
    }

    fn opened(&self) -> Result<PublicKey, Tpm2Error> {
        match self.keeper() {
            Ok(keeper) => match ask(&keeper, &Request::Info) {
                Answer::Info(info) => Ok(info.public_key),
                other => panic!("{other:?}"),
            },
            Err(RootError::Tpm2(error)) => Err(*error),
            Err(other) => panic!("{other}"),
        }
    }

    fn policy(&self) -> Policy {
        policy(vec![self.digest()])
    }
}

fn policy(measurements: Vec<[u8; 32]>) -> Policy {
    let operator = OperatorKey::from_bytes(&compressed(&operator())).unwrap();
    Policy::nothing().with_tpm2(Tpm2::new(selection(), measurements, operator))
}

fn ask(keeper: &Keeper, request: &Request) -> Answer {
    decode_answer(&keeper.answer(&encode_request(request))).unwrap()
}

fn shown(keeper: &Keeper, nonce: [u8; 32]) -> Evidence {
    match ask(keeper, &Request::Evidence { nonce }) {
        Answer::Evidence(evidence) => evidence,
        other => panic!("{other:?}"),
    }
}

fn not_approved(result: Result<PublicKey, Tpm2Error>) -> usize {
    match result {
        Err(Tpm2Error::NotApproved { approved, needed: 2, .. }) => approved,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_root_opens_after_an_approved_boot_only_and_an_upgrade_is_two_signatures() {
    let (mut machine, key_1) = Machine::sealed();
    assert_eq!(machine.opened().unwrap(), key_1);
    machine.tpm.reboot().unwrap();
    assert_eq!(machine.opened().unwrap(), key_1, "the same boot");

    machine.tpm.extend(11, 0x44).unwrap();
    assert_eq!(not_approved(machine.opened()), 0, "another program");
    let approvals = machine.approvals(&SIGNERS);
    machine.root().accept(&approvals[2]).unwrap();
    assert_eq!(not_approved(machine.opened()), 1, "one signer is not enough");
    machine.root().accept(&approvals[2]).unwrap();
    assert_eq!(not_approved(machine.opened()), 1, "nor is he twice");
    let stranger = Approval::sign(&selection(), machine.digest(), &key(14)).unwrap();
    machine.root().accept(&stranger).unwrap();
    assert_eq!(not_approved(machine.opened()), 1, "nor with a stranger");
    let mut forged = approvals[0].clone();
    forged.signature = stranger.signature;
    assert!(matches!(machine.root().accept(&forged), Err(Tpm2Error::Unknown(_))));
    fs::write(machine.data.path().join("keeper/tpm2/approvals/forged"), halfkey_envelope::cbor::to_vec(&forged))
        .unwrap();
    assert_eq!(not_approved(machine.opened()), 1, "nor with a forged one");
    machine.root().accept(&approvals[0]).unwrap();
    assert_eq!(machine.opened().unwrap(), key_1, "the upgrade is let through, and the root is the same");

    // Back to the version before: its approvals are still there.
    machine.tpm.reboot().unwrap();
    assert_eq!(machine.opened().unwrap(), key_1);
}

/// The same without this program's own comparison: the TPM is asked for a part with words that were good before.
#[test]
fn the_tpm_itself_refuses_another_state_and_a_forged_word() {
    let machine = Machine::new();
    // `swtpm` serves one connection at a time: each step has its own.
    let tpm = || Tpm::connect(&machine.address()).unwrap();
    let (signer, reference) = (key(11), sha256(b"reference"));
    let point = signer.verifying_key().to_sec1_point(false);
    let (x, y): ([u8; 32], [u8; 32]) =
        (point.as_bytes()[1..33].try_into().unwrap(), point.as_bytes()[33..].try_into().unwrap());
    let secret = Zeroizing::new([0x5a; 32]);
    let blob = tpm().seal(&authorised_policy((&x, &y), &reference), &secret).unwrap();

    let unseal = |approved: [u8; 32], signed: [u8; 32], by: &SigningKey, reference: &[u8; 32]| {
        let signature: Signature = by.sign(&[signed, *reference].concat());
        let bytes: [u8; 64] = signature.to_bytes().into();
        let (r, s) = (bytes[..32].try_into().unwrap(), bytes[32..].try_into().unwrap());
        let authorisation = Authorisation { approved: &approved, reference, signer: (&x, &y), signature: (&r, &s) };
        tpm().unseal(&blob, &selection(), &authorisation)
    };
    let good = pcr_policy(&selection(), &machine.digest());
    assert_eq!(*unseal(good, good, &signer, &reference).unwrap(), *secret);
    let refused = |result| matches!(result, Err(TpmError::Refused(_)));
    assert!(refused(unseal(good, [0; 32], &signer, &reference)), "another state was signed");
    assert!(refused(unseal(good, good, &key(12), &reference)), "another signer");
    assert!(refused(unseal(good, good, &signer, &[0; 32])), "for another purpose");
    machine.tpm.extend(7, 0x44).unwrap();
    assert!(refused(unseal(good, good, &signer, &reference)), "another state");
    let now = pcr_policy(&selection(), &machine.digest());
    assert_eq!(*unseal(now, now, &signer, &reference).unwrap(), *secret);
    // Nothing stays loaded, whether it went well or not.
    let handles = machine.tpm.tool("tpm2_getcap", &["handles-transient"]).unwrap();
    assert!(handles.stdout.is_empty(), "{}", String::from_utf8_lossy(&handles.stdout));
}

#[test]
fn what_is_sealed_on_one_machine_opens_on_no_other() {
    let (machine, _) = Machine::sealed();
    let other = Machine::new();
    halfkey_tests::deployment::copy_folder(machine.data.path(), other.data.path()).unwrap();
    assert_eq!(other.digest(), machine.digest(), "the same boot on both");
    assert!(matches!(other.opened(), Err(Tpm2Error::Tpm(TpmError::Refused(_)))));
}

#[test]
fn evidence_of_a_tpm_holds_under_the_policy_and_is_refused_for_each_fault() {
    let (machine, key_1) = Machine::sealed();
    let keeper = machine.keeper().unwrap();
    let good = shown(&keeper, [5; 32]);
    let expected = |nonce| Expected { nonce, key_id: 1, public_key: &key_1, now_ms: NOW_MS };
    let judge = |evidence: &Evidence, policy: &Policy| verify(evidence, &expected(&[5; 32]), policy).map(drop);
    assert_eq!(judge(&good, &machine.policy()), Ok(()));
    assert_eq!(judge(&shown(&keeper, [6; 32]), &machine.policy()), Err(Refusal::OtherNonce));
    assert_eq!(judge(&good, &policy(vec![[7; 32]])), Err(Refusal::UnknownMeasurement));
    assert_eq!(judge(&good, &Policy::nothing()), Err(Refusal::OtherKind));
    let stranger = OperatorKey::from_bytes(&compressed(&key(2))).unwrap();
    let theirs = Policy::nothing().with_tpm2(Tpm2::new(selection(), vec![machine.digest()], stranger));
    assert_eq!(judge(&good, &theirs), Err(Refusal::OtherOperator));
    let late = Expected { now_ms: NOW_MS + 2 * DAY_MS, ..expected(&[5; 32]) };
    assert_eq!(verify(&good, &late, &machine.policy()), Err(Refusal::Expired));

    // A genuine image on another root: its own key, and not the pinned one.
    let (other, _) = Machine::sealed();
    let theirs = shown(&other.keeper().unwrap(), [5; 32]);
    assert_eq!(judge(&theirs, &machine.policy()), Err(Refusal::OtherKey));

    // The keeper runs on and the machine is changed under it: its quotes say so.
    let before = machine.policy();
    machine.tpm.extend(11, 0x44).unwrap();
    assert_eq!(judge(&shown(&keeper, [5; 32]), &before), Err(Refusal::UnknownMeasurement));
}

#[test]
fn nothing_measured_is_no_measurement() {
    let (machine, key_1) = Machine::sealed();
    let unmeasured = PcrSelection::new(&[9, 10]).unwrap();
    let digest = Tpm2Root::measure(&machine.address(), &unmeasured).unwrap();
    let (mut evidence, enrolment) = (shown(&machine.keeper().unwrap(), [5; 32]), machine.enrolment());
    let mut tpm = Tpm::connect(&machine.address()).unwrap();
    let (quote, signature) = tpm.quote(&unmeasured, &evidence.statement()).unwrap();
    evidence.document = Document { quote, signature, enrolment }.to_vec();
    let operator = OperatorKey::from_bytes(&compressed(&operator())).unwrap();
    let policy = Policy::nothing().with_tpm2(Tpm2::new(unmeasured, vec![digest], operator));
    let expected = Expected { nonce: &[5; 32], key_id: 1, public_key: &key_1, now_ms: NOW_MS };
    assert_eq!(verify(&evidence, &expected, &policy), Err(Refusal::DebugMode));
}

/// `tpm2_checkquote` and our verifier, on the same quotes: as they are, and with one bit of quote, signature, key or
/// qualifying data flipped.
#[test]
fn tpm2_checkquote_accepts_and_refuses_the_same_quotes() {
    let (machine, key_1) = Machine::sealed();
    let good = shown(&machine.keeper().unwrap(), [5; 32]);
    let document = Document::from_slice(&good.document).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let theirs = |document: &Document, statement: &[u8; 32]| {
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let area = &document.enrolment.attestation_key;
        let public = write("public", &[&(area.len() as u16).to_be_bytes(), &area[..]].concat());
        let quote = write("quote", &document.quote);
        let (r, s) = document.signature.split_at(32);
        let signature = write("signature", &[&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat());
        let hex = hex::encode(statement);
        let words = ["-u", &public, "-m", &quote, "-s", &signature, "-g", "sha256", "-q", &hex];
        machine.tpm.tool("tpm2_checkquote", &words).is_ok()
    };
    let policy = machine.policy();
    let ours = |document: &Document, evidence: &Evidence| {
        // The operator would vouch for whatever key this is: the comparison is about quotes.
        let mut document = document.clone();
        let request = halfkey_keeper::tpm2::EnrolmentRequest {
            attestation_key: document.enrolment.attestation_key.clone(),
            endorsement_certificate: None,
        };
        match vouch(&request, 0, u64::MAX, &operator()) {
            Ok(enrolment) => document.enrolment = enrolment,
            Err(_) => return false,
        }
        let evidence = Evidence { document: document.to_vec(), ..evidence.clone() };
        let expected = Expected { nonce: &evidence.nonce, key_id: 1, public_key: &key_1, now_ms: NOW_MS };
        verify(&evidence, &expected, &policy).is_ok()
    };
    assert!(theirs(&document, &good.statement()) && ours(&document, &good));
    let mut compared = 0;
    for at in (0..document.quote.len()).step_by(7) {
        let mut flipped = document.clone();
        flipped.quote[at] ^= 1 << (at % 8);
        assert_eq!((theirs(&flipped, &good.statement()), ours(&flipped, &good)), (false, false), "quote {at}");
        compared += 1;
    }
    for at in (0..64).step_by(5) {
        let mut flipped = document.clone();
        flipped.signature[at] ^= 1 << (at % 8);
        assert_eq!((theirs(&flipped, &good.statement()), ours(&flipped, &good)), (false, false), "signature {at}");
        compared += 1;
    }
    for at in (0..32).step_by(9) {
        let mut other = good.clone();
        other.nonce[at] ^= 1;
        assert_eq!((theirs(&document, &other.statement()), ours(&document, &other)), (false, false), "nonce {at}");
        compared += 1;
    }
    let stranger = Machine::new();
    let mut other = document.clone();
    other.enrolment.attestation_key = stranger.enrolment().attestation_key;
    assert_eq!((theirs(&other, &good.statement()), ours(&other, &good)), (false, false), "another TPM's key");
    assert!(compared > 30, "{compared}");
}

#[test]
fn a_second_machine_gets_the_root_and_both_count_it() {
    let (first, key_1) = Machine::sealed();
    let second = Machine::new();
    assert_eq!(first.root().sealings(&key_1).unwrap(), 1);
    let approvals = second.approvals(&SIGNERS[1..]);
    let begin = |machine: &Machine| {
        Joining::begin(machine.root(), &selection(), machine.enrolment(), NOW_MS, &mut OsEntropy).unwrap()
    };
    let joining = begin(&second);
    let request = JoinRequest::from_slice(&joining.request().to_vec()).unwrap();
    let answer = admit(&first.root(), &request, NOW_MS, &mut OsEntropy).unwrap();
    let answer = JoinAnswer::from_slice(&answer.to_vec()).unwrap();

    // An answer opens for the request that it is for, and counts only with the pinned key.
    let other = begin(&second).finish(&answer, &key_1, &approvals, NOW_MS, &mut OsEntropy);
    assert!(matches!(other, Err(Tpm2Error::OtherKeeper)), "{other:?}");
    let again = begin(&second);
    let for_again = admit(&first.root(), again.request(), NOW_MS, &mut OsEntropy).unwrap();
    let wrong_key = again.finish(&for_again, &PublicKey::from_bytes([9; 32]), &approvals, NOW_MS, &mut OsEntropy);
    assert!(matches!(wrong_key, Err(Tpm2Error::OtherKeeper)), "{wrong_key:?}");
    assert!(matches!(second.opened(), Err(Tpm2Error::NotSealed(_))), "nothing was left behind");

    let genesis = joining.finish(&answer, &key_1, &approvals, NOW_MS, &mut OsEntropy).unwrap();
    assert_eq!(second.opened().unwrap(), key_1, "the same keeper on both");
    // Each archives what the other showed.
    first.root().archive(&genesis).unwrap();
    first.root().archive(&genesis).unwrap();
    assert_eq!(first.root().sealings(&key_1).unwrap(), 2);
    second.root().archive(&first.root().own_genesis().unwrap()).unwrap();
    assert_eq!(second.root().sealings(&key_1).unwrap(), 2);
    let Answer::Info(info) = ask(&first.keeper().unwrap(), &Request::Info) else { panic!() };
    assert_eq!(info.sealings, 2);

    // Evidence of a machine with another root counts for nothing.
    let (stranger, key_2) = Machine::sealed();
    assert_eq!(stranger.root().sealings(&key_2).unwrap(), 1);
    let theirs = stranger.root().own_genesis().unwrap();
    assert!(matches!(first.root().archive(&theirs), Err(Tpm2Error::Evidence(Refusal::OtherKey))));
    // Nor does other evidence of a machine that has it.
    let fresh = shown(&second.keeper().unwrap(), [5; 32]);
    assert!(matches!(first.root().archive(&fresh), Err(Tpm2Error::Evidence(Refusal::OtherNonce))));
}

#[test]
fn a_machine_that_the_quorum_or_the_operator_did_not_approve_does_not_get_the_root() {
    let (first, _) = Machine::sealed();
    let second = Machine::new();
    let begin = |enrolment| Joining::begin(second.root(), &selection(), enrolment, NOW_MS, &mut OsEntropy).unwrap();
    let ask = |joining: &Joining| admit(&first.root(), joining.request(), NOW_MS, &mut OsEntropy);

    second.tpm.extend(11, 0x44).unwrap();
    let refused = ask(&begin(second.enrolment()));
    assert!(matches!(refused, Err(Tpm2Error::NotApproved { approved: 0, needed: 2, .. })), "{refused:?}");
    first.root().accept(&second.approvals(&SIGNERS[..1])[0]).unwrap();
    let refused = ask(&begin(second.enrolment()));
    assert!(matches!(refused, Err(Tpm2Error::NotApproved { approved: 1, needed: 2, .. })), "{refused:?}");
    first.root().accept(&second.approvals(&SIGNERS[1..2])[0]).unwrap();
    ask(&begin(second.enrolment())).unwrap();

    let request = Tpm2Root::enrolment_request(&second.address()).unwrap();
    let theirs = vouch(&request, NOW_MS - DAY_MS, NOW_MS + DAY_MS, &key(2)).unwrap();
    let refused = ask(&begin(theirs));
    assert!(matches!(refused, Err(Tpm2Error::Evidence(Refusal::OtherOperator))), "{refused:?}");
    let joining = begin(second.enrolment());
    let late = admit(&first.root(), joining.request(), NOW_MS + 2 * DAY_MS, &mut OsEntropy);
    assert!(matches!(late, Err(Tpm2Error::Evidence(Refusal::Expired))), "{late:?}");
    // The host changes the one-time key in the request.
    let mut bytes = joining.request().to_vec();
    let one_time = joining.request().one_time_key();
    let at = bytes.windows(32).position(|window| window == one_time.as_bytes()).unwrap();
    bytes[at] ^= 1;
    let changed = admit(&first.root(), &JoinRequest::from_slice(&bytes).unwrap(), NOW_MS, &mut OsEntropy);
    assert!(matches!(changed, Err(Tpm2Error::Evidence(Refusal::NotBound))), "{changed:?}");
}

#[test]
fn sealing_needs_an_enrolment_of_this_machine_a_quorum_and_an_empty_place() {
    let (machine, _) = Machine::sealed();
    let seal = |machine: &Machine, terms: &Terms, enrolment: &Enrolment, approvals: &[Approval], now_ms| {
        machine.root().seal_new(terms, enrolment, approvals, now_ms, &mut OsEntropy)
    };
    let approvals = machine.approvals(&SIGNERS);
    let again = seal(&machine, &terms(), &machine.enrolment(), &approvals, NOW_MS);
    assert!(matches!(again, Err(Tpm2Error::AlreadySealed(_))), "{again:?}");

    let fresh = Machine::new();
    let (good, approvals) = (fresh.enrolment(), fresh.approvals(&SIGNERS));
    let other = seal(&fresh, &terms(), &machine.enrolment(), &approvals, NOW_MS);
    assert!(matches!(other, Err(Tpm2Error::Enrolment(Refusal::OtherRoot))), "another machine's: {other:?}");
    let late = seal(&fresh, &terms(), &good, &approvals, NOW_MS + 2 * DAY_MS);
    assert!(matches!(late, Err(Tpm2Error::Enrolment(Refusal::Expired))), "{late:?}");
    let few = seal(&fresh, &terms(), &good, &approvals[..1], NOW_MS);
    assert!(matches!(few, Err(Tpm2Error::NotApproved { approved: 1, needed: 2, .. })), "{few:?}");
    let signers = terms().signers;
    let doubled = vec![signers[0], signers[0]];
    for (signers, quorum) in [(vec![], 0), (signers.clone(), 0), (signers, 4), (doubled, 2), (vec![[2; 33]; 8], 1)] {
        let bad = seal(&fresh, &Terms { selection: selection(), signers, quorum }, &good, &approvals, NOW_MS);
        assert!(matches!(bad, Err(Tpm2Error::BadQuorum)), "{bad:?}");
    }
    assert!(!fresh.data.path().join("keeper/tpm2/sealing").exists(), "nothing was left behind");
    assert!(matches!(fresh.opened(), Err(Tpm2Error::NotSealed(_))));

    // A newer enrolment takes the place of the old one; another operator's does not.
    let request = Tpm2Root::enrolment_request(&machine.address()).unwrap();
    let newer = vouch(&request, NOW_MS, NOW_MS + 30 * DAY_MS, &operator()).unwrap();
    machine.root().renew(&newer, NOW_MS).unwrap();
    let theirs = vouch(&request, NOW_MS, NOW_MS + DAY_MS, &key(2)).unwrap();
    let refused = machine.root().renew(&theirs, NOW_MS);
    assert!(matches!(refused, Err(Tpm2Error::Enrolment(Refusal::OtherOperator))), "{refused:?}");
}

#[test]
fn a_keeper_without_its_tpm_answers_that_it_has_no_evidence() {
    let (mut machine, key_1) = Machine::sealed();
    let keeper = machine.keeper().unwrap();
    machine.tpm.power_off().unwrap();
    let answer = ask(&keeper, &Request::Evidence { nonce: [5; 32] });
    assert_eq!(answer, Answer::Refused(KeeperRefusal::EvidenceUnavailable));
    let Answer::Info(info) = ask(&keeper, &Request::Info) else { panic!() };
    assert_eq!(info.public_key, key_1, "it goes on with the key that it has");
    assert!(matches!(machine.opened(), Err(Tpm2Error::Tpm(TpmError::Link(..)))), "and does not start anew");
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let (machine, key_1) = Machine::sealed();
    let folder = machine.data.path().join("keeper/tpm2");
    let genuine = fs::read(folder.join("sealing")).unwrap();
    let put = |path: &Path, bytes: &[u8]| fs::write(path, bytes).unwrap();
    let mut refused = 0;
    for at in (0..genuine.len()).step_by(61) {
        let mut damaged = genuine.clone();
        damaged[at] ^= 1;
        put(&folder.join("sealing"), &damaged);
        // Damage to what another group of signers would need is found when they need it.
        match machine.opened() {
            Ok(key) => assert_eq!(key, key_1, "byte {at}"),
            Err(_) => refused += 1,
        }
        assert_eq!(fs::read(folder.join("sealing")).unwrap(), damaged);
    }
    assert!(refused > 5, "{refused}");
    put(&folder.join("sealing"), &genuine[..20]);
    assert!(matches!(machine.opened(), Err(Tpm2Error::Unknown(_))));
    put(&folder.join("sealing"), &genuine);
    machine.opened().unwrap();
}
