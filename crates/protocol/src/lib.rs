//! Two-party ceremonies over wallet halves and the life of a slot: bytes in, bytes out.

pub mod lifecycle;
