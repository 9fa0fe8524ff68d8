//! Data folders of the Go nsqd: every unread message is imported once, for the channels that it was for.

mod crash;
mod folder;
mod odd;
mod write;

use self::folder::{GoFolder, queues};

/// The messages of the fixture `stopped`, by queue, with the attempts before the import.
fn stopped() -> Vec<(String, Vec<(String, u16)>)> {
    let fresh =
        |numbers: std::ops::Range<u32>| numbers.map(|number| (format!("order {number:02}"), 0));
    let delivered = [3, 4, 5, 2].map(|number| (format!("order {number:02}"), 1));
    let messages = |prefix: &str, count| (0..count).map(|i| (format!("{prefix}{i}"), 0)).collect();
    queues([
        ("bare", messages("bare ", 3)),
        ("held", messages("at the topic ", 2)),
        ("held:c", vec![("at the channel".to_owned(), 0)]),
        ("orders", Vec::new()),
        ("orders:audit", fresh(0..12).collect()),
        ("orders:billing", fresh(6..12).chain(delivered).collect()),
    ])
}

#[test]
fn every_channel_gets_its_own_messages_in_order_with_their_attempts() {
    let folder = GoFolder::load("stopped");
    let (imported, log) = folder.import();
    assert_eq!(imported.unwrap().messages, Some(28));
    assert_eq!(folder.waiting(), stopped());
    let lines = [
        "TOPIC(bare): 3 messages imported from 1 files",
        "TOPIC(held) CHANNEL(c): 1 messages imported from 1 files",
        "TOPIC(held): 2 messages imported from 1 files",
        "TOPIC(orders) CHANNEL(audit): 12 messages imported from 3 files",
        "TOPIC(orders) CHANNEL(billing): 10 messages imported from 3 files",
        "TOPIC(orders): 0 messages imported from 0 files - skipped 1 .bad files of 190 bytes, which the Go nsqd has set aside",
    ];
    assert_eq!(log, lines);
}

#[test]
fn messages_keep_the_time_of_their_publish() {
    let folder = GoFolder::load("stopped");
    let raw = folder.file("bare.diskqueue.000000.dat");
    let published = i64::from_be_bytes(*raw[4..].first_chunk().unwrap());
    folder.import();
    let (times, first) = folder.timestamps("bare");
    assert_eq!((times[0], first), (published, Some(published)));
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn pauses_are_kept() {
    let folder = GoFolder::load("stopped");
    folder.import();
    assert_eq!(folder.paused(), ["held", "orders:audit"]);
}

#[test]
fn the_files_are_moved_aside_as_they_were() {
    let folder = GoFolder::load("stopped");
    let before = folder.files_in("");
    let (imported, _) = folder.import();
    assert_eq!(imported.unwrap().aside, folder.path("go-nsqd"));
    assert_eq!(folder.files_in("go-nsqd"), before);
    let kept = folder.files_in("");
    let kept: Vec<_> = kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["node", "nsqd.dat"]);
}

#[test]
fn an_import_happens_once() {
    let folder = GoFolder::load("stopped");
    folder.import();
    let (again, log) = folder.import();
    assert_eq!((again, log), (None, Vec::new()));
    assert_eq!(folder.waiting(), stopped());
}

#[test]
fn queues_without_messages_are_only_moved() {
    let folder = GoFolder::empty();
    folder.put("t:c.diskqueue.meta.dat", b"0\n3,120\n3,120\n");
    folder.put("t:c.diskqueue.000003.dat", &[7; 120]);
    let (imported, log) = folder.import();
    assert_eq!((imported.unwrap().messages, log.len()), (Some(0), 0));
    assert_eq!(folder.files_in("go-nsqd").len(), 2);
    assert_eq!(folder.waiting(), []);
}

#[test]
fn a_paused_topic_goes_on_holding_back_what_waits_when_more_comes_to_it() {
    let folder = GoFolder::load("stopped");
    folder.import();
    folder.put_as("killed", &[("t", "held"), ("t:c", "orders:late")]);
    folder.import();
    let waiting = folder.waiting();
    let bodies = |queue: &str| -> Vec<_> {
        let messages = &waiting.iter().find(|(name, _)| name == queue).unwrap().1;
        messages.iter().map(|(body, _)| body.as_str()).collect()
    };
    let expected = ["at the topic 0", "at the topic 1", "unsynced 0", "unsynced 1", "unsynced 2"];
    assert_eq!((bodies("held"), bodies("held:c")), (expected.to_vec(), vec!["at the channel"]));
}

#[test]
fn queues_that_come_later_are_added_to_what_is_there() {
    let folder = GoFolder::load("stopped");
    folder.import();
    let ids = folder.ids();
    folder.put_as("killed", &[("t:c", "orders:late"), ("t", "bare")]);
    folder.put_as("caught-up", &[("t:c", "orders:audit"), ("t", "orders")]);
    let (imported, _) = folder.import();
    let imported = imported.unwrap();
    assert_eq!((imported.messages, imported.aside), (Some(13), folder.path("go-nsqd.2")));
    let numbers = |prefix: &str, numbers: std::ops::Range<u32>, attempts| {
        numbers.map(|number| (format!("{prefix}{number}"), attempts)).collect::<Vec<_>>()
    };
    let mut expected = stopped();
    let mut add = |queue: &str, more: Vec<(String, u16)>| {
        let index = expected.iter().position(|(name, _)| name == queue).unwrap();
        expected[index].1.extend(more);
    };
    add("bare", numbers("unsynced ", 0..3, 0));
    add("orders:audit", [numbers("message ", 7..9, 0), numbers("message ", 6..7, 1)].concat());
    let late = [numbers("synced ", 0..4, 0), numbers("unsynced ", 0..3, 0)].concat();
    expected.extend(queues([("orders:late", late)]));
    assert_eq!(folder.waiting(), expected);
    assert!(folder.ids().is_superset(&ids), "messages keep the ids that they were given here");
}
