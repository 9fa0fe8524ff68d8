//! The first start on a data folder of the Go nsqd: its disk queues are imported.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nsq_daemon::log::Logger;
use nsq_log::{
    Disk, Notice,
    import::{Import, ImportError, ImportReport, ImportedQueue, ListedTopic, SkippedQueue},
};
use nsq_protocol::{ChannelName, TopicName};

use super::metadata::{Catalog, CatalogTopic};

/// Imports the queue files in the data folder, if there are any.
///
/// # Errors
/// When they cannot be imported: nsqd must not run beside messages that it does not deliver.
pub(super) fn import_queues(
    path: &Path,
    disk: &Arc<dyn Disk>,
    options: nsq_log::Options,
    clocks: nsq_log::Clocks,
    catalog: &Catalog,
    logger: &Logger,
) -> Result<(), ImportError> {
    let listed = listed_topics(catalog);
    let import = Import { path, disk: Arc::clone(disk), options, clocks, listed: &listed };
    let Some(imported) = import.run(&mut ImportLog(logger))? else { return Ok(()) };
    let aside = imported.aside.display();
    match imported.messages {
        Some(messages) => logger.info(format_args!(
            "IMPORT: {messages} messages of the Go nsqd imported, its files moved to {aside}"
        )),
        None => logger.info(format_args!(
            "IMPORT: completed after an interruption, the files of the Go nsqd moved to {aside}"
        )),
    }
    Ok(())
}

/// Logs what becomes of each queue.
struct ImportLog<'a>(&'a Logger);

impl ImportReport for ImportLog<'_> {
    fn imported(&mut self, queue: &ImportedQueue) {
        if queue.findings.is_empty() {
            self.0.info(format_args!("IMPORT: {queue}"));
        } else {
            self.0.warn(format_args!("IMPORT: {queue}"));
        }
    }

    fn damaged(&mut self, notice: &Notice) {
        self.0.warn(format_args!("{notice}"));
    }

    fn skipped(&mut self, queue: &SkippedQueue) {
        self.0.warn(format_args!("IMPORT: {queue}"));
    }
}

/// The valid names in `nsqd.dat`.
fn listed_topics(catalog: &Catalog) -> BTreeMap<TopicName, ListedTopic> {
    let topics = catalog.topics.iter().flatten();
    topics.filter_map(|topic| Some((TopicName::new(&topic.name).ok()?, listed(topic)))).collect()
}

fn listed(topic: &CatalogTopic) -> ListedTopic {
    let channels = topic.channels.iter().flatten();
    let channels = channels
        .filter_map(|channel| Some((ChannelName::new(&channel.name).ok()?, channel.paused)));
    ListedTopic { paused: topic.paused, channels: channels.collect() }
}
