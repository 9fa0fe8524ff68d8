//! The time at which the oldest message of a topic or channel was published.

use std::{sync::Mutex, time::Duration};

use nsq_log::TopicLog;

use crate::{clock::Clock, lock::lock};

/// The time that reads from disk may take in all.
pub(crate) struct Loads<'a> {
    clock: &'a Clock,
    left: Duration,
}

impl<'a> Loads<'a> {
    pub(crate) fn within(time: Duration, clock: &'a Clock) -> Self {
        Self { clock, left: time }
    }

    /// Reads the publish time of a message from disk. A file that cannot be read is reported by the
    /// delivery that needs it.
    fn timestamp_ns(&mut self, log: &TopicLog, seq: u64) -> Option<i64> {
        let began = self.clock.now();
        let loaded = log.load_timestamp_ns(seq);
        self.left = self.left.saturating_sub(self.clock.now().since(began));
        loaded.ok().flatten()
    }
}

/// The publish time of the oldest message, remembered because it may have to be read from disk.
#[derive(Debug, Default)]
pub(crate) struct Oldest(Mutex<Option<Known>>);

/// A message and when it was published.
#[derive(Copy, Clone, Debug)]
struct Known {
    seq: u64,
    timestamp_ns: i64,
}

impl Oldest {
    /// Returns when `seq`, the oldest message, was published, in ns since 1970. Without time left for `loads`, the time of
    /// the last message that was looked up has to do. `None` when no time is known.
    ///
    /// May block: call it on a thread that may.
    pub(crate) fn timestamp_ns(
        &self,
        log: &TopicLog,
        seq: u64,
        loads: &mut Loads<'_>,
    ) -> Option<i64> {
        if let Some(timestamp_ns) = log.timestamp_ns(seq) {
            return Some(timestamp_ns);
        }
        let known = *lock(&self.0);
        if loads.left.is_zero() || known.is_some_and(|known| known.seq == seq) {
            return known.map(|known| known.timestamp_ns);
        }
        let timestamp_ns = loads.timestamp_ns(log, seq)?;
        *lock(&self.0) = Some(Known { seq, timestamp_ns });
        Some(timestamp_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use nsq_broker::Time;
    use nsq_log::{Append, BatchBuilder, Options, Store, testing::FaultyDisk};
    use nsq_protocol::TopicName;

    use super::*;
    use crate::clock::{Reading, SystemClocks};

    #[test]
    fn without_time_for_the_disk_the_last_known_message_has_to_do() {
        let disk = FaultyDisk::new(Path::new("/data"));
        let open = || {
            let (options, clocks) = (Options::default(), disk.clocks());
            Store::open(Path::new("/data"), Arc::new(disk.clone()), options, clocks).unwrap()
        };
        let opened = open();
        let log = opened.store.create_topic(&TopicName::new("t").unwrap()).unwrap();
        for timestamp_ns in [7, 8] {
            let mut batch = BatchBuilder::default();
            batch.push(b"x");
            log.append(&mut batch, Append { timestamp_ns, defer: None }).unwrap();
        }
        opened.store.close().unwrap();
        drop((log, opened));
        let log = open().topics.remove(0).log;

        let clock = Clock::new(Arc::new(SystemClocks), Reading::take(&SystemClocks), Time(0));
        let oldest = Oldest::default();
        let find = |seq, time| oldest.timestamp_ns(&log, seq, &mut Loads::within(time, &clock));
        let (none, some) = (Duration::ZERO, Duration::from_secs(60));
        assert_eq!(find(0, none), None);
        assert_eq!(find(0, some), Some(7));
        assert_eq!(find(1, none), Some(7));
        assert_eq!(find(1, some), Some(8));
        assert_eq!(find(1, none), Some(8));
    }
}
