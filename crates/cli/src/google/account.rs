//! The account that is signed in, as the profile keeps it: sealed under the device passphrase.

use halfkey_envelope::cbor;
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, Zeroizing};

use super::{
    GoogleClient,
    client::{ClientSecret, Endpoints},
};
use crate::error::{Error, Result};

const VERSION: u16 = 1;

/// Gets new access tokens until the user takes it back.
pub(super) struct RefreshToken(pub(super) Zeroizing<String>);

/// A Google account that the user signed in with.
pub struct Account {
    pub(super) client: GoogleClient,
    /// `sub` of the id token: the account's stable id.
    pub(super) id: String,
    /// What the user knows it by: its address, as far as Google tells it.
    pub(super) label: String,
    pub(super) refresh: RefreshToken,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(1)]
    version: u16,
    #[n(2)]
    client_id: String,
    #[n(3)]
    client_secret: Option<String>,
    #[n(4)]
    endpoints: Endpoints,
    #[n(5)]
    account: String,
    #[n(6)]
    label: String,
    #[n(7)]
    refresh_token: String,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.client_secret.zeroize();
        self.refresh_token.zeroize();
    }
}

impl Account {
    /// What the user knows the account by.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The OAuth client that it is signed in with.
    #[must_use]
    pub const fn client(&self) -> &GoogleClient {
        &self.client
    }

    /// The bytes to be sealed.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        cbor::to_secret_vec(&Record {
            version: VERSION,
            client_id: self.client.id.clone(),
            client_secret: self.client.secret.as_ref().map(|secret| secret.0.to_string()),
            endpoints: self.client.endpoints.clone(),
            account: self.id.clone(),
            label: self.label.clone(),
            refresh_token: self.refresh.0.to_string(),
        })
    }

    /// # Errors
    /// [`Error::Failed`] for what is no such record, or of a newer version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::Failed("the profile's Google account is damaged, or of a newer version".to_owned());
        let mut record: Record = cbor::from_slice(bytes).map_err(|_| damaged())?;
        if record.version != VERSION {
            return Err(damaged());
        }
        let take = |text: &mut String| Zeroizing::new(std::mem::take(text));
        let client = GoogleClient {
            id: std::mem::take(&mut record.client_id),
            secret: record.client_secret.as_mut().map(take).map(ClientSecret),
            endpoints: record.endpoints.clone(),
        };
        let refresh = RefreshToken(take(&mut record.refresh_token));
        let (id, label) = (std::mem::take(&mut record.account), std::mem::take(&mut record.label));
        Ok(Self { client, id, label, refresh })
    }
}

#[cfg(test)]
impl Account {
    /// What `tests/golden/google-account-v1.bin` holds.
    pub(crate) fn of_the_golden_file() -> Self {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let secret = Some(ClientSecret(text("GOCSPX-golden")));
        let id = "100000000001-golden.apps.googleusercontent.com".to_owned();
        let client = GoogleClient { id, secret, endpoints: Endpoints::default() };
        let (id, label) = ("108000000000000000001".to_owned(), "golden@example.com".to_owned());
        Self { client, id, label, refresh: RefreshToken(text("1//golden-refresh-token")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_comes_back_and_other_bytes_do_not() {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let client =
            GoogleClient { id: "1".to_owned(), secret: Some(ClientSecret(text("s"))), endpoints: Endpoints::default() };
        let (id, label) = ("sub".to_owned(), "a@example.com".to_owned());
        let account = Account { client, id, label, refresh: RefreshToken(text("1//r")) };
        let bytes = account.to_bytes();
        let again = Account::from_bytes(&bytes).unwrap();
        assert_eq!((again.id.as_str(), again.label(), again.refresh.0.as_str()), ("sub", "a@example.com", "1//r"));
        assert_eq!((again.client.id.as_str(), again.client.secret.unwrap().0.as_str()), ("1", "s"));
        assert_eq!(again.client.endpoints, Endpoints::default());
        assert!(Account::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        let mut newer = bytes.to_vec();
        newer[2] = 2;
        assert!(matches!(Account::from_bytes(&newer), Err(Error::Failed(_))));
    }
}
