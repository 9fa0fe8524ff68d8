//! The series of the node.

use nsq_daemon::{
    metrics::{Family, Labels, Page},
    version::RUSTC_VERSION,
};

use super::survey::Survey;
use crate::{
    VERSION,
    meters::{Limit, Meters},
    node::Node,
};

const BUILD_INFO: Family =
    Family::gauge("nsqd_build_info", "Always 1; the labels tell what this nsqd was built from.");
const UPTIME: Family = Family::gauge("nsqd_uptime_seconds", "Time since the start.");
const INCARNATION: Family = Family::gauge(
    "nsqd_incarnation",
    "Starts on this data folder that were the first or followed a crash.",
);
const HEALTHY: Family =
    Family::gauge("nsqd_healthy", "1 while everything that is to be on disk can be written.");
const READY: Family = Family::gauge(
    "nsqd_ready",
    "1 while clients should be sent to this nsqd: it is healthy and does not stop.",
);
const FAILING: Family =
    Family::gauge("nsqd_failing", "Topics and node files whose writes fail and are being retried.");
const DAMAGED: Family =
    Family::gauge("nsqd_damaged", "Topics and node files with messages that cannot be read back.");

const RECOVERY_TIME: Family =
    Family::gauge("nsqd_recovery_duration_seconds", "Time that opening the data folder took.");
const RECOVERY_TOPICS: Family = Family::gauge(
    "nsqd_recovery_topics",
    "Topics found in the data folder at the start: opened or failed.",
);
const RECOVERY_NOTICES: Family = Family::gauge(
    "nsqd_recovery_notices",
    "Faults found in the data folder at the start: loss cost messages, repair did not.",
);

const TOPICS: Family = Family::gauge("nsqd_topics", "Topics.");
const CHANNELS: Family = Family::gauge("nsqd_channels", "Channels of all topics.");
const CONNECTIONS: Family = Family::gauge("nsqd_connections", "Open connections of clients.");
const ACCEPTED: Family =
    Family::counter("nsqd_connections_accepted_total", "Connections of clients accepted.");
const CONSUMERS: Family =
    Family::gauge("nsqd_consumers", "Connections that are subscribed to a channel.");
const NETWORK: Family = Family::gauge(
    "nsqd_network_memory_bytes",
    "Unfinished input and unsent output of all connections of clients in memory.",
);
const REFUSALS: Family =
    Family::counter("nsqd_client_errors_total", "Errors answered to clients, by code.");
const LIMITS: Family = Family::counter(
    "nsqd_limit_reached_total",
    "Times that a peer reached a limit, by the name of the limit's flag.",
);
const LOG_DROPPED: Family = Family::counter(
    "nsqd_log_lines_dropped_total",
    "Lines of the log that were not read from stderr in time, or could not be written.",
);
const LOG_SUPPRESSED: Family = Family::counter(
    "nsqd_log_lines_suppressed_total",
    "Lines of the log that --log-rate has left out; the log tells how many of which kind.",
);
const OMITTED: Family = Family::gauge(
    "nsqd_metrics_omitted",
    "Topics and channels without series of their own; the figures of the node include them.",
);

const MESSAGES: Family = Family::gauge(
    "nsqd_messages",
    "Messages that are not finished, by state; those of channels once for each channel.",
);
const AGE: Family = Family::gauge(
    "nsqd_oldest_message_age_seconds",
    "Time since the publish of the oldest message that waits or is in flight anywhere; 0 without one.",
);
const PUBLISHED: Family = Family::counter("nsqd_messages_published_total", "Messages published.");
const PUBLISHED_BYTES: Family =
    Family::counter("nsqd_message_bytes_published_total", "Bytes of the bodies published.");
const DELIVERED: Family =
    Family::counter("nsqd_messages_delivered_total", "Messages delivered; each redelivery counts.");
const FINISHED: Family =
    Family::counter("nsqd_messages_finished_total", "Messages finished by FIN.");
const REQUEUED: Family = Family::counter(
    "nsqd_messages_requeued_total",
    "Messages requeued, by REQ or because their client was gone.",
);
const TIMED_OUT: Family =
    Family::counter("nsqd_messages_timed_out_total", "Messages that timed out in flight.");
const LOST: Family = Family::counter(
    "nsqd_messages_lost_total",
    "Messages that could not be read back, once for each channel that was to deliver them.",
);
const PUBLISHES: Family = Family::histogram(
    "nsqd_publish_duration_seconds",
    "Time to append a batch of publishes and hand it to the channels, without waiting for flushes.",
);
const WAITS: Family = Family::histogram(
    "nsqd_delivery_latency_seconds",
    "Time from publish to first delivery, for the first message of each hand-out to a consumer.",
);

const FLUSHES: Family =
    Family::histogram("nsqd_flush_duration_seconds", "Time to flush the files of a topic.");
