//! Publishing: answers, lost connections, and the limits of publishes in flight.

use std::{sync::Arc, time::Duration};

use nsq_client::{Code, Config, Producer, PublishError};
use tokio::task::JoinSet;

use crate::support::{Nsqd, Peer, error, producer_of, soon};

/// Returns a producer and nsqd's end of its connection.
async fn connected(nsqd: &Nsqd, config: Config) -> (Producer, Peer) {
    let producer = Producer::new(nsqd.address(), config).unwrap();
    let (pinged, mut peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    pinged.unwrap();
    peer.said(&["NOP"]).await;
    (producer, peer)
}

#[tokio::test]
async fn the_first_publish_connects_and_every_kind_has_its_command() {
    // P01, W02
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let publish = async {
        producer.publish("t", b"one").await.unwrap();
        producer.multi_publish("t", &["two", "three"]).await.unwrap();
        let delay = Duration::from_micros(1_500_001);
        producer.deferred_publish("t#ephemeral", delay, b"later").await.unwrap();
    };
    let serve = async {
        let mut peer = nsqd.identified().await;
        for command in ["PUB t one", "MPUB t two,three", "DPUB t#ephemeral 1501 later"] {
            peer.said(&[command]).await;
            peer.respond(b"OK").await;
        }
        peer
    };
    soon(async { tokio::join!(publish, serve) }).await;
}

#[tokio::test]
async fn what_nsqd_would_refuse_anyway_is_refused_before_connecting() {
    // W04, W05
    let producer = Producer::new("127.0.0.1:1", Config::default()).unwrap();
    for topic in ["", "a b", "a\n", &"x".repeat(65)] {
        let refused = error(producer.publish(topic, b"x").await);
        assert!(matches!(refused, PublishError::Topic(_)), "{topic:?}");
    }
    let empty = error(producer.publish("t", b"").await);
    assert!(matches!(empty, PublishError::EmptyMessage));
    let empty = error(producer.multi_publish("t", &["x", ""]).await);
    assert!(matches!(empty, PublishError::EmptyMessage));
    let none = error(producer.multi_publish::<&str>("t", &[]).await);
    assert!(matches!(none, PublishError::NoMessages));
    let empty = error(producer.deferred_publish("t", Duration::ZERO, b"").await);
    assert!(matches!(empty, PublishError::EmptyMessage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_goes_to_its_own_publisher() {
    // P03
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let mut publishers = JoinSet::new();
    for number in 0..200 {
        let producer = producer.clone();
        publishers.spawn(async move {
            for round in 0..10 {
                let body = format!("{number} {round}");
                let outcome = producer.publish("t", body.as_bytes()).await;
                // The answer repeats the body, or is the plain success.
                match outcome {
                    Ok(()) => assert_eq!(round % 2, 0),
                    Err(error) => {
                        assert_eq!(error.to_string(), format!("rejected: E_PUB_FAILED {body}"))
                    }
                }
            }
        });
    }
    for _ in 0..2000 {
        let command = peer.command().await.unwrap();
        let body = command.strip_prefix("PUB t ").unwrap();
        let round: u32 = body.split(' ').nth(1).unwrap().parse().unwrap();
        if round.is_multiple_of(2) {
            peer.respond(b"OK").await;
        } else {
            peer.error(&format!("E_PUB_FAILED {body}")).await;
        }
    }
    soon(publishers.join_all()).await;
}

#[tokio::test]
async fn publishes_of_one_task_are_written_in_order_and_receipts_may_be_ignored() {
    // P04
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let mut receipts = Vec::new();
    for number in 0..100 {
        let receipt = producer.enqueue("t", number.to_string().as_bytes()).await.unwrap();
        if number % 2 == 0 {
            receipts.push((number, receipt));
        }
    }
    for number in 0..100 {
        peer.said(&[&format!("PUB t {number}")]).await;
        if number % 4 == 0 {
            peer.error(&format!("E_PUB_FAILED {number}")).await;
        } else {
            peer.respond(b"OK").await;
        }
    }
    for (number, receipt) in receipts {
        let outcome = soon(receipt).await;
        assert_eq!(outcome.is_err(), number % 4 == 0);
    }
}

#[tokio::test]
async fn an_error_is_the_answer_to_one_publish_only() {
    // P05, trace 12
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let mut receipts = Vec::new();
    for body in [b"1", b"2", b"3"] {
        receipts.push(producer.enqueue("t", body).await.unwrap());
    }
    for text in ["E_PUB_FAILED first", "E_NOVEL second", "E_PUB_FAILED"] {
        peer.error(text).await;
    }
    let mut codes = Vec::new();
    for receipt in receipts {
        let rejected = error(soon(receipt).await);
        assert!(matches!(rejected, PublishError::Rejected(_)) && !rejected.is_retryable());
        codes.push(rejected.code());
    }
    assert_eq!(codes, [Some(Code::PubFailed), None, Some(Code::PubFailed)]);
    peer.said(&["PUB t 1", "PUB t 2", "PUB t 3"]).await;
    peer.says_nothing().await;
}

#[tokio::test]
async fn when_the_connection_is_lost_outcomes_are_unknown_and_the_next_publish_reconnects() {
    // P06, trace 12
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let mut receipts = Vec::new();
    for body in [b"1", b"2", b"3"] {
        receipts.push(producer.enqueue("t", body).await.unwrap());
    }
    peer.said(&["PUB t 1", "PUB t 2", "PUB t 3"]).await;
    drop(peer);
    for receipt in receipts {
        let lost = error(soon(receipt).await);
        assert!(matches!(lost, PublishError::OutcomeUnknown(_)), "{lost:?}");
        assert!(!lost.is_retryable());
    }
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["PUB t 4"]).await;
        peer.respond(b"OK").await;
    };
    let (published, ()) = soon(async { tokio::join!(producer.publish("t", b"4"), serve) }).await;
    published.unwrap();
}

#[tokio::test]
async fn an_nsqd_that_is_down_is_told_to_everyone_who_waits_and_found_when_it_is_back() {
    // P07
    let nsqd = Nsqd::start().await;
    let address = nsqd.address().to_owned();
    drop(nsqd);
    let producer = Producer::new(&address, Config::default()).unwrap();
    let (one, two) =
        soon(async { tokio::join!(producer.publish("t", b"1"), producer.publish("t", b"2")) })
            .await;
    for failed in [one, two] {
        let failed = error(failed);
        assert!(matches!(failed, PublishError::NotConnected(_)), "{failed:?}");
        assert!(failed.is_retryable());
    }
    assert!(matches!(error(producer.ping().await), PublishError::NotConnected(_))); // P08
    let nsqd = Nsqd::start_at(&address).await;
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["PUB t 3"]).await;
        peer.respond(b"OK").await;
    };
    let (published, ()) = soon(async { tokio::join!(producer.publish("t", b"3"), serve) }).await;
    published.unwrap();
}

