//! After an operator brought back an old copy of the database (METHODS.md B): no guess is given back.

use crate::{
    Config, Error,
    anchor::{self, Mark},
    keeper::fresh_id,
    shred::{Restored, Shred},
    store::Store,
};

/// The most guesses that a registration has left after a restore.
pub const GUESSES_LEFT: u32 = 3;
/// How far a restored database jumps ahead: above the anchors of all other nodes.
const JUMP: u64 = 1 << 32;

/// What a restore did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How far the copy had come.
    pub copy: u64,
    /// How far the anchor says that the lost database had come; none if the anchor is lost, too.
    pub anchor: Option<u64>,
    /// Registrations in the copy. Those that are younger than it are lost: their users back up again.
    pub registrations: u64,
    /// Tombstones that were re-applied.
    pub tombstones: usize,
}

/// Accepts a copy that is behind its anchor: every registration keeps at most [`GUESSES_LEFT`] guesses, tombstones
/// are re-applied, and no copy of this age is ever accepted again. The keeper must not run meanwhile; it starts
/// afterwards as always.
///
/// The shred store must be the newest one: it remembers which registrations were destroyed.
pub async fn restore(config: &Config) -> Result<Report, Error> {
    config.check()?;
    let store = Store::open(&config.database_url(), fresh_id()).await?;
    let shred = Shred::open(&config.shred_url()).await?;
    let path = config.anchor_path();
    let (database, copy) = (store.id().await?, store.generation().await?);
    let found = anchor::read(&path)?;
    let anchor = match found {
        Some(mark) if mark.database != database => return Err(Error::OtherDatabase),
        found => found.map(|mark| mark.generation),
    };
    if anchor.is_some_and(|anchor| copy >= anchor) || (anchor.is_none() && copy == 0) {
        return Err(Error::NothingToRestore);
    }
    let restored = shred.restored().await?;
    if copy <= restored.through && restored.beginning != Some(copy) {
        return Err(Error::AlreadyRestored { copy, through: restored.through });
    }
    shred.set_restored(Restored { beginning: Some(copy), ..restored }).await?;
    let tombstones = shred.tombstones().await?;
    let generation = anchor.unwrap_or(copy).max(copy).max(restored.through).saturating_add(JUMP);
    store.after_restore(GUESSES_LEFT, &tombstones, generation).await?;
    shred.set_restored(Restored { through: generation, beginning: None }).await?;
    store.database().forget_deleted().await?;
    anchor::write(&path, Mark { database, generation })?;
    let report = Report { copy, anchor, registrations: store.len().await?, tombstones: tombstones.len() };
    store.database().close().await;
    shred.close().await;
    Ok(report)
}
