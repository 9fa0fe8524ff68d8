//! Requests that daemons make, to servers that the tests start.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use nsq_daemon::{
    http::{Error, Method, Request, Response, Route, Router, Server, StatusCode, header},
    http_client::{Client, Limits, RequestError, Trust, Url},
    log::Logger,
    net::Listener,
    tls::{ClientAuth, HttpsListener, MinVersion, ServerTls, Settings},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PATIENT: Limits =
    Limits { connect: Duration::from_secs(10), request: Duration::from_secs(10) };

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Serves until the runtime of the test ends.
fn serve(listener: impl Listener, router: Router) {
    let server = Server::new(router, Logger::discard());
    tokio::spawn(server.serve(listener, CancellationToken::new()));
}

async fn start(router: Router) -> u16 {
    let (listener, port) = listen().await;
    serve(listener, router);
    port
}

async fn get(address: &str, path: &str, limits: Limits) -> Result<Bytes, RequestError> {
    Client::new(limits).get(&url(format!("http://{address}{path}"))).await
}

fn url(text: impl AsRef<str>) -> Url {
    text.as_ref().parse().unwrap()
}

async fn echo(request: Request) -> Result<Response, Error> {
    match request.query()?.get("say") {
        Some(word) => Ok(Response::text(word.to_owned())),
        None => Err(Error::not_found("NOTHING_SAID")),
    }
}

