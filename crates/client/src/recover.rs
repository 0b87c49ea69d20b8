use crate::{
    command::{Recovering, RecoveryMethod},
    error::{Error, Result},
    port::Port,
};
use halfkey_api::{chain::Addresses, message::OldDevices};
use halfkey_envelope::id::RecoveryId;
pub(crate) async fn recover_wallet(
    _: &Port,
    _: RecoveryMethod,
    _: OldDevices,
    _: Option<Addresses>,
) -> Result<Recovering> {
    Err(Error::Internal)
}
pub(crate) async fn resume_recovery(_: &Port, _: RecoveryMethod, _: Option<Addresses>) -> Result<Recovering> {
    Err(Error::Internal)
}
pub(crate) async fn cancel_recovery(_: &Port, _: RecoveryId) -> Result<()> {
    Err(Error::Internal)
}
