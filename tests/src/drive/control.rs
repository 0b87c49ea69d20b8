//! The control over HTTP: `POST /emulator`, one JSON object, for tests in other processes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Drive, Fault, Grant, Introspection};

/// What [`Drive`] can be told, as JSON: `{"op": "issue", …}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Command {
    /// See [`Drive::issue`]; answers `{"token": …}`.
    Issue(Grant),
    /// See [`Drive::revoke`].
    Revoke {
        /// The token.
        token: String,
    },
    /// See [`Drive::introspect`].
    Introspect(Introspection),
    /// See [`Drive::fail`].
    Fail(Fault),
    /// See [`Drive::heal`].
    Heal,
    /// See [`Drive::incomplete_searches`].
    IncompleteSearches {
        /// How many.
        times: u32,
    },
    /// See [`Drive::pages_of`].
    PagesOf {
        /// How many files.
        files: usize,
    },
    /// See [`Drive::corrupt_reads`].
    CorruptReads {
        /// How many.
        times: u32,
    },
    /// See [`Drive::lag`].
    Lag {
        /// How many.
        listings: u32,
    },
    /// See [`Drive::quota`].
    Quota {
        /// Whose.
        account: String,
        /// How much.
        bytes: u64,
    },
    /// See [`Drive::trash`]; answers `{"found": …}`.
    Trash {
        /// The file.
        id: String,
    },
    /// See [`Drive::delete`]; answers `{"found": …}`.
    Delete {
        /// The file.
        id: String,
    },
    /// See [`Drive::delete_hidden_app_data`]; answers `{"deleted": …}`.
    DeleteHiddenAppData {
        /// Whose.
        account: String,
    },
    /// See [`Drive::files`]; answers `{"files": […]}`.
    Files {
        /// Whose.
        account: String,
    },
    /// See [`Drive::journal`]; answers `{"journal": […]}`.
    Journal,
}

impl Command {
    pub(super) fn carry_out(self, drive: &Drive) -> Value {
        match self {
            Self::Issue(grant) => return json!({ "token": drive.issue(grant) }),
            Self::Revoke { token } => drive.revoke(&token),
            Self::Introspect(at) => drive.introspect(at),
            Self::Fail(fault) => drive.fail(fault),
            Self::Heal => drive.heal(),
            Self::IncompleteSearches { times } => drive.incomplete_searches(times),
            Self::PagesOf { files } => drive.pages_of(files),
            Self::CorruptReads { times } => drive.corrupt_reads(times),
            Self::Lag { listings } => drive.lag(listings),
            Self::Quota { account, bytes } => drive.quota(&account, bytes),
            Self::Trash { id } => return json!({ "found": drive.trash(&id) }),
            Self::Delete { id } => return json!({ "found": drive.delete(&id) }),
            Self::DeleteHiddenAppData { account } => {
                return json!({ "deleted": drive.delete_hidden_app_data(&account) });
            }
            Self::Files { account } => return json!({ "files": drive.files(&account) }),
            Self::Journal => return json!({ "journal": drive.journal() }),
        }
        json!({})
    }
}
