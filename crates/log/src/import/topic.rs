//! The import of one topic: the queues of its channels and its own, into its log.

use std::{collections::BTreeMap, ops::Range};

use nsq_protocol::{ChannelName, TopicName};

use super::{ImportError, ImportReport, ImportedQueue, ListedTopic, deliveries::Deliveries};
use crate::{
    batch::BatchBuilder,
    disk::Disk,
    diskqueue::{Finding, Found, Queue},
    journal::JournalRecord,
    site::Append,
    state::{ChannelDelta, ChannelState, TopicState},
    store::Store,
    topic_log::TopicLog,
};

/// A batch holds about this many bytes.
const BATCH_BYTES: usize = 128 << 10;

/// The queues of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicQueues {
    /// The messages that had not reached the channels.
    pub(super) topic: Option<Queue>,
    pub(super) channels: BTreeMap<ChannelName, Queue>,
    /// The topic's entry in `nsqd.dat`.
    pub(super) listed: Option<ListedTopic>,
}

impl TopicQueues {
    /// Adds the messages to the topic's log, whose journal has led to `state`. Returns their number.
    pub(super) fn import(
        &self,
        disk: &dyn Disk,
        store: &Store,
        log: &TopicLog,
        state: TopicState,
        now_ns: u64,
        report: &mut dyn ImportReport,
    ) -> Result<u64, ImportError> {
        let batch = BatchBuilder::new(store.pool().clone());
        let mut import = TopicImport { disk, log, batch, state, now_ns };
        import.create_channels(self)?;
        let (start, mut messages) = (log.end(), 0);
        let mut own: BTreeMap<&ChannelName, Range<u64>> = BTreeMap::new();
        let mut done = |channel: Option<&ChannelName>, mut found: Found| {
            messages += found.messages;
            if found.messages > 0 && !self.lists(channel) {
                found.findings.push(Finding::Unlisted);
            }
            report.imported(&ImportedQueue::new(log.name().clone(), channel.cloned(), found));
        };
        for (name, queue) in &self.channels {
            let first = log.end();
            done(Some(name), import.channel(name, queue)?);
            own.insert(name, first..log.end());
        }
        let paused = self.listed.as_ref().map(|listed| listed.paused);
        import.share_out(start..log.end(), &own, paused)?;
        if let Some(queue) = &self.topic {
            done(None, import.append_all(queue, |_, _| Ok(()))?);
        }
        Ok(messages)
    }

    /// Adds the queue of a channel or, for `None`, that of the topic.
    pub(super) fn add(&mut self, channel: Option<ChannelName>, queue: Queue) {
        match channel {
            Some(channel) => drop(self.channels.insert(channel, queue)),
            None => self.topic = Some(queue),
        }
    }

    /// The channels with messages or in `nsqd.dat`, and whether the latter says that they are paused.
    fn named_channels(&self) -> BTreeMap<&ChannelName, Option<bool>> {
        let queues = self.channels.iter().filter(|(_, queue)| queue.unread_bytes() > 0);
        let queues = queues.map(|(name, _)| (name, None));
        let listed = self.listed.iter().flat_map(|listed| &listed.channels);
        let durable = listed.filter(|(name, _)| !name.is_ephemeral());
        queues.chain(durable.map(|(name, paused)| (name, Some(*paused)))).collect()
    }

    /// Returns true if `nsqd.dat` lists the channel or, for `None`, the topic.
    fn lists(&self, channel: Option<&ChannelName>) -> bool {
        let Some(listed) = &self.listed else { return false };
        channel.is_none_or(|name| listed.channels.contains_key(name))
    }

    /// Returns true if there is no message to import.
    pub(super) fn are_read(&self) -> bool {
        self.queues().all(|(_, queue)| queue.unread_bytes() == 0)
    }

    /// Reports the queues of which something is odd. They have no message to import.
    pub(super) fn report_odd(
        &self,
        disk: &dyn Disk,
        topic: &TopicName,
        report: &mut dyn ImportReport,
    ) -> Result<(), ImportError> {
        for (channel, queue) in self.queues() {
            let found = queue.read(disk, |_| Ok::<_, ImportError>(()))?;
            if !found.findings.is_empty() {
                report.imported(&ImportedQueue::new(topic.clone(), channel.cloned(), found));
            }
        }
        Ok(())
    }

    fn queues(&self) -> impl Iterator<Item = (Option<&ChannelName>, &Queue)> {
        let channels = self.channels.iter().map(|(name, queue)| (Some(name), queue));
        channels.chain(self.topic.iter().map(|queue| (None, queue)))
    }
}

