//! Listening on a TCP port or a unix socket.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, getsockname, sockopt},
};
use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use super::{
    accept::Listener,
    address::Address,
    remote::Remote,
    socket::Socket,
    unix::{self, SocketFile},
};

/// The connections that may wait to be accepted. The operating system has a limit of its own, usually this one.
const BACKLOG: u32 = 4096;

/// The reason why HTTPS refuses a unix socket, as in NSQ.
const ONLY_TCP: &str = "a unix socket cannot be used here";

/// A listener on a TCP port or a unix socket. Clones share it; the last one closes it and removes the socket's file.
#[derive(Clone, Debug)]
pub struct AnyListener(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: Option<SocketFile> },
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen ({address}) failed - {}", plain(source))]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// The operating system's error.
    pub source: io::Error,
}

/// Listens on an address, given as [`Address::parse`] reads it.
///
/// # Errors
/// When it is not an address, or cannot be listened on.
pub async fn listen(address: &str) -> Result<AnyListener, ListenError> {
    let listening = match Address::parse(address) {
        Ok(address) => bind(&address).await,
        Err(invalid) => Err(io::Error::new(io::ErrorKind::InvalidInput, invalid)),
    };
    listening.map_err(|source| ListenError { address: address.to_owned(), source })
}

/// Listens on the TCP port of an address.
///
/// # Errors
/// When it is not the address of a port, or cannot be listened on.
pub async fn listen_tcp(address: &str) -> Result<TcpListener, ListenError> {
    let invalid = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let listening = match Address::parse(address) {
        Ok(Address::Tcp { host, port }) => bind_tcp(&host, port).await,
        Ok(Address::Unix(_)) => Err(invalid(ONLY_TCP.to_owned())),
        Err(error) => Err(invalid(error.to_string())),
    };
    listening.map_err(|source| ListenError { address: address.to_owned(), source })
}

/// Listens on an address.
///
/// A host that is empty or `0.0.0.0` means all addresses of this machine, IPv6 included, as in NSQ. A name that has
/// several addresses means one of them, IPv4 first.
///
/// # Errors
/// When it cannot be listened on.
pub async fn bind(address: &Address) -> io::Result<AnyListener> {
    let inner = match address {
        Address::Tcp { host, port } => Inner::Tcp(bind_tcp(host, *port).await?),
        Address::Unix(path) => {
            let (listener, file) = unix::bind(path).await?;
            Inner::Unix { listener, _file: file }
        }
    };
    Ok(AnyListener(Arc::new(inner)))
}

async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    if host.is_empty() || host.parse() == Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        return bind_all(port);
    }
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    let ipv4 = addresses.iter().find(|address| address.is_ipv4());
    let Some(&address) = ipv4.or_else(|| addresses.first()) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    listen_on(socket, address)
}

/// Listens on all addresses: with IPv6, which includes IPv4, where there is IPv6.
fn bind_all(port: u16) -> io::Result<TcpListener> {
    let both = || {
        let socket = TcpSocket::new_v6()?;
        sockopt::set_ipv6_v6only(&socket, false)?;
        listen_on(socket, (Ipv6Addr::UNSPECIFIED, port).into())
    };
    both().or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            listen_on(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        _ => Err(error),
    })
}

fn listen_on(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    // A restart need not wait until the connections of the last run have timed out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl AnyListener {
    /// Serves a socket that another process has opened. The file of a unix socket is not removed.
    ///
    /// # Errors
    /// When it is not a listening socket of TCP or a unix socket.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let of_another_kind =
            |_| io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket");
        if !sockopt::socket_acceptconn(&fd).map_err(of_another_kind)? {
            return Err(of_another_kind(Errno::INVAL));
        }
        let inner = match getsockname(&fd)?.address_family() {
            AddressFamily::UNIX => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                listener.set_nonblocking(true)?;
                Inner::Unix { listener: UnixListener::from_std(listener)?, _file: None }
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true)?;
                Inner::Tcp(TcpListener::from_std(listener)?)
            }
            _ => return Err(of_another_kind(Errno::AFNOSUPPORT)),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The TCP listener, unless it is a unix socket or has clones.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn into_tcp(self) -> io::Result<TcpListener> {
        match Arc::into_inner(self.0) {
            Some(Inner::Tcp(listener)) => Ok(listener),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, ONLY_TCP)),
        }
    }

    /// The address of a TCP port; `None` for a unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match &*self.0 {
            Inner::Tcp(listener) => listener.local_addr().ok(),
            Inner::Unix { .. } => None,
        }
    }
}

impl From<TcpListener> for AnyListener {
    fn from(listener: TcpListener) -> Self {
        Self(Arc::new(Inner::Tcp(listener)))
    }
}

impl Listener for AnyListener {
    type Accepted = Socket;
    type Io = Socket;
    type Remote = Remote;

    async fn accept(&mut self) -> io::Result<(Socket, Remote)> {
        match &*self.0 {
            Inner::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Socket::Tcp(stream), address.into()))
            }
            Inner::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Remote::Unix))
            }
        }
    }

    async fn establish(socket: Socket) -> io::Result<Socket> {
        socket.prepare()?;
        Ok(socket)
    }

    fn is_gone(socket: &Socket) -> bool {
        socket.is_gone()
    }

    fn refuse(socket: Socket, answer: &[u8]) {
        socket.refuse(answer);
    }

    fn local(&self) -> String {
        match &*self.0 {
            Inner::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            Inner::Unix { listener, .. } => unix::name(listener),
        }
    }
}

/// The error as NSQ prints it: `bind: ` and the operating system's text in lower case.
fn plain(error: &io::Error) -> String {
    if error.raw_os_error().is_none() {
        return error.to_string();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let (first, rest) = text.split_at_checked(1).unwrap_or((text, ""));
    format!("bind: {}{rest}", first.to_ascii_lowercase())
}
