//! The way back to the original.

use std::{collections::BTreeMap, fs, path::Path};

use nsq_protocol::Command;

use super::{
    fixture,
    queues::{Stored, queues},
};
use crate::support::{NsqdProcess, Server};

fn export(data: &Path, target: &Path) -> Result<String, String> {
    let mut out = Vec::new();
    nsqd::export(data, target, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

/// The bodies in each queue, with the number of deliveries so far.
fn bodies(queues: &BTreeMap<String, Vec<Stored>>) -> Vec<(&str, Vec<(&str, u16)>)> {
    queues
        .iter()
        .map(|(queue, messages)| {
            let messages = messages.iter().map(|it| (it.body.as_str(), it.attempts));
            (queue.as_str(), messages.collect())
        })
        .collect()
}

#[test]
fn every_message_that_is_not_finished_is_written_to_its_queue() {
    let server = Server::start();
    let mut producer = server.client();
    server.post("/topic/create?topic=orders");
    for channel in ["a", "b", "gone%23ephemeral"] {
        server.post(&format!("/channel/create?topic=orders&channel={channel}"));
    }
    for number in 0..5 {
        producer.publish("orders", format!("{number}").as_bytes());
    }
    producer.ok(Command::DeferredPub { topic: "orders", delay_ms: 3_600_000, body: b"later" });
    let mut consumer = server.consumer("orders", "a", 3);
    let [finished, requeued, _in_flight] =
        [consumer.message(), consumer.message(), consumer.message()];
    consumer.send(Command::Rdy(0));
    consumer.fin(finished.id);
    consumer.req(requeued.id, 3_600_000);
    consumer.settle();
    producer.publish("bare", b"at the topic");
    producer.publish("passing#ephemeral", b"in memory");
    let folder = server.stop();
    let target = tempfile::tempdir().unwrap();
    let said = export(folder.path(), target.path()).unwrap();
    let found = queues(target.path());
    let expected = [
        ("bare", vec![("at the topic", 0)]),
        ("orders:a", vec![("1", 1), ("2", 1), ("3", 0), ("4", 0), ("later", 0)]),
        ("orders:b", vec![("0", 0), ("1", 0), ("2", 0), ("3", 0), ("4", 0), ("later", 0)]),
    ];
    assert_eq!(bodies(&found), expected);
    let first = &found["orders:b"][0];
    assert_eq!(first.timestamp_ns, finished.timestamp_ns);
    let lines = [
        "bare: 1 messages",
        "orders:a: 5 messages, of which 2 were deferred and are ready now",
        "orders:b: 6 messages, of which 1 were deferred and are ready now",
        "orders: 0 messages",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn the_catalog_and_empty_queues_are_those_of_a_clean_stop() {
    let server = Server::start();
    server.post("/topic/create?topic=t");
    server.post("/channel/create?topic=t&channel=c");
    server.post("/channel/pause?topic=t&channel=c");
    server.post("/topic/create?topic=paused");
    server.post("/topic/pause?topic=paused");
    let folder = server.stop();
    let target = tempfile::tempdir().unwrap();
    export(folder.path(), target.path()).unwrap();
    let catalog = fs::read_to_string(target.path().join("nsqd.dat")).unwrap();
    let expected = concat!(
        r#"{"topics":[{"name":"paused","paused":true,"channels":null},"#,
        r#"{"name":"t","paused":false,"channels":[{"name":"c","paused":true}]}],"version":"1.3.0"}"#
    );
    assert_eq!(catalog, expected);
    for queue in ["t", "t:c", "paused"] {
        let meta = target.path().join(format!("{queue}.diskqueue.meta.dat"));
        assert_eq!(fs::read_to_string(meta).unwrap(), "0\n0,0\n0,0\n");
    }
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 4);
}

#[test]
fn what_a_paused_topic_holds_back_stays_at_the_topic() {
    let server = Server::start();
    server.post("/topic/create?topic=t");
    server.post("/channel/create?topic=t&channel=c");
    let mut producer = server.client();
    producer.publish("t", b"before");
    server.post("/topic/pause?topic=t");
    producer.publish("t", b"after");
    let folder = server.stop();
    let target = tempfile::tempdir().unwrap();
    export(folder.path(), target.path()).unwrap();
    let expected = [("t", vec![("after", 0)]), ("t:c", vec![("before", 0)])];
    assert_eq!(bodies(&queues(target.path())), expected);
}

#[test]
fn a_folder_of_the_original_comes_back_as_it_went_in() {
    let folder = fixture("stopped");
    let before = queues(folder.path());
    let _ = NsqdProcess::start(folder.path(), &[]).kill();
    let target = tempfile::tempdir().unwrap();
    export(folder.path(), target.path()).unwrap();
    assert_eq!(queues(target.path()), before);
    // And once more, from what was exported.
    let _ = NsqdProcess::start(target.path(), &[]).kill();
    let again = tempfile::tempdir().unwrap();
    export(target.path(), again.path()).unwrap();
    assert_eq!(queues(again.path()), before);
}

#[test]
fn an_export_leaves_the_data_folder_to_go_on_with() {
    let server = Server::start();
    server.client().publish("t", b"still here");
    let folder = server.stop();
    let target = tempfile::tempdir().unwrap();
    export(folder.path(), target.path()).unwrap();
    let server = Server::on(folder, |_| ());
    assert_eq!(server.consumer("t", "c", 1).message().body, b"still here");
}

#[test]
fn messages_too_large_for_the_original_are_pointed_out() {
    let server = Server::with(|options| options.limits.message_bytes_max = 2 << 20);
    server.client().publish("t", &vec![b'x'; (1 << 20) + 1]);
    let folder = server.stop();
    let target = tempfile::tempdir().unwrap();
    let said = export(folder.path(), target.path()).unwrap();
    assert!(said.contains("start nsqd with --max-msg-size=1048577 or more"), "{said}");
    assert_eq!(queues(target.path())["t"][0].body.len(), (1 << 20) + 1);
}

#[test]
fn an_export_refuses_folders_that_are_in_use_or_not_what_they_should_be() {
    let target = tempfile::tempdir().unwrap();
    let refused = |data: &Path, target: &Path, reason: &str| {
        let error = export(data, target).unwrap_err();
        assert!(error.contains(reason), "{error}");
    };
    let server = Server::start();
    server.client().publish("t", b"message");
    let folder = {
        let in_use = tempfile::tempdir().unwrap();
        let nsqd = NsqdProcess::start(in_use.path(), &[]);
        refused(in_use.path(), target.path(), "possibly in use by another instance of nsqd");
        let _ = nsqd.stop();
        server.stop()
    };
    refused(target.path(), &target.path().join("new"), "is not a data folder of this nsqd");
    refused(&target.path().join("missing"), target.path(), "failed to lock data-path");
    refused(folder.path(), folder.path(), "is not empty");
    let nowhere = folder.path().join("missing/target");
    let reason = "missing/target: No such file or directory (os error 2)";
    refused(folder.path(), &nowhere, reason);
    fs::write(folder.path().join("t.diskqueue.meta.dat"), "0\n0,0\n0,0\n").unwrap();
    refused(folder.path(), target.path(), "not imported yet: start nsqd on it once");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}
