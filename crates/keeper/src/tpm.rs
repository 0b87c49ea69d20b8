//! A client of a TPM 2.0: the dozen commands that a keeper needs (TCG TPM 2.0 Library, part 3), in bytes.
//!
//! No C library and no code of another process stands between: the kernel's resource manager (`/dev/tpmrm0`) or, for
//! tests, the raw socket of `swtpm`. `docs/adr/0021` says why.

mod address;
mod command;

use std::io;

use halfkey_envelope::hash::sha256;
use halfkey_evidence::tpm2::PcrSelection;
use zeroize::Zeroizing;

pub use self::address::Address;
use self::{
    address::Link,
    command::{Command, Response, sized},
};

const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const ENDORSEMENT: u32 = 0x4000_000b;

const CREATE_PRIMARY: u32 = 0x131;
const NV_READ: u32 = 0x14e;
const CREATE: u32 = 0x153;
const LOAD: u32 = 0x157;
const QUOTE: u32 = 0x158;
const UNSEAL: u32 = 0x15e;
const FLUSH_CONTEXT: u32 = 0x165;
const LOAD_EXTERNAL: u32 = 0x167;
const NV_READ_PUBLIC: u32 = 0x169;
const POLICY_AUTHORIZE: u32 = 0x16a;
const START_AUTH_SESSION: u32 = 0x176;
const VERIFY_SIGNATURE: u32 = 0x177;
const PCR_READ: u32 = 0x17e;
const POLICY_PCR: u32 = 0x17f;

const SHA256: [u8; 2] = [0x00, 0x0b];
const NO_ALGORITHM: [u8; 2] = [0x00, 0x10];
const ECC: [u8; 2] = [0x00, 0x23];
const ECDSA: [u8; 2] = [0x00, 0x18];
const KEYED_HASH: [u8; 2] = [0x00, 0x08];
const P256: [u8; 2] = [0x00, 0x03];

/// Where the TCG's EK credential profile puts the certificates: ECC P-256, RSA 2048, ECC P-384.
const EK_CERTIFICATES: [u32; 3] = [0x01c0_000a, 0x01c0_0002, 0x01c0_0016];
/// No TPM gives more in one answer.
const NV_CHUNK: u16 = 512;

/// Why a TPM does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// It cannot be reached.
    #[error("the TPM at {0}: {1}")]
    Link(Address, #[source] io::Error),
    /// It says no: a TPM_RC of part 2, 6.6.
    #[error("the TPM refuses with code {0:#x}")]
    Refused(u32),
    /// What it answers is no answer.
    #[error("the TPM's answer cannot be read")]
    Malformed,
}

type Result<T> = std::result::Result<T, TpmError>;

/// A connection to a TPM. What it loads it flushes again.
pub struct Tpm {
    link: Link,
}

/// A secret that only this TPM unseals, and only under its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlob {
    /// The TPM2B_PUBLIC's content.
    pub public: Vec<u8>,
    /// The TPM2B_PRIVATE's content.
    pub private: Vec<u8>,
}

/// A signer's word that a state of the PCRs may unseal.
#[derive(Debug, Clone, Copy)]
pub struct Authorisation<'a> {
    /// [`pcr_policy`] of the approved state.
    pub approved: &'a [u8; 32],
    /// The reference that the policy was made with.
    pub reference: &'a [u8; 32],
    /// The signer's key: x and y of a point on P-256.
    pub signer: (&'a [u8; 32], &'a [u8; 32]),
    /// r and s of the signature over `approved ‖ reference`.
    pub signature: (&'a [u8; 32], &'a [u8; 32]),
}

impl Tpm {
    /// Connects.
    ///
    /// # Errors
    /// [`TpmError::Link`].
    pub fn connect(address: &Address) -> Result<Self> {
        Ok(Self { link: Link::open(address)? })
    }

