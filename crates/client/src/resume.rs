use crate::{
    command::Resumed,
    error::{Error, Result},
    port::Port,
};
pub(crate) async fn resume(_: &Port) -> Result<Resumed> {
    Err(Error::Internal)
}
