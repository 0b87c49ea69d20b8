//! What the parent stores: the root under one data key of each KMS key, and the genesis evidence. It opens nothing outside
//! the enclave.

use std::collections::BTreeMap;

use halfkey_envelope::{
    cbor,
    entropy::{Entropy, random},
    hash::h,
    hpke::PublicKey,
    id::DeploymentId,
    keeper::{Evidence, EvidenceKind, KeyId, SealRootKey, configuration_hash, long_term_key},
    seal::{self, Magic, SealKey},
};
use halfkey_evidence::nitro::Document;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{NitroError, Result, kms::KmsError, settings::Settings};

const VERSION: u16 = 1;
const MAGIC: Magic = Magic(*b"HKN1");
const ROOT: &str = "halfkey/keeper/v1/nitro/root";
const BORN: &str = "halfkey/keeper/v1/nitro/born";
const GENESIS: &str = "halfkey/keeper/v1/nitro/genesis";
/// The long-term key that names a root.
pub const KEY_ID: KeyId = 1;
/// The longest file that is read back.
pub const MAX: usize = 64 * 1024;

/// All sealings of one root.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sealings {
    #[n(1)]
    version: u16,
    /// The root's first long-term key.
    #[n(2)]
    pub first_key: PublicKey,
    #[n(3)]
    sealed: Vec<Sealed>,
    #[n(4)]
    genesis: Evidence,
}

/// The root under one KMS key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Sealed {
    #[n(1)]
    arn: String,
    /// The data key, as KMS keeps it.
    #[cbor(n(2), with = "minicbor::bytes")]
    data_key: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    root: Vec<u8>,
}

/// The header of a sealed root.
#[derive(Encode)]
#[cbor(map)]
struct Header<'a> {
    #[n(1)]
    deployment: &'a DeploymentId,
    #[n(2)]
    generation: u32,
    #[n(3)]
    arn: &'a str,
    #[n(4)]
    first_key: &'a PublicKey,
}

/// What a KMS key gave for a new sealing: as KMS keeps it, and the data key itself.
pub type DataKey = (Vec<u8>, Zeroizing<[u8; 32]>);

/// The encryption context of every call, which KMS compares: a data key of another deployment, or of another of its roots,
/// is not given out.
pub fn context(settings: &Settings) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("halfkey-purpose", "keeper-sealing-root".to_owned()),
        ("halfkey-deployment", settings.deployment.to_string()),
        ("halfkey-generation", settings.generation.to_string()),
    ])
}

/// A new root. It is the system's randomness, stirred with that of every KMS key: an enclave that starts with too little
/// of its own still has a root that nobody can guess.
pub fn born(data_keys: &[DataKey], entropy: &mut dyn Entropy) -> SealRootKey {
    let theirs: Zeroizing<Vec<u8>> = Zeroizing::new(data_keys.iter().flat_map(|(_, key)| **key).collect());
    let root = SealKey::derive(&theirs, &*random::<32>(entropy), BORN);
    SealRootKey::from_bytes(Zeroizing::new(*root.expose()))
}

impl Sealings {
    /// Seals `root` under each data key, in the order of the settings' KMS keys. `attest` makes the genesis evidence.
    pub fn new(
        settings: &Settings,
        root: &SealRootKey,
        data_keys: Vec<DataKey>,
        operator: &[u8],
        entropy: &mut dyn Entropy,
        attest: impl FnOnce(&Evidence) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let first_key = long_term_key(root, KEY_ID).public_key();
        let mut sealed = Vec::new();
        for (key, (blob, data_key)) in settings.kms.iter().zip(data_keys) {
            let header = header(settings, key.arn.as_str(), &first_key);
            let root = seal::seal(&sealing_key(&data_key), MAGIC, &header, root.expose(), entropy);
            sealed.push(Sealed { arn: key.arn.to_string(), data_key: blob, root });
        }
        let kind = EvidenceKind::Nitro;
        let mut genesis = Evidence {
            kind,
            nonce: nonce(settings, &sealed),
            key_id: KEY_ID,
            public_key: first_key,
            configuration: configuration_hash(kind, KEY_ID, operator),
            document: Vec::new(),
        };
        genesis.document = attest(&genesis)?;
        Ok(Self { version: VERSION, first_key, sealed, genesis })
    }

    pub fn to_vec(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a file, and whether the evidence in it is the one that was made with it.
    pub fn from_slice(settings: &Settings, bytes: &[u8]) -> Result<Self> {
        let found: Self = match cbor::version(bytes) {
            Ok(VERSION) => cbor::from_slice(bytes).map_err(|_| NitroError::Sealings("not whole"))?,
            Ok(_) => return Err(NitroError::Sealings("of a version that this program does not know")),
            Err(_) => return Err(NitroError::Sealings("none")),
        };
        let genesis = &found.genesis;
        let about = Document::from_slice(&genesis.document).ok().and_then(|document| document.user_data);
        let same = genesis.nonce == nonce(settings, &found.sealed)
            && (genesis.key_id, genesis.public_key) == (KEY_ID, found.first_key)
            && about.as_deref() == Some(&genesis.statement());
        if same { Ok(found) } else { Err(NitroError::Sealings("without the genesis evidence that was made with it")) }
    }

    /// What the enclave showed when the root was born in it.
    pub const fn genesis(&self) -> &Evidence {
        &self.genesis
    }

    /// The root under one KMS key. `decrypt` asks KMS for the data key.
    pub fn open(
        &self,
        settings: &Settings,
        arn: &str,
        decrypt: impl FnOnce(&[u8]) -> std::result::Result<Zeroizing<[u8; 32]>, KmsError>,
    ) -> std::result::Result<SealRootKey, KmsError> {
        let sealed = self.sealed.iter().find(|sealed| sealed.arn == arn).ok_or(KmsError::Missing)?;
        let data_key = decrypt(&sealed.data_key)?;
        let header = header(settings, arn, &self.first_key);
        let opened = seal::open(&sealing_key(&data_key), MAGIC, &header, &sealed.root)?;
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| KmsError::OtherRoot)?;
        let root = SealRootKey::from_bytes(Zeroizing::new(bytes));
        if long_term_key(&root, KEY_ID).public_key() == self.first_key { Ok(root) } else { Err(KmsError::OtherRoot) }
    }
}

