//! `tpm2`: a keeper whose root only its machine's TPM gives out, and only after a boot that the signers have approved.
//!
//! The folder `tpm2` in the data folder holds nothing that opens anything elsewhere:
//!
//! * `sealing`: the root, cut into parts that the TPM has sealed, one for each signer of a **quorum** (`sealing.rs`);
//! * `approvals/`: the signers' words for states of the PCRs ([`Approval`]); an upgrade is a new file here;
//! * `enrolment`: the operator's word for the machine's attestation key;
//! * `genesis/`: evidence of each machine that holds this root, made when it was sealed there (`genesis.rs`).

mod approval;
mod enrol;
mod files;
mod genesis;
mod join;
mod sealing;

use std::path::{Path, PathBuf};

use halfkey_envelope::{
    entropy::Entropy,
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, KeyId, SealRootKey, configuration_hash, long_term_key},
};
use halfkey_evidence::{
    Refusal,
    tpm2::{Document, Enrolment, OperatorKey, PcrSelection},
};

pub use self::{
    approval::Approval,
    enrol::{EnrolmentRequest, vouch},
    join::{Answer as JoinAnswer, Joining, Request as JoinRequest, admit},
};
use crate::{
    evidence::{Attester, EvidenceFault},
    seal_root::{RootError, SealRoot, private_folder},
    tpm::{Address, Tpm, TpmError},
};

/// Why something about a TPM-sealed root cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Tpm2Error {
    /// The TPM.
    #[error("{0}")]
    Tpm(#[from] TpmError),
    /// The root's files.
    #[error("{0}")]
    Root(#[from] Box<RootError>),
    /// There is no sealed root in this folder.
    #[error("{0}: no sealed root here; `halfkey keeper seal` makes one")]
    NotSealed(PathBuf),
    /// There is one already.
    #[error("{0}: a root is sealed here already; it is never replaced")]
    AlreadySealed(PathBuf),
    /// Too few signers have approved the machine's present state.
    #[error("{approved} of {needed} signers have approved the PCRs as they are now: {digest}")]
    NotApproved {
        /// How many have.
        approved: usize,
        /// How many must.
        needed: usize,
        /// The digest that they would have to approve.
        digest: String,
    },
    /// The operator's word is for another machine, has run out, or is not his.
    #[error("the enrolment: {0}")]
    Enrolment(Refusal),
    /// Evidence of a machine that wants to join, or has joined.
    #[error("the other machine's evidence: {0}")]
    Evidence(Refusal),
    /// A quorum that is none: no signers, more than seven, doubles, or a number that they cannot reach.
    #[error("not a quorum: 1 to 7 different signers, and a number that they can reach")]
    BadQuorum,
    /// Not a file of this kind, or of a version that this program does not know.
    #[error("{0}: not a file of the expected kind and version")]
    Unknown(String),
    /// The other keeper's answer is for another request, or from a keeper with another key.
    #[error("the answer is not from the keeper with the expected key, or not to this request")]
    OtherKeeper,
}

type Result<T> = std::result::Result<T, Tpm2Error>;

impl From<RootError> for Tpm2Error {
    fn from(error: RootError) -> Self {
        Self::Root(Box::new(error))
    }
}

/// A root that a TPM guards.
#[derive(Debug, Clone)]
pub struct Tpm2Root {
    data: PathBuf,
    tpm: Address,
}

/// What a new root is sealed under.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The PCRs that count.
    pub selection: PcrSelection,
    /// The signers' P-256 keys, compressed.
    pub signers: Vec<[u8; 33]>,
    /// How many of them must approve a state of the PCRs.
    pub quorum: usize,
}

impl Tpm2Root {
    /// The root in this data folder, behind this TPM.
    #[must_use]
    pub const fn new(data: PathBuf, tpm: Address) -> Self {
        Self { data, tpm }
    }

    fn folder(&self) -> PathBuf {
        self.data.join("tpm2")
    }

    /// What the operator needs to enrol this machine.
    ///
    /// # Errors
    /// [`Tpm2Error::Tpm`].
    pub fn enrolment_request(tpm: &Address) -> Result<EnrolmentRequest> {
        let mut tpm = Tpm::connect(tpm)?;
        Ok(EnrolmentRequest {
            attestation_key: tpm.attestation_key()?,
            endorsement_certificate: tpm.endorsement_certificate()?,
        })
    }

    /// The digest over the selected PCRs as they are now: what signers approve and descriptors allow.
    ///
    /// # Errors
    /// [`Tpm2Error::Tpm`].
    pub fn measure(tpm: &Address, selection: &PcrSelection) -> Result<[u8; 32]> {
        Ok(Tpm::connect(tpm)?.pcr_digest(selection)?)
    }

