//! Backup methods as they are named on the command line: one, or several that are needed together.

use clap::{
    ValueEnum,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};
use halfkey_client::MethodSet;
use halfkey_envelope::wallet::Method;

/// Backup methods of the command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MethodName {
    /// A password, at the guess-limited door
    Password,
    /// Digits, at the guess-limited door
    Pin,
    /// A code that is shown once
    RecoveryCode,
    /// A passkey, in the browser
    Passkey,
    /// A file in the Google Drive of the account that is signed in
    GoogleDrive,
}

impl MethodName {
    const fn method(self) -> Method {
        match self {
            Self::Password | Self::Pin => Method::Password,
            Self::RecoveryCode => Method::RecoveryCode,
            Self::Passkey => Method::Passkey,
            Self::GoogleDrive => Method::GoogleDrive,
        }
    }

    pub(super) const fn secret(self) -> &'static str {
        match self {
            Self::Password | Self::Passkey | Self::GoogleDrive => "backup password",
            Self::Pin => "backup PIN",
            Self::RecoveryCode => "recovery code",
        }
    }

    pub(super) const fn new_secret(self) -> &'static str {
        match self {
            Self::Pin => "new backup PIN",
            _ => "new backup password",
        }
    }
}

/// One method, or several joined by `+`, in the order in which they were named: their secrets are read in that order.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Methods(Vec<MethodName>);

impl Methods {
    pub(super) fn names(&self) -> &[MethodName] {
        &self.0
    }

    pub(super) fn include(&self, name: MethodName) -> bool {
        self.0.contains(&name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let names = text.split('+').map(|name| MethodName::from_str(name, false));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(|_| "no such method".to_owned())?;
        if names.len() > 1 {
            MethodSet::new(names.iter().map(|name| name.method())).map_err(|error| error.to_string())?;
        }
        Ok(Self(names))
    }
}

/// Reads [`Methods`], and names what they are made of in the help.
#[derive(Clone)]
pub(super) struct MethodsParser;

impl TypedValueParser for MethodsParser {
    type Value = Methods;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Methods, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        Methods::parse(&text).map_err(|why| {
            let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
            if let Some(argument) = argument {
                error.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_string()));
            }
            let names = MethodName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names = names.map(|name| name.get_name().to_owned()).collect();
            error.insert(ContextKind::InvalidValue, ContextValue::String(format!("{text} ({why})")));
            error.insert(ContextKind::ValidValue, ContextValue::Strings(names));
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(MethodName::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_one_or_a_set_and_what_makes_no_set_says_why() {
        assert!(Methods::parse("pin").unwrap().names() == [MethodName::Pin]);
        let both = Methods::parse("password+google-drive").unwrap();
        assert!(both.names() == [MethodName::Password, MethodName::GoogleDrive], "in the order of the command line");
        for (text, why) in [
            ("", "no such method"),
            ("password+", "no such method"),
            ("Password", "no such method"),
            ("password+pin", "a method is in a set once"),
            (
                "passkey+recovery-code",
                "the records of both a passkey and a recovery code would lie beside the envelope",
            ),
        ] {
            assert_eq!(Methods::parse(text).err().as_deref(), Some(why), "{text:?}");
        }
    }
}
