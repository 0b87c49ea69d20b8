//! What a person types, made the same on every device: passwords by PRECIS OpaqueString (RFC 8265), PINs with
//! any Unicode decimal digits folded to ASCII; and the policy for choosing one (METHODS.md B).
//!
//! Normalisation is for ever: [`crate::door::NORMALISER`] names it in every registration.

use precis_core::profile::Profile;
use precis_profiles::OpaqueString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{door::Mode, secret::redact};

/// The longest password, in bytes as typed.
pub const MAX_PASSWORD: usize = 1024;
/// How often a text may change when it is enforced again (RFC 8264, section 7).
const MAX_ENFORCEMENTS: usize = 3;
/// The longest PIN, in digits.
pub const MAX_PIN: usize = 32;

/// A normalised password or PIN.
pub struct Password {
    mode: Mode,
    text: Zeroizing<String>,
}

redact!(Password);

/// Why typed text is no password or PIN. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing was typed.
    #[error("empty")]
    Empty,
    /// More than [`MAX_PASSWORD`] bytes or [`MAX_PIN`] digits.
    #[error("too long")]
    TooLong,
    /// A character that RFC 8265 does not allow in a password: control characters, unassigned code points.
    #[error("a character that cannot be typed the same everywhere")]
    Disallowed,
    /// A PIN consists of decimal digits.
    #[error("a PIN consists of digits")]
    NotDigits,
}

impl Password {
    /// Normalises `text` as `mode` says.
    pub fn parse(mode: Mode, text: &str) -> Result<Self, TextError> {
        match mode {
            Mode::Password => Self::text(text),
            Mode::Pin => Self::pin(text),
        }
    }

    /// Any text, by OpaqueString: spaces become ASCII spaces, then normalisation form C. Case, width and leading
    /// or trailing spaces stay as they are. Enforced until nothing changes any more (RFC 8264, section 7).
    pub fn text(text: &str) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > MAX_PASSWORD {
            return Err(TextError::TooLong);
        }
        let enforce = |text: &str| -> Result<_, TextError> {
            let enforced = OpaqueString::new().enforce(text).map_err(|_| TextError::Disallowed)?;
            Ok(Zeroizing::new(enforced.into_owned()))
        };
        // The profile looks at the characters before it composes them, so a few pass whose composed form it refuses:
        // U+0387 becomes U+00B7. Such a text is refused here: typed on another keyboard, it would open nothing.
        let mut once = enforce(text)?;
        for _ in 0..MAX_ENFORCEMENTS {
            let again = enforce(&once)?;
            if *again == *once {
                return Ok(Self { mode: Mode::Password, text: once });
            }
            once = again;
        }
        Err(TextError::Disallowed)
    }

    /// Decimal digits of any script, folded to ASCII.
    pub fn pin(text: &str) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.chars().nth(MAX_PIN).is_some() {
            return Err(TextError::TooLong);
        }
        let mut digits = Zeroizing::new(String::with_capacity(MAX_PIN));
        for symbol in text.chars() {
            digits.push(decimal_digit(symbol).ok_or(TextError::NotDigits)?);
        }
        Ok(Self { mode: Mode::Pin, text: digits })
    }

    /// Password or PIN.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The bytes that the key derivation takes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether a newly chosen password or PIN satisfies `policy`. `known` are words that an attacker knows of the
    /// user (name, address): they weaken a password. Never asked of a password that already protects something.
    pub fn check(&self, policy: &Policy, known: &[&str]) -> Result<Strength, Weakness> {
        let length = self.text.chars().count();
        match self.mode {
            Mode::Pin => {
                if length < policy.min_pin_length {
                    return Err(Weakness::TooShort { min: policy.min_pin_length });
                }
                match common_pin(&self.text) {
                    Some(pattern) if policy.refuse_common_pins => Err(Weakness::CommonPin { pattern }),
                    _ => Ok(Strength { score: None }),
                }
            }
            Mode::Password => {
                if length < policy.min_length {
                    return Err(Weakness::TooShort { min: policy.min_length });
                }
                let score = score(&self.text, known);
                if score < policy.min_score {
                    return Err(Weakness::Guessable { score, min: policy.min_score });
                }
                Ok(Strength { score: Some(score) })
            }
        }
    }
}

