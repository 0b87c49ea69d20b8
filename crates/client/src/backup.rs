use crate::{
    command::{Backup, BackupMethod},
    error::{Error, Result},
    port::Port,
};
pub(crate) async fn backup_wallet(_: &Port, _: BackupMethod) -> Result<Backup> {
    Err(Error::Internal)
}
