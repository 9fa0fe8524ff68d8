//! A client whose connection has layers, and certificates made for the test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::BytesMut;
use nsq_compression::{Codec, Compressed};
use nsq_protocol::{Command, Frame, decode_frame};
use nsqd::Options;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    },
};

use crate::support::{Message, PATIENCE, Received, Server};

pub(crate) const TLS_VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A certificate and its key.
pub(crate) struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    pub(crate) fn authority() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// A certificate for `name`, signed by this authority.
    pub(crate) fn sign(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        Self { certificate, key }
    }
}

/// The certificates of nsqd and of a client, and their authority.
pub(crate) struct Certificates {
    folder: TempDir,
    authority: Pair,
    pub(crate) client: Pair,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let authority = Pair::authority();
        let (server, client) = (authority.sign("localhost"), authority.sign("a client"));
        let made = Self { folder: tempfile::tempdir().unwrap(), authority, client };
        made.put("server.pem", &server.certificate.pem());
        made.put("server.key", &server.key.serialize_pem());
        made.put("ca.pem", &made.authority.certificate.pem());
        made
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives nsqd its certificate.
    pub(crate) fn serve(&self, options: &mut Options) {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        options.https_address = String::new();
        options.tls.cert = path("server.pem");
        options.tls.key = path("server.key");
        options.tls.root_ca_file = path("ca.pem");
    }

    /// An nsqd with TLS.
    pub(crate) fn server(&self, change: impl FnOnce(&mut Options)) -> Server {
        Server::with(|options| {
            self.serve(options);
            change(options);
        })
    }

    /// A client's side of TLS, which shows the certificate of `client`.
    pub(crate) fn connector(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        client: Option<&Pair>,
    ) -> TlsConnector {
        Arc::new(self.client_config(versions, client)).into()
    }

    pub(crate) fn client_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        client: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match client {
            None => config.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        }
    }

    /// The folder with the files of a client that has a certificate, for programs that read files.
    pub(crate) fn client_files(&self) -> &Path {
        self.put("client.pem", &self.client.certificate.pem());
        self.put("client.key", &self.client.key.serialize_pem());
        self.folder.path()
    }
}

/// A connection that may be upgraded.
pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    input: BytesMut,
}

impl Peer {
    /// Connects and sends the magic.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// Sends the magic over `stream`.
    pub(crate) async fn over(stream: impl Stream + 'static) -> Self {
        let mut peer = Self { stream: Box::new(stream), input: BytesMut::new() };
        peer.send_bytes(b"  V2").await;
        peer
    }

    /// Connects and asks for `fields`, which all are granted; upgrades to what they name.
    pub(crate) async fn upgraded(
        server: &Server,
        fields: &str,
        tls: Option<&TlsConnector>,
    ) -> Self {
        Self::connect(server.tcp).await.upgrade(fields, tls).await
    }

    /// Asks for `fields`, which all are granted; upgrades to what they name.
    pub(crate) async fn upgrade(self, fields: &str, tls: Option<&TlsConnector>) -> Self {
        let mut peer = self;
        let answer = peer.negotiate(fields).await;
        if answer["tls_v1"] == true {
            peer = peer.encrypt(tls.unwrap()).await.unwrap();
            peer.expect_ok().await;
        }
        let codec = match (&answer["snappy"], &answer["deflate"]) {
            (Value::Bool(true), _) => Codec::snappy(),
            (_, Value::Bool(true)) => Codec::deflate(6),
            _ => return peer,
        };
        let mut peer = peer.compress(codec);
        peer.expect_ok().await;
        peer
    }

    /// Sends IDENTIFY with feature negotiation and `fields`.
    pub(crate) async fn negotiate(&mut self, fields: &str) -> Value {
        let comma = if fields.is_empty() { "" } else { "," };
        let body = format!("{{\"feature_negotiation\":true{comma}{fields}}}");
        self.send(Command::Identify(body.as_bytes())).await;
        match self.receive().await {
            Received::Response(json) => serde_json::from_str(&json).unwrap(),
            other => panic!("{fields}: {other:?}"),
        }
    }

    /// Goes on within TLS.
    pub(crate) async fn encrypt(self, tls: &TlsConnector) -> std::io::Result<Self> {
        assert!(self.input.is_empty(), "{:?}", self.input);
        let stream = tls.connect("localhost".try_into().unwrap(), self.stream).await?;
        Ok(Self { stream: Box::new(stream), input: BytesMut::new() })
    }

    /// Goes on with compression.
    pub(crate) fn compress(self, codec: Codec) -> Self {
        let stream = Compressed::new(self.stream, codec, self.input);
        Self { stream: Box::new(stream), input: BytesMut::new() }
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// Fails some time after nsqd has closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub(crate) async fn send(&mut self, command: Command<'_>) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// Sends a command that is answered with `OK`.
    pub(crate) async fn ok(&mut self, command: Command<'_>) {
        self.send(command).await;
        self.expect_ok().await;
    }

    pub(crate) async fn expect_ok(&mut self) {
        loop {
            match self.receive().await {
                Received::Response(data) if data == "_heartbeat_" => self.send(Command::Nop).await,
                other => return assert_eq!(other, Received::Response("OK".to_owned())),
            }
        }
    }

    pub(crate) async fn publish(&mut self, topic: &str, body: &[u8]) {
        self.ok(Command::Pub { topic, body }).await;
    }

    pub(crate) async fn subscribe(&mut self, topic: &str, channel: &str, ready: u64) {
        self.ok(Command::Sub { topic, channel }).await;
        self.send(Command::Rdy(ready)).await;
    }

    /// The next frame.
    pub(crate) async fn try_receive(&mut self) -> std::io::Result<Received> {
        loop {
            if let Some((frame, used)) = decode_frame(&self.input, u32::MAX).unwrap() {
                let received = Received::from(frame);
                let _ = self.input.split_to(used);
                return Ok(received);
            }
            if self.try_read().await? == 0 {
                return Ok(Received::Closed);
            }
        }
    }

    /// Reads more of whatever comes.
    pub(crate) async fn try_read(&mut self) -> std::io::Result<usize> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        read.expect("nothing came")
    }

    /// The next frame. A reset counts as closed: it is what a peer sees that had sent more.
    pub(crate) async fn receive(&mut self) -> Received {
        match self.try_receive().await {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Received::Closed,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn error(&mut self) -> String {
        match self.receive().await {
            Received::Error(text) => text,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// The next message, which is finished.
    pub(crate) async fn finish_next(&mut self) -> Message {
        loop {
            match self.receive().await {
                Received::Message(message) => {
                    self.send(Command::Fin(message.id)).await;
                    return message;
                }
                Received::Response(data) if data == "_heartbeat_" => self.send(Command::Nop).await,
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    pub(crate) async fn expect_closed(&mut self) {
        assert_eq!(self.receive().await, Received::Closed);
    }
}

impl From<Frame<'_>> for Received {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Response(data) => Self::Response(String::from_utf8_lossy(data).into_owned()),
            Frame::Error(data) => Self::Error(String::from_utf8_lossy(data).into_owned()),
            Frame::Message(message) => Self::Message(Message {
                id: message.id,
                attempts: message.attempts,
                timestamp_ns: message.timestamp_ns,
                body: message.body.to_vec(),
            }),
        }
    }
}