/// A topic that is being imported.
struct TopicImport<'a> {
    disk: &'a dyn Disk,
    log: &'a TopicLog,
    batch: BatchBuilder,
    state: TopicState,
    now_ns: u64,
}

impl TopicImport<'_> {
    /// Creates the channels that the topic does not have, and pauses those that are listed as paused.
    fn create_channels(&mut self, queues: &TopicQueues) -> Result<(), ImportError> {
        // The first channels get what waits at the topic, and so do those of a paused one.
        let waits = self.state.channels.is_empty() || self.state.paused;
        let start = if waits { self.state.fanout } else { self.log.end() };
        for (channel, listed) in queues.named_channels() {
            let known = self.state.channels.iter().find(|(name, _)| name == channel);
            match (known.map(|(_, state)| state.paused), listed) {
                (None, _) => {
                    let (end, cursor, paused) = (start, start, listed.unwrap_or(false));
                    let state = ChannelState { end, cursor, paused, ..ChannelState::default() };
                    self.record(&[JournalRecord::ChannelCreated { channel, state: &state }])?;
                    self.state.channels.push((channel.clone(), state));
                }
                (Some(was_paused), Some(paused)) if was_paused != paused => {
                    self.record(&[JournalRecord::ChannelPaused { channel, paused }])?;
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// Appends the messages of a channel, with their attempts.
    fn channel(&mut self, channel: &ChannelName, queue: &Queue) -> Result<Found, ImportError> {
        let mut deliveries = Deliveries::starting_at(self.log.end());
        let (log, now_ns) = (self.log, self.now_ns);
        let record = |delta: ChannelDelta| {
            log.journal(&[JournalRecord::ChannelDelta { channel, delta: &delta }], now_ns)
        };
        let found = self.append_all(queue, |seq, attempts| {
            deliveries.note(seq, attempts);
            Ok(deliveries.take_part().map_or(Ok(()), record)?)
        })?;
        deliveries.take_rest().map_or(Ok(()), record)?;
        Ok(found)
    }

    /// Appends the messages of a queue; passes the sequence number and the attempts of each to `note`.
    fn append_all(
        &mut self,
        queue: &Queue,
        mut note: impl FnMut(u64, u16) -> Result<(), ImportError>,
    ) -> Result<Found, ImportError> {
        let (log, batch) = (self.log, &mut self.batch);
        // The time of a batch is that of its first message, by which the age of a backlog is told.
        let mut timestamp_ns = 0;
        let found = queue.read(self.disk, |record| {
            if batch.bytes() + record.body.len() > BATCH_BYTES && !batch.is_empty() {
                log.append(batch, Append { timestamp_ns, defer: None })?;
            }
            note(log.end() + batch.count() as u64, record.attempts)?;
            if batch.is_empty() {
                timestamp_ns = record.timestamp_ns;
            }
            batch.push_stamped(record.body, record.timestamp_ns);
            Ok::<_, ImportError>(())
        })?;
        log.append(batch, Append { timestamp_ns, defer: None })?;
        Ok(found)
    }

    /// Lets every channel have the messages `all` that are its own, and be done with the others.
    fn share_out(
        &mut self,
        all: Range<u64>,
        own: &BTreeMap<&ChannelName, Range<u64>>,
        paused: Option<bool>,
    ) -> Result<(), ImportError> {
        // Otherwise their ends stay, also that of what a paused topic holds back.
        let channels = if all.is_empty() { &[][..] } else { &self.state.channels };
        for (channel, state) in channels {
            let own = own.get(channel).cloned().unwrap_or(all.end..all.end);
            let finished = [all.start..own.start, own.end..all.end];
            let finished = finished.into_iter().filter(|range| !range.is_empty()).collect();
            let (end, cursor) = (all.end, state.cursor);
            let delta = &ChannelDelta { end, cursor, finished, outstanding: Vec::new() };
            self.record(&[JournalRecord::ChannelDelta { channel, delta }])?;
        }
        let paused = paused.unwrap_or(self.state.paused);
        let fanout = if channels.is_empty() { self.state.fanout } else { all.end };
        self.record(&[JournalRecord::Topic { fanout, paused, deferred: &self.state.deferred }])
    }

    fn record(&self, records: &[JournalRecord<'_>]) -> Result<(), ImportError> {
        Ok(self.log.journal(records, self.now_ns)?)
    }
}
