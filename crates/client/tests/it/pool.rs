//! Publishing to several nsqds (P16), some of which fail.

use std::time::Duration;

use nsq_client::{Code, Config, ConfigError, Producer, ProducerPool, PublishError, Published};

use crate::support::{Nsqd, Peer, error, soon};

const HOUR: Duration = Duration::from_secs(3600);

fn pool_of(nsqds: &[&Nsqd]) -> ProducerPool {
    let addresses = nsqds.iter().map(|nsqd| nsqd.address());
    // Pauses are longer than the test.
    ProducerPool::new(addresses, Config::default()).unwrap().pauses(HOUR, HOUR)
}

/// The address of an nsqd that is down.
async fn down() -> String {
    Nsqd::start().await.address().to_owned()
}

/// Publishes `body`, which `peer` answers with `answer`.
async fn answered(
    pool: &ProducerPool,
    peer: &mut Peer,
    body: &str,
    answer: Result<(), &str>,
) -> Result<Published, PublishError> {
    let serve = async {
        peer.said(&[&format!("PUB t {body}")]).await;
        match answer {
            Ok(()) => peer.respond(b"OK").await,
            Err(text) => peer.error(text).await,
        }
    };
    soon(async { tokio::join!(pool.publish("t", body.as_bytes()), serve) }).await.0
}

/// Publishes `body`, which makes the pool connect to `nsqd`.
async fn taken(pool: &ProducerPool, nsqd: &Nsqd, body: &str) -> Peer {
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&[&format!("PUB t {body}")]).await;
        peer.respond(b"OK").await;
        peer
    };
    let (published, peer) =
        soon(async { tokio::join!(pool.publish("t", body.as_bytes()), serve) }).await;
    assert_eq!(&*published.unwrap().nsqd, nsqd.address());
    peer
}

#[tokio::test]
async fn nsqds_take_turns_and_the_publisher_is_told_who_has_the_message() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let pool = pool_of(&[&a, &b]);
    let mut to_a = taken(&pool, &a, "1").await;
    let mut to_b = taken(&pool, &b, "2").await;
    let serve = async {
        to_a.said(&["MPUB t 3,4"]).await;
        to_a.respond(b"OK").await;
        to_b.said(&["DPUB t 1000 5"]).await;
        to_b.respond(b"OK").await;
    };
    let publish = async {
        let several = pool.multi_publish("t", &["3", "4"]).await.unwrap();
        let deferred = pool.deferred_publish("t", Duration::from_secs(1), b"5").await.unwrap();
        [several.nsqd, deferred.nsqd]
    };
    let (took, ()) = soon(async { tokio::join!(publish, serve) }).await;
    assert_eq!(took.each_ref().map(|nsqd| &**nsqd), [a.address(), b.address()]);
}

#[tokio::test]
async fn a_pool_of_nothing_or_of_a_bad_configuration_is_refused() {
    let empty = error(ProducerPool::new([""; 0], Config::default()));
    assert!(matches!(empty, ConfigError::TooSmall { option: "addresses", .. }), "{empty:?}");
    let config = Config { max_outstanding: 0, ..Config::default() };
    assert_eq!(
        error(ProducerPool::new(["a:1"], config.clone())),
        error(Producer::new("a:1", config))
    );
}

#[tokio::test]
async fn what_cannot_go_to_one_nsqd_goes_to_the_next_and_the_failed_one_is_left_alone() {
    let (down, b) = (down().await, Nsqd::start().await);
    let pool =
        ProducerPool::new([&*down, b.address()], Config::default()).unwrap().pauses(HOUR, HOUR);
    let mut to_b = taken(&pool, &b, "0").await;
    let back = Nsqd::start_at(&down).await;
    for number in 1..10 {
        // The nsqd that is back does not answer: a publish to it would hang.
        let published = answered(&pool, &mut to_b, &number.to_string(), Ok(())).await.unwrap();
        assert_eq!(&*published.nsqd, b.address());
    }
    drop(back);
}

