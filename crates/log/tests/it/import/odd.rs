//! Folders that a killed or damaged nsqd has left.

use proptest::prelude::*;

use super::{
    folder::{GoFolder, Queues, queues},
    stopped,
};

fn numbered(prefix: &str, numbers: impl IntoIterator<Item = u32>) -> Vec<(String, u16)> {
    numbers.into_iter().map(|number| (format!("{prefix}{number}"), 0)).collect()
}

/// The folder `killed` without the topic's own queue, whose messages the channel has as well.
fn killed() -> GoFolder {
    let folder = GoFolder::load("killed");
    folder.remove("t.diskqueue.000000.dat");
    folder.remove("t.diskqueue.meta.dat");
    folder
}

const DATA: &str = "t:c.diskqueue.000000.dat";
const META: &str = "t:c.diskqueue.meta.dat";
/// The length of a record `synced <n>`.
const SYNCED_BYTES: usize = 38;

/// Checks what the only channel has, and what is said about its queue.
#[track_caller]
fn check(folder: &GoFolder, messages: Vec<(String, u16)>, said: &str) {
    let (_, log) = folder.import();
    assert_eq!(folder.waiting(), channel(messages));
    let line = log.iter().find(|line| line.starts_with("TOPIC(t) CHANNEL(c)"));
    assert!(line.is_some_and(|line| line.contains(said)), "{log:?}");
}

fn channel(messages: Vec<(String, u16)>) -> Queues {
    queues([("t", Vec::new()), ("t:c", messages)])
}

fn all() -> Vec<(String, u16)> {
    [numbered("synced ", 0..4), numbered("unsynced ", 0..3)].concat()
}

#[test]
fn messages_behind_the_recorded_end_are_salvaged() {
    check(&killed(), all(), "7 messages imported from 1 files - 3 messages salvaged");
}

#[test]
fn messages_that_the_meta_file_counts_and_no_file_holds_are_reported() {
    let folder = killed();
    folder.edit(META, |bytes| *bytes = b"6\n0,0\n0,152\n".into());
    check(&folder, all(), "salvaged from behind the recorded end; the meta file says 6 messages");
}

#[test]
fn a_queue_whose_messages_are_all_missing_is_reported() {
    // The end of the file, or all of it, never reached the disk.
    for (position, has_file, said) in [
        ("0,500", true, "the meta file says 9 messages"),
        ("0,0", false, "t:c.diskqueue.000000.dat: missing, its messages are lost"),
    ] {
        let folder = killed();
        folder.edit(META, |bytes| *bytes = format!("9\n{position}\n0,900\n").into());
        if !has_file {
            folder.remove(DATA);
        }
        let (imported, log) = folder.import();
        assert_eq!(imported.unwrap().messages, Some(0));
        let queue = "TOPIC(t) CHANNEL(c): 0 messages imported from 0 files - ";
        let line = log.iter().find(|line| line.starts_with(queue));
        assert!(line.is_some_and(|line| line.contains(said)), "{log:?}");
    }
}

#[test]
fn without_a_meta_file_every_message_in_the_files_comes() {
    let folder = GoFolder::load("killed-early");
    check(&folder, numbered("early ", [0, 1, 2, 3, 0, 1, 2, 3]), "no meta file");
}

#[test]
fn a_meta_file_that_makes_no_sense_is_as_good_as_none() {
    for meta in ["", "\0\0\0\0\0", "4\n0,0\n", "4\n0,200\n0,152\n", "four\n0,0\n0,152\n"] {
        let folder = killed();
        folder.put(META, b"");
        folder.edit(META, |bytes| *bytes = meta.into());
        check(&folder, all(), "broken meta file");
    }
}

#[test]
fn the_recorded_read_position_counts() {
    let folder = killed();
    let position = 2 * SYNCED_BYTES;
    folder.edit(META, |bytes| *bytes = format!("2\n0,{position}\n0,152\n").into());
    let rest = [numbered("synced ", 2..4), numbered("unsynced ", 0..3)].concat();
    check(&folder, rest, "5 messages imported");
}

#[test]
fn a_record_that_was_cut_short_is_skipped() {
    for cut in [1, 10, 39] {
        let folder = killed();
        folder.edit(DATA, |bytes| bytes.truncate(bytes.len() - cut));
        let mut expected = all();
        expected.pop();
        check(&folder, expected, &format!("skipped {} bytes without a message", 40 - cut));
    }
}

