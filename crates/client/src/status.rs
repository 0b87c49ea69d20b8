//! What is: the client, its addresses, its backups, as this device and the server know them.

use halfkey_api::{
    chain::{Addresses, Ed25519Key, Secp256k1Key},
    message::{BackupStatus, ClientDetail, MethodStatus, Recovery, RecoveryList},
    route,
};
use halfkey_envelope::wallet::{Curve, Method};

use crate::{
    call::Call,
    device::{self, Device},
    error::{Error, Result, StorageReason},
    host::BlobSlot,
    port::Port,
};

/// The calling client, of this very deployment.
pub(crate) async fn client(port: &Port) -> Result<ClientDetail> {
    let client: ClientDetail = Call::get(port, route::CLIENT).fetch().await?;
    if client.deployment == port.setting.deployment.id() { Ok(client) } else { Err(Error::IdentityMismatch) }
}

pub(crate) async fn addresses(port: &Port) -> Result<Addresses> {
    addresses_of(port, &device::current(port).await?)
}

/// From the device's own shares: the server is not asked.
pub(crate) fn addresses_of(port: &Port, device: &Device) -> Result<Addresses> {
    let key = |curve| -> Result<Vec<u8>> { Ok(device.share(curve)?.party()?.public().public_key().to_bytes()) };
    addresses_of_keys(port, &key(Curve::Secp256k1)?, &key(Curve::Ed25519)?)
}

pub(crate) fn addresses_of_keys(port: &Port, secp256k1: &[u8], ed25519: &[u8]) -> Result<Addresses> {
    let damaged = Error::Storage(StorageReason::Damaged);
    let secp256k1 = Secp256k1Key::parse(secp256k1).map_err(|_| damaged.clone())?;
    let ed25519 = Ed25519Key::parse(ed25519).map_err(|_| damaged)?;
    Ok(Addresses::of(&secp256k1, &ed25519, port.setting.network))
}

pub(crate) async fn backup_status(port: &Port) -> Result<BackupStatus> {
    Call::get(port, route::BACKUP_STATUS).fetch().await
}

/// Completed, and possible on this platform with this version of the SDK.
pub(crate) async fn recovery_methods(port: &Port) -> Result<Vec<Method>> {
    Ok(openable(port, backup_status(port).await?).map(|status| status.method).collect())
}

fn openable(port: &Port, status: BackupStatus) -> impl Iterator<Item = MethodStatus> {
    let works = |member: &Method| match member {
        Method::Password | Method::RecoveryCode => true,
        Method::Passkey => port.setting.passkey_config().is_some(),
        Method::GoogleDrive => port.setting.google_config().is_some(),
        Method::ICloud => port.setting.icloud_config().is_some(),
        Method::Custom(name) => port.setting.is_registered(name),
        Method::Exit | Method::AllOf(_) => false,
    };
    let works = move |method: &Method| method.members().iter().all(works);
    let completed = status.methods.into_iter().filter(|status| status.status == "completed");
    completed.filter(move |status| works(&status.method) && port.setting.platform.supports(&status.method))
}

/// Whether a recovery could be begun now, here: see [`crate::Halfkey::is_wallet_recoverable`].
pub(crate) async fn is_recoverable(port: &Port) -> Result<bool> {
    let client = client(port).await?;
    let of = |curve| client.wallets.iter().find(|wallet| wallet.curve == curve);
    let live = Curve::ALL.into_iter().all(|curve| of(curve).is_some_and(|wallet| wallet.state == "active"));
    Ok(live && openable(port, client.backup_status).any(|status| status.verification_failed_at.is_none()))
}

pub(crate) async fn recoveries(port: &Port) -> Result<Vec<Recovery>> {
    let list: RecoveryList = Call::get(port, route::RECOVERIES).fetch().await?;
    Ok(list.results)
}

pub(crate) async fn does_wallet_exist(port: &Port) -> Result<bool> {
    Ok(client(port).await?.wallets.iter().any(|wallet| wallet.state != "creating"))
}

pub(crate) async fn is_wallet_on_device(port: &Port) -> Result<bool> {
    Ok(device::load(port, BlobSlot::Current).await?.is_some_and(|device| !device.shares.is_empty()))
}