#[tokio::test]
async fn many_who_publish_at_first_share_one_connection() {
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let mut publishers = JoinSet::new();
    for _ in 0..20 {
        let producer = producer.clone();
        publishers.spawn(async move { producer.publish("t", b"x").await.unwrap() });
    }
    let mut peer = nsqd.identified().await;
    for _ in 0..20 {
        peer.said(&["PUB t x"]).await;
        peer.respond(b"OK").await;
    }
    soon(publishers.join_all()).await;
}

#[tokio::test]
async fn an_answer_to_nothing_closes_the_connection() {
    // P09
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let receipt = producer.enqueue("t", b"1").await.unwrap();
    peer.said(&["PUB t 1"]).await;
    peer.respond(b"OK").await;
    peer.respond(b"OK").await;
    soon(receipt).await.unwrap();
    peer.is_closed().await;
    let serve = async { nsqd.identified().await.said(&["NOP"]).await };
    soon(async { tokio::join!(producer.ping(), serve) }).await.0.unwrap();
}

#[tokio::test]
async fn closing_refuses_what_is_new_and_waits_for_what_is_outstanding() {
    // P10
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let receipt = producer.enqueue("t", b"1").await.unwrap();
    let closing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.close(Duration::from_secs(5)).await }
    });
    peer.said(&["PUB t 1"]).await;
    peer.says_nothing().await;
    assert!(matches!(error(producer.publish("t", b"2").await), PublishError::Closed));
    assert!(matches!(error(producer.ping().await), PublishError::Closed));
    assert!(!closing.is_finished());
    peer.respond(b"OK").await;
    soon(receipt).await.unwrap();
    soon(closing).await.unwrap();
    peer.is_closed().await;
}

#[tokio::test]
async fn closing_does_not_wait_longer_than_it_may() {
    // P10
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let receipt = producer.enqueue("t", b"1").await.unwrap();
    peer.said(&["PUB t 1"]).await;
    soon(producer.close(Duration::from_millis(20))).await;
    assert!(matches!(error(soon(receipt).await), PublishError::OutcomeUnknown(_)));
    peer.is_closed().await;
    soon(producer.close(Duration::from_millis(20))).await;
    let unused = producer_of(&nsqd);
    soon(unused.close(Duration::ZERO)).await;
    assert!(matches!(error(unused.publish("t", b"x").await), PublishError::Closed));
}

#[tokio::test]
async fn dropping_a_producer_lets_what_is_outstanding_be_answered() {
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let receipt = producer.enqueue("t", b"1").await.unwrap();
    drop(producer);
    peer.said(&["PUB t 1"]).await;
    peer.respond(b"OK").await;
    soon(receipt).await.unwrap();
    peer.is_closed().await;
}

