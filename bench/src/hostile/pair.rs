//! An honest publisher and its consumer.

use std::time::Duration;

use crate::{
    conn::Conn,
    consumer::{self, CHANNEL, Consumer},
    failure::Failure,
    ledger::Ledger,
    pace::{self, Pace},
    publisher::BODY_BYTES,
    wire::Commands,
    workload::Run,
};

const BUFFER_BYTES: usize = 64 * 1024;

/// Latencies by the numbers of their messages.
pub(super) type Latencies = Vec<(usize, Duration)>;

/// A publisher and a consumer on a topic of their own.
pub(super) struct Pair<'a> {
    topic: String,
    publisher: Conn<'a>,
    consumer: Consumer<'a>,
    ledger: Ledger,
}

impl<'a> Pair<'a> {
    /// Connects both.
    ///
    /// # Errors
    /// Returns the error of the server or the system.
    pub(super) fn connect(run: &'a Run<'_>) -> Result<Self, Failure> {
        let topic = run.topic();
        let endpoint = run.target.endpoint;
        consumer::create_channel(endpoint, &topic, CHANNEL, run.limit)?;
        let mut consumer = Consumer::subscribe(endpoint, &topic, CHANNEL, BUFFER_BYTES, run.limit)?;
        consumer.ready(2500)?;
        let publisher = Conn::open(endpoint, BUFFER_BYTES, run.limit)?;
        Ok(Self { topic, publisher, consumer, ledger: run.ledger() })
    }

    /// Returns the work of the publisher and that of the consumer.
    pub(super) fn split(
        &mut self,
        pace: Pace,
        messages: usize,
    ) -> (
        impl FnOnce() -> Result<Latencies, Failure> + Send,
        impl FnOnce() -> Result<Latencies, Failure> + Send,
    ) {
        let Self { topic, publisher, consumer, ledger } = self;
        let publish = move || publish(publisher, topic, messages, pace);
        let receive = move || pace::receive(consumer, ledger, pace);
        (publish, receive)
    }

    /// Returns the messages that came more than once.
    pub(super) fn duplicates(&self) -> usize {
        self.ledger.duplicates()
    }
}

/// Publishes each message when it is due and waits for its answer. A late one counts from when it was due.
fn publish(
    conn: &mut Conn<'_>,
    topic: &str,
    messages: usize,
    pace: Pace,
) -> Result<Latencies, Failure> {
    pace::exact_timers()?;
    let mut command = Commands::pub_one(topic, BODY_BYTES, 1);
    (0..messages)
        .map(|seq| {
            pace.wait_for(seq);
            conn.write_all(command.numbered(1, seq))?;
            conn.await_response(b"OK")?;
            Ok((seq, pace.latency(seq)))
        })
        .collect()
}
