//! Memory of a real server: at rest, with a thousand idle clients connected, and after work.
//!
//! `HALFKEY_BENCH_STRICT=1` makes a missed target an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::process::ExitCode;

use halfkey_api::route;
use halfkey_benches::{
    deployment::{self, Deployment, memory},
    table::verdict,
};
use halfkey_client::{BackupMethod, Password, PasswordKind};

const AT_REST_MB: f64 = 50.0;
const WITH_CLIENTS_MB: f64 = 200.0;
const CLIENTS: usize = 1_000;
const WALLETS: usize = 3;

fn main() -> ExitCode {
    let deployment = Deployment::start(&deployment::binary());
    println!("| when | process | resident MB | of its own | most so far | target |");
    println!("|---|---|---:|---:|---:|---:|");
    let mut met = print("at rest", &deployment, Some(AT_REST_MB));
    let connections: Vec<_> = (0..CLIENTS).map(|_| idle_client(&deployment)).collect();
    met &= print("1,000 idle clients connected", &deployment, Some(WITH_CLIENTS_MB));
    work(&deployment);
    met &= print("the same, after 3 wallets were created and backed up", &deployment, Some(WITH_CLIENTS_MB));
    drop(connections);
    let strict = std::env::var("HALFKEY_BENCH_STRICT").as_deref() == Ok("1");
    if strict && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A client of its own with its own credential, which has asked for its state over a connection that stays open.
fn idle_client(deployment: &Deployment) -> std::net::TcpStream {
    let mut connection = deployment.connect();
    let key = deployment.client(&mut connection);
    assert!(deployment.request(&mut connection, "GET", route::CLIENT, &key, "").contains("\"id\""));
    connection
}

fn work(deployment: &Deployment) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..WALLETS {
        let device = deployment.device(&deployment.client(&mut deployment.connect()));
        runtime.block_on(device.create_wallet()).unwrap();
        let password = Password::new("seven otters juggle amber lanterns");
        let method = BackupMethod::Password { password, kind: PasswordKind::Password };
        runtime.block_on(device.backup_wallet(method)).unwrap();
    }
}

/// Prints all three processes; whether the server meets its target.
fn print(when: &str, deployment: &Deployment, target: Option<f64>) -> bool {
    let server = memory(deployment.server());
    let keepers = ["keeper", "guesskeeper"].map(|kind| (kind, memory(deployment.keeper(kind)), None));
    let met = target.is_none_or(|target| server.now < target);
    for (process, memory, target) in [("server", server, target)].into_iter().chain(keepers) {
        let target = target.map_or("-".to_owned(), |mb| format!("< {mb} {}", verdict(!met)));
        println!("| {when} | {process} | {:.1} | {:.1} | {:.1} | {target} |", memory.now, memory.own, memory.most);
    }
    met
}
