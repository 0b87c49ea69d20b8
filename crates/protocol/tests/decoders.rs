//! The bodies of the fuzz targets, run on random and on damaged genuine input in every `./check`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../../fuzz/bodies/protocol.rs"]
mod bodies;

use proptest::prelude::*;

/// Random bytes behind a genuine first one, or a genuine input with a few bytes replaced, removed or inserted.
fn damaged(genuine: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..4);
    let edited = (prop::sample::select(genuine.clone()), edits).prop_map(|(mut bytes, edits)| {
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] ^= byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    });
    let random = prop::collection::vec(any::<u8>(), 0..300);
    let random = (prop::sample::select(genuine), random).prop_map(|(bytes, random)| [&bytes[..1], &random].concat());
    prop_oneof![1 => random, 4 => edited]
}

macro_rules! bodies {
    ($($cases:literal: $body:ident($genuine:expr);)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig::with_cases($cases))]

            #[test]
            fn $body(bytes in damaged($genuine)) {
                bodies::$body(&bytes);
            }
        }
    )*};
}

// A damaged message of a key generation may cost a whole one.
bodies! {
    96: generation(bodies::genuine_generation());
    64: refresh(bodies::genuine_refresh());
    192: signature(bodies::genuine_signature());
    768: redistribution(bodies::genuine_redistribution());
    64: kept(bodies::genuine_kept());
    256: share(bodies::genuine_share());
    768: values(bodies::genuine_values());
    256: descriptor(bodies::genuine_descriptor());
    64: hashed_parts(vec![vec![1, 2, 3]]);
}

/// Where the fuzzers start, as it is committed; `HALFKEY_BLESS=1` writes it. Of messages, which are different in each
/// process, the seeds are those that change nothing in a genuine one.
#[test]
fn the_seeds_of_the_fuzzers_are_current() {
    let unchanged =
        |inputs: Vec<Vec<u8>>| -> Vec<Vec<u8>> { inputs.into_iter().filter(|input| input[0] >> 1 & 3 == 3).collect() };
    let all = [
        ("generation", unchanged(bodies::genuine_generation())),
        ("refresh", unchanged(bodies::genuine_refresh())),
        ("signature", unchanged(bodies::genuine_signature())),
        ("redistribution", unchanged(bodies::genuine_redistribution())),
        ("kept", unchanged(bodies::genuine_kept())),
        ("share", bodies::genuine_share()[..2].to_vec()),
        ("values", bodies::genuine_values()),
        ("descriptor", bodies::genuine_descriptor()),
        ("hashed_parts", vec![vec![1, 2, 3]]),
    ];
    for (target, inputs) in all {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let folder = seeds.join(format!("protocol_{target}"));
        for (number, bytes) in inputs.into_iter().enumerate() {
            let path = folder.join(format!("genuine-{number}"));
            if std::env::var_os("HALFKEY_BLESS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &bytes).unwrap();
            }
            let committed = std::fs::read(&path).ok();
            assert_eq!(committed, Some(bytes), "{target} {number}: HALFKEY_BLESS=1 writes the seeds anew");
        }
    }
}

/// What is damaged above is accepted as it was, but for answers to a nonce that only the true device had.
#[test]
fn genuine_inputs_are_accepted() {
    type Body = fn(&[u8]);
    let all: [(Body, Vec<Vec<u8>>); 5] = [
        (bodies::generation, bodies::genuine_generation()),
        (bodies::refresh, bodies::genuine_refresh()),
        (bodies::signature, bodies::genuine_signature()),
        (bodies::redistribution, bodies::genuine_redistribution()),
        (bodies::descriptor, bodies::genuine_descriptor()),
    ];
    let before = bodies::accepted();
    // Whole messages, one in four: the other depths come to the same.
    let whole: Vec<_> =
        all.iter().flat_map(|(body, inputs)| inputs.iter().step_by(4).map(move |i| (body, i))).collect();
    whole.iter().for_each(|(body, bytes)| body(bytes));
    assert!(bodies::accepted() - before >= whole.len() / 2, "{} of {}", bodies::accepted() - before, whole.len());
}
