//! What KMS answers to an enclave: CMS EnvelopedData (RFC 5652, section 6) for one recipient, whose RSA key stands in the
//! attestation document.
//!
//! AWS writes it in BER with indefinite lengths and the content in pieces. Key transport is RSAES-OAEP with SHA-256
//! (RFC 4055), the content AES-256-CBC with PKCS #7's padding. CBC authenticates nothing: the answer is KMS's because
//! TLS says so, and what is sealed under the data key in it is authenticated once more.

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey},
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use bcder::{
    ConstOid, Mode, OctetString, Oid, Tag,
    decode::{Constructed, DecodeError, SliceSource, Source},
};
use zeroize::Zeroizing;

/// id-envelopedData.
const ENVELOPED_DATA: ConstOid = Oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3]);
/// id-data.
const DATA: ConstOid = Oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1]);
/// id-RSAES-OAEP.
const RSAES_OAEP: ConstOid = Oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7]);
/// id-aes256-CBC.
const AES_256_CBC: ConstOid = Oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a]);

/// Why an answer does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Not EnvelopedData for one recipient with the algorithms that were asked for.
    #[error("not EnvelopedData as KMS writes it")]
    Malformed,
    /// Sealed to another key, or changed.
    #[error("not sealed to this enclave's key, or changed")]
    WrongKey,
    /// No 32 bytes.
    #[error("not a data key of 32 bytes")]
    OtherLength,
}

/// An RSA key that was made in this process and never leaves it.
pub struct Recipient {
    key: OaepPrivateDecryptingKey,
    public: Vec<u8>,
}

/// The system gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no RSA key can be made")]
pub struct NoKey;

impl Recipient {
    /// A fresh key of 2,048 bits.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn generate() -> Result<Self, NoKey> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| NoKey)?;
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| NoKey)?;
        Ok(Self { public: public.as_ref().to_vec(), key: OaepPrivateDecryptingKey::new(key).map_err(|_| NoKey)? })
    }

    /// The public key: DER of a SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// The data key in KMS's answer.
    ///
    /// # Errors
    /// [`CmsError`].
    pub fn open(&self, answer: &[u8]) -> Result<Zeroizing<[u8; 32]>, CmsError> {
        let sealed = Enveloped::parse(answer).ok_or(CmsError::Malformed)?;
        let mut key = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let key = self.key.decrypt(&OAEP_SHA256_MGF1SHA256, &sealed.key, &mut key, None);
        let key =
            UnboundCipherKey::new(&AES_256, key.map_err(|_| CmsError::WrongKey)?).map_err(|_| CmsError::WrongKey)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| CmsError::WrongKey)?;
        let mut content = Zeroizing::new(sealed.content);
        let iv = DecryptionContext::Iv128(sealed.iv.into());
        let opened = key.decrypt(&mut content, iv).map_err(|_| CmsError::WrongKey)?;
        let data_key: &[u8; 32] = (&*opened).try_into().map_err(|_| CmsError::OtherLength)?;
        Ok(Zeroizing::new(*data_key))
    }
}

/// What of EnvelopedData opens it.
struct Enveloped {
    key: Vec<u8>,
    iv: [u8; 16],
    content: Vec<u8>,
}

impl Enveloped {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut source = SliceSource::new(bytes);
        let parsed = Constructed::decode(&mut source, Mode::Ber, |outer| {
            outer.take_sequence(|info| {
                ENVELOPED_DATA.skip_if(info)?;
                info.take_constructed_if(Tag::CTX_0, |content| content.take_sequence(Self::take))
            })
        });
        parsed.ok().filter(|_| source.is_empty())
    }

    fn take<S: Source>(data: &mut Constructed<'_, S>) -> Result<Self, DecodeError<S::Error>> {
        data.take_u8()?;
        let key = data.take_set(|recipients| recipients.take_sequence(encrypted_key))?;
        let (iv, content) = data.take_sequence(|content| {
            DATA.skip_if(content)?;
            let iv = content.take_sequence(|algorithm| {
                AES_256_CBC.skip_if(algorithm)?;
                OctetString::take_from(algorithm)
            })?;
            let iv: [u8; 16] = (*iv.to_bytes()).try_into().map_err(|_| content.content_err("an IV of 16 bytes"))?;
            Ok((iv, content.take_value_if(Tag::CTX_0, OctetString::from_content)?))
        })?;
        Ok(Self { key, iv, content: content.to_bytes().to_vec() })
    }
}

/// The one KeyTransRecipientInfo. Which key it names does not matter: there is one.
fn encrypted_key<S: Source>(info: &mut Constructed<'_, S>) -> Result<Vec<u8>, DecodeError<S::Error>> {
    info.take_u8()?;
    info.skip_one()?;
    info.take_sequence(|algorithm| {
        RSAES_OAEP.skip_if(algorithm)?;
        algorithm.skip_all()
    })?;
    Ok(OctetString::take_from(info)?.to_bytes().to_vec())
}
