//! Giving topics back the channels that their journals have lost.

use std::path::Path;

use nsq_log::{ChannelState, Event, Opened, RecoveredTopic};
use nsq_protocol::{ChannelName, TopicName};

use crate::node::metadata::{Catalog, CatalogChannel};

/// Gives topics whose journal was lost, wholly or in part, the channels that `nsqd.dat` still lists. Each starts at
/// the first message that may be waiting for it: messages come again rather than never. Answers which topics got
/// any.
pub(crate) fn adopt_channels(opened: &mut Opened, catalog: &Catalog) -> Vec<TopicName> {
    let mut changed = Vec::new();
    for topic in &mut opened.topics {
        let listed = catalog.topics.iter().flatten().find(|it| it.name == topic.name.as_str());
        let Some(listed) = listed else { continue };
        let cut = opened.report.iter().any(|notice| {
            let lost =
                matches!(notice.event, Event::JournalCut { .. } | Event::JournalReset { .. });
            lost && is_in(&notice.path, topic)
        });
        let empty = topic.state.channels.is_empty();
        if !cut && !empty {
            continue;
        }
        let start = if empty { topic.state.fanout } else { topic.log.first() };
        let before = topic.state.channels.len();
        for listed in listed.channels.iter().flatten() {
            adopt(topic, listed, start);
        }
        if topic.state.channels.len() > before {
            topic.state.paused |= listed.paused;
            changed.push(topic.name.clone());
        }
    }
    changed
}

fn adopt(topic: &mut RecoveredTopic, listed: &CatalogChannel, start: u64) {
    let Ok(name) = ChannelName::new(&listed.name) else { return };
    let channels = &mut topic.state.channels;
    if channels.iter().any(|(known, _)| *known == name) {
        return;
    }
    let (end, cursor, paused) = (start, start, listed.paused);
    channels.push((name, ChannelState { end, cursor, paused, ..ChannelState::default() }));
}

/// Whether a file lies in the folder of a topic.
fn is_in(path: &Path, topic: &RecoveredTopic) -> bool {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.and_then(|folder| folder.strip_suffix(".topic")) == Some(topic.name.as_str())
}
