//! The bytes on the wire, read without the help of a decoder.

use std::{collections::HashSet, io::Read};

use crate::support::{Client, Server};

/// The next bytes that nsqd sends.
fn bytes(client: &mut Client, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_frame_is_its_size_its_type_and_its_data_in_big_endian() {
    let server = Server::start();
    let mut client = server.client();
    client.send_bytes(b"PUB t\r\n\0\0\0\x05helloSUB t c\nFIN 0123456789abcdef\n");
    let ok = b"\0\0\0\x06\0\0\0\0OK";
    assert_eq!(bytes(&mut client, 20), [&ok[..], ok].concat());
    let text = b"E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight";
    let error = [&b"\0\0\0\x3d\0\0\0\x01"[..], text].concat();
    assert_eq!(bytes(&mut client, error.len()), error);
    client.send_bytes(b"RDY 1\n");
    let message = bytes(&mut client, 39);
    assert_eq!(message[..8], *b"\0\0\0\x23\0\0\0\x02");
    let timestamp_ns = i64::from_be_bytes(*message[8..].first_chunk().unwrap());
    assert!((1_700_000_000..4_100_000_000).contains(&(timestamp_ns / 1_000_000_000)));
    assert_eq!(message[16..18], 1_u16.to_be_bytes());
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    assert!(message[18..34].iter().all(is_hex), "{}", message.escape_ascii());
    assert_eq!(message[34..], *b"hello");
    // A redelivery differs in the attempts alone.
    client.send_bytes(&[b"REQ ", &message[18..34], b" 0\n"].concat());
    let again = bytes(&mut client, 39);
    assert_eq!(again[16..18], 2_u16.to_be_bytes());
    assert_eq!((&again[..16], &again[18..]), (&message[..16], &message[18..]));
}

#[test]
fn nothing_answers_a_nop() {
    let server = Server::start();
    let mut client = server.client();
    client.send_bytes(b"NOP\nNOP\r\nNOP with parameters\nPUB t\n\0\0\0\x01x");
    assert_eq!(bytes(&mut client, 10), b"\0\0\0\x06\0\0\0\0OK");
    client.send_bytes(b"SUB t c\nNOP\nCLS\nNOP\n");
    assert_eq!(bytes(&mut client, 28), b"\0\0\0\x06\0\0\0\0OK\0\0\0\x0e\0\0\0\0CLOSE_WAIT");
    client.expect_nothing();
}

#[test]
fn names_that_are_not_valid_are_quoted_with_escapes() {
    let server = Server::start();
    for (name, quoted) in [
        (&b"\""[..], r#"\""#),
        (b"\\", r"\\"),
        (b"a\tb\x07\x7f", r"a\tb\a\x7f"),
        (b"\xff\xc3", r"\xff\xc3"),
        ("é漢😀".as_bytes(), "é漢😀"),
        ("\u{a0}\u{2028}\u{e0001}".as_bytes(), r"\u00a0\u2028\U000e0001"),
        (b"<&>'%s", "<&>'%s"),
    ] {
        let mut client = server.client();
        client.send_bytes(&[b"SUB ", name, b" c\n"].concat());
        let expected = format!("E_BAD_TOPIC SUB topic name \"{quoted}\" is not valid");
        assert_eq!(client.error(), expected);
        client.expect_closed();
    }
}

#[test]
fn ids_of_a_flood_of_messages_are_all_different() {
    let server = Server::with(|options| options.max_bytes_per_file = 64 << 10);
    let mut producer = server.client();
    let mut consumers = ["t", "u"].map(|topic| server.consumer(topic, "c", 2500));
    let mut ids = HashSet::new();
    for batch in [1, 9_000, 1, 1_000] {
        for (topic, consumer) in ["t", "u"].into_iter().zip(&mut consumers) {
            producer.publish_all(topic, &vec![b"a message"; batch]);
            for _ in 0..batch {
                let id = consumer.message().id;
                consumer.fin(id);
                assert!(ids.insert(id.to_string()), "{id} again");
            }
        }
    }
}
