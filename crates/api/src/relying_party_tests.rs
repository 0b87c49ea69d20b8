#![allow(clippy::unwrap_used)]

use super::*;

const PRINT: &str = "14:6D:E9:83:C5:73:06:50:D8:EE:B9:95:2F:34:FC:64:16:A0:83:42:E6:1D:BE:A8:8A:04:96:B2:3F:CF:44:E5";

fn message(change: impl FnOnce(&mut message::RelyingPartyApps)) -> message::RelyingPartyApps {
    let mut message = message::RelyingPartyApps {
        apple_app_ids: vec!["ABCDE12345.com.example.wallet".into()],
        android_apps: vec![message::AndroidApp {
            package_name: "com.example.wallet".into(),
            certificate_fingerprints: vec![PRINT.into()],
        }],
        related_origins: vec!["https://wallet.example.com".into()],
    };
    change(&mut message);
    message
}

#[test]
fn the_files_have_the_published_form() {
    let apps = Apps::try_from(&message(|_| {})).unwrap();
    let apple = r#"{"webcredentials":{"apps":["ABCDE12345.com.example.wallet"]}}"#;
    assert_eq!(apps.apple_file().unwrap().to_string(), apple);
    let android = format!(
        "[{{\"relation\":[\"delegate_permission/common.get_login_creds\"],\"target\":{{\"namespace\":\"android_app\",\
         \"package_name\":\"com.example.wallet\",\"sha256_cert_fingerprints\":[\"{PRINT}\"]}}}}]"
    );
    assert_eq!(apps.android_file().unwrap().to_string(), android);
    assert_eq!(apps.webauthn_file().unwrap().to_string(), r#"{"origins":["https://wallet.example.com"]}"#);
    assert_eq!(message::RelyingPartyApps::from(&apps), message(|_| {}));
    let none = Apps::default();
    assert_eq!((none.apple_file(), none.android_file(), none.webauthn_file()), (None, None, None));
}

#[test]
fn an_android_apps_origin_is_the_hash_of_its_certificate() {
    let print: Fingerprint = PRINT.to_lowercase().parse().unwrap();
    assert_eq!(print.to_string(), PRINT);
    // base64url of the 32 bytes above, by hand with `xxd -r -p | base64`.
    assert_eq!(print.origin(), "android:apk-key-hash:FG3pg8VzBlDY7rmVLzT8ZBagg0LmHb6oigSWsj_PROU");
}

type Change = fn(&mut message::RelyingPartyApps);

#[test]
fn each_bad_text_is_named_with_its_place() {
    let field = |change: Change| {
        let error = Apps::try_from(&message(change)).unwrap_err();
        (error.field, error.why)
    };
    let cases: [(Change, &str, Invalid); 11] = [
        (|m| m.apple_app_ids.push("com.example".into()), "appleAppIds[1]", Invalid::AppleApp),
        (|m| m.apple_app_ids.push(m.apple_app_ids[0].clone()), "appleAppIds[1]", Invalid::Twice),
        (|m| m.apple_app_ids = vec!["x".into(); 21], "appleAppIds", Invalid::TooMany),
        (|m| m.android_apps[0].package_name = "wallet".into(), "androidApps[0].packageName", Invalid::Package),
        (|m| m.android_apps.push(m.android_apps[0].clone()), "androidApps[1].packageName", Invalid::Twice),
        (|m| m.android_apps = vec![m.android_apps[0].clone(); 21], "androidApps", Invalid::TooMany),
        (
            |m| m.android_apps[0].certificate_fingerprints.clear(),
            "androidApps[0].certificateFingerprints",
            Invalid::NoFingerprint,
        ),
        (
            |m| m.android_apps[0].certificate_fingerprints[0].truncate(94),
            "androidApps[0].certificateFingerprints[0]",
            Invalid::Fingerprint,
        ),
        (
            |m| m.android_apps[0].certificate_fingerprints = vec![PRINT.into(); 11],
            "androidApps[0].certificateFingerprints",
            Invalid::TooMany,
        ),
        (|m| m.related_origins.push("http://a.example".into()), "relatedOrigins[1]", Invalid::Origin),
        (|m| m.related_origins = vec!["x".into(); 21], "relatedOrigins", Invalid::TooMany),
    ];
    for (change, name, why) in cases {
        assert_eq!(field(change), (name.to_owned(), why));
    }
}

#[test]
fn what_is_a_domain_an_app_a_package_and_an_origin() {
    let long = format!("{}.com", "a".repeat(64));
    for bad in [
        "",
        "com",
        "Example.com",
        "example.com.",
        ".com",
        "a..b",
        "127.0.0.1",
        "1.2.3.4",
        "a_b.com",
        "-a.com",
        "a-.com",
    ] {
        assert_eq!(bad.parse::<Domain>(), Err(Invalid::Domain), "{bad}");
    }
    for bad in ["https://example.com", "example.com:443", "example.com/", "bücher.example", "[::1]", &long] {
        assert_eq!(bad.parse::<Domain>(), Err(Invalid::Domain), "{bad}");
    }
    for good in ["localhost", "example.com", "a.b.example.co.uk", "xn--bcher-kva.example", "127.0.0.1.nip.io"] {
        assert_eq!(good.parse::<Domain>().unwrap().as_str(), good);
    }
    for bad in ["", "ABCDE12345", "ABCDE12345.", "abcde12345.com.x", "ABCDE1234.com.x", "ABCDE12345.com..x", "*.com.x"]
    {
        assert_eq!(bad.parse::<AppleApp>(), Err(Invalid::AppleApp), "{bad}");
    }
    for bad in ["", "com", "com.", "com.1x", "com.a-b", "com.a b", ".com"] {
        assert_eq!(bad.parse::<Package>(), Err(Invalid::Package), "{bad}");
    }
    for bad in [
        "example.com",
        "http://example.com",
        "https://example.com/",
        "https://Example.com",
        "https://example.com:443",
        "https://example.com:0",
        "https://example.com:08443",
        "https://user@example.com",
        "https://localhost",
        "https://127.0.0.1",
        "android:apk-key-hash:x",
    ] {
        assert_eq!(bad.parse::<Origin>(), Err(Invalid::Origin), "{bad}");
    }
    assert_eq!("https://example.com:8443".parse::<Origin>().unwrap().host(), "example.com");
    for bad in
        [PRINT.replace(':', ""), PRINT.replacen("14", "1", 1), PRINT.replacen("14", "1G", 1), format!("{PRINT}:00")]
    {
        assert_eq!(bad.parse::<Fingerprint>(), Err(Invalid::Fingerprint), "{bad}");
    }
}

#[test]
fn a_union_merges_the_certificates_of_one_package() {
    let other_print = PRINT.replacen("14", "15", 1);
    let one = Apps::try_from(&message(|_| {})).unwrap();
    let other = Apps::try_from(&message(|message| {
        message.android_apps[0].certificate_fingerprints = vec![other_print.clone()];
        message.related_origins = vec!["https://other.example".into()];
    }))
    .unwrap();
    let both = message::RelyingPartyApps::from(&one.and(&other));
    assert_eq!(both.apple_app_ids.len(), 1);
    assert_eq!(both.android_apps.len(), 1);
    assert_eq!(both.android_apps[0].certificate_fingerprints, [PRINT.to_owned(), other_print]);
    assert_eq!(both.related_origins, ["https://other.example", "https://wallet.example.com"]);
}
