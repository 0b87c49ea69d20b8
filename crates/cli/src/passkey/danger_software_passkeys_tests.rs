#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;

const ORIGIN: &str = "http://localhost:8787";

fn create(prf: Option<[u8; 32]>, exclude: Vec<CredentialRef>) -> PasskeyCreate {
    PasskeyCreate {
        rp_id: "localhost".into(),
        rp_name: "Example".into(),
        user_handle: [4; 32],
        user_name: "wallet".into(),
        challenge: [2; 32],
        exclude,
        prf,
    }
}

fn get(id: &[u8], prf: Option<[u8; 32]>) -> PasskeyGet {
    let allow = vec![CredentialRef { id: id.to_vec(), transports: vec![] }];
    PasskeyGet { rp_id: "localhost".into(), challenge: [7; 32], allow, prf }
}

fn open(folder: &Path) -> DangerSoftwarePasskeys {
    DangerSoftwarePasskeys::open(folder, ORIGIN, false, true).unwrap()
}

#[tokio::test]
async fn a_passkey_outlives_the_process_and_its_prf_is_always_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let created = open(folder.path()).create(create(Some([1; 32]), vec![])).await.unwrap();
    assert!(created.prf_enabled);
    let data: Value = serde_json::from_slice(&created.client_data_json).unwrap();
    assert_eq!((&data["type"], &data["origin"]), (&json!("webauthn.create"), &json!(ORIGIN)));
    assert_eq!(data["challenge"], text(&[2; 32]));

    let again = open(folder.path());
    let got = again.get(get(&created.credential_id, Some([1; 32]))).await.unwrap();
    assert_eq!(got.credential_id, created.credential_id);
    assert_eq!(got.prf.as_ref().unwrap().expose().len(), 32);
    assert_eq!(got.prf, created.prf);
    let other = again.get(get(&created.credential_id, Some([9; 32]))).await.unwrap();
    assert_ne!(other.prf, created.prf);
    // User present and verified; backup eligible and backed up.
    assert_eq!(got.authenticator_data[32] & 0b1_1101, 0b1_1101);
    let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn refusals_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let passkeys = open(folder.path());
    assert_eq!(passkeys.get(get(&[1; 16], None)).await.err(), Some(PasskeyError::NoPasskey));
    let created = passkeys.create(create(None, vec![])).await.unwrap();
    let known = vec![CredentialRef { id: created.credential_id, transports: vec![] }];
    for user_handle in [[4; 32], [5; 32]] {
        let twice = passkeys.create(PasskeyCreate { user_handle, ..create(None, known.clone()) }).await.err();
        assert_eq!(twice, Some(PasskeyError::AlreadyRegistered));
    }
    let foreign = PasskeyCreate { rp_id: "example.com".into(), ..create(None, vec![]) };
    assert_eq!(passkeys.create(foreign).await.err(), Some(PasskeyError::NotAvailable));
}

#[test]
fn in_earnest_it_must_be_asked_for_by_name() {
    assert!(matches!(refuse_unless_asked(true, false), Err(Error::Usage(_))));
    assert!(refuse_unless_asked(true, true).is_ok());
    assert!(refuse_unless_asked(false, false).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let refused = DangerSoftwarePasskeys::open(folder.path(), ORIGIN, true, false);
    assert!(matches!(refused, Err(Error::Usage(_))), "a deployment in production");
}
