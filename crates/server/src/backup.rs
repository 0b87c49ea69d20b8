//! The second half of a backup: the envelope, the challenge, and the commit that alone makes it `completed`.
//!
//! The commit believes nothing that it has not verified itself just now: the device's acknowledgement for the half that
//! it read back from the envelope, under a challenge of this server and over the digest of the envelope that is stored;
//! and the custodian's for the half read back from the store (DECISIONS.md D31).

use halfkey_api::{
    bytes::{Base64, Hex, HexBytes},
    error::ErrorId,
    message::{BackupPairPoints, BackupReceipt, CipherText, CommitBackup},
};
use halfkey_envelope::{
    client_share::{self, CurveHeader, Header},
    entropy::{OsEntropy, random},
    hash::sha256,
    id::{BackupId, ClientId},
    wallet::Method,
};
use halfkey_protocol::{
    Role, Signs,
    lifecycle::{PairState, may_recover},
    reshare::{self, Claim},
};

use crate::{
    app::Inner,
    ceremony::backup::Recorded,
    challenge::{self, Purpose},
    cloud, custodian,
    fault::Fault,
    http::auth::AsClient,
    status,
    store::{self, Backup, Device},
};

/// Refuses unless this device has that backup pending.
pub(crate) async fn must_be_pending_of(
    app: &Inner,
    caller: &AsClient,
    device: &Device,
    id: BackupId,
) -> Result<Backup, Fault> {
    app.store.must_live(caller.client).await?;
    let backup = app.store.backup(caller.client, id).await?;
    let ours = backup.pair.begun_by == device.id;
    let live = backup.pair.state == PairState::Pending && caller.now_ms < backup.pair.deadline_ms;
    match (ours, live) {
        (true, true) => Ok(backup),
        (true, false) => Err(Fault::new(ErrorId::ShareState, "the backup is not pending any more")),
        (false, _) => Err(Fault::not_found()),
    }
}

/// The envelope's clear header must say what this server's own records say; otherwise the device would seal for a
/// context in which nobody will ever open it.
pub(crate) async fn check_header(
    app: &Inner,
    client: ClientId,
    id: BackupId,
    envelope: &[u8],
) -> Result<Method, Fault> {
    let backup = app.store.backup(client, id).await?;
    let mut curves = Vec::new();
    for share in &backup.shares {
        let missing = Fault::new(ErrorId::ShareState, "the ceremony of this backup has not ended");
        let public = share.public.clone().ok_or(missing)?;
        curves.push(CurveHeader {
            curve: share.curve,
            wallet: share.wallet,
            public_key: public.public_key,
            chain_code: public.chain_code,
            client_point: public.client_point,
            custodian_point: public.peer_point,
        });
    }
    let (generation, method) = (backup.pair.generation, backup.method);
    let expected = Header::new(app.deployment, client, id, generation, method.clone(), curves);
    let expected = expected.map_err(|error| Fault::internal(&error))?;
    match client_share::peek_header(envelope) {
        Ok(header) if header == expected => Ok(method),
        Ok(_) => Err(Fault::new(ErrorId::EnvelopeMismatch, "the envelope is sealed for another context")),
        Err(client_share::Error::UnknownVersion(_) | client_share::Error::UnknownSuite(_)) => {
            Err(Fault::new(ErrorId::UnsupportedVersion, "another version of the envelope"))
        }
        Err(_) => Err(Fault::field("cipherText", "not an envelope")),
    }
}

/// The envelope as stored, the public points, and a challenge for the proofs made from it.
pub(crate) async fn cipher_text(
    app: &Inner,
    caller: &AsClient,
    device_key: &[u8; 32],
    id: BackupId,
    purpose: Purpose,
) -> Result<CipherText, Fault> {
    let backup = app.store.backup(caller.client, id).await?;
    // A recovery or a drill may be open for longer than its backup counts.
    if backup.pair.state != PairState::Pending {
        may_recover(&backup.pair).map_err(store::Error::from)?;
    }
    let stored = app.store.envelope_as_stored(caller.client, id).await?;
    if !stored.is_intact() {
        tracing::error!(client = %caller.client, backup = %id, "a stored envelope is damaged: the backup cannot be used");
    }
    let pairs = backup.shares.iter().filter_map(|share| {
        let public = share.public.clone()?;
        Some(BackupPairPoints {
            wallet_id: share.wallet,
            curve: share.curve,
            pair_id: share.id,
            public_key: HexBytes(public.public_key),
            chain_code: Hex(public.chain_code),
            client_point: HexBytes(public.client_point),
            custodian_point: HexBytes(public.peer_point),
            generation: backup.pair.generation,
        })
    });
    Ok(CipherText {
        backup_id: id,
        cipher_text: Base64(stored.envelope),
        digest: Hex(stored.digest),
        sealed_record: stored.record.map(Base64),
        pairs: pairs.collect(),
        challenge: Hex(challenge::give(app, caller.client, device_key, purpose, caller.now_ms).await?),
    })
}

