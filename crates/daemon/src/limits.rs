//! The limits that the operating system sets for the process.

use std::{io, thread};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors of a daemon, apart from those that come with every core.
const OWN_DESCRIPTORS: usize = 32;
/// A thread that serves connections polls them, and can be woken.
const DESCRIPTORS_PER_CORE: usize = 4;

/// Raises the limit on open files to the most that this process may have, and returns it (`None`: no limit).
///
/// Every connection and every open segment is a file, and the usual soft limit of 1024 is far below the
/// limit that the same machine allows on request.
///
/// # Errors
/// When the operating system refuses; the limit is then unchanged.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

/// The number of descriptors that this process may have open; `None` for any number.
pub fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The number of descriptors that a daemon needs for itself: standard streams, listeners, its runtimes with one thread a
/// core, and some to spare.
pub fn own_descriptors() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    OWN_DESCRIPTORS + DESCRIPTORS_PER_CORE * cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_limit() {
        let raised = raise_file_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, limit.current), (raised, limit.maximum));
    }
}
