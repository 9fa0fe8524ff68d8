//! Established connections: heartbeats, order, timeouts, errors, invalid frames.

use std::time::Duration;

use nsq_client::{Config, Consumer, Delay, Producer};
use nsq_protocol::{FrameType, MessageId, encode_frame};

use crate::support::{
    Nsqd, connect, consumer, fin, message_frame, ok, producer_of, quick, req, soon, with_hands,
};

#[tokio::test]
async fn heartbeats_are_answered_while_all_handlers_are_busy() {
    // N01
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(10), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=10).await;
    let busy = soon(hands.recv()).await.unwrap();
    peer.said(&["RDY 10"]).await;
    peer.says_nothing().await;
    busy.end(Ok(()));
    peer.said(&[&fin(1)]).await;
}

#[tokio::test]
async fn answers_are_written_in_the_order_they_were_given() {
    // N05
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(10).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.messages(1..=5).await;
    let mut taken = Vec::new();
    while taken.len() < 5 {
        taken.push(soon(messages.recv()).await.unwrap());
    }
    let mut taken = taken.into_iter();
    let mut next = || taken.next().unwrap();
    let (one, two, three) = (next(), next(), next());
    three.finish();
    one.requeue(Duration::from_millis(7));
    next().finish();
    two.finish();
    next().requeue(Delay::Auto);
    peer.said(&["RDY 10", &fin(3), &req(1, 7), &fin(4), &fin(2), &req(5, 90_000)]).await;
}

#[tokio::test]
async fn a_refused_answer_is_counted_and_the_connection_goes_on() {
    // N07, W11, M13
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    for code in ["E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED"] {
        peer.error(&format!("{code} FIN 0000000000000001 failed ID not in flight")).await;
    }
    peer.message(2, 1).await;
    peer.said(&[&fin(2)]).await;
    assert_eq!(consumer.stats().answers_refused, 3);
}

