//! Solana: legacy and version 0 messages.
//!
//! A message is what is signed, byte for byte. The rules are those a validator applies before it looks at a
//! transaction ("sanitize"), and stricter in one point: every length has its shortest form.

use std::collections::BTreeSet;

use super::{
    Decoded, SigningError, ToSign,
    reader::Reader,
    summary::{Summary, amount, printable_bytes},
};
use crate::chain::{Ed25519Key, solana};

/// A transaction is one packet: 1,280 bytes of IPv6's smallest MTU without 48 of headers.
pub(super) const MAX_TRANSACTION_BYTES: usize = 1232;
/// What each signature costs.
const LAMPORTS_PER_SIGNATURE: u64 = 5000;

/// The System program.
pub(super) const SYSTEM_PROGRAM: [u8; 32] = [0; 32];
const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
const MEMO: [&str; 2] = ["MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"];

const WHAT: &str = "a Solana message";

/// A message, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub required_signatures: usize,
    pub accounts: Vec<[u8; 32]>,
    pub instructions: Vec<Instruction>,
    /// How many accounts come from address tables: known to the cluster, not to the signer.
    pub looked_up: usize,
}

/// One call of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    pub program: usize,
    pub accounts: Vec<u8>,
    pub data: Vec<u8>,
}

impl Message {
    /// The place of a key among the signers.
    pub(super) fn signer(&self, key: &[u8; 32]) -> Option<usize> {
        self.accounts[..self.required_signatures].iter().position(|account| account == key)
    }
}

/// Reads a message.
pub(super) fn parse(bytes: &[u8]) -> Result<Message, SigningError> {
    let mut reader = Reader::new(bytes, WHAT);
    let version_0 = match reader.peek() {
        Some(0x80) => reader.u8().map(|_| true)?,
        Some(0x81..) => return Err(SigningError::Unsupported("this version of a Solana message")),
        _ => false,
    };
    let [required, readonly_signed, readonly_unsigned] = reader.array()?.map(usize::from);
    if bytes.len() + 1 + 64 * required > MAX_TRANSACTION_BYTES {
        return Err(SigningError::TooLarge);
    }
    let accounts = accounts(&mut reader)?;
    // The first account pays: it signs and is written to.
    if readonly_signed >= required || required + readonly_unsigned > accounts.len() {
        return Err(reader.malformed());
    }
    let _recent_blockhash: [u8; 32] = reader.array()?;
    let instructions = instructions(&mut reader)?;
    let looked_up = if version_0 { lookups(&mut reader)? } else { 0 };
    let (own, all) = (accounts.len(), accounts.len() + looked_up);
    let fits = |instruction: &Instruction| {
        (1..own).contains(&instruction.program) && instruction.accounts.iter().all(|index| usize::from(*index) < all)
    };
    if all > 256 || !instructions.iter().all(fits) {
        return Err(reader.malformed());
    }
    reader.finish()?;
    Ok(Message { required_signatures: required, accounts, instructions, looked_up })
}

fn accounts(reader: &mut Reader<'_>) -> Result<Vec<[u8; 32]>, SigningError> {
    let mut accounts = vec![];
    for _ in 0..reader.short_count(32)? {
        accounts.push(reader.array()?);
    }
    let distinct: BTreeSet<_> = accounts.iter().collect();
    if distinct.len() == accounts.len() { Ok(accounts) } else { Err(reader.malformed()) }
}

fn instructions(reader: &mut Reader<'_>) -> Result<Vec<Instruction>, SigningError> {
    let mut instructions = vec![];
    for _ in 0..reader.short_count(3)? {
        let program = usize::from(reader.u8()?);
        let count = reader.short_count(1)?;
        let accounts = reader.take(count)?.to_vec();
        let length = reader.short_count(1)?;
        instructions.push(Instruction { program, accounts, data: reader.take(length)?.to_vec() });
    }
    Ok(instructions)
}

