//! The password door: every guess is counted before it is evaluated.
