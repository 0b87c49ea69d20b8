#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::config::Profile;

fn production(hosted: &[&str]) -> Config {
    let mut config = Config::new("/nowhere").with_profile(Profile::Production);
    config.relying_parties = hosted.iter().map(|text| text.parse().unwrap()).collect();
    config
}

fn refused(config: &Config, url: &str, name: &str) -> Option<String> {
    match check_owners(config, url, &["customer.example".to_owned(), name.to_owned()]) {
        Ok(()) => None,
        Err(Error::OperatorIsRelyingParty(domain)) => Some(domain),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn production_refuses_a_relying_party_of_the_operator() {
    let config = production(&[]);
    for (url, name) in [
        ("https://operator.com", "operator.com"),
        ("https://api.operator.com/", "operator.com"),
        ("https://operator.com:8443", "wallet.operator.com"),
        ("https://API.operator.com.", "wallet.operator.com"),
        ("https://api.eu.operator.co.uk", "operator.co.uk"),
    ] {
        assert_eq!(refused(&config, url, name).as_deref(), Some(name), "{url}");
    }
    for (url, name) in [
        ("https://operator.com", "operator.org"),
        ("https://operator.com", "notoperator.com"),
        ("https://one.github.io", "two.github.io"),
        ("https://192.0.2.7", "operator.com"),
    ] {
        assert_eq!(refused(&config, url, name), None, "{url}");
    }
    // What it hosts it controls, whatever the name.
    let hosting = production(&["wallet.customer.com"]);
    let named = refused(&hosting, "https://operator.com", "wallet.customer.com");
    assert_eq!(named.as_deref(), Some("wallet.customer.com"));
    let mut told = hosting.clone();
    told.dangers.operator_is_relying_party = true;
    assert_eq!(refused(&told, "https://operator.com", "wallet.customer.com"), None);
    assert_eq!(refused(&told, "https://operator.com", "operator.com"), None);
    assert_eq!(refused(&Config::new("/nowhere"), "http://localhost:8787", "localhost"), None, "development");
}

#[test]
fn what_is_no_relying_party_is_refused_in_either_profile() {
    for name in ["co.uk", "127.0.0.1", "https://example.com", "Example.com", ""] {
        for config in [production(&[]), Config::new("/nowhere")] {
            let refused = check_owners(&config, "https://operator.com", &[name.to_owned()]).unwrap_err();
            assert!(matches!(refused, Error::NotARelyingParty(named) if named == name));
        }
    }
}

#[test]
fn a_hosted_relying_party_is_a_domain_and_perhaps_a_custodian() {
    let id = "01929c5e-0000-7000-8000-000000000000";
    let hosted: Hosted = format!("wallet.example.com={id}").parse().unwrap();
    assert_eq!((hosted.domain.as_str(), hosted.custodian), ("wallet.example.com", Some(id.parse().unwrap())));
    assert_eq!("localhost".parse::<Hosted>().unwrap().custodian, None);
    assert_eq!("co.uk".parse::<Hosted>(), Err(InvalidHosted::PublicSuffix));
    assert_eq!("a.example=x".parse::<Hosted>(), Err(InvalidHosted::Custodian));
    assert_eq!("https://a.example".parse::<Hosted>(), Err(InvalidHosted::Domain(Invalid::Domain)));
}

#[test]
fn the_host_chooses_the_relying_party() {
    let config = production(&["wallet.example.com", "localhost"]);
    let asked = |hosts: &[&str]| {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append("host", host.parse().unwrap());
        }
        asked_for(&config, &headers).map(|hosted| hosted.domain.to_string())
    };
    assert_eq!(asked(&["wallet.example.com"]).as_deref(), Some("wallet.example.com"));
    assert_eq!(asked(&["WALLET.example.com:443"]).as_deref(), Some("wallet.example.com"));
    assert_eq!(asked(&["localhost:8787"]).as_deref(), Some("localhost"));
    for other in [&["example.com"][..], &["x.wallet.example.com"], &[], &["localhost", "localhost"], &["[::1]:80"]] {
        assert_eq!(asked(other), None, "{other:?}");
    }
}
