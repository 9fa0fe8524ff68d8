//! Clients over TLS and unix sockets, and auth servers over HTTPS.

use nsq_daemon::{
    log::Logger,
    tls::{ClientAuth, MinVersion, ServerTls, Settings},
};
use nsq_protocol::Command;
use nsqd::{Nsqd, Options};
use tokio::{net::UnixStream, sync::oneshot};

use super::{
    SUCCESS, send_auth,
    server::{ANYTHING, AuthServer},
};
use crate::{
    layers::{Certificates, Pair, Peer, TLS_VERSIONS},
    support::{Received, Server},
};

/// The request to the auth server for a client within TLS and snappy.
async fn heard(
    nsqd: &Server,
    auth: &AuthServer,
    certificates: &Certificates,
    client: Option<&Pair>,
) -> String {
    let tls = certificates.connector(&TLS_VERSIONS, client);
    let mut peer = Peer::upgraded(nsqd, r#""tls_v1":true,"snappy":true"#, Some(&tls)).await;
    peer.send(Command::Auth(b"s3cret")).await;
    assert_eq!(peer.receive().await, Received::Response(SUCCESS.to_owned()));
    peer.publish("t", b"x").await;
    auth.asked().target
}

#[tokio::test]
async fn the_auth_server_is_told_of_tls_and_of_the_name_in_the_certificate() {
    let certificates = Certificates::new();
    let auth = AuthServer::answering(ANYTHING);
    for (policy, client, name) in
        [("", None, ""), ("require-verify", Some(&certificates.client), "a+client")]
    {
        let nsqd = certificates.server(|options| {
            options.auth_http_addresses = vec![auth.address()];
            options.tls.client_auth_policy = policy.to_owned();
        });
        let expected =
            format!("/auth?common_name={name}&remote_ip=127.0.0.1&secret=s3cret&tls=true");
        assert_eq!(heard(&nsqd, &auth, &certificates, client).await, expected);
    }
}

#[tokio::test]
async fn a_client_of_a_unix_socket_has_no_address() {
    let auth = AuthServer::answering(ANYTHING);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tcp.sock");
    let options = Options {
        data_path: folder.path().to_owned(),
        tcp_address: socket.to_str().unwrap().to_owned(),
        http_address: String::new(),
        auth_http_addresses: vec![auth.address()],
        ..Options::default()
    };
    let nsqd = Nsqd::start(options, Logger::discard()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(nsqd.run(async { drop(stopped.await) }));
    let mut peer = Peer::over(UnixStream::connect(&socket).await.unwrap()).await;
    peer.send(Command::Auth(b"s3cret")).await;
    assert_eq!(peer.receive().await, Received::Response(SUCCESS.to_owned()));
    let target = "/auth?common_name=&remote_ip=&secret=s3cret&tls=false";
    assert_eq!(auth.asked().target, target);
    drop(stop);
    running.await.unwrap().unwrap();
}

/// An auth server with the certificate for `localhost`.
fn https_server(certificates: &Certificates) -> AuthServer {
    let settings = Settings {
        certificate_file: certificates.path("server.pem"),
        key_file: certificates.path("server.key"),
        client_auth: ClientAuth::NotRequested,
        root_ca_file: None,
        min_version: MinVersion::Tls12,
    };
    AuthServer::over(ServerTls::load(settings).unwrap())
}

#[test]
fn an_auth_server_over_https_has_to_be_known_by_the_root_ca_file() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let auth = https_server(&certificates);
    let url = format!("https://localhost:{}/auth", auth.port());
    for (authority, expected) in [
        (&certificates, Received::Response(SUCCESS.to_owned())),
        (&others, Received::Error("E_AUTH_FAILED AUTH failed".to_owned())),
    ] {
        let nsqd = Server::with(|options| {
            options.auth_http_addresses = vec![url.clone()];
            options.tls.root_ca_file = authority.path("ca.pem").to_str().unwrap().to_owned();
        });
        assert_eq!(send_auth(&nsqd).1, expected);
    }
    assert!(auth.asked().target.ends_with("&secret=s3cret&tls=false"));
}

#[tokio::test]
async fn nsqd_does_not_start_with_a_root_ca_file_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options {
        data_path: folder.path().to_owned(),
        auth_http_addresses: vec!["localhost:1".to_owned()],
        ..Options::default()
    };
    options.tls.root_ca_file = "missing.pem".to_owned();
    let refused = Nsqd::start(options, Logger::discard()).await.err().unwrap();
    let text = "failed to instantiate nsqd - failed to build client TLS config - open missing.pem: no such file or directory";
    assert_eq!(refused.to_string(), text);
}
