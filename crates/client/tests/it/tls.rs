//! TLS, against an nsqd with certificates made for the test.

use std::{path::PathBuf, sync::Arc};

use nsq_client::{
    Config, ConfigError, ConnectError, Consumer, IdentifyResponse, Producer, TlsConfig,
    TlsConfigError, TlsMode, TlsVersion, identify,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};

use crate::support::{Nsqd, Peer, error, fin, ok, soon};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const OFFERED: &[u8] = br#"{"max_rdy_count":2500,"tls_v1":true}"#;

/// A certificate and its key.
struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    fn authority() -> Self {
        Self::self_signed(&[], IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn self_signed(names: &[&str], is_ca: IsCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = is_ca;
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// A certificate for `name` that this authority has signed.
    fn sign(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        Self { certificate, key }
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Files in PEM format.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A configuration that trusts `authority`.
    fn trusting(&self, authority: &Pair) -> TlsConfig {
        TlsConfig::default().root_ca_file(self.put("ca.pem", &authority.certificate.pem()))
    }

    /// Returns `tls` with a client certificate.
    fn showing(&self, tls: TlsConfig, client: &Pair) -> TlsConfig {
        let certificate = self.put("client.pem", &client.certificate.pem());
        tls.client_certificate(certificate, self.put("key.pem", &client.key.serialize_pem()))
    }
}

fn with(tls_config: TlsConfig) -> Config {
    Config { tls_config, ..Config::default() }
}

/// nsqd's side of TLS.
fn acceptor(
    server: &Pair,
    versions: &[&'static SupportedProtocolVersion],
    client_authority: Option<&Pair>,
) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = vec![server.certificate.der().clone()];
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, server.key_der()).unwrap()))
}

