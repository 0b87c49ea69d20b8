//! The passkeys of one backup: what the device's profile keeps of them, and what lies with the record inside a stanza,
//! so that a fresh backup after a recovery can be sealed for the same passkeys again.

use halfkey_envelope::{
    cbor,
    id::BackupId,
    passkey::{Credential, CredentialKey, Flag, Mode},
};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::host::CredentialRef;

const VERSION: u16 = 1;

/// One passkey; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Passkey {
    /// The credential's id.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) id: Vec<u8>,
    /// Its public key.
    #[n(2)]
    pub(crate) key: CredentialKey,
    /// The BE flag: never changes.
    #[n(3)]
    pub(crate) backup_eligible: Flag,
    /// The BS flag when it was last seen: without it the passkey is on one device only.
    #[n(4)]
    pub(crate) synced: Flag,
    #[n(5)]
    pub(crate) transports: Vec<String>,
    /// The name of the device that made it, for people.
    #[n(6)]
    pub(crate) name: String,
    /// When it was made, in milliseconds.
    #[n(7)]
    pub(crate) created_at: u64,
}

impl Passkey {
    pub(crate) fn credential(&self) -> Credential {
        Credential {
            id: self.id.clone(),
            key: self.key.clone(),
            backup_eligible: self.backup_eligible.into(),
            transports: self.transports.clone(),
        }
    }

    pub(crate) fn reference(&self) -> CredentialRef {
        CredentialRef { id: self.id.clone(), transports: self.transports.clone() }
    }
}

/// The passkeys that open one backup, and how.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PasskeySet {
    #[n(1)]
    pub(crate) backup: BackupId,
    #[n(2)]
    pub(crate) mode: Mode,
    #[n(3)]
    pub(crate) rp_id: String,
    #[n(4)]
    pub(crate) passkeys: Vec<Passkey>,
}

impl PasskeySet {
    /// Whether no passkey of it would survive the loss of its device.
    pub(crate) fn is_device_bound(&self) -> bool {
        !self.passkeys.iter().any(|passkey| bool::from(passkey.synced))
    }

    /// Notes what an authenticator said of the passkey that it just used.
    pub(crate) fn saw(&mut self, id: &[u8], synced: bool) {
        for passkey in self.passkeys.iter_mut().filter(|passkey| passkey.id == id) {
            passkey.synced = synced.into();
        }
    }
}

/// What a stanza holds: the record, and the passkeys that it is sealed for.
#[derive(Encode, Decode)]
#[cbor(map)]
struct InsideWire<'a> {
    #[n(1)]
    version: u16,
    #[cbor(b(2), with = "minicbor::bytes")]
    record: &'a [u8],
    #[n(3)]
    set: PasskeySet,
}

/// Why the contents of a stanza cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    NewerVersion,
    Malformed,
}

pub(crate) fn to_inside(record: &[u8], set: &PasskeySet) -> Zeroizing<Vec<u8>> {
    cbor::to_secret_vec(&InsideWire { version: VERSION, record, set: set.clone() })
}

pub(crate) fn from_inside(bytes: &[u8]) -> Result<(Zeroizing<Vec<u8>>, PasskeySet), Unusable> {
    if cbor::version(bytes).map_err(|_| Unusable::Malformed)? != VERSION {
        return Err(Unusable::NewerVersion);
    }
    let wire: InsideWire<'_> = cbor::from_slice(bytes).map_err(|_| Unusable::Malformed)?;
    Ok((Zeroizing::new(wire.record.to_vec()), wire.set))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every field has a value of its own.
    pub(crate) fn sample() -> PasskeySet {
        let passkey = |fill: u8, key| Passkey {
            id: vec![fill; 16],
            key,
            backup_eligible: Flag::Yes,
            synced: (fill == 2).into(),
            transports: vec!["hybrid".to_owned()],
            name: format!("phone {fill}"),
            created_at: u64::from(fill),
        };
        PasskeySet {
            backup: BackupId::from_bytes([9; 16]),
            mode: Mode::KeeperAndPrf,
            rp_id: "wallet.example".to_owned(),
            passkeys: vec![
                passkey(1, CredentialKey::EdDsa { x: [3; 32] }),
                passkey(2, CredentialKey::Es256 { x: [4; 32], y: [5; 32] }),
            ],
        }
    }

    #[test]
    fn what_a_stanza_of_the_first_release_holds_opens_for_ever() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        let bytes = std::fs::read(golden.join("stanza-inside-v1.bin")).unwrap();
        let manifest = std::fs::read_to_string(golden.join("MANIFEST.sha256")).unwrap();
        let line = format!("{}  stanza-inside-v1.bin", hex::encode(halfkey_envelope::hash::sha256(&bytes)));
        assert!(manifest.lines().any(|have| have == line), "not the file that the manifest lists");
        let (record, set) = from_inside(&bytes).unwrap();
        assert_eq!((&record[..], set), (&b"a record"[..], sample()));
        assert_eq!(*to_inside(b"a record", &sample()), bytes);
    }

    #[test]
    fn what_a_stanza_holds_comes_back_and_nothing_else_is_taken() {
        let inside = to_inside(b"a record", &sample());
        let (record, set) = from_inside(&inside).unwrap();
        assert_eq!((&record[..], set), (&b"a record"[..], sample()));
        let mut newer = inside.to_vec();
        assert_eq!(newer[2], 1, "the version is the first value");
        newer[2] = 2;
        assert_eq!(from_inside(&newer).err(), Some(Unusable::NewerVersion));
        let trailing = [&inside[..], &[0]].concat();
        for bad in [&b""[..], b"a record", &inside[..inside.len() - 1], &trailing] {
            assert_eq!(from_inside(bad).err(), Some(Unusable::Malformed));
        }
    }

    #[test]
    fn a_set_is_device_bound_until_one_passkey_is_synchronised() {
        let mut set = sample();
        assert!(!set.is_device_bound());
        set.saw(&[2; 16], false);
        assert!(set.is_device_bound());
        set.saw(&[7; 16], true);
        assert!(set.is_device_bound(), "another passkey's flag");
        set.saw(&[1; 16], true);
        assert!(!set.is_device_bound());
    }
}
