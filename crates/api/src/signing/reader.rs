//! A strict cursor over foreign bytes: every length is checked, every number has one form, nothing may be left over.

use super::SigningError;

type Result<T> = core::result::Result<T, SigningError>;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader whose every refusal says `what`.
    pub(super) const fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    pub(super) const fn malformed(&self) -> SigningError {
        SigningError::Malformed(self.what)
    }

    pub(super) const fn peek(&self) -> Option<u8> {
        match self.rest {
            [first, ..] => Some(*first),
            [] => None,
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bitcoin's CompactSize, in its shortest form only.
    pub(super) fn compact_size(&mut self) -> Result<u64> {
        let (value, least) = match self.u8()? {
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
            small => return Ok(u64::from(small)),
        };
        if value >= least { Ok(value) } else { Err(self.malformed()) }
    }

    /// A CompactSize and that many bytes.
    pub(super) fn compact_bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.compact_size()?;
        self.take(usize::try_from(length).map_err(|_| self.malformed())?)
    }

    /// How many elements follow, of which each takes at least `least` bytes: no count can ask for more memory than
    /// the input itself took.
    pub(super) fn compact_count(&mut self, least: usize) -> Result<usize> {
        let count = self.compact_size()?;
        self.plausible(usize::try_from(count).map_err(|_| self.malformed())?, least)
    }

    /// Solana's compact-u16 ("shortvec"), in its shortest form only.
    pub(super) fn short_length(&mut self) -> Result<usize> {
        let mut value = 0_usize;
        for position in 0..3 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                let padded = position > 0 && byte == 0;
                return if padded || value > 0xffff { Err(self.malformed()) } else { Ok(value) };
            }
        }
        Err(self.malformed())
    }

    /// A compact-u16 count of elements of at least `least` bytes.
    pub(super) fn short_count(&mut self, least: usize) -> Result<usize> {
        let count = self.short_length()?;
        self.plausible(count, least)
    }

    fn plausible(&self, count: usize, least: usize) -> Result<usize> {
        if count.saturating_mul(least) > self.rest.len() { Err(self.malformed()) } else { Ok(count) }
    }

    /// Everything that is left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub(super) const fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn compact_sizes_have_one_form() {
        let read = |bytes: &[u8]| Reader::new(bytes, "test").compact_size().ok();
        assert_eq!(read(&[0xfc]), Some(0xfc));
        assert_eq!(read(&[0xfd, 0xfd, 0]), Some(0xfd));
        assert_eq!(read(&[0xfe, 0, 0, 1, 0]), Some(0x1_0000));
        assert_eq!(read(&[0xff, 0, 0, 0, 0, 1, 0, 0, 0]), Some(0x1_0000_0000));
        for bad in [
            &[][..],
            &[0xfd, 0xfc, 0],
            &[0xfd, 1],
            &[0xfe, 0xff, 0xff, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn short_lengths_have_one_form() {
        // The table of Solana's "Compact-array format".
        let read = |bytes: &[u8]| Reader::new(bytes, "test").short_length().ok();
        assert_eq!(read(&[0x00]), Some(0));
        assert_eq!(read(&[0x7f]), Some(0x7f));
        assert_eq!(read(&[0x80, 0x01]), Some(0x80));
        assert_eq!(read(&[0xff, 0x01]), Some(0xff));
        assert_eq!(read(&[0x80, 0x02]), Some(0x100));
        assert_eq!(read(&[0xff, 0xff, 0x01]), Some(0x7fff));
        assert_eq!(read(&[0x80, 0x80, 0x02]), Some(0x8000));
        assert_eq!(read(&[0xff, 0xff, 0x03]), Some(0xffff));
        for bad in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff, 0x00],
            &[0x80, 0x80, 0x00],
            &[0xff, 0xff, 0x04],
            &[0x80, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn counts_cannot_outgrow_the_input() {
        assert!(Reader::new(&[2, 0, 0], "test").compact_count(1).is_ok());
        assert!(Reader::new(&[3, 0, 0], "test").compact_count(1).is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "test").compact_count(41).is_err()
        );
        assert!(Reader::new(&[0xff, 0xff, 0x03, 0], "test").short_count(1).is_err());
    }
}
