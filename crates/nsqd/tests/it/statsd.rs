//! statsd, as the daemon that is pushed to sees it.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_protocol::Command;
use nsqd::{Options, World};

use crate::{
    support::{PATIENCE, Server, eventually, http},
    test_clocks::TestClocks,
};

/// Short enough for a test to see many rounds.
const INTERVAL: Duration = Duration::from_millis(20);
/// The last name of a round.
const LAST: &str = "mem.gc_runs";
const PREFIX: &str = "p.";

/// A statsd daemon.
struct Statsd {
    socket: UdpSocket,
    /// The names of the last whole round, in order.
    names: Vec<String>,
    /// The sums of all counters.
    counters: BTreeMap<String, i64>,
    /// The last values of all gauges.
    gauges: BTreeMap<String, i64>,
}

impl Statsd {
    fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, names: Vec::new(), counters: BTreeMap::new(), gauges: BTreeMap::new() }
    }

    fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    /// An nsqd that pushes to this daemon.
    fn nsqd(&self, change: impl FnOnce(&mut Options)) -> Server {
        Server::with(|options| {
            pushing(options, self.address());
            change(options);
        })
    }

    fn packet(&self) -> String {
        loop {
            match self.try_packet() {
                // The process was suspended.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                packet => return packet.unwrap(),
            }
        }
    }

    fn try_packet(&self) -> std::io::Result<String> {
        let mut packet = vec![0; 64 << 10];
        let bytes = self.socket.recv(&mut packet)?;
        packet.truncate(bytes);
        Ok(String::from_utf8(packet).unwrap())
    }

    /// Reads up to the end of a round. The first may have begun before.
    fn round(&mut self) {
        self.names.clear();
        while self.names.last().is_none_or(|last| last != LAST) {
            let packet = self.packet();
            self.take(&packet);
        }
    }

    fn take(&mut self, packet: &str) {
        for line in packet.lines() {
            let (name, rest) = line.split_once(':').unwrap();
            let (value, kind) = rest.split_once('|').unwrap();
            let name = name.strip_prefix(PREFIX).expect(line).to_owned();
            let value: i64 = value.parse().unwrap();
            assert!(value >= 0, "{line}");
            match kind {
                "c" => *self.counters.entry(name.clone()).or_default() += value,
                "g" => drop(self.gauges.insert(name.clone(), value)),
                _ => panic!("{line}"),
            }
            self.names.push(name);
        }
    }

    /// Reads a round that has begun after this is called.
    fn fresh_round(&mut self) {
        // Several may be waiting here if this thread has not run for a while.
        self.socket.set_nonblocking(true).unwrap();
        while let Ok(packet) = self.try_packet() {
            self.take(&packet);
        }
        self.socket.set_nonblocking(false).unwrap();
        for _ in 0..2 {
            self.round();
        }
    }

    /// Reads rounds until a counter has reached `sum`.
    fn until(&mut self, counter: &str, sum: i64) {
        while self.counters.get(counter).is_none_or(|counted| *counted < sum) {
            self.round();
        }
    }

    /// The names of the last round that begin so.
    fn named(&self, start: &str) -> Vec<&str> {
        self.names.iter().map(String::as_str).filter(|name| name.starts_with(start)).collect()
    }
}

fn pushing(options: &mut Options, address: String) {
    options.statsd.address = address;
    options.statsd.interval = INTERVAL;
    options.statsd.prefix = PREFIX.to_owned();
}

