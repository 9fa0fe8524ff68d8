//! The creation of topics and channels, within the limits of both.

use std::{fmt, sync::Arc};

use nsq_protocol::{ChannelName, TopicName};

use super::{Node, catalog::CATALOG, news::TopicOrChannel};
use crate::{
    meters::Limit,
    topic::{PublishError, Topic, channel::Channel},
};

impl Node {
    /// The topic, created when there is none of that name. Blocks while its files are created, or those of a deleted
    /// one of the same name are removed.
    ///
    /// # Errors
    /// When there are too many topics, nsqd stops, or the data folder does not take a new topic.
    pub(crate) fn topic_or_create(
        self: &Arc<Self>,
        name: &TopicName,
    ) -> Result<Arc<Topic>, PublishError> {
        let created = self.topic_within(name, self.services.options.shares.topics_limit());
        if matches!(created, Err(PublishError::TooManyTopics)) {
            let max = self.services.options.shares.topics_limit();
            let refusal = format_args!("TOPIC({name}): not created, --max-topics={max} is reached");
            self.limit_reached(Limit::Topics, refusal);
        }
        created
    }

    /// As [`Node::topic_or_create`], for a topic that the data folder lists: these are opened however many there are.
    pub(super) fn topic_or_restore(
        self: &Arc<Self>,
        name: &TopicName,
    ) -> Result<Arc<Topic>, PublishError> {
        self.topic_within(name, usize::MAX)
    }

    fn topic_within(
        self: &Arc<Self>,
        name: &TopicName,
        topics_max: usize,
    ) -> Result<Arc<Topic>, PublishError> {
        if let Some(topic) = self.live_topic(name.as_str()) {
            return Ok(topic);
        }
        // The deletion of a topic holds its name until nothing of it is left here.
        let _taken = self.names.take(name);
        if let Some(topic) = self.live_topic(name.as_str()) {
            return Ok(topic);
        }
        if self.is_stopping() {
            return Err(PublishError::Exiting);
        }
        let room = self.topics.make_room(topics_max).ok_or(PublishError::TooManyTopics)?;
        let log = self.store.create_topic(name).inspect_err(|error| self.not_created(error))?;
        let topic = Topic::new(name.clone(), log, None, &self.services);
        self.news.created(&topic);
        room.fill(topic.clone());
        self.services.clients_log.info("created topics", format_args!("TOPIC({name}): created"));
        self.changed(TopicOrChannel::topic(name));
        Ok(topic)
    }

    /// Notes that the files of a topic could not be created. One that could not be opened has an entry of its own.
    fn not_created(&self, error: &nsq_log::Error) {
        if !matches!(error, nsq_log::Error::Failed { .. }) {
            self.services.health.failed(CATALOG, error);
            // Writing to the same folder shows when it works again.
            self.retry_metadata();
        }
    }

    /// The channel, created with its topic when there is none.
    pub(crate) fn channel_or_create(
        self: &Arc<Self>,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(Arc<Topic>, Arc<Channel>), PublishError> {
        let topic = self.topic_or_create(topic)?;
        let channel = self.channel_of(&topic, channel)?;
        Ok((topic, channel))
    }

    /// The channel of a topic that is there, created when there is none of that name.
    pub(crate) fn channel_of(
        &self,
        topic: &Arc<Topic>,
        channel: &ChannelName,
    ) -> Result<Arc<Channel>, PublishError> {
        let created = topic.channel_or_create(channel);
        // Also after a failure of the journal: the channel is there, and the journal gets it later.
        if matches!(created, Ok((_, true)) | Err(PublishError::Journal(_))) {
            self.changed(TopicOrChannel::channel(&topic.name, channel));
        }
        if matches!(created, Err(PublishError::TooManyChannels)) {
            self.too_many_channels(topic, 1);
        }
        Ok(created?.0)
    }

    /// Creates the channels that a new topic has on other nodes. Those beyond the limit are left out.
    ///
    /// # Errors
    /// When the topic is being deleted, or the journal cannot be written yet.
    pub(crate) fn create_channels(
        &self,
        topic: &Arc<Topic>,
        names: &[ChannelName],
    ) -> Result<(), PublishError> {
        let max = self.services.options.shares.channels_limit();
        let (created, result) = topic.create_channels(names, max);
        for channel in &created.channels {
            self.changed(TopicOrChannel::channel(&topic.name, &channel.name));
        }
        if created.refused > 0 {
            self.too_many_channels(topic, created.refused);
        }
        result
    }

    fn too_many_channels(&self, topic: &Topic, refused: usize) {
        let (name, max) = (&topic.name, self.services.options.shares.channels_limit());
        let refusal = format_args!(
            "TOPIC({name}): {refused} channels not created, --max-channels-per-topic={max} is reached"
        );
        self.limit_reached(Limit::ChannelsPerTopic, refusal);
    }

    fn limit_reached(&self, limit: Limit, refusal: fmt::Arguments<'_>) {
        self.services.meters.reached(limit);
        self.services.clients_log.warn("refused topics and channels", refusal);
    }
}
