//! The passkey door (METHODS.md C): a part goes to the device that shows an assertion over its own one-time key.

use halfkey_envelope::{
    entropy::Entropy,
    hpke,
    keeper::{KeyId, Refusal},
    passkey::{self, Stanza, challenge},
};

use crate::{
    keys::Keys,
    verify::{Expected, verify},
};

/// The sealed answer to a release: a pure function of the stanza, the request and the keys. `entropy` gives the answer
/// its salt and nothing else.
///
/// Context, relying party, origins and credential keys come from the opened stanza only. `key_id` is the number of the
/// key that the request is sealed to; the stanza names its own, which may be older.
///
/// # Errors
/// One [`Refusal`] for each rule; nothing is released then.
pub fn release(
    keys: &Keys,
    key_id: KeyId,
    stanza: &[u8],
    sealed: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, Refusal> {
    let enc = hpke::encapsulation(sealed).map_err(|_| Refusal::BadRequest)?;
    let opened = keys.with(key_id, |secret| passkey::open_request(secret, key_id, sealed))?;
    let (request, answer) = opened.map_err(|_| Refusal::BadRequest)?;

    let parsed = Stanza::parse(stanza).map_err(|_| Refusal::BadStanza)?;
    let stanza_key = parsed.header().key_id.ok_or(Refusal::BadStanza)?;
    let opened = keys.with(stanza_key, |secret| parsed.open_keeper_part(secret))?;
    let inside = opened.map_err(|_| Refusal::BadStanza)?;

    if request.context != inside.context {
        return Err(Refusal::OtherContext);
    }
    let asserted = &request.assertion.credential_id;
    let credential = inside.credentials.iter().find(|credential| credential.id == *asserted);
    let expected = Expected {
        challenge: &challenge(request.op, &enc, stanza, &inside.context),
        rp_id: &inside.rp_id,
        origins: &inside.origins,
        credential: credential.ok_or(Refusal::UnknownCredential)?,
    };
    verify(&expected, &request.assertion)?;
    Ok(answer.seal(&inside.part, entropy))
}
