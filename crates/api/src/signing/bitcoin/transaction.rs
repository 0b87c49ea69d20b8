//! Bitcoin transactions, as they are serialised with and without witnesses (BIP-144).

use super::sha256d;
use crate::signing::{SigningError, reader::Reader};

/// A transaction without what does not enter its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signing) struct Transaction {
    pub version: u32,
    pub inputs: Vec<Spend>,
    pub outputs: Vec<Output>,
    pub lock_time: u32,
}

/// An input: what it spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signing) struct Spend {
    /// The id of the previous transaction, in the byte order of its hash.
    pub previous: [u8; 32],
    pub output: u32,
    pub script: Vec<u8>,
    pub sequence: u32,
}

impl Spend {
    pub(super) fn outpoint(&self) -> [u8; 36] {
        let mut outpoint = [0; 36];
        outpoint[..32].copy_from_slice(&self.previous);
        outpoint[32..].copy_from_slice(&self.output.to_le_bytes());
        outpoint
    }
}

/// An output: whom it pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signing) struct Output {
    /// In satoshi.
    pub value: u64,
    pub script: Vec<u8>,
}

impl Output {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SigningError> {
        Ok(Self { value: reader.u64()?, script: reader.compact_bytes()?.to_vec() })
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.value.to_le_bytes());
        write_compact(bytes, &self.script);
    }
}

impl Transaction {
    /// A transaction without witnesses, whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SigningError> {
        let mut reader = Reader::new(bytes, "a Bitcoin transaction");
        let version = reader.u32()?;
        let (inputs, outputs) = Self::body(&mut reader)?;
        let lock_time = reader.u32()?;
        reader.finish()?;
        Ok(Self { version, inputs, outputs, lock_time })
    }

    /// A transaction with or without witnesses, whole. The marker 0 stands where a number of inputs cannot be 0.
    pub(super) fn parse_network(bytes: &[u8]) -> Result<Self, SigningError> {
        let mut reader = Reader::new(bytes, "a Bitcoin transaction");
        let version = reader.u32()?;
        if reader.peek() != Some(0) {
            return Self::parse(bytes);
        }
        if reader.array()? != [0, 1] {
            return Err(reader.malformed());
        }
        let (inputs, outputs) = Self::body(&mut reader)?;
        for _ in &inputs {
            for _ in 0..reader.compact_count(1)? {
                reader.compact_bytes()?;
            }
        }
        let lock_time = reader.u32()?;
        reader.finish()?;
        Ok(Self { version, inputs, outputs, lock_time })
    }

    fn body(reader: &mut Reader<'_>) -> Result<(Vec<Spend>, Vec<Output>), SigningError> {
        let mut inputs = vec![];
        for _ in 0..reader.compact_count(41)? {
            inputs.push(Spend {
                previous: reader.array()?,
                output: reader.u32()?,
                script: reader.compact_bytes()?.to_vec(),
                sequence: reader.u32()?,
            });
        }
        let mut outputs = vec![];
        for _ in 0..reader.compact_count(9)? {
            outputs.push(Output::read(reader)?);
        }
        Ok((inputs, outputs))
    }

    /// Serialised; with one stack of witnesses per input if any are given (BIP-144).
    pub(in crate::signing) fn serialise(&self, witnesses: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.version.to_le_bytes().to_vec();
        if !witnesses.is_empty() {
            bytes.extend_from_slice(&[0, 1]);
        }
        write_size(&mut bytes, self.inputs.len());
        for input in &self.inputs {
            bytes.extend_from_slice(&input.outpoint());
            write_compact(&mut bytes, &input.script);
            bytes.extend_from_slice(&input.sequence.to_le_bytes());
        }
        write_size(&mut bytes, self.outputs.len());
        for output in &self.outputs {
            output.write(&mut bytes);
        }
        for witness in witnesses {
            bytes.extend_from_slice(witness);
        }
        bytes.extend_from_slice(&self.lock_time.to_le_bytes());
        bytes
    }

    /// The transaction's id, in the byte order of the hash.
    pub(super) fn id(&self) -> [u8; 32] {
        sha256d(&self.serialise(&[]))
    }
}

/// Writes a CompactSize and the bytes.
pub(in crate::signing) fn write_compact(out: &mut Vec<u8>, bytes: &[u8]) {
    write_size(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes a CompactSize.
#[allow(clippy::cast_possible_truncation)] // each arm fits
fn write_size(out: &mut Vec<u8>, size: usize) {
    match size {
        0..=0xfc => out.push(size as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(size as u16).to_le_bytes());
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&(size as u32).to_le_bytes());
        }
    }
}
