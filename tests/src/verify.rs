//! How end-to-end tests judge what a wallet signed (DECISIONS.md D35): by AWS-LC and separate code, and then by the
//! chains themselves ([`crate::anvil`], [`crate::litesvm`]).

pub use halfkey_cli::judge::{
    EthereumTransaction, Rejected, ethereum_address, ethereum_transaction, is_private_key_of, keccak256,
    solana_message, verify_ecdsa,
};
