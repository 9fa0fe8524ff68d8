//! `nsq_tail`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Stdio,
};

use rustix::process::Signal;

use crate::support::{NSQ_TAIL, Nsqd, Tool};

const CHANNEL: &str = "-channel=c";

#[test]
fn bodies_go_to_stdout_unchanged_each_with_a_newline_and_are_finished_then() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    let identify: serde_json::Value = serde_json::from_slice(&peer.identify).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(identify["user_agent"], format!("nsq_tail/{version} nsq-client/{version}"));
    peer.messages(&[(1, 1, b"one"), (2, 1, b"\xff\0\n"), (3, 1, b"")]);
    peer.said(&["RDY 200", "FIN 1", "FIN 2", "FIN 3"]);
    let mut printed = [0; 9];
    tail.stdout().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"one\n\xff\0\n\n\n");
    tail.signal(Signal::INT);
    peer.said(&["CLS"]);
    peer.closes();
    let ended = tail.end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.lines().next().unwrap().ends_with(" Adding consumer for topic: t"));
}

#[test]
fn a_message_is_not_finished_before_it_is_written() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    // More than a pipe holds.
    let body = vec![b'x'; 1 << 20];
    peer.messages(&[(1, 1, &body)]);
    peer.said(&["RDY 200"]);
    peer.says_nothing();
    let mut printed = Vec::new();
    let mut stdout = BufReader::new(tail.stdout());
    stdout.read_until(b'\n', &mut printed).unwrap();
    assert_eq!(printed.len(), body.len() + 1);
    peer.said(&["FIN 1"]);
}

#[test]
fn a_message_that_was_printed_before_the_reader_went_is_finished() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    peer.said(&["RDY 200"]);
    let body = vec![b'x'; 1 << 20];
    peer.messages(&[(1, 1, &body)]);
    let mut printed = Vec::new();
    BufReader::new(tail.stdout()).read_until(b'\n', &mut printed).unwrap();
    let mut said = [peer.command().unwrap(), peer.command().unwrap()];
    said.sort();
    assert_eq!(said, ["CLS", "FIN 1"]);
    peer.closes();
    assert_eq!(tail.end().code, Some(0));
}

#[test]
fn the_topic_stands_before_each_message_if_asked() {
    let nsqd = Nsqd::start();
    let tail = Tool::start(
        NSQ_TAIL,
        &[&nsqd.flag, "-topic=a", "-topic=b", CHANNEL, "-print-topic", "-n=2"],
    );
    let (mut a, mut b) = (nsqd.subscribed("a"), nsqd.subscribed("b"));
    b.messages(&[(1, 1, b"x")]);
    b.said(&["RDY 2", "FIN 1"]);
    a.messages(&[(2, 1, b"y"), (3, 1, b"z")]);
    a.said(&["RDY 2", "FIN 2", "FIN 3", "CLS"]);
    b.said(&["CLS"]);
    a.closes();
    b.closes();
    let ended = tail.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout, b"b | x\na | y\na | z\n");
}

#[test]
fn the_nth_message_is_finished_and_the_others_go_back() {
    let nsqd = Nsqd::start();
    let tail =
        Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL, "-n", "2", "-max-in-flight=5"]);
    let mut peer = nsqd.subscribed("t");
    peer.messages(&[(1, 1, b"one"), (2, 1, b"two"), (3, 1, b"three")]);
    peer.said(&["RDY 2", "FIN 1", "FIN 2", "CLS", "REQ 3 0"]);
    peer.closes();
    let ended = tail.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout, b"one\ntwo\n");
}

#[test]
fn max_in_flight_is_what_the_flag_says_whatever_the_option_says() {
    let nsqd = Nsqd::start();
    let flags = ["-max-in-flight=7", "-n=9", "-consumer-opt=max_in_flight,3"];
    let _tail = Tool::start(NSQ_TAIL, &[&[&nsqd.flag, "-topic=t", CHANNEL][..], &flags].concat());
    nsqd.subscribed("t").said(&["RDY 7"]);
}

#[test]
fn without_a_channel_a_temporary_one_is_used() {
    let nsqd = Nsqd::start();
    let _tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t"]);
    let sub = nsqd.accept().command().unwrap();
    let digits = sub.strip_prefix("SUB t tail").unwrap().strip_suffix("#ephemeral").unwrap();
    assert!(digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()), "{sub}");
}

#[test]
fn a_closed_stdout_ends_it_quietly_and_loses_nothing() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    peer.said(&["RDY 200"]);
    drop(tail.stdout());
    let mut number = 1;
    let said = loop {
        peer.messages(&[(number, 1, b"one"), (number + 1, 1, b"two")]);
        let said = peer.command().unwrap();
        if !said.starts_with("FIN") {
            break said;
        }
        // A child of another test that is just being started may hold the other end of the pipe for a moment.
        peer.said(&[&format!("FIN {}", number + 1)]);
        number += 2;
    };
    let mut rest = [said, peer.command().unwrap(), peer.command().unwrap()];
    rest.sort();
    assert_eq!(
        rest,
        ["CLS".to_owned(), format!("REQ {number} 0"), format!("REQ {} 0", number + 1)]
    );
    peer.closes();
    let ended = tail.end();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
}

