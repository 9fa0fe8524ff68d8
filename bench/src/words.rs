//! The arguments of the command line, one after the other.

use std::net::SocketAddr;

use crate::failure::Failure;

/// A command line that cannot be used as typed, with the reason.
pub(crate) fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}

/// The arguments that have not been looked at.
pub(crate) struct Words<'a> {
    words: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    /// Takes all of `words`.
    pub(crate) fn new(words: &'a [String]) -> Self {
        Self { words: words.iter() }
    }

    /// The next one, whatever it is.
    pub(crate) fn flag(&mut self) -> Option<&'a str> {
        self.words.next().map(String::as_str)
    }

    /// How many are left.
    pub(crate) fn rest(&self) -> usize {
        self.words.len()
    }

    /// The next one, as the value of `flag`.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is none.
    pub(crate) fn value(&mut self, flag: &str) -> Result<&'a str, Failure> {
        self.flag().ok_or_else(|| usage(format!("{flag} needs a value")))
    }

    /// The next one, as `NAME=…`.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is something else.
    pub(crate) fn pair(&mut self, flag: &str) -> Result<(&'a str, &'a str), Failure> {
        let value = self.value(flag)?;
        value
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format!("{flag} needs NAME=…, not {value}")))
    }

    /// The next one, as a number.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is something else.
    pub(crate) fn number<N: std::str::FromStr>(&mut self, flag: &str) -> Result<N, Failure> {
        let value = self.value(flag)?;
        value.parse().map_err(|_| usage(format!("{flag} needs a number, not {value}")))
    }

    /// The next one, as `HOST:PORT`.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it is something else or not found.
    pub(crate) fn address(&mut self, flag: &str) -> Result<SocketAddr, Failure> {
        let value = self.value(flag)?;
        std::net::ToSocketAddrs::to_socket_addrs(value)
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| usage(format!("{flag} needs HOST:PORT, not {value}")))
    }
}
