//! Several methods that are needed together (METHODS.md C, "AllOf"): what is asked for each member of a set.

use halfkey_envelope::{
    method_set::{MethodSet, SetError},
    wallet::Method,
};

use crate::{
    command::{BackupMethod, RecoveryMethod},
    error::{Error, Result},
};

/// One `M` for each member of a set, in the set's order.
#[derive(Debug)]
pub struct Together<M> {
    set: MethodSet,
    members: Vec<M>,
}

impl<M> Together<M> {
    fn new(members: impl IntoIterator<Item = M>, method: impl Fn(&M) -> Method) -> Result<Self> {
        let mut members: Vec<M> = members.into_iter().collect();
        let set = MethodSet::new(members.iter().map(&method))
            .map_err(|error: SetError| Error::InvalidMethod { code: error.code() })?;
        members.sort_by_cached_key(|member| method(member).name());
        Ok(Self { set, members })
    }

    /// The set.
    #[must_use]
    pub const fn set(&self) -> &MethodSet {
        &self.set
    }

    pub(crate) fn members(&self) -> &[M] {
        &self.members
    }

    pub(crate) fn into_parts(self) -> (MethodSet, Vec<M>) {
        (self.set, self.members)
    }
}

impl BackupMethod {
    /// A backup that opens with all of these, and with nothing less: 2 to 8 methods, each once, no exit kit, and not both
    /// passkeys and a recovery code.
    ///
    /// # Errors
    /// [`Error::InvalidMethod`] says why they make no set.
    pub fn all_of(members: impl IntoIterator<Item = Self>) -> Result<Self> {
        Together::new(members, Self::method).map(Self::AllOf)
    }
}

impl RecoveryMethod {
    /// What opens a backup of [`BackupMethod::all_of`]: one for each of its members.
    ///
    /// # Errors
    /// As [`BackupMethod::all_of`].
    pub fn all_of(members: impl IntoIterator<Item = Self>) -> Result<Self> {
        Together::new(members, Self::method).map(Self::AllOf)
    }

    /// In which order the members of a set are asked: first what costs and shows nothing, last what costs a guess.
    pub(crate) const fn cost(&self) -> u8 {
        match self {
            Self::GoogleDrive | Self::ICloud | Self::Custom(_) => 0,
            Self::RecoveryCode(_) => 1,
            Self::Passkey | Self::AllOf(_) => 2,
            Self::Password(_) => 3,
        }
    }
}
