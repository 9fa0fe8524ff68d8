//! A reader of disk queues that believes nothing: positions, lengths and counts have to fit.

use std::{collections::BTreeMap, fs, path::Path};

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) timestamp_ns: i64,
    /// The number of deliveries so far.
    pub(super) attempts: u16,
    pub(super) body: String,
}

/// The unread messages of every queue in a folder, by the queue's name. Queues without any are left out.
pub(super) fn queues(folder: &Path) -> BTreeMap<String, Vec<Stored>> {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    let queues = names.iter().filter_map(|name| name.strip_suffix(".diskqueue.meta.dat"));
    let read = queues.map(|queue| (queue.to_owned(), queue_in(folder, queue)));
    read.filter(|(_, messages)| !messages.is_empty()).collect()
}

fn queue_in(folder: &Path, queue: &str) -> Vec<Stored> {
    let path = |part: &str| folder.join(format!("{queue}.diskqueue.{part}.dat"));
    let meta = fs::read_to_string(path("meta")).unwrap();
    let numbers: Vec<u64> =
        meta.split_terminator(['\n', ',']).map(|it| it.parse().unwrap()).collect();
    let [depth, read_file, read_offset, write_file, write_offset] = numbers[..] else {
        panic!("{meta:?}")
    };
    let mut messages = Vec::new();
    for file in read_file..=write_file {
        let data = path(&format!("{file:06}"));
        if depth == 0 && !data.exists() {
            continue;
        }
        let bytes = fs::read(data).unwrap();
        if file == write_file {
            assert_eq!(bytes.len() as u64, write_offset);
        }
        let start = if file == read_file { read_offset } else { 0 };
        let mut rest = &bytes[usize::try_from(start).unwrap()..];
        while !rest.is_empty() {
            let (length, record) = rest.split_first_chunk().unwrap();
            let (record, next) = record.split_at(u32::from_be_bytes(*length) as usize);
            messages.push(stored(record));
            rest = next;
        }
    }
    assert_eq!(messages.len() as u64, depth, "{queue}");
    messages
}

fn stored(record: &[u8]) -> Stored {
    let (timestamp, rest) = record.split_first_chunk().unwrap();
    let (attempts, rest) = rest.split_first_chunk().unwrap();
    let (id, body) = rest.split_at(16);
    assert!(id.iter().all(u8::is_ascii_hexdigit));
    Stored {
        timestamp_ns: i64::from_be_bytes(*timestamp),
        attempts: u16::from_be_bytes(*attempts),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}
