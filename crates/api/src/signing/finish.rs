//! From a payload and its signature to what a chain takes.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxLegacy, transaction::RlpEcdsaEncodableTx};
use alloy_primitives::{U256, keccak256};
use halfkey_envelope::wallet::Curve;

use super::{
    Capabilities, Payload, SigningError, ToSign, bitcoin, decode,
    ethereum::{self, Transaction},
    solana,
};
use crate::chain::{Ed25519Key, PublicKey, Secp256k1Key};

/// A signature, as the two parties make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// ECDSA, in its normal form (low s).
    Ecdsa {
        /// Big-endian.
        r: [u8; 32],
        /// Big-endian, at most half the group's order.
        s: [u8; 32],
        /// 0 or 1: whether the y coordinate of the nonce's point is odd.
        recovery_id: u8,
    },
    /// Ed25519 (RFC 8032): R ‖ S.
    Ed25519([u8; 64]),
}

/// What a payload became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// For `eth_sendRawTransaction`.
    EthTransaction {
        /// The signed transaction (EIP-2718).
        raw: Vec<u8>,
        /// Its hash, which is its id.
        hash: [u8; 32],
    },
    /// r ‖ s ‖ v with v 27 or 28, as `personal_sign` and `eth_signTypedData_v4` answer.
    EthSignature([u8; 65]),
    /// The witness of the signed input.
    BitcoinWitness {
        /// DER and the byte of `SIGHASH_ALL`: the value of `PSBT_IN_PARTIAL_SIG`.
        signature: Vec<u8>,
        /// The serialised stack: the value of `PSBT_IN_FINAL_SCRIPTWITNESS`.
        witness: Vec<u8>,
        /// The whole transaction for `sendrawtransaction`, if this was its only input.
        transaction: Option<Vec<u8>>,
    },
    /// For `sendTransaction`.
    SolanaTransaction {
        /// The signature in base58; as the first one, the transaction's id.
        signature: String,
        /// The transaction. Other signers' places are zero.
        transaction: Vec<u8>,
        /// Whether this was the only signature that it needs.
        complete: bool,
    },
    /// Of a bare digest: r ‖ s ‖ recovery id (65 bytes), or R ‖ S (64 bytes).
    Digest(Vec<u8>),
}

/// Checks a signature against what the payload says, and assembles what the chain takes.
///
/// # Errors
/// Those of [`decode`], and [`SigningError::InvalidSignature`] if the signature is not this key's of this payload, if
/// its recovery id leads to another key, or if s is not low.
pub fn finish(
    payload: &Payload,
    signer: &PublicKey,
    allowed: Capabilities,
    signature: &Signature,
) -> Result<Signed, SigningError> {
    let decoded = decode(payload, signer, allowed)?;
    match (decoded.to_sign(), signer, signature) {
        (ToSign::Digest(digest), PublicKey::Secp256k1(key), Signature::Ecdsa { r, s, recovery_id }) => {
            verify_ecdsa(digest, key, r, s, *recovery_id)?;
            finish_ecdsa(payload, key, r, s, *recovery_id)
        }
        (ToSign::Message(message), PublicKey::Ed25519(key), Signature::Ed25519(signature)) => {
            let parsed = ed25519_dalek::Signature::from_bytes(signature);
            key.verifying_key().verify_strict(message, &parsed).map_err(|_| SigningError::InvalidSignature)?;
            finish_ed25519(payload, key, signature)
        }
        _ => Err(SigningError::WrongCurve),
    }
}

fn verify_ecdsa(
    digest: &[u8; 32],
    key: &Secp256k1Key,
    r: &[u8; 32],
    s: &[u8; 32],
    recovery_id: u8,
) -> Result<(), SigningError> {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

    let invalid = SigningError::InvalidSignature;
    let signature = Signature::from_scalars(*r, *s).map_err(|_| invalid)?;
    if signature.normalize_s() != signature || recovery_id > 1 {
        return Err(invalid);
    }
    key.verifying_key().verify_prehash(digest, &signature).map_err(|_| invalid)?;
    let recovery_id = RecoveryId::new(recovery_id == 1, false);
    let recovered = VerifyingKey::recover_from_prehash(digest, &signature, recovery_id).map_err(|_| invalid)?;
    if recovered == *key.verifying_key() { Ok(()) } else { Err(invalid) }
}

