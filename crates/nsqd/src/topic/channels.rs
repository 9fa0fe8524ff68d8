//! The channels of a topic: recovered, found, deleted.

use std::sync::Arc;

use nsq_protocol::ChannelName;

use super::{
    Topic,
    channel::Channel,
    journal::{self, Record},
};
use crate::{latency::LatencyReport, lock::lock};

impl Topic {
    /// Brings back the channels that the journal knows.
    pub(super) fn restore_channels(&self, recovered: nsq_log::TopicState) {
        let mut routes = lock(&self.routes);
        let handed_out = journal::handed_out_before_pause(&recovered);
        for (name, state) in recovered.channels {
            let config = self.channel_config(&name);
            let schedule = nsq_broker::Channel::recover(config, journal::recover_channel(state));
            let channel = self.channel(name.clone(), schedule);
            routes.channels.insert(name, channel);
        }
        if let Some(fan_out) = handed_out {
            routes.hand_out(&fan_out, self.services.clock.now());
        }
        // Messages published after the journal was last written.
        if let Some(fan_out) = routes.fan.take_fan_out() {
            routes.hand_out(&fan_out, self.services.clock.now());
        }
        for channel in routes.channels.values() {
            channel.rearm();
        }
    }

    /// Writes down channels that were added while the topic was recovered.
    ///
    /// # Errors
    /// When the journal cannot be written yet.
    pub(crate) fn record_channels(&self, names: &[ChannelName]) -> Result<(), nsq_log::Error> {
        self.disk.record(|_| {
            let channels = names.iter().filter_map(|name| self.existing_channel(name.as_str()));
            channels.map(|it| Record::Created(it.name.clone(), it.journal_state())).collect()
        })
    }

    pub(super) fn channel(&self, name: ChannelName, schedule: nsq_broker::Channel) -> Arc<Channel> {
        let (log, keep) = (self.log.clone(), self.disk.keep_errand());
        Arc::new(Channel::new(name, schedule, log, keep, self.services.clone()))
    }

    pub(super) fn channel_config(&self, name: &ChannelName) -> nsq_broker::ChannelConfig {
        let options = &self.services.options;
        let bounded = name.is_ephemeral() || self.name.is_ephemeral();
        nsq_broker::ChannelConfig {
            depth_max: bounded.then_some(options.mem_queue_size),
            max_msg_timeout: options.max_msg_timeout,
            seed: self.services.clock.now().0,
        }
    }

    pub(crate) fn existing_channel(&self, name: &str) -> Option<Arc<Channel>> {
        lock(&self.routes).channels.get(name).cloned()
    }

    /// The channel, unless it does not exist or has not reached the journal.
    pub(crate) fn recorded_channel(&self, name: &str) -> Option<Arc<Channel>> {
        self.existing_channel(name).filter(|channel| !self.disk.is_unwritten(&channel.name))
    }

    /// Every channel, by name.
    pub(crate) fn channels(&self) -> Vec<Arc<Channel>> {
        lock(&self.routes).channels.values().cloned().collect()
    }

    /// The latencies of all channels together.
    pub(crate) fn latency(&self) -> LatencyReport {
        let channels = self.channels();
        let latencies = channels.iter().filter_map(|channel| channel.latencies());
        let merged = latencies.reduce(|mut all, latencies| {
            all.merge(&latencies);
            all
        });
        self.services.latency_report(merged.as_ref())
    }

    /// Deletes a channel with all its messages. Returns whether it existed.
    ///
    /// # Errors
    /// When that cannot be written down yet; the channel is gone all the same, but would be back after a crash.
    pub(crate) fn delete_channel(&self, channel: &Channel) -> Result<bool, nsq_log::Error> {
        if channel.name.is_ephemeral() || self.name.is_ephemeral() {
            return Ok(self.remove_channel(channel));
        }
        let mut existed = false;
        self.disk.record(|told| {
            existed = self.remove_channel(channel);
            told.unwritten.remove(&channel.name);
            if !existed {
                return Vec::new();
            }
            let mut records = vec![Record::Deleted(channel.name.clone())];
            if !self.has_durable_channels() {
                // No channel tells any more how far the topic has got.
                records.push(self.topic_record(told));
            }
            records
        })?;
        self.disk.keep_soon();
        Ok(existed)
    }

    fn has_durable_channels(&self) -> bool {
        lock(&self.routes).channels.keys().any(|name| !name.is_ephemeral())
    }

    fn remove_channel(&self, channel: &Channel) -> bool {
        let mut routes = lock(&self.routes);
        // Another channel of that name may have taken its place.
        let current = routes.channels.get(&channel.name);
        if current.is_none_or(|current| !std::ptr::eq(&**current, channel)) {
            return false;
        }
        routes.channels.remove(&channel.name);
        let line = format_args!("CHANNEL({}): deleting", channel.name);
        self.services.clients_log.info("deleted channels", line);
        channel.exit();
        routes.fan.remove_channel();
        true
    }

    /// Pauses a channel, or lets it go on.
    ///
    /// # Errors
    /// When that cannot be written down yet; the channel has changed all the same.
    pub(crate) fn pause_channel(
        &self,
        channel: &Arc<Channel>,
        paused: bool,
    ) -> Result<(), nsq_log::Error> {
        let change = || if paused { channel.pause() } else { channel.unpause() };
        change();
        if channel.name.is_ephemeral() {
            return Ok(());
        }
        self.disk.record(|_| vec![Record::Paused(channel.name.clone(), channel.is_paused())])
    }

    /// Drops all messages of a channel.
    ///
    /// # Errors
    /// When that cannot be written down yet; the messages are gone all the same.
    pub(crate) fn empty_channel(&self, channel: &Arc<Channel>) -> Result<(), nsq_log::Error> {
        channel.empty();
        self.write_changes_of(channel)
    }
}
