//! The process: listens, says so in one line, and stops without cutting anything in two.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    app::{App, app},
    clock::SystemClock,
    config::Config,
    error::Error,
    events,
};

/// How often housekeeping runs.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long requests that still run are waited for at the end.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs a server until it is told to stop: SIGTERM, SIGINT, or (if so configured) a closed standard input.
///
/// Once it listens it prints one line on standard output:
/// `{"ready":true,"address":"127.0.0.1:4711","deployment":"…"}`.
///
/// # Errors
/// [`Error`], when it cannot start.
pub async fn run(config: Config) -> Result<(), Error> {
    let (listen, with_stdin) = (config.listen, config.stop_with_stdin);
    let state = App::open(config, Arc::new(SystemClock)).await?;
    let listener = TcpListener::bind(listen).await.map_err(Error::io("the listening address"))?;
    let address = listener.local_addr().map_err(Error::io("the listening address"))?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        told_to_stop(with_stdin).await;
        let _ = stop.send(true);
    });
    let sweeper = tokio::spawn(sweep(state.clone(), stopped.clone()));
    let deliverer = tokio::spawn(events::deliver(state.clone(), stopped.clone()));
    say_ready(&state, address)?;
    let service = app(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(until(stopped)).await;
    // A caller who hung up has left work behind that must come to its end.
    let _ = tokio::time::timeout(DRAIN, state.guard.drained()).await;
    let _ = sweeper.await;
    let _ = deliverer.await;
    state.close().await;
    tracing::info!("stopped");
    served.map_err(Error::io("the listening socket"))
}

fn say_ready(state: &App, address: SocketAddr) -> Result<(), Error> {
    let line = serde_json::json!({
        "ready": true, "address": address.to_string(), "deployment": state.deployment().to_string(),
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Error::io("standard output"))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error says that the sender is gone, which only happens at the end.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn told_to_stop(with_stdin: bool) {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let interrupted = async {
        match signal(SignalKind::interrupt()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let closed = async {
        if !with_stdin {
            std::future::pending::<()>().await;
        }
        let (mut input, mut buffer) = (tokio::io::stdin(), [0u8; 256]);
        while input.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        () = terminated => {}
        () = interrupted => {}
        () = closed => {}
    }
}

/// Housekeeping: expiry and erasure. One node or many; each step is idempotent.
async fn sweep(state: App, mut stopped: watch::Receiver<bool>) {
    loop {
        state.housekeep().await;
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

impl App {
    /// One round of housekeeping. What does not get through is tried again in the next.
    pub async fn housekeep(&self) {
        let now_ms = self.now_ms();
        // Nothing here knows of a replica or an off-machine copy, so nothing that ever was active is erased yet.
        match self.store.sweep(None, now_ms).await {
            Ok(swept) if swept != crate::store::Swept::default() => tracing::info!(?swept, "swept"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the sweep did not end"),
        }
        if let Err(fault) = self.close_password_doors().await {
            tracing::warn!(id = fault.id.as_str(), "a password door was not closed");
        }
    }
}
