//! The passkey door as a program of its own, small enough for an enclave's image. `halfkey keeper` is the same keeper.
//!
//! ```text
//! halfkey-keeper --data DIR (--socket PATH | --listen ADDRESS) [--key-id NUMBER] [--stop-on-stdin-close]
//! ```
//!
//! With the feature `nitro`, in an enclave, whose settings lie in its image:
//!
//! ```text
//! halfkey-keeper --nitro SETTINGS --vsock PORT [--key-id NUMBER]
//! ```

use std::{ffi::OsString, process::ExitCode};

use halfkey_keeper::{Config, Listen};
#[cfg(feature = "nitro")]
use halfkey_keeper::{Guard, nitro::Settings};

#[cfg(not(feature = "nitro"))]
const USAGE: &str =
    "halfkey-keeper --data DIR (--socket PATH | --listen ADDRESS) [--key-id NUMBER] [--stop-on-stdin-close]";
#[cfg(feature = "nitro")]
const USAGE: &str = "halfkey-keeper (--data DIR | --nitro SETTINGS) (--socket PATH | --listen ADDRESS | --vsock PORT) \
                     [--key-id NUMBER] [--stop-on-stdin-close]";

#[tokio::main]
async fn main() -> ExitCode {
    let Some(arguments) = configuration(std::env::args_os().skip(1)) else { return told(&USAGE, 2) };
    #[cfg(feature = "nitro")]
    let arguments = match with_settings(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return told(&error, 1),
    };
    match halfkey_keeper::run(arguments.config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&error, 1),
    }
}

#[allow(clippy::print_stderr, reason = "a program says why it ends")]
fn told(why: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(code)
}

/// The arguments, read. The settings of an enclave are not read yet.
struct Arguments {
    config: Config,
    #[cfg(feature = "nitro")]
    settings: Option<OsString>,
}

#[cfg(feature = "nitro")]
fn with_settings(mut arguments: Arguments) -> Result<Arguments, String> {
    if let Some(path) = &arguments.settings {
        let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| shown(&error))?;
        let settings = Settings::from_json(&text).map_err(|error| shown(&error))?;
        arguments.config.guard = Guard::Nitro(Box::new(settings));
    }
    Ok(arguments)
}

/// Every argument once, and nothing else; `None` for anything that is not understood.
fn configuration(mut arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let (mut data, mut listen, mut key_id, mut stop) = (None, None, None, None);
    #[cfg(feature = "nitro")]
    let mut settings = None;
    while let Some(name) = arguments.next() {
        let taken = match name.to_str()? {
            "--data" => data.replace(arguments.next()?).is_some(),
            "--socket" => listen.replace(Listen::Unix(arguments.next()?.into())).is_some(),
            "--listen" => listen.replace(Listen::Loopback(arguments.next()?.to_str()?.parse().ok()?)).is_some(),
            "--key-id" => key_id.replace(arguments.next()?.to_str()?.parse().ok().filter(|id| *id > 0)?).is_some(),
            #[cfg(feature = "nitro")]
            "--vsock" => listen.replace(Listen::Vsock(arguments.next()?.to_str()?.parse().ok()?)).is_some(),
            #[cfg(feature = "nitro")]
            "--nitro" => settings.replace(arguments.next()?).is_some(),
            "--stop-on-stdin-close" => stop.replace(()).is_some(),
            _ => return None,
        };
        if taken {
            return None;
        }
    }
    // An enclave has no folder.
    #[cfg(feature = "nitro")]
    let data = match (data, &settings) {
        (None, Some(_)) => Some(OsString::new()),
        (Some(_), Some(_)) => None,
        (data, None) => data,
    };
    let mut config = Config::new(listen?, data?.into());
    config.key_id = key_id.unwrap_or(config.key_id);
    config.stop_on_stdin_close = stop.is_some();
    Some(Arguments {
        config,
        #[cfg(feature = "nitro")]
        settings,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Config> {
        configuration(line.split_whitespace().map(OsString::from)).map(|arguments| arguments.config)
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

    #[test]
    #[cfg(feature = "nitro")]
    fn an_enclave_has_settings_and_no_folder() {
        let config = read("--nitro settings.json --vsock 5000 --key-id 2").unwrap();
        assert_eq!((config.listen, config.key_id), (Listen::Vsock(5000), 2));
        for line in [
            "--nitro s",
            "--nitro s --data d --vsock 1",
            "--vsock 1",
            "--nitro s --vsock x",
            "--nitro s --nitro s --vsock 1",
        ] {
            assert!(read(line).is_none(), "{line}");
        }
        let arguments = || configuration("--nitro Cargo.toml --vsock 1".split(' ').map(OsString::from)).unwrap();
        assert!(with_settings(arguments()).is_err_and(|error| error.starts_with("Cargo.toml: settings: ")));
    }
}
