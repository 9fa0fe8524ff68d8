//! AUTH against a real auth server, and what it allows.

mod connections;
mod expiry;
mod library;
mod server;
mod slow;

use nsq_daemon::{
    http::{Method, StatusCode},
    log::{Capture, Level, Logger},
};
use nsq_protocol::{Command, encode_multi_pub};
use nsqd::{AuthMethod, World};
use serde_json::json;

use self::server::{ANYTHING, AuthServer, Reaction, allowing};
use crate::support::{Client, Received, Server, http};

const SUCCESS: &str = r#"{"identity":"me","identity_url":"http://me","permission_count":1}"#;

/// An nsqd that asks these servers.
fn nsqd_asking(servers: &[&AuthServer]) -> Server {
    Server::with(|options| {
        options.auth_http_addresses = servers.iter().map(|server| server.address()).collect();
    })
}

/// A client that has sent AUTH; returns the answer too.
fn send_auth(nsqd: &Server) -> (Client, Received) {
    let mut client = nsqd.client();
    client.send(Command::Auth(b"s3cret"));
    let answer = client.receive();
    (client, answer)
}

/// A client that has sent AUTH with success.
fn authorized(nsqd: &Server) -> Client {
    let (client, answer) = send_auth(nsqd);
    assert!(matches!(answer, Received::Response(_)), "{answer:?}");
    client
}

/// The error that a command is answered with, which closes the connection.
fn fatal(mut client: Client, command: Command<'_>) -> String {
    client.send(command);
    let error = client.error();
    client.expect_closed();
    error
}

#[test]
fn clients_are_told_that_authorization_is_required() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let asks = r#"{"feature_negotiation":true}"#;
    let Received::Response(negotiation) = nsqd.client().identify(asks) else { panic!() };
    assert!(negotiation.contains(r#""auth_required":true"#), "{negotiation}");
}

#[test]
fn without_auth_servers_auth_is_refused_once_its_body_is_there() {
    let nsqd = Server::start();
    assert_eq!(fatal(nsqd.client(), Command::Auth(b"s")), "E_AUTH_DISABLED AUTH disabled");
    let mut client = nsqd.client();
    client.send_bytes(b"AUTH\n\0\0\0\x06s3c");
    client.end_stream();
    assert_eq!(client.error(), "E_BAD_BODY AUTH failed to read body");
}

#[test]
fn an_accepted_client_is_told_who_it_is_and_cannot_change_that() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let (client, answer) = send_auth(&nsqd);
    assert_eq!(answer, Received::Response(SUCCESS.to_owned()));
    assert_eq!(fatal(client, Command::Auth(b"other")), "E_INVALID AUTH already set");
}

#[test]
fn names_in_the_answer_are_escaped_as_go_escapes_them() {
    let auth = AuthServer::answering(ANYTHING.replace("me\"", "<me>&\\\"\""));
    let nsqd = nsqd_asking(&[&auth]);
    let (_, answer) = send_auth(&nsqd);
    let expected = r#"{"identity":"\u003cme\u003e\u0026\"","identity_url":"http://\u003cme\u003e\u0026\"","permission_count":1}"#;
    assert_eq!(answer, Received::Response(expected.to_owned()));
}

#[test]
fn auth_before_identify_and_after_it_is_the_same_but_not_after_sub() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let mut client = authorized(&nsqd);
    assert_eq!(client.identify("{}"), Received::Response("OK".to_owned()));
    client.subscribe("t", "c", 0);
    assert_eq!(fatal(client, Command::Auth(b"s")), "E_INVALID cannot AUTH in current state");
}

#[test]
fn nothing_is_published_or_subscribed_before_auth() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let required = |command: &str| format!("E_AUTH_FIRST AUTH required before {command}");
    for (command, name) in [
        (Command::Sub { topic: "t", channel: "c" }, "SUB"),
        (Command::Pub { topic: "t", body: b"x" }, "PUB"),
        (Command::DeferredPub { topic: "t", delay_ms: 1, body: b"x" }, "DPUB"),
    ] {
        assert_eq!(fatal(nsqd.client(), command), required(name));
    }
    let mut client = nsqd.client();
    let mut mpub = Vec::new();
    encode_multi_pub("t", &["x"], &mut mpub);
    client.send_bytes(&mpub);
    assert_eq!(client.error(), required("MPUB"));
    assert_eq!(nsqd.stats()["topics"], json!([]));
    assert_eq!(auth.others(), 0);
}

#[test]
fn an_mpub_is_authorized_before_its_body_and_a_pub_after_it() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    for begun in [&b"MPUB t\n"[..], b"MPUB t\n\0\0\0\0", b"MPUB t\n\0\0\0\x09\0\0\0\x01"] {
        let mut client = nsqd.client();
        client.send_bytes(begun);
        assert_eq!(client.error(), "E_AUTH_FIRST AUTH required before MPUB");
        client.expect_closed();
    }
    let mut client = nsqd.client();
    client.send_bytes(b"PUB t\n\0\0\0\0");
    assert_eq!(client.error(), "E_BAD_MESSAGE PUB invalid message body size 0");
    assert_eq!(nsqd.stats()["topics"], json!([]));
}