    /// The attestation key's TPMT_PUBLIC. The same at every call: it comes from the TPM's endorsement seed.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn attestation_key(&mut self) -> Result<Vec<u8>> {
        let (key, public) = self.create_primary(ENDORSEMENT, &attestation_template())?;
        self.flushing(key, |_| Ok(public))
    }

    /// A quote over the selected PCRs about `extra`: the TPMS_ATTEST, and r ‖ s of its signature.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn quote(&mut self, selection: &PcrSelection, extra: &[u8; 32]) -> Result<(Vec<u8>, [u8; 64])> {
        let (key, _) = self.create_primary(ENDORSEMENT, &attestation_template())?;
        self.flushing(key, |tpm| {
            let parameters = [&sized(extra)[..], &NO_ALGORITHM, &pcr_list(selection)].concat();
            let mut answer = tpm.run(Command::new(QUOTE).handle(key).password().parameters(&parameters))?;
            let quote = answer.sized()?.to_vec();
            if answer.array()? != ECDSA || answer.array()? != SHA256 {
                return Err(TpmError::Malformed);
            }
            let mut signature = [0u8; 64];
            for half in signature.chunks_mut(32) {
                let number = answer.sized()?;
                let start = half.len().checked_sub(number.len()).ok_or(TpmError::Malformed)?;
                half[start..].copy_from_slice(number);
            }
            Ok((quote, signature))
        })
    }

    /// SHA-256 over the values of the selected PCRs, ascending: what a quote's digest is.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn pcr_digest(&mut self, selection: &PcrSelection) -> Result<[u8; 32]> {
        let mut values = Vec::with_capacity(32 * selection.pcrs().len());
        for pcr in selection.pcrs() {
            // One at a time: a TPM may give fewer than it is asked for.
            let one = PcrSelection::new(&[*pcr]).map_err(|_| TpmError::Malformed)?;
            let mut answer = self.run(Command::new(PCR_READ).parameters(&pcr_list(&one)))?;
            let _counter: [u8; 4] = answer.array()?;
            if answer.take(10)? != pcr_list(&one) || answer.array()? != [0, 0, 0, 1] {
                return Err(TpmError::Malformed);
            }
            values.extend_from_slice(answer.sized()?);
        }
        Ok(sha256(&values))
    }

    /// The certificate of the TPM's endorsement key, DER, if its maker has put one there.
    ///
    /// # Errors
    /// [`TpmError`] other than that there is none.
    pub fn endorsement_certificate(&mut self) -> Result<Option<Vec<u8>>> {
        for index in EK_CERTIFICATES {
            let mut public = match self.run(Command::new(NV_READ_PUBLIC).handle(index)) {
                Err(TpmError::Refused(_)) => continue,
                public => public?,
            };
            let area = public.sized()?;
            let length = area.last_chunk::<2>().map(|length| u16::from_be_bytes(*length)).ok_or(TpmError::Malformed)?;
            let mut certificate = Vec::with_capacity(length.into());
            while certificate.len() < usize::from(length) {
                let offset = u16::try_from(certificate.len()).map_err(|_| TpmError::Malformed)?;
                let chunk = NV_CHUNK.min(length - offset);
                let parameters = [chunk.to_be_bytes(), offset.to_be_bytes()].concat();
                let read = Command::new(NV_READ).handle(index).handle(index).password().parameters(&parameters);
                let mut answer = self.run(read)?;
                let piece = answer.sized()?;
                if piece.is_empty() {
                    return Err(TpmError::Malformed);
                }
                certificate.extend_from_slice(piece);
            }
            return Ok(Some(certificate));
        }
        Ok(None)
    }

    /// Seals 32 bytes so that only this TPM gives them back, and only to a session whose policy digest is `policy`.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn seal(&mut self, policy: &[u8; 32], secret: &Zeroizing<[u8; 32]>) -> Result<SealedBlob> {
        let (parent, _) = self.create_primary(OWNER, &storage_template())?;
        self.flushing(parent, |tpm| {
            let mut sensitive = Zeroizing::new(Vec::with_capacity(38));
            sensitive.extend_from_slice(&[0, 36, 0, 0, 0, 32]);
            sensitive.extend_from_slice(secret.as_ref());
            let rest = [sized(&sealed_template(policy)), vec![0; 2 + 4]].concat();
            let command = Command::new(CREATE).handle(parent).password().parameters(&sensitive).parameters(&rest);
            let mut answer = tpm.run(command)?;
            Ok(SealedBlob { private: answer.sized()?.to_vec(), public: answer.sized()?.to_vec() })
        })
    }

    /// Unseals, if the PCRs are now as the signer has approved. The TPM compares, not this program.
    ///
    /// # Errors
    /// [`TpmError::Refused`] when the PCRs are others, or the signature is not the signer's.
    pub fn unseal(
        &mut self,
        blob: &SealedBlob,
        selection: &PcrSelection,
        authorisation: &Authorisation<'_>,
    ) -> Result<Zeroizing<[u8; 32]>> {
        let ticket = self.verify(authorisation)?;
        let (parent, _) = self.create_primary(OWNER, &storage_template())?;
        let item = self.flushing(parent, |tpm| {
            let parameters = [sized(&blob.private), sized(&blob.public)].concat();
            tpm.run(Command::new(LOAD).handle(parent).password().parameters(&parameters).gives_handle())?.handle()
        })?;
        self.flushing(item, |tpm| {
            let session = tpm.start_policy_session()?;
            tpm.flushing(session, |tpm| {
                let parameters = [&sized(&[])[..], &pcr_list(selection)].concat();
                tpm.run(Command::new(POLICY_PCR).handle(session).parameters(&parameters))?;
                let Authorisation { approved, reference, .. } = authorisation;
                let name = signer_name(authorisation.signer);
                let parameters = [sized(*approved), sized(*reference), sized(&name), ticket].concat();
                tpm.run(Command::new(POLICY_AUTHORIZE).handle(session).parameters(&parameters))?;
                let mut answer = tpm.run(Command::new(UNSEAL).handle(item).policy(session))?;
                let secret = answer.sized()?.try_into().map_err(|_| TpmError::Malformed)?;
                Ok(Zeroizing::new(secret))
            })
        })
    }

    /// The TPM's own ticket that the signer has signed: a TPMT_TK_VERIFIED.
    fn verify(&mut self, authorisation: &Authorisation<'_>) -> Result<Vec<u8>> {
        let public = signer_public(authorisation.signer);
        let parameters = [&[0, 0][..], &sized(&public), &OWNER.to_be_bytes()].concat();
        let key = self.run(Command::new(LOAD_EXTERNAL).parameters(&parameters).gives_handle())?.handle()?;
        self.flushing(key, |tpm| {
            let digest = sha256(&[*authorisation.approved, *authorisation.reference].concat());
            let (r, s) = authorisation.signature;
            let parameters = [&sized(&digest)[..], &ECDSA, &SHA256, &sized(r), &sized(s)].concat();
            let answer = tpm.run(Command::new(VERIFY_SIGNATURE).handle(key).parameters(&parameters))?;
            Ok(answer.rest().to_vec())
        })
    }

    fn start_policy_session(&mut self) -> Result<u32> {
        // Neither bound nor salted: the policy is all that it proves, so its nonce needs no secrecy.
        let nonce = sized(&[0; 16]);
        let parameters = [&nonce[..], &[0, 0], &[1], &NO_ALGORITHM, &SHA256].concat();
        let command = Command::new(START_AUTH_SESSION).handle(NULL).handle(NULL);
        self.run(command.parameters(&parameters).gives_handle())?.handle()
    }

    fn create_primary(&mut self, hierarchy: u32, template: &[u8]) -> Result<(u32, Vec<u8>)> {
        let parameters = [&[0, 4, 0, 0, 0, 0][..], &sized(template), &[0; 2 + 4]].concat();
        let command = Command::new(CREATE_PRIMARY).handle(hierarchy).password().parameters(&parameters);
        let mut answer = self.run(command.gives_handle())?;
        Ok((answer.handle()?, answer.sized()?.to_vec()))
    }

    /// Does something and flushes the handle, whatever came of it.
    fn flushing<T>(&mut self, handle: u32, then: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let done = then(self);
        let flushed = self.run(Command::new(FLUSH_CONTEXT).parameters(&handle.to_be_bytes()));
        done.and_then(|value| flushed.map(|_| value))
    }

    fn run(&mut self, command: Command) -> Result<Response> {
        command.run(&mut self.link)
    }
}

