//! The password door as this server sees it: who may speak to it when, and what the standing of a registration means.

use std::time::Duration;

use halfkey_api::{
    bytes::Base64,
    error::{ErrorDetails, ErrorId},
    message::{DoorAnswer, DoorContext, DoorRequest},
};
use halfkey_envelope::{
    door::{Refusal, Reply, Request, Standing, State, Status},
    frame::MAX_FRAME,
    hpke::PublicKey,
    id::{BackupId, ClientId},
    wallet::Method,
};
use halfkey_protocol::lifecycle::{PairState, may_recover};

use crate::{
    app::Inner,
    backup,
    config::Rate,
    error::Error,
    fault::Fault,
    http::{
        auth::{AsClient, SignedByAnyKey},
        body,
    },
    link::{Link, LinkError},
    recovery,
    store::{Backup, Device, Error as StoreError},
};

const RETRY_AFTER_MS: u64 = 2_000;
/// How many registrations one sweep closes.
const DOORS_AT_ONCE: u64 = 200;
/// How long a status waits for the keeper.
const ASK_STATUS: Duration = Duration::from_secs(1);
/// From so many wrong guesses on, the custodian is told (METHODS.md G).
const TELL_FROM: u32 = 3;

/// Relays one message of a client.
pub(crate) async fn relay(
    app: &Inner,
    call: SignedByAnyKey<body::LargeJson<DoorRequest>>,
) -> Result<DoorAnswer, Fault> {
    let SignedByAnyKey { caller, key, device, body: body::LargeJson(DoorRequest { within, frame }) } = call;
    let limits = &app.config.limits;
    limit(app, &caller, "door", [limits.door_client, limits.door_address, limits.door_deployment]).await?;
    if frame.0.len() > MAX_FRAME {
        return Err(Fault::field("frame", "at most 16 KiB"));
    }
    let request = Request::from_bytes(&frame.0).map_err(|_| Fault::field("frame", "not a message of the door"))?;
    let (backup, is_register) = match &request {
        Request::Register { backup, .. } => (*backup, true),
        Request::Start { backup, .. } | Request::Evaluate { backup, .. } | Request::Unlock { backup, .. } => {
            (*backup, false)
        }
        _ => return Err(Fault::field("frame", "not a message of a client")),
    };
    let password = |method: &Method| *method == Method::Password;
    let allowed = admit(app, &caller, &key, device.as_ref(), within, password).await?;
    let pending = allowed.pair.state == PairState::Pending;
    if allowed.id != backup || (is_register && !pending) {
        return Err(Fault::not_found());
    }
    if !pending && matches!(request, Request::Start { .. }) {
        app.open_password_door(backup).await;
    }
    let reply = app.ask_door(&request).await?;
    if let (Request::Evaluate { .. }, Reply::Answer { answer }) = (&request, &reply) {
        tell(app, caller.client, backup, &answer.standing, caller.now_ms).await?;
    }
    match reply {
        Reply::Answer { answer } => Ok(DoorAnswer { frame: Base64(answer.to_bytes()) }),
        Reply::Refused { reason } => Err(refused(reason)),
        _ => Err(Fault::internal(&"the guesskeeper answers another question")),
    }
}

/// The backup by such a method that `within` opens to this caller: its own pending one, or one that still counts inside an open
/// recovery or a drill.
pub(crate) async fn admit(
    app: &Inner,
    caller: &AsClient,
    key: &[u8; 32],
    device: Option<&Device>,
    within: DoorContext,
    admitted: impl Fn(&Method) -> bool,
) -> Result<Backup, Fault> {
    let allowed = match within {
        DoorContext::Backup { id } => {
            let device = device.ok_or(Fault::not_found())?;
            backup::must_be_pending_of(app, caller, device, id).await?
        }
        DoorContext::Recovery { id } => {
            let recovery = recovery::must_be_open(app, caller, key, id).await?;
            app.store.backup(caller.client, recovery.backup).await?
        }
        DoorContext::Verification { id } => {
            let device = device.ok_or(Fault::not_found())?;
            let open = app.store.verification(caller.client, device.id, id, caller.now_ms).await?;
            app.store.backup(caller.client, open.backup).await?
        }
    };
    if !allowed.method.members().iter().any(admitted) {
        return Err(Fault::not_found());
    }
    // A recovery or a drill may be open for longer than its backup counts.
    if allowed.pair.state != PairState::Pending {
        may_recover(&allowed.pair).map_err(StoreError::from)?;
    }
    Ok(allowed)
}

/// Counts a message of `caller` to the door `name` against the rates of its client, its address and the deployment.
pub(crate) async fn limit(app: &Inner, caller: &AsClient, name: &str, rates: [Rate; 3]) -> Result<(), Fault> {
    let [client, address, deployment] = rates;
    app.limit(&format!("{name}:{}", caller.client), client, caller.now_ms).await?;
    if let Some(from) = caller.address {
        app.limit(&format!("{name}-address:{from}"), address, caller.now_ms).await?;
    }
    app.limit(name, deployment, caller.now_ms).await
}

