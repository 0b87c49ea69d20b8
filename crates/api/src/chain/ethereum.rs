//! Ethereum addresses.

use alloy_primitives::{Address, keccak256};

use super::Secp256k1Key;

/// The EIP-55 address of a key: the last 20 bytes of the Keccak-256 hash of x ‖ y, with the checksum in the case of
/// its letters.
#[must_use]
pub fn address(key: &Secp256k1Key) -> String {
    account(key).to_checksum(None)
}

/// The 20 bytes of the address.
#[must_use]
pub fn account(key: &Secp256k1Key) -> Address {
    Address::from_slice(&keccak256(key.coordinates())[12..])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_eip_55() {
        // The test cases of EIP-55.
        for text in [
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
            "0xde709f2102306220921060314715629080e2fb77",
            "0x27b1fdb04752bbc536007a920d24acb045561c26",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_checksum(None), text);
        }
    }

    #[test]
    fn published_keys_have_their_published_addresses() {
        for (secret, expected) in [
            // EIP-155, "Example".
            (
                "4646464646464646464646464646464646464646464646464646464646464646",
                "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
            ),
            // EIP-712, "Test": the key is keccak256("cow").
            (
                "c85ef7d79691fe79573b1a7064c19c1a9819ebdbd1faaab1a8ec92344438aaf4",
                "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826",
            ),
            // The first development account that anvil and hardhat print.
            (
                "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
                "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            ),
        ] {
            let secret = k256::ecdsa::SigningKey::from_slice(&hex::decode(secret).unwrap()).unwrap();
            let key = Secp256k1Key::parse(secret.verifying_key().to_sec1_point(true).as_bytes()).unwrap();
            assert_eq!(address(&key), expected);
        }
    }
}
