//! What every request goes through before a handler sees it.

pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod guard;
pub(crate) mod page;
pub(crate) mod path;
