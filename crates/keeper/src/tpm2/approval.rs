//! A signer's word that a state of the PCRs may open the root: what the TPM's PolicyAuthorize takes.

use std::{fs, io, path::Path};

use halfkey_envelope::hash::{h, sha256};
use halfkey_evidence::tpm2::PcrSelection;
use minicbor::{Decode, Encode};
use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::{Signer as _, Verifier as _},
};

use super::{
    Result, Tpm2Error,
    files::{self, failed},
};
use crate::{seal_root::private_folder, tpm::pcr_policy};

/// One signer's approval of one state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Approval {
    /// Which PCRs, ascending.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub pcrs: Vec<u8>,
    /// The digest over them.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// The signer's P-256 key, compressed.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub signer: [u8; 33],
    /// r ‖ s, ECDSA with SHA-256, over [`Approval::signed`].
    #[cbor(n(4), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}

/// What every approval refers to, so that a signature for another use of the key approves nothing.
pub fn reference() -> [u8; 32] {
    h("halfkey/keeper/v1/tpm2/approval", &[])
}

/// The compressed form of a signer's key.
pub fn compressed(key: &VerifyingKey) -> Result<[u8; 33]> {
    key.to_sec1_point(true).as_bytes().try_into().map_err(|_| Tpm2Error::BadQuorum)
}

impl Approval {
    /// Signs one. `key` is the signer's.
    ///
    /// # Errors
    /// Never for a valid selection.
    pub fn sign(selection: &PcrSelection, digest: [u8; 32], key: &SigningKey) -> Result<Self> {
        let signer = compressed(key.verifying_key())?;
        let mut approval = Self { pcrs: selection.pcrs().to_vec(), digest, signer, signature: [0; 64] };
        let signature: Signature = key.sign(&approval.signed()?);
        approval.signature = signature.to_bytes().into();
        Ok(approval)
    }

    /// The 64 bytes that the signer signs: the TPM's policy digest for this state, and the reference.
    ///
    /// # Errors
    /// [`Tpm2Error::Unknown`] if the PCRs are no selection.
    pub fn signed(&self) -> Result<[u8; 64]> {
        let mut signed = [0; 64];
        signed[..32].copy_from_slice(&self.policy()?);
        signed[32..].copy_from_slice(&reference());
        Ok(signed)
    }

    /// The TPM's policy digest for this state.
    pub(super) fn policy(&self) -> Result<[u8; 32]> {
        let selection = PcrSelection::new(&self.pcrs).map_err(|_| Tpm2Error::Unknown("an approval".to_owned()))?;
        Ok(pcr_policy(&selection, &self.digest))
    }

    /// Whether it is its signer's.
    #[must_use]
    pub fn holds(&self) -> bool {
        let key = VerifyingKey::from_sec1_bytes(&self.signer);
        let signature = Signature::from_slice(&self.signature);
        match (key, signature, self.signed()) {
            (Ok(key), Ok(signature), Ok(signed)) => key.verify(&signed, &signature).is_ok(),
            _ => false,
        }
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        halfkey_envelope::cbor::to_vec(self)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`Tpm2Error::Unknown`] if it is none, or not its signer's.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let approval = halfkey_envelope::cbor::from_slice::<Self>(bytes).ok().filter(Self::holds);
        approval.ok_or_else(|| Tpm2Error::Unknown("an approval".to_owned()))
    }
}

/// Puts an approval into the folder; the same one twice is one.
pub fn store(folder: &Path, approval: &Approval) -> Result<()> {
    if !approval.holds() {
        return Err(Tpm2Error::Unknown("an approval".to_owned()));
    }
    let folder = folder.join("approvals");
    private_folder(&folder)?;
    // One name for each signer and state; a newer signature for the same replaces the older.
    let name = hex::encode(sha256(&[&approval.signer[..], &approval.policy()?].concat()));
    files::replace(&folder.join(name), approval)
}

/// Every approval in the folder that is its signer's.
pub fn all(folder: &Path) -> Result<Vec<Approval>> {
    let folder = folder.join("approvals");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(|error| failed(&folder, error))?,
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.map_err(|error| failed(&folder, error))?.path();
        match files::read::<Approval>(&path) {
            Ok(Some(approval)) if approval.holds() => found.push(approval),
            // Half a file of a crash, or one that somebody put there: it approves nothing.
            _ => tracing::warn!(path = %path.display(), "not an approval"),
        }
    }
    Ok(found)
}
