//! A seed's stream (SplitMix64) and a mixing function. Not for keys: a schedule has to be replayable.

/// The stream that belongs to a seed.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scramble(self.0)
    }

    pub(super) const fn id(&mut self) -> [u8; 16] {
        (((self.next() as u128) << 64) | self.next() as u128).to_be_bytes()
    }
}

const fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One number from several.
pub(super) fn mix_all(parts: &[u64]) -> u64 {
    parts.iter().fold(0x5851_F42D_4C95_7F2D, |sum, part| scramble(sum.rotate_left(17) ^ part))
}

/// One number from bytes.
pub(super) fn mix(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        scramble(sum.rotate_left(17) ^ u64::from_be_bytes(word))
    })
}
