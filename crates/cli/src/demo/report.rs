//! What the demo shows, for people and as one JSON object.

use std::time::Instant;

use halfkey_api::chain::Addresses;
use serde_json::{Value, json};

use crate::{
    error::Result,
    output::{self, Output, to_stderr},
};

use super::MethodName;

pub(super) struct Report {
    output: Output,
    steps: Vec<Value>,
    started: Instant,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self { output, steps: Vec::new(), started: super::now() }
    }

    pub(super) fn banner(&self, method: MethodName) {
        self.output.say("Halfkey demo. Development settings: local keys in files, a keeper without an enclave, no");
        self.output.say("recovery delay. Nothing here is for real funds.\n");
        if method == MethodName::Passkey {
            // Also beside a JSON object: whoever sees the result must not take it for safe.
            to_stderr(
                "INSECURE: the passkey is a file, nobody is asked for a touch, and whoever runs the keeper of this",
            );
            to_stderr(
                "demo could read the backup: it shows `insecure-dev` evidence, which every app refuses by default.\n",
            );
        }
    }

    /// Runs one step, shows that it held, and how long it took.
    pub(super) async fn step<T>(&mut self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.output.say(&format!("· {name}"));
        let started = super::now();
        let result = work.await?;
        let ms = millis(started);
        self.output.settle();
        self.output.say(&format!("  ok, {ms} ms"));
        self.steps.push(json!({ "name": name, "ms": ms }));
        Ok(result)
    }

    pub(super) fn note(&self, text: &str) {
        self.output.say(&format!("  {text}"));
    }

    pub(super) fn addresses(&self, title: &str, addresses: &Addresses) {
        self.note(&format!("{title}:"));
        self.note(&format!("  ethereum {}", addresses.ethereum));
        self.note(&format!("  bitcoin  {}", addresses.bitcoin));
        self.note(&format!("  solana   {}", addresses.solana));
    }

    pub(super) fn finish(&self, before: &Addresses, after: &Addresses, ethereum: &Value, solana: &Value) {
        let shown = |addresses: &Addresses| output::json(addresses).unwrap_or(Value::Null);
        let value = json!({
            "ok": true,
            "steps": self.steps,
            "addresses": { "before": shown(before), "after": shown(after) },
            "ethereum": ethereum,
            "solana": solana,
        });
        let lines = [
            String::new(),
            format!("Everything held: {} steps in {} ms.", self.steps.len(), millis(self.started)),
            "  same addresses before and after the loss of the device".to_owned(),
            "  Ethereum and Solana signatures judged by an independent library".to_owned(),
        ];
        self.output.result(&lines, &value);
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(super::now().duration_since(since).as_millis()).unwrap_or(u64::MAX)
}