#[test]
fn counters_grow_and_gauges_are_what_they_are() {
    let mut statsd = Statsd::start();
    let clocks = TestClocks::default();
    let server = Server::by(&clocks, |options| pushing(options, statsd.address()));
    let mut consumer = server.consumer("a.b", "c.d", 2);
    let mut producer = server.client();
    producer.publish_all("a.b", &["1", "22", "333"]);
    producer.ok(Command::DeferredPub { topic: "a.b", delay_ms: 3_600_000, body: b"4444" });
    let requeued = consumer.message();
    consumer.req(requeued.id, 3_600_000);
    consumer.messages(2);
    clocks.pass(Options::default().msg_timeout);
    statsd.until("topic.a.b.channel.c.d.timeout_count", 2);
    consumer.send(Command::Rdy(0));
    consumer.drain();
    server.post("/channel/pause?topic=a.b&channel=c.d");
    statsd.fresh_round();

    let topic = ["message_count", "message_bytes", "depth", "backend_depth"];
    let channel = [
        "message_count",
        "depth",
        "backend_depth",
        "in_flight_count",
        "deferred_count",
        "requeue_count",
        "timeout_count",
        "clients",
    ];
    let memory = [
        "heap_objects",
        "heap_idle_bytes",
        "heap_in_use_bytes",
        "heap_released_bytes",
        "gc_pause_usec_100",
        "gc_pause_usec_99",
        "gc_pause_usec_95",
        "next_gc_bytes",
        "gc_runs",
    ];
    let expected: Vec<_> = topic
        .map(|name| format!("topic.a.b.{name}"))
        .into_iter()
        .chain(channel.map(|name| format!("topic.a.b.channel.c.d.{name}")))
        .chain(memory.map(|name| format!("mem.{name}")))
        .collect();
    assert_eq!(statsd.names, expected);

    let counted = |name: &str| statsd.counters[&format!("topic.a.b.{name}")];
    assert_eq!(["message_count", "message_bytes"].map(counted), [4, 10]);
    let counted = |name: &str| counted(&format!("channel.c.d.{name}"));
    assert_eq!(["message_count", "requeue_count"].map(counted), [4, 1]);
    let gauge = |name: &str| statsd.gauges[&format!("topic.a.b.{name}")];
    assert_eq!(["depth", "backend_depth"].map(gauge), [0, 0]);
    let gauge = |name: &str| gauge(&format!("channel.c.d.{name}"));
    assert_eq!(["backend_depth", "deferred_count", "clients"].map(gauge), [0, 2, 1]);
    assert_eq!(gauge("depth") + gauge("in_flight_count"), 2);
    assert!(statsd.gauges["mem.heap_in_use_bytes"] > 4096);
    assert_eq!((statsd.counters.len(), statsd.gauges.len()), (6, 15));
}

#[test]
fn a_counter_is_never_negative_when_its_topic_is_deleted_and_created_again() {
    let mut statsd = Statsd::start();
    let server = statsd.nsqd(|_| ());
    for _ in 0..3 {
        let before = statsd.counters.get("topic.t.message_count").copied().unwrap_or_default();
        let mut consumer = server.consumer("t", "c", 0);
        server.client().publish_all("t", &["x"; 5]);
        statsd.until("topic.t.message_count", before + 5);
        statsd.fresh_round();
        consumer.settle();
        server.post("/topic/delete?topic=t");
        server.client().publish_all("t", &["x"; 2]);
        statsd.until("topic.t.message_count", before + 7);
        statsd.fresh_round();
        assert_eq!(statsd.counters["topic.t.message_count"], before + 7);
        server.post("/topic/delete?topic=t");
    }
}

#[test]
fn every_place_for_the_host_in_the_prefix_is_filled() {
    let statsd = Statsd::start();
    let server = statsd.nsqd(|options| {
        options.broadcast_address = "10.0.0.7".to_owned();
        options.statsd.prefix = "%s.100%.%d.%s".to_owned();
    });
    let host = format!("10_0_0_7_{}", server.http.port());
    let prefix = format!("{host}.100%.%d.{host}.");
    let packet = statsd.packet();
    assert!(packet.lines().all(|line| line.starts_with(&format!("{prefix}mem."))), "{packet}");
    let shown = http(server.http, "GET", "/config/statsd_prefix", b"");
    assert_eq!(shown, (200, prefix.into_bytes()));
}

#[test]
fn without_a_prefix_names_are_bare() {
    let statsd = Statsd::start();
    let _server = statsd.nsqd(|options| options.statsd.prefix = String::new());
    assert!(statsd.packet().starts_with("mem.heap_objects:"));
}

#[test]
fn packets_are_filled_with_whole_lines() {
    let statsd = Statsd::start();
    let name = "x".repeat(64);
    let server = statsd.nsqd(|options| options.statsd.udp_packet_size = 80);
    drop(server.consumer(&name, "c", 0));
    let packets: Vec<_> = (0..100).map(|_| statsd.packet()).collect();
    let fits = |packet: &String| packet.len() <= 80 || packet.lines().count() == 1;
    assert!(packets.iter().all(|packet| packet.ends_with('\n') && fits(packet)), "{packets:?}");
    assert!(packets.iter().any(|packet| packet.len() > 80), "a long line is sent all the same");
    let full = |pair: &&[String]| {
        let next = pair[1].lines().next().unwrap_or_default().len() + 1;
        // A round ends with a packet of its own.
        pair[0].len() + next > 80 || pair[0].contains(LAST)
    };
    let not_full = packets.windows(2).find(|pair| !full(pair));
    assert_eq!(not_full, None);
}

