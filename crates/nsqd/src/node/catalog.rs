//! The upkeep of `nsqd.dat`.

use std::time::Duration;

use super::{
    Node,
    metadata::{Catalog, CatalogChannel, CatalogTopic},
};
use crate::{lock::lock, topic::Topic};

/// How long changes gather before `nsqd.dat` is written: it is written as a whole, and topics often come in flocks.
const GATHER: Duration = Duration::from_millis(100);
/// The pause before `nsqd.dat` is written again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The name of `nsqd.dat` in reports of the health.
pub(super) const CATALOG: &str = "nsqd.dat";

impl Node {
    /// Has `nsqd.dat` written in the background: many changes at once cost one write.
    pub(super) fn write_metadata_soon(&self) {
        self.services.tidier.ask(&self.catalog_errand, GATHER);
    }

    /// Writes `nsqd.dat`, or puts that off while it rests. A stop does not wait.
    pub(super) fn keep_metadata(&self) {
        let rest = self.metadata.rest_left(self.services.clock.now());
        if rest.is_zero() || self.is_stopping() {
            self.write_metadata();
        } else {
            self.services.tidier.ask(&self.catalog_errand, rest);
        }
    }

    /// Has `nsqd.dat` written again after a failure.
    pub(super) fn retry_metadata(&self) {
        self.services.tidier.ask(&self.catalog_errand, RETRY);
    }

    /// Writes `nsqd.dat`; a failure is logged and retried.
    pub(crate) fn write_metadata(&self) {
        match self.metadata.write(|| self.catalog(), self.services.clock.now()) {
            Ok(()) => self.services.health.recovered(CATALOG),
            Err(error) => {
                let path = self.metadata.path().display();
                self.services
                    .logger
                    .error(format_args!("failed to persist metadata to {path} - {error}"));
                self.services.health.failed(CATALOG, &error);
                self.retry_metadata();
            }
        }
    }

    fn catalog(&self) -> Catalog {
        let topics = self.all_topics();
        let durable = topics.iter().filter(|topic| !topic.name.is_ephemeral());
        let isolated = lock(&self.isolated);
        let all = durable.map(|topic| catalog_topic(topic)).chain(isolated.values().cloned());
        Catalog::new(all.collect())
    }
}

fn catalog_topic(topic: &Topic) -> CatalogTopic {
    let channels = topic.channels();
    let durable = channels.iter().filter(|channel| !channel.name.is_ephemeral());
    let channels: Vec<_> = durable
        .map(|channel| CatalogChannel {
            name: channel.name.to_string(),
            paused: channel.is_paused(),
        })
        .collect();
    CatalogTopic {
        name: topic.name.to_string(),
        paused: topic.is_paused(),
        channels: (!channels.is_empty()).then_some(channels),
    }
}
