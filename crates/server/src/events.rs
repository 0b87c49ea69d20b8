//! What custodians are told: shown when they ask, and sent to the addresses that they named, signed as Standard Webhooks
//! 1.0.0 says. Sent at least once; the event's id is the receiver's key against duplicates.

use std::{collections::HashSet, time::Duration};

use halfkey_api::message::{ClientEvent, CreatedWebhook, WebhookTested};
use halfkey_envelope::{
    entropy::{Entropy, OsEntropy, random},
    hash::h,
    id::{CustodianId, WebhookId},
    seal::SealKey,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    app::{App, Inner},
    fault::Fault,
    recovery,
    store::{Event, NewWebhook, Sending, Webhook},
    webhook::{Reach, Sender, Unanswered, WebhookSecret, literal_is_public},
};

/// How long an address may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// To so many addresses at the same time.
const AT_ONCE: usize = 64;
/// So many events to one address before the others get their turn.
const IN_A_ROW: usize = 16;
/// A delivery that was taken and not answered for is due again after this: its node died.
const LEASE_MS: u64 = 2 * PATIENCE.as_millis() as u64;
/// For so long after a change of the secret the one before signs as well.
const OVERLAP_MS: u64 = 24 * 60 * 60 * 1000;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// How long an event waits after each attempt that failed: five days in all, then it is given up.
const WAITS_MS: [u64; 12] = [
    5 * SECOND_MS,
    30 * SECOND_MS,
    2 * MINUTE_MS,
    10 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    4 * HOUR_MS,
    8 * HOUR_MS,
    24 * HOUR_MS,
    36 * HOUR_MS,
    45 * HOUR_MS,
];
/// An address that fails is left alone for no longer than this, so that one event that it cannot take holds up no other.
const LONGEST_PAUSE_MS: u64 = MINUTE_MS;

/// As the interface shows it.
pub(crate) fn shown(app: &Inner, event: Event) -> Result<ClientEvent, Fault> {
    let payload: serde_json::Value = serde_json::from_str(&event.payload).map_err(|error| Fault::internal(&error))?;
    let asked = (event.kind == "recovery.requested").then(|| payload["recovery"].as_str()?.parse().ok()).flatten();
    Ok(ClientEvent {
        id: hex::encode(event.id),
        client_id: event.client,
        created_at: event.created_ms,
        cancel_link: asked.map(|recovery| recovery::cancel_link(app, recovery)),
        kind: event.kind,
        payload,
    })
}

/// The longest address.
const MAX_URL: usize = 2048;
const MAX_KINDS: usize = 50;
const MAX_KIND: usize = 64;

/// Adds an address.
pub(crate) async fn create(
    app: &Inner,
    custodian: CustodianId,
    url: String,
    kinds: Vec<String>,
    now_ms: u64,
) -> Result<CreatedWebhook, Fault> {
    check_url(app, &url)?;
    let plain = |kind: &String| {
        (1..=MAX_KIND).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'-')
    };
    if kinds.len() > MAX_KINDS || !kinds.iter().all(plain) {
        return Err(Fault::field("kinds", "at most 50 names such as recovery.requested"));
    }
    let id = WebhookId::generate(&mut OsEntropy, now_ms);
    app.store.create_webhook(NewWebhook { id, custodian, url, kinds }, now_ms).await?;
    let webhook = app.store.webhook(custodian, id).await?;
    Ok(with_secret(app, webhook))
}

/// The address with its newest secret.
pub(crate) fn with_secret(app: &Inner, webhook: Webhook) -> CreatedWebhook {
    let secret = secret(app, webhook.id, webhook.secret_version).to_text();
    CreatedWebhook { webhook: shown_webhook(webhook), secret }
}

