//! A Nitro machine that exists in memory alone: a chain of certificates like AWS's, and documents under it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "for tests: what is written here is well-formed")]

use halfkey_envelope::hash::sha256;
use minicbor::Encoder;
use p384::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer as _};

use super::der;
use crate::{
    Policy,
    nitro::{Measurement, Nitro},
};

/// When the machine shows what it shows: 2026-01-01.
pub const NOW_MS: u64 = 1_767_225_600_000;
/// PCR 0, 1 and 2.
pub const IMAGE: [[u8; 48]; 3] = [[1; 48], [2; 48], [3; 48]];
/// PCR 8.
pub const OPERATOR: [u8; 48] = [8; 48];

/// SHA-256 of the root certificate.
#[must_use]
pub fn root() -> [u8; 32] {
    sha256(&chain(&plans())[0])
}

/// The policy that accepts the machine.
#[must_use]
pub fn policy() -> Policy {
    let verifier = Nitro::new(vec![Measurement([[9; 48]; 3]), Measurement(IMAGE)], OPERATOR).unwrap();
    Policy::nothing().with_nitro(verifier.danger_with_root(root()))
}

/// A certificate to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its common name.
    pub subject: &'static str,
    /// The common name of its issuer.
    pub issuer: &'static str,
    /// The number of its key.
    pub key: u8,
    /// The number of the key that signs it.
    pub signer: u8,
    /// From when and until when, as UTCTime.
    pub valid: (&'static str, &'static str),
    /// DER of each extension.
    pub extensions: Vec<Vec<u8>>,
    /// The object identifier of the signature's algorithm.
    pub algorithm: &'static [u8],
    /// The object identifier of the key's curve.
    pub curve: &'static [u8],
}

/// When the machine's certificate holds: 2025-12-31 23:00 to 2026-01-01 02:00.
const VALID: (&str, &str) = ("251231230000Z", "260101020000Z");
/// The same in milliseconds since the Unix epoch.
pub const VALID_MS: (u64, u64) = (NOW_MS - 3_600_000, NOW_MS + 7_200_000);
const LONG: (&str, &str) = ("191028132805Z", "491028142805Z");
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// ecdsa-with-SHA256, which no certificate of AWS's chain uses.
pub const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const SECP384R1: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
/// secp256r1, which no certificate of AWS's chain uses.
pub const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

fn key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 48]).unwrap()
}

fn issuer(subject: &'static str, issuer: &'static str, key: u8, signer: u8, path_len: Option<u8>) -> Plan {
    let usage = der::key_usage(der::SIGNS_DOCUMENTS | der::SIGNS_CERTIFICATES);
    let extensions = vec![der::basic_constraints(true, path_len), usage];
    Plan { subject, issuer, key, signer, valid: LONG, extensions, algorithm: ECDSA_WITH_SHA384, curve: SECP384R1 }
}

/// A chain like AWS's: root, region, zone, instance, enclave.
#[must_use]
pub fn plans() -> Vec<Plan> {
    let leaf = Plan {
        valid: VALID,
        extensions: vec![der::basic_constraints(false, None), der::key_usage(der::SIGNS_DOCUMENTS | 0x40)],
        ..issuer("enclave", "instance", 15, 14, None)
    };
    vec![
        issuer("root", "root", 11, 11, None),
        issuer("region", "root", 12, 11, Some(2)),
        issuer("zone", "region", 13, 12, Some(1)),
        issuer("instance", "zone", 14, 13, Some(0)),
        leaf,
    ]
}

fn certificate(plan: &Plan, serial: u8) -> Vec<u8> {
    let algorithm = der::sequence(&[der::oid(plan.algorithm)]);
    let point = key(plan.key).verifying_key().to_sec1_point(false);
    let id = der::oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
    let info = der::sequence(&[der::sequence(&[id, der::oid(plan.curve)]), der::bits(point.as_bytes())]);
    let tbs = der::sequence(&[
        der::tlv(0xa0, &der::tlv(2, &[2])),
        der::tlv(2, &[serial]),
        algorithm.clone(),
        der::name(plan.issuer),
        der::sequence(&[der::time(plan.valid.0), der::time(plan.valid.1)]),
        der::name(plan.subject),
        info,
        der::tlv(0xa3, &der::sequence(&plan.extensions)),
    ]);
    let signature: DerSignature = key(plan.signer).sign(&tbs);
    der::sequence(&[tbs, algorithm, der::bits(signature.as_bytes())])
}

