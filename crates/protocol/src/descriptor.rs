//! The deployment descriptor: the keys and policies that an app trusts; compiled in, never fetched (DECISIONS.md D5).
//!
//! JSON, signed by the deployment's identity key. The signature covers the exact bytes of the inner document, so no
//! canonical form of JSON is needed. A rotation is a new descriptor of a higher serial that the *old* identity key
//! signed as well.

use halfkey_envelope::id::DeploymentId;
use halfkey_evidence::{
    InvalidPolicy, Policy,
    nitro::{self, Nitro},
    tpm2::{OperatorKey, PcrSelection, Tpm2},
};
use serde::{Deserialize, Serialize};

use crate::{
    context::PartyKeys,
    error::{Error, Result},
    identity::{IdentityKey, IdentityPublic, Signs},
};

/// The version of the document.
pub const VERSION: u32 = 1;
/// No descriptor is longer.
pub const MAX_LEN: usize = 64 * 1024;
const SIGNATURE: &str = "halfkey/descriptor/v1/signature";

/// A 32-byte X25519 public key, lower-case hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HpkePublic(pub [u8; 32]);

impl TryFrom<String> for HpkePublic {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let bytes = hex::decode(&text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).filter(|key| String::from(*key) == text).ok_or(Error::Malformed)
    }
}

impl From<HpkePublic> for String {
    fn from(key: HpkePublic) -> Self {
        hex::encode(key.0)
    }
}

/// The keys of the server or the custodian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Signs deals, acks and receipts.
    pub identity: IdentityPublic,
    /// Ceremony bodies and sub-shares are sealed to it.
    pub hpke: HpkePublic,
}

impl Party {
    /// As a ceremony's context takes them.
    #[must_use]
    pub const fn keys(&self) -> PartyKeys {
        PartyKeys { identity: self.identity, hpke: Some(self.hpke.0) }
    }
}

/// A keeper's long-term key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keeper {
    /// Written into stanzas and registrations, so that old ones find their key after a rotation.
    pub key_id: u32,
    /// Requests and stanzas are sealed to it.
    pub hpke: HpkePublic,
}

/// `N` bytes, lower-case hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let bytes = hex::decode(&text).ok().and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
        bytes.map(Self).filter(|bytes| hex::encode(bytes.0) == text).ok_or(Error::Malformed)
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> Self {
        hex::encode(bytes.0)
    }
}

/// What evidence a passkey keeper must show (METHODS.md C).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum EvidencePolicy {
    /// None is good enough: the deployment has no passkey door that an app may use.
    Nothing,
    /// The keeper proves nothing: refused by every SDK unless told so at run time *and* compile time.
    InsecureDev,
    /// An enclave of AWS Nitro with one of these images, which this operator has signed.
    Nitro {
        /// Allowed images: PCR 0, 1 and 2 of each.
        measurements: Vec<[Hex<48>; 3]>,
        /// PCR 8: the certificate that the operator signs images with.
        operator: Hex<48>,
    },
    /// A machine that this operator has enrolled, with one of these digests over these PCRs.
    Tpm2 {
        /// Which PCRs of the SHA-256 bank, each from 0 to 15.
        pcrs: Vec<u8>,
        /// Allowed digests over them.
        measurements: Vec<Hex<32>>,
        /// The operator's P-256 key, compressed.
        operator: Hex<33>,
    },
}

impl EvidencePolicy {
    /// As `halfkey-evidence` takes it. `insecure-dev` is *not* accepted by what this gives: only a caller that was told
    /// so, and whose descriptor names [`EvidencePolicy::InsecureDev`], adds it with `danger_accept_insecure_dev`.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for one that anybody could satisfy, or nobody.
    pub fn policy(&self) -> core::result::Result<Policy, InvalidPolicy> {
        let nothing = Policy::nothing();
        Ok(match self {
            Self::Nothing | Self::InsecureDev => nothing,
            Self::Nitro { measurements, operator } => {
                let images = measurements.iter().map(|pcrs| nitro::Measurement(pcrs.map(|pcr| pcr.0)));
                nothing.with_nitro(Nitro::new(images.collect(), operator.0)?)
            }
            Self::Tpm2 { pcrs, measurements, operator } => {
                let digests = measurements.iter().map(|digest| digest.0).collect();
                let operator = OperatorKey::from_bytes(&operator.0)?;
                nothing.with_tpm2(Tpm2::new(PcrSelection::new(pcrs)?, digests, operator))
            }
        })
    }
}

/// The profile that the deployment runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Profile {
    /// Defaults for development and demos, with a banner.
    Dev,
    /// Refuses every weak setting.
    Production,
}

