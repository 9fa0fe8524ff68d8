//! The division of `max_in_flight` among connections.

use std::time::Duration;

use nsq_client::Config;
use tokio::{sync::mpsc, time::Instant};

use crate::support::{Nsqd, connect, consumer, fin, ok, quick, soon, with_hands};

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
    // R07
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

/// A configuration whose connections take turns as quickly as the bounds of the options allow.
fn turning(max_in_flight: u32) -> Config {
    Config {
        low_rdy_idle_timeout: Duration::from_secs(1),
        low_rdy_timeout: Duration::from_secs(1),
        rdy_redistribute_interval: Duration::from_millis(50),
        ..quick(max_in_flight)
    }
}

#[tokio::test]
async fn connections_that_receive_nothing_take_turns() {
    // R07, R08, R09, trace 7
    let nsqds = [Nsqd::start().await, Nsqd::start().await, Nsqd::start().await];
    let config = Config { low_rdy_timeout: Duration::from_secs(300), ..turning(1) };
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let (told, mut says) = mpsc::unbounded_channel();
    for (number, nsqd) in nsqds.iter().enumerate() {
        let mut peer = connect(&consumer, nsqd).await;
        let told = told.clone();
        tokio::spawn(async move {
            while let Some(command) = peer.command().await {
                let _ = told.send((number, command));
            }
        });
    }
    let mut turns = vec![soon(says.recv()).await.unwrap()];
    while turns.len() < 6 {
        let (given_up, taken) =
            (soon(says.recv()).await.unwrap(), soon(says.recv()).await.unwrap());
        // Both are sent at the same time on different connections, and may arrive in either order.
        let (given_up, taken) =
            if given_up.1 == "RDY 0" { (given_up, taken) } else { (taken, given_up) };
        assert_eq!(given_up, (turns[turns.len() - 1].0, "RDY 0".to_owned()));
        turns.push(taken);
    }
    assert!(turns.iter().all(|(_, command)| command == "RDY 1"));
    let order: Vec<_> = turns.iter().map(|(number, _)| *number).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[tokio::test]
async fn a_connection_that_receives_keeps_its_turn_but_not_for_ever() {
    // R08
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let config = Config { low_rdy_timeout: Duration::from_millis(2500), ..turning(1) };
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 1"]).await;
    let since = Instant::now();
    let mut at_b = connect(&consumer, &b).await;
    let mut number = 0;
    // Messages arrive faster than the idle timeout.
    loop {
        at_a.message(number, 1).await;
        match at_a.command().await.as_deref() {
            Some("RDY 0") => break,
            said => assert_eq!(said, Some(&*fin(number))),
        }
        number += 1;
    }
    assert!(since.elapsed() >= Duration::from_millis(2400), "{:?}", since.elapsed());
    at_b.said(&["RDY 1"]).await;
}

#[tokio::test]
async fn a_connection_with_messages_in_hand_is_not_idle() {
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let config = Config { low_rdy_timeout: Duration::from_secs(300), ..turning(1) };
    let (builder, mut hands) = with_hands(consumer(1).config(config), 1);
    let consumer = builder.build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.message(1, 1).await;
    at_a.said(&["RDY 1"]).await;
    let busy = soon(hands.recv()).await.unwrap();
    let mut at_b = connect(&consumer, &b).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1200) {
        at_b.says_nothing().await;
    }
    at_a.says_nothing().await;
    busy.end(Ok(()));
    at_a.said(&[&fin(1), "RDY 0"]).await;
    at_b.said(&["RDY 1"]).await;
}

#[tokio::test]
async fn no_connection_waits_when_there_is_room() {
    // R10, D6
    let (a, b, c) = (Nsqd::start().await, Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(2).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    at_a.said(&["RDY 2"]).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 1"]).await;
    at_b.said(&["RDY 1"]).await;
    let mut at_c = connect(&consumer, &c).await;
    at_c.says_nothing().await;
    consumer.change_max_in_flight(3);
    at_c.said(&["RDY 1"]).await;
    consumer.change_max_in_flight(1);
    at_b.said(&["RDY 0"]).await;
    at_c.said(&["RDY 0"]).await;
    at_a.says_nothing().await;
    drop(at_a);
    // Both have waited equally long, so either may be next.
    let (mut next, mut other) = tokio::select! {
        command = at_b.command() => { assert_eq!(command.as_deref(), Some("RDY 1")); (at_b, at_c) }
        command = at_c.command() => { assert_eq!(command.as_deref(), Some("RDY 1")); (at_c, at_b) }
    };
    next.says_nothing().await;
    other.says_nothing().await;
}

#[tokio::test]
async fn the_message_that_cannot_be_divided_goes_round_while_messages_come() {
    // R02
    let (a, b) = (Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(3).config(turning(3)).handler(ok).build().unwrap();
    let mut at_a = connect(&consumer, &a).await;
    let mut at_b = connect(&consumer, &b).await;
    at_a.said(&["RDY 3", "RDY 2"]).await;
    at_b.said(&["RDY 1"]).await;
    at_b.message(1, 1).await;
    at_b.said(&[&fin(1)]).await;
    at_a.said(&["RDY 1"]).await;
    at_b.said(&["RDY 2"]).await;
}
