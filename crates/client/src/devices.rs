//! Devices and methods: list, revoke, remove.

use halfkey_api::{
    message::Device as EnrolledDevice,
    route::{self, path},
};
use halfkey_envelope::{id::DeviceId, wallet::Method};

use crate::{
    call::Call,
    cloud::{self, Cloud},
    device,
    error::Result,
    port::Port,
    status,
};

pub(crate) async fn list(port: &Port) -> Result<Vec<EnrolledDevice>> {
    Ok(status::client(port).await?.devices)
}

/// Revoking this very device leaves its blob alone: the server refuses it from now on.
pub(crate) async fn revoke(port: &Port, id: DeviceId) -> Result<()> {
    let device = device::current(port).await?;
    let path = path(route::DEVICE, &[&id.to_string()]);
    Call::new(port, "DELETE", path).signed(&device.key).send().await.map(|_| ())
}

pub(crate) async fn remove_backup_method(port: &Port, method: Method) -> Result<()> {
    let device = device::current(port).await?;
    let path = path(route::BACKUP_METHOD, &[&method.name()]);
    let cloud = Cloud::of(&method);
    // Only while the backup counts does the server give what its record's name is made with.
    let record = match &cloud {
        Some(cloud) => cloud::before_removal(port, cloud).await,
        None => None,
    };
    Call::new(port, "DELETE", path).signed(&device.key).send().await?;
    device::update(port, |device| device.backups.retain(|known| known.method != method)).await?;
    if let Some(cloud) = cloud {
        cloud::after_removal(port, &cloud, record).await;
    }
    Ok(())
}
