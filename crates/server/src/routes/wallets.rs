//! Opening the creation of a client's wallets, on every curve together.

use axum::{Json, extract::State};
use halfkey_api::{
    bytes::Hex,
    message::{BeginWallets, PendingWallet, WalletsBegun},
    route,
};
use halfkey_envelope::{
    entropy::OsEntropy,
    id::{PairId, WalletId},
    wallet::Curve,
};

use crate::{
    app::App,
    ceremony::nonce,
    fault::Fault,
    http::{auth::Signed, body},
    openapi::{DeviceHeaders, Refused},
    store::NewWallet,
};

/// Open the creation of the client's wallets. A half-made one gets fresh pending pairs.
#[utoipa::path(
    post, path = route::WALLETS, tag = "client", security(("client" = [])), operation_id = "beginWallets",
    params(DeviceHeaders), request_body = BeginWallets, responses((status = 200, body = WalletsBegun), Refused)
)]
pub(super) async fn begin(
    State(app): State<App>,
    call: Signed<body::Json<BeginWallets>>,
) -> Result<Json<WalletsBegun>, Fault> {
    let (client, now_ms) = (call.caller.client, call.caller.now_ms);
    let new = Curve::ALL.map(|curve| NewWallet {
        curve,
        wallet: WalletId::generate(&mut OsEntropy, now_ms),
        pair: PairId::generate(&mut OsEntropy, now_ms),
    });
    let begun = app.store.begin_wallets(client, call.device.id, &new, now_ms).await?;
    let pairs: Vec<PairId> = begun.iter().map(|wallet| wallet.pair).collect();
    Ok(Json(WalletsBegun {
        nonce: Hex(nonce::of_wallets(&app, client, &call.device.public_key, &pairs)),
        expires_at: begun.iter().map(|wallet| wallet.deadline_ms).min().unwrap_or(now_ms),
        wallets: begun
            .into_iter()
            .map(|wallet| PendingWallet {
                id: wallet.wallet,
                curve: wallet.curve,
                pair_id: wallet.pair,
                generation: wallet.generation,
            })
            .collect(),
    }))
}
