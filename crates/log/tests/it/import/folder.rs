//! A data folder of the Go nsqd on a disk in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use nsq_log::{
    Disk, Notice, Options, RecoveredTopic, TopicState,
    import::{
        Import, ImportError, ImportReport, Imported, ImportedQueue, ListedTopic, SkippedQueue,
    },
    testing::{FaultyDisk, Stop},
};
use nsq_protocol::{ChannelName, MessageId, TopicName};

use crate::support::*;

/// Messages by queue: body, and the number of deliveries so far.
pub(super) type Queues = Vec<(String, Vec<(String, u16)>)>;

pub(super) fn queues<const N: usize>(queues: [(&str, Vec<(String, u16)>); N]) -> Queues {
    queues.into_iter().map(|(name, messages)| (name.to_owned(), messages)).collect()
}

/// A data folder, and the catalog of the original.
pub(super) struct GoFolder {
    pub(super) disk: FaultyDisk,
    listed: BTreeMap<TopicName, ListedTopic>,
}

/// The lines of a report.
#[derive(Default)]
struct Lines(Vec<String>);

impl ImportReport for Lines {
    fn imported(&mut self, queue: &ImportedQueue) {
        self.0.push(queue.to_string());
    }

    fn damaged(&mut self, notice: &Notice) {
        self.0.push(notice.to_string());
    }

    fn skipped(&mut self, queue: &SkippedQueue) {
        self.0.push(queue.to_string());
    }
}

impl GoFolder {
    pub(super) fn empty() -> Self {
        Self { disk: disk(), listed: BTreeMap::new() }
    }

    /// A folder that the original has left.
    pub(super) fn load(fixture: &str) -> Self {
        let mut folder = Self::empty();
        for (name, bytes) in Self::fixture(fixture) {
            folder.put(&name, &bytes);
        }
        folder.list("bare", false, &[]);
        folder.list("held", true, &[("c", false)]);
        folder.list("orders", false, &[("audit", true), ("billing", false)]);
        folder.list("t", false, &[("c", false)]);
        folder
    }

    /// The files of a folder that the original has left.
    pub(super) fn fixture(fixture: &str) -> Vec<(String, Vec<u8>)> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go-nsqd");
        let entries = fs::read_dir(fixtures.join(fixture)).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    /// Adds the queues of a fixture under other names.
    pub(super) fn put_as(&self, fixture: &str, names: &[(&str, &str)]) {
        for (file, bytes) in Self::fixture(fixture) {
            let Some((queue, rest)) = file.split_once(".diskqueue") else { continue };
            let (_, name) = names.iter().find(|(old, _)| *old == queue).unwrap();
            self.put(&format!("{name}.diskqueue{rest}"), &bytes);
        }
    }

    fn list(&mut self, topic: &str, paused: bool, channels: &[(&str, bool)]) {
        let channels =
            channels.iter().map(|(name, paused)| (ChannelName::new(name).unwrap(), *paused));
        self.listed.insert(name(topic), ListedTopic { paused, channels: channels.collect() });
    }

    /// The same folder as the next process finds it.
    pub(super) fn restart(&self, stop: Stop) -> Self {
        Self { disk: self.disk.restart(stop), listed: self.listed.clone() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new(ROOT).join(name)
    }

    /// Writes a file, which survives a power cut.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.disk.create(&self.path(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
        self.disk.sync_dir(Path::new(ROOT)).unwrap();
    }

    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        self.disk.edit(&self.path(name), edit);
    }

    pub(super) fn remove(&self, name: &str) {
        self.disk.remove(&self.path(name)).unwrap();
    }

    pub(super) fn file(&self, name: &str) -> Vec<u8> {
        let files = self.disk.files(Path::new(ROOT));
        files.into_iter().find(|(path, _)| *path == self.path(name)).unwrap().1
    }

    /// The files directly in a folder, the one that is always there left out.
    pub(super) fn files_in(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.path(folder);
        let files = self.disk.files(&folder).into_iter();
        let here = files.filter(|(path, _)| path.parent() == folder.components().as_path().into());
        let named = here
            .map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes));
        named.filter(|(name, _)| name != "ballast").collect()
    }

    pub(super) fn try_import(&self) -> Result<(Option<Imported>, Vec<String>), ImportError> {
        let (mut lines, path) = (Lines::default(), Path::new(ROOT));
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (options, clocks) = (small_segments(), self.disk.clocks());
        let import = Import { path, disk, options, clocks, listed: &self.listed };
        Ok((import.run(&mut lines)?, lines.0))
    }

    pub(super) fn import(&self) -> (Option<Imported>, Vec<String>) {
        self.try_import().unwrap()
    }

    fn topics(&self) -> Vec<RecoveredTopic> {
        let opened = open(&self.disk, Options::default());
        assert!(opened.report.is_empty() && opened.failed.is_empty(), "{:?}", opened.report);
        opened.topics
    }

    /// The messages that topics and channels have.
    pub(super) fn waiting(&self) -> Queues {
        let mut queues = Queues::new();
        for RecoveredTopic { name, log, state } in self.topics() {
            let found = read_all(&log, 1 << 16);
            let body = |seq: u64| String::from_utf8(found[&seq].body.clone()).unwrap();
            let fanout = fanout(&state, log.end());
            queues
                .push((name.to_string(), (fanout..log.end()).map(|seq| (body(seq), 0)).collect()));
            for (channel, state) in &state.channels {
                let unfinished = state.unfinished(fanout).into_iter();
                let messages = unfinished
                    .flat_map(|(range, attempts)| range.map(move |seq| (seq, attempts)))
                    .map(|(seq, attempts)| (body(seq), attempts));
                queues.push((format!("{name}:{channel}"), messages.collect()));
            }
        }
        queues.sort();
        queues
    }

    /// The timestamps of a topic's messages, and the time that the log tells of the first of them.
    pub(super) fn timestamps(&self, topic: &str) -> (Vec<i64>, Option<i64>) {
        let topics = self.topics();
        let topic = topics.iter().find(|found| found.name.as_str() == topic).unwrap();
        let messages = read_all(&topic.log, 1 << 16);
        let first = topic.log.load_timestamp_ns(0).unwrap();
        (messages.values().map(|message| message.timestamp_ns).collect(), first)
    }

    /// The ids of all messages. The store that reads them is not closed, as after a kill.
    pub(super) fn ids(&self) -> BTreeSet<MessageId> {
        let mut ids = BTreeSet::new();
        for topic in self.topics() {
            for message in read_all(&topic.log, 1 << 16).into_values() {
                assert!(ids.insert(message.id), "{} was given twice", message.id);
            }
        }
        ids
    }

    /// The topics and channels that are paused.
    pub(super) fn paused(&self) -> Vec<String> {
        let mut paused = Vec::new();
        for RecoveredTopic { name, state, .. } in self.topics() {
            paused.extend(state.paused.then(|| name.to_string()));
            let channels = state.channels.iter().filter(|(_, channel)| channel.paused);
            paused.extend(channels.map(|(channel, _)| format!("{name}:{channel}")));
        }
        paused
    }
}

/// The end of the messages that the channels have.
fn fanout(state: &TopicState, end: u64) -> u64 {
    if state.paused || state.channels.is_empty() { state.fanout } else { end }
}
