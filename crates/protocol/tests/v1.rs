//! The protocol between nsqd and nsqlookupd, byte for byte.

use nsq_protocol::{
    ClientError, Code, LINE_BYTES_MAX, Missing,
    v1::{self, Command, Decoded, Phase, ResponseError},
};
use proptest::prelude::*;

fn rejection(line: &[u8], phase: Phase) -> String {
    match v1::decode_command(line, phase) {
        Decoded::Rejected(error) | Decoded::TooLong(error) => error.to_string(),
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

fn decoded(line: &[u8]) -> Command<'_> {
    match v1::decode_command(line, Phase::Identified) {
        Decoded::Command(command, used) => {
            assert_eq!(used, line.len());
            command
        }
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

#[test]
fn commands_have_the_bytes_of_the_protocol() {
    for (command, bytes) in [
        (Command::Identify(b"{}"), &b"IDENTIFY\n\0\0\0\x02{}"[..]),
        (Command::Register { topic: "t", channel: None }, b"REGISTER t\n"),
        (Command::Register { topic: "t", channel: Some("c") }, b"REGISTER t c\n"),
        (Command::Unregister { topic: "t", channel: None }, b"UNREGISTER t\n"),
        (Command::Unregister { topic: "t", channel: Some("c") }, b"UNREGISTER t c\n"),
        (Command::Ping, b"PING\n"),
    ] {
        let mut out = Vec::new();
        command.encode(&mut out);
        assert_eq!(out, bytes);
        let phase = if command.name() == "IDENTIFY" { Phase::Connected } else { Phase::Identified };
        assert_eq!(v1::decode_command(&out, phase), Decoded::Command(command, out.len()));
    }
}

#[test]
fn white_space_around_a_line_and_words_after_it_are_of_no_matter() {
    for line in [&b"PING\r\n"[..], b"  PING  \r\n", b"\tPING a b\n", b"\x0b\x0cPING \n"] {
        assert_eq!(decoded(line), Command::Ping);
    }
    let both = Command::Register { topic: "t", channel: Some("c") };
    assert_eq!(decoded(b" REGISTER t c d e \r\n"), both);
    match v1::decode_command(b"IDENTIFY now\n\0\0\0\0PING", Phase::Connected) {
        Decoded::Command(command, used) => {
            assert_eq!((command, used), (Command::Identify(b""), 17))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_spaces_before_the_channel_leave_only_the_topic() {
    assert_eq!(decoded(b"REGISTER t  c\n"), Command::Register { topic: "t", channel: None });
}

#[test]
fn every_refusal_has_the_text_that_nsqd_knows() {
    let long = format!("REGISTER {}\n", "x".repeat(65));
    let long_text = format!("E_BAD_TOPIC REGISTER topic name '{}' is not valid", "x".repeat(65));
    for (line, text) in [
        (&b"\n"[..], "E_INVALID invalid command "),
        (b"ping\n", "E_INVALID invalid command ping"),
        (b"PUB t\n", "E_INVALID invalid command PUB"),
        (b"PING\tx\n", "E_INVALID invalid command PING\tx"),
        (b"IDENTIFY\n", "E_INVALID cannot IDENTIFY again"),
        (b"REGISTER\n", "E_INVALID REGISTER insufficient number of params"),
        (b"REGISTER \n", "E_INVALID REGISTER insufficient number of params"),
        (b"UNREGISTER\r\n", "E_INVALID UNREGISTER insufficient number of params"),
        (b"REGISTER  t\n", "E_BAD_TOPIC REGISTER topic name '' is not valid"),
        (b"REGISTER t* c*\n", "E_BAD_TOPIC REGISTER topic name 't*' is not valid"),
        (b"UNREGISTER t c'\n", "E_BAD_CHANNEL UNREGISTER channel name 'c'' is not valid"),
        (long.as_bytes(), &long_text),
    ] {
        assert_eq!(rejection(line, Phase::Identified), text);
    }
    let longest = "x".repeat(64);
    let line = format!("REGISTER {longest}\n");
    assert_eq!(decoded(line.as_bytes()), Command::Register { topic: &longest, channel: None });
}

#[test]
fn a_client_has_to_identify_before_its_names_are_looked_at() {
    for line in [&b"REGISTER t\n"[..], b"REGISTER\n", b"UNREGISTER t*\n"] {
        assert_eq!(rejection(line, Phase::Connected), "E_INVALID client must IDENTIFY");
    }
    let ping = Decoded::Command(Command::Ping, 5);
    assert_eq!(v1::decode_command(b"PING\n", Phase::Connected), ping);
}

#[test]
fn a_body_of_impossible_size_is_refused_before_it_comes() {
    for (size, text) in [
        (-1_i32, "E_BAD_BODY IDENTIFY failed to read body size"),
        (i32::MIN, "E_BAD_BODY IDENTIFY failed to read body size"),
        (i32::MAX, "E_BAD_BODY IDENTIFY body too big 2147483647 > 65536"),
        (65_537, "E_BAD_BODY IDENTIFY body too big 65537 > 65536"),
    ] {
        let line = [&b"IDENTIFY\n"[..], &size.to_be_bytes()].concat();
        assert_eq!(rejection(&line, Phase::Connected), text);
    }
    let line = [&b"IDENTIFY\n"[..], &65_536_i32.to_be_bytes()].concat();
    let missing = Missing::Body("IDENTIFY");
    let incomplete = Decoded::Incomplete { needed: line.len() + 65_536, missing };
    assert_eq!(v1::decode_command(&line, Phase::Connected), incomplete);
}

#[test]
fn a_line_without_an_end_is_refused_once_it_is_too_long() {
    let line = vec![b'x'; LINE_BYTES_MAX];
    let text = format!("E_INVALID command line is longer than {LINE_BYTES_MAX} bytes");
    assert_eq!(rejection(&line, Phase::Connected), text);
    let missing = Missing::Line;
    let incomplete = Decoded::Incomplete { needed: LINE_BYTES_MAX, missing };
    assert_eq!(v1::decode_command(&line[1..], Phase::Connected), incomplete);

    let mut longest = vec![b' '; LINE_BYTES_MAX - 5];
    longest.extend_from_slice(b"PING\n");
    assert_eq!(decoded(&longest), Command::Ping);
}

#[test]
fn a_client_that_goes_away_inside_a_body_is_told() {
    let told = |bytes: &[u8]| match v1::decode_command(bytes, Phase::Connected) {
        Decoded::Incomplete { missing, .. } => missing.error().map(|error| error.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(b"IDENTI"), None);
    let size = "E_BAD_BODY IDENTIFY failed to read body size";
    assert_eq!(told(b"IDENTIFY\n\0\0").as_deref(), Some(size));
    let body = "E_BAD_BODY IDENTIFY failed to read body";
    assert_eq!(told(b"IDENTIFY\n\0\0\0\x02{").as_deref(), Some(body));
}

#[test]
fn responses_are_size_and_data() {
    let mut out = Vec::new();
    v1::encode_response(b"OK", &mut out);
    assert_eq!(out, b"\0\0\0\x02OK");
    assert_eq!(v1::decode_response(&out, 2), Ok(Some((&b"OK"[..], 6))));

    out.clear();
    v1::encode_error(&ClientError::new(Code::BadProtocol, ""), &mut out);
    assert_eq!(out, b"\0\0\0\x0eE_BAD_PROTOCOL");
}

#[test]
fn impossible_responses_are_told_apart() {
    assert_eq!(v1::decode_response(b"HTTP/1.1 400", 5 << 20), Err(ResponseError::Http));
    let size = ResponseError::Size { size: -1, max: 9 };
    assert_eq!(v1::decode_response(b"\xff\xff\xff\xff", 9), Err(size));
    let size = ResponseError::Size { size: 10, max: 9 };
    assert_eq!(v1::decode_response(b"\0\0\0\x0a", 9), Err(size));
}

#[test]
fn an_error_is_told_by_its_code() {
    let error = ClientError::new(Code::Invalid, "client must IDENTIFY");
    assert_eq!(v1::error_of(b"E_INVALID client must IDENTIFY"), Some(error));
    let error = ClientError::new(Code::BadProtocol, "");
    assert_eq!(v1::error_of(b"E_BAD_PROTOCOL"), Some(error));
    for data in [&b"OK"[..], b"", b"{\"version\":\"1.3.0\"}", b"E_INVALIDx"] {
        assert_eq!(v1::error_of(data), None);
    }
}

proptest! {
    #[test]
    fn a_command_is_incomplete_at_every_split(
        topic in "[.a-zA-Z0-9_-]{1,20}", channel in proptest::option::of("[a-z]{1,9}"),
        body: Vec<u8>, kind in 0..4, split: prop::sample::Index
    ) {
        let channel = channel.as_deref();
        let (command, phase) = match kind {
            0 => (Command::Identify(&body), Phase::Connected),
            1 => (Command::Register { topic: &topic, channel }, Phase::Identified),
            2 => (Command::Unregister { topic: &topic, channel }, Phase::Identified),
            _ => (Command::Ping, Phase::Connected),
        };
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let used = bytes.len();
        let part = &bytes[..split.index(used)];
        match v1::decode_command(part, phase) {
            Decoded::Incomplete { needed, .. } => prop_assert!(part.len() < needed && needed <= used),
            other => prop_assert!(false, "{:?}", other),
        }
        bytes.extend_from_slice(b"PING\n");
        prop_assert_eq!(v1::decode_command(&bytes, phase), Decoded::Command(command, used));
    }

    #[test]
    fn responses_survive_the_round_trip_at_any_split(data: Vec<u8>, split: prop::sample::Index) {
        prop_assume!(!data.starts_with(b"HTTP"));
        let mut out = Vec::new();
        v1::encode_response(&data, &mut out);
        prop_assert_eq!(v1::decode_response(&out, 1 << 20), Ok(Some((&data[..], out.len()))));
        let part = &out[..split.index(out.len())];
        prop_assert_eq!(v1::decode_response(part, 1 << 20), Ok(None));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>, identified: bool) {
        let phase = if identified { Phase::Identified } else { Phase::Connected };
        let _ = v1::decode_command(&bytes, phase);
        let _ = v1::decode_response(&bytes, 1 << 20);
        let _ = v1::error_of(&bytes);
    }
}
