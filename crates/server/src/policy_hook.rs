//! The operator's own word about a recovery (METHODS.md G): asked once, before the recovery is begun. No answer that can be
//! read means that nothing is begun.

use std::{sync::Arc, time::Duration};

use halfkey_api::message::StepUp;
use halfkey_envelope::{
    id::{ClientId, RecoveryId},
    wallet::Method,
};
use serde::Deserialize;

use crate::webhook::{Reach, Sender, Unanswered, WebhookSecret};

/// The longest delay, and the longest time for a step-up, that is taken from a hook, in milliseconds: 7 days. A longer one is
/// cut.
pub const MAX_DELAY_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Where the hook is, and what signs the question.
#[derive(Debug, Clone)]
pub struct PolicyHook {
    /// `https://…`; `http://` for one's own network.
    pub url: String,
    /// Known to both sides.
    pub secret: Arc<WebhookSecret>,
    /// How long it may take.
    pub patience: Duration,
}

impl PolicyHook {
    /// With five seconds of patience.
    #[must_use]
    pub fn new(url: impl Into<String>, secret: WebhookSecret) -> Self {
        Self { url: url.into(), secret: Arc::new(secret), patience: Duration::from_secs(5) }
    }
}

/// What a hook says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Decision {
    /// The deployment's own delay stands.
    Allow,
    /// Never.
    Deny,
    /// It waits so long at least.
    Delay {
        /// In seconds.
        delay_seconds: u64,
    },
    /// The deployment's own delay stands, and nothing can be opened before the custodian's backend has said that the user
    /// has done what is asked for.
    StepUp {
        /// What the user is told.
        prompt: String,
        /// Where the user goes.
        #[serde(default)]
        url: Option<String>,
        /// How long it may take, in seconds.
        within_seconds: u64,
    },
}

impl Decision {
    fn checked(self) -> Result<Self, Undecided> {
        match &self {
            Self::StepUp { prompt, url, within_seconds }
                if *within_seconds == 0 || !StepUp::is_sound(prompt, url.as_deref()) =>
            {
                Err(Undecided::Unreadable)
            }
            _ => Ok(self),
        }
    }
}

/// What it is asked about.
pub(crate) struct Question<'a> {
    pub(crate) client: ClientId,
    pub(crate) recovery: RecoveryId,
    /// It wants the private keys themselves.
    pub(crate) is_eject: bool,
    pub(crate) method: &'a Method,
    pub(crate) revokes_old_devices: bool,
    pub(crate) platform: &'a str,
    pub(crate) device_name: &'a str,
    pub(crate) address: Option<std::net::IpAddr>,
    /// What the deployment's own policy makes it wait.
    pub(crate) delay_ms: u64,
    /// The client's enrolled devices.
    pub(crate) devices: usize,
}

/// Why the hook has not decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecided {
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// Not a decision.
    #[error("not a decision")]
    Unreadable,
}

/// The hook, ready to be asked.
pub(crate) struct Asked {
    hook: PolicyHook,
    sender: Sender,
}

impl Asked {
    pub(crate) fn new(hook: PolicyHook) -> Result<Self, reqwest::Error> {
        let sender = Sender::new(hook.patience, Reach::Any)?;
        Ok(Self { hook, sender })
    }

    pub(crate) async fn decide(&self, question: &Question<'_>, now_ms: u64) -> Result<Decision, Undecided> {
        let Question {
            client,
            recovery,
            is_eject,
            method,
            revokes_old_devices,
            platform,
            device_name,
            address,
            delay_ms,
            devices,
        } = question;
        let body = serde_json::json!({
            "type": if *is_eject { "eject.requested" } else { "recovery.requested" },
            "timestamp": now_ms,
            "data": {
                "clientId": client,
                "recoveryId": recovery,
                "method": method,
                "revokesOldDevices": revokes_old_devices,
                "device": { "platform": platform, "name": device_name },
                "address": address,
                "delaySeconds": delay_ms.div_ceil(1000),
                "devices": devices,
            },
        });
        let id = format!("recovery_{recovery}");
        let (url, secret, body) = (&self.hook.url, &*self.hook.secret, body.to_string().into_bytes());
        let (_, answer) = self.sender.post(url, &[secret], &id, now_ms, body).await?;
        serde_json::from_slice::<Decision>(&answer).map_err(|_| Undecided::Unreadable)?.checked()
    }
}
