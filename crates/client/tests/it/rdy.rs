//! How `max_in_flight` is shared out over connections.

use crate::support::{Nsqd, connect, consumer, fin, ok};

#[tokio::test]
async fn connections_share_all_of_max_in_flight_and_others_give_before_a_newcomer_gets() {
    // R02, R03, trace 6
    let (a, b, c) = (Nsqd::start().await, Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 10"]).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 5"]).await;
    at_b.said(&["RDY 5"]).await;
    let mut at_c = connect(&consumer, &c).await;
    at_a.said(&["RDY 4"]).await;
    at_b.said(&["RDY 3"]).await;
    at_c.said(&["RDY 3"]).await;
}

#[tokio::test]
async fn the_share_of_a_lost_connection_goes_to_the_others() {
    // R04
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    let at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 10", "RDY 5"]).await;
    drop(at_b);
    at_a.said(&["RDY 10"]).await;
    let mut at_b = b.subscribed().await;
    at_a.said(&["RDY 5"]).await;
    at_b.said(&["RDY 5"]).await;
}

#[tokio::test]
async fn rdy_is_only_said_when_it_changes() {
    // R05
    let nsqd = Nsqd::start().await;
    let consumer = consumer(5).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.messages(1..=3).await;
    peer.said(&["RDY 5", &fin(1), &fin(2), &fin(3)]).await;
    consumer.change_max_in_flight(5);
    peer.says_nothing().await;
}

#[tokio::test]
async fn max_in_flight_can_go_down_to_nothing_and_up_again() {
    // R06, trace 5
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(5).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.message(1, 1).await;
    at_a.said(&["RDY 5", &fin(1)]).await;
    consumer.change_max_in_flight(0);
    at_a.said(&["RDY 0"]).await;
    consumer.change_max_in_flight(10);
    at_a.said(&["RDY 10"]).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 5"]).await;
    at_b.said(&["RDY 5"]).await;
    consumer.change_max_in_flight(4);
    at_a.said(&["RDY 2"]).await;
    at_b.said(&["RDY 2"]).await;
}

#[tokio::test]
async fn a_consumer_that_starts_paused_says_no_rdy_until_it_is_raised() {
    // R11
    let nsqd = Nsqd::start().await;
    let consumer = consumer(0).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.says_nothing().await;
    consumer.change_max_in_flight(3);
    peer.said(&["RDY 3"]).await;
}

#[tokio::test]
async fn with_more_connections_than_messages_allowed_some_get_none() {
    // R07, as far as it goes without rotation
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 1"]).await;
    at_a.says_nothing().await;
    at_b.says_nothing().await;
    drop(at_a);
    at_b.said(&["RDY 1"]).await;
}

#[tokio::test]
async fn a_consumer_is_starved_when_a_connection_has_nearly_all_it_may_in_flight() {
    // R12
    let nsqd = Nsqd::start().await;
    let mut messages = consumer(20).into_stream().unwrap();
    let mut peer = connect(messages.consumer(), &nsqd).await;
    assert!(!messages.consumer().is_starved());
    peer.messages(1..=16).await;
    let mut taken = Vec::new();
    while taken.len() < 16 {
        taken.push(messages.recv().await.unwrap());
    }
    assert!(!messages.consumer().is_starved());
    peer.messages(17..=17).await;
    taken.push(messages.recv().await.unwrap());
    assert!(messages.consumer().is_starved());
    taken.pop().unwrap().finish();
    assert!(!messages.consumer().is_starved());
}
