//! The forms of a payload on the wire: one flat, versioned shape for CBOR and JSON alike.

use halfkey_envelope::wallet::Curve;
use minicbor::bytes::ByteVec;
use serde::{Deserialize, Serialize};

use super::{MAX_PAYLOAD_BYTES, SigningError};
use crate::bytes::HexBytes;

/// What a wallet is asked to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PayloadForm", try_from = "PayloadForm")]
pub enum Payload {
    /// An unsigned Ethereum transaction: the exact preimage of its signing hash (legacy with EIP-155, EIP-2930,
    /// EIP-1559).
    EthTransaction(Vec<u8>),
    /// A message under EIP-191 (`personal_sign`).
    EthMessage(Vec<u8>),
    /// EIP-712 typed data, as JSON text.
    EthTypedData(String),
    /// One P2WPKH input of a PSBT of version 0 (BIP-174).
    BitcoinP2wpkh {
        /// The PSBT, binary.
        psbt: Vec<u8>,
        /// The input to sign, from 0.
        input: u32,
    },
    /// A Solana message, legacy or version 0.
    SolanaMessage(Vec<u8>),
    /// 32 bytes that nobody can read: only with the capability `danger_sign_digest`.
    Digest32 {
        /// The curve to sign on.
        curve: Curve,
        /// The bytes.
        digest: [u8; 32],
    },
}

impl Payload {
    /// The version of the forms that this one writes and reads.
    pub const VERSION: u8 = 1;

    /// The curve it is signed on.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        match self {
            Self::SolanaMessage(_) => Curve::Ed25519,
            Self::Digest32 { curve, .. } => *curve,
            _ => Curve::Secp256k1,
        }
    }

    /// The length of its bytes or text.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::EthTransaction(bytes) | Self::EthMessage(bytes) | Self::SolanaMessage(bytes) => bytes.len(),
            Self::EthTypedData(json) => json.len(),
            Self::BitcoinP2wpkh { psbt, .. } => psbt.len(),
            Self::Digest32 { .. } => 32,
        }
    }

    /// Its CBOR form.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        // Writing to a Vec cannot fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// From its CBOR form, in the one encoding that [`Payload::to_cbor`] writes.
    ///
    /// # Errors
    /// [`SigningError`] for everything else.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, SigningError> {
        if bytes.len() > MAX_PAYLOAD_BYTES + 64 {
            return Err(SigningError::TooLarge);
        }
        let malformed = SigningError::Malformed("the CBOR of a payload");
        let form: PayloadForm = minicbor::decode(bytes).map_err(|_| malformed)?;
        let payload = Self::try_from(form)?;
        if payload.to_cbor() == bytes { Ok(payload) } else { Err(malformed) }
    }
}

/// A [`Payload`] as it is written: the fields that its kind needs are there, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct PayloadForm {
    /// 1.
    #[n(0)]
    version: u8,
    #[n(1)]
    #[serde(rename = "type")]
    kind: Kind,
    /// The bytes, lower-case hex: of `ETH_TRANSACTION`, `ETH_MESSAGE`, `BITCOIN_P2WPKH` (the PSBT), `SOLANA_MESSAGE`,
    /// `DIGEST32`.
    #[n(2)]
    #[cbor(with = "optional_bytes")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    bytes: Option<HexBytes>,
    /// The text of `ETH_TYPED_DATA`: JSON.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<String>,
    /// The input of `BITCOIN_P2WPKH`, from 0.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<u32>,
    /// The curve of `DIGEST32`: `SECP256K1` or `ED25519`.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    curve: Option<Curve>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode, utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cbor(index_only)]
enum Kind {
    #[n(1)]
    EthTransaction,
    #[n(2)]
    EthMessage,
    #[n(3)]
    EthTypedData,
    #[n(4)]
    #[serde(rename = "BITCOIN_P2WPKH")]
    BitcoinP2wpkh,
    #[n(5)]
    SolanaMessage,
    #[n(6)]
    #[serde(rename = "DIGEST32")]
    Digest32,
}

