//! Just enough of DER to write certificates of every wrongness.

#![allow(clippy::must_use_candidate)]

/// One element of fewer than 64 KiB.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=127 => out.push(length as u8),
        length @ 128..=255 => out.extend_from_slice(&[0x81, length as u8]),
        length => out.extend_from_slice(&[0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An OBJECT IDENTIFIER from its encoded content.
pub fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(0x06, bytes)
}

/// A BIT STRING of whole bytes.
pub fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content].concat())
}

/// A Name with one common name.
pub fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[oid(&[0x55, 4, 3]), tlv(0x0c, common.as_bytes())]);
    sequence(&[tlv(0x31, &attribute)])
}

/// A UTCTime.
pub fn time(text: &str) -> Vec<u8> {
    tlv(0x17, text.as_bytes())
}

/// An extension of 2.5.29.`id`.
pub fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(&[0x55, 0x1d, id])];
    if critical {
        parts.push(tlv(0x01, &[0xff]));
    }
    parts.push(tlv(0x04, value));
    sequence(&parts)
}

/// The extension basicConstraints, critical.
pub fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let mut parts = vec![];
    if ca {
        parts.push(tlv(0x01, &[0xff]));
    }
    if let Some(most) = path_len {
        parts.push(tlv(0x02, &[most]));
    }
    extension(19, true, &sequence(&parts))
}

/// The bit digitalSignature of keyUsage.
pub const SIGNS_DOCUMENTS: u8 = 0x80;
/// The bit keyCertSign of keyUsage.
pub const SIGNS_CERTIFICATES: u8 = 0x04;

/// The extension keyUsage, critical.
pub fn key_usage(usage: u8) -> Vec<u8> {
    let unused = usage.trailing_zeros() as u8;
    extension(15, true, &tlv(0x03, &[unused, usage]))
}