#[test]
fn zeros_at_the_end_as_after_a_power_cut_are_skipped() {
    let folder = killed();
    folder.edit(DATA, |bytes| bytes.extend([0; 4000]));
    check(&folder, all(), "skipped 4000 bytes without a message from offset 272 on");
}

#[test]
fn messages_behind_damage_are_found() {
    for damage in [[0xff; 4], [0; 4], [0, 0, 0, 33], [0, 0, 0, 35]] {
        let folder = killed();
        folder.edit(DATA, |bytes| bytes[SYNCED_BYTES..][..4].copy_from_slice(&damage));
        let (_, log) = folder.import();
        let found = folder.waiting()[1].1.clone();
        assert!(found.ends_with(&all()[3..]), "{damage:?}: {found:?}");
        assert!(found.starts_with(&all()[..1]), "{damage:?}: {found:?}");
        assert!(log.iter().any(|line| line.contains("without a message")), "{damage:?}: {log:?}");
    }
}

#[test]
fn a_file_that_was_read_to_its_end_and_bad_files_beside_it_cost_nothing() {
    let folder = GoFolder::load("caught-up");
    let expected = [numbered("message ", 7..9), vec![("message 6".to_owned(), 1)]].concat();
    check(
        &folder,
        expected,
        "3 messages imported from 2 files - skipped 3 .bad files of 234 bytes",
    );

    // The read position is the end of a file that is not the last one.
    let folder = GoFolder::load("caught-up");
    folder.edit(META, |bytes| *bytes = b"2\n3,78\n4,78\n".into());
    let rest = [numbered("message ", 8..9), vec![("message 6".to_owned(), 1)]].concat();
    check(&folder, rest, "2 messages imported from 1 files - skipped 3 .bad files");

    // The file was set aside, and the meta file does not know it yet.
    let folder = GoFolder::load("caught-up");
    folder.edit(META, |bytes| *bytes = b"3\n2,78\n4,78\n".into());
    let expected = [numbered("message ", 6..9), vec![("message 6".to_owned(), 1)]].concat();
    let (_, log) = folder.import();
    assert_eq!(folder.waiting(), channel(expected));
    assert!(!log.concat().contains("missing"), "{log:?}");
}

#[test]
fn files_that_were_set_aside_are_left_alone_and_reported() {
    let folder = GoFolder::load("damaged");
    let expected = [numbered("message ", 4..9), vec![("message 3".to_owned(), 1)]].concat();
    check(&folder, expected, "the meta file says 8 messages; skipped 1 .bad files of 117 bytes");
    let aside = folder.files_in("go-nsqd");
    assert!(aside.iter().any(|(name, _)| name == "t:c.diskqueue.000000.dat.bad"));
}

#[test]
fn a_file_that_was_set_aside_is_imported_from_a_folder_of_its_own() {
    let bad = GoFolder::load("damaged").file("t:c.diskqueue.000000.dat.bad");
    let folder = GoFolder::empty();
    folder.put(DATA, &bad);
    check(&folder, numbered("message ", [0, 2]), "2 messages imported from 1 files - no meta file");
}

#[test]
fn a_missing_file_is_reported_and_the_others_are_imported() {
    let folder = GoFolder::load("stopped");
    folder.remove("orders:audit.diskqueue.000001.dat");
    let (imported, log) = folder.import();
    assert_eq!(imported.unwrap().messages, Some(23));
    let said = "orders:audit.diskqueue.000001.dat: missing, its messages are lost";
    assert!(log.iter().any(|line| line.contains(said)), "{log:?}");
}

#[test]
fn files_before_the_read_position_were_consumed() {
    let folder = GoFolder::load("stopped");
    let old = folder.file("orders:audit.diskqueue.000000.dat");
    folder.put("orders:billing.diskqueue.000000.dat", &old);
    let (imported, log) = folder.import();
    assert_eq!(imported.unwrap().messages, Some(28));
    let said = "orders:billing.diskqueue.000000.dat: skipped, it lies before the read position";
    assert!(log.iter().any(|line| line.contains(said)), "{log:?}");
}

