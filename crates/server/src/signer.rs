//! S, the signing server: its halves of signing pairs, opened for one use and dropped.

use halfkey_envelope::{
    entropy::OsEntropy,
    id::{ClientId, DeviceId, PairId},
};
use halfkey_protocol::{PairPublic, Role, SigningParty};

use crate::{
    app::Inner,
    fault::Fault,
    store::{HalfUse, NewHalf, SharePublic, StoredHalf},
};

/// A server's half with its record, checked against each other.
pub(crate) struct Opened {
    pub(crate) stored: StoredHalf,
    pub(crate) party: SigningParty,
}

/// Opens the server's half of one of this device's pairs for `usage`.
pub(crate) async fn open(
    app: &Inner,
    now_ms: u64,
    client: ClientId,
    device: DeviceId,
    pair: PairId,
    usage: HalfUse,
) -> Result<Opened, Fault> {
    let stored = app.store.signing_half(client, device, pair, usage).await?;
    let plaintext = app.vault.open(client, &stored, now_ms).await?;
    let party = SigningParty::from_bytes(&plaintext).map_err(|error| Fault::internal(&error))?;
    let fits = party.role() == Role::Peer && *party.public() == public(&stored)?;
    if fits { Ok(Opened { stored, party }) } else { Err(Fault::internal(&"a half that does not fit its record")) }
}

/// The public side of a stored half, from this server's own record.
pub(crate) fn public(stored: &StoredHalf) -> Result<PairPublic, Fault> {
    record(stored.share.curve, &stored.public)
}

/// The public side of a pair, from this server's own record.
pub(crate) fn record(curve: halfkey_envelope::wallet::Curve, public: &SharePublic) -> Result<PairPublic, Fault> {
    let SharePublic { public_key, chain_code, client_point, peer_point } = public;
    PairPublic::from_bytes(curve, public_key, *chain_code, client_point, peer_point)
        .map_err(|error| Fault::internal(&error))
}

/// The stored form of a pair's public side.
pub(crate) fn share_public(pair: &PairPublic) -> SharePublic {
    SharePublic {
        public_key: pair.public_key().to_bytes(),
        chain_code: *pair.chain_code(),
        client_point: pair.client_point().to_bytes(),
        peer_point: pair.peer_point().to_bytes(),
    }
}

/// Stores new halves of pending pairs, all or none, and opens every copy again: what is answered for is what is stored.
pub(crate) async fn store(
    app: &Inner,
    client: ClientId,
    device: DeviceId,
    parties: Vec<(PairId, SigningParty)>,
    now_ms: u64,
) -> Result<(), Fault> {
    let mut halves = Vec::with_capacity(parties.len());
    for (pair, party) in &parties {
        let plaintext = party.to_bytes().map_err(|error| Fault::internal(&error))?;
        let sealed = app.vault.seal(client, *pair, &plaintext, &mut OsEntropy, now_ms).await?;
        halves.push(NewHalf { pair: *pair, public: share_public(party.public()), sealed });
    }
    app.store.store_signing_halves(client, device, &halves, now_ms).await?;
    for (pair, party) in &parties {
        let copy = open(app, now_ms, client, device, *pair, HalfUse::ReadBack).await?;
        if !copy.party.share().ct_eq(party.share()) {
            return Err(Fault::internal(&"a half that was read back is another one"));
        }
    }
    Ok(())
}
