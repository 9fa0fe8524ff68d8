//! The service manager: what it is told, and the sockets that it passes on. Without one, nothing here does anything.
//!
//! The protocol is systemd's, which other managers speak too: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `LISTEN_FDS`.

mod inherited;
mod notifier;

pub use self::{
    inherited::{InheritError, Inherited, Role},
    notifier::Notifier,
};
