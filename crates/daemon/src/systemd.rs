//! Notifications to the service manager, and the sockets that it passes on. Without a service manager none of it has an
//! effect.
//!
//! The protocol is systemd's, which other managers speak too: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `LISTEN_FDS`.

mod inherited;
mod notifier;

pub use self::inherited::{InheritError, Inherited, Role};
pub(crate) use self::notifier::Notifier;