#[test]
fn a_get_carries_sorted_and_escaped_parameters() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let mut client = nsqd.client();
    client.send(Command::Auth(b"a b&c=d/\xff~-_.*+%\"<"));
    assert_eq!(client.receive(), Received::Response(SUCCESS.to_owned()));
    let asked = auth.asked();
    let secret = "a+b%26c%3Dd%2F%FF~-_.%2A%2B%25%22%3C";
    let target = format!("/auth?common_name=&remote_ip=127.0.0.1&secret={secret}&tls=false");
    assert_eq!((asked.method, asked.target), (Method::GET, target));
    assert_eq!(asked.accept.as_deref(), Some("application/vnd.nsq; version=1.0"));
    assert_eq!((asked.content_type, asked.body.as_str()), (None, ""));
}

#[test]
fn a_post_carries_them_as_lists_in_json() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = Server::with(|options| {
        options.auth_http_addresses = vec![auth.address()];
        options.auth_http_request_method = AuthMethod::Post;
    });
    authorized(&nsqd);
    let asked = auth.asked();
    assert_eq!((asked.method, asked.target.as_str()), (Method::POST, "/auth"));
    assert_eq!(asked.accept.as_deref(), Some("application/vnd.nsq; version=1.0"));
    assert_eq!(asked.content_type.as_deref(), Some("application/json"));
    let document =
        r#"{"common_name":[""],"remote_ip":["127.0.0.1"],"secret":["s3cret"],"tls":["false"]}"#;
    assert_eq!(asked.body, document);
}

#[test]
fn a_url_is_asked_as_it_is() {
    let auth = AuthServer::answering(ANYTHING);
    for (path, expected) in
        [("/other", "/other?common_name="), ("/other?k=v", "/other?k=v?common_name=")]
    {
        let nsqd = Server::with(|options| {
            options.auth_http_addresses = vec![format!("http://{}{path}", auth.address())];
        });
        authorized(&nsqd);
        let target = auth.asked().target;
        assert!(target.starts_with(expected), "{target}");
    }
}

#[test]
fn another_server_is_asked_when_one_fails() {
    let good = AuthServer::answering(ANYTHING);
    let bad = AuthServer::start(Reaction::Fail(StatusCode::BAD_GATEWAY, String::new()));
    let nsqd = nsqd_asking(&[&bad, &good]);
    for _ in 0..4 {
        authorized(&nsqd);
        good.asked();
    }
    // It was asked first by every second client.
    assert_eq!(bad.others(), 2);
}

