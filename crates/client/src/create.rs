use crate::{
    error::{Error, Result},
    port::Port,
};
use halfkey_api::chain::Addresses;
pub(crate) async fn create_wallet(_: &Port) -> Result<Addresses> {
    Err(Error::Internal)
}
