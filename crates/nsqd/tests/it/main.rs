//! nsqd as its clients see it: over real sockets, and as a real process.

mod delivery;
mod hostile;
mod killed;
mod process;
mod protocol;
mod support;