/// How hard a password is to guess, to be shown while it is typed: zxcvbn's score, 0 (worst) to 4.
#[must_use]
pub fn score(text: &str, known: &[&str]) -> u8 {
    zxcvbn::zxcvbn(text, known).score().into()
}

/// What a deployment asks of a newly chosen password or PIN. An application may only be stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// The lowest zxcvbn score of a password, 0 to 4.
    pub min_score: u8,
    /// The fewest characters of a password.
    pub min_length: usize,
    /// The fewest digits of a PIN.
    pub min_pin_length: usize,
    /// Whether the tenth of all PINs that people choose first are refused.
    pub refuse_common_pins: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { min_score: 3, min_length: 8, min_pin_length: 6, refuse_common_pins: true }
    }
}

impl Policy {
    /// The stricter of both, rule by rule.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            min_score: self.min_score.max(other.min_score),
            min_length: self.min_length.max(other.min_length),
            min_pin_length: self.min_pin_length.max(other.min_pin_length),
            refuse_common_pins: self.refuse_common_pins || other.refuse_common_pins,
        }
    }
}

/// What a password that was accepted is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strength {
    /// zxcvbn's score; none for a PIN, which the guess limit alone protects.
    pub score: Option<u8>,
}

/// Why the policy refuses a password or PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// Too few characters or digits.
    #[error("at least {min} characters are needed")]
    TooShort {
        /// How many are needed.
        min: usize,
    },
    /// Too easy to guess.
    #[error("too easy to guess (strength {score} of 4, {min} needed)")]
    Guessable {
        /// What it scores.
        score: u8,
        /// What is needed.
        min: u8,
    },
    /// One of the PINs that people choose first.
    #[error("one of the PINs that are guessed first")]
    CommonPin {
        /// What kind.
        pattern: PinPattern,
    },
}

/// The kinds of PINs that people choose first; together about a tenth of all six-digit PINs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinPattern {
    /// One or two different digits, or a group repeated: 111111, 121122, 123123.
    Repeat,
    /// Each digit twice: 112233.
    Pairs,
    /// Equal steps, or a long run up or down: 123456, 135791, 012341.
    Sequence,
    /// The same backwards: 123321.
    Palindrome,
    /// A date in any usual order: 311299, 123199, 991231, 31121999.
    Date,
    /// Lines and shapes on a telephone's keys: 147258, 159357.
    Keypad,
}

/// What kind of common PIN `digits` (ASCII) is.
fn common_pin(digits: &str) -> Option<PinPattern> {
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(digits.bytes().map(|digit| digit.wrapping_sub(b'0')).collect());
    type Rule = fn(&[u8]) -> bool;
    let kinds: [(PinPattern, Rule); 6] = [
        (PinPattern::Repeat, is_repeat),
        (PinPattern::Sequence, is_sequence),
        (PinPattern::Pairs, is_pairs),
        (PinPattern::Palindrome, is_palindrome),
        (PinPattern::Keypad, is_keypad),
        (PinPattern::Date, is_date),
    ];
    kinds.into_iter().find(|(_, matches)| matches(&digits)).map(|(pattern, _)| pattern)
}

fn is_repeat(pin: &[u8]) -> bool {
    let used = (0..10).filter(|digit| pin.contains(digit)).count();
    let period = |length: usize| pin.len().is_multiple_of(length) && pin.chunks(length).all(|c| c == &pin[..length]);
    used <= 2 || (1..=pin.len() / 2).any(period)
}

fn is_pairs(pin: &[u8]) -> bool {
    pin.len().is_multiple_of(2) && pin.chunks(2).all(|pair| pair[0] == pair[1])
}

fn is_palindrome(pin: &[u8]) -> bool {
    pin.iter().eq(pin.iter().rev())
}

