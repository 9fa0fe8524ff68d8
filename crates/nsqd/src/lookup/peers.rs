//! The configured nsqlookupds, each with the task that keeps it up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{connection::PeerInfo, peer};
use crate::{lock::lock, node::Node};

/// The response of each peer to IDENTIFY by its configured address; `None` while it is not connected.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<String, watch::Receiver<Option<PeerInfo>>>>);

impl Peers {
    /// Keeps one task for each of `addresses` until dropped.
    pub(super) async fn keep(&self, node: &Arc<Node>, mut addresses: watch::Receiver<Vec<String>>) {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<String, AbortHandle> = BTreeMap::new();
        loop {
            let wanted: BTreeSet<String> = addresses.borrow_and_update().iter().cloned().collect();
            running.retain(|address, task| {
                let keep = wanted.contains(address);
                if !keep {
                    task.abort();
                    lock(&self.0).remove(address);
                }
                keep
            });
            for address in wanted {
                if running.contains_key(&address) {
                    continue;
                }
                let (info, infos) = watch::channel(None);
                lock(&self.0).insert(address.clone(), infos);
                let task = tasks.spawn(peer::run(node.clone(), address.clone(), info));
                running.insert(address, task);
            }
            tokio::select! {
                changed = addresses.changed() => if changed.is_err() { return },
                // Only aborted tasks end.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// The HTTP addresses of the connected peers.
    pub(super) fn http_addresses(&self) -> Vec<String> {
        let peers = lock(&self.0);
        let infos = peers.values().filter_map(|info| info.borrow().clone());
        infos.filter_map(|info| info.http_address()).collect()
    }
}
