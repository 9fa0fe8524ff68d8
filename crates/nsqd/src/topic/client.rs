//! What nsqd knows of a connection outside of its own task: how to wake it, how to close it, what to show of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use foldhash::fast::RandomState;
use nsq_broker::ClientId;
use tokio::sync::Notify;

use crate::lock::lock;

/// The number `/stats` shows for a connection's state, as NSQ numbers them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ClientState {
    /// Connected, not subscribed.
    Init = 0,
    /// Subscribed to a channel.
    Subscribed = 3,
    /// CLS was received.
    Closing = 4,
}

/// A connection, as the rest of nsqd sees it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) remote: SocketAddr,
    pub(crate) connected_at_s: u64,
    wake: Notify,
    closing: AtomicBool,
    state: AtomicU8,
    about: Mutex<About>,
}

/// What a client told about itself with IDENTIFY, and what it has published.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) user_agent: String,
    pub(crate) sample_rate: i32,
    pub(crate) topology_region: String,
    pub(crate) topology_zone: String,
    /// Messages published, by topic.
    pub(crate) pub_counts: BTreeMap<String, u64>,
}

impl Client {
    pub(crate) fn new(id: ClientId, remote: SocketAddr, connected_at_s: u64) -> Self {
        let ip = remote.ip().to_string();
        let about = About { client_id: ip.clone(), hostname: ip, ..About::default() };
        Self {
            id,
            remote,
            connected_at_s,
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            state: AtomicU8::new(ClientState::Init as u8),
            about: Mutex::new(about),
        }
    }

    /// Lets the connection's task look at its channel again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves after [`Client::wake`] was called; a call that came first counts.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Asks the connection's task to end: its channel is gone or nsqd stops.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn set_state(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    pub(crate) fn about(&self) -> About {
        lock(&self.about).clone()
    }

    pub(crate) fn describe(&self, describe: impl FnOnce(&mut About)) {
        describe(&mut lock(&self.about));
    }

    /// Counts `count` messages published to `topic`.
    pub(crate) fn count_published(&self, topic: &str, count: u64) {
        let mut about = lock(&self.about);
        match about.pub_counts.get_mut(topic) {
            Some(published) => *published += count,
            None => {
                about.pub_counts.insert(topic.to_owned(), count);
            }
        }
    }
}

/// Every connection that has sent its magic.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: Mutex<std::collections::HashMap<ClientId, std::sync::Arc<Client>, RandomState>>,
}

impl Clients {
    pub(crate) fn add(&self, client: std::sync::Arc<Client>) {
        lock(&self.by_id).insert(client.id, client);
    }

    pub(crate) fn remove(&self, id: ClientId) {
        lock(&self.by_id).remove(&id);
    }

    pub(crate) fn all(&self) -> Vec<std::sync::Arc<Client>> {
        lock(&self.by_id).values().cloned().collect()
    }
}
