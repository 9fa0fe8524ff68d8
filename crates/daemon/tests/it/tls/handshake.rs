//! The handshake: versions, ALPN, and clients that never finish it.

use nsq_daemon::tls::{HANDSHAKE_TIME_MAX, MinVersion, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_rustls::rustls::{
    CipherSuite, ProtocolVersion,
    version::{TLS12, TLS13},
};

use super::{BOTH, Client, Files, Identity, TestServer};
use crate::harness::PATIENCE;

#[tokio::test]
async fn https_speaks_tls_1_2_and_1_3() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let server = TestServer::start(files.settings.clone()).await;
    for (version, number) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut tls = server.connect(&Client::trusting([&authority], &[version])).await.unwrap();
        assert_eq!(tls.stream.get_ref().1.protocol_version(), Some(number));
        // The connection is kept.
        tls.ping().await.unwrap();
    }
    assert!(server.log.texts()[1].starts_with("INFO: 200 GET /ping (127.0.0.1:"));
    server.stop().await;
}

#[tokio::test]
async fn the_server_chooses_aes_128_whatever_the_client_prefers() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let server = TestServer::start(files.settings.clone()).await;
    for (version, expected) in [
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
    ] {
        let tls = server.connect(&Client::trusting([&authority], &[version])).await.unwrap();
        let suite = tls.stream.get_ref().1.negotiated_cipher_suite().unwrap();
        assert_eq!(suite.suite(), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn versions_older_than_the_minimum_are_refused() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let settings = Settings { min_version: MinVersion::Tls13, ..files.settings.clone() };
    let server = TestServer::start(settings).await;
    assert!(server.connect(&Client::trusting([&authority], &[&TLS12])).await.is_err());
    server.connect(&Client::trusting([&authority], &[&TLS13])).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn clients_that_ask_are_told_that_http_1_1_is_spoken() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let server = TestServer::start(files.settings.clone()).await;
    let mut client = Client::trusting([&authority], BOTH);
    client.config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = server.connect(&client).await.unwrap();
    assert_eq!(tls.stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    // For other protocols there is nothing to choose from.
    assert!(server.tls.config().alpn_protocols.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_speaks_http_in_the_clear_is_told_so() {
    let files = Files::of(&Identity::authority());
    let server = TestServer::start(files.settings.clone()).await;
    let mut tcp = server.tcp().await;
    tcp.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an"),
        "{read:?} {answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_failed_handshake_is_a_warning_that_says_why() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let server = TestServer::start(files.settings.clone()).await;
    let stranger = Client::trusting([&Identity::authority()], BOTH);
    assert!(server.connect(&stranger).await.is_err());
    // A client that goes away says nothing that an operator could act on.
    drop(server.tcp().await);
    server.connect(&Client::trusting([&authority], BOTH)).await.unwrap();
    let log = server.log.texts();
    let warnings: Vec<_> = log.iter().filter(|text| text.starts_with("WARNING")).collect();
    assert_eq!(warnings.len(), 1, "{log:#?}");
    assert!(warnings[0].starts_with("WARNING: HTTPS: [127.0.0.1:"), "{log:#?}");
    assert!(warnings[0].contains("received fatal alert: "), "{log:#?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_handshake_is_closed_in_time() {
    let files = Files::of(&Identity::authority());
    let server = TestServer::start(files.settings.clone()).await;
    let started = Instant::now();
    let mut tcp = server.tcp().await;
    tcp.write_all(b"\x16\x03\x01").await.unwrap();
    let mut answer = Vec::new();
    // A connection with unread input may be reset.
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    let took = started.elapsed();
    assert!(took >= HANDSHAKE_TIME_MAX && took < HANDSHAKE_TIME_MAX * 2, "{took:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_in_its_handshake_holds_up_neither_others_nor_a_stop() {
    let authority = Identity::authority();
    let files = Files::of(&authority.sign());
    let server = TestServer::start(files.settings.clone()).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.tcp().await);
    }
    server.connect(&Client::trusting([&authority], BOTH)).await.unwrap();
    server.stop().await;
}
