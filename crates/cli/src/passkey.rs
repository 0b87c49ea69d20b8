//! Passkeys for the command line: a bridge to the system's browser, and a software authenticator for demos and tests.

mod bridge;
pub mod danger_software_passkeys;
mod open;
mod request;

use std::sync::{Mutex, PoisonError};

pub(crate) use bridge::only;
pub use bridge::{Bridge, Invitation};

use crate::output::to_stderr;

/// Leads the user to the page: tells the code, and opens the browser or, with `no_browser`, prints the address. For
/// [`Bridge::start`].
pub fn lead_user(no_browser: bool) -> impl Fn(&Invitation) -> bool + Send + Sync + 'static {
    let lead = lead_to(no_browser);
    move |invitation| {
        let said = format!("Go on in your browser. It must show the code {}.", invitation.code);
        if !lead(&invitation.url, &said) {
            to_stderr(&format!("The page must show the code {}.", invitation.code));
        }
        true
    }
}

/// Opens an address in the browser and says so, or prints it. Whether a browser was started.
pub(crate) fn lead_to(no_browser: bool) -> impl Fn(&str, &str) -> bool + Send + Sync + 'static {
    // The files that lead the browser on live as long as this.
    let openings = Mutex::new(Vec::new());
    move |url, said| {
        if !no_browser {
            if let Ok(opening) = open::open(url) {
                to_stderr(said);
                openings.lock().unwrap_or_else(PoisonError::into_inner).push(opening);
                return true;
            }
            to_stderr("No browser can be started here.");
        }
        to_stderr(&format!("Open this address in a browser on this machine, and show it to nobody:\n{url}"));
        false
    }
}
