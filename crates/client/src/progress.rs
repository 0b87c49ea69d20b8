//! How far a long call is.

use halfkey_envelope::wallet::Curve;

/// What is being done. The texts are the field's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The device's share is read from its store.
    ReadingShare,
    /// Two parties make new shares.
    GeneratingShare,
    /// The share is sealed.
    EncryptingShare,
    /// The sealed share is uploaded, or the device's own is stored.
    StoringShare,
    /// The sealed share is opened.
    DecryptingShare,
    /// The opened share is checked against the wallet.
    ParsingShare,
    /// A signature is made.
    Signing,
    /// Finished.
    Done,
}

impl Stage {
    /// The text for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ReadingShare => "Reading share",
            Self::GeneratingShare => "Generating share",
            Self::EncryptingShare => "Encrypting share",
            Self::StoringShare => "Storing share",
            Self::DecryptingShare => "Decrypting share",
            Self::ParsingShare => "Parsing share",
            Self::Signing => "Signing",
            Self::Done => "Done",
        }
    }
}

/// One report: `done` of `total` parts of the whole call are finished. `done` never goes down within one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// On which curve, where it is about one.
    pub curve: Option<Curve>,
    /// Finished parts.
    pub done: u32,
    /// All parts.
    pub total: u32,
}
