//! Ethereum: unsigned transactions and EIP-191 messages.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxLegacy, transaction::RlpEcdsaDecodableTx};
use alloy_primitives::{Address, TxKind, U256, eip191_hash_message, keccak256};
use alloy_rlp::Decodable;

use super::{
    Decoded, MAX_PAYLOAD_BYTES, SigningError, ToSign,
    summary::{Summary, amount, printable_bytes},
};
use crate::chain::{Secp256k1Key, ethereum};

const MALFORMED: SigningError = SigningError::Malformed("an unsigned Ethereum transaction");

/// A transaction that this version signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transaction {
    /// With the chain id of EIP-155: without it, it could be replayed on every chain.
    Legacy(TxLegacy),
    /// EIP-2930.
    AccessList(TxEip2930),
    /// EIP-1559.
    FeeMarket(TxEip1559),
}

impl Transaction {
    fn as_dyn(&self) -> &dyn alloy_consensus::Transaction {
        match self {
            Self::Legacy(transaction) => transaction,
            Self::AccessList(transaction) => transaction,
            Self::FeeMarket(transaction) => transaction,
        }
    }
}

/// Reads the exact preimage of a transaction's signing hash: RLP for a legacy one (EIP-155 with its chain id and two
/// zeros), a type byte and RLP for the others (EIP-2718). Only the canonical encoding passes, so the bytes are the
/// transaction.
pub(super) fn parse(bytes: &[u8]) -> Result<Transaction, SigningError> {
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(SigningError::TooLarge);
    }
    let transaction = match bytes {
        [0x01, rlp @ ..] => Transaction::AccessList(whole(rlp, TxEip2930::rlp_decode)?),
        [0x02, rlp @ ..] => Transaction::FeeMarket(whole(rlp, TxEip1559::rlp_decode)?),
        [0x00..=0x7f, ..] => return Err(SigningError::Unsupported("this type of Ethereum transaction")),
        [0xc0..=0xff, ..] => Transaction::Legacy(whole(bytes, TxLegacy::decode)?),
        _ => return Err(MALFORMED),
    };
    let encoded = match &transaction {
        Transaction::Legacy(transaction) => transaction.encoded_for_signing(),
        Transaction::AccessList(transaction) => transaction.encoded_for_signing(),
        Transaction::FeeMarket(transaction) => transaction.encoded_for_signing(),
    };
    if encoded != bytes {
        return Err(MALFORMED);
    }
    match transaction.as_dyn().chain_id() {
        None | Some(0) => return Err(SigningError::Unsupported("an Ethereum transaction without a chain id")),
        Some(_) => {}
    }
    match &transaction {
        Transaction::FeeMarket(tx) if tx.max_priority_fee_per_gas > tx.max_fee_per_gas => {
            Err(SigningError::Malformed("the priority fee is above the maximum fee"))
        }
        _ => Ok(transaction),
    }
}

fn whole<T>(mut rlp: &[u8], decode: fn(&mut &[u8]) -> alloy_rlp::Result<T>) -> Result<T, SigningError> {
    let value = decode(&mut rlp).map_err(|_| MALFORMED)?;
    if rlp.is_empty() { Ok(value) } else { Err(MALFORMED) }
}

pub(super) fn decode_transaction(bytes: &[u8], signer: &Secp256k1Key) -> Result<Decoded, SigningError> {
    let transaction = parse(bytes)?;
    let summary = summarise(transaction.as_dyn(), signer);
    Ok(Decoded { to_sign: ToSign::Digest(keccak256(bytes).0), summary })
}

fn summarise(transaction: &dyn alloy_consensus::Transaction, signer: &Secp256k1Key) -> Summary {
    let chain = format!("ethereum:{}", transaction.chain_id().unwrap_or_default());
    let action = match (transaction.kind(), transaction.input().is_empty()) {
        (TxKind::Create, _) => "create a contract",
        (TxKind::Call(_), true) => "transfer",
        (TxKind::Call(_), false) => "call a contract",
    };
    let mut summary = Summary::new(chain, action, ethereum::address(signer));
    summary.to = transaction.to().map(|to| to.to_checksum(None));
    summary.value = Some(amount(transaction.value(), 18, "ETH"));
    let fee = U256::from(transaction.gas_limit()) * U256::from(transaction.max_fee_per_gas());
    summary.fee = Some(amount(fee, 18, "ETH"));
    summary.detail("nonce", transaction.nonce().to_string());
    if let Some((call, party, tokens)) = token_call(transaction.input()) {
        summary.detail(call, format!("{tokens} of the token's smallest unit, {}", party.to_checksum(None)));
    }
    if !transaction.input().is_empty() {
        summary.detail("data", format!("0x{}", hex::encode(transaction.input())));
    }
    if let Some(list) = transaction.access_list().filter(|list| !list.is_empty()) {
        summary.detail("access list", format!("{} accounts", list.len()));
    }
    summary
}

