//! The `halfkey` binary.

fn main() {}
