//! `halfkey keeper evidence`: what a client would see and say.

use std::path::PathBuf;

use clap::Args;
use halfkey_cli::{doctor::ask_keeper, output::to_stdout};
use halfkey_envelope::{
    entropy::{OsEntropy, random},
    keeper::{Answer, Evidence, EvidenceKind, Request},
};
use halfkey_evidence::{Expected, Refusal, Verified, nitro, tpm2, verify};
use halfkey_protocol::descriptor::SignedDescriptor;
use halfkey_server::clock::{Clock, SystemClock};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Args)]
pub struct EvidenceArgs {
    /// The keeper's Unix socket
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Judge the evidence under this deployment's policy, as an app would; refused evidence is exit code 1
    #[arg(long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    /// Print exactly one JSON object
    #[arg(long)]
    json: bool,
}

pub async fn run(args: EvidenceArgs) -> Result<()> {
    let nonce = *random::<32>(&mut OsEntropy);
    let evidence = match ask_keeper(&args.socket, &Request::Evidence { nonce }).await? {
        Answer::Evidence(evidence) => evidence,
        Answer::Refused(refusal) => return Err(format!("{}: {refusal}", refusal.code()).into()),
        _ => return Err("the keeper answers something else".into()),
    };
    let mut shown = fields(&evidence);
    let judged = args.descriptor.as_ref().map(|path| judge(path, &evidence, &nonce)).transpose()?;
    if let Some(verdict) = &judged {
        let verdict = match verdict {
            Ok(verified) => json!({ "accepted": true, "measurement": verified.measurement }),
            Err(refusal) => json!({ "accepted": false, "code": refusal.code(), "reason": refusal.to_string() }),
        };
        shown.insert("verdict".to_owned(), verdict);
    }
    print(&shown, args.json);
    match judged {
        Some(Err(refusal)) => Err(format!("{}: {refusal}", refusal.code()).into()),
        _ => Ok(()),
    }
}

fn judge(
    path: &std::path::Path,
    evidence: &Evidence,
    nonce: &[u8; 32],
) -> Result<std::result::Result<Verified, Refusal>> {
    let descriptor = SignedDescriptor::from_json(&std::fs::read_to_string(path)?)?.open()?;
    let keeper = descriptor.keeper.ok_or("the descriptor names no passkey keeper")?;
    let public_key = halfkey_envelope::hpke::PublicKey::from_bytes(keeper.hpke.0);
    let expected = Expected { nonce, key_id: keeper.key_id, public_key: &public_key, now_ms: SystemClock.now_ms() };
    Ok(verify(evidence, &expected, &descriptor.evidence.policy()?))
}

fn fields(evidence: &Evidence) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("kind".to_owned(), json!(evidence.kind.to_string()));
    shown.insert("keyId".to_owned(), json!(evidence.key_id));
    shown.insert("publicKey".to_owned(), json!(hex::encode(evidence.public_key.as_bytes())));
    shown.insert("nonce".to_owned(), json!(hex::encode(evidence.nonce)));
    shown.insert("configuration".to_owned(), json!(hex::encode(evidence.configuration)));
    shown.insert("statement".to_owned(), json!(hex::encode(evidence.statement())));
    let document = match evidence.kind {
        EvidenceKind::Tpm2 => tpm2_fields(&evidence.document),
        EvidenceKind::Nitro => nitro_fields(&evidence.document),
        _ => Ok(json!("none: this keeper proves nothing about itself")),
    };
    shown.insert("document".to_owned(), document.unwrap_or_else(|refusal| json!(refusal.to_string())));
    shown
}

fn tpm2_fields(document: &[u8]) -> std::result::Result<Value, Refusal> {
    let document = tpm2::Document::from_slice(document)?;
    let quote = tpm2::Quote::from_slice(&document.quote)?;
    let pcrs: Vec<u8> = (0..24).filter(|pcr| quote.selection[usize::from(pcr / 8)] >> (pcr % 8) & 1 == 1).collect();
    let enrolment = document.enrolment;
    Ok(json!({
        "qualifyingData": hex::encode(&quote.extra),
        "pcrs": pcrs,
        "pcrDigest": hex::encode(quote.digest),
        "resets": quote.resets,
        "firmware": format!("{:x}", quote.firmware),
        "attestationKey": hex::encode(&enrolment.attestation_key),
        "operator": hex::encode(enrolment.operator),
        "endorsementCertificateSha256": hex::encode(enrolment.endorsement),
        "enrolledFromMs": enrolment.not_before_ms,
        "enrolledUntilMs": enrolment.not_after_ms,
    }))
}

fn nitro_fields(document: &[u8]) -> std::result::Result<Value, Refusal> {
    let document = nitro::Document::from_slice(document)?;
    let pcrs: Map<String, Value> =
        document.pcrs.iter().map(|(pcr, value)| (pcr.to_string(), json!(hex::encode(value)))).collect();
    let hex = |field: &Option<Vec<u8>>| field.as_ref().map(hex::encode);
    Ok(json!({
        "moduleId": document.module_id,
        "timestampMs": document.timestamp_ms,
        "pcrs": pcrs,
        "certificates": document.chain.len(),
        "publicKey": hex(&document.public_key),
        "userData": hex(&document.user_data),
        "nonce": hex(&document.nonce),
    }))
}

fn print(shown: &Map<String, Value>, as_json: bool) {
    if as_json {
        return to_stdout(&Value::Object(shown.clone()).to_string());
    }
    for (name, value) in shown {
        match value {
            Value::Object(inner) => {
                to_stdout(&format!("{name}:"));
                for (name, value) in inner {
                    to_stdout(&format!("  {name}: {}", plain(value)));
                }
            }
            value => to_stdout(&format!("{name}: {}", plain(value))),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
