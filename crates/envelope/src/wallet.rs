//! Curves and backup methods, as they are named on every wire.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::method_set::MethodSet;

/// The curve of a wallet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Curve {
    /// secp256k1, ECDSA: Ethereum and Bitcoin.
    #[n(1)]
    #[serde(rename = "SECP256K1")]
    Secp256k1,
    /// Ed25519, EdDSA (RFC 8032): Solana.
    #[n(2)]
    #[serde(rename = "ED25519")]
    Ed25519,
}

impl Curve {
    /// Every curve that `create_wallet` makes, in the order of all messages.
    pub const ALL: [Self; 2] = [Self::Secp256k1, Self::Ed25519];

    /// The one byte that stands for the curve in hashes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Secp256k1 => 1,
            Self::Ed25519 => 2,
        }
    }

    /// The name in JSON and SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secp256k1 => "SECP256K1",
            Self::Ed25519 => "ED25519",
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Curve {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|curve| curve.as_str() == text).ok_or(UnknownName)
    }
}

/// The name is not one this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

/// What holds the key to a client backup share: the *instance* of a method, and so the key of a backup slot
/// (DECISIONS.md D21). Text on every wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A password or PIN, at the guess-limited door.
    Password,
    /// A passkey, released by a keeper.
    Passkey,
    /// A file in the user's Google Drive.
    GoogleDrive,
    /// An item in the user's iCloud Keychain.
    ICloud,
    /// A code that the user wrote down.
    RecoveryCode,
    /// An exit kit.
    Exit,
    /// A method of the application's own, by its name: 1 to 32 of `A-Z`, `0-9` and `_`.
    Custom(String),
    /// Several methods, all of which have to open it.
    AllOf(MethodSet),
}

impl Method {
    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string()
    }

    /// What has to open together: of a set its members, of a single method itself.
    #[must_use]
    pub fn members(&self) -> &[Self] {
        match self {
            Self::AllOf(set) => set.members(),
            _ => core::slice::from_ref(self),
        }
    }

    /// Whether it is, or needs, this one.
    #[must_use]
    pub fn needs(&self, member: &Self) -> bool {
        self.members().contains(member)
    }

    /// Whether its record lies in a store that the server does not reach, sealed under the client's pepper.
    #[must_use]
    pub const fn is_in_a_cloud(&self) -> bool {
        matches!(self, Self::GoogleDrive | Self::ICloud | Self::Custom(_))
    }

    /// Whether its record lies at the server, beside the envelope.
    #[must_use]
    pub const fn lies_beside(&self) -> bool {
        matches!(self, Self::Passkey | Self::RecoveryCode)
    }

    /// A method of the application's own.
    ///
    /// # Errors
    /// [`UnknownName`] unless the name is 1 to 32 of `A-Z`, `0-9` and `_`.
    pub fn custom(name: &str) -> Result<Self, UnknownName> {
        let valid = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let good = (1..=32).contains(&name.len()) && name.chars().all(valid);
        if good { Ok(Self::Custom(name.to_owned())) } else { Err(UnknownName) }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password => f.write_str("PASSWORD"),
            Self::Passkey => f.write_str("PASSKEY"),
            Self::GoogleDrive => f.write_str("GDRIVE"),
            Self::ICloud => f.write_str("ICLOUD"),
            Self::RecoveryCode => f.write_str("RECOVERY_CODE"),
            Self::Exit => f.write_str("EXIT"),
            Self::Custom(name) => write!(f, "CUSTOM:{name}"),
            Self::AllOf(set) => set.fmt(f),
        }
    }
}

impl FromStr for Method {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Ok(match text {
            "PASSWORD" => Self::Password,
            "PASSKEY" => Self::Passkey,
            "GDRIVE" => Self::GoogleDrive,
            "ICLOUD" => Self::ICloud,
            "RECOVERY_CODE" => Self::RecoveryCode,
            "EXIT" => Self::Exit,
            _ if text.starts_with("ALL_OF") => Self::AllOf(text.parse()?),
            _ => Self::custom(text.strip_prefix("CUSTOM:").ok_or(UnknownName)?)?,
        })
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<C> minicbor::Encode<C> for Method {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Method {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|_| minicbor::decode::Error::message("unknown method"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_are_strict() {
        for name in ["PASSWORD", "PASSKEY", "GDRIVE", "ICLOUD", "RECOVERY_CODE", "EXIT", "CUSTOM:YUBI_1"] {
            assert_eq!(name.parse::<Method>().map(|method| method.to_string()), Ok(name.to_owned()));
        }
        for bad in ["", "password", "CUSTOM:", "CUSTOM:a", "CUSTOM:A B", "PASSWORD "] {
            assert_eq!(bad.parse::<Method>(), Err(UnknownName), "{bad}");
        }
    }
}