fn sealing_key(data_key: &[u8; 32]) -> SealKey {
    SealKey::derive(b"", data_key, ROOT)
}

fn header(settings: &Settings, arn: &str, first_key: &PublicKey) -> Vec<u8> {
    let Settings { deployment, generation, .. } = settings;
    cbor::to_vec(&Header { deployment, generation: *generation, arn, first_key })
}

/// Genesis evidence is about these sealings and no others.
fn nonce(settings: &Settings, sealed: &[Sealed]) -> [u8; 32] {
    let (deployment, generation) = (settings.deployment.to_string(), settings.generation.to_be_bytes());
    let sealed: Vec<_> = sealed.iter().map(cbor::to_vec).collect();
    let mut parts = vec![deployment.as_bytes(), &generation];
    parts.extend(sealed.iter().map(Vec::as_slice));
    h(GENESIS, &parts)
}

#[cfg(test)]
mod tests {
    use halfkey_envelope::{entropy::DangerSeededEntropy, seal::OpenError};

    use super::*;

    const ARNS: [&str; 2] =
        ["arn:aws:kms:eu-central-1:111122223333:key/1234", "arn:aws:kms:us-east-2:444455556666:key/5678"];

    fn settings(deployment: &str, generation: u32) -> Settings {
        let keys = ARNS.map(|arn| format!(r#"{{"arn":"{arn}","via":"vsock:3:8000"}}"#)).join(",");
        let text = format!(
            r#"{{"deployment":"{deployment}","generation":{generation},"credentials":"vsock:3:1",
            "sealings":"vsock:3:2","newSealings":"vsock:3:3","kms":[{keys}]}}"#
        );
        Settings::from_json(&text).unwrap()
    }

    const DEPLOYMENT: &str = "01010101-0101-0101-0101-010101010101";
    const OTHER: &str = "01010101-0101-0101-0101-010101010102";

    fn data_key(byte: u8) -> DataKey {
        (vec![byte; 40], Zeroizing::new([byte; 32]))
    }

    /// Whatever a KMS gives out: the root opens where it was sealed, and nowhere else.
    #[test]
    fn a_sealed_root_belongs_to_its_place() {
        let (own, mut entropy) = (settings(DEPLOYMENT, 1), DangerSeededEntropy::new(1));
        let root = SealRootKey::generate(&mut entropy);
        let keys = vec![data_key(1), data_key(2)];
        let sealings = Sealings::new(&own, &root, keys, &[8; 48], &mut entropy, |_| Ok(vec![])).unwrap();
        let open = |settings: &Settings, arn: &str, with: u8| {
            let opened = sealings.open(settings, arn, |blob| {
                assert_eq!(blob.len(), 40);
                Ok(Zeroizing::new([with; 32]))
            });
            opened.map(|root| *root.expose()).map_err(|error| error.to_string())
        };
        let refused = |error: OpenError| Err(KmsError::Root(error).to_string());
        assert_eq!((open(&own, ARNS[0], 1), open(&own, ARNS[1], 2)), (Ok(*root.expose()), Ok(*root.expose())));
        assert_eq!(open(&own, ARNS[0], 2), refused(OpenError::WrongKey), "the other KMS key's data key");
        assert_eq!(open(&settings(OTHER, 1), ARNS[0], 1), refused(OpenError::OtherContext), "another deployment");
        assert_eq!(open(&settings(DEPLOYMENT, 2), ARNS[0], 1), refused(OpenError::OtherContext), "another generation");
        let mut swapped = sealings.clone();
        let [first, second] = swapped.sealed.as_mut_slice() else { panic!() };
        core::mem::swap(&mut first.root, &mut second.root);
        let opened = swapped.open(&own, ARNS[0], |_| Ok(Zeroizing::new([2; 32])));
        assert!(matches!(opened, Err(KmsError::Root(OpenError::OtherContext))), "sealings swapped");
        let mut renamed = sealings.clone();
        renamed.first_key = PublicKey::from_bytes([7; 32]);
        let opened = renamed.open(&own, ARNS[0], |_| Ok(Zeroizing::new([1; 32])));
        assert!(matches!(opened, Err(KmsError::Root(OpenError::OtherContext))), "another root's key beside it");
    }

    #[test]
    fn a_root_is_made_of_the_systems_randomness_and_of_every_data_key() {
        let root = |seed, keys: &[u8]| {
            let keys: Vec<_> = keys.iter().map(|byte| data_key(*byte)).collect();
            *born(&keys, &mut DangerSeededEntropy::new(seed)).expose()
        };
        let roots = [root(1, &[1, 2]), root(2, &[1, 2]), root(1, &[3, 2]), root(1, &[1, 3])];
        for (at, one) in roots.iter().enumerate() {
            assert!(!roots[..at].contains(one) && *one != [1; 32] && *one != [2; 32], "{at}");
        }
        assert_eq!(root(1, &[1, 2]), roots[0]);
    }
}
