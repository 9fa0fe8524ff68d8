//! Announcements to nsqlookupd and their timing.

use std::time::Duration;

use nsq_protocol::v1::encode_response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::pair::{Pair, ask, start_nsqd};

#[tokio::test(start_paused = true)]
async fn a_ping_is_sent_in_every_interval_while_channels_come_and_go() {
    let pair = Pair::start().await;
    pair.post_to_nsqd("/topic/create?topic=t").await;
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < Duration::from_secs(61) {
        pair.post_to_nsqd(&format!("/channel/create?topic=t&channel=c{number}")).await;
        sleep(Duration::from_millis(700)).await;
        pair.post_to_nsqd(&format!("/channel/delete?topic=t&channel=c{number}")).await;
        number += 1;
    }
    let lines = pair.log.lines();
    let pings = lines.iter().filter(|line| line.contains("): pinged (last ping")).count();
    assert!((3..=5).contains(&pings), "{pings} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_topic_is_announced_at_once() {
    let pair = Pair::start().await;
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    pair.post_to_nsqd("/topic/create?topic=t").await;
    pair.logged("REGISTER category:topic key:t", 1).await;
    assert!(start.elapsed() < Duration::from_millis(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn changes_that_follow_each_other_are_gathered() {
    let pair = Pair::start().await;
    let start = Instant::now();
    for number in 0..50 {
        pair.post_to_nsqd(&format!("/topic/create?topic=t{number}")).await;
    }
    pair.logged("REGISTER category:topic", 50).await;
    let gathered = Duration::from_millis(10)..Duration::from_millis(40);
    assert!(gathered.contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_on_both_sides_and_made_again_is_found_again() {
    let pair = Pair::start().await;
    pair.post_to_nsqd("/topic/create?topic=t").await;
    pair.found("t").await;
    for _ in 0..3 {
        pair.post_to_nsqd("/topic/delete?topic=t").await;
        pair.post_to_lookupd("/topic/delete?topic=t").await;
        pair.post_to_nsqd("/topic/create?topic=t").await;
        let start = Instant::now();
        pair.found("t").await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_deleted_on_both_sides_and_made_again_is_registered_again() {
    let pair = Pair::start().await;
    pair.post_to_nsqd("/topic/create?topic=t").await;
    pair.post_to_nsqd("/channel/create?topic=t&channel=c").await;
    pair.logged("REGISTER category:channel key:t subkey:c", 1).await;
    pair.post_to_nsqd("/channel/delete?topic=t&channel=c").await;
    pair.post_to_lookupd("/channel/delete?topic=t&channel=c").await;
    pair.post_to_nsqd("/channel/create?topic=t&channel=c").await;
    let start = Instant::now();
    pair.logged(") REGISTER category:channel key:t subkey:c", 2).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_and_made_again_leaves_its_tombstone_behind() {
    let pair = Pair::start().await;
    pair.post_to_nsqd("/topic/create?topic=t").await;
    pair.found("t").await;
    pair.post_to_lookupd(&format!("/topic/tombstone?topic=t&node={}", pair.node())).await;
    assert!(!pair.is_found("t").await);
    pair.post_to_nsqd("/topic/delete?topic=t").await;
    pair.post_to_nsqd("/topic/create?topic=t").await;
    let start = Instant::now();
    pair.found("t").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_removes_from_nsqlookupd_alone_is_registered_again_and_tombstones_stay() {
    let pair = Pair::start().await;
    for topic in ["hidden", "t", "u"] {
        pair.post_to_nsqd(&format!("/topic/create?topic={topic}")).await;
        pair.found(topic).await;
    }
    pair.post_to_nsqd("/channel/create?topic=u&channel=c").await;
    pair.logged("REGISTER category:channel key:u subkey:c", 1).await;
    pair.post_to_lookupd(&format!("/topic/tombstone?topic=hidden&node={}", pair.node())).await;
    for _ in 0..2 {
        pair.post_to_lookupd("/topic/delete?topic=t").await;
        pair.post_to_lookupd("/channel/delete?topic=u&channel=c").await;
        let start = Instant::now();
        pair.found("t").await;
        assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    }
    pair.logged("REGISTER category:channel key:u subkey:c", 3).await;
    assert!(!pair.is_found("hidden").await);
}

#[tokio::test(start_paused = true)]
async fn an_nsqlookupd_that_refuses_registrations_is_connected_to_less_and_less_often() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (nsqd, _folder) = start_nsqd(listener.local_addr().unwrap()).await;
    assert_eq!(ask(nsqd, "POST", "/topic/create?topic=t").await.0, 200);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        let (stream, _) = listener.accept().await.unwrap();
        pauses.push(start.elapsed().as_millis());
        refuse_registration(stream).await;
    }
    let doubled: Vec<_> = [250, 500, 1000, 2000, 4000, 8000, 15000, 15000].into();
    let close = |(pause, expected): (&u128, &u128)| (*expected..expected + 100).contains(pause);
    assert!(pauses[1..].iter().zip(&doubled).all(close), "{pauses:?}");
}

async fn refuse_registration(mut stream: TcpStream) {
    let mut input = Vec::new();
    let mut respond = Vec::new();
    encode_response(b"{}", &mut respond);
    stream.write_all(&respond).await.unwrap();
    while !input.windows(10).any(|bytes| bytes == b"REGISTER t") {
        assert!(stream.read_buf(&mut input).await.unwrap() > 0);
    }
    respond.clear();
    encode_response(b"E_BAD_TOPIC REGISTER topic name 't' is not valid", &mut respond);
    stream.write_all(&respond).await.unwrap();
}
