//! `halfkey wallet sign …`.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use halfkey_api::signing::{Payload, Signed};
use serde_json::{Value, json};

use super::Session;
use crate::{
    error::{AtPath, Error, Result},
    output::Output,
};

/// What to sign. Device and server each decode it, and sign what they computed themselves.
#[derive(Args)]
pub(super) struct SignArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// An unsigned Ethereum transaction (legacy with chain id, EIP-2930 or EIP-1559)
    EthereumTransaction {
        /// Its unsigned encoding, hex with or without 0x
        hex: String,
    },
    /// A message for people (EIP-191)
    EthereumMessage {
        /// The text
        text: String,
    },
    /// Typed data (EIP-712)
    EthereumTypedData {
        /// The JSON document
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// One p2wpkh input of a Bitcoin transaction (BIP-174)
    BitcoinPsbt {
        /// The PSBT, base64
        psbt: String,
        /// The input, from 0
        #[arg(long, default_value_t = 0)]
        input: u32,
    },
    /// A Solana transaction message (legacy or version 0)
    SolanaMessage {
        /// The serialised message, hex with or without 0x
        hex: String,
    },
}

pub(super) async fn run(session: &mut Session, args: SignArgs, output: &Output) -> Result<()> {
    let signed = session.halfkey.sign(payload(args.what)?).await?;
    let signature = hex::encode(signed.signature);
    let mut lines = vec![format!("signature {signature}")];
    if let Some(recovery_id) = signed.recovery_id {
        lines.push(format!("recovery  {recovery_id}"));
    }
    let chain = signed.signed.as_ref().map_or(serde_json::Value::Null, chain_value);
    if let Some(object) = chain.as_object() {
        lines.extend(object.iter().map(|(name, value)| {
            format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        }));
    }
    let value = json!({
        "curve": signed.curve, "signature": signature, "recoveryId": signed.recovery_id, "signed": chain,
    });
    output.result(&lines, &value);
    Ok(())
}

fn payload(what: What) -> Result<Payload> {
    Ok(match what {
        What::EthereumTransaction { hex } => Payload::EthTransaction(unhex(&hex)?),
        What::EthereumMessage { text } => Payload::EthMessage(text.into_bytes()),
        What::EthereumTypedData { file } => Payload::EthTypedData(read_text(&file)?),
        What::BitcoinPsbt { psbt, input } => {
            let psbt =
                BASE64_STANDARD.decode(psbt.trim()).map_err(|_| Error::Usage("the PSBT is not base64".to_owned()))?;
            Payload::BitcoinP2wpkh { psbt, input }
        }
        What::SolanaMessage { hex } => Payload::SolanaMessage(unhex(&hex)?),
    })
}

/// What the chain takes, as 0x-hex, with base58 for Solana's signature.
pub(crate) fn chain_value(signed: &Signed) -> Value {
    let hex = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    match signed {
        Signed::EthTransaction { raw, hash } => json!({ "rawTransaction": hex(raw), "hash": hex(hash) }),
        Signed::EthSignature(signature) => json!({ "ethereumSignature": hex(signature) }),
        Signed::BitcoinWitness { signature, witness, transaction } => json!({
            "partialSignature": hex::encode(signature), "witness": hex::encode(witness),
            "transaction": transaction.as_deref().map(hex::encode),
        }),
        Signed::SolanaTransaction { signature, transaction, complete } => json!({
            "solanaSignature": signature, "transaction": hex(transaction), "complete": complete,
        }),
        Signed::Digest(signature) => json!({ "digestSignature": hex(signature) }),
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    hex::decode(text.trim().trim_start_matches("0x")).map_err(|_| Error::Usage("that is not hex".to_owned()))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).at(path)
}
