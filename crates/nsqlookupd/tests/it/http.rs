//! The HTTP API as tools and scripts use it.

use crate::harness::TestLookupd;

const MARKER: &str = "nsq; version=1.0";

#[tokio::test]
async fn an_empty_directory_has_empty_lists() {
    let lookupd = TestLookupd::start().await;
    for (path, body) in [
        ("/topics", "{\"topics\":[]}"),
        ("/channels?topic=nope", "{\"channels\":[]}"),
        ("/nodes", "{\"producers\":[]}"),
        ("/debug", "{}"),
        ("/info", "{\"version\":\"1.3.0\"}"),
    ] {
        let answer = lookupd.get(path).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, body), "{path}");
        assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
        assert_eq!(answer.header("X-NSQ-Content-Type"), Some(MARKER));
    }
}

#[tokio::test]
async fn ping_is_plain_text() {
    let lookupd = TestLookupd::start().await;
    let answer = lookupd.get("/ping").await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "OK"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("X-NSQ-Content-Type"), None);
}

#[tokio::test]
async fn mistakes_have_the_codes_that_tools_know() {
    let lookupd = TestLookupd::start().await;
    for (method, path, status, message) in [
        ("GET", "/lookup", 400, "MISSING_ARG_TOPIC"),
        ("GET", "/lookup?topic=nope", 404, "TOPIC_NOT_FOUND"),
        ("GET", "/lookup?topic=", 404, "TOPIC_NOT_FOUND"),
        ("GET", "/lookup?topic=*", 404, "TOPIC_NOT_FOUND"),
        ("GET", "/lookup?topic=%zz", 400, "INVALID_REQUEST"),
        ("GET", "/channels", 400, "MISSING_ARG_TOPIC"),
        ("GET", "/channels?topic=a;b", 400, "INVALID_REQUEST"),
        ("POST", "/topic/create", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/topic/create?topic=", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/topic/create?topic=a*", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/topic/delete", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/topic/delete?topic=*", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/topic/tombstone?node=x", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/topic/tombstone?topic=t", 400, "MISSING_ARG_NODE"),
        ("POST", "/topic/tombstone?topic=*&node=x", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/channel/create?channel=c", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/channel/create?topic=a*", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/channel/create?topic=t", 400, "MISSING_ARG_CHANNEL"),
        ("POST", "/channel/create?topic=t&channel=c*", 400, "INVALID_ARG_CHANNEL"),
        ("POST", "/channel/delete", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/channel/delete?topic=a*&channel=c", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/channel/delete?topic=t", 400, "MISSING_ARG_CHANNEL"),
        ("POST", "/channel/delete?topic=t&channel=c*", 400, "INVALID_ARG_CHANNEL"),
        ("POST", "/channel/delete?topic=t&channel=c", 404, "CHANNEL_NOT_FOUND"),
        ("GET", "/nope", 404, "NOT_FOUND"),
        ("POST", "/create_topic?topic=t", 404, "NOT_FOUND"),
        ("GET", "/debug/pprof/mutex", 404, "NOT_FOUND"),
        ("GET", "/topic/create?topic=t", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/lookup?topic=t", 405, "METHOD_NOT_ALLOWED"),
    ] {
        let answer = lookupd.ask(method, path).await;
        let expected = (status, format!("{{\"message\":\"{message}\"}}"));
        assert_eq!((answer.status(), answer.body.clone()), expected, "{method} {path}");
        assert_eq!(answer.header("X-NSQ-Content-Type"), Some(MARKER), "{method} {path}");
    }
    assert_eq!(lookupd.get("/topics").await.body, "{\"topics\":[]}");
}

#[tokio::test]
async fn a_path_tells_its_methods() {
    let lookupd = TestLookupd::start().await;
    for (method, path, status, allow) in [
        ("OPTIONS", "/lookup", 200, "GET, OPTIONS"),
        ("HEAD", "/lookup?topic=t", 405, "GET, OPTIONS"),
        ("GET", "/channel/delete", 405, "OPTIONS, POST"),
        ("OPTIONS", "/debug/pprof/symbol", 200, "GET, OPTIONS, POST"),
    ] {
        let answer = lookupd.ask(method, path).await;
        assert_eq!((answer.status(), answer.header("Allow")), (status, Some(allow)), "{path}");
    }
}

#[tokio::test]
async fn topics_and_channels_come_and_go_without_producers() {
    let lookupd = TestLookupd::start().await;
    for path in [
        "/topic/create?topic=t",
        "/topic/create?topic=t",
        "/topic/create?topic=x%23ephemeral",
        "/channel/create?topic=u&channel=c",
        "/channel/create?topic=u&channel=d%23ephemeral",
    ] {
        let answer = lookupd.post(path).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, ""), "{path}");
        assert_eq!(answer.header("Content-Type"), None);
    }
    let topics = lookupd.get("/topics").await.body;
    assert_eq!(topics, "{\"topics\":[\"t\",\"u\",\"x#ephemeral\"]}");
    let lookup = lookupd.get("/lookup?topic=u").await.body;
    assert_eq!(lookup, "{\"channels\":[\"c\",\"d#ephemeral\"],\"producers\":[]}");

    assert_eq!(lookupd.post("/channel/delete?topic=u&channel=c").await.status(), 200);
    assert_eq!(lookupd.get("/channels?topic=u").await.body, "{\"channels\":[\"d#ephemeral\"]}");
    for _ in 0..2 {
        assert_eq!(lookupd.post("/topic/delete?topic=u").await.status(), 200);
    }
    assert_eq!(lookupd.get("/lookup?topic=u").await.status(), 404);
    assert_eq!(lookupd.get("/channels?topic=u").await.body, "{\"channels\":[]}");
    for line in [
        "INFO: DB: adding topic(t)",
        "INFO: DB: adding channel(c) in topic(u)",
        "INFO: DB: adding topic(u)",
        "INFO: DB: removing channel(c) from topic(u)",
        "INFO: DB: removing channel(d#ephemeral) from topic(u)",
        "INFO: DB: removing topic(u)",
    ] {
        lookupd.logged(line).await;
    }
}

