//! `to_nsq`: publishes each record that it reads from stdin as a message to every given nsqd.

use std::{collections::BTreeSet, ffi::OsString, io, process::ExitCode, time::Duration};

use nsq_client::{Producer, PublishError, Receipt};
use nsq_daemon::signals::stop_requested;
use nsq_options::{Table, option};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    select,
    sync::mpsc,
    time::{Instant, sleep_until},
    try_join,
};

use crate::{
    common::{self, Failure},
    log,
};

const TOOL: &str = "to_nsq";
const READ_BYTES: usize = 64 * 1024;
/// The most publishes in flight, over all nsqds.
const RECEIPTS_MAX: usize = 10_000;
/// The time limit for the last answers when the tool is told to stop.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Runs the tool with the arguments after the program's name. Its usage text calls it `program`.
pub fn run<I>(program: &str, args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let table = Options::table().of_program(program);
    let parsed = match table.parse(args) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    let plan = table.resolve(&parsed).map_err(Failure::new).and_then(|options| Plan::new(&options));
    match plan {
        Ok(plan) => {
            log::show_client_events();
            common::run(plan.run())
        }
        Err(failure) => common::exit_code(Err(failure)),
    }
}

/// The options as they are typed.
struct Options {
    topic: String,
    nsqd_tcp_address: Vec<String>,
    delimiter: String,
    rate: i64,
    producer_opt: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            topic: String::new(),
            nsqd_tcp_address: Vec::new(),
            delimiter: "\n".to_owned(),
            rate: 0,
            producer_opt: Vec::new(),
        }
    }
}

impl Options {
    fn table() -> Table<Self> {
        Table::new(
            TOOL,
            vec![
                option!(Options.topic, "topic to publish to"),
                option!(
                    Options.nsqd_tcp_address,
                    "<addr>:<port> of an nsqd (may be given multiple times)",
                ),
                option!(Options.delimiter, "the byte between two messages"),
                option!(Options.rate, "the most messages a second; 0 for no limit"),
                option!(Options.producer_opt, common::client_option_help("producer"))
                    .checked(common::check_client_option),
            ],
        )
    }
}

/// The checked options.
struct Plan {
    topic: String,
    producers: Vec<Producer>,
    delimiter: u8,
    throttle: Option<Throttle>,
}

impl Plan {
    fn new(options: &Options) -> Result<Self, Failure> {
        let topic = options.topic.clone();
        if topic.is_empty() {
            return Err(Failure::new("--topic required"));
        }
        let &[delimiter] = options.delimiter.as_bytes() else {
            return Err(Failure::new("--delimiter must be a single byte"));
        };
        let addresses: BTreeSet<_> = options.nsqd_tcp_address.iter().collect();
        if addresses.is_empty() {
            return Err(Failure::new("--nsqd-tcp-address required"));
        }
        let config = common::client_config(TOOL, &options.producer_opt)?;
        let producers = addresses
            .into_iter()
            .map(|address| Producer::new(address, config.clone()))
            .collect::<Result<_, _>>()
            .map_err(Failure::new)?;
        let throttle = u32::try_from(options.rate).ok().filter(|&rate| rate > 0);
        Ok(Self { topic, producers, delimiter, throttle: throttle.map(Throttle::new) })
    }

    async fn run(mut self) -> Result<(), Failure> {
        let stop = stop_requested().map_err(Failure::new)?;
        if let Some(throttle) = &self.throttle {
            log::line(format_args!("Throttling messages rate to max:{}/second", throttle.rate));
        }
        let producers = self.producers.clone();
        let (receipts, outcomes) = mpsc::channel(RECEIPTS_MAX);
        let published = select! {
            published = async { try_join!(self.publish(receipts), check(outcomes)) } => published,
            _ = stop => Ok(((), ())),
        };
        for producer in producers {
            producer.close(CLOSE_LIMIT).await;
        }
        published.map(|_| ())
    }

    /// Publishes every record of stdin and passes the receipts on.
    async fn publish(&mut self, receipts: mpsc::Sender<Receipt>) -> Result<(), Failure> {
        let mut stdin = BufReader::with_capacity(READ_BYTES, tokio::io::stdin());
        let mut record = Vec::new();
        loop {
            record.clear();
            let read = stdin.read_until(self.delimiter, &mut record).await;
            if read.map_err(unreadable)? == 0 {
                return Ok(());
            }
            if let Some(throttle) = &mut self.throttle {
                throttle.wait().await;
            }
            if record.last() == Some(&self.delimiter) {
                record.pop();
            }
            if record.is_empty() {
                continue;
            }
            for producer in &self.producers {
                let receipt = producer.enqueue(&self.topic, &record).await.map_err(unpublished)?;
                if receipts.send(receipt).await.is_err() {
                    // A publish has failed, which `check` reports.
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for the outcome of every publish.
async fn check(mut receipts: mpsc::Receiver<Receipt>) -> Result<(), Failure> {
    while let Some(receipt) = receipts.recv().await {
        receipt.await.map_err(unpublished)?;
    }
    Ok(())
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new(format_args!("reading stdin: {error}"))
}

fn unpublished(error: PublishError) -> Failure {
    Failure::new(error)
}

/// Limits the rate of records: one passes at first and one more for each period, with at most a second's worth saved
/// up.
struct Throttle {
    rate: u32,
    period: Duration,
    /// When the next record may pass; in the past if some have been saved up.
    next: Instant,
}

impl Throttle {
    fn new(rate: u32) -> Self {
        Self { rate, period: Duration::from_secs(1) / rate, next: Instant::now() }
    }

    async fn wait(&mut self) {
        sleep_until(self.next).await;
        let saved = self.period * (self.rate - 1);
        let earliest = Instant::now().checked_sub(saved).unwrap_or(self.next);
        self.next = self.next.max(earliest) + self.period;
    }
}
