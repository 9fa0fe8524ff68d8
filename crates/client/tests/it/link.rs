//! The nsqds that a consumer is connected to.

use nsq_client::{ConnectError, Consumer, NotConnected};

use crate::support::{Nsqd, connect, consumer, error, fin, ok, soon, with_hands};

#[tokio::test]
async fn an_address_is_connected_to_once() {
    // X01
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let first = consumer.connect_to_nsqd(nsqd.address());
    let second = consumer.connect_to_nsqd(nsqd.address());
    let serve = nsqd.subscribed();
    let (first, second, _peer) = soon(async { tokio::join!(first, second, serve) }).await;
    first.unwrap();
    assert!(matches!(error(second), ConnectError::AlreadyConnected(_)), "while connecting");
    let third = consumer.connect_to_nsqd(nsqd.address()).await;
    assert!(matches!(error(third), ConnectError::AlreadyConnected(_)), "when connected");
}

#[tokio::test]
async fn a_consumer_without_handlers_does_not_connect() {
    // X01
    let consumer = consumer(1).build().unwrap();
    let refused = error(consumer.connect_to_nsqd("127.0.0.1:1").await);
    assert!(matches!(refused, ConnectError::NoHandlers));
}

#[tokio::test]
async fn several_nsqds_are_connected_to_at_once_and_the_first_failure_is_told() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(2).handler(ok).build().unwrap();
    let nowhere = Nsqd::start().await.address().to_owned();
    let connecting = consumer.connect_to_nsqds([a.address(), &nowhere, b.address()]);
    let serve = async { tokio::join!(a.subscribed(), b.subscribed()) };
    let (connected, _peers) = soon(async { tokio::join!(connecting, serve) }).await;
    let ConnectError::Dial { address, .. } = error(connected) else { panic!("is no dial error") };
    assert_eq!(address, nowhere);
    assert_eq!(consumer.stats().connections, 2);
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_until_nsqd_is_back() {
    // X03
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let peer = connect(&consumer, &nsqd).await;
    let address = nsqd.address().to_owned();
    drop((peer, nsqd));
    let nsqd = Nsqd::start_at(&address).await;
    // The first attempt may get a connection that nsqd drops.
    drop(nsqd.accept().await);
    let mut peer = nsqd.subscribed().await;
    peer.message(1, 1).await;
    peer.said(&["RDY 1", &fin(1)]).await;
}

#[tokio::test]
async fn a_failed_first_attempt_is_told_and_the_address_forgotten() {
    // X04
    let address = Nsqd::start().await.address().to_owned();
    let consumer = consumer(1).handler(ok).build().unwrap();
    for _ in 0..2 {
        let failed = error(soon(consumer.connect_to_nsqd(&address)).await);
        assert!(matches!(failed, ConnectError::Dial { .. }), "{failed:?}");
        assert!(failed.is_retryable());
    }
    assert_eq!(consumer.disconnect_from_nsqd(&address), Err(NotConnected(address)));
}

#[tokio::test]
async fn an_nsqd_that_may_come_later_is_tried_again_if_asked() {
    // X04
    let address = Nsqd::start().await.address().to_owned();
    let consumer = consumer(1).handler(ok).build().unwrap();
    consumer.keep_connecting_to_nsqd(&address).unwrap();
    tokio::task::yield_now().await;
    let nsqd = Nsqd::start_at(&address).await;
    nsqd.subscribed().await.said(&["RDY 1"]).await;
}

#[tokio::test]
async fn a_given_up_nsqd_is_drained_and_not_connected_to_again() {
    // X05, X06
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let (builder, mut hands) = with_hands(consumer(10), 1);
    let consumer = builder.build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.message(1, 1).await;
    let busy = soon(hands.recv()).await.unwrap();
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 10", "RDY 5"]).await;
    at_b.said(&["RDY 5"]).await;
    consumer.disconnect_from_nsqd(a.address()).unwrap();
    assert_eq!(
        consumer.disconnect_from_nsqd(a.address()),
        Err(NotConnected(a.address().to_owned()))
    );
    at_a.said(&["CLS"]).await;
    at_b.said(&["RDY 10"]).await;
    at_a.respond(b"CLOSE_WAIT").await;
    at_a.says_nothing().await;
    busy.end(Ok(()));
    at_a.said(&[&fin(1)]).await;
    at_a.is_closed().await;
    // It can be connected to again, but only on request.
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 5"]).await;
}

#[tokio::test]
async fn a_given_up_nsqd_that_is_away_is_not_tried_again() {
    // X05
    let nsqd = Nsqd::start().await;
    let consumer: Consumer = consumer(1).handler(ok).build().unwrap();
    let peer = connect(&consumer, &nsqd).await;
    let address = nsqd.address().to_owned();
    drop((nsqd, peer));
    consumer.disconnect_from_nsqd(&address).unwrap();
    let nsqd = Nsqd::start_at(&address).await;
    // The next connection is another client's.
    let stranger = tokio::net::TcpStream::connect(&address).await.unwrap();
    let accepted = nsqd.accept().await;
    assert_eq!(accepted.remote(), stranger.local_addr().unwrap());
}
