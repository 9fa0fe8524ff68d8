//! The options, clock, log and background threads that all topics of a node share.

use std::sync::Arc;

use nsq_daemon::log::Logger;

use crate::{
    chores::{deadlines::Deadlines, health::Health, queue::Queue},
    clock::Clock,
    meters::Meters,
    options::Options,
};

/// The options, clock, log and background work of a node.
pub(crate) struct Services {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) logger: Logger,
    pub(crate) deadlines: Deadlines,
    pub(crate) health: Health,
    pub(crate) meters: Meters,
    /// Writes journals.
    pub(crate) keeper: Arc<Queue>,
    /// Flushes files.
    pub(crate) syncer: Arc<Queue>,
    /// Deletes, replaces and retries: work that may take long and that nothing else waits for.
    pub(crate) tidier: Arc<Queue>,
}
