//! What nsqd makes of the bytes a client sends, command by command.

use nsq_protocol::{
    Command, Decoded, LINE_BYTES_MAX, Limits, MessageId, Missing, Phase, Progress, TopicName,
    decode_command, encode_multi_pub, resume_command,
};
use proptest::prelude::*;

const ID: &[u8; 16] = b"0123456789abcdef";

fn decode(bytes: &[u8], phase: Phase) -> Decoded<'_> {
    let limits = Limits {
        body_bytes_max: 100,
        identify_bytes_max: 90,
        message_bytes_max: 10,
        rdy_count_max: 2500,
        req_timeout_ms_max: 3_600_000,
    };
    let decoded = decode_command(bytes, phase, &limits);
    // Whoever asks again with each byte that comes gets the same answer.
    let mut progress = Progress::default();
    for end in 0..bytes.len() {
        let part = resume_command(&bytes[..end], phase, &limits, &mut progress);
        if !matches!(part, Decoded::Incomplete { .. }) {
            assert_eq!(part, decode_command(&bytes[..end], phase, &limits));
            return decoded;
        }
    }
    assert_eq!(resume_command(bytes, phase, &limits, &mut progress), decoded);
    decoded
}

/// The error frame's data for commands that are refused.
fn refusal(bytes: &[u8], phase: Phase) -> String {
    match decode(bytes, phase) {
        Decoded::Rejected(rejection) => rejection.error.to_string(),
        other => panic!("{:?} was not refused: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn with_size(line: &str, size: i32, rest: &[u8]) -> Vec<u8> {
    [line.as_bytes(), &size.to_be_bytes(), rest].concat()
}

#[test]
fn a_line_may_end_in_cr_lf_and_carry_extra_params() {
    let id = MessageId(*ID);
    assert_eq!(decode(b"NOP\r\n", Phase::Init), Decoded::Command(Command::Nop, 5));
    assert_eq!(
        decode(b"SUB t c extra\n", Phase::Init),
        Decoded::Command(Command::Sub { topic: "t", channel: "c" }, 14)
    );
    assert_eq!(
        decode(b"FIN 0123456789abcdef extra\n", Phase::Subscribed),
        Decoded::Command(Command::Fin(id), 27)
    );
}

#[test]
fn unknown_commands_are_echoed() {
    assert_eq!(refusal(b"\n", Phase::Init), "E_INVALID invalid command ");
    assert_eq!(refusal(b"nop\n", Phase::Init), "E_INVALID invalid command nop");
    assert_eq!(refusal(b" NOP\n", Phase::Init), "E_INVALID invalid command ");
}

#[test]
fn a_line_of_16384_bytes_is_read_and_a_longer_one_is_not() {
    let mut line = b"NOP ".to_vec();
    line.resize(LINE_BYTES_MAX - 1, b'x');
    line.push(b'\n');
    assert_eq!(decode(&line, Phase::Init), Decoded::Command(Command::Nop, LINE_BYTES_MAX));
    line.insert(4, b'x');
    assert_eq!(decode(&line, Phase::Init), Decoded::LineTooLong);
}

#[test]
fn the_phase_comes_before_the_parameters() {
    for command in ["RDY", "FIN", "REQ", "TOUCH", "CLS"] {
        let line = format!("{command}\n");
        assert_eq!(
            refusal(line.as_bytes(), Phase::Init),
            format!("E_INVALID cannot {command} in current state")
        );
    }
    for command in ["IDENTIFY", "AUTH", "SUB"] {
        let line = format!("{command} \n");
        for phase in [Phase::Subscribed, Phase::Closing] {
            assert_eq!(
                refusal(line.as_bytes(), phase),
                format!("E_INVALID cannot {command} in current state")
            );
        }
    }
    assert_eq!(refusal(b"CLS\n", Phase::Closing), "E_INVALID cannot CLS in current state");
    assert_eq!(decode(b"RDY x\n", Phase::Closing), Decoded::Ignored(6));
    assert_eq!(
        refusal(b"SUB\n", Phase::InitWithoutHeartbeats),
        "E_INVALID cannot SUB with heartbeats disabled"
    );
}

#[test]
fn sub_names_what_is_wrong_with_its_parameters() {
    for (line, text) in [
        (&b"SUB\n"[..], "E_INVALID SUB insufficient number of parameters"),
        (b"SUB t\n", "E_INVALID SUB insufficient number of parameters"),
        (b"SUB t \n", r#"E_BAD_CHANNEL SUB channel name "" is not valid"#),
        (b"SUB  c\n", r#"E_BAD_TOPIC SUB topic name "" is not valid"#),
        (b"SUB t\xff\" c\n", r#"E_BAD_TOPIC SUB topic name "t\xff\"" is not valid"#),
    ] {
        assert_eq!(refusal(line, Phase::Init), text);
    }
}

#[test]
fn numbers_are_digits_only_where_nothing_is_zero_and_overflow_wraps() {
    let rdy = |line: &'static [u8]| decode(line, Phase::Subscribed);
    assert_eq!(rdy(b"RDY\n"), Decoded::Command(Command::Rdy(1), 4));
    assert_eq!(rdy(b"RDY \n"), Decoded::Command(Command::Rdy(0), 5));
    assert_eq!(rdy(b"RDY 2500\n"), Decoded::Command(Command::Rdy(2500), 9));
    assert_eq!(rdy(b"RDY 18446744073709551617\n"), Decoded::Command(Command::Rdy(1), 25));
    assert_eq!(
        refusal(b"RDY 2501\n", Phase::Subscribed),
        "E_INVALID RDY count 2501 out of range 0-2500"
    );
    assert_eq!(
        refusal(b"RDY 18446744073709551615\n", Phase::Subscribed),
        "E_INVALID RDY count -1 out of range 0-2500"
    );
    assert_eq!(refusal(b"RDY -1\n", Phase::Subscribed), "E_INVALID RDY could not parse count -1");
}

#[test]
fn answers_need_an_id_of_sixteen_bytes() {
    for command in ["FIN", "REQ", "TOUCH"] {
        let line = format!("{command}\n");
        assert_eq!(
            refusal(line.as_bytes(), Phase::Subscribed),
            format!("E_INVALID {command} insufficient number of params")
        );
        let line = format!("{command} short 0\n");
        assert_eq!(refusal(line.as_bytes(), Phase::Closing), "E_INVALID invalid message ID");
    }
    assert_eq!(
        refusal(b"FIN  0123456789abcde\n", Phase::Subscribed),
        "E_INVALID invalid message ID"
    );
    assert_eq!(
        refusal(b"REQ 0123456789abcdef -1\n", Phase::Subscribed),
        "E_INVALID REQ could not parse timeout -1"
    );
    assert_eq!(
        decode(b"REQ 0123456789abcdef \n", Phase::Subscribed),
        Decoded::Command(Command::Req { id: MessageId(*ID), delay_ms: 0 }, 22)
    );
}

#[test]
fn sizes_are_refused_before_the_body_arrives() {
    for (bytes, text) in [
        (with_size("PUB t\n", 0, b""), "E_BAD_MESSAGE PUB invalid message body size 0"),
        (with_size("PUB t\n", -1, b""), "E_BAD_MESSAGE PUB invalid message body size -1"),
        (with_size("PUB t\n", 11, b""), "E_BAD_MESSAGE PUB message too big 11 > 10"),
        (with_size("DPUB t 0\n", 11, b""), "E_BAD_MESSAGE DPUB message too big 11 > 10"),
        (with_size("IDENTIFY\n", 0, b""), "E_BAD_BODY IDENTIFY invalid body size 0"),
        (with_size("IDENTIFY\n", 91, b""), "E_BAD_BODY IDENTIFY body too big 91 > 90"),
        (with_size("AUTH\n", -5, b""), "E_BAD_BODY AUTH invalid body size -5"),
        (with_size("AUTH\n", 91, b""), "E_BAD_BODY AUTH body too big 91 > 90"),
        (with_size("MPUB t\n", 0, b""), "E_BAD_BODY MPUB invalid body size 0"),
        (with_size("MPUB t\n", 101, b""), "E_BAD_BODY MPUB body too big 101 > 100"),
        (
            with_size("MPUB t\n", 50, &0_i32.to_be_bytes()),
            "E_BAD_BODY MPUB invalid message count 0",
        ),
        (
            with_size("MPUB t\n", 50, &(-1_i32).to_be_bytes()),
            "E_BAD_BODY MPUB invalid message count -1",
        ),
        (
            with_size("MPUB t\n", 50, &20_i32.to_be_bytes()),
            "E_BAD_BODY MPUB invalid message count 20",
        ),
    ] {
        assert_eq!(refusal(&bytes, Phase::Init), text);
    }
    assert_eq!(refusal(b"AUTH x\n", Phase::Init), "E_INVALID AUTH invalid number of parameters");
    assert_eq!(refusal(b"PUB\n", Phase::Init), "E_INVALID PUB insufficient number of parameters");
    assert_eq!(refusal(b"PUB \n", Phase::Init), r#"E_BAD_TOPIC PUB topic name "" is not valid"#);
    assert_eq!(
        refusal(b"DPUB t\n", Phase::Init),
        "E_INVALID DPUB insufficient number of parameters"
    );
    assert_eq!(refusal(b"DPUB t x\n", Phase::Init), "E_INVALID DPUB could not parse timeout x");
    assert_eq!(
        refusal(b"DPUB t 3600001\n", Phase::Init),
        "E_INVALID DPUB timeout 3600001 out of range 0-3600000"
    );
    assert_eq!(
        refusal(b"MPUB $\n", Phase::Init),
        r#"E_BAD_TOPIC E_BAD_TOPIC MPUB topic name "$" is not valid"#
    );
}

#[test]
fn an_mpub_with_a_bad_message_names_it_and_creates_its_topic() {
    let body = |messages: &[(i32, &[u8])]| {
        let mut bytes = 3_i32.to_be_bytes().to_vec();
        for (size, text) in messages {
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(text);
        }
        with_size("MPUB t\n", 50, &bytes)
    };
    for (bytes, text) in [
        (body(&[(1, b"a"), (0, b"")]), "E_BAD_MESSAGE MPUB invalid message(1) body size 0"),
        (body(&[(-2, b"")]), "E_BAD_MESSAGE MPUB invalid message(0) body size -2"),
        (body(&[(1, b"a"), (11, b"")]), "E_BAD_MESSAGE MPUB message too big 11 > 10"),
    ] {
        let Decoded::Rejected(rejection) = decode(&bytes, Phase::Init) else {
            panic!("{text}: not refused")
        };
        assert_eq!(rejection.error.to_string(), text);
        assert_eq!(rejection.creates, TopicName::new("t").ok());
    }
}

#[test]
fn the_inner_sizes_of_an_mpub_decide_where_it_ends() {
    let mut bytes = Vec::new();
    encode_multi_pub("t", &["a", "bc"], &mut bytes);
    let whole = bytes.len();
    bytes[7..11].copy_from_slice(&90_i32.to_be_bytes());
    bytes.extend_from_slice(b"NOP\n");
    let Decoded::Command(Command::MultiPub { bodies, .. }, used) = decode(&bytes, Phase::Init)
    else {
        panic!()
    };
    assert_eq!(used, whole);
    assert_eq!(bodies.into_iter().collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
}

#[test]
fn a_stream_that_ends_inside_a_body_gets_the_error_of_what_is_missing() {
    let mut mpub = Vec::new();
    encode_multi_pub("t", &["a", "bc"], &mut mpub);
    for (bytes, text) in [
        (&b"IDENTIFY\n\0"[..], "E_BAD_BODY IDENTIFY failed to read body size"),
        (b"IDENTIFY\n\0\0\0\x02{", "E_BAD_BODY IDENTIFY failed to read body"),
        (b"PUB t\n\0\0", "E_BAD_MESSAGE PUB failed to read message body size"),
        (b"PUB t\n\0\0\0\x02a", "E_BAD_MESSAGE PUB failed to read message body"),
        (b"DPUB t 1\n\0\0\0\x02a", "E_BAD_MESSAGE DPUB failed to read message body"),
        (&mpub[..9], "E_BAD_BODY MPUB failed to read body size"),
        (&mpub[..13], "E_BAD_BODY MPUB failed to read message count"),
        (&mpub[..17], "E_BAD_MESSAGE MPUB failed to read message(0) body size"),
        (&mpub[..21], "E_BAD_MESSAGE MPUB failed to read message(1) body size"),
        (&mpub[..mpub.len() - 1], "E_BAD_MESSAGE MPUB failed to read message body"),
    ] {
        let Decoded::Incomplete { needed, missing, multi_pub } = decode(bytes, Phase::Init) else {
            panic!("{text}")
        };
        assert!(needed > bytes.len());
        assert_eq!(multi_pub, bytes.starts_with(b"MPUB").then_some("t"), "{text}");
        assert_eq!(missing.error().map(|error| error.to_string()).as_deref(), Some(text));
    }
    let Decoded::Incomplete { missing, .. } = decode(b"PUB", Phase::Init) else { panic!() };
    assert_eq!((missing, missing.error()), (Missing::Line, None));
}

fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let body = || proptest::collection::vec(any::<u8>(), 1..10);
    let encoded = |command: Command<'_>| {
        let mut out = Vec::new();
        command.encode(&mut out);
        out
    };
    prop_oneof![
        body().prop_map(move |body| encoded(Command::Pub { topic: "t", body: &body })),
        body().prop_map(move |body| encoded(Command::Identify(&body))),
        (body(), 0..3_600_000_u64).prop_map(move |(body, delay_ms)| encoded(
            Command::DeferredPub { topic: "t", delay_ms, body: &body }
        )),
        proptest::collection::vec(body(), 1..5).prop_map(|bodies| {
            let mut out = Vec::new();
            encode_multi_pub("t", &bodies, &mut out);
            out
        }),
        Just(encoded(Command::Nop)),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic_or_read_past_them(bytes: Vec<u8>, phase in 0..4_usize) {
        let phase = [Phase::Init, Phase::InitWithoutHeartbeats, Phase::Subscribed, Phase::Closing][phase];
        if let Decoded::Command(_, used) | Decoded::Ignored(used) = decode(&bytes, phase) {
            prop_assert!(used <= bytes.len());
        }
    }

    #[test]
    fn encode_and_decode_agree_and_no_prefix_decodes(bytes in any_command()) {
        let Decoded::Command(command, used) = decode(&bytes, Phase::Init) else {
            return Err(TestCaseError::fail(format!("{:?}", decode(&bytes, Phase::Init))));
        };
        let mut again = Vec::new();
        command.encode(&mut again);
        prop_assert_eq!(&again, &bytes);
        prop_assert_eq!(used, bytes.len());
        for end in 0..bytes.len() {
            let Decoded::Incomplete { needed, .. } = decode(&bytes[..end], Phase::Init) else {
                return Err(TestCaseError::fail("a prefix decoded"));
            };
            prop_assert!(needed > end && needed <= bytes.len());
        }
    }
}

#[test]
fn bodies_know_their_number() {
    let mut bytes = Vec::new();
    encode_multi_pub("t", &["a", "b", "c"], &mut bytes);
    let Decoded::Command(Command::MultiPub { bodies, .. }, _) = decode(&bytes, Phase::Init) else {
        panic!()
    };
    assert_eq!(bodies.len(), 3);
    assert!(!bodies.is_empty());
}

#[test]
fn where_tls_is_required_only_identify_is_allowed_before_it() {
    for (line, token) in [
        ("NOP\n", "NOP"),
        ("FIN 0123456789abcdef\n", "FIN"),
        ("PUB t\n", "PUB"),
        ("SUB\n", "SUB"),
        ("AUTH\r\n", "AUTH"),
        ("nonsense x\n", "nonsense"),
        ("\n", ""),
    ] {
        assert_eq!(
            refusal(line.as_bytes(), Phase::TlsRequired),
            format!("E_INVALID cannot {token} in current state (TLS required)")
        );
    }
    let identify = b"IDENTIFY\n\0\0\0\x02{}";
    assert_eq!(
        decode(identify, Phase::TlsRequired),
        Decoded::Command(Command::Identify(b"{}"), identify.len())
    );
}