#[test]
fn figures_of_the_memory_and_of_ephemeral_topics_and_channels_are_left_out_on_request() {
    let statsd = Statsd::start();
    let server = statsd.nsqd(|options| {
        options.statsd.mem_stats = false;
        options.statsd.exclude_ephemeral = true;
        options.statsd.udp_packet_size = 60_000;
    });
    let _ephemeral = server.consumer("t#ephemeral", "c", 0);
    let _consumers = ["c", "d#ephemeral"].map(|channel| server.consumer("u", channel, 0));
    let complete = |packet: &String| packet.contains("topic.u.channel.c.clients:1|g\n");
    let packet = std::iter::repeat_with(|| statsd.packet()).find(complete).unwrap();
    assert!(!packet.contains("ephemeral") && !packet.contains("mem."), "{packet}");
}

#[test]
fn ephemeral_topics_and_channels_are_pushed_like_others() {
    let mut statsd = Statsd::start();
    let server = statsd.nsqd(|_| ());
    let _consumer = server.consumer("t#ephemeral", "c#ephemeral", 0);
    statsd.fresh_round();
    statsd.fresh_round();
    assert_eq!(statsd.gauges["topic.t#ephemeral.channel.c#ephemeral.clients"], 1);
}

#[test]
fn percentiles_are_gauges_named_by_their_rounded_share() {
    let mut statsd = Statsd::start();
    let server = statsd.nsqd(|options| {
        let flag = ["--e2e-processing-latency-percentile=0.5,0.99,0.999"];
        let parsed = Options::from_parsed(&Options::table().parse(flag).unwrap());
        options.e2e_percentiles = parsed.unwrap().e2e_percentiles;
    });
    let mut consumer = server.consumer("t", "c", 1);
    server.client().publish("t", b"x");
    consumer.finish_next(1);
    consumer.settle();
    statsd.fresh_round();
    for of in ["topic.t", "topic.t.channel.c"] {
        let start = format!("{of}.e2e_processing_latency_");
        assert_eq!(
            statsd.named(&start),
            ["100", "99", "50"].map(|share| format!("{start}{share}"))
        );
        assert!(statsd.gauges[&format!("{start}50")] > 0);
    }
}

#[test]
fn each_push_is_logged_and_one_that_fails_only_until_it_works() {
    // A port that nothing listens on.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Info, log.clone());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::logging_to(logger, World::default(), folder, |options| {
        pushing(options, closed.to_string());
        // The loss of a packet is known when the next one is sent.
        options.statsd.udp_packet_size = 1;
    });
    let count = |start: &str| log.texts().iter().filter(|text| text.starts_with(start)).count();
    let pushing = format!("INFO: STATSD: pushing stats to {closed}");
    let failed = format!("ERROR: STATSD: failed to push stats to {closed}, trying again ");
    eventually(|| count(&pushing) > 3 && count(&failed) > 0);
    assert_eq!(count(&failed), 1);
    server.client().publish("t", b"x");
    let mut statsd = Statsd::at(closed);
    statsd.until("topic.t.message_count", 0);
    eventually(|| count(&format!("INFO: STATSD: stats reach {closed} again")) == 1);
    assert_eq!(count(&failed), 1);
    server.stop();
    assert_eq!(count("INFO: STATSD: closing"), 1);
}

#[test]
fn an_address_that_cannot_be_found_is_logged_once() {
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Info, log.clone());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::logging_to(logger, World::default(), folder, |options| {
        pushing(options, "no-port".to_owned());
        options.statsd.interval = Duration::from_millis(1);
    });
    let failures = || log.texts().iter().filter(|text| text.starts_with("ERROR: STATSD:")).count();
    eventually(|| failures() > 0);
    (0..100_u8).for_each(|number| server.client().publish("t", &[number]));
    server.stop();
    assert_eq!(failures(), 1);
}
