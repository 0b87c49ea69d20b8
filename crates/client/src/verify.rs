//! `verify_backup`: the drill of METHODS.md H. Nothing is spent or changed but `verifiedAt`.

use halfkey_api::{
    bytes::Hex,
    context::{verification_client, verification_custodian},
    message::{BeginVerification, CipherText, DoorContext, ProveVerification, VerificationBegun, VerificationProven},
    route::{self, path},
};
use halfkey_envelope::{entropy::random, wallet::Curve};
use halfkey_protocol::proof::{self, Purpose, Statement};

use crate::{
    call::Call,
    command::{RecoveryMethod, Verified},
    device,
    error::{Error, Result},
    opening::{self, Holder, Opened},
    port::Port,
    progress::Stage,
};

/// L1 the method has the right key, L2 the opened halves fit their points, L3 the custodian proves its own, L4 the points
/// add up (checked while opening).
pub(crate) async fn verify_backup(port: &Port, method: RecoveryMethod) -> Result<Verified> {
    port.setting.platform.check(&method.method())?;
    port.begin(4);
    let (verified, _) = drill(port, &method).await?;
    port.all_done().await?;
    Ok(verified)
}

/// The drill, and what opened the backup.
pub(crate) async fn drill(port: &Port, method: &RecoveryMethod) -> Result<(Verified, Holder)> {
    port.stage(Stage::ReadingShare, None).await?;
    let device = device::current(port).await?;
    let begin = BeginVerification { method: method.method() };
    let call = Call::new(port, "POST", route::VERIFICATIONS.to_owned()).signed(&device.key);
    let begun: VerificationBegun = call.json(&begin)?.fetch().await?;
    let id = begun.verification_id;
    let read = path(route::VERIFICATION_CIPHER_TEXT, &[&id.to_string()]);
    let stored: CipherText = Call::get(port, &read).signed(&device.key).fetch().await?;
    if stored.backup_id != begun.backup_id {
        return Err(Error::PeerMisbehaved { what: "ENVELOPE" });
    }
    port.part_done();

    port.stage(Stage::DecryptingShare, None).await?;
    let within = DoorContext::Verification { id };
    let opening = opening::record(port, &device.key, within, device.client, &stored, method).await?;
    let opening::FromMethod { record, holder, passkeys } = opening;
    let opened = opening::open(&record, &stored)?;
    opening::drill(&record, &stored)?;
    opened.refuse_rollback(&device)?;
    must_be_this_wallet(&device, &opened)?;
    port.part_done();

    port.stage(Stage::ParsingShare, None).await?;
    let (deployment, client) = (port.setting.deployment.id(), device.client);
    let context = verification_client(deployment, client, id, begun.backup_id);
    let nonce = *random::<32>(&mut port.entropy());
    let proofs = opened.prove(port, Purpose::Verify, &context, &stored.challenge.0)?;
    let body = ProveVerification { challenge: stored.challenge, nonce: Hex(nonce), proofs };
    let prove = path(route::VERIFICATION_PROOF, &[&id.to_string()]);
    let proven: VerificationProven = Call::new(port, "POST", prove).signed(&device.key).json(&body)?.fetch().await?;
    port.part_done();

    let context = verification_custodian(deployment, client, id, begun.backup_id);
    check_custodian(&opened, &proven, &context, &nonce)?;
    let witness = opened.witness();
    device::update(port, |device| {
        passkeys.into_iter().for_each(|set| device.remember_passkeys(set));
        device.remember(witness);
    })
    .await?;
    let verified = Verified {
        method: method.method(),
        backup_id: begun.backup_id,
        curves: Curve::ALL.to_vec(),
        verified_at: proven.verified_at,
    };
    Ok((verified, holder))
}

/// A backup of another wallet proves nothing about this one.
fn must_be_this_wallet(device: &device::Device, opened: &Opened) -> Result<()> {
    for half in &opened.halves {
        let own = device.share(half.curve)?;
        let public = *own.party()?.public();
        let same = own.wallet == half.wallet
            && public.public_key() == half.public.public_key()
            && public.chain_code() == half.public.chain_code();
        if !same {
            return Err(Error::IdentityMismatch);
        }
    }
    Ok(())
}

/// L3: the custodian knows b_K, on every curve, under this device's nonce.
fn check_custodian(opened: &Opened, proven: &VerificationProven, context: &[u8; 32], nonce: &[u8; 32]) -> Result<()> {
    if !proven.proofs.iter().map(|proof| proof.curve).eq(Curve::ALL) {
        return Err(Error::PeerMisbehaved { what: "CUSTODIAN_PROOF" });
    }
    for (half, proof) in opened.halves.iter().zip(&proven.proofs) {
        let statement = Statement { purpose: Purpose::Verify, context, pair: half.pair, nonce };
        proof::verify(&statement, &half.public.peer_point(), &proof.proof.0)
            .map_err(|_| Error::PeerMisbehaved { what: "CUSTODIAN_PROOF" })?;
    }
    Ok(())
}
