//! Choices by name: an enum, what a person calls its variants, and what each stands for, in one declaration.

/// An enum whose variants have names; made by `named!`.
pub trait Named: Copy + Sized + 'static {
    /// The names, in the order of the declaration.
    const NAMES: &'static [&'static str];
    /// As a person writes it.
    fn name(self) -> &'static str;
    /// The variant of this name, or of another spelling of it.
    fn from_name(name: &str) -> Option<Self>;
}

/// Declares such an enum. Later names of a variant are other spellings of it; where the enum has a type, each variant
/// stands for a value of it, which `value` gives:
/// ```text
/// /// What is minimised.
/// pub enum Loss: fn(f32) -> f32 {
///     /// x²
///     Square = "square" | "l2" => square,
/// }
/// ```
macro_rules! named {
    ($(#[$meta:meta])* pub enum $choice:ident: $value:ty {$(
        $(#[$variant_meta:meta])* $variant:ident = $name:literal $(| $other:literal)* => $stands_for:expr,
    )*}) => {
        $crate::named::named! {
            $(#[$meta])* pub enum $choice {$( $(#[$variant_meta])* $variant = $name $(| $other)*, )*}
        }
        impl $choice {
            /// What it stands for.
            pub fn value(self) -> $value {
                match self {$( $choice::$variant => $stands_for, )*}
            }
        }
    };
    ($(#[$meta:meta])* pub enum $choice:ident {$(
        $(#[$variant_meta:meta])* $variant:ident = $name:literal $(| $other:literal)*,
    )*}) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $choice {$( $(#[$variant_meta])* #[doc = concat!("`", $name, "`")] $variant, )*}

        impl $choice {
            /// The names, in the order of the declaration.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
            /// As a person writes it.
            pub fn name(self) -> &'static str {
                match self {$( $choice::$variant => $name, )*}
            }
        }
        impl $crate::named::Named for $choice {
            const NAMES: &'static [&'static str] = Self::NAMES;
            fn name(self) -> &'static str {
                $choice::name(self)
            }
            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $name $(| $other)* => Some($choice::$variant), )*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use super::Named;

    named! {
        /// What is minimised.
        pub enum Loss: fn(f32) -> f32 {
            Square = "square" | "l2" => |x| x * x,
            Absolute = "absolute" => f32::abs,
        }
    }

    #[test]
    fn names_spellings_and_values() {
        assert_eq!(Loss::NAMES, ["square", "absolute"]);
        assert_eq!(Loss::from_name("l2"), Some(Loss::Square));
        assert_eq!(Loss::from_name("cube"), None);
        assert_eq!((Loss::Square.name(), Loss::Absolute.value()(-3.0)), ("square", 3.0));
    }
}
