//! What a payload does, in words for the person who is asked to sign it.

use core::fmt::Write as _;

use serde::Serialize;

/// What a payload does. Every field is derived from the bytes that are signed, never from what the caller says of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// `ethereum:<chain id>`, `ethereum`, `bitcoin`, `solana`, or `unknown` for a bare digest.
    pub chain: String,
    /// What kind of thing is signed, in a few words.
    pub action: String,
    /// The address that signs.
    pub from: String,
    /// Whom it pays or calls, where there is exactly one such party.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What is sent, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The most that it can cost beside the value, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee: Option<String>,
    /// Everything else worth reading, in order.
    pub details: Vec<Detail>,
}

/// One line of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Detail {
    /// What it is.
    pub label: String,
    /// Its value, printable.
    pub value: String,
}

impl Summary {
    pub(super) fn new(chain: impl Into<String>, action: impl Into<String>, from: String) -> Self {
        Self { chain: chain.into(), action: action.into(), from, to: None, value: None, fee: None, details: vec![] }
    }

    pub(super) fn detail(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.details.push(Detail { label: label.into(), value: value.into() });
    }
}

/// A count of the smallest unit, as a decimal number of the unit that people use.
pub(super) fn amount(smallest: impl ToString, decimals: usize, unit: &str) -> String {
    let digits = format!("{:0>1$}", smallest.to_string(), decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    match fraction.trim_end_matches('0') {
        "" => format!("{whole} {unit}"),
        fraction => format!("{whole}.{fraction} {unit}"),
    }
}

/// Foreign text, with everything escaped that could make a screen show something else: controls, and the marks that
/// turn the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden || (c.is_control() && c != '\n') {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Foreign bytes: as text where they are UTF-8, else as hex.
pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    match core::str::from_utf8(bytes) {
        Ok(text) => printable(text),
        Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount(0, 18, "ETH"), "0 ETH");
        assert_eq!(amount(1, 18, "ETH"), "0.000000000000000001 ETH");
        assert_eq!(amount(1_500_000_000_000_000_000_u64, 18, "ETH"), "1.5 ETH");
        assert_eq!(amount(u64::MAX, 8, "BTC"), "184467440737.09551615 BTC");
        assert_eq!(amount(1_000_000_000, 9, "SOL"), "1 SOL");
    }

    #[test]
    fn text_cannot_hide_what_it_says() {
        assert_eq!(printable("pay\u{202e}001\u{0}\r\nüñ"), "pay\\u{202e}001\\u{0}\\u{d}\nüñ");
        assert_eq!(printable_bytes(&[0xff, 1]), "0xff01");
    }
}