/// `Option<HexBytes>` as an optional byte string.
mod optional_bytes {
    use super::{ByteVec, HexBytes};

    pub(super) fn encode<C, W: minicbor::encode::Write>(
        bytes: &Option<HexBytes>,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match bytes {
            Some(bytes) => e.bytes(&bytes.0)?.ok(),
            None => e.null()?.ok(),
        }
    }

    pub(super) fn decode<'b, C>(
        d: &mut minicbor::Decoder<'b>,
        context: &mut C,
    ) -> Result<Option<HexBytes>, minicbor::decode::Error> {
        let bytes: Option<ByteVec> = minicbor::Decode::decode(d, context)?;
        Ok(bytes.map(|bytes| HexBytes(bytes.into())))
    }
}

impl From<Payload> for PayloadForm {
    fn from(payload: Payload) -> Self {
        let empty = |kind| Self { version: Payload::VERSION, kind, bytes: None, json: None, input: None, curve: None };
        let bytes = |kind, bytes| Self { bytes: Some(HexBytes(bytes)), ..empty(kind) };
        match payload {
            Payload::EthTransaction(transaction) => bytes(Kind::EthTransaction, transaction),
            Payload::EthMessage(message) => bytes(Kind::EthMessage, message),
            Payload::EthTypedData(json) => Self { json: Some(json), ..empty(Kind::EthTypedData) },
            Payload::BitcoinP2wpkh { psbt, input } => Self { input: Some(input), ..bytes(Kind::BitcoinP2wpkh, psbt) },
            Payload::SolanaMessage(message) => bytes(Kind::SolanaMessage, message),
            Payload::Digest32 { curve, digest } => {
                Self { curve: Some(curve), ..bytes(Kind::Digest32, digest.to_vec()) }
            }
        }
    }
}

impl TryFrom<PayloadForm> for Payload {
    type Error = SigningError;

    fn try_from(form: PayloadForm) -> Result<Self, SigningError> {
        let malformed = SigningError::Malformed("the fields of a payload");
        if form.version != Self::VERSION {
            return Err(SigningError::UnknownVersion);
        }
        let bytes = form.bytes.map(|bytes| bytes.0);
        if bytes.as_ref().map_or(0, Vec::len).max(form.json.as_ref().map_or(0, String::len)) > MAX_PAYLOAD_BYTES {
            return Err(SigningError::TooLarge);
        }
        Ok(match (form.kind, bytes, form.json, form.input, form.curve) {
            (Kind::EthTransaction, Some(bytes), None, None, None) => Self::EthTransaction(bytes),
            (Kind::EthMessage, Some(bytes), None, None, None) => Self::EthMessage(bytes),
            (Kind::EthTypedData, None, Some(json), None, None) => Self::EthTypedData(json),
            (Kind::BitcoinP2wpkh, Some(psbt), None, Some(input), None) => Self::BitcoinP2wpkh { psbt, input },
            (Kind::SolanaMessage, Some(bytes), None, None, None) => Self::SolanaMessage(bytes),
            (Kind::Digest32, Some(bytes), None, None, Some(curve)) => {
                Self::Digest32 { curve, digest: bytes.try_into().map_err(|_| malformed)? }
            }
            _ => return Err(malformed),
        })
    }
}

