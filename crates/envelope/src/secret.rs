//! What every secret newtype of this crate has in common: `{:?}` shows its name and nothing else.

/// `Debug` that prints only the name of the type.
macro_rules! redact {
    ($($name:ident),+ $(,)?) => {$(
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

/// A 32-byte secret of one role: wiped on drop, never copied, compared in constant time.
macro_rules! secret32 {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub struct $name(zeroize::Zeroizing<[u8; 32]>);

        $crate::secret::redact!($name);

        impl $name {
            /// A fresh one.
            pub fn generate(entropy: &mut dyn $crate::entropy::Entropy) -> Self {
                Self($crate::entropy::random::<32>(entropy))
            }

            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: zeroize::Zeroizing<[u8; 32]>) -> Self {
                Self(bytes)
            }

            /// The bytes, for the one who stores or derives from them.
            #[must_use]
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl subtle::ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> subtle::Choice {
                self.0.as_slice().ct_eq(other.0.as_slice())
            }
        }
    )+};
}

pub(crate) use {redact, secret32};
