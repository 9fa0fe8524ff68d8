//! What every topic and connection of a node shares.

use nsq_daemon::log::Logger;

use crate::{
    clock::Clock, deadlines::Deadlines, health::Health, keeper::Keeper, lookup::Lookup,
    mender::Mender, options::Options, syncer::Syncer,
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
    pub(crate) lookup: Lookup,
    pub(crate) health: Health,
}
