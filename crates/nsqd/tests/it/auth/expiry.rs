//! Permissions that expire. A second is the shortest time there is, so these tests take about that long.

use nsq_daemon::http::StatusCode;
use nsq_protocol::{Command, encode_multi_pub};

use super::{
    authorized, fatal, nsqd_asking,
    server::{AuthServer, Reaction, allowing_for},
};
use crate::support::{Received, Server, eventually, http};

const PUBLISH: Command<'_> = Command::Pub { topic: "t", body: b"x" };

/// An answer that allows anything for a second.
pub(super) fn anything_for_a_second() -> String {
    allowing_for(1, "", r#"[""]"#, r#"["subscribe","publish"]"#)
}

fn failing() -> Reaction {
    Reaction::Fail(StatusCode::INTERNAL_SERVER_ERROR, String::new())
}

/// Returns once all permissions that were granted before have expired.
pub(super) fn let_expire(nsqd: &Server, auth: &AuthServer) {
    let mut later = authorized(nsqd);
    auth.others();
    eventually(|| {
        later.publish("clock", b"tick");
        auth.others() > 0
    });
}

#[test]
fn the_auth_server_is_asked_again_when_permissions_have_expired() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = nsqd_asking(&[&auth]);
    let (mut publisher, mut subscriber) = (authorized(&nsqd), authorized(&nsqd));
    let asked = auth.asked().target;
    let_expire(&nsqd, &auth);
    publisher.ok(PUBLISH);
    assert_eq!(auth.asked().target, asked);
    subscriber.ok(Command::Sub { topic: "t", channel: "c" });
    assert_eq!(auth.asked().target, asked);
}

#[test]
fn a_client_is_closed_when_the_auth_server_fails_after_expiry() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = nsqd_asking(&[&auth]);
    let (publisher, subscriber) = (authorized(&nsqd), authorized(&nsqd));
    let_expire(&nsqd, &auth);
    auth.will(failing());
    assert_eq!(fatal(publisher, PUBLISH), "E_AUTH_FAILED AUTH failed");
    let subscribe = Command::Sub { topic: "t", channel: "c" };
    assert_eq!(fatal(subscriber, subscribe), "E_AUTH_FAILED AUTH failed");
}

#[test]
fn new_permissions_replace_those_that_have_expired() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = nsqd_asking(&[&auth]);
    let (mut publisher, mut other) = (authorized(&nsqd), authorized(&nsqd));
    publisher.ok(PUBLISH);
    other.ok(PUBLISH);
    let_expire(&nsqd, &auth);
    auth.will(Reaction::Answer(allowing_for(1, "^u$", r#"[""]"#, r#"["publish"]"#)));
    publisher.ok(Command::Pub { topic: "u", body: b"x" });
    for client in [publisher, other] {
        let denied = fatal(client, PUBLISH);
        assert_eq!(denied, r#"E_UNAUTHORIZED AUTH failed for PUB on "t" """#);
    }
}

#[test]
fn an_mpub_goes_on_where_it_was_when_there_are_new_permissions() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = nsqd_asking(&[&auth]);
    let mut publisher = authorized(&nsqd);
    let_expire(&nsqd, &auth);
    let mut bytes = Vec::new();
    encode_multi_pub("t", &["one", "two", "three"], &mut bytes);
    let (begin, end) = bytes.split_at(bytes.len() - 8);
    publisher.send_bytes(begin);
    auth.asked();
    publisher.send_bytes(end);
    assert_eq!(publisher.receive(), Received::Response("OK".to_owned()));
    let mut consumer = authorized(&nsqd);
    consumer.subscribe("t", "c", 3);
    assert_eq!(consumer.finish_next(3), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_subscription_goes_on_when_its_permissions_have_expired() {
    let auth = AuthServer::answering(anything_for_a_second());
    let nsqd = nsqd_asking(&[&auth]);
    let mut consumer = authorized(&nsqd);
    consumer.subscribe("t", "c", 1);
    let_expire(&nsqd, &auth);
    auth.will(failing());
    for _ in 0..2 {
        assert_eq!(http(nsqd.http, "POST", "/pub?topic=t", b"x").0, 200);
        let message = consumer.message();
        consumer.fin(message.id);
        consumer.send(Command::Rdy(1));
    }
    consumer.settle();
    assert_eq!(auth.others(), 0);
    // But it may not publish any more.
    consumer.send(PUBLISH);
    assert_eq!(consumer.receive(), Received::Error("E_AUTH_FAILED AUTH failed".to_owned()));
    consumer.expect_closed();
}
