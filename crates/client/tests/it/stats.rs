//! Counters.

use nsq_client::Message;

use crate::support::{Nsqd, connect, consumer, fin, req};

#[tokio::test]
async fn counters_add_up_over_connections_that_come_and_go() {
    // T01
    let nsqd = Nsqd::start().await;
    let consumer = consumer(10)
        .handler(async |message: Message| match message.attempts() {
            1 => Ok(()),
            _ => Err("not the first"),
        })
        .build()
        .unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    for round in 1..=2 {
        peer.message(1, 1).await;
        peer.message(2, 2).await;
        peer.message(3, 6).await;
        peer.said(&["RDY 10", &fin(1), &req(2, 180_000), &fin(3)]).await;
        let stats = consumer.stats();
        assert_eq!(stats.messages_received, 3 * round);
        assert_eq!(stats.messages_finished, 2 * round);
        assert_eq!(stats.messages_requeued, round);
        assert_eq!(stats.messages_given_up, round);
        assert_eq!((stats.messages_in_flight, stats.connections), (0, 1));
        if round == 1 {
            drop(peer);
            peer = nsqd.subscribed().await;
        }
    }
}
