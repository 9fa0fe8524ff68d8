//! Discovery of nsqds through nsqlookupds.

use std::time::Duration;

use nsq_client::{
    Config, ConnectError, Consumer, DisconnectLookupdError, Discovered, DiscoveryError, Event,
    LookupError, NotConnected,
};
use tokio::time::Instant;

use crate::{
    lookupd::{Lookupd, listing},
    support::{Nsqd, Peer, consumer, error, fin, ok, quick, soon},
};

/// A configuration that polls only when a connection is lost.
fn seldom() -> Config {
    Config { lookupd_poll_interval: Duration::from_secs(300), ..quick(10) }
}

/// Lets `lookupd` answer the first query with `nsqd` and returns nsqd's end of the connection.
async fn discover(consumer: &Consumer, lookupd: &Lookupd, nsqd: &Nsqd) -> Peer {
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        lookupd.knows(&[nsqd.address()]).await;
        nsqd.subscribed().await
    };
    let (connected, peer) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
    peer
}

#[tokio::test]
async fn the_first_query_and_its_connections_are_made_before_connecting_returns() {
    // L03, L09
    let (lookupd, nsqd) = (Lookupd::start().await, Nsqd::start().await);
    let consumer =
        Consumer::builder("t#ephemeral", "c").config(seldom()).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        let asked = lookupd.asked().await;
        assert_eq!(asked.request_line(), "GET /lookup?topic=t%23ephemeral HTTP/1.1");
        assert_eq!(asked.header("accept"), Some("application/vnd.nsq; version=1.0"));
        assert_eq!(asked.header("host"), Some(lookupd.address()));
        assert_eq!(asked.header("authorization"), None);
        asked.answer("200 OK", &listing(&[nsqd.address()])).await;
        let mut peer = nsqd.identified().await;
        peer.said(&["SUB t#ephemeral c"]).await;
        peer.respond(b"OK").await;
        peer
    };
    let (connected, mut peer) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
    assert_eq!(consumer.stats().connections, 1);
    peer.message(1, 1).await;
    peer.said(&["RDY 10", &fin(1)]).await;
}

#[tokio::test]
async fn the_secret_is_sent_unless_it_shall_not_be() {
    // L09
    for (sent, expected) in [(true, Some("Bearer sesame")), (false, None)] {
        let lookupd = Lookupd::start().await;
        let mut config = Config { auth_secret: "sesame".into(), ..seldom() };
        config.set("skip_lookupd_authorization", sent).unwrap();
        let consumer = consumer(1).config(config).handler(ok).build().unwrap();
        let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
        let serve = async {
            let asked = lookupd.asked().await;
            assert_eq!(asked.header("authorization"), expected);
            asked.answer("200 OK", "").await;
        };
        let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
        connected.unwrap();
    }
}

