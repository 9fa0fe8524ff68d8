//! `/ping`, `/live` and `/ready`.

use nsq_daemon::log::{Capture, Level, Logger};

use crate::harness::{TestNsqd, request};

#[tokio::test]
async fn a_healthy_nsqd_answers_ok_without_the_marker() {
    let nsqd = TestNsqd::start().await;
    let answer = nsqd.get("/ping").await;
    assert_eq!(answer.brief(), (200, "OK"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("X-Nsq-Content-Type"), None);
    nsqd.stop().await;
}

#[tokio::test]
async fn an_nsqd_whose_disk_fails_says_so_until_it_works_again() {
    let nsqd = TestNsqd::start().await;
    let (folder, elsewhere) = (nsqd.folder.path(), nsqd.folder.path().with_extension("moved"));
    std::fs::rename(folder, &elsewhere).unwrap();
    assert_eq!(nsqd.post("/pub?topic=t", "x").await.refusal(), (503, "EXITING"));
    assert_eq!(nsqd.post("/mpub?topic=t", "x").await.refusal(), (503, "EXITING"));
    assert_eq!(nsqd.post("/topic/create?topic=t", "").await.refusal(), (500, "INTERNAL_ERROR"));
    let answer = nsqd.get("/ping").await;
    assert_eq!((answer.status, answer.header("X-Nsq-Content-Type")), (500, None));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert!(answer.body.starts_with("NOK - ") && answer.body.len() > 6, "{}", answer.body);
    assert_eq!(nsqd.stats("").await["health"], answer.body);

    std::fs::rename(elsewhere, folder).unwrap();
    assert_eq!(nsqd.post("/pub?topic=t", "x").await.brief(), (200, "OK"));
    // nsqd retries by itself what failed, and is healthy only after that.
    while nsqd.get("/ping").await.brief() != (200, "OK") {
        tokio::task::yield_now().await;
    }
    assert_eq!(nsqd.stats("").await["health"], "OK");
    nsqd.stop().await;
}

#[tokio::test]
async fn probes_are_answered_without_the_marker_and_stay_out_of_the_log() {
    let log = Capture::new();
    let nsqd =
        TestNsqd::start_logging(|_| {}, Logger::with_sink("", Level::Info, log.clone())).await;
    for path in ["/live", "/ready"] {
        let answer = nsqd.get(path).await;
        assert_eq!(answer.brief(), (200, "OK"), "{path}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("X-Nsq-Content-Type"), None);
    }
    assert!(!log.texts().iter().any(|line| line.contains(" 200 GET ")), "{:#?}", log.texts());
    nsqd.stop().await;
}

#[tokio::test]
async fn an_nsqd_whose_disk_fails_is_live_but_not_ready() {
    let nsqd = TestNsqd::start().await;
    let (folder, elsewhere) = (nsqd.folder.path(), nsqd.folder.path().with_extension("moved"));
    std::fs::rename(folder, &elsewhere).unwrap();
    assert_eq!(nsqd.post("/pub?topic=t", "x").await.refusal(), (503, "EXITING"));
    let answer = nsqd.get("/ready").await;
    assert_eq!((answer.status, &answer.body), (503, &nsqd.get("/ping").await.body));
    assert_eq!(nsqd.get("/live").await.brief(), (200, "OK"));
    std::fs::rename(elsewhere, folder).unwrap();
    while nsqd.get("/ready").await.brief() != (200, "OK") {
        tokio::task::yield_now().await;
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn an_nsqd_that_stops_is_live_but_not_ready() {
    let log = Capture::new();
    let nsqd =
        TestNsqd::start_logging(|_| {}, Logger::with_sink("", Level::Info, log.clone())).await;
    // Requests that have begun before the stop are answered.
    let [live, ready] = ["/live", "/ready"].map(|path| request("GET", path, ""));
    let (mut asking_live, mut asking_ready) =
        (nsqd.send(&live[..10]).await, nsqd.send(&ready[..10]).await);
    assert_eq!(nsqd.get("/ping").await.brief(), (200, "OK"));
    let stopping = tokio::spawn(nsqd.stop());
    while !log.texts().iter().any(|line| line.starts_with("INFO: HTTP: closing ")) {
        tokio::task::yield_now().await;
    }
    asking_live.send(&live[10..]).await;
    asking_ready.send(&ready[10..]).await;
    assert_eq!(asking_live.answer().await.brief(), (200, "OK"));
    assert_eq!(asking_ready.answer().await.brief(), (503, "NOK - stopping"));
    stopping.await.unwrap();
}
