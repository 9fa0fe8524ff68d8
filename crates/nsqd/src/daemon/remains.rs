//! The end of a stop, when nothing new is accepted any more: connections, background work, the data folder.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use nsq_daemon::{log::Logger, tasks::Tasks};
use tokio::time::{Instant, timeout_at};

use super::error::RunError;
use crate::{chores::queue::Queue, node::Node, session::workers::Workers};

/// How long connections may take to end when nsqd stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Threads that write journals.
const KEEPERS: usize = 2;
/// Threads that flush files: topics share what a disk can do at once.
const SYNCERS: usize = 16;
/// Threads that delete, compact and retry.
const TIDIERS: usize = 2;

/// The parts of an nsqd that remain when nothing new is accepted.
pub(super) struct Remains {
    pub(super) node: Arc<Node>,
    pub(super) tasks: Tasks,
    pub(super) workers: Workers,
    pub(super) chores: Vec<Chores>,
}

impl Remains {
    /// Ends connections, then writes down and flushes everything.
    ///
    /// If that is not complete within `--shutdown-timeout` since the stop was requested, it goes on in the background,
    /// until the process ends. Nothing acknowledged is lost by that: what is written is with the operating system, and the
    /// next start recovers as after a kill. Only `--durability=memory` promises less.
    ///
    /// # Errors
    /// When the last writes failed or are overdue.
    pub(super) async fn stop(self, requested: Instant) -> Result<(), RunError> {
        let Self { node, tasks, workers, chores } = self;
        let time = node.services.options.shutdown_timeout;
        let deadline = requested + time;
        let logger = node.services.logger.clone();
        // Connections that were accepted while the others were being closed.
        node.stop();
        let drain = DRAIN.min(deadline.saturating_duration_since(Instant::now()));
        if let Err(unclean) = tasks.drain(drain).await {
            logger.warn(format_args!("tasks did not end cleanly: {unclean}"));
        }
        let closing = tokio::task::spawn_blocking(move || {
            workers.stop();
            close(&node, chores)
        });
        match timeout_at(deadline, closing).await {
            Ok(closed) => Ok(closed.map_err(RunError::Panicked)??),
            Err(_) => Err(RunError::Overdue(time)),
        }
    }
}

fn close(node: &Node, chores: Vec<Chores>) -> Result<(), nsq_log::Error> {
    for chores in chores {
        chores.stop(&node.services.logger);
    }
    let closed = node.close();
    node.services.logger.info(format_args!("NSQ: bye"));
    closed
}

/// A queue of background work and the threads that serve it.
pub(super) struct Chores {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Chores {
    /// Starts all background work, in the order in which it is to be stopped: the keeper asks the tidier for more.
    pub(super) fn start_all(node: &Node) -> io::Result<Vec<Self>> {
        let services = &node.services;
        Ok(vec![
            Self::start(&services.keeper, "nsqd-journal", KEEPERS)?,
            Self::start(&services.syncer, "nsqd-sync", SYNCERS)?,
            Self::start(&services.tidier, "nsqd-tidy", TIDIERS)?,
        ])
    }

    fn start(queue: &Arc<Queue>, name: &str, count: usize) -> io::Result<Self> {
        Ok(Self { queue: queue.clone(), threads: queue.serve(name, count)? })
    }

    /// Waits until everything that was asked for is done.
    fn stop(self, logger: &Logger) {
        self.queue.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                logger.error(format_args!("a background thread panicked"));
            }
        }
    }
}
