//! nsqd as a client of nsqlookupd.

mod announce;
mod fake;
mod flocks;
mod pair;
mod reconnect;

use std::{collections::BTreeSet, net::TcpListener, sync::mpsc::Receiver, time::Duration};

use self::fake::{Lookupd, NO_CHANNELS, Query};
use crate::support::{PATIENCE, Received, Server, http};

/// Creates two topics and returns when nsqd has queried the channels of the second: it will query those of any other.
fn wait_for_queries(server: &Server, lookupd: &Lookupd, queries: &Receiver<Query>) {
    lookupd.expect_identify();
    for topic in ["before", "ready"] {
        server.post(&format!("/topic/create?topic={topic}"));
        lookupd.expect(&format!("REGISTER {topic}"));
    }
    loop {
        let query = queries.recv_timeout(PATIENCE).unwrap();
        let is_ready = query.is_for("ready");
        query.answer(NO_CHANNELS);
        if is_ready {
            return;
        }
    }
}

fn announcing_to(lookupds: &[&Lookupd]) -> Server {
    Server::with(|options| {
        options.broadcast_address = "here".to_owned();
        options.lookupd_tcp_addresses =
            lookupds.iter().map(|lookupd| lookupd.address.to_string()).collect();
    })
}

#[test]
fn a_topic_and_its_channels_are_registered_as_they_come_and_go() {
    let lookupd = Lookupd::start();
    let server = announcing_to(&[&lookupd]);
    let identity = lookupd.expect_identify();
    assert_eq!(identity["broadcast_address"], "here");
    assert_eq!(identity["tcp_port"], server.tcp.port());
    assert_eq!(identity["http_port"], server.http.port());
    assert!(["hostname", "version"].iter().all(|key| identity[key].is_string()), "{identity}");
    server.post("/topic/create?topic=t");
    lookupd.expect("REGISTER t");
    server.post("/channel/create?topic=t&channel=c");
    lookupd.expect("REGISTER t c");
    server.post("/channel/create?topic=t&channel=d%23ephemeral");
    lookupd.expect("REGISTER t d#ephemeral");
    server.post("/channel/delete?topic=t&channel=c");
    lookupd.expect("UNREGISTER t c");
    server.post("/topic/delete?topic=t");
    lookupd.expect("UNREGISTER t d#ephemeral");
    lookupd.expect("UNREGISTER t");
}

#[test]
fn a_topic_is_registered_also_when_its_first_channel_comes_with_it() {
    let lookupd = Lookupd::start();
    let server = announcing_to(&[&lookupd]);
    lookupd.expect_identify();
    // Once nsqlookupd knows everything; on connecting, a channel is registered without its topic, which it implies.
    server.post("/topic/create?topic=before");
    lookupd.expect("REGISTER before");
    let _consumer = server.consumer("t", "c", 1);
    lookupd.expect("REGISTER t");
    lookupd.expect("REGISTER t c");
}

#[test]
fn a_nsqlookupd_that_comes_later_is_told_everything() {
    let (first, later) = (Lookupd::start(), Lookupd::start());
    let server = announcing_to(&[&first]);
    first.expect_identify();
    server.post("/topic/create?topic=plain");
    first.expect("REGISTER plain");
    server.post("/topic/create?topic=t");
    first.expect("REGISTER t");
    server.post("/channel/create?topic=t&channel=c");
    first.expect("REGISTER t c");
    let addresses = serde_json::json!([later.address.to_string()]).to_string();
    let (status, body) =
        http(server.http, "PUT", "/config/nsqlookupd_tcp_addresses", addresses.as_bytes());
    assert_eq!((status, String::from_utf8(body).unwrap()), (200, addresses));
    later.expect_identify();
    later.expect("REGISTER plain");
    // A channel registers its topic too.
    later.expect("REGISTER t c");
    first.expect("end of stream");
}

