//! The configured nsqlookupds, each with the task that keeps it up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use nsq_daemon::log::Logger;
use tokio::{
    sync::watch,
    task::{self, AbortHandle, JoinError, JoinSet},
    time::sleep,
};

use super::{connection::PeerInfo, peer};
use crate::{lock::lock, node::Node};

/// The delay before a task that panicked is started again.
const RESTART: Duration = Duration::from_secs(5);

/// The response of each peer to IDENTIFY by its configured address; `None` while it is not connected.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<String, watch::Receiver<Option<PeerInfo>>>>);

impl Peers {
    /// Keeps one task for each of `addresses` until dropped.
    pub(super) async fn keep(&self, node: &Arc<Node>, addresses: watch::Receiver<Vec<String>>) {
        let run = |address, info| peer::run(node.clone(), address, info);
        self.keep_running(&node.services.logger, addresses, run).await;
    }

    async fn keep_running<F: Future<Output = ()> + Send + 'static>(
        &self,
        logger: &Logger,
        mut addresses: watch::Receiver<Vec<String>>,
        run: impl Fn(String, watch::Sender<Option<PeerInfo>>) -> F,
    ) {
        let mut tasks = Tasks::default();
        loop {
            let wanted: BTreeSet<String> = addresses.borrow_and_update().iter().cloned().collect();
            for address in tasks.stop_others(&wanted) {
                lock(&self.0).remove(&address);
            }
            for address in wanted {
                if !tasks.running.contains_key(&address) {
                    let task = run(address.clone(), self.add(&address));
                    tasks.start(address, task);
                }
            }
            tokio::select! {
                changed = addresses.changed() => if changed.is_err() { return },
                Some((address, error)) = tasks.next_panic() => {
                    logger.error(format_args!("LOOKUPD({address}): {error}, restarting"));
                    let task = run(address.clone(), self.add(&address));
                    tasks.start(address, async move {
                        sleep(RESTART).await;
                        task.await;
                    });
                }
            }
        }
    }

    /// Adds a peer that is not connected.
    fn add(&self, address: &str) -> watch::Sender<Option<PeerInfo>> {
        let (info, infos) = watch::channel(None);
        lock(&self.0).insert(address.to_owned(), infos);
        info
    }

    /// The HTTP addresses of the connected peers.
    pub(super) fn http_addresses(&self) -> BTreeSet<String> {
        let peers = lock(&self.0);
        let infos = peers.values().filter_map(|info| info.borrow().clone());
        infos.filter_map(|info| info.http_address()).collect()
    }
}

/// The tasks by the address of their peer.
#[derive(Default)]
struct Tasks {
    all: JoinSet<()>,
    running: BTreeMap<String, AbortHandle>,
}

impl Tasks {
    fn start(&mut self, address: String, task: impl Future<Output = ()> + Send + 'static) {
        self.running.insert(address, self.all.spawn(task));
    }

    /// Stops the tasks of addresses that are not wanted, and returns these.
    fn stop_others(&mut self, wanted: &BTreeSet<String>) -> Vec<String> {
        let mut others = Vec::new();
        for (address, task) in self.running.extract_if(.., |address, _| !wanted.contains(address)) {
            task.abort();
            others.push(address);
        }
        others
    }

    /// Waits for a task that panics, the only way to end without having been stopped. `None` if there is no task.
    async fn next_panic(&mut self) -> Option<(String, JoinError)> {
        loop {
            let Err(error) = self.all.join_next_with_id().await? else { continue };
            if let Some(address) = self.address_of(error.id()) {
                return Some((address, error));
            }
        }
    }

    fn address_of(&self, id: task::Id) -> Option<String> {
        let mut running = self.running.iter();
        running.find(|(_, task)| task.id() == id).map(|(address, _)| address.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use nsq_daemon::log::{Capture, Level};
    use tokio::{sync::mpsc, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_whose_task_panics_is_kept_up_to_date_again() {
        let (starts, mut started) = mpsc::unbounded_channel();
        let run = move |address: String, _| {
            let starts = starts.clone();
            async move {
                starts.send((address.clone(), Instant::now())).unwrap();
                assert_ne!(address, "bad", "as bad as its name");
                pending::<()>().await;
            }
        };
        let (change, addresses) = watch::channel(vec!["bad".to_owned(), "good".to_owned()]);
        let log = Capture::new();
        let keeper = tokio::spawn({
            let logger = Logger::with_sink("", Level::Info, log.clone());
            async move { Peers::default().keep_running(&logger, addresses, run).await }
        });
        let begin = Instant::now();
        let mut all = Vec::new();
        for _ in 0..4 {
            let (address, at) = started.recv().await.unwrap();
            all.push((address, (at - begin).as_secs()));
        }
        all.sort();
        let bad = |seconds| ("bad".to_owned(), seconds);
        assert_eq!(all, [bad(0), bad(5), bad(10), ("good".to_owned(), 0)]);
        assert!(log.texts()[0].starts_with("ERROR: LOOKUPD(bad): task "), "{:?}", log.texts());
        // Without addresses there is nothing to restart.
        change.send(Vec::new()).unwrap();
        drop(change);
        keeper.await.unwrap();
        assert!(started.recv().await.is_none());
    }
}
