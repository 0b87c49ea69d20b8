//! The committed document is the one that this server serves, and it is complete.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use halfkey_api::{error::ErrorId, route};

/// `HALFKEY_BLESS=1 cargo test -p halfkey-server --test openapi` writes it anew.
#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let served = halfkey_server::openapi::json();
    if std::env::var_os("HALFKEY_BLESS").is_some() {
        std::fs::write(&path, served).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == served, "docs/openapi.json is not current: run this test with HALFKEY_BLESS=1");
}

#[test]
fn every_route_and_every_error_id_is_described() {
    let document: serde_json::Value = serde_json::from_str(halfkey_server::openapi::json()).unwrap();
    let routes = [
        route::CUSTODIAN_CLIENTS,
        route::CUSTODIAN_CLIENT,
        route::CUSTODIAN_SESSIONS,
        route::CUSTODIAN_RELYING_PARTY,
        route::CUSTODIAN_ENABLE_EJECT,
        route::CUSTODIAN_EJECTABLE,
        route::CUSTODIAN_STEP_UP,
        route::CUSTODIAN_EXIT_KIT,
        route::APPLE_APP_SITE_ASSOCIATION,
        route::ASSET_LINKS,
        route::WEBAUTHN,
        route::PASSKEY_PAGE,
        route::CLIENT,
        route::DEVICES,
        route::DEVICE,
        route::WALLETS,
        route::SIGNING_PAIR_HEAL,
        route::SIGNING_PAIR_BAN,
        route::CEREMONIES,
        route::BACKUPS,
        route::BACKUP,
        route::BACKUP_CIPHER_TEXT,
        route::BACKUP_COMMIT,
        route::BACKUP_METHOD,
        route::BACKUP_STATUS,
        route::PASSWORD_DOOR,
        route::PASSKEY_DOOR,
        route::CLOUD_PEPPER,
        route::SYNC_CONFIRMATION,
        route::RECOVERIES,
        route::RECOVERY,
        route::RECOVERY_CANCEL,
        route::RECOVERY_CIPHER_TEXT,
        route::RECOVERY_POSSESSION,
        route::RECOVERY_EJECT,
        route::RECOVERY_EJECT_ACKNOWLEDGE,
        route::VERIFICATIONS,
        route::VERIFICATION_CIPHER_TEXT,
        route::VERIFICATION_PROOF,
        route::VERIFICATION_FAILURE,
        route::RECOVERY_LINK,
        route::CUSTODIAN_EVENTS,
        route::WEBHOOKS,
        route::WEBHOOK,
        route::WEBHOOK_SECRET,
        route::WEBHOOK_TEST,
        route::WEBHOOK_DELIVERIES,
        route::WEBHOOK_REPLAY,
        route::HEALTHZ,
        route::READYZ,
        route::OPENAPI,
    ];
    let described: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for route in routes {
        assert!(described.contains(&route), "{route} is not described");
    }
    assert_eq!(described.len(), routes.len(), "a described path is not in this list");
    let ids = document["components"]["schemas"]["ErrorId"]["enum"].as_array().unwrap();
    for id in ErrorId::ALL {
        assert!(ids.iter().any(|described| described == id.as_str()), "{} is not described", id.as_str());
    }
    // Every schema that is referred to exists.
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and not described");
    }
}