fn finish_ecdsa(
    payload: &Payload,
    key: &Secp256k1Key,
    r: &[u8; 32],
    s: &[u8; 32],
    recovery_id: u8,
) -> Result<Signed, SigningError> {
    match payload {
        Payload::EthTransaction(bytes) => {
            let signature =
                alloy_primitives::Signature::new(U256::from_be_bytes(*r), U256::from_be_bytes(*s), recovery_id == 1);
            let raw = match ethereum::parse(bytes)? {
                Transaction::Legacy(transaction) => raw::<TxLegacy>(&transaction, &signature),
                Transaction::AccessList(transaction) => raw::<TxEip2930>(&transaction, &signature),
                Transaction::FeeMarket(transaction) => raw::<TxEip1559>(&transaction, &signature),
            };
            Ok(Signed::EthTransaction { hash: keccak256(&raw).0, raw })
        }
        Payload::EthMessage(_) | Payload::EthTypedData(_) => {
            Ok(Signed::EthSignature(concatenated(r, s, 27 + recovery_id)))
        }
        Payload::BitcoinP2wpkh { psbt, .. } => finish_bitcoin(psbt, key, r, s),
        Payload::Digest32 { curve: Curve::Secp256k1, .. } => {
            Ok(Signed::Digest(concatenated(r, s, recovery_id).to_vec()))
        }
        _ => Err(SigningError::WrongCurve),
    }
}

fn raw<T: SignableTransaction<alloy_primitives::Signature> + RlpEcdsaEncodableTx>(
    transaction: &T,
    signature: &alloy_primitives::Signature,
) -> Vec<u8> {
    let mut raw = vec![];
    transaction.eip2718_encode(signature, &mut raw);
    raw
}

fn concatenated(r: &[u8; 32], s: &[u8; 32], last: u8) -> [u8; 65] {
    let mut bytes = [last; 65];
    bytes[..32].copy_from_slice(r);
    bytes[32..64].copy_from_slice(s);
    bytes
}

fn finish_bitcoin(psbt: &[u8], key: &Secp256k1Key, r: &[u8; 32], s: &[u8; 32]) -> Result<Signed, SigningError> {
    let invalid = SigningError::InvalidSignature;
    let parsed = k256::ecdsa::Signature::from_scalars(*r, *s).map_err(|_| invalid)?;
    let mut signature = parsed.to_der().as_bytes().to_vec();
    signature.push(1); // SIGHASH_ALL
    let mut witness = vec![2];
    bitcoin::transaction::write_compact(&mut witness, &signature);
    bitcoin::transaction::write_compact(&mut witness, &key.to_bytes());
    let transaction = bitcoin::psbt::parse(psbt)?.transaction;
    let only = transaction.inputs.len() == 1;
    let transaction = only.then(|| transaction.serialise(core::slice::from_ref(&witness)));
    Ok(Signed::BitcoinWitness { signature, witness, transaction })
}

fn finish_ed25519(payload: &Payload, key: &Ed25519Key, signature: &[u8; 64]) -> Result<Signed, SigningError> {
    match payload {
        Payload::SolanaMessage(bytes) => {
            let message = solana::parse(bytes)?;
            let place = message.signer(&key.to_bytes()).ok_or(SigningError::NotTheSigner)?;
            // A message with 19 signers or more does not fit in a transaction: their number is one byte.
            let mut transaction = vec![u8::try_from(message.required_signatures).map_err(|_| SigningError::TooLarge)?];
            for signer in 0..message.required_signatures {
                transaction.extend_from_slice(if signer == place { signature } else { &[0; 64] });
            }
            transaction.extend_from_slice(bytes);
            Ok(Signed::SolanaTransaction {
                signature: bs58::encode(signature).into_string(),
                transaction,
                complete: message.required_signatures == 1,
            })
        }
        Payload::Digest32 { curve: Curve::Ed25519, .. } => Ok(Signed::Digest(signature.to_vec())),
        _ => Err(SigningError::WrongCurve),
    }
}

#[cfg(test)]
#[path = "finish_tests.rs"]
mod tests;
