//! Partially signed transactions of version 0 (BIP-174), as far as a signer needs them.
//!
//! Every key that BIP-174 defines has its form checked; those of version 2 (BIP-370) are refused, since they would say
//! a second time what the transaction says; others are skipped, as BIP-174 asks.

use std::collections::BTreeSet;

use super::transaction::{Output, Transaction};
use crate::signing::{MAX_PAYLOAD_BYTES, SigningError, reader::Reader};

const WHAT: &str = "a PSBT";
const MALFORMED: SigningError = SigningError::Malformed(WHAT);
const VERSION_2: SigningError = SigningError::Unsupported("a PSBT of version 2");

type Result<T> = core::result::Result<T, SigningError>;

#[derive(Debug)]
pub(in crate::signing) struct Psbt {
    pub transaction: Transaction,
    pub inputs: Vec<Input>,
}

/// What is known of one input.
#[derive(Debug, Default)]
pub(in crate::signing) struct Input {
    /// The whole previous transaction.
    pub previous: Option<Transaction>,
    /// What the input is said to spend.
    pub witness_utxo: Option<Output>,
    pub sighash_type: Option<u32>,
    /// A redeem or witness script is given: not a plain P2WPKH input.
    pub has_script: bool,
    /// Already signed and closed.
    pub finalized: bool,
}

pub(in crate::signing) fn parse(bytes: &[u8]) -> Result<Psbt> {
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(SigningError::TooLarge);
    }
    let mut reader = Reader::new(bytes, WHAT);
    if &reader.array()? != b"psbt\xff" {
        return Err(MALFORMED);
    }
    let transaction = global(&mut reader)?;
    let mut inputs = vec![];
    for _ in &transaction.inputs {
        inputs.push(input(&mut reader)?);
    }
    for _ in &transaction.outputs {
        output(&mut reader)?;
    }
    reader.finish()?;
    Ok(Psbt { transaction, inputs })
}

/// One map of keys and values, up to its separator. `entry` gets the key's type, the key's data and the value.
fn map<'a>(reader: &mut Reader<'a>, mut entry: impl FnMut(u64, &'a [u8], &'a [u8]) -> Result<()>) -> Result<()> {
    let mut seen = BTreeSet::new();
    loop {
        let key = reader.compact_bytes()?;
        if key.is_empty() {
            return Ok(());
        }
        if !seen.insert(key) {
            return Err(MALFORMED);
        }
        let value = reader.compact_bytes()?;
        let mut key = Reader::new(key, WHAT);
        let kind = key.compact_size()?;
        let data = key.rest();
        entry(kind, data, value)?;
    }
}

/// Keys without data are keys of their type only.
fn bare(data: &[u8]) -> Result<()> {
    if data.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

fn public_key(data: &[u8]) -> Result<()> {
    match data {
        [2 | 3, rest @ ..] if rest.len() == 32 => Ok(()),
        [4, rest @ ..] if rest.len() == 64 => Ok(()),
        _ => Err(MALFORMED),
    }
}

/// A fingerprint and a path of 32-bit numbers.
fn derivation(data: &[u8], value: &[u8]) -> Result<()> {
    public_key(data)?;
    if value.len() >= 4 && value.len().is_multiple_of(4) { Ok(()) } else { Err(MALFORMED) }
}

fn u32_le(value: &[u8]) -> Result<u32> {
    value.try_into().map(u32::from_le_bytes).map_err(|_| MALFORMED)
}

fn global(reader: &mut Reader<'_>) -> Result<Transaction> {
    let mut transaction = None;
    map(reader, |kind, data, value| {
        match kind {
            0x00 => {
                bare(data)?;
                transaction = Some(Transaction::parse(value)?);
            }
            0x02..=0x06 => return Err(VERSION_2),
            0xfb => {
                bare(data)?;
                if u32_le(value)? != 0 {
                    return Err(VERSION_2);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let transaction = transaction.ok_or(MALFORMED)?;
    let unsigned = transaction.inputs.iter().all(|input| input.script.is_empty());
    let spent: BTreeSet<_> = transaction.inputs.iter().map(super::transaction::Spend::outpoint).collect();
    let distinct = spent.len() == transaction.inputs.len() && !spent.is_empty();
    if unsigned && distinct && !transaction.outputs.is_empty() { Ok(transaction) } else { Err(MALFORMED) }
}

fn input(reader: &mut Reader<'_>) -> Result<Input> {
    let mut input = Input::default();
    map(reader, |kind, data, value| {
        match kind {
            0x00 => {
                bare(data)?;
                input.previous = Some(Transaction::parse_network(value)?);
            }
            0x01 => {
                bare(data)?;
                let mut reader = Reader::new(value, WHAT);
                input.witness_utxo = Some(Output::read(&mut reader)?);
                reader.finish()?;
            }
            0x02 => public_key(data)?,
            0x03 => {
                bare(data)?;
                input.sighash_type = Some(u32_le(value)?);
            }
            0x04 | 0x05 => {
                bare(data)?;
                input.has_script = true;
            }
            0x06 => derivation(data, value)?,
            0x07 | 0x08 => {
                bare(data)?;
                input.finalized = true;
            }
            0x0e..=0x12 => return Err(VERSION_2),
            _ => {}
        }
        Ok(())
    })?;
    Ok(input)
}

fn output(reader: &mut Reader<'_>) -> Result<()> {
    map(reader, |kind, data, value| match kind {
        0x00 | 0x01 => bare(data),
        0x02 => derivation(data, value),
        0x03 | 0x04 => Err(VERSION_2),
        _ => Ok(()),
    })
}
