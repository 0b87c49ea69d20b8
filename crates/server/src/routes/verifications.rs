//! Drills: both sides prove their halves, and nothing is spent or changed but `verifiedAt` (METHODS.md H).

use axum::{Json, extract::State, http::StatusCode};
use halfkey_api::{
    bytes::Base64,
    context::{verification_client, verification_custodian},
    error::ErrorId,
    message::{
        BeginVerification, CipherText, CurveProof, FailVerification, ProveVerification, VerificationBegun,
        VerificationProven,
    },
    route,
};
use halfkey_envelope::{entropy::OsEntropy, id::VerificationId, wallet::Curve};
use halfkey_protocol::proof::{self, Purpose, Statement};

use crate::{
    app::{App, Inner},
    backup, challenge, custodian,
    fault::Fault,
    http::{
        auth::{AsClient, Signed},
        body,
        path::Id,
    },
    openapi::{DeviceHeaders, Refused},
    store::{HalfUse, Verification},
};

/// How long a drill is open: a password has to be typed in between.
const LIFE_MS: u64 = 15 * 60 * 1000;

/// Open a drill of the method's active backup.
#[utoipa::path(
    post, path = route::VERIFICATIONS, tag = "verifications", security(("client" = [])),
    operation_id = "beginVerification", params(DeviceHeaders), request_body = BeginVerification,
    responses((status = 200, body = VerificationBegun), Refused)
)]
pub(super) async fn begin(
    State(app): State<App>,
    call: Signed<body::Json<BeginVerification>>,
) -> Result<Json<VerificationBegun>, Fault> {
    let body::Json(BeginVerification { method }) = call.body;
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    let (id, expires_ms) = (VerificationId::generate(&mut OsEntropy, now_ms), now_ms.saturating_add(LIFE_MS));
    let begun = app.store.begin_verification(client, call.device.id, &method, id, expires_ms, now_ms).await;
    let begun = begun.map_err(|error| match error {
        crate::store::Error::Unknown(_) => Fault::new(ErrorId::NotBackedUp, "no committed backup by this method"),
        error => error.into(),
    })?;
    Ok(Json(VerificationBegun { verification_id: id, backup_id: begun.backup, expires_at: expires_ms }))
}

/// The envelope with a challenge, inside a drill.
#[utoipa::path(
    get, path = route::VERIFICATION_CIPHER_TEXT, tag = "verifications", security(("client" = [])),
    operation_id = "readVerificationCipherText",
    params(("verification_id" = String, Path, format = "uuid"), DeviceHeaders),
    responses((status = 200, body = CipherText), Refused)
)]
pub(super) async fn read_cipher_text(
    State(app): State<App>,
    Id(id): Id<VerificationId>,
    call: Signed<body::Empty>,
) -> Result<Json<CipherText>, Fault> {
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    let open = app.store.verification(client, call.device.id, id, now_ms).await?;
    let purpose = challenge::Purpose::Verification(id);
    backup::cipher_text(&app, &call.caller, &call.device.public_key, open.backup, purpose).await.map(Json)
}

/// The device's proofs (L2); answered with the custodian's (L3), which this server has verified too.
#[utoipa::path(
    post, path = route::VERIFICATION_PROOF, tag = "verifications", security(("client" = [])),
    operation_id = "proveVerification", params(("verification_id" = String, Path, format = "uuid"), DeviceHeaders),
    request_body = ProveVerification, responses((status = 200, body = VerificationProven), Refused)
)]
pub(super) async fn prove(
    State(app): State<App>,
    Id(id): Id<VerificationId>,
    call: Signed<body::Json<ProveVerification>>,
) -> Result<Json<VerificationProven>, Fault> {
    let body::Json(proven) = call.body;
    let (client, device, now_ms) = (call.caller.client, &call.device, call.caller.now_ms);
    let open = app.store.verification(client, device.id, id, now_ms).await?;
    let purpose = challenge::Purpose::Verification(id);
    challenge::take(&app, client, &device.public_key, purpose, &proven.challenge.0, now_ms).await?;
    let proofs = prove_both(&app, &call.caller, &open, &proven).await;
    // A component that is away says nothing about the backup: the drill stays open, and a fresh challenge goes on with it.
    if !matches!(&proofs, Err(fault) if matches!(fault.id, ErrorId::Unavailable | ErrorId::Internal)) {
        app.store.finish_verification(client, device.id, id, proofs.is_ok(), now_ms).await?;
    }
    Ok(Json(VerificationProven { proofs: proofs?, verified_at: now_ms }))
}

/// The device found that the backup does not hold. From then on it does not count as one, until a drill passes or a new
/// backup replaces it.
#[utoipa::path(
    post, path = route::VERIFICATION_FAILURE, tag = "verifications", security(("client" = [])),
    operation_id = "failVerification", params(("verification_id" = String, Path, format = "uuid"), DeviceHeaders),
    request_body = FailVerification, responses((status = 204), Refused)
)]
pub(super) async fn fail(
    State(app): State<App>,
    Id(id): Id<VerificationId>,
    call: Signed<body::Json<FailVerification>>,
) -> Result<StatusCode, Fault> {
    let body::Json(FailVerification { level, curves }) = call.body;
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    tracing::warn!(%client, verification = %id, level = level.as_str(), ?curves, "a device found a backup that does not hold");
    app.store.finish_verification(client, call.device.id, id, false, now_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prove_both(
    app: &Inner,
    caller: &AsClient,
    open: &Verification,
    proven: &ProveVerification,
) -> Result<Vec<CurveProof>, Fault> {
    if !proven.proofs.iter().map(|proof| proof.curve).eq(Curve::ALL) {
        return Err(Fault::field("proofs", "one for each curve, in their order"));
    }
    let client = caller.client;
    let theirs = verification_client(app.deployment, client, open.id, open.backup);
    let ours = verification_custodian(app.deployment, client, open.id, open.backup);
    let halves = custodian::open(app, client, open.backup, HalfUse::Verify, caller.now_ms).await?;
    let mut proofs = Vec::new();
    for (half, proof) in halves.iter().zip(&proven.proofs) {
        let statement = |context, nonce| Statement { purpose: Purpose::Verify, context, pair: half.pair, nonce };
        let client_point = half.transcript.pair().client_point();
        proof::verify(&statement(&theirs, &proven.challenge.0), &client_point, &proof.proof.0)?;
        let own = proof::prove(&statement(&ours, &proven.nonce.0), &half.half, &mut OsEntropy)?;
        proof::verify(&statement(&ours, &proven.nonce.0), &half.transcript.pair().peer_point(), &own)?;
        proofs.push(CurveProof { curve: half.curve, proof: Base64(own) });
    }
    Ok(proofs)
}
