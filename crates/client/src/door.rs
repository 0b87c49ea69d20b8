//! The password door, end to end to the pinned guesskeeper (METHODS.md B); the server relays.

use halfkey_api::{
    bytes::Base64,
    message::{DoorAnswer, DoorContext, DoorRequest},
    route,
};
use halfkey_envelope::{
    door::{Answer, Mode, ReadBackToken, Refusal, Request, Sealed, Standing},
    hpke::PublicKey,
    id::{BackupId, ClientId},
    password::{self, Guess, Offer, Place, Registration, Starting},
    text,
};
use halfkey_protocol::DeviceKey;
use zeroize::Zeroizing;

use crate::{
    call::Call,
    error::{Error, Result},
    port::Port,
    secret::Password,
};

/// Guesses in a row before a registration is destroyed.
const MAX_GUESSES: u32 = 10;
/// A message whose answer was lost is sent again: the keeper knows it and does not count it twice.
const ATTEMPTS: u32 = 3;

/// The door of one backup, as one operation may use it.
pub(crate) struct Door<'a> {
    port: &'a Port,
    key: &'a DeviceKey,
    within: DoorContext,
    place: Place,
    keeper: PublicKey,
}

impl<'a> Door<'a> {
    pub(crate) fn new(
        port: &'a Port,
        key: &'a DeviceKey,
        within: DoorContext,
        client: ClientId,
        backup: BackupId,
    ) -> Result<Self> {
        let deployment = &port.setting.deployment;
        let place = Place { deployment: deployment.id(), client, backup };
        Ok(Self { port, key, within, place, keeper: deployment.guesskeeper()? })
    }

    /// Gives the record to the door. What comes back opens it until the backup is committed.
    pub(crate) async fn register(&self, password: &text::Password, record: &[u8]) -> Result<ReadBackToken> {
        let (kdf, entropy) = (self.port.setting.kdf, &mut self.port.entropy());
        let context = password::new_context(self.place, password.mode(), kdf, &self.keeper, entropy);
        let stretched = password::stretch(password, &context).map_err(|error| self.advice(error, 0))?;
        let registration = Registration::new(&context, &stretched, record, MAX_GUESSES, &self.keeper, entropy)
            .map_err(|error| self.advice(error, 0))?;
        let sealed = registration.message().clone();
        let answer = self.relay(|backup| Request::Register { backup, sealed: sealed.clone() }).await?;
        registration.finish(&answer).map_err(|error| self.advice(error, 0))
    }

    /// One guess at an active registration. Gives the record, and the password as it was normalised.
    pub(crate) async fn open(&self, typed: &Password) -> Result<(Zeroizing<Vec<u8>>, text::Password)> {
        let offer = self.offer(None).await?;
        let password = parse(offer.context().mode, typed, offer.standing())?;
        Ok((self.guess(offer, &password).await?, password))
    }

    /// The whole way at a registration that is not yet active.
    pub(crate) async fn open_known(
        &self,
        password: &text::Password,
        read_back: &ReadBackToken,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let offer = self.offer(Some(read_back)).await?;
        self.guess(offer, password).await
    }

    async fn offer(&self, read_back: Option<&ReadBackToken>) -> Result<Offer> {
        let starting = Starting::new(self.place, &self.keeper, read_back, &mut self.port.entropy());
        let starting = starting.map_err(|error| self.advice(error, 0))?;
        let answer = self.send(starting.message(), |backup, sealed| Request::Start { backup, sealed }).await?;
        let now_ms = self.port.now().await?;
        starting.finish(&answer).map_err(|error| self.advice(error, now_ms))
    }

    async fn guess(&self, offer: Offer, password: &text::Password) -> Result<Zeroizing<Vec<u8>>> {
        let now_ms = self.port.now().await?;
        let advice = |error| self.advice(error, now_ms);
        let stretched = password::stretch(password, offer.context()).map_err(advice)?;
        let guess = Guess::new(offer, stretched, &mut self.port.entropy()).map_err(advice)?;
        let answer = self.send(guess.message(), |backup, sealed| Request::Evaluate { backup, sealed }).await?;
        let unlocking = guess.finish(&answer, &mut self.port.entropy()).map_err(advice)?;
        let answer = self.send(unlocking.message(), |backup, sealed| Request::Unlock { backup, sealed }).await?;
        unlocking.finish(&answer).map_err(advice)
    }

    async fn send(&self, message: &Sealed, request: impl Fn(BackupId, Sealed) -> Request + Send) -> Result<Answer> {
        let sealed = message.clone();
        self.relay(move |backup| request(backup, sealed.clone())).await
    }

    async fn relay(&self, request: impl Fn(BackupId) -> Request + Send) -> Result<Answer> {
        let frame = request(self.place.backup).to_bytes();
        let request = DoorRequest { within: self.within, frame: Base64(frame) };
        let mut attempt = 1;
        loop {
            let call = Call::new(self.port, "POST", route::PASSWORD_DOOR.to_owned()).signed(self.key);
            match call.json(&request)?.fetch::<DoorAnswer>().await {
                Err(Error::Transport(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(answer) => {
                    return Answer::from_bytes(&answer.frame.0)
                        .map_err(|_| Error::PeerMisbehaved { what: "KEEPER_ANSWER" });
                }
            }
        }
    }

    fn advice(&self, error: password::Error, now_ms: u64) -> Error {
        match error {
            password::Error::WrongSecret { standing } => wrong(standing, now_ms),
            password::Error::Refused { reason, standing } => refused(reason, standing, now_ms),
            password::Error::BadKey => Error::InvalidDescriptor,
            password::Error::OutOfMemory => Error::Retry { after: None },
            password::Error::NotGenuine | password::Error::OtherContext | password::Error::Damaged => {
                Error::PeerMisbehaved { what: "KEEPER_ANSWER" }
            }
            _ => Error::Internal,
        }
    }
}

/// What cannot have been registered is wrong without a guess.
fn parse(mode: Mode, typed: &Password, standing: Standing) -> Result<text::Password> {
    let wrong = |_| Error::WrongSecret { remaining: Some(standing.remaining), retry_after: None };
    text::Password::parse(mode, typed.expose()).map_err(wrong)
}

fn wrong(standing: Standing, now_ms: u64) -> Error {
    if standing.locked || standing.remaining == 0 {
        return Error::LockedOut;
    }
    Error::WrongSecret { remaining: Some(standing.remaining), retry_after: wait(standing, now_ms) }
}

fn refused(reason: Refusal, standing: Standing, now_ms: u64) -> Error {
    match reason {
        Refusal::LockedOut | Refusal::Exhausted => Error::LockedOut,
        Refusal::NotFound => Error::NotBackedUp,
        Refusal::TooEarly | Refusal::Overloaded | Refusal::Unavailable | Refusal::StaleTicket => {
            Error::Retry { after: wait(standing, now_ms) }
        }
        _ => Error::PeerMisbehaved { what: "KEEPER_REFUSAL" },
    }
}

fn wait(standing: Standing, now_ms: u64) -> Option<u64> {
    standing.not_before_ms.checked_sub(now_ms).filter(|wait| *wait > 0)
}