impl<C> minicbor::Encode<C> for Payload {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        PayloadForm::from(self.clone()).encode(e, context)
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Payload {
    fn decode(d: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let form = PayloadForm::decode(d, context)?;
        Self::try_from(form).map_err(|_| minicbor::decode::Error::message("not a payload"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn one_of_each() -> [(Payload, &'static str, &'static str); 6] {
        [
            (
                Payload::EthTransaction(vec![2, 0xc0]),
                r#"{"version":1,"type":"ETH_TRANSACTION","bytes":"02c0"}"#,
                "a300010101024202c0",
            ),
            (
                Payload::EthMessage(vec![0x68]),
                r#"{"version":1,"type":"ETH_MESSAGE","bytes":"68"}"#,
                "a3000101020241 68",
            ),
            (
                Payload::EthTypedData("{}".into()),
                r#"{"version":1,"type":"ETH_TYPED_DATA","json":"{}"}"#,
                "a300010103036 27b7d",
            ),
            (
                Payload::BitcoinP2wpkh { psbt: vec![0x70], input: 3 },
                r#"{"version":1,"type":"BITCOIN_P2WPKH","bytes":"70","input":3}"#,
                "a400010104024170 0403",
            ),
            (
                Payload::SolanaMessage(vec![1]),
                r#"{"version":1,"type":"SOLANA_MESSAGE","bytes":"01"}"#,
                "a3000101050241 01",
            ),
            (
                Payload::Digest32 { curve: Curve::Ed25519, digest: [0xab; 32] },
                r#"{"version":1,"type":"DIGEST32","bytes":"abababababababababababababababababababababababababababababababab","curve":"ED25519"}"#,
                "a400010106025820 abababababababababababababababababababababababababababababababab 0502",
            ),
        ]
    }

    #[test]
    fn both_forms_are_fixed() {
        for (payload, json, cbor) in one_of_each() {
            let cbor = cbor.replace(' ', "");
            assert_eq!(serde_json::to_string(&payload).unwrap(), json);
            assert_eq!(serde_json::from_str::<Payload>(json).unwrap(), payload);
            assert_eq!(hex::encode(payload.to_cbor()), cbor);
            assert_eq!(Payload::from_cbor(&hex::decode(cbor).unwrap()).unwrap(), payload);
        }
    }

    #[test]
    fn other_cbor_is_refused() {
        let malformed = Err(SigningError::Malformed("the CBOR of a payload"));
        let fields = Err(SigningError::Malformed("the fields of a payload"));
        for (bad, expected) in [
            ("", &malformed),
            ("a3000101020241", &malformed),
            ("a300010102024168 00", &malformed),
            ("bf00010102024168ff", &malformed),
            ("a30001 1802 01024168", &malformed),
            ("a300 1801 0102 024168", &malformed),
            ("a301020001 024168", &malformed),
            ("a4000101020241680600", &malformed),
            ("a300010107024168", &malformed),
            ("a4000101020241680400", &fields),
            ("a200010102", &fields),
            ("a300020102024168", &Err(SigningError::UnknownVersion)),
            ("a400010106024168 0502", &fields),
        ] {
            assert_eq!(&Payload::from_cbor(&hex::decode(bad.replace(' ', "")).unwrap()), expected, "{bad}");
        }
    }

    #[test]
    fn other_json_is_refused() {
        for bad in [
            r#"{"version":2,"type":"ETH_MESSAGE","bytes":"68"}"#,
            r#"{"type":"ETH_MESSAGE","bytes":"68"}"#,
            r#"{"version":1,"type":"ETH_MESSAGE","bytes":"68","input":1}"#,
            r#"{"version":1,"type":"ETH_MESSAGE","bytes":"68","note":1}"#,
            r#"{"version":1,"type":"ETH_MESSAGE","bytes":"6A"}"#,
            r#"{"version":1,"type":"ETH_MESSAGE","bytes":"0x68"}"#,
            r#"{"version":1,"type":"ETH_MESSAGE","bytes":"68","bytes":"69"}"#,
            r#"{"version":1,"type":"DIGEST","bytes":"68"}"#,
            r#"{"version":1,"type":"DIGEST32","bytes":"68","curve":"ED25519"}"#,
        ] {
            assert!(serde_json::from_str::<Payload>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn oversize_is_refused() {
        let payload = Payload::EthMessage(vec![0; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(Payload::from_cbor(&payload.to_cbor()), Err(SigningError::TooLarge));
        assert!(serde_json::from_str::<Payload>(&serde_json::to_string(&payload).unwrap()).is_err());
        let largest = Payload::EthMessage(vec![0; MAX_PAYLOAD_BYTES]);
        assert_eq!(Payload::from_cbor(&largest.to_cbor()), Ok(largest));
    }
}
