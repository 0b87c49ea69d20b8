//! The passkey door as this server sees it: who may speak to the keeper when (METHODS.md C). What is said is sealed to the
//! keeper; this server sees neither assertion nor answer.

use halfkey_api::{
    bytes::Base64,
    message::{DoorAnswer, PasskeyDoorRequest},
};
use halfkey_envelope::{
    frame::{CHANNEL_OVERHEAD, MAX_FRAME},
    keeper::{self, Answer, Info, Request},
    wallet::Method,
};

use crate::{
    app::Inner,
    door,
    error::Error,
    fault::Fault,
    http::{auth::SignedByAnyKey, body},
    link::Link,
};

const RETRY_AFTER_MS: u64 = 2_000;
/// A message that fits a frame on either kind of link.
const MAX_MESSAGE: usize = MAX_FRAME - CHANNEL_OVERHEAD;

fn is_passkey(method: &Method) -> bool {
    *method == Method::Passkey
}

/// Relays one message of a client.
pub(crate) async fn relay(
    app: &Inner,
    call: SignedByAnyKey<body::LargeJson<PasskeyDoorRequest>>,
) -> Result<DoorAnswer, Fault> {
    let SignedByAnyKey { caller, key, device, body: body::LargeJson(PasskeyDoorRequest { within, frame }) } = call;
    let limits = &app.config.limits;
    let rates = [limits.passkey_client, limits.passkey_address, limits.passkey_deployment];
    door::limit(app, &caller, "passkey-door", rates).await?;
    if frame.0.len() > MAX_MESSAGE {
        return Err(Fault::field("frame", "at most 16 KiB"));
    }
    let request =
        keeper::decode_request(&frame.0).map_err(|_| Fault::field("frame", "not a message of the passkey door"))?;
    match (within, &request) {
        // Evidence is no secret; asking for it costs the keeper a signature.
        (None, Request::Evidence { .. }) => drop(device.ok_or(Fault::not_found())?),
        (Some(within), Request::Evidence { .. }) => {
            door::admit(app, &caller, &key, device.as_ref(), within, is_passkey).await?;
        }
        (Some(within), Request::Release { stanza, .. }) => {
            let backup = door::admit(app, &caller, &key, device.as_ref(), within, is_passkey).await?;
            // Only what lies beside that backup's envelope: a stanza of an older one is shown to no keeper by us.
            let stored = app.store.envelope(caller.client, backup.id).await?;
            if stored.record.as_ref() != Some(stanza) {
                return Err(Fault::not_found());
            }
        }
        (None, Request::Release { .. }) => return Err(Fault::field("within", "a release belongs to something")),
        _ => return Err(Fault::field("frame", "not a message of a client")),
    }
    let answer = app.ask_keeper(&frame.0).await?;
    Ok(DoorAnswer { frame: Base64(answer) })
}

/// Who the keeper behind `link` says it is: its current long-term key.
pub(crate) async fn info(link: &Link) -> Result<Info, Error> {
    let answer = link.relay(&keeper::encode_request(&Request::Info)).await?;
    match keeper::decode_answer(&answer) {
        Ok(Answer::Info(info)) => Ok(info),
        _ => Err(Error::NoKeeperKey),
    }
}

impl Inner {
    async fn ask_keeper(&self, request: &[u8]) -> Result<Vec<u8>, Fault> {
        let away = || Fault::unavailable("the keeper of the passkey door does not answer", RETRY_AFTER_MS);
        let link = self.keeper.as_ref().ok_or_else(away)?;
        link.relay(request).await.map_err(|error| {
            tracing::warn!(%error, "the keeper does not answer");
            away()
        })
    }
}
