//! The address of a client.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The address of a client. Those of a unix socket have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A client of a TCP port.
    Tcp(SocketAddr),
    /// A client of a unix socket.
    Unix,
}

impl Remote {
    /// The IP address, for a TCP client.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The port, for a TCP client.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix => None,
        }
    }

    /// The IP address as NSQ writes it, which is empty for clients of a unix socket.
    pub fn ip_text(self) -> String {
        self.ip().map_or_else(String::new, |ip| ip.to_string())
    }
}

/// An IPv4 client of a socket that listens on all addresses is known by its IPv4 address.
impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => Self::Tcp(SocketAddr::new(ip, address.port())),
            IpAddr::V6(_) => Self::Tcp(address),
        }
    }
}

/// As in NSQ's logs and `/stats`: `ip:port`, and `@` for clients of a unix socket.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.pad("@"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shown_as_nsq_shows_them() {
        let remote = |text: &str| Remote::from(text.parse::<SocketAddr>().unwrap());
        for (remote, shown, ip) in [
            (remote("10.0.0.1:5"), "10.0.0.1:5", "10.0.0.1"),
            (remote("[::ffff:10.0.0.1]:5"), "10.0.0.1:5", "10.0.0.1"),
            (remote("[fd00::2]:5"), "[fd00::2]:5", "fd00::2"),
            (Remote::Unix, "@", ""),
        ] {
            assert_eq!((remote.to_string().as_str(), remote.ip_text().as_str()), (shown, ip));
        }
    }
}
