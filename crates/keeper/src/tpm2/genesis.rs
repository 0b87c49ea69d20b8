//! Genesis evidence: what a machine shows when a root has been sealed to it, archived beside the root.
//!
//! It is evidence like any other, about the first long-term key and under a nonce that says what it is. Whoever makes
//! it holds the root in an approved state; so the archived ones count on how many machines the root lies.

use std::{fs, io, path::Path};

use halfkey_envelope::{
    hash::{h, sha256},
    hpke::PublicKey,
    keeper::{Evidence, KeyId},
};
use halfkey_evidence::{
    Expected, Policy, Refusal,
    tpm2::{Document, Enrolment, PcrSelection, Quote, Tpm2},
    verify,
};

use super::{
    Result, Tpm2Error, evidence,
    files::{self, failed},
    operator_key,
};
use crate::{seal_root::private_folder, tpm::Tpm};

/// The long-term key that names a root.
pub const KEY_ID: KeyId = 1;

fn nonce() -> [u8; 32] {
    h("halfkey/keeper/v1/genesis", &[])
}

pub fn make(tpm: &mut Tpm, selection: &PcrSelection, enrolment: &Enrolment, key: PublicKey) -> Result<Evidence> {
    evidence(tpm, selection, enrolment, nonce(), (KEY_ID, key))
}

/// Whether it is the genesis evidence of a machine of this operator, about this key. In which state the machine was then
/// and whether its enrolment has run out since does not matter: it got the root in a state that was approved.
pub fn check(found: &Evidence, operator: &[u8; 33], key: &PublicKey) -> Result<()> {
    let judge = || {
        let document = Document::from_slice(&found.document)?;
        let quote = Quote::from_slice(&document.quote)?;
        let pcrs: Vec<u8> = (0..16).filter(|pcr| quote.selection[usize::from(pcr / 8)] >> (pcr % 8) & 1 == 1).collect();
        let selection = PcrSelection::new(&pcrs).map_err(|_| Refusal::UnknownMeasurement)?;
        let operator = operator_key(operator).map_err(|_| Refusal::OtherOperator)?;
        let policy = Policy::nothing().with_tpm2(Tpm2::new(selection, vec![quote.digest], operator));
        let now_ms = document.enrolment.not_before_ms;
        verify(found, &Expected { nonce: &nonce(), key_id: KEY_ID, public_key: key, now_ms }, &policy)
    };
    judge().map(drop).map_err(Tpm2Error::Evidence)
}

/// Archives it under its machine's name.
pub fn store(folder: &Path, found: &Evidence) -> Result<()> {
    let folder = folder.join("genesis");
    private_folder(&folder)?;
    let machine = machine(found).map_err(Tpm2Error::Evidence)?;
    files::replace(&folder.join(hex::encode(sha256(&machine))), found)
}

/// What is archived and holds, one for each machine.
pub fn all(folder: &Path, operator: &[u8; 33], key: &PublicKey) -> Result<Vec<Evidence>> {
    let folder = folder.join("genesis");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(|error| failed(&folder, error))?,
    };
    let (mut machines, mut found) = (std::collections::BTreeSet::new(), vec![]);
    for entry in entries {
        let path = entry.map_err(|error| failed(&folder, error))?.path();
        let Ok(Some(evidence)) = files::read::<Evidence>(&path) else { continue };
        let Ok(machine) = machine(&evidence) else { continue };
        if check(&evidence, operator, key).is_ok() && machines.insert(machine) {
            found.push(evidence);
        }
    }
    Ok(found)
}

/// Whose it is: its machine's attestation key.
pub fn machine(found: &Evidence) -> std::result::Result<Vec<u8>, Refusal> {
    Document::from_slice(&found.document).map(|document| document.enrolment.attestation_key)
}
