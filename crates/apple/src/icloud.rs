//! Synchronizable generic passwords in the data protection keychain: account = name, service = the app's own constant.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use apple_native_keyring_store::protected::Store;
use async_trait::async_trait;
use halfkey_client::host::{SyncedError, SyncedSecretStore};
use keyring_core::{Entry, Error, api::CredentialStoreApi};

/// `errSecMissingEntitlement` (Security framework, `SecBase.h`).
const MISSING_ENTITLEMENT: i32 = -34018;
/// `errSecInteractionNotAllowed`: the device is locked.
const INTERACTION_NOT_ALLOWED: i32 = -25308;

/// Items that iCloud carries to the user's other devices, if iCloud Keychain is on.
///
/// They are `kSecAttrSynchronizable` and accessible when unlocked, which is the keychain's own rule where none is given: a
/// stricter one (this device only, biometrics) would keep an item from being synchronised, and the store refuses it. The
/// calls block for as long as the keychain takes.
pub struct ICloudKeychain {
    service: String,
    access_group: String,
    store: Arc<Store>,
}

impl ICloudKeychain {
    /// The items of `service`, a constant of the app's, in one access group: with the team's prefix, as in the entitlement
    /// `keychain-access-groups`. All apps that are to open the backups share it.
    ///
    /// # Errors
    /// [`SyncedError::Unavailable`] when either is empty: to the keychain that would mean all of them.
    pub fn new(service: &str, access_group: &str) -> Result<Self, SyncedError> {
        if service.is_empty() || access_group.is_empty() {
            return Err(SyncedError::Unavailable);
        }
        let config = HashMap::from([("cloud-sync", "true"), ("access-group", access_group)]);
        let store = Store::new_with_configuration(&config).map_err(|error| advice(&error))?;
        Ok(Self { service: service.to_owned(), access_group: access_group.to_owned(), store })
    }

    fn entry(&self, name: &str) -> Result<Entry, SyncedError> {
        if name.is_empty() {
            return Err(SyncedError::Unavailable);
        }
        self.store.build(&self.service, name, None).map_err(|error| advice(&error))
    }

    /// The value of that name. In one access group there is at most one.
    fn value(&self, name: &str) -> Result<Option<Vec<u8>>, SyncedError> {
        match self.entry(name)?.get_secret() {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(advice(&error)),
        }
    }
}

#[async_trait]
impl SyncedSecretStore for ICloudKeychain {
    /// Another value under the same name is [`SyncedError::Unavailable`]: the keychain would write over it.
    async fn put(&self, name: &str, value: &[u8]) -> Result<(), SyncedError> {
        match self.value(name)? {
            Some(there) if there == value => Ok(()),
            Some(_) => Err(SyncedError::Unavailable),
            None => self.entry(name)?.set_secret(value).map_err(|error| advice(&error)),
        }
    }

    async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, SyncedError> {
        Ok(self.value(name)?.into_iter().collect())
    }

    async fn delete(&self, name: &str) -> Result<(), SyncedError> {
        match self.entry(name)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(advice(&error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, SyncedError> {
        // A search does not know the store's own group.
        let ours = HashMap::from([("service", self.service.as_str()), ("access-group", self.access_group.as_str())]);
        let found = self.store.search(&ours).map_err(|error| advice(&error))?;
        let names = found.iter().filter_map(|entry| entry.get_specifiers().map(|(_, name)| name));
        Ok(names.filter(|name| name.starts_with(prefix)).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

fn advice(error: &Error) -> SyncedError {
    let (Error::PlatformFailure(cause) | Error::NoStorageAccess(cause)) = error else {
        return SyncedError::Unavailable;
    };
    match cause.downcast_ref::<security_framework::base::Error>().map(|error| error.code()) {
        Some(MISSING_ENTITLEMENT) => SyncedError::MissingEntitlement,
        Some(INTERACTION_NOT_ALLOWED) => SyncedError::Locked,
        _ => SyncedError::Unavailable,
    }
}
