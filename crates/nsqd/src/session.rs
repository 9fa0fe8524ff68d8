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
mod authorization;
mod authorize;
mod bulk;
mod commands;
mod common_name;
mod create;
mod failure;
mod farewell;
mod gather;
mod greet;
mod handle;
mod identify;
mod input;
mod liveness;
mod memory;
mod negotiate;
mod output;
mod settings;
pub(crate) mod tcp;
mod tls_info;
mod transport;
mod upgrade;
pub(crate) mod workers;

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use nsq_daemon::{log::Limited, net::Socket};
use nsq_protocol::{FrameType, HEARTBEAT, Phase};
use tokio::time::{Instant, sleep_until};

use self::{
    answers::{Answers, FlushFailed},
    authorization::Authorization,
    commands::Subscription,
    create::Stop,
    gather::Gathered,
    greet::greet,
    input::Input,
    liveness::{Check, Liveness, Owed, Stall},
    memory::Holding,
    negotiate::first_phase,
    output::Output,
    settings::Settings,
    transport::Transport,
    upgrade::Upgrade,
};
use crate::{meters::Limit, node::Node, topic::channel::Delivery, topic::client::Client};

/// A connection that brings at least this much at once lets others have their turn in between.
const TURN_BYTES: usize = 16 << 10;
/// The time that a connection which is being closed may take to accept its last frame, or to send its last bytes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(crate) async fn serve(node: Arc<Node>, socket: Socket, client: Arc<Client>) {
    // Known from the first moment, so that a stop also reaches clients that have not said anything yet.
    node.clients.add(client.clone());
    if node.is_stopping() {
        client.close();
    }
    if let Some(socket) = greet(&node, socket, &client).await {
        converse(&node, socket, &client).await;
    }
    node.clients.remove(client.id);
}

async fn converse(node: &Arc<Node>, socket: Socket, client: &Arc<Client>) {
    let log = &node.services.clients_log;
    let mut session = Session::new(node.clone(), client.clone());
    let mut transport = Transport::Plain(socket);
    loop {
        match session.run(&mut transport).await {
            Ok(End::Upgrade(upgrade)) => match session.upgrade(transport, *upgrade).await {
                Some(upgraded) => transport = upgraded,
                None => break,
            },
            Ok(End::Closed) => break,
            Err(broken) => {
                let (Broken::Read(error) | Broken::Write(error)) = &broken;
                log.error(
                    "failed connections",
                    format_args!("client({}) - {error}", client.remote),
                );
                if let Broken::Write(_) = broken {
                    session.handle_rest(&mut transport).await;
                }
                break;
            }
        }
    }
    session.leave();
    let line = format_args!("PROTOCOL(V2): [{}] exiting ioloop", client.remote);
    log.info("closed connections", line);
}

/// One connection that speaks V2.
struct Session {
    node: Arc<Node>,
    client: Arc<Client>,
    /// For lines that this client can cause as often as it likes.
    log: Limited,
    phase: Phase,
    settings: Settings,
    subscription: Option<Subscription>,
    /// `None` if everything is allowed.
    authorization: Option<Box<Authorization>>,
    input: Input,
    gathered: Gathered,
    /// How often something was created for the command at the front of the input.
    creation_tries: u32,
    answers: Answers,
    output: Output,
    liveness: Liveness,
    holding: Holding,
}

