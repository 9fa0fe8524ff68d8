//! The means to act on a running nsqd.

use nsq_daemon::{log::Logger, service::Control, tls::ServerTls};
use tokio::runtime::Handle;

/// An nsqd that runs.
pub(super) struct Running {
    pub(super) logger: Logger,
    pub(super) tls: Option<ServerTls>,
    /// The threads that serve connections.
    pub(super) workers: Vec<Handle>,
}

impl Control for Running {
    async fn reload(&self) {
        let Some(tls) = self.tls.clone() else {
            return self.logger.info(format_args!("SIGHUP: there are no files to read again"));
        };
        let logger = self.logger.clone();
        // A panic leaves the certificate in use, and has been reported.
        let _ = tokio::task::spawn_blocking(move || tls.reload(&logger)).await;
    }

    async fn progress(&self) {
        for worker in &self.workers {
            // One that has stopped is no obstacle.
            let _ = worker.spawn(std::future::ready(())).await;
        }
    }
}
