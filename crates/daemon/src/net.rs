//! Listeners, the admission of connections, and the loop that accepts them.

mod accept;
mod address;
mod admission;
mod admissions;
mod listen;
mod remote;
mod socket;
mod unix;

pub(crate) use self::socket::is_gone;
pub use self::{
    accept::{Gate, Listener, accept},
    address::{Address, InvalidPort},
    admission::{Admission, Full, Permit, Slots},
    admissions::{Admissions, ClientLimit},
    listen::{AnyListener, ListenError, bind, listen, listen_tcp},
    remote::Remote,
    socket::{Socket, StdSocket, prepare},
};

/// The name the operating system gives this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
