//! `verify_backup`: the drill of METHODS.md H. Nothing is spent or changed but `verifiedAt`.

use halfkey_api::{
    bytes::Hex,
    context::{verification_client, verification_custodian},
    message::{
        BeginVerification, CipherText, CurveProof, DoorContext, DrillLevel, FailVerification, ProveVerification,
        VerificationBegun, VerificationProven,
    },
    route::{self, path},
};
use halfkey_envelope::{
    Record,
    entropy::random,
    id::{BackupId, VerificationId},
    wallet::{Curve, Method},
};
use halfkey_protocol::proof::{self, Purpose, Statement};

use crate::{
    call::Call,
    command::{BrokenBackup, CurveDrill, Held, RecoveryMethod, Verified},
    device::{self, Device},
    error::{Error, Result},
    opening::{self, HalfFault, Holder, Opened, OpenedHalf},
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
    let mut found = Found::new(method.method(), begun.backup_id);
    let opening = opening::record(port, &device.key, within, device.client, &stored, method).await;
    let opening::FromMethod { record, holder, passkeys } = match opening {
        Ok(opening) => opening,
        Err(error) => match word_of_opening(&error, &method.method()) {
            Some(word) => {
                found.0.member = error.member().cloned();
                return Err(found.method_key(word).tell(port, &device, id).await);
            }
            None => return Err(error),
        },
    };
    let opened = match found.open(&device, &record, &stored)? {
        Some(opened) => opened,
        None => return Err(found.tell(port, &device, id).await),
    };
    opened.refuse_rollback(&device)?;
    port.part_done();

    port.stage(Stage::ParsingShare, None).await?;
    let (deployment, client) = (port.setting.deployment.id(), device.client);
    let context = verification_client(deployment, client, id, begun.backup_id);
    let nonce = *random::<32>(&mut port.entropy());
    let proofs = opened.prove(port, Purpose::Verify, &context, &stored.challenge.0)?;
    let body = ProveVerification { challenge: stored.challenge, nonce: Hex(nonce), proofs };
    let prove = path(route::VERIFICATION_PROOF, &[&id.to_string()]);
    let proven = Call::new(port, "POST", prove).signed(&device.key).json(&body)?.fetch().await;
    let proven: VerificationProven = match proven {
        Ok(proven) => proven,
        // The server has noted it by itself.
        Err(Error::CustodianShareBroken { curves }) => {
            found.custodian_share(&curves, "CUSTODIAN_SHARE_BROKEN");
            return Err(found.broken());
        }
        Err(error) => return Err(error),
    };
    port.part_done();

    let context = verification_custodian(deployment, client, id, begun.backup_id);
    let unproven = unproven(&opened, &proven, &context, &nonce);
    found.custodian_share(&unproven, "CUSTODIAN_PROOF");
    if !unproven.is_empty() {
        return Err(found.broken());
    }
    let witness = opened.witness();
    device::update(port, |device| {
        passkeys.into_iter().for_each(|set| device.remember_passkeys(set));
        device.remember(witness);
    })
    .await?;
    let verified = Verified {
        method: method.method(),
        backup_id: begun.backup_id,
        curves: found.0.curves,
        verified_at: proven.verified_at,
    };
    Ok((verified, holder))
}

/// What the drill has found so far.
struct Found(BrokenBackup);

impl Found {
    fn new(method: Method, backup_id: BackupId) -> Self {
        Self(BrokenBackup { method, backup_id, member: None, curves: Curve::ALL.map(CurveDrill::new).to_vec() })
    }

    fn method_key(mut self, word: &'static str) -> Self {
        self.0.curves.iter_mut().for_each(|curve| curve.method_key = Held::Failed(word));
        self
    }