#[tokio::test]
async fn an_answer_of_200_is_its_body_and_any_other_is_an_error() {
    let port = start(Router::new().get("/echo", echo)).await;
    let address = format!("127.0.0.1:{port}");
    let body = get(&address, "/echo?say=hello", PATIENT).await.unwrap();
    assert_eq!(&body[..], b"hello");
    let error = get(&address, "/echo?secret=x", PATIENT).await.unwrap_err();
    assert!(matches!(error, RequestError::Status { status: StatusCode::NOT_FOUND, .. }), "{error}");
    let answer = r#"got response 404 Not Found "{\"message\":\"NOTHING_SAID\"}""#;
    assert_eq!(error.to_string(), format!("http://{address}/echo: {answer}"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (_listener, port) = listen().await;
    let limits = Limits { request: Duration::from_millis(20), ..PATIENT };
    let error = get(&format!("127.0.0.1:{port}"), "/", limits).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_exist_is_named() {
    let (listener, port) = listen().await;
    drop(listener);
    let error = get(&format!("127.0.0.1:{port}"), "/", PATIENT).await.unwrap_err();
    assert!(matches!(error, RequestError::Connect { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("connect to 127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test]
async fn a_post_carries_a_json_document() {
    async fn show(mut request: Request) -> Result<Response, Error> {
        let body = request.body_up_to(100).await.map_err(|_| Error::bad_request("BODY"))?;
        let (kind, accept) = (request.header("content-type"), request.header("accept"));
        Ok(Response::text(format!("{kind:?} {accept:?} {body:?}")))
    }
    let port = start(Router::new().route(Route::new(Method::POST, "/show", show))).await;
    let url = url(format!("http://127.0.0.1:{port}/show"));
    let answer = Client::new(PATIENT).post(&url, "{}".into()).await.unwrap();
    let expected = r#"Some("application/json") Some("application/vnd.nsq; version=1.0") b"{}""#;
    assert_eq!(std::str::from_utf8(&answer).unwrap(), expected);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused() {
    let port = start(Router::new().get("/echo", echo)).await;
    let client = Client::new(PATIENT).answers_up_to(4);
    let ask = |word| url(format!("http://127.0.0.1:{port}/echo?say={word}"));
    assert_eq!(&client.get(&ask("four")).await.unwrap()[..], b"four");
    let error = client.get(&ask("fives")).await.unwrap_err();
    assert!(matches!(error, RequestError::Exchange { .. }), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let to = |status, location: &'static str| {
        move |_: Request| async move {
            let location = header::HeaderValue::from_static(location);
            Response::empty().with_status(status).with_header(header::LOCATION, location)
        }
    };
    let router = Router::new()
        .get("/echo", echo)
        .get("/moved", to(StatusCode::FOUND, "/echo?say=here"))
        .post("/moved", to(StatusCode::FOUND, "/echo?say=here"))
        .get("/circle", to(StatusCode::PERMANENT_REDIRECT, "/circle"));
    let port = start(router).await;
    let client = Client::new(PATIENT);
    let at = |path| url(format!("http://127.0.0.1:{port}{path}"));
    assert_eq!(&client.get(&at("/moved")).await.unwrap()[..], b"here");
    let error = client.get(&at("/circle")).await.unwrap_err();
    assert!(matches!(error, RequestError::TooManyRedirects { .. }), "{error}");
    // As a GET it would lose its document.
    let error = client.post(&at("/moved"), "{}".into()).await.unwrap_err();
    assert!(matches!(error, RequestError::Status { status: StatusCode::FOUND, .. }), "{error}");
}

/// A certificate for `localhost`, with its key, that signed itself and is an authority if `is_ca`.
fn certificate(is_ca: bool) -> CertifiedKey {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key_pair = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key_pair).unwrap();
    CertifiedKey { cert, key_pair }
}

/// Starts an HTTPS server with a certificate, whose files stay in `folder`.
async fn start_https(folder: &Path, certificate: &CertifiedKey) -> u16 {
    let (certificate_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&certificate_file, certificate.cert.pem()).unwrap();
    fs::write(&key_file, certificate.key_pair.serialize_pem()).unwrap();
    let tls = ServerTls::load(Settings {
        certificate_file,
        key_file,
        client_auth: ClientAuth::NotRequested,
        root_ca_file: None,
        min_version: MinVersion::Tls12,
    });
    let (listener, port) = listen().await;
    serve(HttpsListener::new(listener, tls.unwrap()), Router::new().get("/echo", echo));
    port
}

fn trusting(file: &Path) -> Client {
    Client::new(PATIENT).trusting(Trust::file(file, MinVersion::Tls12).unwrap())
}

#[tokio::test]
async fn an_https_server_is_verified_against_the_given_file() {
    let folder = TempDir::new().unwrap();
    for is_ca in [true, false] {
        let port = start_https(folder.path(), &certificate(is_ca)).await;
        let client = trusting(&folder.path().join("cert.pem"));
        let ask = |host| url(format!("https://{host}:{port}/echo?say=hello"));
        assert_eq!(&client.get(&ask("localhost")).await.unwrap()[..], b"hello", "{is_ca}");
        // The certificate is for another name.
        let error = client.get(&ask("127.0.0.1")).await.unwrap_err();
        assert!(matches!(error, RequestError::Tls { .. }), "{error}");
        let stranger = folder.path().join("stranger.pem");
        fs::write(&stranger, certificate(true).cert.pem()).unwrap();
        let error = trusting(&stranger).get(&ask("localhost")).await.unwrap_err();
        assert!(matches!(error, RequestError::Tls { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_requires_tls_is_asked_again_over_https() {
    let folder = TempDir::new().unwrap();
    let https_port = start_https(folder.path(), &certificate(true)).await;
    let forbidden = move |_| async move {
        let body = format!(r#"{{"message": "TLS_REQUIRED", "https_port": {https_port}}}"#);
        Response::json(body).with_status(StatusCode::FORBIDDEN)
    };
    let port = start(Router::new().get("/echo", forbidden)).await;
    let client = trusting(&folder.path().join("cert.pem"));
    let body = client.get(&url(format!("http://localhost:{port}/echo?say=hello"))).await.unwrap();
    assert_eq!(&body[..], b"hello");
}

#[tokio::test]
async fn a_file_without_certificates_is_no_trust() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("empty.pem");
    assert!(Trust::file(&file, MinVersion::Tls12).is_err());
    fs::write(&file, "nothing").unwrap();
    assert!(Trust::file(&file, MinVersion::Tls12).is_err());
}
