//! The V2 protocol on one connection: the loop that joins socket, log and broker.
//!
//! A turn of the loop is: act on every command the last read brought, hand out what the client is entitled to,
//! write as much as the socket takes, wait for more. Everything one read brought is acted on together: its
//! publishes are one batch of the log, its FINs one visit to the channel, its answers one write.

mod commands;
mod identify;
mod output;
pub(crate) mod tcp;
pub(crate) mod workers;

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use nsq_log::{BatchBuilder, SegmentSpan};
use nsq_protocol::{
    ClientError, Code, Decoded, FrameType, HEARTBEAT, MAGIC_V2, Phase, Progress, decode_command,
    resume_command,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    node::Node, session::output::Output, topic::Topic, topic::channel::Channel,
    topic::client::Client,
};

/// How long a client may take to say which protocol it speaks. NSQ waits for ever, and with it its shutdown.
const MAGIC_TIMEOUT: Duration = Duration::from_secs(60);
/// The interval of heartbeats unless the client asks for another one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// What a connection reads at once, at first and at most.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// A connection that brings at least so much at once lets others have their turn in between.
const TURN_BYTES: usize = 16 << 10;
/// Messages are handed out while less than this waits to be written.
const OUTPUT_BYTES_HIGH: usize = 256 << 10;
/// Commands are not read while more than this waits to be written: the client does not read its answers.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// A batch is appended when it has grown to this, even if the read brought more.
const BATCH_BYTES: usize = 256 << 10;
/// How long a connection that is being closed may take to accept its last frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(crate) async fn serve(node: Arc<Node>, mut stream: TcpStream, client: Arc<Client>) {
    // Known from the first moment, so that a stop also reaches those who have not said anything yet.
    node.clients.add(client.clone());
    if node.is_stopping() {
        client.close();
    }
    if greet(&node, &mut stream, &client).await {
        converse(&node, stream, &client).await;
    }
    node.clients.remove(client.id);
}

/// Waits for the magic; answers whether it is one that is spoken here.
async fn greet(node: &Node, stream: &mut TcpStream, client: &Client) -> bool {
    let logger = &node.services.logger;
    match read_magic(stream, client).await {
        Ok(magic) if magic == MAGIC_V2 => true,
        Ok(magic) => {
            let mut output = Output::default();
            output.frame(FrameType::Error, Code::BadProtocol.as_str().as_bytes());
            logger.error(format_args!(
                "client({}) bad protocol magic '{}'",
                client.remote,
                magic.escape_ascii()
            ));
            farewell(&mut output, stream).await;
            false
        }
        Err(error) => {
            logger.error(format_args!("failed to read protocol version - {error}"));
            false
        }
    }
}

async fn converse(node: &Arc<Node>, mut stream: TcpStream, client: &Arc<Client>) {
    let logger = &node.services.logger;
    let mut session = Session::new(node.clone(), client.clone());
    let ended = session.run(&mut stream).await;
    if let Err(error) = ended {
        logger.error(format_args!("client({}) - {error}", client.remote));
    }
    session.leave();
    logger.info(format_args!("PROTOCOL(V2): [{}] exiting ioloop", client.remote));
}

async fn read_magic(stream: &mut TcpStream, client: &Client) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    tokio::select! {
        read = tokio::time::timeout(MAGIC_TIMEOUT, stream.read_exact(&mut magic)) => {
            read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(magic)
        }
        () = client.woken() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Writes what is left, for a moment.
async fn farewell(output: &mut Output, stream: &TcpStream) {
    let write = async {
        while !output.is_empty() {
            if stream.writable().await.is_err() || output.write_to(stream).is_err() {
                return;
            }
        }
    };
    // A client that does not take its last frame goes without it.
    let _ = tokio::time::timeout(FAREWELL, write).await;
}

/// A subscription of a connection.
struct Subscription {
    topic: Arc<Topic>,
    channel: Arc<Channel>,
}

/// Publishes that were read and not yet appended. All of them go to one topic.
struct Pending {
    batch: BatchBuilder,
    topic: Option<Arc<Topic>>,
    /// The command of each answer that is due, in order.
    answers: Vec<Code>,
}

struct Session {
    node: Arc<Node>,
    client: Arc<Client>,
    phase: Phase,
    /// `None` when the client switched them off; then there are no deadlines either.
    heartbeat_interval: Option<Duration>,
    subscription: Option<Subscription>,
    input: BytesMut,
    /// How far an incomplete command at the front of `input` has been checked.
    progress: Progress,
    read_bytes: usize,
    output: Output,
    pending: Pending,
    /// Messages that were finished by the last read; in the order of the commands until they are carried out.
    finished: Vec<commands::Finished>,
    /// The last read requeued messages: their attempts and due times are to be written down.
    requeued: bool,
    /// The segment that the last id led to.
    segment: Option<SegmentSpan>,
    /// Logs to be flushed up to an end before the answers may go out.
    unsynced: Vec<(Arc<Topic>, u64)>,
    identified: commands::Identified,
}

/// Whether the connection goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Close,
}

