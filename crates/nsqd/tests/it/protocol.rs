//! Refused commands: the text of each error, and which of them end the connection.

use nsq_protocol::Command;

use crate::support::{Client, Received, Server, eventually};

const ID: &str = "0123456789abcdef";
const SUBSCRIBED: &[u8] = b"SUB t c\n";
const CLOSING: &[u8] = b"SUB t c\nCLS\n";

/// A size in front of a body.
fn size(bytes: i32) -> [u8; 4] {
    bytes.to_be_bytes()
}

fn with_size(line: &[u8], announced: i32) -> Vec<u8> {
    [line, &size(announced)].concat()
}

/// Sends `before`, whose answers are ignored, and then the command to be refused, on a new connection each time.
fn refused<B: AsRef<[u8]>>(server: &Server, before: &[u8], cases: &[(B, &str)]) {
    for (bytes, text) in cases {
        let bytes = bytes.as_ref();
        let mut client = server.client();
        client.send_bytes(before);
        client.send_bytes(bytes);
        let shown = bytes.escape_ascii();
        let answer = loop {
            match client.receive() {
                Received::Response(data) if data == "OK" || data == "CLOSE_WAIT" => {}
                answer => break answer,
            }
        };
        assert_eq!(answer, Received::Error((*text).to_owned()), "{shown}");
        client.expect_closed();
    }
}

#[test]
fn anything_but_the_magic_is_answered_with_a_bare_code() {
    let server = Server::start();
    for magic in [&b"  V1"[..], b"V2  ", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0"] {
        let mut client = Client::silent(server.tcp);
        client.send_bytes(magic);
        assert_eq!(client.error(), "E_BAD_PROTOCOL");
        client.expect_closed();
    }
}

#[test]
fn a_client_that_leaves_before_its_magic_is_whole_hears_nothing() {
    let server = Server::start();
    for magic in [&b""[..], b"  V"] {
        let mut client = Client::silent(server.tcp);
        client.send_bytes(magic);
        client.end_stream();
        client.expect_closed();
    }
}

#[test]
fn unknown_commands_are_echoed_and_close() {
    let cases = [
        (&b"\n"[..], "E_INVALID invalid command "),
        (b"\r\n", "E_INVALID invalid command "),
        (b" PUB t\n", "E_INVALID invalid command "),
        (b"NOPE 1 2\n", "E_INVALID invalid command NOPE"),
        (b"nop\n", "E_INVALID invalid command nop"),
        (b"X\"\\\n", "E_INVALID invalid command X\"\\"),
    ];
    refused(&Server::start(), b"", &cases);
}

#[test]
fn commands_of_another_state_close() {
    let server = Server::start();
    let wrong = |command: &str| format!("E_INVALID cannot {command} in current state");
    let cases = |commands: &[&str]| -> Vec<(Vec<u8>, String)> {
        let bytes = |command: &str| {
            let name = command.split_once(' ').map_or(command, |(name, _)| name);
            (format!("{command}\n\0\0\0\x02{{}}").into_bytes(), wrong(name))
        };
        commands.iter().map(|command| bytes(command)).collect()
    };
    let fin = format!("FIN {ID}");
    let init = ["RDY 1", "RDY x", &fin, "FIN", "REQ", "TOUCH", "CLS"];
    let taken = ["IDENTIFY", "AUTH", "AUTH x", "SUB t c", "SUB"];
    let states =
        [(&b""[..], &init[..]), (SUBSCRIBED, &taken), (CLOSING, &taken), (CLOSING, &["CLS"])];
    for (before, commands) in states {
        let cases = cases(commands);
        let cases: Vec<_> =
            cases.iter().map(|(bytes, text)| (bytes.as_slice(), text.as_str())).collect();
        refused(&server, before, &cases);
    }
}

#[test]
fn sub_names_the_parameter_it_does_not_like() {
    let long = "a".repeat(65);
    let sub_long = format!("SUB t {long}\n");
    let long_text = format!("E_BAD_CHANNEL SUB channel name \"{long}\" is not valid");
    let ephemeral = format!("SUB {}#ephemeral c\n", "a".repeat(55));
    let ephemeral_text =
        format!("E_BAD_TOPIC SUB topic name \"{}#ephemeral\" is not valid", "a".repeat(55));
    let cases = [
        (&b"SUB\n"[..], "E_INVALID SUB insufficient number of parameters"),
        (b"SUB t\n", "E_INVALID SUB insufficient number of parameters"),
        (b"SUB  c\n", "E_BAD_TOPIC SUB topic name \"\" is not valid"),
        (b"SUB t \n", "E_BAD_CHANNEL SUB channel name \"\" is not valid"),
        (b"SUB t$ c$\n", "E_BAD_TOPIC SUB topic name \"t$\" is not valid"),
        (b"SUB t c$\n", "E_BAD_CHANNEL SUB channel name \"c$\" is not valid"),
        (b"SUB t \xff\"\t\n", "E_BAD_CHANNEL SUB channel name \"\\xff\\\"\\t\" is not valid"),
        (b"SUB t #ephemeral\n", "E_BAD_CHANNEL SUB channel name \"#ephemeral\" is not valid"),
        (b"SUB t c#ephemeralx\n", "E_BAD_CHANNEL SUB channel name \"c#ephemeralx\" is not valid"),
        (sub_long.as_bytes(), &long_text),
        (ephemeral.as_bytes(), &ephemeral_text),
    ];
    refused(&Server::start(), b"", &cases);
}

