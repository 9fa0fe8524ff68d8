//! The threads that serve connections. Each has a runtime of its own, and a connection stays on its thread.
//!
//! A runtime that moves tasks between threads wakes another thread for nearly every small command, which costs
//! more than the command. Connections of a broker are many and alike, so each is simply given to the thread with
//! the fewest.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use nsq_daemon::{
    net::{Permit, Socket, StdSocket},
    tasks::Tasks,
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{node::Node, session, topic::client::Client};

/// The worker threads of one nsqd.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    /// Cancelled when the last connection has ended.
    idle: CancellationToken,
}

/// A connection on its way to its thread.
type Assigned = (StdSocket, Arc<Client>, Permit);

struct Worker {
    connections: mpsc::UnboundedSender<Assigned>,
    count: Arc<AtomicUsize>,
    runtime: Handle,
    thread: JoinHandle<()>,
}

/// Takes a connection off its worker's count when its task ends, even by a panic.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts one thread per core. The tasks of their connections are spawned in `tasks`.
    pub(crate) fn start(node: &Arc<Node>, tasks: &Tasks) -> io::Result<Self> {
        let idle = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let start =
            |number: usize| Worker::start(number, node.clone(), tasks.clone(), idle.clone());
        Ok(Self { workers: (0..count).map(start).collect::<io::Result<_>>()?, idle })
    }

    /// Gives a connection to the worker with the fewest.
    pub(crate) fn assign(&self, socket: StdSocket, client: Arc<Client>, permit: Permit) {
        let Some(worker) =
            self.workers.iter().min_by_key(|worker| worker.count.load(Ordering::Relaxed))
        else {
            return;
        };
        worker.count.fetch_add(1, Ordering::Relaxed);
        // A worker ends only with its nsqd, which closes all connections.
        let _ = worker.connections.send((socket, client, permit));
    }

    /// The runtimes of the threads.
    pub(crate) fn runtimes(&self) -> Vec<Handle> {
        self.workers.iter().map(|worker| worker.runtime.clone()).collect()
    }

    /// Ends the threads once no connection is left. Blocks.
    pub(crate) fn stop(self) {
        self.idle.cancel();
        for worker in self.workers {
            drop(worker.connections);
            // A panic of a task has been reported by `Tasks`.
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
        let handle = runtime.handle().clone();
        let (connections, assigned) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let thread = thread::Builder::new()
            .name(format!("nsqd-{number}"))
            .spawn(move || serve(&runtime, &node, &tasks, assigned, &counted, &idle))?;
        Ok(Self { connections, count, runtime: handle, thread })
    }
}

fn serve(
    runtime: &Runtime,
    node: &Arc<Node>,
    tasks: &Tasks,
    mut assigned: mpsc::UnboundedReceiver<Assigned>,
    count: &Arc<AtomicUsize>,
    idle: &CancellationToken,
) {
    runtime.block_on(async {
        loop {
            let connection = tokio::select! {
                connection = assigned.recv() => connection,
                () = idle.cancelled() => return,
            };
            let Some((socket, client, permit)) = connection else { return };
            let counted = Counted(count.clone());
            match Socket::from_std(socket) {
                Ok(socket) => {
                    let serve = session::serve(node.clone(), socket, client);
                    tasks.spawn("connection", async move {
                        // Given back after the socket is closed.
                        let _held = (counted, permit);
                        serve.await;
                    });
                }
                Err(error) => {
                    let line = format_args!("client({}) - {error}", client.remote);
                    node.services.clients_log.error("failed connections", line);
                }
            }
        }
    });
}
