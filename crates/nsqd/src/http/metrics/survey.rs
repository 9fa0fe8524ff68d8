//! A walk over the topics and channels: the figures of each, and their sums.

use std::{sync::Arc, time::Duration};

use nsq_daemon::metrics::Labels;

use super::room::{Room, Series, TopicAndChannels};
use crate::{
    clock::Clock,
    latency::LatencyReport,
    node::Node,
    topic::{
        Topic, TopicCounts,
        channel::{Channel, ChannelCounts},
        oldest::Loads,
    },
};

/// How long reads from disk may take for one page, to find out the age of messages that are not in memory.
const LOADS_TIME: Duration = Duration::from_millis(30);

/// The figures of all topics and channels.
#[derive(Default)]
pub(super) struct Survey {
    /// The topics with series of their own.
    pub(super) topics: Vec<TopicRow>,
    /// The channels with series of their own.
    pub(super) channels: Vec<ChannelRow>,
    /// The number of those series.
    pub(super) series: usize,
    pub(super) totals: Totals,
}

/// The figures of a topic.
pub(super) struct TopicRow {
    pub(super) labels: Labels,
    pub(super) counts: TopicCounts,
    /// `None` for an ephemeral topic.
    pub(super) disk_bytes: Option<u64>,
    /// `None` while it is not known.
    pub(super) age: Option<Duration>,
    pub(super) channels: usize,
}

/// The figures of a channel.
pub(super) struct ChannelRow {
    pub(super) labels: Labels,
    pub(super) counts: ChannelCounts,
    /// `None` while it is not known.
    pub(super) age: Option<Duration>,
    /// The time from publish to FIN, if it is measured.
    pub(super) latency: LatencyReport,
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
    /// Visits all topics of `node`.
    pub(super) fn of(node: &Node, series: &Series) -> Self {
        let services = &node.services;
        let with_channels = |topic: Arc<Topic>| {
            let channels = topic.channels();
            (topic, channels)
        };
        let topics: Vec<TopicAndChannels> =
            node.all_topics().into_iter().map(with_channels).collect();
        let room = Room::for_all(&topics, &services.options.metrics, series);
        let survey = Self { series: room.series, ..Self::default() };
        let loads = Loads::within(LOADS_TIME, &services.clock);
        let mut walk = Walk { clock: &services.clock, room, loads, survey };
        topics.iter().for_each(|both| walk.visit(both));
        walk.survey
    }

    pub(super) fn omitted_topics(&self) -> usize {
        self.totals.topics - self.topics.len()
    }

    pub(super) fn omitted_channels(&self) -> usize {
        self.totals.channels - self.channels.len()
    }
}

struct Walk<'a> {
    clock: &'a Clock,
    room: Room,
    loads: Loads<'a>,
    survey: Survey,
}

impl Walk<'_> {
    fn visit(&mut self, (topic, channels): &TopicAndChannels) {
        let labels = Labels::new("topic", topic.name.as_str());
        let tail_start = topic.log.tail_start();
        for channel in channels {
            self.visit_channel(topic, channel, tail_start, &labels);
        }
        let counts = topic.counts();
        let disk_bytes = (!topic.name.is_ephemeral()).then(|| topic.log.disk_bytes());
        let published = |seq| topic.oldest.timestamp_ns(&topic.log, seq, &mut self.loads);
        let published = counts.oldest.map(published);
        let age = self.age(published);
        let totals = &mut self.survey.totals;
        totals.topics += 1;
        totals.at_topics += counts.depth;
        totals.disk_bytes += disk_bytes.unwrap_or(0);
        if self.room.has_topic(topic) {
            let row = TopicRow { labels, counts, disk_bytes, age, channels: channels.len() };
            self.survey.topics.push(row);
        }
    }

    fn visit_channel(&mut self, topic: &Topic, channel: &Channel, tail_start: u64, of: &Labels) {
        let counts = channel.counts(tail_start);
        let published = |seq| channel.oldest.timestamp_ns(&topic.log, seq, &mut self.loads);
        let published = counts.oldest.map(published);
        let age = self.age(published);
        let totals = &mut self.survey.totals;
        totals.channels += 1;
        totals.consumers += counts.clients;
        totals.ready += counts.depth;
        totals.in_flight += counts.in_flight;
        totals.deferred += counts.deferred;
        if self.room.has_channel(topic, channel) {
            let labels = of.and("channel", channel.name.as_str());
            let latency = channel.latency();
            self.survey.channels.push(ChannelRow { labels, counts, age, latency });
        }
    }

    /// The age of the oldest message, from its publish time if there is such a message and its time is known; zero
    /// without a message.
    fn age(&mut self, published: Option<Option<i64>>) -> Option<Duration> {
        let age = match published {
            None => Duration::ZERO,
            Some(published_ns) => self.clock.since_wall(published_ns?),
        };
        let oldest = &mut self.survey.totals.age;
        *oldest = age.max(*oldest);
        Some(age)
    }
}
