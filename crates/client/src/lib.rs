//! The SDK: create, back up, recover, sign and verify, as a step machine without I/O of its own.
