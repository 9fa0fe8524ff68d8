//! The Prometheus metrics.

use nsq_protocol::v1::Command;

use crate::harness::TestLookupd;

#[tokio::test]
async fn metrics_count_what_is_registered_and_what_has_happened() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    nsqd.register("t", Some("c")).await;
    nsqd.register("u", None).await;
    nsqd.unregister("u", None).await;
    nsqd.command(Command::Ping).await;
    lookupd.post("/channel/create?topic=t&channel=d").await;
    lookupd.post("/topic/tombstone?topic=t&node=a:4151").await;
    let mut refused = lookupd.client().await;
    refused.send("nope\n").await;
    refused.responses().await;
    for _ in 0..3 {
        lookupd.get("/lookup?topic=t").await;
    }
    lookupd.logged("INFO: DB: setting tombstone for producer@a:4151 of topic(t)").await;

    let answer = lookupd.get("/metrics").await;
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "nsqlookupd_topics 2",
        "nsqlookupd_channels 2",
        "nsqlookupd_tombstones 1",
        "nsqlookupd_producers{state=\"active\"} 1",
        "nsqlookupd_producers{state=\"inactive\"} 0",
        "nsqlookupd_connections_total 2",
        "nsqlookupd_commands_total{command=\"IDENTIFY\"} 1",
        "nsqlookupd_commands_total{command=\"PING\"} 1",
        "nsqlookupd_commands_total{command=\"REGISTER\"} 2",
        "nsqlookupd_commands_total{command=\"UNREGISTER\"} 1",
        "nsqlookupd_refusals_total 1",
        "nsqlookupd_http_requests_total{path=\"/lookup\"} 3",
        "nsqlookupd_http_requests_total{path=\"/channel/create\"} 1",
        "nsqlookupd_http_requests_total{path=\"/nodes\"} 0",
    ] {
        assert!(answer.body.lines().any(|other| other == line), "{line} in\n{}", answer.body);
    }
}

#[tokio::test]
async fn registrations_are_logged_a_hundred_times_a_second_and_the_others_are_counted() {
    let lookupd = TestLookupd::start().await;
    let mut nsqd = lookupd.nsqd("a").await;
    for number in 0..2000 {
        nsqd.register(&format!("t{number}"), None).await;
    }
    let body = lookupd.get("/metrics").await.body;
    let suppressed = "nsqlookupd_log_lines_suppressed_total ";
    let suppressed: usize =
        body.lines().find_map(|line| line.strip_prefix(suppressed)).unwrap().parse().unwrap();
    let log = lookupd.log.texts();
    let written = log.iter().filter(|line| line.contains(") REGISTER ")).count();
    // And the client itself.
    assert_eq!(written + suppressed, 2001);
    assert!((100..2000).contains(&written), "{written}");
}

#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let lookupd = TestLookupd::start().await;
    let (one, _two) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    let open = async || {
        let body = lookupd.get("/metrics").await.body;
        body.lines()
            .find_map(|line| line.strip_prefix("nsqlookupd_connections "))
            .unwrap()
            .to_owned()
    };
    assert_eq!(open().await, "2");
    drop(one);
    let wait = async {
        while open().await != "1" {
            tokio::task::yield_now().await;
        }
    };
    crate::harness::soon(wait).await;
}

#[tokio::test]
async fn every_figure_is_described() {
    let lookupd = TestLookupd::start().await;
    let body = lookupd.get("/metrics").await.body;
    assert!(body.ends_with('\n'));
    let mut described = "";
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            described = help.split(' ').next().unwrap();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind == format!("{described} gauge") || kind == format!("{described} counter"));
        } else {
            let (figure, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(figure.split('{').next(), Some(described));
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[tokio::test]
async fn the_documentation_lists_every_figure() {
    let body = TestLookupd::start().await.get("/metrics").await.body;
    let (mut expected, mut help) = (Vec::new(), "");
    for line in body.lines() {
        if let Some(line) = line.strip_prefix("# HELP nsqlookupd_") {
            help = line.split_once(' ').unwrap().1;
        } else if let Some(line) = line.strip_prefix("# TYPE nsqlookupd_") {
            let (name, kind) = line.split_once(' ').unwrap();
            expected.push((format!("nsqlookupd_{name}"), kind, String::new(), help));
        } else if let Some((label, _)) = line.split_once("=\"") {
            let (name, label) = label.split_once('{').unwrap();
            let family = expected.last_mut().filter(|family| family.0 == name).unwrap();
            family.2 = format!("`{label}` ");
        }
    }
    let row = |(name, kind, labels, help): &(String, &str, String, &str)| {
        format!("| `{name}` | {kind} | {labels}| {help} |")
    };
    let expected: Vec<String> = expected.iter().map(row).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `nsqlookupd_"));
    let documented: Vec<&str> = rows.collect();
    assert!(documented == expected, "docs/metrics.md should have\n{}", expected.join("\n"));
}
