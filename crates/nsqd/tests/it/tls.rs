//! TLS that IDENTIFY asks for.

use std::io::{Read, Write};

use nsq_protocol::{Command, Frame, FrameType, decode_frame, encode_frame};
use nsqd::TlsRequired;
use serde_json::json;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::{
    layers::{Certificates, Pair, Peer, TLS_VERSIONS},
    support::{Client, Received, Server},
};

#[tokio::test]
async fn a_client_goes_on_within_tls() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    for version in TLS_VERSIONS {
        let tls = certificates.connector(&[version], None);
        let mut peer = Peer::upgraded(&server, r#""tls_v1":true"#, Some(&tls)).await;
        peer.publish("t", b"secret").await;
        peer.subscribe("t", "c", 1).await;
        assert_eq!(peer.finish_next().await.body, b"secret");
        peer.send(Command::Pub { topic: "$", body: b"x" }).await;
        assert_eq!(peer.error().await, "E_BAD_TOPIC PUB topic name \"$\" is not valid");
        // The end of the stream is authenticated, unlike in NSQ.
        peer.expect_closed().await;
    }
}

#[tokio::test]
async fn statistics_tell_how_a_connection_is_encrypted() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let names = [
        ("TLS1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        // TLS_AES_128_GCM_SHA256, which is newer than the names.
        ("TLS1.3", "Unknown 4865"),
    ];
    for (version, (name, suite)) in TLS_VERSIONS.into_iter().zip(names) {
        let tls = certificates.connector(&[version], None);
        let mut peer = Peer::upgraded(&server, r#""tls_v1":true"#, Some(&tls)).await;
        peer.subscribe("t", name, 1).await;
        let client = &server.channel_stats(name)["clients"][0];
        assert_eq!(client["tls"], true);
        assert_eq!(client["tls_version"], name);
        assert_eq!(client["tls_cipher_suite"], suite);
        assert_eq!(client["tls_negotiated_protocol"], "");
        assert_eq!(client["tls_negotiated_protocol_is_mutual"], true);
        assert_eq!((&client["deflate"], &client["snappy"]), (&json!(false), &json!(false)));
    }
    let mut plain = server.client();
    plain.subscribe("t", "plain", 1);
    let client = &server.channel_stats("plain")["clients"][0];
    assert_eq!((&client["tls"], &client["tls_version"]), (&json!(false), &json!("")));
    assert_eq!(client["tls_negotiated_protocol_is_mutual"], false);
}

#[test]
fn without_a_certificate_tls_is_not_granted() {
    let server = Server::start();
    let mut client = server.client();
    let Received::Response(json) = client.identify(r#"{"feature_negotiation":true,"tls_v1":true}"#)
    else {
        panic!()
    };
    assert!(json.contains(r#""tls_v1":false"#), "{json}");
    client.publish("t", b"x");
}

#[test]
fn without_negotiation_there_is_no_handshake() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let mut client = server.client();
    let answer = client.identify(r#"{"tls_v1":true,"snappy":true,"deflate":true}"#);
    assert_eq!(answer, Received::Response("OK".to_owned()));
    client.publish("t", b"x");
}

#[test]
fn a_handshake_that_fails_is_told_in_the_clear() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let record = b"\x16\x03\x01\0\x05nonsense".as_slice();
    for (sent, why) in [
        (b"PUB t\n\0\0\0\x01x".as_slice(), "first record does not look like a TLS handshake"),
        (record, ""),
    ] {
        let mut client = server.client();
        client.identify(r#"{"feature_negotiation":true,"tls_v1":true}"#);
        client.send_bytes(sent);
        let mut rest = Vec::new();
        // The connection may be reset, since more was sent than read.
        let _ = client.stream.read_to_end(&mut rest);
        let mut frame = Vec::new();
        let text = format!("E_IDENTIFY_FAILED IDENTIFY failed {why}");
        encode_frame(FrameType::Error, text.as_bytes(), &mut frame);
        // In front of it stands an alert, for a client that does speak TLS.
        let text = String::from_utf8_lossy(&rest).into_owned();
        match why {
            "" => assert!(text.contains("E_IDENTIFY_FAILED IDENTIFY failed "), "{text}"),
            _ => assert_eq!(rest, frame),
        }
    }
    server.client().publish("t", b"x");
}

#[test]
fn what_follows_identify_at_once_is_the_handshake() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let config = certificates.client_config(&TLS_VERSIONS, None);
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    Command::Identify(br#"{"feature_negotiation":true,"tls_v1":true}"#).encode(&mut bytes);
    tls.write_tls(&mut bytes).unwrap();
    let mut client = server.client();
    client.send_bytes(&bytes);
    // Byte for byte, so that nothing of the handshake is read with the answer.
    let mut size = [0; 4];
    client.stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    client.stream.read_exact(&mut answer).unwrap();
    let mut stream = StreamOwned::new(tls, client.stream);
    for _ in 0..2 {
        let mut ok = [0; 10];
        stream.read_exact(&mut ok).unwrap();
        assert_eq!(decode_frame(&ok, 100), Ok(Some((Frame::Response(b"OK"), 10))));
        stream.write_all(b"PUB t\n\0\0\0\x01x").unwrap();
    }
}

#[tokio::test]
async fn a_later_identify_keeps_tls_and_does_not_upgrade_twice() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let tls = certificates.connector(&TLS_VERSIONS, None);
    let mut peer = Peer::upgraded(&server, r#""tls_v1":true"#, Some(&tls)).await;
    let answer = peer.negotiate(r#""tls_v1":true,"output_buffer_size":64"#).await;
    assert_eq!((&answer["tls_v1"], &answer["output_buffer_size"]), (&json!(false), &json!(64)));
    peer.publish("t", b"x").await;
    // A layer that is missing may still be added.
    let answer = peer.negotiate(r#""tls_v1":true,"snappy":true"#).await;
    assert_eq!((&answer["tls_v1"], &answer["snappy"]), (&json!(false), &json!(true)));
    let mut peer = peer.compress(nsq_compression::Codec::snappy());
    peer.expect_ok().await;
    let answer = peer.negotiate(r#""tls_v1":true,"deflate":true"#).await;
    assert_eq!((&answer["tls_v1"], &answer["deflate"]), (&json!(false), &json!(false)));
    peer.publish("t", b"x").await;
}

#[tokio::test]
async fn where_tls_is_required_it_comes_before_every_command() {
    let certificates = Certificates::new();
    for required in [TlsRequired::Yes, TlsRequired::ExceptHttp] {
        let server = certificates.server(|options| options.tls.required = required);
        let commands: [&[u8]; 5] =
            [b"NOP\n", b"PUB t\n\0\0\0\x01x", b"AUTH\n\0\0\0\x01x", b"SUB t c\n", b"bogus y z\n"];
        for command in commands {
            let token = command.split(|byte| b" \n".contains(byte)).next().unwrap();
            let token = std::str::from_utf8(token).unwrap();
            let refused = format!("E_INVALID cannot {token} in current state (TLS required)");
            for identifies in [false, true] {
                let mut client = Client::silent(server.tcp);
                let mut bytes = b"  V2".to_vec();
                if identifies {
                    Command::Identify(b"{}").encode(&mut bytes);
                }
                // In one read, so that what is refused stands behind what is allowed.
                client.send_bytes(&[&bytes, command].concat());
                if identifies {
                    assert_eq!(client.receive(), Received::Response("OK".to_owned()));
                }
                assert_eq!(client.error(), refused);
                client.expect_closed();
            }
        }
        let tls = certificates.connector(&TLS_VERSIONS, None);
        let mut peer = Peer::upgraded(&server, r#""tls_v1":true"#, Some(&tls)).await;
        peer.publish("t", b"x").await;
        peer.send(Command::Identify(br#"{"heartbeat_interval":-1}"#)).await;
        peer.expect_ok().await;
        peer.send(Command::Sub { topic: "t", channel: "c" }).await;
        assert_eq!(peer.error().await, "E_INVALID cannot SUB with heartbeats disabled");
    }
}

/// Returns whether a client that shows this certificate gets through the handshake and to its `OK`.
async fn is_accepted(server: &Server, certificates: &Certificates, client: Option<&Pair>) -> bool {
    for version in TLS_VERSIONS {
        let tls = certificates.connector(&[version], client);
        let mut peer = Peer::connect(server.tcp).await;
        assert_eq!(peer.negotiate(r#""tls_v1":true"#).await["tls_v1"], true);
        // With TLS 1.3 a client learns only later that its certificate is refused.
        let Ok(mut peer) = peer.encrypt(&tls).await else { return false };
        if peer.try_receive().await.is_err() {
            return false;
        }
        peer.publish("t", b"x").await;
    }
    true
}

#[tokio::test]
async fn certificates_of_clients_are_demanded_as_the_policy_says() {
    let certificates = Certificates::new();
    let known = Some(&certificates.client);
    let stranger = Pair::authority().sign("a client");
    let stranger = Some(&stranger);
    for (policy, expected) in [
        ("require", [false, true, true]),
        ("require-verify", [false, false, true]),
        ("bogus", [true, true, true]),
        ("", [true, true, true]),
    ] {
        let server =
            certificates.server(|options| options.tls.client_auth_policy = policy.to_owned());
        for (client, expected) in [None, stranger, known].into_iter().zip(expected) {
            let accepted = is_accepted(&server, &certificates, client).await;
            assert_eq!(accepted, expected, "{policy}");
        }
        // Every policy makes TLS a duty.
        let mut client = server.client();
        client.send(Command::Nop);
        if policy.is_empty() {
            client.publish("t", b"x");
        } else {
            assert_eq!(client.error(), "E_INVALID cannot NOP in current state (TLS required)");
        }
    }
}

#[tokio::test]
async fn a_stop_ends_encrypted_connections_and_handshakes_that_hang() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let tls = certificates.connector(&TLS_VERSIONS, None);
    let mut peer = Peer::upgraded(&server, r#""tls_v1":true"#, Some(&tls)).await;
    let mut hanging = Peer::connect(server.tcp).await;
    hanging.negotiate(r#""tls_v1":true"#).await;
    let stopping = tokio::task::spawn_blocking(|| server.stop());
    peer.expect_closed().await;
    hanging.expect_closed().await;
    stopping.await.unwrap();
}

#[tokio::test]
async fn commands_count_though_the_client_does_not_end_tls_in_order() {
    let certificates = Certificates::new();
    let server = certificates.server(|_| ());
    let mut client = server.client();
    client.identify(r#"{"feature_negotiation":true,"tls_v1":true}"#);
    let config = certificates.client_config(&TLS_VERSIONS, None);
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(config.into(), name).unwrap();
    let mut stream = StreamOwned::new(tls, client.stream);
    stream.write_all(b"PUB t\n\0\0\0\x01xPUB t\n\0\0\0\x01").unwrap();
    stream.flush().unwrap();
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    assert!(read.is_ok(), "{read:?}");
    let text = String::from_utf8_lossy(&rest);
    assert!(text.ends_with("E_BAD_MESSAGE PUB failed to read message body"), "{text}");
    assert_eq!(server.topic_stats()["message_count"], 1);
}
