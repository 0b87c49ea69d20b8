//! `halfkey doctor …`: looks at what others have to serve, and says what is wrong with it.

mod fetch;
mod judge;
mod keeper;
mod relying_party;

use clap::{Args, Subcommand};

pub use self::{
    judge::{Finding, FindingId, Severity},
    keeper::{KeeperArgs, KeeperReport, ask_keeper, examine_keeper},
    relying_party::{RelyingPartyArgs, Report, examine},
};
use crate::{error::Result, output::Output};

/// Check a set-up and say what is wrong with it
#[derive(Args)]
pub struct DoctorArgs {
    #[command(subcommand)]
    command: DoctorCommand,
}

#[derive(Subcommand)]
enum DoctorCommand {
    RelyingParty(RelyingPartyArgs),
    Keeper(KeeperArgs),
}

/// Runs one check; the process's exit code: 0 when nothing is wrong, 1 when something is, 2 for wrong usage.
pub async fn run(args: DoctorArgs) -> u8 {
    let output = Output::new(match &args.command {
        DoctorCommand::RelyingParty(args) => args.json,
        DoctorCommand::Keeper(args) => args.json,
    });
    let checked = match args.command {
        DoctorCommand::RelyingParty(args) => check(&args, &output).await,
        DoctorCommand::Keeper(args) => check_keeper(&args, &output).await,
    };
    match checked {
        Ok(good) => u8::from(!good),
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn check(args: &RelyingPartyArgs, output: &Output) -> Result<bool> {
    let report = examine(args).await?;
    output.result(&report.lines(), &report.value());
    Ok(report.is_good())
}

async fn check_keeper(args: &KeeperArgs, output: &Output) -> Result<bool> {
    let report = examine_keeper(&args.socket).await?;
    output.result(&report.lines(), &report.value());
    Ok(report.is_good())
}
