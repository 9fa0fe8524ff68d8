//! nsqd as a client of nsqlookupd: announces topics and channels, queries the channels of new topics.

mod connection;
mod new_topics;
mod pause;
mod peer;
mod peers;
mod registrations;

use std::sync::Arc;

use tokio::sync::watch;

use self::peers::Peers;
use crate::node::Node;

/// The nsqlookupds of a node.
pub(crate) struct Lookup {
    addresses: watch::Sender<Vec<String>>,
    peers: Peers,
}

impl Lookup {
    /// The nsqlookupds at these addresses. Nothing is connected before [`Lookup::run`].
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self { addresses: watch::Sender::new(addresses), peers: Peers::default() }
    }

    /// The configured addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }

    /// Replaces the addresses: removed peers are disconnected, new ones connected.
    pub(crate) fn replace(&self, addresses: Vec<String>) {
        self.addresses.send_replace(addresses);
    }

    /// Announces a node's topics and channels until dropped.
    pub(crate) async fn run(&self, node: &Arc<Node>) {
        let peers = self.peers.keep(node, self.addresses.subscribe());
        // New topics first, so that they are held back before there is a peer to query.
        tokio::join!(self.receive_new_topics(node), peers);
    }

    /// Receives new topics while addresses are configured; otherwise none is held back.
    async fn receive_new_topics(&self, node: &Arc<Node>) {
        let mut addresses = self.addresses.subscribe();
        // Does not fail: `self` owns the sender.
        while addresses.wait_for(|addresses| !addresses.is_empty()).await.is_ok() {
            tokio::select! {
                () = new_topics::run(&self.peers, node, node.news.new_topics()) => {}
                _ = addresses.wait_for(Vec::is_empty) => {}
            }
        }
    }
}
