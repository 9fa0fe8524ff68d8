//! Many topics and channels at once: none of it holds up anyone else.

use std::collections::BTreeSet;

use super::{
    announcing_to,
    fake::{Lookupd, NO_CHANNELS},
    wait_for_queries,
};
use crate::support::{PATIENCE, Server, http};

fn channel_count(server: &Server, topic: &str) -> usize {
    let (_, body) = http(server.http, "GET", &format!("/stats?format=json&topic={topic}"), b"");
    let stats: serde_json::Value = serde_json::from_slice(&body).unwrap();
    stats["topics"][0]["channels"].as_array().unwrap().len()
}

#[test]
fn of_a_hundred_thousand_channels_elsewhere_a_new_topic_gets_as_many_as_it_may_while_others_publish()
 {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = Server::with(|options| {
        options.lookupd_tcp_addresses = vec![lookupd.address.to_string()];
        options.shares.channels_per_topic_max = 3000;
    });
    wait_for_queries(&server, &lookupd, &queries);
    let mut neighbour = server.client();
    neighbour.publish("ready", b"quiet");
    server.client().publish("t", b"first");
    let names: Vec<_> = (0..100_000).map(|number| format!("c{number:06}")).collect();
    queries.recv_timeout(PATIENCE).unwrap().answer(&names);
    while channel_count(&server, "t") < 3000 {
        neighbour.publish("ready", b"beside");
    }
    // The last of them was there before the first message.
    assert_eq!(server.consumer("t", "c002999", 1).message().body, b"first");
    assert_eq!(channel_count(&server, "t"), 3000);
    assert_eq!(server.reached("max-channels-per-topic"), 1);
    let mut registered = BTreeSet::new();
    while registered.len() < 3000 {
        registered.extend(Some(lookupd.hear()).filter(|heard| heard.starts_with("REGISTER t c")));
    }
}

#[test]
fn an_answer_longer_than_any_honest_one_is_not_read_and_the_topic_goes_on() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = announcing_to(&[&lookupd]);
    wait_for_queries(&server, &lookupd, &queries);
    server.client().publish("t", b"message");
    let body = format!(r#"{{"channels":["{}"]}}"#, "x".repeat(50 << 20));
    queries.recv_timeout(PATIENCE).unwrap().answer_with(&body).unwrap_err();
    assert_eq!(server.consumer("t", "c", 1).message().body, b"message");
}

#[test]
fn topics_that_are_deleted_while_they_wait_are_not_asked_for() {
    let (lookupd, queries) = Lookupd::with_queries();
    let server = announcing_to(&[&lookupd]);
    wait_for_queries(&server, &lookupd, &queries);
    for number in 0..8 {
        server.post(&format!("/topic/create?topic=open{number}"));
    }
    let open: Vec<_> = (0..8).map(|_| queries.recv_timeout(PATIENCE).unwrap()).collect();
    for _ in 0..100 {
        server.post("/topic/create?topic=gone");
        server.post("/topic/delete?topic=gone");
    }
    server.post("/topic/create?topic=stays");
    for query in open {
        query.answer(NO_CHANNELS);
    }
    let next = queries.recv_timeout(PATIENCE).unwrap();
    assert!(next.is_for("stays"));
    next.answer(NO_CHANNELS);
}

#[test]
fn all_queries_together_take_no_more_than_thirty_two_connections() {
    let lookupds: Vec<_> = (0..5).map(|_| Lookupd::with_queries()).collect();
    let server = announcing_to(&lookupds.iter().map(|(lookupd, _)| lookupd).collect::<Vec<_>>());
    // Those that know a topic are asked for the ones that follow.
    server.post("/topic/create?topic=before");
    for (lookupd, _) in &lookupds {
        lookupd.expect_identify();
        lookupd.expect("REGISTER before");
    }
    for number in 0..8 {
        server.post(&format!("/topic/create?topic=t{number}"));
    }
    let (mut open, mut answered) = (Vec::new(), 0);
    while answered + open.len() < 8 * lookupds.len() {
        for query in lookupds.iter().filter_map(|(_, queries)| queries.try_recv().ok()) {
            if query.is_for("before") { query.answer(NO_CHANNELS) } else { open.push(query) }
        }
        assert!(open.len() <= 32);
        if open.len() == 32 {
            open.pop().unwrap().answer(NO_CHANNELS);
            answered += 1;
        }
        std::thread::yield_now();
    }
}

#[test]
fn thousands_of_changes_are_sent_in_batches_and_none_is_missed() {
    let lookupd = Lookupd::start();
    let server = announcing_to(&[&lookupd]);
    lookupd.expect_identify();
    server.post("/topic/create?topic=t");
    lookupd.expect("REGISTER t");
    let names: BTreeSet<_> = (0..2500).map(|number| format!("c{number}")).collect();
    for name in &names {
        server.post(&format!("/channel/create?topic=t&channel={name}"));
    }
    let hear = |prefix: &str| -> BTreeSet<_> {
        names.iter().map(|_| lookupd.hear().strip_prefix(prefix).unwrap().to_owned()).collect()
    };
    assert_eq!(hear("REGISTER t "), names);
    server.post("/topic/delete?topic=t");
    assert_eq!(hear("UNREGISTER t "), names);
    lookupd.expect("UNREGISTER t");
}
