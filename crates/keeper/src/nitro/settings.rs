//! What is written into the measured image: which KMS keys guard the root, and where the parent offers its streams.

use std::{fmt, str::FromStr};

use halfkey_envelope::id::DeploymentId;
use serde::Deserialize;

use super::{NitroError, Result, parent::Address};

const MOST_KEYS: usize = 8;

/// The settings of a keeper in an enclave. They lie in the image, so that its measurements cover them: a host that wants
/// another KMS key needs another image, which neither KMS nor an app accepts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// The deployment whose root this is.
    pub deployment: DeploymentId,
    /// Which root of the deployment, from 1 on: a new one is a new number.
    pub generation: u32,
    /// Where the parent says its AWS credentials, as JSON, to whoever connects.
    pub credentials: Address,
    /// Where the parent gives back the sealings that it stores, to whoever connects.
    pub sealings: Address,
    /// Where the parent takes new sealings, once.
    pub new_sealings: Address,
    /// The KMS keys, each of which opens the root alone.
    pub kms: Vec<KmsKey>,
}

/// One KMS key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KmsKey {
    /// Its name.
    pub arn: KeyArn,
    /// Where the parent relays bytes to KMS in the key's region.
    pub via: Address,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// [`NitroError::Settings`] for anything that is not understood, for no key, and for one key twice, also as a replica in
    /// another region: that is no second sealing.
    pub fn from_json(text: &str) -> Result<Self> {
        let settings: Self = serde_json::from_str(text).map_err(|error| NitroError::Settings(error.to_string()))?;
        let keys = &settings.kms;
        let twice =
            keys.iter().enumerate().any(|(at, key)| keys[..at].iter().any(|other| other.arn.id() == key.arn.id()));
        if keys.is_empty() || keys.len() > MOST_KEYS || twice || settings.generation == 0 {
            return Err(NitroError::Settings("1 to 8 different KMS keys, and a generation from 1 on".to_owned()));
        }
        Ok(settings)
    }
}

/// The name of a KMS key: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyArn {
    text: String,
    region: String,
}

impl KeyArn {
    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region that it lies in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The name of KMS in that region, which its certificate must be for.
    #[must_use]
    pub fn host(&self) -> String {
        format!("kms.{}.amazonaws.com", self.region)
    }

    fn id(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(_, id)| id)
    }
}

/// Not the name of a KMS key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not arn:aws:kms:REGION:ACCOUNT:key/ID")]
pub struct InvalidArn;

impl FromStr for KeyArn {
    type Err = InvalidArn;

    /// An alias is refused: whoever may change it could name another key.
    fn from_str(text: &str) -> std::result::Result<Self, InvalidArn> {
        let rest = text.strip_prefix("arn:aws:kms:").ok_or(InvalidArn)?;
        let [region, account, key] = rest.split(':').collect::<Vec<_>>().try_into().map_err(|_| InvalidArn)?;
        let id = key.strip_prefix("key/").ok_or(InvalidArn)?;
        let region_is = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = !region.is_empty()
            && region.bytes().all(region_is)
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if good { Ok(Self { text: text.to_owned(), region: region.to_owned() }) } else { Err(InvalidArn) }
    }
}

impl TryFrom<String> for KeyArn {
    type Error = InvalidArn;

    fn try_from(text: String) -> std::result::Result<Self, InvalidArn> {
        text.parse()
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn json(keys: &[&str]) -> String {
        let keys: Vec<_> = keys.iter().map(|arn| format!(r#"{{"arn":"{arn}","via":"vsock:3:8000"}}"#)).collect();
        format!(
            r#"{{"deployment":"01010101-0101-0101-0101-010101010101","generation":1,"credentials":"vsock:3:8001",
            "sealings":"vsock:3:8002","newSealings":"vsock:3:8003","kms":[{}]}}"#,
            keys.join(",")
        )
    }

    #[test]
    fn names_of_keys_are_read_strictly() {
        let arn: KeyArn = ARN.parse().unwrap();
        assert_eq!((arn.region(), arn.host().as_str()), ("eu-central-1", "kms.eu-central-1.amazonaws.com"));
        let refused = [
            "",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:alias/keeper",
            "arn:aws:kms:eu.evil.example/:111122223333:key/1234",
            "arn:aws:kms::111122223333:key/1234",
            "arn:aws:kms:eu-central-1:1111:key/1234",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/1234:more",
            "arn:aws-cn:kms:cn-north-1:111122223333:key/1234",
        ];
        for text in refused {
            assert_eq!(text.parse::<KeyArn>(), Err(InvalidArn), "{text}");
        }
    }

    #[test]
    fn settings_are_read_strictly() {
        let other = ARN.replace("1234abcd", "5678abcd");
        assert_eq!(Settings::from_json(&json(&[ARN, &other])).unwrap().kms.len(), 2);
        assert!(Settings::from_json(&json(&[])).is_err(), "no key");
        assert!(Settings::from_json(&json(&[ARN, ARN])).is_err(), "a key twice");
        let replica = ARN.replace("eu-central-1", "eu-west-1");
        assert!(Settings::from_json(&json(&[ARN, &replica])).is_err(), "a replica of the same key");
        assert!(Settings::from_json(&json(&[ARN]).replace(":1,", ":0,")).is_err(), "generation 0");
        assert!(Settings::from_json(&json(&[ARN]).replace(":1,", r#":1,"more":1,"#)).is_err(), "an unknown field");
    }
}
