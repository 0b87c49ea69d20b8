//! Whether an assertion is good: one rule book, two verifiers that share no code.
//!
//! The rules are fixed, and a stanza can only be stricter: exact type, challenge and origin; the relying party's hash;
//! user present and verified; not made inside another page; the passkey's backup eligibility as at its registration; a
//! signature by the credential's key. Both forms (s, n - s) of an ECDSA signature are good, as the standard has it.
//!
//! An assertion passes only if **every** verifier that knows its algorithm accepts it (`docs/adr/0020`).

mod own;
mod webauthn_rs;

use halfkey_envelope::passkey::{Algorithm, Assertion, Fault, Verifiable};

pub use own::Own;
pub use webauthn_rs::WebauthnRs;

/// What an assertion must show. All of it comes from an opened stanza.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// What was signed.
    pub challenge: &'a [u8; 32],
    /// The relying party.
    pub rp_id: &'a str,
    /// The allowed origins; an exact match of one of them is needed.
    pub origins: &'a [String],
    /// The credential with the assertion's id.
    pub credential: &'a Verifiable,
}

/// One way to verify an assertion by the whole rule book.
pub trait Verifier: Sync {
    /// Whether it can verify signatures of this kind.
    fn knows(&self, algorithm: Algorithm) -> bool;

    /// Accepts or says which rule is broken. The order in which rules are looked at is the verifier's own.
    fn verify(&self, expected: &Expected<'_>, assertion: &Assertion) -> Result<(), Fault>;
}

/// The verifiers of the keeper.
pub const VERIFIERS: [&dyn Verifier; 2] = [&Own, &WebauthnRs];

/// Accepts what every verifier accepts that knows the credential's algorithm, and nothing that none knows.
pub fn verify(expected: &Expected<'_>, assertion: &Assertion) -> Result<(), Fault> {
    let algorithm = expected.credential.key.algorithm();
    let mut asked = false;
    for verifier in VERIFIERS.iter().filter(|verifier| verifier.knows(algorithm)) {
        verifier.verify(expected, assertion)?;
        asked = true;
    }
    if asked { Ok(()) } else { Err(Fault::UnsupportedKey) }
}
