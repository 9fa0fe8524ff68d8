//! What every topic and connection of a node shares.

use nsq_daemon::log::Logger;

use crate::{
    chores::deadlines::Deadlines, chores::health::Health, chores::keeper::Keeper,
    chores::mender::Mender, chores::syncer::Syncer, clock::Clock, options::Options,
};

/// The services of a node.
pub(crate) struct Services {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) logger: Logger,
    pub(crate) deadlines: Deadlines,
    pub(crate) keeper: Keeper,
    pub(crate) syncer: Syncer,
    pub(crate) mender: Mender,
    pub(crate) health: Health,
}
