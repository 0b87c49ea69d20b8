//! The COSE_Sign1 and what is signed in it.

use std::collections::BTreeMap;

use minicbor::{Decoder, Encoder, data::Type, decode::Error};
use p384::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};

use super::{Pcr, chain};
use crate::Refusal;

/// The protected header {1: -35}: ES384.
const ES384: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// COSE_Sign1 may stand with or without its tag.
const COSE_SIGN1: u64 = 18;
/// The limits of AWS's `attestation_process.md`, and one of ours on the chain.
const MAX_PCRS: usize = 32;
const MAX_FIELD: usize = 1024;
const MAX_CHAIN: usize = 8;

/// A parsed document. Parsing verifies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The enclave's name: instance and enclave.
    pub module_id: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The locked PCRs.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// DER certificates from the root to the one that signed.
    pub chain: Vec<Vec<u8>>,
    /// The keeper's long-term key.
    pub public_key: Option<Vec<u8>>,
    /// The evidence's statement.
    pub user_data: Option<Vec<u8>>,
    /// The client's nonce.
    pub nonce: Option<Vec<u8>>,
    payload: Vec<u8>,
    signature: [u8; 96],
}

impl Document {
    /// Reads the bytes that a Nitro Secure Module gave.
    ///
    /// # Errors
    /// [`Refusal::Truncated`], [`Refusal::Malformed`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Refusal> {
        let refusal = |error: Error| if error.is_end_of_input() { Refusal::Truncated } else { Refusal::Malformed };
        let (payload, signature) = sign1(bytes).map_err(refusal)?;
        let signature = signature.try_into().map_err(|_| Refusal::Malformed)?;
        fields(payload, signature).map_err(|_| Refusal::Malformed)
    }

    /// A PCR, if it is locked.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<Pcr> {
        self.pcrs.get(&index).copied()
    }

    /// Verifies that a machine under the root certificate with this SHA-256 signed it, and that the whole chain is valid at
    /// this time. What it says about the machine is not judged.
    ///
    /// # Errors
    /// The [`Refusal`] of the first check that fails.
    pub fn verify(&self, root: &[u8; 32], now_ms: u64) -> Result<(), Refusal> {
        let key = chain::verify(&self.chain, root, now_ms)?;
        self.verify_signature(&key)
    }

    /// Verifies the signature (RFC 9052, 4.4) under the last certificate's key.
    fn verify_signature(&self, key: &VerifyingKey) -> Result<(), Refusal> {
        let signature = Signature::from_slice(&self.signature).map_err(|_| Refusal::BadSignature)?;
        key.verify(&signed(&self.payload), &signature).map_err(|_| Refusal::BadSignature)
    }
}

/// The Sig_structure: what is signed.
#[allow(clippy::expect_used, reason = "encoding to memory cannot fail")]
fn signed(payload: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(payload.len() + 32));
    let written = encoder
        .array(4)
        .and_then(|e| e.str("Signature1"))
        .and_then(|e| e.bytes(&ES384))
        .and_then(|e| e.bytes(b""))
        .and_then(|e| e.bytes(payload));
    written.expect("a Vec takes everything");
    encoder.into_writer()
}

/// Payload and signature of a COSE_Sign1 with the one algorithm that Nitro uses.
fn sign1(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut d = Decoder::new(bytes);
    if d.datatype()? == Type::Tag && d.tag()?.as_u64() != COSE_SIGN1 {
        return Err(Error::message("another tag"));
    }
    expect(d.array()? == Some(4))?;
    expect(d.bytes()? == ES384)?;
    expect(d.map()? == Some(0))?;
    let (payload, signature) = (d.bytes()?, d.bytes()?);
    expect(d.position() == bytes.len())?;
    Ok((payload, signature))
}

fn expect(holds: bool) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::message("not an attestation document")) }
}

/// The signed map. Unknown fields are skipped: AWS may add some, and its signature covers them.
fn fields(payload: &[u8], signature: [u8; 96]) -> Result<Document, Error> {
    let mut d = Decoder::new(payload);
    let count = d.map()?.ok_or_else(|| Error::message("a map of definite length"))?;
    let (mut module_id, mut timestamp_ms, mut pcrs, mut certificate, mut bundle) = (None, None, None, None, None);
    let (mut public_key, mut user_data, mut nonce) = (None, None, None);
    let mut digest = None;
    for _ in 0..count {
        match d.str()? {
            "module_id" => once(&mut module_id, d.str()?.to_owned())?,
            "digest" => once(&mut digest, d.str()?)?,
            "timestamp" => once(&mut timestamp_ms, d.u64()?)?,
            "pcrs" => once(&mut pcrs, read_pcrs(&mut d)?)?,
            "certificate" => once(&mut certificate, bounded(d.bytes()?)?)?,
            "cabundle" => once(&mut bundle, read_bundle(&mut d)?)?,
            "public_key" => once(&mut public_key, optional(&mut d)?)?,
            "user_data" => once(&mut user_data, optional(&mut d)?)?,
            "nonce" => once(&mut nonce, optional(&mut d)?)?,
            _ => d.skip()?,
        }
    }
    expect(d.position() == payload.len() && digest == Some("SHA384"))?;
    let missing = || Error::message("a field is missing");
    let mut chain = bundle.ok_or_else(missing)?;
    chain.push(certificate.ok_or_else(missing)?);
    Ok(Document {
        module_id: module_id.ok_or_else(missing)?,
        timestamp_ms: timestamp_ms.ok_or_else(missing)?,
        pcrs: pcrs.ok_or_else(missing)?,
        chain,
        public_key: public_key.flatten(),
        user_data: user_data.flatten(),
        nonce: nonce.flatten(),
        payload: payload.to_vec(),
        signature,
    })
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Error> {
    expect(field.is_none())?;
    *field = Some(value);
    Ok(())
}

fn bounded(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    expect((1..=MAX_FIELD).contains(&bytes.len()))?;
    Ok(bytes.to_vec())
}

fn optional(d: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, Error> {
    if d.datatype()? == Type::Null { d.null().map(|()| None) } else { bounded(d.bytes()?).map(Some) }
}

fn read_pcrs(d: &mut Decoder<'_>) -> Result<BTreeMap<u8, Pcr>, Error> {
    let count = d.map()?.ok_or_else(|| Error::message("a map of definite length"))?;
    expect((1..=MAX_PCRS as u64).contains(&count))?;
    let mut pcrs = BTreeMap::new();
    for _ in 0..count {
        let index = d.u8()?;
        let value = d.bytes()?.try_into().map_err(|_| Error::message("a PCR of another length"))?;
        expect(usize::from(index) < MAX_PCRS && pcrs.insert(index, value).is_none())?;
    }
    Ok(pcrs)
}

fn read_bundle(d: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let count = d.array()?.ok_or_else(|| Error::message("an array of definite length"))?;
    expect((1..=MAX_CHAIN as u64).contains(&count))?;
    (0..count).map(|_| bounded(d.bytes()?)).collect()
}
