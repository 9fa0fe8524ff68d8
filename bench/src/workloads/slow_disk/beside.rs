//! The work that makes a server flush, rename and remove files while others are measured.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    clock::now,
    conn::Conn,
    consumer::{self, CHANNEL},
    failure::Failure,
    http,
    limit::Task,
    publisher::{BODY_BYTES, Command, Publish},
    sample::{Sample, Unit},
    wire::Commands,
    workload::Run,
    workloads::slow_disk::juggler::Juggler,
};

/// Deferred messages of the busy topic for each measured message, before the measurement.
const DEFERRED_PER_MESSAGE: usize = 5;
const DPUB_INTERVAL: Duration = Duration::from_millis(2);
const CHANNEL_INTERVAL: Duration = Duration::from_millis(100);
const TOPIC_INTERVAL: Duration = Duration::from_millis(500);
/// Messages of each topic that is deleted.
const DELETED_MESSAGES: usize = 1000;
const BUFFER_BYTES: usize = 1024;

/// The work beside the measured topics, some of it in one of them.
pub(super) struct Beside<'a> {
    run: &'a Run<'a>,
    http: SocketAddr,
    /// The measured topic that has work of its own.
    busy: &'a str,
    /// A topic that is not measured.
    other: String,
    dpubs: AtomicUsize,
    fins: AtomicUsize,
    channels: AtomicUsize,
    topics: AtomicUsize,
}

impl<'a> Beside<'a> {
    /// Prepares work on the topic `busy`, which gets a second channel and deferred messages, and on
    /// topics of its own.
    ///
    /// # Errors
    /// Returns the error of the server or the system.
    pub(super) fn prepare(run: &'a Run<'a>, busy: &'a str) -> Result<Self, Failure> {
        let Some(http) = run.target.http else {
            return Err(Failure::Usage("slow disks need the HTTP address of the server".into()));
        };
        let other = run.topic();
        let dpub = Publish { command: Command::Dpub, connections: 2, window: 1000, refill: 250 };
        dpub.run(run.target.endpoint, busy, DEFERRED_PER_MESSAGE * run.size, run.limit)?;
        let count = AtomicUsize::default;
        let (dpubs, fins, channels, topics) = (count(), count(), count(), count());
        Ok(Self { run, http, busy, other, dpubs, fins, channels, topics })
    }

    /// Returns the tasks, which end at `end` and measure nothing.
    pub(super) fn tasks(&self, end: Instant) -> Vec<Task<'_, Vec<Duration>>> {
        let work: Vec<Task<'_, ()>> = vec![
            Box::new(move || self.defer(end)),
            Box::new(move || self.juggle(self.busy, false, end)),
            Box::new(move || self.juggle(&self.other, true, end)),
            Box::new(move || self.make_channels(end)),
            Box::new(move || self.delete_topics(end)),
        ];
        work.into_iter()
            .map(|work| Box::new(|| work().map(|()| Vec::new())) as Task<'_, _>)
            .collect()
    }

    /// Adds how much was done, as details.
    pub(super) fn add_counts(&self, sample: &mut Sample) {
        let seconds = self.run.size as f64 / 1e3;
        for (name, count) in [
            ("DPUBs beside", &self.dpubs),
            ("random FINs beside", &self.fins),
            ("new channels beside", &self.channels),
            ("deleted topics beside", &self.topics),
        ] {
            let rate = count.load(Ordering::Relaxed) as f64 / seconds;
            sample.add_detail(name, Unit::PerSecond, rate);
        }
    }

    /// Repeats `step` at `interval`, or as fast as it goes, until `end`.
    fn repeat(
        &self,
        interval: Duration,
        end: Instant,
        mut step: impl FnMut(usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for index in 0.. {
            let began = now();
            if began >= end {
                break;
            }
            self.run.limit.check("working beside what is measured")?;
            step(index)?;
            thread::sleep((began + interval).saturating_duration_since(now()));
        }
        Ok(())
    }

    /// Publishes deferred messages, each answered before the next.
    fn defer(&self, end: Instant) -> Result<(), Failure> {
        let mut conn = Conn::open(self.run.target.endpoint, BUFFER_BYTES, self.run.limit)?;
        let mut commands =
            [self.busy, &self.other].map(|topic| Commands::dpub(topic, BODY_BYTES, 1));
        self.repeat(DPUB_INTERVAL, end, |index| {
            conn.write_all(commands[index % 2].numbered(1, index))?;
            conn.await_response(b"OK")?;
            self.dpubs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Finishes the messages of a topic in random order and requeues some. With `feed`, publishes
    /// them too.
    fn juggle(&self, topic: &str, feed: bool, end: Instant) -> Result<(), Failure> {
        let mut juggler = Juggler::subscribe(self.run, topic, feed)?;
        while now() < end {
            let finished = juggler.step()?;
            self.fins.fetch_add(finished, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Creates channels of the busy topic by subscribing to them, and deletes them.
    fn make_channels(&self, end: Instant) -> Result<(), Failure> {
        let (endpoint, limit, topic) = (self.run.target.endpoint, self.run.limit, self.busy);
        self.repeat(CHANNEL_INTERVAL, end, |index| {
            let channel = format!("beside_{index}");
            consumer::create_channel(endpoint, topic, &channel, limit)?;
            self.delete("channel", &format!("topic={topic}&channel={channel}"))?;
            self.channels.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Fills topics and deletes them.
    fn delete_topics(&self, end: Instant) -> Result<(), Failure> {
        let (endpoint, limit) = (self.run.target.endpoint, self.run.limit);
        self.repeat(TOPIC_INTERVAL, end, |_| {
            let topic = self.run.topic();
            consumer::create_channel(endpoint, &topic, CHANNEL, limit)?;
            Publish::mpub(1).run(endpoint, &topic, DELETED_MESSAGES, limit)?;
            self.delete("topic", &format!("topic={topic}"))?;
            self.topics.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn delete(&self, kind: &str, query: &str) -> Result<(), Failure> {
        http::request(self.http, "POST", &format!("/{kind}/delete?{query}")).map(drop)
    }
}
