//! Rules that need to see all slots of a wallet at once.

use super::{
    Refusal, Slot, SlotKey,
    pair::{Pair, PairRef, PairState, named},
};
use halfkey_envelope::wallet::UnknownName;

named! {
    /// Whether a wallet still lives here.
    WalletState {
        /// Every verb works.
        Open = "OPEN",
        /// The custodian's half may have left; only the same eject may be repeated (METHODS.md G).
        Ejecting = "EJECTING",
        /// The owner acknowledged the key.
        Ejected = "EJECTED",
    }
}

impl WalletState {
    /// Whether any verb but a repeated eject may start.
    ///
    /// # Errors
    /// [`Refusal::Ejecting`] and [`Refusal::Ejected`].
    pub const fn may_operate(self) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Ejecting => Err(Refusal::Ejecting),
            Self::Ejected => Err(Refusal::Ejected),
        }
    }
}

/// One wallet, as its rules see it: its own signing slots and the backup slots of its client.
#[derive(Debug, Clone, Copy)]
pub struct WalletView<'a> {
    /// Whether it still lives here.
    pub state: WalletState,
    /// The signing slots of this wallet.
    pub signing: &'a [Slot],
    /// The backup slots of its client.
    pub backups: &'a [Slot],
}

/// What the caller knows to be losing (DECISIONS.md D22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Force {
    /// No device will be left that can sign.
    pub last_device: bool,
    /// No backup will be left.
    pub last_backup: bool,
}

/// Whether the slots in `removing` may be removed or revoked together.
///
/// No call leaves a wallet with neither an active signing pair nor an active backup, whatever `force` says
/// (METHODS.md G); the last device and the last backup need to be named in `force` (DECISIONS.md D22). What is
/// banned or frozen carries nothing here: it may never come back.
///
/// # Errors
/// [`Refusal::Ejecting`], [`Refusal::Ejected`], [`Refusal::LastPair`], [`Refusal::LastDevice`], [`Refusal::LastBackup`].
pub fn may_remove(wallet: &WalletView<'_>, removing: &[&SlotKey], force: Force) -> Result<(), Refusal> {
    wallet.state.may_operate()?;
    let (devices, devices_left) = active_before_and_after(wallet.signing, removing);
    let (backups, backups_left) = active_before_and_after(wallet.backups, removing);
    let loses = |slot: &&Slot| slot.standing().is_some() && removing.contains(&&slot.key);
    let loses_any = wallet.signing.iter().chain(wallet.backups).any(|slot| loses(&slot));
    if loses_any && devices_left + backups_left == 0 {
        return Err(Refusal::LastPair);
    }
    if devices > 0 && devices_left == 0 && !force.last_device {
        return Err(Refusal::LastDevice);
    }
    if backups > 0 && backups_left == 0 && !force.last_backup {
        return Err(Refusal::LastBackup);
    }
    Ok(())
}

/// Whether the server's half of this pair may take part in a signature.
///
/// # Errors
/// Says why not.
pub const fn may_sign(pair: &Pair) -> Result<(), Refusal> {
    match pair.id {
        PairRef::Signing(_) => must_be_active(pair),
        PairRef::Backup(_) => Err(Refusal::WrongKind),
    }
}

/// Whether the custodian's half of this pair may deal in a recovery.
///
/// # Errors
/// Says why not.
pub const fn may_recover(pair: &Pair) -> Result<(), Refusal> {
    match pair.id {
        PairRef::Backup(_) => must_be_active(pair),
        PairRef::Signing(_) => Err(Refusal::WrongKind),
    }
}

/// Whether the server's half of this signing pair may deal in a `reshare`: the active one, or a banned one while
/// a pair that heals it is pending (PROTOCOL.md 4.9).
///
/// # Errors
/// Says why not.
pub fn may_deal(slot: &Slot, id: PairRef) -> Result<(), Refusal> {
    let pair = slot.pair(id).ok_or(Refusal::UnknownPair)?;
    if pair.state == PairState::Banned && slot.pending().is_some_and(|pending| pending.heals) {
        return Ok(());
    }
    may_sign(pair)
}

const fn must_be_active(pair: &Pair) -> Result<(), Refusal> {
    match pair.state {
        PairState::Active => Ok(()),
        PairState::Pending => Err(Refusal::NotActive),
        PairState::Retired | PairState::Erased => Err(Refusal::Retired),
        PairState::Banned => Err(Refusal::Banned),
        PairState::Frozen => Err(Refusal::Frozen),
    }
}

fn active_before_and_after(slots: &[Slot], removing: &[&SlotKey]) -> (usize, usize) {
    let active = || slots.iter().filter(|slot| slot.active().is_some());
    (active().count(), active().filter(|slot| !removing.contains(&&slot.key)).count())
}
