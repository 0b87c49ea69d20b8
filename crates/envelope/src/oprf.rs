//! The oblivious function of the password door: RFC 9497, base mode, ristretto255-SHA512.
//!
//! Whoever has the key learns nothing of the input; whoever has the input learns one output for each time the
//! holder of the key evaluates.

use voprf::{BlindedElement, EvaluationElement, OprfClient, OprfServer, Ristretto255};
use zeroize::Zeroizing;

use crate::{
    door::OprfKey,
    entropy::{Entropy, Rng06},
};

/// The output: 64 bytes.
pub type Output = Zeroizing<[u8; 64]>;

/// Bytes that are not the canonical encoding of a group element other than the identity, or not a canonical
/// scalar other than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical element or key")]
pub struct NotCanonical;

/// One blinded input, kept by the client until the evaluation comes.
pub struct Blinding {
    client: OprfClient<Ristretto255>,
    blinded: [u8; 32],
}

crate::secret::redact!(Blinding);

impl Blinding {
    /// Blinds `input`, 1 to 65535 bytes.
    pub fn new(input: &[u8], entropy: &mut dyn Entropy) -> Result<Self, NotCanonical> {
        let blind = OprfClient::blind(input, &mut Rng06(entropy)).map_err(|_| NotCanonical)?;
        Ok(Self { client: blind.state, blinded: blind.message.serialize().into() })
    }

    /// What goes to the keeper.
    #[must_use]
    pub const fn blinded(&self) -> &[u8; 32] {
        &self.blinded
    }

    /// Takes the blinding off an evaluation of the same `input`.
    pub fn finalize(&self, input: &[u8], evaluated: &[u8; 32]) -> Result<Output, NotCanonical> {
        let element = EvaluationElement::<Ristretto255>::deserialize(evaluated).map_err(|_| NotCanonical)?;
        let output = self.client.finalize(input, &element).map_err(|_| NotCanonical)?;
        Ok(Zeroizing::new(output.into()))
    }
}

/// A fresh key.
pub fn generate_key(entropy: &mut dyn Entropy) -> Result<OprfKey, NotCanonical> {
    let server = OprfServer::<Ristretto255>::new(&mut Rng06(entropy)).map_err(|_| NotCanonical)?;
    Ok(OprfKey::from_bytes(Zeroizing::new(server.serialize().into())))
}

/// Whether `key` can be evaluated with.
pub fn check_key(key: &OprfKey) -> Result<(), NotCanonical> {
    server(key).map(|_| ())
}

/// Whether `blinded` can be evaluated: asked *before* a guess is counted.
pub fn check_element(blinded: &[u8; 32]) -> Result<(), NotCanonical> {
    element(blinded).map(|_| ())
}

/// Evaluates a blinded input, at the keeper.
pub fn evaluate_blinded(key: &OprfKey, blinded: &[u8; 32]) -> Result<[u8; 32], NotCanonical> {
    Ok(server(key)?.blind_evaluate(&element(blinded)?).serialize().into())
}

/// Evaluates an input with the key in hand: what a registering client does by itself.
pub fn evaluate(key: &OprfKey, input: &[u8]) -> Result<Output, NotCanonical> {
    let output = server(key)?.evaluate(input).map_err(|_| NotCanonical)?;
    Ok(Zeroizing::new(output.into()))
}

fn server(key: &OprfKey) -> Result<OprfServer<Ristretto255>, NotCanonical> {
    OprfServer::new_with_key(key.expose()).map_err(|_| NotCanonical)
}

fn element(blinded: &[u8; 32]) -> Result<BlindedElement<Ristretto255>, NotCanonical> {
    BlindedElement::deserialize(blinded).map_err(|_| NotCanonical)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;

    /// Gives the blind of a vector: `voprf` reduces 64 bytes, little-endian.
    struct Fixed(Vec<u8>);

    impl Entropy for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            let rest = self.0.split_off(out.len());
            out.copy_from_slice(&self.0);
            self.0 = rest;
        }
    }

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        hex::decode(hex.replace(char::is_whitespace, "")).unwrap().try_into().unwrap()
    }

    /// RFC 9497, appendix A.1.1.
    #[test]
    fn rfc_9497_vectors_hold_through_our_wrapper() {
        let key = bytes("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e");
        let key = OprfKey::from_bytes(Zeroizing::new(key));
        let blind: [u8; 32] = bytes("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706");
        for (input, blinded, evaluated, output) in [
            (
                vec![0x00],
                "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
                "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
                "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3
                 ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
            ),
            (
                vec![0x5a; 17],
                "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
                "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
                "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4
                 f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
            ),
        ] {
            let client = Blinding::new(&input, &mut Fixed([blind.to_vec(), vec![0; 32]].concat())).unwrap();
            assert_eq!(*client.blinded(), bytes(blinded));
            assert_eq!(evaluate_blinded(&key, client.blinded()).unwrap(), bytes(evaluated));
            assert_eq!(*client.finalize(&input, &bytes(evaluated)).unwrap(), bytes(output));
            assert_eq!(*evaluate(&key, &input).unwrap(), bytes(output));
        }
    }

    #[test]
    fn bad_elements_and_keys_are_refused() {
        let key = generate_key(&mut DangerSeededEntropy::new(1)).unwrap();
        let order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        for (what, element) in [
            ("identity", [0; 32]),
            ("not canonical", [0xff; 32]),
            ("negative", {
                let mut negative = [0; 32];
                negative[0] = 1;
                negative
            }),
        ] {
            assert_eq!(check_element(&element), Err(NotCanonical), "{what}");
            assert_eq!(evaluate_blinded(&key, &element), Err(NotCanonical), "{what}");
        }
        for (what, key) in [("zero", [0; 32]), ("the order", order), ("too large", [0xff; 32])] {
            assert_eq!(check_key(&OprfKey::from_bytes(Zeroizing::new(key))), Err(NotCanonical), "{what}");
        }
    }
}
