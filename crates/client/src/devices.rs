use crate::{
    error::{Error, Result},
    port::Port,
};
use halfkey_api::message::Device;
use halfkey_envelope::{id::DeviceId, wallet::Method};
pub(crate) async fn list(_: &Port) -> Result<Vec<Device>> {
    Err(Error::Internal)
}
pub(crate) async fn revoke(_: &Port, _: DeviceId) -> Result<()> {
    Err(Error::Internal)
}
pub(crate) async fn remove_backup_method(_: &Port, _: Method) -> Result<()> {
    Err(Error::Internal)
}
