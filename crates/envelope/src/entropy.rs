//! Randomness is passed in (DECISIONS.md D30), with adapters for both generations of `rand_core`.

use core::convert::Infallible;

use zeroize::Zeroizing;

use crate::hash::h;

/// A cryptographic source of random bytes.
pub trait Entropy: Send {
    /// Fills `out` with uniform bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// `N` fresh random bytes, wiped on drop.
pub fn random<const N: usize>(entropy: &mut dyn Entropy) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0u8; N]);
    entropy.fill(bytes.as_mut());
    bytes
}

/// The operating system's generator. Aborts the process if the system has none: there is no safe way on.
#[cfg(feature = "os")]
#[derive(Default, Clone, Copy)]
pub struct OsEntropy;

#[cfg(feature = "os")]
impl Entropy for OsEntropy {
    #[allow(clippy::expect_used, reason = "a machine without randomness must not go on")]
    fn fill(&mut self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system gives randomness");
    }
}

/// A reproducible generator for tests, vectors and simulations. Never for keys that matter.
pub struct DangerSeededEntropy {
    seed: [u8; 32],
    block: u64,
}

impl DangerSeededEntropy {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed: h("halfkey/test/v1/seed", &[&seed.to_be_bytes()]), block: 0 }
    }
}

impl Entropy for DangerSeededEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let bytes = h("halfkey/test/v1/stream", &[&self.seed, &self.block.to_be_bytes()]);
            self.block += 1;
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Adapter to `rand_core` 0.10 (hpke, k256).
pub struct Rng10<'a>(pub &'a mut dyn Entropy);

impl rand_core::TryRng for Rng10<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(*random::<4>(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(*random::<8>(self.0)))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Rng10<'_> {}

/// Adapter to `rand_core` 0.6 (frost, voprf, curve25519-dalek 4).
pub struct Rng06<'a>(pub &'a mut dyn Entropy);

impl rand_core_06::RngCore for Rng06<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(*random::<4>(self.0))
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(*random::<8>(self.0))
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for Rng06<'_> {}
