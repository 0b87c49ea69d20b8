//! Bitcoin addresses: pay to witness public key hash for our own keys, every standard form for those we pay.

use bech32::{Fe32, Hrp, segwit};
use ripemd::Ripemd160;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Secp256k1Key;

/// Which Bitcoin network an address is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Addresses begin with `bc1`.
    #[default]
    Mainnet,
    /// Addresses begin with `tb1`: testnet and signet.
    Testnet,
}

impl Network {
    const fn hrp(self) -> Hrp {
        match self {
            Self::Mainnet => bech32::hrp::BC,
            Self::Testnet => bech32::hrp::TB,
        }
    }

    const fn base58_versions(self) -> (u8, u8) {
        match self {
            Self::Mainnet => (0x00, 0x05),
            Self::Testnet => (0x6f, 0xc4),
        }
    }
}

/// The bech32 address of BIP-173 for the native P2WPKH program of BIP-141.
#[must_use]
pub fn address(key: &Secp256k1Key, network: Network) -> String {
    let program = public_key_hash(key);
    // A version 0 program of 20 bytes has an address on both networks: there is nothing that could fail.
    segwit::encode(network.hrp(), segwit::VERSION_0, &program).unwrap_or_default()
}

/// HASH160 of the compressed key: RIPEMD-160 of SHA-256.
#[must_use]
pub fn public_key_hash(key: &Secp256k1Key) -> [u8; 20] {
    Ripemd160::digest(Sha256::digest(key.to_bytes())).into()
}

/// The P2WPKH output script of a key: `OP_0 <20 bytes>`.
#[must_use]
pub fn output_script(key: &Secp256k1Key) -> [u8; 22] {
    let mut script = [0; 22];
    script[1] = 20;
    script[2..].copy_from_slice(&public_key_hash(key));
    script
}

/// The address that an output script pays to; `None` where there is none (bare scripts, `OP_RETURN`).
#[must_use]
pub fn address_of_script(script: &[u8], network: Network) -> Option<String> {
    let (public_key_hash, script_hash) = network.base58_versions();
    match script {
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => Some(base58check(public_key_hash, hash)),
        [0xa9, 20, hash @ .., 0x87] if hash.len() == 20 => Some(base58check(script_hash, hash)),
        [version, length, program @ ..] if program.len() == usize::from(*length) => {
            let version = match version {
                0 => segwit::VERSION_0,
                0x51..=0x60 => Fe32::try_from(version - 0x50).ok()?,
                _ => return None,
            };
            segwit::encode(network.hrp(), version, program).ok()
        }
        _ => None,
    }
}

/// The wallet import format of a private key whose public key is compressed: base58check of the network's version, the
/// key, and `01`.
#[must_use]
pub fn wif(key: &[u8; 32], network: Network) -> Zeroizing<String> {
    let mut payload = Zeroizing::new([0u8; 38]);
    payload[0] = match network {
        Network::Mainnet => 0x80,
        Network::Testnet => 0xef,
    };
    payload[1..33].copy_from_slice(key);
    payload[33] = 1;
    let check = Sha256::digest(Sha256::digest(&payload[..34]));
    payload[34..].copy_from_slice(&check[..4]);
    // 38 bytes are 52 digits: the buffer is never moved, and so leaves no copy behind.
    let mut text = Zeroizing::new([0u8; 64]);
    let length = bs58::encode(&payload[..]).onto(&mut text[..]).unwrap_or_default();
    let mut wif = Zeroizing::new(String::with_capacity(length));
    wif.extend(text[..length].iter().copied().map(char::from));
    wif
}

fn base58check(version: u8, hash: &[u8]) -> String {
    bs58::encode(hash).with_check_version(version).into_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(text: &str) -> Secp256k1Key {
        Secp256k1Key::parse(&hex::decode(text).unwrap()).unwrap()
    }

    #[test]
    fn the_example_of_bip_173() {
        let key = key("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        assert_eq!(address(&key, Network::Mainnet), "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4");
        assert_eq!(address(&key, Network::Testnet), "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx");
    }

    #[test]
    fn the_first_key_of_bip_84() {
        let key = key("0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c");
        assert_eq!(address(&key, Network::Mainnet), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    }

    #[test]
    fn published_keys_have_their_published_import_format() {
        for (key, network, expected) in [
            // The Bitcoin wiki's example of the format, compressed.
            (
                "0c28fca386c7a227600b2fe50b7cae11ec86d3bf1fbe471be89827e19d72aa1d",
                Network::Mainnet,
                "KwdMAjGmerYanjeui5SHS7JkmpZvVipYvB2LJGU1ZxJwYvP98617",
            ),
            // Bitcoin Core, key_io_valid.json: compressed, testnet.
            (
                "b9f4892c9e8282028fea1d2667c4dc5213564d41fc5783896a0d843fc15089f3",
                Network::Testnet,
                "cTpB4YiyKiBcPxnefsDpbnDxFDffjqJob8wGCEDXxgQ7zQoMXJdH",
            ),
        ] {
            let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
            assert_eq!(*wif(&key, network), expected);
        }
    }

    #[test]
    fn published_scripts_have_their_published_addresses() {
        for (script, expected) in [
            // BIP-350, valid addresses.
            ("0014751e76e8199196d454941c45d1b3a323f1433bd6", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
            (
                "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            ),
            ("5210751e76e8199196d454941c45d1b3a323", "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs"),
            // The key of the genesis block's coinbase, as an address.
            ("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
            // BIP-16's form: a pair found in the address tests of several Bitcoin libraries.
            ("a914748284390f9e263a4b766a75d0633c50426eb87587", "3CK4fEwbMP7heJarmU4eqA3sMbVJyEnU3V"),
        ] {
            let script = hex::decode(script).unwrap();
            assert_eq!(address_of_script(&script, Network::Mainnet).as_deref(), Some(expected));
        }
        for none in ["", "00", "6a0548656c6c6f", "0015751e76e8199196d454941c45d1b3a323f1433bd600", "5101aa"] {
            assert_eq!(address_of_script(&hex::decode(none).unwrap(), Network::Mainnet), None, "{none}");
        }
    }
}
