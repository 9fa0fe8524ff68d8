//! Notifications to the service manager.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// How long a notification may wait for a service manager that is busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reports the daemon's state to the service manager, if there is one. A notification that fails is dropped.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    manager: Option<Manager>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The notifier for the service manager that the environment names.
    ///
    /// # Errors
    /// When it names one that cannot be used.
    pub(crate) fn from_env() -> io::Result<Self> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let number = |key| env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| micros > 0 && is_for_us);
        Self::new(name.as_deref().map(OsStr::as_bytes), watchdog.map(Duration::from_micros))
    }

    /// A notifier for the service manager at this address.
    pub(crate) fn new(manager: Option<&[u8]>, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Self { manager: manager.map(Manager::at).transpose()?, watchdog })
    }

    /// The time within which the service manager wants a sign of life, again and again; `None` if it wants none.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.manager.as_ref().and(self.watchdog)
    }

    /// The start is in progress, and will not be over before `within` has passed unless this is said again.
    pub(crate) fn starting(&self, status: impl Display, within: Duration) {
        self.send(format_args!("STATUS={status}\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// The start, or a reload, is complete.
    pub(crate) fn ready(&self, status: impl Display) {
        self.send(format_args!("READY=1\nSTATUS={status}"));
    }

    /// A reload has begun.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(format_args!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The stop has begun.
    pub(crate) fn stopping(&self) {
        self.send(format_args!("STOPPING=1\nSTATUS=Stopping"));
    }

    /// A sign of life.
    pub(crate) fn alive(&self) {
        self.send(format_args!("WATCHDOG=1"));
    }

    fn send(&self, text: impl Display) {
        if let Some(Manager { socket, address }) = &self.manager {
            let _ = socket.send_to_addr(text.to_string().as_bytes(), address);
        }
    }
}

impl Manager {
    /// The service manager at a path, or at an abstract name, which is written with an `@`.
    fn at(name: &[u8]) -> io::Result<Self> {
        let address = match name {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, address })
    }
}