/// The two calls of ERC-20 that move money: `transfer(address,uint256)` and `approve(address,uint256)`.
fn token_call(data: &[u8]) -> Option<(&'static str, Address, U256)> {
    let (selector, arguments) = data.split_first_chunk::<4>()?;
    let call = match selector {
        [0xa9, 0x05, 0x9c, 0xbb] => "token transfer",
        [0x09, 0x5e, 0xa7, 0xb3] => "token allowance",
        _ => return None,
    };
    let (party, tokens) = arguments.split_first_chunk::<32>()?;
    let (padding, account) = party.split_first_chunk::<12>()?;
    (tokens.len() == 32 && padding == &[0; 12])
        .then(|| (call, Address::from_slice(account), U256::from_be_slice(tokens)))
}

pub(super) fn decode_message(message: &[u8], signer: &Secp256k1Key) -> Decoded {
    let mut summary = Summary::new("ethereum", "sign a message", ethereum::address(signer));
    summary.detail("message", printable_bytes(message));
    Decoded { to_sign: ToSign::Digest(eip191_hash_message(message).0), summary }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use alloy_consensus::transaction::RlpEcdsaEncodableTx;
    use alloy_eips::eip2930::{AccessList, AccessListItem};
    use alloy_primitives::{B256, Bytes};
    use proptest::prelude::*;

    use super::*;

    fn signer() -> Secp256k1Key {
        let key = k256::ecdsa::SigningKey::from_slice(&[0x46; 32]).unwrap();
        Secp256k1Key::parse(key.verifying_key().to_sec1_point(true).as_bytes()).unwrap()
    }

    fn transfer() -> TxEip1559 {
        TxEip1559 {
            chain_id: 1,
            nonce: 7,
            gas_limit: 21_000,
            max_fee_per_gas: 30_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(Address::repeat_byte(0x35)),
            value: U256::from(1_500_000_000_000_000_000_u64),
            access_list: AccessList::default(),
            input: Bytes::new(),
        }
    }

    #[test]
    fn the_example_of_eip_155() {
        let preimage =
            hex::decode("ec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080")
                .unwrap();
        let decoded = decode_transaction(&preimage, &signer()).unwrap();
        assert_eq!(hex::encode(decoded.bytes()), "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53");
        let summary = decoded.summary();
        assert_eq!(summary.chain, "ethereum:1");
        assert_eq!(summary.action, "transfer");
        assert_eq!(summary.from, "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
        assert_eq!(summary.to.as_deref(), Some("0x3535353535353535353535353535353535353535"));
        assert_eq!(summary.value.as_deref(), Some("1 ETH"));
        assert_eq!(summary.fee.as_deref(), Some("0.00042 ETH"));
    }

    #[test]
    fn the_examples_of_eip_191_implementations() {
        // The hashes that ethers.js and web3.js document for these messages.
        for (message, expected) in [
            ("Hello World", "a1de988600a42c4b4ab089b619297c17d53cffae5d5120d82d8a92d0bb3b78f2"),
            ("hello world", "d9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d68"),
        ] {
            assert_eq!(hex::encode(decode_message(message.as_bytes(), &signer()).bytes()), expected);
        }
    }

    #[test]
    fn a_token_transfer_names_who_is_paid() {
        let data = [&[0xa9, 0x05, 0x9c, 0xbb][..], &[0; 12], &[0x11; 20], &[0; 31], &[250]].concat();
        let bytes = TxEip1559 { input: data.into(), ..transfer() }.encoded_for_signing();
        let decoded = decode_transaction(&bytes, &signer()).unwrap();
        assert_eq!(decoded.summary().action, "call a contract");
        let detail = decoded.summary().details.iter().find(|detail| detail.label == "token transfer").unwrap();
        assert_eq!(detail.value, "250 of the token's smallest unit, 0x1111111111111111111111111111111111111111");
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let good = transfer().encoded_for_signing();
        assert!(parse(&good).is_ok());
        let legacy = "ec098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080018080";
        let mut bad: Vec<Vec<u8>> = vec![
            vec![],
            vec![0x02],
            vec![0x80],
            vec![0xc0],
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            // A legacy transaction whose two sentinels are not zero, and one with them outside its list.
            hex::decode(legacy.replace("018080", "010180")).unwrap(),
            hex::decode(format!("e9{}", &legacy[2..])).unwrap(),
            // A number with a leading zero.
            hex::decode(legacy.replacen("ec09", "ed8109", 1)).unwrap(),
        ];
        // A signed EIP-1559 transaction is not an unsigned one.
        let signature = alloy_primitives::Signature::new(U256::from(1), U256::from(1), false);
        let mut signed = vec![];
        transfer().eip2718_encode(&signature, &mut signed);
        bad.push(signed);
        for bytes in bad {
            assert_eq!(parse(&bytes), Err(MALFORMED), "{}", hex::encode(&bytes));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let good = transfer().encoded_for_signing();
        for kind in [0x00, 0x03, 0x04, 0x05, 0x7f] {
            let bytes = [&[kind], &good[1..]].concat();
            assert_eq!(parse(&bytes), Err(SigningError::Unsupported("this type of Ethereum transaction")));
        }
        let no_chain = SigningError::Unsupported("an Ethereum transaction without a chain id");
        assert_eq!(parse(&TxEip1559 { chain_id: 0, ..transfer() }.encoded_for_signing()), Err(no_chain));
        let replayable = TxLegacy { chain_id: None, nonce: 1, to: TxKind::Call(Address::ZERO), ..Default::default() };
        assert_eq!(parse(&replayable.encoded_for_signing()), Err(no_chain));
        let upside_down = TxEip1559 { max_priority_fee_per_gas: 30_000_000_001, ..transfer() };
        assert!(matches!(parse(&upside_down.encoded_for_signing()), Err(SigningError::Malformed(_))));
        assert_eq!(parse(&vec![0xff; MAX_PAYLOAD_BYTES + 1]), Err(SigningError::TooLarge));
    }

    proptest! {
        #[test]
        fn transactions_round_trip(
            chain_id in 1_u64.., nonce: u64, gas_limit: u64, fee: u128, tip: u128, to: Option<[u8; 20]>, value: [u8; 32],
            data in prop::collection::vec(any::<u8>(), 0..80), keys in prop::collection::vec(any::<[u8; 32]>(), 0..3),
        ) {
            let to = to.map_or(TxKind::Create, |to| TxKind::Call(to.into()));
            let (value, input) = (U256::from_be_bytes(value), Bytes::from(data));
            let item = AccessListItem { address: Address::ZERO, storage_keys: keys.into_iter().map(B256::from).collect() };
            let access_list = AccessList(vec![item]);
            let (max_fee_per_gas, max_priority_fee_per_gas) = (fee.max(tip), fee.min(tip));
            let market = TxEip1559 { chain_id, nonce, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, to, value,
                access_list: access_list.clone(), input: input.clone() };
            prop_assert_eq!(parse(&market.encoded_for_signing()), Ok(Transaction::FeeMarket(market)));
            let listed = TxEip2930 { chain_id, nonce, gas_price: fee, gas_limit, to, value, access_list, input: input.clone() };
            prop_assert_eq!(parse(&listed.encoded_for_signing()), Ok(Transaction::AccessList(listed)));
            let legacy = TxLegacy { chain_id: Some(chain_id), nonce, gas_price: fee, gas_limit, to, value, input };
            let bytes = legacy.encoded_for_signing();
            prop_assert_eq!(parse(&bytes), Ok(Transaction::Legacy(legacy)));
            decode_transaction(&bytes, &signer()).unwrap();
        }

        #[test]
        fn any_flipped_bit_is_refused_or_another_transaction(position in 0_usize..1000, bit in 0_u8..8) {
            let good = transfer().encoded_for_signing();
            let mut bytes = good.clone();
            bytes[position % good.len()] ^= 1 << bit;
            if let Ok(parsed) = parse(&bytes) {
                prop_assert_ne!(parsed, Transaction::FeeMarket(transfer()));
            }
        }

        #[test]
        fn no_bytes_panic(kind in prop::sample::select(vec![1_u8, 2, 0xc0, 0xf8, 0xf9, 0xff]), rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&[&[kind], &rest[..]].concat());
        }
    }
}
