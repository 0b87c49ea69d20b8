#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn get() -> Wish {
    let allow = vec![CredentialRef { id: vec![1; 16], transports: vec!["internal".into()] }];
    Wish::Get(PasskeyGet { rp_id: "localhost".into(), challenge: [2; 32], allow, prf: Some([3; 32]) })
}

fn create() -> Wish {
    Wish::Create(PasskeyCreate {
        rp_id: "localhost".into(),
        rp_name: "Example".into(),
        user_handle: [4; 32],
        user_name: "wallet".into(),
        challenge: [2; 32],
        exclude: vec![],
        prf: None,
    })
}

const GOT: &str = r#"{"credentialId":"AQ","authenticatorData":"Ag","clientDataJson":"Aw","signature":"BA","userHandle":null,"prf":"BQ"}"#;

fn got(pending: Pending, sealed: &str) -> Result<PasskeyGot, PasskeyError> {
    match pending.open(sealed)? {
        Answer::Got(got) => Ok(got),
        Answer::Created(_) => panic!("an answer to another wish"),
    }
}

#[test]
fn the_request_holds_what_the_page_needs_and_no_secret() {
    let pending = Pending::new(&get(), "my wallet", 4711).unwrap();
    let request: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&pending.fragment).unwrap()).unwrap();
    let mut names: Vec<&str> = request.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["challenge", "credentials", "key", "op", "port", "prf", "rpId", "state", "v", "wallet"]);
    assert_eq!(request["challenge"], base64url(&[2; 32]));
    assert_eq!(request["prf"], base64url(&[3; 32]));
    assert_eq!(request["credentials"], json!([{ "id": base64url(&[1; 16]), "transports": ["internal"] }]));
    let other = Pending::new(&get(), "my wallet", 4711).unwrap();
    assert_ne!(pending.state, other.state);
    let code = pending.code();
    assert!(code.len() == 7 && code.chars().filter(char::is_ascii_digit).count() == 6, "{code}");
}

#[test]
fn an_answer_opens_for_its_own_request_alone() {
    let pending = Pending::new(&get(), "w", 1).unwrap();
    let (_, sealed) = seal_as_page(&pending.fragment, GOT);
    let answer = got(pending, &sealed).unwrap();
    let pieces = [&answer.credential_id, &answer.authenticator_data, &answer.client_data_json, &answer.signature];
    assert_eq!(pieces, [&vec![1], &vec![2], &vec![3], &vec![4]]);
    assert_eq!((answer.user_handle, answer.prf.unwrap().expose()), (None, &[5][..]));

    let (one, other) = (Pending::new(&get(), "w", 1).unwrap(), Pending::new(&get(), "w", 1).unwrap());
    let (_, sealed) = seal_as_page(&one.fragment, GOT);
    assert_eq!(got(other, &sealed).err(), Some(PasskeyError::Failed), "sealed for another key");
}

#[test]
fn every_changed_bit_is_refused() {
    let pending = Pending::new(&get(), "w", 1).unwrap();
    let (_, sealed) = seal_as_page(&pending.fragment, GOT);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&sealed).unwrap();
    for position in [0, 1, 64, 65, bytes.len() - 1] {
        let pending = Pending::new(&get(), "w", 1).unwrap();
        let (_, sealed) = seal_as_page(&pending.fragment, GOT);
        let mut changed = BASE64_URL_SAFE_NO_PAD.decode(sealed).unwrap();
        changed[position] ^= 1;
        assert_eq!(got(pending, &base64url(&changed)).err(), Some(PasskeyError::Failed), "byte {position}");
    }
    for bad in ["", "AA", "!", &"A".repeat(86), &"A".repeat(200)] {
        let pending = Pending::new(&get(), "w", 1).unwrap();
        assert_eq!(got(pending, bad).err(), Some(PasskeyError::Failed), "{bad}");
    }
}

#[test]
fn a_changed_request_gives_no_answer() {
    // The page saw another request than the one that waits: same key, another challenge.
    let pending = Pending::new(&get(), "w", 1).unwrap();
    let mut request: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&pending.fragment).unwrap()).unwrap();
    request["challenge"] = json!(base64url(&[9; 32]));
    let (_, sealed) = seal_as_page(&base64url(request.to_string().as_bytes()), GOT);
    assert_eq!(got(pending, &sealed).err(), Some(PasskeyError::Failed));
}

#[test]
fn refusals_of_the_page_have_their_own_errors() {
    for (reason, error) in [
        ("CANCELLED", PasskeyError::Cancelled),
        ("NOT_AVAILABLE", PasskeyError::NotAvailable),
        ("NO_PASSKEY", PasskeyError::NoPasskey),
        ("ALREADY_REGISTERED", PasskeyError::AlreadyRegistered),
        ("PRF_UNSUPPORTED", PasskeyError::PrfUnsupported),
        ("SOMETHING", PasskeyError::Failed),
    ] {
        let pending = Pending::new(&get(), "w", 1).unwrap();
        let (_, sealed) = seal_as_page(&pending.fragment, &json!({ "error": reason }).to_string());
        assert_eq!(got(pending, &sealed).err(), Some(error), "{reason}");
    }
    let (creation, answer) = (Pending::new(&create(), "w", 1).unwrap(), GOT);
    let (_, sealed) = seal_as_page(&creation.fragment, answer);
    assert!(matches!(creation.open(&sealed), Err(PasskeyError::Failed)), "an assertion where a passkey was wished for");
}
