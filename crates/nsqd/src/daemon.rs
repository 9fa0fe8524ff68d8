//! The daemon as a whole: start, run, stop.

mod error;
mod listeners;
mod remains;
mod running;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use nsq_daemon::{
    http::Server,
    log::Logger,
    net::{Admissions, AnyListener, ClientLimit, Listener},
    service::Control,
    systemd::Inherited,
    tasks::Tasks,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::{RunError, StartError};
use self::{
    listeners::Listeners,
    remains::{Chores, Remains},
    running::Running,
};
use crate::{
    auth,
    http::{router, servers, starting},
    lookup::Lookup,
    meters::Limit,
    node::{Node, OpenError},
    options::{Descriptors, Options},
    session::tcp,
    session::workers::Workers,
    statsd, tls, version_line,
    world::World,
};

/// How long an HTTP client may take to send the rest of its request then.
const HTTP_DRAIN: Duration = Duration::from_secs(1);
/// The time between two looks at the files of the certificate.
const TLS_LOOK: Duration = Duration::from_secs(2);

/// An nsqd that listens.
pub struct Nsqd {
    node: Arc<Node>,
    listeners: Listeners,
    admissions: Admissions,
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
        sockets: Inherited,
        mut options: Options,
        logger: Logger,
    ) -> Result<Self, StartError> {
        let lock = world.disk.lock(&options.data_path).map_err(OpenError::from)?;
        let tls = tls::load(&mut options.tls, &logger)?;
        let auth = auth::load(&options, &logger)?;
        logger.info(format_args!("{}", version_line()));
        logger.info(format_args!("ID: {}", options.node_id));
        let listeners = Listeners::open(sockets, &options, tls.as_ref(), &logger).await?;
        let admissions = admissions(&options);
        let opening = tokio::task::spawn_blocking({
            let logger = logger.clone();
            move || Node::open(world, lock, options, tls, auth, logger)
        });
        let https = listeners.https.as_ref().map(|https| &https.listener);
        let http = listeners.http.as_ref();
        let node = starting::serve_while(http, https, &admissions.http, &logger, opening).await;
        let node = node.map_err(StartError::Panicked)??;
        let (tcp_port, http_port) = listeners.ports();
        node.listens_on(tcp_port, http_port);
        warn_of_unknown_ports(&node);
        let chores = Chores::start_all(&node).map_err(StartError::Thread)?;
        let tasks = Tasks::new();
        let workers = Workers::start(&node, &tasks).map_err(StartError::Thread)?;
        let path = node.metadata.path().display();
        logger.info(format_args!("NSQ: persisting topic/channel metadata to {path}"));
        node.write_metadata();
        node.watch_clock();
        let admissions = counted(admissions, &node);
        Ok(Self { node, listeners, admissions, chores, tasks, workers })
    }

    /// The address clients connect to, unless it is a unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.listeners.tcp.socket_addr()
    }

    /// The address of the HTTP API, unless it is a unix socket or switched off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.listeners.http.as_ref().and_then(AnyListener::socket_addr)
    }

    /// The address of the HTTP API over TLS, if there is one.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.listeners.https.as_ref().map(|https| https.address)
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
        let Self { node, listeners, admissions, chores, tasks, workers } = self;
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
        let (tcp_port, http_port) = listeners.shown_ports();
        let Listeners { tcp, http, https } = listeners;
        let (https, https_port) =
            https.map_or((None, 0), |https| (Some(https.listener), https.address.port()));
        let router = router(node.clone(), lookup, tcp_port, http_port, &tasks);
        let (in_clear, over_tls) = servers(&node, router, https_port);
        let admit = |server: Server| server.with_admission(admissions.http.clone());
        let (in_clear, over_tls) = (admit(in_clear), admit(over_tls));
        let serve_http = serve(in_clear, http, &token);
        let serve_https = serve(over_tls, https, &token);
        let stop = async {
            tokio::select! {
                () = shutdown => {}
                () = token.cancelled() => {}
            }
            node.stop();
            token.cancel();
            Instant::now()
        };
        let accept = async {
            let accepted =
                tcp::accept(node.clone(), tcp, &admissions.tcp, &workers, token.clone()).await;
            // A broken listener ends the daemon.
            token.cancel();
            accepted
        };
        let (accepted, http_served, https_served, asked) =
            tokio::join!(accept, serve_http, serve_https, stop);
        let stopped = Remains { node, tasks, workers, chores }.stop(asked).await;
        accepted?;
        http_served?;
        https_served?;
        stopped
    }
}

/// The admission of clients, by the options and the limit on open files.
fn admissions(options: &Options) -> Admissions {
    let clients = Descriptors::of_process(&options.shares).clients;
    Admissions::new(clients, options.shares.connections_max, options.shares.http_connections_max)
}

/// Has clients that are refused counted by the limit that they have reached.
fn counted(admissions: Admissions, node: &Arc<Node>) -> Admissions {
    let services = node.services.clone();
    admissions.on_refusal(move |limit| {
        services.meters.reached(match limit {
            ClientLimit::Connections => Limit::Connections,
            ClientLimit::HttpConnections => Limit::HttpConnections,
            ClientLimit::OpenFiles => Limit::Descriptors,
        });
    })
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
    let served = tokio::select! {
        served = server.serve(listener, token.clone()) => served,
        () = too_late => Ok(()),
    };
    // A broken listener ends the daemon.
    token.cancel();
    served
}
