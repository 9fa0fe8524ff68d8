//! Publishing in batches (P17): when a batch is published, and the outcome of its messages.

use std::time::Duration;

use nsq_client::{
    BatchTarget, Batching, BatchingProducer, Code, Config, ProducerPool, PublishError, Receipt,
};

use crate::support::{Nsqd, Peer, error, producer_of, soon};

const HOUR: Duration = Duration::from_secs(3600);

/// Batches that are published only when they are full or flushed.
fn unhurried() -> Batching {
    Batching { linger: HOUR, ..Batching::default() }
}

/// A batching producer and nsqd's end of its connection.
async fn connected(nsqd: &Nsqd, batching: Batching) -> (BatchingProducer, Peer) {
    let producer = producer_of(nsqd);
    let (pinged, mut peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    pinged.unwrap();
    peer.said(&["NOP"]).await;
    (BatchingProducer::new(producer, batching), peer)
}

async fn publish(producer: &BatchingProducer, bodies: &[&str]) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for body in bodies {
        receipts.push(soon(producer.publish("t", body.as_bytes())).await.unwrap());
    }
    receipts
}

async fn all_ok(receipts: Vec<Receipt>) {
    for receipt in receipts {
        soon(receipt).await.unwrap();
    }
}

/// Answers one batch, which must be `command`.
async fn takes(peer: &mut Peer, command: &str) {
    peer.said(&[command]).await;
    peer.respond(b"OK").await;
}

#[tokio::test]
async fn a_batch_is_published_when_it_has_enough_messages() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Batching { messages_max: 3, ..unhurried() }).await;
    let receipts = publish(&producer, &["1", "2", "3", "4"]).await;
    takes(&mut peer, "MPUB t 1,2,3").await;
    let mut receipts = receipts.into_iter();
    all_ok(receipts.by_ref().take(3).collect()).await;
    peer.says_nothing().await;
    publish(&producer, &["5", "6"]).await;
    takes(&mut peer, "MPUB t 4,5,6").await;
    all_ok(receipts.collect()).await;
}

#[tokio::test]
async fn a_batch_is_published_before_it_has_too_many_bytes() {
    let nsqd = Nsqd::start().await;
    // A count of 4 bytes, and 4 bytes before each body.
    let batching = Batching { bytes_max: 4 + (4 + 2) * 2, ..unhurried() };
    let (producer, mut peer) = connected(&nsqd, batching).await;
    let receipts = publish(&producer, &["11", "22"]).await;
    takes(&mut peer, "MPUB t 11,22").await;
    all_ok(receipts).await;
    // A message that no longer fits begins the next batch.
    publish(&producer, &["33", "4"]).await;
    peer.says_nothing().await;
    publish(&producer, &["55"]).await;
    takes(&mut peer, "MPUB t 33,4").await;
    peer.says_nothing().await;
}

#[tokio::test]
async fn a_message_larger_than_a_batch_is_published_alone() {
    let nsqd = Nsqd::start().await;
    let batching = Batching { bytes_max: 20, buffered_bytes_max: 60, ..unhurried() };
    let (producer, mut peer) = connected(&nsqd, batching).await;
    let large = "x".repeat(100);
    let bodies = ["1", &large, "2"];
    let serve = async {
        takes(&mut peer, "MPUB t 1").await;
        takes(&mut peer, &format!("MPUB t {large}")).await;
    };
    let (receipts, ()) = soon(async { tokio::join!(publish(&producer, &bodies), serve) }).await;
    drop(producer.publish("t", b"three, four, five").await.unwrap());
    takes(&mut peer, "MPUB t 2").await;
    all_ok(receipts).await;
}

#[tokio::test]
async fn a_batch_is_published_when_its_first_message_has_waited_long_enough() {
    let nsqd = Nsqd::start().await;
    let linger = Duration::from_millis(1);
    let (producer, mut peer) = connected(&nsqd, Batching { linger, ..unhurried() }).await;
    for body in ["1", "2"] {
        let receipts = publish(&producer, &[body]).await;
        takes(&mut peer, &format!("MPUB t {body}")).await;
        all_ok(receipts).await;
    }
}

#[tokio::test]
async fn closing_publishes_what_is_buffered_and_refuses_what_is_new() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, unhurried()).await;
    let receipts = publish(&producer, &["1", "2"]).await;
    let closing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.close(HOUR).await }
    });
    peer.said(&["MPUB t 1,2"]).await;
    assert!(matches!(error(producer.publish("t", b"3").await), PublishError::Closed));
    peer.says_nothing().await;
    assert!(!closing.is_finished());
    peer.respond(b"OK").await;
    all_ok(receipts).await;
    soon(closing).await.unwrap();
    soon(producer.close(HOUR)).await;
}

#[tokio::test]
async fn closing_keeps_its_time_limit_and_resolves_every_receipt() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) =
        connected(&nsqd, Batching { messages_max: 1, ..Batching::default() }).await;
    let receipts = publish(&producer, &["1", "2"]).await;
    peer.said(&["MPUB t 1"]).await;
    soon(producer.close(Duration::from_millis(20))).await;
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(error(soon(receipt).await));
    }
    assert!(
        matches!(outcomes[..], [PublishError::OutcomeUnknown(_), PublishError::Closed]),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn dropping_the_last_handle_publishes_what_is_buffered() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, unhurried()).await;
    let receipts = publish(&producer.clone(), &["1"]).await;
    peer.says_nothing().await;
    drop(producer);
    takes(&mut peer, "MPUB t 1").await;
    all_ok(receipts).await;
    peer.is_closed().await;
}

