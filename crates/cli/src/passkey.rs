//! Passkeys for the command line: a bridge to the system's browser, and a software authenticator for demos and tests.

mod bridge;
pub mod danger_software_passkeys;
mod open;
mod request;

use std::sync::{Mutex, PoisonError};

pub(crate) use bridge::only;
pub use bridge::{Bridge, Invitation};
pub(crate) use open::open as open_browser;

use crate::output::to_stderr;

/// Leads the user to the page: tells the code, and opens the browser or, with `no_browser`, prints the address. For
/// [`Bridge::start`].
pub fn lead_user(no_browser: bool) -> impl Fn(&Invitation) -> bool + Send + Sync + 'static {
    // The files that lead the browser on live as long as the bridge.
    let openings = Mutex::new(Vec::new());
    move |invitation| {
        if !no_browser {
            if let Ok(opening) = open::open(&invitation.url) {
                to_stderr(&format!("Go on in your browser. It must show the code {}.", invitation.code));
                openings.lock().unwrap_or_else(PoisonError::into_inner).push(opening);
                return true;
            }
            to_stderr("No browser can be started here.");
        }
        to_stderr(&format!(
            "Open this address in a browser on this machine, and show it to nobody:\n{}",
            invitation.url
        ));
        to_stderr(&format!("The page must show the code {}.", invitation.code));
        true
    }
}
