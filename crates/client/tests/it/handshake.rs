//! IDENTIFY and SUB, and their failures.

use std::time::Duration;

use nsq_client::{Code, Config, ConnectError, Consumer, Producer, PublishError};
use serde_json::{Value, json};

use crate::support::{Nsqd, Peer, connect, consumer, error, ok, producer_of, quick, soon};

/// Returns the failure to connect to an nsqd that answers IDENTIFY with `answer`.
async fn refused(answer: impl AsyncFnOnce(&mut Peer)) -> ConnectError {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        answer(&mut peer).await;
        peer.is_closed().await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    error(soon(async { tokio::join!(connecting, serve) }).await.0)
}

#[tokio::test]
async fn identify_has_exactly_the_keys_of_nsq_with_the_values_configured() {
    // H01, C15, C16
    let nsqd = Nsqd::start().await;
    let config = Config {
        client_id: "me".to_owned(),
        hostname: "me.example".to_owned(),
        topology_region: "r".to_owned(),
        topology_zone: "z".to_owned(),
        heartbeat_interval: None,
        output_buffer_timeout: None,
        output_buffer_size: -1,
        sample_rate: 7,
        msg_timeout: Duration::from_secs(90),
        ..Config::default()
    };
    let producer = Producer::new(nsqd.address(), config).unwrap();
    let (pinged, peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    pinged.unwrap();
    let sent: Value = serde_json::from_slice(peer.identify()).unwrap();
    let expected = json!({
        "client_id": "me", "short_id": "me",
        "hostname": "me.example", "long_id": "me.example",
        "user_agent": concat!("nsq-client/", env!("CARGO_PKG_VERSION")),
        "feature_negotiation": true,
        "tls_v1": false, "deflate": false, "deflate_level": 6, "snappy": false,
        "heartbeat_interval": -1, "output_buffer_size": -1, "output_buffer_timeout": -1,
        "sample_rate": 7, "msg_timeout": 90_000,
        "topology_region": "r", "topology_zone": "z",
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn without_a_name_the_client_is_called_after_its_host() {
    // C16
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let (_, peer) = soon(async { tokio::join!(producer.ping(), nsqd.identified()) }).await;
    let sent: Value = serde_json::from_slice(peer.identify()).unwrap();
    let hostname = sent["hostname"].as_str().unwrap();
    assert!(!hostname.is_empty());
    assert_eq!(sent["client_id"].as_str(), hostname.split('.').next());
    assert_eq!(
        (&sent["heartbeat_interval"], &sent["output_buffer_timeout"]),
        (&json!(30_000), &json!(250))
    );
}

#[tokio::test]
async fn an_nsqd_that_does_not_negotiate_gets_the_default_limit_and_the_others_their_own() {
    // H02, H03, R01, trace 11
    for (answer, rdy) in [
        (&br#"{"max_rdy_count":100,"auth_required":false,"novel":{}}"#[..], "RDY 100"),
        (b"OK", "RDY 2500"),
        (b"{}", "RDY 2500"),
    ] {
        let nsqd = Nsqd::start().await;
        let consumer = consumer(5000).handler(ok).build().unwrap();
        let serve = async {
            let mut peer = nsqd.accept().await;
            peer.magic().await;
            peer.said(&["IDENTIFY"]).await;
            peer.respond(answer).await;
            peer.said(&["SUB t c"]).await;
            peer.respond(b"OK").await;
            peer.said(&[rdy]).await;
            peer
        };
        let connecting = consumer.connect_to_nsqd(nsqd.address());
        let (connected, _peer) = soon(async { tokio::join!(connecting, serve) }).await;
        connected.unwrap();
    }
}

#[tokio::test]
async fn a_refused_identify_is_told_with_code_and_text() {
    // H04
    let text = "E_BAD_BODY IDENTIFY heartbeat interval (100) is invalid";
    let refused = refused(async |peer| peer.error(text).await).await;
    let ConnectError::Identify(error) = &refused else { panic!("{refused:?}") };
    assert_eq!((error.code(), error.text()), (Some(Code::BadBody), text));
    assert!(refused.to_string().contains(text));
}

#[tokio::test]
async fn an_empty_or_broken_answer_to_identify_is_an_error() {
    // H05
    for answer in [&b""[..], b"{broken"] {
        let refused = refused(async |peer| peer.respond(answer).await).await;
        assert!(matches!(refused, ConnectError::IdentifyAnswer(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_feature_that_was_not_asked_for_is_an_error() {
    // H11
    for feature in ["tls_v1", "deflate", "snappy"] {
        let answer = format!(r#"{{"{feature}":true}}"#);
        let refused = refused(async |peer| peer.respond(answer.as_bytes()).await).await;
        assert!(refused.to_string().contains(feature), "{refused:?}");
    }
}

#[tokio::test]
async fn an_nsqd_that_requires_authorization_is_refused_without_sending_anything() {
    let answer = br#"{"auth_required":true}"#;
    let refused = refused(async |peer| peer.respond(answer).await).await;
    assert!(matches!(refused, ConnectError::AuthRequired { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_silent_nsqd_ends_the_handshake_in_time() {
    // H14
    let nsqd = Nsqd::start().await;
    let config = Config { handshake_timeout: Duration::from_millis(50), ..quick(1) };
    let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
    let refused = error(soon(consumer.connect_to_nsqd(nsqd.address())).await);
    assert!(matches!(refused, ConnectError::HandshakeTimeout { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_refused_subscription_is_told_with_code_and_text() {
    // X02
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["SUB t c"]).await;
        peer.error("E_UNAUTHORIZED AUTH failed").await;
        peer.is_closed().await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
    let refused = error(connected);
    let ConnectError::Subscribe(error) = &refused else { panic!("{refused:?}") };
    assert_eq!(error.code(), Some(Code::Unauthorized));
}

#[tokio::test]
async fn an_nsqd_that_goes_away_in_the_handshake_is_told_as_such() {
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let publish = producer.publish("t", b"x");
    let (failed, _) =
        soon(async { tokio::join!(publish, async { drop(nsqd.accept().await) }) }).await;
    let PublishError::NotConnected(reason) = error(failed) else { panic!("is not connected") };
    assert!(matches!(*reason, ConnectError::Handshake { .. }), "{reason:?}");
}

#[tokio::test]
async fn an_http_port_is_recognized() {
    // W08, P08
    let nsqd = Nsqd::start().await;
    let producer = producer_of(&nsqd);
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.is_closed().await;
    };
    let (failed, ()) = soon(async { tokio::join!(producer.ping(), serve) }).await;
    assert!(error(failed).to_string().contains("HTTP endpoint"));
}

#[tokio::test]
async fn a_heartbeat_during_the_handshake_is_answered() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.respond(b"_heartbeat_").await;
        peer.said(&["SUB t c", "NOP"]).await;
        peer.respond(b"OK").await;
        peer.said(&["RDY 1"]).await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
}

#[tokio::test]
async fn messages_that_come_together_with_the_answer_to_sub_are_not_lost() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["SUB t c"]).await;
        let mut bytes = b"\0\0\0\x06\0\0\0\0OK".to_vec();
        bytes.extend(crate::support::message_frame(1, 1, b"x"));
        peer.raw(&bytes).await;
        peer.said(&["RDY 1", &crate::support::fin(1)]).await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
}

#[tokio::test]
async fn the_local_address_is_the_one_configured() {
    // H15
    let nsqd = Nsqd::start().await;
    let config = Config { local_addr: Some("127.0.0.2:0".parse().unwrap()), ..quick(1) };
    let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
    let peer = connect(&consumer, &nsqd).await;
    assert_eq!(peer.remote().ip().to_string(), "127.0.0.2");
}
