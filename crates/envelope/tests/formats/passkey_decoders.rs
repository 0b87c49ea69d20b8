//! The fuzz bodies of the passkey door, run on random and on damaged genuine input in every `./check`.

use proptest::prelude::*;

use crate::decoders::{damaged, seed};

#[path = "../../../../fuzz/bodies/passkey.rs"]
mod bodies;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn stanza(bytes in damaged(bodies::genuine_stanza())) {
        bodies::stanza(&bytes);
    }

    #[test]
    fn keeper_part(bytes in damaged(bodies::genuine_keeper_part())) {
        bodies::keeper_part(&bytes);
    }

    #[test]
    fn release_body(bytes in damaged(bodies::genuine_body())) {
        bodies::release_body(&bytes);
    }

    #[test]
    fn part(bytes in damaged(bodies::genuine_part())) {
        bodies::part(&bytes);
    }

    #[test]
    fn client_data(bytes in damaged(bodies::genuine_client_data())) {
        bodies::client_data(&bytes);
    }

    #[test]
    fn authenticator_data(bytes in damaged(bodies::genuine_authenticator_data())) {
        bodies::authenticator_data(&bytes);
    }

    #[test]
    fn registration(bytes in damaged(bodies::genuine_attestation_object())) {
        bodies::registration(&bytes);
    }

    #[test]
    fn cose_key(bytes in damaged(bodies::genuine_cose_key())) {
        bodies::cose_key(&bytes);
    }
}

/// The inputs from which the damaged ones come are good ones.
#[test]
fn the_genuine_inputs_are_accepted() {
    use halfkey_envelope::{
        all_of::Part,
        passkey::{AuthenticatorData, ClientData, CredentialKey, Stanza},
    };
    assert!(Stanza::parse(&bodies::genuine_stanza()).is_ok());
    assert!(Part::from_bytes(&bodies::genuine_part()).is_ok());
    assert!(ClientData::parse(&bodies::genuine_client_data()).is_ok());
    assert!(AuthenticatorData::parse(&bodies::genuine_authenticator_data()).is_ok());
    assert!(CredentialKey::from_cose(&bodies::genuine_cose_key()).is_ok());
    assert!(bodies::keeper_part_opens(&bodies::genuine_keeper_part()));
    assert!(bodies::body_opens(&bodies::genuine_body()));
    assert!(bodies::registers(&bodies::genuine_attestation_object()));
}

#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    seed("passkey_stanza", &bodies::genuine_stanza());
    seed("passkey_keeper_part", &bodies::genuine_keeper_part());
    seed("passkey_release_body", &bodies::genuine_body());
    seed("passkey_part", &bodies::genuine_part());
    seed("passkey_client_data", &bodies::genuine_client_data());
    seed("passkey_authenticator_data", &bodies::genuine_authenticator_data());
    seed("passkey_registration", &bodies::genuine_attestation_object());
    seed("passkey_cose_key", &bodies::genuine_cose_key());
}
