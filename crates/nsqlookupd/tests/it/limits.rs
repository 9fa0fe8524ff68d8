//! The limits on the memory that producers and strangers can take.

use nsq_protocol::v1::Command;

use crate::harness::TestLookupd;

fn topics(prefix: &str, count: usize) -> Vec<(String, Option<String>)> {
    (0..count).map(|i| (format!("{prefix}{i}"), None)).collect()
}

#[tokio::test]
async fn a_producer_registers_no_more_than_one_may_and_keeps_what_it_has() {
    let limit = |options: &mut nsqlookupd::Options| options.registrations_per_producer_max = 10;
    let lookupd = TestLookupd::start_with(limit).await;
    let (mut hostile, mut honest) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    hostile.register_all(&topics("t", 10)).await;
    let text = "E_INVALID REGISTER refused: the producer has 10 registrations, as many as one may have \
                (--max-registrations-per-producer)";
    for topic in ["u", "v"] {
        let response = hostile.command(Command::Register { topic, channel: None }).await;
        assert_eq!(response, text);
    }
    lookupd.logged(&format!("ERROR: [{}] - {text}", hostile.address())).await;
    assert_eq!(lookupd.reached("max-registrations-per-producer").await, 2);
    assert_eq!(hostile.command(Command::Ping).await, "OK");
    assert_eq!(lookupd.producers("t9").await, ["a"]);
    assert_eq!(lookupd.get("/lookup?topic=u").await.status(), 404);
    honest.register("u", Some("c")).await;
    assert_eq!(lookupd.producers("u").await, ["b"]);
}

#[tokio::test]
async fn producers_that_fill_the_directory_do_not_keep_others_out() {
    let limit = |options: &mut nsqlookupd::Options| options.registrations_max = 100;
    let lookupd = TestLookupd::start_with(limit).await;
    let (mut hostile, mut honest) = (lookupd.nsqd("a").await, lookupd.nsqd("b").await);
    hostile.register_all(&topics("t", 100)).await;
    let response = hostile.command(Command::Register { topic: "u", channel: None }).await;
    let text = "E_INVALID REGISTER refused: there are 100 registrations, and the producer has its \
                share of them (--max-registrations)";
    assert_eq!(response, text);
    assert_eq!(lookupd.reached("max-registrations").await, 1);
    honest.register_all(&topics("u", 50)).await;
    assert_eq!(lookupd.producers("u49").await, ["b"]);
    let response = honest.command(Command::Register { topic: "v", channel: None }).await;
    assert!(response.starts_with("E_INVALID REGISTER refused: there are 150 "), "{response}");
}

#[tokio::test]
async fn names_that_strangers_and_lost_producers_leave_behind_are_limited() {
    let limit = |options: &mut nsqlookupd::Options| options.orphans_max = 10;
    let lookupd = TestLookupd::start_with(limit).await;
    let mut honest = lookupd.nsqd("b").await;
    honest.register("u", Some("c")).await;
    for i in 0..20 {
        lookupd.post(&format!("/channel/create?topic=t&channel={i}")).await;
    }
    assert_eq!(lookupd.figure("nsqlookupd_orphans").await, 10);
    let mut lost = lookupd.nsqd("a").await;
    lost.register_all(&topics("t", 3_000)).await;
    drop(lost);
    let gone = async {
        while lookupd.json("/nodes").await["producers"].as_array().unwrap().len() != 1
            || lookupd.figure("nsqlookupd_registrations").await != 2
        {}
    };
    crate::harness::soon(gone).await;
    assert_eq!(lookupd.figure("nsqlookupd_orphans").await, 10);
    assert_eq!(lookupd.figure("nsqlookupd_topics").await, 11);
    assert_eq!(lookupd.reached("max-orphans").await, 3_011);
    let line = "WARNING: DB: forgot 1 topics and channels without producers, --max-orphans is 10";
    lookupd.logged(line).await;
    assert_eq!(lookupd.get("/lookup?topic=u").await.status(), 200);
    assert_eq!(lookupd.producers("u").await, ["b"]);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_short_ones_are_given() {
    let limit = |options: &mut nsqlookupd::Options| options.answer_bytes_max = 64 << 10;
    let lookupd = TestLookupd::start_with(limit).await;
    let mut nsqd = lookupd.nsqd("a").await;
    let name = |i: usize| format!("{i:064}");
    let names: Vec<_> = (0..1_200).map(|i| (name(i), Some("c".to_owned()))).collect();
    nsqd.register_all(&names).await;
    for path in ["/topics", "/nodes", "/debug"] {
        let answer = lookupd.get(path).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.body, "{\"message\":\"ANSWER_TOO_BIG\"}");
    }
    assert_eq!(lookupd.reached("max-answer-size").await, 3);
    lookupd.logged("WARNING: HTTP: an answer is over --max-answer-size, 65536 bytes").await;
    assert_eq!(lookupd.producers(&name(7)).await, ["a"]);
    assert_eq!(lookupd.get("/channels?topic=*").await.body, "{\"channels\":[\"c\"]}");
}

#[tokio::test]
async fn the_documentation_lists_every_limit() {
    let body = TestLookupd::start().await.get("/metrics").await.body;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## nsqlookupd").unwrap();
    for line in body.lines() {
        let label = line.strip_prefix("nsqlookupd_limit_reached_total{limit=\"");
        if let Some((limit, _)) = label.and_then(|label| label.split_once('"')) {
            assert!(section.contains(&format!("| `{limit}` |")), "docs/limits.md lists {limit}");
        }
    }
}
