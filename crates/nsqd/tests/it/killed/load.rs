//! Producers and consumers that go on until nsqd is killed under them.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    io::{ErrorKind, Write},
    sync::{Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use nsq_protocol::{Command, MessageId, encode_multi_pub};

use super::ledger::{CHANNELS, Ledger, Number, Said, body_of, now};
use crate::support::{Client, NsqdProcess, PATIENCE, Received, eventually};

pub(super) const TOPIC: &str = "load";
/// Consumers of each channel.
const CONSUMERS: usize = 2;
/// How long a consumer waits for more before it says what it has to say.
const LULL: Duration = Duration::from_millis(3);
/// How much a consumer has to say at most before it says it.
const SAID_MAX: usize = 20;

/// Numbers that follow from a seed.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Another one for each run, unless it is given.
    pub(super) fn seed() -> u64 {
        let given = std::env::var("NSQ_TEST_SEED").ok();
        given.map_or_else(
            || RandomState::new().build_hasher().finish(),
            |seed| seed.parse().unwrap(),
        )
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}

#[derive(Default)]
pub(super) struct Load {
    ledger: Mutex<Ledger>,
    progress: Condvar,
}

impl Load {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.progress.notify_all();
        self.ledger.lock().unwrap()
    }

    /// Loads nsqd and kills it once `events` things have happened; answers what it had logged.
    pub(super) fn until_killed(
        &self,
        nsqd: NsqdProcess,
        events: u64,
        random: &mut Random,
    ) -> String {
        // The channels exist before anything is published: they are to get all of it.
        let consumers: Vec<_> = (0..CHANNELS.len() * CONSUMERS)
            .map(|index| (index % CHANNELS.len(), random.fork()))
            .map(|(channel, random)| (nsqd.consumer(TOPIC, CHANNELS[channel], 0), channel, random))
            .collect();
        let log = thread::scope(|scope| {
            for (client, channel, random) in consumers {
                scope.spawn(move || Consumer::new(self, client, channel).run(random));
            }
            for kind in [pub_pipelined, pub_many, pub_deferred] {
                let (client, random) = (nsqd.client(), random.fork());
                scope.spawn(move || while_alive(client, random, |c, r| kind(self, c, r)));
            }
            let ledger = self.ledger.lock().unwrap();
            let goal = ledger.clock + events;
            let waiting = |ledger: &mut Ledger| ledger.clock < goal;
            let waited = self.progress.wait_timeout_while(ledger, PATIENCE, waiting);
            let (ledger, timeout) = waited.unwrap();
            drop(ledger);
            // Between two answers as well as right after one.
            thread::sleep(Duration::from_micros(random.below(10_000)));
            let log = nsqd.kill();
            assert!(!timeout.timed_out(), "no progress:\n{log}");
            log
        });
        self.ledger().killed();
        log
    }

    /// Finishes all that is left.
    pub(super) fn drain(&self, nsqd: &NsqdProcess) {
        thread::scope(|scope| {
            let clients: Vec<_> = CHANNELS
                .iter()
                .enumerate()
                .map(|(channel, name)| {
                    let client = nsqd.consumer(TOPIC, name, 0);
                    let stream = client.stream.try_clone().unwrap();
                    scope.spawn(move || Consumer::new(self, client, channel).finish_all());
                    stream
                })
                .collect();
            eventually(|| is_empty(nsqd));
            for stream in clients {
                stream.shutdown(std::net::Shutdown::Both).unwrap();
            }
        });
    }

    /// Looks for what is lost; answers how many messages were acknowledged, and how often messages came.
    pub(super) fn close(&self) -> (usize, u64) {
        let mut ledger = self.ledger();
        ledger.close();
        ledger.totals()
    }

    pub(super) fn expect_no_violations(&self, seed: u64, round: u64) {
        let ledger = self.ledger();
        let some = &ledger.violations[..ledger.violations.len().min(20)];
        assert!(
            some.is_empty(),
            "seed {seed}, round {round}, {} violations: {some:#?}",
            ledger.violations.len()
        );
    }
}

/// Whether nothing waits anywhere, by all figures.
fn is_empty(nsqd: &NsqdProcess) -> bool {
    let stats = nsqd.stats();
    let topic = &stats["topics"][0];
    let channels = topic["channels"].as_array().unwrap();
    let count = |it: &serde_json::Value, key: &str| it[key].as_u64().unwrap();
    let keys = ["depth", "backend_depth", "in_flight_count", "deferred_count"];
    assert_eq!(count(topic, "depth"), 0);
    channels.iter().all(|channel| keys.iter().all(|key| count(channel, key) == 0))
}

/// Publishes until the connection breaks.
fn while_alive(
    mut client: Client,
    mut random: Random,
    publish: impl Fn(&mut Client, &mut Random) -> std::io::Result<()>,
) {
    while publish(&mut client, &mut random).is_ok() {}
}

fn expect_ok(client: &mut Client) -> std::io::Result<()> {
    match client.try_receive()? {
        Received::Response(data) if data == "OK" => Ok(()),
        Received::Closed => Err(ErrorKind::UnexpectedEof.into()),
        other => panic!("expected OK, got {other:?}"),
    }
}