/// Commits a backup. Repeating the commit of a committed one gives the same receipt again.
pub(crate) async fn commit(
    app: &Inner,
    caller: &AsClient,
    device: &Device,
    id: BackupId,
    commit: CommitBackup,
) -> Result<BackupReceipt, Fault> {
    let (client, now_ms) = (caller.client, caller.now_ms);
    let backup = app.store.backup(client, id).await?;
    if backup.pair.begun_by != device.id {
        return Err(Fault::not_found());
    }
    let digest = commit.envelope_digest.0;
    if backup.pair.state != PairState::Active {
        must_be_pending_of(app, caller, device, id).await?;
        verify(app, caller, device, &backup, &commit).await?;
    }
    let statement = status::statement(&commit);
    let committed = app.store.commit_backup(client, device.id, id, digest, &statement, now_ms).await?;
    if committed.method.needs(&Method::Password) {
        app.open_password_door(id).await;
    }
    tracing::info!(%client, backup = %id, "backup committed");
    let mut receipt = receipt(app, client, id, digest, committed);
    // It is committed: what cannot be told now is asked for another time.
    receipt.protection = status::backups(app, client, now_ms).await.ok().map(|status| status.protection);
    Ok(receipt)
}

async fn verify(
    app: &Inner,
    caller: &AsClient,
    device: &Device,
    backup: &Backup,
    commit: &CommitBackup,
) -> Result<(), Fault> {
    let client = caller.client;
    // The challenge is spent by the attempt, whatever comes of it.
    let purpose = Purpose::Commit(backup.id);
    challenge::take(app, client, &device.public_key, purpose, &commit.challenge.0, caller.now_ms).await?;
    let stored = app.store.envelope(client, backup.id).await?;
    if sha256(&stored.envelope) != commit.envelope_digest.0 {
        return Err(Fault::new(ErrorId::EnvelopeMismatch, "another envelope is stored"));
    }
    if commit.acks.len() != backup.shares.len() {
        return Err(Fault::field("acks", "one for each curve"));
    }
    let own_nonce = *random::<32>(&mut OsEntropy);
    let recorded = Recorded::load(app, caller, device, backup).await?;
    let custodian_acks = custodian::acks(app, client, backup.id, &recorded, &own_nonce, caller.now_ms).await?;
    for ((recorded, ack), custodian_ack) in recorded.iter().zip(&commit.acks).zip(&custodian_acks) {
        if ack.curve != recorded.reshare.ceremony.curve {
            return Err(Fault::field("acks", "in the order of the curves"));
        }
        let Recorded { reshare, transcript, .. } = recorded;
        let claim = Claim { role: Role::Client, envelope: Some(&commit.envelope_digest.0), nonce: &commit.challenge.0 };
        reshare::verify_ack(reshare, transcript, &claim, &ack.proof.0)
            .map_err(|_| Fault::new(ErrorId::ProofInvalid, "an acknowledgement does not verify"))?;
        let claim = Claim { role: Role::Peer, envelope: None, nonce: &own_nonce };
        reshare::verify_ack(reshare, transcript, &claim, custodian_ack).map_err(|error| Fault::internal(&error))?;
    }
    if commit.pin && !backup.method.needs(&Method::Password) {
        return Err(Fault::field("pin", "of a backup with a password only"));
    }
    if backup.method.needs(&Method::Password) {
        app.password_door_was_opened(backup.id).await?;
    }
    cloud::check_commit(app, client, backup, commit).await
}

fn receipt(
    app: &Inner,
    client_id: ClientId,
    backup_id: BackupId,
    digest: [u8; 32],
    committed: crate::store::CommittedBackup,
) -> BackupReceipt {
    let mut receipt = BackupReceipt {
        client_id,
        backup_id,
        method: committed.method,
        envelope_digest: Hex(digest),
        share_ids: committed.pairs,
        committed_at: committed.committed_ms,
        signature: Hex([0; 64]),
        protection: None,
    };
    receipt.signature = Hex(app.keys.server.identity.sign_digest(&receipt.digest()));
    receipt
}
