//! Options of NSQ that a program does not have yet.

/// A key that a configuration file written for NSQ may have, without an option behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It changes how the program works; without it everything is as safe.
    Feature(&'static str),
    /// It asks for protection. A program that cannot give it must not start.
    Protection(&'static str),
}

impl Absent {
    /// The key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Feature(key) | Self::Protection(key) => key,
        }
    }
}
