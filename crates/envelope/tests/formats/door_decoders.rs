//! The fuzz bodies of the password door, run on random and on damaged genuine input in every `./check`.

use proptest::prelude::*;

use crate::decoders::{damaged, seed};

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
}

#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    seed("door_requests", &bodies::genuine_request());
    seed("door_bodies", &bodies::genuine_context());
    seed("door_sealed", &bodies::genuine_message());
    seed("frames", &[0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3]);
    seed("typed", &bodies::genuine_code());
    seed("coded_record", &bodies::genuine_coded_record());
}
