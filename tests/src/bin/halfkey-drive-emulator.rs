//! Google Drive on a loopback port, for tests and for trying things out: prints its address as its only line, and ends
//! with its standard input. What it can be told over `POST /emulator` is in `halfkey_tests::drive::Command`.

use std::io::{self, Write};

use halfkey_tests::drive::DriveEmulator;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> io::Result<()> {
    let emulator = DriveEmulator::start().await?;
    writeln!(io::stdout().lock(), "{}", emulator.url())?;
    let mut ignored = [0; 1024];
    while tokio::io::stdin().read(&mut ignored).await? > 0 {}
    Ok(())
}
