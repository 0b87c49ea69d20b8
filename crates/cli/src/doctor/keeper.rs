//! `halfkey doctor keeper`, and how a keeper is asked on its own socket.

use std::{path::Path, path::PathBuf, time::Duration};

use clap::Args;
use halfkey_envelope::{
    frame,
    keeper::{Answer, EvidenceKind, Info, Request, decode_answer, encode_request},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::judge::{Finding, FindingId, verdict};
use crate::error::{Error, Result};

/// How long a keeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ask a running passkey keeper what guards its root
///
/// Says what is wrong before users' backups depend on it: a root that lies in one place only, or evidence that proves
/// nothing. Ends with 1 when something is wrong. Whether apps accept its evidence, `halfkey keeper evidence` says.
#[derive(Args)]
pub struct KeeperArgs {
    /// The keeper's socket
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Print exactly one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a keeper says of itself, judged.
pub struct KeeperReport {
    info: Info,
    findings: Vec<Finding>,
}

impl KeeperReport {
    /// Judges what a keeper says of itself.
    #[must_use]
    pub fn new(info: Info) -> Self {
        let mut findings = Vec::new();
        if info.evidence == EvidenceKind::InsecureDev {
            findings.push(Finding::new(FindingId::ProvesNothing, info.evidence.to_string()));
        }
        if info.sealings < 2 {
            findings.push(Finding::new(FindingId::OneSealing, info.sealings.to_string()));
        }
        Self { info, findings }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Info { key_id, evidence, sealings, .. } = &self.info;
        let mut lines = vec![format!("keeper with key {key_id}, evidence {evidence}, sealings {sealings}")];
        lines.extend(self.findings.iter().flat_map(|finding| finding.lines(finding.id.severity())));
        lines.push(verdict(self.is_good()));
        lines
    }

    /// For programs.
    #[must_use]
    pub fn value(&self) -> Value {
        let Info { key_id, public_key, evidence, sealings, .. } = &self.info;
        let finding = |finding: &Finding| finding.value(finding.id.severity());
        json!({
            "good": self.is_good(),
            "keyId": key_id,
            "publicKey": hex::encode(public_key.as_bytes()),
            "evidence": evidence.to_string(),
            "sealings": sealings,
            "findings": self.findings.iter().map(finding).collect::<Value>(),
        })
    }
}

/// Asks the keeper on `socket` who it is.
///
/// # Errors
/// [`Error::Failed`] when it does not answer.
pub async fn examine_keeper(socket: &Path) -> Result<KeeperReport> {
    match ask_keeper(socket, &Request::Info).await? {
        Answer::Info(info) => Ok(KeeperReport::new(info)),
        _ => Err(Error::Failed(format!("the keeper on {} does not say who it is", socket.display()))),
    }
}

/// One request to the keeper on `socket`, and its answer.
///
/// # Errors
/// [`Error::Failed`] when it does not answer.
pub async fn ask_keeper(socket: &Path, request: &Request) -> Result<Answer> {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(&frame::encode(&encode_request(request)).ok()?).await.ok()?;
        let (mut decoder, mut buffer) = (frame::Decoder::new(), [0u8; 1024]);
        loop {
            if let Some(answer) = decoder.next_frame().ok()? {
                return decode_answer(&answer).ok();
            }
            let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            decoder.push(&buffer[..read]);
        }
    };
    let away = || Error::Failed(format!("the keeper does not answer on {}: is it running?", socket.display()));
    timeout(PATIENCE, asked).await.ok().flatten().ok_or_else(away)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use halfkey_envelope::hpke::SecretKey;

    use super::*;

    fn report(evidence: EvidenceKind, sealings: u32) -> KeeperReport {
        let public_key = SecretKey::from_seed(&[7; 32]).public_key();
        KeeperReport::new(Info { version: 1, key_id: 3, public_key, evidence, sealings })
    }

    #[test]
    fn a_root_in_one_place_and_evidence_of_nothing_are_errors() {
        let ids = |evidence, sealings| {
            report(evidence, sealings).findings.iter().map(|finding| finding.id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(ids(EvidenceKind::Tpm2, 2), [""; 0]);
        assert_eq!(ids(EvidenceKind::Nitro, 3), [""; 0]);
        assert_eq!(ids(EvidenceKind::Tpm2, 1), ["ONE_SEALING"]);
        assert_eq!(ids(EvidenceKind::Nitro, 0), ["ONE_SEALING"]);
        assert_eq!(ids(EvidenceKind::InsecureDev, 2), ["PROVES_NOTHING"]);
        assert_eq!(ids(EvidenceKind::InsecureDev, 1), ["PROVES_NOTHING", "ONE_SEALING"]);
    }

    #[test]
    fn the_report_says_what_the_keeper_says() {
        let value = report(EvidenceKind::Tpm2, 1).value();
        assert_eq!((&value["good"], &value["keyId"], &value["evidence"]), (&false.into(), &3.into(), &"tpm2".into()));
        assert_eq!((&value["sealings"], &value["findings"][0]["severity"]), (&1.into(), &"error".into()));
        assert!(report(EvidenceKind::Tpm2, 2).lines().concat().ends_with("Nothing is wrong."));
    }

    #[tokio::test]
    async fn a_keeper_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("keeper.sock");
        let error = examine_keeper(&socket).await.err().unwrap().to_string();
        assert!(error.contains("does not answer on") && error.contains("keeper.sock"), "{error}");
    }
}
