//! The V2 protocol on one connection: the loop that joins socket, log and broker.
//!
//! A turn of the loop handles every command of the last read, delivers what the client is entitled to, writes as
//! much as the socket takes, and waits for more. The commands of one read are carried out together: its publishes
//! are one batch of the log, its FINs one visit to the channel, its answers one write.
//!
//! # Invariants
//!
//! 1. The session waits only if the broker will wake it, or if it has output and watches the socket for room. So a
//!    message that can be delivered never waits for the next command.
//! 2. Commands that have arrived are carried out even if the client has gone and reads no answers.
//! 3. Nothing that waits for the disk is called on the worker thread, which serves other connections.

mod answers;
mod commands;
mod create;
mod failure;
mod gather;
mod handle;
mod identify;
mod input;
mod liveness;
mod output;
mod settings;
pub(crate) mod tcp;
pub(crate) mod workers;

use std::{io, sync::Arc, time::Duration};

use nsq_daemon::net::Socket;
use nsq_protocol::{Code, FrameType, HEARTBEAT, MAGIC_V2, Phase};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, sleep_until, timeout},
};

use self::{
    answers::{Answers, FlushFailed},
    commands::Subscription,
    create::Stop,
    gather::Gathered,
    input::Input,
    liveness::{Check, Liveness},
    output::Output,
    settings::Settings,
};
use crate::{node::Node, topic::channel::Delivery, topic::client::Client};

/// How long a client may take to say which protocol it speaks. NSQ waits for ever, and with it its shutdown.
const MAGIC_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that brings at least this much at once lets others have their turn in between.
const TURN_BYTES: usize = 16 << 10;
/// Messages are delivered while less than this waits to be written.
const OUTPUT_BYTES_HIGH: usize = 256 << 10;
/// Commands are not read while more than this waits to be written: the client does not read its answers.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// The time that a connection which is being closed may take to accept its last frame, or to send its last bytes.
const FAREWELL: Duration = Duration::from_secs(1);
/// The most that is still read from a client that has gone. A socket holds less.
const REST_BYTES_MAX: usize = 64 << 20;

/// Serves a connection until it ends.
pub(crate) async fn serve(node: Arc<Node>, mut stream: Socket, client: Arc<Client>) {
    // Known from the first moment, so that a stop also reaches clients that have not said anything yet.
    node.clients.add(client.clone());
    if node.is_stopping() {
        client.close();
    }
    if greet(&node, &mut stream, &client).await {
        converse(&node, stream, &client).await;
    }
    node.clients.remove(client.id);
}

/// Waits for the magic; returns whether it names a protocol that is spoken here.
async fn greet(node: &Node, stream: &mut Socket, client: &Client) -> bool {
    let logger = &node.services.logger;
    match read_magic(stream, client).await {
        Ok(magic) if magic == MAGIC_V2 => true,
        Ok(magic) => {
            let mut output = Output::default();
            node.services.meters.refused(Code::BadProtocol);
            output.frame(FrameType::Error, Code::BadProtocol.as_str().as_bytes());
            logger.error(format_args!(
                "client({}) bad protocol magic '{}'",
                client.remote,
                magic.escape_ascii()
            ));
            write_last(&mut output, stream).await;
            false
        }
        Err(error) => {
            logger.error(format_args!("failed to read protocol version - {error}"));
            false
        }
    }
}

