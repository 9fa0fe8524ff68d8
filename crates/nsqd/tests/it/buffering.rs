//! Output buffers, and the settings that the latest IDENTIFY leaves.

use std::time::Duration;

use crate::support::{Client, Message, Received, Server};

fn identified(server: &Server, fields: &str) -> Client {
    let mut client = server.client();
    assert_eq!(client.identify(fields), Received::Response("OK".to_owned()), "{fields}");
    client
}

/// Single messages reach a consumer that is ready for many more.
fn expect_single_messages(server: &Server, fields: &str) {
    let mut consumer = identified(server, fields);
    consumer.subscribe("t", "c", 2500);
    let mut producer = server.client();
    for body in [&b"x"[..], &[b'y'; 100_000], b"z"] {
        producer.publish("t", body);
        assert!(consumer.message().body == body, "{fields}");
    }
    server.post("/channel/delete?topic=t&channel=c");
}

#[test]
fn a_message_fits_through_every_buffer_and_waits_in_none() {
    let server = Server::with(|options| options.output_buffer_timeout = Duration::from_secs(3600));
    for fields in [
        "{}",
        r#"{"output_buffer_size":64}"#,
        r#"{"output_buffer_size":65536,"output_buffer_timeout":30000}"#,
        r#"{"output_buffer_size":-1}"#,
        r#"{"output_buffer_timeout":-1}"#,
        r#"{"output_buffer_size":-1,"output_buffer_timeout":-1}"#,
    ] {
        expect_single_messages(&server, fields);
    }
}

#[test]
fn a_flush_interval_of_nothing_is_no_fault() {
    let server = Server::with(|options| {
        options.output_buffer_timeout = Duration::ZERO;
        options.min_output_buffer_timeout = Duration::ZERO;
    });
    for fields in ["{}", r#"{"output_buffer_timeout":1}"#] {
        expect_single_messages(&server, fields);
    }
}

#[test]
fn the_latest_identify_decides_how_long_deliveries_may_take() {
    let server = Server::start();
    server.client().publish("t", b"x");
    let mut consumer = identified(&server, r#"{"msg_timeout":900000}"#);
    assert_eq!(consumer.identify(r#"{"msg_timeout":1000}"#), Received::Response("OK".to_owned()));
    consumer.subscribe("t", "c", 1);
    let first = consumer.message();
    assert_eq!(consumer.message(), Message { attempts: 2, ..first });
}
