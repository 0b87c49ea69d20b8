//! Several methods that hold the key of one backup together (DECISIONS.md D20): all of them open it, and one alone tells
//! nothing about it.

use core::{fmt, str::FromStr};

use crate::{
    all_of::MAX_PARTS,
    wallet::{Method, UnknownName},
};

const OPENING: &str = "ALL_OF(";
/// No name of a set is longer, in bytes.
const MAX_NAME: usize = 400;

/// 2 to 8 methods, each once, in the order of their names: `ALL_OF(GDRIVE,PASSWORD)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodSet(Vec<Method>);

/// Why methods make no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// Fewer than 2 or more than 8.
    #[error("a set has 2 to 8 members")]
    Count,
    /// One of them twice.
    #[error("a method is in a set once")]
    Twice,
    /// An exit kit, another set, or a name that no method has.
    #[error("such a method is no member of a set")]
    NotAMember,
    /// Both PASSKEY and RECOVERY_CODE: beside an envelope lies one record.
    #[error("the records of both a passkey and a recovery code would lie beside the envelope")]
    TwoBeside,
}

impl SetError {
    /// A stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Count => "MEMBER_COUNT",
            Self::Twice => "MEMBER_TWICE",
            Self::NotAMember => "NOT_A_MEMBER",
            Self::TwoBeside => "TWO_BESIDE_THE_ENVELOPE",
        }
    }
}

impl MethodSet {
    /// The set of these methods, in whatever order they come.
    ///
    /// # Errors
    /// [`SetError`] says why they make none.
    pub fn new(methods: impl IntoIterator<Item = Method>) -> Result<Self, SetError> {
        let mut members: Vec<Method> = methods.into_iter().collect();
        if !(2..=usize::from(MAX_PARTS)).contains(&members.len()) {
            return Err(SetError::Count);
        }
        if !members.iter().all(may_be_a_member) {
            return Err(SetError::NotAMember);
        }
        members.sort_by_cached_key(Method::name);
        if members.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(SetError::Twice);
        }
        if members.iter().filter(|member| member.lies_beside()).count() > 1 {
            return Err(SetError::TwoBeside);
        }
        Ok(Self(members))
    }

    /// The members, in the order of their names.
    #[must_use]
    pub fn members(&self) -> &[Method] {
        &self.0
    }
}

fn may_be_a_member(method: &Method) -> bool {
    match method {
        Method::Exit | Method::AllOf(_) => false,
        Method::Custom(name) => Method::custom(name).is_ok(),
        _ => true,
    }
}

impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OPENING)?;
        for (index, member) in self.0.iter().enumerate() {
            write!(f, "{}{member}", if index == 0 { "" } else { "," })?;
        }
        f.write_str(")")
    }
}

impl FromStr for MethodSet {
    type Err = UnknownName;

    /// Strict: another order of the same members is another text, and no name.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let inner = text.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(')')).ok_or(UnknownName)?;
        if text.len() > MAX_NAME {
            return Err(UnknownName);
        }
        let members = inner.split(',').map(str::parse).collect::<Result<Vec<Method>, _>>()?;
        let set = Self::new(members).map_err(|_| UnknownName)?;
        if set.to_string() == text { Ok(set) } else { Err(UnknownName) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Result<MethodSet, SetError> {
        MethodSet::new(names.iter().map(|name| name.parse().unwrap()))
    }

    #[test]
    fn a_set_has_one_name_whatever_the_order() {
        for (members, name) in [
            (&["PASSWORD", "GDRIVE"][..], "ALL_OF(GDRIVE,PASSWORD)"),
            (&["GDRIVE", "PASSWORD"], "ALL_OF(GDRIVE,PASSWORD)"),
            (
                &["RECOVERY_CODE", "ICLOUD", "CUSTOM:B", "CUSTOM:A_1"],
                "ALL_OF(CUSTOM:A_1,CUSTOM:B,ICLOUD,RECOVERY_CODE)",
            ),
            (&["PASSWORD", "PASSKEY"], "ALL_OF(PASSKEY,PASSWORD)"),
        ] {
            let set = set(members).unwrap();
            assert_eq!(set.to_string(), name);
            let method: Method = name.parse().unwrap();
            assert_eq!(method, Method::AllOf(set.clone()));
            assert_eq!((method.to_string().as_str(), method.members()), (name, set.members()));
        }
    }

    #[test]
    fn what_is_no_set_is_refused_and_says_why() {
        assert_eq!(set(&[]), Err(SetError::Count));
        assert_eq!(set(&["GDRIVE"]), Err(SetError::Count));
        let nine: Vec<String> = (0..9).map(|n| format!("CUSTOM:M{n}")).collect();
        let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
        assert_eq!(set(&nine), Err(SetError::Count));
        assert!(set(&nine[..8]).is_ok());
        assert_eq!(set(&["GDRIVE", "GDRIVE"]), Err(SetError::Twice));
        assert_eq!(set(&["GDRIVE", "EXIT"]), Err(SetError::NotAMember));
        assert_eq!(set(&["ALL_OF(GDRIVE,PASSWORD)", "ICLOUD"]), Err(SetError::NotAMember));
        let forged = [Method::GoogleDrive, Method::Custom("A,PASSWORD".to_owned())];
        assert_eq!(MethodSet::new(forged), Err(SetError::NotAMember));
        assert_eq!(set(&["PASSKEY", "RECOVERY_CODE"]), Err(SetError::TwoBeside));
    }

    #[test]
    fn names_of_sets_are_strict() {
        for bad in [
            "ALL_OF()",
            "ALL_OF(GDRIVE)",
            "ALL_OF(PASSWORD,GDRIVE)",
            "ALL_OF(GDRIVE,GDRIVE)",
            "ALL_OF(GDRIVE, PASSWORD)",
            "ALL_OF(GDRIVE,PASSWORD",
            "ALL_OF(GDRIVE,PASSWORD))",
            "ALL_OF(EXIT,GDRIVE)",
            "ALL_OF(ALL_OF(GDRIVE,PASSWORD),ICLOUD)",
            "ALL_OF(PASSKEY,RECOVERY_CODE)",
            "all_of(GDRIVE,PASSWORD)",
        ] {
            assert_eq!(bad.parse::<Method>(), Err(UnknownName), "{bad}");
        }
    }
}
