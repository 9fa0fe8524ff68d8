//! The creation of channels, one at a time for clients and in groups for topics that other nodes have too.

use std::sync::Arc;

use nsq_protocol::ChannelName;

use super::{PublishError, Topic, channel::Channel, journal::Record};
use crate::lock::lock;

/// The channels whose creation is one write to the journal. Locks are held for one such group at a time.
const GROUP_MAX: usize = 256;

/// The outcome of the creation of many channels.
#[derive(Default)]
pub(crate) struct CreatedChannels {
    /// Those that did not exist.
    pub(crate) channels: Vec<Arc<Channel>>,
    /// The number of those for which there was no room.
    pub(crate) refused: usize,
}

impl Topic {
    /// The channel, created if there is none of that name, and whether it was created.
    ///
    /// # Errors
    /// When there are too many channels, the topic is being deleted, or the channel has not reached the journal: it
    /// would be gone after a crash. It is used as soon as it has.
    pub(crate) fn channel_or_create(
        &self,
        name: &ChannelName,
    ) -> Result<(Arc<Channel>, bool), PublishError> {
        if let Some(channel) = self.existing_channel(name.as_str()) {
            if self.disk.is_unwritten(name) {
                self.disk.record(|_| Vec::new())?;
            }
            return Ok((channel, false));
        }
        let max = self.services.options.shares.channels_limit();
        let mut outcome = Err(PublishError::Exiting);
        let mut create = || {
            outcome = self.create_channel(name, max);
            let created = outcome.as_ref().ok().filter(|(_, is_new)| *is_new);
            created.map(|(channel, _)| Arc::clone(channel)).into_iter().collect::<Vec<_>>()
        };
        if name.is_ephemeral() {
            self.log_created(&create());
        } else {
            self.record_created(create)?;
        }
        outcome
    }

    /// Creates those channels that do not exist while there are less than `max`. They are durable ones.
    ///
    /// # Errors
    /// When the topic is being deleted, or the journal cannot be written yet: the channels returned are there all the
    /// same.
    pub(crate) fn create_channels(
        &self,
        names: &[ChannelName],
        max: usize,
    ) -> (CreatedChannels, Result<(), PublishError>) {
        let mut all = CreatedChannels::default();
        let mut groups = names.chunks(GROUP_MAX);
        let result = groups.try_for_each(|group| self.create_group(group, max, &mut all));
        (all, result)
    }

    fn create_group(
        &self,
        names: &[ChannelName],
        max: usize,
        all: &mut CreatedChannels,
    ) -> Result<(), PublishError> {
        let mut result = Ok(());
        self.record_created(|| {
            let before = all.channels.len();
            for name in names {
                match self.create_channel(name, max) {
                    Ok((channel, true)) => all.channels.push(channel),
                    Ok((_, false)) => {}
                    Err(PublishError::TooManyChannels) => all.refused += 1,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            all.channels[before..].to_vec()
        })?;
        result
    }

    /// Writes the channels that `create` returns to the journal, unless the topic has none.
    fn record_created(
        &self,
        create: impl FnOnce() -> Vec<Arc<Channel>>,
    ) -> Result<(), nsq_log::Error> {
        if self.name.is_ephemeral() {
            self.log_created(&create());
            return Ok(());
        }
        let mut created = Vec::new();
        let recorded = self.disk.record(|told| {
            created = create();
            told.unwritten.extend(created.iter().map(|channel| channel.name.clone()));
            let records = created.iter();
            records.map(|it| Record::Created(it.name.clone(), it.journal_state())).collect()
        });
        self.log_created(&created);
        recorded
    }

    fn create_channel(
        &self,
        name: &ChannelName,
        max: usize,
    ) -> Result<(Arc<Channel>, bool), PublishError> {
        let mut routes = lock(&self.routes);
        if self.is_exiting() {
            return Err(PublishError::Exiting);
        }
        if let Some(channel) = routes.channels.get(name) {
            return Ok((Arc::clone(channel), false));
        }
        if routes.channels.len() >= max {
            return Err(PublishError::TooManyChannels);
        }
        let added = routes.fan.add_channel();
        let schedule = nsq_broker::Channel::new(self.channel_config(name), added.start);
        let channel = self.channel(name.clone(), schedule);
        if let Some(fan_out) = &added.fan_out {
            channel.publish(fan_out, self.services.clock.now());
        }
        routes.channels.insert(name.clone(), Arc::clone(&channel));
        Ok((channel, true))
    }

    fn log_created(&self, channels: &[Arc<Channel>]) {
        for channel in channels {
            let line = format_args!("TOPIC({}): new channel({})", self.name, channel.name);
            self.services.clients_log.info("new channels", line);
        }
    }
}
