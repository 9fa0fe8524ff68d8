//! Files that lost their end or were damaged: what is left is served, and what is not is said.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    ops::Range,
    path::{Path, PathBuf},
};

use super::journal_files;
use crate::support::{Client, NsqdProcess, eventually};

/// Bytes in front of the first batch of a segment, and of a batch with one message of [`body`].
const HEADER: u64 = 64;
const BATCH: u64 = 64 + 34 + 3;

fn body(number: u64) -> Vec<u8> {
    format!("m{number:02}").into_bytes()
}

/// Has messages published one by one, each a batch of its own, and nsqd killed. The topic is `t`.
fn killed_with(folder: &Path, count: u64, channels: &[&str], args: &[&str]) {
    let nsqd = NsqdProcess::start(folder, args);
    for channel in channels {
        nsqd.consumer("t", channel, 0);
    }
    let mut producer = nsqd.client();
    for number in 0..count {
        producer.publish("t", &body(number));
    }
    // Written after the channels were answered, and what is left of them when a journal is lost.
    let catalog = || fs::read_to_string(folder.join("nsqd.dat")).unwrap();
    eventually(|| channels.iter().all(|name| catalog().contains(&format!("\"{name}\""))));
    let _ = nsqd.kill();
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("topics/t.topic")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension() == Some("seg".as_ref()));
    paths.sort();
    paths
}

fn newest(folder: &Path) -> PathBuf {
    segments(folder).pop().unwrap()
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// Where the batch with this index lies in its segment.
fn batch(index: u64) -> Range<u64> {
    HEADER + index * BATCH..HEADER + (index + 1) * BATCH
}

/// The consumer gets these messages, in this order, and no others.
fn expect(consumer: &mut Client, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let message = consumer.message();
        assert_eq!(message.body, body(number));
        consumer.fin(message.id);
    }
    consumer.expect_nothing();
}

#[test]
fn a_torn_tail_is_cut_and_said_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 100);
    let mut producer = nsqd.client();
    let ids: BTreeSet<_> = (0..20)
        .map(|number| {
            producer.publish("t", &body(number));
            consumer.message().id
        })
        .collect();
    let _ = nsqd.kill();
    let path = newest(folder.path());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(batch(19).end - 7).unwrap();

    let nsqd = NsqdProcess::start(folder.path(), &[]);
    let mut consumer = nsqd.consumer("t", "c", 100);
    expect(&mut consumer, 0..19);
    nsqd.client().publish("t", &body(77));
    let message = consumer.message();
    assert_eq!(message.body, body(77));
    assert!(!ids.contains(&message.id), "the lost message's id was given to another one");
    let cut = format!(
        "{}: incomplete batch at offset {}, cut {} bytes",
        path.display(),
        batch(19).start,
        BATCH - 7
    );
    let log = nsqd.kill();
    assert!(log.contains(&cut), "{cut}\n{log}");
}

#[test]
fn garbage_behind_the_log_is_cut_and_everything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    killed_with(folder.path(), 20, &["c"], &[]);
    let path = newest(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"NSQB");
    bytes.resize(bytes.len() + 996, 0xab);
    fs::write(&path, bytes).unwrap();

    let nsqd = NsqdProcess::start(folder.path(), &[]);
    expect(&mut nsqd.consumer("t", "c", 100), 0..20);
    let cut = format!("incomplete batch at offset {}, cut 1000 bytes", batch(20).start);
    let log = nsqd.kill();
    assert!(log.contains(&cut), "{cut}\n{log}");
}

#[test]
fn damage_in_the_newest_segment_is_counted_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    killed_with(folder.path(), 20, &["c"], &[]);
    flip(&newest(folder.path()), batch(5).end - 1);
    flip(&newest(folder.path()), batch(6).start);

    let nsqd = NsqdProcess::start(folder.path(), &[]);
    expect(&mut nsqd.consumer("t", "c", 100), (0..20).filter(|number| ![5, 6].contains(number)));
    let said = format!(
        "damage at offsets {} to {}, 2 messages lost (sequence 5 to 7)",
        batch(5).start,
        batch(6).end
    );
    let log = nsqd.kill();
    assert!(log.contains(&said), "{said}\n{log}");
}

#[test]
fn damage_in_an_older_segment_is_counted_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    // Nine messages a file.
    let args = ["-max-bytes-per-file=1000"];
    killed_with(folder.path(), 40, &["c"], &args);
    let segments = segments(folder.path());
    flip(&segments[0], batch(2).end - 1);
    flip(&segments[0], batch(3).end - 1);
    fs::remove_file(&segments[2]).unwrap();

    let nsqd = NsqdProcess::start(folder.path(), &args);
    let mut consumer = nsqd.consumer("t", "c", 100);
    expect(&mut consumer, (0..40).filter(|n| !(2..4).contains(n) && !(18..27).contains(n)));
    let channel = nsqd.stats()["topics"][0]["channels"][0].clone();
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&0.into(), &0.into()));
    let log = nsqd.kill();
    let damage = format!(
        "{}: damage at offsets {} to {}, 2 messages lost (sequence 2 to 4)",
        segments[0].display(),
        batch(2).start,
        batch(3).end
    );
    assert!(log.contains(&damage), "{damage}\n{log}");
    assert!(log.contains("9 messages missing"), "{log}");
    assert!(log.contains("(sequence 18 to 27)"), "{log}");
}

#[test]
fn a_lost_journal_brings_messages_again_on_every_channel() {
    let folder = tempfile::tempdir().unwrap();
    killed_with(folder.path(), 10, &["a", "b"], &[]);
    let nsqd = NsqdProcess::start(folder.path(), &[]);
    expect(&mut nsqd.consumer("t", "a", 100), 0..10);
    nsqd.client().publish("t", &body(10));
    let _ = nsqd.kill();
    for file in journal_files(&folder.path().join("topics/t.topic")) {
        fs::remove_file(file).unwrap();
    }

    let nsqd = NsqdProcess::start(folder.path(), &[]);
    // As much for the channel whose client comes second.
    for channel in ["b", "a"] {
        expect(&mut nsqd.consumer("t", channel, 100), 0..11);
    }
    let _ = nsqd.kill();
}

#[test]
fn a_damaged_journal_brings_messages_again_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    killed_with(folder.path(), 10, &["a", "b"], &[]);
    let topic = folder.path().join("topics/t.topic");
    let [journal] = &journal_files(&topic)[..] else { panic!("{:?}", journal_files(&topic)) };
    let bytes = fs::read(journal).unwrap();
    for offset in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 0x55;
        for file in journal_files(&topic) {
            fs::remove_file(file).unwrap();
        }
        fs::write(journal, damaged).unwrap();
        let nsqd = NsqdProcess::start(folder.path(), &[]);
        for channel in ["b", "a"] {
            let mut consumer = nsqd.consumer("t", channel, 100);
            for number in 0..10 {
                assert_eq!(consumer.message().body, body(number), "offset {offset}, {channel}");
            }
        }
        let log = nsqd.kill();
        assert!(log.contains("again"), "offset {offset}\n{log}");
    }
}