/// Writes the notice of wrong guesses and of a lock-out, for the custodian and the log.
async fn tell(app: &Inner, client: ClientId, backup: BackupId, standing: &Standing, now_ms: u64) -> Result<(), Fault> {
    let kind = match standing {
        Standing { locked: true, .. } => "door.locked-out",
        Standing { wrong, .. } if *wrong >= TELL_FROM => "door.wrong-guesses",
        _ => return Ok(()),
    };
    let payload = serde_json::json!({ "backup": backup, "guesses": standing.wrong, "remaining": standing.remaining });
    Ok(app.store.notify(client, kind, payload, now_ms).await?)
}

fn refused(reason: Refusal) -> Fault {
    match reason {
        Refusal::Malformed => Fault::field("frame", "the keeper does not accept this message"),
        Refusal::NotFound => Fault::not_found(),
        Refusal::LockedOut | Refusal::Exhausted => {
            let details = ErrorDetails { remaining: Some(0), ..ErrorDetails::default() };
            Fault { details: Some(details), ..Fault::new(ErrorId::LockedOut, "no guesses are left") }
        }
        Refusal::TooEarly => Fault::new(ErrorId::GuessTooEarly, "too early for another guess"),
        Refusal::Overloaded => Fault::rate_limited(RETRY_AFTER_MS),
        Refusal::Exists => Fault::new(ErrorId::ShareState, "this backup is registered already"),
        Refusal::WrongTag => Fault::new(ErrorId::WrongSecret, "not the right secret"),
        Refusal::StaleTicket => Fault::new(ErrorId::CeremonyMismatch, "another guess was made since"),
        _ => Fault::unavailable("the guesskeeper cannot answer now; no guess was spent", RETRY_AFTER_MS),
    }
}

/// The keys that the guesskeeper behind `link` can open, the newest first.
pub(crate) async fn keys(link: &Link) -> Result<Vec<PublicKey>, Error> {
    match link.ask(&Request::Info {}).await? {
        Reply::Info { keys } if !keys.is_empty() => Ok(keys),
        _ => Err(Error::NoKeeperKey),
    }
}

impl Inner {
    async fn ask_door(&self, request: &Request) -> Result<Reply, Fault> {
        let away = || Fault::unavailable("the guesskeeper does not answer; no guess was lost", RETRY_AFTER_MS);
        let link = self.guesskeeper.as_ref().ok_or_else(away)?;
        link.ask(request).await.map_err(|error: LinkError| {
            tracing::warn!(%error, "the guesskeeper does not answer");
            away()
        })
    }

    async fn door_status(&self, backup: BackupId) -> Result<Status, Fault> {
        match self.ask_door(&Request::Status { backup }).await? {
            Reply::Status { status } => Ok(status),
            Reply::Refused { reason } => Err(refused(reason)),
            _ => Err(Fault::internal(&"the guesskeeper answers another question")),
        }
    }

    /// Refuses unless the whole recover path was run once with the read-back token (DECISIONS.md D32).
    pub(crate) async fn password_door_was_opened(&self, backup: BackupId) -> Result<(), Fault> {
        let unopened = || Fault::new(ErrorId::ProofInvalid, "the password door was never opened with this password");
        match self.door_status(backup).await {
            Ok(Status { proven: true, state: State::Pending | State::Active, .. }) => Ok(()),
            Ok(_) => Err(unopened()),
            Err(fault) if fault.id == ErrorId::NotFound => Err(unopened()),
            Err(fault) => Err(fault),
        }
    }

    /// Activates the registration of a committed backup. The commit itself is the truth: if the keeper is away, the
    /// next recovery or drill does it.
    pub(crate) async fn open_password_door(&self, backup: BackupId) {
        let activate = async {
            let Status { state: State::Pending, ver: Some(ver), .. } = self.door_status(backup).await? else {
                return Ok(());
            };
            self.ask_door(&Request::Activate { backup, ver }).await.map(drop)
        };
        if let Err(fault) = activate.await {
            tracing::warn!(%backup, id = fault.id.as_str(), "the password door was not activated");
        }
    }

    /// Destroys the registrations of erased backups. Not earlier: the method's key goes with the halves (PROTOCOL.md
    /// 4.4). A door that does not answer is told again by the next sweep.
    pub(crate) async fn close_password_doors(&self) -> Result<(), Fault> {
        for backup in self.store.doors_to_close(DOORS_AT_ONCE).await? {
            match self.ask_door(&Request::Erase { backup }).await? {
                Reply::Status { .. } | Reply::Refused { reason: Refusal::NotFound } => {
                    self.store.door_closed(backup).await?;
                }
                Reply::Refused { reason } => return Err(refused(reason)),
                _ => return Err(Fault::internal(&"the guesskeeper answers another question")),
            }
        }
        Ok(())
    }

    /// How many guesses are left at the door: none opens this backup any more when it was destroyed, or is unknown
    /// there. `None` while the keeper does not answer: then nothing is known against the backup.
    pub(crate) async fn password_guesses(&self, backup: BackupId) -> Option<u32> {
        match tokio::time::timeout(ASK_STATUS, self.door_status(backup)).await {
            Ok(Ok(status)) => Some(status.standing.remaining),
            Ok(Err(fault)) => matches!(fault.id, ErrorId::NotFound | ErrorId::LockedOut).then_some(0),
            Err(_) => None,
        }
    }
}
