//! The listeners of an nsqd, at the addresses in its options or as the service manager has opened them.

use std::net::SocketAddr;

use nsq_daemon::{
    log::Logger,
    net::{AnyListener, ListenError},
    systemd::{Inherited, Role},
    tls::{HttpsListener, ServerTls},
};

use crate::options::Options;

/// The listeners of an nsqd.
pub(super) struct Listeners {
    pub(super) tcp: AnyListener,
    pub(super) http: Option<AnyListener>,
    pub(super) https: Option<Https>,
}

pub(super) struct Https {
    pub(super) listener: HttpsListener,
    pub(super) address: SocketAddr,
}

impl Listeners {
    pub(super) async fn open(
        mut sockets: Inherited,
        options: &Options,
        tls: Option<&ServerTls>,
        logger: &Logger,
    ) -> Result<Self, ListenError> {
        let tcp = sockets.listen(Role::Tcp, &options.tcp_address).await?;
        let http = match options.http_address.as_str() {
            "" if !sockets.has(Role::Http) => None,
            address => Some(sockets.listen(Role::Http, address).await?),
        };
        let https = match (tls, options.https_address.as_str()) {
            (None, _) => None,
            (Some(_), "") if !sockets.has(Role::Https) => None,
            (Some(tls), address) => Some(Https::open(&mut sockets, address, tls).await?),
        };
        sockets.close(logger);
        Ok(Self { tcp, http, https })
    }

    /// The TCP and HTTP ports that others connect to; 0 without a port.
    pub(super) fn ports(&self) -> (u16, u16) {
        let port =
            |listener: &AnyListener| listener.socket_addr().map_or(0, |address| address.port());
        (port(&self.tcp), self.http.as_ref().map_or(0, port))
    }

    /// The TCP and HTTP ports that `/info` shows: as in NSQ, -1 for a unix socket and 0 for none.
    pub(super) fn shown_ports(&self) -> (i32, i32) {
        let port = |listener: &AnyListener| {
            listener.socket_addr().map_or(-1, |address| address.port().into())
        };
        (port(&self.tcp), self.http.as_ref().map_or(0, port))
    }
}

impl Https {
    async fn open(
        sockets: &mut Inherited,
        address: &str,
        tls: &ServerTls,
    ) -> Result<Self, ListenError> {
        let tcp = sockets.listen_tcp(Role::Https, address).await?;
        let address = tcp
            .local_addr()
            .map_err(|source| ListenError { address: address.to_owned(), source })?;
        Ok(Self { listener: HttpsListener::new(tcp, tls.clone()), address })
    }
}
