//! A KMS that is made up, by AWS's documentation: over real TLS it keeps data keys, and before it gives one out it judges
//! the attestation document as a key policy with conditions on PCR 0 and PCR 8 does. It proves our side of the protocol.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use halfkey_envelope::entropy::{OsEntropy, random};
use halfkey_evidence::{
    nitro::Document,
    synthetic::nitro::{IMAGE, NOW_MS, OPERATOR, root},
};
use halfkey_keeper::nitro::Recipient;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::{
    certificate::Authority,
    envelope::{self, Plan},
};

pub const KEYS: [&str; 2] = [
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "arn:aws:kms:us-east-2:444455556666:key/5678abcd-12ab-34cd-56ef-1234567890ab",
];

pub fn hosts() -> Vec<String> {
    ["eu-central-1", "us-east-2"].map(|region| format!("kms.{region}.amazonaws.com")).to_vec()
}

/// What is wrong with its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// It says that it used another key.
    OtherKey,
    /// It gives the data key in the clear, beside what is sealed.
    Plaintext,
    /// It does not know `Recipient`: the data key in the clear, and nothing sealed.
    NoRecipient,
    /// It seals to another RSA key than the document's.
    OtherRecipient,
    /// It gives another data key than the one that was asked for.
    OtherDataKey,
    /// 16 bytes.
    ShortDataKey,
    /// A byte less of what is sealed.
    Cut,
    /// A byte more.
    Longer,
    /// No JSON.
    Garbled,
}

pub type Context = BTreeMap<String, String>;

pub struct State {
    pub fault: Fault,
    /// What was asked for, of which key.
    pub calls: Vec<(String, String)>,
    /// Under which encryption contexts.
    pub contexts: Vec<Context>,
    /// Every data key that it has made.
    pub data_keys: Vec<[u8; 32]>,
    blobs: HashMap<Vec<u8>, (String, Context, [u8; 32])>,
}

pub struct Kms {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

impl Kms {
    pub fn start(authority: &Authority, hosts: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(authority.server(hosts));
        let state =
            State { fault: Fault::Nothing, calls: vec![], contexts: vec![], data_keys: vec![], blobs: HashMap::new() };
        let state = Arc::new(Mutex::new(state));
        let serving = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away, or does not like our certificate, is its own affair.
                let _ = serve(stream, &tls, &serving);
            }
        });
        Self { address, state }
    }
}

fn serve(stream: TcpStream, tls: &Arc<ServerConfig>, state: &Mutex<State>) -> std::io::Result<()> {
    let session = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(session, stream));
    let mut first = String::new();
    stream.read_line(&mut first)?;
    assert_eq!(first, "POST / HTTP/1.1\r\n");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        assert!(headers.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body)?;
    let mut state = state.lock().unwrap();
    let (status, answer) = match answer(&mut state, &headers, &serde_json::from_slice(&body)?) {
        Ok(answer) if state.fault == Fault::Garbled => (200, answer.to_string().replace('}', "")),
        Ok(answer) => (200, answer.to_string()),
        Err(code) => (400, json!({ "__type": code, "message": "no" }).to_string()),
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", answer.len());
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn answer(state: &mut State, headers: &HashMap<String, String>, call: &Value) -> Result<Value, &'static str> {
    let arn = call["KeyId"].as_str().filter(|arn| KEYS.contains(arn)).ok_or("NotFoundException")?;
    check_head(headers, arn)?;
    let target = headers["x-amz-target"].strip_prefix("TrentService.").ok_or("UnknownOperationException")?;
    state.calls.push((target.to_owned(), arn.to_owned()));
    let to = judge(&call["Recipient"])?;
    let context: Context =
        serde_json::from_value(call["EncryptionContext"].clone()).map_err(|_| "ValidationException")?;
    state.contexts.push(context.clone());
    let (blob, data_key) = match target {
        "GenerateDataKey" => {
            assert_eq!(call["KeySpec"], "AES_256");
            let (blob, data_key) = (random::<48>(&mut OsEntropy).to_vec(), *random::<32>(&mut OsEntropy));
            state.blobs.insert(blob.clone(), (arn.to_owned(), context, data_key));
            state.data_keys.push(data_key);
            (blob, data_key)
        }
        "Decrypt" => {
            let blob = STANDARD.decode(call["CiphertextBlob"].as_str().unwrap()).unwrap();
            let (by, under, data_key) = state.blobs.get(&blob).ok_or("InvalidCiphertextException")?;
            if by != arn {
                return Err("IncorrectKeyException");
            }
            if *under != context {
                return Err("InvalidCiphertextException");
            }
            (vec![], *data_key)
        }
        _ => return Err("UnknownOperationException"),
    };
    Ok(give(state.fault, arn, &blob, data_key, &to))
}

/// The signature itself has tests with AWS's published examples.
fn check_head(headers: &HashMap<String, String>, arn: &str) -> Result<(), &'static str> {
    let region = arn.split(':').nth(3).unwrap();
    assert_eq!(headers["host"], format!("kms.{region}.amazonaws.com"));
    let day = &headers["x-amz-date"][..8];
    let start = format!("AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/{day}/{region}/kms/aws4_request, SignedHeaders=");
    let names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
    if !headers["authorization"].starts_with(&format!("{start}{names}, Signature=")) {
        return Err("IncompleteSignatureException");
    }
    if headers["x-amz-security-token"] == "expired" { Err("ExpiredTokenException") } else { Ok(()) }
}

/// The RSA key in the document, if AWS's root (of the tests) vouches for it and the key policy's conditions hold.
fn judge(recipient: &Value) -> Result<Vec<u8>, &'static str> {
    assert_eq!(recipient["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
    let document = STANDARD.decode(recipient["AttestationDocument"].as_str().unwrap()).unwrap();
    let document = Document::from_slice(&document).map_err(|_| "ValidationException")?;
    document.verify(&root(), NOW_MS).map_err(|_| "ValidationException")?;
    // kms:RecipientAttestation:ImageSha384 and kms:RecipientAttestation:PCR8.
    if document.pcr(0) != Some(IMAGE[0]) || document.pcr(8) != Some(OPERATOR) {
        return Err("AccessDeniedException");
    }
    document.public_key.ok_or("ValidationException")
}

fn give(fault: Fault, arn: &str, blob: &[u8], data_key: [u8; 32], to: &[u8]) -> Value {
    let other = Recipient::generate().unwrap();
    let (to, given) = match fault {
        Fault::OtherRecipient => (other.public_key(), &data_key[..]),
        Fault::OtherDataKey => (to, &[1; 32][..]),
        Fault::ShortDataKey => (to, &data_key[..16]),
        _ => (to, &data_key[..]),
    };
    let mut sealed = envelope::seal(&Plan::default(), to, given);
    match fault {
        Fault::Cut => drop(sealed.pop()),
        Fault::Longer => sealed.push(0),
        _ => {}
    }
    let other_arn = KEYS.into_iter().find(|other| *other != arn).unwrap();
    let mut answer = json!({
        "KeyId": if fault == Fault::OtherKey { other_arn } else { arn },
        "CiphertextForRecipient": STANDARD.encode(sealed),
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    });
    if !blob.is_empty() {
        answer["CiphertextBlob"] = STANDARD.encode(blob).into();
    }
    if matches!(fault, Fault::Plaintext | Fault::NoRecipient) {
        answer["Plaintext"] = STANDARD.encode(data_key).into();
    }
    if fault == Fault::NoRecipient {
        answer.as_object_mut().unwrap().remove("CiphertextForRecipient");
    }
    answer
}