    /// Makes a new root on this machine and seals it. It has to open at once: nothing is left behind otherwise.
    /// Gives its first long-term key.
    ///
    /// # Errors
    /// [`Tpm2Error`].
    pub fn seal_new(
        &self,
        terms: &Terms,
        enrolment: &Enrolment,
        approvals: &[Approval],
        now_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<PublicKey> {
        self.seal(&SealRootKey::generate(entropy), terms, enrolment, approvals, now_ms, entropy)
    }

    fn seal(
        &self,
        root: &SealRootKey,
        terms: &Terms,
        enrolment: &Enrolment,
        approvals: &[Approval],
        now_ms: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<PublicKey> {
        let mut tpm = Tpm::connect(&self.tpm)?;
        enrol::check(enrolment, &mut tpm, now_ms)?;
        private_folder(&self.data)?;
        let folder = self.folder();
        private_folder(&folder)?;
        let sealing = sealing::seal(&mut tpm, root, terms, entropy)?;
        let opened = sealing.open(&mut tpm, approvals)?;
        let key = long_term_key(root, genesis::KEY_ID).public_key();
        if long_term_key(&opened, genesis::KEY_ID).public_key() != key {
            return Err(Tpm2Error::Unknown("what the TPM has sealed".to_owned()));
        }
        let evidence = genesis::make(&mut tpm, &terms.selection, enrolment, key)?;
        // The sealing comes last: until it is there, nothing is.
        files::replace(&folder.join("enrolment"), enrolment)?;
        for approval in approvals {
            approval::store(&folder, approval)?;
        }
        genesis::store(&folder, &evidence)?;
        files::create(&folder.join("sealing"), &sealing)?;
        Ok(key)
    }

    /// Adds a signer's word for a state of the PCRs: how an upgrade is let through.
    ///
    /// # Errors
    /// [`Tpm2Error`].
    pub fn accept(&self, approval: &Approval) -> Result<()> {
        approval::store(&self.folder(), approval)
    }

    /// Replaces the operator's word for this machine by a newer one.
    ///
    /// # Errors
    /// [`Tpm2Error::Enrolment`] if it is not for this machine, or of another operator.
    pub fn renew(&self, enrolment: &Enrolment, now_ms: u64) -> Result<()> {
        if self.enrolment()?.operator != enrolment.operator {
            return Err(Tpm2Error::Enrolment(Refusal::OtherOperator));
        }
        enrol::check(enrolment, &mut Tpm::connect(&self.tpm)?, now_ms)?;
        files::replace(&self.folder().join("enrolment"), enrolment)
    }

    fn enrolment(&self) -> Result<Enrolment> {
        files::read(&self.folder().join("enrolment"))?.ok_or_else(|| Tpm2Error::NotSealed(self.folder()))
    }

    fn sealing(&self) -> Result<sealing::Sealing> {
        files::read(&self.folder().join("sealing"))?.ok_or_else(|| Tpm2Error::NotSealed(self.folder()))
    }

    fn unseal(&self) -> Result<SealRootKey> {
        let approvals = approval::all(&self.folder())?;
        self.sealing()?.open(&mut Tpm::connect(&self.tpm)?, &approvals)
    }

    /// What makes this keeper's evidence.
    ///
    /// # Errors
    /// [`Tpm2Error`] if the machine is not enrolled or nothing is sealed.
    pub fn attester(&self) -> Result<Tpm2Attester> {
        let (enrolment, selection) = (self.enrolment()?, self.sealing()?.selection()?);
        Ok(Tpm2Attester { tpm: self.tpm.clone(), selection, enrolment })
    }

    /// The genesis evidence of this machine itself.
    ///
    /// # Errors
    /// [`Tpm2Error`], also when it is not there.
    pub fn own_genesis(&self) -> Result<Evidence> {
        let key = long_term_key(&self.unseal()?, genesis::KEY_ID).public_key();
        let own = self.enrolment()?.attestation_key;
        let found = self.genesis(&key)?.into_iter().find(|found| genesis::machine(found).is_ok_and(|key| key == own));
        found.ok_or_else(|| unknown(&self.folder().join("genesis")))
    }

    /// The evidence that was archived when this root was sealed, of every machine that holds it, and is of the key.
    ///
    /// # Errors
    /// [`Tpm2Error`].
    pub fn genesis(&self, key: &PublicKey) -> Result<Vec<Evidence>> {
        genesis::all(&self.folder(), &self.enrolment()?.operator, key)
    }
}

impl SealRoot for Tpm2Root {
    fn open(&self, _: &mut dyn Entropy) -> std::result::Result<SealRootKey, RootError> {
        self.unseal().map_err(|error| RootError::Tpm2(Box::new(error)))
    }

    fn sealings(&self, first_key: &PublicKey) -> std::result::Result<u32, RootError> {
        let evidence = self.genesis(first_key).map_err(|error| RootError::Tpm2(Box::new(error)))?;
        Ok(u32::try_from(evidence.len()).unwrap_or(u32::MAX))
    }
}

/// Makes quotes of this machine.
pub struct Tpm2Attester {
    tpm: Address,
    selection: PcrSelection,
    enrolment: Enrolment,
}

impl Attester for Tpm2Attester {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Tpm2
    }

    fn operator(&self) -> &[u8] {
        &self.enrolment.operator
    }

    fn document(&self, evidence: &Evidence) -> std::result::Result<Vec<u8>, EvidenceFault> {
        let quoted = Tpm::connect(&self.tpm).and_then(|mut tpm| tpm.quote(&self.selection, &evidence.statement()));
        let (quote, signature) = quoted.map_err(|error| EvidenceFault(error.to_string()))?;
        Ok(Document { quote, signature, enrolment: self.enrolment.clone() }.to_vec())
    }
}

/// Evidence of this machine about whatever.
fn evidence(
    tpm: &mut Tpm,
    selection: &PcrSelection,
    enrolment: &Enrolment,
    nonce: [u8; 32],
    (key_id, public_key): (KeyId, PublicKey),
) -> Result<Evidence> {
    let kind = EvidenceKind::Tpm2;
    let configuration = configuration_hash(kind, key_id, &enrolment.operator);
    let mut evidence = Evidence { kind, nonce, key_id, public_key, configuration, document: Vec::new() };
    let (quote, signature) = tpm.quote(selection, &evidence.statement())?;
    evidence.document = Document { quote, signature, enrolment: enrolment.clone() }.to_vec();
    Ok(evidence)
}

fn operator_key(bytes: &[u8; 33]) -> Result<OperatorKey> {
    OperatorKey::from_bytes(bytes).map_err(|_| Tpm2Error::Enrolment(Refusal::OtherRoot))
}

fn unknown(path: &Path) -> Tpm2Error {
    Tpm2Error::Unknown(path.display().to_string())
}
