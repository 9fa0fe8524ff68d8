//! Descriptors that run out: nothing is lost, nothing stops, and everything goes on once there are some again.

use nsq_log::{
    AppendError, ChannelDelta, Error, JournalRecord, Store, SyncError, TopicLog,
    testing::{FaultyDisk, Stop},
};
use nsq_protocol::ChannelName;

use crate::support::*;

/// Passes over errors that say that descriptors are short, and fails the test for all others.
fn tolerate<T>(result: Result<T, impl Into<Error>>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error.into(),
    };
    let is_temporary = match &error {
        Error::Io(error) | Error::Append(AppendError::Temporary(error)) => error.is_temporary(),
        Error::Sync(SyncError::Open(error)) => error.is_temporary(),
        Error::Sync(SyncError::Append(AppendError::Temporary(_))) => true,
        Error::JournalBehind { reason, .. } => reason.is_temporary(),
        _ => false,
    };
    assert!(is_temporary, "{error:?}");
    None
}

/// A topic with all that opens files: segments that roll, a journal that is compacted, flushes, rests.
struct Work<'a> {
    store: &'a Store,
    log: &'a TopicLog,
    acknowledged: Vec<Vec<u8>>,
    cursor: u64,
}

impl Work<'_> {
    fn publish(&mut self, count: u8) {
        for _ in 0..count {
            let body = vec![self.acknowledged.len() as u8; 300];
            if tolerate(try_append(self.log, &[&body], None)).is_some() {
                self.acknowledged.push(body);
            }
        }
    }

    fn finish_one(&mut self) {
        self.cursor += 1;
        let channel = &ChannelName::new("c").unwrap();
        let (end, cursor) = (self.log.end(), self.cursor);
        let delta = ChannelDelta { end, cursor, finished: vec![0..cursor], outstanding: vec![] };
        // One that is not written now is kept, and written before the next one.
        tolerate(self.log.journal(&[JournalRecord::ChannelDelta { channel, delta: &delta }], NOW));
    }

    fn all(&mut self) {
        self.publish(4);
        self.finish_one();
        tolerate(self.log.prepare());
        tolerate(self.log.sync());
        self.publish(4);
        tolerate(self.log.compact());
        tolerate(self.log.rest());
        self.finish_one();
        tolerate(self.log.retry_journal());
        tolerate(self.log.retire(0, 1 << 40));
        self.publish(1);
        tolerate(self.log.sync());
        if tolerate(self.store.create_topic(&name("new"))).is_some() {
            tolerate(self.store.delete_topic(&name("new")));
        }
        tolerate(self.store.reserve_segments());
    }
}

/// Works while only `count` files can be opened, then without that bound. Returns whether the bound was reached.
fn survives_with_opens(disk: &FaultyDisk, count: u64) -> bool {
    let opened = open(disk, small_segments());
    let log = topic(&opened.store);
    let mut work = Work { store: &opened.store, log: &log, acknowledged: vec![], cursor: 0 };
    work.publish(2);
    work.finish_one();
    disk.limit_opens(Some(count));
    work.all();
    work.all();
    let reached = disk.opens_are_used_up();
    disk.limit_opens(None);

    log.retry_journal().unwrap();
    let before = work.acknowledged.len();
    work.all();
    assert_eq!(work.acknowledged.len(), before + 9, "every publish succeeds again");
    assert_eq!(log.compact().unwrap(), None);
    assert_eq!(log.sync().unwrap(), log.end());
    let (acknowledged, cursor) = (work.acknowledged, work.cursor);
    drop(log);
    drop(opened);

    for stop in [Stop::Kill, Stop::PowerCut { seed: count }] {
        let opened = open(&disk.restart(stop), small_segments());
        assert_eq!((opened.report.as_slice(), opened.failed.len()), (&[][..], 0), "{count}");
        assert_eq!(dense(&recovered(&opened)), acknowledged, "{count}");
        let topic = opened.topics.iter().find(|topic| topic.name.as_str() == TOPIC).unwrap();
        assert_eq!(topic.state.channels[0].1.cursor, cursor, "{count}");
    }
    reached
}

#[test]
fn descriptors_that_run_out_at_any_moment_stop_nothing_and_lose_nothing() {
    let mut count = 0;
    while survives_with_opens(&disk(), count) {
        count += 1;
    }
    assert!(count > 40, "only {count} opens");
}
