//! Servers that break the rules: what they can make the client hold is bounded, and honest ones are served.

use std::time::Duration;

use nsq_client::{Config, ConnectionError, Consumer, Event};
use nsq_protocol::{Code, FrameType, HEARTBEAT, encode_frame};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    lookupd::Lookupd,
    support::{Nsqd, connect, consumer, fin, message_frame, ok, quick, soon, with_hands},
};

/// Waits for the end of a connection.
async fn reason_of_the_end(events: &mut nsq_client::Events) -> ConnectionError {
    loop {
        if let Some(Event::Disconnected { reason, .. }) = soon(events.recv()).await {
            return reason;
        }
    }
}

#[tokio::test]
async fn a_flood_beyond_rdy_is_not_read_and_ends_the_connection_while_others_are_served() {
    let (hostile, honest) = (Nsqd::start().await, Nsqd::start().await);
    let limit = Duration::from_millis(500);
    let config = Config { read_timeout: limit, heartbeat_interval: Some(limit), ..quick(2) };
    let (builder, mut hands) = with_hands(Consumer::builder("t", "c").config(config), 2);
    let consumer = builder.build().unwrap();
    let mut events = consumer.events();
    let mut at_hostile = connect(&consumer, &hostile).await;
    let busy = async {
        // 256 MiB, until the client closes the connection.
        let flood = message_frame(1, 1, &vec![b'x'; 64 * 1024]);
        for _ in 0..4096 {
            if at_hostile.try_raw(&flood).await.is_err() {
                break;
            }
        }
    };
    let (reason, ()) = tokio::join!(reason_of_the_end(&mut events), busy);
    assert!(matches!(reason, ConnectionError::Flooded), "{reason:?}");
    let received = consumer.stats().messages_received;
    // Twice RDY 2 and a little; the last read may bring more than one message.
    assert!((1..=24).contains(&received), "{received} messages were taken");
    // Both handlers hold messages of the flood; once they are free, the honest neighbour's come through.
    let mut at_honest = connect(&consumer, &honest).await;
    at_honest.message(7, 1).await;
    let served = async {
        while let Some(hand) = hands.recv().await {
            hand.end(Ok(()));
        }
    };
    let finished = async { while at_honest.command().await != Some(fin(7)) {} };
    soon(async {
        tokio::select! { () = served => {}, () = finished => {} }
    })
    .await;
}

#[tokio::test]
async fn reading_goes_on_when_messages_beyond_rdy_have_been_answered() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    for round in 0..20 {
        let numbers = round * 100..(round + 1) * 100;
        peer.messages(numbers.clone()).await;
        for number in numbers {
            peer.said(&[&fin(number)]).await;
        }
    }
}

#[tokio::test]
async fn heartbeats_that_arrive_together_are_answered_once() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    let mut bytes = Vec::new();
    (0..200).for_each(|_| encode_frame(FrameType::Response, HEARTBEAT, &mut bytes));
    bytes.extend(message_frame(1, 1, b"x"));
    peer.raw(&bytes).await;
    let mut nops = 0;
    while peer.command().await.unwrap() != fin(1) {
        nops += 1;
    }
    // One for each read that the bytes took.
    assert!((1..20).contains(&nops), "{nops} NOPs");
}

#[tokio::test]
async fn a_frame_over_16_mib_closes_the_connection_by_its_head_alone() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut events = consumer.events();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.said(&["RDY 1"]).await;
    peer.raw(&(16 * 1024 * 1024 + 1_u32).to_be_bytes()).await;
    let reason = reason_of_the_end(&mut events).await.to_string();
    assert_eq!(reason, "frame size 16777217 is over the maximum of 16777216");
    peer.is_closed().await;
}

#[tokio::test]
async fn of_twenty_thousand_nsqds_in_an_answer_16_are_dialed_at_once() {
    let lookupd = Lookupd::start().await;
    // All of these lead to one nsqd, which accepts and says nothing.
    let silent = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let producers: Vec<_> = (0..20_000)
        .map(|i| format!("127.{}.{}.{}:{port}", 1 + i / 62_500, i / 250 % 250, 1 + i % 250))
        .collect();
    let producers: Vec<_> = producers.iter().map(String::as_str).collect();
    let consumer = consumer(1).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        lookupd.knows(&producers).await;
        let mut dialed = Vec::new();
        while dialed.len() < 16 {
            dialed.push(silent.accept().await.unwrap().0);
        }
        let honest = Nsqd::start().await;
        let mut peer = connect(&consumer, &honest).await;
        peer.message(1, 1).await;
        peer.said(&["RDY 1", &fin(1)]).await;
        let seventeenth = timeout(Duration::ZERO, silent.accept()).await;
        assert!(seventeenth.is_err(), "no more are dialed meanwhile");
        // One that gives up makes room for another.
        dialed.pop();
        silent.accept().await.unwrap();
    };
    tokio::select! {
        connected = connecting => panic!("the first attempts are over: {connected:?}"),
        () = soon(serve) => {}
    }
}

#[tokio::test]
async fn the_text_of_an_error_is_cut() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let mut events = consumer.events();
    let mut peer = connect(&consumer, &nsqd).await;
    peer.error(&format!("E_INVALID {}", "x".repeat(1 << 20))).await;
    let ConnectionError::Server(error) = reason_of_the_end(&mut events).await else {
        panic!("is no error of nsqd");
    };
    assert_eq!(error.text().len(), 1024);
    assert_eq!(error.code(), Some(Code::Invalid));
}
