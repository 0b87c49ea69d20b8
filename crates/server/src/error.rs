//! Why the server does not start, or an operator's command fails.

use crate::{kms::KmsError, link::LinkError, store};

/// Why the server does not start, or an operator's command fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data folder, a key file or a socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        #[source]
        source: std::io::Error,
    },
    /// The database.
    #[error("the database")]
    Store(#[from] store::Error),
    /// A keeper that is configured does not answer.
    #[error("the keeper")]
    Keeper(#[from] LinkError),
    /// A keeper answers, but not as one.
    #[error("the keeper gives no key")]
    NoKeeperKey,
    /// The key service.
    #[error("the key service")]
    Kms(#[from] KmsError),
    /// TLS for the policy hook.
    #[error("the policy hook")]
    Hook(#[source] reqwest::Error),
    /// Settings that `production` refuses unless they are named.
    #[error("refused in production: {}", .0.join(", "))]
    Unsafe(Vec<&'static str>),
    /// A name that is no relying party's: a domain below a public suffix is needed.
    #[error("{0:?} cannot be a relying party: it takes a domain of somebody's own")]
    NotARelyingParty(String),
    /// `production` refuses a relying party whose domain the server's operator controls.
    #[error(
        "refused in production: the relying party {0} is the server operator's own, who could then open backups with \
         one tap of the user; name danger_operator_is_relying_party if that is meant"
    )]
    OperatorIsRelyingParty(String),
    /// The descriptor cannot be made.
    #[error("the descriptor cannot be made")]
    Descriptor(#[source] halfkey_protocol::error::Error),
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
