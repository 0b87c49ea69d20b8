//! The two calls to KMS, each with the enclave's attestation document, so that only this enclave can read the answer.

use std::{collections::BTreeMap, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    https::Tls,
    recipient::{CmsError, Recipient},
    settings::{KeyArn, KmsKey},
    sigv4::{Credentials, Signable, authorization, timestamp},
};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const MAX_CODE: usize = 64;

/// Why a KMS key does not give what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// No connection, no answer in time, a certificate of somebody else's, or an answer that is none.
    #[error("KMS cannot be reached: {0}")]
    Away(#[from] io::Error),
    /// KMS says no, with this code: `AccessDeniedException` where its key policy does not allow this image.
    #[error("KMS refuses: {0}")]
    Refused(String),
    /// The answer is about another KMS key than the measured one.
    #[error("the answer is about another KMS key")]
    OtherKey,
    /// KMS did not seal its answer to the enclave. Whatever is in it, others may know it.
    #[error("KMS has not sealed its answer to this enclave")]
    NotSealedToUs,
    /// The sealed answer does not open.
    #[error("KMS's sealed answer: {0}")]
    Cms(#[from] CmsError),
    /// There is no sealing under this KMS key.
    #[error("no sealing under this KMS key")]
    Missing,
    /// The data key does not open the root sealed beside it: it is of another keeper, or was changed.
    #[error("the sealed root: {0}")]
    Root(#[from] halfkey_envelope::seal::OpenError),
    /// The root is not the one whose key stands beside it.
    #[error("another root than the one whose key stands beside it")]
    OtherRoot,
}

/// What every call has in common.
pub struct Kms<'a> {
    pub tls: &'a Tls,
    pub credentials: &'a Credentials,
    pub recipient: &'a Recipient,
    /// The enclave's document that names the recipient's key.
    pub document: &'a [u8],
    /// KMS takes nothing back that was sealed under another one.
    pub context: &'a BTreeMap<&'static str, String>,
    pub now_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Call<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_spec: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_algorithm: Option<&'static str>,
    encryption_context: &'a BTreeMap<&'static str, String>,
    recipient: RecipientInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RecipientInfo {
    key_encryption_algorithm: &'static str,
    attestation_document: String,
}

/// The fields of an answer that matter.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    key_id: Option<String>,
    ciphertext_blob: Option<String>,
    ciphertext_for_recipient: Option<String>,
    plaintext: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "__type")]
    code: String,
}

impl Kms<'_> {
    /// A new data key of 32 bytes: as KMS keeps it, and itself.
    pub fn generate_data_key(&self, key: &KmsKey) -> Result<(Vec<u8>, Zeroizing<[u8; 32]>), KmsError> {
        let answer = self.call(key, "GenerateDataKey", |call| call.key_spec = Some("AES_256"))?;
        let blob = answer.ciphertext_blob.as_deref().and_then(decode).ok_or_else(not_an_answer)?;
        Ok((blob, self.data_key(&answer)?))
    }

    /// The data key in what [`Self::generate_data_key`] gave.
    pub fn decrypt(&self, key: &KmsKey, blob: &[u8]) -> Result<Zeroizing<[u8; 32]>, KmsError> {
        let answer = self.call(key, "Decrypt", |call| {
            call.ciphertext_blob = Some(STANDARD.encode(blob));
            call.encryption_algorithm = Some("SYMMETRIC_DEFAULT");
        })?;
        self.data_key(&answer)
    }

    fn data_key(&self, answer: &Answer) -> Result<Zeroizing<[u8; 32]>, KmsError> {
        if answer.plaintext.as_ref().is_some_and(|plaintext| !plaintext.is_empty()) {
            return Err(KmsError::NotSealedToUs);
        }
        let sealed = answer.ciphertext_for_recipient.as_deref().ok_or(KmsError::NotSealedToUs)?;
        let sealed = decode(sealed).ok_or(CmsError::Malformed)?;
        Ok(self.recipient.open(&sealed)?)
    }

    fn call(&self, key: &KmsKey, name: &str, fill: impl FnOnce(&mut Call<'_>)) -> Result<Answer, KmsError> {
        let recipient = RecipientInfo {
            key_encryption_algorithm: "RSAES_OAEP_SHA_256",
            attestation_document: STANDARD.encode(self.document),
        };
        let mut call = Call {
            key_id: key.arn.as_str(),
            key_spec: None,
            ciphertext_blob: None,
            encryption_algorithm: None,
            encryption_context: self.context,
            recipient,
        };
        fill(&mut call);
        let body = serde_json::to_vec(&call).map_err(io::Error::other)?;
        let request = self.request(&key.arn, &format!("TrentService.{name}"), &body)?;
        let (status, answer) = self.tls.exchange(&key.via, &key.arn.host(), &request)?;
        if status != 200 {
            return Err(KmsError::Refused(code(status, &answer)));
        }
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| not_an_answer())?;
        if answer.key_id.as_deref() != Some(key.arn.as_str()) {
            return Err(KmsError::OtherKey);
        }
        Ok(answer)
    }

    fn request(&self, arn: &KeyArn, target: &str, body: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        let (host, at) = (arn.host(), timestamp(self.now_ms).ok_or_else(|| io::Error::other("no clock"))?);
        let token = self.credentials.token.as_ref().map(|token| token.as_str());
        let mut headers = vec![("content-type", CONTENT_TYPE), ("host", host.as_str()), ("x-amz-date", at.as_str())];
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        headers.push(("x-amz-target", target));
        let signable = Signable { method: "POST", path: "/", query: "", headers: &headers, body };
        let authorization = authorization(&signable, self.credentials, arn.region(), "kms", &at);
        let mut request = Zeroizing::new(b"POST / HTTP/1.1\r\n".to_vec());
        for (name, value) in &headers {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let length = body.len();
        let rest = format!("authorization: {authorization}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        request.extend_from_slice(rest.as_bytes());
        request.extend_from_slice(body);
        Ok(request)
    }
}

/// What KMS calls its refusal, without the namespace: fit for a log.
fn code(status: u16, answer: &[u8]) -> String {
    let named = serde_json::from_slice::<Fault>(answer).ok();
    let named = named.and_then(|fault| fault.code.rsplit('#').next().map(str::to_owned));
    let plain = |code: &String| {
        !code.is_empty() && code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    named.filter(plain).unwrap_or_else(|| format!("HTTP status {status}"))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn not_an_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer of KMS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_named_and_nothing_else_is_repeated() {
        let named = |body: &str| code(400, body.as_bytes());
        assert_eq!(named(r#"{"__type":"AccessDeniedException","message":"no"}"#), "AccessDeniedException");
        assert_eq!(named(r#"{"__type":"com.amazonaws#ExpiredTokenException"}"#), "ExpiredTokenException");
        assert_eq!(named(r#"{"__type":"a\nb"}"#), "HTTP status 400");
        assert_eq!(named("<html>"), "HTTP status 400");
    }
}
