//! Frames between the server and the two keepers, over a Unix socket or TCP: `u32be length ‖ bytes`, at most
//! [`MAX_FRAME`] bytes (DECISIONS.md D28). Pure encoding and decoding; the sockets are the caller's.
//!
//! On TCP a pre-shared [`LinkKey`] stands before the first message and around every further one:
//!
//! ```text
//! keeper → caller   nonce_k[32]
//! caller → keeper   nonce_c[32] ‖ HMAC(key, "halfkey/link/v1/caller" …nonces)
//! keeper → caller   HMAC(key, "halfkey/link/v1/keeper" …nonces)
//! then              ChaCha20-Poly1305 under a key per direction, the nonce a counter
//! ```
//!
//! A Unix socket (0600) carries the messages as they are. What a client says to the password door is sealed
//! end to end in either case; the link key keeps others from activating, erasing or counting.

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, aead::Aead};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    entropy::{Entropy, random},
    hash::h,
    secret::{redact, secret32},
};

/// The longest frame, without its length.
pub const MAX_FRAME: usize = 16 * 1024;
/// What [`Channel::wrap`] adds to a message.
pub const CHANNEL_OVERHEAD: usize = 16;
const LENGTH: usize = 4;
const NONCE: usize = 32;
const PROOF: usize = 32;

/// Why bytes are not an acceptable frame. The connection that sent them is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Longer than [`MAX_FRAME`], or empty.
    #[error("a frame has 1 to 16384 bytes")]
    BadLength,
    /// The other end does not have the link key, or the bytes were changed, reordered or repeated.
    #[error("the other end of the link is not who it should be")]
    BadPeer,
}

/// One frame around `message`.
pub fn encode(message: &[u8]) -> Result<Vec<u8>, Error> {
    if message.is_empty() || message.len() > MAX_FRAME {
        return Err(Error::BadLength);
    }
    let mut frame = Vec::with_capacity(LENGTH + message.len());
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    Ok(frame)
}

/// Takes frames out of a stream of bytes, however it was cut.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more is pushed. A bad length is found out before its bytes come,
    /// so that a reader who stops at an error never holds more than one frame and one read.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(Error::BadLength);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = rest[..length].to_vec();
        self.buffer.drain(..LENGTH + length);
        Ok(Some(message))
    }

    /// Whether a frame has begun and not ended: the stream must not stop here.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

secret32! {
    /// The pre-shared key of a TCP link between a server and a keeper.
    LinkKey;
}

/// The keeper's end of the handshake of a TCP link.
pub struct Challenge {
    nonce: [u8; NONCE],
}

impl Challenge {
    /// A challenge for one new connection; send [`Self::message`] as the first frame.
    pub fn new(entropy: &mut dyn Entropy) -> Self {
        Self { nonce: *random::<NONCE>(entropy) }
    }

    /// The first frame.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        self.nonce.to_vec()
    }

    /// Checks the caller's answer; gives the last message of the handshake and the channel.
    pub fn accept(self, key: &LinkKey, answer: &[u8]) -> Result<(Vec<u8>, Channel), Error> {
        let (nonce_c, proof) = answer.split_first_chunk::<NONCE>().ok_or(Error::BadPeer)?;
        verify(key, CALLER, &self.nonce, nonce_c, proof)?;
        let proof = prove(key, KEEPER, &self.nonce, nonce_c);
        Ok((proof.to_vec(), Channel::new(key, &self.nonce, nonce_c, End::Keeper)))
    }
}

/// The caller's end of the handshake of a TCP link: send [`Self::message`] in answer to the challenge.
pub struct Response {
    nonce_k: [u8; NONCE],
    nonce_c: [u8; NONCE],
}

impl Response {
    /// The answer to a keeper's challenge.
    pub fn new(challenge: &[u8], entropy: &mut dyn Entropy) -> Result<Self, Error> {
        let nonce_k = challenge.try_into().map_err(|_| Error::BadPeer)?;
        Ok(Self { nonce_k, nonce_c: *random::<NONCE>(entropy) })
    }

    /// The second frame.
    #[must_use]
    pub fn message(&self, key: &LinkKey) -> Vec<u8> {
        let mut message = self.nonce_c.to_vec();
        message.extend_from_slice(&prove(key, CALLER, &self.nonce_k, &self.nonce_c));
        message
    }

    /// Checks the keeper's proof, the third frame; gives the channel.
    pub fn finish(self, key: &LinkKey, proof: &[u8]) -> Result<Channel, Error> {
        verify(key, KEEPER, &self.nonce_k, &self.nonce_c, proof)?;
        Ok(Channel::new(key, &self.nonce_k, &self.nonce_c, End::Caller))
    }
}

const CALLER: &str = "halfkey/link/v1/caller";
const KEEPER: &str = "halfkey/link/v1/keeper";

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Caller,
    Keeper,
}

/// Both directions of a TCP link after its handshake: every message is encrypted, and in order or refused.
pub struct Channel {
    sending: Direction,
    receiving: Direction,
}

redact!(Channel);

