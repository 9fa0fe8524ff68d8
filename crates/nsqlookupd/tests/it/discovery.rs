//! Discovery: registrations of nsqd as consumers find them.

use std::time::Duration;

use nsq_protocol::v1::Command;
use serde_json::json;

use crate::harness::{TestLookupd, identity};

#[tokio::test]
async fn a_registered_channel_and_its_topic_are_found_at_once() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("host-a").await;
    nsqd.register("t", Some("c")).await;
    let peer = format!(
        "{{\"remote_address\":\"{}\",\"hostname\":\"h\",\"broadcast_address\":\"host-a\",\
         \"tcp_port\":4150,\"http_port\":4151,\"version\":\"1.3.0\",\
         \"topology_zone\":\"z\",\"topology_region\":\"r\"",
        nsqd.address()
    );
    let lookup = lookupd.get("/lookup?topic=t").await;
    assert_eq!(lookup.body, format!("{{\"channels\":[\"c\"],\"producers\":[{peer}}}]}}"));
    let nodes = lookupd.get("/nodes").await;
    let expected =
        format!("{{\"producers\":[{peer},\"tombstones\":[false],\"topics\":[\"t\"]}}]}}");
    assert_eq!(nodes.body, expected);
    assert_eq!(lookupd.get("/topics").await.body, "{\"topics\":[\"t\"]}");
    assert_eq!(lookupd.get("/channels?topic=t").await.body, "{\"channels\":[\"c\"]}");
}

#[tokio::test]
async fn an_identity_is_what_the_connection_says_it_is() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.client().await;
    let body =
        identity("a").replace("{", "{\"remote_address\":\"10.0.0.1:1\",").replace("\"h\"", "\"\"");
    nsqd.command(Command::Identify(body.as_bytes())).await;
    nsqd.register("t", None).await;
    let lookup = lookupd.json("/lookup?topic=t").await;
    assert_eq!(lookup["producers"][0]["remote_address"], nsqd.address().to_string());
    assert_eq!(lookup["producers"][0]["hostname"], "");
}

#[tokio::test]
async fn a_producer_that_goes_away_is_gone_and_its_topics_stay() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    for (topic, channel) in [("t", "c"), ("t", "d#ephemeral"), ("u#ephemeral", "c")] {
        nsqd.register(topic, Some(channel)).await;
    }
    drop(nsqd);
    lookupd.until("/nodes", "{\"producers\":[]}").await;
    let lookup = lookupd.get("/lookup?topic=t").await;
    assert_eq!(lookup.body, "{\"channels\":[\"c\"],\"producers\":[]}");
    assert_eq!(lookupd.get("/topics").await.body, "{\"topics\":[\"t\"]}");
    assert_eq!(lookupd.get("/debug").await.body, "{}");
}

#[tokio::test]
async fn two_connections_of_one_nsqd_are_two_producers() {
    let lookupd = TestLookupd::start().await;
    let (mut one, mut two) = (lookupd.nsqd("a").await, lookupd.nsqd("a").await);
    one.register("t", None).await;
    two.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["a", "a"]);
    one.unregister("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["a"]);
}

#[tokio::test]
async fn what_is_ephemeral_goes_with_its_last_producer() {
    let lookupd = TestLookupd::start().await;
    let (mut one, mut two) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    for nsqd in [&mut one, &mut two] {
        nsqd.register("t#ephemeral", None).await;
        nsqd.register("u", Some("c#ephemeral")).await;
    }
    one.unregister("t#ephemeral", None).await;
    one.unregister("u", Some("c#ephemeral")).await;
    assert_eq!(lookupd.producers("t%23ephemeral").await, ["b"]);
    two.unregister("t#ephemeral", None).await;
    two.unregister("u", Some("c#ephemeral")).await;
    assert_eq!(lookupd.get("/topics").await.body, "{\"topics\":[\"u\"]}");
    assert_eq!(lookupd.get("/channels?topic=u").await.body, "{\"channels\":[]}");
}

#[tokio::test]
async fn a_silent_producer_is_hidden_and_stays_registered() {
    let silent = |options: &mut nsqlookupd::Options| {
        options.inactive_producer_timeout = Duration::ZERO;
    };
    let lookupd = TestLookupd::start_with(silent).await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", None).await;
    lookupd.until("/lookup?topic=t", "{\"channels\":[],\"producers\":[]}").await;
    lookupd.until("/nodes", "{\"producers\":[]}").await;
    let debug = lookupd.json("/debug").await;
    assert_eq!(debug["topic:t:"][0]["broadcast_address"], "a");
    assert_eq!(nsqd.command(Command::Ping).await, "OK");
    let later = lookupd.json("/debug").await;
    let at = |debug: &serde_json::Value| debug["client::"][0]["last_update"].as_u64().unwrap();
    assert!(at(&later) > at(&debug));
}

