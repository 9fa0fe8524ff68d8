//! Large publishes, away from the threads that serve connections.

use std::sync::Arc;

use tokio::task::{JoinError, spawn_blocking};

use super::Node;
use crate::{meters::Limit, topic::Topic};

impl Node {
    /// Runs `work`, which publishes a large batch to `topic`, on a thread that may block. It is carried out even if
    /// the caller goes away.
    ///
    /// # Errors
    /// When `work` panics.
    pub(crate) async fn in_bulk<T: Send + 'static>(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        work: impl FnOnce(&Arc<Self>, &Arc<Topic>) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let services = &self.services;
        if topic.bulk.are_taken() || services.bulk.are_taken() {
            services.meters.reached(Limit::BulkPublishes);
            let line = format_args!("TOPIC({}): a large publish waits for others", topic.name);
            services.clients_log.info("large publishes that wait", line);
        }
        // In this order, so that those who wait for their topic keep nobody from another one.
        let slots = (topic.bulk.take().await, services.bulk.take().await);
        let (node, topic) = (self.clone(), topic.clone());
        let run = move || {
            let done = work(&node, &topic);
            drop(slots);
            done
        };
        spawn_blocking(run).await
    }
}
