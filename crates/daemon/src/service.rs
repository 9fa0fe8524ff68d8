//! The life of a daemon as a service: start, reload, signs of life and stop, as signals and a service manager ask for
//! them.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{
    log::Logger,
    signals::{self, Hangups, Stop},
    systemd::{InheritError, Inherited, Notifier},
};

/// The interval of notices to the service manager that the start is still in progress.
const STARTING: Duration = Duration::from_secs(5);
/// The time that each of them extends the start by.
const STARTING_PATIENCE: Duration = Duration::from_secs(30);
/// The state of a running daemon, as `systemctl status` shows it.
const SERVING: &str = "Serving";

/// Resolves when a stop is requested.
pub type StopRequested = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A daemon that is asked to act while it runs.
pub trait Control {
    /// Reads files again that may have changed.
    fn reload(&self) -> impl Future<Output = ()>;

    /// Resolves if the daemon makes progress, on every thread that serves clients.
    fn progress(&self) -> impl Future<Output = ()>;
}

/// The process of a daemon, as its signals and its service manager see it.
pub struct Service {
    logger: Logger,
    notifier: Notifier,
    inherited: Inherited,
    stop: Pin<Box<dyn Future<Output = Stop> + Send>>,
    hangups: Hangups,
}

impl Service {
    /// Catches the signals from now on, and takes up the sockets that the service manager has opened.
    ///
    /// # Errors
    /// When the environment is not that of a service, or a signal cannot be caught.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn new(logger: Logger) -> Result<Self, InheritError> {
        signals::ignore_harmless()?;
        Ok(Self {
            notifier: Notifier::from_env().unwrap_or_else(|error| {
                logger.warn(format_args!("the service manager will not be notified - {error}"));
                Notifier::default()
            }),
            inherited: Inherited::from_env()?,
            logger,
            stop: Box::pin(signals::stop_requested()?),
            hangups: signals::hangups()?,
        })
    }

    /// The sockets that the service manager has opened.
    pub fn take_sockets(&mut self) -> Inherited {
        std::mem::take(&mut self.inherited)
    }

    /// Waits for a start, and tells the service manager meanwhile that it takes its time, with a `status` for people.
    /// Returns `None` if a stop is requested before the start is complete, which is then given up.
    pub async fn start<T>(&mut self, status: &str, starting: impl Future<Output = T>) -> Option<T> {
        let mut starting = pin!(starting);
        // At once, whatever comes first: the manager is not left to guess.
        self.notifier.starting(status, STARTING_PATIENCE);
        let mut reminders = interval_at(Instant::now() + STARTING, STARTING);
        loop {
            tokio::select! {
                biased;
                started = &mut starting => return Some(started),
                stop = &mut self.stop => {
                    self.notifier.stopping();
                    self.logger.info(format_args!("stopping on {stop} while starting"));
                    return None;
                }
                // A later one asks for the files that are being read.
                () = self.hangups.next() => {}
                _ = reminders.tick() => self.notifier.starting(status, STARTING_PATIENCE),
            }
        }
    }

    /// Runs a daemon that has started. `run` takes the future that resolves when a stop is requested.
    pub async fn run<F: Future>(
        self,
        control: impl Control,
        run: impl FnOnce(StopRequested) -> F,
    ) -> F::Output {
        let Self { logger, notifier, stop, hangups, .. } = self;
        let notifier = Arc::new(notifier);
        let stopping = CancellationToken::new();
        let stop = {
            let (notifier, stopping) = (Arc::clone(&notifier), stopping.clone());
            Box::pin(async move {
                let stop = stop.await;
                logger.info(format_args!("stopping on {stop}"));
                notifier.stopping();
                stopping.cancel();
            })
        };
        notifier.ready(SERVING);
        // A daemon that stops reads no files again, but is watched to its end.
        let reload = stopping.run_until_cancelled(reload(hangups, &control, &notifier));
        let attend = async { tokio::join!(reload, keep_alive(&control, &notifier)) };
        tokio::select! {
            ran = run(stop) => ran,
            (_, never) = attend => match never {},
        }
    }
}

