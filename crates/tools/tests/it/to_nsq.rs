//! `to_nsq`.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Nsqd, TO_NSQ, Tool, run};

/// Feeds `input` to the tool, which must succeed, and returns the commands that a single nsqd receives.
fn published(flags: &[&str], input: &[u8]) -> Vec<String> {
    let nsqd = Nsqd::start();
    let mut tool = Tool::start(TO_NSQ, &[&[&nsqd.flag, "-topic=t"][..], flags].concat());
    tool.feed(input);
    let mut peer = nsqd.accept();
    let mut all = Vec::new();
    while let Some(command) = peer.command() {
        all.push(command);
        peer.respond(b"OK");
    }
    assert_eq!(tool.end().code, Some(0));
    all
}

#[test]
fn each_record_is_a_message_empty_ones_are_skipped_and_the_last_is_whole() {
    assert_eq!(published(&[], b"one\n\ntwo\r\nthree"), ["PUB t one", "PUB t two\r", "PUB t three"]);
    assert_eq!(published(&[], b"x"), ["PUB t x"]);
    assert_eq!(published(&["-delimiter=,"], b"a,b\n,,c,"), ["PUB t a", "PUB t b\n", "PUB t c"]);
}

#[test]
fn many_records_keep_their_order() {
    let input: Vec<String> = (0..20_000).map(|i| i.to_string()).collect();
    let all = published(&[], input.join("\n").as_bytes());
    let expected: Vec<String> = input.iter().map(|record| format!("PUB t {record}")).collect();
    assert_eq!(all, expected);
}

#[test]
fn each_record_goes_to_every_nsqd_once() {
    let (a, b) = (Nsqd::start(), Nsqd::start());
    let mut tool = Tool::start(TO_NSQ, &[&a.flag, &b.flag, &a.flag, "-topic=t"]);
    tool.feed(b"one\ntwo\n");
    let serve = |nsqd: Nsqd| {
        std::thread::spawn(move || {
            let mut peer = nsqd.accept();
            peer.said(&["PUB t one"]);
            peer.respond(b"OK");
            peer.said(&["PUB t two"]);
            peer.respond(b"OK");
            assert_eq!(peer.command(), None);
        })
    };
    let (a, b) = (serve(a), serve(b));
    a.join().unwrap();
    b.join().unwrap();
    assert_eq!(tool.end().code, Some(0));
}

#[test]
fn it_ends_only_when_everything_is_acknowledged() {
    let nsqd = Nsqd::start();
    let mut tool = Tool::start(TO_NSQ, &[&nsqd.flag, "-topic=t"]);
    tool.feed(b"one\n");
    let mut peer = nsqd.accept();
    peer.said(&["PUB t one"]);
    peer.says_nothing();
    assert!(tool.is_running());
    peer.respond(b"OK");
    assert_eq!(tool.end().code, Some(0));
}

#[test]
fn a_record_may_be_larger_than_any_buffer() {
    let record = vec![b'x'; 1_000_000];
    let input = [&record[..], b"\nsmall\n"].concat();
    let expected = format!("PUB t {}", "x".repeat(1_000_000));
    assert!(published(&[], &input) == [expected, "PUB t small".to_owned()]);
}

#[test]
fn without_input_nothing_is_connected() {
    let args = ["-topic=t", "-nsqd-tcp-address=127.0.0.1:1"];
    let ended = run(TO_NSQ, &args);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_failed_publish_ends_it_with_one_even_while_stdin_stays_open() {
    let nsqd = Nsqd::start();
    let mut tool = Tool::start(TO_NSQ, &[&nsqd.flag, "-topic=t"]);
    let mut stdin = tool.stdin();
    std::io::Write::write_all(&mut stdin, b"one\n").unwrap();
    let mut peer = nsqd.accept();
    peer.said(&["PUB t one"]);
    peer.error("E_BAD_MESSAGE PUB refused on purpose");
    drop(peer);
    let ended = tool.end();
    assert_eq!(ended.code, Some(1));
    let told = ended.stderr.lines().filter(|line| line.contains("E_BAD_MESSAGE PUB refused"));
    assert_eq!(told.count(), 1, "{}", ended.stderr);
}

#[test]
fn an_nsqd_that_is_not_there_or_a_bad_topic_ends_it_with_one() {
    for (args, text) in [
        (["-topic=t", "-nsqd-tcp-address=127.0.0.1:1"], "connect to 127.0.0.1:1: "),
        (["-topic=a b", "-nsqd-tcp-address=127.0.0.1:1"], "invalid name \"a b\""),
    ] {
        let mut tool = Tool::start(TO_NSQ, &args);
        tool.feed(b"one\n");
        let ended = tool.end();
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.lines().last().unwrap().contains(text), "{}", ended.stderr);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the tool has no clock but the real one")]
fn a_rate_is_kept() {
    let since = Instant::now();
    let all = published(&["-rate=50"], b"1\n2\n3\n\n5\n6\n");
    assert_eq!(all.len(), 5);
    // The first record passes at once; each later one, even the empty one, waits for a fiftieth of a second.
    assert!(since.elapsed() >= Duration::from_millis(100), "{:?}", since.elapsed());
}

#[test]
fn a_signal_ends_it_while_it_waits_for_input() {
    for signal in [Signal::TERM, Signal::INT] {
        let nsqd = Nsqd::start();
        let mut tool = Tool::start(TO_NSQ, &[&nsqd.flag, "-topic=t"]);
        let mut stdin = tool.stdin();
        std::io::Write::write_all(&mut stdin, b"one\n").unwrap();
        let mut peer = nsqd.accept();
        peer.said(&["PUB t one"]);
        tool.signal(signal);
        peer.respond(b"OK");
        assert_eq!(peer.command(), None);
        assert_eq!(tool.end().code, Some(0));
    }
}
