//! The rows of the table.

mod backlog;
mod both;
mod channels;
mod churn;
mod consume;
mod deferred;
mod fsync;
mod idle;
mod latency;
mod new_channels;
mod publish;
mod restart;
mod slow_disk;

pub(crate) use self::consume::preload;
use crate::workload::Workload;

/// Every workload, in the order of the table.
pub(crate) const ALL: &[Workload] = &[
    publish::MPUB200,
    consume::SUBFIN,
    both::BOTH,
    consume::RDY1,
    publish::PUB1,
    publish::PIPE,
    publish::MPUB200_TLS,
    consume::SUBFIN_TLS,
    publish::MPUB200_SNAPPY,
    consume::SUBFIN_SNAPPY,
    backlog::BACKLOG,
    latency::LATENCY,
    channels::CHANNELS8,
    idle::TOPICS2000,
    idle::CONNS2000,
    idle::IDLE10000,
    deferred::DEFERRED,
    restart::RESTART2M,
    new_channels::NEWCHANNELS,
    churn::CHURN,
    slow_disk::SLOW20,
    slow_disk::SLOW300,
    fsync::FSYNC40,
];

/// Finds a workload by name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_found_by_its_own_name() {
        for workload in ALL {
            assert_eq!(find(workload.name).map(|found| found.title), Some(workload.title));
            assert!(workload.size_quick < workload.size);
        }
    }
}