#[tokio::test]
async fn a_cancelled_publish_leaves_the_order_of_answers_intact() {
    // P11
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    for number in 0..10 {
        let body = number.to_string();
        let publish = producer.publish("t", body.as_bytes());
        let cancelled = tokio::time::timeout(Duration::from_millis(1), publish).await;
        assert!(cancelled.is_err());
    }
    let receipt = producer.enqueue("t", b"last").await.unwrap();
    for number in 0..10 {
        peer.said(&[&format!("PUB t {number}")]).await;
        peer.respond(b"OK").await;
    }
    peer.said(&["PUB t last"]).await;
    peer.error("E_PUB_FAILED last").await;
    assert_eq!(error(soon(receipt).await).to_string(), "rejected: E_PUB_FAILED last");
}

#[tokio::test]
async fn publishes_over_the_limit_wait_for_answers() {
    // P12
    let nsqd = Nsqd::start().await;
    for (config, body) in [
        (Config { max_outstanding: 3, ..Config::default() }, &b"x"[..]),
        (Config { max_outstanding_bytes: 3000, ..Config::default() }, &[b'x'; 990]),
    ] {
        let (producer, mut peer) = connected(&nsqd, config).await;
        let mut receipts = Vec::new();
        for _ in 0..3 {
            receipts.push(producer.enqueue("t", body).await.unwrap());
        }
        let waiting = tokio::spawn({
            let (producer, body) = (producer.clone(), body.to_vec());
            async move { producer.publish("t", &body).await }
        });
        let command = format!("PUB t {}", String::from_utf8_lossy(body));
        peer.said(&[&command, &command, &command]).await;
        peer.says_nothing().await;
        peer.respond(b"OK").await;
        peer.said(&[&command]).await;
        for _ in 0..3 {
            peer.respond(b"OK").await;
        }
        soon(waiting).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn room_is_given_back_by_lost_connections_and_cancelled_publishes() {
    // P12
    let nsqd = Nsqd::start().await;
    let config = Config { max_outstanding: 2, ..Config::default() };
    let (producer, mut peer) = connected(&nsqd, config).await;
    for _ in 0..5 {
        let lost = [
            producer.enqueue("t", b"1").await.unwrap(),
            producer.enqueue("t", b"2").await.unwrap(),
        ];
        let cancelled = tokio::time::timeout(Duration::from_millis(1), producer.publish("t", b"3"));
        assert!(cancelled.await.is_err());
        peer.said(&["PUB t 1", "PUB t 2"]).await;
        drop(peer);
        for receipt in lost {
            assert!(soon(receipt).await.is_err());
        }
        let (pinged, next) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
        pinged.unwrap();
        peer = next;
        peer.said(&["NOP"]).await;
    }
}

#[tokio::test]
async fn a_message_larger_than_all_room_is_published_alone() {
    // P12
    let nsqd = Nsqd::start().await;
    let config = Config { max_outstanding_bytes: 10, max_outstanding: 5, ..Config::default() };
    let (producer, mut peer) = connected(&nsqd, config).await;
    let receipt = producer.enqueue("t", b"more than ten bytes").await.unwrap();
    peer.said(&["PUB t more than ten bytes"]).await;
    peer.respond(b"OK").await;
    soon(receipt).await.unwrap();
}

#[tokio::test]
async fn heartbeats_are_answered_while_publishes_wait() {
    // P13
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    peer.says_nothing().await;
    let receipt = producer.enqueue("t", b"1").await.unwrap();
    peer.said(&["PUB t 1"]).await;
    peer.says_nothing().await;
    peer.respond(b"OK").await;
    soon(receipt).await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_closes_the_connection_is_told_and_recovered_from() {
    // P15: nsqd refuses by the size alone, and closes with most of the message unread.
    let nsqd = Nsqd::start().await;
    let (producer, mut peer) = connected(&nsqd, Config::default()).await;
    let body = Arc::new(vec![b'x'; 8 << 20]);
    let publishing = tokio::spawn({
        let (producer, body) = (producer.clone(), Arc::clone(&body));
        async move { producer.publish("t", &body).await }
    });
    peer.error("E_BAD_MESSAGE PUB message too big 8388608 > 1048576").await;
    drop(peer);
    let refused = error(soon(publishing).await.unwrap());
    assert_eq!(refused.code(), Some(Code::BadMessage), "{refused:?}");
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["PUB t small"]).await;
        peer.respond(b"OK").await;
    };
    let (published, ()) =
        soon(async { tokio::join!(producer.publish("t", b"small"), serve) }).await;
    published.unwrap();
}
