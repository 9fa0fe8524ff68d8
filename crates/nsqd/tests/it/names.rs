//! The limits on the number of topics and channels.

use std::fs;

use nsq_protocol::{Command, encode_multi_pub};

use crate::support::{Client, NsqdProcess, Server, http};

fn limited(topics: usize, channels: usize) -> Server {
    Server::with(|options| {
        options.shares.topics_max = topics;
        options.shares.channels_per_topic_max = channels;
    })
}

fn expect_refusal(client: &mut Client, error: &str) {
    assert_eq!(client.error(), error);
    client.expect_closed();
}

fn post(server: &Server, target: &str, body: &[u8]) -> (u16, String) {
    let (status, body) = http(server.http, "POST", target, body);
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_topic_beyond_the_limit_is_refused_to_every_command() {
    let server = limited(2, 10);
    let mut neighbour = server.client();
    neighbour.publish("a", b"message");
    server.post("/topic/create?topic=b");

    let mut client = server.client();
    client.send(Command::Pub { topic: "c", body: b"x" });
    expect_refusal(&mut client, "E_PUB_FAILED PUB failed too many topics");
    let mut client = server.client();
    let mut bytes = Vec::new();
    encode_multi_pub("c", &[b"x"], &mut bytes);
    client.send_bytes(&bytes);
    expect_refusal(&mut client, "E_MPUB_FAILED MPUB failed too many topics");
    let mut client = server.client();
    client.send(Command::DeferredPub { topic: "c", delay_ms: 1, body: b"x" });
    expect_refusal(&mut client, "E_DPUB_FAILED DPUB failed too many topics");
    let mut client = server.client();
    client.send(Command::Sub { topic: "c#ephemeral", channel: "c" });
    expect_refusal(&mut client, "E_SUB_FAILED SUB failed too many topics");
    assert_eq!(server.reached("max-topics"), 4);

    neighbour.publish("a", b"message");
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), 2);
    server.post("/topic/delete?topic=b");
    neighbour.publish("c", b"message");
}

#[test]
fn a_topic_beyond_the_limit_is_refused_over_http() {
    let server = limited(1, 10);
    server.post("/topic/create?topic=a");
    server.post("/topic/create?topic=a");
    for target in ["/topic/create?topic=b", "/pub?topic=b", "/mpub?topic=b"] {
        let expected = (507, r#"{"message":"TOO_MANY_TOPICS"}"#.to_owned());
        assert_eq!(post(&server, target, b"x"), expected, "{target}");
    }
    assert_eq!(post(&server, "/pub?topic=a", b"x").0, 200);
    assert_eq!(server.reached("max-topics"), 3);
    assert_eq!(http(server.http, "GET", "/ping", b"").0, 200);
}

#[test]
fn many_clients_at_once_create_no_topic_beyond_the_limit() {
    let server = limited(10, 10);
    std::thread::scope(|scope| {
        for number in 0..40 {
            let server = &server;
            scope.spawn(move || {
                post(server, &format!("/topic/create?topic=t{number}"), b"");
            });
        }
    });
    assert_eq!(server.stats()["topics"].as_array().unwrap().len(), 10);
    assert_eq!(server.reached("max-topics"), 30);
}

#[test]
fn a_channel_beyond_the_limit_is_refused_and_those_that_exist_are_served() {
    let server = limited(10, 2);
    let mut neighbour = server.consumer("t", "a", 1);
    let _ephemeral = server.consumer("t", "b#ephemeral", 1);
    let mut client = server.client();
    client.send(Command::Sub { topic: "t", channel: "c" });
    expect_refusal(&mut client, "E_SUB_FAILED SUB failed too many channels");
    let refused = (507, r#"{"message":"TOO_MANY_CHANNELS"}"#.to_owned());
    assert_eq!(post(&server, "/channel/create?topic=t&channel=c", b""), refused);
    assert_eq!(server.reached("max-channels-per-topic"), 2);
    server.client().publish("t", b"message");
    assert_eq!(neighbour.message().body, b"message");
    assert_eq!(post(&server, "/channel/create?topic=t&channel=a", b"").0, 200);
    assert_eq!(post(&server, "/channel/create?topic=t&channel=c", b"").0, 507);
}

#[test]
fn a_limit_of_0_is_none() {
    let server = limited(0, 0);
    let _consumers = ["a", "b"].map(|channel| server.consumer("t", channel, 1));
    server.post("/topic/create?topic=u");
}

#[test]
fn topics_and_channels_that_exist_at_a_start_are_opened_whatever_the_limits() {
    let server = Server::start();
    for topic in ["a", "b", "c"] {
        for channel in ["d", "e", "f"] {
            drop(server.consumer(topic, channel, 0));
        }
    }
    let folder = server.stop();
    let with_files = Server::on(folder, |options| {
        options.shares.topics_max = 1;
        options.shares.channels_per_topic_max = 1;
    });
    assert_all_there(&with_files);
    // As the Go nsqd leaves it: a list and no files.
    let listed = fs::read(with_files.stop().path().join("nsqd.dat")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nsqd.dat"), listed).unwrap();
    let from_list = Server::on(folder, |options| {
        options.shares.topics_max = 1;
        options.shares.channels_per_topic_max = 1;
    });
    assert_all_there(&from_list);
    let (status, _) = post(&from_list, "/topic/create?topic=g", b"");
    assert_eq!(status, 507);
}

#[track_caller]
fn assert_all_there(server: &Server) {
    let stats = server.stats();
    let topics = stats["topics"].as_array().unwrap();
    assert_eq!(topics.len(), 3);
    for topic in topics {
        assert_eq!(topic["channels"].as_array().unwrap().len(), 3, "{topic}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn thousands_of_channels_created_one_by_one_write_two_kilobytes_each_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let written = || {
        let figures = fs::read_to_string(format!("/proc/{}/io", nsqd.child.id())).unwrap();
        let bytes = figures.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        bytes.parse::<usize>().unwrap()
    };
    let before = written();
    http(nsqd.http, "POST", "/topic/create?topic=t", b"");
    for number in 0..2000 {
        let target = format!("/channel/create?topic=t&channel=c{number}");
        assert_eq!(http(nsqd.http, "POST", &target, b"").0, 200);
    }
    // Answers, the log of the process, the journal with its snapshots and `nsqd.dat`.
    let bytes = written() - before;
    assert!(bytes < 2000 * 2000, "{bytes} bytes");
}