#[test]
fn it_ends_when_its_reader_is_gone_and_not_at_the_next_message() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    peer.messages(&[(1, 1, b"one")]);
    peer.said(&["RDY 200", "FIN 1"]);
    // As `head -1` does.
    let mut line = String::new();
    BufReader::new(tail.stdout()).read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    peer.said(&["CLS"]);
    peer.closes();
    let ended = tail.end();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
}

#[test]
fn a_stdout_without_a_reader_never_hangs_up() {
    let nsqd = Nsqd::start();
    let mut tail =
        Tool::start_with_stdout(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL], Stdio::null());
    let mut peer = nsqd.subscribed("t");
    peer.messages(&[(1, 1, b"one")]);
    peer.said(&["RDY 200", "FIN 1"]);
    peer.says_nothing();
    assert!(tail.is_running());
    tail.signal(Signal::TERM);
    peer.said(&["CLS"]);
    peer.closes();
    assert_eq!(tail.end().code, Some(0));
}

#[test]
fn messages_in_hand_are_printed_when_it_is_told_to_stop() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    let mut peer = nsqd.subscribed("t");
    peer.said(&["RDY 200"]);
    tail.signal(Signal::TERM);
    peer.said(&["CLS"]);
    peer.messages(&[(1, 1, b"one")]);
    peer.said(&["FIN 1"]);
    // Further signals change nothing.
    tail.signal(Signal::TERM);
    tail.signal(Signal::INT);
    peer.says_nothing();
    assert!(tail.is_running());
    peer.closes();
    let ended = tail.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"one\n"[..]));
}

#[test]
fn a_message_with_too_many_attempts_is_finished_and_not_printed() {
    let nsqd = Nsqd::start();
    let tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL, "-n=1"]);
    let mut peer = nsqd.subscribed("t");
    peer.messages(&[(1, 6, b"old")]);
    peer.said(&["RDY 1", "FIN 1"]);
    peer.messages(&[(2, 5, b"young")]);
    peer.said(&["FIN 2", "CLS"]);
    peer.closes();
    let ended = tail.end();
    assert_eq!(ended.stdout, b"young\n");
    assert!(ended.stderr.contains("attempted 6 times, giving up"), "{}", ended.stderr);
}

#[test]
fn a_lost_nsqd_is_connected_to_again() {
    let nsqd = Nsqd::start();
    let mut tail = Tool::start(NSQ_TAIL, &[&nsqd.flag, "-topic=t", CHANNEL]);
    drop(nsqd.subscribed("t"));
    nsqd.subscribed("t").said(&["RDY 200"]);
    let mut lines = BufReader::new(tail.stderr()).lines().map(Result::unwrap);
    let lost = lines.find(|line| line.contains("disconnected")).unwrap();
    assert!(lost.contains(" INF [t/c] (127.0.0.1:"), "{lost}");
}

#[test]
fn nsqds_are_found_through_nsqlookupd() {
    let (nsqd, lookupd) = (Nsqd::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    let flag = format!("-lookupd-http-address={}", lookupd.local_addr().unwrap());
    let tail =
        Tool::start(NSQ_TAIL, &[&flag, "-topic=t", CHANNEL, "-consumer-opt=auth_secret,sesame"]);
    let (mut asked, _) = lookupd.accept().unwrap();
    let mut head = String::new();
    let mut lines = BufReader::new(&asked);
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(lines.read_line(&mut head).unwrap(), 0);
    }
    assert!(head.starts_with("GET /lookup?topic=t HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Bearer sesame"), "{head}");
    let port = nsqd.flag.rsplit_once(':').unwrap().1;
    let body =
        format!(r#"{{"producers":[{{"broadcast_address":"127.0.0.1","tcp_port":{port}}}]}}"#);
    let length = body.len();
    write!(asked, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut peer = nsqd.subscribed("t");
    peer.messages(&[(1, 1, b"found")]);
    peer.said(&["RDY 200", "FIN 1"]);
    tail.signal(Signal::TERM);
    peer.said(&["CLS"]);
    peer.closes();
    let ended = tail.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"found\n"[..]));
}

#[test]
fn it_can_be_stopped_while_nsqlookupd_is_silent() {
    let lookupd = TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("-lookupd-http-address={}", lookupd.local_addr().unwrap());
    let tail = Tool::start(NSQ_TAIL, &[&flag, "-topic=t", CHANNEL]);
    let _asked = lookupd.accept().unwrap();
    tail.signal(Signal::TERM);
    assert_eq!(tail.end().code, Some(0));
}