#[tokio::test]
async fn a_failed_nsqd_is_tried_again_after_the_pause() {
    let (down, b) = (down().await, Nsqd::start().await);
    let pause = Duration::from_millis(1);
    let pool =
        ProducerPool::new([&*down, b.address()], Config::default()).unwrap().pauses(pause, pause);
    let mut to_b = taken(&pool, &b, "x").await;
    let a = Nsqd::start_at(&down).await;
    let serve_b = async {
        while to_b.command().await.as_deref() == Some("PUB t x") {
            to_b.respond(b"OK").await;
        }
    };
    let serve_a = async {
        let mut to_a = a.identified().await;
        to_a.said(&["PUB t x"]).await;
        to_a.respond(b"OK").await;
    };
    let publish = async {
        while &*pool.publish("t", b"x").await.unwrap().nsqd != a.address() {
            tokio::task::yield_now().await;
        }
    };
    let recovered = Box::pin(async { tokio::join!(publish, serve_a) });
    soon(async {
        tokio::select! {
            _ = recovered => {}
            () = serve_b => panic!("b was left"),
        }
    })
    .await;
}

#[tokio::test]
async fn when_all_are_down_the_error_says_so_and_no_pause_delays_the_recovery() {
    let (one, other) = (down().await, down().await);
    let pool = ProducerPool::new([&one, &other], Config::default()).unwrap().pauses(HOUR, HOUR);
    for last in [&other, &one, &other] {
        let failed = error(soon(pool.publish("t", b"x")).await);
        assert!(matches!(failed, PublishError::NotConnected(_)) && failed.is_retryable());
        assert!(failed.to_string().contains(last), "{failed}: not the last one");
    }
    let other = Nsqd::start_at(&other).await;
    let mut peer = taken(&pool, &other, "x").await;
    // It is no longer in a pause, unlike the first.
    for _ in 0..3 {
        answered(&pool, &mut peer, "x", Ok(())).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_refused_as_wrong_is_not_tried_elsewhere_and_does_not_count_as_a_failure() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let pool = pool_of(&[&a, &b]);
    let mut to_a = taken(&pool, &a, "1").await;
    let mut to_b = taken(&pool, &b, "2").await;
    for text in ["E_BAD_TOPIC t", "E_BAD_MESSAGE too big", "E_UNAUTHORIZED no", "E_NOVEL"] {
        for peer in [&mut to_a, &mut to_b] {
            let refused = error(answered(&pool, peer, "x", Err(text)).await);
            assert_eq!(refused.to_string(), format!("rejected: {text}"));
        }
    }
    for topic_or_body in [("not a topic", &b"x"[..]), ("t", b"")] {
        error(soon(pool.publish(topic_or_body.0, topic_or_body.1)).await);
    }
    to_a.says_nothing().await;
    to_b.says_nothing().await;
    answered(&pool, &mut to_a, "3", Ok(())).await.unwrap();
    answered(&pool, &mut to_b, "4", Ok(())).await.unwrap();
}

#[tokio::test]
async fn what_an_nsqd_could_not_carry_out_goes_to_the_next() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let pool = pool_of(&[&a, &b]);
    let mut to_a = taken(&pool, &a, "1").await;
    let mut to_b = taken(&pool, &b, "2").await;
    let serve = async {
        to_a.said(&["PUB t 3"]).await;
        to_a.error("E_PUB_FAILED disk full").await;
        to_b.said(&["PUB t 3"]).await;
        to_b.respond(b"OK").await;
        // nsqd may have accepted the first of the two messages.
        to_b.said(&["MPUB t 4,5"]).await;
        to_b.error("E_MPUB_FAILED disk full").await;
    };
    let publish = async {
        assert_eq!(&*pool.publish("t", b"3").await.unwrap().nsqd, b.address());
        error(pool.multi_publish("t", &["4", "5"]).await)
    };
    let (failed, ()) = soon(async { tokio::join!(publish, serve) }).await;
    assert_eq!(failed.code(), Some(Code::MultiPubFailed));
    to_a.says_nothing().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_not_repeated_unless_duplicates_are_allowed() {
    for allowed in [false, true] {
        let (a, b) = (Nsqd::start().await, Nsqd::start().await);
        let pool = pool_of(&[&a, &b]).duplicates(allowed);
        let mut to_a = taken(&pool, &a, "1").await;
        let mut to_b = taken(&pool, &b, "2").await;
        let serve = async {
            to_a.said(&["PUB t 3"]).await;
            drop(to_a);
            if allowed {
                to_b.said(&["PUB t 3"]).await;
                to_b.respond(b"OK").await;
            }
        };
        let (published, ()) = soon(async { tokio::join!(pool.publish("t", b"3"), serve) }).await;
        if allowed {
            assert_eq!(&*published.unwrap().nsqd, b.address());
        } else {
            let unknown = error(published);
            assert!(matches!(unknown, PublishError::OutcomeUnknown(_)), "{unknown:?}");
            to_b.says_nothing().await;
        }
        // The nsqd that failed is skipped.
        for body in ["4", "5", "6"] {
            answered(&pool, &mut to_b, body, Ok(())).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_when_the_others_certainly_failed() {
    let (a, down) = (Nsqd::start().await, down().await);
    let pool = ProducerPool::new([a.address(), &down], Config::default()).unwrap().duplicates(true);
    let serve = async { a.identified().await.said(&["PUB t 1"]).await };
    let (failed, ()) = soon(async { tokio::join!(pool.publish("t", b"1"), serve) }).await;
    let failed = error(failed);
    assert!(matches!(failed, PublishError::OutcomeUnknown(_)), "{failed:?}");
}

#[tokio::test]
async fn every_acknowledged_message_is_with_the_nsqd_that_was_named() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let pool = pool_of(&[&a, &b]);
    // Answers some, then disconnects with one unanswered; returns those it has acknowledged.
    let serve = async |nsqd: &Nsqd, count: usize| {
        let mut peer = nsqd.identified().await;
        let mut taken = Vec::new();
        while let Some(command) = peer.command().await {
            if taken.len() == count {
                break;
            }
            peer.respond(b"OK").await;
            taken.push(command.strip_prefix("PUB t ").unwrap().to_owned());
        }
        taken
    };
    let publish = async {
        let (mut at_a, mut at_b, mut lost) = (Vec::new(), Vec::new(), 0);
        for number in 0..100 {
            let body = number.to_string();
            match pool.publish("t", body.as_bytes()).await {
                Ok(published) if &*published.nsqd == a.address() => at_a.push(body),
                Ok(_) => at_b.push(body),
                Err(failed) => {
                    assert!(matches!(failed, PublishError::OutcomeUnknown(_)), "{failed:?}");
                    lost += 1;
                }
            }
        }
        pool.close(HOUR).await;
        (at_a, at_b, lost)
    };
    let ((at_a, at_b, lost), has_a, has_b) =
        soon(async { tokio::join!(publish, serve(&a, 20), serve(&b, 1000)) }).await;
    assert_eq!((at_a, at_b), (has_a, has_b));
    assert_eq!(lost, 1);
}

#[tokio::test]
async fn closing_refuses_what_is_new_and_waits_for_what_every_nsqd_still_has_to_answer() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let pool = pool_of(&[&a, &b]);
    let mut to_a = taken(&pool, &a, "1").await;
    let mut to_b = taken(&pool, &b, "2").await;
    let publishing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.publish("t", b"3").await }
    });
    to_a.said(&["PUB t 3"]).await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(HOUR).await }
    });
    to_a.says_nothing().await;
    for _ in 0..2 {
        assert!(matches!(error(soon(pool.publish("t", b"x")).await), PublishError::Closed));
    }
    assert!(!closing.is_finished());
    to_a.respond(b"OK").await;
    soon(publishing).await.unwrap().unwrap();
    soon(closing).await.unwrap();
    to_a.is_closed().await;
    to_b.is_closed().await;
}
