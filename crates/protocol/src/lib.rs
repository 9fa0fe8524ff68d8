//! The NSQ wire protocol as pure functions over bytes: commands, frames, names, errors, message ids.
