//! The bound on the series of topics and channels.

use std::sync::Arc;

use crate::{
    birth::Birth,
    options::{MetricsOptions, PerTopic},
    topic::{Topic, channel::Channel},
};

/// The number of series that a topic and a channel have.
pub(super) struct Series {
    pub(super) topic: usize,
    pub(super) channel: usize,
}

/// A topic and its channels.
pub(super) type TopicAndChannels = (Arc<Topic>, Vec<Arc<Channel>>);

/// Decides which topics and channels have series of their own: the oldest, up to the bound. So a new one never displaces
/// another.
pub(super) struct Room {
    per_topic: PerTopic,
    /// The youngest topic or channel with series of its own, if any.
    youngest: Option<Birth>,
    /// The number of series of all of them.
    pub(super) series: usize,
}

impl Room {
    /// Shares out the series that `options` allow among `topics`.
    pub(super) fn for_all(
        topics: &[TopicAndChannels],
        options: &MetricsOptions,
        series: &Series,
    ) -> Self {
        let mut room = Self { per_topic: options.per_topic, youngest: None, series: 0 };
        let mut wishes = Vec::new();
        for (topic, channels) in topics {
            if room.wants(topic.name.is_ephemeral()) {
                wishes.push((topic.birth, series.topic));
            }
            let wanted = channels.iter().filter(|channel| room.wants_channel(topic, channel));
            wishes.extend(wanted.map(|channel| (channel.birth, series.channel)));
        }
        wishes.sort_unstable();
        for (birth, count) in wishes {
            if room.series + count > options.series_max {
                break;
            }
            room.series += count;
            room.youngest = Some(birth);
        }
        room
    }

    /// Returns whether a topic has series of its own.
    pub(super) fn has_topic(&self, topic: &Topic) -> bool {
        self.wants(topic.name.is_ephemeral()) && Some(topic.birth) <= self.youngest
    }

    /// Returns whether a channel has series of its own.
    pub(super) fn has_channel(&self, topic: &Topic, channel: &Channel) -> bool {
        self.wants_channel(topic, channel) && Some(channel.birth) <= self.youngest
    }

    fn wants_channel(&self, topic: &Topic, channel: &Channel) -> bool {
        self.wants(topic.name.is_ephemeral() || channel.name.is_ephemeral())
    }

    fn wants(&self, is_ephemeral: bool) -> bool {
        match self.per_topic {
            PerTopic::None => false,
            PerTopic::Durable => !is_ephemeral,
            PerTopic::All => true,
        }
    }
}
