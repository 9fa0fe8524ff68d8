//! HTTPS, with clients that speak real TLS.

mod client_auth;
mod files;
mod handshake;
mod identity;
mod reload;

use std::{path::PathBuf, sync::Arc};

use nsq_daemon::{
    http::{Request, Response, Router, Server},
    log::{Capture, Level, Logger},
    tls::{ClientAuth, HttpsListener, MinVersion, ServerTls, Settings},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    },
};
use tokio_util::sync::CancellationToken;

use self::identity::Identity;
use crate::harness::PATIENCE;

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// The files of a server, in a folder of their own.
struct Files {
    folder: TempDir,
    settings: Settings,
}

impl Files {
    /// The files of a server that is known as `localhost`.
    fn of(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            certificate_file: folder.path().join("server.pem"),
            key_file: folder.path().join("server.key"),
            client_auth: ClientAuth::NotRequested,
            root_ca_file: None,
            min_version: MinVersion::Tls12,
        };
        let files = Self { folder, settings };
        files.replace(identity);
        files
    }

    fn replace(&self, identity: &Identity) {
        self.put("server.pem", &identity.certificate.pem());
        self.put("server.key", &identity.key.serialize_pem());
    }

    /// Replaces a file in one step.
    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        path
    }
}

/// A server that answers `/ping` over TLS.
struct TestServer {
    address: String,
    tls: ServerTls,
    log: Capture,
    logger: Logger,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    async fn start(settings: Settings) -> Self {
        let tls = ServerTls::load(settings).unwrap();
        let log = Capture::new();
        let logger = Logger::with_sink("", Level::Info, log.clone());
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let router = Router::new().get("/ping", async |_: Request| Response::text("OK"));
        let server = Server::new(router, logger.clone()).named("HTTPS");
        let listener = HttpsListener::new(tcp, tls.clone());
        let task = tokio::spawn(server.serve(listener, shutdown.clone()));
        Self { address, tls, log, logger, shutdown, task }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Connects, and sends a request to see that the server has accepted the client too.
    async fn connect(&self, client: &Client) -> std::io::Result<Tls> {
        let connector = TlsConnector::from(Arc::new(client.config.clone()));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = timeout(PATIENCE, connector.connect(name, self.tcp().await)).await.unwrap()?;
        let mut tls = Tls { stream: Box::new(stream) };
        tls.ping().await?;
        Ok(tls)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("the server stops in time").unwrap().unwrap();
    }
}

struct Tls {
    stream: Box<TlsStream<TcpStream>>,
}

impl Tls {
    async fn ping(&mut self) -> std::io::Result<()> {
        self.stream.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = vec![0; 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut answer)).await.expect("an answer")?;
        let answer = String::from_utf8(answer[..read].to_vec()).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn server_certificate(&self) -> CertificateDer<'static> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// The configuration of a client.
struct Client {
    config: ClientConfig,
}

impl Client {
    /// A client that trusts these authorities and certificates, and speaks these versions.
    fn trusting<'a>(
        trusted: impl IntoIterator<Item = &'a Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for identity in trusted {
            roots.add(identity.certificate.der().clone()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config }
    }

    /// Presents `certificate`, and signs with the key of `signer`.
    fn presenting(self, certificate: &Identity, signer: &Identity) -> Self {
        self.presenting_der(certificate.certificate.der(), signer.key_der())
    }

    fn presenting_der(
        mut self,
        certificate: &CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        let certified = CertifiedKey::new(vec![certificate.clone()], key);
        self.config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        self
    }
}
