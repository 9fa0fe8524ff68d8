//! A walk over the topics and channels: the figures of each, and their sums.

use std::{sync::Arc, time::Duration};

use nsq_daemon::metrics::Labels;

use crate::{
    node::Node,
    options::{MetricsOptions, PerTopic},
    topic::{
        Topic, TopicCounts,
        channel::{Channel, ChannelCounts},
    },
};

/// The most reads from disk for one page, to find out the age of messages that are not in memory.
const LOADS_MAX: usize = 100;

/// The number of series that a topic and a channel have.
pub(super) struct Series {
    pub(super) topic: usize,
    pub(super) channel: usize,
}

/// The figures of all topics and channels.
#[derive(Default)]
pub(super) struct Survey {
    /// The topics with series of their own.
    pub(super) topics: Vec<TopicRow>,
    /// The number of those series.
    pub(super) series: usize,
    pub(super) totals: Totals,
    pub(super) omitted_topics: usize,
    pub(super) omitted_channels: usize,
}

/// The figures of a topic.
pub(super) struct TopicRow {
    pub(super) labels: Labels,
    pub(super) counts: TopicCounts,
    /// `None` for an ephemeral topic.
    pub(super) disk_bytes: Option<u64>,
    /// `None` while it is not known.
    pub(super) age: Option<Duration>,
    /// The number of channels, with or without series of their own.
    pub(super) channel_count: usize,
    /// The channels with series of their own.
    pub(super) channels: Vec<ChannelRow>,
}

/// The figures of a channel.
pub(super) struct ChannelRow {
    pub(super) labels: Labels,
    pub(super) counts: ChannelCounts,
    /// `None` while it is not known.
    pub(super) age: Option<Duration>,
}

/// Sums over all topics and channels, with or without series of their own.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) topics: usize,
    pub(super) channels: usize,
    pub(super) consumers: usize,
    /// Messages that wait at topics.
    pub(super) at_topics: u64,
    pub(super) ready: u64,
    pub(super) in_flight: u64,
    pub(super) deferred: u64,
    pub(super) disk_bytes: u64,
    /// The age of the oldest message of all.
    pub(super) age: Duration,
}

impl Survey {
    /// Visits all topics of `node`. The oldest topics and channels have series of their own, as far as there may be
    /// some: so a new one takes nobody's.
    pub(super) fn of(node: &Node, series: &Series) -> Self {
        let mut topics = node.all_topics();
        topics.sort_by_key(|topic| topic.birth);
        let options = &node.services.options.metrics;
        let room = Room { options, left: options.series_max, series };
        let mut walk = Walk { node, room, loads: LOADS_MAX, survey: Self::default() };
        topics.iter().for_each(|topic| walk.visit(topic));
        walk.survey.series = options.series_max - walk.room.left;
        walk.survey
    }
}

/// The room for series.
struct Room<'a> {
    options: &'a MetricsOptions,
    left: usize,
    series: &'a Series,
}

impl Room<'_> {
    /// Takes room for the series of a topic; returns whether it gets them.
    fn take_topic(&mut self, is_ephemeral: bool) -> bool {
        self.take(self.series.topic, is_ephemeral)
    }

    /// Takes room for the series of a channel; returns whether it gets them.
    fn take_channel(&mut self, is_ephemeral: bool) -> bool {
        self.take(self.series.channel, is_ephemeral)
    }

    fn take(&mut self, count: usize, is_ephemeral: bool) -> bool {
        let wanted = match self.options.per_topic {
            PerTopic::None => false,
            PerTopic::Durable => !is_ephemeral,
            PerTopic::All => true,
        };
        let left = self.left.checked_sub(count).filter(|_| wanted);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

struct Walk<'a> {
    node: &'a Node,
    room: Room<'a>,
    /// Reads from disk that are left.
    loads: usize,
    survey: Survey,
}

impl Walk<'_> {
    fn visit(&mut self, topic: &Topic) {
        let is_ephemeral = topic.name.is_ephemeral();
        let counts = topic.counts();
        let disk_bytes = (!is_ephemeral).then(|| topic.log.disk_bytes());
        let published =
            counts.oldest.map(|seq| topic.oldest.timestamp_ns(&topic.log, seq, &mut self.loads));
        let age = self.age(published);
        let totals = &mut self.survey.totals;
        totals.topics += 1;
        totals.at_topics += counts.depth;
        totals.disk_bytes += disk_bytes.unwrap_or(0);

        let has_series = self.room.take_topic(is_ephemeral);
        self.survey.omitted_topics += usize::from(!has_series);
        let labels = Labels::new("topic", topic.name.as_str());
        let (channel_count, channels) = self.visit_channels(topic, has_series.then_some(&labels));
        if has_series {
            let row = TopicRow { labels, counts, disk_bytes, age, channel_count, channels };
            self.survey.topics.push(row);
        }
    }

    /// Visits the channels of a topic; returns how many there are, and those with series of their own. They can have some
    /// if the topic has: then `labels` are those of the topic.
    fn visit_channels(
        &mut self,
        topic: &Topic,
        labels: Option<&Labels>,
    ) -> (usize, Vec<ChannelRow>) {
        let mut channels = topic.channels();
        channels.sort_by_key(|channel| channel.birth);
        let tail_start = topic.log.tail_start();
        let mut rows = Vec::new();
        for channel in &channels {
            let (counts, age) = self.visit_channel(topic, channel, tail_start);
            let is_ephemeral = channel.name.is_ephemeral();
            match labels.filter(|_| self.room.take_channel(is_ephemeral)) {
                Some(labels) => {
                    let labels = labels.and("channel", channel.name.as_str());
                    rows.push(ChannelRow { labels, counts, age });
                }
                None => self.survey.omitted_channels += 1,
            }
        }
        (channels.len(), rows)
    }

    fn visit_channel(
        &mut self,
        topic: &Topic,
        channel: &Arc<Channel>,
        tail_start: u64,
    ) -> (ChannelCounts, Option<Duration>) {
        let counts = channel.counts(tail_start);
        let published =
            counts.oldest.map(|seq| channel.oldest.timestamp_ns(&topic.log, seq, &mut self.loads));
        let totals = &mut self.survey.totals;
        totals.channels += 1;
        totals.consumers += counts.clients;
        totals.ready += counts.depth;
        totals.in_flight += counts.in_flight;
        totals.deferred += counts.deferred;
        (counts, self.age(published))
    }

    /// The age of the oldest message, from its publish time if there is such a message and its time is known; zero
    /// without a message.
    fn age(&mut self, published: Option<Option<i64>>) -> Option<Duration> {
        let age = match published {
            None => Duration::ZERO,
            Some(published_ns) => self.node.services.clock.since_wall(published_ns?),
        };
        let oldest = &mut self.survey.totals.age;
        *oldest = age.max(*oldest);
        Some(age)
    }
}
