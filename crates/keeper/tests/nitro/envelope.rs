//! What KMS seals to an enclave, written as AWS writes it: BER, indefinite lengths, the content in two pieces.

use aws_lc_rs::{
    cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey},
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use halfkey_envelope::entropy::{Entropy as _, OsEntropy};
use halfkey_evidence::synthetic::der;

pub const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3];
pub const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
pub const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7];
pub const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a];
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];

/// What stands where in it.
#[derive(Clone)]
pub struct Plan {
    pub kind: &'static [u8],
    pub inner: &'static [u8],
    pub transport: &'static [u8],
    pub cipher: &'static [u8],
    pub recipients: usize,
    pub iv: usize,
}

impl Default for Plan {
    fn default() -> Self {
        let (kind, inner, transport, cipher) = (ENVELOPED_DATA, DATA, RSAES_OAEP, AES_256_CBC);
        Self { kind, inner, transport, cipher, recipients: 1, iv: 16 }
    }
}

/// `plaintext`, for the holder of this RSA key: DER of a SubjectPublicKeyInfo.
pub fn seal(plan: &Plan, to: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut key = [0; 32];
    OsEntropy.fill(&mut key);
    let to = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(to).unwrap()).unwrap();
    let mut sealed_key = vec![0; to.ciphertext_size()];
    to.encrypt(&OAEP_SHA256_MGF1SHA256, &key, &mut sealed_key, None).unwrap();
    let mut content = plaintext.to_vec();
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &key).unwrap()).unwrap();
    let mut iv = [0; 16];
    OsEntropy.fill(&mut iv);
    cipher.less_safe_encrypt(&mut content, EncryptionContext::Iv128(iv.into())).unwrap();
    write(plan, &sealed_key, &iv[..plan.iv], &content)
}

fn write(plan: &Plan, key: &[u8], iv: &[u8], content: &[u8]) -> Vec<u8> {
    let sha256 = der::sequence(&[der::oid(SHA_256), vec![5, 0]]);
    let mgf1 = der::sequence(&[der::oid(MGF1), sha256.clone()]);
    let oaep = der::sequence(&[der::tlv(0xa0, &sha256), der::tlv(0xa1, &mgf1)]);
    let recipient = der::sequence(&[
        der::tlv(2, &[2]),
        der::tlv(0x80, &[9; 32]),
        der::sequence(&[der::oid(plan.transport), oaep]),
        der::tlv(4, key),
    ]);
    let (first, second) = content.split_at(16);
    let content = open_ended(
        0x30,
        &[
            der::oid(plan.inner),
            der::sequence(&[der::oid(plan.cipher), der::tlv(4, iv)]),
            open_ended(0xa0, &[der::tlv(4, first), der::tlv(4, second)]),
        ],
    );
    let recipients = der::tlv(0x31, &recipient.repeat(plan.recipients));
    let enveloped = open_ended(0x30, &[der::tlv(2, &[2]), recipients, content]);
    open_ended(0x30, &[der::oid(plan.kind), open_ended(0xa0, &[enveloped])])
}

/// An element of indefinite length.
fn open_ended(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}