impl Channel {
    fn new(key: &LinkKey, nonce_k: &[u8; NONCE], nonce_c: &[u8; NONCE], end: End) -> Self {
        let to_keeper = Direction::new(key, "halfkey/link/v1/to-keeper", nonce_k, nonce_c);
        let to_caller = Direction::new(key, "halfkey/link/v1/to-caller", nonce_k, nonce_c);
        match end {
            End::Caller => Self { sending: to_keeper, receiving: to_caller },
            End::Keeper => Self { sending: to_caller, receiving: to_keeper },
        }
    }

    /// Encrypts the next message to send; it goes into a frame of its own.
    pub fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = self.sending.next()?;
        self.sending.cipher.encrypt(&nonce, message).map_err(|_| Error::BadLength)
    }

    /// Decrypts the next frame received. After an error the connection is closed.
    pub fn unwrap(&mut self, frame: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = self.receiving.next()?;
        self.receiving.cipher.decrypt(&nonce, frame).map_err(|_| Error::BadPeer)
    }
}

struct Direction {
    cipher: ChaCha20Poly1305,
    count: u64,
}

impl Direction {
    fn new(key: &LinkKey, label: &str, nonce_k: &[u8; NONCE], nonce_c: &[u8; NONCE]) -> Self {
        let key = Zeroizing::new(prove(key, label, nonce_k, nonce_c));
        Self { cipher: ChaCha20Poly1305::new((&*key).into()), count: 0 }
    }

    fn next(&mut self) -> Result<Nonce, Error> {
        let mut nonce = [0u8; 12];
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        self.count = self.count.checked_add(1).ok_or(Error::BadPeer)?;
        Ok(nonce.into())
    }
}

fn prove(key: &LinkKey, label: &str, nonce_k: &[u8; NONCE], nonce_c: &[u8; NONCE]) -> [u8; PROOF] {
    mac(key, label, nonce_k, nonce_c).finalize().into_bytes().into()
}

fn verify(key: &LinkKey, label: &str, nonce_k: &[u8; 32], nonce_c: &[u8; 32], proof: &[u8]) -> Result<(), Error> {
    mac(key, label, nonce_k, nonce_c).verify_slice(proof).map_err(|_| Error::BadPeer)
}

#[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(key: &LinkKey, label: &str, nonce_k: &[u8; NONCE], nonce_c: &[u8; NONCE]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose()).expect("any length");
    mac.update(&h(label, &[nonce_k, nonce_c]));
    mac
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::entropy::DangerSeededEntropy;
    use proptest::prelude::*;

    fn handshake(caller: &LinkKey, keeper: &LinkKey) -> Result<(Channel, Channel), Error> {
        let entropy = &mut DangerSeededEntropy::new(7);
        let challenge = Challenge::new(entropy);
        let response = Response::new(&challenge.message(), entropy)?;
        let (proof, at_keeper) = challenge.accept(keeper, &response.message(caller))?;
        Ok((response.finish(caller, &proof)?, at_keeper))
    }

    #[test]
    fn a_link_carries_messages_in_order_only() {
        let key = LinkKey::generate(&mut DangerSeededEntropy::new(1));
        let (mut caller, mut keeper) = handshake(&key, &key).unwrap();
        let (one, two) = (caller.wrap(b"one").unwrap(), caller.wrap(b"two").unwrap());
        assert_eq!(keeper.unwrap(&one).unwrap(), b"one");
        assert_eq!(keeper.unwrap(&one), Err(Error::BadPeer), "a repeated frame");
        assert_eq!(keeper.unwrap(&two), Err(Error::BadPeer), "a frame after a refused one");
        let back = keeper.wrap(b"back").unwrap();
        assert_eq!(keeper.unwrap(&back), Err(Error::BadPeer), "reflected to its sender");
        assert_eq!(caller.unwrap(&back).unwrap(), b"back");
    }

    #[test]
    fn another_link_key_is_refused_by_both_ends() {
        let (a, b) = (LinkKey::from_bytes([1; 32].into()), LinkKey::from_bytes([2; 32].into()));
        assert!(handshake(&a, &b).is_err());
        let entropy = &mut DangerSeededEntropy::new(7);
        let response = Response::new(&[3; 32], entropy).unwrap();
        assert!(response.finish(&a, &[0; 32]).is_err(), "a keeper without the key");
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(encode(&[]), Err(Error::BadLength));
        assert_eq!(encode(&[0; MAX_FRAME + 1]), Err(Error::BadLength));
        let mut decoder = Decoder::new();
        decoder.push(&(MAX_FRAME as u32 + 1).to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(Error::BadLength), "before any of its bytes came");
        let mut decoder = Decoder::new();
        decoder.push(&encode(&[9; MAX_FRAME]).unwrap());
        assert_eq!(decoder.next_frame().unwrap().unwrap().len(), MAX_FRAME);
        assert!(!decoder.is_mid_frame());
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8), cut in 1usize..50) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(message) = decoder.next_frame().unwrap() {
                    found.push(message);
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(!decoder.is_mid_frame());
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
