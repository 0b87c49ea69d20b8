//! A real Ethereum node for the length of one test: anvil of the Foundry project, with its own consensus rules, on a
//! loopback port of its own choosing.

use std::{
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin},
};

use serde_json::{Value, json};

use crate::chains::{installed, spawn_watched};

/// A running node, stopped on drop.
pub struct Anvil {
    child: Child,
    pipe: Option<ChildStdin>,
    url: String,
    http: reqwest::Client,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whether it did what it says (EIP-658).
    pub success: bool,
    /// The sender, as the node recovered it from the signature; lower case.
    pub from: String,
    /// The receiver; lower case.
    pub to: Option<String>,
    /// What it cost beside its value, in wei.
    pub fee: u128,
}

impl Anvil {
    /// The chain id of EIP-155.
    pub const CHAIN_ID: u64 = 31337;

    /// Starts a node and waits until it listens.
    ///
    /// # Errors
    /// When anvil is not installed (the message says how), or does not start.
    pub fn start() -> io::Result<Self> {
        let mut child = spawn_watched(&binary()?, &["--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"])?;
        let pipe = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("a pipe was asked for"))?;
        // Loopback: never through a proxy, whatever the environment says.
        let http = reqwest::Client::builder().no_proxy().build().map_err(io::Error::other)?;
        let mut anvil = Self { child, pipe, url: String::new(), http };
        let mut lines = BufReader::new(output).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(|address| format!("http://{}", address.trim())));
        anvil.url = listening.ok_or_else(|| io::Error::other("anvil ended before it listened"))?;
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(anvil)
    }

    /// The node's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One call of the JSON-RPC interface.
    ///
    /// # Errors
    /// When the node cannot be reached, or refuses: its message.
    pub async fn call(&self, method: &str, parameters: Value) -> io::Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let request = self.http.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(io::Error::other)?.bytes().await.map_err(io::Error::other)?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        match answer.get("error") {
            Some(error) => Err(io::Error::other(error.to_string())),
            None => Ok(answer["result"].take()),
        }
    }

    /// Gives an account its balance, in wei.
    ///
    /// # Errors
    /// See [`Anvil::call`].
    pub async fn set_balance(&self, address: &str, wei: u128) -> io::Result<()> {
        self.call("anvil_setBalance", json!([address, format!("{wei:#x}")])).await.map(drop)
    }

    /// The balance of an account, in wei.
    ///
    /// # Errors
    /// See [`Anvil::call`].
    pub async fn balance(&self, address: &str) -> io::Result<u128> {
        quantity(&self.call("eth_getBalance", json!([address, "latest"])).await?)
    }

    /// How many transactions an account has made.
    ///
    /// # Errors
    /// See [`Anvil::call`].
    pub async fn nonce(&self, address: &str) -> io::Result<u64> {
        let nonce = quantity(&self.call("eth_getTransactionCount", json!([address, "latest"])).await?)?;
        u64::try_from(nonce).map_err(io::Error::other)
    }

    /// Sends a signed transaction and waits until it is mined, which is at once.
    ///
    /// # Errors
    /// The node's refusal, or a receipt that is not there.
    pub async fn send_raw(&self, raw: &[u8]) -> io::Result<Receipt> {
        // EIP-7966: answers with the receipt, once the transaction is mined.
        let receipt = self.call("eth_sendRawTransactionSync", json!([format!("0x{}", hex::encode(raw))])).await?;
        let text = |field: &str| receipt[field].as_str().map(str::to_owned);
        Ok(Receipt {
            success: quantity(&receipt["status"])? == 1,
            from: text("from").ok_or_else(|| io::Error::other(format!("no receipt: {receipt}")))?,
            to: text("to"),
            fee: quantity(&receipt["gasUsed"])? * quantity(&receipt["effectiveGasPrice"])?,
        })
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}

fn quantity(value: &Value) -> io::Result<u128> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| io::Error::other(format!("not a quantity: {value}")))
}

/// The program in the package of this platform: `anvil-<system>-<processor>`.
fn binary() -> io::Result<PathBuf> {
    let scope = installed()?.join("@foundry-rs");
    let mut packages = std::fs::read_dir(&scope)?.flatten().map(|entry| entry.path().join("bin").join("anvil"));
    packages.find(|program| program.is_file()).ok_or_else(|| io::Error::other("anvil: no program for this platform"))
}
