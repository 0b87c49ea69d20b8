//! One user with three passkeys, one keeper, one backup.

use halfkey_envelope::{
    all_of::Part,
    entropy::DangerSeededEntropy,
    hpke::PublicKey,
    id::{BackupId, ClientId, DeploymentId},
    keeper::{self, Answer, KeyId, Request, SealRootKey},
    passkey::{Algorithm, Assertion, Context, Error, Mode, Op, Release, SealParams, Stanza, seal},
};
use halfkey_keeper::{Keys, release};
use zeroize::Zeroizing;

use crate::sheet::{Passkey, Sheet};

pub const RP_ID: &str = "wallet.example";
pub const ORIGIN: &str = "https://wallet.example";
pub const APP_ORIGIN: &str = "android:apk-key-hash:wcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcE";
pub const RECORD: &[u8] = b"the record of a backup";
/// The number of the key that the keeper announces.
pub const CURRENT: KeyId = 3;

pub fn keys(root: u8) -> Keys {
    Keys::new(SealRootKey::from_bytes(Zeroizing::new([root; 32])), CURRENT)
}

pub fn public_key(root: u8, key_id: KeyId) -> PublicKey {
    keeper::long_term_key(&SealRootKey::from_bytes(Zeroizing::new([root; 32])), key_id).public_key()
}

pub fn passkeys() -> [Passkey; 3] {
    [Passkey::new(Algorithm::Es256, 1), Passkey::new(Algorithm::Rs256, 2), Passkey::new(Algorithm::EdDsa, 3)]
}

pub fn context(fill: u8) -> Context {
    Context {
        deployment: DeploymentId::from_bytes([0xa0; 16]),
        client: ClientId::from_bytes([fill; 16]),
        backup: BackupId::from_bytes([0xb0; 16]),
    }
}

/// The stanza of the client with this number, sealed to the key with this number.
pub fn stanza(client: u8, key_id: KeyId, passkeys: &[Passkey]) -> Vec<u8> {
    let credentials: Vec<_> = passkeys.iter().map(|passkey| passkey.credential.clone()).collect();
    let params = SealParams {
        mode: Mode::Keeper,
        context: context(client),
        rp_id: RP_ID,
        origins: &[ORIGIN.to_owned(), APP_ORIGIN.to_owned()],
        credentials: &credentials,
        keeper: Some((key_id, public_key(1, key_id))),
        prf: None,
    };
    seal(&params, RECORD, &mut DangerSeededEntropy::new(client.into())).unwrap()
}

/// The keeper of the process, without the process.
pub fn ask(keys: &Keys, request: &[u8]) -> Vec<u8> {
    let answer = match keeper::decode_request(request) {
        Ok(Request::Release { key_id, stanza, sealed }) => {
            let released = release(keys, key_id, &stanza, &sealed, &mut DangerSeededEntropy::new(99));
            released.map_or_else(Answer::Refused, Answer::Released)
        }
        Ok(_) => panic!("another request"),
        Err(refusal) => Answer::Refused(refusal),
    };
    keeper::encode_answer(&answer)
}

/// One attempt at a release, and what a test does to it on its way. As it is made, it succeeds.
pub struct Attempt {
    pub keys: Keys,
    /// The key that the device believes to be the keeper's.
    pub pinned: (KeyId, PublicKey),
    pub stanza: Vec<u8>,
    pub context: Context,
    pub passkey: Passkey,
    /// Before it is signed.
    pub sheet: Box<dyn Fn(&mut Sheet)>,
    /// After it is signed.
    pub assertion: Box<dyn Fn(&mut Assertion)>,
    /// The host, on the way to the keeper.
    pub request: Box<dyn Fn(Request) -> Request>,
    /// The host, on the way back.
    pub answer: Box<dyn Fn(Vec<u8>) -> Vec<u8>>,
}

impl Attempt {
    pub fn new() -> Self {
        let passkeys = passkeys();
        let stanza = stanza(1, CURRENT, &passkeys);
        let [passkey, ..] = passkeys;
        Self {
            keys: keys(1),
            pinned: (CURRENT, public_key(1, CURRENT)),
            stanza,
            context: context(1),
            passkey,
            sheet: Box::new(|_| {}),
            assertion: Box::new(|_| {}),
            request: Box::new(|request| request),
            answer: Box::new(|answer| answer),
        }
    }

    /// From the one-time key to the part.
    pub fn part(&self) -> Result<Part, Error> {
        let mut entropy = DangerSeededEntropy::new(7);
        let (key_id, public_key) = &self.pinned;
        let release = Release::begin((*key_id, public_key), Op::Recover, &self.stanza, &self.context, &mut entropy)?;
        let mut sheet = Sheet::new(release.challenge(), RP_ID, ORIGIN);
        (self.sheet)(&mut sheet);
        let mut assertion = sheet.sign(&self.passkey);
        (self.assertion)(&mut assertion);
        let (request, pending) = release.request(&assertion)?;
        let request = (self.request)(keeper::decode_request(&request).unwrap());
        let answer = (self.answer)(ask(&self.keys, &keeper::encode_request(&request)));
        pending.finish(&answer)
    }

    /// The code of the refusal, or the record.
    pub fn code(&self) -> Result<Vec<u8>, &'static str> {
        let part = self.part().map_err(Error::code)?;
        let stanza = Stanza::parse(&self.stanza).map_err(Error::code)?;
        stanza.open(&self.context, Some(&part), None).map(|record| record.to_vec()).map_err(Error::code)
    }
}