/// The direction in which a connection broke.
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// The end of a session, or of a part of it.
enum End {
    Closed,
    /// The client has asked for layers, and goes on with them.
    Upgrade(Box<Upgrade>),
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
        let stall_limit = node.services.options.shares.stall_limit();
        Self {
            phase: first_phase(&node),
            settings: Settings::new(&node.services.options),
            subscription: None,
            authorization: Authorization::new(node.services.auth.as_ref()),
            input: Input::new(),
            gathered: Gathered::new(node.batch()),
            creation_tries: 0,
            answers: Answers::default(),
            output: Output::default(),
            liveness: Liveness::new(stall_limit, Instant::now()),
            log: Limited::to_peer(&node.services.logger, format!("client({})", client.remote)),
            holding: Holding::new(node.clone(), client.clone()),
            node,
            client,
        }
    }

    async fn run(&mut self, transport: &mut Transport) -> Result<End, Broken> {
        while !self.client.is_closing() {
            let handled = self.handle_input();
            let gives_way = matches!(handled, Err(Stop::GiveWay));
            match handled {
                Ok(()) | Err(Stop::Authorize | Stop::GiveWay) => {}
                Err(Stop::Close) => break,
                Err(Stop::Upgrade(upgrade)) => return Ok(End::Upgrade(upgrade)),
                Err(Stop::Create(creation)) => {
                    self.write(transport).await?;
                    if self.create(*creation).await.is_err() {
                        break;
                    }
                    continue;
                }
                Err(Stop::Bulk(bulk)) => {
                    self.write(transport).await?;
                    if self.carry_out(*bulk).await.is_err() {
                        break;
                    }
                    continue;
                }
            }
            let delivery = self.deliver();
            self.write(transport).await?;
            self.count_memory(transport);
            if gives_way {
                tokio::task::yield_now().await;
                continue;
            }
            let may_wait = delivery == Delivery::Parked || self.has_unsent(transport);
            let next = if may_wait {
                self.wait(transport).await?
            } else {
                self.yield_turn(transport).await?
            };
            match next {
                Next::Turn => {}
                Next::Farewell => break,
                Next::Close => return Ok(End::Closed),
            }
        }
        if !self.client.is_evicted() {
            self.say_farewell(transport).await;
        }
        Ok(End::Closed)
    }

    /// Delivers messages while there is room for them.
    fn deliver(&mut self) -> Delivery {
        let Some(subscription) = &self.subscription else { return Delivery::Parked };
        let Some(room) = self.room_for_messages() else {
            subscription.channel.hold_back(self.client.id);
            return Delivery::Unfinished;
        };
        let now = self.node.services.clock.now();
        let output = &mut self.output;
        let send = |slice, attempts| output.messages(slice, attempts);
        subscription.channel.deliver(self.client.id, now, room, send)
    }

    async fn write(&mut self, transport: &mut Transport) -> Result<(), Broken> {
        let sent = transport.write(&mut self.output).await.map_err(Broken::Write)?;
        self.liveness.written(sent > 0, self.has_unsent(transport), Instant::now);
        Ok(())
    }

    /// Returns whether there is output that the client has not taken.
    fn has_unsent(&self, transport: &Transport) -> bool {
        !self.output.is_empty() || transport.has_unsent()
    }

    /// Lets other connections have their turn, then takes the FINs that the socket may hold.
    async fn yield_turn(&mut self, transport: &mut Transport) -> Result<Next, Broken> {
        if self.liveness.is_due() && self.check(transport) == Next::Close {
            return Ok(Next::Close);
        }
        tokio::task::yield_now().await;
        if !self.is_authorizing() {
            self.input.read_now(transport).await.map_err(Broken::Read)?;
        }
        Ok(Next::Turn)
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, transport: &mut Transport) -> Result<Next, Broken> {
        match self.next_event(transport).await? {
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
            Event::CheckDue => return Ok(self.check(transport)),
        }
        Ok(Next::Turn)
    }

    async fn next_event(&mut self, transport: &mut Transport) -> Result<Event, Broken> {
        let may_read = self.may_read();
        self.liveness.listened(may_read, Instant::now);
        let has_unsent = self.has_unsent(transport);
        let input = &mut self.input;
        let mut poll_transport = |cx: &mut Context<'_>| {
            if may_read && let Poll::Ready(read) = input.poll_read(transport, cx) {
                return Poll::Ready(read.map(Event::Read).map_err(Broken::Read));
            }
            if has_unsent && let Poll::Ready(writable) = transport.poll_writable(cx) {
                return Poll::Ready(writable.map(|()| Event::Writable).map_err(Broken::Write));
            }
            Poll::Pending
        };
        tokio::select! {
            biased;
            () = self.client.woken() => Ok(Event::Woken),
            event = poll_fn(&mut poll_transport) => event,
            flushed = self.answers.flushed() => Ok(Event::Flushed(flushed)),
            () = sleep_until(self.liveness.next_check()) => Ok(Event::CheckDue),
        }
    }

    /// Sends a heartbeat, unless the client has sent or read nothing for too long.
    fn check(&mut self, transport: &mut Transport) -> Next {
        self.give_back_memory(transport);
        let owed = Owed {
            input: self.may_read() && !self.input.buffer.is_empty(),
            output: self.has_unsent(transport),
        };
        let complaint = match self.liveness.check(owed, Instant::now()) {
            Check::Pass => return Next::Turn,
            Check::Beat => {
                self.output.shrink();
                self.output.frame(FrameType::Response, HEARTBEAT);
                return Next::Turn;
            }
            Check::Silent => "sent nothing",
            Check::Deaf => "read nothing",
            Check::Stalled(stall) => {
                self.node.services.meters.reached(Limit::StallTimeout);
                match stall {
                    Stall::Unfinished => "left a command unfinished",
                    Stall::Unread => "left output unread",
                }
            }
        };
        let remote = self.client.remote;
        let line = format_args!("client({remote}) {complaint} for too long, closing");
        self.node.services.clients_log.info("silent connections", line);
        Next::Close
    }

    /// Gives back what the connection held. Messages in flight stay so until their timeout, as in NSQ.
    fn leave(&mut self) {
        if let Some(Subscription { topic, channel, .. }) = self.subscription.take() {
            self.node.leave(&topic, &channel, self.client.id);
        }
    }
}