async fn read_magic(stream: &mut Socket, client: &Client) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    tokio::select! {
        read = timeout(MAGIC_TIMEOUT, stream.read_exact(&mut magic)) => {
            read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(magic)
        }
        () = client.woken() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn converse(node: &Arc<Node>, mut stream: Socket, client: &Arc<Client>) {
    let logger = &node.services.logger;
    let mut session = Session::new(node.clone(), client.clone());
    if let Err(broken) = session.run(&mut stream).await {
        let (Broken::Read(error) | Broken::Write(error)) = &broken;
        logger.error(format_args!("client({}) - {error}", client.remote));
        if let Broken::Write(_) = broken {
            session.handle_rest(&mut stream).await;
        }
    }
    session.leave();
    logger.info(format_args!("PROTOCOL(V2): [{}] exiting ioloop", client.remote));
}

/// Writes the rest of the output, for at most [`FAREWELL`].
async fn write_last(output: &mut Output, stream: &Socket) {
    let write = async {
        while !output.is_empty() {
            if stream.writable().await.is_err() || output.write_to(stream).is_err() {
                return;
            }
        }
    };
    // A client that does not take its last frame goes without it.
    let _ = timeout(FAREWELL, write).await;
}

/// One connection that speaks V2.
struct Session {
    node: Arc<Node>,
    client: Arc<Client>,
    phase: Phase,
    settings: Settings,
    subscription: Option<Subscription>,
    input: Input,
    gathered: Gathered,
    /// How often something was created for the command at the front of the input.
    creation_tries: u32,
    answers: Answers,
    output: Output,
    liveness: Liveness,
}

/// The direction in which a connection broke.
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// The end of a wait.
enum Event {
    Woken,
    Read(usize),
    Writable,
    Flushed(Result<(), FlushFailed>),
    CheckDue,
}

/// How the session goes on after a wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Next {
    /// With the next turn.
    Turn,
    /// Not at all, once the client has its last answers.
    Farewell,
    /// Not at all.
    Close,
}

impl Session {
    fn new(node: Arc<Node>, client: Arc<Client>) -> Self {
        Self {
            phase: Phase::Init,
            settings: Settings::new(&node.services.options),
            subscription: None,
            input: Input::new(),
            gathered: Gathered::new(node.batch()),
            creation_tries: 0,
            answers: Answers::default(),
            output: Output::default(),
            liveness: Liveness::new(Instant::now()),
            node,
            client,
        }
    }

    async fn run(&mut self, stream: &mut Socket) -> Result<(), Broken> {
        while !self.client.is_closing() {
            match self.handle_input() {
                Ok(()) => {}
                Err(Stop::Close) => break,
                Err(Stop::Create(creation)) => {
                    self.write(stream)?;
                    if self.create(*creation).await.is_err() {
                        break;
                    }
                    continue;
                }
            }
            let delivery = self.deliver();
            self.write(stream)?;
            let may_wait = delivery == Delivery::Parked || !self.output.is_empty();
            let next =
                if may_wait { self.wait(stream).await? } else { self.yield_turn(stream).await? };
            match next {
                Next::Turn => {}
                Next::Farewell => break,
                Next::Close => return Ok(()),
            }
        }
        self.say_farewell(stream).await;
        Ok(())
    }

    /// Delivers messages while there is room for them.
    fn deliver(&mut self) -> Delivery {
        let Some(subscription) = &self.subscription else { return Delivery::Parked };
        let Some(room) =
            OUTPUT_BYTES_HIGH.checked_sub(self.output.bytes()).filter(|room| *room > 0)
        else {
            subscription.channel.hold_back(self.client.id);
            return Delivery::Unfinished;
        };
        let now = self.node.services.clock.now();
        let output = &mut self.output;
        let send = |slice, attempts| output.messages(slice, attempts);
        subscription.channel.deliver(self.client.id, now, room, send)
    }

    fn write(&mut self, stream: &Socket) -> Result<(), Broken> {
        if self.output.write_to(stream).map_err(Broken::Write)? > 0 {
            self.liveness.written(Instant::now());
        }
        Ok(())
    }