/// Accepts the next connection and answers IDENTIFY with `answer`.
async fn answered(nsqd: &Nsqd, answer: &[u8]) -> Peer {
    let mut peer = nsqd.accept().await;
    peer.magic().await;
    peer.said(&["IDENTIFY"]).await;
    assert!(String::from_utf8_lossy(peer.identify()).contains(r#""tls_v1":true"#));
    peer.respond(answer).await;
    peer
}

/// Continues the connection in TLS.
async fn encrypted(peer: Peer, acceptor: &TlsAcceptor) -> Peer {
    let mut peer = peer.upgraded(async |tcp| Box::pin(acceptor.accept(tcp)).await.unwrap()).await;
    peer.respond(b"OK").await;
    peer
}

/// Lets a client with `config` dial `host`; returns its result.
async fn identified(
    host: &str,
    config: &Config,
    acceptor: &TlsAcceptor,
) -> Result<IdentifyResponse, ConnectError> {
    let nsqd = Nsqd::start().await;
    let port = nsqd.address().rsplit_once(':').unwrap().1;
    let address = format!("{host}:{port}");
    let serve = Box::pin(async {
        let peer = answered(&nsqd, OFFERED).await;
        peer.upgraded(async |tcp| {
            // Either side may refuse the other's certificate.
            if let Ok(mut tls) = Box::pin(acceptor.accept(tcp)).await {
                let _ = tls.write_all(b"\0\0\0\x06\0\0\0\0OK").await;
                let _ = tls.flush().await;
                let _ = tls.read(&mut [0]).await;
            }
            tokio::io::empty()
        })
        .await;
    });
    soon(async { tokio::join!(identify(&address, config), serve) }).await.0
}

/// Asserts that `refused` is about certificates.
fn assert_not_accepted(refused: Result<IdentifyResponse, ConnectError>) {
    let refused = error(refused);
    assert!(matches!(refused, ConnectError::Tls { .. }), "{refused:?}");
    assert!(!refused.is_retryable(), "{refused:?}");
}

#[tokio::test]
async fn a_consumer_gets_and_finishes_messages_over_tls() {
    // H06
    let (files, authority) = (Files::new(), Pair::authority());
    let acceptor = acceptor(&authority.sign("127.0.0.1"), BOTH, None);
    let nsqd = Nsqd::start().await;
    let config = Config { max_in_flight: 100, ..with(files.trusting(&authority)) };
    let consumer = Consumer::builder("t", "c").config(config).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = encrypted(answered(&nsqd, OFFERED).await, &acceptor).await;
        peer.said(&["SUB t c"]).await;
        peer.respond(b"OK").await;
        peer.said(&["RDY 100"]).await;
        peer.messages(1..=100).await;
        for number in 1..=100 {
            peer.said(&[&fin(number)]).await;
        }
        peer.says_nothing().await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    soon(async { tokio::join!(connecting, serve) }).await.0.unwrap();
}

#[tokio::test]
async fn a_big_body_goes_through_tls() {
    let (files, authority) = (Files::new(), Pair::authority());
    let acceptor = acceptor(&authority.sign("127.0.0.1"), BOTH, None);
    let nsqd = Nsqd::start().await;
    let producer = Producer::new(nsqd.address(), with(files.trusting(&authority))).unwrap();
    let body = "0123456789".repeat(200_000);
    let serve = async {
        let mut peer = encrypted(answered(&nsqd, OFFERED).await, &acceptor).await;
        peer.said(&[&format!("PUB t {body}")]).await;
        peer.respond(b"OK").await;
    };
    let publish = producer.publish("t", body.as_bytes());
    soon(async { tokio::join!(publish, serve) }).await.0.unwrap();
}

#[cfg(feature = "compression")]
#[tokio::test]
async fn compression_and_then_auth_run_inside_tls() {
    // H09, H12
    use crate::compression::{METHODS, compress};
    let (files, authority) = (Files::new(), Pair::authority());
    let acceptor = acceptor(&authority.sign("127.0.0.1"), BOTH, None);
    for method in METHODS {
        let nsqd = Nsqd::start().await;
        let config = method.asked_for(with(files.trusting(&authority)));
        let config = Config { auth_secret: "s3cret".into(), ..config };
        let producer = Producer::new(nsqd.address(), config).unwrap();
        let serve = async {
            let name = method.name();
            let answer = format!(r#"{{"tls_v1":true,"auth_required":true,"{name}":true}}"#);
            let peer = encrypted(answered(&nsqd, answer.as_bytes()).await, &acceptor).await;
            let (mut peer, _) = compress(peer, method, b"").await;
            peer.said(&["AUTH s3cret"]).await;
            peer.respond(b"{}").await;
            peer.said(&["PUB t x"]).await;
            peer.respond(b"OK").await;
        };
        let publish = producer.publish("t", b"x");
        soon(async { tokio::join!(publish, serve) }).await.0.unwrap();
    }
}

#[tokio::test]
async fn the_certificate_has_to_be_for_the_host_dialed_and_from_a_trusted_authority() {
    // H06
    let (files, authority) = (Files::new(), Pair::authority());
    let config = with(files.trusting(&authority));
    let for_name = acceptor(&authority.sign("localhost"), BOTH, None);
    let response = identified("localhost", &config, &for_name).await.unwrap();
    assert!(response.tls_v1);
    assert_not_accepted(identified("127.0.0.1", &config, &for_name).await);
    let from_another = acceptor(&Pair::authority().sign("localhost"), BOTH, None);
    assert_not_accepted(identified("localhost", &config, &from_another).await);
    let trusting_anyone = with(TlsConfig::default().insecure_skip_verify(true));
    identified("127.0.0.1", &trusting_anyone, &from_another).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_accepted_when_it_is_the_one_trusted() {
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::NoCa] {
        let files = Files::new();
        let own = Pair::self_signed(&["localhost"], is_ca.clone());
        let config = with(files.trusting(&own));
        let acceptor_of_own = acceptor(&own, BOTH, None);
        identified("localhost", &config, &acceptor_of_own).await.unwrap();
        assert_not_accepted(identified("127.0.0.1", &config, &acceptor_of_own).await);
        let other = acceptor(&Pair::self_signed(&["localhost"], is_ca), BOTH, None);
        assert_not_accepted(identified("localhost", &config, &other).await);
    }
}

#[tokio::test]
async fn an_nsqd_that_wants_a_client_certificate_gets_it() {
    // H08
    let (files, authority) = (Files::new(), Pair::authority());
    let server = authority.sign("localhost");
    let without = files.trusting(&authority);
    let client = files.showing(without.clone(), &authority.sign("me"));
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let acceptor = acceptor(&server, versions, Some(&authority));
        identified("localhost", &with(client.clone()), &acceptor).await.unwrap();
        assert_not_accepted(identified("localhost", &with(without.clone()), &acceptor).await);
    }
}

#[tokio::test]
async fn the_oldest_version_accepted_is_the_one_configured() {
    let (files, authority) = (Files::new(), Pair::authority());
    let (server, tls) = (authority.sign("localhost"), files.trusting(&authority));
    let newest_only = with(tls.clone().min_version(TlsVersion::Tls13));
    let older = acceptor(&server, &[&TLS12], None);
    identified("localhost", &with(tls), &older).await.unwrap();
    assert_not_accepted(identified("localhost", &newest_only, &older).await);
    identified("localhost", &newest_only, &acceptor(&server, BOTH, None)).await.unwrap();
}

#[tokio::test]
async fn an_nsqd_without_tls_gets_nothing_when_tls_is_required() {
    // H07
    let (files, authority) = (Files::new(), Pair::authority());
    for answer in [&br#"{"tls_v1":false,"auth_required":true}"#[..], b"OK", b"{}"] {
        let nsqd = Nsqd::start().await;
        let config = with(files.trusting(&authority));
        let config = Config { auth_secret: "s3cret".into(), ..config };
        let serve = async { answered(&nsqd, answer).await.is_closed().await };
        let identifying = identify(nsqd.address(), &config);
        let refused = error(soon(async { tokio::join!(identifying, serve) }).await.0);
        assert!(matches!(refused, ConnectError::TlsRefused { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn an_nsqd_without_tls_is_used_in_the_clear_when_tls_is_preferred() {
    // H07
    let nsqd = Nsqd::start().await;
    let tls_config = TlsConfig::default().insecure_skip_verify(true);
    let config = Config { tls: Some(TlsMode::Preferred), tls_config, ..Config::default() };
    let producer = Producer::new(nsqd.address(), config).unwrap();
    let serve = async {
        let mut peer = answered(&nsqd, b"{}").await;
        peer.said(&["PUB t x"]).await;
        peer.respond(b"OK").await;
    };
    let publish = producer.publish("t", b"x");
    soon(async { tokio::join!(publish, serve) }).await.0.unwrap();
}

#[tokio::test]
async fn a_secret_is_never_sent_in_the_clear_when_tls_was_asked_for() {
    // H07
    let nsqd = Nsqd::start().await;
    let config = Config {
        tls: Some(TlsMode::Preferred),
        tls_config: TlsConfig::default().insecure_skip_verify(true),
        auth_secret: "s3cret".into(),
        ..Config::default()
    };
    let serve = async { answered(&nsqd, br#"{"auth_required":true}"#).await.is_closed().await };
    let identifying = identify(nsqd.address(), &config);
    let refused = error(soon(async { tokio::join!(identifying, serve) }).await.0);
    assert!(matches!(refused, ConnectError::AuthInClear { .. }), "{refused:?}");
}

#[tokio::test]
async fn what_comes_in_the_clear_before_the_handshake_does_not_pass_for_encrypted() {
    let (files, authority) = (Files::new(), Pair::authority());
    let config = with(files.trusting(&authority));
    let nsqd = Nsqd::start().await;
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        let mut bytes = Vec::new();
        for data in [OFFERED, b"OK"] {
            nsq_protocol::encode_frame(nsq_protocol::FrameType::Response, data, &mut bytes);
        }
        peer.raw(&bytes).await;
        peer.is_closed().await;
    };
    let identifying = identify(nsqd.address(), &config);
    let refused = error(soon(async { tokio::join!(identifying, serve) }).await.0);
    assert!(matches!(refused, ConnectError::Tls { .. }), "{refused:?}");
}

#[test]
fn tls_is_required_as_soon_as_anything_is_configured_for_it() {
    let (files, authority) = (Files::new(), Pair::authority());
    let ca = files.put("ca.pem", &authority.certificate.pem());
    let ca = ca.to_str().unwrap();
    for (options, mode) in [
        (&[][..], TlsMode::Off),
        (&[("tls_v1", "true")], TlsMode::Preferred),
        (&[("tls_v1", "true"), ("tls_root_ca_file", ca)], TlsMode::Required),
        (&[("tls-root-ca-file", ca), ("tls_v1", "true")], TlsMode::Required),
        (&[("tls_insecure_skip_verify", "1")], TlsMode::Required),
        (&[("tls_insecure_skip_verify", "0")], TlsMode::Off),
        (&[("tls_min_version", "tls1.3")], TlsMode::Required),
        (&[("tls", "preferred"), ("tls_root_ca_file", ca)], TlsMode::Preferred),
        (&[("tls_root_ca_file", ca), ("tls", "off")], TlsMode::Off),
        (&[("tls", "required")], TlsMode::Required),
    ] {
        let mut config = Config::default();
        for (name, value) in options {
            config.set(name, *value).unwrap();
        }
        assert_eq!(config.tls_mode(), mode, "{options:?}");
    }
    let mut config = Config::default();
    config.set("tls_config", TlsConfig::default().root_ca_file(ca)).unwrap();
    assert_eq!(config.tls_mode(), TlsMode::Required);
    assert!(config.set("tls_config", "x").is_err());
    assert!(config.set("tls", "maybe").is_err());
}

#[test]
fn files_that_cannot_be_used_are_named_at_once() {
    // C12
    let (files, authority) = (Files::new(), Pair::authority());
    let empty = files.put("empty.pem", "no PEM here");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA!\n-----END CERTIFICATE-----\n";
    let broken = files.put("broken.pem", broken);
    let missing = files.0.path().join("missing.pem");
    let certificate = files.put("cert.pem", &authority.certificate.pem());
    for path in [&empty, &broken, &missing] {
        let path = path.to_str().unwrap();
        let mut config = Config::default();
        let refused = error(config.set("tls_root_ca_file", path)).to_string();
        assert!(refused.contains("tls_root_ca_file") && refused.contains(path), "{refused}");
        assert_eq!(config, Config::default());
        config.set("tls_cert", certificate.to_str().unwrap()).unwrap();
        let refused = error(config.set("tls_key", path)).to_string();
        assert!(refused.contains("tls_key") && refused.contains(path), "{refused}");
    }
}

#[test]
fn a_client_certificate_needs_its_key() {
    // C12
    let (files, authority) = (Files::new(), Pair::authority());
    let certificate = files.put("cert.pem", &authority.certificate.pem());
    let certificate = certificate.to_str().unwrap();
    let key = files.put("key.pem", &authority.key.serialize_pem());
    let key = key.to_str().unwrap();
    for (given, path, missing) in
        [("tls_cert", certificate, "tls_key"), ("tls_key", key, "tls_cert")]
    {
        let mut config = Config::default();
        config.set(given, path).unwrap();
        let lone = TlsConfigError::Lone { given, missing };
        assert_eq!(config.validate(), Err(ConfigError::Tls(lone)));
    }
    let other = files.put("other.pem", &Pair::authority().key.serialize_pem());
    for (key, fits) in [(key, true), (other.to_str().unwrap(), false)] {
        let mut config = with(files.trusting(&authority));
        config.set("tls_key", key).unwrap();
        config.set("tls_cert", certificate).unwrap();
        assert_eq!(config.validate().is_ok(), fits, "{:?}", config.validate());
    }
}

#[test]
fn versions_that_are_not_safe_are_refused() {
    // C12
    for version in ["ssl3.0", "tls1.0", "tls1.1", "tls1.4", ""] {
        let refused = error(Config::default().set("tls_min_version", version)).to_string();
        assert!(refused.contains("only tls1.2 and tls1.3"), "{refused}");
    }
    for version in ["tls1.2", "tls1.3"] {
        Config::default().set("tls_min_version", version).unwrap();
    }
}
