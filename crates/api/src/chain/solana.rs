//! Solana addresses.

use super::Ed25519Key;

/// The base58 form of the 32 bytes of a key.
#[must_use]
pub fn address(key: &Ed25519Key) -> String {
    text(&key.to_bytes())
}

/// The base58 form of any account, which need not be a key.
#[must_use]
pub fn text(account: &[u8; 32]) -> String {
    bs58::encode(account).into_string()
}

/// An account from its base58 form.
#[must_use]
pub fn parse(text: &str) -> Option<[u8; 32]> {
    let mut account = [0; 32];
    (bs58::decode(text).onto(&mut account[..]).ok()? == 32).then_some(account)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_published_key_has_its_published_address() {
        // The BIP-39 test phrase "abandon … about" at m/44'/501'/0'/0', as wallets derive it (SLIP-0010).
        let key = hex::decode("f036276246a75b9de3349ed42b15e232f6518fc20f5fcd4f1d64e81f9bd258f7").unwrap();
        assert_eq!(address(&Ed25519Key::parse(&key).unwrap()), "HAgk14JpMQLgt6rVgv7cBQFJWFto5Dqxi472uT3DKpqk");
    }

    #[test]
    fn base58_is_strict() {
        assert_eq!(parse("11111111111111111111111111111111"), Some([0; 32]));
        assert_eq!(text(&[0; 32]), "11111111111111111111111111111111");
        for bad in [
            "",
            "1",
            "1111111111111111111111111111111",
            "111111111111111111111111111111111",
            "0OIl",
            "HAgk14JpMQLgt6rVgv7cBQFJWFto5Dqxi472uT3DKpqk1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