#[test]
fn topics_and_channels_that_nothing_lists_are_created() {
    let folder = GoFolder::empty();
    for (name, bytes) in GoFolder::fixture("stopped") {
        folder.put(&name, &bytes);
    }
    let (imported, log) = folder.import();
    assert_eq!(imported.unwrap().messages, Some(28));
    let said = "TOPIC(held) CHANNEL(c): 1 messages imported from 1 files - not listed in nsqd.dat, created";
    assert!(log.iter().any(|line| line == said), "{log:?}");
    let names: Vec<_> = folder.waiting().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["bare", "held", "held:c", "orders", "orders:audit", "orders:billing"]);
    assert!(folder.paused().is_empty());
}

#[test]
fn an_empty_queue_of_an_unlisted_channel_creates_none() {
    let folder = GoFolder::load("stopped");
    folder.put("orders:former.diskqueue.meta.dat", b"0\n0,0\n0,0\n");
    folder.put("former.diskqueue.meta.dat", b"0\n0,0\n0,0\n");
    folder.import();
    assert_eq!(folder.waiting(), stopped());
}

#[test]
fn queues_of_ephemeral_and_invalid_names_are_moved_aside_and_reported() {
    let folder = GoFolder::empty();
    let data = GoFolder::load("killed").file(DATA);
    for name in ["t#ephemeral:c", "t:c#ephemeral", "not valid", "t:not valid"] {
        folder.put(&format!("{name}.diskqueue.000000.dat"), &data);
    }
    let (imported, log) = folder.import();
    assert_eq!(imported.unwrap().messages, Some(0));
    assert_eq!(
        log,
        [
            r#"queue "not valid": 7 messages not imported, the name is not valid"#,
            r#"queue "t#ephemeral:c": 7 messages not imported, an ephemeral topic or channel ends with nsqd"#,
            r#"queue "t:c#ephemeral": 7 messages not imported, an ephemeral topic or channel ends with nsqd"#,
            r#"queue "t:not valid": 7 messages not imported, the name is not valid"#,
        ]
    );
    assert_eq!((folder.waiting(), folder.files_in("go-nsqd").len()), (Vec::new(), 4));
}

#[test]
fn messages_of_any_size_are_imported() {
    let folder = killed();
    let record = folder.file(DATA)[..30].to_vec();
    let sizes = [0, 1, 3 << 20, 5];
    folder.edit(DATA, |bytes| {
        bytes.clear();
        for size in sizes {
            bytes.extend(u32::try_from(26 + size).unwrap().to_be_bytes());
            bytes.extend(&record[4..]);
            bytes.extend(std::iter::repeat_n(b'x', size));
        }
    });
    folder.import();
    let found = folder.waiting()[1].1.clone();
    assert_eq!(found.iter().map(|(body, _)| body.len()).collect::<Vec<_>>(), sizes);
}

/// A record, or bytes that are none: an id is hexadecimal, and they are not.
fn pieces() -> impl Strategy<Value = Vec<Result<usize, Vec<u8>>>> {
    let record = (0..200_usize).prop_map(Ok);
    let byte = prop::sample::select(&[0, 1, 26, 40, 0xff, b'z', b'7', b'a'][..]);
    let damage = prop::collection::vec(byte, 1..80).prop_map(|mut damage| {
        // Too few digits in a row for an id.
        damage.iter_mut().step_by(8).for_each(|byte| *byte = b'z');
        Err(damage)
    });
    prop::collection::vec(prop_oneof![record, damage], 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_found_whatever_is_between_them(pieces in pieces()) {
        let folder = GoFolder::empty();
        let (mut data, mut bodies) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Ok(bytes) => {
                    let body = format!("{:z>bytes$}", format!("z{}", bodies.len()));
                    data.extend(u32::try_from(26 + body.len()).unwrap().to_be_bytes());
                    data.extend([0; 10]);
                    data.extend(b"0123456789abcdef");
                    data.extend(body.as_bytes());
                    bodies.push((body, 0));
                }
                Err(damage) => data.extend(damage),
            }
        }
        folder.put(DATA, &data);
        folder.import();
        let found = folder.waiting().pop().map(|(_, messages)| messages);
        prop_assert_eq!(found.unwrap_or_default(), bodies);
    }
}
