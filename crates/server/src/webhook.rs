//! Messages to a custodian's backend or the operator's, signed as Standard Webhooks 1.0.0 says.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The longest answer that is read.
const MAX_ANSWER: usize = 16 * 1024;

/// What both sides of a webhook know: 24 to 64 bytes.
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// Not `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct NotASecret;

impl WebhookSecret {
    /// From `whsec_…`.
    ///
    /// # Errors
    /// [`NotASecret`].
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(NotASecret)?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| NotASecret)?);
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NotASecret) }
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// `whsec_…`, to be shown once.
    pub(crate) fn to_text(&self) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(&*self.0))
    }

    /// `v1,` and the base64 of HMAC-SHA-256 over id, time in seconds and body.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// No connection, no answer in time, or one that broke off.
    #[error("no answer")]
    Away(#[from] reqwest::Error),
    /// Another status than 2xx; a redirect is one.
    #[error("status {0}")]
    Status(u16),
    /// More than is read.
    #[error("too long an answer")]
    TooLong,
    /// Not an address that may be called.
    #[error("an address that may not be called")]
    Forbidden,
}

/// Which addresses may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any: the operator chose the address, or said that custodians may name hosts of its own network.
    Any,
    /// Public ones only: a stranger chose the address.
    Public,
}

/// Sends signed messages.
#[derive(Clone)]
pub(crate) struct Sender {
    client: reqwest::Client,
    reach: Reach,
}

impl Sender {
    /// `patience`: how long the other side may take, from the first byte to the last.
    pub(crate) fn new(patience: Duration, reach: Reach) -> Result<Self, reqwest::Error> {
        // One provider for the whole process; a second call does nothing.
        let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .user_agent(concat!("halfkey/", env!("CARGO_PKG_VERSION")));
        let client = match reach {
            Reach::Any => client,
            // A proxy would look names up by itself.
            Reach::Public => client.no_proxy().dns_resolver(PublicHosts),
        };
        Ok(Self { client: client.build()?, reach })
    }

    /// Posts JSON, signed with each of `secrets`, and gives the body of a 2xx with its status.
    pub(crate) async fn post(
        &self,
        url: &str,
        secrets: &[&WebhookSecret],
        id: &str,
        now_ms: u64,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), Unanswered> {
        let url = reqwest::Url::parse(url).map_err(|_| Unanswered::Forbidden)?;
        if self.reach == Reach::Public && !literal_is_public(&url) {
            return Err(Unanswered::Forbidden);
        }
        let seconds = now_ms / 1000;
        let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign(id, seconds, &body)).collect();
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .body(body);
        let mut answer = request.send().await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Unanswered::Status(status.as_u16()));
        }
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if read.len() + chunk.len() > MAX_ANSWER {
                return Err(Unanswered::TooLong);
            }
            read.extend_from_slice(&chunk);
        }
        Ok((status.as_u16(), read))
    }
}

/// Looks a name up and keeps the public addresses only, so that what is connected to is what was judged.
struct PublicHosts;

impl Resolve for PublicHosts {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                true => Err(Box::from(NotPublic)),
                false => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct NotPublic;

/// Whether a URL names no address at all, or a public one.
pub(crate) fn literal_is_public(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().map_or(!host.is_empty(), is_public)
}

/// Not this machine, not a private or link-local network, not one of the special ranges (IANA's registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            let inside = v6.to_ipv4_mapped().or_else(|| embedded(v6));
            inside.is_none_or(is_public_v4)
                // Global unicast is 2000::/3; of it 2001:db8::/32 is for documents, 2001:0::/23 for protocols.
                && (inside.is_some() || a & 0xe000 == 0x2000)
                && !(a == 0x2001 && (b == 0x0db8 || b < 0x0200))
        }
    }
}

/// The IPv4 address that a 6to4 (2002::/16) or NAT64 (64:ff9b::/96) address leads to.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0x2002, high, low, ..] => Some(of(high, low)),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        _ => None,
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The vector that Standard Webhooks publishes with its libraries.
    #[test]
    fn signs_as_the_standard_does() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{secret:?}"), "WebhookSecret");
    }

    #[test]
    fn a_secret_has_24_to_64_bytes() {
        for (bytes, good) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
            assert_eq!(WebhookSecret::parse(&text).is_ok(), good, "{bytes}");
        }
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!"] {
            assert_eq!(WebhookSecret::parse(text).err(), Some(NotASecret), "{text}");
        }
    }

    #[test]
    fn addresses_of_networks_that_are_not_everybodys_are_told_apart() {
        let inside = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
        ];
        for address in inside {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        let literal = |url: &str| literal_is_public(&reqwest::Url::parse(url).unwrap());
        for url in [
            "https://127.0.0.1/",
            "https://[::1]/x",
            "https://[fe80::1]:8443/",
            "https://2130706433/",
            "https://0x7f.1/",
        ] {
            assert!(!literal(url), "{url}");
        }
        assert!(literal("https://example.com/") && literal("https://1.1.1.1/"));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_called_for_a_stranger() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let secret = WebhookSecret::from_bytes(&[7; 32]);
        let sender = Sender::new(Duration::from_secs(5), Reach::Public).unwrap();
        assert!(matches!(sender.post(&url, &[&secret], "x", 0, Vec::new()).await, Err(Unanswered::Away(_))));
        let literal = url.replace("localhost", "127.0.0.1");
        assert!(matches!(sender.post(&literal, &[&secret], "x", 0, Vec::new()).await, Err(Unanswered::Forbidden)));
        let silent = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(silent.is_err(), "nobody came");
    }
}
