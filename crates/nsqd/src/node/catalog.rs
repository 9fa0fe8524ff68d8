//! The upkeep of `nsqd.dat`.

use std::time::Duration;

use super::{
    Node,
    metadata::{Catalog, CatalogChannel, CatalogTopic},
};
use crate::{lock::lock, topic::Topic};

/// The pause before `nsqd.dat` is written again after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The name of `nsqd.dat` in reports of the health.
pub(super) const CATALOG: &str = "nsqd.dat";

impl Node {
    /// Has `nsqd.dat` written in the background: many changes at once cost one write.
    pub(super) fn write_metadata_after(&self, delay: Duration) {
        self.services.tidier.ask(&self.catalog_errand, delay);
    }

    /// Writes `nsqd.dat`; a failure is logged and retried.
    pub(crate) fn write_metadata(&self) {
        match self.metadata.write(|| self.catalog()) {
            Ok(()) => self.services.health.recovered(CATALOG),
            Err(error) => {
                let path = self.metadata.path().display();
                self.services
                    .logger
                    .error(format_args!("failed to persist metadata to {path} - {error}"));
                self.services.health.failed(CATALOG, &error);
                self.write_metadata_after(RETRY);
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
