//! Backing off: the commands that nsqd gets when handling fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nsq_client::{Backoff, Config, Delay, Event, Message, OnDrop};
use tokio::time::Instant;

use crate::support::{Nsqd, connect, consumer, error, fail, fin, quick, req, soon, with_hands};

/// A configuration that backs off in units of `ms`.
fn backing_off(max_in_flight: u32, ms: u64) -> Config {
    Config {
        backoff_multiplier: Duration::from_millis(ms),
        max_backoff_duration: Duration::from_secs(120),
        default_requeue_delay: Duration::ZERO,
        ..quick(max_in_flight)
    }
}

/// A handler that fails with messages in their second attempt.
async fn first_only(message: Message) -> Result<(), &'static str> {
    if message.attempts() == 1 { Ok(()) } else { Err("on purpose") }
}

#[tokio::test]
async fn failures_stop_the_flow_and_single_messages_bring_it_back() {
    // B01, B02, B03, B05, N06, trace 2
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 10)).handler(first_only).build().unwrap();
    let mut events = consumer.events();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=3).await;
    peer.said(&["RDY 5", &fin(1), &fin(2), &fin(3)]).await;
    peer.message(4, 2).await;
    peer.said(&["RDY 0", &req(4, 0), "RDY 1"]).await;
    peer.message(5, 2).await;
    peer.said(&["RDY 0", &req(5, 0), "RDY 1"]).await;
    peer.message(6, 1).await;
    peer.said(&["RDY 0", &fin(6), "RDY 1"]).await;
    peer.message(7, 1).await;
    peer.said(&["RDY 5", &fin(7)]).await;
    // T02
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(match soon(events.recv()).await.unwrap() {
            Event::Connected { nsqd: connected } => {
                assert_eq!(connected, nsqd.address());
                "connected".to_owned()
            }
            Event::BackedOff { level, pause } => format!("{level} {}", pause.as_millis()),
            Event::Resumed => "resumed".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, ["connected", "1 20", "2 40", "1 20", "resumed"]);
}

#[tokio::test]
async fn requeueing_without_backoff_does_not_begin_and_does_not_end_it() {
    // B06, trace 3
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1)
        .config(backing_off(1, 10))
        .handler(async |message: Message| {
            match message.attempts() {
                1 => message.finish(),
                2 => message.requeue_without_backoff(Delay::Auto),
                _ => message.requeue(Delay::Auto),
            }
            Ok::<_, &str>(())
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 2).await;
    peer.said(&["RDY 1", &req(1, 0)]).await;
    peer.message(2, 3).await;
    peer.said(&["RDY 0", &req(2, 0), "RDY 1"]).await;
    peer.message(3, 2).await;
    peer.said(&["RDY 0", &req(3, 0), "RDY 1"]).await;
    peer.message(4, 1).await;
    // One message was allowed before and is allowed now, so that no RDY is sent.
    peer.said(&[&fin(4)]).await;
    peer.says_nothing().await;
}

#[tokio::test]
async fn a_connection_made_while_backing_off_gets_the_single_message() {
    // B09, B10, trace 4
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 10)).handler(first_only).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    peer.said(&["RDY 5", &fin(1)]).await;
    for number in [2, 3] {
        peer.message(number, 2).await;
        peer.said(&["RDY 0", &req(number, 0), "RDY 1"]).await;
    }
    peer.message(4, 1).await;
    peer.said(&["RDY 0", &fin(4), "RDY 1"]).await;
    drop(peer);
    let mut peer = nsqd.subscribed().await;
    peer.said(&["RDY 1"]).await;
    peer.messages(5..=5).await;
    peer.said(&["RDY 5", &fin(5)]).await;
}

#[tokio::test]
async fn a_connection_made_during_the_pause_gets_nothing_until_it_is_over() {
    // B10
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 60_000)).handler(fail).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    peer.said(&["RDY 5", "RDY 0", &req(1, 0)]).await;
    drop(peer);
    nsqd.subscribed().await.says_nothing().await;
}

#[tokio::test]
async fn all_connections_pause_and_one_of_them_is_tried() {
    // B02, B03, B05, B07, trace 8
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let config = Config {
        max_backoff_duration: Duration::from_millis(50),
        default_requeue_delay: Duration::from_secs(90),
        low_rdy_idle_timeout: Duration::from_secs(300),
        low_rdy_timeout: Duration::from_secs(300),
        ..backing_off(10, 10)
    };
    let consumer = consumer(10).config(config).handler(first_only).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 10"]).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 5"]).await;
    at_b.said(&["RDY 5"]).await;
    at_a.message(1, 3).await;
    at_a.said(&["RDY 0", &req(1, 270_000)]).await;
    at_b.said(&["RDY 0"]).await;
    // 20 ms, 40 ms, and then 40 ms still, because 80 ms would be too long.
    for attempts in [2, 2, 2, 1] {
        let (first, tried, other) = tokio::select! {
            command = at_a.command() => (command, &mut at_a, &mut at_b),
            command = at_b.command() => (command, &mut at_b, &mut at_a),
        };
        assert_eq!(first.as_deref(), Some("RDY 1"));
        tried.message(5, attempts).await;
        let answer = if attempts == 1 { fin(5) } else { req(5, 180_000) };
        tried.said(&["RDY 0", &answer]).await;
        other.says_nothing().await;
    }
    let (tried, other) = tokio::select! {
        _ = at_a.command() => (&mut at_a, &mut at_b),
        _ = at_b.command() => (&mut at_b, &mut at_a),
    };
    tried.message(6, 1).await;
    tried.said(&["RDY 5", &fin(6)]).await;
    other.said(&["RDY 5"]).await;
}

