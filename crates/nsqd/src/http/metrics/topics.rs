//! The series of topics and channels.

use std::time::Duration;

use nsq_daemon::metrics::{Family, Page, Value};

use super::{
    room::Series,
    survey::{ChannelRow, Survey, TopicRow},
};
use crate::options::Options;

/// A family, and its value for a topic or a channel if that has one.
type Figure<Row> = (Family, fn(&Row) -> Option<Value>);

/// The time from publish to FIN, if percentiles of it are asked for.
const LATENCY: Family = Family::summary(
    "nsqd_channel_e2e_processing_latency_seconds",
    "Time from publish to FIN within --e2e-processing-latency-window-time, if percentiles are asked for.",
);

/// The number of series of a topic and of a channel.
pub(super) fn series(options: &Options) -> Series {
    let percentiles = options.e2e_percentiles.as_slice().len();
    Series { topic: TOPIC.len(), channel: CHANNEL.len() + percentiles }
}

const TOPIC: [Figure<TopicRow>; 8] = [
    (
        Family::gauge(
            "nsqd_topic_depth",
            "Messages that wait at the topic, because it is paused or has no channel.",
        ),
        |topic| Some(topic.counts.depth.into()),
    ),
    (
        Family::gauge("nsqd_topic_backend_depth", "The part of the depth that is on disk only."),
        |topic| Some(topic.counts.backend_depth.into()),
    ),
    (
        Family::gauge(
            "nsqd_topic_oldest_message_age_seconds",
            "Time since the publish of the oldest message that waits at the topic; 0 without one.",
        ),
        |topic| topic.age.map(Value::from),
    ),
    (Family::counter("nsqd_topic_messages_total", "Messages published."), |topic| {
        Some(topic.counts.message_count.into())
    }),
    (
        Family::counter("nsqd_topic_message_bytes_total", "Bytes of the bodies published."),
        |topic| Some(topic.counts.message_bytes.into()),
    ),
    (
        Family::gauge("nsqd_topic_disk_bytes", "Bytes of the topic's log and journal on disk."),
        |topic| topic.disk_bytes.map(Value::from),
    ),
    (Family::gauge("nsqd_topic_channels", "Channels of the topic."), |topic| {
        Some(topic.channels.into())
    }),
    (Family::gauge("nsqd_topic_paused", "1 while the topic is paused."), |topic| {
        Some(topic.counts.paused.into())
    }),
];

const CHANNEL: [Figure<ChannelRow>; 12] = [
    (Family::gauge("nsqd_channel_depth", "Messages that are ready to be delivered."), |channel| {
        Some(channel.counts.depth.into())
    }),
    (
        Family::gauge("nsqd_channel_backend_depth", "The part of the depth that is on disk only."),
        |channel| Some(channel.counts.backend_depth.into()),
    ),
    (
        Family::gauge(
            "nsqd_channel_in_flight",
            "Messages that were delivered and neither finished nor requeued.",
        ),
        |channel| Some(channel.counts.in_flight.into()),
    ),
    (
        Family::gauge("nsqd_channel_deferred", "Messages that are to be delivered later."),
        |channel| Some(channel.counts.deferred.into()),
    ),
    (
        Family::gauge(
            "nsqd_channel_oldest_message_age_seconds",
            "Time since the publish of the oldest message that is ready or in flight; 0 without one.",
        ),
        |channel| channel.age.map(Value::from),
    ),
    (
        Family::counter("nsqd_channel_messages_total", "Messages that the topic gave the channel."),
        |channel| Some(channel.counts.messages.into()),
    ),
    (
        Family::counter(
            "nsqd_channel_deliveries_total",
            "Messages delivered; each redelivery counts.",
        ),
        |channel| Some(channel.counts.deliveries.into()),
    ),
    (Family::counter("nsqd_channel_finishes_total", "Messages finished by FIN."), |channel| {
        Some(channel.counts.finishes.into())
    }),
    (
        Family::counter(
            "nsqd_channel_requeues_total",
            "Messages requeued, by REQ or because their client was gone.",
        ),
        |channel| Some(channel.counts.requeues.into()),
    ),
    (
        Family::counter("nsqd_channel_timeouts_total", "Messages that timed out in flight."),
        |channel| Some(channel.counts.timeouts.into()),
    ),
    (Family::gauge("nsqd_channel_clients", "Clients that are subscribed."), |channel| {
        Some(channel.counts.clients.into())
    }),
    (Family::gauge("nsqd_channel_paused", "1 while the channel is paused."), |channel| {
        Some(channel.counts.paused.into())
    }),
];

/// Writes the topics and channels that have series of their own.
pub(super) fn write(page: &mut Page, survey: &Survey) {
    for (family, value) in &TOPIC {
        let mut samples = page.family(family);
        for topic in &survey.topics {
            if let Some(value) = value(topic) {
                samples.add(&topic.labels, value);
            }
        }
    }
    for (family, value) in &CHANNEL {
        let mut samples = page.family(family);
        for channel in &survey.channels {
            if let Some(value) = value(channel) {
                samples.add(&channel.labels, value);
            }
        }
    }
    write_latencies(page, &survey.channels);
}

fn write_latencies(page: &mut Page, channels: &[ChannelRow]) {
    let mut measured = channels.iter().filter(|channel| channel.latency.count() > 0).peekable();
    if measured.peek().is_none() {
        return;
    }
    let mut samples = page.family(&LATENCY);
    for channel in measured {
        // The same percentile may be asked for twice.
        let percentiles = channel.latency.percentiles().chunk_by(|a, b| a.quantile == b.quantile);
        for percentile in percentiles.filter_map(<[_]>::first) {
            let labels = channel.labels.and("quantile", &percentile.quantile.to_string());
            samples.add(&labels, Duration::from_nanos(percentile.value_ns));
        }
    }
}
