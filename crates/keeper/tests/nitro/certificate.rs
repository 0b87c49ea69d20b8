//! Certificates of a certificate authority of our own, for TLS and as a name of an RSA key.

use halfkey_evidence::synthetic::{
    der,
    nitro::{ECDSA_WITH_SHA256, SECP256R1},
};
use p256::{
    ecdsa::{DerSignature, SigningKey, signature::Signer as _},
    pkcs8::EncodePrivateKey,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A certificate authority.
pub struct Authority(SigningKey);

impl Authority {
    pub fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    /// Its own certificate, DER.
    pub fn root(&self) -> Vec<u8> {
        let usage = der::key_usage(der::SIGNS_CERTIFICATES);
        self.certificate("authority", &public(&self.0), vec![der::basic_constraints(true, None), usage])
    }

    /// A certificate for whatever public key, DER of a SubjectPublicKeyInfo.
    pub fn certificate(&self, subject: &str, public: &[u8], extensions: Vec<Vec<u8>>) -> Vec<u8> {
        let algorithm = der::sequence(&[der::oid(ECDSA_WITH_SHA256)]);
        let tbs = der::sequence(&[
            der::tlv(0xa0, &der::tlv(2, &[2])),
            der::tlv(2, &[7]),
            algorithm.clone(),
            der::name("authority"),
            der::sequence(&[der::time("200101000000Z"), der::time("491231235959Z")]),
            der::name(subject),
            public.to_vec(),
            der::tlv(0xa3, &der::sequence(&extensions)),
        ]);
        let signature: DerSignature = self.0.sign(&tbs);
        der::sequence(&[tbs, algorithm, der::bits(signature.as_bytes())])
    }

    /// A TLS server's side for these hosts.
    pub fn server(&self, hosts: &[String]) -> ServerConfig {
        let key = SigningKey::from_slice(&[99; 32]).unwrap();
        let names: Vec<_> = hosts.iter().map(|host| der::tlv(0x82, host.as_bytes())).collect();
        let names = der::extension(17, false, &der::sequence(&names));
        let usage = der::key_usage(der::SIGNS_DOCUMENTS);
        let certificate = self.certificate("kms", &public(&key), vec![names, usage]);
        let secret = p256::SecretKey::from(&key).to_pkcs8_der().unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.as_bytes().to_vec()));
        ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], secret)
            .unwrap()
    }
}

fn public(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let id = der::oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
    der::sequence(&[der::sequence(&[id, der::oid(SECP256R1)]), der::bits(point.as_bytes())])
}
