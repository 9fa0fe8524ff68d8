//! Listeners, and the loop that accepts connections.

mod accept;
mod address;
mod listen;
mod remote;
mod socket;
mod unix;

pub use self::{
    accept::{Listener, accept},
    address::{Address, InvalidPort},
    listen::{AnyListener, ListenError, bind, listen, listen_tcp},
    remote::Remote,
    socket::{Socket, StdSocket, prepare},
};

/// The name the operating system gives this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
