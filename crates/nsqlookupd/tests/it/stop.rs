//! Shutdown.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::TestLookupd;

#[tokio::test]
async fn a_stop_closes_every_connection_also_those_that_have_said_nothing() {
    let lookupd = TestLookupd::start().await;
    let (mut silent, mut client) = (lookupd.connect().await, lookupd.client().await);
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", None).await;
    // Its response shows that the connections before it were accepted.
    let (log, tcp, http) = (lookupd.log.clone(), lookupd.tcp, lookupd.http);
    lookupd.stop().await;
    for conn in [&mut silent, &mut client, &mut nsqd] {
        assert_eq!(conn.rest().await, b"");
    }
    let lines = log.texts();
    for line in [
        format!("INFO: TCP: listening on {tcp}"),
        format!("INFO: HTTP: listening on {http}"),
        format!("INFO: TCP: closing {tcp}"),
        format!("INFO: HTTP: closing {http}"),
        format!("INFO: DB: client({}) UNREGISTER category:topic key:t subkey:", nsqd.address()),
    ] {
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
    assert!(TcpStream::connect(tcp).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_request_that_never_ends() {
    let lookupd = TestLookupd::start().await;
    let mut slow = TcpStream::connect(lookupd.http).await.unwrap();
    slow.write_all(b"GET /lookup?to").await.unwrap();
    lookupd.get("/ping").await;
    lookupd.stop().await;
}

#[tokio::test]
async fn the_start_is_refused_when_an_address_is_taken() {
    let lookupd = TestLookupd::start().await;
    let options = nsqlookupd::Options {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: lookupd.http.to_string(),
        ..nsqlookupd::Options::default()
    };
    let logger = nsq_daemon::log::Logger::discard();
    let error = nsqlookupd::Nsqlookupd::start(options, logger).await.err().unwrap().to_string();
    let expected =
        format!("failed to instantiate nsqlookupd - listen ({}) failed - ", lookupd.http);
    assert!(error.starts_with(&expected), "{error}");
}