fn is_sequence(pin: &[u8]) -> bool {
    let steps: Vec<u8> = pin.windows(2).map(|pair| (10 + pair[1] - pair[0]) % 10).collect();
    let even = steps.windows(2).all(|pair| pair[0] == pair[1]);
    let runs = steps.chunk_by(|a, b| a == b).filter(|run| matches!(run[0], 1 | 9)).map(<[u8]>::len);
    even || runs.max().unwrap_or(0) >= pin.len() / 2
}

/// Walks over a telephone's keys that are typed as shapes.
const KEYPAD: [&[u8]; 12] = [
    &[1, 4, 7, 2, 5, 8],
    &[2, 5, 8, 3, 6, 9],
    &[1, 4, 7, 3, 6, 9],
    &[1, 5, 9, 3, 5, 7],
    &[1, 4, 7, 8, 9, 6],
    &[7, 4, 1, 8, 5, 2],
    &[8, 5, 2, 9, 6, 3],
    &[7, 4, 1, 9, 6, 3],
    &[9, 5, 1, 7, 5, 3],
    &[7, 8, 9, 4, 5, 6],
    &[1, 4, 7, 8, 5, 2],
    &[2, 5, 8, 0, 8, 5],
];

fn is_keypad(pin: &[u8]) -> bool {
    pin.len() >= 6 && KEYPAD.iter().any(|walk| pin.starts_with(walk) || pin.iter().rev().take(6).eq(walk.iter()))
}

fn is_date(pin: &[u8]) -> bool {
    let number = |from: usize, to: usize| pin[from..to].iter().fold(0u32, |sum, digit| 10 * sum + u32::from(*digit));
    let year = |year: u32| (1900..2100).contains(&year);
    match pin.len() {
        6 => {
            let (a, b, c) = (number(0, 2), number(2, 4), number(4, 6));
            day_of(a, b) || day_of(b, a) || day_of(c, b)
        }
        8 => {
            let (a, b) = (number(0, 2), number(2, 4));
            let last = year(number(4, 8)) && (day_of(a, b) || day_of(b, a));
            last || (year(number(0, 4)) && day_of(number(6, 8), number(4, 6)))
        }
        _ => false,
    }
}

fn day_of(day: u32, month: u32) -> bool {
    const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = (month as usize).checked_sub(1).and_then(|index| DAYS.get(index));
    day >= 1 && days.is_some_and(|days| day <= *days)
}

/// The digit zero of every script with decimal digits (Unicode 14, general category Nd); the other nine follow it.
const ZEROS: [u32; 66] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6,
    0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0,
    0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50,
    0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950,
    0x1FBF0,
];

