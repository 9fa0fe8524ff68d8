//! Helpers shared by the tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nsq_log::{
    Append, AppendError, BatchBuilder, Chunk, OpenError, Opened, Options, Read, Slice, Store,
    TopicLog, testing::FaultyDisk,
};
use nsq_protocol::{Frame, MessageId, TopicName, decode_frame};

pub(crate) const ROOT: &str = "/data";
pub(crate) const TOPIC: &str = "orders";
/// A node time.
pub(crate) const NOW: u64 = 5;

pub(crate) fn disk() -> FaultyDisk {
    FaultyDisk::new(Path::new(ROOT))
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

pub(crate) fn open(disk: &FaultyDisk, options: Options) -> Opened {
    try_open(disk, options).unwrap()
}

pub(crate) fn try_open(disk: &FaultyDisk, options: Options) -> Result<Opened, OpenError> {
    Store::open(Path::new(ROOT), Arc::new(disk.clone()), options, disk.clocks())
}

pub(crate) fn topic(store: &Store) -> Arc<TopicLog> {
    store.create_topic(&name(TOPIC)).unwrap()
}

/// The recovered log of [`TOPIC`].
pub(crate) fn recovered(opened: &Opened) -> Arc<TopicLog> {
    Arc::clone(&opened.topics.iter().find(|t| t.name.as_str() == TOPIC).unwrap().log)
}

pub(crate) fn segment_files(disk: &FaultyDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = disk.files(Path::new(ROOT));
    files.retain(|(path, _)| path.extension().is_some_and(|e| e == "seg"));
    files.sort();
    files
}

/// Bytes of all segment files.
pub(crate) fn disk_bytes(disk: &FaultyDisk) -> usize {
    segment_files(disk).iter().map(|(_, bytes)| bytes.len()).sum()
}

pub(crate) fn append(log: &TopicLog, bodies: &[&[u8]]) -> std::ops::Range<u64> {
    try_append(log, bodies, None).unwrap()
}

pub(crate) fn try_append(
    log: &TopicLog,
    bodies: &[&[u8]],
    defer: Option<Duration>,
) -> Result<std::ops::Range<u64>, AppendError> {
    let mut batch = BatchBuilder::default();
    bodies.iter().for_each(|body| batch.push(body));
    log.append(&mut batch, Append { timestamp_ns: 7, defer })
}

/// A message as a client would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) timestamp_ns: i64,
    pub(crate) attempts: u16,
    pub(crate) body: Vec<u8>,
}

/// Takes slices apart, checking that they say the truth about themselves.
pub(crate) fn messages(slices: &[Slice]) -> BTreeMap<u64, Message> {
    let mut found = BTreeMap::new();
    for slice in slices {
        let (mut rest, mut seq) = (&slice.bytes[..], slice.first);
        let mut last_at = 0;
        let mut times = Vec::new();
        while let Some((Frame::Message(m), used)) = decode_frame(rest, u32::MAX).unwrap() {
            let message = Message {
                id: m.id,
                timestamp_ns: m.timestamp_ns,
                attempts: m.attempts,
                body: m.body.to_vec(),
            };
            times.push(message.timestamp_ns);
            last_at = slice.bytes.len() - rest.len();
            assert!(found.insert(seq, message).is_none(), "sequence {seq} came twice");
            (rest, seq) = (&rest[used..], seq + 1);
        }
        assert!(rest.is_empty(), "a slice holds whole records");
        assert_eq!(seq, slice.first + slice.count, "a slice knows its count");
        assert_eq!(slice.last_at, last_at, "a slice knows its last record");
        if times.is_sorted() {
            let expected = times.chunk_by(|a, b| a == b).map(|run| (run.len() as u64, run[0]));
            assert!(slice.timestamps().eq(expected), "a slice knows its timestamps: {times:?}");
        }
    }
    found
}

/// Everything from `first` to the end, from memory or disk, in steps of at most `bytes`.
pub(crate) fn read_all(log: &TopicLog, bytes: usize) -> BTreeMap<u64, Message> {
    let mut found = BTreeMap::new();
    let (mut seq, end) = (log.first(), log.end());
    let mut chunk: Option<Chunk> = None;
    while seq < end {
        let mut slices = Vec::new();
        let mut read = log.read(seq..end, bytes, &mut slices);
        if read == Read::Cold
            && let Some(chunk) = &chunk
        {
            read = chunk.read(seq..end, bytes, &mut slices);
        }
        match read {
            Read::Taken(count) => {
                assert!(count > 0);
                let taken = messages(&slices);
                assert_eq!(
                    taken.keys().copied().collect::<Vec<_>>(),
                    (seq..seq + count).collect::<Vec<_>>()
                );
                found.extend(taken);
                seq += count;
            }
            Read::Gone(count) => {
                assert!(count > 0);
                seq += count;
            }
            Read::Cold => {
                let loaded = log.load(seq, bytes).unwrap();
                assert!(loaded.range().contains(&seq), "{seq} not in {:?}", loaded.range());
                chunk = Some(loaded);
            }
        }
    }
    found
}

pub(crate) fn bodies(found: &BTreeMap<u64, Message>) -> Vec<(u64, Vec<u8>)> {
    found.iter().map(|(seq, message)| (*seq, message.body.clone())).collect()
}

/// The bodies of all messages, which must be there without a gap from 0.
pub(crate) fn dense(log: &TopicLog) -> Vec<Vec<u8>> {
    let found = read_all(log, 1 << 16);
    assert!(found.keys().copied().eq(0..log.end()), "{:?} of {}", found.keys(), log.end());
    found.into_values().map(|message| message.body).collect()
}

pub(crate) fn small_segments() -> Options {
    Options { segment_bytes: 1000, ..Options::default() }
}