/// The address tables of version 0: how many accounts they add. Each must add one.
fn lookups(reader: &mut Reader<'_>) -> Result<usize, SigningError> {
    let mut added = 0;
    for _ in 0..reader.short_count(34)? {
        let _table: [u8; 32] = reader.array()?;
        let before = added;
        for _writable_then_readonly in 0..2 {
            let count = reader.short_count(1)?;
            reader.take(count)?;
            added += count;
        }
        if added == before {
            return Err(reader.malformed());
        }
    }
    Ok(added)
}

pub(super) fn decode(bytes: &[u8], signer: &Ed25519Key) -> Result<Decoded, SigningError> {
    let message = parse(bytes)?;
    message.signer(&signer.to_bytes()).ok_or(SigningError::NotTheSigner)?;
    Ok(Decoded { to_sign: ToSign::Message(bytes.to_vec()), summary: summarise(&message, signer) })
}

fn summarise(message: &Message, signer: &Ed25519Key) -> Summary {
    let mut summary = Summary::new("solana", "call programs", solana::address(signer));
    let mut price = Price::default();
    let mut effects = 0;
    for instruction in &message.instructions {
        let program = message.accounts[instruction.program];
        let name = solana::text(&program);
        if name == COMPUTE_BUDGET && price.read(&instruction.data) {
            continue;
        }
        if MEMO.contains(&name.as_str()) {
            summary.detail("memo", printable_bytes(&instruction.data));
            continue;
        }
        effects += 1;
        if let Some((from, to, lamports)) = transfer(message, instruction) {
            let value = amount(lamports, 9, "SOL");
            summary.detail("transfer", format!("{value} from {from} to {to}"));
            (summary.to, summary.value) = (Some(to), Some(value));
        } else {
            let data = hex::encode(&instruction.data);
            summary.detail("call", format!("program {name}, {} accounts, data 0x{data}", instruction.accounts.len()));
        }
    }
    // One effect, and it is a transfer: then, and only then, the message has one receiver and one value.
    if effects == 1 && summary.value.is_some() {
        summary.action = "transfer".into();
    } else {
        (summary.to, summary.value) = (None, None);
    }
    summary.fee = price.fee(message).map(|fee| amount(fee, 9, "SOL"));
    if message.looked_up > 0 {
        summary.detail("address tables", format!("{} accounts that the message does not name", message.looked_up));
    }
    if message.required_signatures > 1 {
        summary.detail("signatures", message.required_signatures.to_string());
    }
    summary
}

/// A transfer of the System program (instruction 2), between accounts that the message names.
fn transfer(message: &Message, instruction: &Instruction) -> Option<(String, String, u64)> {
    let named = |index: u8| message.accounts.get(usize::from(index)).map(solana::text);
    let [from, to] = instruction.accounts[..] else { return None };
    let (kind, lamports) = instruction.data.split_first_chunk::<4>()?;
    let lamports = u64::from_le_bytes(lamports.try_into().ok()?);
    let is_transfer = message.accounts[instruction.program] == SYSTEM_PROGRAM && *kind == [2, 0, 0, 0];
    is_transfer.then(|| Some((named(from)?, named(to)?, lamports))).flatten()
}

/// What the Compute Budget program is told: a limit of units, and their price in millionths of a lamport.
#[derive(Default)]
struct Price {
    limit: Option<u32>,
    per_unit: u64,
}

impl Price {
    fn read(&mut self, data: &[u8]) -> bool {
        match data {
            [2, limit @ ..] => limit.try_into().map(|limit| self.limit = Some(u32::from_le_bytes(limit))).is_ok(),
            [3, price @ ..] => price.try_into().map(|price| self.per_unit = u64::from_le_bytes(price)).is_ok(),
            _ => false,
        }
    }

    /// The most that the message can cost. Without a limit of its own, an instruction has 200,000 units and a
    /// transaction 1,400,000.
    fn fee(&self, message: &Message) -> Option<u64> {
        let units = self.limit.map_or(200_000 * message.instructions.len() as u128, u128::from).min(1_400_000);
        let priority = (units * u128::from(self.per_unit)).div_ceil(1_000_000);
        let base = LAMPORTS_PER_SIGNATURE * message.required_signatures as u64;
        u64::try_from(priority).ok()?.checked_add(base)
    }
}

#[cfg(test)]
#[path = "solana_tests.rs"]
mod tests;
