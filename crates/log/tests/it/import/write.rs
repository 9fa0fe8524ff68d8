//! Queues written for the Go nsqd have the bytes that it writes itself.

use std::{path::Path, sync::Arc};

use nsq_log::diskqueue::QueueWriter;

use super::folder::GoFolder;
use crate::support::ROOT;

/// The records of queue files, one after the other, as frames with the number of deliveries so far.
fn frames(mut records: &[u8]) -> Vec<(Vec<u8>, u16)> {
    let mut frames = Vec::new();
    while let Some(length) = records.first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (record, rest) = records[4..].split_at(length);
        let size = u32::try_from(length + 4).unwrap();
        let attempts = u16::from_be_bytes([record[8], record[9]]);
        // On the wire a first delivery has attempts 1.
        let head = [&size.to_be_bytes()[..], &[0, 0, 0, 2], &record[..8], &[0, 1]].concat();
        frames.push(([&head[..], &record[10..]].concat(), attempts));
        records = rest;
    }
    frames
}

#[test]
fn a_queue_is_written_byte_by_byte_as_the_original_does() {
    let original = GoFolder::load("stopped");
    for (queue, files, file_bytes_max) in
        [("orders:audit", 3, 200), ("bare", 1, 108), ("empty", 0, 200)]
    {
        let names = (0..files).map(|number| format!("{queue}.diskqueue.{number:06}.dat"));
        let names: Vec<_> = names.chain([format!("{queue}.diskqueue.meta.dat")]).collect();
        let data: Vec<_> = names[..files].iter().flat_map(|name| original.file(name)).collect();
        let written = GoFolder::empty();
        let disk = Arc::new(written.disk.clone());
        let mut writer = QueueWriter::new(disk, Path::new(ROOT), queue.to_owned(), file_bytes_max);
        for (frame, attempts) in frames(&data) {
            writer.push(&frame, attempts).unwrap();
        }
        writer.finish().unwrap();
        for name in &names {
            assert_eq!(written.file(name), original.file(name), "{name}");
        }
        assert_eq!(written.files_in("").len(), names.len());
    }
}

#[test]
fn a_file_is_closed_at_the_exact_byte() {
    let data = GoFolder::load("stopped").file("bare.diskqueue.000000.dat");
    for (file_bytes_max, files) in [(108, 1), (107, 2), (72, 2), (71, 3), (1, 3)] {
        let folder = GoFolder::empty();
        let disk = Arc::new(folder.disk.clone());
        let mut writer = QueueWriter::new(disk, Path::new(ROOT), "bare".to_owned(), file_bytes_max);
        for (frame, attempts) in frames(&data) {
            writer.push(&frame, attempts).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(folder.files_in("").len(), files + 1, "{file_bytes_max}");
        let (imported, log) = folder.import();
        assert_eq!(imported.unwrap().messages, Some(3));
        let said = format!("TOPIC(bare): 3 messages imported from {files} files");
        assert!(log.concat().starts_with(&said), "{log:?}");
    }
}

#[test]
fn a_long_queue_of_messages_delivered_differently_often_keeps_its_order() {
    let folder = GoFolder::empty();
    let disk = Arc::new(folder.disk.clone());
    let mut writer = QueueWriter::new(disk, Path::new(ROOT), "t:c".to_owned(), 100_000);
    let head = [&[0; 3][..], &[38, 0, 0, 0, 2], &[0; 10], b"0123456789abcdef"].concat();
    let attempts = |number: u32| u16::try_from((number + 1) % 3).unwrap();
    for number in 0..10_000 {
        let frame = [&head[..], format!("{number:08}").as_bytes()].concat();
        writer.push(&frame, attempts(number)).unwrap();
    }
    assert_eq!(writer.finish().unwrap().messages, 10_000);
    folder.import();
    let expected = (0..10_000).map(|number| (format!("{number:08}"), attempts(number)));
    assert_eq!(folder.waiting()[1].1, expected.collect::<Vec<_>>());
}
