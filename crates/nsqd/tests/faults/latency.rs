//! Percentiles of the time from publish to FIN, by a clock that the test sets.

use std::time::Duration;

use nsqd::{Clocks as _, Options, Percentiles};
use serde_json::{Value, json};

use crate::{
    machine::Machine,
    support::{Server, http},
};

const SECOND: Duration = Duration::from_secs(1);

/// The percentiles as they are given on a command line.
fn percentiles(list: &str) -> Percentiles {
    let flag = format!("--e2e-processing-latency-percentile={list}");
    Options::from_parsed(&Options::table().parse([flag.as_str()]).unwrap()).unwrap().e2e_percentiles
}

fn measuring(machine: &Machine, list: &str) -> Server {
    machine.start(|options| options.e2e_percentiles = percentiles(list))
}

/// The shares of the percentiles in a latency, and their values.
fn values(latency: &Value) -> Vec<(f64, Duration)> {
    let percentiles = latency["percentiles"].as_array().unwrap();
    let value = |value: &Value| Duration::from_nanos(value.as_u64().unwrap());
    percentiles
        .iter()
        .map(|entry| (entry["quantile"].as_f64().unwrap(), value(&entry["value"])))
        .collect()
}

#[track_caller]
fn assert_close(latency: &Value, count: u64, expected: &[(f64, Duration)]) {
    assert_eq!(latency["count"], count, "{latency}");
    let found = values(latency);
    assert_eq!(found.len(), expected.len(), "{latency}");
    for ((share, value), (expected_share, expected)) in found.into_iter().zip(expected) {
        assert!((share - expected_share).abs() < 1e-9, "{latency}");
        let error = value.as_secs_f64() / expected.as_secs_f64() - 1.0;
        assert!(error.abs() <= 0.0101, "{share}: {value:?} for {expected:?}");
    }
}

#[test]
fn percentiles_of_the_time_from_publish_to_fin_are_shown_for_channels_and_topics() {
    let machine = Machine::new();
    let server = measuring(&machine, "0.5,1,0.99");
    let mut consumer = server.consumer("t", "c", 1);
    let start = machine.clocks.wall();
    for millis in 1..=100 {
        machine.clocks.set_wall(start);
        server.client().publish("t", b"x");
        let message = consumer.message();
        machine.clocks.set_wall(start + Duration::from_millis(millis));
        consumer.fin(message.id);
        consumer.settle();
    }
    let millis = |millis| Duration::from_millis(millis);
    let expected = [(1.0, millis(100)), (0.99, millis(99)), (0.5, millis(50))];
    let topic = server.topic_stats();
    let latency = &topic["e2e_processing_latency"];
    assert_close(latency, 100, &expected);
    assert_eq!(topic["channels"][0]["e2e_processing_latency"], *latency);

    let tenths = |(_, value): (f64, Duration)| format!("{:.1}ms", value.as_secs_f64() * 1e3);
    let list = values(latency).into_iter().map(tenths).collect::<Vec<_>>().join(", ");
    let text = String::from_utf8(http(server.http, "GET", "/stats", b"").1).unwrap();
    assert_eq!(text.matches(&format!(" e2e%: {list}\n")).count(), 2, "{text}");
}

#[test]
fn waiting_and_earlier_attempts_count_and_a_topic_is_all_of_its_channels() {
    let machine = Machine::new();
    let server = measuring(&machine, "1.0,0.01");
    let mut consumers = ["c", "d"].map(|channel| server.consumer("t", channel, 1));
    let start = machine.clocks.wall();
    server.client().publish("t", b"x");
    for (wait, consumer) in [10, 30].into_iter().zip(&mut consumers) {
        let message = consumer.message();
        machine.clocks.set_wall(start + wait * SECOND / 2);
        consumer.req(message.id, 0);
        let again = consumer.message();
        assert_eq!(again.attempts, 2);
        machine.clocks.set_wall(start + wait * SECOND);
        consumer.fin(again.id);
        consumer.settle();
    }
    let latency = |channel: &str| server.channel_stats(channel)["e2e_processing_latency"].clone();
    assert_close(&latency("c"), 1, &[(1.0, 10 * SECOND), (0.01, 10 * SECOND)]);
    assert_close(&latency("d"), 1, &[(1.0, 30 * SECOND), (0.01, 30 * SECOND)]);
    let expected = [(1.0, 30 * SECOND), (0.01, 10 * SECOND)];
    assert_close(&server.topic_stats()["e2e_processing_latency"], 2, &expected);
}

