//! The fuzz bodies of the password door, run on random and on damaged genuine input in every `./check`.

use proptest::prelude::*;

use halfkey_envelope::{
    exit_kit::{self, CustodianFile, ExitCode, UserFile},
    wallet::Curve,
};

use crate::{
    decoders::{damaged, seed},
    golden::golden,
};

#[path = "../../../../fuzz/bodies/door.rs"]
mod bodies;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn door_requests(bytes in damaged(bodies::genuine_request())) {
        bodies::door_requests(&bytes);
    }

    #[test]
    fn door_bodies(bytes in damaged(bodies::genuine_context())) {
        bodies::door_bodies(&bytes);
    }

    #[test]
    fn door_sealed(bytes in damaged(bodies::genuine_message())) {
        bodies::door_sealed(&bytes);
    }

    #[test]
    fn frames(bytes in damaged(vec![0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3])) {
        bodies::frames(&bytes);
    }

    #[test]
    fn typed(bytes in damaged(bodies::genuine_code())) {
        bodies::typed(&bytes);
    }

    #[test]
    fn coded_record(bytes in damaged(bodies::genuine_coded_record())) {
        bodies::coded_record(&bytes);
    }

    #[test]
    fn exit_record(bytes in damaged(bodies::genuine_exit_record())) {
        bodies::exit_record(&bytes);
    }

    #[test]
    fn exit_user_file(bytes in damaged(bodies::genuine_exit_user_file())) {
        bodies::exit_user_file(&bytes);
    }

    #[test]
    fn exit_custodian_file(bytes in damaged(bodies::genuine_exit_custodian_file())) {
        bodies::exit_custodian_file(&bytes);
    }
}

#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    seed("door_requests", &bodies::genuine_request());
    seed("door_bodies", &bodies::genuine_context());
    seed("door_sealed", &bodies::genuine_message());
    seed("frames", &[0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3]);
    seed("typed", &bodies::genuine_code());
    seed("coded_record", &bodies::genuine_coded_record());
    seed("exit_record", &bodies::genuine_exit_record());
    seed("exit_user_file", &bodies::genuine_exit_user_file());
    seed("exit_custodian_file", &bodies::genuine_exit_custodian_file());
}

/// Files of the first release, which must open for ever.
#[test]
fn golden_files_of_an_exit_kit_open() {
    let user = UserFile::from_bytes(&golden("exit-kit-user-v1.bin")).unwrap();
    let code = ExitCode::parse("1TG1-S4QX-2RDP-ATGT-P0BK-HQJD-64K").unwrap();
    assert_eq!(exit_kit::open_record(&code, &user.record).unwrap().as_slice(), b"record");
    assert_eq!(user.envelope, [1; 80]);
    let custodian = CustodianFile::from_bytes(&golden("exit-kit-custodian-v1.bin")).unwrap();
    for curve in Curve::ALL {
        assert_eq!(*custodian.open(curve, &bodies::export_key()).unwrap(), [curve.code(); 32]);
    }
}