/// The policy digest of PolicyPCR in this state (part 3, 23.7).
#[must_use]
pub fn pcr_policy(selection: &PcrSelection, digest: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[0; 32][..], &POLICY_PCR.to_be_bytes(), &pcr_list(selection), digest].concat())
}

/// The policy digest of PolicyAuthorize: satisfied by whatever this signer approves under this reference (part 3, 23.16).
#[must_use]
pub fn authorised_policy(signer: (&[u8; 32], &[u8; 32]), reference: &[u8; 32]) -> [u8; 32] {
    let by_name = sha256(&[&[0; 32][..], &POLICY_AUTHORIZE.to_be_bytes(), &signer_name(signer)].concat());
    sha256(&[by_name, *reference].concat())
}

/// A TPML_PCR_SELECTION of one entry.
fn pcr_list(selection: &PcrSelection) -> [u8; 10] {
    let [first, second, third] = selection.bitmap();
    [0, 0, 0, 1, SHA256[0], SHA256[1], 3, first, second, third]
}

/// P-256, ECDSA with SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
fn attestation_template() -> Vec<u8> {
    let attributes = 0x0005_0072_u32.to_be_bytes();
    [&ECC[..], &SHA256, &attributes, &[0, 0], &NO_ALGORITHM, &ECDSA, &SHA256, &P256, &NO_ALGORITHM, &[0; 4]].concat()
}

/// The TCG's storage root key: P-256, AES-128-CFB; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA,
/// restricted, decrypt.
fn storage_template() -> Vec<u8> {
    let attributes = 0x0003_0472_u32.to_be_bytes();
    let aes_128_cfb = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
    [&ECC[..], &SHA256, &attributes, &[0, 0], &aes_128_cfb, &NO_ALGORITHM, &P256, &NO_ALGORITHM, &[0; 4]].concat()
}

/// A sealed object: fixedTPM, fixedParent, adminWithPolicy, noDA; no password opens it.
fn sealed_template(policy: &[u8; 32]) -> Vec<u8> {
    let attributes = 0x0000_0492_u32.to_be_bytes();
    [&KEYED_HASH[..], &SHA256, &attributes, &sized(policy), &NO_ALGORITHM, &[0, 0]].concat()
}

/// The TPMT_PUBLIC under which a signer's key is loaded: userWithAuth, sign.
fn signer_public((x, y): (&[u8; 32], &[u8; 32])) -> Vec<u8> {
    let attributes = 0x0004_0040_u32.to_be_bytes();
    let head = [&ECC[..], &SHA256, &attributes, &[0, 0], &NO_ALGORITHM, &NO_ALGORITHM, &P256, &NO_ALGORITHM].concat();
    [head, sized(x), sized(y)].concat()
}

/// Its name (part 1, 16).
fn signer_name(signer: (&[u8; 32], &[u8; 32])) -> Vec<u8> {
    [&SHA256[..], &sha256(&signer_public(signer))].concat()
}
