//! Giving topics back the channels that their journals have lost.

use std::{collections::BTreeMap, path::Path};

use nsq_log::{ChannelState, Event, Notice, RecoveredTopic};
use nsq_protocol::{ChannelName, TopicName};

use super::metadata::{Catalog, CatalogChannel};

/// Gives topics whose journal was lost, wholly or in part, the channels that `nsqd.dat` still lists. Each starts at
/// the first message that may be waiting for it: messages come again rather than never. Returns the channels that
/// were added, by topic.
///
/// A journal that is whole is believed, also when it lists no channels: they were deleted.
pub(crate) fn adopt_channels(
    topics: &mut [RecoveredTopic],
    report: &[Notice],
    catalog: &Catalog,
) -> BTreeMap<TopicName, Vec<ChannelName>> {
    let mut adopted = BTreeMap::new();
    for topic in topics {
        let listed = catalog.topics.iter().flatten().find(|it| it.name == topic.name.as_str());
        let Some(listed) = listed.filter(|_| lost_its_journal(topic, report)) else { continue };
        let whole = topic.state.channels.is_empty();
        let start = if whole { topic.state.fanout } else { topic.log.first() };
        let channels = listed.channels.iter().flatten();
        let names: Vec<_> = channels.filter_map(|listed| adopt(topic, listed, start)).collect();
        if !names.is_empty() {
            topic.state.paused |= listed.paused;
            adopted.insert(topic.name.clone(), names);
        }
    }
    adopted
}

fn lost_its_journal(topic: &RecoveredTopic, report: &[Notice]) -> bool {
    report.iter().any(|notice| {
        let lost = matches!(notice.event, Event::JournalCut { .. } | Event::JournalReset { .. });
        lost && topic_of(&notice.path) == Some(topic.name.as_str())
    })
}

fn adopt(topic: &mut RecoveredTopic, listed: &CatalogChannel, start: u64) -> Option<ChannelName> {
    let name = ChannelName::new(&listed.name).ok()?;
    let channels = &mut topic.state.channels;
    if channels.iter().any(|(known, _)| *known == name) {
        return None;
    }
    let (end, cursor, paused) = (start, start, listed.paused);
    channels.push((name.clone(), ChannelState { end, cursor, paused, ..ChannelState::default() }));
    Some(name)
}

/// The name of the topic that a file belongs to; `None` for a file of the node.
pub(super) fn topic_of(path: &Path) -> Option<&str> {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.and_then(|folder| folder.strip_suffix(".topic"))
}
