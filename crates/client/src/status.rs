use crate::{
    error::{Error, Result},
    port::Port,
};
use halfkey_api::{
    chain::Addresses,
    message::{BackupStatus, Recovery},
};
use halfkey_envelope::wallet::Method;
pub(crate) async fn addresses(_: &Port) -> Result<Addresses> {
    Err(Error::Internal)
}
pub(crate) async fn backup_status(_: &Port) -> Result<BackupStatus> {
    Err(Error::Internal)
}
pub(crate) async fn recovery_methods(_: &Port) -> Result<Vec<Method>> {
    Err(Error::Internal)
}
pub(crate) async fn recoveries(_: &Port) -> Result<Vec<Recovery>> {
    Err(Error::Internal)
}
pub(crate) async fn does_wallet_exist(_: &Port) -> Result<bool> {
    Err(Error::Internal)
}
pub(crate) async fn is_wallet_on_device(_: &Port) -> Result<bool> {
    Err(Error::Internal)
}
