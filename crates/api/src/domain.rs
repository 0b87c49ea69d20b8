//! Who owns a domain, by the [Public Suffix List](https://publicsuffix.org/).
//!
//! The list is compiled in and ages. A suffix that it does not know yet makes two owners look like one, and everything
//! here errs that way: towards refusing.

use std::collections::BTreeSet;

use crate::relying_party::{Domain, Origin};

/// The registrable domain that `domain` lies under (`example.co.uk` for `a.example.co.uk`); `None` for a public suffix
/// itself.
#[must_use]
pub fn registrable(domain: &Domain) -> Option<&str> {
    psl::domain_str(domain.as_str())
}

/// Whether `domain` can be a relying party at all: browsers refuse a public suffix. `localhost` can.
#[must_use]
pub fn may_be_relying_party(domain: &Domain) -> bool {
    domain.as_str() == "localhost" || registrable(domain).is_some()
}

/// Whether one owner has both: they are equal, or one lies under the other, or both lie under the same registrable
/// domain.
#[must_use]
pub fn same_owner(one: &Domain, other: &Domain) -> bool {
    let under = |low: &str, high: &str| low.strip_suffix(high).is_some_and(|rest| rest.ends_with('.'));
    let (a, b) = (one.as_str(), other.as_str());
    a == b || under(a, b) || under(b, a) || registrable(one).is_some_and(|name| registrable(other) == Some(name))
}

/// How many different labels these origins have before their public suffix: browsers need to support no more than
/// [`crate::relying_party::MAX_LABELS`]. `example.com` and `example.co.uk` have one together.
#[must_use]
pub fn labels<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> usize {
    let label = |origin: &'a Origin| psl::domain_str(origin.host())?.split('.').next();
    origins.into_iter().filter_map(label).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(same_owner(&one, &other), same_owner(&other, &one));
        same_owner(&one, &other)
    }

    #[test]
    fn one_owner_has_what_lies_under_one_registrable_domain() {
        assert!(same("operator.com", "operator.com"));
        assert!(same("api.operator.com", "operator.com"));
        assert!(same("api.operator.com", "wallet.operator.com"));
        assert!(same("api.eu.operator.co.uk", "wallet.operator.co.uk"));
        assert!(same("localhost", "localhost"));
        assert!(!same("notoperator.com", "operator.com"));
        assert!(!same("operator.com", "operator.org"));
        assert!(!same("one.co.uk", "two.co.uk"));
        assert!(!same("customer.com", "operator.com"));
        // Hosts of different customers below one suffix of a hosting company.
        assert!(!same("one.github.io", "two.github.io"));
        assert!(same("a.one.github.io", "b.one.github.io"));
        // The suffix itself is everybody's.
        assert!(same("one.github.io", "github.io"));
        // An unknown suffix errs towards one owner.
        assert!(same("a.b.internal", "c.b.internal"));
    }

    #[test]
    fn a_public_suffix_is_no_relying_party() {
        for (domain, may) in
            [("localhost", true), ("example.com", true), ("co.uk", false), ("github.io", false), ("x.github.io", true)]
        {
            assert_eq!(may_be_relying_party(&domain.parse().unwrap()), may, "{domain}");
        }
    }

    #[test]
    fn labels_are_counted_before_the_suffix() {
        let origins: Vec<Origin> = [
            "https://example.com",
            "https://www.example.com:8443",
            "https://example.co.uk",
            "https://other.example",
            "https://one.github.io",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        assert_eq!(labels(&origins), 3);
    }
}
