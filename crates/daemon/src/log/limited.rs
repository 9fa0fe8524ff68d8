//! Lines that a peer can cause as often as it likes: at most so many a second of each kind.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    Logger,
    level::Level,
    throttle::{Admission, Throttle},
};

/// Lines about all clients together may be so many times as frequent as those about one.
const SHARED_FACTOR: u32 = 10;

/// Writes lines about one peer, or about all of a listener's, and suppresses those of a kind beyond the logger's
/// [rate](Logger::rate). How many were suppressed is reported at the end of each second, and when the last clone is
/// dropped.
#[derive(Clone)]
pub struct Limited {
    shared: Arc<Shared>,
}

struct Shared {
    logger: Logger,
    about: String,
    /// 0 for no bound.
    lines_max: u32,
    kinds: Mutex<Vec<Kind>>,
}

struct Kind {
    name: &'static str,
    level: Level,
    throttle: Throttle,
}

impl Limited {
    /// A log about one peer, which reports call `about`.
    pub fn to_peer(logger: &Logger, about: impl Into<String>) -> Self {
        Self::new(logger, about.into(), logger.rate())
    }

    /// A log about all peers together, which reports call `about`: ten times as many lines may be written.
    pub fn to_all(logger: &Logger, about: impl Into<String>) -> Self {
        Self::new(logger, about.into(), logger.rate().saturating_mul(SHARED_FACTOR))
    }

    fn new(logger: &Logger, about: String, lines_max: u32) -> Self {
        let shared = Shared { logger: logger.clone(), about, lines_max, kinds: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Writes a line of a kind at level info, unless there are too many.
    pub fn info(&self, kind: &'static str, text: fmt::Arguments<'_>) {
        self.log(Level::Info, kind, text);
    }

    /// Writes a line of a kind at level warning, unless there are too many.
    pub fn warn(&self, kind: &'static str, text: fmt::Arguments<'_>) {
        self.log(Level::Warn, kind, text);
    }

    /// Writes a line of a kind at level error, unless there are too many.
    pub fn error(&self, kind: &'static str, text: fmt::Arguments<'_>) {
        self.log(Level::Error, kind, text);
    }

    /// Writes a line of a kind, unless there are too many. Nothing is formatted if its level is disabled.
    pub fn log(&self, level: Level, kind: &'static str, text: fmt::Arguments<'_>) {
        let Shared { logger, lines_max, .. } = &*self.shared;
        if !logger.is_enabled(level) {
            return;
        }
        if *lines_max == 0 {
            return logger.log(level, text);
        }
        match self.shared.admit(level, kind, Instant::now()) {
            Admission::Pass { suppressed } => {
                self.shared.report(level, kind, suppressed);
                logger.log(level, text);
            }
            Admission::Begin(end) => {
                logger.count_suppressed(true);
                self.report_at(end);
            }
            Admission::Suppress => logger.count_suppressed(false),
        }
    }

    /// Reports at the end of a period, even if no further line comes.
    fn report_at(&self, end: Instant) {
        // Outside a runtime, the next line brings the report, or the end of the peer.
        let Ok(runtime) = Handle::try_current() else { return };
        let shared = Arc::downgrade(&self.shared);
        runtime.spawn(async move {
            sleep_until(end).await;
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.report_each(|throttle| throttle.expire(end));
            }
        });
    }
}

impl Shared {
    fn admit(&self, level: Level, name: &'static str, now: Instant) -> Admission {
        let mut kinds = self.lock();
        let at = kinds.iter().position(|kind| kind.name == name && kind.level == level);
        let at = at.unwrap_or_else(|| {
            kinds.push(Kind { name, level, throttle: Throttle::new(self.lines_max, now) });
            kinds.len() - 1
        });
        kinds[at].throttle.admit(now)
    }

    /// Reports the suppressed lines of each kind.
    fn report_each(&self, mut take: impl FnMut(&mut Throttle) -> u64) {
        let mut kinds = self.lock();
        let taken = kinds.iter_mut().map(|kind| (kind.level, kind.name, take(&mut kind.throttle)));
        let taken: Vec<_> = taken.collect();
        drop(kinds);
        for (level, name, suppressed) in taken {
            self.report(level, name, suppressed);
        }
    }

    fn report(&self, level: Level, kind: &str, suppressed: u64) {
        if suppressed > 0 {
            let text = format_args!("{}: {kind}: {suppressed} more suppressed", self.about);
            self.logger.log(level, text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.report_each(Throttle::take);
    }
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("about", &self.shared.about).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::log::Capture;

    fn logger(rate: u32) -> (Logger, Capture) {
        let capture = Capture::new();
        let logger = Logger::with_sink("", Level::Info, capture.clone());
        logger.change_rate(rate);
        (logger, capture)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_suppressed_is_reported_when_the_second_ends() {
        let (logger, capture) = logger(2);
        let log = Limited::to_peer(&logger, "client(x)");
        for number in 0..5 {
            log.error("E_FIN_FAILED", format_args!("fin {number}"));
        }
        log.error("E_REQ_FAILED", format_args!("req"));
        let first = ["ERROR: fin 0", "ERROR: fin 1", "ERROR: req"];
        assert_eq!(capture.texts(), first);
        sleep(Duration::from_secs(2)).await;
        let report = "ERROR: client(x): E_FIN_FAILED: 3 more suppressed";
        assert_eq!(capture.texts()[3..], [report]);
        log.error("E_FIN_FAILED", format_args!("again"));
        assert_eq!(capture.texts()[4..], ["ERROR: again"]);
        assert_eq!((logger.suppressed(), logger.rate_reached()), (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_suppressed_is_reported_when_the_peer_is_gone() {
        let (logger, capture) = logger(1);
        let log = Limited::to_peer(&logger, "client(x)");
        let clone = log.clone();
        log.warn("k", format_args!("1"));
        log.warn("k", format_args!("2"));
        drop(log);
        clone.warn("k", format_args!("3"));
        drop(clone);
        assert_eq!(capture.texts(), ["WARNING: 1", "WARNING: client(x): k: 2 more suppressed"]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(capture.texts().len(), 2, "it is reported once");
    }

    #[test]
    fn outside_a_runtime_the_next_line_brings_the_report() {
        let (logger, capture) = logger(1);
        let log = Limited::to_all(&logger, "TCP");
        for number in 0..12 {
            log.info("new clients", format_args!("{number}"));
        }
        assert_eq!(capture.texts().len(), 10);
        drop(log);
        assert_eq!(capture.texts()[10..], ["INFO: TCP: new clients: 2 more suppressed"]);
    }

    #[test]
    fn a_rate_of_zero_is_no_bound_and_a_disabled_level_counts_nothing() {
        let (unbounded, capture) = logger(0);
        let log = Limited::to_peer(&unbounded, "x");
        (0..1000).for_each(|number| log.info("k", format_args!("{number}")));
        assert_eq!((capture.texts().len(), unbounded.suppressed()), (1000, 0));
        let (logger, capture) = logger(1);
        logger.change_level(Level::Warn);
        let log = Limited::to_peer(&logger, "x");
        (0..1000).for_each(|number| log.info("k", format_args!("{number}")));
        assert_eq!((capture.texts().len(), logger.suppressed()), (0, 0));
    }
}