    /// L1, L2 and L4: the backup, if all of them hold.
    fn open(&mut self, device: &Device, record: &Record, stored: &CipherText) -> Result<Option<Opened>> {
        let curves = &mut self.0.curves;
        if let Err(error) = opening::drill(record, stored) {
            let word = word_of_record(&error).ok_or(error)?;
            curves.iter_mut().for_each(|curve| curve.method_key = Held::Failed(word));
            return Ok(None);
        }
        curves.iter_mut().for_each(|curve| curve.method_key = Held::Held);
        let unsealed = match opening::unseal(record, stored) {
            Ok(unsealed) => unsealed,
            Err(error) => {
                let word = word_of_record(&error).ok_or(error)?;
                curves.iter_mut().for_each(|curve| curve.client_share = Held::Failed(word));
                return Ok(None);
            }
        };
        let mut halves = Vec::new();
        for found in curves {
            match opening::half(found.curve, &unsealed.header, &unsealed.contents, &stored.pairs) {
                Ok(half) => {
                    found.client_share = Held::Held;
                    found.public_key = if is_of_this_wallet(device, &half)? { Held::Held } else { OTHER_WALLET };
                    halves.push(half);
                }
                Err(HalfFault { level: DrillLevel::PublicKey, error }) => {
                    found.public_key = Held::Failed(word_of(&error));
                }
                Err(HalfFault { error, .. }) => found.client_share = Held::Failed(word_of(&error)),
            }
        }
        let holds = |drill: &CurveDrill| (drill.client_share, drill.public_key) == (Held::Held, Held::Held);
        let all = self.0.curves.iter().all(holds);
        Ok(all.then(|| Opened { header: unsealed.header, digest: unsealed.digest, halves }))
    }

    /// L3: it held on all curves but these.
    fn custodian_share(&mut self, failed: &[Curve], word: &'static str) {
        for found in &mut self.0.curves {
            found.custodian_share = match () {
                () if failed.contains(&found.curve) => Held::Failed(word),
                () if failed.is_empty() => Held::Held,
                () => Held::Unknown,
            };
        }
    }

    fn broken(self) -> Error {
        Error::BackupBroken(Box::new(self.0))
    }

    /// Tells the server too, so that no other device counts on this backup. The device's own finding does not depend on
    /// whether that arrives.
    async fn tell(self, port: &Port, device: &Device, id: VerificationId) -> Error {
        if let Some((level, curves)) = self.0.first() {
            let path = path(route::VERIFICATION_FAILURE, &[&id.to_string()]);
            let call = Call::new(port, "POST", path).signed(&device.key).json(&FailVerification { level, curves });
            if let Ok(call) = call {
                let _ = call.send().await;
            }
        }
        self.broken()
    }
}

const OTHER_WALLET: Held = Held::Failed("OTHER_WALLET");

/// The word for a method that has not the right key. What is not in the cloud by a complete list is gone, and what an app's
/// own store says is not there; what is not in a keychain may not have come there yet.
fn word_of_opening(error: &Error, method: &Method) -> Option<&'static str> {
    let cause = error.cause();
    match cause {
        Error::CloudRecordNotFound if error.member().unwrap_or(method) != &Method::ICloud => Some(cause.code()),
        _ => word_of_record(cause),
    }
}

/// The word for what is wrong with a record or an envelope. `None`: the error says nothing about the backup itself.
fn word_of_record(error: &Error) -> Option<&'static str> {
    match error {
        Error::PeerMisbehaved {
            what: what @ ("SEALED_RECORD" | "RECORD" | "ENVELOPE" | "ENVELOPE_DIGEST" | "OTHER_ENVELOPE" | "PARTS"),
        } => Some(what),
        Error::Rollback { .. } | Error::IdentityMismatch | Error::CloudRecordDamaged => Some(error.code()),
        _ => None,
    }
}

fn word_of(error: &Error) -> &'static str {
    match error {
        Error::PeerMisbehaved { what } => what,
        other => other.code(),
    }
}

/// A backup of another wallet proves nothing about this one.
fn is_of_this_wallet(device: &Device, half: &OpenedHalf) -> Result<bool> {
    let own = device.share(half.curve)?;
    let public = *own.party()?.public();
    Ok(own.wallet == half.wallet
        && public.public_key() == half.public.public_key()
        && public.chain_code() == half.public.chain_code())
}

/// L3: the custodian knows b_K under this device's nonce; the curves on which it has not proven that.
fn unproven(opened: &Opened, proven: &VerificationProven, context: &[u8; 32], nonce: &[u8; 32]) -> Vec<Curve> {
    let holds = |half: &OpenedHalf| {
        let statement = Statement { purpose: Purpose::Verify, context, pair: half.pair, nonce };
        let of_curve = |proof: &&CurveProof| proof.curve == half.curve;
        let proof = proven.proofs.iter().find(of_curve);
        proof.is_some_and(|proof| proof::verify(&statement, &half.public.peer_point(), &proof.proof.0).is_ok())
    };
    opened.halves.iter().filter(|half| !holds(half)).map(|half| half.curve).collect()
}
