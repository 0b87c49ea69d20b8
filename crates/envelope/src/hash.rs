//! The one hash of all contexts and transcripts (DECISIONS.md D2).

use sha2::{Digest, Sha256};

/// `H(tag, parts…) = SHA-256(u8 len(tag) ‖ tag ‖ Σ(u32be len ‖ part))`.
///
/// The length prefixes make the encoding injective: no two different lists of parts give the same input.
/// Tags have the form `halfkey/<protocol>/<version>/<use>`.
///
/// # Panics
/// Never in practice: tags are literals of at most 255 bytes and no part reaches 4 GiB.
#[must_use]
pub fn h(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    assert!(tag.len() <= usize::from(u8::MAX), "a tag is a short literal");
    let mut hasher = Sha256::new();
    hasher.update([tag.len() as u8]);
    hasher.update(tag.as_bytes());
    for part in parts {
        assert!(u32::try_from(part.len()).is_ok(), "a hashed part is bounded long before 4 GiB");
        hasher.update((part.len() as u32).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Plain SHA-256, for digests of whole documents.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t03_the_encoding_is_injective() {
        let t = "halfkey/test/v1/h";
        assert_ne!(h(t, &[b"a", b"b"]), h(t, &[b"ab"]));
        assert_ne!(h(t, &[b"ab", b""]), h(t, &[b"a", b"b"]));
        assert_ne!(h(t, &[b"", b"ab"]), h(t, &[b"ab", b""]));
        assert_ne!(h(t, &[]), h(t, &[b""]));
        assert_ne!(h("halfkey/test/v1/h1", &[b"x"]), h("halfkey/test/v1/h", &[b"1x"]));
    }
}
