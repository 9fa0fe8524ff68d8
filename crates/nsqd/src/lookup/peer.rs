//! The task that keeps one nsqlookupd up to date.
//!
//! It remembers what is registered there and, when topics change, sends the difference. So nothing queues for an
//! nsqlookupd that is slow or away, and nothing waits for it.
//!
//! A refresh registers everything: after connecting, and then periodically. nsqlookupd ignores a registration that it
//! has, and keeps its tombstone; one that an operator or a race has removed there is restored.

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
    pause::Pause,
    registrations::{Change, Registration, Registrations},
};
use crate::node::{Node, news::Changes};

/// How often a PING is sent. Nothing else keeps nsqlookupd from taking this nsqd for dead.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long changes are gathered after some were sent. Otherwise a change is sent at once.
const GATHER: Duration = Duration::from_millis(10);
/// The time between two refreshes, to which jitter is added.
const REFRESH_INTERVAL: Duration = Duration::from_secs(20);
/// The jitter, so that the nsqds of a cluster do not refresh at the same time.
const REFRESH_JITTER_MS: u64 = 20_000;
/// The registrations of a refresh that are sent before their responses are awaited.
const REFRESH_BATCH_MAX: usize = 1000;
/// The topics whose changes are sent before their responses are awaited.
const CHANGED_TOPICS_MAX: usize = 250;

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
                let error = Peer::new(&node, connection).serve().await;
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
    /// The registrations sent, or to be sent by the refresh in progress.
    registered: Registrations,
    /// The number of refreshes completed.
    refreshes: u64,
    refresh: Refresh,
}

/// The state of the refreshes.
enum Refresh {
    /// The next one starts at this time.
    Due(Instant),
    /// One is in progress and has come up to this registration.
    InProgress { done: Option<Registration> },
}

impl<'a> Peer<'a> {
    fn new(node: &'a Node, connection: Connection) -> Self {
        let changes = node.news.changes();
        // After subscribing, so that no change is missed.
        let registered = Registrations::of(node);
        let refresh = Refresh::InProgress { done: None };
        Self { node, connection, changes, registered, refreshes: 0, refresh }
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
                () = gathered(&self.changes, gathered_at) => {
                    let sent = self.send_changes().await;
                    gathered_at = Instant::now() + GATHER;
                    sent
                }
                () = self.refresh.due() => self.continue_refresh().await,
            };
        }
    }

    async fn ping(&mut self) -> Result<(), ConnectionError> {
        let mut batch = Batch::default();
        batch.push(Command::Ping);
        self.connection.send(&batch).await.map(drop)
    }

    /// Sends the changes of topics that have changed.
    async fn send_changes(&mut self) -> Result<(), ConnectionError> {
        let mut changes = Vec::new();
        for name in self.changes.take(CHANGED_TOPICS_MAX) {
            let topic = self.node.existing_topic(name.as_str());
            changes.extend(self.registered.changes_of(&name, topic.as_deref()));
        }
        let mut batch = Batch::default();
        for change in &changes {
            batch.push(match change {
                Change::Register(registration, _) => registration.register(),
                Change::Unregister(registration) => registration.unregister(),
            });
        }
        self.connection.send(&batch).await?;
        self.registered.apply(&changes);
        Ok(())
    }

    /// Sends the next batch of a refresh.
    async fn continue_refresh(&mut self) -> Result<(), ConnectionError> {
        let done = match &self.refresh {
            Refresh::Due(_) => None,
            Refresh::InProgress { done } => done.as_ref(),
        };
        let page = self.registered.page(done, REFRESH_BATCH_MAX);
        let mut batch = Batch::default();
        for registration in &page {
            batch.push(registration.register());
        }
        self.connection.send(&batch).await?;
        self.refresh = match page.into_iter().nth(REFRESH_BATCH_MAX - 1) {
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
