//! Auth servers that take their time.

use std::time::Duration;

use nsq_daemon::log::{Capture, Level, Logger};
use nsq_protocol::Command;
use nsqd::{Options, World};

use super::{
    SUCCESS, authorized,
    expiry::{anything_for_a_second, let_expire},
    server::{ANYTHING, AuthServer, Reaction},
};
use crate::support::{Client, Received, Server, eventually, http};

/// The most queries at a time, where descriptors are not short.
const QUERIES_MAX: usize = 64;

/// Asks this server, and never gives up.
fn patient(auth: &AuthServer) -> impl FnOnce(&mut Options) {
    let address = auth.address();
    move |options| {
        options.auth_http_addresses = vec![address];
        options.http_client_request_timeout = Duration::from_secs(3600);
    }
}

/// A client whose AUTH is being answered.
fn waiting(nsqd: &Server, auth: &AuthServer) -> Client {
    let mut client = nsqd.client();
    client.send(Command::Auth(b"s3cret"));
    auth.asked();
    client
}

#[test]
fn a_slow_auth_server_holds_up_only_its_client() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = Server::with(patient(&auth));
    // Enough that some are served by the thread of each that waits.
    let mut others: Vec<_> = (0..8).map(|_| authorized(&nsqd)).collect();
    auth.others();
    auth.will(Reaction::Hang);
    let mut waiting: Vec<_> = (0..8).map(|_| waiting(&nsqd, &auth)).collect();
    for client in &mut others {
        client.publish("t", b"x");
    }
    auth.release();
    let mut answered = waiting.remove(0);
    assert_eq!(answered.receive(), Received::Response(SUCCESS.to_owned()));
    answered.publish("t", b"x");
    assert_eq!(nsqd.topic_stats()["message_count"], 9);
}

#[test]
fn only_so_many_clients_are_asked_about_at_once_and_the_others_have_their_turn() {
    let auth = AuthServer::start(Reaction::Hang);
    let nsqd = Server::with(patient(&auth));
    let mut clients: Vec<_> = (0..QUERIES_MAX + 3).map(|_| nsqd.client()).collect();
    for client in &mut clients {
        client.send(Command::Auth(b"s3cret"));
    }
    (0..QUERIES_MAX).for_each(|_| drop(auth.asked()));
    let waited = r#"nsqd_limit_reached_total{limit="auth-queries"} 3"#;
    eventually(|| {
        let (_, page) = http(nsqd.http, "GET", "/metrics", b"");
        String::from_utf8_lossy(&page).lines().any(|line| line == waited)
    });
    assert_eq!(auth.others(), 0);
    for _ in 0..3 {
        auth.release();
        auth.asked();
        assert_eq!(auth.others(), 0);
    }
    clients.iter().for_each(|_| auth.release());
    for client in &mut clients {
        assert_eq!(client.receive(), Received::Response(SUCCESS.to_owned()));
    }
}

#[test]
fn a_client_that_waits_gets_heartbeats_and_is_not_taken_for_silent() {
    let auth = AuthServer::start(Reaction::Hang);
    let nsqd = Server::with(patient(&auth));
    let mut client = nsqd.client();
    client.identify(r#"{"heartbeat_interval":1000}"#);
    client.send(Command::Auth(b"s"));
    for _ in 0..3 {
        assert_eq!(client.frame(), Received::Response("_heartbeat_".to_owned()));
    }
    auth.release();
    assert_eq!(client.receive(), Received::Response(SUCCESS.to_owned()));
}

#[test]
fn messages_are_delivered_while_a_publish_waits() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = Server::with(patient(&auth));
    let mut client = authorized(&nsqd);
    client.subscribe("t", "c", 10);
    let_expire(&nsqd, &auth);
    auth.will(Reaction::Hang);
    client.send(Command::Pub { topic: "t", body: b"own" });
    auth.asked();
    for _ in 0..2 {
        assert_eq!(http(nsqd.http, "POST", "/pub?topic=t", b"other").0, 200);
        assert_eq!(client.message().body, b"other");
    }
    auth.release();
    assert_eq!(client.receive(), Received::Response("OK".to_owned()));
    assert_eq!(client.message().body, b"own");
}

#[test]
fn what_a_client_has_sent_is_done_even_if_it_does_not_wait() {
    let auth = AuthServer::start(Reaction::Hang);
    let nsqd = Server::with(patient(&auth));
    let mut client = waiting(&nsqd, &auth);
    client.send(Command::Pub { topic: "t", body: b"x" });
    drop(client);
    auth.release();
    eventually(|| nsqd.topic_stats()["message_count"] == 1);
}

#[test]
fn nsqd_stops_without_waiting_for_an_auth_server() {
    let log = Capture::new();
    let logger = Logger::with_sink("", Level::Warn, log.clone());
    let auth = AuthServer::start(Reaction::Hang);
    let folder = tempfile::tempdir().unwrap();
    let nsqd = Server::logging_to(logger, World::default(), folder, patient(&auth));
    let mut client = waiting(&nsqd, &auth);
    nsqd.stop();
    client.expect_closed();
    assert_eq!(log.texts(), Vec::<String>::new());
}

#[test]
fn an_auth_server_that_never_answers_is_given_up() {
    let auth = AuthServer::start(Reaction::Hang);
    let nsqd = Server::with(|options| {
        options.auth_http_addresses = vec![auth.address()];
        options.http_client_request_timeout = Duration::from_millis(50);
    });
    let mut client = waiting(&nsqd, &auth);
    assert_eq!(client.error(), "E_AUTH_FAILED AUTH failed");
    client.expect_closed();
}