#[test]
fn unusable_answers_fail_and_only_the_log_says_why() {
    let log = Capture::new();
    let auth = AuthServer::answering("");
    let nsqd = Server::logging_to(
        Logger::with_sink("", Level::Warn, log.clone()),
        World::default(),
        tempfile::tempdir().unwrap(),
        |options| options.auth_http_addresses = vec![auth.address(), "localhost:x".to_owned()],
    );
    let any = |permissions| allowing("t", r#"[".*"]"#, permissions);
    let answer = Reaction::Answer;
    for (reaction, cause) in [
        (answer("{".to_owned()), "invalid JSON at line 1 column 1"),
        (answer(ANYTHING.replace("3600", "0")), "invalid TTL 0 (must be >0)"),
        (answer(any(r#"["admin"]"#)), "unknown permission admin"),
        (answer(allowing("(", "[]", "[]")), "unable to compile topic \"(\""),
        (answer(allowing("t", r#"["["]"#, "[]")), "unable to compile channel \"[\""),
        (answer(ANYTHING.replace("me", &"x".repeat(1 << 20))), "length limit exceeded"),
        (
            Reaction::Fail(StatusCode::INTERNAL_SERVER_ERROR, "s3cret is wrong".to_owned()),
            "got response 500 Internal Server Error",
        ),
        (Reaction::Fail(StatusCode::FORBIDDEN, "{}".to_owned()), "got response 403 Forbidden"),
    ] {
        auth.will(reaction);
        let (mut client, answer) = send_auth(&nsqd);
        assert_eq!(answer, Received::Error("E_AUTH_FAILED AUTH failed".to_owned()), "{cause}");
        client.expect_closed();
        let texts = log.texts();
        let warning = texts.iter().rev().find(|text| text.contains("AUTH failed ")).unwrap();
        let failure = format!("failed to auth against {} - ", auth.address());
        assert!(warning.contains(&failure) && warning.contains(cause), "{warning}");
        assert!(warning.contains("failed to auth against localhost:x - "), "{warning}");
    }
    assert!(!log.lines().concat().contains("s3cret"), "{:?}", log.lines());
}

#[test]
fn a_client_without_authorizations_is_refused() {
    let auth = AuthServer::answering(r#"{"ttl":1,"authorizations":[]}"#);
    let nsqd = nsqd_asking(&[&auth]);
    let (mut client, answer) = send_auth(&nsqd);
    let refusal = "E_UNAUTHORIZED AUTH no authorizations found";
    assert_eq!(answer, Received::Error(refusal.to_owned()));
    client.expect_closed();
}

#[test]
fn a_client_may_do_what_its_permissions_match_and_nothing_else() {
    let auth = AuthServer::answering(allowing("t", r#"["c",".*q$"]"#, r#"["subscribe"]"#));
    let nsqd = nsqd_asking(&[&auth]);
    // Patterns match anywhere.
    for (topic, channel) in [("t", "c"), ("xtx", "xcx"), ("t", "q")] {
        authorized(&nsqd).ok(Command::Sub { topic, channel });
    }
    for (topic, channel) in [("x", "c"), ("t", "x"), ("t", "qx")] {
        let denied = fatal(authorized(&nsqd), Command::Sub { topic, channel });
        let text = format!("E_UNAUTHORIZED AUTH failed for SUB on \"{topic}\" \"{channel}\"");
        assert_eq!(denied, text);
    }
    let denied = fatal(authorized(&nsqd), Command::Pub { topic: "t", body: b"x" });
    assert_eq!(denied, r#"E_UNAUTHORIZED AUTH failed for PUB on "t" """#);
    let topics: Vec<_> = nsqd.stats()["topics"].as_array().unwrap().clone();
    assert_eq!(topics.len(), 2, "a refused command creates nothing");
}

#[test]
fn publishing_needs_a_channel_pattern_that_matches_no_channel() {
    for (channels, may) in
        [(r#"[".*"]"#, true), (r#"["x",""]"#, true), ("[]", false), (r#"["^c$"]"#, false)]
    {
        let auth = AuthServer::answering(allowing("^t$", channels, r#"["publish"]"#));
        let nsqd = nsqd_asking(&[&auth]);
        let mut mpub = Vec::new();
        encode_multi_pub("t", &["x", "y"], &mut mpub);
        let deferred = Command::DeferredPub { topic: "t", delay_ms: 1, body: b"x" };
        let mut clients: Vec<_> =
            ["PUB", "DPUB", "MPUB"].map(|name| (authorized(&nsqd), name)).into();
        clients[0].0.send(Command::Pub { topic: "t", body: b"x" });
        clients[1].0.send(deferred);
        clients[2].0.send_bytes(&mpub);
        for (client, name) in &mut clients {
            let expected = match may {
                true => Received::Response("OK".to_owned()),
                false => {
                    let text = format!("E_UNAUTHORIZED AUTH failed for {name} on \"t\" \"\"");
                    Received::Error(text)
                }
            };
            assert_eq!(client.receive(), expected, "{channels}");
        }
        let denied = fatal(authorized(&nsqd), Command::Sub { topic: "t", channel: "c" });
        assert_eq!(denied, r#"E_UNAUTHORIZED AUTH failed for SUB on "t" "c""#);
    }
}

#[test]
fn commands_sent_together_with_auth_are_authorized_one_by_one() {
    let auth = AuthServer::answering(allowing("^[ab]$", r#"[".*"]"#, r#"["publish"]"#));
    let nsqd = nsqd_asking(&[&auth]);
    let mut bytes = Vec::new();
    Command::Auth(b"s").encode(&mut bytes);
    for topic in ["a", "a", "b", "a", "c", "a"] {
        Command::Pub { topic, body: b"x" }.encode(&mut bytes);
    }
    let mut client = nsqd.client();
    client.send_bytes(&bytes);
    assert!(matches!(client.receive(), Received::Response(answer) if answer != "OK"));
    for _ in 0..4 {
        assert_eq!(client.receive(), Received::Response("OK".to_owned()));
    }
    assert_eq!(client.error(), r#"E_UNAUTHORIZED AUTH failed for PUB on "c" """#);
    client.expect_closed();
    auth.asked();
    assert_eq!(auth.others(), 0);
}

#[test]
fn http_needs_no_authorization() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    assert_eq!(http(nsqd.http, "POST", "/pub?topic=t", b"x").0, 200);
    assert_eq!(nsqd.topic_stats()["message_count"], 1);
    assert_eq!(auth.others(), 0);
}

#[test]
fn stats_show_who_is_authorized() {
    let auth = AuthServer::answering(ANYTHING);
    let nsqd = nsqd_asking(&[&auth]);
    let mut client = authorized(&nsqd);
    client.subscribe("t", "c", 0);
    let (_, stats) = http(nsqd.http, "GET", "/stats?format=json", b"");
    let stats = String::from_utf8(stats).unwrap();
    let keys = r#""user_agent":"","authed":true,"auth_identity":"me","auth_identity_url":"http://me","topology_zone""#;
    assert!(stats.contains(keys), "{stats}");
}
