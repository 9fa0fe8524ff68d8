//! A producer's connection and its task.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use super::replies::{Outstanding, Replies, end};
use crate::{
    config::Config,
    connection::{
        driver::{Driver, Timeouts},
        handshake::{Established, frame_bytes_max},
        outbox::Outbox,
    },
    error::ConnectionError,
    sync::lock,
};

/// A connection, served by a task of its own.
pub(super) struct Connection {
    outbox: Arc<Outbox<Outstanding>>,
    /// Taken by the first caller that waits for its end.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Connection {
    /// Spawns the task of an established connection. Answers give slots back to `slots`.
    pub(super) fn spawn(
        established: Established,
        address: &str,
        config: &Config,
        slots: &Arc<Semaphore>,
    ) -> Self {
        let outbox = Arc::new(Outbox::new(Outstanding::default()));
        let driver = Driver::new(
            established.stream,
            established.unread,
            frame_bytes_max(config),
            Replies::new(Arc::clone(&outbox), Arc::clone(slots)),
            Arc::clone(&outbox),
            Timeouts {
                read: config.read_timeout,
                write: config.write_timeout,
                heartbeats: config.heartbeat_interval.is_some(),
            },
        );
        let (ended, slots, address) = (Arc::clone(&outbox), Arc::clone(slots), address.to_owned());
        let task = tokio::spawn(async move {
            let reason = driver.run().await;
            tracing::info!(nsqd = address, %reason, "disconnected");
            end(&ended, &slots, &reason);
        });
        Self { outbox, task: Mutex::new(Some(task)) }
    }

    /// Appends commands and wakes the driver.
    ///
    /// # Errors
    /// Returns [`ConnectionError`], without calling `encode`, if the connection has ended or is closing.
    pub(super) fn append(
        &self,
        encode: impl FnOnce(&mut Vec<u8>, &mut Outstanding),
    ) -> Result<(), ConnectionError> {
        self.outbox.append_if_open(encode)?;
        self.outbox.wake();
        Ok(())
    }

    /// Lets the connection end once all commands are answered.
    pub(super) fn close_when_answered(&self) {
        self.outbox.close_when_done(|_| ());
    }

    /// Closes the connection once all commands are answered, or after `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.close_when_answered();
        let Some(mut task) = lock(&self.task).take() else { return };
        if timeout(limit, &mut task).await.is_err() {
            self.outbox.close_now();
            // The task ends at once and does not panic.
            let _ = task.await;
        }
    }
}