#[tokio::test]
async fn after_any_other_error_the_connection_is_replaced() {
    // N07, W11
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    for text in ["E_INVALID cannot RDY", "E_BAD_PROTOCOL", "E_FIN_FAILEDLY", "gibberish"] {
        peer.said(&["RDY 1"]).await;
        peer.error(text).await;
        peer.is_closed().await;
        peer = nsqd.subscribed().await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_the_connection() {
    // W07, W09, N12
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    for bytes in [
        &b"\0\0\0\x03\0\0\0"[..],
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x04\0\0\0\x03",
        b"\0\0\0\x1d\0\0\0\x02aaaaaaaaaaaaaaaaaaaaaaaaa",
        b"HTTP/1.1 200 OK",
    ] {
        peer.said(&["RDY 1"]).await;
        peer.raw(bytes).await;
        peer.is_closed().await;
        peer = nsqd.subscribed().await;
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_connection() {
    let nsqd = Nsqd::start().await;
    let config = Config { max_msg_size: 1000, ..quick(1) };
    let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.raw(&message_frame(1, 1, &[b'x'; 1000 - 30])).await;
    peer.said(&["RDY 1", &fin(1)]).await;
    peer.raw(&message_frame(2, 1, &[b'x'; 1001 - 30])).await;
    peer.is_closed().await;
}

#[tokio::test]
async fn frames_are_understood_however_they_are_split() {
    // W06
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(10).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.said(&["RDY 10"]).await;
    let mut bytes = message_frame(1, 1, b"one");
    encode_frame(FrameType::Response, b"_heartbeat_", &mut bytes);
    bytes.extend(message_frame(2, 1, b""));
    for byte in bytes {
        peer.raw(&[byte]).await;
    }
    let (one, two) = (soon(messages.recv()).await.unwrap(), soon(messages.recv()).await.unwrap());
    assert_eq!((&one.body()[..], &two.body()[..]), (&b"one"[..], &b""[..]));
    peer.said(&["NOP"]).await;
    one.finish();
    two.finish();
    peer.said(&[&fin(1), &fin(2)]).await;
}

fn pattern() -> impl Iterator<Item = u8> {
    (0..251).cycle()
}

#[tokio::test]
async fn bodies_arrive_whole_whatever_their_size() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(100).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    let sizes = [0, 1, 4000, 70_000, 10, 3_000_000, 5, 65_536, 1];
    let send = async {
        for (number, &size) in (1..).zip(&sizes) {
            let body: Vec<u8> = pattern().take(size).collect();
            peer.raw(&message_frame(number, 1, &body)).await;
        }
    };
    let receive = async {
        for (number, &size) in (1..).zip(&sizes) {
            let message = messages.recv().await.unwrap();
            assert_eq!(message.id(), MessageId::from_u64(number));
            assert_eq!(message.body().len(), size);
            assert!(message.body().iter().copied().eq(pattern().take(size)));
            message.finish();
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn a_silent_connection_is_replaced_after_the_read_timeout() {
    // N02
    let nsqd = Nsqd::start().await;
    let heartbeat_interval = Some(Duration::from_millis(100));
    let read_timeout = Duration::from_millis(100);
    let config = Config { heartbeat_interval, read_timeout, ..quick(1) };
    let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    peer.is_closed().await;
    nsqd.subscribed().await;
}

#[tokio::test]
async fn a_producer_without_heartbeats_may_be_idle_but_not_wait_for_ever() {
    // N04
    let nsqd = Nsqd::start().await;
    let read_timeout = Duration::from_millis(100);
    let config = Config { heartbeat_interval: None, read_timeout, ..Config::default() };
    let producer = Producer::new(nsqd.address(), config).unwrap();
    let (pinged, mut peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    pinged.unwrap();
    peer.said(&["NOP"]).await;
    // Being idle for longer than the timeout is what is tested; no event marks it.
    tokio::time::sleep(3 * read_timeout).await;
    let answer = async {
        peer.said(&["PUB t still here"]).await;
        peer.respond(b"OK").await;
    };
    let publish = producer.publish("t", b"still here");
    soon(async { tokio::join!(publish, answer) }).await.0.unwrap();
    let lost = soon(producer.publish("t", b"no answer")).await.unwrap_err();
    assert!(lost.to_string().starts_with("outcome unknown: nothing was received"), "{lost}");
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_given_up_after_the_write_timeout() {
    // N03
    let nsqd = Nsqd::start().await;
    let config = Config { write_timeout: Duration::from_millis(100), ..Config::default() };
    let producer = Producer::new(nsqd.address(), config).unwrap();
    let body = vec![b'x'; 8 << 20];
    let publish = producer.publish("t", &body);
    let (failed, _peer) = soon(async { tokio::join!(publish, nsqd.identified()) }).await;
    let failed = failed.unwrap_err().to_string();
    assert!(failed.starts_with("outcome unknown: nothing could be written"), "{failed}");
}

#[tokio::test]
async fn an_answer_after_the_connection_was_lost_is_counted_and_harmless() {
    // N09, N10
    let nsqd = Nsqd::start().await;
    let (builder, mut hands) = with_hands(consumer(1), 1);
    let consumer = builder.build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.message(1, 1).await;
    let busy = soon(hands.recv()).await.unwrap();
    drop(peer);
    // The address is free although the handler still runs.
    let mut peer = nsqd.subscribed().await;
    peer.said(&["RDY 1"]).await;
    busy.end(Ok(()));
    peer.message(2, 1).await;
    soon(hands.recv()).await.unwrap().end(Ok(()));
    peer.said(&[&fin(2)]).await;
    let stats = consumer.stats();
    assert_eq!((stats.answers_lost, stats.messages_finished, stats.connections), (1, 1, 1));
}

#[tokio::test]
async fn many_answers_share_few_writes_and_wait_for_no_timer() {
    // N11
    let nsqd = Nsqd::start().await;
    let consumer = consumer(2500).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 2500"]).await;
    let before = peer.reads();
    peer.messages(1..=2500).await;
    for number in 1..=2500 {
        peer.said(&[&fin(number)]).await;
    }
    assert!(peer.reads() - before < 250, "{} reads", peer.reads() - before);
}

#[tokio::test]
async fn publishes_that_are_said_together_are_written_together() {
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let (_, mut peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    peer.said(&["NOP"]).await;
    let before = peer.reads();
    let mut receipts = Vec::new();
    for number in 0..1000 {
        receipts.push(producer.enqueue("t", format!("{number}").as_bytes()).await.unwrap());
    }
    for number in 0..1000 {
        peer.said(&[&format!("PUB t {number}")]).await;
    }
    assert!(peer.reads() - before < 100, "{} reads", peer.reads() - before);
}
