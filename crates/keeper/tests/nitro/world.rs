//! An enclave, its parent instance, and KMS.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use halfkey_envelope::{entropy::OsEntropy, hpke::PublicKey};
use halfkey_evidence::synthetic::nitro::Show;
use halfkey_keeper::{
    RootError, SealRoot,
    nitro::{ModuleFault, NO_SEALINGS_YET, NitroError, NitroRoot, SecurityModule, Settings, Tls},
};

use super::{
    certificate::Authority,
    kms::{Fault, KEYS, Kms, hosts},
};

pub const CREDENTIALS: &str = r#"{"Code":"Success","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"secret","Token":"token","Expiration":"2026-01-01T06:00:00Z"}"#;
const DEPLOYMENT: &str = "01010101-0101-0101-0101-010101010101";

/// A Nitro Secure Module in memory, in a machine that may be changed.
pub struct Machine(pub Mutex<fn(&mut Show)>);

impl SecurityModule for Machine {
    fn attest(
        &self,
        user_data: Option<&[u8]>,
        nonce: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, ModuleFault> {
        let mut show = Show::new(user_data, nonce, public_key);
        (self.0.lock().unwrap())(&mut show);
        Ok(show.document())
    }
}

/// What the parent says and stores.
pub struct Parent {
    pub credentials: String,
    pub sealings: Vec<u8>,
    /// Whether it stores what it is given. It never replaces anything.
    pub stores: bool,
}

pub struct World {
    pub machine: Arc<Machine>,
    pub parent: Arc<Mutex<Parent>>,
    pub kms: Kms,
    pub authority: Authority,
    settings: Mutex<String>,
}

impl World {
    pub fn new() -> Self {
        let authority = Authority::new(1);
        let kms = Kms::start(&authority, &hosts());
        let parent = Parent { credentials: CREDENTIALS.to_owned(), sealings: NO_SEALINGS_YET.to_vec(), stores: true };
        let parent = Arc::new(Mutex::new(parent));
        let addresses =
            [says(&parent, |p| p.credentials.clone().into()), says(&parent, |p| p.sealings.clone()), takes(&parent)];
        let settings = Mutex::new(settings(addresses, [kms.address, kms.address]));
        Self { machine: Arc::new(Machine(Mutex::new(|_| {}))), parent, kms, authority, settings }
    }

    pub fn settings(&self) -> Settings {
        Settings::from_json(&self.settings.lock().unwrap()).unwrap()
    }

    /// Another image: with other settings.
    pub fn replace(&self, from: &str, to: &str) {
        let mut settings = self.settings.lock().unwrap();
        assert!(settings.contains(from), "{from}");
        *settings = settings.replacen(from, to, 1);
    }

    pub fn change(&self, change: fn(&mut Show)) {
        *self.machine.0.lock().unwrap() = change;
    }

    pub fn fault(&self, fault: Fault) {
        self.kms.state.lock().unwrap().fault = fault;
    }

    pub fn root(&self) -> Result<NitroRoot, NitroError> {
        let tls = Tls::danger_of(&self.authority.root()).unwrap();
        NitroRoot::danger_with(self.settings(), self.machine.clone(), tls)
    }

    /// Starts a keeper: its root, and in how many places that lies.
    pub fn start(&self) -> Result<([u8; 32], u32), NitroError> {
        let root = self.root()?;
        let opened = root.open(&mut OsEntropy).map_err(|error| match error {
            RootError::Nitro(error) => *error,
            other => panic!("{other}"),
        })?;
        Ok((*opened.expose(), root.sealings(&PublicKey::from_bytes([0; 32])).unwrap()))
    }

    /// Why a keeper does not start.
    pub fn refused(&self) -> String {
        match self.start() {
            Ok(_) => panic!("it starts"),
            Err(error) => error.to_string(),
        }
    }

    /// What `refused` says when both KMS keys fail in the same way.
    pub fn nothing_opens(why: &str) -> String {
        format!("no KMS key opens the root: {}: {why}; {}: {why}", KEYS[0], KEYS[1])
    }
}

fn settings(parent: [SocketAddr; 3], kms: [SocketAddr; 2]) -> String {
    let [credentials, sealings, new] = parent;
    let keys =
        format!(r#"{{"arn":"{}","via":"tcp:{}"}},{{"arn":"{}","via":"tcp:{}"}}"#, KEYS[0], kms[0], KEYS[1], kms[1]);
    format!(
        r#"{{"deployment":"{DEPLOYMENT}","generation":1,"credentials":"tcp:{credentials}","sealings":"tcp:{sealings}",
        "newSealings":"tcp:{new}","kms":[{keys}]}}"#
    )
}

fn says(parent: &Arc<Mutex<Parent>>, what: fn(&Parent) -> Vec<u8>) -> SocketAddr {
    let (listener, parent) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(parent));
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let said = what(&parent.lock().unwrap());
            let _ = stream.write_all(&said);
        }
    });
    address
}

fn takes(parent: &Arc<Mutex<Parent>>) -> SocketAddr {
    let (listener, parent) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(parent));
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut given = Vec::new();
            stream.read_to_end(&mut given).unwrap();
            let mut parent = parent.lock().unwrap();
            if parent.stores && parent.sealings == NO_SEALINGS_YET {
                parent.sealings = given;
            }
        }
    });
    address
}
