//! HTTPS, and plain HTTP where TLS is required.

use std::{path::Path, sync::Arc, time::Duration};

use nsq_daemon::log::{Capture, Level, Logger};
use nsqd::{Nsqd, Options, TlsMinVersion, TlsRequired};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::harness::{Answer, Http, TestNsqd, request};

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn certificate() -> CertifiedKey {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Replaces the files that [`secured`] names, the key first.
fn put(folder: &Path, certificate: &CertifiedKey) {
    for (name, text) in [
        ("server.key", certificate.key_pair.serialize_pem()),
        ("server.pem", certificate.cert.pem()),
    ] {
        std::fs::write(folder.join("fresh"), text).unwrap();
        std::fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
    }
}

/// An nsqd with a certificate, and the certificate.
struct Secured {
    nsqd: TestNsqd,
    certificate: CertifiedKey,
    files: tempfile::TempDir,
    log: Capture,
}

impl Secured {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let certificate = certificate();
        let files = tempfile::tempdir().unwrap();
        put(files.path(), &certificate);
        let log = Capture::new();
        let logger = Logger::with_sink("", Level::Info, log.clone());
        let with_files = |options: &mut Options| {
            options.tls.cert = files.path().join("server.pem").display().to_string();
            options.tls.key = files.path().join("server.key").display().to_string();
            change(options);
        };
        let nsqd = TestNsqd::start_logging(with_files, logger).await;
        Self { nsqd, certificate, files, log }
    }

    async fn connect(&self) -> Http<TlsStream<TcpStream>> {
        Http::on(connect(&self.nsqd, &self.certificate).await.unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut https = self.connect().await;
        https.send(request(method, path, body)).await;
        https.answer().await
    }
}

/// Connects to the HTTPS port, trusting one certificate only.
async fn connect(
    nsqd: &TestNsqd,
    certificate: &CertifiedKey,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::clone(certificate.cert.der())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(nsqd.https.unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

#[tokio::test]
async fn https_serves_the_same_api() {
    let secured = Secured::start(|_| {}).await;
    assert_eq!(secured.ask("GET", "/ping", "").await.brief(), (200, "OK"));
    let published = secured.ask("POST", "/pub?topic=t", "over tls").await;
    assert_eq!(published.brief(), (200, "OK"));
    let mut https = secured.connect().await;
    for (method, path, status) in [
        ("GET", "/info", 200),
        ("GET", "/stats?format=json", 200),
        ("POST", "/channel/create?topic=t&channel=c", 200),
        ("POST", "/channel/create?topic=t", 400),
        ("GET", "/config/log_level", 200),
        ("GET", "/nope", 404),
        ("PUT", "/ping", 405),
    ] {
        https.send(request(method, path, "")).await;
        assert_eq!(https.answer().await.status, status, "{path}");
    }
    // The two are one nsqd.
    assert_eq!(secured.nsqd.stats("").await["topics"][0]["channels"][0]["depth"], 1);
    assert_eq!(secured.nsqd.get("/info").await.body, secured.ask("GET", "/info", "").await.body);
    let port = secured.nsqd.https.unwrap().port();
    let listening = format!("INFO: HTTPS: listening on 127.0.0.1:{port}");
    assert!(secured.log.texts().contains(&listening), "{:#?}", secured.log.texts());
    secured.nsqd.stop().await;
}

#[tokio::test]
async fn plain_http_is_refused_with_the_port_to_use_when_tls_is_required() {
    let secured = Secured::start(|options| options.tls.required = TlsRequired::Yes).await;
    let port = secured.nsqd.https.unwrap().port();
    let body = format!(r#"{{"message": "TLS_REQUIRED", "https_port": {port}}}"#);
    for (method, path) in
        [("GET", "/ping"), ("POST", "/pub?topic=t"), ("GET", "/nope"), ("OPTIONS", "/stats")]
    {
        let answer = secured.nsqd.ask(method, path, "x").await;
        assert_eq!(answer.brief(), (403, body.as_str()), "{path}");
        assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert_eq!(answer.header("X-Nsq-Content-Type"), Some("nsq; version=1.0"));
    }
    // Probes have no client certificate to show.
    for path in ["/live", "/ready"] {
        assert_eq!(secured.nsqd.get(path).await.brief(), (200, "OK"), "{path}");
        assert_eq!(secured.nsqd.post(path, "").await.brief(), (403, body.as_str()), "{path}");
    }
    assert_eq!(secured.ask("GET", "/ping", "").await.brief(), (200, "OK"));
    let stats = secured.ask("GET", "/stats?format=json", "").await;
    assert!(stats.body.contains(r#""topics":[]"#), "{}", stats.body);
    secured.nsqd.stop().await;
}

#[tokio::test]
async fn plain_http_stays_open_when_tls_is_required_of_tcp_only() {
    for policy in ["", "something"] {
        let secured = Secured::start(|options| {
            options.tls.required = TlsRequired::ExceptHttp;
            options.tls.client_auth_policy = policy.to_owned();
        })
        .await;
        assert_eq!(secured.nsqd.get("/ping").await.brief(), (200, "OK"));
        assert_eq!(secured.nsqd.get("/config/tls_required").await.brief(), (200, "1"));
        assert_eq!(secured.ask("GET", "/ping", "").await.brief(), (200, "OK"));
        secured.nsqd.stop().await;
    }
}

#[tokio::test]
async fn a_policy_for_client_certificates_makes_tls_a_duty() {
    let policy = |options: &mut Options| options.tls.client_auth_policy = "whatever".to_owned();
    let secured = Secured::start(policy).await;
    assert_eq!(secured.nsqd.get("/ping").await.status, 403);
    // A policy that is not known asks for no certificate.
    assert_eq!(secured.ask("GET", "/config/tls_required", "").await.brief(), (200, "2"));
    let shown = secured.ask("GET", "/config/tls_client_auth_policy", "").await;
    assert_eq!(shown.brief(), (200, "whatever"));
    secured.nsqd.stop().await;

    for policy in ["require", "require-verify"] {
        let secured = Secured::start(|options| {
            options.tls.client_auth_policy = policy.to_owned();
            options.tls.root_ca_file = options.tls.cert.clone();
        })
        .await;
        assert_eq!(secured.nsqd.get("/ping").await.status, 403);
        let mut https = secured.connect().await;
        https.send(request("GET", "/ping", "")).await;
        let refused = tokio::spawn(async move { https.answer().await });
        assert!(timeout(PATIENCE, refused).await.unwrap().is_err(), "{policy}: no certificate");
        secured.nsqd.stop().await;
    }
}

#[tokio::test]
async fn the_oldest_version_is_the_one_asked_for_and_old_ones_mean_1_2() {
    for (version, number, is_told) in [
        (TlsMinVersion::Tls10, "769", true),
        (TlsMinVersion::Tls11, "770", true),
        (TlsMinVersion::Tls12, "771", false),
        (TlsMinVersion::Tls13, "772", false),
    ] {
        let secured = Secured::start(|options| options.tls.min_version = version).await;
        let shown = secured.ask("GET", "/config/tls_min_version", "").await;
        assert_eq!(shown.brief(), (200, number));
        let line = "INFO: TLS: the oldest version spoken is 1.2".to_owned();
        assert_eq!(secured.log.texts().contains(&line), is_told, "{version:?}");
        secured.nsqd.stop().await;
    }
}

#[tokio::test]
async fn there_is_no_https_without_a_certificate_or_an_address() {
    let nsqd = TestNsqd::start().await;
    assert_eq!(nsqd.https, None);
    nsqd.stop().await;
    let secured = Secured::start(|options| {
        options.https_address = String::new();
        options.tls.required = TlsRequired::Yes;
    })
    .await;
    assert_eq!(secured.nsqd.https, None);
    let body = r#"{"message": "TLS_REQUIRED", "https_port": 0}"#;
    assert_eq!(secured.nsqd.get("/ping").await.brief(), (403, body));
    secured.nsqd.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_served_to_those_who_come_then() {
    let secured = Secured::start(|_| {}).await;
    let renewed = certificate();
    put(secured.files.path(), &renewed);
    let replaced = async {
        while connect(&secured.nsqd, &renewed).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, replaced).await.expect("the new certificate is served in time");
    assert!(connect(&secured.nsqd, &secured.certificate).await.is_err());
    secured.nsqd.stop().await;
}

#[tokio::test]
async fn nsqd_does_not_start_with_tls_that_cannot_work() {
    let folder = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    put(files.path(), &certificate());
    let (pem, key) = (files.path().join("server.pem"), files.path().join("server.key"));
    let (pem, key) = (pem.display().to_string(), key.display().to_string());
    let options = |cert: &str, key: &str| {
        let mut options = Options { data_path: folder.path().to_owned(), ..Options::default() };
        (options.tls.cert, options.tls.key) = (cert.to_owned(), key.to_owned());
        options
    };
    let policy = |mut options: Options, policy: &str, required| {
        options.tls.client_auth_policy = policy.to_owned();
        options.tls.required = required;
        options
    };
    let no_certificate =
        "cannot require TLS client connections without TLS key and cert".to_owned();
    for (options, reason) in [
        (
            options(&pem, ""),
            "failed to build TLS config - open : no such file or directory".to_owned(),
        ),
        (
            options("", &key),
            "failed to build TLS config - open : no such file or directory".to_owned(),
        ),
        (
            options("/none", &key),
            "failed to build TLS config - open /none: no such file or directory".to_owned(),
        ),
        (options(&pem, &pem), format!("failed to build TLS config - {pem}: no private key found")),
        (policy(options("", ""), "", TlsRequired::Yes), no_certificate.clone()),
        (policy(options("", ""), "", TlsRequired::ExceptHttp), no_certificate.clone()),
        (policy(options("", ""), "require", TlsRequired::No), no_certificate),
    ] {
        let refused = Nsqd::start(options, Logger::discard()).await.err().unwrap();
        assert_eq!(refused.to_string(), format!("failed to instantiate nsqd - {reason}"));
    }
}