const FAILED_FLUSHES: Family = Family::counter("nsqd_flush_failures_total", "Flushes that failed.");
const DISK_USED: Family =
    Family::gauge("nsqd_disk_used_bytes", "Bytes of the logs and journals of all topics on disk.");
const DISK_FREE: Family = Family::gauge(
    "nsqd_disk_free_bytes",
    "Bytes that can still be written to the file system of the data folder.",
);

/// Writes the figures of the node.
pub(super) fn write(page: &mut Page, node: &Node, survey: &Survey) {
    write_state(page, node);
    write_recovery(page, &node.services.meters);
    write_clients(page, node, survey);
    write_messages(page, &node.services.meters, survey);
    write_disk(page, node, survey);
}

fn write_state(page: &mut Page, node: &Node) {
    let services = &node.services;
    let version = Labels::new("version", env!("CARGO_PKG_VERSION"));
    let build = version.and("nsq_version", VERSION).and("rustc", RUSTC_VERSION);
    page.family(&BUILD_INFO).add(&build, 1_u64);
    page.single(&UPTIME, services.clock.uptime());
    page.single(&INCARNATION, u64::from(node.incarnation()));
    let (failing, damaged) = services.health.counts();
    page.single(&HEALTHY, failing == 0);
    page.single(&READY, failing == 0 && !node.is_stopping());
    page.single(&FAILING, failing);
    page.single(&DAMAGED, damaged);
}

fn write_recovery(page: &mut Page, meters: &Meters) {
    let Some(recovery) = meters.recovery.get() else { return };
    page.single(&RECOVERY_TIME, recovery.time);
    page.family(&RECOVERY_TOPICS)
        .add(&Labels::new("outcome", "opened"), recovery.topics)
        .add(&Labels::new("outcome", "failed"), recovery.failed);
    page.family(&RECOVERY_NOTICES)
        .add(&Labels::new("kind", "loss"), recovery.losses)
        .add(&Labels::new("kind", "repair"), recovery.repairs);
}

fn write_clients(page: &mut Page, node: &Node, survey: &Survey) {
    page.single(&TOPICS, survey.totals.topics);
    page.single(&CHANNELS, survey.totals.channels);
    page.family(&OMITTED)
        .add(&Labels::new("kind", "topic"), survey.omitted_topics())
        .add(&Labels::new("kind", "channel"), survey.omitted_channels());
    page.single(&CONNECTIONS, node.clients.count());
    page.single(&ACCEPTED, node.accepted_connections());
    page.single(&CONSUMERS, survey.totals.consumers);
    page.single(&NETWORK, node.network.bytes());
    let mut refusals = page.family(&REFUSALS);
    for (code, count) in node.services.meters.refusals() {
        refusals.add(&Labels::new("code", code.as_str()), count);
    }
    write_limits(page, node);
}

fn write_limits(page: &mut Page, node: &Node) {
    let logger = &node.services.logger;
    let mut limits = page.family(&LIMITS);
    for (limit, counted) in node.services.meters.limits() {
        let count = match limit {
            Limit::LogRate => logger.rate_reached(),
            _ => counted,
        };
        limits.add(&Labels::new("limit", limit.as_str()), count);
    }
    page.single(&LOG_DROPPED, logger.dropped());
    page.single(&LOG_SUPPRESSED, logger.suppressed());
}

fn write_messages(page: &mut Page, meters: &Meters, survey: &Survey) {
    let totals = &survey.totals;
    page.family(&MESSAGES)
        .add(&Labels::new("state", "at_topic"), totals.at_topics)
        .add(&Labels::new("state", "ready"), totals.ready)
        .add(&Labels::new("state", "in_flight"), totals.in_flight)
        .add(&Labels::new("state", "deferred"), totals.deferred);
    page.single(&AGE, totals.age);
    for (family, counter) in [
        (PUBLISHED, &meters.published),
        (PUBLISHED_BYTES, &meters.published_bytes),
        (DELIVERED, &meters.delivered),
        (FINISHED, &meters.finished),
        (REQUEUED, &meters.requeued),
        (TIMED_OUT, &meters.timed_out),
        (LOST, &meters.lost),
    ] {
        page.single(&family, counter.get());
    }
    page.histogram(&PUBLISHES, &meters.publishes);
    page.histogram(&WAITS, &meters.waits);
}

fn write_disk(page: &mut Page, node: &Node, survey: &Survey) {
    let meters = &node.services.meters;
    page.histogram(&FLUSHES, &meters.flushes);
    page.single(&FAILED_FLUSHES, meters.failed_flushes.get());
    page.single(&DISK_USED, survey.totals.disk_bytes);
    if let Some(free) = node.free_bytes() {
        page.single(&DISK_FREE, free);
    }
}
