//! A machine whose disk is in memory and whose clocks show what the test says.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use nsq_log::{
    ChannelState, Store,
    testing::{FaultyDisk, Stop},
};
use nsqd::{Clocks, Options, World};

use crate::support::Server;

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
        let disk = self.disk.restart(stop);
        let clocks = disk.clocks();
        let opened = Store::open(Path::new(FOLDER), Arc::new(disk), Default::default(), clocks);
        let opened = opened.unwrap();
        let topic = opened.topics.into_iter().find(|found| found.name.as_str() == topic)?;
        let channels = topic.state.channels.into_iter();
        channels.into_iter().find(|(name, _)| name.as_str() == channel).map(|(_, state)| state)
    }

    /// Bytes of the segment files of a topic.
    pub(crate) fn segment_bytes(&self, topic: &str) -> usize {
        let files = self.disk.files(&Path::new(FOLDER).join(format!("topics/{topic}.topic")));
        let segments = files.iter().filter(|(path, _)| path.extension() == Some("seg".as_ref()));
        segments.map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Clocks that a test sets. Clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct TestClocks(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    boot: u8,
    since_boot: Duration,
    wall: Duration,
}

impl Default for TestClocks {
    fn default() -> Self {
        let wall = Duration::from_secs(1_700_000_000);
        Self(Arc::new(Mutex::new(Times { boot: 1, since_boot: Duration::from_secs(1000), wall })))
    }
}

impl TestClocks {
    pub(crate) fn set_wall(&self, wall: Duration) {
        self.0.lock().unwrap().wall = wall;
    }

    /// Lets time pass while nsqd does not run.
    pub(crate) fn pass(&self, time: Duration) {
        let mut times = self.0.lock().unwrap();
        times.wall += time;
        times.since_boot += time;
    }

    /// Boots the machine again.
    pub(crate) fn boot(&self) {
        let mut times = self.0.lock().unwrap();
        times.boot += 1;
        times.since_boot = Duration::ZERO;
    }
}

impl Clocks for TestClocks {
    fn boot_id(&self) -> [u8; 16] {
        [self.0.lock().unwrap().boot; 16]
    }

    fn since_boot(&self) -> Duration {
        self.0.lock().unwrap().since_boot
    }

    fn wall(&self) -> Duration {
        self.0.lock().unwrap().wall
    }
}