#[tokio::test]
async fn many_failures_at_once_count_once() {
    // B04
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 10)).handler(first_only).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    for number in 1..=4 {
        peer.message(number, 2).await;
    }
    peer.said(&["RDY 5", "RDY 0", &req(1, 0), &req(2, 0), &req(3, 0), &req(4, 0), "RDY 1"]).await;
    peer.message(5, 1).await;
    peer.said(&["RDY 5", &fin(5)]).await;
}

#[tokio::test]
async fn a_pause_of_nothing_at_most_means_no_backing_off() {
    // B07
    let nsqd = Nsqd::start().await;
    let config = Config { max_backoff_duration: Duration::ZERO, ..backing_off(5, 10) };
    let consumer = consumer(5).config(config).handler(fail).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    peer.said(&["RDY 5", &req(1, 0), &req(2, 0)]).await;
    peer.says_nothing().await;
}

#[tokio::test]
async fn a_strategy_of_the_applications_own_is_asked() {
    // B08
    let nsqd = Nsqd::start().await;
    let levels = Arc::new(AtomicU32::new(0));
    let asked = Arc::clone(&levels);
    let config = Config {
        backoff_strategy: Backoff::custom(move |level, multiplier| {
            asked.fetch_max(level, Ordering::Relaxed);
            multiplier
        }),
        ..backing_off(5, 10)
    };
    let consumer = consumer(5).config(config).handler(fail).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 5"]).await;
    for number in 1..=3 {
        peer.message(number, 1).await;
        peer.said(&["RDY 0", &req(number, 0), "RDY 1"]).await;
    }
    assert_eq!(levels.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_consumer_that_was_paused_while_backing_off_recovers() {
    // B11
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 10)).handler(first_only).build().unwrap();
    let mut events = consumer.events();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 2).await;
    peer.said(&["RDY 5", "RDY 0", &req(1, 0), "RDY 1"]).await;
    consumer.change_max_in_flight(0);
    peer.said(&["RDY 0"]).await;
    consumer.change_max_in_flight(3);
    peer.said(&["RDY 1"]).await;
    peer.message(2, 1).await;
    peer.said(&["RDY 3", &fin(2)]).await;
    // The same when the pause ends while the consumer is paused.
    peer.message(3, 2).await;
    peer.said(&["RDY 0"]).await;
    consumer.change_max_in_flight(0);
    while !matches!(soon(events.recv()).await.unwrap(), Event::Resumed) {}
    let since = Instant::now();
    peer.said(&[&req(3, 0)]).await;
    while since.elapsed() < Duration::from_millis(25) {
        peer.says_nothing().await;
    }
    consumer.change_max_in_flight(2);
    peer.said(&["RDY 1"]).await;
    peer.message(4, 1).await;
    peer.said(&["RDY 2", &fin(4)]).await;
}

#[tokio::test]
async fn the_single_message_moves_on_when_its_connection_is_lost() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let config = Config { lookupd_poll_interval: Duration::from_secs(300), ..backing_off(4, 10) };
    let consumer = consumer(4).config(config).handler(first_only).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 4"]).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 2"]).await;
    at_b.said(&["RDY 2"]).await;
    at_a.message(1, 2).await;
    at_a.said(&["RDY 0", &req(1, 0)]).await;
    at_b.said(&["RDY 0"]).await;
    let a_is_tried = tokio::select! {
        _ = at_a.command() => true,
        _ = at_b.command() => false,
    };
    let (lost, mut other) = if a_is_tried { (at_a, at_b) } else { (at_b, at_a) };
    drop(lost);
    other.said(&["RDY 1"]).await;
    other.message(2, 1).await;
    other.said(&["RDY 4", &fin(2)]).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_pause() {
    // B12, S04
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).config(backing_off(5, 60_000)).handler(fail).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    peer.said(&["RDY 5", "RDY 0", &req(1, 0)]).await;
    let stopped = consumer.stop();
    peer.said(&["CLS"]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.is_closed().await;
    soon(stopped).await;
    assert!(error(consumer.connect_to_nsqd(nsqd.address()).await).to_string().contains("stopped"));
}

#[tokio::test]
async fn messages_given_up_are_successes_and_dropped_ones_as_the_policy_says() {
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(5).config(backing_off(5, 10)), 1);
    let builder = builder.on_drop(OnDrop::RequeueWithoutBackoff(Delay::Auto));
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 5"]).await;
    peer.message(1, 1).await;
    let hand = soon(hands.recv()).await.unwrap();
    hand.message.disable_auto_response();
    hand.end(Ok(()));
    peer.said(&[&req(1, 0)]).await;
    peer.message(2, 1).await;
    soon(hands.recv()).await.unwrap().end(Err("failed"));
    peer.said(&["RDY 0", &req(2, 0), "RDY 1"]).await;
    peer.message(3, 6).await;
    peer.said(&["RDY 5", &fin(3)]).await;
}

#[tokio::test]
async fn pulled_messages_make_the_consumer_back_off_too() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(5).config(backing_off(5, 10)).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.message(1, 1).await;
    soon(messages.recv()).await.unwrap().requeue(Duration::from_millis(7));
    peer.said(&["RDY 5", "RDY 0", &req(1, 7), "RDY 1"]).await;
    peer.message(2, 1).await;
    soon(messages.recv()).await.unwrap().finish();
    peer.said(&["RDY 5", &fin(2)]).await;
}