/// When the connection was last seen to do something, and when it has to be looked at again.
struct Watch {
    heartbeat_at: Instant,
    last_command: Instant,
    last_written: Instant,
}

impl Session {
    fn new(node: Arc<Node>, client: Arc<Client>) -> Self {
        let identified = commands::Identified::new(&node.services.options);
        let batch = node.batch();
        Self {
            node,
            client,
            phase: Phase::Init,
            heartbeat_interval: Some(HEARTBEAT_INTERVAL),
            subscription: None,
            input: BytesMut::new(),
            progress: Progress::default(),
            read_bytes: READ_BYTES_MIN,
            output: Output::default(),
            pending: Pending { batch, topic: None, answers: Vec::new() },
            finished: Vec::new(),
            requeued: false,
            segment: None,
            unsynced: Vec::new(),
            identified,
        }
    }

    async fn run(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let now = Instant::now();
        let mut watch =
            Watch { heartbeat_at: self.next_heartbeat(now), last_command: now, last_written: now };
        loop {
            if self.client.is_closing() {
                return Ok(());
            }
            let flow = self.handle_input(&mut watch);
            self.flush_logs().await;
            if flow == Flow::Close {
                farewell(&mut self.output, stream).await;
                return Ok(());
            }
            let delivered = self.deliver();
            if self.output.write_to(stream)? > 0 {
                watch.last_written = Instant::now();
            }
            if delivered && self.output.is_empty() {
                if watch.last_written >= watch.heartbeat_at && self.beat(&mut watch) == Flow::Close
                {
                    return Ok(());
                }
                // There may be more; but others want their turn, and the socket may hold FINs.
                tokio::task::yield_now().await;
                self.read_now(stream)?;
                continue;
            }
            if self.wait(stream, &mut watch).await? == Flow::Close {
                return Ok(());
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, stream: &mut TcpStream, watch: &mut Watch) -> io::Result<Flow> {
        let may_read = self.output.bytes() < OUTPUT_BYTES_MAX;
        if may_read {
            self.input.reserve(self.read_bytes);
        }
        let room = self.input.capacity() - self.input.len();
        let (mut reader, writer) = stream.split();
        tokio::select! {
            biased;
            () = self.client.woken() => Ok(Flow::Continue),
            read = reader.read_buf(&mut self.input), if may_read => match read? {
                0 => {
                    self.end_of_input();
                    farewell(&mut self.output, stream).await;
                    Ok(Flow::Close)
                }
                bytes => {
                    if bytes == room {
                        self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
                    }
                    if bytes >= TURN_BYTES {
                        // Others on this thread have waited while the last of it was acted on.
                        tokio::task::yield_now().await;
                    }
                    Ok(Flow::Continue)
                }
            },
            writable = writer.writable(), if !self.output.is_empty() => writable.map(|()| Flow::Continue),
            () = sleep_until(watch.heartbeat_at) => Ok(self.beat(watch)),
        }
    }

    /// Takes what the socket already holds, without waiting for it.
    fn read_now(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.input.reserve(self.read_bytes);
        match stream.try_read_buf(&mut self.input) {
            // The end of the stream is seen again by whoever waits for it.
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn next_heartbeat(&self, now: Instant) -> Instant {
        // Without heartbeats the connection is still looked at now and then, to give back memory.
        now + self.heartbeat_interval.unwrap_or(HEARTBEAT_INTERVAL)
    }

    /// Sends a heartbeat, unless the client has been silent or deaf for too long.
    fn beat(&mut self, watch: &mut Watch) -> Flow {
        let now = Instant::now();
        watch.heartbeat_at = self.next_heartbeat(now);
        if self.input.is_empty() && self.input.capacity() > READ_BYTES_MIN {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
        }
        let Some(interval) = self.heartbeat_interval else { return Flow::Continue };
        let silent = now.duration_since(watch.last_command) >= 2 * interval;
        let deaf = !self.output.is_empty() && now.duration_since(watch.last_written) >= interval;
        if silent || deaf {
            let what = if silent { "sent nothing" } else { "read nothing" };
            let remote = self.client.remote;
            self.node
                .services
                .logger
                .info(format_args!("client({remote}) {what} for too long, closing"));
            return Flow::Close;
        }
        self.output.shrink();
        self.output.frame(FrameType::Response, HEARTBEAT);
        Flow::Continue
    }

    /// Acts on every whole command that was read.
    fn handle_input(&mut self, watch: &mut Watch) -> Flow {
        let mut input = std::mem::take(&mut self.input);
        let (mut used, mut flow) = (0, Flow::Continue);
        while used < input.len() && flow == Flow::Continue {
            let limits = &self.node.services.options.limits;
            match resume_command(&input[used..], self.phase, limits, &mut self.progress) {
                Decoded::Command(command, bytes) => {
                    used += bytes;
                    flow = self.execute(command, watch);
                }
                Decoded::Ignored(bytes) => used += bytes,
                Decoded::Incomplete { .. } => break,
                Decoded::Rejected(rejection) => {
                    self.commit();
                    if let Some(topic) = rejection.creates {
                        // The client is refused either way, and hears of that.
                        let _ = self.node.topic_or_create(&topic);
                    }
                    flow = self.refuse(&rejection.error);
                }
                Decoded::LineTooLong => {
                    self.commit();
                    flow = Flow::Close;
                }
            }
        }
        if used > 0 {
            watch.last_command = Instant::now();
            input.advance(used);
        }
        self.input = input;
        self.commit();
        self.keep_requeued();
        if self.client.is_closing() { Flow::Close } else { flow }
    }

    /// The client has ended its stream; in the middle of a body it is told what is missing.
    fn end_of_input(&mut self) {
        let limits = &self.node.services.options.limits;
        if let Decoded::Incomplete { missing, .. } = decode_command(&self.input, self.phase, limits)
            && let Some(error) = missing.error()
        {
            self.refuse(&error);
        }
    }

    /// Sends an error; the connection goes on only if the protocol says so.
    fn refuse(&mut self, error: &ClientError) -> Flow {
        let remote = self.client.remote;
        self.node.services.logger.error(format_args!("[{remote}] - {error}"));
        let mut data = Vec::new();
        error.encode(&mut data);
        self.output.frame(FrameType::Error, &data);
        if error.is_fatal() { Flow::Close } else { Flow::Continue }
    }

    /// Hands out messages; answers whether there were any.
    fn deliver(&mut self) -> bool {
        let Some(subscription) = &self.subscription else { return false };
        let Some(room) =
            OUTPUT_BYTES_HIGH.checked_sub(self.output.bytes()).filter(|room| *room > 0)
        else {
            subscription.channel.hold_back(self.client.id);
            return false;
        };
        let before = self.output.bytes();
        let now = self.node.services.clock.now();
        let output = &mut self.output;
        let send = |slice, attempts| output.messages(slice, attempts);
        subscription.channel.deliver(self.client.id, now, room, send);
        self.output.bytes() > before
    }

    /// Waits until what was published is on the disk, where answers promise that.
    async fn flush_logs(&mut self) {
        for (topic, end) in std::mem::take(&mut self.unsynced) {
            if let Err(error) = topic.synced(end).await {
                self.node.services.logger.error(format_args!("TOPIC({}): {error}", topic.name));
                // The answers that promised it must not be sent.
                self.output = Output::default();
                self.client.close();
            }
        }
    }

    /// Gives back what the connection held. Messages in flight stay so until their timeout, as in NSQ.
    fn leave(&mut self) {
        if let Some(Subscription { topic, channel }) = self.subscription.take() {
            self.node.leave(&topic, &channel, self.client.id);
        }
    }
}
