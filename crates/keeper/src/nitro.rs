//! `nitro`: a keeper in an AWS Nitro Enclave, whose root only KMS's answers to this very image open.
//!
//! **Never run on Nitro hardware**: tests run all of it on a Nitro Secure Module and a KMS that are made up, by AWS's
//! documentation.
//!
//! At the first start the root is born in the enclave. Each KMS key of the measured [`Settings`] gives a data key, sealed to
//! an RSA key of the enclave which stands in its attestation document (`recipient.rs`); the root is sealed under each data
//! key alone (`sealing.rs`), and the parent stores what comes out. At later starts KMS gives the data keys back, under the
//! same condition. TLS to KMS ends in the enclave (`https.rs`); the parent relays bytes, lends AWS credentials and is
//! trusted with nothing.

mod https;
mod kms;
mod module;
mod parent;
mod recipient;
mod sealing;
mod settings;
mod sigv4;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use halfkey_envelope::{
    entropy::Entropy,
    hpke::PublicKey,
    keeper::{Evidence, EvidenceKind, SealRootKey},
};
use halfkey_evidence::{
    Refusal,
    nitro::{Document, Pcr},
};
use serde::Deserialize;
use zeroize::Zeroizing;

pub use self::{
    https::Tls,
    kms::KmsError,
    module::{ModuleFault, Nsm, SecurityModule},
    parent::{Address, InvalidAddress},
    recipient::{CmsError, NoKey, Recipient},
    settings::{InvalidArn, KeyArn, KmsKey, Settings},
};
use self::{kms::Kms, sealing::Sealings, sigv4::Credentials};
use crate::{
    evidence::{Attester, EvidenceFault},
    seal_root::{RootError, SealRoot},
};

/// What the parent says where sealings should be when there are none yet and a root is to be born. Nothing else starts one:
/// a parent that has lost its file, or serves an empty one, does not get a keeper with another root.
pub const NO_SEALINGS_YET: &[u8] = b"halfkey-keeper: no sealings yet\n";
const MAX_CREDENTIALS: usize = 16 * 1024;
const IMAGE: [u8; 3] = [0, 1, 2];
const SIGNER: u8 = 8;