/// Reloads on every SIGHUP.
async fn reload(mut hangups: Hangups, control: &impl Control, notifier: &Notifier) -> Infallible {
    loop {
        hangups.next().await;
        notifier.reloading();
        control.reload().await;
        notifier.ready(SERVING);
    }
}

/// Gives signs of life, twice as often as they are wanted, while there is progress.
async fn keep_alive(control: &impl Control, notifier: &Notifier) -> Infallible {
    let Some(within) = notifier.watchdog() else { return pending().await };
    let mut due = interval(within / 2);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        // On a thread of the runtime, where most of the daemon's work is done.
        if tokio::spawn(std::future::ready(())).await.is_ok() {
            control.progress().await;
            notifier.alive();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        os::unix::{ffi::OsStrExt, net::UnixDatagram},
    };

    use tempfile::TempDir;
    use tokio::{sync::Semaphore, time::sleep};

    use super::*;
    use crate::log::{Capture, Level};

    /// The service manager's end of the notifications.
    struct Manager {
        socket: UnixDatagram,
        folder: TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("s")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { socket, folder }
        }

        fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
            let path = self.folder.path().join("s");
            Notifier::new(Some(path.as_os_str().as_bytes()), watchdog).unwrap()
        }

        /// The notifications that have come since the last time.
        fn heard(&self) -> Vec<String> {
            let mut text = [0; 4096];
            let mut heard = Vec::new();
            while let Ok(size) = self.socket.recv(&mut text) {
                heard.push(String::from_utf8_lossy(&text[..size]).into_owned());
            }
            heard
        }
    }

    fn service(
        manager: &Manager,
        watchdog: Option<Duration>,
        stop: impl Future<Output = Stop> + Send + 'static,
    ) -> Service {
        Service {
            logger: Logger::with_sink("", Level::Info, Capture::new()),
            notifier: manager.notifier(watchdog),
            inherited: Inherited::default(),
            stop: Box::pin(stop),
            hangups: signals::hangups().unwrap(),
        }
    }

    /// A daemon whose threads make progress as long as there are permits.
    struct Threads(Semaphore);

    impl Control for &Threads {
        async fn reload(&self) {}

        async fn progress(&self) {
            self.0.acquire().await.unwrap().forget();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_long_is_reported_again_and_again() {
        let manager = Manager::new();
        let mut service = service(&manager, None, pending());
        let started = service.start("Recovering", sleep(STARTING * 2 + STARTING / 2)).await;
        assert_eq!(started, Some(()));
        let reminder = "STATUS=Recovering\nEXTEND_TIMEOUT_USEC=30000000";
        assert_eq!(manager.heard(), [reminder; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_start_to_be_complete() {
        let manager = Manager::new();
        let mut service = service(&manager, None, ready(Stop::Terminate));
        let started = service.start("Recovering", pending::<()>()).await;
        assert_eq!(started, None);
        assert_eq!(manager.heard().last().unwrap(), "STOPPING=1\nSTATUS=Stopping");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_twice_as_often_as_it_wants_while_threads_make_progress() {
        let manager = Manager::new();
        let watchdog = Duration::from_secs(10);
        let threads = Threads(Semaphore::new(3));
        let service = service(&manager, Some(watchdog), pending());
        // It is watched while it stops, too.
        service.run(&threads, |_| sleep(watchdog * 10)).await;
        let heard = manager.heard();
        assert_eq!(heard, ["READY=1\nSTATUS=Serving", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
        threads.0.add_permits(1000);
        let service = self::service(&manager, Some(watchdog), pending());
        service.run(&threads, |_| sleep(watchdog * 2 + watchdog / 4)).await;
        assert_eq!(manager.heard().len(), 1 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_announced_before_it_is_passed_on() {
        let manager = Manager::new();
        let service = service(&manager, None, ready(Stop::Interrupt));
        let threads = Threads(Semaphore::new(0));
        let heard = service.run(&threads, async |stop| {
            stop.await;
            manager.heard()
        });
        assert_eq!(heard.await.last().unwrap(), "STOPPING=1\nSTATUS=Stopping");
    }
}