/// What an app trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// [`VERSION`]; any other is refused.
    pub version: u32,
    /// Raised by one with each rotation.
    pub serial: u64,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Where its server is reached.
    pub server_url: String,
    /// Signs this descriptor and its successor.
    pub identity: IdentityPublic,
    /// The signing server.
    pub server: Party,
    /// The custodian: in managed mode keys of its own inside the same server.
    pub custodian: Party,
    /// The passkey door; absent where the deployment has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<Keeper>,
    /// The password door; absent where the deployment has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guesskeeper: Option<Keeper>,
    /// Evidence that the passkey keeper must show.
    pub evidence: EvidencePolicy,
    /// Signs the audit log's checkpoints.
    pub audit_log_key: IdentityPublic,
    /// Relying parties whose passkeys may hold a backup.
    pub relying_parties: Vec<String>,
    /// The custodian's offline export key (METHODS.md G).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_key: Option<HpkePublic>,
    /// Whether `danger_sign_digest` is allowed.
    pub allow_digest: bool,
    /// The profile.
    pub profile: Profile,
}

/// Leave to sign a bare digest: only a descriptor that allows it gives one.
#[derive(Debug, Clone, Copy)]
pub struct DigestCapability(());

impl Descriptor {
    /// Leave to sign bare digests, if this deployment gives it.
    #[must_use]
    pub fn digest_capability(&self) -> Option<DigestCapability> {
        self.allow_digest.then_some(DigestCapability(()))
    }

    /// Signs it. `previous` is the identity key of the descriptor that this one replaces.
    ///
    /// # Errors
    /// [`Error::InvalidContext`] if `identity` is not the key that the descriptor names, or its policy for evidence is
    /// none; [`Error::UnknownVersion`].
    pub fn sign(&self, identity: &IdentityKey, previous: Option<&IdentityKey>) -> Result<SignedDescriptor> {
        if self.version != VERSION {
            return Err(Error::UnknownVersion);
        }
        if identity.public() != self.identity || self.evidence.policy().is_err() {
            return Err(Error::InvalidContext);
        }
        let document = serde_json::to_string(self).map_err(|_| Error::Internal)?;
        let signature = |key: &IdentityKey| hex::encode(key.sign(SIGNATURE, &[document.as_bytes()]));
        Ok(SignedDescriptor { signature: signature(identity), rotation: previous.map(signature), document })
    }
}

/// A descriptor with its signatures: the file that `halfkey admin descriptor` writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDescriptor {
    /// The JSON document, as it was signed.
    document: String,
    /// By the identity key that the document names; hexadecimal.
    signature: String,
    /// By the identity key of the descriptor before; hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<String>,
}

/// Only the version: read first, so that a document of another version is refused for that reason.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl SignedDescriptor {
    /// Parses the file; nothing in it is trusted yet.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_json(json: &str) -> Result<Self> {
        if json.len() > MAX_LEN {
            return Err(Error::Malformed);
        }
        serde_json::from_str(json).map_err(|_| Error::Malformed)
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|_| Error::Internal)
    }

    /// The descriptor of a file that came with the app: its own signature must hold. That proves only that the file is
    /// whole; *whose* file it is, the app knows because it was compiled in, or from [`Self::succeed`].
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::Malformed`], [`Error::UntrustedDescriptor`].
    pub fn open(&self) -> Result<Descriptor> {
        let versioned: Versioned = serde_json::from_str(&self.document).map_err(|_| Error::Malformed)?;
        if versioned.version != VERSION {
            return Err(Error::UnknownVersion);
        }
        let descriptor: Descriptor = serde_json::from_str(&self.document).map_err(|_| Error::Malformed)?;
        descriptor.evidence.policy().map_err(|_| Error::Malformed)?;
        self.verify(&descriptor.identity, &self.signature)?;
        Ok(descriptor)
    }

    /// The successor of a known descriptor: the same deployment, a higher serial, and signed by the known identity key.
    ///
    /// # Errors
    /// [`Error::UntrustedDescriptor`] and those of [`Self::open`].
    pub fn succeed(&self, known: &Descriptor) -> Result<Descriptor> {
        let descriptor = self.open()?;
        let newer = descriptor.deployment == known.deployment && descriptor.serial > known.serial;
        if !newer {
            return Err(Error::UntrustedDescriptor);
        }
        if descriptor.identity != known.identity {
            self.verify(&known.identity, self.rotation.as_ref().ok_or(Error::UntrustedDescriptor)?)?;
        }
        Ok(descriptor)
    }

    fn verify(&self, key: &IdentityPublic, signature: &str) -> Result<()> {
        let signature = hex::decode(signature).map_err(|_| Error::UntrustedDescriptor)?;
        key.verify(SIGNATURE, &[self.document.as_bytes()], &signature).map_err(|_| Error::UntrustedDescriptor)
    }
}
