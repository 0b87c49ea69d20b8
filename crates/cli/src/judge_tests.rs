#![allow(clippy::unwrap_used)]

use super::*;

/// EIP-712, "Test": the digest of its example, the public key of the secret keccak256("cow"), and the signature.
const MAIL_DIGEST: &str = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2";
const COW: &str = "030947751e3022ecf3016be03ec77ab0ce3c2662b4843898cb068d74f698ccc8ad";
const MAIL_R: &str = "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d";
const MAIL_S: &str = "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562";

/// A signed EIP-1559 transaction from the tests of viem, by the first development account of anvil and hardhat.
const SIGNED: &str = "02f850018203118080825208808080c080a04012522854168b27e5dc3d5839bab5e6b39e1a0ffd343901ce1622e3d64b48f1\
                      a04e00902ae0502c4728cbf12156290df99c3ed7de85b1dbfe20b5c36931733a33";
const DEVELOPER: &str = "038318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed75";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn array(text: &str) -> [u8; 32] {
    bytes(text).try_into().unwrap()
}

#[test]
fn keccak_is_keccak() {
    let empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
    assert_eq!(keccak256(b""), array(empty));
}

#[test]
fn addresses_are_those_of_eip_712_and_of_the_developers() {
    assert_eq!(ethereum_address(&bytes(COW)).unwrap(), "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826");
    assert_eq!(ethereum_address(&bytes(DEVELOPER)).unwrap(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    for bad in ["", "00", &format!("02{}", "ff".repeat(32)), &format!("02{}05", "00".repeat(31)), &COW[..64]] {
        assert_eq!(ethereum_address(&bytes(bad)), Err(Rejected::NotAPublicKey), "{bad}");
    }
}

#[test]
fn the_signature_of_eip_712_stands_and_no_other() {
    let (digest, r, s) = (array(MAIL_DIGEST), array(MAIL_R), array(MAIL_S));
    assert_eq!(verify_ecdsa(&bytes(COW), &digest, &r, &s), Ok(()));
    assert_eq!(verify_ecdsa(&bytes(DEVELOPER), &digest, &r, &s), Err(Rejected::WrongSignature));
    for bit in 0..768 {
        let mut parts = [digest, r, s];
        parts[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
        assert_eq!(verify_ecdsa(&bytes(COW), &parts[0], &parts[1], &parts[2]), Err(Rejected::WrongSignature), "{bit}");
    }
    // n - s: the same equation holds, but it is not the normal form.
    let high = array("f8d666c92cfb3eac09bbc205fa0bf00eb2d7b3d4f8517d33c63c3b76ca7d2bdf");
    assert_eq!(verify_ecdsa(&bytes(COW), &digest, &r, &high), Err(Rejected::WrongSignature));
}

#[test]
fn a_published_transaction_stands() {
    let judged = ethereum_transaction(&bytes(SIGNED), &bytes(DEVELOPER)).unwrap();
    assert_eq!((judged.chain_id, judged.nonce, judged.value, judged.to), (1, 785, 0, None));
    assert_eq!(judged.from, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    assert_eq!(judged.hash, keccak256(&bytes(SIGNED)));
    assert_eq!(ethereum_transaction(&bytes(SIGNED), &bytes(COW)), Err(Rejected::WrongSignature));
}

#[test]
fn no_bit_of_a_transaction_can_change() {
    let good = bytes(SIGNED);
    // The parity of the nonce's point is not under the signature; all else is.
    let parity = good.len() - 67;
    assert_eq!(good[parity], 0x80);
    for bit in 0..good.len() * 8 {
        let mut raw = good.clone();
        raw[bit / 8] ^= 1 << (bit % 8);
        assert!(ethereum_transaction(&raw, &bytes(DEVELOPER)).is_err(), "{bit}");
    }
    for end in 0..good.len() {
        assert!(ethereum_transaction(&good[..end], &bytes(DEVELOPER)).is_err(), "{end}");
    }
    assert!(ethereum_transaction(&[&good[..], &[0]].concat(), &bytes(DEVELOPER)).is_err());
}

#[test]
fn the_signatures_of_rfc_8032_stand_and_no_other() {
    // RFC 8032, section 7.1, test 3.
    let key = bytes("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
    let good = bytes(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
         18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    );
    let text = |signature: &[u8]| bs58::encode(signature).into_string();
    assert_eq!(solana_message(&[0xaf, 0x82], &text(&good), &key), Ok(()));
    assert_eq!(solana_message(&[0xaf, 0x83], &text(&good), &key), Err(Rejected::WrongSignature));
    assert_eq!(solana_message(&[0xaf, 0x82], &text(&good[1..]), &key), Err(Rejected::NotASignature));
    assert_eq!(solana_message(&[0xaf, 0x82], "0OIl", &key), Err(Rejected::NotASignature));
    assert_eq!(solana_message(&[0xaf, 0x82], &text(&good), &key[1..]), Err(Rejected::NotAPublicKey));
    for bit in 0..512 {
        let mut signature = good.clone();
        signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(solana_message(&[0xaf, 0x82], &text(&signature), &key), Err(Rejected::WrongSignature), "{bit}");
    }
}
