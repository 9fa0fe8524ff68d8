//! Addresses to listen on, as NSQ reads them.

use std::path::PathBuf;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// A name or an IP address without brackets; empty for all addresses of this machine.
        host: String,
        /// The port; 0 for any free one.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// An address whose port is not a number that ports have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid port")]
pub struct InvalidPort(pub String);

impl Address {
    /// Reads an address. As in NSQ, a text that does not split as `host:port` is the path of a unix socket, so `4150` is a
    /// file name. A text with a slash is always a path, since no host name has one.
    ///
    /// # Errors
    /// When the port is not a number below 65536.
    pub fn parse(text: &str) -> Result<Self, InvalidPort> {
        let Some((host, port)) = split_host_port(text).filter(|_| !text.contains('/')) else {
            return Ok(Self::Unix(text.into()));
        };
        let port = match port {
            "" => 0,
            port => port.parse().map_err(|_| InvalidPort(port.to_owned()))?,
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// Splits `host:port` or `[host]:port`. A host with a colon, such as an IPv6 address, needs its brackets.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
    };
    let stray = |part: &str| part.contains(['[', ']']);
    (!stray(host) && !stray(port) && !port.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_splits_as_host_and_port_is_a_tcp_address() {
        for (text, host, port) in [
            ("127.0.0.1:4150", "127.0.0.1", 4150),
            ("localhost:0", "localhost", 0),
            (":4150", "", 4150),
            (":", "", 0),
            ("[::1]:4150", "::1", 4150),
            ("[fe80::1%lo]:65535", "fe80::1%lo", 65535),
            ("[::]:1", "::", 1),
        ] {
            let expected = Address::Tcp { host: host.to_owned(), port };
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_other_text_is_the_path_of_a_unix_socket() {
        for text in [
            "4150",
            "nsqd.sock",
            "/run/nsqd.sock",
            "/run/a:1",
            "./a:1",
            "::1:4150",
            "[::1]",
            "[::1]4150",
            "[::1",
            "a]:1",
            "[[::1]]:1",
        ] {
            assert_eq!(Address::parse(text), Ok(Address::Unix(text.into())), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_no_port_is_an_error_and_not_a_path() {
        for (text, port) in [("localhost:65536", "65536"), (":http", "http"), ("h:-1", "-1")] {
            assert_eq!(Address::parse(text), Err(InvalidPort(port.to_owned())), "{text}");
        }
    }
}
