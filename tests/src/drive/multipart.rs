//! `multipart/related` (RFC 2387): metadata and content in one body, byte for byte.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::answer::Failure;

/// One part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// `Content-Type`, as it was sent.
    pub(super) kind: Option<String>,
    pub(super) content: Vec<u8>,
}

/// The parts of a body. Lines end as the first one does: clients that write only line feeds are taken at their word,
/// so that a content that ends with a carriage return keeps it.
///
/// # Errors
/// 400 for what is no such body.
pub(super) fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, Failure> {
    let malformed = || Failure::body("Malformed multipart body.");
    let delimiter = format!("--{}", boundary(content_type).ok_or_else(malformed)?);
    let start =
        find(body, delimiter.as_bytes()).filter(|at| *at == 0 || body[at - 1] == b'\n').ok_or_else(malformed)?;
    let mut rest = &body[start + delimiter.len()..];
    let line: &[u8] = if rest.starts_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let next = [line, delimiter.as_bytes()].concat();
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(line).ok_or_else(malformed)?;
        let end = find(rest, &next).ok_or_else(malformed)?;
        parts.push(part(&rest[..end], line)?);
        rest = &rest[end + next.len()..];
    }
    Ok(parts)
}

fn part(bytes: &[u8], line: &[u8]) -> Result<Part, Failure> {
    let malformed = || Failure::body("Malformed multipart body.");
    let blank = [line, line].concat();
    let (head, content) = match find(bytes, &blank) {
        _ if bytes.starts_with(line) => (&bytes[..0], &bytes[line.len()..]),
        Some(at) => (&bytes[..at], &bytes[at + blank.len()..]),
        None => return Err(malformed()),
    };
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    let encoding = header("content-transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    let content = match encoding.as_str() {
        "" | "binary" | "7bit" | "8bit" => content.to_vec(),
        "base64" => {
            let text: Vec<u8> = content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            BASE64_STANDARD.decode(text).map_err(|_| malformed())?
        }
        _ => return Err(malformed()),
    };
    Ok(Part { kind: header("content-type"), content })
}

/// The boundary of the header's value, if it says `multipart/related`.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let mut parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    let value = value.trim().trim_matches('"');
    (!value.is_empty()).then_some(value)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KIND: &str = "multipart/related; boundary=\"=b=\"; type=x";

    fn body(line: &str, content: &[u8]) -> Vec<u8> {
        let head = format!("--=b={line}Content-Type: application/json{line}{line}{{}}{line}--=b={line}{line}");
        [head.as_bytes(), content, format!("{line}--=b=--{line}").as_bytes()].concat()
    }

    #[test]
    fn content_survives_whatever_its_bytes_and_the_line_ends_are() {
        let every: Vec<u8> = (0..=255).collect();
        for content in [&every[..], b"", b"\r", b"\n", b"\r\n", b"x\r", b"--=b", b"\r\n\r\n--"] {
            for line in ["\r\n", "\n"] {
                let parts = parts(KIND, &body(line, content)).unwrap();
                assert_eq!(parts.len(), 2);
                assert_eq!((parts[0].kind.as_deref(), &parts[0].content[..]), (Some("application/json"), &b"{}"[..]));
                assert_eq!((&parts[1].kind, &parts[1].content[..]), (&None, content), "{line:?}");
            }
        }
    }

    #[test]
    fn base64_is_decoded_and_other_encodings_are_refused() {
        let with = |encoding: &str| format!("--=b=\r\nContent-Transfer-Encoding: {encoding}\r\n\r\nAP8=\r\n--=b=--");
        assert_eq!(parts(KIND, with("base64").as_bytes()).unwrap()[0].content, [0, 255]);
        assert!(parts(KIND, with("quoted-printable").as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_such_body_is_refused() {
        let whole = body("\r\n", b"abc");
        for kind in ["multipart/mixed; boundary==b=", "multipart/related", "multipart/related; boundary=", "text/plain"]
        {
            assert!(parts(kind, &whole).is_err(), "{kind}");
        }
        for length in 0..whole.len() - 4 {
            assert!(parts(KIND, &whole[..length]).is_err(), "{length}");
        }
    }
}
