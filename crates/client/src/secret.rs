//! What users type, by role: wiped on drop, never shown.

use zeroize::Zeroizing;

macro_rules! typed {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(Zeroizing<String>);

        impl $name {
            /// Takes what was typed. The caller wipes its own copies.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(Zeroizing::new(text.into()))
            }

            pub(crate) fn expose(&self) -> &str {
                &self.0
            }
        }

        impl From<Zeroizing<String>> for $name {
            fn from(text: Zeroizing<String>) -> Self {
                Self(text)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

typed! {
    /// A password, passcode or PIN, as typed; normalised before use.
    Password;
    /// A recovery code, as typed.
    CodeText;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_name_only() {
        assert_eq!(format!("{:?} {:?}", Password::new("hunter2"), CodeText::new("ABCD")), "Password CodeText");
    }
}
