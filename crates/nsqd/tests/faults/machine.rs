//! A machine whose disk is in memory and whose clocks show what the test says.

use std::{path::Path, sync::Arc};

use nsq_log::{
    ChannelState, Store, TopicState,
    testing::{FaultyDisk, Stop},
};
use nsqd::{Options, World};

use crate::{support::Server, test_clocks::TestClocks};

/// The data folder.
pub(crate) const FOLDER: &str = "/data";

/// A machine that nsqd runs on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) disk: FaultyDisk,
    pub(crate) clocks: TestClocks,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { disk: FaultyDisk::new(Path::new(FOLDER)), clocks: TestClocks::default() }
    }

    pub(crate) fn start(&self, change: impl FnOnce(&mut Options)) -> Server {
        let (disk, clocks) = (Arc::new(self.disk.clone()), Arc::new(self.clocks.clone()));
        Server::in_world(World { disk, clocks }, tempfile::tempdir().unwrap(), |options| {
            options.data_path = FOLDER.into();
            change(options);
        })
    }

    /// The machine as it would be if nsqd had been killed, or its power cut, at this moment.
    pub(crate) fn after(&self, stop: Stop) -> Self {
        Self { disk: self.disk.restart(stop), clocks: self.clocks.clone() }
    }

    /// The state that a channel would have after a sudden end now; `None` if there would be no such channel.
    pub(crate) fn channel_after(
        &self,
        stop: Stop,
        topic: &str,
        channel: &str,
    ) -> Option<ChannelState> {
        let mut channels = self.topic_after(stop, topic)?.channels.into_iter();
        channels.find(|(name, _)| name.as_str() == channel).map(|(_, state)| state)
    }

    /// As [`Machine::channel_after`], of a topic.
    pub(crate) fn topic_after(&self, stop: Stop, topic: &str) -> Option<TopicState> {
        let disk = self.disk.restart(stop);
        let clocks = disk.clocks();
        let opened = Store::open(Path::new(FOLDER), Arc::new(disk), Default::default(), clocks);
        let mut topics = opened.unwrap().topics.into_iter();
        topics.find(|found| found.name.as_str() == topic).map(|topic| topic.state)
    }

    /// Bytes of the segment files of a topic.
    pub(crate) fn segment_bytes(&self, topic: &str) -> usize {
        let files = self.disk.files(&Path::new(FOLDER).join(format!("topics/{topic}.topic")));
        let segments = files.iter().filter(|(path, _)| path.extension() == Some("seg".as_ref()));
        segments.map(|(_, bytes)| bytes.len()).sum()
    }
}
