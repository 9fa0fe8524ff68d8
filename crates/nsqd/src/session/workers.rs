//! The threads that serve connections: one runtime each, a connection stays where it was put.
//!
//! A runtime that moves tasks between threads wakes another thread for nearly every small command, which costs
//! more than the command. Connections of a broker are many and alike, so they can be dealt out once: each goes
//! to the thread that has the fewest.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use nsq_daemon::tasks::Tasks;
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, session, topic::client::Client};

/// The threads of one nsqd.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    /// Cancelled when the last connection has ended.
    idle: CancellationToken,
}

struct Worker {
    connections: mpsc::UnboundedSender<(TcpStream, Arc<Client>)>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Counts a connection off when its task is over, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts a thread for each core. Their connections are among `tasks`.
    pub(crate) fn start(node: &Arc<Node>, tasks: &Tasks) -> io::Result<Self> {
        let idle = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let start =
            |number: usize| Worker::start(number, node.clone(), tasks.clone(), idle.clone());
        Ok(Self { workers: (0..count).map(start).collect::<io::Result<_>>()?, idle })
    }

    /// Gives a connection to the thread with the fewest.
    pub(crate) fn assign(&self, stream: TcpStream, client: Arc<Client>) {
        let Some(worker) =
            self.workers.iter().min_by_key(|worker| worker.count.load(Ordering::Relaxed))
        else {
            return;
        };
        worker.count.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone takes its nsqd with it; then the connection is closed with the rest.
        let _ = worker.connections.send((stream, client));
    }

    /// Ends the threads; to be called when no connection is left. Blocks.
    pub(crate) fn stop(self) {
        self.idle.cancel();
        for worker in self.workers {
            drop(worker.connections);
            // What panicked in a task was reported by the task.
            let _ = worker.thread.join();
        }
    }
}

impl Worker {
    fn start(
        number: usize,
        node: Arc<Node>,
        tasks: Tasks,
        idle: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, assigned) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let thread = thread::Builder::new()
            .name(format!("nsqd-{number}"))
            .spawn(move || serve(&runtime, &node, &tasks, assigned, &counted, &idle))?;
        Ok(Self { connections, count, thread })
    }
}

fn serve(
    runtime: &Runtime,
    node: &Arc<Node>,
    tasks: &Tasks,
    mut assigned: mpsc::UnboundedReceiver<(TcpStream, Arc<Client>)>,
    count: &Arc<AtomicUsize>,
    idle: &CancellationToken,
) {
    runtime.block_on(async {
        loop {
            let connection = tokio::select! {
                connection = assigned.recv() => connection,
                () = idle.cancelled() => return,
            };
            let Some((stream, client)) = connection else { return };
            let counted = Counted(count.clone());
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => {
                    let serve = session::serve(node.clone(), stream, client);
                    tasks.spawn("connection", async move {
                        let _counted = counted;
                        serve.await;
                    });
                }
                Err(error) => {
                    node.services.logger.error(format_args!("client({}) - {error}", client.remote));
                }
            }
        }
    });
}