#[test]
fn a_new_topic_gets_the_channels_it_has_elsewhere_before_its_first_message() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = announcing_to(&[&lookupd]);
    wait_for_queries(&server, &lookupd, &queries);
    server.client().publish("t", b"first");
    lookupd.expect("REGISTER t");
    queries.recv_timeout(PATIENCE).unwrap().answer(&["kept", "gone#ephemeral"]);
    lookupd.expect("REGISTER t kept");
    let mut consumer = server.consumer("t", "kept", 1);
    assert_eq!(consumer.message().body, b"first");
    let (_, body) = http(server.http, "GET", "/stats?format=json&topic=t", b"");
    let stats: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let channels = stats["topics"][0]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1, "{channels:?}");
    assert_eq!(stats["topics"][0]["paused"], false);
}

#[test]
fn a_nsqlookupd_that_is_away_or_says_nothing_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::with(|options| {
        options.lookupd_tcp_addresses =
            vec![silent.local_addr().unwrap().to_string(), nobody.to_string()];
    });
    // nsqd has connected and waits for a response.
    let (_connection, _) = silent.accept().unwrap();
    let mut client = server.client();
    client.publish("t", b"message");
    let mut consumer = server.consumer("t", "c", 1);
    assert_eq!(consumer.message().body, b"message");
    server.stop();
    assert_eq!(client.receive(), Received::Closed);
}

#[test]
fn of_many_new_topics_eight_are_asked_for_at_once_and_the_rest_wait() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = announcing_to(&[&lookupd]);
    wait_for_queries(&server, &lookupd, &queries);
    for number in 10..30 {
        server.post(&format!("/topic/create?topic=t{number}"));
    }
    for number in 10..30 {
        lookupd.expect(&format!("REGISTER t{number}"));
    }
    let mut open: Vec<_> = (0..8).map(|_| queries.recv_timeout(PATIENCE).unwrap()).collect();
    server.post("/topic/create?topic=another");
    lookupd.expect("REGISTER another");
    assert!(queries.try_recv().is_err(), "a ninth query");
    for _ in 8..21 {
        open.pop().unwrap().answer(&["c"]);
        open.push(queries.recv_timeout(PATIENCE).unwrap());
    }
    for query in open {
        query.answer(&["c"]);
    }
    let mut channels = BTreeSet::new();
    while channels.len() < 21 {
        channels.insert(lookupd.hear());
    }
    assert!(channels.iter().all(|heard| heard.ends_with(" c")), "{channels:?}");
}

#[test]
fn an_nsqlookupd_that_answers_no_queries_is_asked_no_further() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = Server::with(|options| {
        options.lookupd_tcp_addresses = vec![lookupd.address.to_string()];
        options.http_client_request_timeout = Duration::from_secs(1);
    });
    wait_for_queries(&server, &lookupd, &queries);
    let mut client = server.client();
    for number in 0..30 {
        client.publish(&format!("t{number}"), b"message");
    }
    for number in 0..30 {
        let mut consumer = server.consumer(&format!("t{number}"), "c", 1);
        assert_eq!(consumer.message().body, b"message");
    }
    assert!((1..=8).contains(&queries.try_iter().count()));
}

#[test]
fn a_topic_is_held_back_no_longer_when_its_nsqlookupd_is_removed() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = Server::with(|options| {
        options.lookupd_tcp_addresses = vec![lookupd.address.to_string()];
        options.http_client_request_timeout = Duration::from_secs(3600);
    });
    wait_for_queries(&server, &lookupd, &queries);
    server.client().publish("t", b"message");
    let mut consumer = server.consumer("t", "c", 1);
    // It stays unanswered.
    let _query = queries.recv_timeout(PATIENCE).unwrap();
    consumer.expect_nothing();
    assert_eq!(http(server.http, "PUT", "/config/nsqlookupd_tcp_addresses", b"[]").0, 200);
    assert_eq!(consumer.message().body, b"message");
}
