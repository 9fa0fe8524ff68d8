//! The daemon: start, run, stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use nsq_daemon::{http, log::Logger, tasks::Tasks};
use tokio::net::TcpListener;

use crate::{directory::Directory, http::router, options::Options, tcp, version_line};

/// How long connections may take to end when nsqlookupd stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Why nsqlookupd did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("failed to instantiate nsqlookupd - listen ({address}) failed - {source}")]
    Listen {
        /// The address.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
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
    tcp: TcpListener,
    tcp_address: SocketAddr,
    http: TcpListener,
    http_address: SocketAddr,
}

impl Nsqlookupd {
    /// Opens the ports. Clients are served by [`Nsqlookupd::run`].
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(options: Options, logger: Logger) -> Result<Self, StartError> {
        logger.info(format_args!("{}", version_line()));
        let (tcp, tcp_address) = listen(&options.tcp_address).await?;
        let (http, http_address) = listen(&options.http_address).await?;
        let directory = Arc::new(Directory::new(options, logger, tcp_address, http_address));
        Ok(Self { directory, tcp, tcp_address, http, http_address })
    }

    /// The address nsqd announces itself to.
    pub fn tcp_address(&self) -> SocketAddr {
        self.tcp_address
    }

    /// The address of the HTTP API.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Serves until `shutdown` resolves, then closes all connections.
    ///
    /// # Errors
    /// When a listener failed; nsqlookupd has stopped then too.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { directory, tcp, http, .. } = self;
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
            let accepted = tcp::accept(&directory, tcp, &tasks).await;
            // A failed listener stops the daemon, here and below.
            token.cancel();
            accepted
        };
        let serve_http = async {
            let router = router(&directory);
            let serving = http::serve(http, router, directory.logger.clone(), token.clone());
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

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address: address.to_owned(), source };
    // An address without a host means all of them.
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let listener = TcpListener::bind(&full).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}
