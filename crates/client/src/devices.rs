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
    // Only while the backup counts does the server give what its records' names are made with.
    let mut records = Vec::new();
    for cloud in Cloud::all_of(&method) {
        let record = cloud::before_removal(port, &cloud).await;
        records.push((cloud, record));
    }
    Call::new(port, "DELETE", path).signed(&device.key).send().await?;
    device::update(port, |device| device.backups.retain(|known| known.method != method)).await?;
    for (cloud, record) in records {
        cloud::after_removal(port, &cloud, record).await;
    }
    Ok(())
}
