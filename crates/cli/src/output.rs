//! What the user sees: progress on standard error, results on standard output; with `--json` exactly one object.

use std::io::{IsTerminal, Write};

use halfkey_client::{CurveDrill, DrillLevel, Error as Sdk, Held, progress::Progress};
use halfkey_envelope::wallet::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::error::{Error, Result};

/// Where results and progress go.
#[derive(Clone)]
pub struct Output {
    json: bool,
    bar: ProgressBar,
}

impl Output {
    /// For people, or one JSON object for programs.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let bar = ProgressBar::hidden();
        if let Ok(style) = ProgressStyle::with_template("  {wide_msg} [{bar:24}] {pos}/{len}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { json, bar }
    }

    /// Whether the result is for a program.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// A callback that shows how far a call is; on a pipe one line per step.
    pub fn progress(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let (bar, json) = (self.bar.clone(), self.json);
        let terminal = std::io::stderr().is_terminal();
        move |progress| {
            if json {
                return;
            }
            let text = step_text(&progress);
            if terminal {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.set_length(u64::from(progress.total));
                bar.set_position(u64::from(progress.done));
                bar.set_message(text);
            } else {
                to_stderr(&format!("  {text} {}/{}", progress.done, progress.total));
            }
        }
    }

    /// Ends the progress bar.
    pub fn settle(&self) {
        self.bar.finish_and_clear();
    }

    /// A line for people; nothing with `--json`.
    pub fn say(&self, line: &str) {
        if !self.json {
            self.bar.suspend(|| to_stdout(line));
        }
    }

    /// The result: `lines` for people or `value` for programs.
    pub fn result(&self, lines: &[String], value: &Value) {
        self.settle();
        if self.json {
            to_stdout(&value.to_string());
        } else {
            lines.iter().for_each(|line| to_stdout(line));
        }
    }

    /// An error: what happened on standard error, the object on standard output with `--json`.
    pub fn error(&self, error: &Error) {
        self.settle();
        if self.json {
            to_stdout(&error_value(error).to_string());
            return;
        }
        to_stderr(&format!("error: {error}{}", figures(error)));
        if let Some(Sdk::BackupBroken(broken)) = cause(error) {
            broken.member.iter().for_each(|member| to_stderr(&format!("  {member} has not the right part of the key")));
            drill_lines(&broken.curves).iter().for_each(|line| to_stderr(line));
        }
        if let Some(advice) = error.advice() {
            to_stderr(&format!("  {advice}"));
        }
    }
}

/// The parts of a drill, a line for each curve.
pub(crate) fn drill_lines(curves: &[CurveDrill]) -> Vec<String> {
    let line = |drill: &CurveDrill| {
        let parts = drill.parts().map(|(level, held)| format!("{} {}", level_text(level), held_text(held)));
        format!("  {:<10} {}", drill.curve.as_str(), parts.join(", "))
    };
    curves.iter().map(line).collect()
}

/// The same for programs: by curve and part `held`, `unknown`, or the word for what is wrong.
pub(crate) fn drill_value(curves: &[CurveDrill]) -> Value {
    let value = |drill: &CurveDrill| {
        let mut value = serde_json::json!({ "curve": drill.curve });
        for (level, held) in drill.parts() {
            let name = match level {
                DrillLevel::MethodKey => "methodKey",
                DrillLevel::ClientShare => "clientShare",
                DrillLevel::CustodianShare => "custodianShare",
                DrillLevel::PublicKey => "publicKey",
            };
            value[name] = serde_json::json!(held_text(held));
        }
        value
    };
    curves.iter().map(value).collect()
}

const fn level_text(level: DrillLevel) -> &'static str {
    match level {
        DrillLevel::MethodKey => "method's key",
        DrillLevel::ClientShare => "client share",
        DrillLevel::CustodianShare => "custodian share",
        DrillLevel::PublicKey => "public key",
    }
}

const fn held_text(held: Held) -> &'static str {
    match held {
        Held::Held => "held",
        Held::Unknown => "unknown",
        Held::Failed(word) => word,
    }
}