#[tokio::test]
async fn a_tombstone_hides_a_producer_of_one_topic() {
    let lookupd = TestLookupd::start().await;
    let (mut one, mut two) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    for topic in ["t", "u"] {
        one.register(topic, None).await;
        two.register(topic, None).await;
    }
    // The HTTP port identifies a node.
    for node in ["a:4150", "c:4151", "a"] {
        let answer = lookupd.post(&format!("/topic/tombstone?topic=t&node={node}")).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    }
    assert_eq!(lookupd.producers("t").await, ["a", "b"]);
    assert_eq!(lookupd.post("/topic/tombstone?topic=t&node=a%3A4151").await.status(), 200);
    assert_eq!(lookupd.producers("t").await, ["b"]);
    assert_eq!(lookupd.producers("u").await, ["a", "b"]);
    let nodes = lookupd.json("/nodes").await;
    assert_eq!(nodes["producers"][0]["topics"], json!(["t", "u"]));
    assert_eq!(nodes["producers"][0]["tombstones"], json!([true, false]));
    assert_eq!(nodes["producers"][1]["tombstones"], json!([false, false]));
    let entry = &lookupd.json("/debug").await["topic:t:"][0];
    assert_eq!(entry["tombstoned"], true);
    assert!(entry["tombstoned_at"].as_u64() >= entry["last_update"].as_u64());

    one.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["b"]);
    one.unregister("t", None).await;
    one.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["a", "b"]);
}

#[tokio::test]
async fn a_tombstone_is_over_after_its_lifetime() {
    let short = |options: &mut nsqlookupd::Options| options.tombstone_lifetime = Duration::ZERO;
    let lookupd = TestLookupd::start_with(short).await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", None).await;
    lookupd.post("/topic/tombstone?topic=t&node=a:4151").await;
    assert_eq!(lookupd.producers("t").await, ["a"]);
    assert_eq!(lookupd.json("/debug").await["topic:t:"][0]["tombstoned"], true);
}

#[tokio::test]
async fn an_ipv6_node_is_tombstoned_as_urls_spell_it() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("::1").await;
    nsqd.register("t", None).await;
    lookupd.post("/topic/tombstone?topic=t&node=[::1]:4151").await;
    assert_eq!(lookupd.producers("t").await, [""; 0]);
}

#[tokio::test]
async fn ten_thousand_topics_of_one_nsqd_are_registered_and_forgotten() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    let names: Vec<_> = (0..10_000).map(|i| (format!("t{i}"), Some("c".to_owned()))).collect();
    nsqd.register_all(&names).await;
    assert_eq!(lookupd.producers("t9999").await, ["a"]);
    assert_eq!(lookupd.json("/topics").await["topics"].as_array().unwrap().len(), 10_000);
    drop(nsqd);
    lookupd.until("/nodes", "{\"producers\":[]}").await;
}

#[tokio::test]
async fn answers_of_many_parts_are_whole_and_sorted() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    let text = |kind: &str, i: usize| format!("{kind}{i:04}");
    let channels: Vec<_> = (0..2_500).rev().map(|i| ("t".to_owned(), Some(text("c", i)))).collect();
    nsqd.register_all(&channels).await;
    let topics: Vec<_> = (0..2_500).rev().map(|i| (text("u", i), None)).collect();
    nsqd.register_all(&topics).await;

    let expected: Vec<_> = (0..2_500).map(|i| text("c", i)).collect();
    for path in ["/channels?topic=t", "/channels?topic=*", "/lookup?topic=t", "/lookup?topic=*"] {
        assert_eq!(lookupd.json(path).await["channels"], json!(expected), "{path}");
    }
    assert_eq!(lookupd.producers("t").await, ["a"]);
    assert_eq!(lookupd.producers("*").await, ["a"]);
    let mut expected: Vec<_> = (0..2_500).map(|i| text("u", i)).collect();
    expected.insert(0, "t".to_owned());
    assert_eq!(lookupd.json("/topics").await["topics"], json!(expected));
    let node = &lookupd.json("/nodes").await["producers"][0];
    assert_eq!(node["topics"], json!(expected));
    assert_eq!(node["tombstones"], json!(vec![false; 2_501]));
    let debug = lookupd.get("/debug").await.body;
    let registered: serde_json::Value = serde_json::from_str(&debug).unwrap();
    assert_eq!(registered.as_object().unwrap().len(), 5_002);
    let at = |key: &str| debug.find(key).unwrap();
    assert!(at("\"channel:t:c0000\":") < at("\"channel:t:c2499\":"));
    assert!(at("\"channel:t:c2499\":") < at("\"client::\":"));
    assert!(at("\"topic:t:\":") < at("\"topic:u0000:\":"));
}

#[tokio::test]
async fn a_topic_with_many_channels_is_unregistered_and_deleted_in_one_command() {
    let lookupd = TestLookupd::start().await;
    let (mut one, mut two) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    let channels: Vec<_> = (0..2_500).map(|i| ("t".to_owned(), Some(format!("c{i}")))).collect();
    one.register_all(&channels).await;
    two.register_all(&channels).await;
    one.unregister("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["b"]);
    assert_eq!(lookupd.figure("nsqlookupd_registrations").await, 2_501);
    assert_eq!(lookupd.post("/topic/delete?topic=t").await.status(), 200);
    assert_eq!(lookupd.get("/lookup?topic=t").await.status(), 404);
    assert_eq!(lookupd.figure("nsqlookupd_registrations").await, 0);
    assert_eq!(lookupd.figure("nsqlookupd_channels").await, 0);
}
