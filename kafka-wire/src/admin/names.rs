//! Enumerations of the protocol: a number or a word on the wire, Kafka's name in text.

/// An enumeration that is a number on the wire.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that this client does not know: the broker is newer.
            Unknown(i8),
        }

        impl $name {
            /// All that this client knows.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            #[allow(dead_code, reason = "some are only sent")]
            pub(crate) const fn from_wire(number: i8) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            #[allow(dead_code, reason = "some are only received")]
            pub(crate) const fn to_wire(self) -> i8 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Unknown(other) => other,
                }
            }
        }

        /// Kafka's name of it.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.pad($text),)*
                    Self::Unknown(number) => write!(f, "UNKNOWN({number})"),
                }
            }
        }

        $crate::admin::names::by_name!($name, $what { $($variant $text,)* });
    };
}

/// An enumeration that is a word on the wire.
macro_rules! worded {
    ($(#[$doc:meta])* $name:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// The broker says nothing, or a word that this client does not know.
            Unknown,
        }

        impl $name {
            /// All that this client knows.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            #[allow(dead_code, reason = "some are only sent")]
            pub(crate) fn from_wire(word: &str) -> Self {
                match word {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }
        }

        /// Kafka's word for it.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.pad($text),)*
                    Self::Unknown => f.pad("Unknown"),
                }
            }
        }

        $crate::admin::names::by_name!($name, $what { $($variant $text,)* });
    };
}

/// Reading an enumeration's names as people write them.
macro_rules! by_name {
    ($name:ident, $what:literal { $($variant:ident $text:literal,)* }) => {
        /// Kafka's name, in upper or lower case, with `_`, `-` or nothing between its words.
        ///
        /// # Errors
        /// `Usage`, with the names that there are.
        impl std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> $crate::error::Result<Self> {
                let plain = $crate::admin::names::plain(text);
                $(if plain == $crate::admin::names::plain($text) {
                    return Ok(Self::$variant);
                })*
                let names = [$($text),*].join(", ");
                Err($crate::error::Error::new(
                    $crate::error::ErrorKind::Usage,
                    format!("read {text:?} as {}: expected one of {names}", $what),
                ))
            }
        }
    };
}

pub(crate) use {by_name, numbered, worded};

/// A name without what people write differently.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub, reason = "the macro is for public types")]

    numbered! {
        /// For the test.
        Colour, "a colour" {
            /// Red.
            Red = 1 "RED",
            /// Dark blue.
            DarkBlue = 3 "DARK_BLUE",
        }
    }

    #[test]
    fn names_are_read_as_people_write_them_and_unknown_numbers_are_kept() {
        for text in ["DARK_BLUE", "darkBlue", "dark-blue"] {
            assert_eq!(text.parse::<Colour>().unwrap(), Colour::DarkBlue);
        }
        let error = "green".parse::<Colour>().unwrap_err().to_string();
        assert_eq!(error, "read \"green\" as a colour: expected one of RED, DARK_BLUE");
        assert_eq!((Colour::from_wire(3), Colour::from_wire(9)), (Colour::DarkBlue, Colour::Unknown(9)));
        assert_eq!((Colour::Unknown(9).to_wire(), Colour::Red.to_string()), (9, "RED".to_owned()));
        assert_eq!(Colour::ALL.len(), 2);
    }
}
