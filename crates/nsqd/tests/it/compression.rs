//! Snappy and deflate, alone and within TLS.

use std::time::Duration;

use nsq_client::{Config, Consumer, Producer, TlsConfig};
use nsq_compression::{Codec, Compressed};
use nsq_log::Durability;
use nsq_protocol::{Command, MessageId, encode_multi_pub};
use serde_json::json;
use tokio::io::{AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use crate::{
    layers::{Certificates, Peer, TLS_VERSIONS},
    support::{PATIENCE, Received, Server},
};

/// The upgrades that a client can ask for.
const UPGRADES: [&str; 5] = [
    r#""snappy":true"#,
    r#""deflate":true"#,
    r#""tls_v1":true"#,
    r#""tls_v1":true,"snappy":true"#,
    r#""tls_v1":true,"deflate":true"#,
];

/// An nsqd that takes messages of 4 MiB, and TLS for its clients.
fn generous() -> (Server, TlsConnector, Certificates) {
    let certificates = Certificates::new();
    let server = certificates.server(|options| {
        options.limits.message_bytes_max = 4 << 20;
        options.limits.body_bytes_max = 16 << 20;
        options.max_heartbeat_interval = Duration::from_secs(3600);
    });
    let tls = certificates.connector(&TLS_VERSIONS, None);
    (server, tls, certificates)
}

/// Bytes that do not compress, different for each `seed`.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Bodies of many sizes, compressible and not.
fn bodies() -> Vec<Vec<u8>> {
    let sizes = [1, 2, 10, 100, 1000, 10_000, 65_535, 65_536, 65_537, 1 << 20, 2 << 20];
    let both =
        |size| [noise(size, size as u64), b"nsq ".iter().copied().cycle().take(size).collect()];
    sizes.into_iter().flat_map(both).collect()
}

#[tokio::test]
async fn messages_of_every_size_pass_in_both_directions() {
    let (server, tls, _files) = generous();
    for (number, upgrades) in UPGRADES.into_iter().enumerate() {
        let topic = format!("t{number}");
        let mut producer = Peer::upgraded(&server, upgrades, Some(&tls)).await;
        let mut consumer = Peer::upgraded(&server, upgrades, Some(&tls)).await;
        consumer.subscribe(&topic, "c", 1).await;
        for body in bodies() {
            producer.publish(&topic, &body).await;
            let received = consumer.finish_next().await.body;
            assert!(received == body, "{upgrades}: {}", body.len());
        }
    }
}

#[tokio::test]
async fn publishes_without_waiting_are_answered_in_order() {
    let (server, tls, _files) = generous();
    for (number, upgrades) in UPGRADES.into_iter().enumerate() {
        let topic = format!("t{number}");
        let mut peer = Peer::upgraded(&server, upgrades, Some(&tls)).await;
        let bodies: Vec<_> = (0..200).map(|i| noise(1000 + i * 7, i as u64)).collect();
        let mut bytes = Vec::new();
        for some in bodies.chunks(20) {
            encode_multi_pub(&topic, some, &mut bytes);
            Command::Pub { topic: &topic, body: b"between" }.encode(&mut bytes);
            Command::Touch(MessageId::from_u64(0)).encode(&mut bytes);
        }
        // RDY and TOUCH need a subscription.
        peer.subscribe(&topic, "c", 2500).await;
        peer.send_bytes(&bytes).await;
        let (mut answers, mut messages) = (Vec::new(), Vec::new());
        while answers.len() < 30 || messages.len() < 210 {
            match peer.receive().await {
                Received::Response(data) => answers.push(data),
                Received::Error(text) => answers.push(text),
                Received::Message(message) => messages.push(message.body),
                Received::Closed => panic!("{upgrades}: closed"),
            }
        }
        for three in answers.chunks(3) {
            assert_eq!(three[..2], ["OK", "OK"], "{upgrades}");
            assert!(three[2].starts_with("E_TOUCH_FAILED"), "{upgrades}: {}", three[2]);
        }
        messages.retain(|body| body != b"between");
        assert!(messages == bodies, "{upgrades}");
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything_once_it_reads() {
    let (server, tls, _files) = generous();
    for (number, upgrades) in UPGRADES.into_iter().enumerate() {
        let topic = format!("t{number}");
        // Who reads nothing from one heartbeat to the next is closed, however busy the machine is.
        let fields = format!(r#"{upgrades},"heartbeat_interval":3600000"#);
        let mut producer = Peer::upgraded(&server, &fields, Some(&tls)).await;
        let mut consumer = Peer::upgraded(&server, &fields, Some(&tls)).await;
        consumer.subscribe(&topic, "c", 2500).await;
        // Far more than sockets and buffers hold.
        let bodies: Vec<_> = (0..8).map(|i| noise(1 << 20, i)).collect();
        for body in &bodies {
            producer.publish(&topic, body).await;
        }
        for body in &bodies {
            let received = consumer.finish_next().await.body;
            assert!(received == *body, "{upgrades}");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed() {
    let (server, tls, _files) = generous();
    let body = noise(1 << 20, 7);
    let mut consumers = Vec::new();
    let in_clear = r#""tls_v1":false"#;
    for (number, upgrades) in UPGRADES.into_iter().chain([in_clear]).enumerate() {
        let topic = format!("t{number}");
        for _ in 0..8 {
            server.client().publish(&topic, &body);
        }
        let fields = format!(r#"{upgrades},"heartbeat_interval":1000"#);
        let mut consumer = Peer::upgraded(&server, &fields, Some(&tls)).await;
        consumer.subscribe(&topic, "c", 2500).await;
        consumers.push(consumer);
    }
    let clients = || {
        let stats = server.stats();
        let topics = stats["topics"].as_array().unwrap().clone();
        let count = |topic: &serde_json::Value| topic["channels"][0]["client_count"].as_u64();
        topics.iter().filter_map(count).sum::<u64>()
    };
    // They say that they are there, and so are not closed for their silence.
    let start = tokio::time::Instant::now();
    while clients() > 0 {
        assert!(start.elapsed() < PATIENCE, "{} clients left", clients());
        for consumer in &mut consumers {
            // It fails once the connection is closed.
            let _ = consumer.try_send(b"NOP\n").await;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn statistics_tell_the_compression() {
    let (server, tls, _files) = generous();
    for (number, upgrades) in UPGRADES.into_iter().enumerate() {
        let channel = format!("c{number}");
        let mut peer = Peer::upgraded(&server, upgrades, Some(&tls)).await;
        peer.subscribe("t", &channel, 1).await;
        let client = &server.channel_stats(&channel)["clients"][0];
        for (key, name) in [("tls", "tls_v1"), ("snappy", "snappy"), ("deflate", "deflate")] {
            assert_eq!(client[key], upgrades.contains(name), "{upgrades}: {key}");
        }
    }
}

#[test]
fn two_compressions_at_once_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let asked = r#"{"feature_negotiation":true,"snappy":true,"deflate":true}"#;
    let refused = "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression";
    assert_eq!(client.identify(asked), Received::Error(refused.to_owned()));
    client.expect_closed();
}

#[tokio::test]
async fn a_compression_that_is_switched_off_is_not_granted() {
    let server = Server::with(|options| {
        options.snappy = false;
        options.deflate = false;
    });
    let mut peer = Peer::connect(server.tcp).await;
    let answer = peer.negotiate(r#""snappy":true,"deflate":true,"deflate_level":2"#).await;
    let told = ["snappy", "deflate", "deflate_level"].map(|key| answer[key].clone());
    assert_eq!(told, [json!(false), json!(false), json!(6)]);
    peer.publish("t", b"x").await;
    // Of two that are asked for, one that is possible is granted.
    let server = Server::with(|options| options.snappy = false);
    let mut peer = Peer::connect(server.tcp).await;
    let answer = peer.negotiate(r#""snappy":true,"deflate":true,"deflate_level":2"#).await;
    let told = ["snappy", "deflate", "deflate_level"].map(|key| answer[key].clone());
    assert_eq!(told, [json!(false), json!(true), json!(2)]);
    let mut peer = peer.compress(Codec::deflate(2));
    peer.expect_ok().await;
}

#[tokio::test]
async fn what_follows_identify_at_once_is_compressed() {
    let server = Server::start();
    for (fields, make) in [
        (r#""snappy":true"#, Codec::snappy as fn() -> Codec),
        (r#""deflate":true"#, || Codec::deflate(6)),
    ] {
        let (near, mut far) = duplex(1 << 20);
        let mut near = Compressed::new(near, make(), Default::default());
        near.write_all(b"PUB t\n\0\0\0\x01xPUB t\n\0\0\0\x01x").await.unwrap();
        near.flush().await.unwrap();
        drop(near);
        let mut bytes = Vec::new();
        let body = format!("{{\"feature_negotiation\":true,{fields}}}");
        Command::Identify(body.as_bytes()).encode(&mut bytes);
        tokio::io::copy(&mut far, &mut bytes).await.unwrap();
        let mut peer = Peer::connect(server.tcp).await;
        peer.send_bytes(&bytes).await;
        assert!(matches!(peer.receive().await, Received::Response(_)));
        let mut peer = peer.compress(make());
        for _ in 0..3 {
            peer.expect_ok().await;
        }
    }
}

#[tokio::test]
async fn answers_that_wait_for_a_flush_go_out_before_the_upgrade() {
    let server = Server::with(|options| options.durability = Durability::Fsync);
    let mut peer = Peer::connect(server.tcp).await;
    peer.publish("t", b"x").await;
    let mut bytes = b"PUB t\n\0\0\0\x01xPUB t\n\0\0\0\x01x".to_vec();
    Command::Identify(br#"{"feature_negotiation":true,"snappy":true}"#).encode(&mut bytes);
    peer.send_bytes(&bytes).await;
    peer.expect_ok().await;
    peer.expect_ok().await;
    assert!(matches!(peer.receive().await, Received::Response(json) if json.contains("snappy")));
    let mut peer = peer.compress(Codec::snappy());
    peer.expect_ok().await;
    peer.publish("t", b"x").await;
}

#[tokio::test]
async fn a_later_identify_keeps_the_compression_and_changes_the_rest() {
    let server = Server::start();
    let mut peer = Peer::upgraded(&server, r#""snappy":true"#, None).await;
    for fields in
        [r#""snappy":true,"output_buffer_size":64"#, r#""deflate":true"#, r#""msg_timeout":5000"#]
    {
        let answer = peer.negotiate(fields).await;
        assert_eq!((&answer["snappy"], &answer["deflate"]), (&json!(false), &json!(false)));
        peer.publish("t", b"x").await;
    }
    assert_eq!(peer.negotiate(r#""msg_timeout":6000"#).await["msg_timeout"], 6000);
}

#[tokio::test]
async fn what_cannot_be_decompressed_closes_its_connection_only() {
    let server = Server::start();
    let mut bystander = Peer::upgraded(&server, r#""snappy":true"#, None).await;
    for fields in [r#""snappy":true"#, r#""deflate":true"#] {
        let mut peer = Peer::connect(server.tcp).await;
        peer.negotiate(fields).await;
        peer.send_bytes(b"\xfe\xff\xff\xffPUB t\n").await;
        // The OK is on its way already.
        while peer.try_read().await.is_ok_and(|bytes| bytes > 0) {}
    }
    bystander.publish("t", b"x").await;
}

#[tokio::test]
async fn a_bomb_is_refused_by_the_first_limit_it_breaks() {
    let server = Server::start();
    let mut peer = Peer::upgraded(&server, r#""deflate":true"#, None).await;
    peer.send_bytes(b"PUB t\n\x7f\xff\xff\xff").await;
    assert_eq!(peer.error().await, "E_BAD_MESSAGE PUB message too big 2147483647 > 1048576");
    let mut peer = Peer::upgraded(&server, r#""deflate":true"#, None).await;
    let zeros = vec![0; 8 << 20];
    // A thousandth of it is sent. A line without an end closes the connection without a word; writing fails some time after that.
    while peer.try_send(&zeros).await.is_ok() {}
}

/// The configurations of nsq-client with every upgrade.
fn configs(certificates: &Certificates) -> Vec<Config> {
    let files = certificates.client_files();
    let trusting = TlsConfig::default()
        .root_ca_file(files.join("ca.pem"))
        .client_certificate(files.join("client.pem"), files.join("client.key"));
    let plain = Config { max_msg_size: 8 << 20, ..Config::default() };
    let tls = Config { tls_config: trusting, ..plain.clone() };
    let with = |base: &Config| {
        let snappy = Config { snappy: true, ..base.clone() };
        [base.clone(), snappy, Config { deflate: true, ..base.clone() }]
    };
    [with(&plain), with(&tls)].concat()
}

#[tokio::test]
async fn the_client_library_publishes_and_consumes_over_every_upgrade() {
    let (server, _, certificates) = generous();
    // The certificate is for a name.
    let address = format!("localhost:{}", server.tcp.port());
    for (number, config) in configs(&certificates).into_iter().enumerate() {
        let topic = format!("t{number}");
        let producer = Producer::new(&address, config.clone()).unwrap();
        let mut messages = Consumer::builder(&topic, "c").config(config).into_stream().unwrap();
        messages.consumer().connect_to_nsqd(&address).await.unwrap();
        for body in bodies() {
            producer.publish(&topic, &body).await.unwrap();
            let message = messages.recv().await.unwrap();
            assert!(message.body()[..] == body, "{number}: {}", body.len());
            message.finish();
        }
    }
}
