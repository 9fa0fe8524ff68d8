//! `nsq_tail`: prints the messages of topics, each body unchanged and followed by a newline.
//!
//! Messages are finished after they have been written, so that none is lost when the reader goes away.

use std::{
    convert::Infallible,
    ffi::OsString,
    future::{Future, pending},
    hash::{BuildHasher, RandomState},
    io,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use nsq_client::{
    ChannelName, Config, Consumer, DRAIN_LIMIT_DEFAULT, Delay, Message, Messages, OnDrop, StopMode,
    TopicName,
};
use nsq_daemon::{cli, signals::stop_requested, version};
use nsq_options::{OptionDef, Table, option};
use tokio::{
    io::{AsyncWriteExt, Stdout},
    select,
    sync::Mutex,
    task::JoinSet,
};

use crate::{
    common::{self, Failure, Source},
    hangup::hung_up,
    log,
};

const TOOL: &str = "nsq_tail";
/// The size at which gathered messages are written.
const WRITE_BYTES: usize = 64 * 1024;
/// The time limit for the last answers when the tool ends by itself.
const END_LIMIT: Duration = Duration::from_secs(5);

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
    if parsed.is_on("version") {
        cli::print(&format!("{}\n", version::line(TOOL)));
        return ExitCode::SUCCESS;
    }
    let plan = table.resolve(&parsed).map_err(Failure::new).and_then(Plan::new);
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
    topic: Vec<String>,
    channel: String,
    nsqd_tcp_address: Vec<String>,
    lookupd_http_address: Vec<String>,
    max_in_flight: i64,
    n: i64,
    print_topic: bool,
    consumer_opt: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            topic: Vec::new(),
            channel: String::new(),
            nsqd_tcp_address: Vec::new(),
            lookupd_http_address: Vec::new(),
            max_in_flight: 200,
            n: 0,
            print_topic: false,
            consumer_opt: Vec::new(),
        }
    }
}

impl Options {
    fn table() -> Table<Self> {
        Table::new(
            TOOL,
            vec![
                option!(Options.topic, "topic to print (may be given multiple times)"),
                option!(Options.channel, "channel to subscribe to; a temporary one when not given",),
                option!(
                    Options.nsqd_tcp_address,
                    "<addr>:<port> of an nsqd (may be given multiple times)",
                ),
                option!(
                    Options.lookupd_http_address,
                    "<addr>:<port> of an nsqlookupd (may be given multiple times)",
                ),
                option!(Options.max_in_flight, "how many messages may be in flight"),
                option!(Options.n, "how many messages of a topic to print; 0 for no end"),
                option!(Options.print_topic, "print the topic's name before each message"),
                option!(Options.consumer_opt, common::client_option_help("consumer"))
                    .checked(common::check_client_option),
                OptionDef::without_effect("version", false, "print the version"),
            ],
        )
    }
}

/// The checked options.
struct Plan {
    topics: Vec<String>,
    channel: String,
    source: Source,
    config: Config,
    /// The number of messages to print of each topic; `None` for all.
    limit: Option<u64>,
    print_topic: bool,
}

impl Plan {
    fn new(options: Options) -> Result<Self, Failure> {
        let Options { topic: topics, channel, max_in_flight, n, print_topic, .. } = options;
        let source = common::source(options.nsqd_tcp_address, options.lookupd_http_address)?;
        if topics.is_empty() {
            return Err(Failure::new("--topic required"));
        }
        let channel = if channel.is_empty() { temporary_channel() } else { channel };
        if topics.iter().any(|topic| TopicName::new(topic).is_err()) {
            return Err(Failure::new("invalid topic name"));
        }
        if ChannelName::new(&channel).is_err() {
            return Err(Failure::new("invalid channel name"));
        }
        let limit = u64::try_from(n).ok().filter(|&limit| limit > 0);
        let max_in_flight = if n > 0 { max_in_flight.min(n) } else { max_in_flight };
        let mut config = common::client_config(TOOL, &options.consumer_opt)?;
        config.set("max_in_flight", max_in_flight).map_err(Failure::new)?;
        config.validate().map_err(Failure::new)?;
        Ok(Self { topics, channel, source, config, limit, print_topic })
    }

