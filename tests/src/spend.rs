//! The proof that a wallet works: it signs a transaction on each curve, and code that had no part in it agrees
//! (DECISIONS.md D35).

use halfkey_api::{
    chain::{Addresses, Ed25519Key},
    signing::{Eip1559Transfer, Payload, Signed, SolanaTransfer},
};
use halfkey_cli::judge;
use halfkey_client::Halfkey;
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};

use crate::phone::Failed;

/// Signs an Ethereum transfer and a Solana transfer and has both judged under the keys of `addresses`.
///
/// # Errors
/// The SDK's, or what the judge does not accept.
pub async fn signs(app: &Halfkey, addresses: &Addresses) -> Result<(), Failed> {
    if app.addresses().await? != *addresses {
        return Err("the addresses have changed".into());
    }
    let transfer = Eip1559Transfer {
        chain_id: 1,
        nonce: 7,
        to: addresses.ethereum.clone(),
        value: 1,
        max_fee_per_gas: 30_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
    };
    ethereum(app, addresses, &transfer).await?;
    let blockhash = bs58::encode([9; 32]).into_string();
    solana(app, addresses, &bs58::encode([7; 32]).into_string(), 1, blockhash).await.map(drop)
}

/// Signs an Ethereum transfer; the raw transaction, judged to be from the wallet's own address.
///
/// # Errors
/// See [`signs`].
pub async fn ethereum(app: &Halfkey, addresses: &Addresses, transfer: &Eip1559Transfer) -> Result<Vec<u8>, Failed> {
    let payload = transfer.payload()?;
    let Payload::EthTransaction(unsigned) = payload.clone() else { return Err("no transaction".into()) };
    let outcome = app.sign(payload).await?;
    let Some(Signed::EthTransaction { raw, .. }) = outcome.signed else { return Err("no signed transaction".into()) };
    // The key is only claimed by this; the judge verifies under it and derives the address from it.
    let id = outcome.recovery_id.and_then(RecoveryId::from_byte).ok_or("no recovery id")?;
    let signature = Signature::from_slice(&outcome.signature)?;
    let key = VerifyingKey::recover_from_prehash(&judge::keccak256(&unsigned), &signature, id)?;
    let judged = judge::ethereum_transaction(&raw, key.to_sec1_point(true).as_bytes())?;
    let fits = judged.from == addresses.ethereum
        && judged.to.as_deref() == Some(transfer.to.as_str())
        && judged.value == transfer.value;
    if fits { Ok(raw) } else { Err(format!("not the transaction that was asked for: {judged:?}").into()) }
}

/// Signs a Solana transfer: the message and its signature in base58, judged under the wallet's own key.
///
/// # Errors
/// See [`signs`].
pub async fn solana(
    app: &Halfkey,
    addresses: &Addresses,
    to: &str,
    lamports: u64,
    recent_blockhash: String,
) -> Result<(Vec<u8>, String), Failed> {
    let account = bs58::decode(&addresses.solana).into_vec()?;
    let from = Ed25519Key::parse(&account)?;
    let payload = SolanaTransfer { from, to: to.to_owned(), lamports, recent_blockhash }.payload()?;
    let Payload::SolanaMessage(message) = payload.clone() else { return Err("no message".into()) };
    let outcome = app.sign(payload).await?;
    let signature = bs58::encode(outcome.signature).into_string();
    judge::solana_message(&message, &signature, &account)?;
    Ok((message, signature))
}