#[tokio::test]
async fn what_any_nsqlookupd_knows_is_connected_to() {
    // L06, L07, L08, trace 13
    let mut lookupds = Vec::new();
    for _ in 0..5 {
        lookupds.push(Lookupd::start().await);
    }
    let (a, b, c) = (Nsqd::start().await, Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(10).config(seldom()).handler(ok).build().unwrap();
    let mut events = consumer.events();
    let nowhere = Nsqd::start().await.address().to_owned();
    let addresses = lookupds.iter().map(Lookupd::address).chain([&*nowhere]);
    let connecting = consumer.connect_to_nsqlookupds(addresses);
    let wrapped =
        format!(r#"{{"status_code":200,"data":{}}}"#, listing(&[a.address(), b.address()]));
    let known = listing(&[b.address(), c.address()]);
    let answer = async |i: usize, status: &str, body: &str| {
        lookupds[i].asked().await.answer(status, body).await;
    };
    let serve = async {
        tokio::join!(
            answer(0, "500 Internal Server Error", "oops"),
            answer(1, "404 Not Found", r#"{"message":"TOPIC_NOT_FOUND"}"#),
            answer(2, "200 OK", &wrapped),
            answer(3, "200 OK", &known),
            answer(4, "200 OK", "no list"),
            a.subscribed(),
            b.subscribed(),
            c.subscribed(),
        )
    };
    let (connected, _peers) = soon(Box::pin(async { tokio::join!(connecting, serve) })).await;
    connected.unwrap();
    assert_eq!(consumer.stats().connections, 3);
    let (mut failures, mut connections) = (Vec::new(), 0);
    while failures.len() < 3 || connections < 3 {
        match soon(events.recv()).await.unwrap() {
            Event::LookupFailed { nsqlookupd, error } => failures.push((nsqlookupd, error)),
            Event::Connected { .. } => connections += 1,
            other => panic!("{other:?}"),
        }
    }
    for (nsqlookupd, error) in failures {
        match error {
            LookupError::Connect(_) => assert_eq!(nsqlookupd, nowhere),
            LookupError::Status { status: 500, body } => assert_eq!(body, "oops"),
            LookupError::Answer(_) => assert_eq!(nsqlookupd, lookupds[4].address()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_topic_that_comes_later_is_found_by_polling() {
    // L05, L07, L12
    let (lookupd, nsqd) = (Lookupd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        for _ in 0..3 {
            let unknown = r#"{"message":"TOPIC_NOT_FOUND"}"#;
            lookupd.asked().await.answer("404 Not Found", unknown).await;
        }
        lookupd.knows(&[nsqd.address()]).await;
        nsqd.subscribed().await
    };
    let (connected, mut peer) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
    peer.said(&["RDY 10"]).await;
    lookupd.knows(&[nsqd.address()]).await;
    assert_eq!(consumer.stats().connections, 1);
}

#[tokio::test]
async fn an_nsqlookupd_that_is_away_is_no_error_and_is_asked_again_soon() {
    // L03
    let address = Lookupd::start().await.address().to_owned();
    let nsqd = Nsqd::start().await;
    let consumer = consumer(10).config(seldom()).handler(ok).build().unwrap();
    soon(consumer.connect_to_nsqlookupd(&address)).await.unwrap();
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let lookupd = Lookupd::from(listener);
    lookupd.knows(&[nsqd.address()]).await;
    nsqd.subscribed().await.said(&["RDY 10"]).await;
}

#[tokio::test]
async fn polling_starts_after_no_more_than_interval_and_jitter() {
    // L04
    let lookupd = Lookupd::start().await;
    let config = Config {
        lookupd_poll_interval: Duration::from_millis(200),
        lookupd_poll_jitter: 0.0,
        ..quick(1)
    };
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let ((), connected) = soon(async { tokio::join!(lookupd.knows(&[]), connecting) }).await;
    connected.unwrap();
    let since = Instant::now();
    lookupd.knows(&[]).await;
    assert!(since.elapsed() > Duration::from_millis(100), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_lost_connection_has_the_nsqlookupds_asked_at_once() {
    // L12, L13
    let (lookupd, a, b) = (Lookupd::start().await, Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(10).config(seldom()).handler(ok).build().unwrap();
    let mut at_a = discover(&consumer, &lookupd, &a).await;
    at_a.said(&["RDY 10"]).await;
    drop((at_a, a));
    lookupd.knows(&[b.address()]).await;
    b.subscribed().await.said(&["RDY 10"]).await;
}

#[tokio::test]
async fn an_nsqd_that_vanished_is_forgotten_when_it_cannot_be_reached() {
    // L13
    let (lookupd, a) = (Lookupd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let at_a = discover(&consumer, &lookupd, &a).await;
    let address = a.address().to_owned();
    // It stays while it is reachable, whatever nsqlookupd answers.
    for _ in 0..3 {
        lookupd.knows(&[]).await;
    }
    assert_eq!(consumer.stats().connections, 1);
    drop((at_a, a));
    let serving = lookupd.keep_knowing(&[]);
    // The application could not connect to it while it is known.
    soon(async {
        while let Err(ConnectError::AlreadyConnected(_)) = consumer.connect_to_nsqd(&address).await
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    serving.abort();
}

#[tokio::test]
async fn a_dead_nsqd_does_not_delay_the_others() {
    // L16
    let (lookupd, silent, alive) =
        (Lookupd::start().await, Nsqd::start().await, Nsqd::start().await);
    let config = Config { handshake_timeout: Duration::from_secs(300), ..seldom() };
    let consumer = consumer(10).config(config).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        lookupd.knows(&[silent.address(), alive.address()]).await;
        // One is accepted and never answered.
        let silence = silent.accept().await;
        let mut peer = alive.subscribed().await;
        peer.message(1, 1).await;
        peer.said(&["RDY 10", &fin(1)]).await;
        soon(consumer.stop_with(nsq_client::StopMode::Drain, Duration::ZERO)).await;
        drop(silence);
    };
    let (connected, ()) = soon(async { tokio::join!(connecting, serve) }).await;
    // Stopping ends the wait.
    drop(connected);
}

#[tokio::test]
async fn a_filter_chooses_among_the_discovered_only() {
    // L11
    let (lookupd, a, b) = (Lookupd::start().await, Nsqd::start().await, Nsqd::start().await);
    let unwanted = a.address().to_owned();
    let consumer = consumer(10)
        .config(seldom())
        .handler(ok)
        .discovery_filter(move |nsqds: Vec<Discovered>| {
            assert!(nsqds.iter().all(|nsqd| nsqd.hostname == "h"));
            nsqds.into_iter().filter(|nsqd| nsqd.address != unwanted).collect()
        })
        .build()
        .unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        lookupd.knows(&[a.address(), b.address()]).await;
        b.subscribed().await
    };
    let (connected, _at_b) = soon(async { tokio::join!(connecting, serve) }).await;
    connected.unwrap();
    assert_eq!(consumer.stats().connections, 1);
    let connecting = consumer.connect_to_nsqd(a.address());
    let (connected, _at_a) = soon(async { tokio::join!(connecting, a.subscribed()) }).await;
    connected.unwrap();
}

#[tokio::test]
async fn a_given_up_nsqd_is_not_brought_back_by_discovery() {
    // X05
    let (lookupd, a, b) = (Lookupd::start().await, Nsqd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let mut at_a = discover(&consumer, &lookupd, &a).await;
    consumer.disconnect_from_nsqd(a.address()).unwrap();
    at_a.said(&["RDY 10", "CLS"]).await;
    at_a.respond(b"CLOSE_WAIT").await;
    at_a.is_closed().await;
    for _ in 0..2 {
        lookupd.knows(&[a.address()]).await;
    }
    // If it had been reconnected, it would be known.
    lookupd.knows(&[a.address(), b.address()]).await;
    b.subscribed().await.said(&["RDY 10"]).await;
    let unknown = consumer.disconnect_from_nsqd(a.address());
    assert_eq!(unknown, Err(NotConnected(a.address().to_owned())));
}

#[tokio::test]
async fn nsqds_given_by_address_come_back_whatever_nsqlookupd_knows() {
    // X08
    let (lookupd, a) = (Lookupd::start().await, Nsqd::start().await);
    let consumer = consumer(10).handler(ok).build().unwrap();
    let address = lookupd.address().to_owned();
    let serving = lookupd.keep_knowing(&[]);
    soon(consumer.connect_to_nsqlookupd(&address)).await.unwrap();
    let at_a = crate::support::connect(&consumer, &a).await;
    drop(at_a);
    a.subscribed().await.said(&["RDY 10"]).await;
    serving.abort();
}

#[tokio::test]
async fn an_nsqd_that_refuses_the_subscription_is_not_tried_in_a_hot_loop() {
    // X07
    let nsqd = Nsqd::start().await;
    let lookupd = Lookupd::start().await;
    let address = lookupd.address().to_owned();
    let serving = lookupd.keep_knowing(&[nsqd.address()]);
    let lookupd_poll_interval = Duration::from_millis(200);
    let config = Config { lookupd_poll_interval, ..quick(10) };
    let consumer = consumer(10).config(config).handler(ok).build().unwrap();
    let mut events = consumer.events();
    let connecting = consumer.connect_to_nsqlookupd(&address);
    let refuse = async {
        let mut peer = nsqd.identified().await;
        peer.said(&["SUB t c"]).await;
        peer.error("E_UNAUTHORIZED AUTH failed for SUB").await;
    };
    let (connected, ()) = soon(async { tokio::join!(connecting, refuse) }).await;
    connected.unwrap();
    let Some(Event::ConnectFailed { nsqd: failed, error }) = soon(events.recv()).await else {
        panic!("no event")
    };
    assert_eq!(failed, nsqd.address());
    assert!(matches!(error, ConnectError::Subscribe(_)), "{error:?}");
    let since = Instant::now();
    drop(nsqd.accept().await);
    assert!(since.elapsed() > Duration::from_millis(100), "{:?}", since.elapsed());
    serving.abort();
}

#[tokio::test]
async fn known_addresses_are_not_added_twice_and_the_last_one_stays() {
    // L01, L02, L14
    let (a, b) = (Lookupd::start().await, Lookupd::start().await);
    let consumer = consumer(1).config(seldom()).handler(ok).build().unwrap();
    let unknown = error(consumer.disconnect_from_nsqlookupd(a.address()));
    assert_eq!(unknown, DisconnectLookupdError::NotConnected(a.address().to_owned()));
    let urls = [a.address().to_owned(), format!("http://{}/lookup", a.address())];
    let connecting = consumer.connect_to_nsqlookupds(urls.clone());
    let ((), connected) = soon(async { tokio::join!(a.knows(&[]), connecting) }).await;
    connected.unwrap();
    // This would hang if it were asked.
    soon(consumer.connect_to_nsqlookupd(&urls[1])).await.unwrap();
    let last = error(consumer.disconnect_from_nsqlookupd(&urls[1]));
    assert_eq!(last, DisconnectLookupdError::OnlyOne(a.address().to_owned()));
    let connecting = consumer.connect_to_nsqlookupd(b.address());
    let ((), connected) = soon(async { tokio::join!(b.knows(&[]), connecting) }).await;
    connected.unwrap();
    consumer.disconnect_from_nsqlookupd(a.address()).unwrap();
    assert!(consumer.disconnect_from_nsqlookupd(a.address()).is_err());
}

#[tokio::test]
async fn addresses_and_states_that_cannot_work_are_errors() {
    // L01, X01
    let consumer_without = consumer(1).build().unwrap();
    let refused = error(consumer_without.connect_to_nsqlookupd("127.0.0.1:1").await);
    assert_eq!(refused, DiscoveryError::NoHandlers);
    let consumer = consumer(1).handler(ok).build().unwrap();
    let refused = error(consumer.connect_to_nsqlookupds(["127.0.0.1:1", "nowhere"]).await);
    assert!(matches!(refused, DiscoveryError::Address { reason: "missing port", .. }));
    soon(consumer.stop()).await;
    let refused = error(consumer.connect_to_nsqlookupd("127.0.0.1:1").await);
    assert_eq!(refused, DiscoveryError::Stopped);
}

#[tokio::test]
async fn an_nsqlookupd_that_does_not_answer_is_given_up_in_time() {
    // L15
    let lookupd = Lookupd::start().await;
    let config = Config { lookupd_poll_timeout: Duration::from_millis(20), ..seldom() };
    let consumer = consumer(1).config(config).handler(ok).build().unwrap();
    let mut events = consumer.events();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let (connected, _asked) = soon(async { tokio::join!(connecting, lookupd.asked()) }).await;
    connected.unwrap();
    let event = soon(events.recv()).await.unwrap();
    let Event::LookupFailed { error: LookupError::Timeout(limit), .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(limit, Duration::from_millis(20));
}

#[tokio::test]
async fn a_stop_interrupts_a_query() {
    // S04
    let lookupd = Lookupd::start().await;
    let consumer = consumer(1).config(seldom()).handler(ok).build().unwrap();
    let connecting = consumer.connect_to_nsqlookupd(lookupd.address());
    let serve = async {
        let asked = lookupd.asked().await;
        soon(consumer.stop()).await;
        asked
    };
    let (connected, _asked) = soon(async { tokio::join!(connecting, serve) }).await;
    assert_eq!(error(connected), DiscoveryError::Stopped);
}
