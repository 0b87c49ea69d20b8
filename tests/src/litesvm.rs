//! A real Solana runtime for the length of one test: litesvm, driven through a small script on standard input and
//! output.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::{Value, json};

use crate::chains::{folder, installed, node};

/// A running machine; it ends with its standard input.
pub struct LiteSvm {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl LiteSvm {
    /// Starts a machine.
    ///
    /// # Errors
    /// When node or litesvm is not installed (the message says how).
    pub fn start() -> io::Result<Self> {
        installed()?;
        let mut node = node();
        node.arg(folder().join("litesvm.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn()?;
        let requests = child.stdin.take();
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?;
        Ok(Self { child, requests, answers: BufReader::new(answers) })
    }

    /// Gives an account lamports.
    ///
    /// # Errors
    /// When the machine refuses or is gone.
    pub fn airdrop(&mut self, address: &str, lamports: u64) -> io::Result<()> {
        self.call(&json!({"op": "airdrop", "address": address, "lamports": lamports.to_string()})).map(drop)
    }

    /// The lamports of an account; 0 if it does not exist.
    ///
    /// # Errors
    /// When the machine refuses or is gone.
    pub fn balance(&mut self, address: &str) -> io::Result<u64> {
        let answer = self.call(&json!({"op": "balance", "address": address}))?;
        text(&answer, "lamports")?.parse().map_err(io::Error::other)
    }

    /// The latest block hash, in base58.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn blockhash(&mut self) -> io::Result<String> {
        text(&self.call(&json!({"op": "blockhash"}))?, "blockhash")
    }

    /// Sends a transaction of one signature (base58), and gives the id that the machine knows it by.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn send(&mut self, message: &[u8], signature: &str) -> io::Result<String> {
        let signature = base58(signature).ok_or_else(|| io::Error::other("not base58 of 64 bytes"))?;
        self.send_transaction(&[&[1], &signature[..], message].concat())
    }

    /// Sends a whole transaction, and gives the id that the machine knows it by.
    ///
    /// # Errors
    /// The machine's refusal.
    pub fn send_transaction(&mut self, transaction: &[u8]) -> io::Result<String> {
        let answer = self.call(&json!({"op": "send", "transaction": hex::encode(transaction)}))?;
        if answer["accepted"] == Value::Bool(true) {
            return text(&answer, "signature");
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text(&answer, "reason")?))
    }

    fn call(&mut self, request: &Value) -> io::Result<Value> {
        let gone = || io::Error::other("litesvm has ended");
        writeln!(self.requests.as_mut().ok_or_else(gone)?, "{request}")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(gone());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error") {
            Some(error) => Err(io::Error::other(error.to_string())),
            None => Ok(answer),
        }
    }
}

impl Drop for LiteSvm {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

fn text(answer: &Value, field: &str) -> io::Result<String> {
    let text = answer[field].as_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("litesvm gave no {field}: {answer}")))
}

fn base58(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    (bs58::decode(text).onto(&mut bytes[..]).ok()? == 64).then_some(bytes)
}