fn new_body(load: &Load, random: &mut Random, not_before: Option<Instant>) -> (Number, Vec<u8>) {
    let number = load.ledger().publish(not_before);
    let bytes = usize::try_from(10 + random.below(600)).unwrap();
    (number, body_of(number, bytes))
}

fn pub_pipelined(load: &Load, client: &mut Client, random: &mut Random) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..1 + random.below(40) {
        let (number, body) = new_body(load, random, None);
        Command::Pub { topic: TOPIC, body: &body }.encode(&mut bytes);
        numbers.push(number);
    }
    client.stream.write_all(&bytes)?;
    for number in numbers {
        expect_ok(client)?;
        load.ledger().acknowledged(&[number]);
    }
    Ok(())
}

fn pub_many(load: &Load, client: &mut Client, random: &mut Random) -> std::io::Result<()> {
    let count = 1 + random.below(50);
    let (numbers, bodies): (Vec<_>, Vec<_>) =
        (0..count).map(|_| new_body(load, random, None)).unzip();
    let mut bytes = Vec::new();
    encode_multi_pub(TOPIC, &bodies, &mut bytes);
    client.stream.write_all(&bytes)?;
    expect_ok(client)?;
    load.ledger().acknowledged(&numbers);
    Ok(())
}

fn pub_deferred(load: &Load, client: &mut Client, random: &mut Random) -> std::io::Result<()> {
    let delay_ms = 1 + random.below(1500);
    let not_before = now() + Duration::from_millis(delay_ms);
    let (number, body) = new_body(load, random, Some(not_before));
    let mut bytes = Vec::new();
    Command::DeferredPub { topic: TOPIC, delay_ms, body: &body }.encode(&mut bytes);
    client.stream.write_all(&bytes)?;
    expect_ok(client)?;
    load.ledger().acknowledged(&[number]);
    Ok(())
}

struct Consumer<'a> {
    load: &'a Load,
    client: Client,
    channel: usize,
    saying: Said,
    count: usize,
    bytes: Vec<u8>,
    /// Said, but not yet known to be heard.
    said: VecDeque<Said>,
}

impl<'a> Consumer<'a> {
    fn new(load: &'a Load, client: Client, channel: usize) -> Self {
        client.stream.set_read_timeout(Some(LULL)).unwrap();
        Self {
            load,
            client,
            channel,
            saying: Said::default(),
            count: 0,
            bytes: Vec::new(),
            said: VecDeque::new(),
        }
    }

    /// Finishes most messages, requeues some and keeps the rest, until the connection breaks.
    fn run(mut self, mut random: Random) {
        self.ready(1 + random.below(400));
        while let Ok(message) = self.next() {
            let Some((number, id)) = message else { continue };
            match random.below(100) {
                0..70 => self.finish(number, id),
                70..80 => self.requeue(number, id, 0),
                80..95 => self.requeue(number, id, 1 + random.below(1500)),
                _ => {}
            }
        }
    }

    /// Finishes every message until the connection breaks.
    fn finish_all(mut self) {
        self.ready(1000);
        while let Ok(message) = self.next() {
            if let Some((number, id)) = message {
                self.finish(number, id);
            }
        }
    }

    fn ready(&mut self, count: u64) {
        Command::Rdy(count).encode(&mut self.bytes);
        // If it does not arrive, the next read says so.
        let _ = self.client.stream.write_all(&std::mem::take(&mut self.bytes));
    }

    /// The next message; `None` after anything else.
    fn next(&mut self) -> std::io::Result<Option<(Number, MessageId)>> {
        if self.count >= SAID_MAX {
            self.say()?;
        }
        match self.client.try_receive() {
            Ok(Received::Message(message)) => {
                let number = self.load.ledger().delivered(self.channel, &message);
                Ok(Some((number, message.id)))
            }
            Ok(Received::Error(text)) if text.starts_with("E_TOUCH_FAILED") => {
                let said = self.said.pop_front().unwrap();
                self.load.ledger().heard(self.channel, said);
                Ok(None)
            }
            Ok(Received::Response(data)) if data == "_heartbeat_" => Ok(None),
            Ok(Received::Closed) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(other) => {
                let complaint = format!("{}: {other:?}", CHANNELS[self.channel]);
                self.load.ledger().violations.push(complaint);
                Ok(None)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.say()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn finish(&mut self, number: Number, id: MessageId) {
        self.load.ledger().finish(self.channel, number, &mut self.saying);
        Command::Fin(id).encode(&mut self.bytes);
        self.count += 1;
    }

    fn requeue(&mut self, number: Number, id: MessageId, delay_ms: u64) {
        let not_before = (delay_ms > 0).then(|| now() + Duration::from_millis(delay_ms));
        self.load.ledger().requeue(self.channel, number, not_before, &mut self.saying);
        Command::Req { id, delay_ms }.encode(&mut self.bytes);
        self.count += 1;
    }

    /// Sends what there is to say, and something that will be answered when it has been heard.
    fn say(&mut self) -> std::io::Result<()> {
        if self.saying.is_empty() {
            return Ok(());
        }
        let said = self.load.ledger().say(std::mem::take(&mut self.saying));
        self.said.push_back(said);
        self.count = 0;
        Command::Touch(MessageId::from_u64(u64::MAX)).encode(&mut self.bytes);
        self.client.stream.write_all(&std::mem::take(&mut self.bytes))
    }
}
