//! The `halfkey` binary: server, keepers, administration, wallet client and demo.

mod admin;
mod keeper_evidence;
mod keeper_tpm2;
mod keepers;
mod logging;
mod process;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use halfkey_cli::{
    demo::DemoArgs, doctor::DoctorArgs, output::to_stderr, transport::install_tls_provider, wallet::WalletArgs,
};

/// Halfkey backs up and recovers MPC wallets.
///
/// A wallet's private key exists nowhere: the device holds one half, the server the other. Halfkey makes a second,
/// independent pair of halves and turns it into a fresh signing pair on a new device: same address, same funds.
///
/// Begin with `halfkey demo`.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
struct Halfkey {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(DemoArgs),
    Serve(serve::ServeArgs),
    Wallet(WalletArgs),
    Doctor(DoctorArgs),
    Admin(admin::AdminArgs),
    ExportKey(halfkey_cli::offline::ExportKeyArgs),
    OfflineRecover(halfkey_cli::offline::OfflineArgs),
    Keeper(Box<keepers::KeeperArgs>),
    Guesskeeper(keepers::GuesskeeperArgs),
}

fn main() -> ExitCode {
    let arguments = Halfkey::parse();
    if let Err(error) = process::harden() {
        to_stderr(&format!("error: core dumps cannot be switched off: {error}"));
        return ExitCode::FAILURE;
    }
    install_tls_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            to_stderr(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(arguments.command));
    // A thread that reads standard input must not keep the process alive.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(command: Command) -> u8 {
    match command {
        Command::Demo(args) => halfkey_cli::demo::run(args).await,
        Command::Wallet(args) => halfkey_cli::wallet::run(args).await,
        Command::Doctor(args) => halfkey_cli::doctor::run(args).await,
        Command::ExportKey(args) => halfkey_cli::offline::export_key(args),
        Command::OfflineRecover(args) => halfkey_cli::offline::recover(args),
        Command::Serve(args) => told(serve::run(args).await),
        Command::Admin(args) => told(admin::run(args).await),
        Command::Keeper(args) => told(keepers::keeper(*args).await),
        Command::Guesskeeper(args) => told(keepers::guesskeeper(args).await),
    }
}

/// The exit code, with the error and what caused it on standard error.
fn told(result: Result<(), Box<dyn std::error::Error>>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            let mut said = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                said.push_str(&format!(": {error}"));
                cause = error.source();
            }
            to_stderr(&said);
            1
        }
    }
}
