//! Clients that mean no good, or no longer anything at all.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_protocol::Command;
use nsqd::World;

use crate::support::{Client, Received, Server, eventually};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_be_bytes()[0]
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn bytes(&mut self, count: usize) -> impl Iterator<Item = u8> {
        std::iter::repeat_with(|| self.byte()).take(count)
    }
}

/// A well-behaved client is served as usual.
fn works(server: &Server) {
    let mut client = server.client();
    client.subscribe("sane", "c", 10);
    client.send(Command::Pub { topic: "sane", body: b"hello" });
    let answers = [client.receive(), client.receive()];
    assert!(answers.contains(&Received::Response("OK".to_owned())), "{answers:?}");
    let message = answers.iter().find_map(|answer| match answer {
        Received::Message(message) => Some(message.clone()),
        _ => None,
    });
    let message = message.unwrap();
    assert_eq!((&message.body[..], message.attempts), (&b"hello"[..], 1));
    client.fin(message.id);
    client.expect_nothing();
    server.post("/channel/delete?topic=sane&channel=c");
}

/// Something like a command; now and then a good one.
fn noise(dice: &mut Dice, out: &mut Vec<u8>) {
    let lines: &[&[u8]] = &[
        b"NOP",
        b"CLS",
        b"RDY 10",
        b"RDY",
        b"RDY 2500",
        b"RDY 0",
        b"SUB t c",
        b"SUB t d#ephemeral",
        b"SUB e#ephemeral c#ephemeral",
        b"FIN 0123456789abcdef",
        b"REQ 0123456789abcdef 5",
        b"TOUCH 0123456789abcdef",
        b"FIN",
        b"",
        b"\r",
        b"NOPE",
        b"SUB",
        b"PUB",
        b"MPUB $",
        b"FIN 0000000000000000",
        b"REQ ffffffffffffffff 0",
        b"TOUCH \xff\xff\xff\xff\xff\xff\xff\xff01234567",
    ];
    match dice.below(10) {
        0 => {
            let count = dice.below(40);
            out.extend(dice.bytes(count));
        }
        1 => {
            out.extend([&b"IDENTIFY\n"[..], b"\0\0\0\x1e{\"feature_negotiation\": true }"].concat())
        }
        2 => with_size(dice, b"IDENTIFY\n", out),
        3 => with_size(dice, b"AUTH\n", out),
        4 => with_size(dice, b"PUB t\n", out),
        5 => with_size(dice, b"DPUB t 10\n", out),
        6 => {
            with_size(dice, b"MPUB t\n", out);
            out.extend([0, 0, 0, dice.byte() % 4]);
            for _ in 0..dice.below(4) {
                with_size(dice, b"", out);
            }
        }
        7 => out.extend(b"PUB t\n\0\0\0\x03abcMPUB t\n\0\0\0\x0e\0\0\0\x02\0\0\0\x01a\0\0\0\x01b"),
        _ => {
            out.extend(*dice.pick(lines));
            out.push(b'\n');
        }
    }
}

/// A line, a size that may or may not be true, and a body.
fn with_size(dice: &mut Dice, line: &[u8], out: &mut Vec<u8>) {
    let length = dice.byte() % 12;
    let announced = match dice.below(8) {
        0 => dice.bytes(4).collect(),
        1 => vec![0; 4],
        2 => vec![0, 0, 0, length + 1],
        _ => vec![0, 0, 0, length],
    };
    out.extend(line);
    out.extend(announced);
    out.extend(dice.bytes(length.into()));
}

#[test]
fn no_bytes_keep_nsqd_from_serving_others() {
    let server = Server::start();
    let mut dice = Dice(0x5eed);
    for round in 0..400 {
        let mut bytes = if dice.below(20) == 0 { Vec::new() } else { b"  V2".to_vec() };
        for _ in 0..1 + dice.below(12) {
            noise(&mut dice, &mut bytes);
        }
        let mut client = Client::silent(server.tcp);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = 1 + dice.below(rest.len());
            // A client that was closed meanwhile is a client that was closed.
            if client.stream.write_all(&rest[..length]).is_err() {
                break;
            }
            rest = &rest[length..];
        }
        match dice.below(3) {
            // It goes with answers unread.
            0 => drop(client),
            // Read to the end.
            1 => {
                let _ = client.stream.shutdown(std::net::Shutdown::Write);
                let _ = client.stream.read_to_end(&mut Vec::new());
            }
            // It goes after the first answer, if there is one.
            _ => {
                let _ = client.stream.shutdown(std::net::Shutdown::Write);
                let _ = client.stream.read(&mut [0; 100]);
            }
        }
        if round % 50 == 49 {
            works(&server);
        }
    }
    works(&server);
    server.stop();
}