/// The certificates of these plans.
#[must_use]
pub fn chain(plans: &[Plan]) -> Vec<Vec<u8>> {
    plans.iter().zip(1..).map(|(plan, serial)| certificate(plan, serial)).collect()
}

/// An attestation document to be made.
#[derive(Debug, Clone)]
pub struct Show {
    /// The locked PCRs.
    pub pcrs: Vec<(u8, Vec<u8>)>,
    /// DER certificates, the root first.
    pub chain: Vec<Vec<u8>>,
    /// The number of the key that signs the document.
    pub signer: u8,
    /// The name of the PCRs' digest.
    pub digest: &'static str,
    /// The nonce.
    pub nonce: Option<Vec<u8>>,
    /// The public key.
    pub public_key: Option<Vec<u8>>,
    /// The user data.
    pub user_data: Option<Vec<u8>>,
    /// A further field, of value null.
    pub extra: Option<&'static str>,
    /// Whether the COSE_Sign1 stands with its tag.
    pub tagged: bool,
    /// The protected header.
    pub algorithm: [u8; 4],
}

impl Show {
    /// What a machine shows that runs the image [`IMAGE`] of [`OPERATOR`] with debugging off.
    #[must_use]
    pub fn new(user_data: Option<&[u8]>, nonce: Option<&[u8]>, public_key: Option<&[u8]>) -> Self {
        let mut pcrs: Vec<_> = IMAGE.iter().zip(0..).map(|(pcr, index)| (index, pcr.to_vec())).collect();
        pcrs.extend([(3, vec![0; 48]), (4, vec![4; 48]), (8, OPERATOR.to_vec())]);
        Self {
            pcrs,
            chain: chain(&plans()),
            signer: 15,
            digest: "SHA384",
            nonce: nonce.map(<[u8]>::to_vec),
            public_key: public_key.map(<[u8]>::to_vec),
            user_data: user_data.map(<[u8]>::to_vec),
            extra: None,
            tagged: false,
            algorithm: [0xa1, 1, 0x38, 0x22],
        }
    }

    fn payload(&self) -> Vec<u8> {
        let mut e = Encoder::new(vec![]);
        e.map(9 + u64::from(self.extra.is_some())).unwrap();
        e.str("module_id").unwrap().str("i-0123456789abcdef0-enc0123456789abcdef").unwrap();
        e.str("digest").unwrap().str(self.digest).unwrap();
        e.str("timestamp").unwrap().u64(NOW_MS).unwrap();
        e.str("pcrs").unwrap().map(self.pcrs.len() as u64).unwrap();
        for (index, value) in &self.pcrs {
            e.u8(*index).unwrap().bytes(value).unwrap();
        }
        let (leaf, bundle) = self.chain.split_last().unwrap();
        e.str("certificate").unwrap().bytes(leaf).unwrap();
        e.str("cabundle").unwrap().array(bundle.len() as u64).unwrap();
        for certificate in bundle {
            e.bytes(certificate).unwrap();
        }
        for (field, value) in [("public_key", &self.public_key), ("user_data", &self.user_data), ("nonce", &self.nonce)]
        {
            e.str(field).unwrap();
            match value {
                Some(value) => e.bytes(value).unwrap(),
                None => e.null().unwrap(),
            };
        }
        if let Some(field) = self.extra {
            e.str(field).unwrap().null().unwrap();
        }
        e.into_writer()
    }

    /// The signed document.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        let payload = self.payload();
        let mut signed = Encoder::new(vec![]);
        signed.array(4).unwrap().str("Signature1").unwrap().bytes(&self.algorithm).unwrap();
        signed.bytes(b"").unwrap().bytes(&payload).unwrap();
        let signature: Signature = key(self.signer).sign(&signed.into_writer());
        let mut e = Encoder::new(vec![]);
        if self.tagged {
            e.tag(minicbor::data::Tag::new(18)).unwrap();
        }
        e.array(4).unwrap().bytes(&self.algorithm).unwrap().map(0).unwrap();
        e.bytes(&payload).unwrap().bytes(&signature.to_bytes()).unwrap();
        e.into_writer()
    }
}
