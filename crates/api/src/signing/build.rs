//! Builders of the two payloads that nearly every wallet signs first: a plain transfer on each chain.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{Address, TxKind, U256};

use super::{Payload, SigningError, solana::SYSTEM_PROGRAM};
use crate::chain::{Ed25519Key, solana};

/// A transfer of ether (EIP-1559).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eip1559Transfer {
    /// EIP-155; never 0.
    pub chain_id: u64,
    /// How many transactions the sender has made.
    pub nonce: u64,
    /// Whom it pays: `0x` and 40 hex digits, with a right EIP-55 checksum if there are capitals.
    pub to: String,
    /// In wei.
    pub value: u128,
    /// In wei per unit of gas.
    pub max_fee_per_gas: u128,
    /// In wei per unit of gas.
    pub max_priority_fee_per_gas: u128,
}

impl Eip1559Transfer {
    /// What a plain transfer uses.
    pub const GAS: u64 = 21_000;

    /// The unsigned transaction.
    ///
    /// # Errors
    /// [`SigningError::Malformed`] if the receiver is no address, or its checksum is wrong.
    pub fn payload(&self) -> Result<Payload, SigningError> {
        let malformed = SigningError::Malformed("an Ethereum address");
        let to: Address = self.to.parse().map_err(|_| malformed)?;
        let digits = self.to.strip_prefix("0x").ok_or(malformed)?;
        if digits.chars().any(|c| c.is_ascii_uppercase()) && to.to_checksum(None) != self.to {
            return Err(malformed);
        }
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: Self::GAS,
            max_fee_per_gas: self.max_fee_per_gas,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
            to: TxKind::Call(to),
            value: U256::from(self.value),
            ..TxEip1559::default()
        };
        Ok(Payload::EthTransaction(transaction.encoded_for_signing()))
    }
}

/// A transfer of SOL by the System program, in a legacy message that the sender pays for and signs alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SolanaTransfer {
    /// Who pays.
    pub from: Ed25519Key,
    /// Whom it pays: an account in base58.
    pub to: String,
    /// The amount.
    pub lamports: u64,
    /// A recent block hash, in base58.
    pub recent_blockhash: String,
}

impl SolanaTransfer {
    /// The message.
    ///
    /// # Errors
    /// [`SigningError::Malformed`] if the receiver or the block hash is not 32 bytes in base58, or the receiver is the
    /// sender or the System program.
    pub fn payload(&self) -> Result<Payload, SigningError> {
        let from = self.from.to_bytes();
        let to = solana::parse(&self.to).ok_or(SigningError::Malformed("a Solana address"))?;
        let blockhash = solana::parse(&self.recent_blockhash).ok_or(SigningError::Malformed("a Solana block hash"))?;
        if to == from || to == SYSTEM_PROGRAM {
            return Err(SigningError::Malformed("the receiver of a Solana transfer"));
        }
        // One signer; of the others, one (the program) is only read.
        let mut message = vec![1, 0, 1, 3];
        for account in [from, to, SYSTEM_PROGRAM, blockhash] {
            message.extend_from_slice(&account);
        }
        // One instruction: program 2, accounts 0 and 1, and 12 bytes: the number 2 (transfer) and the lamports.
        message.extend_from_slice(&[1, 2, 2, 0, 1, 12, 2, 0, 0, 0]);
        message.extend_from_slice(&self.lamports.to_le_bytes());
        Ok(Payload::SolanaMessage(message))
    }
}