/// As the interface shows it.
pub(crate) fn shown_webhook(webhook: Webhook) -> halfkey_api::message::Webhook {
    halfkey_api::message::Webhook {
        id: webhook.id,
        url: webhook.url,
        kinds: webhook.kinds,
        created_at: webhook.created_ms,
        secret_made_at: webhook.rotated_ms,
        delivered_at: webhook.delivered_ms,
        failing_since: webhook.failing_since_ms,
        failures: webhook.failures,
    }
}

fn check_url(app: &Inner, text: &str) -> Result<(), Fault> {
    let refused = |why| Err(Fault::field("url", why));
    let Ok(url) = reqwest::Url::parse(text) else { return refused("not a URL") };
    if text.len() > MAX_URL || !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refused("at most 2048 characters, without a name, a password or a fragment");
    }
    let private = app.config.webhooks_into_private_networks();
    match url.scheme() {
        "https" => {}
        "http" if private => {}
        _ => return refused("https only"),
    }
    if !private && !literal_is_public(&url) {
        return refused("not a public address");
    }
    Ok(())
}

/// Sends one message now, and says what it got.
pub(crate) async fn test(app: &Inner, webhook: &Webhook, now_ms: u64) -> WebhookTested {
    let id = hex::encode(*random::<16>(&mut OsEntropy as &mut dyn Entropy));
    let body = serde_json::json!({ "type": "webhook.test", "timestamp": now_ms, "data": {} });
    let answer = post(app, webhook, &format!("test_{id}"), body.to_string(), now_ms).await;
    WebhookTested { ok: answer.is_ok(), answer: said(&answer) }
}

/// The secret is derived: a copy of the database signs nothing.
fn secret(app: &Inner, id: WebhookId, version: u64) -> WebhookSecret {
    let context = h("halfkey/server/v1/webhook", &[app.deployment.as_bytes(), id.as_bytes(), &version.to_be_bytes()]);
    WebhookSecret::from_bytes(
        SealKey::derive(&context, app.keys.webhooks.as_ref(), "halfkey/server/v1/webhook").expose(),
    )
}

async fn post(app: &Inner, webhook: &Webhook, id: &str, body: String, now_ms: u64) -> Result<u16, Unanswered> {
    let newest = secret(app, webhook.id, webhook.secret_version);
    let overlaps = webhook.secret_version > 1 && now_ms < webhook.rotated_ms.saturating_add(OVERLAP_MS);
    let before = overlaps.then(|| secret(app, webhook.id, webhook.secret_version - 1));
    let secrets: Vec<&WebhookSecret> = std::iter::once(&newest).chain(&before).collect();
    let (status, _) = app.webhooks.post(&webhook.url, &secrets, id, now_ms, body.into_bytes()).await?;
    Ok(status)
}

fn said(answer: &Result<u16, Unanswered>) -> String {
    match answer {
        Ok(status) => status.to_string(),
        Err(why) => why.to_string(),
    }
}

/// What sends to the addresses that custodians named.
pub(crate) fn sender(into_private_networks: bool) -> Result<Sender, reqwest::Error> {
    Sender::new(PATIENCE, if into_private_networks { Reach::Any } else { Reach::Public })
}

