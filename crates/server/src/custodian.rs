//! K, the custodian of managed backups: its own keys, its halves of backup pairs, and nothing that a signature needs.
//! A half is opened for one use and never cached (METHODS.md F).

use halfkey_api::error::ErrorId;
use halfkey_envelope::{
    cbor,
    entropy::OsEntropy,
    id::{BackupId, ClientId, DeviceId, PairId},
    wallet::Curve,
};
use halfkey_protocol::{
    CustodianBackupShare, Half, PairPublic, Role,
    reshare::{self, Claim, Reshare, Transcript},
};
use minicbor::{Decode, Encode, bytes::ByteArray};
use zeroize::Zeroize;

use crate::{
    app::Inner,
    ceremony::backup::Recorded,
    fault::Fault,
    signer,
    store::{HalfUse, NewHalf, StoredHalf},
};

const VERSION: u8 = 1;

/// A custodian's half as it is sealed: with the session that made it, so that both are stored or neither.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    half: ByteArray<32>,
    /// Of the `reshare` that made it; the acknowledgements are bound to it.
    #[n(2)]
    sid: ByteArray<32>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.half.zeroize();
    }
}

/// An opened half with its record, checked against each other.
pub(crate) struct Opened {
    pub(crate) curve: Curve,
    pub(crate) pair: PairId,
    pub(crate) generation: u64,
    pub(crate) half: CustodianBackupShare,
    pub(crate) transcript: Transcript,
}

/// Opens the custodian's halves of a backup for `usage`, in the order of the curves.
pub(crate) async fn open(
    app: &Inner,
    client: ClientId,
    backup: BackupId,
    usage: HalfUse,
    now_ms: u64,
) -> Result<Vec<Opened>, Fault> {
    let mut opened: Vec<Opened> = Vec::new();
    for stored in app.store.custodian_halves(client, backup, usage).await? {
        opened.extend(open_one(app, client, &stored, now_ms).await?);
    }
    let without = |curve: &Curve| opened.iter().all(|half| half.curve != *curve);
    let broken: Vec<_> = Curve::ALL.into_iter().filter(without).collect();
    if !broken.is_empty() {
        tracing::error!(%client, %backup, ?broken, "a custodian's half does not open: the backup cannot be used");
        let fault = Fault::new(ErrorId::CustodianShareBroken, "the custodian's half of this backup does not open");
        return Err(fault.of_curves(broken));
    }
    let in_order = opened.iter().map(|half| half.curve).eq(Curve::ALL);
    if in_order { Ok(opened) } else { Err(Fault::internal(&"a backup with two halves on one curve")) }
}

/// `None`: what is stored is not the half of its record, and no later attempt will find it there. A key service that does
/// not answer is a [`Fault`]: that says nothing about the half.
async fn open_one(app: &Inner, client: ClientId, stored: &StoredHalf, now_ms: u64) -> Result<Option<Opened>, Fault> {
    let plaintext = match app.vault.open(client, stored, now_ms).await {
        Ok(plaintext) => plaintext,
        Err(error) if error.is_final() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let public: PairPublic = signer::public(stored)?;
    let Ok(inner) = cbor::from_slice::<Stored>(&plaintext) else { return Ok(None) };
    let half = CustodianBackupShare::from_bytes(stored.share.curve, &inner.half);
    let half = half.ok().filter(|half| inner.version == VERSION && half.point() == public.peer_point());
    let (curve, pair, generation) = (stored.share.curve, stored.share.id, stored.generation);
    Ok(half.map(|half| Opened {
        curve,
        pair,
        generation,
        half,
        transcript: Transcript::from_record(*inner.sid, public),
    }))
}

/// A half that the custodian has just received, on one curve.
pub(crate) struct Received {
    pub(crate) pair: PairId,
    pub(crate) half: CustodianBackupShare,
    pub(crate) transcript: Transcript,
}

/// Stores the halves of every curve, all or none.
pub(crate) async fn store(
    app: &Inner,
    client: ClientId,
    device: DeviceId,
    backup: BackupId,
    received: &[Received],
    now_ms: u64,
) -> Result<(), Fault> {
    let mut halves = Vec::with_capacity(received.len());
    for Received { pair, half, transcript } in received {
        let inner = Stored { version: VERSION, half: (*half.to_bytes()).into(), sid: (*transcript.sid()).into() };
        let plaintext = cbor::to_secret_vec(&inner);
        let sealed = app.vault.seal(client, *pair, &plaintext, &mut OsEntropy, now_ms).await?;
        halves.push(NewHalf { pair: *pair, public: signer::share_public(transcript.pair()), sealed });
    }
    Ok(app.store.store_custodian_halves(client, device, backup, &halves, now_ms).await?)
}

/// The custodian's acknowledgements under the verifier's nonce, each made from the copy read back from the store.
pub(crate) async fn acks(
    app: &Inner,
    client: ClientId,
    backup: BackupId,
    recorded: &[Recorded],
    nonce: &[u8; 32],
    now_ms: u64,
) -> Result<Vec<Vec<u8>>, Fault> {
    let opened = open(app, client, backup, HalfUse::ReadBack, now_ms).await?;
    let identity = &app.keys.custodian.identity;
    let ack = |(opened, recorded): (&Opened, &Recorded)| {
        let reshare: &Reshare = &recorded.reshare;
        let claim = Claim { role: Role::Peer, envelope: None, nonce };
        reshare::ack(reshare, &recorded.transcript, &claim, identity, &opened.half, &mut OsEntropy)
    };
    opened.iter().zip(recorded).map(ack).collect::<Result<_, _>>().map_err(|error| Fault::internal(&error))
}
