//! The passkey door: stateless, made for an enclave.
