//! Iteration over the arguments of the command line.

use std::net::SocketAddr;

use crate::failure::Failure;

/// Returns the failure of an invalid command line.
pub(crate) fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}

/// The remaining arguments.
pub(crate) struct Words<'a> {
    words: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    /// Creates an iterator over `words`.
    pub(crate) fn new(words: &'a [String]) -> Self {
        Self { words: words.iter() }
    }

    /// Returns the next argument.
    pub(crate) fn flag(&mut self) -> Option<&'a str> {
        self.words.next().map(String::as_str)
    }

    /// Returns the next argument as the value of `flag`.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] if there is none.
    pub(crate) fn value(&mut self, flag: &str) -> Result<&'a str, Failure> {
        self.flag().ok_or_else(|| usage(format!("{flag} needs a value")))
    }

    /// Returns the next argument as `NAME=…`.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] if it is something else.
    pub(crate) fn pair(&mut self, flag: &str) -> Result<(&'a str, &'a str), Failure> {
        let value = self.value(flag)?;
        value
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format!("{flag} needs NAME=…, not {value}")))
    }

    /// Returns the next argument as a number.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] if it is something else.
    pub(crate) fn number<N: std::str::FromStr>(&mut self, flag: &str) -> Result<N, Failure> {
        let value = self.value(flag)?;
        value.parse().map_err(|_| usage(format!("{flag} needs a number, not {value}")))
    }

    /// Returns the next argument as `HOST:PORT`.
    ///
    /// # Errors
    /// Returns [`Failure::Usage`] if it is something else or cannot be resolved.
    pub(crate) fn address(&mut self, flag: &str) -> Result<SocketAddr, Failure> {
        let value = self.value(flag)?;
        std::net::ToSocketAddrs::to_socket_addrs(value)
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| usage(format!("{flag} needs HOST:PORT, not {value}")))
    }
}
