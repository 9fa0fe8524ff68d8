//! The memory of ephemeral topics.

use std::sync::Arc;

use nsq_log::{EphemeralBytes, Options, Read, TopicLog};

use crate::support::*;

/// Messages so long that each is a piece of its own, behind short ones that share a block.
fn filled(log: &TopicLog) {
    for _ in 0..10 {
        append(log, &[b"short"]);
    }
    for number in 10..30 {
        append(log, &[&vec![number; 10_000]]);
    }
}

fn read(log: &TopicLog, seq: u64) -> (Read, Vec<u8>) {
    let mut slices = Vec::new();
    let read = log.read(seq..log.end(), 1, &mut slices);
    (read, messages(&slices).into_values().next().map(|message| message.body).unwrap_or_default())
}

#[test]
fn the_memory_of_ephemeral_topics_is_counted_until_it_is_given_back() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let create = |topic: &str| opened.store.create_topic(&name(topic)).unwrap();
    let (one, other, durable) = (create("one#ephemeral"), create("other#ephemeral"), create("d"));
    append(&durable, &[&[1; 10_000]]);
    assert_eq!(durable.ephemeral_bytes(), EphemeralBytes::default());
    filled(&one);
    let alone = one.ephemeral_bytes();
    assert_eq!(alone.topic, alone.all);
    assert!((200_000..800_000).contains(&alone.topic), "{alone:?}");
    filled(&other);
    assert_eq!(one.ephemeral_bytes(), EphemeralBytes { topic: alone.topic, all: 2 * alone.topic });
    one.release(20);
    assert!(one.ephemeral_bytes().topic < alone.topic);
    one.release(30);
    assert_eq!(one.ephemeral_bytes(), EphemeralBytes { topic: 0, all: alone.topic });
    // A topic that is deleted while it has messages.
    opened.store.delete_topic(&name("other#ephemeral")).unwrap();
    assert_eq!(Arc::strong_count(&other), 1);
    drop(other);
    assert_eq!(one.ephemeral_bytes().all, 0);
}

#[test]
fn messages_that_are_not_needed_are_dropped_from_between_those_that_are() {
    let disk = disk();
    let opened = open(&disk, Options::default());
    let log = opened.store.create_topic(&name("t#ephemeral")).unwrap();
    filled(&log);
    let before = log.ephemeral_bytes().topic;
    log.drop_others(&[3..4, 15..17, 16..18, 20..21], 25);
    let after = log.ephemeral_bytes().topic;
    // The short ones, 15, 16, 17 and 20, and all from 25 on.
    assert!((before * 9 / 20..before / 2).contains(&after), "{after} of {before}");
    for seq in [0, 3, 9] {
        assert_eq!(read(&log, seq), (Read::Taken(1), b"short".to_vec()), "{seq}");
    }
    for seq in [15, 16, 17, 20, 25, 29_u8] {
        assert_eq!(read(&log, seq.into()), (Read::Taken(1), vec![seq; 10_000]), "{seq}");
    }
    for (seq, dropped) in [(10, 5), (14, 1), (18, 2), (19, 1), (21, 4)] {
        assert_eq!(read(&log, seq), (Read::Gone(dropped), Vec::new()), "{seq}");
        assert_eq!(log.timestamp_ns(seq), None);
    }
    // A read ends where messages were dropped.
    let mut slices = Vec::new();
    assert_eq!(log.read(15..30, usize::MAX, &mut slices), Read::Taken(3));

    log.drop_others(&[16..17], 30);
    assert_eq!(read(&log, 17), (Read::Gone(13), Vec::new()));
    assert_eq!(read(&log, 0), (Read::Gone(16), Vec::new()));
    assert_eq!(append(&log, &[b"next"]), 30..31);
    assert_eq!(read(&log, 30), (Read::Taken(1), b"next".to_vec()));
    log.release(17);
    assert_eq!(log.first(), 17);
    log.release(31);
    assert_eq!(log.ephemeral_bytes().all, 0);
}
