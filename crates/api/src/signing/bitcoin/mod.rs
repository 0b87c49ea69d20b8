//! Bitcoin: one P2WPKH input of a PSBT.

pub(super) mod psbt;
pub(super) mod transaction;

use sha2::{Digest as _, Sha256};

use self::{
    psbt::{Input, Psbt},
    transaction::{Output, Transaction},
};
use super::{
    Decoded, SigningError, ToSign,
    summary::{Summary, amount},
};
use crate::chain::{
    Secp256k1Key,
    bitcoin::{Network, address, address_of_script, output_script, public_key_hash},
};

/// `SIGHASH_ALL`: the signature is for every input and every output.
pub(super) const SIGHASH_ALL: u32 = 1;
/// No amount is more than all the bitcoin there will ever be.
const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

pub(super) fn decode(bytes: &[u8], index: u32, signer: &Secp256k1Key) -> Result<Decoded, SigningError> {
    let psbt = psbt::parse(bytes)?;
    let index = usize::try_from(index).map_err(|_| SigningError::NotTheSigner)?;
    let input = psbt.inputs.get(index).ok_or(SigningError::NotTheSigner)?;
    let spent = signable(&psbt, index, input, signer)?;
    let fee = fee(&psbt, index, &spent)?;
    let digest = signature_hash(&psbt.transaction, index, &script_code(signer), spent.value);
    Ok(Decoded {
        to_sign: ToSign::Digest(digest),
        summary: summarise(&psbt.transaction, index, spent.value, fee, signer),
    })
}

/// The output that the input spends, if this key may and shall sign for it.
fn signable(psbt: &Psbt, index: usize, input: &Input, signer: &Secp256k1Key) -> Result<Output, SigningError> {
    if input.sighash_type.is_some_and(|sighash_type| sighash_type != SIGHASH_ALL) {
        return Err(SigningError::Unsupported("a signature for less than the whole transaction"));
    }
    if input.finalized {
        return Err(SigningError::NotTheSigner);
    }
    let proven = proven_output(psbt, index)?;
    let spent = match (&input.witness_utxo, proven) {
        (Some(claimed), Some(proven)) if *claimed != proven => {
            return Err(SigningError::Malformed("the two accounts of a PSBT's input differ"));
        }
        (None, None) => return Err(SigningError::UnprovenAmount),
        (_, Some(proven)) => proven,
        (Some(claimed), None) => claimed.clone(),
    };
    if spent.script != output_script(signer) || input.has_script {
        return Err(SigningError::NotTheSigner);
    }
    Ok(spent)
}

/// The output that an input spends, from the previous transaction if that is there: its id is in the input, so its
/// amounts cannot be lies.
fn proven_output(psbt: &Psbt, index: usize) -> Result<Option<Output>, SigningError> {
    let (Some(spend), Some(input)) = (psbt.transaction.inputs.get(index), psbt.inputs.get(index)) else {
        return Ok(None);
    };
    let Some(previous) = &input.previous else { return Ok(None) };
    let wrong = SigningError::Malformed("the previous transaction of a PSBT's input");
    if previous.id() != spend.previous {
        return Err(wrong);
    }
    let output = usize::try_from(spend.output).ok().and_then(|output| previous.outputs.get(output));
    output.cloned().map(Some).ok_or(wrong)
}

/// What the transaction pays the miners. Our own input's amount is under the signature (BIP-143); the others' are
/// claims, and whoever collects signatures for the same transaction with different claims burns the difference as a
/// fee: they need proof.
fn fee(psbt: &Psbt, index: usize, spent: &Output) -> Result<u64, SigningError> {
    let mut paid_in = spent.value;
    for other in (0..psbt.inputs.len()).filter(|other| *other != index) {
        let output = proven_output(psbt, other)?.ok_or(SigningError::UnprovenAmount)?;
        paid_in = paid_in.checked_add(output.value).ok_or(AMOUNTS)?;
    }
    let paid_out = psbt.transaction.outputs.iter().try_fold(0_u64, |sum, output| sum.checked_add(output.value));
    let paid_out = paid_out.ok_or(AMOUNTS)?;
    if paid_in > MAX_MONEY { Err(AMOUNTS) } else { paid_in.checked_sub(paid_out).ok_or(AMOUNTS) }
}

const AMOUNTS: SigningError = SigningError::Malformed("the amounts of a PSBT");

/// The script code of a P2WPKH input (BIP-143): `OP_DUP OP_HASH160 <20 bytes> OP_EQUALVERIFY OP_CHECKSIG`.
fn script_code(signer: &Secp256k1Key) -> [u8; 25] {
    let mut script = [0x76, 0xa9, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xac];
    script[3..23].copy_from_slice(&public_key_hash(signer));
    script
}

/// The digest of BIP-143 for `SIGHASH_ALL`, field by field in its order.
pub(super) fn signature_hash(transaction: &Transaction, index: usize, script_code: &[u8; 25], value: u64) -> [u8; 32] {
    let (mut outpoints, mut sequences, mut outputs) = (vec![], vec![], vec![]);
    for input in &transaction.inputs {
        outpoints.extend_from_slice(&input.outpoint());
        sequences.extend_from_slice(&input.sequence.to_le_bytes());
    }
    for output in &transaction.outputs {
        output.write(&mut outputs);
    }
    let spend = &transaction.inputs[index];
    let mut preimage = transaction.version.to_le_bytes().to_vec();
    preimage.extend_from_slice(&sha256d(&outpoints));
    preimage.extend_from_slice(&sha256d(&sequences));
    preimage.extend_from_slice(&spend.outpoint());
    preimage.push(25);
    preimage.extend_from_slice(script_code);
    preimage.extend_from_slice(&value.to_le_bytes());
    preimage.extend_from_slice(&spend.sequence.to_le_bytes());
    preimage.extend_from_slice(&sha256d(&outputs));
    preimage.extend_from_slice(&transaction.lock_time.to_le_bytes());
    preimage.extend_from_slice(&SIGHASH_ALL.to_le_bytes());
    sha256d(&preimage)
}

/// SHA-256 of SHA-256.
pub(super) fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// Addresses are written for mainnet: nothing in a PSBT says which network it is for, and a signature is good on all.
fn summarise(transaction: &Transaction, index: usize, value: u64, fee: u64, signer: &Secp256k1Key) -> Summary {
    let from = address(signer, Network::Mainnet);
    let mut summary = Summary::new("bitcoin", "spend", from.clone());
    let paid: Vec<_> = transaction
        .outputs
        .iter()
        .map(|output| (address_of_script(&output.script, Network::Mainnet), output))
        .collect();
    let others: Vec<_> = paid.iter().filter(|(address, _)| address.as_deref() != Some(from.as_str())).collect();
    if let [(Some(to), output)] = others[..] {
        summary.to = Some(to.clone());
        summary.value = Some(amount(output.value, 8, "BTC"));
    }
    summary.fee = Some(amount(fee, 8, "BTC"));
    summary.detail(format!("input {index} of {}", transaction.inputs.len()), amount(value, 8, "BTC"));
    for (address, output) in &paid {
        let change = if address.as_deref() == Some(from.as_str()) { " (back to this wallet)" } else { "" };
        let to = address.clone().unwrap_or_else(|| format!("script {}", hex::encode(&output.script)));
        summary.detail("output", format!("{} to {to}{change}", amount(output.value, 8, "BTC")));
    }
    if transaction.lock_time != 0 {
        summary.detail("lock time", transaction.lock_time.to_string());
    }
    summary
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
