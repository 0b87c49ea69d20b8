//! The bodies of the fuzz targets, run on random and on damaged genuine input in every `./check`.

use proptest::prelude::*;

#[path = "../../../../fuzz/bodies/envelope.rs"]
mod bodies;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn cbor_header(bytes in damaged(bodies::genuine_header())) {
        bodies::cbor_header(&bytes);
    }

    #[test]
    fn record(bytes in damaged(bodies::genuine_record())) {
        bodies::record(&bytes);
    }

    #[test]
    fn contents(bytes in damaged(bodies::genuine_contents())) {
        bodies::contents(&bytes);
    }

    #[test]
    fn envelope_open(bytes in damaged(bodies::genuine_envelope())) {
        bodies::envelope_open(&bytes);
    }

    #[test]
    fn hpke_request(bytes in damaged(bodies::genuine_request())) {
        bodies::hpke_request(&bytes);
    }

    #[test]
    fn custodian(bytes in damaged(bodies::genuine_half())) {
        bodies::custodian(&bytes);
    }

    #[test]
    fn cloud_record(bytes in damaged(bodies::genuine_cloud_record())) {
        bodies::cloud_record(&bytes);
    }

    #[test]
    fn keeper_messages(bytes in damaged(bodies::genuine_keeper_request())) {
        bodies::keeper_messages(&bytes);
    }
}

/// Random bytes, or genuine ones with a few bytes replaced, removed or inserted.
pub fn damaged(genuine: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..4);
    let edited = edits.prop_map(move |edits| {
        let mut bytes = genuine.clone();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] ^= byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..2048), 4 => edited]
}

/// One input from which a fuzzer starts, as it is committed. `HALFKEY_BLESS=1` writes it.
pub fn seed(target: &str, bytes: &[u8]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    if std::env::var_os("HALFKEY_BLESS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("genuine"), bytes).unwrap();
    }
    let committed = std::fs::read(folder.join("genuine")).ok();
    assert_eq!(committed.as_deref(), Some(bytes), "{target}: HALFKEY_BLESS=1 writes the seeds anew");
}

#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    seed("cbor_header", &bodies::genuine_header());
    seed("record", &bodies::genuine_record());
    seed("contents", &bodies::genuine_contents());
    seed("envelope_open", &bodies::genuine_envelope());
    seed("hpke_request", &bodies::genuine_request());
    seed("custodian", &bodies::genuine_half());
    seed("cloud_record", &bodies::genuine_cloud_record());
    seed("keeper_messages", &bodies::genuine_keeper_request());
}
