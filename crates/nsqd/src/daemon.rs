//! The daemon as a whole: start, run, stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use nsq_daemon::{
    http::Server,
    log::Logger,
    net::{AnyListener, ListenError, Listener},
    service::Control,
    systemd::{Inherited, Role},
    tasks::Tasks,
    tls::{HttpsListener, ServerTls},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    chores::queue::Queue,
    http::{router, servers, starting},
    lookup::Lookup,
    node::{Node, OpenError},
    options::Options,
    session::tcp,
    session::workers::Workers,
    statsd,
    tls::{self, TlsStartError},
    version_line,
    world::World,
};

/// How long connections may take to end when nsqd stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long an HTTP client may take to send the rest of its request then.
const HTTP_DRAIN: Duration = Duration::from_secs(1);
/// The time between two looks at the files of the certificate.
const TLS_LOOK: Duration = Duration::from_secs(2);
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
    #[error("failed to instantiate nsqd - {0}")]
    Listen(#[from] ListenError),
    /// Opening the data folder panicked.
    #[error("failed to instantiate nsqd - {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The TLS that was asked for is not possible.
    #[error("failed to instantiate nsqd - {0}")]
    Tls(#[from] TlsStartError),
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
    tcp: AnyListener,
    http: Option<AnyListener>,
    https: Option<(HttpsListener, SocketAddr)>,
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
        Self::start_on(Inherited::default(), options, logger).await
    }

    /// As [`Nsqd::start`], on sockets that the service manager has opened. They take the place of addresses.
    ///
    /// # Errors
    /// As [`Nsqd::start`], and when a socket cannot be listened on.
    pub async fn start_on(
        sockets: Inherited,
        options: Options,
        logger: Logger,
    ) -> Result<Self, StartError> {
        Self::start_with(World::default(), sockets, options, logger).await
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
        Self::start_with(world, Inherited::default(), options, logger).await
    }

    async fn start_with(
        world: World,
        mut sockets: Inherited,
        mut options: Options,
        logger: Logger,
    ) -> Result<Self, StartError> {
        refuse_unbuilt(&options)?;
        let lock = world.disk.lock(&options.data_path).map_err(OpenError::from)?;
        let tls = tls::load(&mut options.tls, &logger)?;
        logger.info(format_args!("{}", version_line()));
        logger.info(format_args!("ID: {}", options.node_id));
        let tcp = sockets.listen(Role::Tcp, &options.tcp_address).await?;
        let http = match options.http_address.as_str() {
            "" if !sockets.has(Role::Http) => None,
            address => Some(sockets.listen(Role::Http, address).await?),
        };
        let https = match (&tls, options.https_address.as_str()) {
            (Some(_), "") if !sockets.has(Role::Https) => None,
            (None, _) => None,
            (Some(tls), address) => {
                let listener = sockets.listen_tcp(Role::Https, address).await?;
                let address = listener
                    .local_addr()
                    .map_err(|source| ListenError { address: address.to_owned(), source })?;
                Some((HttpsListener::new(listener, tls.clone()), address))
            }
        };
        sockets.close(&logger);
        let opening = tokio::task::spawn_blocking({
            let logger = logger.clone();
            move || Node::open(world, lock, options, tls, logger)
        });
        let node = match &http {
            Some(listener) => starting::serve_while(listener, &logger, opening).await,
            None => opening.await,
        };
        let node = node.map_err(StartError::Panicked)??;
        let port =
            |listener: &AnyListener| listener.socket_addr().map_or(0, |address| address.port());
        node.listens_on(port(&tcp), http.as_ref().map_or(0, port));
        warn_of_unknown_ports(&node);
        let chores = start_chores(&node).map_err(StartError::Thread)?;
        let tasks = Tasks::new();
        let workers = Workers::start(&node, &tasks).map_err(StartError::Thread)?;
        let path = node.metadata.path().display();
        logger.info(format_args!("NSQ: persisting topic/channel metadata to {path}"));
        node.write_metadata();
        node.watch_clock();
        Ok(Self { node, tcp, http, https, chores, tasks, workers })
    }

    /// The address clients connect to, unless it is a unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.socket_addr()
    }

    /// The address of the HTTP API, unless it is a unix socket or switched off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(AnyListener::socket_addr)
    }

    /// The address of the HTTP API over TLS, if there is one.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|(_, address)| *address)
    }

    /// The means to act on a running nsqd.
    pub fn control(&self) -> impl Control + use<> {
        let services = &self.node.services;
        Running {
            logger: services.logger.clone(),
            tls: services.tls.clone(),
            workers: self.workers.runtimes(),
        }
    }

    /// Serves until `shutdown` resolves, then stops in order: no new connections, no connections, everything
    /// written down.
    ///
    /// # Errors
    /// When a listener broke or the last writes failed; nsqd has stopped all the same.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { node, tcp, http, https, chores, tasks, workers } = self;
        let token = tasks.shutdown_token();
        let services = node.services.clone();
        spawn_vital(&tasks, "deadlines", async move {
            services.deadlines.run(&services.clock).await;
        });
        let lookup = Arc::new(Lookup::new(node.services.options.lookupd_tcp_addresses.clone()));
        let (announcing, announced) = (lookup.clone(), node.clone());
        spawn_vital(&tasks, "lookup", async move { announcing.run(&announced).await });
        if let Some(tls) = node.services.tls.clone() {
            let logger = node.services.logger.clone();
            spawn_vital(&tasks, "tls", async move { tls.watch(TLS_LOOK, &logger).await });
        }
        tasks.spawn_vital("statsd", statsd::run(node.clone(), token.clone()));
        let (tcp_port, http_port) = (shown_port(&tcp), http.as_ref().map_or(0, shown_port));
        let (https, https_port) =
            https.map_or((None, 0), |(listener, address)| (Some(listener), address.port()));
        let router = router(node.clone(), lookup, tcp_port, http_port, &tasks);
        let (in_clear, over_tls) = servers(&node, router, https_port);
        let serve_http = serve(in_clear, http, &token);
        let serve_https = serve(over_tls, https, &token);
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
        let (accepted, http_served, https_served, ()) =
            tokio::join!(accept, serve_http, serve_https, stop);
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
        http_served?;
        https_served?;
        Ok(closed?)
    }
}

