//! The daemon as a whole: start, run, stop.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nsq_daemon::{http, log::Logger, tasks::Tasks};
use tokio::net::TcpListener;

use crate::{
    http::router, lookup::Lookup, node::Node, node::OpenError, options::Options, session::tcp,
    session::workers::Workers, version_line,
};

/// How long connections may take to end when nsqd stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long an HTTP client may take to send the rest of its request then.
const HTTP_DRAIN: Duration = Duration::from_secs(1);

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
        /// What the operating system says.
        source: io::Error,
    },
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
}

/// An nsqd that listens.
pub struct Nsqd {
    node: Arc<Node>,
    tcp: TcpListener,
    tcp_address: SocketAddr,
    http: Option<(TcpListener, SocketAddr)>,
    threads: Vec<JoinHandle<()>>,
    tasks: Tasks,
    workers: Workers,
}

impl Nsqd {
    /// Opens the data folder and the ports. Nobody is served before [`Nsqd::run`].
    ///
    /// # Errors
    /// When the data folder or an address cannot be used; nothing is left running then.
    pub async fn start(options: Options, logger: Logger) -> Result<Self, StartError> {
        let (tcp_wanted, http_wanted) = (options.tcp_address.clone(), options.http_address.clone());
        let id = options.node_id;
        let node = Node::open(options, logger)?;
        node.services.logger.info(format_args!("{}", version_line()));
        node.services.logger.info(format_args!("ID: {id}"));
        let listening = async {
            let tcp = listen(&tcp_wanted).await?;
            let http = match http_wanted.as_str() {
                "" => None,
                address => Some(listen(address).await?),
            };
            Ok::<_, StartError>((tcp, http))
        };
        let ((tcp, tcp_address), http) = listening.await.inspect_err(|_| {
            // Nothing has happened since the folder was opened: the next start need not take it for a crash.
            // If it cannot be closed, that start will find out.
            let _ = node.close();
        })?;
        node.listens_on(tcp_address.port(), http.as_ref().map_or(0, |(_, address)| address.port()));
        let threads = start_threads(&node).map_err(StartError::Thread)?;
        let tasks = Tasks::new();
        let workers = Workers::start(&node, &tasks).map_err(StartError::Thread)?;
        let path = node.metadata.path().display();
        node.services.logger.info(format_args!("NSQ: persisting topic/channel metadata to {path}"));
        node.write_metadata();
        Ok(Self { node, tcp, tcp_address, http, threads, tasks, workers })
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
        let Self { node, tcp, tcp_address, http, threads, tasks, workers } = self;
        let token = tasks.shutdown_token();
        let (clock, services) = (node.services.clock, node.services.clone());
        let deadlines_token = token.clone();
        tasks.spawn_vital("deadlines", async move {
            tokio::select! {
                () = services.deadlines.run(clock) => {}
                () = deadlines_token.cancelled() => {}
            }
        });
        let http_port = http.as_ref().map(|(_, address)| address.port());
        let lookup = Arc::new(Lookup::new(node.services.options.lookupd_tcp_addresses.clone()));
        let (announcing, announced, announcing_token) =
            (lookup.clone(), node.clone(), token.clone());
        tasks.spawn_vital("lookup", async move {
            tokio::select! {
                () = announcing.run(&announced) => {}
                () = announcing_token.cancelled() => {}
            }
        });
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
            close(&node, threads)
        })
        .await;
        let closed = closed.map_err(|error| RunError::Listener(io::Error::other(error)))?;
        accepted?;
        served?;
        Ok(closed?)
    }
}

fn start_threads(node: &Arc<Node>) -> io::Result<Vec<JoinHandle<()>>> {
    let (keeper, syncer, mender, metadata) =
        (node.clone(), node.clone(), node.clone(), node.clone());
    let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(run)
    };
    Ok(vec![
        start("nsqd-journal", Box::new(move || keeper.services.keeper.run()))?,
        start(
            "nsqd-sync",
            Box::new(move || {
                let services = &syncer.services;
                services.syncer.run(services.options.sync_timeout);
            }),
        )?,
        start("nsqd-mender", Box::new(move || mender.services.mender.run(|| mender.mend())))?,
        start(
            "nsqd-metadata",
            Box::new(move || metadata.metadata.run(|| metadata.write_metadata())),
        )?,
    ])
}

fn close(node: &Node, threads: Vec<JoinHandle<()>>) -> Result<(), nsq_log::Error> {
    node.metadata.stop();
    node.services.keeper.stop();
    node.services.syncer.stop();
    node.services.mender.stop();
    for thread in threads {
        if thread.join().is_err() {
            node.services.logger.error(format_args!("a background thread panicked"));
        }
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
