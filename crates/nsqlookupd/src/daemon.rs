//! The daemon: start, run, stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use nsq_daemon::{
    http::Server,
    limits,
    log::Logger,
    net::{Admissions, AnyListener, ClientLimit, ListenError},
    service::Control,
    systemd::{Inherited, Role},
    tasks::Tasks,
};

use crate::{
    directory::Directory, http::router, limit::Limit, options::Options, tcp, version_line,
};

/// How long connections may take to end when nsqlookupd stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Why nsqlookupd did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("failed to instantiate nsqlookupd - {0}")]
    Listen(#[from] ListenError),
}

/// Why nsqlookupd stopped without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener failed.
    #[error("listener failed - {0}")]
    Listener(#[from] io::Error),
}

/// An nsqlookupd with open ports.
pub struct Nsqlookupd {
    directory: Arc<Directory>,
    tcp: AnyListener,
    http: AnyListener,
    admissions: Admissions,
}

impl Nsqlookupd {
    /// Opens the ports. Clients are served by [`Nsqlookupd::run`].
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(options: Options, logger: Logger) -> Result<Self, StartError> {
        Self::start_on(Inherited::default(), options, logger).await
    }

    /// As [`Nsqlookupd::start`], on sockets that the service manager has opened. They take the place of addresses.
    ///
    /// # Errors
    /// When a socket or an address cannot be listened on.
    pub async fn start_on(
        mut sockets: Inherited,
        options: Options,
        logger: Logger,
    ) -> Result<Self, StartError> {
        logger.info(format_args!("{}", version_line()));
        let tcp = sockets.listen(Role::Tcp, &options.tcp_address).await?;
        let http = sockets.listen(Role::Http, &options.http_address).await?;
        sockets.close(&logger);
        let admissions = admissions(&options);
        let directory = Arc::new(Directory::new(options, logger, port(&tcp), port(&http)));
        let admissions = counted(admissions, &directory);
        Ok(Self { directory, tcp, http, admissions })
    }

    /// The address nsqd announces itself to, unless it is a unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.socket_addr()
    }

    /// The address of the HTTP API, unless it is a unix socket.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.socket_addr()
    }

    /// The means to act on a running nsqlookupd.
    pub fn control(&self) -> impl Control + use<> {
        Reload(self.directory.logger.clone())
    }

    /// Serves until `shutdown` resolves, then closes all connections.
    ///
    /// # Errors
    /// When a listener failed; nsqlookupd has stopped then too.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { directory, tcp, http, admissions } = self;
        let tasks = Tasks::new();
        let token = tasks.shutdown_token();
        let stop = async {
            tokio::select! {
                () = shutdown => {}
                () = token.cancelled() => {}
            }
            token.cancel();
        };
        let accept = async {
            let accepted = tcp::accept(&directory, tcp, &admissions.tcp, &tasks).await;
            // A failed listener stops the daemon, here and below.
            token.cancel();
            accepted
        };
        let serve_http = async {
            let router = router(&directory, &tasks);
            let server = Server::new(router, directory.logger.clone())
                .with_admission(admissions.http.clone());
            let serving = server.serve(http, token.clone());
            let overdue = async {
                token.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            };
            let served = tokio::select! {
                served = serving => served,
                // A client that never completes its request does not delay the stop.
                () = overdue => Ok(()),
            };
            token.cancel();
            served
        };
        let (accepted, served, ()) = tokio::join!(accept, serve_http, stop);
        if let Err(unclean) = tasks.drain(DRAIN).await {
            directory.logger.warn(format_args!("connections did not end cleanly: {unclean}"));
        }
        accepted?;
        Ok(served?)
    }
}

/// The admission of clients, by the options and the limit on open files.
fn admissions(options: &Options) -> Admissions {
    let limit = limits::file_limit().unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let slots = limit.saturating_sub(limits::own_descriptors()).max(limit / 4);
    Admissions::new(slots, options.connections_max, options.http_connections_max)
}

/// Has clients that are refused counted by the limit that they have reached.
fn counted(admissions: Admissions, directory: &Arc<Directory>) -> Admissions {
    let directory = directory.clone();
    admissions.on_refusal(move |limit| {
        let limit = match limit {
            ClientLimit::Connections => Limit::Connections,
            ClientLimit::HttpConnections => Limit::HttpConnections,
            ClientLimit::OpenFiles => Limit::OpenFiles,
        };
        directory.metrics.reached.count(limit, 1);
    })
}

/// nsqlookupd has no files and no threads of its own.
struct Reload(Logger);

impl Control for Reload {
    async fn reload(&self) {
        self.0.info(format_args!("SIGHUP: there are no files to read again"));
    }

    async fn progress(&self) {}
}

/// The port that nsqd is told.
fn port(listener: &AnyListener) -> u16 {
    listener.socket_addr().map_or(0, |address| address.port())
}