/// The step's name, with the curve where it is about one.
#[must_use]
pub fn step_text(progress: &Progress) -> String {
    match progress.curve {
        Some(curve) => format!("{} ({curve})", progress.stage.text()),
        None => progress.stage.text().to_owned(),
    }
}

/// What the SDK said; of a set of methods, what its member came to.
fn cause(error: &Error) -> Option<&Sdk> {
    if let Error::Sdk(error) = error { Some(error.cause()) } else { None }
}

fn figures(error: &Error) -> String {
    match cause(error) {
        Some(Sdk::WrongSecret { remaining, retry_after }) => {
            let left = remaining.map(|n| format!(", {n} guesses left")).unwrap_or_default();
            let wait = retry_after.map(|ms| format!(", next guess in {} s", ms.div_ceil(1000))).unwrap_or_default();
            left + &wait
        }
        Some(error) => match others(error) {
            Some(others @ [_, ..]) => format!("; other ways into this wallet: {}", names(others).join(", ")),
            _ => String::new(),
        },
        None => String::new(),
    }
}

/// The other methods that such an error names.
const fn others(error: &Sdk) -> Option<&[Method]> {
    match error {
        Sdk::NoPasskey { others } | Sdk::UnsupportedPlatform { alternatives: others, .. } => Some(others.as_slice()),
        _ => None,
    }
}

fn names(methods: &[Method]) -> Vec<String> {
    methods.iter().map(Method::to_string).collect()
}

fn error_value(error: &Error) -> Value {
    let mut value = serde_json::json!({ "code": error.code(), "message": error.to_string(), "advice": error.advice() });
    if let Error::Sdk(error) = error
        && let Some(member) = error.member()
    {
        value["member"] = serde_json::json!(member);
    }
    if let Some(Sdk::WrongSecret { remaining, retry_after }) = cause(error) {
        value["remaining"] = serde_json::json!(remaining);
        value["retryAfterMs"] = serde_json::json!(retry_after);
    }
    if let Some(Sdk::BackupBroken(broken)) = cause(error) {
        if let Some(member) = &broken.member {
            value["member"] = serde_json::json!(member);
        }
        value["method"] = serde_json::json!(broken.method);
        value["backupId"] = serde_json::json!(broken.backup_id);
        value["curves"] = drill_value(&broken.curves);
    }
    if let Some(others) = cause(error).and_then(others) {
        value["otherMethods"] = serde_json::json!(names(others));
    }
    serde_json::json!({ "error": value })
}

/// One line; a closed pipe is the reader's choice and no error.
pub fn to_stdout(line: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line; a closed pipe is the reader's choice and no error.
pub fn to_stderr(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// Any value that serialises, as JSON.
///
/// # Errors
/// Never for the types used here.
pub fn json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|_| Error::Failed("the result cannot be written as JSON".to_owned()))
}

/// Milliseconds since the Unix epoch as `YYYY-MM-DD HH:MM:SS UTC`.
#[must_use]
pub fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use halfkey_client::Platform;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_names_the_other_ways_into_the_wallet() {
        let others = vec![Method::Password, Method::RecoveryCode];
        let refused = |others: &[Method]| Error::Sdk(Sdk::NoPasskey { others: others.to_vec() });
        assert_eq!(figures(&refused(&others)), "; other ways into this wallet: PASSWORD, RECOVERY_CODE");
        assert_eq!(error_value(&refused(&others))["error"]["otherMethods"], json!(["PASSWORD", "RECOVERY_CODE"]));
        assert_eq!(figures(&refused(&[])), "");
        assert_eq!(error_value(&refused(&[]))["error"]["otherMethods"], json!([]));
        let platform = Platform::Linux;
        let refused = Error::Sdk(Sdk::UnsupportedPlatform { method: Method::Passkey, platform, alternatives: others });
        assert_eq!(figures(&refused), "; other ways into this wallet: PASSWORD, RECOVERY_CODE");
        assert_eq!(error_value(&Error::Sdk(Sdk::Cancelled))["error"].get("otherMethods"), None);
    }

    #[test]
    fn times_read_as_dates() {
        assert_eq!(super::time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::time(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(super::time(1_763_820_123_456), "2025-11-22 14:02:03 UTC");
    }
}