#[test]
fn consumers_that_answer_at_random_lose_nothing() {
    let server = Server::with(|options| {
        options.msg_timeout = std::time::Duration::from_millis(20);
        options.mem_queue_size = 20;
    });
    let mut dice = Dice(0xd1ce);
    let count = 300_u32;
    let bodies: Vec<_> = (0..count).map(u32::to_be_bytes).collect();
    server.client().publish_all("t", &bodies);
    let mut finished = vec![0; count as usize];
    let mut left = count;
    while left > 0 {
        let mut client = server.consumer("t", "c", 1 + dice.roll() % 60);
        for _ in 0..dice.below(80) {
            if left == 0 {
                break;
            }
            let message = match client.receive() {
                Received::Message(message) => message,
                // An answer to something that came too late.
                Received::Error(_) => continue,
                other => panic!("{other:?}"),
            };
            match dice.below(8) {
                0 => client.req(message.id, dice.roll() % 30),
                1 => client.send(Command::Touch(message.id)),
                2 => client.send(Command::Rdy(1 + dice.roll() % 60)),
                3 => {}
                _ => {
                    client.fin(message.id);
                    client.send_bytes(b"TOUCH xxxxxxxxxxxxxxxx\n");
                    // Once the TOUCH has been refused, the FIN has been handled.
                    let mut refused = false;
                    loop {
                        match client.receive() {
                            Received::Error(text) if text.starts_with("E_TOUCH_FAILED TOUCH x") => {
                                break;
                            }
                            Received::Error(text) => refused |= text.starts_with("E_FIN_FAILED"),
                            // It will come again.
                            _ => {}
                        }
                    }
                    if !refused {
                        let number = u32::from_be_bytes(*message.body.first_chunk().unwrap());
                        finished[number as usize] += 1;
                        left -= 1;
                    }
                }
            }
        }
    }
    // Nothing was finished twice, and nothing is left.
    assert!(finished.iter().all(|times| *times == 1));
    let channel = server.channel_stats("c");
    for figure in ["depth", "in_flight_count", "deferred_count"] {
        assert_eq!(channel[figure], 0, "{figure}");
    }
}

#[test]
fn silent_and_half_said_connections_do_not_hold_up_a_stop() {
    let (server, log) = warning();
    let mut connections = Vec::new();
    for said in
        [&b""[..], b" ", b"  V", b"  V2", b"  V2PUB t\n\0\0\0\x05ab", b"  V2SUB t c\nRDY 5\n"]
    {
        for half in [false, true] {
            let mut client = Client::silent(server.tcp);
            client.send_bytes(said);
            if half && said.len() > 4 && said.starts_with(b"  V2SUB") {
                client.end_stream();
            }
            connections.push(client);
        }
    }
    works(&server);
    stop_cleanly(server, &log);
    for mut connection in connections {
        while connection.receive() != Received::Closed {}
    }
}

#[test]
fn deaf_connections_do_not_hold_up_a_stop() {
    let (server, log) = warning();
    let mut deaf = server.consumer("t", "c", 2500);
    deaf.settle();
    let mut producer = server.client();
    for _ in 0..20 {
        producer.publish_all("t", &vec![vec![b'x'; 50_000]; 20]);
    }
    let mut flood = server.client();
    flood.stream.set_nonblocking(true).unwrap();
    // Publishes without reading answers, until the socket takes no more.
    let bytes = b"PUB u\n\0\0\0\x01x".repeat(1000);
    while flood.stream.write(&bytes).is_ok() {}
    stop_cleanly(server, &log);
}

/// An nsqd that logs its warnings.
fn warning() -> (Server, Capture) {
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Warn, log.clone());
    let folder = tempfile::tempdir().unwrap();
    (Server::logging_to(logger, World::default(), folder, |_| ()), log)
}

/// Stops nsqd, which warns if a connection did not end in time.
fn stop_cleanly(server: Server, log: &Capture) {
    server.stop();
    let warnings: Vec<_> =
        log.texts().into_iter().filter(|text| text.starts_with("WARNING")).collect();
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_client_that_never_reads_its_answers_is_no_longer_listened_to() {
    let server = Server::start();
    let mut flood = server.client();
    flood.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let bytes = b"PUB u\n\0\0\0\x01x".repeat(10_000);
    let mut written = 0;
    // 10 bytes of answer for 11 of question: sockets and nsqd hold some megabytes of each.
    while let Ok(bytes) = flood.stream.write(&bytes) {
        written += bytes;
        assert!(written < 200 << 20, "nsqd holds answers without a limit");
    }
    works(&server);
    flood.stream.set_write_timeout(None).unwrap();
}

#[test]
fn a_flood_of_publishes_does_not_hold_up_others() {
    let server = Server::with(|options| options.max_bytes_per_file = 16 << 20);
    let threads = std::thread::available_parallelism().unwrap().get();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = |_| {
        let mut flood = server.client();
        let mut answers = flood.stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            while answers.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let stop = stop.clone();
        std::thread::spawn(move || {
            let bytes = b"PUB f#ephemeral\n\0\0\0\x01x".repeat(10_000);
            while !stop.load(Ordering::Relaxed) {
                flood.send_bytes(&bytes);
            }
            flood.end_stream();
            reading.join().unwrap();
        })
    };
    // One for each thread of nsqd, so that the next client has to share one.
    let floods: Vec<_> = (0..threads).map(flood).collect();
    eventually(|| server.stats()["topics"][0]["message_count"].as_u64() > Some(50_000));
    let mut client = server.client();
    for _ in 0..10 {
        client.publish("t", b"x");
    }
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
}
