//! The division of the process's descriptors among clients, files and everything else.

use nsq_daemon::limits;

use super::ShareOptions;

/// The bounds of the number of segment files kept open, whatever the limit of descriptors.
const FILES_MIN: usize = 8;
const FILES_MAX: usize = 4096;
/// The most descriptors for files that are opened for one use and for connections to nsqlookupd, auth servers and statsd.
const OTHERS_MAX: usize = 1024;
/// The bounds of the number of auth servers that are asked at a time.
const AUTH_QUERIES_MIN: usize = 4;
const AUTH_QUERIES_MAX: usize = 64;

/// The descriptors of an nsqd.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// For connections of clients.
    pub(crate) clients: usize,
    /// For segment files that are kept open.
    pub(crate) files: usize,
    /// For connections to auth servers.
    pub(crate) auth_queries: usize,
}

impl Descriptors {
    /// Divides the descriptors of this process.
    pub(crate) fn of_process(options: &ShareOptions) -> Self {
        Self::of(limits::file_limit(), limits::own_descriptors(), options.descriptor_reserve)
    }

    /// Divides `limit` descriptors, of which the process itself needs `own`. A `reserve` of 0 stands for the default.
    fn of(limit: Option<u64>, own: usize, reserve: u64) -> Self {
        let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
        let limit = limit.map_or(usize::MAX, size);
        let quarter = limit / 4;
        let files = |count: usize| quarter.min(count).clamp(FILES_MIN, FILES_MAX);
        let (files, reserve) = match size(reserve) {
            0 => (files(FILES_MAX), files(FILES_MAX) + (limit / 8).min(OTHERS_MAX) + own),
            reserve => (files(reserve / 2), reserve),
        };
        Self {
            // However much is held back, nsqd can be talked to.
            clients: limit.saturating_sub(reserve).max(quarter),
            files,
            auth_queries: (limit / 16).clamp(AUTH_QUERIES_MIN, AUTH_QUERIES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_enough_to_files_and_everything_else() {
        for (limit, clients, files, auth_queries) in [
            (64, 16, 16, 4),
            (256, 120, 64, 16),
            (1024, 600, 256, 64),
            (20_000, 14_840, 4096, 64),
            (1 << 20, (1 << 20) - 5160, 4096, 64),
        ] {
            let expected = Descriptors { clients, files, auth_queries };
            assert_eq!(Descriptors::of(Some(limit), 40, 0), expected, "{limit}");
        }
        assert_eq!(Descriptors::of(None, 40, 0).clients, usize::MAX - 5160);
    }

    #[test]
    fn a_reserve_is_taken_as_given_but_clients_keep_a_quarter() {
        let divided = |reserve| Descriptors::of(Some(1000), 40, reserve);
        assert_eq!((divided(100).clients, divided(100).files), (900, 50));
        assert_eq!((divided(900).clients, divided(900).files), (250, 250));
        assert_eq!(divided(u64::MAX).clients, 250);
    }
}