#[tokio::test]
async fn flushing_publishes_every_topic_at_once_and_waits_for_the_outcomes() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, unhurried()).await;
    soon(producer.flush()).await;
    // The receipts are dropped.
    publish(&producer, &["1", "2"]).await;
    drop(producer.publish("u", b"3").await.unwrap());
    let flushing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.flush().await }
    });
    let mut commands = [peer.command().await.unwrap(), peer.command().await.unwrap()];
    commands.sort();
    assert_eq!(commands, ["MPUB t 1,2", "MPUB u 3"]);
    peer.respond(b"OK").await;
    peer.says_nothing().await;
    assert!(!flushing.is_finished());
    // Messages published later are not waited for.
    publish(&producer, &["4"]).await;
    peer.error("E_MPUB_FAILED").await;
    soon(flushing).await.unwrap();
    peer.says_nothing().await;
}

#[tokio::test]
async fn every_message_of_a_refused_batch_is_told_and_no_other() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Batching { messages_max: 2, ..unhurried() }).await;
    let receipts = publish(&producer, &["1", "2", "3", "4"]).await;
    peer.said(&["MPUB t 1,2"]).await;
    peer.error("E_MPUB_FAILED full").await;
    takes(&mut peer, "MPUB t 3,4").await;
    let mut codes = Vec::new();
    for receipt in receipts {
        codes.push(soon(receipt).await.err().and_then(|refused| refused.code()));
    }
    assert_eq!(codes, [Some(Code::MultiPubFailed), Some(Code::MultiPubFailed), None, None]);
}

#[tokio::test]
async fn what_nsqd_would_refuse_anyway_is_refused_before_it_harms_a_batch() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Batching { messages_max: 2, ..unhurried() }).await;
    let receipts = publish(&producer, &["1"]).await;
    assert!(matches!(error(producer.publish("t", b"").await), PublishError::EmptyMessage));
    assert!(matches!(error(producer.publish("no topic", b"x").await), PublishError::Topic(_)));
    publish(&producer, &["2"]).await;
    takes(&mut peer, "MPUB t 1,2").await;
    all_ok(receipts).await;
}

#[tokio::test]
async fn messages_of_a_topic_keep_their_order_and_wait_for_the_batch_before() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) =
        connected(&nsqd, Batching { linger: Duration::ZERO, ..Batching::default() }).await;
    publish(&producer, &["0"]).await;
    peer.said(&["MPUB t 0"]).await;
    let bodies: Vec<_> = (1..=2500).map(|number| number.to_string()).collect();
    let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
    publish(&producer, &bodies).await;
    // Topics do not wait for each other.
    let other = producer.publish("u", b"x").await.unwrap();
    peer.said(&["MPUB u x"]).await;
    peer.says_nothing().await;
    peer.respond(b"OK").await;
    peer.respond(b"OK").await;
    soon(other).await.unwrap();
    let batches: Vec<_> = bodies.chunks(1000).map(|batch| batch.join(",")).collect();
    assert_eq!(batches.len(), 3);
    for batch in batches {
        takes(&mut peer, &format!("MPUB t {batch}")).await;
    }
}

#[tokio::test]
async fn publishers_wait_for_room_and_nothing_lingers_meanwhile() {
    let nsqd = Nsqd::start().await;
    // Room for two messages of one byte; each counts as a batch of its own.
    let batching = Batching { buffered_bytes_max: 2 * (4 + 4 + 1), ..unhurried() };
    let (producer, mut peer) = connected(&nsqd, batching).await;
    publish(&producer, &["1", "2"]).await;
    peer.says_nothing().await;
    let cancelled = tokio::time::timeout(Duration::ZERO, producer.publish("t", b"never")).await;
    assert!(cancelled.is_err());
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { publish(&producer, &["3", "4", "5"]).await }
    });
    peer.said(&["MPUB t 1,2"]).await;
    peer.says_nothing().await;
    assert!(!waiting.is_finished());
    peer.respond(b"OK").await;
    takes(&mut peer, "MPUB t 3,4").await;
    let receipts = soon(waiting).await.unwrap();
    peer.says_nothing().await;
    let flush = async { takes(&mut peer, "MPUB t 5").await };
    soon(async { tokio::join!(producer.flush(), flush) }).await;
    all_ok(receipts).await;
}

#[tokio::test]
async fn an_nsqd_that_is_down_is_told_to_every_message_and_room_is_given_back() {
    let address = Nsqd::start().await.address().to_owned();
    let pool = ProducerPool::new([&address], Config::default()).unwrap();
    let batching = Batching { buffered_bytes_max: 20, linger: Duration::ZERO, ..unhurried() };
    let producer = BatchingProducer::new(BatchTarget::Pool(pool), batching);
    for receipt in publish(&producer, &["1", "2", "3", "4", "5"]).await {
        let failed = error(soon(receipt).await);
        assert!(matches!(failed, PublishError::NotConnected(_)), "{failed:?}");
    }
}

#[tokio::test]
async fn batches_go_to_another_nsqd_of_a_pool_when_one_is_down() {
    let down = Nsqd::start().await.address().to_owned();
    let nsqd = Nsqd::start().await;
    let pool = ProducerPool::new([&*down, nsqd.address()], Config::default()).unwrap();
    let producer = BatchingProducer::new(pool, Batching { messages_max: 2, ..unhurried() });
    let receipts = publish(&producer, &["1", "2"]).await;
    let mut peer = nsqd.identified().await;
    takes(&mut peer, "MPUB t 1,2").await;
    all_ok(receipts).await;
}