    /// Lets other connections have their turn, then takes the FINs that the socket may hold.
    async fn yield_turn(&mut self, stream: &Socket) -> Result<Next, Broken> {
        if self.liveness.is_due() && self.check() == Next::Close {
            return Ok(Next::Close);
        }
        tokio::task::yield_now().await;
        self.input.read_now(stream).map_err(Broken::Read)?;
        Ok(Next::Turn)
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, stream: &mut Socket) -> Result<Next, Broken> {
        match self.next_event(stream).await? {
            Event::Woken | Event::Writable => {}
            Event::Read(0) => {
                self.end_of_input();
                return Ok(Next::Farewell);
            }
            Event::Read(bytes) => {
                if bytes >= TURN_BYTES {
                    // Others on this thread have waited while the last of it was handled.
                    tokio::task::yield_now().await;
                }
            }
            Event::Flushed(Ok(())) => self.answers.release(&mut self.output),
            Event::Flushed(Err(failed)) => {
                self.drop_answers(&failed);
                return Ok(Next::Farewell);
            }
            Event::CheckDue => return Ok(self.check()),
        }
        Ok(Next::Turn)
    }

    async fn next_event(&mut self, stream: &mut Socket) -> Result<Event, Broken> {
        match stream {
            Socket::Tcp(stream) => {
                let (mut reader, writer) = stream.split();
                self.select(&mut reader, writer.writable()).await
            }
            Socket::Unix(stream) => {
                let (mut reader, writer) = stream.split();
                self.select(&mut reader, writer.writable()).await
            }
        }
    }

    async fn select(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writable: impl Future<Output = io::Result<()>>,
    ) -> Result<Event, Broken> {
        let may_read = self.output.bytes() + self.answers.bytes() < OUTPUT_BYTES_MAX;
        tokio::select! {
            biased;
            () = self.client.woken() => Ok(Event::Woken),
            read = self.input.read(reader), if may_read => {
                read.map(Event::Read).map_err(Broken::Read)
            }
            writable = writable, if !self.output.is_empty() => {
                writable.map(|()| Event::Writable).map_err(Broken::Write)
            }
            flushed = self.answers.flushed() => Ok(Event::Flushed(flushed)),
            () = sleep_until(self.liveness.next_check()) => Ok(Event::CheckDue),
        }
    }

    /// Sends a heartbeat, unless the client has sent or read nothing for too long.
    fn check(&mut self) -> Next {
        self.input.shrink();
        let complaint = match self.liveness.check(!self.output.is_empty(), Instant::now()) {
            Check::Off => return Next::Turn,
            Check::Beat => {
                self.output.shrink();
                self.output.frame(FrameType::Response, HEARTBEAT);
                return Next::Turn;
            }
            Check::Silent => "sent nothing",
            Check::Deaf => "read nothing",
        };
        let remote = self.client.remote;
        self.node
            .services
            .logger
            .info(format_args!("client({remote}) {complaint} for too long, closing"));
        Next::Close
    }

    /// Sends the last answers, once they may be sent.
    async fn say_farewell(&mut self, stream: &Socket) {
        while !self.answers.is_empty() {
            match self.answers.flushed().await {
                Ok(()) => self.answers.release(&mut self.output),
                Err(failed) => self.drop_answers(&failed),
            }
        }
        write_last(&mut self.output, stream).await;
    }

    /// Drops the answers that would promise what could not be flushed.
    fn drop_answers(&mut self, failed: &FlushFailed) {
        let FlushFailed { topic, reason } = failed;
        self.node.services.logger.error(format_args!("TOPIC({}): {reason}", topic.name));
        self.answers.discard();
    }

    /// Handles what the client sent before it went away. No answer reaches it any more.
    async fn handle_rest(&mut self, stream: &mut Socket) {
        let mut bytes = 0;
        while bytes < REST_BYTES_MAX && !self.client.is_closing() {
            let handled = self.handle_input();
            self.output = Output::default();
            self.answers.discard();
            match handled {
                Ok(()) => {}
                Err(Stop::Close) => return,
                Err(Stop::Create(creation)) => match self.create(*creation).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            match timeout(FAREWELL, self.input.read(stream)).await {
                Ok(Ok(read)) if read > 0 => bytes += read,
                _ => return,
            }
        }
    }

    /// Gives back what the connection held. Messages in flight stay so until their timeout, as in NSQ.
    fn leave(&mut self) {
        if let Some(Subscription { topic, channel, .. }) = self.subscription.take() {
            self.node.leave(&topic, &channel, self.client.id);
        }
    }
}
