//! Lines of the log that clients can cause as often as they like.

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_protocol::{Command, MessageId};
use nsqd::World;

use crate::support::{Client, Server, eventually, metric};

/// Subscribes and finishes messages that there are not.
pub(crate) fn forged_fins(client: &mut Client, count: usize) {
    client.subscribe("forged#ephemeral", "c#ephemeral", 0);
    for _ in 0..count / 100 {
        let mut fins = Vec::new();
        (0..100).for_each(|_| Command::Fin(MessageId(*b"0123456789abcdef")).encode(&mut fins));
        client.send_bytes(&fins);
        for _ in 0..100 {
            assert!(client.error().starts_with("E_FIN_FAILED"));
        }
    }
}

/// The number before `what` in a line.
pub(crate) fn reported(line: &str, what: &str) -> u64 {
    let (before, _) = line.split_once(what).unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

fn logging_at(rate: u32) -> (Server, Capture) {
    let capture = Capture::new();
    let logger = Logger::with_sink("", Level::Info, capture.clone());
    logger.change_rate(rate);
    let folder = tempfile::tempdir().unwrap();
    (Server::logging_to(logger, World::default(), folder, |_| ()), capture)
}

#[test]
fn forged_fins_are_logged_ten_times_a_second_and_the_others_are_counted() {
    let (server, log) = logging_at(10);
    let mut honest = server.consumer("honest", "c", 1);
    let mut hostile = server.client();
    forged_fins(&mut hostile, 20_000);
    server.client().publish("honest", b"x");
    assert_eq!(honest.message().body, b"x");
    drop(hostile);
    let suppressed = || -> u64 {
        let reports = log.texts().into_iter().filter(|text| text.contains(": E_FIN_FAILED: "));
        reports.map(|text| reported(&text, " more suppressed")).sum()
    };
    let written = || {
        let is_line = |text: &&String| text.contains(" - E_FIN_FAILED FIN ");
        log.texts().iter().filter(is_line).count() as u64
    };
    eventually(|| written() + suppressed() == 20_000);
    let reports = log.texts().iter().filter(|text| text.contains("more suppressed")).count() as u64;
    assert!((10..1000).contains(&written()), "{}", written());
    assert_eq!(metric(server.http, "nsqd_log_lines_suppressed_total"), suppressed());
    assert_eq!(metric(server.http, "nsqd_limit_reached_total{limit=\"log-rate\"}"), reports);
}

#[test]
fn clients_that_come_and_go_are_logged_ten_times_as_often_as_one_alone_may_be() {
    let (server, log) = logging_at(1);
    for _ in 0..1000 {
        let mut client = server.client();
        client.send_bytes(b"PUB\n");
        assert!(client.error().starts_with("E_INVALID"));
    }
    server.stop();
    let texts = log.texts();
    for (line, kind) in [
        ("INFO: TCP: new client(", ": new clients: "),
        (" - E_INVALID ", ": E_INVALID: "),
        (" exiting ioloop", ": closed connections: "),
    ] {
        let written = texts.iter().filter(|text| text.contains(line)).count() as u64;
        let reports: Vec<_> = texts.iter().filter(|text| text.contains(kind)).collect();
        let suppressed: u64 = reports.iter().map(|text| reported(text, " more suppressed")).sum();
        assert_eq!(written + suppressed, 1000, "{kind} {reports:?}");
        assert!((10..500).contains(&written), "{kind} {written} {reports:?}");
    }
}

#[test]
fn what_a_client_sends_stays_in_its_line_and_is_cut() {
    let (server, log) = logging_at(10);
    let mut client = server.client();
    client.send_bytes("\u{202e}\u{9b}2J\r\u{2028}ERROR: forged\n".as_bytes());
    assert!(client.error().starts_with("E_INVALID"));
    let mut client = server.client();
    client.send_bytes(&[b"PUB ", "a".repeat(5000).as_bytes(), b"\n"].concat());
    assert!(client.error().starts_with("E_"));
    server.stop();
    let texts = log.texts();
    assert!(texts.iter().all(|text| text.len() < 1200), "{texts:#?}");
    let is_control = nsq_daemon::text::is_control;
    assert!(!texts.iter().any(|text| text.contains(is_control)), "{texts:#?}");
    let shown = r"\u{202e}\u{9b}2J\r\u{2028}ERROR:";
    assert!(texts.iter().any(|text| text.contains(shown)), "{texts:#?}");
}
