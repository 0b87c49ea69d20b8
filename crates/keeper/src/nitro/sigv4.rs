//! AWS Signature Version 4 ("Create a signed AWS API request" in AWS's guide to IAM): a chain of HMACs over the request.
//!
//! It shows AWS whose bill and which role a request is. The credentials come from the parent instance, which could as
//! well send requests of its own; nothing secret of the keeper depends on them.

use halfkey_envelope::hash::sha256;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use x509_cert::der::DateTime;
use zeroize::Zeroizing;

/// What the parent's role may sign with, for some hours.
pub struct Credentials {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret: Zeroizing<String>,
    /// What comes with temporary credentials.
    pub token: Option<Zeroizing<String>>,
}

/// What is signed.
pub struct Signable<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    /// Names in lower case, in ascending order.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// `YYYYMMDDTHHMMSSZ`; `None` beyond the year 9999.
pub fn timestamp(unix_ms: u64) -> Option<String> {
    let at = DateTime::from_unix_duration(std::time::Duration::from_secs(unix_ms / 1000)).ok()?;
    let (year, month, day) = (at.year(), at.month(), at.day());
    Some(format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", at.hour(), at.minutes(), at.seconds()))
}

/// The value of the header `Authorization`.
pub fn authorization(
    request: &Signable<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    timestamp: &str,
) -> String {
    let date = timestamp.get(..8).unwrap_or_default();
    let names = request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{}",
        hex::encode(sha256(canonical(request, &names).as_bytes()))
    );
    let first = Zeroizing::new(format!("AWS4{}", *credentials.secret));
    let key = [date, region, service, "aws4_request", &text]
        .iter()
        .fold(Zeroizing::new(first.as_bytes().to_vec()), |key, message| Zeroizing::new(hmac(&key, message)));
    let signature = hex::encode(&*key);
    let id = &credentials.access_key_id;
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
}

fn canonical(request: &Signable<'_>, names: &str) -> String {
    let Signable { method, path, query, headers, body } = request;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{}", hex::encode(sha256(body)))
}

#[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            token: None,
        }
    }

    /// 2015-08-30 12:36:00.
    const AT_MS: u64 = 1_440_938_160_000;

    fn signature(request: &Signable<'_>, service: &str) -> String {
        let timestamp = timestamp(AT_MS).unwrap();
        assert_eq!(timestamp, "20150830T123600Z");
        authorization(request, &example(), "us-east-1", service, &timestamp)
    }

    /// The example of AWS's general reference ("Signature Version 4 signing process": ListUsers), and the cases get-vanilla
    /// and post-vanilla of its test suite.
    #[test]
    fn the_published_examples() {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let query = "Action=ListUsers&Version=2010-05-08";
        let request = Signable { method: "GET", path: "/", query, headers: &headers, body: b"" };
        assert_eq!(
            signature(&request, "iam"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let vanilla = |method| Signable { method, path: "/", query: "", headers: &headers, body: b"" };
        let ends = |method, end| assert!(signature(&vanilla(method), "service").ends_with(end), "{method}");
        ends("GET", "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        ends("POST", "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    }
}
