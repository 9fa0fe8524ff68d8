//! Stopping, which always completes.

use std::time::Duration;

use nsq_client::{ConnectError, Message, StopMode, StopReport};
use tokio::sync::mpsc;

use crate::support::{Nsqd, connect, consumer, error, fin, ok, req, soon, with_hands};

#[tokio::test]
async fn messages_in_flight_are_finished_before_the_connection_closes() {
    // S01, trace 9
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(3), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=3).await;
    let first = soon(hands.recv()).await.unwrap();
    let stopped = consumer.stop();
    peer.said(&["RDY 3", "CLS"]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.says_nothing().await;
    first.end(Ok(()));
    peer.said(&[&fin(1)]).await;
    soon(hands.recv()).await.unwrap().end(Ok(()));
    soon(hands.recv()).await.unwrap().end(Err("failed"));
    peer.said(&[&fin(2), &req(3, 90_000)]).await;
    peer.is_closed().await;
    let report = soon(stopped).await;
    assert_eq!((report.messages_finished, report.messages_requeued), (2, 1));
    assert_eq!(report.messages_abandoned, 0);
}

#[tokio::test]
async fn the_connection_stays_until_nsqd_has_seen_the_cls() {
    // S01: a message may be on its way to us.
    let nsqd = Nsqd::start().await;
    let consumer = consumer(3).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    let stopped = consumer.stop();
    peer.said(&["RDY 3", "CLS"]).await;
    peer.message(1, 1).await;
    peer.said(&[&fin(1)]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.is_closed().await;
    soon(stopped).await;
}

#[tokio::test]
async fn without_connections_or_handlers_a_stop_is_over_at_once() {
    // S02
    for consumer in [consumer(1).build().unwrap(), consumer(1).handler(ok).build().unwrap()] {
        assert_eq!(soon(consumer.stop()).await, StopReport::default());
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_does_not_keep_the_consumer_from_stopping() {
    // S03
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(2), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    let busy = soon(hands.recv()).await.unwrap();
    let report = soon(consumer.stop_with(StopMode::Drain, Duration::from_millis(50))).await;
    assert_eq!(report.messages_abandoned, 2);
    peer.said(&["RDY 2", "CLS"]).await;
    peer.is_closed().await;
    // The handler is left running; its answer comes too late.
    busy.end(Ok(()));
    soon(hands.recv()).await.unwrap().end(Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_thirty_seconds_at_most_by_default() {
    // S03
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(1), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    let _busy = hands.recv().await.unwrap();
    peer.said(&["RDY 1"]).await;
    let since = tokio::time::Instant::now();
    consumer.stop().await;
    assert_eq!(since.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn stopping_twice_is_stopping_once() {
    // S04
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    let (first, second) = (consumer.stop(), consumer.stop());
    peer.said(&["RDY 1", "CLS"]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.is_closed().await;
    let (first, second) = soon(async { tokio::join!(first, second) }).await;
    assert_eq!(first, second);
    assert_eq!(soon(consumer.stop()).await, first);
}

#[tokio::test]
async fn a_handler_may_stop_its_consumer() {
    // S04
    let nsqd = Nsqd::start().await;
    let (give, mut given) = mpsc::channel::<nsq_client::Consumer>(1);
    let (stop, mut stopped) = mpsc::channel(1);
    let given = std::sync::Mutex::new(given.try_recv().is_err().then_some(given));
    let consumer = consumer(1)
        .handler(move |_: Message| {
            let mut given = given.lock().unwrap().take().unwrap();
            let stop = stop.clone();
            async move {
                let consumer = given.recv().await.unwrap();
                stop.send(tokio::spawn(consumer.stop())).await.unwrap();
                Ok::<_, &str>(())
            }
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    give.send(consumer.clone()).await.unwrap();
    peer.message(1, 1).await;
    peer.said(&["RDY 1", "CLS", &fin(1)]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.is_closed().await;
    let stopping = soon(stopped.recv()).await.unwrap();
    assert_eq!(soon(stopping).await.unwrap().messages_finished, 1);
}

#[tokio::test]
async fn a_stop_interrupts_connecting() {
    // S04
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        soon(consumer.stop()).await;
        peer.is_closed().await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
    assert!(matches!(error(connected), ConnectError::Stopped));
}

#[tokio::test]
async fn a_stop_interrupts_the_pause_before_reconnecting() {
    // S04
    let nsqd = Nsqd::start().await;
    let config = nsq_client::Config {
        lookupd_poll_interval: Duration::from_secs(300),
        ..nsq_client::Config::default()
    };
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let peer = connect(&consumer, &nsqd).await;
    drop((nsqd, peer));
    let report = soon(consumer.stop_with(StopMode::Drain, Duration::from_secs(300))).await;
    assert_eq!(report.messages_abandoned, 0);
}

#[tokio::test]
async fn messages_that_no_handler_has_begun_with_go_back_if_asked() {
    // S05
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(3), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=3).await;
    let busy = soon(hands.recv()).await.unwrap();
    peer.said(&["RDY 3"]).await;
    peer.says_nothing().await;
    let stopped = consumer.stop_with(StopMode::RequeueBuffered, Duration::from_secs(5));
    peer.said(&["CLS", &req(2, 0), &req(3, 0)]).await;
    peer.respond(b"CLOSE_WAIT").await;
    busy.end(Ok(()));
    peer.said(&[&fin(1)]).await;
    peer.is_closed().await;
    let report = soon(stopped).await;
    assert_eq!((report.messages_finished, report.messages_requeued), (1, 2));
}

#[tokio::test]
async fn after_a_stop_nothing_is_connected_and_nothing_can_be() {
    // S06
    let nsqd = Nsqd::start().await;
    let dropped = std::sync::Arc::new(());
    let held = std::sync::Arc::clone(&dropped);
    let consumer = consumer(1)
        .handler(move |_: Message| {
            let _held = &held;
            std::future::ready(Ok::<_, &str>(()))
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    let stopped = consumer.stop();
    peer.said(&["RDY 1", "CLS"]).await;
    peer.respond(b"CLOSE_WAIT").await;
    soon(stopped).await;
    assert_eq!(consumer.stats().connections, 0);
    assert_eq!(std::sync::Arc::strong_count(&dropped), 1, "the workers are gone");
    let refused = error(consumer.connect_to_nsqd(nsqd.address()).await);
    assert!(matches!(refused, ConnectError::Stopped));
    assert!(matches!(
        error(consumer.keep_connecting_to_nsqd(nsqd.address())),
        ConnectError::Stopped
    ));
}

#[tokio::test]
async fn dropping_the_last_handle_stops_in_the_background() {
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(2), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    let busy = soon(hands.recv()).await.unwrap();
    peer.said(&["RDY 2"]).await;
    let clone = consumer.clone();
    drop(consumer);
    peer.says_nothing().await;
    drop(clone);
    peer.said(&["CLS", &req(2, 0)]).await;
    peer.respond(b"CLOSE_WAIT").await;
    busy.end(Ok(()));
    peer.said(&[&fin(1)]).await;
    peer.is_closed().await;
}
