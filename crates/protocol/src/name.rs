//! Topic and channel names.

use std::fmt;

/// The longest a topic or channel name may be, in bytes, its suffix included.
pub const NAME_BYTES_MAX: usize = 64;

const EPHEMERAL_SUFFIX: &str = "#ephemeral";

/// Whether `name` may name a topic or a channel: 1 to 64 of `.`, `-`, `_`, ASCII letters and digits, of which a
/// final `#ephemeral` is part of the length but not of the alphabet.
pub fn is_valid_name(name: &[u8]) -> bool {
    let stem = name.strip_suffix(EPHEMERAL_SUFFIX.as_bytes()).unwrap_or(name);
    name.len() <= NAME_BYTES_MAX
        && !stem.is_empty()
        && stem.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// A name that is not valid for a topic or channel; holds the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid name {0:?}: names are 1 to 64 of [.a-zA-Z0-9_-], and may end in #ephemeral")]
pub struct InvalidName(pub String);

macro_rules! name {
    ($type:ident, $what:literal) => {
        #[doc = concat!("A valid ", $what, " name.")]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            #[doc = concat!("Checks that `name` may name a ", $what, ".")]
            ///
            /// # Errors
            /// The name itself, when it breaks the rules of [`is_valid_name`].
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                if is_valid_name(name.as_bytes()) {
                    Ok(Self(name.into()))
                } else {
                    Err(InvalidName(name.to_owned()))
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the name ends in `#ephemeral`: kept in memory only, removed when unused.
            pub fn is_ephemeral(&self) -> bool {
                self.0.ends_with(EPHEMERAL_SUFFIX)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

name!(TopicName, "topic");
name!(ChannelName, "channel");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_alphabet_up_to_64_bytes_are_valid() {
        for name in ["a", ".", "..", "A.b-c_9", "t#ephemeral", &"x".repeat(64)] {
            assert!(is_valid_name(name.as_bytes()), "{name}");
        }
        assert!(is_valid_name(format!("{}#ephemeral", "x".repeat(54)).as_bytes()));
    }

    #[test]
    fn other_names_are_refused_and_handed_back() {
        let long = "x".repeat(65);
        let long_ephemeral = format!("{}#ephemeral", "x".repeat(55));
        for name in [
            "",
            "#ephemeral",
            "a b",
            "a/b",
            "a#b",
            "é",
            "t#ephemeral#ephemeral",
            &long,
            &long_ephemeral,
        ] {
            assert_eq!(TopicName::new(name), Err(InvalidName(name.to_owned())));
        }
        assert!(!is_valid_name(b"\xff"));
    }

    #[test]
    fn the_suffix_makes_a_name_ephemeral() {
        assert!(ChannelName::new("c#ephemeral").unwrap().is_ephemeral());
        assert!(!ChannelName::new("ephemeral").unwrap().is_ephemeral());
    }
}
