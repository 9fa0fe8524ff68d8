//! The upgrades of a connection: TLS, then compression.
//!
//! The answer to IDENTIFY goes out as before, the `OK` of each upgrade within it. Data that the client has sent behind
//! IDENTIFY belongs to the first upgrade.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use nsq_compression::Codec;
use nsq_protocol::{Code, OK};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{
    FAREWELL, Session,
    failure::failed,
    tls_info::tls_info,
    transport::{Transport, Wire},
};
use crate::topic::client::{Compression, TlsInfo};

/// The time that a TLS handshake may take, and the time for a client to accept what precedes an upgrade.
const UPGRADE_TIME_MAX: Duration = Duration::from_secs(5);

/// The first byte of a TLS handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// The upgrades that were promised to a client.
pub(super) struct Upgrade {
    tls: Option<Arc<ServerConfig>>,
    compression: Option<Compression>,
    /// The length of the IDENTIFY that asked for them.
    pub(super) command_bytes: usize,
}

impl Upgrade {
    /// Returns `None` if there is nothing to upgrade.
    pub(super) fn new(
        tls: Option<Arc<ServerConfig>>,
        compression: Option<Compression>,
    ) -> Option<Self> {
        (tls.is_some() || compression.is_some()).then_some(Self {
            tls,
            compression,
            command_bytes: 0,
        })
    }
}

impl Session {
    /// Upgrades the connection; returns `None` when it is over instead.
    pub(super) async fn upgrade(
        &mut self,
        transport: Transport,
        upgrade: Upgrade,
    ) -> Option<Transport> {
        let client = self.client.clone();
        tokio::select! {
            biased;
            () = client.closed() => None,
            // In a box: every session has room for its largest future, and this one is needed once.
            upgraded = Box::pin(self.add_layers(transport, upgrade)) => upgraded,
        }
    }

    async fn add_layers(
        &mut self,
        mut transport: Transport,
        upgrade: Upgrade,
    ) -> Option<Transport> {
        self.finish_layer(&mut transport).await?;
        if let Some(config) = upgrade.tls {
            transport = self.start_tls(transport, config).await?;
            self.answer(OK);
            self.finish_layer(&mut transport).await?;
        }
        if let Some(compression) = upgrade.compression {
            transport = self.start_compression(transport, compression);
            self.answer(OK);
        }
        // A slow handshake does not count as silence.
        self.liveness.heard(Instant::now());
        Some(transport)
    }

    /// Sends everything that belongs before an upgrade.
    async fn finish_layer(&mut self, transport: &mut Transport) -> Option<()> {
        if self.release_answers().await.is_err() {
            transport.finish(&mut self.output, FAREWELL).await;
            return None;
        }
        let written = timeout(UPGRADE_TIME_MAX, transport.write_all(&mut self.output)).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => Some(()),
            Err(error) => {
                let remote = self.client.remote;
                let line = format_args!("client({remote}) - {error}");
                self.node.services.clients_log.error("failed connections", line);
                None
            }
        }
    }

    /// Encrypts from now on. A failure is told in the clear.
    async fn start_tls(
        &mut self,
        transport: Transport,
        config: Arc<ServerConfig>,
    ) -> Option<Transport> {
        self.log_upgrade("TLS");
        // It is promised to connections without layers only.
        let Transport::Plain(socket) = transport else { return None };
        let early = std::mem::take(&mut self.input.buffer);
        match handshake(Wire::limited(socket, early, UPGRADE_TIME_MAX), config).await {
            Ok(stream) => {
                let tls = Arc::new(tls_info(stream.get_ref().1));
                self.log_encrypted(&tls);
                self.client.describe(|about| about.upgrades.tls = Some(tls));
                self.enter_init();
                Some(Transport::encrypted(stream))
            }
            Err((error, wire)) => {
                // The connection ends in any case.
                let _ = self.refuse(&failed(Code::IdentifyFailed, error));
                let mut in_clear = Transport::Plain(wire.into_socket());
                in_clear.finish(&mut self.output, FAREWELL).await;
                None
            }
        }
    }

    /// Compresses from now on.
    fn start_compression(&mut self, transport: Transport, compression: Compression) -> Transport {
        let codec = match compression {
            Compression::Snappy => {
                self.log_upgrade("snappy");
                Codec::snappy()
            }
            Compression::Deflate(level) => {
                self.log_upgrade(format_args!("deflate (level {level})"));
                Codec::deflate(level)
            }
        };
        self.client.describe(|about| about.upgrades.compression = Some(compression));
        transport.compressed(codec, std::mem::take(&mut self.input.buffer))
    }

    fn log_encrypted(&self, tls: &TlsInfo) {
        let TlsInfo { version, common_name, .. } = tls;
        let client = match common_name.as_str() {
            "" => String::new(),
            name => format!(", client certificate of {name:?}"),
        };
        let remote = self.client.remote;
        let line = format_args!("PROTOCOL(V2): [{remote}] encrypted with {version}{client}");
        self.node.services.clients_log.info("encrypted connections", line);
    }

    fn log_upgrade(&self, to: impl Display) {
        let remote = self.client.remote;
        let line = format_args!("PROTOCOL(V2): [{remote}] upgrading connection to {to}");
        self.node.services.clients_log.info("upgrades", line);
    }
}

/// The server's side of a TLS handshake. A failure gives back the socket.
async fn handshake(
    mut wire: Wire,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<Wire>, (io::Error, Wire)> {
    match wire.first_byte().await {
        Ok(HANDSHAKE_RECORD) => {}
        // A client that does not speak TLS would not understand an alert.
        Ok(_) => {
            let text = "first record does not look like a TLS handshake";
            return Err((io::Error::new(io::ErrorKind::InvalidData, text), wire));
        }
        Err(error) => return Err((error, wire)),
    }
    let mut stream = TlsAcceptor::from(config).accept(wire).into_fallible().await?;
    stream.get_mut().0.unlimit();
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use nsq_daemon::net::Socket;
    use rcgen::generate_simple_self_signed;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };
    use tokio_rustls::rustls::{
        crypto::ring,
        pki_types::PrivatePkcs8KeyDer,
        version::{TLS12, TLS13},
    };

    use super::*;
    use crate::session::output::Output;

    fn config() -> Arc<ServerConfig> {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS12, &TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into());
        config.unwrap().into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_has_five_seconds_and_gives_back_its_socket() {
        // Before the first byte, within a record, and after it.
        for sent in [&b""[..], b"\x16\x03", b"\x16\x03\x01\x00\xff"] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(sent).await.unwrap();
            let start = Instant::now();
            let wire = Wire::limited(Socket::Unix(near), BytesMut::new(), UPGRADE_TIME_MAX);
            let Err((error, wire)) = handshake(wire, config()).await else { panic!("{sent:?}") };
            assert_eq!(error.to_string(), "i/o timeout");
            assert_eq!(start.elapsed().as_secs(), 5);
            let mut output = Output::default();
            output.frames(b"sorry");
            Transport::Plain(wire.into_socket()).write_all(&mut output).await.unwrap();
            let mut received = [0; 5];
            far.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"sorry");
        }
    }
}
