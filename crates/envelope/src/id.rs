//! Identifiers: UUIDv7, 16 raw bytes in every hash and CBOR field, lower-case hyphenated in JSON (DECISIONS.md D1).

use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::entropy::{Entropy, random};

/// The text is not a lower-case hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a lower-case hyphenated UUID")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh UUIDv7 (RFC 9562) at `now_ms`, milliseconds since the Unix epoch.
            pub fn generate(entropy: &mut dyn Entropy, now_ms: u64) -> Self {
                let random = random::<10>(entropy);
                Self(*uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid().as_bytes())
            }

            /// From its 16 raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 raw bytes, as hashed.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = uuid::Uuid::try_parse(text).map_err(|_| InvalidId)?;
                let id = Self(*id.as_bytes());
                if id.to_string() == text { Ok(id) } else { Err(InvalidId) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("an id has 16 bytes"))
            }
        }
    )*};
}

ids! {
    /// One installation of Halfkey; made at its first start.
    DeploymentId;
    /// A tenant: the company that runs the app.
    CustodianId;
    /// One end user of a custodian.
    ClientId;
    /// One key pair on one curve.
    WalletId;
    /// One backup: one method, one file key, one envelope, one share pair per curve.
    BackupId;
    /// One share pair on one curve.
    PairId;
    /// One enrolled device of a client.
    DeviceId;
    /// One recovery (or eject) under the policy.
    RecoveryId;
    /// One drill of a backup.
    VerificationId;
    /// One multi-step ceremony.
    SessionId;
    /// One credential of a custodian or client.
    ApiKeyId;
    /// One address that a custodian wants its events sent to.
    WebhookId;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    #[test]
    fn text_is_strict_and_round_trips() {
        let id = WalletId::generate(&mut DangerSeededEntropy::new(1), 1_763_800_000_000);
        let text = id.to_string();
        assert_eq!(text.parse::<WalletId>(), Ok(id));
        assert_eq!(&text[14..15], "7", "version 7");
        for bad in [text.to_uppercase(), text.replace('-', ""), format!("{{{text}}}"), format!("{text} ")] {
            assert_eq!(bad.parse::<WalletId>(), Err(InvalidId), "{bad}");
        }
    }
}