/// Why a keeper in an enclave does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NitroError {
    /// The settings in the image.
    #[error("settings: {0}")]
    Settings(String),
    /// The Nitro Secure Module.
    #[error("{0}")]
    Module(#[from] ModuleFault),
    /// What the module says about this enclave cannot be read.
    #[error("the enclave's own document: {0}")]
    Document(Refusal),
    /// In debug mode the parent reads the enclave's console, and its PCRs are zero.
    #[error("the enclave runs in debug mode")]
    DebugMode,
    /// Nobody has signed the image, so no app could pin its operator.
    #[error("the image is not signed: PCR 8 is empty")]
    Unsigned,
    /// The parent's stream of this name.
    #[error("the parent's {0}: {1}")]
    Parent(&'static str, #[source] io::Error),
    /// The parent's credentials are none.
    #[error("the parent's credentials are not as AWS writes them")]
    Credentials,
    /// What the parent stores is not what an enclave gave it.
    #[error("the parent's sealings: {0}")]
    Sealings(&'static str),
    /// The parent does not give back what it was given. The new root is forgotten.
    #[error("the parent has not stored the new sealings")]
    NotStored,
    /// A KMS key, when a root was to be born: all must answer.
    #[error("{0}: {1}")]
    Kms(KeyArn, #[source] KmsError),
    /// No KMS key opens the root.
    #[error("no KMS key opens the root: {}", shown(.0))]
    NothingOpens(Vec<(KeyArn, KmsError)>),
    /// No key for KMS's answers.
    #[error("{0}")]
    NoKey(#[from] NoKey),
    /// No TLS.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

fn shown(failures: &[(KeyArn, KmsError)]) -> String {
    failures.iter().map(|(arn, error)| format!("{arn}: {error}")).collect::<Vec<_>>().join("; ")
}

type Result<T> = std::result::Result<T, NitroError>;

/// A root that KMS guards.
pub struct NitroRoot {
    settings: Settings,
    module: Arc<dyn SecurityModule>,
    tls: Tls,
    operator: Pcr,
    opened: AtomicU32,
}

impl NitroRoot {
    /// The root of these settings, in the enclave of this module.
    ///
    /// # Errors
    /// [`NitroError::DebugMode`], [`NitroError::Unsigned`], and where there is no module or no TLS.
    pub fn new(settings: Settings, module: Arc<dyn SecurityModule>) -> Result<Self> {
        Self::danger_with(settings, module, Tls::of_amazon()?)
    }

    /// As [`Self::new`], but whoever `tls` believes is KMS. For tests.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn danger_with(settings: Settings, module: Arc<dyn SecurityModule>, tls: Tls) -> Result<Self> {
        let own = Document::from_slice(&module.attest(None, None, None)?).map_err(NitroError::Document)?;
        let is_zero = |pcr: u8| own.pcr(pcr).is_none_or(|value| value == [0; 48]);
        if IMAGE.into_iter().any(is_zero) {
            return Err(NitroError::DebugMode);
        }
        let operator = own.pcr(SIGNER).filter(|_| !is_zero(SIGNER)).ok_or(NitroError::Unsigned)?;
        Ok(Self { settings, module, tls, operator, opened: AtomicU32::new(0) })
    }

    /// What makes this keeper's evidence.
    #[must_use]
    pub fn attester(&self) -> NitroAttester {
        NitroAttester { module: Arc::clone(&self.module), operator: self.operator }
    }

    /// The evidence that the enclave gave when the root was born, out of what the parent stores.
    ///
    /// # Errors
    /// [`NitroError::Sealings`] if it is not about these sealings.
    pub fn genesis(&self, sealings: &[u8]) -> Result<Evidence> {
        Ok(Sealings::from_slice(&self.settings, sealings)?.genesis().clone())
    }

    fn root(&self, entropy: &mut dyn Entropy) -> Result<SealRootKey> {
        let stored = self.stored()?;
        let credentials = self.credentials()?;
        let recipient = Recipient::generate()?;
        let document = self.module.attest(None, None, Some(recipient.public_key()))?;
        let kms = Kms {
            tls: &self.tls,
            credentials: &credentials,
            recipient: &recipient,
            document: &document,
            context: &sealing::context(&self.settings),
            now_ms: now_ms(),
        };
        if *stored == NO_SEALINGS_YET {
            self.bear(&kms, entropy)?;
        }
        // What was just born is opened as at any later start: a sealing that does not open is no sealing.
        self.unseal(&kms, &self.stored()?)
    }

    fn bear(&self, kms: &Kms<'_>, entropy: &mut dyn Entropy) -> Result<()> {
        tracing::warn!("no sealings yet: a root is born");
        let data_key =
            |key: &KmsKey| kms.generate_data_key(key).map_err(|error| NitroError::Kms(key.arn.clone(), error));
        let data_keys = self.settings.kms.iter().map(data_key).collect::<Result<Vec<_>>>()?;
        let root = sealing::born(&data_keys, entropy);
        let attest = |evidence: &Evidence| self.document(evidence);
        let sealings = Sealings::new(&self.settings, &root, data_keys, &self.operator, entropy, attest)?.to_vec();
        let parent = |error| NitroError::Parent("place for new sealings", error);
        parent::hand_over(&self.settings.new_sealings, &sealings).map_err(parent)?;
        if *self.stored()? == sealings { Ok(()) } else { Err(NitroError::NotStored) }
    }

    /// Asks every KMS key, so that a sealing that is lost is seen while there is another.
    fn unseal(&self, kms: &Kms<'_>, stored: &[u8]) -> Result<SealRootKey> {
        let sealings = Sealings::from_slice(&self.settings, stored)?;
        let (mut roots, mut failures) = (Vec::new(), Vec::new());
        for key in &self.settings.kms {
            match sealings.open(&self.settings, key.arn.as_str(), |data_key| kms.decrypt(key, data_key)) {
                Ok(root) => roots.push(root),
                Err(error) => {
                    tracing::error!(key = %key.arn, %error, "a sealing of the root does not open");
                    failures.push((key.arn.clone(), error));
                }
            }
        }
        self.opened.store(u32::try_from(roots.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        roots.pop().ok_or(NitroError::NothingOpens(failures))
    }

    fn stored(&self) -> Result<Zeroizing<Vec<u8>>> {
        parent::fetch(&self.settings.sealings, sealing::MAX).map_err(|error| NitroError::Parent("sealings", error))
    }

    fn credentials(&self) -> Result<Credentials> {
        let said = parent::fetch(&self.settings.credentials, MAX_CREDENTIALS);
        let said = said.map_err(|error| NitroError::Parent("credentials", error))?;
        let said: Said = serde_json::from_slice(&said).map_err(|_| NitroError::Credentials)?;
        // They go into a request's head.
        let one_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let (id, token) = (said.access_key_id, said.token.map(Zeroizing::new));
        if !one_word(&id) || token.as_ref().is_some_and(|token| !one_word(token)) {
            return Err(NitroError::Credentials);
        }
        Ok(Credentials { access_key_id: id, secret: Zeroizing::new(said.secret_access_key), token })
    }

    fn document(&self, evidence: &Evidence) -> Result<Vec<u8>> {
        Ok(document(&*self.module, evidence)?)
    }
}

/// Credentials as the instance's metadata service writes them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

#[allow(clippy::disallowed_methods, reason = "the one place where this crate reads the clock: KMS wants the time")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl SealRoot for NitroRoot {
    fn open(&self, entropy: &mut dyn Entropy) -> std::result::Result<SealRootKey, RootError> {
        self.root(entropy).map_err(|error| RootError::Nitro(Box::new(error)))
    }

    /// As many KMS keys as have opened the root at this start.
    fn sealings(&self, _: &PublicKey) -> std::result::Result<u32, RootError> {
        Ok(self.opened.load(Ordering::Relaxed))
    }
}

/// Has the enclave's module sign what is asked.
pub struct NitroAttester {
    module: Arc<dyn SecurityModule>,
    operator: Pcr,
}

impl Attester for NitroAttester {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Nitro
    }

    /// PCR 8: over the certificate that signed the image.
    fn operator(&self) -> &[u8] {
        &self.operator
    }

    fn document(&self, evidence: &Evidence) -> std::result::Result<Vec<u8>, EvidenceFault> {
        document(&*self.module, evidence).map_err(|fault| EvidenceFault(fault.to_string()))
    }
}

fn document(module: &dyn SecurityModule, evidence: &Evidence) -> std::result::Result<Vec<u8>, ModuleFault> {
    module.attest(Some(&evidence.statement()), Some(&evidence.nonce), Some(evidence.public_key.as_bytes()))
}
