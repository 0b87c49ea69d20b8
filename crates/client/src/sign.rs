use crate::{
    command::SignOutcome,
    error::{Error, Result},
    port::Port,
};
use halfkey_api::signing::Payload;
use halfkey_envelope::wallet::Curve;
pub(crate) async fn sign(_: &Port, _: Payload) -> Result<SignOutcome> {
    Err(Error::Internal)
}
pub(crate) async fn danger_sign_digest(_: &Port, _: Curve, _: [u8; 32]) -> Result<SignOutcome> {
    Err(Error::Internal)
}
