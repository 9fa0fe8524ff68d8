//! `/metrics`.

mod documents;
mod page;
mod query;

use std::time::Duration;

use nsq_daemon::log::{Level, Logger, Sink};
use nsq_protocol::Command;
use nsqd::{Options, PerTopic};
use tokio::time::timeout;

use self::page::Page;
use crate::harness::{PATIENCE, TestNsqd};

const CHANNEL: &str = "{topic=\"t\",channel=\"c\"}";

impl TestNsqd {
    pub(super) async fn metrics(&self) -> Page {
        Page::parse(&self.get("/metrics").await.body)
    }

    /// Reads the metrics until they fulfil a condition.
    async fn metrics_until(&self, reached: impl Fn(&Page) -> bool) -> Page {
        let wait = async {
            loop {
                let page = self.metrics().await;
                if reached(&page) {
                    return page;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the metrics become what they should")
    }

    pub(super) async fn create_channel(&self, topic: &str, channel: &str) {
        self.post(&format!("/topic/create?topic={}", topic.replace('#', "%23")), "").await;
        let target = format!("/channel/create?topic={topic}&channel={channel}").replace('#', "%23");
        assert_eq!(self.post(&target, "").await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn metrics_are_text_in_the_format_of_prometheus() {
    let nsqd = TestNsqd::start().await;
    nsqd.create_channel("t", "c").await;
    nsqd.post("/mpub?topic=t", "1\n22\n333").await;
    let answer = nsqd.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("X-NSQ-Content-Type"), None);
    assert_eq!(nsqd.post("/metrics", "").await.refusal(), (405, "METHOD_NOT_ALLOWED"));
    let page = Page::parse(&answer.body);
    assert!(page.families.len() > 50);
    nsqd.stop().await;
}

/// A log that notes whether a request for the metrics is in it.
#[derive(Clone, Default)]
struct Watch(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Sink for Watch {
    fn write_line(&self, line: &[u8]) {
        if String::from_utf8_lossy(line).contains("/metrics") {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn scrapes_leave_nothing_in_the_log() {
    let watch = Watch::default();
    let logger = Logger::with_sink("", Level::Debug, watch.clone());
    let nsqd = TestNsqd::start_logging(|_| (), logger).await;
    nsqd.metrics().await;
    nsqd.stop().await;
    assert!(!watch.0.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn a_topic_and_its_channel_have_their_figures() {
    let nsqd = TestNsqd::start().await;
    nsqd.create_channel("t", "c").await;
    nsqd.post("/mpub?topic=t", "1\n22\n333\n4444").await;
    nsqd.post("/pub?topic=t&defer=3600000", "5").await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    consumer.send(Command::Rdy(3)).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(consumer.message().await.0);
    }
    consumer.send(Command::Rdy(0)).await;
    consumer.send(Command::Fin(ids[0])).await;
    consumer.send(Command::Req { id: ids[1], delay_ms: 0 }).await;

    let requeued = format!("nsqd_channel_requeues_total{CHANNEL}");
    let page = nsqd.metrics_until(|page| page.value(&requeued) == Some(1.0)).await;
    for (name, value) in [
        ("topic_depth", 0.0),
        ("topic_messages_total", 5.0),
        ("topic_message_bytes_total", 11.0),
        ("topic_channels", 1.0),
        ("topic_paused", 0.0),
    ] {
        assert_eq!(page.get(&format!("nsqd_{name}{{topic=\"t\"}}")), value, "{name}");
    }
    assert!(page.get("nsqd_topic_disk_bytes{topic=\"t\"}") > 11.0);
    for (name, value) in [
        ("depth", 2.0),
        ("in_flight", 1.0),
        ("deferred", 1.0),
        ("messages_total", 5.0),
        ("deliveries_total", 3.0),
        ("finishes_total", 1.0),
        ("requeues_total", 1.0),
        ("timeouts_total", 0.0),
        ("clients", 1.0),
        ("paused", 0.0),
    ] {
        assert_eq!(page.get(&format!("nsqd_channel_{name}{CHANNEL}")), value, "{name}");
    }
    consumer.leave().await;
    nsqd.post("/channel/pause?topic=t&channel=c", "").await;
    nsqd.post("/topic/pause?topic=t", "").await;
    nsqd.post("/pub?topic=t", "6").await;
    let page = nsqd.metrics().await;
    assert_eq!(page.get(&format!("nsqd_channel_paused{CHANNEL}")), 1.0);
    assert_eq!(page.get("nsqd_topic_paused{topic=\"t\"}"), 1.0);
    assert_eq!(page.get("nsqd_topic_depth{topic=\"t\"}"), 1.0);
    nsqd.stop().await;
}

#[tokio::test]
async fn the_counters_of_the_node_outlive_its_topics() {
    let nsqd = TestNsqd::start().await;
    nsqd.create_channel("t", "c").await;
    nsqd.create_channel("t", "d").await;
    nsqd.post("/mpub?topic=t", "1\n22\n333").await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    consumer.send(Command::Rdy(2)).await;
    let (first, second) = (consumer.message().await.0, consumer.message().await.0);
    consumer.send(Command::Rdy(0)).await;
    consumer.send(Command::Fin(first)).await;
    consumer.send(Command::Req { id: second, delay_ms: 3_600_000 }).await;
    let requeued = format!("nsqd_channel_requeues_total{CHANNEL}");
    let page = nsqd.metrics_until(|page| page.get(&requeued) > 0.0).await;
    let states = [("at_topic", 0.0), ("ready", 4.0), ("in_flight", 0.0), ("deferred", 1.0)];
    for (state, value) in states {
        assert_eq!(page.get(&format!("nsqd_messages{{state=\"{state}\"}}")), value, "{state}");
    }
    assert!(page.get("nsqd_disk_used_bytes") > 0.0);
    assert!(page.get("nsqd_disk_free_bytes") > 0.0);
    assert!(page.get("nsqd_publish_duration_seconds_count") >= 1.0);
    assert!(page.get("nsqd_delivery_latency_seconds_count") >= 1.0);

    nsqd.post("/topic/delete?topic=t", "").await;
    let page = nsqd.metrics().await;
    assert_eq!(page.value("nsqd_topic_depth{topic=\"t\"}"), None);
    for (name, value) in [
        ("nsqd_messages_published_total", 3.0),
        ("nsqd_message_bytes_published_total", 6.0),
        ("nsqd_messages_delivered_total", 2.0),
        ("nsqd_messages_finished_total", 1.0),
        ("nsqd_messages_requeued_total", 1.0),
        ("nsqd_messages_timed_out_total", 0.0),
        ("nsqd_topics", 0.0),
        ("nsqd_disk_used_bytes", 0.0),
    ] {
        assert_eq!(page.get(name), value, "{name}");
    }
    nsqd.stop().await;
}

/// An nsqd that measures the time from publish to FIN.
pub(super) async fn measuring(percentiles: &str) -> TestNsqd {
    let flag = format!("--e2e-processing-latency-percentile={percentiles}");
    let parsed = Options::table().parse([flag.as_str()]).unwrap();
    let asked = Options::from_parsed(&parsed).unwrap().e2e_percentiles;
    TestNsqd::start_with(|options| options.e2e_percentiles = asked).await
}

#[tokio::test]
async fn percentiles_that_are_asked_for_are_shown_once_there_is_something_to_show() {
    let nsqd = measuring("0.5,0.99,0.99,1").await;
    nsqd.create_channel("t", "c").await;
    let name = "nsqd_channel_e2e_processing_latency_seconds";
    assert!(nsqd.metrics().await.label_sets(name).is_empty());
    nsqd.post("/mpub?topic=t", "1\n2\n3").await;
    nsqd.drain("t", "c", 3).await;
    let page = nsqd.metrics().await;
    let sample =
        |quantile: &str| format!("{name}{{topic=\"t\",channel=\"c\",quantile=\"{quantile}\"}}");
    assert_eq!(page.label_sets(name).len(), 3);
    let [half, most, all] = ["0.5", "0.99", "1"].map(|quantile| page.get(&sample(quantile)));
    assert!(0.0 < half && half <= most && most <= all, "{half} {most} {all}");
    nsqd.stop().await;
}

#[tokio::test]
async fn messages_that_time_out_are_counted() {
    let nsqd =
        TestNsqd::start_with(|options| options.msg_timeout = Duration::from_millis(20)).await;
    nsqd.create_channel("t", "c").await;
    nsqd.post("/pub?topic=t", "x").await;
    let mut consumer = nsqd.subscribe("t", "c").await;
    consumer.send(Command::Rdy(1)).await;
    consumer.message().await;
    consumer.message().await;
    consumer.send(Command::Rdy(0)).await;
    let timeouts = format!("nsqd_channel_timeouts_total{CHANNEL}");
    let total = "nsqd_messages_timed_out_total";
    // It may time out once more while a page is made.
    let agree = |page: &Page| page.get(&timeouts) >= 2.0 && page.get(total) == page.get(&timeouts);
    let page = nsqd.metrics_until(agree).await;
    let again = page.get("nsqd_delivery_latency_seconds_count");
    assert_eq!(again, 1.0, "a message that comes again has not waited for its first delivery");
    nsqd.stop().await;
}

#[tokio::test]
async fn connections_and_the_errors_they_get_are_counted() {
    let nsqd = TestNsqd::start().await;
    let consumer = nsqd.subscribe("t", "c").await;
    let mut refused = nsqd.connect().await;
    refused.send(Command::Sub { topic: "t", channel: "bad!" }).await;
    assert!(refused.response().await.starts_with("E_BAD_CHANNEL"));
    refused.end().await;
    let mut stranger = nsqd.connect_with(b"  V9").await;
    assert_eq!(stranger.response().await, "E_BAD_PROTOCOL");
    stranger.end().await;
    let page = nsqd.metrics_until(|page| page.get("nsqd_connections") == 1.0).await;
    assert_eq!(page.get("nsqd_connections_accepted_total"), 3.0);
    assert_eq!(page.get("nsqd_client_errors_total{code=\"E_BAD_PROTOCOL\"}"), 1.0);
    assert_eq!(page.get("nsqd_consumers"), 1.0);
    assert_eq!(page.get("nsqd_client_errors_total{code=\"E_BAD_CHANNEL\"}"), 1.0);
    assert_eq!(page.get("nsqd_client_errors_total{code=\"E_BAD_TOPIC\"}"), 0.0);
    consumer.leave().await;
    nsqd.metrics_until(|page| page.get("nsqd_connections") == 0.0).await;
    nsqd.stop().await;
}

#[tokio::test]
async fn flushes_are_timed() {
    let nsqd = TestNsqd::start_with(|options| options.sync_every = 1).await;
    nsqd.post("/pub?topic=t", "x").await;
    let count = "nsqd_flush_duration_seconds_count";
    let page = nsqd.metrics_until(|page| page.get(count) > 0.0).await;
    assert!(page.get("nsqd_flush_duration_seconds_sum") > 0.0);
    assert_eq!(page.get("nsqd_flush_failures_total"), 0.0);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_restart_begins_the_counters_anew_and_tells_what_was_recovered() {
    let nsqd = TestNsqd::start().await;
    nsqd.create_channel("t", "c").await;
    nsqd.create_channel("u", "c").await;
    nsqd.post("/pub?topic=t", "x").await;
    assert_eq!(nsqd.metrics().await.get("nsqd_recovery_topics{outcome=\"opened\"}"), 0.0);
    let nsqd = TestNsqd::start_in(nsqd.stop().await, |_| (), Logger::discard()).await;
    let page = nsqd.metrics().await;
    assert_eq!(page.get("nsqd_recovery_topics{outcome=\"opened\"}"), 2.0);
    assert_eq!(page.get("nsqd_recovery_topics{outcome=\"failed\"}"), 0.0);
    assert_eq!(page.get("nsqd_recovery_notices{kind=\"loss\"}"), 0.0);
    assert!(page.get("nsqd_recovery_duration_seconds") > 0.0);
    assert_eq!(page.get("nsqd_incarnation"), 1.0);
    assert_eq!(page.get("nsqd_topic_messages_total{topic=\"t\"}"), 0.0);
    assert_eq!(page.get(&format!("nsqd_channel_depth{CHANNEL}")), 1.0);
    nsqd.stop().await;
}

/// The topics, or with [`CHANNEL`] in the family's name the channels, that have series of their own.
fn named(page: &Page, family: &str, label: &str) -> String {
    let labels = page.label_sets(family);
    labels.iter().map(|labels| labels[label].as_str()).collect::<Vec<_>>().join(" ")
}

async fn durable_and_ephemeral(per_topic: PerTopic) -> (TestNsqd, Page) {
    let nsqd = TestNsqd::start_with(|options| options.metrics.per_topic = per_topic).await;
    nsqd.create_channel("t", "c").await;
    nsqd.create_channel("t", "passing#ephemeral").await;
    nsqd.create_channel("u#ephemeral", "d").await;
    nsqd.post("/pub?topic=t", "x").await;
    nsqd.post("/pub?topic=u%23ephemeral", "x").await;
    let page = nsqd.metrics().await;
    assert_eq!(page.get("nsqd_messages{state=\"ready\"}"), 3.0, "the sums include all");
    assert_eq!(page.get("nsqd_topics"), 2.0);
    assert_eq!(page.get("nsqd_channels"), 3.0);
    (nsqd, page)
}

#[tokio::test]
async fn ephemeral_topics_and_channels_have_no_series_of_their_own() {
    let (nsqd, page) = durable_and_ephemeral(PerTopic::Durable).await;
    assert_eq!(named(&page, "nsqd_topic_depth", "topic"), "t");
    assert_eq!(named(&page, "nsqd_channel_depth", "channel"), "c");
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"topic\"}"), 1.0);
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"channel\"}"), 2.0);
    nsqd.stop().await;
}

#[tokio::test]
async fn ephemeral_topics_and_channels_have_series_when_asked_for() {
    let (nsqd, page) = durable_and_ephemeral(PerTopic::All).await;
    assert_eq!(named(&page, "nsqd_topic_depth", "topic"), "t u#ephemeral");
    assert_eq!(named(&page, "nsqd_channel_depth", "channel"), "c passing#ephemeral d");
    assert_eq!(named(&page, "nsqd_topic_disk_bytes", "topic"), "t", "the other has no file");
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"topic\"}"), 0.0);
    nsqd.stop().await;
}

#[tokio::test]
async fn topics_have_no_series_when_none_are_asked_for() {
    let (nsqd, page) = durable_and_ephemeral(PerTopic::None).await;
    assert_eq!(named(&page, "nsqd_topic_depth", "topic"), "");
    assert_eq!(named(&page, "nsqd_channel_depth", "channel"), "");
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"topic\"}"), 2.0);
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"channel\"}"), 3.0);
    nsqd.stop().await;
}

#[tokio::test]
async fn a_flood_of_topics_does_not_flood_the_metrics_and_takes_no_series_from_older_ones() {
    let nsqd = TestNsqd::start_with(|options| options.metrics.series_max = 100).await;
    for topic in ["z", "y", "x"] {
        nsqd.create_channel(topic, "c").await;
    }
    let before = nsqd.metrics().await;
    assert_eq!(named(&before, "nsqd_channel_depth", "topic"), "x y z");
    for topic in 0..20 {
        nsqd.create_channel(&format!("a{topic}"), "c").await;
        nsqd.post(&format!("/pub?topic=a{topic}"), "x").await;
    }
    nsqd.create_channel("z", "late").await;
    let page = nsqd.metrics().await;
    let labelled =
        |name: &str| name.starts_with("nsqd_topic_") || name.starts_with("nsqd_channel_");
    let families = page.families.iter().filter(|family| labelled(&family.name));
    let series: usize = families.map(|family| page.label_sets(&family.name).len()).sum();
    assert!(series <= 100, "{series}");
    let mut with_series = page.label_sets("nsqd_channel_depth");
    with_series.retain(|labels| !labels["topic"].starts_with('a'));
    assert_eq!(with_series.len(), 3, "z, y and x with their first channels: {with_series:?}");
    assert_eq!(page.label_sets("nsqd_channel_depth").len(), 5, "and the first two of the flood");
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"topic\"}"), 18.0);
    assert_eq!(page.get("nsqd_metrics_omitted{kind=\"channel\"}"), 19.0);
    assert_eq!(page.get("nsqd_messages{state=\"ready\"}"), 20.0, "the sums include all");
    nsqd.stop().await;
}
