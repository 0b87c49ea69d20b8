//! The enclave's Nitro Secure Module: what signs attestation documents.

use aws_nitro_enclaves_nsm_api::{
    api::{Request, Response},
    driver,
};

/// The module gives no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleFault(pub String);

/// Signs attestation documents about the enclave that asks.
pub trait SecurityModule: Send + Sync {
    /// A document with these fields in it: at most 512, 512 and 1,024 bytes.
    ///
    /// # Errors
    /// [`ModuleFault`].
    fn attest(
        &self,
        user_data: Option<&[u8]>,
        nonce: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, ModuleFault>;
}

/// The module behind `/dev/nsm`.
pub struct Nsm(i32);

impl Nsm {
    /// Opens the device.
    ///
    /// # Errors
    /// [`ModuleFault`] where there is none: outside an enclave.
    pub fn open() -> Result<Self, ModuleFault> {
        match driver::nsm_init() {
            descriptor @ 0.. => Ok(Self(descriptor)),
            _ => Err(ModuleFault("/dev/nsm does not open: this is not a Nitro enclave".to_owned())),
        }
    }
}

impl SecurityModule for Nsm {
    fn attest(
        &self,
        user_data: Option<&[u8]>,
        nonce: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, ModuleFault> {
        let field = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.to_vec().into());
        let request =
            Request::Attestation { user_data: field(user_data), nonce: field(nonce), public_key: field(public_key) };
        match driver::nsm_process_request(self.0, request) {
            Response::Attestation { document } => Ok(document),
            Response::Error(code) => Err(ModuleFault(format!("/dev/nsm: {code:?}"))),
            _ => Err(ModuleFault("/dev/nsm answers something else".to_owned())),
        }
    }
}

impl Drop for Nsm {
    fn drop(&mut self) {
        driver::nsm_exit(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs everywhere but in an enclave: there the device exists, and this test has no business.
    #[test]
    fn outside_an_enclave_there_is_no_module() {
        assert!(!std::path::Path::new("/dev/nsm").exists(), "not a machine for tests");
        assert!(Nsm::open().is_err_and(|fault| fault.0.contains("not a Nitro enclave")));
    }
}
