//! A connection as the rest of nsqd sees it: it can be woken, closed and shown in `/stats`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;
use nsq_broker::ClientId;
use nsq_daemon::net::Remote;
use tokio::sync::Notify;

use crate::lock::lock;

/// The state of a connection, with the number NSQ gives it in `/stats`.
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

/// The shared part of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) remote: Remote,
    pub(crate) connected_at_s: u64,
    wake: Notify,
    closing: AtomicBool,
    /// It is closed for the memory that it holds.
    evicted: AtomicBool,
    /// The bytes of input and output that it holds.
    held_bytes: AtomicUsize,
    state: AtomicU8,
    about: Mutex<About>,
}

/// A client's description of itself in IDENTIFY, and its publishes.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) client_id: String,
    pub(crate) hostname: String,
    pub(crate) user_agent: String,
    pub(crate) sample_rate: i32,
    pub(crate) topology_region: String,
    pub(crate) topology_zone: String,
    pub(crate) upgrades: Upgrades,
    /// The auth servers have granted something.
    pub(crate) authed: bool,
    pub(crate) auth_identity: String,
    pub(crate) auth_identity_url: String,
    /// Messages published, by topic.
    pub(crate) pub_counts: BTreeMap<String, u64>,
}

/// The upgrades of a connection, which IDENTIFY has asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgrades {
    pub(crate) tls: Option<Arc<TlsInfo>>,
    pub(crate) compression: Option<Compression>,
}

/// The compression of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Snappy,
    /// With a level from 1 to 9.
    Deflate(u8),
}

/// The TLS of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsInfo {
    pub(crate) version: String,
    pub(crate) cipher_suite: String,
    /// The protocol that ALPN has chosen, usually none.
    pub(crate) protocol: String,
    /// The common name in the client's certificate.
    pub(crate) common_name: String,
}

impl Upgrades {
    pub(crate) fn are_none(&self) -> bool {
        self.tls.is_none() && self.compression.is_none()
    }
}

impl Client {
    pub(crate) fn new(id: ClientId, remote: Remote, connected_at_s: u64) -> Self {
        let ip = remote.ip_text();
        let about = About { client_id: ip.clone(), hostname: ip, ..About::default() };
        Self {
            id,
            remote,
            connected_at_s,
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            held_bytes: AtomicUsize::new(0),
            state: AtomicU8::new(ClientState::Init as u8),
            about: Mutex::new(about),
        }
    }

    /// Makes the session visit its channel again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves once [`Client::wake`] or [`Client::close`] is called, at once if that has happened since the last time.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Asks the session to end, because its channel is gone or nsqd stops.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Asks the session to end at once, without last words, because of the memory that it holds.
    pub(crate) fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.close();
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The bytes of input and output that the connection holds, by its last count.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Notes how many bytes the connection holds; returns how many it held before.
    pub(crate) fn hold(&self, bytes: usize) -> usize {
        self.held_bytes.swap(bytes, Ordering::Relaxed)
    }

    /// Resolves once [`Client::close`] is called.
    pub(crate) async fn closed(&self) {
        while !self.is_closing() {
            self.woken().await;
        }
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

    pub(crate) fn upgrades(&self) -> Upgrades {
        lock(&self.about).upgrades.clone()
    }

    pub(crate) fn describe(&self, describe: impl FnOnce(&mut About)) {
        describe(&mut lock(&self.about));
    }

    /// Returns whether the client has published anything.
    pub(crate) fn has_published(&self) -> bool {
        !lock(&self.about).pub_counts.is_empty()
    }

    /// Adds to the number of messages published to `topic`.
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

/// The connections by the memory that they hold.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// The one that holds most, of those that stay.
    pub(crate) largest: Option<Arc<Client>>,
    /// The bytes of those that are being closed because of their memory.
    pub(crate) leaving_bytes: usize,
}

impl Holders {
    fn largest_bytes(&self) -> usize {
        self.largest.as_ref().map_or(0, |client| client.held_bytes())
    }
}

/// Every connection of the node.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: Mutex<HashMap<ClientId, Arc<Client>, RandomState>>,
}

impl Clients {
    pub(crate) fn add(&self, client: Arc<Client>) {
        lock(&self.by_id).insert(client.id, client);
    }

    pub(crate) fn remove(&self, id: ClientId) {
        lock(&self.by_id).remove(&id);
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.by_id).len()
    }

    /// Looks for the connection that holds most memory.
    pub(crate) fn holders(&self) -> Holders {
        let mut holders = Holders::default();
        for client in lock(&self.by_id).values() {
            if client.is_evicted() {
                holders.leaving_bytes += client.held_bytes();
            } else if client.held_bytes() > holders.largest_bytes() {
                holders.largest = Some(client.clone());
            }
        }
        holders
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.by_id).values().cloned().collect()
    }
}
