//! A second machine gets the root: the second, independent sealing, without which one broken mainboard loses every
//! passkey backup.
//!
//! The machine that joins shows evidence about a one-time key. The machine that has the root judges it by its own
//! operator and its own signers' approvals, and seals root and terms to that key. The machine that joined answers with its
//! genesis evidence, which the first archives. The root is never outside an approved machine in the clear.

use halfkey_envelope::{
    cbor,
    entropy::Entropy,
    hash::{h, sha256},
    hpke::{self, PublicKey, SecretKey},
    keeper::{Evidence, SealRootKey, long_term_key},
};
use halfkey_evidence::{
    Expected, Policy, Refusal,
    tpm2::{Document, Enrolment, PcrSelection, Quote, Tpm2},
    verify,
};
use minicbor::{Decode, Encode, bytes::ByteArray};
use zeroize::Zeroizing;

use super::{Approval, Result, Terms, Tpm2Error, Tpm2Root, approval, enrol, evidence, genesis, operator_key};
use crate::tpm::Tpm;

const INFO: &[u8] = b"halfkey/keeper/v1/tpm2/join";
const VERSION: u16 = 1;
/// No long-term key has this number.
const ONE_TIME: u32 = 0;

/// What the joining machine shows: evidence about a one-time key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    #[n(1)]
    version: u16,
    #[n(2)]
    evidence: Evidence,
}

/// What it gets: root and terms, sealed to that key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Answer {
    #[n(1)]
    version: u16,
    #[cbor(n(2), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

/// What is sealed in the answer.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Handover {
    #[cbor(n(1), with = "minicbor::bytes")]
    root: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    pcrs: Vec<u8>,
    #[n(3)]
    signers: Vec<ByteArray<33>>,
    #[n(4)]
    quorum: u8,
}

impl Drop for Handover {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.root);
    }
}

/// A machine that waits for its answer. The one-time key is in memory only: an answer that comes after its end is lost.
pub struct Joining {
    root: Tpm2Root,
    enrolment: Enrolment,
    secret: SecretKey,
    request: Request,
}

fn nonce() -> [u8; 32] {
    h("halfkey/keeper/v1/join", &[])
}

impl Joining {
    /// Begins on the machine that joins.
    ///
    /// # Errors
    /// [`Tpm2Error::Enrolment`] and [`Tpm2Error::Tpm`].
    pub fn begin(
        root: Tpm2Root,
        selection: &PcrSelection,
        enrolment: Enrolment,
        now_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<Self> {
        let mut tpm = Tpm::connect(&root.tpm)?;
        enrol::check(&enrolment, &mut tpm, now_ms)?;
        let secret = SecretKey::generate(entropy);
        let evidence = evidence(&mut tpm, selection, &enrolment, nonce(), (ONE_TIME, secret.public_key()))?;
        Ok(Self { root, enrolment, secret, request: Request { version: VERSION, evidence } })
    }

    /// What is carried to the machine that has the root.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Seals the root of the answer on this machine. `expected` is the keeper's pinned first long-term key: an answer of
    /// anybody else has another. Gives the genesis evidence, for the other machine's archive.
    ///
    /// # Errors
    /// [`Tpm2Error::OtherKeeper`], and those of sealing.
    pub fn finish(
        self,
        answer: &Answer,
        expected: &PublicKey,
        approvals: &[Approval],
        now_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<Evidence> {
        let opened = hpke::open(&self.secret, INFO, &sha256(&self.request.to_vec()), &answer.sealed);
        let opened = opened.map_err(|_| Tpm2Error::OtherKeeper)?;
        let handover: Handover = cbor::from_slice(&opened).map_err(|_| Tpm2Error::OtherKeeper)?;
        let root = SealRootKey::from_bytes(Zeroizing::new(handover.root));
        if answer.version != VERSION || long_term_key(&root, genesis::KEY_ID).public_key() != *expected {
            return Err(Tpm2Error::OtherKeeper);
        }
        let terms = Terms {
            selection: PcrSelection::new(&handover.pcrs).map_err(|_| Tpm2Error::OtherKeeper)?,
            signers: handover.signers.iter().map(|signer| **signer).collect(),
            quorum: handover.quorum.into(),
        };
        self.root.seal(&root, &terms, &self.enrolment, approvals, now_ms, entropy)?;
        self.root.own_genesis()
    }
}

impl Request {
    /// The key that the answer is to be sealed to.
    #[must_use]
    pub const fn one_time_key(&self) -> &PublicKey {
        &self.evidence.public_key
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`Tpm2Error::Unknown`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let request = cbor::from_slice::<Self>(bytes).ok().filter(|request| request.version == VERSION);
        request.ok_or_else(|| Tpm2Error::Unknown("a request to join".to_owned()))
    }
}

impl Answer {
    /// The file's bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`Tpm2Error::Unknown`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        cbor::from_slice(bytes).map_err(|_| Tpm2Error::Unknown("an answer to a request to join".to_owned()))
    }
}

/// On the machine that has the root: hands it to a machine of the same operator, in a state that the quorum approved.
///
/// # Errors
/// [`Tpm2Error::Evidence`] and [`Tpm2Error::NotApproved`]; those of opening the root.
pub fn admit(root: &Tpm2Root, request: &Request, now_ms: u64, entropy: &mut dyn Entropy) -> Result<Answer> {
    let (sealing, approvals) = (root.sealing()?, approval::all(&root.folder())?);
    let shown = &request.evidence;
    let document = Document::from_slice(&shown.document).map_err(Tpm2Error::Evidence)?;
    let digest = Quote::from_slice(&document.quote).map_err(Tpm2Error::Evidence)?.digest;
    let operator = operator_key(&root.enrolment()?.operator)?;
    let policy = Policy::nothing().with_tpm2(Tpm2::new(sealing.selection()?, vec![digest], operator));
    let one_time = shown.public_key;
    let expected = Expected { nonce: &nonce(), key_id: ONE_TIME, public_key: &one_time, now_ms };
    verify(shown, &expected, &policy).map_err(Tpm2Error::Evidence)?;
    // The state is the one that was quoted; the quorum decides whether it may have the root.
    sealing.is_approved(&digest, &approvals)?;
    let terms = sealing.terms()?;
    let handover = Handover {
        root: *root.unseal()?.expose(),
        pcrs: terms.selection.pcrs().to_vec(),
        signers: terms.signers.into_iter().map(ByteArray::from).collect(),
        quorum: terms.quorum as u8,
    };
    let plaintext = cbor::to_secret_vec(&handover);
    let sealed = hpke::seal_to(&one_time, INFO, &sha256(&request.to_vec()), &plaintext, entropy);
    Ok(Answer { version: VERSION, sealed: sealed.map_err(|_| Tpm2Error::Evidence(Refusal::Malformed))? })
}

impl Tpm2Root {
    /// Archives the genesis evidence of another machine that holds this root.
    ///
    /// # Errors
    /// [`Tpm2Error::Evidence`] if it is none, or of another root.
    pub fn archive(&self, other: &Evidence) -> Result<()> {
        let key = long_term_key(&self.unseal()?, genesis::KEY_ID).public_key();
        genesis::check(other, &self.enrolment()?.operator, &key)?;
        genesis::store(&self.folder(), other)
    }
}
