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
            // A worker that has stopped serves no clients.
            let _ = worker.spawn(std::future::ready(())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        pin::pin,
        sync::mpsc,
        task::{Context, Poll, Waker},
        thread,
    };

    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_stuck_is_no_progress() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (idle, busy) = (runtime(), runtime());
        let workers = vec![idle.handle().clone(), busy.handle().clone()];
        let (release, released) = mpsc::channel::<()>();
        let (enter, entered) = tokio::sync::oneshot::channel();
        thread::spawn(move || idle.block_on(pending::<()>()));
        thread::spawn(move || {
            busy.block_on(async {
                enter.send(()).unwrap();
                // As code that waits for something on a thread where nothing may.
                let _ = released.recv();
                pending::<()>().await;
            });
        });
        entered.await.unwrap();
        let running = Running { logger: Logger::discard(), tls: None, workers };
        running.workers[0].spawn(std::future::ready(())).await.unwrap();
        let mut progress = pin!(running.progress());
        for _ in 0..1000 {
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(progress.as_mut().poll(&mut cx), Poll::Pending);
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        progress.await;
    }
}