#[test]
fn names_of_64_bytes_are_accepted() {
    let server = Server::start();
    for channel in ["a".repeat(64), format!("{}#ephemeral", "a".repeat(54)), "._-9".to_owned()] {
        server.client().ok(Command::Sub { topic: &"b".repeat(64), channel: &channel });
    }
}

#[test]
fn publishes_are_refused_with_their_reason() {
    let too_big = "message too big 1048577 > 1048576";
    for command in ["PUB", "DPUB"] {
        let params = if command == "PUB" { "t" } else { "t 5" };
        let line = format!("{command} {params}\n").into_bytes();
        let text = |text: &str| format!("E_BAD_MESSAGE {command} {text}");
        let (none, bad, zero) = (
            format!("E_INVALID {command} insufficient number of parameters"),
            format!("E_BAD_TOPIC {command} topic name \"t$\" is not valid"),
            text("invalid message body size 0"),
        );
        let cases = [
            (format!("{command}\n").into_bytes(), none),
            (format!("{command} t$ x\n").into_bytes(), bad),
            (with_size(&line, 0), zero),
            (with_size(&line, -7), text("invalid message body size -7")),
            (with_size(&line, 1_048_577), text(too_big)),
        ];
        let cases: Vec<_> = cases.iter().map(|(bytes, text)| (bytes, text.as_str())).collect();
        refused(&Server::start(), b"", &cases);
    }
}

#[test]
fn a_message_of_the_largest_size_is_accepted() {
    let server = Server::start();
    let body = vec![b'x'; 1 << 20];
    let mut client = server.client();
    client.publish("t", &body);
    client.ok(Command::DeferredPub { topic: "t", delay_ms: 1, body: &body });
    client.publish_all("t", &[&body, &body, &body, &body]);
}

#[test]
fn a_delay_is_checked_before_the_message() {
    let cases = [
        (&b"DPUB t\n"[..], "E_INVALID DPUB insufficient number of parameters"),
        (b"DPUB t -1\n", "E_INVALID DPUB could not parse timeout -1"),
        (b"DPUB t +1\n", "E_INVALID DPUB could not parse timeout +1"),
        (b"DPUB t 1.5\n", "E_INVALID DPUB could not parse timeout 1.5"),
        (b"DPUB t 3600001\n", "E_INVALID DPUB timeout 3600001 out of range 0-3600000"),
    ];
    let server = Server::start();
    refused(&server, b"", &cases);
    // Nothing is 0, and numbers that are too long wrap.
    for delay in ["", "0", "3600000", "18446744073709551617"] {
        let mut client = server.client();
        client.send_bytes(format!("DPUB t {delay}\n\0\0\0\x01x").as_bytes());
        assert_eq!(client.receive(), Received::Response("OK".to_owned()), "{delay}");
    }
}

#[test]
fn an_mpub_is_refused_with_its_reason() {
    let line = b"MPUB t\n";
    let counted = |count: i32| [&line[..], &size(100), &size(count)].concat();
    let second = |announced: i32| [&counted(2), &size(1)[..], b"a", &size(announced)].concat();
    let cases = [
        (b"MPUB\n".to_vec(), "E_INVALID MPUB insufficient number of parameters"),
        // The code stands twice, as clients have always seen it.
        (b"MPUB t$\n".to_vec(), "E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"t$\" is not valid"),
        (with_size(line, 0), "E_BAD_BODY MPUB invalid body size 0"),
        (with_size(line, -1), "E_BAD_BODY MPUB invalid body size -1"),
        (with_size(line, 5_242_881), "E_BAD_BODY MPUB body too big 5242881 > 5242880"),
        (counted(0), "E_BAD_BODY MPUB invalid message count 0"),
        (counted(-1), "E_BAD_BODY MPUB invalid message count -1"),
        (counted(1_048_576), "E_BAD_BODY MPUB invalid message count 1048576"),
        (second(0), "E_BAD_MESSAGE MPUB invalid message(1) body size 0"),
        (second(-5), "E_BAD_MESSAGE MPUB invalid message(1) body size -5"),
        (second(1_048_577), "E_BAD_MESSAGE MPUB message too big 1048577 > 1048576"),
    ];
    refused(&Server::start(), b"", &cases);
}

