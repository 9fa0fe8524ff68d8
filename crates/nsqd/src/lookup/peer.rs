//! The task that keeps one nsqlookupd up to date.
//!
//! It remembers what is registered there and, when topics change, sends the difference. So nothing queues for an
//! nsqlookupd that is slow or away, and nothing waits for it.
//!
//! A refresh registers everything: after connecting, and then periodically. nsqlookupd ignores a registration that it
//! has, and keeps its tombstone; one that an operator or a race has removed there is restored.

use std::{
    collections::VecDeque, future::ready, hash::BuildHasher, panic::resume_unwind, sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use nsq_daemon::log::Logger;
use nsq_protocol::v1::Command;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use super::{
    connection::{Batch, Connection, ConnectionError, PeerInfo},
    pause::Pause,
    registrations::{Change, Registrations},
};
use crate::node::{
    Node,
    news::{Changes, TopicOrChannel},
};

/// How often a PING is sent. Nothing else keeps nsqlookupd from taking this nsqd for dead.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long changes are gathered after some were sent. Otherwise a change is sent at once.
const GATHER: Duration = Duration::from_millis(10);
/// The time between two refreshes, to which jitter is added.
const REFRESH_INTERVAL: Duration = Duration::from_secs(20);
/// The jitter, so that the nsqds of a cluster do not refresh at the same time.
const REFRESH_JITTER_MS: u64 = 20_000;
/// The commands that are sent before their responses are awaited, so that neither a refresh nor a flock of changes holds
/// up a PING.
const BATCH_MAX: usize = 1000;

/// Keeps one nsqlookupd up to date until dropped. `info` holds its response to IDENTIFY while it is connected.
pub(super) async fn run(node: Arc<Node>, address: String, info: watch::Sender<Option<PeerInfo>>) {
    let logger = &node.services.logger;
    let mut pause = Pause::new();
    loop {
        logger.info(format_args!("LOOKUP connecting to {address}"));
        let mut lasted = Duration::ZERO;
        let error = match Connection::open(&node, &address).await {
            Ok((connection, peer_info)) => {
                log_peer_info(logger, &address, &peer_info);
                info.send_replace(Some(peer_info));
                let connected = Instant::now();
                let error = Peer::new(&node, connection).await.serve().await;
                info.send_replace(None);
                lasted = connected.elapsed();
                error
            }
            Err(error) => error,
        };
        logger.error(format_args!("LOOKUPD({address}): {error}"));
        sleep(pause.after(lasted)).await;
    }
}

fn log_peer_info(logger: &Logger, address: &str, info: &PeerInfo) {
    logger.info(format_args!("LOOKUPD({address}): peer info {info:?}"));
    if info.broadcast_address.is_empty() {
        logger.error(format_args!("LOOKUPD({address}): no broadcast address"));
    }
}

/// A connected nsqlookupd.
struct Peer<'a> {
    node: &'a Node,
    connection: Connection,
    changes: Arc<Changes>,
    /// The registrations sent, or to be sent by the refresh in progress or with `unsent`.
    registered: Registrations,
    /// The commands for changes that were taken.
    unsent: VecDeque<Change>,
    /// The number of refreshes completed.
    refreshes: u64,
    refresh: Refresh,
}

/// The state of the refreshes.
enum Refresh {
    /// The next one starts at this time.
    Due(Instant),
    /// One is in progress and has come up to this registration.
    InProgress { done: Option<TopicOrChannel> },
}

impl<'a> Peer<'a> {
    async fn new(node: &'a Arc<Node>, connection: Connection) -> Self {
        let changes = node.news.changes();
        // After subscribing, so that no change is missed.
        let all = spawn_blocking({
            let node = node.clone();
            move || Registrations::of(&node)
        });
        // A panic was reported by the panic hook, and ends this task, which is then started again.
        let registered = all.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
        let refresh = Refresh::InProgress { done: None };
        Self {
            node,
            connection,
            changes,
            registered,
            unsent: VecDeque::new(),
            refreshes: 0,
            refresh,
        }
    }

    /// Sends pings, changes and refreshes until the connection fails.
    async fn serve(&mut self) -> ConnectionError {
        let mut pings = pings();
        let mut gathered_at = Instant::now();
        // Before anything changes, so that no change is sent twice.
        let mut step = self.continue_refresh().await;
        loop {
            if let Err(error) = step {
                return error;
            }
            step = tokio::select! {
                // In this order: nothing delays a PING, and a refresh does not delay changes.
                biased;
                _ = pings.tick() => self.ping().await,
                () = gathered(&self.changes, gathered_at), if self.unsent.is_empty() => {
                    let sent = self.send_changes().await;
                    gathered_at = Instant::now() + GATHER;
                    sent
                }
                () = ready(()), if !self.unsent.is_empty() => self.send_unsent().await,
                () = self.refresh.due() => self.continue_refresh().await,
            };
        }
    }

    async fn ping(&mut self) -> Result<(), ConnectionError> {
        let mut batch = Batch::default();
        batch.push(Command::Ping);
        self.connection.send(&batch).await.map(drop)
    }

    /// Sends the changes.
    async fn send_changes(&mut self) -> Result<(), ConnectionError> {
        for changed in self.changes.take(BATCH_MAX) {
            self.registered.follow(changed, self.node, &mut self.unsent);
        }
        self.send_unsent().await
    }

    /// Sends the next commands for changes that were taken.
    async fn send_unsent(&mut self) -> Result<(), ConnectionError> {
        let mut batch = Batch::default();
        let count = self.unsent.len().min(BATCH_MAX);
        for change in self.unsent.drain(..count) {
            batch.push(match &change {
                Change::Register(name) => name.register(),
                Change::Unregister(name) => name.unregister(),
            });
        }
        self.connection.send(&batch).await.map(drop)
    }

    /// Sends the next batch of a refresh.
    async fn continue_refresh(&mut self) -> Result<(), ConnectionError> {
        let done = match &self.refresh {
            Refresh::Due(_) => None,
            Refresh::InProgress { done } => done.as_ref(),
        };
        let page = self.registered.page(done, BATCH_MAX);
        let mut batch = Batch::default();
        for registration in &page {
            batch.push(registration.register());
        }
        self.connection.send(&batch).await?;
        self.refresh = match page.into_iter().nth(BATCH_MAX - 1) {
            Some(last) => Refresh::InProgress { done: Some(last) },
            None => {
                self.refreshes += 1;
                Refresh::Due(Instant::now() + refresh_interval(self.refreshes))
            }
        };
        Ok(())
    }
}

impl Refresh {
    /// Waits until there is something to send.
    async fn due(&self) {
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

/// Waits for a change, and at least until `at`: topics and channels are often created in bursts.
async fn gathered(changes: &Changes, at: Instant) {
    // In this order, as this may be cancelled: a change that was received before the sleep would be lost.
    sleep_until(at).await;
    changes.wait().await;
}

fn refresh_interval(refresh: u64) -> Duration {
    // The seed of the hasher is random enough.
    let random = RandomState::default().hash_one(refresh);
    REFRESH_INTERVAL + Duration::from_millis(random % REFRESH_JITTER_MS)
}