    async fn run(self) -> Result<(), Failure> {
        let stop = stop_requested().map_err(Failure::new)?;
        let (consumers, mut tails) = self.start()?;
        // The first query can take long, and messages arrive as soon as there is one connection.
        let connecting = async {
            for consumer in &consumers {
                self.source.connect(consumer).await?;
            }
            pending::<Result<Infallible, Failure>>().await
        };
        let (mode, limit) = select! {
            connected = connecting => match connected? {},
            Some(ended) = tails.join_next() => {
                tails.shutdown().await;
                stop_all(&consumers, StopMode::RequeueBuffered, END_LIMIT).await;
                return ended.map_err(Failure::new)?.or_else(ignore_hang_up);
            }
            () = hung_up(io::stdout()) => (StopMode::RequeueBuffered, END_LIMIT),
            _ = stop => (StopMode::Drain, DRAIN_LIMIT_DEFAULT),
        };
        let stopped = stop_all(&consumers, mode, limit);
        // Messages in hand are still printed, and those that have been are finished.
        while tails.join_next().await.is_some() {}
        stopped.await;
        Ok(())
    }

    /// Builds a consumer for each topic and starts to print what it receives.
    fn start(&self) -> Result<(Vec<Consumer>, JoinSet<io::Result<()>>), Failure> {
        let stdout = Arc::new(Mutex::new(tokio::io::stdout()));
        let mut consumers = Vec::new();
        let mut tails = JoinSet::new();
        for topic in &self.topics {
            log::line(format_args!("Adding consumer for topic: {topic}"));
            let messages = Consumer::builder(topic, &self.channel)
                .config(self.config.clone())
                .on_drop(OnDrop::RequeueWithoutBackoff(Delay::After(Duration::ZERO)))
                .into_stream()
                .map_err(Failure::new)?;
            consumers.push(messages.consumer().clone());
            tails.spawn(self.tail(topic, messages, Arc::clone(&stdout)).run());
        }
        Ok((consumers, tails))
    }

    fn tail(&self, topic: &str, messages: Messages, stdout: Arc<Mutex<Stdout>>) -> Tail {
        Tail {
            messages,
            stdout,
            prefix: if self.print_topic { format!("{topic} | ") } else { String::new() },
            left: self.limit,
            attempts_max: self.config.max_attempts,
            batch: Vec::new(),
            lines: Vec::new(),
        }
    }
}

/// Begins to stop all `consumers`; the returned future resolves when they have stopped.
fn stop_all(consumers: &[Consumer], mode: StopMode, limit: Duration) -> impl Future<Output = ()> {
    let stopped: Vec<_> =
        consumers.iter().map(|consumer| consumer.stop_with(mode, limit)).collect();
    async {
        for consumer in stopped {
            consumer.await;
        }
    }
}

/// Converts a write error into a failure. A reader that has gone away is not one.
fn ignore_hang_up(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::new(format_args!("ERROR: failed to write to stdout - {error}")))
}

/// Returns the name of a channel that nsqd deletes when the tool has disconnected.
fn temporary_channel() -> String {
    format!("tail{:06}#ephemeral", RandomState::new().hash_one(TOOL) % 999_999)
}

/// Prints the messages of one topic.
struct Tail {
    messages: Messages,
    stdout: Arc<Mutex<Stdout>>,
    prefix: String,
    /// The number of messages still to print; `None` for all.
    left: Option<u64>,
    attempts_max: u16,
    /// Messages whose lines have not been written yet.
    batch: Vec<Message>,
    lines: Vec<u8>,
}

impl Tail {
    /// Prints messages until there have been enough or the consumer has stopped.
    async fn run(mut self) -> io::Result<()> {
        while let Some(message) = self.messages.recv().await {
            self.add(message);
            while !self.is_enough() && self.lines.len() < WRITE_BYTES {
                let Some(message) = self.messages.try_recv() else { break };
                self.add(message);
            }
            self.write().await?;
            if self.left == Some(0) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn add(&mut self, message: Message) {
        if self.attempts_max > 0 && message.attempts() > self.attempts_max {
            let (id, attempts) = (message.id(), message.attempts());
            log::line(format_args!("WRN msg {id} attempted {attempts} times, giving up"));
            message.finish();
            return;
        }
        self.lines.extend_from_slice(self.prefix.as_bytes());
        self.lines.extend_from_slice(message.body());
        self.lines.push(b'\n');
        self.batch.push(message);
    }

    fn is_enough(&self) -> bool {
        self.left.is_some_and(|left| self.batch.len() as u64 >= left)
    }

    /// Writes the gathered lines in one go, so that lines of different topics never mix, and finishes their messages.
    async fn write(&mut self) -> io::Result<()> {
        {
            let mut stdout = self.stdout.lock().await;
            stdout.write_all(&self.lines).await?;
            stdout.flush().await?;
        }
        self.left = self.left.map(|left| left.saturating_sub(self.batch.len() as u64));
        self.lines.clear();
        self.batch.drain(..).for_each(Message::finish);
        Ok(())
    }
}
