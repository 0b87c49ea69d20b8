//! Why evidence is not good enough.

/// Why evidence is refused. Nothing was released or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Evidence of a kind that proves nothing, and the caller did not ask for danger.
    #[error("the keeper's evidence is insecure-dev: it proves nothing, anybody can write it")]
    InsecureDev,
    /// The policy does not name this kind.
    #[error("evidence of a kind that the policy does not accept")]
    OtherKind,
    /// The document ends before its end.
    #[error("the evidence is cut short")]
    Truncated,
    /// Not a document of this kind.
    #[error("the evidence is not a document of its kind")]
    Malformed,
    /// Not made for this nonce: an old one, or somebody else's.
    #[error("evidence for another nonce")]
    OtherNonce,
    /// About another key than the pinned one.
    #[error("evidence for another key than the pinned one")]
    OtherKey,
    /// About another configuration than the policy implies.
    #[error("evidence for another configuration of the keeper")]
    OtherConfiguration,
    /// What is signed is not about the nonce, key and configuration that stand beside it.
    #[error("what is signed is not about the fields beside it")]
    NotBound,
    /// The document's signature, or one in its chain, does not hold.
    #[error("a signature of the evidence does not hold")]
    BadSignature,
    /// A certificate that may not do what it is used for.
    #[error("a certificate of the evidence may not do what it is used for")]
    BadChain,
    /// The chain does not begin at the pinned root.
    #[error("evidence from another root than the pinned one")]
    OtherRoot,
    /// The key that signed is not one that only signs what its hardware measured.
    #[error("the attestation key can sign what its hardware did not measure")]
    BadAttestationKey,
    /// A certificate or the operator's statement has run out.
    #[error("the evidence has expired")]
    Expired,
    /// A certificate or the operator's statement has not begun; or this device's clock is wrong.
    #[error("the evidence is not valid yet; is the clock right?")]
    NotYetValid,
    /// Debugging is on, or nothing was measured: whoever runs the machine can read its memory.
    #[error("the keeper runs in debug mode, or was not measured at all")]
    DebugMode,
    /// A program or boot that the policy does not allow.
    #[error("the keeper runs a program that the policy does not allow")]
    UnknownMeasurement,
    /// Run by somebody else.
    #[error("evidence of another operator")]
    OtherOperator,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::InsecureDev,
        Self::OtherKind,
        Self::Truncated,
        Self::Malformed,
        Self::OtherNonce,
        Self::OtherKey,
        Self::OtherConfiguration,
        Self::NotBound,
        Self::BadSignature,
        Self::BadChain,
        Self::OtherRoot,
        Self::BadAttestationKey,
        Self::Expired,
        Self::NotYetValid,
        Self::DebugMode,
        Self::UnknownMeasurement,
        Self::OtherOperator,
    ];

    /// The stable code, the same in every language.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InsecureDev => "INSECURE_DEV",
            Self::OtherKind => "OTHER_KIND",
            Self::Truncated => "TRUNCATED",
            Self::Malformed => "MALFORMED",
            Self::OtherNonce => "OTHER_NONCE",
            Self::OtherKey => "OTHER_KEY",
            Self::OtherConfiguration => "OTHER_CONFIGURATION",
            Self::NotBound => "NOT_BOUND",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::BadChain => "BAD_CHAIN",
            Self::OtherRoot => "OTHER_ROOT",
            Self::BadAttestationKey => "BAD_ATTESTATION_KEY",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT_YET_VALID",
            Self::DebugMode => "DEBUG_MODE",
            Self::UnknownMeasurement => "UNKNOWN_MEASUREMENT",
            Self::OtherOperator => "OTHER_OPERATOR",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_of_its_own() {
        let codes: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
    }
}
