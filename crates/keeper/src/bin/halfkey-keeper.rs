//! The passkey door as a program of its own, small enough for an enclave's image. `halfkey keeper` is the same keeper.
//!
//! ```text
//! halfkey-keeper --data DIR (--socket PATH | --listen ADDRESS) [--key-id NUMBER] [--stop-on-stdin-close]
//! ```

use std::{ffi::OsString, process::ExitCode};

use halfkey_keeper::{Config, Listen};

const USAGE: &str =
    "halfkey-keeper --data DIR (--socket PATH | --listen ADDRESS) [--key-id NUMBER] [--stop-on-stdin-close]";

#[tokio::main]
async fn main() -> ExitCode {
    let Some(config) = configuration(std::env::args_os().skip(1)) else { return told(&USAGE, 2) };
    match halfkey_keeper::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&error, 1),
    }
}

#[allow(clippy::print_stderr, reason = "a program says why it ends")]
fn told(why: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(code)
}

/// Every argument once, and nothing else; `None` for anything that is not understood.
fn configuration(mut arguments: impl Iterator<Item = OsString>) -> Option<Config> {
    let (mut data, mut listen, mut key_id, mut stop) = (None, None, None, None);
    while let Some(name) = arguments.next() {
        let taken = match name.to_str()? {
            "--data" => data.replace(arguments.next()?).is_some(),
            "--socket" => listen.replace(Listen::Unix(arguments.next()?.into())).is_some(),
            "--listen" => listen.replace(Listen::Loopback(arguments.next()?.to_str()?.parse().ok()?)).is_some(),
            "--key-id" => key_id.replace(arguments.next()?.to_str()?.parse().ok().filter(|id| *id > 0)?).is_some(),
            "--stop-on-stdin-close" => stop.replace(()).is_some(),
            _ => return None,
        };
        if taken {
            return None;
        }
    }
    let mut config = Config::new(listen?, data?.into());
    config.key_id = key_id.unwrap_or(config.key_id);
    config.stop_on_stdin_close = stop.is_some();
    Some(config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Config> {
        configuration(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments_are_read_strictly() {
        let config = read("--data d --socket s --key-id 7 --stop-on-stdin-close").unwrap();
        assert_eq!((config.data.to_str(), config.key_id, config.stop_on_stdin_close), (Some("d"), 7, true));
        assert_eq!(config.listen, Listen::Unix("s".into()));
        let config = read("--listen 127.0.0.1:0 --data d").unwrap();
        assert_eq!((config.listen, config.key_id), (Listen::Loopback("127.0.0.1:0".parse().unwrap()), 1));
        let refused = [
            "",
            "--data d",
            "--socket s",
            "--data --socket",
            "--data d --socket s --socket t",
            "--data d --socket s more",
            "--data d --socket s --listen 127.0.0.1:0",
            "--data d --listen here",
            "--data d --socket s --key-id 0",
            "--data d --socket s --key-id x",
            "--data d --socket s --help",
        ];
        for line in refused {
            assert!(read(line).is_none(), "{line}");
        }
    }
}
