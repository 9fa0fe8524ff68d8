//! Consumers whose messages are pulled.

use std::{future::poll_fn, pin::pin, time::Duration};

use futures_core::Stream;
use nsq_client::StopMode;

use crate::support::{Nsqd, connect, consumer, fin, ok, req, soon};

#[tokio::test]
async fn pulling_is_backpressure() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(3).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.messages(1..=3).await;
    let one = soon(messages.recv()).await.unwrap();
    peer.said(&["RDY 3"]).await;
    peer.says_nothing().await;
    one.finish();
    peer.said(&[&fin(1)]).await;
    assert_eq!(messages.try_recv().unwrap().body(), "2");
    assert_eq!(messages.try_recv().unwrap().body(), "3");
    assert!(messages.try_recv().is_none());
}

#[tokio::test]
async fn messages_are_a_stream_that_ends_when_the_consumer_has_stopped() {
    let nsqd = Nsqd::start().await;
    let messages = consumer(3).into_stream().unwrap();
    let consumer = messages.consumer().clone();
    let mut peer = connect(&consumer, &nsqd).await;
    let mut messages = pin!(messages);
    let mut waiting = Box::pin(async {
        poll_fn(|cx| messages.as_mut().poll_next(cx)).await.unwrap().finish();
        poll_fn(|cx| messages.as_mut().poll_next(cx)).await.is_none()
    });
    let serve = async {
        peer.messages(1..=1).await;
        peer.said(&["RDY 3", &fin(1)]).await;
        drop(consumer.stop());
        peer.said(&["CLS"]).await;
        peer.respond(b"CLOSE_WAIT").await;
        peer.is_closed().await;
    };
    let (ended, ()) = soon(async { tokio::join!(&mut waiting, serve) }).await;
    assert!(ended);
}

#[tokio::test]
async fn waiting_messages_can_still_be_pulled_while_draining() {
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(3).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.messages(1..=2).await;
    let one = soon(messages.recv()).await.unwrap();
    let stopped = messages.consumer().stop();
    peer.said(&["RDY 3", "CLS"]).await;
    peer.respond(b"CLOSE_WAIT").await;
    one.finish();
    soon(messages.recv()).await.unwrap().finish();
    peer.said(&[&fin(1), &fin(2)]).await;
    peer.is_closed().await;
    assert_eq!(soon(stopped).await.messages_finished, 2);
    assert!(soon(messages.recv()).await.is_none());
}

#[tokio::test]
async fn dropping_the_messages_stops_the_consumer_and_sends_back_what_waits() {
    let nsqd = Nsqd::start().await;
    let messages = consumer(3).into_stream().unwrap();
    let consumer = messages.consumer().clone();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=2).await;
    peer.said(&["RDY 3"]).await;
    peer.says_nothing().await;
    drop(messages);
    peer.said(&["CLS", &req(1, 0), &req(2, 0)]).await;
    // Messages that nsqd sent before it received CLS are requeued as well.
    peer.messages(3..=3).await;
    peer.said(&[&req(3, 0)]).await;
    peer.respond(b"CLOSE_WAIT").await;
    peer.is_closed().await;
    soon(consumer.stopped()).await;
}

#[tokio::test]
async fn handlers_and_a_puller_can_share_the_messages() {
    let nsqd = Nsqd::start().await;
    let messages = consumer(3).handler(ok).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    peer.messages(1..=2).await;
    peer.said(&["RDY 3", &fin(1), &fin(2)]).await;
    let limit = Duration::ZERO;
    soon(messages.consumer().stop_with(StopMode::Drain, limit)).await;
}
