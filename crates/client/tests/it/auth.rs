//! AUTH: when it is sent, and how its result is handled.

use nsq_client::{Code, Config, ConfigOption, ConnectError, IdentifyResponse, identify};

use crate::support::{Nsqd, Peer, connect, consumer, error, ok, soon};

const AUTH_REQUIRED: &[u8] = br#"{"auth_required":true}"#;

fn with_secret() -> Config {
    Config { auth_secret: "s3cret".into(), ..Config::default() }
}

/// Calls `identify` on an nsqd that answers IDENTIFY with `answer` and then does `serve`; returns the result.
async fn identified(
    config: Config,
    answer: &[u8],
    serve: impl AsyncFnOnce(&mut Peer),
) -> Result<IdentifyResponse, ConnectError> {
    let nsqd = Nsqd::start().await;
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.respond(answer).await;
        serve(&mut peer).await;
        peer.is_closed().await;
    };
    soon(async { tokio::join!(identify(nsqd.address(), &config), serve) }).await.0
}

#[tokio::test]
async fn an_accepted_secret_gives_the_client_its_identity() {
    // H12
    let response = identified(with_secret(), AUTH_REQUIRED, async |peer| {
        peer.said(&["AUTH s3cret"]).await;
        let url = "http://x";
        let answer = format!(r#"{{"identity":"me","identity_url":"{url}","permission_count":2}}"#);
        peer.respond(answer.as_bytes()).await;
    });
    let auth = response.await.unwrap().auth.unwrap();
    assert_eq!((auth.identity.as_str(), auth.identity_url.as_str()), ("me", "http://x"));
    assert_eq!(auth.permission_count, 2);
}

#[tokio::test]
async fn without_a_secret_nothing_is_sent_to_an_nsqd_that_requires_authorization() {
    // H12
    let refused = error(identified(Config::default(), AUTH_REQUIRED, async |_| ()).await);
    assert!(matches!(refused, ConnectError::AuthRequired { .. }), "{refused:?}");
    assert!(!refused.is_retryable());
}

#[tokio::test]
async fn a_refused_secret_is_told_with_code_and_text() {
    // H12
    for (text, code, is_retryable) in [
        ("E_UNAUTHORIZED AUTH no authorizations found", Code::Unauthorized, false),
        ("E_AUTH_FAILED AUTH failed", Code::AuthFailed, true),
    ] {
        let refused = identified(with_secret(), AUTH_REQUIRED, async |peer| {
            peer.said(&["AUTH s3cret"]).await;
            peer.error(text).await;
        });
        let refused = error(refused.await);
        let ConnectError::Auth(server) = &refused else { panic!("{refused:?}") };
        assert_eq!((server.code(), server.text()), (Some(code), text));
        assert_eq!(refused.is_retryable(), is_retryable);
    }
}

#[tokio::test]
async fn an_unusable_answer_to_auth_is_an_error() {
    let refused = identified(with_secret(), AUTH_REQUIRED, async |peer| {
        peer.said(&["AUTH s3cret"]).await;
        peer.respond(b"OK").await;
    });
    let refused = error(refused.await);
    assert!(matches!(refused, ConnectError::AuthAnswer(_)), "{refused:?}");
}

#[tokio::test]
async fn a_secret_is_not_sent_to_an_nsqd_that_does_not_require_it() {
    // H13, H02
    for answer in [&b"{}"[..], b"OK", br#"{"auth_required":false}"#] {
        let response = identified(with_secret(), answer, async |_| ()).await.unwrap();
        assert_eq!(response.auth, None);
    }
}

#[tokio::test]
async fn a_consumer_authorizes_itself_before_it_subscribes() {
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).config(with_secret()).handler(ok).build().unwrap();
    let serve = async {
        let mut peer = nsqd.accept().await;
        peer.magic().await;
        peer.said(&["IDENTIFY"]).await;
        peer.respond(AUTH_REQUIRED).await;
        peer.said(&["AUTH s3cret"]).await;
        peer.respond(br#"{"identity":"me"}"#).await;
        peer.said(&["SUB t c"]).await;
        peer.respond(b"OK").await;
        peer.said(&["RDY 1"]).await;
    };
    let connecting = consumer.connect_to_nsqd(nsqd.address());
    soon(async { tokio::join!(connecting, serve) }).await.0.unwrap();
}

#[tokio::test]
async fn a_secret_is_not_shown() {
    let option: ConfigOption = "auth-secret,s3cret".parse().unwrap();
    let mut config = Config::default();
    config.apply(&option).unwrap();
    assert_eq!(config.auth_secret.expose(), "s3cret");
    assert!(!format!("{config:?} {option:?}").contains("s3cret"));
    let nsqd = Nsqd::start().await;
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let _peer = connect(&consumer, &nsqd).await;
    assert!(!format!("{consumer:?}").contains("s3cret"));
}
