//! `/debug`: profiles and switches.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nsq_daemon::log::{Capture, Level, Logger};

use crate::harness::{TestNsqd, request};

const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

#[tokio::test]
async fn the_profiles_that_the_index_lists_answer_and_others_do_not() {
    let log = Capture::new();
    let nsqd =
        TestNsqd::start_logging(|_| {}, Logger::with_sink("", Level::Info, log.clone())).await;
    let _consumer = nsqd.subscribe("t", "c").await;
    let index = nsqd.get("/debug/pprof/").await;
    assert_eq!(
        (index.status, index.header("Content-Type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let links =
        index.body.split("href=\"").skip(1).map(|rest| rest.split(['?', '"']).next().unwrap());
    let links: Vec<_> = links.filter(|link| !link.ends_with("/profile")).collect();
    assert_eq!(links.len(), 6, "{links:?}");
    for link in links {
        let answer = nsqd.get(&format!("{link}?debug=1")).await;
        assert_eq!((answer.status, answer.header("Content-Type")), (200, TEXT), "{link}");
        assert_eq!(answer.header("X-Nsq-Content-Type"), None, "{link}");
    }
    assert_eq!(nsqd.get("/debug/pprof").await.header("Location"), Some("/debug/pprof/"));
    for path in ["trace", "mutex", "allocs", "nope"] {
        let answer = nsqd.get(&format!("/debug/pprof/{path}")).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{path}");
    }
    assert_eq!(nsqd.post("/debug/pprof/heap", "").await.refusal(), (405, "METHOD_NOT_ALLOWED"));
    let logged = log.texts().into_iter().filter(|line| line.contains(" 200 GET /debug")).count();
    assert_eq!(logged, 0);
    nsqd.stop().await;
}

#[tokio::test]
async fn profiles_as_text_name_tasks_threads_and_memory() {
    let nsqd = TestNsqd::start().await;
    let _consumer = nsqd.subscribe("t", "c").await;
    for (path, line) in [
        ("goroutine", "1 @ connection\n"),
        ("threadcreate", " @ nsqd-journal\n"),
        ("heap", " @ heap and stacks\n"),
        ("block", "block profile: total 0 nanoseconds\n"),
    ] {
        let answer = nsqd.get(&format!("/debug/pprof/{path}?debug=1")).await;
        assert!(answer.body.starts_with(&format!("{path} profile: total ")), "{}", answer.body);
        assert!(answer.body.contains(line), "{}", answer.body);
        let binary = nsqd.get(&format!("/debug/pprof/{path}")).await;
        assert_eq!(binary.header("Content-Type"), Some("application/octet-stream"));
        let name = format!("attachment; filename=\"{path}\"");
        assert_eq!(binary.header("Content-Disposition"), Some(name.as_str()));
    }
    let words = nsqd.get("/debug/pprof/cmdline").await.body;
    assert_eq!(words.split('\0').count(), std::env::args().count());
    for symbol in
        [nsqd.get("/debug/pprof/symbol").await, nsqd.post("/debug/pprof/symbol", "0x1").await]
    {
        assert_eq!(symbol.brief(), (200, "num_symbols: 0\n"));
    }
    nsqd.stop().await;
}

#[tokio::test]
async fn a_cpu_profile_names_the_thread_that_works() {
    let nsqd = TestNsqd::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let busy = move || {
        while !stopped.load(Ordering::Relaxed) {
            black_box(0);
        }
    };
    let busy = thread::Builder::new().name("the-busy-one".to_owned()).spawn(busy).unwrap();
    let answer = nsqd.get("/debug/pprof/profile?seconds=1").await;
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
    for text in ["the-busy-one", "nsqd-journal", "nanoseconds"] {
        assert!(answer.body.contains(text), "{text}");
    }
    let answer = nsqd.get("/debug/pprof/profile?seconds=3601").await;
    assert_eq!(answer.refusal(), (400, "PROFILE_TOO_LONG"));
    nsqd.stop().await;
}

#[tokio::test]
async fn a_profile_that_is_being_taken_does_not_hold_up_a_stop() {
    let nsqd = TestNsqd::start().await;
    // As in Go, a length that is no positive number is the default of 30 seconds.
    let mut waiting = Vec::new();
    for seconds in ["", "?seconds=0", "?seconds=-1", "?seconds=x"] {
        let path = format!("/debug/pprof/profile{seconds}");
        waiting.push(nsqd.send(request("GET", &path, "")).await);
    }
    assert_eq!(nsqd.get("/ping").await.brief(), (200, "OK"));
    nsqd.stop().await;
    for mut http in waiting {
        assert_eq!(http.rest().await, "");
    }
}

#[tokio::test]
async fn the_block_rate_is_a_number_and_has_no_effect() {
    let nsqd = TestNsqd::start().await;
    for rate in ["0", "1", "-1", "10000"] {
        let answer = nsqd.put(&format!("/debug/setblockrate?rate={rate}"), "").await;
        assert_eq!((answer.brief(), answer.header("X-Nsq-Content-Type")), ((200, ""), None));
    }
    for (query, problem) in [
        ("", r#""": invalid syntax"#),
        ("?rate=", r#""": invalid syntax"#),
        ("?rate=1.5", r#""1.5": invalid syntax"#),
        ("?rate=%22", r#""\"": invalid syntax"#),
        ("?rate=9223372036854775808", r#""9223372036854775808": value out of range"#),
    ] {
        let answer = nsqd.put(&format!("/debug/setblockrate{query}"), "").await;
        let text = format!("invalid block rate : strconv.Atoi: parsing {problem}");
        assert_eq!(answer.brief(), (400, text.as_str()));
        assert_eq!(answer.header("Content-Type"), TEXT);
    }
    assert_eq!(nsqd.get("/debug/setblockrate?rate=1").await.refusal(), (405, "METHOD_NOT_ALLOWED"));
    nsqd.stop().await;
}

#[tokio::test]
async fn freeing_memory_is_accepted() {
    let nsqd = TestNsqd::start().await;
    let answer = nsqd.post("/debug/freememory", "").await;
    assert_eq!((answer.brief(), answer.header("X-Nsq-Content-Type")), ((200, ""), None));
    nsqd.stop().await;
}
