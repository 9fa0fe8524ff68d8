//! Ids that nsqd never gave out.

use nsq_protocol::{Command, MessageId};

use crate::support::{Message, Server};

/// Files so small that every second message of [`BODY_BYTES`] begins a new one.
const FILE_BYTES: u64 = 4 << 10;
const BODY_BYTES: usize = 3 << 10;

fn segment_of(message: &Message) -> u64 {
    message.id.to_u64().unwrap() >> 22
}

/// The id that `distance` further messages would lead to if segments had no end.
fn forged(message: &Message, distance: u64) -> MessageId {
    MessageId::from_u64(message.id.to_u64().unwrap() + distance)
}

#[test]
fn an_id_beyond_the_end_of_a_segment_does_not_lead_to_a_message_of_the_next() {
    let server = Server::with(|options| options.max_bytes_per_file = FILE_BYTES);
    let (mut producer, mut client) = (server.client(), server.consumer("forged", "c", 10));
    producer.publish("forged", b"begins the first segment");
    let first = client.message();
    // nsqd knows this segment while it can still grow.
    client.fin(first.id);
    client.expect_nothing();
    producer.publish("forged", &[b'x'; BODY_BYTES]);
    producer.publish("forged", &[b'x'; BODY_BYTES]);
    let (second, third) = (client.message(), client.message());
    assert_eq!(segment_of(&first), segment_of(&second));
    assert_ne!(segment_of(&first), segment_of(&third), "the test needs a second segment");

    let id = forged(&first, 2);
    client.fin(id);
    assert!(client.error().starts_with("E_FIN_FAILED"));
    client.send(Command::Touch(id));
    assert!(client.error().starts_with("E_TOUCH_FAILED"));
    client.req(id, 0);
    assert!(client.error().starts_with("E_REQ_FAILED"));
    client.expect_nothing();
    assert_eq!(server.channel_stats("c")["in_flight_count"], 2);
    for message in [second, third] {
        client.fin(message.id);
    }
    client.expect_nothing();
}

#[test]
fn an_id_beyond_the_end_of_the_log_is_refused() {
    let server = Server::start();
    let mut client = server.consumer("forged", "c", 10);
    server.client().publish("forged", b"the only message");
    let message = client.message();
    for distance in [1, 2, 1 << 20, 1 << 22, 1 << 40, 1 << 60] {
        client.fin(forged(&message, distance));
        assert!(client.error().starts_with("E_FIN_FAILED"), "{distance}");
    }
    assert_eq!(server.channel_stats("c")["in_flight_count"], 1);
    client.fin(message.id);
    client.expect_nothing();
}