#[test]
fn a_refused_mpub_publishes_nothing_and_leaves_its_topic() {
    let server = Server::start();
    let bytes = [&b"MPUB t\n"[..], &size(14), &size(2), &size(1), b"a", &size(0)].concat();
    let text = "E_BAD_MESSAGE MPUB invalid message(1) body size 0";
    refused(&server, b"", &[(bytes, text)]);
    let topic = server.topic_stats();
    assert_eq!((&topic["topic_name"], &topic["depth"]), (&"t".into(), &0.into()));
    assert_eq!(topic["message_count"], 0);
}

#[test]
fn the_size_an_mpub_announces_does_not_decide_where_it_ends() {
    let server = Server::start();
    for announced in [1, 14, 1_000_000] {
        let mut client = server.client();
        let body = [&size(2)[..], &size(1), b"a", &size(1), b"b"].concat();
        client.send_bytes(&[b"MPUB t\n", &size(announced)[..], &body, b"FOO\n"].concat());
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
        assert_eq!(client.error(), "E_INVALID invalid command FOO");
    }
    assert_eq!(server.topic_stats()["depth"], 6);
}

#[test]
fn a_ready_count_is_a_number_within_its_range() {
    let cases = [
        (&b"RDY x\n"[..], "E_INVALID RDY could not parse count x"),
        (b"RDY -1\n", "E_INVALID RDY could not parse count -1"),
        (b"RDY 1.0\n", "E_INVALID RDY could not parse count 1.0"),
        (b"RDY 2501\n", "E_INVALID RDY count 2501 out of range 0-2500"),
        (b"RDY 18446744073709551615\n", "E_INVALID RDY count -1 out of range 0-2500"),
    ];
    let server = Server::start();
    refused(&server, SUBSCRIBED, &cases);
    for (line, ready) in [("RDY", 1), ("RDY ", 0), ("RDY 2500", 2500), ("RDY 7 8", 7)] {
        let mut client = server.client();
        client.send_bytes(format!("SUB t {ready}\n{line}\n").as_bytes());
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
        client.settle();
        let stats = server.channel_stats(&ready.to_string());
        assert_eq!(stats["clients"][0]["ready_count"], ready);
    }
}

#[test]
fn ids_and_delays_that_do_not_parse_close() {
    let (negative, word) = (format!("REQ {ID} -1\n"), format!("REQ {ID} soon\n"));
    let (missing, long) = (format!("REQ {ID}\n"), format!("FIN {ID}0\n"));
    let cases = [
        (&b"FIN\n"[..], "E_INVALID FIN insufficient number of params"),
        (b"TOUCH\n", "E_INVALID TOUCH insufficient number of params"),
        (missing.as_bytes(), "E_INVALID REQ insufficient number of params"),
        (b"FIN \n", "E_INVALID invalid message ID"),
        (b"FIN  0123456789abcdef\n", "E_INVALID invalid message ID"),
        (long.as_bytes(), "E_INVALID invalid message ID"),
        (b"TOUCH abc\n", "E_INVALID invalid message ID"),
        (b"REQ abc x\n", "E_INVALID invalid message ID"),
        (negative.as_bytes(), "E_INVALID REQ could not parse timeout -1"),
        (word.as_bytes(), "E_INVALID REQ could not parse timeout soon"),
    ];
    refused(&Server::start(), SUBSCRIBED, &cases);
}

#[test]
fn only_refused_fin_req_and_touch_leave_the_connection_open() {
    let server = Server::start();
    for before in [SUBSCRIBED, CLOSING] {
        let mut client = server.client();
        client.send_bytes(before);
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
        if before == CLOSING {
            assert_eq!(client.receive(), Received::Response("CLOSE_WAIT".to_owned()));
        }
        // Any 16 bytes are an id.
        for id in
            [ID, "0000000000000000", "zzzzzzzzzzzzzzzz", "ffffffffffffffff", "!\"$%&/()=?*+#'_."]
        {
            client.send_bytes(
                format!("FIN {id}\nREQ {id} \nREQ {id} 99999999\nTOUCH {id}\n").as_bytes(),
            );
            for command in ["FIN", "REQ", "REQ", "TOUCH"] {
                let text = format!("E_{command}_FAILED {command} {id} failed ID not in flight");
                assert_eq!(client.error(), text);
            }
        }
        client.publish("t", b"still here");
    }
}

