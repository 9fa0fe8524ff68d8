//! The daemon as a whole: start, run, stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use nsq_daemon::{http, log::Logger, tasks::Tasks};
use tokio::net::TcpListener;

use crate::{
    chores::queue::Queue,
    http::{router, starting},
    lookup::Lookup,
    node::{Node, OpenError},
    options::{Options, TlsRequired},
    session::tcp,
    session::workers::Workers,
    statsd, version_line,
    world::World,
};

/// How long connections may take to end when nsqd stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long an HTTP client may take to send the rest of its request then.
const HTTP_DRAIN: Duration = Duration::from_secs(1);
/// Threads that write journals.
const KEEPERS: usize = 2;
/// Threads that flush files: topics share what a disk can do at once.
const SYNCERS: usize = 16;
/// Threads that delete, compact and retry.
const TIDIERS: usize = 2;

/// Why nsqd did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("failed to instantiate nsqd - listen ({address}) failed - {source}")]
    Listen {
        /// The address.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// Opening the data folder panicked.
    #[error("failed to instantiate nsqd - {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The options ask for protection that is not built yet.
    #[error("failed to instantiate nsqd - {0} is not available yet")]
    Unbuilt(&'static str),
    /// A thread cannot be started.
    #[error("failed to instantiate nsqd - start thread - {0}")]
    Thread(#[source] io::Error),
}

/// Why nsqd ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener broke.
    #[error("listener failed - {0}")]
    Listener(#[from] io::Error),
    /// The last writes to the data folder failed.
    #[error("failed to close - {0}")]
    Close(#[from] nsq_log::Error),
    /// Closing the data folder panicked.
    #[error("failed to close - {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

/// An nsqd that listens.
pub struct Nsqd {
    node: Arc<Node>,
    tcp: TcpListener,
    tcp_address: SocketAddr,
    http: Option<(TcpListener, SocketAddr)>,
    chores: Vec<Chores>,
    tasks: Tasks,
    workers: Workers,
}

impl Nsqd {
    /// Locks the data folder, opens the ports and then recovers the topics; meanwhile HTTP requests are answered that
    /// nsqd is starting. No client is served before [`Nsqd::run`].
    ///
    /// # Errors
    /// When the data folder or an address cannot be used; nothing is left running then.
    pub async fn start(options: Options, logger: Logger) -> Result<Self, StartError> {
        Self::start_in(World::default(), options, logger).await
    }

    /// As [`Nsqd::start`], on a machine with the given disk and clocks.
    ///
    /// # Errors
    /// As [`Nsqd::start`].
    pub async fn start_in(
        world: World,
        options: Options,
        logger: Logger,
    ) -> Result<Self, StartError> {
        refuse_unbuilt(&options)?;
        let lock = world.disk.lock(&options.data_path).map_err(OpenError::from)?;
        logger.info(format_args!("{}", version_line()));
        logger.info(format_args!("ID: {}", options.node_id));
        let (tcp, tcp_address) = listen(&options.tcp_address).await?;
        let http = match options.http_address.as_str() {
            "" => None,
            address => Some(listen(address).await?),
        };
        let opening = tokio::task::spawn_blocking({
            let logger = logger.clone();
            move || Node::open(world, lock, options, logger)
        });
        let node = match &http {
            Some((listener, _)) => starting::serve_while(listener, &logger, opening).await,
            None => opening.await,
        };
        let node = node.map_err(StartError::Panicked)??;
        node.listens_on(tcp_address.port(), http.as_ref().map_or(0, |(_, address)| address.port()));
        let chores = start_chores(&node).map_err(StartError::Thread)?;
        let tasks = Tasks::new();
        let workers = Workers::start(&node, &tasks).map_err(StartError::Thread)?;
        let path = node.metadata.path().display();
        logger.info(format_args!("NSQ: persisting topic/channel metadata to {path}"));
        node.write_metadata();
        node.watch_clock();
        Ok(Self { node, tcp, tcp_address, http, chores, tasks, workers })
    }

    /// The address clients connect to.
    pub fn tcp_address(&self) -> SocketAddr {
        self.tcp_address
    }

    /// The address of the HTTP API, unless it is switched off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` resolves, then stops in order: no new connections, no connections, everything
    /// written down.
    ///
    /// # Errors
    /// When a listener broke or the last writes failed; nsqd has stopped all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { node, tcp, tcp_address, http, chores, tasks, workers } = self;
        let token = tasks.shutdown_token();
        let services = node.services.clone();
        spawn_vital(&tasks, "deadlines", async move {
            services.deadlines.run(&services.clock).await;
        });
        let http_port = http.as_ref().map(|(_, address)| address.port());
        let lookup = Arc::new(Lookup::new(node.services.options.lookupd_tcp_addresses.clone()));
        let (announcing, announced) = (lookup.clone(), node.clone());
        spawn_vital(&tasks, "lookup", async move { announcing.run(&announced).await });
        tasks.spawn_vital("statsd", statsd::run(node.clone(), token.clone()));
        let serve_http = async {
            let Some((listener, _)) = http else {
                token.cancelled().await;
                return Ok(());
            };
            let router =
                router(node.clone(), lookup, tcp_address.port(), http_port.unwrap_or_default());
            let serving =
                http::serve(listener, router, node.services.logger.clone(), token.clone());
            let too_late = async {
                token.cancelled().await;
                tokio::time::sleep(HTTP_DRAIN).await;
            };
            tokio::select! {
                served = serving => served,
                () = too_late => Ok(()),
            }
        };
        let stop = async {
            tokio::select! {
                () = shutdown => {}
                () = token.cancelled() => {}
            }
            node.stop();
            token.cancel();
        };
        let accept = async {
            let accepted = tcp::accept(node.clone(), tcp, &workers, token.clone()).await;
            // A broken listener ends the daemon.
            token.cancel();
            accepted
        };
        let (accepted, served, ()) = tokio::join!(accept, serve_http, stop);
        // Connections that were accepted while the others were being closed.
        node.stop();
        if let Err(unclean) = tasks.drain(DRAIN).await {
            node.services.logger.warn(format_args!("tasks did not end cleanly: {unclean:?}"));
        }
        let closed = tokio::task::spawn_blocking(move || {
            workers.stop();
            close(&node, chores)
        })
        .await;
        let closed = closed.map_err(RunError::Panicked)?;
        accepted?;
        served?;
        Ok(closed?)
    }
}

/// Refuses to serve in the clear when protection is asked for.
fn refuse_unbuilt(options: &Options) -> Result<(), StartError> {
    let tls = &options.tls;
    if !tls.cert.is_empty() || !tls.client_auth_policy.is_empty() || tls.required != TlsRequired::No
    {
        return Err(StartError::Unbuilt("TLS"));
    }
    if !options.auth_http_addresses.is_empty() {
        return Err(StartError::Unbuilt("AUTH"));
    }
    Ok(())
}

/// Spawns a task that nsqd cannot do without, and that is dropped when nsqd is asked to stop.
fn spawn_vital(tasks: &Tasks, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.shutdown_token();
    tasks.spawn_vital(name, async move {
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
}

/// A queue of background work and the threads that serve it.
struct Chores {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Chores {
    fn start(queue: &Arc<Queue>, name: &str, count: usize) -> io::Result<Self> {
        Ok(Self { queue: queue.clone(), threads: queue.serve(name, count)? })
    }

    /// Waits until everything that was asked for is done.
    fn stop(self, logger: &Logger) {
        self.queue.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                logger.error(format_args!("a background thread panicked"));
            }
        }
    }
}

/// Starts the background work, in the order in which it is to be stopped: the keeper asks the tidier for more.
fn start_chores(node: &Node) -> io::Result<Vec<Chores>> {
    let services = &node.services;
    Ok(vec![
        Chores::start(&services.keeper, "nsqd-journal", KEEPERS)?,
        Chores::start(&services.syncer, "nsqd-sync", SYNCERS)?,
        Chores::start(&services.tidier, "nsqd-tidy", TIDIERS)?,
    ])
}

fn close(node: &Node, chores: Vec<Chores>) -> Result<(), nsq_log::Error> {
    for chores in chores {
        chores.stop(&node.services.logger);
    }
    let closed = node.close();
    node.services.logger.info(format_args!("NSQ: bye"));
    closed
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address: address.to_owned(), source };
    // An address without a host means all of them.
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let listener = TcpListener::bind(&full).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}
