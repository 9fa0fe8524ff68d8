//! One nsqlookupd that is kept informed.
//!
//! A peer is one task. It keeps what it has told its nsqlookupd and, when the node's topics change, tells the
//! difference. So nothing queues for a peer that is slow or away, and nothing waits for it.
//!
//! Everything is registered after connecting, and again every now and then: nsqlookupd ignores what it knows already,
//! tombstones included, and learns again what an operator or a race has removed there.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use nsq_daemon::log::Logger;
use nsq_protocol::v1::Command;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use super::{
    connection::{Batch, Connection, ConnectionError, PeerInfo},
    registrations::{Change, Registration, Registrations},
};
use crate::node::{Node, news::Changes};

/// How often a PING is sent: nsqlookupd takes nothing else as a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long to wait before connecting again after the first failure; doubled up to [`PING_INTERVAL`].
const RECONNECT_MIN: Duration = Duration::from_millis(250);
/// How long changes are gathered before they are told. One that follows none is told at once.
const GATHER: Duration = Duration::from_millis(10);
/// The least time between two rounds in which everything is registered again.
const REPEAT_MIN: Duration = Duration::from_secs(20);
/// The spread of that time, so that the nsqds of a cluster do not all do it at once.
const REPEAT_SPREAD_MS: u64 = 20_000;
/// How many registrations of a round are sent before their responses are awaited.
const BATCH_COMMANDS_MAX: usize = 1000;
/// The changes of how many topics are sent before their responses are awaited.
const BATCH_TOPICS_MAX: usize = 250;

/// Keeps one nsqlookupd informed until dropped. `info` holds its answer to IDENTIFY while it is connected.
pub(super) async fn run(node: Arc<Node>, address: String, info: watch::Sender<Option<PeerInfo>>) {
    let logger = &node.services.logger;
    let mut pause = RECONNECT_MIN;
    loop {
        logger.info(format_args!("LOOKUP connecting to {address}"));
        let error = match Connection::open(&node, &address).await {
            Ok((connection, peer_info)) => {
                log_peer_info(logger, &address, &peer_info);
                info.send_replace(Some(peer_info));
                let mut peer = Peer::new(&node, connection);
                let error = peer.keep_informed().await;
                info.send_replace(None);
                // Not after IDENTIFY already: a peer that refuses what follows is not connected to in a tight loop.
                if peer.rounds > 0 {
                    pause = RECONNECT_MIN;
                }
                error
            }
            Err(error) => error,
        };
        logger.error(format_args!("LOOKUPD({address}): {error}"));
        sleep(pause).await;
        pause = (pause * 2).min(PING_INTERVAL);
    }
}

fn log_peer_info(logger: &Logger, address: &str, info: &PeerInfo) {
    logger.info(format_args!("LOOKUPD({address}): peer info {info:?}"));
    if info.broadcast_address.is_empty() {
        logger.error(format_args!("LOOKUPD({address}): no broadcast address"));
    }
}

/// An nsqlookupd that is connected.
struct Peer<'a> {
    node: &'a Node,
    connection: Connection,
    changes: Arc<Changes>,
    /// What the nsqlookupd has been told, or is being told in this round.
    told: Registrations,
    /// How often everything has been registered.
    rounds: u64,
    round: Round,
}

/// Where the rounds of registering everything are.
enum Round {
    /// The next one starts at this time.
    Due(Instant),
    /// Everything up to this registration is done.
    UnderWay { done: Option<Registration> },
}

impl<'a> Peer<'a> {
    fn new(node: &'a Node, connection: Connection) -> Self {
        let changes = node.news.changes();
        // After that, so that no change falls in between.
        let told = Registrations::of(node);
        Self { node, connection, changes, told, rounds: 0, round: Round::UnderWay { done: None } }
    }

    /// Tells what there is to tell, until the connection fails.
    async fn keep_informed(&mut self) -> ConnectionError {
        let mut pings = pings();
        let mut gathered_at = Instant::now();
        loop {
            let step = tokio::select! {
                // In this order: nothing puts off a PING, and a round does not put off changes.
                biased;
                _ = pings.tick() => self.ping().await,
                () = gathered(&self.changes, gathered_at) => {
                    let told = self.tell_changes().await;
                    gathered_at = Instant::now() + GATHER;
                    told
                }
                () = self.round.is_due() => self.continue_round().await,
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), ConnectionError> {
        let mut batch = Batch::default();
        batch.push(Command::Ping);
        self.connection.send(&batch).await.map(drop)
    }

    /// Tells how topics differ that have changed.
    async fn tell_changes(&mut self) -> Result<(), ConnectionError> {
        let mut changes = Vec::new();
        for name in self.changes.take(BATCH_TOPICS_MAX) {
            let topic = self.node.existing_topic(name.as_str());
            changes.extend(self.told.changes_of(&name, topic.as_deref()));
        }
        let mut batch = Batch::default();
        for change in &changes {
            batch.push(match change {
                Change::Register(registration, _) => registration.register(),
                Change::Unregister(registration) => registration.unregister(),
            });
        }
        self.connection.send(&batch).await?;
        self.told.apply(&changes);
        Ok(())
    }

    /// Registers the next batch of everything that was told.
    async fn continue_round(&mut self) -> Result<(), ConnectionError> {
        let done = match &self.round {
            Round::Due(_) => None,
            Round::UnderWay { done } => done.as_ref(),
        };
        let page = self.told.page(done, BATCH_COMMANDS_MAX);
        let mut batch = Batch::default();
        for registration in &page {
            batch.push(registration.register());
        }
        self.connection.send(&batch).await?;
        self.round = match page.into_iter().nth(BATCH_COMMANDS_MAX - 1) {
            Some(last) => Round::UnderWay { done: Some(last) },
            None => {
                self.rounds += 1;
                Round::Due(Instant::now() + pause_between_rounds(self.rounds))
            }
        };
        Ok(())
    }
}

impl Round {
    /// Waits until there is something to register.
    async fn is_due(&self) {
        if let Self::Due(at) = self {
            sleep_until(*at).await;
        }
    }
}

fn pings() -> Interval {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

/// Waits for a change, and at least until `at`: topics and channels often come in flocks.
async fn gathered(changes: &Changes, at: Instant) {
    // The change last: this may be cancelled, and a change that was seen would be lost.
    sleep_until(at).await;
    changes.wait().await;
}

fn pause_between_rounds(round: u64) -> Duration {
    // A hasher with a seed of its own is random enough.
    let random = RandomState::default().hash_one(round);
    REPEAT_MIN + Duration::from_millis(random % REPEAT_SPREAD_MS)
}