#[test]
fn auth_is_switched_off() {
    let cases = [
        (b"AUTH x\n".to_vec(), "E_INVALID AUTH invalid number of parameters"),
        (with_size(b"AUTH\n", 0), "E_BAD_BODY AUTH invalid body size 0"),
        (with_size(b"AUTH\n", -2), "E_BAD_BODY AUTH invalid body size -2"),
        (with_size(b"AUTH\n", 65_537), "E_BAD_BODY AUTH body too big 65537 > 65536"),
        (b"AUTH\n\0\0\0\x06secret".to_vec(), "E_AUTH_DISABLED AUTH disabled"),
    ];
    refused(&Server::start(), b"", &cases);
}

#[test]
fn a_client_that_ends_its_stream_within_a_body_hears_what_is_missing() {
    let server = Server::start();
    let head = [&b"MPUB t\n"[..], &size(20), &size(2)].concat();
    let mpub = |rest: &[u8]| [&head[..], rest].concat();
    for (bytes, text) in [
        (b"PUB t\n".to_vec(), "E_BAD_MESSAGE PUB failed to read message body size"),
        (b"PUB t\n\0\0".to_vec(), "E_BAD_MESSAGE PUB failed to read message body size"),
        (b"PUB t\n\0\0\0\x05ab".to_vec(), "E_BAD_MESSAGE PUB failed to read message body"),
        (b"DPUB t 1\n".to_vec(), "E_BAD_MESSAGE DPUB failed to read message body size"),
        (b"DPUB t 1\n\0\0\0\x05".to_vec(), "E_BAD_MESSAGE DPUB failed to read message body"),
        (b"IDENTIFY\n\0".to_vec(), "E_BAD_BODY IDENTIFY failed to read body size"),
        (b"IDENTIFY\n\0\0\0\x05{".to_vec(), "E_BAD_BODY IDENTIFY failed to read body"),
        (b"AUTH\n".to_vec(), "E_BAD_BODY AUTH failed to read body size"),
        (b"AUTH\n\0\0\0\x05s".to_vec(), "E_BAD_BODY AUTH failed to read body"),
        (b"MPUB t\n\0\0".to_vec(), "E_BAD_BODY MPUB failed to read body size"),
        (b"MPUB t\n\0\0\0\x14\0".to_vec(), "E_BAD_BODY MPUB failed to read message count"),
        (mpub(b""), "E_BAD_MESSAGE MPUB failed to read message(0) body size"),
        (mpub(b"\0\0\0\x03ab"), "E_BAD_MESSAGE MPUB failed to read message body"),
        (mpub(b"\0\0\0\x02ab\0"), "E_BAD_MESSAGE MPUB failed to read message(1) body size"),
    ] {
        let mut client = server.client();
        client.send_bytes(&bytes);
        client.end_stream();
        assert_eq!(client.error(), text, "{}", bytes.escape_ascii());
        client.expect_closed();
    }
}

#[test]
fn a_client_that_ends_its_stream_within_a_line_hears_nothing() {
    let server = Server::start();
    for bytes in [&b"PUB"[..], b"PUB t", b"NOPE\r"] {
        let mut client = server.client();
        client.send_bytes(bytes);
        client.end_stream();
        client.expect_closed();
    }
}

#[test]
fn a_line_may_have_16384_bytes_and_no_more() {
    let server = Server::start();
    let line = |bytes: usize| {
        let padding = "x".repeat(bytes - "PUB t \n".len());
        format!("PUB t {padding}\n\0\0\0\x01m").into_bytes()
    };
    let mut client = server.client();
    client.send_bytes(&line(16_384));
    assert_eq!(client.receive(), Received::Response("OK".to_owned()));
    client.send_bytes(&line(16_385));
    client.expect_closed();
    let mut endless = server.client();
    endless.send_bytes(&[b'x'; 16_384]);
    endless.expect_closed();
}

#[test]
fn consumers_beyond_the_limit_are_refused() {
    let server = Server::with(|options| options.max_channel_consumers = 2);
    let first = server.consumer("t", "c", 0);
    let _second = server.consumer("t", "c", 0);
    let text = "E_SUB_FAILED SUB failed consumers for t:c exceeds limit of 2";
    refused(&server, b"", &[(b"SUB t c\n", text)]);
    let _elsewhere = server.consumer("t", "d", 0);
    drop(first);
    // Its place is free as soon as nsqd has seen it leave.
    eventually(|| server.channel_stats("c")["client_count"] == 1);
    let _third = server.consumer("t", "c", 0);
}
