//! Listening sockets that the service manager has opened.

use std::{env, fmt, fs, io, os::fd::OwnedFd, path::Path, process};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::TcpListener;

use crate::{
    log::Logger,
    net::{AnyListener, ListenError, listen, listen_tcp},
};

/// The open descriptors of this process, as links that name what they are.
const DESCRIPTORS: &str = "/proc/self/fd";
/// The first descriptor that a service manager passes on.
const FIRST_PASSED: u32 = 3;

/// The purpose of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Clients of the daemon's own protocol.
    Tcp,
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Role {
    /// In the order in which sockets without names are used.
    const ALL: [Self; 3] = [Self::Tcp, Self::Http, Self::Https];

    /// The name that a socket for this has in its unit, as `FileDescriptorName=`.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Sockets were passed on that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// The environment variables are wrong.
    #[error("sockets of the service manager: {0}")]
    Environment(#[from] sd_listen_fds::Error),
    /// The operating system refuses.
    #[error("sockets of the service manager: {0}")]
    Io(#[from] io::Error),
    /// A descriptor is closed, or is something else.
    #[error("sockets of the service manager: descriptor {0} is not a socket")]
    NotASocket(u32),
    /// Two sockets have the same name.
    #[error("sockets of the service manager: more than one is named {0}")]
    Duplicate(Role),
}

/// The listening sockets that the service manager has opened for this process and that are not in use yet. They take
/// the place of those at the addresses in the options.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(Role, OwnedFd)>,
    useless: usize,
}

impl Inherited {
    /// The sockets that the environment tells of. Those that are named `tcp`, `http` or `https` are used for that. If none
    /// has such a name, they are used in this order.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn from_env() -> Result<Self, InheritError> {
        check_passed()?;
        let passed = sd_listen_fds::get()?;
        let role_of = |name: &Option<String>| {
            Role::ALL.into_iter().find(|role| name.as_deref() == Some(role.name()))
        };
        let are_named = passed.iter().any(|(name, _)| role_of(name).is_some());
        let mut inherited = Self::default();
        for (place, (name, fd)) in passed.into_iter().enumerate() {
            let fd: OwnedFd = fd.into_std();
            fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(io::Error::from)?;
            match if are_named { role_of(&name) } else { Role::ALL.get(place).copied() } {
                Some(role) => inherited.add(role, fd)?,
                None => inherited.useless += 1,
            }
        }
        Ok(inherited)
    }

    fn add(&mut self, role: Role, fd: OwnedFd) -> Result<(), InheritError> {
        if self.sockets.iter().any(|(other, _)| *other == role) {
            return Err(InheritError::Duplicate(role));
        }
        self.sockets.push((role, fd));
        Ok(())
    }

    /// Returns whether there is a socket for this.
    pub fn has(&self, role: Role) -> bool {
        self.sockets.iter().any(|(other, _)| *other == role)
    }

    /// Takes the socket for `role`. If there is none, listens on `address`.
    ///
    /// # Errors
    /// When it is not a listening socket, or the address cannot be listened on.
    pub async fn listen(&mut self, role: Role, address: &str) -> Result<AnyListener, ListenError> {
        match self.take(role) {
            Some(fd) => AnyListener::from_fd(fd).map_err(|source| unusable(role, source)),
            None => listen(address).await,
        }
    }

    /// As [`Inherited::listen`], for what works over TCP only.
    ///
    /// # Errors
    /// As [`Inherited::listen`], and when it is a unix socket.
    pub async fn listen_tcp(
        &mut self,
        role: Role,
        address: &str,
    ) -> Result<TcpListener, ListenError> {
        let Some(fd) = self.take(role) else { return listen_tcp(address).await };
        let listener = AnyListener::from_fd(fd).and_then(AnyListener::into_tcp);
        listener.map_err(|source| unusable(role, source))
    }

    fn take(&mut self, role: Role) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(other, _)| *other == role)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Closes the sockets that are left, and warns that nothing listens on them.
    pub fn close(self, logger: &Logger) {
        let unused = self.sockets.len() + self.useless;
        if unused > 0 {
            logger.warn(format_args!("{unused} sockets of the service manager are not used"));
        }
    }
}

/// Checks that the environment speaks of sockets that there are: taking over a descriptor that is another part's of this
/// process would close it under that part.
fn check_passed() -> Result<(), InheritError> {
    let number = |key| env::var(key).ok().and_then(|text| text.parse::<u32>().ok());
    let descriptors = Path::new(DESCRIPTORS);
    if number("LISTEN_PID") != Some(process::id()) || !descriptors.exists() {
        return Ok(());
    }
    let passed = FIRST_PASSED..FIRST_PASSED.saturating_add(number("LISTEN_FDS").unwrap_or(0));
    let is_socket = |descriptor: &u32| {
        let target = fs::read_link(descriptors.join(descriptor.to_string()));
        target.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    match passed.into_iter().find(|descriptor| !is_socket(descriptor)) {
        Some(descriptor) => Err(InheritError::NotASocket(descriptor)),
        None => Ok(()),
    }
}

fn unusable(role: Role, source: io::Error) -> ListenError {
    ListenError { address: format!("inherited {role} socket"), source }
}
