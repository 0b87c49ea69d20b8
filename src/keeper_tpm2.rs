//! `halfkey keeper tpm2 …`: prepare, upgrade and copy a root that a TPM seals.

use std::{
    fs,
    io::{self, BufRead, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use halfkey_cli::output::to_stdout;
use halfkey_envelope::{cbor, entropy::OsEntropy, hpke::PublicKey, keeper::Evidence};
use halfkey_evidence::tpm2::{Enrolment, PcrSelection};
use halfkey_keeper::{
    tpm::Address,
    tpm2::{Approval, EnrolmentRequest, JoinAnswer, JoinRequest, Joining, Terms, Tpm2Root, admit, vouch},
};
use halfkey_server::clock::{Clock, SystemClock};
use p256::{ecdsa::SigningKey, pkcs8::DecodePrivateKey};
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Prepare, upgrade and copy a root that a TPM seals
#[derive(Args)]
pub struct Tpm2Args {
    #[command(subcommand)]
    command: Tpm2Command,
}

#[derive(Args)]
struct Place {
    /// The keeper's folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    tpm: Tpm,
}

#[derive(Args)]
struct Tpm {
    /// A device, or `swtpm:` and a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "/dev/tpmrm0")]
    tpm: Address,
}

#[derive(Args)]
struct Pcrs {
    /// Which PCRs of the SHA-256 bank count, from 0 to 15
    #[arg(long, value_name = "N,N…", value_delimiter = ',', required = true)]
    pcrs: Vec<u8>,
}

#[derive(Args)]
struct Key {
    /// A P-256 key in PKCS#8 PEM; a file that only its owner can read
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Subcommand)]
enum Tpm2Command {
    /// Print a key's public half, compressed, hex: an operator's or a signer's identity
    PublicKey(Key),
    /// On the keeper's machine: write what its operator needs to enrol it
    Enrol {
        #[command(flatten)]
        tpm: Tpm,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// The operator: vouch for the machine of an enrolment request
    Vouch {
        /// What the machine wrote; look at the machine, or at the endorsement certificate in it, before you sign
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        #[command(flatten)]
        key: Key,
        /// For how long, from now
        #[arg(long, value_name = "N", default_value = "365")]
        days: u64,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// On the keeper's machine: print the digest over its PCRs as they are now
    Measure {
        #[command(flatten)]
        tpm: Tpm,
        #[command(flatten)]
        pcrs: Pcrs,
    },
    /// A signer: approve a state of the PCRs
    Approve {
        #[command(flatten)]
        pcrs: Pcrs,
        /// The digest, as `measure` prints it: make sure that you know what it stands for
        #[arg(long, value_name = "HEX")]
        digest: String,
        #[command(flatten)]
        key: Key,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// On the keeper's machine: make a new root and let the TPM seal it
    Seal {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        pcrs: Pcrs,
        /// A signer's public key, hex; once for each
        #[arg(long = "signer", value_name = "HEX", required = true)]
        signers: Vec<String>,
        /// How many signers must approve a state of the PCRs
        #[arg(long, value_name = "N")]
        quorum: usize,
        /// The operator's word for this machine
        #[arg(long, value_name = "FILE")]
        enrolment: PathBuf,
        /// A signer's approval of the present state; once for each
        #[arg(long = "approval", value_name = "FILE", required = true)]
        approvals: Vec<PathBuf>,
    },
    /// On the keeper's machine: take in signers' approvals of another state, before or after an upgrade
    Accept {
        #[command(flatten)]
        place: Place,
        /// A signer's approval; once for each
        #[arg(long = "approval", value_name = "FILE", required = true)]
        approvals: Vec<PathBuf>,
    },
    /// On the keeper's machine: take in a newer enrolment
    Renew {
        #[command(flatten)]
        place: Place,
        /// The operator's word for this machine
        #[arg(long, value_name = "FILE")]
        enrolment: PathBuf,
    },
    /// On a second machine: ask for the root of the first, wait for its answer, and let the own TPM seal it
    Join {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        pcrs: Pcrs,
        /// The operator's word for this machine
        #[arg(long, value_name = "FILE")]
        enrolment: PathBuf,
        /// A signer's approval of this machine's present state; once for each
        #[arg(long = "approval", value_name = "FILE", required = true)]
        approvals: Vec<PathBuf>,
        /// The first long-term key of the keeper, hex, as `seal` printed it
        #[arg(long, value_name = "HEX")]
        public_key: String,
        /// The request to write; carry it to the first machine, and `admit` it there
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Where the answer will lie when a line comes on standard input
        #[arg(long, value_name = "FILE")]
        answer: PathBuf,
        /// The genesis evidence to write, for `archive` on the first machine
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
    },
    /// On the first machine: answer a request to join, if operator and signers have approved the machine
    Admit {
        #[command(flatten)]
        place: Place,
        /// What `join` wrote
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// The answer to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Archive the genesis evidence of another machine that holds this root: it counts from the next start on
    Archive {
        #[command(flatten)]
        place: Place,
        /// What `join` or `genesis` wrote
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
    },
    /// Write the genesis evidence that this machine made when the root was sealed here, for the others' archives
    Genesis {
        #[command(flatten)]
        place: Place,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub fn run(args: Tpm2Args) -> Result<()> {
    let now_ms = SystemClock.now_ms();
    match args.command {
        Tpm2Command::PublicKey(key) => {
            let point = key.read()?.verifying_key().to_sec1_point(true);
            to_stdout(&hex::encode(point.as_bytes()));
        }
        Tpm2Command::Enrol { tpm, out } => write(&out, &cbor::to_vec(&Tpm2Root::enrolment_request(&tpm.tpm)?))?,
        Tpm2Command::Vouch { request, key, days, out } => {
            let request: EnrolmentRequest = read(&request)?;
            let until = now_ms.saturating_add(days.saturating_mul(DAY_MS));
            write(&out, &cbor::to_vec(&vouch(&request, now_ms, until, &key.read()?)?))?;
        }
        Tpm2Command::Measure { tpm, pcrs } => {
            to_stdout(&hex::encode(Tpm2Root::measure(&tpm.tpm, &pcrs.selection()?)?));
        }
        Tpm2Command::Approve { pcrs, digest, key, out } => {
            write(&out, &Approval::sign(&pcrs.selection()?, bytes(&digest)?, &key.read()?)?.to_vec())?;
        }
        Tpm2Command::Seal { place, pcrs, signers, quorum, enrolment, approvals } => {
            let signers = signers.iter().map(|signer| bytes(signer)).collect::<Result<_>>()?;
            let terms = Terms { selection: pcrs.selection()?, signers, quorum };
            let (enrolment, approvals): (Enrolment, _) = (read(&enrolment)?, read_approvals(&approvals)?);
            let key = place.root().seal_new(&terms, &enrolment, &approvals, now_ms, &mut OsEntropy)?;
            to_stdout(&hex::encode(key.as_bytes()));
        }
        Tpm2Command::Accept { place, approvals } => {
            read_approvals(&approvals)?.iter().try_for_each(|approval| place.root().accept(approval))?;
        }
        Tpm2Command::Renew { place, enrolment } => place.root().renew(&read(&enrolment)?, now_ms)?,
        Tpm2Command::Join { place, pcrs, enrolment, approvals, public_key, request, answer, genesis } => {
            let (expected, approvals) = (PublicKey::from_bytes(bytes(&public_key)?), read_approvals(&approvals)?);
            let root = place.root();
            let joining = Joining::begin(root, &pcrs.selection()?, read(&enrolment)?, now_ms, &mut OsEntropy)?;
            write(&request, &joining.request().to_vec())?;
            to_stdout(&format!(
                "{}: carry it to the first machine; press return when the answer is here",
                request.display()
            ));
            io::stdin().lock().read_line(&mut String::new())?;
            let answer = JoinAnswer::from_slice(&fs::read(&answer)?)?;
            let evidence = joining.finish(&answer, &expected, &approvals, SystemClock.now_ms(), &mut OsEntropy)?;
            write(&genesis, &cbor::to_vec(&evidence))?;
        }
        Tpm2Command::Admit { place, request, out } => {
            let request = JoinRequest::from_slice(&fs::read(&request)?)?;
            write(&out, &admit(&place.root(), &request, now_ms, &mut OsEntropy)?.to_vec())?;
        }
        Tpm2Command::Archive { place, genesis } => place.root().archive(&read::<Evidence>(&genesis)?)?,
        Tpm2Command::Genesis { place, out } => write(&out, &cbor::to_vec(&place.root().own_genesis()?))?,
    }
    Ok(())
}

impl Place {
    fn root(&self) -> Tpm2Root {
        Tpm2Root::new(self.data.clone(), self.tpm.tpm.clone())
    }
}

impl Pcrs {
    fn selection(&self) -> Result<PcrSelection> {
        Ok(PcrSelection::new(&self.pcrs)?)
    }
}

impl Key {
    fn read(&self) -> Result<SigningKey> {
        let shown = self.key.display();
        if fs::metadata(&self.key)?.permissions().mode() & 0o077 != 0 {
            return Err(format!("{shown} can be read by others: chmod 0600").into());
        }
        let pem = Zeroizing::new(fs::read_to_string(&self.key)?);
        SigningKey::from_pkcs8_pem(&pem).map_err(|_| format!("{shown}: not a P-256 key in PKCS#8 PEM").into())
    }
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N]> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("{text}: not {N} bytes in hex").into())
}

fn read<T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>>(path: &Path) -> Result<T> {
    let found = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    cbor::from_slice(&found).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn read_approvals(paths: &[PathBuf]) -> Result<Vec<Approval>> {
    let read = |path: &PathBuf| Ok(Approval::from_slice(&fs::read(path)?)?);
    paths.iter().map(read).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| format!("{}: {error}", path.display()).into())
}