/// An nsqd that runs.
struct Running {
    logger: Logger,
    tls: Option<ServerTls>,
    workers: Vec<Handle>,
}

impl Control for Running {
    async fn reload(&self) {
        let Some(tls) = self.tls.clone() else {
            return self.logger.info(format_args!("SIGHUP: there are no files to read again"));
        };
        let logger = self.logger.clone();
        // A panic is on stderr, and the certificate in use stays.
        let _ = tokio::task::spawn_blocking(move || tls.reload(&logger)).await;
    }

    async fn progress(&self) {
        for worker in &self.workers {
            // One that has stopped is no obstacle.
            let _ = worker.spawn(std::future::ready(())).await;
        }
    }
}

/// Refuses to serve in the clear when protection is asked for.
fn refuse_unbuilt(options: &Options) -> Result<(), StartError> {
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

/// Warns when nsqlookupds are to be told of this nsqd and would not know its ports.
fn warn_of_unknown_ports(node: &Node) {
    let (tcp, http) = node.broadcast_ports();
    if node.services.options.lookupd_tcp_addresses.is_empty() {
        return;
    }
    for (port, flag) in [(tcp, "--broadcast-tcp-port"), (http, "--broadcast-http-port")] {
        if port == 0 {
            node.services.logger.warn(format_args!(
                "nsqlookupd refuses an nsqd without ports; set {flag} to announce this one"
            ));
        }
    }
}

/// The port that `/info` shows: -1 for a unix socket, as in NSQ.
fn shown_port(listener: &AnyListener) -> i32 {
    listener.socket_addr().map_or(-1, |address| address.port().into())
}

/// Serves HTTP until `token` is cancelled, and a little longer for the requests that are then being served.
async fn serve(
    server: Server,
    listener: Option<impl Listener>,
    token: &CancellationToken,
) -> io::Result<()> {
    let Some(listener) = listener else {
        token.cancelled().await;
        return Ok(());
    };
    let too_late = async {
        token.cancelled().await;
        tokio::time::sleep(HTTP_DRAIN).await;
    };
    tokio::select! {
        served = server.serve(listener, token.clone()) => served,
        () = too_late => Ok(()),
    }
}
