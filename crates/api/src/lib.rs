//! Every message, error id and schema of the HTTP interface, and the decoding of what can be signed.