/// The ASCII digit that `symbol` stands for.
fn decimal_digit(symbol: char) -> Option<char> {
    let code = u32::from(symbol);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    char::from_digit(code - zero, 10)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_digits_of_every_script_fold_to_ascii() {
        for zero in ZEROS {
            let pin: String = (0..10).map(|digit| char::from_u32(zero + digit).unwrap()).collect();
            assert_eq!(Password::pin(&pin).unwrap().expose(), b"0123456789", "{zero:x}");
        }
        assert_eq!(Password::pin("٣٨٥١९७").unwrap().expose(), b"385197", "scripts may be mixed");
        // A superscript, a fraction, a Roman and a circled number are numbers, but not decimal digits.
        for bad in ["12345²", "½23456", "Ⅷ23456", "①23456", "12 345", "-12345", "12345a", "\u{3a}23456", "/23456"]
        {
            assert_eq!(Password::pin(bad).err(), Some(TextError::NotDigits), "{bad}");
        }
    }

    #[test]
    fn a_tenth_of_all_six_digit_pins_is_common() {
        let common = (0..1_000_000u32).filter(|pin| common_pin(&format!("{pin:06}")).is_some()).count();
        assert!((90_000..=110_000).contains(&common), "{common}");
    }

    #[test]
    fn common_pins_are_named_by_kind() {
        use PinPattern::{Date, Keypad, Pairs, Palindrome, Repeat, Sequence};
        for (pin, pattern) in [
            ("000000", Repeat),
            ("121121", Repeat),
            ("123123", Repeat),
            ("123456", Sequence),
            ("987654", Sequence),
            ("890123", Sequence),
            ("024680", Sequence),
            ("112233", Pairs),
            ("907709", Palindrome),
            ("311299", Date),
            ("123199", Date),
            ("991231", Date),
            ("31121999", Date),
            ("19991231", Date),
            ("147258", Keypad),
            ("753951", Keypad),
        ] {
            let refused = Password::pin(pin).unwrap().check(&Policy::default(), &[]);
            assert_eq!(refused, Err(Weakness::CommonPin { pattern }), "{pin}");
        }
        for good in ["739164", "385197", "40718362"] {
            assert!(Password::pin(good).unwrap().check(&Policy::default(), &[]).is_ok(), "{good}");
        }
        let lenient = Policy { refuse_common_pins: false, ..Policy::default() };
        assert!(Password::pin("123456").unwrap().check(&lenient, &[]).is_ok());
        assert_eq!(Password::pin("73916").unwrap().check(&lenient, &[]), Err(Weakness::TooShort { min: 6 }));
    }

    #[test]
    fn weak_passwords_are_refused_and_known_words_weaken() {
        let policy = Policy::default();
        let check = |text: &str, known: &[&str]| Password::text(text).unwrap().check(&policy, known);
        assert_eq!(check("aX9#q", &[]), Err(Weakness::TooShort { min: 8 }));
        assert_eq!(check("password1", &[]), Err(Weakness::Guessable { score: 0, min: 3 }));
        assert_eq!(check("correct horse battery staple", &[]), Ok(Strength { score: Some(4) }));
        assert!(check("zebulonquimby", &["zebulon", "quimby"]).is_err());
        let stricter = policy.and(Policy { min_score: 4, min_length: 4, min_pin_length: 8, refuse_common_pins: false });
        assert_eq!(stricter, Policy { min_score: 4, min_length: 8, min_pin_length: 8, refuse_common_pins: true });
    }

    #[test]
    fn passwords_that_look_the_same_are_the_same() {
        let same = |a: &str, b: &str| Password::text(a).unwrap().expose() == Password::text(b).unwrap().expose();
        assert!(same("re\u{301}sume\u{301}", "résumé"), "composed and decomposed");
        assert!(same("two\u{3000}words", "two words"), "an ideographic space");
        assert!(!same("Password", "password"), "case stays");
        assert!(!same("ｐａｓｓ", "pass"), "width stays (RFC 8265 section 4.2.2)");
        for (bad, error) in
            [("", TextError::Empty), ("a\u{7}b", TextError::Disallowed), ("a\tb", TextError::Disallowed)]
        {
            assert_eq!(Password::text(bad).err(), Some(error), "{bad:?}");
        }
        assert_eq!(Password::text(&"x".repeat(MAX_PASSWORD + 1)).err(), Some(TextError::TooLong));
        assert_eq!(format!("{:?}", Password::text("hunter2").unwrap()), "Password");
    }

    #[test]
    fn what_its_own_normal_form_would_refuse_is_refused() {
        for text in ["\u{387}", "a\u{387}b", "\u{b7}"] {
            assert_eq!(Password::text(text).err(), Some(TextError::Disallowed), "{text}");
        }
        assert_eq!(Password::text("l\u{b7}l").map(|word| word.expose().to_vec()), Ok("l\u{b7}l".as_bytes().to_vec()));
        assert_eq!(Password::text("l\u{387}l").map(|word| word.expose().to_vec()), Ok("l\u{b7}l".as_bytes().to_vec()));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{1,40}") {
            if let Ok(once) = Password::text(&text) {
                let text = std::str::from_utf8(once.expose()).unwrap();
                let twice = Password::text(text).unwrap();
                prop_assert_eq!(twice.expose(), once.expose());
            }
            let _ = Password::pin(&text);
        }
    }
}