#[tokio::test]
async fn a_topic_deleted_under_its_producer_is_gone_until_it_registers_again() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", Some("c")).await;
    lookupd.post("/topic/delete?topic=t").await;
    assert_eq!(lookupd.get("/lookup?topic=t").await.status(), 404);
    assert_eq!(lookupd.json("/nodes").await["producers"][0]["topics"], serde_json::json!([]));
    nsqd.register("t", None).await;
    assert_eq!(lookupd.producers("t").await, ["a"]);
    assert_eq!(lookupd.get("/channels?topic=t").await.body, "{\"channels\":[]}");
}

#[tokio::test]
async fn a_star_looks_at_all_topics() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", Some("c")).await;
    nsqd.register("u", Some("c")).await;
    assert_eq!(lookupd.get("/channels?topic=*").await.body, "{\"channels\":[\"c\"]}");
    assert_eq!(lookupd.producers("*").await, ["a"]);
}

#[tokio::test]
async fn parameters_in_a_body_are_ignored_and_the_first_of_a_query_counts() {
    let lookupd = TestLookupd::start().await;
    let body = "topic=b";
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        )
    };
    assert_eq!(lookupd.send(&request("/topic/create")).await.status(), 400);
    assert_eq!(lookupd.send(&request("/topic/create?topic=a&topic=c")).await.status(), 200);
    assert_eq!(lookupd.get("/topics").await.body, "{\"topics\":[\"a\"]}");
}

#[tokio::test]
async fn debug_shows_every_registration_with_its_producers() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", Some("c")).await;
    nsqd.register("t-u", None).await;
    lookupd.post("/channel/create?topic=t&channel=unused").await;
    let text = lookupd.get("/debug").await.body;
    let debug: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<_> = debug.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["channel:t:c", "client::", "topic:t-u:", "topic:t:"]);
    let entry = text.split('{').nth(2).unwrap();
    let entry = &entry[..entry.find('}').unwrap()];
    let at = debug["client::"][0]["last_update"].as_u64().unwrap();
    let id = nsqd.address();
    let expected = format!(
        "\"broadcast_address\":\"a\",\"hostname\":\"h\",\"http_port\":4151,\"id\":\"{id}\",\
         \"last_update\":{at},\"tcp_port\":4150,\"tombstoned\":false,\"tombstoned_at\":0,\
         \"topology_region\":\"r\",\"topology_zone\":\"z\",\"version\":\"1.3.0\""
    );
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn requests_are_logged() {
    let lookupd = TestLookupd::start().await;
    lookupd.get("/lookup?topic=t").await;
    lookupd.get("/debug/pprof/cmdline").await;
    let lines: Vec<_> =
        lookupd.log.texts().into_iter().filter(|line| line.contains(" GET ")).collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("INFO: 404 GET /lookup?topic=t (127.0.0.1:"), "{}", lines[0]);
}

#[tokio::test]
async fn the_paths_of_profiles_answer() {
    let lookupd = TestLookupd::start().await;
    for (path, status, text) in [
        ("/debug/pprof", 200, "<title>/debug/pprof</title>"),
        ("/debug/pprof/cmdline", 200, "it-"),
        ("/debug/pprof/symbol", 200, "num_symbols: 0\n"),
        ("/debug/pprof/profile?seconds=1", 200, "CPU time by the name of the thread"),
        ("/debug/pprof/heap?debug=1", 200, "heap profile: total "),
        ("/debug/pprof/goroutine?debug=2", 200, "goroutine profile: total "),
        ("/debug/pprof/block?debug=1", 200, "block profile: total 0 "),
        ("/debug/pprof/threadcreate?debug=1", 200, "threadcreate profile: total "),
    ] {
        let answer = lookupd.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.body.contains(text), "{path}: {}", answer.body);
        assert_eq!(answer.header("X-NSQ-Content-Type"), None);
    }
}
