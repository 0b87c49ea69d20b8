//! Commands and responses as they travel (part 1, 18).

use std::{thread, time::Duration};

use zeroize::Zeroizing;

use super::{Result, TpmError, address::Link};

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// An empty password.
const PASSWORD: u32 = 0x4000_0009;
const CONTINUE_SESSION: u8 = 1;
/// TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: ask again.
const WAIT: [u32; 3] = [0x908, 0x90a, 0x922];
const PAUSE: Duration = Duration::from_millis(20);
const TRIES: u32 = 100;

/// A TPM2B: two bytes of length and the bytes.
///
/// # Panics
/// Never in practice: nothing here has 64 KiB.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() <= usize::from(u16::MAX), "structures of a TPM are small");
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A command to be sent.
pub struct Command {
    code: u32,
    handles: Vec<u8>,
    authorisations: Vec<u8>,
    parameters: Zeroizing<Vec<u8>>,
    gives_handle: bool,
}

impl Command {
    pub fn new(code: u32) -> Self {
        // Room enough that no secret is left behind by a growing vector.
        let parameters = Zeroizing::new(Vec::with_capacity(2048));
        Self { code, handles: vec![], authorisations: vec![], parameters, gives_handle: false }
    }

    pub fn handle(mut self, handle: u32) -> Self {
        self.handles.extend_from_slice(&handle.to_be_bytes());
        self
    }

    /// The first handle is used with an empty password.
    pub fn password(self) -> Self {
        self.session(PASSWORD)
    }

    /// The first handle is used under this policy session.
    pub fn policy(self, session: u32) -> Self {
        self.session(session)
    }

    fn session(mut self, session: u32) -> Self {
        self.authorisations.extend_from_slice(&session.to_be_bytes());
        // No nonce, and no HMAC: neither a password nor an unbound, unsalted policy session has one.
        self.authorisations.extend_from_slice(&[0, 0, CONTINUE_SESSION, 0, 0]);
        self
    }

    pub fn parameters(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend_from_slice(bytes);
        self
    }

    /// The response begins with a handle.
    pub const fn gives_handle(mut self) -> Self {
        self.gives_handle = true;
        self
    }

    pub fn run(self, link: &mut Link) -> Result<Response> {
        let bytes = self.encode();
        for _ in 0..TRIES {
            let answer = link.transact(&bytes)?;
            let response = Response { bytes: answer, at: 0 };
            match self.open(response) {
                Err(TpmError::Refused(code)) if WAIT.contains(&code) => thread::sleep(PAUSE),
                done => return done,
            }
        }
        Err(TpmError::Refused(WAIT[2]))
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let sessions = !self.authorisations.is_empty();
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        bytes.extend_from_slice(&if sessions { SESSIONS } else { NO_SESSIONS }.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.code.to_be_bytes());
        bytes.extend_from_slice(&self.handles);
        if sessions {
            bytes.extend_from_slice(&(self.authorisations.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&self.authorisations);
        }
        bytes.extend_from_slice(&self.parameters);
        let length = (bytes.len() as u32).to_be_bytes();
        bytes[2..6].copy_from_slice(&length);
        bytes
    }

    /// Takes header, handle and the length of the parameters off.
    fn open(&self, mut response: Response) -> Result<Response> {
        let (tag, length) = (response.array()?, response.array()?);
        let code = u32::from_be_bytes(response.array()?);
        if u32::from_be_bytes(length) as usize != response.bytes.len() {
            return Err(TpmError::Malformed);
        }
        if code != 0 {
            return Err(TpmError::Refused(code));
        }
        let sessions = !self.authorisations.is_empty();
        if u16::from_be_bytes(tag) != if sessions { SESSIONS } else { NO_SESSIONS } {
            return Err(TpmError::Malformed);
        }
        if sessions {
            // Where there is a handle it stands before the length.
            let start = response.at + if self.gives_handle { 4 } else { 0 };
            let length = response.bytes.get(start..start + 4).ok_or(TpmError::Malformed)?;
            let length = length.try_into().map(u32::from_be_bytes).map_err(|_| TpmError::Malformed)?;
            let end = start + 4 + length as usize;
            if end > response.bytes.len() {
                return Err(TpmError::Malformed);
            }
            response.bytes.drain(start..start + 4);
            response.bytes.truncate(end - 4);
        }
        Ok(response)
    }
}

/// What is left of a response. It may hold an unsealed secret: wiped on drop.
pub struct Response {
    bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Response {
    pub fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count).ok_or(TpmError::Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(TpmError::Malformed)?;
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| TpmError::Malformed)
    }

    pub fn handle(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A TPM2B's content.
    pub fn sized(&mut self) -> Result<&[u8]> {
        let length = self.array().map(u16::from_be_bytes)?;
        self.take(length.into())
    }

    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}