#[test]
fn each_message_counts_from_its_own_publish_whatever_it_is_delivered_with() {
    let machine = Machine::new();
    let mut server = measuring(&machine, "1,0.5,0.01");
    let start = machine.clocks.wall();
    drop(server.consumer("t", "c", 0));
    for (seconds, count) in [(0, 3), (10, 3), (20, 4)] {
        machine.clocks.set_wall(start + seconds * SECOND);
        server.client().publish_all("t", &vec!["x"; count]);
    }
    machine.clocks.set_wall(start + 30 * SECOND);
    let expected = [(1.0, 30 * SECOND), (0.5, 20 * SECOND), (0.01, 10 * SECOND)];
    // From memory; then, after a start, from the disk.
    for (count, finished) in [(10, [1, 4, 8]), (7, [0, 2, 4])] {
        let mut consumer = server.consumer("t", "c", 100);
        let mut messages = consumer.messages(count);
        messages.sort_by_key(|message| message.id);
        finished.into_iter().for_each(|index| consumer.fin(messages[index].id));
        consumer.settle();
        assert_close(&server.topic_stats()["e2e_processing_latency"], 3, &expected);
        drop(consumer);
        server.stop();
        server = measuring(&machine, "1,0.5,0.01");
    }
}

#[test]
fn a_latency_is_zero_when_the_clock_was_set_back() {
    let machine = Machine::new();
    let server = measuring(&machine, "1");
    let mut consumer = server.consumer("t", "c", 1);
    server.client().publish("t", b"x");
    let message = consumer.message();
    machine.clocks.set_wall(machine.clocks.wall() - SECOND);
    consumer.fin(message.id);
    consumer.settle();
    let expected = json!({"count": 1, "percentiles": [{"quantile": 1, "value": 0}]});
    assert_eq!(server.topic_stats()["e2e_processing_latency"], expected);
}

#[test]
fn percentiles_are_null_for_a_topic_without_channels_and_zero_before_the_first_fin() {
    let machine = Machine::new();
    let server = measuring(&machine, "0.999,0.5");
    let mut consumer = server.consumer("t", "c", 1);
    server.client().publish("t", b"x");
    let message = consumer.message();
    consumer.req(message.id, 3_600_000);
    consumer.settle();
    let none = json!({"count": 0, "percentiles": [{"quantile": 0.999, "value": 0}, {"quantile": 0.5, "value": 0}]});
    assert_eq!(server.topic_stats()["e2e_processing_latency"], none, "a REQ is no FIN");
    assert_eq!(server.channel_stats("c")["e2e_processing_latency"], none);
    server.post("/channel/delete?topic=t&channel=c");
    let null = json!({"count": 0, "percentiles": null});
    assert_eq!(server.topic_stats()["e2e_processing_latency"], null);
}

#[test]
fn latencies_are_forgotten_after_the_window() {
    let machine = Machine::new();
    let server = machine.start(|options| {
        options.e2e_percentiles = percentiles("0.5");
        options.e2e_window = 10 * SECOND;
    });
    let mut consumer = server.consumer("t", "c", 1);
    let count = || server.topic_stats()["e2e_processing_latency"]["count"].as_u64().unwrap();
    server.client().publish("t", b"x");
    let message = consumer.message();
    consumer.fin(message.id);
    consumer.settle();
    machine.clocks.pass(SECOND);
    assert_eq!(count(), 1);
    machine.clocks.pass(10 * SECOND);
    assert_eq!(count(), 0);
}