/// Sends what is due until the server stops. One address is sent to by one task of a node at a time; what two nodes send at
/// once is one event each, taken by compare-and-set.
pub(crate) async fn deliver(app: App, mut stopped: watch::Receiver<bool>) {
    let (mut tasks, mut busy) = (JoinSet::new(), HashSet::new());
    loop {
        if let Err(fault) = start(&app, &mut tasks, &mut busy).await {
            tracing::warn!(id = fault.id.as_str(), "events could not be looked for");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        while let Some(ended) = tasks.try_join_next() {
            forget(&mut busy, ended);
        }
    }
    // What is on its way is answered or times out; nothing new begins.
    while tasks.join_next().await.is_some() {}
}

async fn start(app: &App, tasks: &mut JoinSet<WebhookId>, busy: &mut HashSet<WebhookId>) -> Result<(), Fault> {
    let due = app.store.due_webhooks((AT_ONCE * 2) as u64, app.now_ms()).await?;
    for webhook in due {
        if busy.len() >= AT_ONCE || !busy.insert(webhook) {
            continue;
        }
        let app = app.clone();
        tasks.spawn(async move {
            if let Err(fault) = app.deliver_to(webhook).await {
                tracing::warn!(%webhook, id = fault.id.as_str(), "events were not sent");
            }
            webhook
        });
    }
    Ok(())
}

fn forget(busy: &mut HashSet<WebhookId>, ended: Result<WebhookId, tokio::task::JoinError>) {
    match ended {
        Ok(webhook) => drop(busy.remove(&webhook)),
        // Which one it was is not known: all are looked at anew, and each delivery is still taken by one task only.
        Err(_) => busy.clear(),
    }
}

impl App {
    /// Sends to every address that something is due for, one after the other, until nothing is. For tests and tools; a
    /// running server does it by itself.
    ///
    /// # Errors
    /// The database's own trouble. An address that fails is none.
    pub async fn deliver_events(&self) -> Result<(), Fault> {
        loop {
            let due = self.store.due_webhooks(AT_ONCE as u64, self.now_ms()).await?;
            if due.is_empty() {
                return Ok(());
            }
            for webhook in due {
                self.deliver_to(webhook).await?;
            }
        }
    }

    /// Sends what is due at one address, in order, until one attempt fails or others should have their turn.
    async fn deliver_to(&self, webhook: WebhookId) -> Result<(), Fault> {
        for _ in 0..IN_A_ROW {
            let now_ms = self.now_ms();
            let taken = self.store.take_delivery(webhook, now_ms + LEASE_MS, now_ms).await?;
            let Some(sending) = taken else { return Ok(()) };
            if !self.send_event(sending).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send_event(&self, Sending { webhook, event, attempt }: Sending) -> Result<bool, Fault> {
        let id = event.id;
        let ClientEvent { kind, client_id, created_at, payload, cancel_link, .. } = shown(self, event)?;
        let data = serde_json::json!({ "clientId": client_id, "cancelLink": cancel_link, "payload": payload });
        let body = serde_json::json!({ "type": kind, "timestamp": created_at, "data": data });
        let answer = post(self, &webhook, &hex::encode(id), body.to_string(), self.now_ms()).await;
        let now_ms = self.now_ms();
        match &answer {
            Ok(_) => self.store.delivered(webhook.id, &id, &said(&answer), now_ms).await?,
            Err(why) => {
                let next_ms = wait_ms(attempt).map(|wait_ms| now_ms + wait_ms);
                let pause_ms = now_ms + pause_ms(webhook.failures);
                tracing::warn!(webhook = %webhook.id, %why, attempt, given_up = next_ms.is_none(), "an event was not taken");
                self.store.undelivered(webhook.id, &id, &said(&answer), next_ms, pause_ms, now_ms).await?;
            }
        }
        Ok(answer.is_ok())
    }
}

/// After the how-manieth attempt, counted from 1, it waits so long; nothing once it is given up.
fn wait_ms(attempt: u64) -> Option<u64> {
    let index = usize::try_from(attempt.saturating_sub(1)).ok()?;
    WAITS_MS.get(index).copied()
}

/// How long an address is left alone after so many failures in a row before this one.
fn pause_ms(failures: u64) -> u64 {
    wait_ms(failures + 1).map_or(LONGEST_PAUSE_MS, |wait_ms| wait_ms.min(LONGEST_PAUSE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_tried_for_five_days_and_an_address_left_alone_for_a_minute() {
        assert_eq!((wait_ms(1), wait_ms(12), wait_ms(13)), (Some(5_000), Some(45 * HOUR_MS), None));
        let all: u64 = WAITS_MS.iter().sum();
        assert_eq!(all / (24 * HOUR_MS), 5, "days");
        assert_eq!([0, 1, 2, 50].map(pause_ms), [5_000, 30_000, 60_000, 60_000]);
    }
}
