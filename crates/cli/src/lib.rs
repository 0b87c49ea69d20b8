//! The command line: demo, wallet client, and the HTTP transport it uses.

pub mod judge;
